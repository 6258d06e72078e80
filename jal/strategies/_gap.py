"""What chooses by the two most probable classes: margin, alamp, one class in turn."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jal import acquisition, predictive, selection
from jal import pool as pools
from jal.predictive import check_batch_size
from jal.types import Strategy, View


def margin(*, diversify: bool = False, batch_size: int | None = None) -> Strategy:
    """Picks the candidates whose two most probable classes are nearest each other.

    p_1 - p_2 of the deterministic prediction, smallest first.

    Args:
      diversify: takes one candidate of each predicted class in turn
        (`selection.diversify`), which is marg-div.
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state.

    Raises:
      ValueError: batch_size is below 1.

    >>> margin(diversify=True).init(jax.random.key(0), None, None)
    ()

    Reference: Scheffer, Decomain and Wrobel, "Active hidden Markov models for
    information extraction", 2001; Aggarwal, Popescu and Hudelot, "Optimizing active
    learning for low annotation budgets", 2022, eq. 1.
    """
    check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        del key
        gap, group = _gap_and_class(view, view.candidates, batch_size)
        groups = group if diversify else None
        return _best(view, -gap, groups, k), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def rand_div(*, batch_size: int | None = None) -> Strategy:
    """Picks at random, one candidate of each predicted class in turn.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state.

    Raises:
      ValueError: batch_size is below 1.

    >>> rand_div().init(jax.random.key(0), None, None)
    ()

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022, algorithm 1.
    """
    check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        scores = jax.random.uniform(key, view.candidates.shape)
        _, groups = _gap_and_class(view, view.candidates, batch_size)
        return _best(view, scores, groups, k), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def class_balanced(*, batch_size: int | None = None) -> Strategy:
    """Picks candidates predicted to be of the classes with the fewest labels.

    `selection.diversify` over the most probable class of the deterministic prediction,
    of each class the most probable candidates first, where a class joins in once all
    others have as many labels or picks. Without labels that is one candidate of each
    predicted class in turn. It evens out the labels as far as the predictions are
    right, and finds no class that is predicted nowhere.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state; the scores are the probabilities of the predicted
      classes. The model must return `logits`, and the labels must be classes; one that
      the model has no logit for is not counted.

    Raises:
      ValueError: batch_size is below 1.

    >>> class_balanced().init(jax.random.key(0), None, None)
    ()
    """
    check_batch_size(batch_size)

    def choose(key, state, view: View, k):
        del key
        outputs = predictive.predict_items(
            view.predict, view.items(view.candidates), batch_size
        )
        p = jax.nn.softmax(outputs.need("logits"), axis=-1)
        scores, groups = jnp.max(p, axis=-1), jnp.argmax(p, axis=-1)
        num_classes = p.shape[-1]
        bought, is_labeled = pools.labeled_items(view.pool)
        y = view.data.y[bought]
        known = is_labeled & (y >= 0)
        labels = jnp.zeros(num_classes, jnp.int32)
        labels = labels.at[jnp.where(known, y, num_classes)].add(1, mode="drop")
        positions = selection.diversify(
            scores, groups, k, already=labels[groups], available=view.available
        )
        return pools.picks(view, positions, scores), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


class PreviousModel(NamedTuple):
    """What `alamp` remembers of the model of the round before.

    Attributes:
      gap: [N] p_1 - p_2.
      group: [N] int32 most probable class.
      exists: [] bool, False in the first round.
    """

    gap: jax.Array
    group: jax.Array
    exists: jax.Array


def alamp(*, diversify: bool = False, batch_size: int | None = None) -> Strategy:
    """Picks what the model was sure of in the round before, and is no longer.

    `acquisition.shift` of the gap p_1 - p_2 between this round's deterministic
    prediction and that of the round before, largest first; of those at 1 that of the
    larger gap before. In the first round, with no model before it, the smallest gap.

    Args:
      diversify: takes one candidate of each class in turn (`selection.diversify`), the
        class being what the model before predicted: alamp-div.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      `Strategy` whose state, a `PreviousModel`, is by pool index: the whole pool is
      predicted in every round, whatever is on the table. The scores are ranks, negated.

    Raises:
      ValueError: batch_size is below 1.

    >>> from jal.types import Data
    >>> data = Data(x=jnp.zeros((3, 2)), y=jnp.zeros(3, jnp.int32))
    >>> alamp(diversify=True).init(jax.random.key(0), data, None).exists.item()
    False

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022, eq. 3 and algorithm 1.
    """
    check_batch_size(batch_size)

    def init(key, data, pool):
        del key, pool
        number = data.y.shape[0]
        return PreviousModel(
            jnp.zeros(number), jnp.zeros(number, jnp.int32), jnp.zeros((), bool)
        )

    def choose(key, state, view: View, k):
        del key
        items = jnp.arange(view.data.y.shape[0])
        gap, group = _gap_and_class(view, items, batch_size)
        before = jnp.where(state.exists, state.gap, 0)
        first = jnp.where(state.exists, acquisition.shift(state.gap, gap), -gap)
        first, before = first[view.candidates], before[view.candidates]
        # Whatever has no gap any more has a shift of 1.
        second = jnp.where(first >= 1, before, 0)
        place = jax.lax.iota(jnp.int32, first.size)
        *_, order = jax.lax.sort((jnp.isnan(first), -first, -second, place), num_keys=4)
        rank = jnp.zeros(first.size).at[order].set(place.astype(first.dtype))
        scores = jnp.where(jnp.isnan(first), jnp.nan, -rank)
        groups = jnp.where(state.exists, state.group, group)[view.candidates]
        chosen = _best(view, scores, groups if diversify else None, k)
        after = PreviousModel(gap.astype(state.gap.dtype), group, jnp.ones((), bool))
        return chosen, after

    return Strategy(init, choose)


def _gap_and_class(view: View, items, batch_size) -> tuple[jax.Array, jax.Array]:
    """p_1 - p_2 and the most probable class, [B] each."""
    logits = predictive.predict_items(view.predict, view.items(items), batch_size).need(
        "logits"
    )
    p = jax.nn.softmax(logits, axis=-1)
    group = jnp.argmax(p, axis=-1).astype(jnp.int32)
    others = jnp.arange(p.shape[-1])[None] != group[:, None]
    return jnp.max(p, axis=-1) - jnp.max(p, axis=-1, where=others, initial=0), group


def _best(view: View, scores, groups, k):
    if groups is None:
        positions = selection.top_k(scores, k, available=view.available)
    else:
        positions = selection.diversify(scores, groups, k, available=view.available)
    return pools.picks(view, positions, scores)
