"""Ranking, autoencoder and adversarial losses, against SPEC's numbers and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jal.learners import losses

SCORES, TRUE = jnp.array([0.2, 1.5, -0.3, 0.9]), jnp.array([0.1, 2.0, 0.7, 0.4])
# The same items with consecutive ones as partners: (0, 1) and (2, 3).
PAIRED = jnp.array([0, 2, 3, 1])
MEAN = jnp.array([[0.5, -1.0], [0.0, 2.0]])
LOG_VARIANCE = jnp.array([[0.0, -1.0], [0.5, 0.0]])


def logit(d):
    return jnp.log(jnp.array(d)) - jnp.log1p(-jnp.array(d))


@pytest.mark.parametrize(
    "ranking, order, value, gradient",
    [
        (losses.hinge_ranking, jnp.arange(4), 0.15, [0.5, 0, 0, -0.5]),
        (
            losses.logistic_ranking,
            jnp.arange(4),
            0.278082,
            [0.165906, -0.070926, 0.070926, -0.165906],
        ),
        (losses.hinge_ranking, PAIRED, 1.1, None),
        (losses.logistic_ranking, PAIRED, 0.852145, None),
    ],
)
def test_ranking_worked_example(ranking, order, value, gradient):
    result, slope = jax.value_and_grad(ranking)(SCORES[order], TRUE[order])
    np.testing.assert_allclose(result, value, atol=1e-5)
    if gradient is not None:
        np.testing.assert_allclose(slope, gradient, atol=1e-5)


def test_each_pair_of_the_worked_example():
    for where, hinge, logistic in (
        ([True, False, False, True], 0.3, 0.403186),
        ([False, True, True, False], 0.0, 0.152978),
        ([False, True, True, True], 0.0, 0.152978),  # half a pair does not count
        ([False, True, False, True], 0.0, 0.0),
    ):
        where = jnp.array(where)
        assert abs(losses.hinge_ranking(SCORES, TRUE, where=where) - hinge) < 1e-5
        assert abs(losses.logistic_ranking(SCORES, TRUE, where=where) - logistic) < 1e-5


def test_kl_worked_example():
    kl = losses.kl_divergence
    np.testing.assert_allclose(kl(MEAN, LOG_VARIANCE), 0.720825, atol=1e-5)
    total = kl(MEAN, LOG_VARIANCE, reduction="sum")
    np.testing.assert_allclose(total, 2.8833, atol=1e-5)
    np.testing.assert_allclose(total / len(MEAN), 1.44165, atol=1e-5)
    for reduction in ("mean", "sum"):
        first = kl(MEAN[:1], LOG_VARIANCE[:1], reduction=reduction)
        where = jnp.array([True, False])
        masked = kl(MEAN, LOG_VARIANCE, reduction=reduction, where=where)
        np.testing.assert_allclose(masked, first, rtol=1e-6)
        none = kl(MEAN, LOG_VARIANCE, reduction=reduction, where=~(where | True))
        assert none == 0


def test_adversarial_worked_example():
    labeled, unlabeled = logit([0.8, 0.6]), logit([0.3, 0.1])
    np.testing.assert_allclose(losses.fooling(labeled, unlabeled), 2.120264, atol=1e-5)
    value = losses.discrimination(labeled, unlabeled)
    np.testing.assert_allclose(value, 0.598002, atol=1e-5)


def test_adversarial_losses_do_not_overflow():
    far = jnp.array([1e4, -1e4])
    assert losses.fooling(far, far) == 1e4
    assert losses.discrimination(far, far) == 1e4


def test_reconstruction_error_is_a_mean_over_all_numbers():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3, 2))
    error = losses.reconstruction_error
    np.testing.assert_allclose(error(x, y), np.mean((x - y) ** 2), rtol=1e-5)
    where = np.array([True, False, True, True, False])
    expected = np.mean((x - y)[where] ** 2)
    np.testing.assert_allclose(error(x, y, where=where), expected, rtol=1e-5)


def test_gradients_against_finite_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
        true = jnp.asarray(rng.permutation(6).astype(float))
        where = jnp.array([True] * 5 + [False])
        images = draw(3, 2)
        for function, arguments in (
            (lambda s: losses.hinge_ranking(s, true), (draw(6),)),
            (
                lambda s: losses.hinge_ranking(s, true, margin=0.3, where=where),
                (draw(6),),
            ),
            (lambda s: losses.logistic_ranking(s, true), (draw(6),)),
            (lambda s: losses.logistic_ranking(s, true, where=where), (draw(6),)),
            (lambda y: losses.reconstruction_error(images, y), (draw(3, 2),)),
            (losses.kl_divergence, (draw(3, 2), draw(3, 2))),
            (
                lambda m, v: losses.kl_divergence(m, v, reduction="sum"),
                (draw(3, 2), draw(3, 2)),
            ),
            (losses.fooling, (draw(4), draw(3))),
            (losses.discrimination, (draw(4), draw(3))),
        ):
            assert function(*arguments).dtype == jnp.float64
            check_grads(
                function, arguments, order=1, modes=["rev"], atol=1e-6, rtol=1e-6
            )


@pytest.mark.parametrize("ranking", [losses.hinge_ranking, losses.logistic_ranking])
def test_true_losses_are_constants(ranking):
    slope = jax.grad(lambda true: ranking(SCORES, true))(TRUE)
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize("ranking", [losses.hinge_ranking, losses.logistic_ranking])
def test_the_middle_of_an_odd_batch_is_left_out(ranking):
    scores, true = jnp.insert(SCORES, 2, 9.0), jnp.insert(TRUE, 2, -9.0)
    assert ranking(scores, true) == ranking(SCORES, TRUE)
    assert jax.grad(ranking)(scores, true)[2] == 0


@pytest.mark.parametrize("ranking", [losses.hinge_ranking, losses.logistic_ranking])
def test_a_nan_loss_is_not_ranked_in_silence(ranking):
    true = TRUE.at[3].set(jnp.nan)
    assert jnp.isnan(ranking(SCORES, true))
    where = jnp.array([False, True, True, True])
    assert not jnp.isnan(ranking(SCORES, true, where=where))


@pytest.mark.parametrize("ranking", [losses.hinge_ranking, losses.logistic_ranking])
def test_ranking_checks_its_batch(ranking):
    with pytest.raises(ValueError, match="scores has 1 item; a batch needs at least 2"):
        ranking(jnp.zeros(1), jnp.zeros(1))
    with pytest.raises(AssertionError):
        ranking(jnp.zeros(4), jnp.zeros(3))
    with pytest.raises(AssertionError):
        ranking(jnp.zeros((4, 1)), jnp.zeros((4, 1)))


def test_equal_losses_count_as_the_second_larger():
    scores, true = jnp.array([2.0, 0.0]), jnp.ones(2)
    assert losses.hinge_ranking(scores, true) == 3
    expected = np.logaddexp(0, 2)
    np.testing.assert_allclose(losses.logistic_ranking(scores, true), expected)


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="reduction='max'; allowed are"):
        losses.kl_divergence(MEAN, LOG_VARIANCE, reduction="max")  # type: ignore
