"""Statistics of stochastic passes: exact, mergeable, and computed only once."""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import given, settings
from hypothesis import strategies as st

from jal import nn
from jal._core.compile import cpu_compiler_options
from jal.predictive import (
    log_prob_passes,
    merge,
    predict_members,
    predict_passes,
    summarize,
)
from jal.types import Outputs, Predictive

INF = math.inf
KEY = jax.random.key(3)
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
# Few shapes [S, N, C], because each one compiles.
shapes = st.sampled_from([(1, 3, 2), (2, 1, 5), (7, 4, 10), (20, 4, 3)])

jitted_summarize = jax.jit(summarize)
jitted_merge = jax.jit(merge)

# Four passes, four items, three classes: certain; uncertain and changing its mind;
# noise that all passes agree on; certain of another class in each pass.
PASSES = [
    [[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]],
    [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0]],
    [[0.8, 0.1, 0.1], [0.5, 0.2, 0.3], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]],
    [[0.7, 0.2, 0.1], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.0, 1.0]],
]


def reference(logits):
    """The same statistics in float64 NumPy, in two passes over the data."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)), -1)
    votes = p.argmax(-1)[..., None] == np.arange(p.shape[-1])
    return Predictive(
        p.mean(0),
        np.square(p - p.mean(0)).sum(0),
        votes.sum(0),
        entropy.mean(0),
        np.float64(len(p)),
    )


def assert_close(a, b, tolerance=1e-5):
    for name, one, two in zip(Predictive._fields, a, b, strict=True):
        assert np.shape(one) == np.shape(two), name
        np.testing.assert_allclose(one, two, tolerance, tolerance, err_msg=name)


def assert_same(a, b):
    """Bit for bit on CPU, to rounding elsewhere."""
    if jax.default_backend() != "cpu":
        return assert_close(a, b)
    for name, one, two in zip(Predictive._fields, a, b, strict=True):
        assert np.array_equal(one, two), name


def random_logits(seed, shape, infinities=False):
    """Normal logits, so coarse that rounding changes no vote."""
    rng = np.random.default_rng(seed)
    logits = np.round(3 * rng.normal(size=shape), 2).astype(np.float32)
    if infinities:
        logits[..., 1:][rng.random((*shape[:-1], shape[-1] - 1)) < 0.3] = -INF
    return logits


# summarize


def test_the_worked_example():
    stats = jitted_summarize(jnp.log(jnp.array(PASSES)))
    mean = [[0.7, 0.2, 0.1], [0.3, 0.3875, 0.3125], [1 / 3] * 3, [0.5, 0.25, 0.25]]
    standard_deviation = [
        [0.070711, 0.070711, 0.0],
        [0.158114, 0.245904, 0.181573],
        [0.0, 0.0, 0.0],
        [0.5, 0.433013, 0.433013],
    ]
    entropy = [0.785154, 0.924871, 1.098612, 0.0]
    votes = [[4, 0, 0], [2, 1, 1], [4, 0, 0], [2, 1, 1]]
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
    close(stats.mean, mean)
    close(np.sqrt(stats.spread / stats.count), standard_deviation)
    close(stats.mean_entropy, entropy)
    assert stats.votes.tolist() == votes
    assert float(stats.count) == 4


@few
@given(seeds, shapes, st.booleans())
def test_summarize_equals_float64_numpy(seed, shape, infinities):
    logits = random_logits(seed, shape, infinities)
    stats = jitted_summarize(logits)
    assert_close(stats, reference(logits))
    assert all(leaf.dtype == jnp.float32 for leaf in stats)


@few
@given(seeds, shapes)
def test_summarize_ignores_constants_and_the_order_of_passes(seed, shape):
    rng = np.random.default_rng(seed)
    logits = random_logits(seed, shape)
    constants = rng.uniform(-50, 50, (*shape[:-1], 1)).astype(np.float32)
    stats = jitted_summarize(logits)
    assert_close(jitted_summarize(logits + constants), stats, 2e-5)
    assert_close(jitted_summarize(rng.permutation(logits)), stats)


def test_one_hot_passes_are_exact():
    one_hot = jnp.log(jnp.eye(3))[jnp.array([[0], [1], [1], [1]])]
    stats = jitted_summarize(one_hot)
    assert stats.mean.tolist() == [[0.25, 0.75, 0.0]]
    assert stats.spread.tolist() == [[0.75, 0.75, 0.0]]
    assert stats.votes.tolist() == [[1, 3, 0]]
    assert stats.mean_entropy.tolist() == [0.0]


def test_a_single_pass_has_no_spread_at_all():
    stats = jitted_summarize(random_logits(0, (1, 5, 4)))
    assert np.all(stats.spread == 0) and float(stats.count) == 1


def test_equal_passes_have_no_spread_beyond_rounding():
    logits = np.repeat(random_logits(0, (1, 5, 4)), 13, axis=0)
    stats = jitted_summarize(logits)
    assert_close(stats._replace(count=1, votes=stats.votes / 13), reference(logits[:1]))
    assert np.all(stats.spread < 1e-11)


def test_equal_logits_are_uniform_and_vote_for_the_first_class():
    stats = jitted_summarize(jnp.full((3, 2, 4), 7.0))
    np.testing.assert_allclose(stats.mean, 0.25)
    np.testing.assert_allclose(stats.mean_entropy, math.log(4), rtol=1e-6)
    assert stats.votes.tolist() == [[3, 0, 0, 0]] * 2


def test_an_undefined_prediction_spoils_only_its_own_item():
    logits = random_logits(0, (3, 4, 5))
    logits[1, 2, 0] = math.nan
    stats = jitted_summarize(logits)
    for leaf in (stats.mean.sum(-1), stats.spread.sum(-1), stats.mean_entropy):
        assert np.isnan(leaf).tolist() == [False, False, True, False]


def test_summarize_takes_any_leading_shape():
    logits = random_logits(0, (3, 2, 4, 5, 6))
    stats = jitted_summarize(logits)
    chex.assert_shape([stats.mean, stats.spread, stats.votes], (2, 4, 5, 6))
    chex.assert_shape(stats.mean_entropy, (2, 4, 5))
    assert_close(stats, reference(logits))
    one_item = jitted_summarize(logits[:, 0, 0, 0])
    assert_close(one_item, jax.tree.map(lambda v: v[0, 0, 0] if v.ndim else v, stats))


def test_summarize_asks_for_a_passes_axis():
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \[S, \.\.\., C\]"):
        summarize(jnp.zeros(3))


# merge


@few
@given(seeds, st.sampled_from([(1, 1), (1, 7), (20, 3)]), st.booleans())
def test_merging_is_summarizing_the_concatenation(seed, sizes, infinities):
    n, m = sizes
    logits = random_logits(seed, (n + m, 3, 5), infinities)
    a, b = jitted_summarize(logits[:n]), jitted_summarize(logits[n:])
    assert_close(jitted_merge(a, b), reference(logits))
    assert_close(jitted_merge(b, a), reference(logits))


@few
@given(seeds)
def test_merging_is_associative(seed):
    logits = random_logits(seed, (12, 3, 5))
    a, b, c = (jitted_summarize(logits[i]) for i in np.split(np.arange(12), [2, 5]))
    left = jitted_merge(jitted_merge(a, b), c)
    assert_close(left, jitted_merge(a, jitted_merge(b, c)), 1e-6)
    assert_close(left, reference(logits))


def test_merging_nothing_changes_nothing():
    stats = jitted_summarize(random_logits(0, (4, 3, 5)))
    nothing = jax.tree.map(jnp.zeros_like, stats)
    assert_same(jitted_merge(stats, nothing), stats)
    assert_same(jitted_merge(nothing, stats), stats)


def test_merging_needs_the_same_items():
    a, b = (jitted_summarize(random_logits(0, (4, n, 5))) for n in (1, 3))
    with pytest.raises(AssertionError):
        merge(a, b)


# Passes of small networks whose masks, with so few units, matter

X = jnp.asarray(np.random.default_rng(0).normal(size=(10, 6)), jnp.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)), jnp.float32)
INDICES = jnp.array([90, 3, 17, 5, 1000, 0, 41, 42, 7, 6])
INDEPENDENT = dict(masks="independent", indices=INDICES)
both_masks = pytest.mark.parametrize(
    "options", [{}, INDEPENDENT], ids=["shared", "independent"]
)


def linear(x, key):
    """A plain function, quick to compile: dropout of the inputs of a linear layer."""
    return Outputs(logits=(x * jax.random.bernoulli(key, 0.5, (1, 6))) @ WEIGHTS)


class Folded(linen.Module):
    """Dropout before both layers, in scoring form: a batch has one mask."""

    @linen.compact
    def __call__(self, x, *, train=False, stochastic=False):
        modes = dict(train=train, stochastic=stochastic)
        x = linen.relu(nn.DropoutDense(16, 0.3)(x, **modes))
        return Outputs(logits=nn.DropoutDense(4, 0.5)(x, **modes))


class Stock(linen.Module):
    """Flax's own dropout, which given a batch draws a mask for every row."""

    @linen.compact
    def __call__(self, x, *, train=False, stochastic=False):
        x = linen.Dropout(0.5, deterministic=not stochastic)(
            linen.relu(linen.Dense(16)(x))
        )
        return Outputs(logits=linen.Dense(4)(x))


