"""VAAL and TA-VAAL: their steps, what they pick, and how they are refused."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import nn, pool, strategies
from jal.learners import losses
from jal.strategies import _vaal
from jal.types import Data, Outputs, View

KEY = jax.random.key(0)
SIDE, LATENT = 28, 4


def parts(conditioned, latent=LATENT, channels=(2, 2, 4, 4)):
    vae = nn.VAE((SIDE, SIDE, 1), latent, channels, conditioned)
    adversary = nn.from_discriminator(nn.Discriminator(16), vae)
    return strategies.Autoencoder(*nn.from_vae(vae)), strategies.Adversary(*adversary)


def plain_parts(size, conditioned=False):
    """A linear autoencoder of vectors [B, size], and a small discriminator."""

    def init(key):
        return {"to": 0.3 * jax.random.normal(key, (size, 2 * 2))}, jnp.zeros(())

    def encode(params, state, x, train):
        return tuple(jnp.split(x @ params["to"], 2, axis=1))

    def apply(params, state, x, condition, key):
        mean, log_variance = encode(params, state, x, True)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        back = z @ params["to"][:, :2].T
        if condition is not None:
            back += condition[:, None]
        return (mean, log_variance, back), state + 1

    network = nn.Discriminator(32)
    condition = jnp.zeros(1) if conditioned else None
    start = lambda key: network.init(key, jnp.zeros((1, 2)), condition)
    return strategies.Autoencoder(init, encode, apply), strategies.Adversary(
        start, network.apply
    )


def batch(conditioned, size=6, shape=(SIDE, SIDE, 1)):
    draw = lambda *shape: np.random.default_rng(0).normal(size=shape).astype("f")
    ranks = draw(2, size) if conditioned else (None, None)
    return _vaal.Batch(*draw(2, size, *shape), *ranks)


def view_of(x, y, labeled, candidates, available=None, capacity=None, predict=None):
    data = Data(jnp.asarray(x), jnp.asarray(y))
    state = pool.create(len(x), capacity or len(labeled) + 3)
    state = pool.add(state, jnp.asarray(labeled))
    candidates = jnp.asarray(candidates, jnp.int32)
    if available is None:
        available = jnp.ones(candidates.shape, bool)
    return View(
        jax.tree_util.Partial(predict or refuse),
        pool.hide(data, state),
        state,
        candidates,
        available,
    )


def refuse(*args):
    raise AssertionError("the task network plays no part")


# ---- a step


@pytest.mark.parametrize(
    ("made", "shape", "conditioned", "reduction"),
    [
        (parts, (SIDE, SIDE, 1), True, "mean"),
        (functools.partial(plain_parts, 5), (5,), True, "sum"),
        (functools.partial(plain_parts, 5), (5,), False, "mean"),
        (functools.partial(plain_parts, 5), (5,), False, "sum"),
    ],
    ids=["images", "ranks", "mean", "sum"],
)
def test_the_losses_of_a_step(made, shape, conditioned, reduction):
    """Against the formulas, term by term, with the networks called by hand."""
    vae, adversary = made(conditioned=conditioned)
    options = strategies.VaalOptions(
        kl_weight=0.3,
        kl_reduction=reduction,
        adversarial_weight=0.7,
        adversary_condition="raw",
        optimizer=optax.sgd(0.1),
        adversary_optimizer=optax.sgd(0.2),
    )
    init, step = _vaal.make_step(vae, adversary, options)
    state, b = jax.jit(init)(KEY), batch(conditioned, shape=shape)
    after, metrics = jax.jit(step)(KEY, state, b)

    def objective(params):
        total, averages, logits, parts = 0.0, state.averages, [], []
        vae_key = jax.random.split(KEY, 1)[0]
        for x, rank, key in zip(b[:2], b[2:], jax.random.split(vae_key), strict=True):
            condition = None if rank is None else jax.nn.sigmoid(rank)
            (mean, log_variance, back), averages = vae.apply(
                params, averages, x, condition, key
            )
            kl = -0.5 * (1 + log_variance - mean**2 - jnp.exp(log_variance))
            kl = jnp.mean(kl) if reduction == "mean" else jnp.sum(kl)
            error = jnp.mean((x - back) ** 2)
            total += error + 0.3 * kl
            parts.append((error, kl))
            logits.append(adversary.apply(state.adversary, mean, rank))
        fooling = -sum(jnp.mean(jnp.log(jax.nn.sigmoid(values))) for values in logits)
        return total + 0.7 * fooling, (averages, fooling, parts)

    gradients, (averages, fooling, terms) = jax.jit(jax.grad(objective, has_aux=True))(
        state.vae
    )
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-3, atol=1e-5)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, state.vae, gradients)
    close(after.vae, moved)
    close(after.averages, averages)
    close(metrics["fooling"], fooling)
    close(metrics["reconstruction"], (terms[0][0] + terms[1][0]) / 2)
    close(metrics["kl"], (terms[0][1] + terms[1][1]) / 2)

    encode = jax.jit(vae.encode, static_argnums=3)
    means = [encode(after.vae, after.averages, x, True)[0] for x in b[:2]]

    def of_adversary(params):
        labeled, unlabeled = (
            jax.nn.sigmoid(adversary.apply(params, mean, rank))
            for mean, rank in zip(means, b[2:], strict=True)
        )
        return -jnp.mean(jnp.log(labeled)) - jnp.mean(jnp.log(1 - unlabeled))

    value, gradients = jax.jit(jax.value_and_grad(of_adversary))(state.adversary)
    moved = jax.tree.map(lambda p, g: p - 0.2 * g, state.adversary, gradients)
    close(after.adversary, moved)
    close(metrics["discrimination"], value)


def test_two_steps_of_the_autoencoder_before_one_of_the_discriminator():
    vae, adversary = plain_parts(3)
    counting = optax.chain(optax.sgd(0.0), optax.scale_by_schedule(lambda n: 1.0))
    options = strategies.VaalOptions(
        vae_steps=2, optimizer=counting, adversary_optimizer=counting
    )
    init, step = _vaal.make_step(vae, adversary, options)
    images = batch(False, 5, (3,))
    state, _ = jax.jit(step)(KEY, jax.jit(init)(KEY), images)
    assert int(state.averages) == 4  # both kinds of images in each step
    assert int(state.vae_optimizer[1].count) == 2
    assert int(state.adversary_optimizer[1].count) == 1


def test_step_in_a_scan_is_the_step_outside():
    init, step = _vaal.make_step(*plain_parts(5, True))
    b, keys = batch(True, shape=(5,)), jax.random.split(KEY, 3)
    start = jax.jit(init)(KEY)
    together, _ = jax.jit(
        lambda start, b: jax.lax.scan(lambda s, key: step(key, s, b), start, keys)
    )(start, b)
    alone, one = start, jax.jit(step)
    for key in keys:
        alone, _ = one(key, alone, b)
    chex.assert_trees_all_close(together, alone, rtol=1e-3, atol=1e-4)


# ---- what is picked


def clusters(seed):
    """Vectors of two clusters, the second one unseen by the labelled set."""
    rng = np.random.default_rng(seed)
    kind = np.repeat([0, 1], [150, 50])
    center = 2 * rng.normal(size=6) * np.where(kind == 0, 1, -1)[:, None]
    return (center + 0.3 * rng.normal(size=(200, 6))).astype(np.float32), kind


@pytest.mark.parametrize("conditioned", [False, True])
def test_the_unseen_cluster_comes_first(conditioned):
    assemble = strategies.ta_vaal if conditioned else strategies.vaal
    strategy = assemble(
        *plain_parts(6, conditioned),
        steps=150,  # a longer game lets the encoder hide what it knows
        batch_size=32,
        prepare=lambda x: x,
        scoring_batch_size=64,
        options=strategies.VaalOptions(
            optimizer=optax.adam(1e-3), adversary_optimizer=optax.adam(5e-3)
        ),
    )
    predict = lambda x, key=None: Outputs(loss_score=x[:, 0])
    choose = jax.jit(strategy.select, static_argnums=3)
    for seed in range(5):
        x, kind = clusters(seed)
        candidates = np.random.default_rng(seed).permutation(np.arange(30, 200))
        view = view_of(x, kind, np.arange(30), candidates, predict=predict)
        acquisition, _ = choose(jax.random.key(seed), (), view, 20)
        assert np.all(kind[acquisition.indices] == 1)
        of = kind[candidates]
        unseen, seen = (np.median(acquisition.scores[of == c]) for c in (1, 0))
        assert unseen > seen


def image_view(**changes):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (30, SIDE, SIDE, 1), np.uint8)
    arguments = dict(labeled=np.arange(5), candidates=np.arange(5, 25))
    return view_of(x, np.zeros(30, np.int32), **(arguments | changes))


def image_strategy(conditioned=False, steps=2, **changes):
    arguments = dict(batch_size=4, prepare=nn.unit_range) | changes
    assemble = strategies.ta_vaal if conditioned else strategies.vaal
    return assemble(*parts(conditioned), steps=steps, **arguments)


def vector_view(**changes):
    """The same pool, each item a vector."""
    x = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    arguments = dict(labeled=np.arange(5), candidates=np.arange(5, 25))
    return view_of(x, np.zeros(30, np.int32), **(arguments | changes))


def vector_strategy(conditioned=False, steps=2, encode=None, **changes):
    arguments = dict(batch_size=4, prepare=lambda x: x) | changes
    assemble = strategies.ta_vaal if conditioned else strategies.vaal
    vae, adversary = plain_parts(6, conditioned)
    if encode is not None:
        vae = vae._replace(encode=functools.partial(encode, vae.encode))
    return assemble(vae, adversary, steps=steps, **arguments)


def selector(strategy):
    choose = jax.jit(strategy.select, static_argnums=3)
    return lambda view, k=3: choose(KEY, (), view, k)[0]


def select(strategy, view):
    return selector(strategy)(view)


def test_images_to_picks():
    available = jnp.arange(20) % 2 == 0
    choose = selector(image_strategy())
    acquisition = choose(image_view(available=available))
    picks = acquisition.indices.tolist()
    assert len(set(picks)) == 3 and set(picks) <= set(range(5, 25, 2))
    best = np.argsort(np.where(available, -acquisition.scores, np.inf), kind="stable")
    assert picks == (5 + best[:3]).tolist()
    # Nothing is bought that is not there.
    few = choose(image_view(available=jnp.arange(20) < 2))
    assert sorted(few.indices.tolist()) == [-1, 5, 6]


def centred(encode, params, state, x, train):
    """As batch normalisation: in training mode a vector depends on its batch."""
    return encode(params, state, x - x.mean(0, keepdims=True) if train else x, train)


def test_scores_do_not_depend_on_who_is_scored_together():
    view, made = vector_view(), functools.partial(vector_strategy, encode=centred)
    whole = select(made(), view).scores
    parts_of_7 = select(made(scoring_batch_size=7), view).scores
    np.testing.assert_allclose(whole, parts_of_7, rtol=1e-4, atol=1e-5)
    # Unless they are asked to.
    made = functools.partial(
        made, options=strategies.VaalOptions(batch_statistics=True)
    )
    whole = select(made(), view).scores
    parts_of_7 = select(made(scoring_batch_size=7), view).scores
    assert np.abs(whole - parts_of_7).max() > 1e-4


def test_the_number_of_labels_is_not_part_of_the_shape():
    """One compilation, whatever the number of labels and of steps."""
    chex.clear_trace_counter()
    strategy = vector_strategy(steps=strategies.epochs_of(0.5, batch_size=4))
    choose = jax.jit(chex.assert_max_traces(strategy.select, n=1), static_argnums=3)
    for number in (3, 5):
        view = vector_view(labeled=np.arange(number), capacity=9)
        acquisition, _ = choose(KEY, (), view, 3)
        assert np.all(np.isfinite(acquisition.scores))


def test_traced_steps_are_the_same_steps():
    x, kind = clusters(0)
    view = view_of(x, kind, np.arange(5), np.arange(5, 25))
    options = dict(batch_size=4, prepare=lambda x: x)
    fixed = select(strategies.vaal(*plain_parts(6), steps=3, **options), view)
    by_count = lambda count, m: count - 2
    traced = select(strategies.vaal(*plain_parts(6), steps=by_count, **options), view)
    np.testing.assert_allclose(fixed.scores, traced.scores, rtol=1e-5)


def test_ranks_are_computed_for_each_item_once():
    seen = []

    def predict(x, key=None):
        assert key is None
        jax.debug.callback(lambda x: seen.append(len(x)), x)
        return Outputs(loss_score=x.mean(1))

    strategy = vector_strategy(conditioned=True, steps=4)
    jax.block_until_ready(select(strategy, vector_view(predict=predict)).scores)
    assert sorted(seen) == [8, 20]  # the labelled buffer, the candidates


def test_the_condition_matters_and_is_bounded():
    def rank(scale, x, key=None):
        return Outputs(loss_score=scale * jnp.arange(1.0, 1 + x.shape[0]))

    choose = selector(vector_strategy(True))
    view = vector_view()
    scores = []
    for scale in (0.0, 1.0, 1e30):
        predict = jax.tree_util.Partial(rank, scale)
        scores.append(choose(view._replace(predict=predict)).scores)
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    assert np.all(np.isfinite(scores[2]))


def test_the_published_number_of_steps():
    """Six worked numbers: at query c there are 1,000 (c + 1) labels."""
    steps = strategies.epochs_of(100, batch_size=128)
    queries = [int(steps(jnp.asarray(1000 * (c + 1)), 10_000)) for c in range(9)]
    assert queries[0] == 8593 and queries[-1] == 14843 and sum(queries) == 105_465


# ---- mistakes


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(batch_size=0), "batch_size=0; it must be at least 1"),
        (dict(steps=0), "steps=0; it must be at least 1"),
        (dict(scoring_batch_size=0), "scoring_batch_size=0; it must be at least 1"),
        (
            dict(options=strategies.VaalOptions(kl_weight=-1)),
            "kl_weight=-1; it must not be",
        ),
        (
            dict(options=strategies.VaalOptions(adversarial_weight=float("nan"))),
            "adversarial_weight=nan; it must not be negative",
        ),
        (
            dict(options=strategies.VaalOptions(kl_reduction="max")),  # type: ignore
            "kl_reduction='max'; allowed are mean, sum",
        ),
        (
            dict(options=strategies.VaalOptions(decoder_condition="tanh")),  # type: ignore
            "decoder_condition='tanh'; allowed are sigmoid, raw",
        ),
        (
            dict(options=strategies.VaalOptions(vae_steps=0)),
            "vae_steps=0; it must be at least 1",
        ),
    ],
)
def test_options_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        image_strategy(**changes)


def test_a_learner_without_ranker_is_refused():
    view = image_view(predict=lambda x, key=None: Outputs(logits=jnp.zeros((1, 2))))
    with pytest.raises(ValueError, match="loss_score"):
        select(image_strategy(conditioned=True), view)


def test_epochs_must_be_positive():
    with pytest.raises(ValueError, match="epochs=0; it must be positive"):
        strategies.epochs_of(0, batch_size=2)


def test_the_losses_are_those_of_the_module():
    """(7) and (8) with their signs: fooling falls where discrimination rises."""
    labeled = jnp.array([0.5, 1.0])
    low, high = jnp.array([-2.0]), jnp.array([2.0])
    assert losses.fooling(labeled, high) < losses.fooling(labeled, low)
    assert losses.discrimination(labeled, high) > losses.discrimination(labeled, low)
