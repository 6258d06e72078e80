"""Entropies, moment merging and the masked top-k against float64 NumPy and Python."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jal._core import numerics

NAN, INF = math.nan, math.inf
few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)

of_probabilities = jax.jit(numerics.entropy_of_probabilities)
of_log_probabilities = jax.jit(numerics.entropy_of_log_probabilities)
merge_moments = jax.jit(numerics.merge_moments)
top_k = jax.jit(numerics.masked_top_k, static_argnums=1)


def float64_entropy(p):
    """-sum of p ln p over the non-zero entries."""
    p = np.asarray(p, np.float64)
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1)


def random_probabilities(seed, shape, temperature=1.0):
    """Rows that sum to 1, with exact zeros and, now and then, a one-hot row."""
    rng = np.random.default_rng(seed)
    p = np.exp(temperature * rng.normal(size=shape)) * (rng.random(shape) < 0.7)
    p[..., 0] += p.sum(-1) == 0
    return p / p.sum(-1, keepdims=True)


# Entropies


@few
@given(seeds, st.sampled_from([0.1, 1.0, 10.0]), st.sampled_from([(6, 2), (2, 3, 10)]))
def test_entropies_equal_float64_numpy(seed, temperature, shape):
    p = random_probabilities(seed, shape, temperature)
    expected = float64_entropy(p)
    assert np.allclose(of_probabilities(jnp.asarray(p, jnp.float32)), expected, 0, 2e-6)
    with np.errstate(divide="ignore"):
        log_p = jnp.asarray(np.log(p), jnp.float32)
    assert np.allclose(of_log_probabilities(log_p), expected, 0, 2e-6)


@pytest.mark.parametrize("classes", [1, 10])
def test_entropies_of_one_hot_rows_are_positive_zero(classes):
    one_hot = jnp.eye(classes)
    for transform in (lambda f: f, jax.jit, lambda f: jax.jit(jax.vmap(f))):
        for scores in (
            transform(numerics.entropy_of_probabilities)(one_hot),
            transform(numerics.entropy_of_log_probabilities)(jnp.log(one_hot)),
            transform(numerics.entropy_of_log_probabilities)(-0.0 * one_hot),
        ):
            assert scores.shape == (classes,)
            assert not np.any(np.signbit(scores))
            assert np.all(scores == 0)


@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_entropy_of_the_uniform_row_is_the_logarithm_of_c(classes):
    p = jnp.full(classes, 1 / classes)
    for h in (of_probabilities(p), of_log_probabilities(jnp.log(p))):
        assert h.shape == () and math.isclose(h, math.log(classes), rel_tol=1e-6)


def test_entropies_never_fall_below_zero():
    # Sums of p are a rounding error above 1 here, which makes -p ln p negative.
    above = jnp.nextafter(jnp.float32(1), jnp.float32(2))
    rows = jnp.array([[1.0, 0.0], [0.0, above], [above, 1e-30]])
    for h in (of_probabilities(rows), of_log_probabilities(jnp.log(rows))):
        assert not np.any(np.signbit(h)) and np.all(h < 1e-6)


def test_the_smallest_probabilities_neither_vanish_nor_become_nan():
    tiny = float(jnp.finfo(jnp.float32).tiny)
    p = jnp.array([[1.0, tiny], [1.0, 0.0]])
    assert np.allclose(of_probabilities(p), float64_entropy(p), rtol=1e-5, atol=0)
    log_p = jnp.array([[0.0, -80.0], [0.0, -1e30]])
    expected = [80 * math.exp(-80), 0.0]
    assert np.allclose(of_log_probabilities(log_p), expected, rtol=1e-5, atol=0)


def test_entropies_keep_nan_to_its_own_row():
    rows = jnp.array([[0.5, 0.5], [NAN, 1.0], [1.0, 0.0]])
    assert np.isnan(of_probabilities(rows)).tolist() == [False, True, False]
    assert np.isnan(of_log_probabilities(rows)).tolist() == [False, True, False]


# Moments


def moments(samples, dtype=jnp.float32):
    """(count, mean, sum of squared deviations) over the first axis, in float64."""
    samples = np.asarray(samples, np.float64)
    if not len(samples):
        zeros = jnp.zeros(samples.shape[1:], dtype)
        return jnp.zeros((), dtype), zeros, zeros
    mean = samples.mean(0)
    spread = np.square(samples - mean).sum(0)
    return tuple(jnp.asarray(v, dtype) for v in (len(samples), mean, spread))


@few
@given(seeds, st.integers(1, 50), st.integers(1, 50))
def test_merged_moments_are_those_of_the_concatenation(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 4)), rng.normal(3, 2, size=(m, 4))
    both = np.concatenate([a, b])
    count, mean, spread = merge_moments(*moments(a), *moments(b))
    assert float(count) == n + m
    assert np.allclose(mean, both.mean(0), rtol=1e-5, atol=1e-6)
    assert np.allclose(spread / count, both.var(0), rtol=1e-5, atol=1e-6)


@few
@given(seeds, st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_merging_moments_is_associative_and_commutative(seed, sizes):
    rng = np.random.default_rng(seed)
    a, b, c = (moments(rng.normal(size=(n, 4))) for n in sizes)
    left = merge_moments(*merge_moments(*a, *b), *c)
    right = merge_moments(*a, *merge_moments(*b, *c))
    swapped = merge_moments(*c, *merge_moments(*b, *a))
    for other in (right, swapped):
        for one, two in zip(left, other, strict=True):
            assert np.allclose(one, two, rtol=1e-5, atol=1e-6)


def test_an_empty_set_is_exactly_neutral():
    some = moments(np.random.default_rng(0).normal(size=(7, 4)))
    empty = moments(np.zeros((0, 4)))
    for merged in (merge_moments(*some, *empty), merge_moments(*empty, *some)):
        for one, two in zip(merged, some, strict=True):
            assert np.array_equal(one, two)
    for value in merge_moments(*empty, *empty):
        assert np.all(value == 0)


@pytest.mark.parametrize("x64, mean, sd", [(False, 1e2, 1e-3), (True, 1e4, 1e-3)])
def test_merged_spread_does_not_cancel(x64, mean, sd):
    with jax.enable_x64(x64):
        dtype = jnp.float64 if x64 else jnp.float32
        # What is merged is what the type can hold, so that rounding is merge's alone.
        rng = np.random.default_rng(0)
        samples = np.asarray(rng.normal(mean, sd, 200), dtype).astype(np.float64)
        groups = np.split(samples, 10)
        count, _, spread = functools.reduce(
            lambda a, b: merge_moments(*a, *b), [moments(g, dtype) for g in groups]
        )
        assert spread.dtype == dtype
        merged = float(spread / count)
        x = jnp.asarray(samples, dtype)
        naive = float(jnp.mean(x * x) - jnp.mean(x) ** 2)
    expected = np.var(samples)
    assert abs(merged - expected) < 1e-3 * expected
    assert abs(naive - expected) > 1e-2 * expected


# Top-k


def best_first(scores, k, available=None):
    """Positions by Python's stable sort; NaN is not on the table."""
    usable = [
        i
        for i, score in enumerate(scores)
        if score == score and (available is None or available[i])
    ]
    ranked = sorted(usable, key=lambda i: -scores[i])
    return (ranked + [-1] * k)[:k]