@functools.cache
def network(module):
    """(x, key=None) -> Outputs of an untrained network."""
    init, apply = nn.from_linen(module, X)
    params, state = jax.jit(init)(jax.random.key(0))
    return lambda x, key=None: apply(params, state, x, key, False)[0]


every_network = pytest.mark.parametrize(
    "predict", [network(Folded()), network(Stock())], ids=["folded", "stock"]
)


@functools.cache
def compiled(function, predict, num_samples, *settings):
    """`function` compiled once for each setting; the indices are an argument."""

    def call(key, x, indices):
        return function(predict, key, x, num_samples, indices=indices, **dict(settings))

    return jax.jit(call)


def passes(function, num_samples, options=None, *, predict=linear, x=X, key=KEY):
    options = dict(options or {})
    indices = options.pop("indices", jnp.arange(jax.tree.leaves(x)[0].shape[0]))
    return compiled(function, predict, num_samples, *options.items())(key, x, indices)


@pytest.mark.parametrize("num_samples", [1, 7, 13, 20, 21, 30, 40, 47])
def test_statistics_are_those_of_the_log_probabilities(num_samples):
    # One, two and three groups, of all sizes, and with a smaller one at the end.
    log_p = passes(log_prob_passes, 47)
    chex.assert_shape(log_p, (47, 10, 4))
    stats = passes(predict_passes, num_samples)
    assert_close(stats, reference(log_p[:num_samples]))
    assert np.max(stats.spread) > 1e-3 or num_samples == 1


