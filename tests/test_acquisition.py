"""Acquisition functions against worked examples and float64 NumPy references."""

import inspect
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jal import acquisition
from jal.predictive import summarize
from jal.types import Outputs

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
# Few shapes [S, N, C], because each one compiles.
shapes = st.sampled_from([(1, 4, 2), (4, 4, 3), (20, 3, 10)])

FACTS = {facts.function.__name__: facts for facts in acquisition.FACTS}
FUNCTIONS = {
    name: facts.function
    for name, facts in FACTS.items()
    if facts.needs.startswith("logits")
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)

# Four passes, four items, three classes: certain; uncertain and changing its mind;
# noise that all passes agree on; certain of another class in each pass.
PASSES = [
    [[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]],
    [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0]],
    [[0.8, 0.1, 0.1], [0.5, 0.2, 0.3], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]],
    [[0.7, 0.2, 0.1], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.0, 1.0]],
]


def all_scores(logits):
    stats = summarize(logits)
    return {name: function(stats) for name, function in FUNCTIONS.items()}


jitted = jax.jit(all_scores)
shift = jax.jit(acquisition.shift)


def references(logits):
    """Every score in float64, written out from its definition."""
    logits = np.asarray(logits, np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    entropy = lambda p: -np.sum(p * np.log(np.where(p > 0, p, 1)), -1)
    mean = p.mean(0)
    first, second = np.moveaxis(-np.sort(-mean, -1), -1, 0)[:2]
    votes = (p.argmax(-1)[..., None] == np.arange(p.shape[-1])).sum(0)
    return {
        "entropy": entropy(mean),
        "bald": entropy(mean) - entropy(p).mean(0),
        "mean_std": p.std(0).mean(-1),
        "margin": 1 - (first - second),
        "least_confidence": 1 - first,
        "variation_ratio": 1 - votes.max(-1) / len(p),
    }


def random_logits(seed, shape):
    """Normal logits of several sizes, some -inf, too coarse for rounding to matter."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=shape) * rng.choice([0.1, 1, 10], (*shape[:-1], 1))
    logits = np.round(1024 * logits) / 1024
    logits[..., 1:][rng.random((*shape[:-1], shape[-1] - 1)) < 0.1] = -np.inf
    return logits


def value_of(bound: str, classes: int) -> float:
    """What a bound of `FACTS` is for so many classes."""
    return eval(bound.replace("ln C", "log(C)"), {"log": math.log, "C": classes})


def upper_bounds(classes):
    return {name: value_of(FACTS[name].high, classes) for name in FUNCTIONS}


def best_first(scores):
    return np.argsort(-np.asarray(scores), stable=True).tolist()


def test_the_facts_are_those_of_the_docstrings():
    everything = {
        name
        for name, member in vars(acquisition).items()
        if inspect.isfunction(member) and member.__module__ == acquisition.__name__
    }
    assert set(FACTS) == everything
    for name, facts in FACTS.items():
        text = inspect.getdoc(facts.function)
        if "inf" not in facts.high:
            assert f"in [{facts.low}, {facts.high}]" in text, name
        author, year = facts.reference.split()[0], facts.reference.split()[-1]
        reference = text.split("Reference:")[1]
        assert author in reference and year in reference, name
        takes = inspect.signature(facts.function).parameters
        kind = "two models" if "previous_gap" in takes else facts.needs
        assert facts.needs == kind
        assert ("outputs" in takes) == (facts.needs == "loss_score")


def test_what_compares_predictions_says_so():
    """Of one prediction it is 0 for every item, and nothing else is."""
    one = summarize(jnp.asarray(random_logits(0, (1, 40, 3))))
    for name, function in FUNCTIONS.items():
        is_flat = bool(jnp.all(jnp.abs(function(one)) < 1e-6))
        assert is_flat == (FACTS[name].needs == "logits, S >= 2"), name


# The worked examples


def test_the_worked_example():
    scores = jitted(jnp.log(jnp.array(PASSES)))
    expected = {
        "entropy": [0.801819, 1.092042, 1.098612, 1.039721],
        "bald": [0.016665, 0.167171, 0.0, 1.039721],
        "mean_std": [0.04714, 0.195197, 0.0, 0.455342],
        "variation_ratio": [0.0, 0.5, 0.0, 0.5],
        "margin": [0.5, 1 - 0.075, 1.0, 0.75],
        "least_confidence": [0.3, 0.6125, 2 / 3, 0.5],
    }
    assert expected.keys() == scores.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, 0, 1e-5, err_msg=name)
    # Noise that the passes agree on comes first by entropy and last by the others.
    assert best_first(scores["entropy"]) == [2, 1, 3, 0]
    assert best_first(scores["bald"]) == [3, 1, 0, 2]
    assert best_first(scores["mean_std"]) == [3, 1, 0, 2]


def test_the_worked_example_of_the_margin():
    p = jnp.array([[[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.9, 0.05, 0.05]]])
    gap = 1 - jitted(jnp.log(p))["margin"]
    np.testing.assert_allclose(gap, [0.2, 0.0, 0.85], rtol=0, atol=1e-6)


def test_the_worked_example_of_the_shift():
    previous = jnp.array([0.9, 0.3, 0.0, 0.5, 0.0])
    gap = jnp.array([0.1, 0.2, 0.0, 0.5, 0.4])
    scores = shift(previous, gap)
    np.testing.assert_allclose(scores, [0.8, 0.2, 0.0, 0.0, -1.0], rtol=0, atol=1e-6)
    assert best_first(scores) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(acquisition.shift(previous, gap), scores, atol=1e-6)


# References


@few
@given(seeds, shapes)
def test_scores_equal_float64_numpy_and_stay_in_bounds(seed, shape):
    logits = random_logits(seed, shape)
    scores, expected = jitted(jnp.asarray(logits, jnp.float32)), references(logits)
    for name, high in upper_bounds(shape[-1]).items():
        np.testing.assert_allclose(scores[name], expected[name], 1e-5, 3e-6, name)
        assert scores[name].dtype == jnp.float32
        assert np.all(scores[name] >= 0) and np.all(scores[name] <= high + 1e-6), name


gaps = st.one_of(st.sampled_from([0.0, 1.0, 2.0**-100]), st.floats(0, 1, width=16))


@few
@given(*[st.lists(gaps, min_size=5, max_size=5)] * 2)
def test_shift_equals_float64_numpy(previous, gap):
    scores = shift(jnp.array(previous), jnp.array(gap))
    previous, gap = np.array(previous), np.array(gap)
    total = np.where(previous + gap > 0, previous + gap, 1)
    np.testing.assert_allclose(scores, (previous - gap) / total, 1e-6, 1e-7)
    assert np.all(np.abs(scores) <= 1)
    np.testing.assert_allclose(shift(gap, previous), -scores, 1e-6, 1e-7)


def test_shift_of_what_is_missing_is_missing():
    nan = jnp.nan
    scores = shift(jnp.array([nan, 0.5, nan]), jnp.array([0.5, nan, nan]))
    assert np.isnan(scores).all()


def test_shift_has_finite_gradients_at_zero():
    # 0/0 is replaced before the division, not after it.
    zeros = jnp.zeros(2)
    for argument in (0, 1):
        total = lambda *gaps: acquisition.shift(*gaps).sum()
        assert np.all(np.isfinite(jax.grad(total, argument)(zeros, zeros)))


# Degenerate predictions


@pytest.mark.parametrize(
    "p",
    [
        [[1.0, 0.0, 0.0]] * 4,
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]],
        [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]],
        [[1 / 3, 1 / 3, 1 / 3]] * 4,
        [[0.6, 0.3, 0.1]] * 4,
    ],
    ids=["one-hot", "one-hots", "zeros", "uniform", "equal"],
)
def test_scores_of_degenerate_predictions(p):
    scores = jitted(jnp.log(jnp.array(p))[:, None])
    with np.errstate(divide="ignore"):
        expected = references(np.log(np.array(p))[:, None])
    for name, score in scores.items():
        np.testing.assert_allclose(score, expected[name], 0, 1e-6, err_msg=name)


@pytest.mark.parametrize("passes", [13, 47])
def test_passes_that_agree_carry_no_information(passes):
    logits = np.repeat(random_logits(0, (1, 4, 3)), passes, axis=0)
    scores = jitted(jnp.asarray(logits, jnp.float32))
    for name in ("bald", "mean_std"):
        np.testing.assert_allclose(scores[name], 0, atol=1e-6)
    assert np.all(scores["variation_ratio"] == 0)


@pytest.mark.parametrize("passes", [13, 47])
def test_no_score_falls_below_zero_by_rounding(passes):
    # A cost ratio has no use for -1e-8: it makes NaN of it.
    sure = jnp.concatenate([jnp.log(jnp.eye(3)), jnp.array([[20.0, 0.0, 1.0]])])
    for name, score in jitted(jnp.repeat(sure[None], passes, axis=0)).items():
        assert np.all(score >= 0) and np.all(score < 1e-3), name


def test_a_single_pass_carries_no_information():
    scores = jitted(jnp.asarray(random_logits(0, (1, 4, 2)), jnp.float32))
    np.testing.assert_allclose(scores["bald"], 0, atol=1e-6)
    for name in ("mean_std", "variation_ratio"):
        assert np.all(scores[name] == 0)
    assert all(np.all(np.isfinite(score)) for score in scores.values())


def test_an_undefined_prediction_is_nan_in_its_own_item_only():
    logits = jnp.zeros((3, 4, 5)).at[1, 2, 0].set(jnp.nan)
    scores = jitted(logits)
    for name in ("entropy", "bald", "mean_std", "least_confidence"):
        assert np.isnan(scores[name]).tolist() == [False, False, True, False], name


# Shapes and transformations


def test_any_leading_shape():
    logits = jnp.asarray(random_logits(0, (3, 2, 4, 5, 6)), jnp.float32)
    image, flat = jitted(logits), jitted(logits.reshape(3, 40, 6))
    for name in FUNCTIONS:
        chex.assert_shape(image[name], (2, 4, 5))
        np.testing.assert_allclose(image[name].ravel(), flat[name], atol=1e-6)
    one = jitted(logits[:, 0, 0, 0])
    for name in FUNCTIONS:
        chex.assert_shape(one[name], ())
        np.testing.assert_allclose(one[name], flat[name][0], atol=1e-6)


def test_permuted_pools_have_permuted_scores():
    logits = jnp.asarray(random_logits(0, (4, 40, 6)), jnp.float32)
    order = np.random.default_rng(0).permutation(40)
    scores, permuted = jitted(logits), jitted(logits[:, order])
    for name in FUNCTIONS:
        np.testing.assert_allclose(permuted[name], scores[name][order], atol=1e-6)


@every_function
def test_jit_equals_eager(name):
    logits = jnp.asarray(random_logits(0, (20, 3, 10)), jnp.float32)
    eager = FUNCTIONS[name](summarize(logits))
    np.testing.assert_allclose(eager, jitted(logits)[name], atol=1e-5)


def test_scores_are_float64_under_x64():
    logits = random_logits(0, (20, 30, 10))
    with jax.enable_x64(True):
        scores = jax.jit(all_scores)(jnp.asarray(logits))
        gap = jnp.linspace(0, 1, 7)
        moved = jax.jit(acquisition.shift)(gap, gap[::-1])
        expected = references(logits)
        for name, score in (scores | {"shift": moved}).items():
            assert score.dtype == jnp.float64, name
        for name, score in scores.items():
            np.testing.assert_allclose(score, expected[name], 1e-12, 1e-13)
        # Halves stay what they are, too: the type is that of the logits.
        for score in jax.jit(all_scores)(jnp.asarray(logits, jnp.float32)).values():
            assert score.dtype == jnp.float32


# The ranker


def test_predicted_loss_is_what_the_ranker_says():
    said = jnp.array([0.3, -1.2])
    assert acquisition.predicted_loss(Outputs(loss_score=said)) is said


def test_predicted_loss_needs_a_ranker():
    with pytest.raises(ValueError, match="returned no loss_score, only"):
        acquisition.predicted_loss(Outputs(logits=jnp.zeros((2, 3))))
