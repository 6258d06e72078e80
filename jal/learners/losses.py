"""Losses of rankers, variational autoencoders and their adversaries.

All are means over what `where` leaves, as in Optax, and 0 where it leaves nothing.
"""

from typing import Literal

import chex
import jax
import jax.numpy as jnp


def hinge_ranking(
    scores: jax.Array,
    losses: jax.Array,
    *,
    margin: float = 1.0,
    where: jax.Array | None = None,
) -> jax.Array:
    """Asks for scores in the order of the losses, a margin apart.

    Mean over the pairs (i, j) = (0, B - 1), (1, B - 2), ... of
    max(0, -I (score_i - score_j) + margin), I = +1 if loss_i > loss_j, else -1. The
    published formula has a minus in front, which a loss to be minimised cannot have.

    Args:
      scores: [B] predicted losses; gradients flow through them alone.
      losses: [B] true losses. A pair with a NaN has no order, and its loss is NaN.
      margin: distance asked for, >= 0.
      where: [B] bool, items that count; a pair counts if both do. None for all. The
        middle item of an odd batch has no partner and never counts.

    Returns:
      [] mean over the pairs that count.

    >>> scores, true = jnp.array([0.2, 1.5, -0.3, 0.9]), jnp.array([0.1, 2, 0.7, 0.4])
    >>> print(hinge_ranking(scores, true).round(3))
    0.15

    Reference: Yoo and Kweon, "Learning loss for active learning", 2019, eq. 2.
    """
    difference, first_is_larger, counts = _pairs(scores, losses, where)
    sign = jnp.where(first_is_larger, 1, -1)
    values = jnp.maximum(0, margin - sign * difference)
    return _mean(_nan_where_unordered(values, losses), counts)


