"""The same loop runs models of Linen, NNX, Equinox and of no library.

Each recipe makes a model into what `learners.supervised` takes, in eight lines or less.
"""

import ast
import functools
import inspect

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from sklearn.datasets import load_digits

from jal import acquisition, learners, loop, pool, scorers, strategies
from jal._core.compile import cpu_compiler_options
from jal.types import Data, Outputs

KEY = jax.random.key(0)
PIXELS, HIDDEN, CLASSES, RATE = 64, 32, 10, 0.25
INITIAL, K, ROUNDS, CANDIDATES = 20, 10, 3, 100


# --- recipes -------------------------------------------------------------------------


def from_linen(module, example):
    def apply(params, state, x, key=None, train=False):
        rngs = None if key is None else {"dropout": key}
        logits = module.apply({"params": params}, x, key is None, rngs=rngs)
        return Outputs(logits=logits), state

    return lambda key: (module.init(key, example, True)["params"], ()), apply


def from_nnx(make):
    graph = nnx.split(make(nnx.Rngs(0)), nnx.Param, ...)[0]

    def apply(params, state, x, key=None, train=False):
        model = nnx.merge(graph, params, state, copy=True)
        rngs = None if key is None else nnx.Rngs(key)
        outputs = Outputs(logits=model(x, train=train, rngs=rngs))
        return outputs, nnx.state(model, nnx.Not(nnx.Param))

    return lambda key: nnx.split(make(nnx.Rngs(key)), nnx.Param, ...)[1:], apply


def from_equinox(make):
    static = eqx.partition(make(jax.random.key(0)), eqx.is_inexact_array)[1]

    def apply(params, state, x, key=None, train=False):
        model = eqx.nn.inference_mode(eqx.combine(params, static), key is None)
        keys = None if key is None else jax.random.split(key, len(x))
        return Outputs(logits=jax.vmap(model)(x, keys)), state

    return lambda key: (eqx.filter(make(key), eqx.is_inexact_array), ()), apply


# --- the same network four times -----------------------------------------------------


class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic):
        x = linen.relu(linen.Dense(HIDDEN)(x))
        x = linen.Dropout(RATE)(x, deterministic=deterministic)
        return linen.Dense(CLASSES)(x)


