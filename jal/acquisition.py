"""Acquisition functions: predictive statistics in, scores out, higher = label it.

All take any leading shape [...] of items and are pure one-liners over `Predictive`.
`FACTS` has a line for each: what it needs, its range, its paper.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jal._core import numerics
from jal.types import Outputs, Predictive


def entropy(predictive: Predictive) -> jax.Array:
    """Predictive entropy H[mean] = -sum_c mean_c ln mean_c.

    Args:
      predictive: statistics over items [...] and C classes.

    Returns:
      [...] scores in nats, in [0, ln C].

    >>> from jal.predictive import summarize
    >>> p = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> print(entropy(summarize(jnp.log(p))))
    [0.6931472]

    Reference: Gal, Islam and Ghahramani, "Deep Bayesian active learning with image
    data", 2017, section 4 (max entropy).
    """
    return numerics.entropy_of_probabilities(predictive.mean)


def bald(predictive: Predictive) -> jax.Array:
    """Mutual information of prediction and parameters, H[mean] - mean entropy.

    Args:
      predictive: statistics over items [...] and C classes.

    Returns:
      [...] scores in nats, in [0, ln C]; rounding below 0 is clipped.

    >>> from jal.predictive import summarize
    >>> p = jnp.array([[[0.5, 0.5]], [[0.5, 0.5]]])
    >>> bald(summarize(jnp.log(p))).round(4).tolist()
    [0.0]

    Reference: Houlsby et al., "Bayesian active learning for classification and
    preference learning", 2011, eq. 2.
    """
    return jnp.maximum(entropy(predictive) - predictive.mean_entropy, 0.0)


def mean_std(predictive: Predictive) -> jax.Array:
    """Mean over classes of the standard deviation over passes (ddof 0).

    (1/C) sum_c sqrt((1/S) sum_s (p_sc - mean_c)^2).

    Args:
      predictive: statistics over items [...] and C classes.

    Returns:
      [...] scores, in [0, 1/2].

    >>> from jal.predictive import summarize
    >>> p = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> mean_std(summarize(jnp.log(p))).round(4).tolist()
    [0.5]

    Reference: Gal, Islam and Ghahramani, 2017, section 4 (mean STD).
    """
    variance = predictive.spread / predictive.count
    return jnp.mean(jnp.sqrt(variance), axis=-1)


def margin(predictive: Predictive) -> jax.Array:
    """One minus the gap of the two most probable classes, 1 - (p_1 - p_2).

    Args:
      predictive: statistics over items [...] and C >= 2 classes.

    Returns:
      [...] scores, in [0, 1].

    >>> from jal.predictive import summarize
    >>> p = jnp.array([[[0.5, 0.3, 0.2]]])
    >>> print(margin(summarize(jnp.log(p))).round(3))
    [0.8]

    Reference: Scheffer, Decomain and Wrobel, "Active hidden Markov models for
    information extraction", 2001.
    """
    top_two, _ = jax.lax.top_k(predictive.mean, 2)
    return 1.0 - (top_two[..., 0] - top_two[..., 1])


def least_confidence(predictive: Predictive) -> jax.Array:
    """One minus the probability of the most probable class, 1 - p_1.

    Args:
      predictive: statistics over items [...] and C classes.

    Returns:
      [...] scores, in [0, 1 - 1/C].

    >>> from jal.predictive import summarize
    >>> p = jnp.array([[[0.5, 0.3, 0.2]]])
    >>> least_confidence(summarize(jnp.log(p))).round(4).tolist()
    [0.5]

    Reference: Lewis and Gale, "A sequential algorithm for training text classifiers",
    1994.
    """
    return 1.0 - jnp.max(predictive.mean, axis=-1)


def variation_ratio(predictive: Predictive) -> jax.Array:
    """Share of passes that do not vote for the modal class, 1 - max_c votes_c / S.

    Args:
      predictive: statistics over items [...] and C classes.

    Returns:
      [...] scores, in [0, 1 - 1/C].

    >>> from jal.predictive import summarize
    >>> p = jnp.array([[[0.9, 0.1]], [[0.2, 0.8]]])
    >>> variation_ratio(summarize(jnp.log(p))).tolist()
    [0.5]

    Reference: Gal, Islam and Ghahramani, 2017, section 4 (variation ratios).
    """
    # Counts are whole numbers, so that their difference has no rounding below 0.
    against = predictive.count - jnp.max(predictive.votes, axis=-1)
    return against / predictive.count


def predicted_loss(outputs: Outputs) -> jax.Array:
    """Loss that a ranker attached to the model expects, taken as it is.

    Args:
      outputs: a model's outputs with `loss_score` [B].

    Returns:
      [B] scores; only their order means anything.

    Raises:
      ValueError: the model has no ranker.

    >>> print(predicted_loss(Outputs(loss_score=jnp.array([0.3, 1.2]))))
    [0.3 1.2]

    Reference: Yoo and Kweon, "Learning loss for active learning", 2019.
    """
    return outputs.need("loss_score")


def shift(previous_gap: jax.Array, gap: jax.Array) -> jax.Array:
    """How much certainty was lost between two successive models.

    (previous - current) / (previous + current) of the gap p_1 - p_2, with 0/0 = 0.

    Args:
      previous_gap: [N] gap of the previous model, in [0, 1].
      gap: [N] gap of the current model, in [0, 1].

    Returns:
      [N] scores, in [-1, 1].

    >>> previous, current = jnp.array([0.9, 0.3, 0.0]), jnp.array([0.1, 0.2, 0.0])
    >>> print(shift(previous, current).round(3))
    [0.8 0.2 0. ]

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022, eq. 3 (alamp).
    """
    total = previous_gap + gap
    # Not "total > 0", by which NaN would become 0.
    is_zero = total == 0
    return jnp.where(is_zero, 0.0, previous_gap - gap) / jnp.where(is_zero, 1.0, total)


class Facts(NamedTuple):
    """What is to be known of an acquisition function before it is used.

    Attributes:
      function: of this module.
      needs: "logits"; "logits, S >= 2" where predictions are compared, so that with one
        it is 0 for every item; "loss_score"; or "two models".
      low: the least score.
      high: the greatest, in terms of C classes.
      formula: in a line, of the mean p, whose two highest are p_1 and p_2, and of the
        passes; H is the entropy.
      reference: who thought of it.
    """

    function: Callable[..., jax.Array]
    needs: str
    low: str
    high: str
    formula: str
    reference: str


# fmt: off
FACTS = (
    Facts(entropy, "logits", "0", "ln C", "H[mean p]", "Gal et al. 2017"),
    Facts(bald, "logits, S >= 2", "0", "ln C", "H[mean p] - mean H[p]",
          "Houlsby et al. 2011"),
    Facts(mean_std, "logits, S >= 2", "0", "1/2", "mean over c of the std of p_c",
          "Gal et al. 2017"),
    Facts(margin, "logits", "0", "1", "1 - (p_1 - p_2)", "Scheffer et al. 2001"),
    Facts(least_confidence, "logits", "0", "1 - 1/C", "1 - p_1",
          "Lewis and Gale 1994"),
    Facts(variation_ratio, "logits, S >= 2", "0", "1 - 1/C",
          "1 - votes for the mode / S", "Gal et al. 2017"),
    Facts(predicted_loss, "loss_score", "-inf", "inf", "loss_score as it is",
          "Yoo and Kweon 2019"),
    Facts(shift, "two models", "-1", "1", "(g' - g) / (g' + g)",
          "Aggarwal et al. 2022"),
)
# fmt: on
