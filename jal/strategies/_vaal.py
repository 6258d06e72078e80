"""VAAL and TA-VAAL: choosing what an autoencoder's adversary takes for unlabelled.

Both train an autoencoder and a discriminator of its latents inside `select`, afresh in
every round, as one loop on the device.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jal import pool as pools
from jal import predictive, selection
from jal._core.checks import at_least_one
from jal.learners import losses
from jal.types import Strategy, View

CONDITIONS = {"sigmoid": jax.nn.sigmoid, "raw": lambda ranks: ranks}


class Autoencoder(NamedTuple):
    """A variational autoencoder as pure functions.

    Attributes:
      init: (key) -> (params, state), `state` being running averages.
      encode: (params, state, x, train) -> (mean [B, D], log-variance [B, D]).
      apply: (params, state, x, condition [B] or None, key) -> ((mean, log-variance,
        reconstruction), state), in training mode.
    """

    init: Callable[..., tuple[Any, Any]]
    encode: Callable[..., tuple[jax.Array, jax.Array]]
    apply: Callable[..., tuple[tuple[jax.Array, jax.Array, jax.Array], Any]]


class Adversary(NamedTuple):
    """A discriminator of latents as pure functions.

    Attributes:
      init: (key) -> params.
      apply: (params, z [B, D], condition [B] or None) -> logits [B] of "labelled".
    """

    init: Callable[..., Any]
    apply: Callable[..., jax.Array]


class VaalOptions(NamedTuple):
    """How autoencoder and discriminator are trained; the defaults are recommended.

    Attributes:
      optimizer: of the autoencoder.
      adversary_optimizer: of the discriminator.
      kl_weight: lambda, >= 0.
      kl_reduction: "mean" over items and dimensions, or "sum", as VAAL's release has.
      adversarial_weight: a, >= 0.
      decoder_condition: what the decoder sees of a predicted loss: "sigmoid" or "raw".
      adversary_condition: what the discriminator sees of it.
      vae_steps: steps of the autoencoder before one of the discriminator.
      batch_statistics: score with the averages of the batch, as TA-VAAL's release does,
        so that scores depend on who is scored together.
    """

    optimizer: optax.GradientTransformation = optax.adam(5e-4)
    adversary_optimizer: optax.GradientTransformation = optax.adam(5e-4)
    kl_weight: float = 1.0
    kl_reduction: Literal["mean", "sum"] = "mean"
    adversarial_weight: float = 1.0
    decoder_condition: Literal["sigmoid", "raw"] = "sigmoid"
    adversary_condition: Literal["sigmoid", "raw"] = "sigmoid"
    vae_steps: int = 1
    batch_statistics: bool = False


RECOMMENDED_VAAL = VaalOptions()


class TrainState(NamedTuple):
    """What a step of training changes.

    Attributes:
      vae: parameters of the autoencoder.
      averages: its running averages.
      vae_optimizer: state of its optimizer.
      adversary: parameters of the discriminator.
      adversary_optimizer: state of its optimizer.
    """

    vae: Any
    averages: Any
    vae_optimizer: Any
    adversary: Any
    adversary_optimizer: Any


class Batch(NamedTuple):
    """Images of both kinds, with what the task network says of them.

    Attributes:
      labeled: [B, H, W, channels].
      unlabeled: [B, H, W, channels].
      labeled_ranks: [B] conditions of the labelled ones, or None.
      unlabeled_ranks: [B] conditions of the unlabelled ones, or None.
    """

    labeled: jax.Array
    unlabeled: jax.Array
    labeled_ranks: jax.Array | None = None
    unlabeled_ranks: jax.Array | None = None


def make_step(
    vae: Autoencoder, adversary: Adversary, options: VaalOptions = RECOMMENDED_VAAL
) -> tuple[Callable, Callable]:
    """Builds the functions that train autoencoder and discriminator in turns.

    The autoencoder minimises the reconstruction errors and KL divergences of both kinds
    of images plus `losses.fooling`, with the discriminator held fixed; then the
    discriminator minimises `losses.discrimination` of the means of the same images,
    with the autoencoder held fixed.

    Args:
      vae: the autoencoder.
      adversary: the discriminator.
      options: how.

    Returns:
      init: (key) -> TrainState, and
      step: (key, state, batch) -> (state, metrics), a dict of [] arrays.

    Raises:
      ValueError: an option is out of range.

    >>> from jal import nn
    >>> vae = nn.VAE((28, 28, 1), latent=2, channels=(1, 1, 1, 1))
    >>> init, step = make_step(
    ...     Autoencoder(*nn.from_vae(vae)),
    ...     Adversary(*nn.from_discriminator(nn.Discriminator(4), vae)),
    ... )
    >>> set(jax.eval_shape(init, jax.random.key(0)).adversary)
    {'params'}

    Reference: Sinha, Ebrahimi and Darrell, "Variational adversarial active learning",
    2019, algorithm 1; Kim, Park, Kim and Chun, "Task-aware variational adversarial
    active learning", 2020, eq. 6 to 8.
    """
    _check(options)
    game = _Game(vae, adversary, options)
    return functools.partial(_init, game), functools.partial(_step, game)


class _Game(NamedTuple):
    """Who plays against whom, and by which rules."""

    vae: Autoencoder
    adversary: Adversary
    options: VaalOptions

    def discriminate(self, params, latents, batch):
        """Logits of the labelled and of the other items."""
        condition = CONDITIONS[self.options.adversary_condition]
        ranks = (batch.labeled_ranks, batch.unlabeled_ranks)
        return [
            self.adversary.apply(params, latent, _condition(condition, rank))
            for latent, rank in zip(latents, ranks, strict=True)
        ]


def _init(game: _Game, key) -> TrainState:
    vae_key, adversary_key = jax.random.split(key)
    params, averages = game.vae.init(vae_key)
    adversary_params = game.adversary.init(adversary_key)
    return TrainState(
        params,
        averages,
        game.options.optimizer.init(params),
        adversary_params,
        game.options.adversary_optimizer.init(adversary_params),
    )


def _vae_loss(params, averages, adversary_params, game: _Game, key, batch):
    options = game.options
    for_decoder = CONDITIONS[options.decoder_condition]
    means, errors, divergences = [], [], []
    for x, ranks, part_key in zip(
        (batch.labeled, batch.unlabeled),
        (batch.labeled_ranks, batch.unlabeled_ranks),
        jax.random.split(key),
        strict=True,
    ):
        (mean, log_variance, reconstruction), averages = game.vae.apply(
            params, averages, x, _condition(for_decoder, ranks), part_key
        )
        means.append(mean)
        errors.append(losses.reconstruction_error(x, reconstruction))
        divergences.append(
            losses.kl_divergence(mean, log_variance, reduction=options.kl_reduction)
        )
    fooling = losses.fooling(*game.discriminate(adversary_params, means, batch))
    total = sum(
        error + options.kl_weight * kl
        for error, kl in zip(errors, divergences, strict=True)
    )
    total += options.adversarial_weight * fooling
    metrics = {
        "reconstruction": sum(error / 2 for error in errors),
        "kl": sum(kl / 2 for kl in divergences),
        "fooling": fooling,
    }
    return total, (averages, metrics)


def _vae_step(game: _Game, key, state: TrainState, batch):
    gradient = jax.value_and_grad(_vae_loss, has_aux=True)
    (_, (averages, metrics)), gradients = gradient(
        state.vae, state.averages, state.adversary, game, key, batch
    )
    params, vae_optimizer = _updated(
        game.options.optimizer, gradients, state.vae_optimizer, state.vae
    )
    state = state._replace(vae=params, averages=averages, vae_optimizer=vae_optimizer)
    return state, metrics


def _step(game: _Game, key, state: TrainState, batch):
    metrics = {}
    for part_key in jax.random.split(key, game.options.vae_steps):
        state, metrics = _vae_step(game, part_key, state, batch)
    means = [
        game.vae.encode(state.vae, state.averages, x, True)[0]
        for x in (batch.labeled, batch.unlabeled)
    ]
    value, gradients = jax.value_and_grad(
        lambda params: losses.discrimination(*game.discriminate(params, means, batch))
    )(state.adversary)
    params, adversary_optimizer = _updated(
        game.options.adversary_optimizer,
        gradients,
        state.adversary_optimizer,
        state.adversary,
    )
    state = state._replace(adversary=params, adversary_optimizer=adversary_optimizer)
    return state, {**metrics, "discrimination": value}


def _updated(optimizer, gradients, state, params):
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def vaal(
    vae: Autoencoder,
    adversary: Adversary,
    *,
    steps: int | Callable[[jax.Array, int], jax.Array],
    batch_size: int,
    prepare: Callable[[jax.Array], jax.Array],
    options: VaalOptions = RECOMMENDED_VAAL,
    scoring_batch_size: int | None = None,
) -> Strategy:
    """Variational adversarial active learning: picks what looks most unlabelled.

    An autoencoder and a discriminator of its latents play against each other on the
    labelled items and on the candidates; the K candidates with the smallest D(mean) are
    chosen. The labels and the task network play no part.

    Args:
      vae: without a condition.
      adversary: without a condition.
      steps: of training a round, or (number of labels [], M) -> [] traced number; the
        published schedule is `epochs_of(100, batch_size=128)`.
      batch_size: B, items of each kind a step.
      prepare: pool items [B, ...] to what the autoencoder reconstructs.
      options: how both are trained.
      scoring_batch_size: candidates scored at a time, or None for all of them.

    Returns:
      `Strategy` without state, whose scores [M] are -logit D: their order is that of
      -D, also where D rounds to 0 or 1.

    Raises:
      ValueError: an option is out of range.

    >>> from jal import nn
    >>> vae = nn.VAE((28, 28, 1), latent=2, conditioned=False)
    >>> strategy = vaal(
    ...     Autoencoder(*nn.from_vae(vae)),
    ...     Adversary(*nn.from_discriminator(nn.Discriminator(), vae)),
    ...     steps=epochs_of(100, batch_size=128),
    ...     batch_size=128,
    ...     prepare=nn.unit_range,
    ... )
    >>> strategy.init(jax.random.key(0), None, None)
    ()

    Reference: Sinha, Ebrahimi and Darrell, "Variational adversarial active learning",
    2019.
    """
    return _strategy(
        vae,
        adversary,
        steps=steps,
        batch_size=batch_size,
        prepare=prepare,
        options=options,
        scoring_batch_size=scoring_batch_size,
        with_ranks=False,
    )


def ta_vaal(
    vae: Autoencoder,
    adversary: Adversary,
    *,
    steps: int | Callable[[jax.Array, int], jax.Array],
    batch_size: int,
    prepare: Callable[[jax.Array], jax.Array],
    options: VaalOptions = RECOMMENDED_VAAL,
    scoring_batch_size: int | None = None,
) -> Strategy:
    """Task-aware VAAL: decoder and discriminator also see the predicted loss.

    As `vaal`, with the ranker's prediction for each item as a condition of decoder and
    discriminator. The task network is frozen and items are not augmented, so that their
    ranks are computed once a round and not once a step.

    Args:
      vae: with a condition.
      adversary: with a condition.
      steps: as in `vaal`.
      batch_size: as in `vaal`.
      prepare: as in `vaal`.
      options: as in `vaal`.
      scoring_batch_size: as in `vaal`, and for predicting the losses.

    Returns:
      `Strategy` without state and with scores [M], as `vaal`, for learners whose
      predictions have a `loss_score`, such as `learners.with_ranker`.

    Raises:
      ValueError: an option is out of range.

    >>> from jal import nn
    >>> vae = nn.VAE((28, 28, 1), latent=2, conditioned=True)
    >>> strategy = ta_vaal(
    ...     Autoencoder(*nn.from_vae(vae)),
    ...     Adversary(*nn.from_discriminator(nn.Discriminator(), vae)),
    ...     steps=epochs_of(100, batch_size=128),
    ...     batch_size=128,
    ...     prepare=nn.unit_range,
    ... )
    >>> strategy.init(jax.random.key(0), None, None)
    ()

    Reference: Kim, Park, Kim and Chun, "Task-aware variational adversarial active
    learning", 2020.
    """
    return _strategy(
        vae,
        adversary,
        steps=steps,
        batch_size=batch_size,
        prepare=prepare,
        options=options,
        scoring_batch_size=scoring_batch_size,
        with_ranks=True,
    )


def epochs_of(epochs: float, *, batch_size: int) -> Callable:
    """A number of steps that grows with the labelled set, for `vaal` and `ta_vaal`.

    floor((number of labels + M) * epochs / batch_size).

    Args:
      epochs: over labelled items and candidates together, > 0.
      batch_size: B.

    Returns:
      (number of labels [], M) -> [] int32.

    Raises:
      ValueError: epochs is not positive.

    >>> int(epochs_of(100, batch_size=128)(jnp.asarray(1000), 10_000))
    8593

    Reference: Kim, Park, Kim and Chun, "Task-aware variational adversarial active
    learning", 2020, release.
    """
    if not epochs > 0:
        raise ValueError(f"epochs={epochs}; it must be positive")
    return lambda count, num_candidates: jnp.int32(
        (count + num_candidates) * epochs // batch_size
    )


def _strategy(
    vae,
    adversary,
    *,
    steps,
    batch_size,
    prepare,
    options,
    scoring_batch_size,
    with_ranks,
) -> Strategy:
    sizes = {"batch_size": batch_size, "scoring_batch_size": scoring_batch_size}
    sizes |= {} if callable(steps) else {"steps": steps}
    at_least_one(**sizes)
    init, step = make_step(vae, adversary, options)
    for_adversary = CONDITIONS[options.adversary_condition]

    def choose(key, state, view: View, k):
        init_key, train_key = jax.random.split(key)
        candidates, labeled = view.candidates, jnp.maximum(view.pool.order, 0)
        count, num_available = view.pool.count, jnp.sum(view.available)
        offered = jnp.argsort(~view.available, stable=True)
        ranks = labeled_ranks = None
        if with_ranks:
            rank = lambda items: predictive.predict_items(
                view.predict, view.items(items), scoring_batch_size
            ).need("loss_score")
            ranks, labeled_ranks = rank(candidates), rank(labeled)
        images = lambda rows: prepare(view.data.x[rows])
        some = lambda values, rows: None if values is None else values[rows]

        def one(number, carry):
            key = jax.random.fold_in(train_key, number)
            labeled_key, candidate_key, step_key = jax.random.split(key, 3)
            own = jax.random.randint(labeled_key, (batch_size,), 0, count)
            other = jax.random.randint(candidate_key, (batch_size,), 0, num_available)
            other = offered[other]
            batch = Batch(
                images(labeled[own]),
                images(candidates[other]),
                some(labeled_ranks, own),
                some(ranks, other),
            )
            return step(step_key, carry, batch)[0]

        number = steps(count, candidates.size) if callable(steps) else steps
        trained = jax.lax.fori_loop(0, number, one, init(init_key))

        def looks_labeled(rows):
            mean, _ = vae.encode(
                trained.vae,
                trained.averages,
                images(candidates[rows]),
                options.batch_statistics,
            )
            return adversary.apply(
                trained.adversary, mean, _condition(for_adversary, some(ranks, rows))
            )

        scores = -_in_batches(looks_labeled, candidates.size, scoring_batch_size)
        positions = selection.top_k(scores, k, available=view.available)
        return pools.picks(view, positions, scores), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def _in_batches(function, total, batch_size):
    """[total] values of `function(rows)`, some rows at a time."""
    rows = jnp.arange(total)
    if batch_size is None or batch_size >= total:
        return function(rows)
    batches = -(-total // batch_size)
    padded = jnp.arange(batches * batch_size) % total
    values = jax.lax.map(function, padded.reshape(batches, batch_size))
    return values.reshape(-1)[:total]


def _condition(function, ranks):
    """What a network sees of the predicted losses [B], or of None."""
    return None if ranks is None else function(ranks)


def _check(options: VaalOptions) -> None:
    for name in ("kl_weight", "adversarial_weight"):
        if not getattr(options, name) >= 0:
            raise ValueError(
                f"{name}={getattr(options, name)}; it must not be negative"
            )
    allowed = {
        "kl_reduction": ("mean", "sum"),
        "decoder_condition": tuple(CONDITIONS),
        "adversary_condition": tuple(CONDITIONS),
    }
    for name, values in allowed.items():
        if getattr(options, name) not in values:
            raise ValueError(
                f"{name}={getattr(options, name)!r}; allowed are {', '.join(values)}"
            )
    at_least_one(vae_steps=options.vae_steps)