SPECIAL = st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0, 1.0, -2.0])
FLOATS = SPECIAL | st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
INTEGERS = st.sampled_from([-(2**31), -(2**31) + 1, 2**24, 2**24 + 1, 2**31 - 1])


@few
@given(st.data(), st.sampled_from([(1, 1), (8, 8), (8, 3), (33, 2)]), st.booleans())
def test_top_k_equals_a_stable_sort(data, sizes, masked):
    n, k = sizes
    available = None
    if masked:
        available = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    for element, dtype in (
        (FLOATS, jnp.float32),
        (INTEGERS | st.integers(-3, 3), jnp.int32),
        (st.sampled_from([0, 1, 2, 2**24, 2**24 + 1, 2**32 - 1]), jnp.uint32),
    ):
        scores = data.draw(st.lists(element, min_size=n, max_size=n))
        picks = top_k(jnp.asarray(np.array(scores, dtype)), k, available=available)
        assert picks.dtype == jnp.int32
        assert picks.tolist() == best_first(scores, k, available)


@pytest.mark.parametrize("n, k", [(50, 2), (1000, 10), (1001, 7), (900, 100), (30, 0)])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_top_k_by_groups_equals_a_stable_sort(n, k, levels):
    rng = np.random.default_rng(n + levels)
    for _ in range(5):
        values = rng.integers(0, levels, n).astype(np.float32)
        values[rng.random(n) < 0.2] = -INF
        best, positions = jax.jit(numerics.top_k, static_argnums=1)(values, k)
        expected = np.argsort(-values, kind="stable")[:k]
        np.testing.assert_array_equal(positions, expected)
        np.testing.assert_array_equal(best, values[expected])