def test_statistics_of_a_network_in_groups_and_batches():
    predict = network(Folded())
    stats = passes(predict_passes, 40, {"batch_size": 4}, predict=predict)
    assert_close(stats, reference(passes(log_prob_passes, 40, predict=predict)))


def test_statistics_of_independent_masks():
    log_p = passes(log_prob_passes, 7, INDEPENDENT)
    assert_close(passes(predict_passes, 7, INDEPENDENT), reference(log_p))


@every_network
@both_masks
def test_pass_s_is_the_prediction_with_its_own_key(predict, options):
    # Of each item alone, also for a module that given a batch draws several masks.
    log_p = passes(log_prob_passes, 7, options, predict=predict)
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, rtol=1e-5)
    one = jax.jit(lambda item, key: jax.nn.log_softmax(predict(item, key).logits)[0])
    for s in range(7):
        for i in range(len(X)):
            key = jax.random.fold_in(KEY, s)
            if options:
                key = jax.random.fold_in(key, INDICES[i])
            np.testing.assert_allclose(log_p[s, i], one(X[i : i + 1], key), atol=1e-5)


def test_a_folded_mask_is_that_of_the_whole_batch():
    predict = network(Folded())
    log_p = passes(log_prob_passes, 7, predict=predict)
    one = jax.jit(lambda x, key: jax.nn.log_softmax(predict(x, key).logits))
    for s in range(7):
        whole = one(X, jax.random.fold_in(KEY, s))
        np.testing.assert_allclose(log_p[s], whole, atol=1e-5)


