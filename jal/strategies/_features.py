"""What chooses by features: far apart, typical, or of large and different gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jal import pool as pools
from jal import predictive, selection
from jal._core.checks import at_least_one
from jal.predictive import check_batch_size
from jal.types import Outputs, Strategy, View


def k_center(
    *,
    features: Callable[[Any], jax.Array] | None = None,
    batch_size: int | None = None,
) -> Strategy:
    """Picks the candidates farthest from all that is labelled, in feature space.

    `selection.k_center` of the features of the deterministic prediction, the items
    labelled before being the centres.

    Args:
      features: x [B, ...] -> [B, D], in place of the model's features, which mean
        little before there are labels: `lambda x: x.reshape(len(x), -1) / 255`.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state or scores. The model must return `features`, unless there
      is a function for them.

    Raises:
      ValueError: batch_size is below 1.

    >>> k_center().init(jax.random.key(0), None, None)
    ()

    Reference: Sener and Savarese, "Active learning for convolutional neural networks: a
    core-set approach", 2018, algorithm 1.
    """
    check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        del key
        rows, is_labeled, available = _candidates_and_labeled(
            view, features, batch_size
        )
        positions = selection.k_center(rows, k, centers=is_labeled, available=available)
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def typical(
    *,
    features: Callable[[Any], jax.Array] | None = None,
    max_clusters: int = 500,
    batch_size: int | None = None,
) -> Strategy:
    """Picks the most typical candidate of each of the largest clusters without labels.

    `selection.typical` of the features of the deterministic prediction, for the first
    labels: with `features` it needs neither a label nor a model.

    Args:
      features: x [B, ...] -> [B, D], in place of the model's features, which mean
        little before there are labels: `lambda x: x.reshape(len(x), -1) / 255`.
      max_clusters: the largest number of clusters, as in `selection.typical`.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state or scores. The model must return `features`, unless there
      is a function for them.

    Raises:
      ValueError: batch_size or max_clusters is below 1.

    >>> typical(features=lambda x: x / 255).init(jax.random.key(0), None, None)
    ()

    Reference: Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite
    strategies suit high and low budgets", 2022, algorithm 1.
    """
    check_batch_size(batch_size)
    at_least_one(max_clusters=max_clusters)

    def choose(key, state, view: View, k):
        rows, is_labeled, available = _candidates_and_labeled(
            view, features, batch_size
        )
        positions = selection.typical(
            key,
            rows,
            k,
            covered=is_labeled,
            available=available,
            # There are never more labels than the buffer holds.
            max_clusters=min(max_clusters, view.pool.order.size + max(k, 1)),
        )
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def badge(*, batch_size: int | None = None) -> Strategy:
    """Picks candidates whose gradients are large and differ from each other.

    `selection.badge` of the probabilities and features of the deterministic prediction.
    What is labelled plays no part beyond having trained the model.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state or scores. The model must return `logits` and `features`,
      the inputs of its last layer.

    Raises:
      ValueError: batch_size is below 1.

    >>> badge().init(jax.random.key(0), None, None)
    ()

    Reference: Ash et al., "Deep batch active learning by diverse, uncertain gradient
    lower bounds", 2020, algorithm 1.
    """
    check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        outputs = predictive.predict_items(
            view.predict, view.items(view.candidates), batch_size
        )
        positions = selection.badge(
            key,
            jax.nn.softmax(outputs.need("logits"), axis=-1),
            outputs.need("features"),
            k,
            available=view.available,
        )
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def _candidates_and_labeled(view: View, features, batch_size):
    """Features [M + L, D] of the candidates and of what is labelled.

    Also which rows are labelled items, and which are candidates that are available;
    what is neither is predicted and ignored.
    """
    if features is not None:
        view = view._replace(predict=lambda x: Outputs(features=features(x)))
    labeled, is_labeled = pools.labeled_items(view.pool)
    items = jnp.concatenate([view.candidates, labeled])
    return (
        predictive.predict_items(view.predict, view.items(items), batch_size).need(
            "features"
        ),
        jnp.concatenate([jnp.zeros_like(view.available), is_labeled]),
        jnp.concatenate([view.available, jnp.zeros_like(is_labeled)]),
    )