@pytest.mark.parametrize(
    "scores, k, expected",
    [
        ([1.0, NAN, 2.0], 3, [2, 0, -1]),
        ([NAN, NAN], 2, [-1, -1]),
        ([3.0, 3.0, 3.0], 2, [0, 1]),
        ([-0.0, 0.0, -0.0], 3, [0, 1, 2]),
        ([0.0, -0.0, 0.0], 3, [0, 1, 2]),
        ([-INF, -1e38, INF, NAN], 4, [2, 1, 0, -1]),
        ([1.0, 2.0], 0, []),
    ],
)
def test_top_k_of_special_scores(scores, k, expected):
    assert top_k(jnp.array(scores), k).tolist() == expected


def test_an_available_minus_infinity_comes_before_what_is_unavailable():
    scores = jnp.array([5.0, -INF, NAN, -INF, 0.0])
    available = jnp.array([False, True, True, False, True])
    assert top_k(scores, 5, available=available).tolist() == [4, 1, -1, -1, -1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8])
def test_top_k_of_all_items_and_of_none(dtype):
    scores = jnp.array([2, 7, 5, 7], dtype)
    assert top_k(scores, 4).tolist() == [1, 3, 2, 0]
    none = jnp.zeros(4, bool)
    assert top_k(scores, 4, available=none).tolist() == [-1] * 4


def test_top_k_tells_large_integers_apart():
    # float32 cannot: 2^24 and 2^24 + 1 are the same number there.
    scores = jnp.array([2**24, 2**24 + 1, -(2**31), 2**31 - 1, 2**24])
    assert top_k(scores, 5).tolist() == [3, 1, 0, 4, 2]


def test_top_k_takes_no_more_than_there_are():
    for dtype in (jnp.float32, jnp.int32):
        with pytest.raises(ValueError, match="k=3; there are 2 scores"):
            numerics.masked_top_k(jnp.zeros(2, dtype), 3)


def test_top_k_checks_shapes():
    with pytest.raises(AssertionError):
        numerics.masked_top_k(jnp.zeros((2, 2)), 1)
    with pytest.raises(AssertionError):
        numerics.masked_top_k(jnp.zeros(2), 1, available=jnp.ones(1, bool))


def test_top_k_under_vmap():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (5, 9)).astype(np.float32)
    scores[0, 3], scores[1, 2] = NAN, -INF
    available = rng.random((5, 9)) < 0.7
    available[4] = False
    one = lambda s, a: numerics.masked_top_k(s, 6, available=a)
    for pools in (scores, np.nan_to_num(scores, neginf=-9).astype(np.int32)):
        picks = jax.jit(jax.vmap(one))(pools, available)
        expected = [best_first(s, 6, a) for s, a in zip(pools, available, strict=True)]
        assert picks.tolist() == expected
