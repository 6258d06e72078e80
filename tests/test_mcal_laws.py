"""Error profiles, their laws and bounds: formulas, worked examples, odd cases."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from jal import mcal
from jal.mcal import ErrorLaw

SIZES = np.array([600.0, 1200, 1800, 2400, 3000, 4200])
# One program a shape: most numbers here are checked on small arrays many times.
fit_law = jax.jit(mcal.fit_law, static_argnames="truncated")
predict_errors, rising = jax.jit(mcal.predict_errors), jax.jit(mcal.rising)
NOISY = np.array([0.20209308, 0.1319146, 0.1087903, 0.09234958, 0.07701571, 0.06316645])


def law(alpha, gamma, kappa) -> ErrorLaw:
    values = np.log([alpha]), np.array([gamma]), np.array([kappa])
    return ErrorLaw(*(jnp.asarray(v, jnp.result_type(float)) for v in values))


def fit(sizes, rate, weight=None, **options):
    """Of one theta, in float64: (ln alpha, gamma, kappa)."""
    with jax.enable_x64(True):
        weight = None if weight is None else np.asarray(weight)[:, None]
        found = fit_law(sizes, np.asarray(rate)[:, None], weight, **options)
        return [float(value[0]) for value in found]


def test_the_truncated_law():
    sizes = jnp.array([500.0, 1000, 2000, 4000, 8000, 16000])
    expected = [0.218086, 0.150403, 0.101164, 0.064726, 0.037472, 0.017761]
    found = predict_errors(law(5.0, 0.5, 1 / 20_000), sizes)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = [0.223607, 0.158114, 0.111803, 0.079057, 0.055902, 0.039528]
    found = predict_errors(law(5.0, 0.5, 0.0), sizes)[:, 0]
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_the_law_reaches_an_error_at_a_size():
    at = lambda kappa, size: predict_errors(law(5.0, 0.5, kappa), np.array([size]))
    assert at(1 / 20_000, 5671.433)[0, 0] == pytest.approx(0.05, abs=1e-7)
    assert at(0.0, 10_000.0)[0, 0] == pytest.approx(0.05, abs=1e-7)


def test_fits_of_noisy_points():
    log_alpha, gamma, kappa = fit(SIZES, NOISY, truncated=False)
    assert np.exp(log_alpha) == pytest.approx(8.925202, abs=1e-5)
    assert gamma == pytest.approx(0.591470, abs=1e-6)
    assert kappa == 0
    log_alpha, gamma, kappa = fit(SIZES, NOISY)
    assert np.exp(log_alpha) == pytest.approx(6.246383, abs=1e-5)
    assert gamma == pytest.approx(0.534669, abs=1e-6)
    assert kappa == pytest.approx(3.19153e-5, abs=1e-9)
    with jax.enable_x64(True):
        found = fit_law(SIZES, NOISY[:, None])
        at = predict_errors(found, np.array([16_000.0]))
        assert float(at[0, 0]) == pytest.approx(0.021186, abs=1e-6)


@pytest.mark.parametrize("x64", [True, False])
def test_noiseless_points_give_the_law_back(x64):
    with jax.enable_x64(x64):
        sizes = jnp.asarray(SIZES, jnp.result_type(float))
        rate = predict_errors(law(5.0, 0.5, 5e-5), sizes)
        found = fit_law(sizes, rate)
        tolerance = 1e-6 if x64 else 2e-4
        assert float(found.log_alpha[0]) == pytest.approx(np.log(5), abs=tolerance)
        assert float(found.gamma[0]) == pytest.approx(0.5, abs=tolerance)
        assert float(found.kappa[0]) == pytest.approx(5e-5, abs=tolerance * 1e-3)


def reference_fit(sizes, rate, weight):
    """The same problem by a general solver, in float64."""
    from scipy.optimize import lsq_linear

    used = (weight > 0) & np.isfinite(rate)
    root = np.sqrt(weight[used])
    design = np.stack([np.ones(used.sum()), -np.log(sizes[used]), -sizes[used] / 1e4])
    bounds = ([-np.inf, 0, 0], np.inf)
    solved = lsq_linear(
        (design * root).T, root * np.log(rate[used]), bounds, tol=1e-14, method="bvls"
    )
    return solved.x * [1, 1, 1e-4], solved.cost


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), points=st.sampled_from([3, 4, 7, 12]))
def test_fits_are_those_of_a_general_solver(seed, points):
    draws = np.random.default_rng(seed)
    sizes = np.sort(draws.uniform(300, 30_000, points))
    rate = np.exp(draws.normal(-3, 1) - draws.normal(0.3, 0.5) * np.log(sizes / 1e3))
    rate *= np.exp(draws.normal(0, 0.3, points))
    weight = draws.uniform(0.5, 50, points)
    found = fit(sizes, rate, weight)
    expected, cost = reference_fit(sizes, rate, weight)
    rest = found[0] - found[1] * np.log(sizes) - found[2] * sizes - np.log(rate)
    assert np.sum(weight * rest**2) / 2 == pytest.approx(cost, rel=1e-6, abs=1e-9)
    assert found[1] >= 0 and found[2] >= 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


def test_points_that_do_not_count():
    rate, weight = NOISY.copy(), np.ones(6)
    rate[1], weight[4] = np.nan, 0
    keep = [0, 2, 3, 5]
    assert fit(SIZES, rate, weight) == pytest.approx(fit(SIZES[keep], NOISY[keep]))


def test_few_points():
    log_alpha, gamma, kappa = fit(SIZES[:2], NOISY[:2])
    assert gamma == pytest.approx(np.log(NOISY[0] / NOISY[1]) / np.log(2))
    assert kappa == 0
    assert fit(SIZES[:1], NOISY[:1]) == pytest.approx([np.log(NOISY[0]), 0, 0])
    assert fit(SIZES, np.full(6, np.nan)) == [np.inf, 0, 0]
    # One size many times cannot tell the laws apart.
    assert fit(np.full(6, 600.0), NOISY)[1:] == [0, 0]
    assert np.isfinite(fit(np.full(6, 600.0), NOISY)[0])


def test_rising_errors_give_a_constant():
    log_alpha, gamma, kappa = fit(SIZES, NOISY[::-1].copy())
    assert (gamma, kappa) == (0, 0)
    assert log_alpha == pytest.approx(np.log(NOISY).mean())


def test_all_laws_at_once_are_each_alone():
    rate = np.outer(NOISY, [1, 0.5, 0.1]).astype(np.float32)
    rate[3, 1] = np.nan
    sizes = SIZES.astype(np.float32)
    both = fit_law(sizes, rate)
    for column in range(3):
        alone = fit_law(sizes, rate[:, column : column + 1])
        for a, b in zip(both, alone, strict=True):
            np.testing.assert_allclose(a[column], b[0], rtol=1e-6)
    chex.assert_trees_all_close(mcal.fit_law(sizes, rate), both, rtol=1e-4)


def test_profiles_count_the_most_confident():
    margin = jnp.array([0.3, 0.9, jnp.nan, 0.3, 0.8])
    correct = jnp.array([False, True, True, True, False])
    counts, errors = jax.jit(mcal.error_profile)(
        margin, correct, jnp.array([0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.01, 1.2])
    )
    # By margin: 1, 4, then 0 before 3 as ties go to the lower index, NaN last.
    assert counts.tolist() == [0, 1, 2, 3, 4, 5, 5, 0]
    assert errors.tolist() == [0, 0, 1, 2, 2, 2, 2, 0]


def test_rates_of_none():
    rate, weight = jax.jit(mcal.error_rates)(
        jnp.array([10, 10, 0]), jnp.array([3, 0, 0])
    )
    np.testing.assert_allclose(rate, [0.3, 0.5 / 11, np.nan], rtol=1e-6)
    np.testing.assert_allclose(weight, [3.5, 0.5, 0])


def test_wilson():
    from scipy.stats import binomtest

    bound_of = jax.jit(lambda rate, number: mcal.upper_bound(rate, number, z=1.6448536))
    for errors, number in ((0, 20), (3, 150), (150, 150)):
        interval = binomtest(errors, number).proportion_ci(0.9, method="wilson")
        bound = bound_of(np.float32(errors / number), np.int32(number))
        assert float(bound) == pytest.approx(interval.high, abs=1e-6)
    assert np.isnan(mcal.upper_bound(jnp.array(0.1), jnp.array(0), z=1.0))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), length=st.sampled_from([1, 2, 5, 12]))
def test_rising_is_isotonic_regression(data, length):
    rates = st.lists(st.floats(0, 1, width=32), min_size=length, max_size=length)
    rates = data.draw(rates)
    expected = IsotonicRegression().fit_transform(np.arange(len(rates)), rates)
    found = rising(np.array([rates], np.float32))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rising_passes_over_the_unknown():
    found = rising(jnp.array([[0.2, 0.1, jnp.inf, 0.3], [0.1, 0.1, 0.2, 0]]))
    np.testing.assert_allclose(found[0], [0.15, 0.15, np.inf, np.inf])
    np.testing.assert_allclose(found[1], [0.1, 0.1, 0.1, 0.1], atol=1e-7)
