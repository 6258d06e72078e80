"""Strategies: assemblies of predictions, acquisition functions, costs and selectors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jal import acquisition, cost, predictive, selection
from jal import pool as pools
from jal.types import Outputs, Predictive, Strategy, View


def highest(
    key: jax.Array, scores: jax.Array, k: int, available: jax.Array
) -> jax.Array:
    """The selector that takes the k highest scores; it needs no randomness.

    Args:
      key: PRNG key, not used.
      scores: [M].
      k: how many.
      available: [M] bool.

    Returns:
      [k] int32 positions, -1 beyond what is available.

    >>> scores = jnp.array([1.0, 3.0, 2.0])
    >>> highest(jax.random.key(0), scores, 2, jnp.ones(3, bool)).tolist()
    [1, 2]
    """
    del key
    return selection.top_k(scores, k, available=available)


def from_scores(
    score: Callable[[Predictive], jax.Array],
    *,
    num_samples: int,
    select: Callable[..., jax.Array] = highest,
    alpha: float | jax.Array = 1.0,
    beta: float | jax.Array = 0.0,
    masks: str = "shared",
    batch_size: int | None = None,
) -> Strategy:
    """Scores all candidates by MC dropout and selects by v = I^alpha / C^beta.

    Args:
      score: an acquisition function, e.g. `jal.acquisition.bald`.
      num_samples: S stochastic passes.
      select: (key, scores [M], k, available [M]) -> positions [k].
      alpha: exponent of the information, >= 0; may be traced.
      beta: exponent of the cost, >= 0; 0 ignores the cost; may be traced.
      masks: "shared" or "independent", as in `predictive.predict_passes`.
      batch_size: candidates scored at a time, or None for all of them.

    Returns:
      `Strategy` without state. It needs a cost in the view unless beta is 0.

    >>> from jal import acquisition
    >>> strategy = from_scores(acquisition.bald, num_samples=20)
    >>> strategy.init(jax.random.key(0), None, None)
    ()

    Reference: Bernatchez, Durand and Lavoie-Cardinal, "Annotation cost-sensitive deep
    active learning with limited data", 2022, eq. 1.
    """
    ignores_cost = isinstance(beta, int | float) and beta == 0

    def choose(key, state, view: View, k):
        passes_key, select_key = jax.random.split(key)
        x = jax.tree.map(lambda leaf: leaf[view.candidates], view.data.x)
        information = score(
            predictive.predict_passes(
                view.predict,
                passes_key,
                x,
                num_samples,
                masks=masks,
                indices=view.candidates,
                batch_size=batch_size,
            )
        )
        candidate_cost = view.cost
        if candidate_cost is None:
            if not ignores_cost:
                raise ValueError(
                    f"beta={beta} weighs the cost, but the view has none; give the "
                    'loop cost="known" or a cost learner, or set beta=0'
                )
            candidate_cost = jnp.ones_like(information)
        value = cost.cost_ratio(information, candidate_cost, alpha=alpha, beta=beta)
        positions = select(select_key, value, k, view.available)
        return pools.picks(view, positions, value), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def random() -> Strategy:
    """Picks uniformly among the candidates, whatever they cost.

    Returns:
      `Strategy` without state.

    >>> random().init(jax.random.key(0), None, None)
    ()
    """

    def choose(key, state, view: View, k):
        scores = jax.random.uniform(key, view.candidates.shape)
        positions = selection.top_k(scores, k, available=view.available)
        return pools.picks(view, positions, scores), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def learning_loss(*, batch_size: int | None = None) -> Strategy:
    """Picks the candidates whose loss is predicted to be the highest.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state, for learners whose predictions have a `loss_score`, such
      as `learners.with_ranker`.

    Raises:
      ValueError: batch_size is below 1.

    >>> learning_loss().init(jax.random.key(0), None, None)
    ()

    Reference: Yoo and Kweon, "Learning loss for active learning", 2019.
    """
    _check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        del key
        outputs = predictive.predict_items(view, view.candidates, batch_size)
        scores = outputs.need("loss_score")
        positions = selection.top_k(scores, k, available=view.available)
        return pools.picks(view, positions, scores), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def k_center(
    *,
    features: Callable[[Any], jax.Array] | None = None,
    batch_size: int | None = None,
) -> Strategy:
    """Picks the candidates farthest from all that is labelled, in feature space.

    `selection.k_center` of the features of the deterministic prediction, the items
    labelled before being the centres.

    Args:
      features: x [B, ...] -> [B, D], in place of the model's features, which mean
        little before there are labels: `lambda x: x.reshape(len(x), -1) / 255`.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state or scores. The model must return `features`, unless there
      is a function for them.

    Raises:
      ValueError: batch_size is below 1.

    >>> k_center().init(jax.random.key(0), None, None)
    ()

    Reference: Sener and Savarese, "Active learning for convolutional neural networks: a
    core-set approach", 2018, algorithm 1.
    """
    _check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        del key
        rows, is_labeled, available = _candidates_and_labeled(
            view, features, batch_size
        )
        positions = selection.k_center(rows, k, centers=is_labeled, available=available)
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def typical(
    *,
    features: Callable[[Any], jax.Array] | None = None,
    max_clusters: int = 500,
    batch_size: int | None = None,
) -> Strategy:
    """Picks the most typical candidate of each of the largest clusters without labels.

    `selection.typical` of the features of the deterministic prediction, for the first
    labels: with `features` it needs neither a label nor a model.

    Args:
      features: x [B, ...] -> [B, D], in place of the model's features, which mean
        little before there are labels: `lambda x: x.reshape(len(x), -1) / 255`.
      max_clusters: the largest number of clusters, as in `selection.typical`.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state or scores. The model must return `features`, unless there
      is a function for them.

    Raises:
      ValueError: batch_size or max_clusters is below 1.

    >>> typical(features=lambda x: x / 255).init(jax.random.key(0), None, None)
    ()

    Reference: Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite
    strategies suit high and low budgets", 2022, algorithm 1.
    """
    _check_batch_size(batch_size)
    if max_clusters < 1:
        raise ValueError(f"max_clusters={max_clusters}; it must be at least 1")

    def choose(key, state, view: View, k):
        rows, is_labeled, available = _candidates_and_labeled(
            view, features, batch_size
        )
        positions = selection.typical(
            key,
            rows,
            k,
            covered=is_labeled,
            available=available,
            # There are never more labels than the buffer holds.
            max_clusters=min(max_clusters, view.pool.order.size + max(k, 1)),
        )
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def badge(*, batch_size: int | None = None) -> Strategy:
    """Picks candidates whose gradients are large and differ from each other.

    `selection.badge` of the probabilities and features of the deterministic prediction.
    What is labelled plays no part beyond having trained the model.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state or scores. The model must return `logits` and `features`,
      the inputs of its last layer.

    Raises:
      ValueError: batch_size is below 1.

    >>> badge().init(jax.random.key(0), None, None)
    ()

    Reference: Ash et al., "Deep batch active learning by diverse, uncertain gradient
    lower bounds", 2020, algorithm 1.
    """
    _check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        outputs = predictive.predict_items(view, view.candidates, batch_size)
        positions = selection.badge(
            key,
            jax.nn.softmax(outputs.need("logits"), axis=-1),
            outputs.need("features"),
            k,
            available=view.available,
        )
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def batch_bald(*, num_samples: int, num_configurations: int) -> Strategy:
    """Picks the candidates whose labels tell most about the model together.

    `selection.batch_bald` of passes with dropout masks that all candidates share: joint
    predictions need one model a pass. The log-probabilities of all passes are kept at
    once, S * M * C numbers.

    Args:
      num_samples: S stochastic passes.
      num_configurations: configurations of the labels picked that are looked at.

    Returns:
      `Strategy` without state or scores.

    >>> strategy = batch_bald(num_samples=20, num_configurations=1000)
    >>> strategy.init(jax.random.key(0), None, None)
    ()

    Reference: Kirsch, van Amersfoort and Gal, "BatchBALD: efficient and diverse batch
    acquisition for deep Bayesian active learning", 2019, algorithm 1.
    """

    def choose(key, state, view: View, k):
        passes_key, select_key = jax.random.split(key)
        x = jax.tree.map(lambda leaf: leaf[view.candidates], view.data.x)
        log_probs = predictive.log_prob_passes(view.predict, passes_key, x, num_samples)
        positions, _ = selection.batch_bald(
            select_key,
            log_probs,
            k,
            num_configurations=num_configurations,
            available=view.available,
        )
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def margin(*, diversify: bool = False, batch_size: int | None = None) -> Strategy:
    """Picks the candidates whose two most probable classes are nearest each other.

    p_1 - p_2 of the deterministic prediction, smallest first.

    Args:
      diversify: takes one candidate of each predicted class in turn
        (`selection.diversify`), which is marg-div.
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state.

    Raises:
      ValueError: batch_size is below 1.

    >>> margin(diversify=True).init(jax.random.key(0), None, None)
    ()

    Reference: Scheffer, Decomain and Wrobel, "Active hidden Markov models for
    information extraction", 2001; Aggarwal, Popescu and Hudelot, "Optimizing active
    learning for low annotation budgets", 2022, eq. 1.
    """
    _check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        del key
        gap, group = _gap_and_class(view, view.candidates, batch_size)
        groups = group if diversify else None
        return _best(view, -gap, groups, k), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def rand_div(*, batch_size: int | None = None) -> Strategy:
    """Picks at random, one candidate of each predicted class in turn.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state.

    Raises:
      ValueError: batch_size is below 1.

    >>> rand_div().init(jax.random.key(0), None, None)
    ()

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022, algorithm 1.
    """
    _check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        scores = jax.random.uniform(key, view.candidates.shape)
        _, groups = _gap_and_class(view, view.candidates, batch_size)
        return _best(view, scores, groups, k), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def class_balanced(*, batch_size: int | None = None) -> Strategy:
    """Picks candidates predicted to be of the classes with the fewest labels.

    `selection.diversify` over the most probable class of the deterministic prediction,
    of each class the most probable candidates first, where a class joins in once all
    others have as many labels or picks. Without labels that is one candidate of each
    predicted class in turn. It evens out the labels as far as the predictions are
    right, and finds no class that is predicted nowhere.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state; the scores are the probabilities of the predicted
      classes. The model must return `logits`, and the labels must be classes; one that
      the model has no logit for is not counted.

    Raises:
      ValueError: batch_size is below 1.

    >>> class_balanced().init(jax.random.key(0), None, None)
    ()
    """
    _check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        del key
        outputs = predictive.predict_items(view, view.candidates, batch_size)
        p = jax.nn.softmax(outputs.need("logits"), axis=-1)
        scores, groups = jnp.max(p, axis=-1), jnp.argmax(p, axis=-1)
        num_classes = p.shape[-1]
        bought, is_labeled = _labeled(view)
        y = view.data.y[bought]
        known = is_labeled & (y >= 0)
        labels = jnp.zeros(num_classes, jnp.int32)
        labels = labels.at[jnp.where(known, y, num_classes)].add(1, mode="drop")
        positions = selection.diversify(
            scores, groups, k, already=labels[groups], available=view.available
        )
        return pools.picks(view, positions, scores), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


class PreviousModel(NamedTuple):
    """What `alamp` remembers of the model of the round before.

    Attributes:
      gap: [N] p_1 - p_2.
      group: [N] int32 most probable class.
      exists: [] bool, False in the first round.
    """

    gap: jax.Array
    group: jax.Array
    exists: jax.Array


def alamp(*, diversify: bool = False, batch_size: int | None = None) -> Strategy:
    """Picks what the model was sure of in the round before, and is no longer.

    `acquisition.shift` of the gap p_1 - p_2 between this round's deterministic
    prediction and that of the round before, largest first; of those at 1 that of the
    larger gap before. In the first round, with no model before it, the smallest gap.

    Args:
      diversify: takes one candidate of each class in turn (`selection.diversify`), the
        class being what the model before predicted: alamp-div.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      `Strategy` whose state, a `PreviousModel`, is by pool index: the whole pool is
      predicted in every round, whatever is on the table. The scores are ranks, negated.

    Raises:
      ValueError: batch_size is below 1.

    >>> from jal.types import Data
    >>> data = Data(x=jnp.zeros((3, 2)), y=jnp.zeros(3, jnp.int32))
    >>> alamp(diversify=True).init(jax.random.key(0), data, None).exists.item()
    False

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022, eq. 3 and algorithm 1.
    """
    _check_batch_size(batch_size)

    def init(key, data, pool):
        del key, pool
        number = data.y.shape[0]
        return PreviousModel(
            jnp.zeros(number), jnp.zeros(number, jnp.int32), jnp.zeros((), bool)
        )

    def choose(key, state, view: View, k):
        del key
        items = jnp.arange(view.data.y.shape[0])
        gap, group = _gap_and_class(view, items, batch_size)
        before = jnp.where(state.exists, state.gap, 0)
        first = jnp.where(state.exists, acquisition.shift(state.gap, gap), -gap)
        first, before = first[view.candidates], before[view.candidates]
        # Whatever has no gap any more has a shift of 1.
        second = jnp.where(first >= 1, before, 0)
        place = jax.lax.iota(jnp.int32, first.size)
        *_, order = jax.lax.sort((jnp.isnan(first), -first, -second, place), num_keys=4)
        rank = jnp.zeros(first.size).at[order].set(place.astype(first.dtype))
        scores = jnp.where(jnp.isnan(first), jnp.nan, -rank)
        groups = jnp.where(state.exists, state.group, group)[view.candidates]
        chosen = _best(view, scores, groups if diversify else None, k)
        after = PreviousModel(gap.astype(state.gap.dtype), group, jnp.ones((), bool))
        return chosen, after

    return Strategy(init, choose)


def _labeled(view: View) -> tuple[jax.Array, jax.Array]:
    """[L] pool indices of what is labelled, and which of them are, L the capacity.

    The buffer has a fixed size, and what is beyond its count is item 0.
    """
    order = view.pool.order
    return jnp.maximum(order, 0), jnp.arange(order.size) < view.pool.count


def _candidates_and_labeled(view: View, features, batch_size):
    """Features [M + L, D] of the candidates and of what is labelled.

    Also which rows are labelled items, and which are candidates that are available;
    what is neither is predicted and ignored.
    """
    if features is not None:
        view = view._replace(predict=lambda x: Outputs(features=features(x)))
    labeled, is_labeled = _labeled(view)
    items = jnp.concatenate([view.candidates, labeled])
    return (
        predictive.predict_items(view, items, batch_size).need("features"),
        jnp.concatenate([jnp.zeros_like(view.available), is_labeled]),
        jnp.concatenate([view.available, jnp.zeros_like(is_labeled)]),
    )


def _gap_and_class(view: View, items, batch_size) -> tuple[jax.Array, jax.Array]:
    """p_1 - p_2 and the most probable class, [B] each."""
    logits = predictive.predict_items(view, items, batch_size).need("logits")
    p = jax.nn.softmax(logits, axis=-1)
    group = jnp.argmax(p, axis=-1).astype(jnp.int32)
    others = jnp.arange(p.shape[-1])[None] != group[:, None]
    return jnp.max(p, axis=-1) - jnp.max(p, axis=-1, where=others, initial=0), group


def _best(view: View, scores, groups, k):
    if groups is None:
        positions = selection.top_k(scores, k, available=view.available)
    else:
        positions = selection.diversify(scores, groups, k, available=view.available)
    return pools.picks(view, positions, scores)


def _check_batch_size(batch_size):
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; it must be at least 1, or None")