def logistic_ranking(
    scores: jax.Array, losses: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Predicts by a logistic model which loss of a pair is the larger one.

    Mean over the pairs of `hinge_ranking` of -I ln s(d) - (1 - I) ln(1 - s(d)),
    d = score_i - score_j, s the logistic function, I = 1 if loss_i > loss_j, else 0.

    Args:
      scores: [B] predicted losses; gradients flow through them alone.
      losses: [B] true losses. A pair with a NaN has no order, and its loss is NaN.
      where: as in `hinge_ranking`.

    Returns:
      [] mean over the pairs that count, in nats.

    >>> scores, true = jnp.array([0.2, 1.5, -0.3, 0.9]), jnp.array([0.1, 2, 0.7, 0.4])
    >>> print(logistic_ranking(scores, true).round(6))
    0.278082

    Reference: Kim, Park, Kim and Chun, "Task-aware variational adversarial active
    learning", 2020, eq. 4.
    """
    difference, first_is_larger, counts = _pairs(scores, losses, where)
    values = jax.nn.softplus(difference) - first_is_larger * difference
    return _mean(_nan_where_unordered(values, losses), counts)


def reconstruction_error(
    x: jax.Array, reconstruction: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Mean squared error of all numbers of all items.

    Args:
      x: [B, ...].
      reconstruction: [B, ...].
      where: [B] bool, items that count, or None for all.

    Returns:
      [] mean, in the squared unit of x.

    >>> print(reconstruction_error(jnp.zeros((2, 3)), jnp.full((2, 3), 0.5)))
    0.25
    """
    chex.assert_equal_shape([x, reconstruction])
    squares = jnp.square(x - reconstruction).reshape(x.shape[0], -1)
    return _mean(jnp.mean(squares, axis=1), where)


def kl_divergence(
    mean: jax.Array,
    log_variance: jax.Array,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    where: jax.Array | None = None,
) -> jax.Array:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of the latent dimensions.

    1/2 (mean^2 + exp(log_variance) - 1 - log_variance), either the mean or the sum over
    items and dimensions: between them lies a factor of B times the latent size, so that
    the weight that suits one does not suit the other.

    Args:
      mean: [B, D] of the approximate posterior.
      log_variance: [B, D].
      reduction: "mean" or "sum".
      where: [B] bool, items that count, or None for all.

    Returns:
      [] divergence in nats.

    Raises:
      ValueError: `reduction` is neither.

    >>> mean = jnp.array([[0.5, -1.0], [0.0, 2.0]])
    >>> log_variance = jnp.array([[0.0, -1.0], [0.5, 0.0]])
    >>> print(kl_divergence(mean, log_variance).round(4))
    0.7208
    >>> print(kl_divergence(mean, log_variance, reduction="sum").round(1))
    2.9

    Reference: Kingma and Welling, "Auto-encoding variational Bayes", 2014, appendix B.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction={reduction!r}; allowed are "mean" and "sum"')
    chex.assert_rank([mean, log_variance], 2)
    chex.assert_equal_shape([mean, log_variance])
    values = (jnp.square(mean) + jnp.expm1(log_variance) - log_variance) / 2
    of_items = jnp.sum(values, axis=1)
    if reduction == "sum":
        return jnp.sum(of_items if where is None else jnp.where(where, of_items, 0))
    return _mean(of_items / mean.shape[1], where)


def fooling(labeled: jax.Array, unlabeled: jax.Array) -> jax.Array:
    """What the autoencoder loses where the discriminator tells the two sets apart.

    -mean ln D(labelled) - mean ln D(unlabelled), D = s(logit): both should look
    labelled.

    Args:
      labeled: [B] logits of the discriminator for labelled items.
      unlabeled: [B'] logits for unlabelled ones.

    Returns:
      [] loss in nats.

    >>> logit = lambda d: jnp.log(d) - jnp.log1p(-d)
    >>> labeled, unlabeled = logit(jnp.array([0.8, 0.6])), logit(jnp.array([0.3, 0.1]))
    >>> print(fooling(labeled, unlabeled).round(4))
    2.1203

    Reference: Kim, Park, Kim and Chun, "Task-aware variational adversarial active
    learning", 2020, eq. 7; Sinha, Ebrahimi and Darrell, "Variational adversarial active
    learning", 2019, eq. 2.
    """
    return jnp.mean(jax.nn.softplus(-labeled)) + jnp.mean(jax.nn.softplus(-unlabeled))


def discrimination(labeled: jax.Array, unlabeled: jax.Array) -> jax.Array:
    """What the discriminator loses where it mistakes one set for the other.

    -mean ln D(labelled) - mean ln(1 - D(unlabelled)), D = s(logit).

    Args:
      labeled: [B] logits of the discriminator for labelled items.
      unlabeled: [B'] logits for unlabelled ones.

    Returns:
      [] loss in nats.

    >>> logit = lambda d: jnp.log(d) - jnp.log1p(-d)
    >>> labeled, unlabeled = logit(jnp.array([0.8, 0.6])), logit(jnp.array([0.3, 0.1]))
    >>> print(discrimination(labeled, unlabeled).round(4))
    0.598

    Reference: Kim, Park, Kim and Chun, "Task-aware variational adversarial active
    learning", 2020, eq. 8; Sinha, Ebrahimi and Darrell, "Variational adversarial active
    learning", 2019, eq. 3.
    """
    return jnp.mean(jax.nn.softplus(-labeled)) + jnp.mean(jax.nn.softplus(unlabeled))


def _pairs(scores, losses, where):
    """(score_i - score_j, loss_i > loss_j, whether the pair counts), each [B // 2]."""
    chex.assert_rank([scores, losses], 1)
    chex.assert_equal_shape([scores, losses])
    if scores.shape[0] < 2:
        raise ValueError(
            f"scores has {scores.shape[0]} item; a batch needs at least 2 to be ranked"
        )
    losses = jax.lax.stop_gradient(losses)
    first, second = _halves(scores)
    first_loss, second_loss = _halves(losses)
    counts = None
    if where is not None:
        chex.assert_equal_shape([scores, where])
        counts = jnp.logical_and(*_halves(where))
    return first - second, first_loss > second_loss, counts


def _halves(array):
    """Items from the front and their partners from the back."""
    pairs = array.shape[0] // 2
    return array[:pairs], array[::-1][:pairs]


def _nan_where_unordered(values, losses):
    first, second = _halves(losses)
    return jnp.where(jnp.isnan(first) | jnp.isnan(second), jnp.nan, values)


def _mean(values, where):
    if where is None:
        return jnp.mean(values)
    total = jnp.sum(jnp.where(where, values, 0))
    return total / jnp.maximum(jnp.sum(where), 1)