@every_network
def test_only_shared_masks_are_shared(predict):
    same = jnp.repeat(X[:1], 10, axis=0)
    shared = passes(log_prob_passes, 7, predict=predict, x=same)
    np.testing.assert_allclose(shared, shared[:, :1].repeat(10, 1), atol=1e-6)
    assert np.ptp(shared, axis=0).max() > 1e-2
    own = passes(log_prob_passes, 7, INDEPENDENT, predict=predict, x=same)
    assert all(np.ptp(one, axis=0).max() > 1e-2 for one in own)


@pytest.mark.parametrize(
    "batch_size, options", [(1, {}), (3, {}), (5, {}), (99, {}), (3, INDEPENDENT)]
)
def test_batch_size_changes_nothing(batch_size, options):
    # But for rounding: how a matrix product adds up depends on its number of rows.
    whole = passes(predict_passes, 7, options)
    cut = passes(predict_passes, 7, options | {"batch_size": batch_size})
    assert_close(cut, whole, 2e-6)


def of_items(take, stats):
    """The statistics of some of the items."""
    return jax.tree.map(lambda leaf: leaf[take] if leaf.ndim else leaf, stats)


@both_masks
def test_a_pool_cut_by_the_caller_gives_the_same(options):
    whole = passes(predict_passes, 7, options)
    for take in (slice(0, 5), slice(5, 10)):
        own = options | {"indices": INDICES[take]}
        part = passes(predict_passes, 7, own, x=X[take])
        assert_close(part, of_items(take, whole), 2e-6)


@both_masks
def test_the_order_of_the_items_does_not_matter(options):
    order = np.random.default_rng(1).permutation(10)
    moved = options | {"indices": INDICES[order]}
    stats = passes(predict_passes, 7, moved, x=X[order])
    assert_close(stats, of_items(order, passes(predict_passes, 7, options)), 2e-6)


def test_independent_masks_follow_the_index_not_the_position():
    here = passes(predict_passes, 7, INDEPENDENT)
    there = passes(predict_passes, 7, INDEPENDENT | {"indices": INDICES + 1})
    assert np.all(np.abs(here.mean - there.mean).max(-1) > 1e-4)
    # For shared masks the index means nothing.
    shared = passes(predict_passes, 7, {"indices": INDICES})
    assert_same(shared, passes(predict_passes, 7))


def test_jit_equals_eager():
    eager = predict_passes(linear, KEY, X, 7)
    assert_close(eager, passes(predict_passes, 7))


def test_passes_under_vmap_over_keys():
    keys = jax.random.split(KEY, 3)
    score = lambda key: predict_passes(linear, key, X, 21)
    over_keys = jax.jit(jax.vmap(score))(keys)
    for i, key in enumerate(keys):
        one = passes(predict_passes, 21, key=key)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], over_keys), one)


def test_other_keys_give_other_passes():
    one, two = (passes(predict_passes, 7, key=key) for key in jax.random.split(KEY))
    assert np.abs(one.mean - two.mean).max() > 1e-3


def test_inputs_may_be_a_pytree():
    together = lambda x: jnp.concatenate([x["a"], x["b"]], axis=-1)
    predict = lambda x, key: linear(together(x), key)
    inputs = {"a": X[:, :2], "b": X[:, 2:]}
    stats = passes(predict_passes, 7, {"batch_size": 4}, predict=predict, x=inputs)
    assert_close(stats, passes(predict_passes, 7))


@pytest.mark.parametrize("function", [predict_passes, log_prob_passes])
def test_wrong_arguments_are_named(function):
    for num_samples in (0, -1):
        with pytest.raises(ValueError, match=f"num_samples={num_samples}; at least"):
            function(linear, KEY, X, num_samples)
    with pytest.raises(ValueError, match="masks='both'; allowed are \"shared\" and"):
        function(linear, KEY, X, 2, masks="both")
    with pytest.raises(ValueError, match='masks="independent" needs indices'):
        function(linear, KEY, X, 2, masks="independent")


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_wrong_batch_size_is_named(batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size}; it must be at"):
        predict_passes(linear, KEY, X, 2, batch_size=batch_size)


