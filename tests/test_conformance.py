"""What every strategy promises, whatever it chooses by."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import acquisition, learners, loop, pool, scorers, strategies
from jal.types import Data, Outputs, Picks, View

KEY = jax.random.key(0)
N, PIXELS, CLASSES, M, K = 40, 6, 3, 20, 4
LABELED = jnp.array([2, 11, 30, 7])


def adversarial(conditioned):
    """Linear encoder and decoder, and a linear discriminator."""
    encode = lambda params, state, x, train: (x @ params, jnp.zeros((len(x), 2)))

    def autoencode(params, state, x, condition, key):
        mean, log_variance = encode(params, state, x, True)
        z = mean + jax.random.normal(key, mean.shape)
        shift = 0.0 if condition is None else condition[:, None]
        return (mean, log_variance, z @ params.T + shift), state

    def discriminate(params, z, condition):
        return z @ params + (0.0 if condition is None else condition)

    assemble = strategies.ta_vaal if conditioned else strategies.vaal
    return assemble(
        strategies.Autoencoder(
            lambda key: (0.1 * jax.random.normal(key, (PIXELS, 2)), ()),
            encode,
            autoencode,
        ),
        strategies.Adversary(lambda key: jax.random.normal(key, (2,)), discriminate),
        steps=3,
        batch_size=4,
        prepare=lambda x: x,
    )


STRATEGIES = {
    "random": strategies.random(),
    "from_scores": strategies.from_scores(scorers.passes(acquisition.bald, 5)),
    "learning_loss": strategies.learning_loss(),
    "margin": strategies.margin(),
    "marg_div": strategies.margin(diversify=True),
    "rand_div": strategies.rand_div(),
    "alamp": strategies.alamp(),
    "alamp_div": strategies.alamp(diversify=True, batch_size=7),
    "class_balanced": strategies.class_balanced(batch_size=7),
    "coreset": strategies.k_center(),
    "typical": strategies.typical(),
    "badge": strategies.badge(),
    "batch_bald": strategies.batch_bald(num_samples=5, num_configurations=9),
    "vaal": adversarial(False),
    "ta_vaal": adversarial(True),
}
every_strategy = pytest.mark.parametrize("name", STRATEGIES)


def init(key):
    return jax.random.normal(key, (PIXELS, CLASSES)), ()


def apply(weights, state, x, key=None, train=False, trunk_gradient=1.0):
    """A linear model with dropout on its inputs, and a ranker of sorts."""
    mask = 1.0
    if key is not None:
        mask = 2.0 * jax.random.bernoulli(key, 0.5, (x.shape[-1],))[None]
    outputs = Outputs(
        logits=(x * mask) @ weights, features=x, loss_score=x @ weights[:, 0]
    )
    return outputs, state


LEARNER = learners.supervised(init, apply, optax.adam(0.05), steps=4, batch_size=8)


def make_data(seed=0) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, PIXELS)).astype(np.float32)
    return Data(jnp.asarray(x), jnp.asarray(rng.integers(0, CLASSES, N)))


def make_view(data=None, available=None, seed=0) -> View:
    data = make_data() if data is None else data
    labeled = pool.add(pool.create(N, len(LABELED) + K), LABELED)
    order = np.random.default_rng(seed).permutation(N)
    candidates = order[~np.isin(order, LABELED)][:M].astype(np.int32)
    if available is None:
        available = np.arange(M) % 5 != 1
    seen = pool.hide(data, labeled)
    weights = init(jax.random.key(7))
    return View(
        jax.tree_util.Partial(LEARNER.predict, learners.Variables(*weights)),
        seen,
        labeled,
        jnp.asarray(candidates),
        jnp.asarray(available),
    )


def choose(name, view, key=KEY, k=K) -> Picks:
    strategy = STRATEGIES[name]
    state = strategy.init(key, view.data, view.pool)
    result, after = jax.jit(strategy.select, static_argnums=3)(key, state, view, k)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    return result


@every_strategy
def test_picks_are_distinct_and_available(name):
    view = make_view()
    result = choose(name, view)
    assert result.indices.shape == (K,) and result.indices.dtype == jnp.int32
    picks = result.indices.tolist()
    assert len(set(picks)) == K
    assert set(picks) <= set(np.asarray(view.candidates)[view.available].tolist())
    assert result.scores is None or result.scores.shape == (M,)


@every_strategy
@pytest.mark.parametrize("number", [0, 2])
def test_fewer_than_k(name, number):
    view = make_view(available=np.arange(M) < number)
    picks = choose(name, view).indices.tolist()
    assert set(picks[:number]) == set(view.candidates[:number].tolist())
    assert picks[number:] == [-1] * (K - number)


@every_strategy
def test_the_same_key_makes_the_same_picks(name):
    chex.assert_trees_all_equal(choose(name, make_view()), choose(name, make_view()))


@every_strategy
def test_what_was_not_bought_cannot_be_known(name):
    """Other labels of the unlabelled items, and the picks stay."""
    data = make_data()
    others = jnp.where(jnp.isin(jnp.arange(N), LABELED), data.y, (data.y + 1) % CLASSES)
    results = [
        choose(name, make_view(data=changed)).indices.tolist()
        for changed in (data, data._replace(y=others))
    ]
    assert results[0] == results[1]


@every_strategy
def test_vmap_over_seeds(name):
    strategy, view = STRATEGIES[name], make_view()
    keys = jax.random.split(KEY, 3)
    select = lambda key: strategy.select(
        key, strategy.init(key, view.data, view.pool), view, K
    )[0]
    together = jax.jit(jax.vmap(select))(keys)
    for number, key in enumerate(keys):
        alone = choose(name, view, key)
        # A network that was trained rounds otherwise, so that ties may swap.
        assert together.indices.shape == (3, K)
        if alone.scores is None:
            assert together.indices[number].tolist() == alone.indices.tolist()
        else:
            np.testing.assert_allclose(
                together.scores[number], alone.scores, rtol=1e-3, atol=1e-4
            )


@every_strategy
def test_it_runs_in_the_loop(name):
    """One compilation for all rounds; the picks of each are new."""
    chex.clear_trace_counter()
    strategy = STRATEGIES[name]

    def select(key, state, view, k):
        return strategy.select(key, state, view, k)

    counted = strategy._replace(select=chex.assert_max_traces(select, n=2))
    state, infos = jax.jit(
        lambda key, data: loop.run(
            key,
            LEARNER,
            counted,
            data,
            initial=LABELED,
            k=K,
            rounds=3,
            propose=pool.random_subset(M),
        )
    )(KEY, make_data())
    assert len(set(state.pool.order.tolist())) == len(LABELED) + 3 * K
    assert infos.num_nan.tolist() == [0] * 4