class NNXNetwork(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(PIXELS, HIDDEN, rngs=rngs)
        self.norm = nnx.BatchNorm(HIDDEN, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(RATE)
        self.second = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x, train, rngs):
        x = self.norm(self.first(x), use_running_average=not train)
        x = self.dropout(nnx.relu(x), deterministic=rngs is None, rngs=rngs)
        return self.second(x)


class EquinoxNetwork(eqx.Module):
    first: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    second: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.first = eqx.nn.Linear(PIXELS, HIDDEN, key=first)
        self.dropout = eqx.nn.Dropout(RATE)
        self.second = eqx.nn.Linear(HIDDEN, CLASSES, key=second)

    def __call__(self, x, key):
        return self.second(self.dropout(jax.nn.relu(self.first(x)), key=key))


def plain_functions():
    def init(key):
        first, second = jax.random.split(key)
        params = {
            "first": jax.random.normal(first, (PIXELS, HIDDEN)) / 8,
            "second": jax.random.normal(second, (HIDDEN, CLASSES)) / 6,
        }
        return params, ()

    def apply(params, state, x, key=None, train=False):
        x = jax.nn.relu(x @ params["first"])
        if key is not None:
            x *= jax.random.bernoulli(key, 1 - RATE, x.shape) / (1 - RATE)
        return Outputs(logits=x @ params["second"]), state

    return init, apply


MODELS = {
    "linen": lambda: from_linen(LinenNetwork(), jnp.zeros((1, PIXELS))),
    "nnx": lambda: from_nnx(NNXNetwork),
    "equinox": lambda: from_equinox(EquinoxNetwork),
    "plain": plain_functions,
}
every_model = pytest.mark.parametrize("name", MODELS)


@functools.cache
def make_data() -> Data:
    x, y = load_digits(return_X_y=True)
    x, y = np.asarray(x / 16, np.float32), np.asarray(y, np.int32)
    return jax.device_put(Data(x[:400], y[:400], test=(x[400:800], y[400:800])))


@functools.cache
def model(name: str):
    return MODELS[name]()


# --- tests ---------------------------------------------------------------------------


@every_model
def test_one_scan_trains_scores_and_learns(name):
    chex.clear_trace_counter()
    data = make_data()
    learner = learners.supervised(
        *model(name), optax.adam(1e-2), steps=100, batch_size=32, restart=False
    )
    learner = learner._replace(fit=chex.assert_max_traces(learner.fit, n=1))
    strategy = strategies.from_scores(scorers.passes(acquisition.bald, 10))

    def run(key, data):
        return loop.run(
            key,
            learner,
            strategy,
            data,
            initial=jnp.arange(INITIAL),
            k=K,
            rounds=ROUNDS,
            propose=pool.random_subset(CANDIDATES),
            evaluate=learners.accuracy(learner),
            observe=lambda data, view, chosen: (view.candidates, chosen.scores),
        )

    state, infos = jax.jit(run, compiler_options=cpu_compiler_options())(KEY, data)
    accuracy = infos.metrics["accuracy"]
    assert accuracy[-1] > 0.6 and accuracy[-1] > accuracy[0]
    assert infos.fit["loss"][-1] < 0.5
    order = state.pool.order.tolist()
    assert len(set(order)) == INITIAL + ROUNDS * K == int(state.pool.count)
    assert order[:INITIAL] == list(range(INITIAL))
    for picks, (candidates, scores) in zip(
        infos.indices[:-1], zip(*infos.observed, strict=True), strict=False
    ):
        best = np.argsort(-scores, kind="stable")[:K]
        assert picks.tolist() == candidates[best].tolist()
        assert 0 < scores.max() <= np.log(CLASSES) and len(set(scores.tolist())) > K


@every_model
def test_without_a_key_deterministic_with_one_a_mask_for_all_items(name):
    init, apply = model(name)
    params, state = jax.jit(init)(KEY)
    x = np.asarray(make_data().x[:5])
    apply = jax.jit(apply, static_argnames="train")
    logits = lambda x, key: apply(params, state, x, key=key, train=False)[0].logits
    np.testing.assert_array_equal(logits(x, None), logits(x, None))
    assert (logits(x, KEY) != logits(x, None)).any()
    assert (logits(x, KEY) != logits(x, jax.random.key(1))).any()
    # As `predict_passes` calls it: item by item with one key, the masks are shared.
    same = np.stack([x[0], x[0]])
    by_item = jax.vmap(lambda item: logits(item[None], KEY)[0])(same)
    np.testing.assert_array_equal(by_item[0], by_item[1])
    # In training each row of a batch has its own.
    batch = np.concatenate([same, x[1:4]])
    trained, _ = apply(params, state, batch, key=KEY, train=True)
    assert (trained.logits[0] != trained.logits[1]).any()


def test_running_averages_are_learned_and_not_trained():
    """NNX's batch normalisation: its state changes in training and only there."""
    init, apply = model("nnx")
    params, state = jax.jit(init)(KEY)
    x = np.asarray(make_data().x[:50])
    apply = jax.jit(apply, static_argnames="train")
    _, after = apply(params, state, x, key=None, train=True)
    kernel, bias = (np.asarray(params["first"][of][...]) for of in ("kernel", "bias"))
    hidden = x @ kernel + bias[None]
    np.testing.assert_allclose(
        after["norm"]["mean"][...], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6
    )
    _, unchanged = apply(params, state, x, key=KEY, train=False)
    chex.assert_trees_all_equal(unchanged, state)
    assert "mean" not in params["norm"]
    # Nor does it depend on the rest of the batch where items are scored.
    predict = lambda x: apply(params, after, x)[0].logits
    np.testing.assert_allclose(predict(x)[:1], predict(x[:1]), rtol=1e-5)


@pytest.mark.parametrize("recipe", [from_linen, from_nnx, from_equinox])
def test_a_recipe_has_eight_lines(recipe):
    (function,) = ast.parse(inspect.getsource(recipe)).body
    body = "\n".join(ast.unparse(statement) for statement in function.body)
    assert len([line for line in body.splitlines() if line.strip()]) <= 8
    source = inspect.getsource(recipe).splitlines()[1:]
    assert len([line for line in source if line.strip()]) <= 8