# Members of an ensemble


@pytest.mark.parametrize("members", [1, 3, 47])
def test_members_equal_a_loop(members):
    rng = np.random.default_rng(0)
    variables = {
        "kernel": jnp.asarray(rng.normal(size=(members, 6, 4)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=(members, 4)), jnp.float32),
    }

    def predict(variables, x):
        return Outputs(logits=x @ variables["kernel"] + variables["bias"][None])

    stats = jax.jit(lambda v, x: predict_members(predict, v, x))(variables, X)
    logits = [
        predict(jax.tree.map(lambda v, s=s: v[s], variables), X).logits
        for s in range(members)
    ]
    assert_close(stats, reference(logits))


def test_a_model_without_logits_is_named():
    silent = lambda *_: Outputs(value=jnp.zeros(10))
    calls = (
        lambda: predict_passes(silent, KEY, X, 2),
        lambda: log_prob_passes(silent, KEY, X, 2),
        lambda: predict_members(silent, jnp.zeros((2, 1)), X),
    )
    for call in calls:
        with pytest.raises(ValueError, match="returned no logits, only"):
            call()


# What is computed, and how often


def convolved(jaxpr):
    """Sum of the output sizes of all convolutions of a jaxpr and of those in it."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            total += sum(math.prod(out.aval.shape) for out in equation.outvars)
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr"),
        ):
            inner = getattr(value, "jaxpr", value)
            total += convolved(inner) if hasattr(inner, "eqns") else 0
    return total


def convolution_depths(program):
    """For each convolution of an HLO text, how many `while` bodies it is in."""
    lines, entry, computation = {}, None, None
    for line in program.splitlines():
        opening = re.match(r"(ENTRY )?%([\w.\-]+) \(.*\{$", line)
        if opening:
            computation = opening[2]
            lines[computation] = []
            entry = computation if opening[1] else entry
        elif computation:
            lines[computation].append(re.sub(r"metadata=\{.*", "", line))
    is_convolution = re.compile(r' convolution\(|custom_call_target="[^"]*conv', re.I)

    def depths(computation, depth):
        for line in lines[computation]:
            if is_convolution.search(line):
                yield depth
            for called in re.findall(r"%([\w.\-]+)", line):
                if called in lines:
                    in_loop = f"body=%{called}" in line
                    yield from depths(called, depth + in_loop)

    return sorted(depths(entry, 0))


def scorer(module, function, num_samples, num_items, side=28, **options):
    """(score, its arguments as shapes) of an untrained convolutional network."""
    x = jax.ShapeDtypeStruct((num_items, side, side, 1), jnp.float32)
    init, apply = nn.from_linen(module, x)
    params, state = jax.eval_shape(init, KEY)

    def score(params, key, x):
        predict = lambda x, key=None: apply(params, state, x, key, False)[0]
        return function(predict, key, x, num_samples, **options)

    return score, (params, KEY, x)


def traced_convolutions(module, num_samples, num_items, side):
    score, inputs = scorer(module, log_prob_passes, num_samples, num_items, side)
    return convolved(jax.make_jaxpr(score)(*inputs).jaxpr)


@functools.cache
def gal_program(num_samples, num_items, **options):
    """`predict_passes` of the Gal CNN, compiled as it is meant to be."""
    module = nn.GalCNN()
    score, inputs = scorer(module, predict_passes, num_samples, num_items, **options)
    score = jax.jit(score, compiler_options=cpu_compiler_options())
    return score.lower(*inputs).compile()


def test_the_traced_scorer_convolves_once_however_many_passes():
    # Two convolutions: 28 - 3 = 25 and 25 - 3 = 22 wide, of 32 channels.
    once = 8 * 32 * (25**2 + 22**2)
    for num_samples in (1, 100):
        assert traced_convolutions(nn.GalCNN(), num_samples, 8, 28) == once


def test_dropout_before_a_convolution_convolves_every_pass():
    # What the test above must be able to see.
    class Early(linen.Module):
        @linen.compact
        def __call__(self, x, *, train=False, stochastic=False):
            x = linen.Dropout(0.5, deterministic=not stochastic)(x)
            own = nn.conv_general_dilated
            x = linen.Conv(2, (3, 3), conv_general_dilated=own)(x)
            return Outputs(logits=x.mean((1, 2)))

    assert traced_convolutions(Early(), 1, 4, 6) == 4 * 6 * 6 * 2
    assert traced_convolutions(Early(), 100, 4, 6) == 100 * 4 * 6 * 6 * 2


def test_the_parser_finds_convolutions_in_loops():
    image, kernel = jnp.ones((1, 8, 8, 2)), jnp.ones((3, 3, 2, 2))
    layout = ("NHWC", "HWIO", "NHWC")
    convolve = lambda x: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=layout
    )
    repeat = lambda f: lambda x: jax.lax.scan(lambda x, _: (f(x), None), x, None, 3)[0]

    def depths(function):
        options = cpu_compiler_options()
        compiled = jax.jit(function, compiler_options=options).lower(image).compile()
        return convolution_depths(compiled.as_text())

    assert depths(jnp.sin) == []
    assert depths(convolve) == [0]
    assert depths(lambda x: convolve(repeat(convolve)(x))) == [0, 1]
    assert depths(repeat(repeat(convolve))) == [2]


def test_no_loop_of_the_compiled_scorer_holds_a_convolution():
    program = gal_program(100, 200).as_text()
    assert " while(" in program
    assert convolution_depths(program) == [0, 0]


def test_a_smaller_last_group_does_not_convolve_again():
    assert convolution_depths(gal_program(47, 8).as_text()) == [0, 0]


def test_a_scorer_in_batches_convolves_once_a_batch():
    assert convolution_depths(gal_program(100, 8, batch_size=4).as_text()) == [1, 1]


def test_memory_does_not_grow_with_the_number_of_passes():
    sizes = []
    for num_samples in (20, 100, 500):
        analysis = gal_program(num_samples, 200).memory_analysis()
        if analysis is None:
            pytest.skip("this backend does not tell how much memory a program takes")
        sizes.append(analysis.temp_size_in_bytes)
    assert max(sizes) <= 1.5 * min(sizes), sizes


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("num_samples", [1, 7, 10, 23])
def test_an_item_without_probabilities_stays_nan_and_alone(bad, num_samples):
    logits = jax.random.normal(jax.random.key(0), (num_samples, 3, 4))
    summary = summarize(logits.at[num_samples // 2, 1, 2].set(bad))
    for name in ("mean", "spread", "votes", "mean_entropy"):
        field, whole = getattr(summary, name), summarize(logits)
        assert jnp.all(jnp.isnan(field[1])), name
        expected = getattr(whole, name)[jnp.array([0, 2])]
        np.testing.assert_array_equal(field[jnp.array([0, 2])], expected)


@pytest.mark.parametrize(
    "shape", [(23, 50_001, 5), (3, 60_000, 9), (12, 1, 2), (21, 7, 3)]
)
def test_summaries_of_all_sizes_of_groups(shape):
    logits = 3 * np.random.default_rng(1).normal(size=shape).astype(np.float32)
    logits[0, 0, 0] = -np.inf
    got = jax.jit(summarize)(jnp.asarray(logits))
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    log_p = np.log(np.where(p > 0, p, 1))
    np.testing.assert_allclose(got.mean, p.mean(0), atol=1e-6)
    np.testing.assert_allclose(got.spread, shape[0] * p.var(0), atol=2e-6)
    np.testing.assert_allclose(
        got.mean_entropy, -(p * log_p).sum(-1).mean(0), atol=2e-6
    )
    modes = p.argmax(-1)[..., None] == np.arange(shape[-1])
    np.testing.assert_array_equal(got.votes, modes.sum(0))
    assert got.count == shape[0]
