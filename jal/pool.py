"""Functions on `Pool`, the labelled set in buffers of fixed size, and proposals.

A proposal says what is on the table in each round: the whole pool, a random part of
it, or the next part of a stream.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jal._core import numerics
from jal.types import Data, Picks, Pool, Proposal, View


def create(num_items: int, capacity: int) -> Pool:
    """An empty labelled set over N items.

    Args:
      num_items: N.
      capacity: how many labels there will be at most.

    Returns:
      `Pool` with nothing labelled and nothing excluded.

    Raises:
      ValueError: capacity is negative or larger than N.

    >>> int(create(5, capacity=3).count)
    0
    """
    if not 0 <= capacity <= num_items:
        raise ValueError(
            f"capacity={capacity} with a pool of {num_items} items; it must lie "
            f"between 0 and {num_items}"
        )
    return Pool(
        labeled=jnp.zeros(num_items, bool),
        excluded=jnp.zeros(num_items, bool),
        order=jnp.full(capacity, -1, jnp.int32),
        count=jnp.zeros((), jnp.int32),
    )


def add(pool: Pool, indices: jax.Array) -> Pool:
    """Moves items to the labelled set, in the order given.

    Args:
      pool: the labelled set.
      indices: [K] distinct unlabelled pool indices; -1 is skipped. Items beyond the
        capacity are not added.

    Returns:
      `Pool` whose count has grown by the number of items added.

    >>> pool = add(create(5, capacity=3), jnp.array([4, -1, 0]))
    >>> pool.order.tolist(), int(pool.count)
    ([4, 0, -1], 2)
    """
    chex.assert_rank(indices, 1)
    num_items, capacity = pool.labeled.shape[0], pool.order.shape[0]
    valid = indices >= 0
    slots = pool.count + jnp.cumsum(valid, dtype=jnp.int32) - 1
    valid &= slots < capacity
    # Out-of-range positions are dropped; -1 would count from the end.
    return Pool(
        labeled=pool.labeled.at[jnp.where(valid, indices, num_items)].set(
            True, mode="drop"
        ),
        excluded=pool.excluded,
        order=pool.order.at[jnp.where(valid, slots, capacity)].set(
            indices.astype(jnp.int32), mode="drop"
        ),
        count=pool.count + jnp.sum(valid, dtype=jnp.int32),
    )


def exclude(pool: Pool, indices: jax.Array) -> Pool:
    """Marks items that are never to be offered (skipped items, a held-out part).

    Args:
      pool: the labelled set.
      indices: [K] pool indices; -1 is skipped.

    Returns:
      `Pool` in which they are excluded.

    >>> open_items(exclude(create(3, capacity=1), jnp.array([1]))).tolist()
    [True, False, True]
    """
    rows = jnp.where(indices >= 0, indices, pool.labeled.shape[0])
    return pool._replace(excluded=pool.excluded.at[rows].set(True, mode="drop"))


def open_items(pool: Pool) -> jax.Array:
    """Which items may still be chosen: neither labelled nor excluded.

    Args:
      pool: the labelled set.

    Returns:
      [N] bool.

    >>> open_items(add(create(3, capacity=1), jnp.array([0]))).tolist()
    [False, True, True]
    """
    return ~(pool.labeled | pool.excluded)


def hide(data: Data, pool: Pool, *, cost_is_known: bool = False) -> Data:
    """The data as a strategy may see them, unbought labels and costs hidden.

    Args:
      data: N items with labels and costs.
      pool: the labelled set.
      cost_is_known: whether the cost is known before an item is bought.

    Returns:
      `Data` without test data, y = -1 (NaN if floating) and cost = NaN wherever an item
      is not labelled, the cost as it is if it is known.

    >>> data = Data(x=jnp.zeros((3, 1)), y=jnp.array([7, 8, 9]))
    >>> hide(data, add(create(3, capacity=1), jnp.array([1]))).y.tolist()
    [-1, 8, -1]
    """
    hidden = jnp.nan if jnp.issubdtype(data.y.dtype, jnp.floating) else -1
    cost = data.cost
    if cost is not None and not cost_is_known:
        cost = jnp.where(pool.labeled, cost, jnp.nan)
    return Data(data.x, jnp.where(pool.labeled, data.y, hidden), cost)


def labeled_items(pool: Pool) -> tuple[jax.Array, jax.Array]:
    """The labelled items in a buffer of fixed size.

    Args:
      pool: the labelled set.

    Returns:
      [L] pool indices, L the capacity, and [L] bool, which of them are labelled: what
      is beyond the count is item 0.

    >>> items, is_labeled = labeled_items(add(create(5, capacity=2), jnp.array([4])))
    >>> items.tolist(), is_labeled.tolist()
    ([4, 0], [True, False])
    """
    order = pool.order
    return jnp.maximum(order, 0), jnp.arange(order.size) < pool.count


def minibatch(key: jax.Array, pool: Pool, batch_size: int) -> jax.Array:
    """Labelled items drawn uniformly with replacement.

    Args:
      key: PRNG key.
      pool: the labelled set, not empty.
      batch_size: B.

    Returns:
      [B] int32 pool indices.

    >>> pool = add(create(5, capacity=3), jnp.array([4]))
    >>> minibatch(jax.random.key(0), pool, 2).tolist()
    [4, 4]
    """
    return pool.order[jax.random.randint(key, (batch_size,), 0, pool.count)]


def shuffled(key: jax.Array, pool: Pool) -> jax.Array:
    """The labelled items in a random order, for an epoch without replacement.

    Args:
      key: PRNG key.
      pool: the labelled set.

    Returns:
      [L] int32 pool indices, L the capacity; only the first `pool.count` are valid.

    >>> pool = add(create(5, capacity=3), jnp.array([4, 1]))
    >>> sorted(shuffled(jax.random.key(0), pool)[:2].tolist())
    [1, 4]
    """
    chance = jax.random.uniform(key, pool.order.shape)
    valid = jnp.arange(pool.order.size) < pool.count
    return pool.order[jnp.argsort(jnp.where(valid, chance, jnp.inf))]


def balanced_indices(
    key: jax.Array, labels: jax.Array, *, per_class: int, num_classes: int
) -> jax.Array:
    """A random set with the same number of items of each class.

    Args:
      key: PRNG key.
      labels: [N] integer labels in [0, C).
      per_class: items of each class; each class must have that many.
      num_classes: C.

    Returns:
      [C * per_class] int32 indices, class by class; -1 where a class has too few.

    >>> labels = jnp.array([0, 1, 0, 1, 1])
    >>> chosen = balanced_indices(
    ...     jax.random.key(0), labels, per_class=2, num_classes=2
    ... )
    >>> labels[chosen].tolist()
    [0, 0, 1, 1]
    """
    chance = jax.random.uniform(key, labels.shape)
    of_class = lambda c: numerics.masked_top_k(chance, per_class, available=labels == c)
    return jax.vmap(of_class)(jnp.arange(num_classes)).reshape(-1)


def picks(view: View, positions: jax.Array, scores: jax.Array | None = None) -> Picks:
    """Positions among the candidates of a view, as an acquisition.

    Args:
      view: what a strategy is given.
      positions: [K] of a selector, -1 for none.
      scores: [M] of the candidates, or None.

    Returns:
      `Picks` of pool indices.

    >>> view = View(print, None, None, jnp.array([7, 9]), jnp.ones(2, bool))
    >>> picks(view, jnp.array([1, -1])).indices.tolist()
    [9, -1]
    """
    indices = jnp.where(positions >= 0, view.candidates[positions], -1)
    return Picks(indices.astype(jnp.int32), scores)


def everything() -> Proposal:
    """The whole pool in every round: M = N candidates.

    Returns:
      `Proposal` without state.

    >>> proposal = everything()
    >>> proposal.propose(None, (), create(3, capacity=1))[0].tolist()
    [0, 1, 2]
    """

    def propose(key, state, pool):
        del key
        available = open_items(pool)
        return jnp.arange(available.shape[0], dtype=jnp.int32), available, state

    return Proposal(init=lambda key, pool: (), propose=propose)


def random_subset(num_candidates: int) -> Proposal:
    """A fresh random part of what is open in every round.

    Args:
      num_candidates: M, at most N. Where fewer are open, the rest is not available.

    Returns:
      `Proposal` without state; candidates are sorted by index.

    Raises:
      ValueError: M is not in [1, N].

    >>> proposal, pool = random_subset(2), create(3, capacity=1)
    >>> proposal.propose(jax.random.key(0), proposal.init(None, pool), pool)[1].tolist()
    [True, True]
    """

    def init(key, pool):
        _check_num_candidates(num_candidates, pool)
        return ()

    def propose(key, state, pool):
        open_now = open_items(pool)
        chance = jax.random.uniform(key, open_now.shape)
        chosen = numerics.masked_top_k(chance, num_candidates, available=open_now)
        return *_sorted_candidates(chosen, chosen >= 0), state

    return Proposal(init, propose)


class StreamState(NamedTuple):
    """How far a stream has been served.

    Attributes:
      order: [N] int32, the items in the order in which they are served.
      position: [] int32, the first one not yet served.
      end: [] int32, how many of `order` are to be served.
    """

    order: jax.Array
    position: jax.Array
    end: jax.Array


def stream(num_candidates: int, *, redraw: bool = True) -> Proposal:
    """Disjoint sets of candidates; what is not chosen when it passes by is gone.

    When fewer than M items are left, the items never bought are shuffled and served
    again (`redraw`), or no more candidates are offered.

    Args:
      num_candidates: M, at most N.
      redraw: whether to go on with the items never bought when the stream is dry.

    Returns:
      `Proposal` with a `StreamState`; candidates are sorted by index.

    Raises:
      ValueError: M is not in [1, N].

    >>> proposal, pool = stream(2), create(4, capacity=1)
    >>> state = proposal.init(jax.random.key(0), pool)
    >>> first, _, state = proposal.propose(jax.random.key(1), state, pool)
    >>> second, _, state = proposal.propose(jax.random.key(2), state, pool)
    >>> sorted(first.tolist() + second.tolist())
    [0, 1, 2, 3]

    Reference: Bernatchez, Durand and Lavoie-Cardinal, "Annotation cost-sensitive deep
    active learning with limited data", 2022, Methods.
    """

    def draw(key, pool):
        open_now = open_items(pool)
        chance = jax.random.uniform(key, open_now.shape)
        order = jnp.argsort(jnp.where(open_now, chance, jnp.inf))
        return StreamState(
            order.astype(jnp.int32),
            jnp.zeros((), jnp.int32),
            jnp.sum(open_now, dtype=jnp.int32),
        )

    def init(key, pool):
        _check_num_candidates(num_candidates, pool)
        return draw(key, pool)

    def propose(key, state, pool):
        if redraw:
            state = jax.lax.cond(
                state.position + num_candidates > state.end,
                lambda: draw(key, pool),
                lambda: state,
            )
        places = state.position + jnp.arange(num_candidates, dtype=jnp.int32)
        served = state.order.at[places].get(mode="clip")
        available = (places < state.end) & open_items(pool)[served]
        if not redraw:  # a last set that is not full is not served
            available &= state.position + num_candidates <= state.end
        candidates, available = _sorted_candidates(served, available)
        state = state._replace(position=state.position + num_candidates)
        return candidates, available, state

    return Proposal(init, propose)


def _check_num_candidates(num_candidates, pool):
    num_items = pool.labeled.shape[0]
    if not 1 <= num_candidates <= num_items:
        raise ValueError(
            f"num_candidates={num_candidates} with a pool of {num_items} items; it "
            f"must lie between 1 and {num_items}"
        )


def _sorted_candidates(candidates, available):
    """Sorts by pool index, so that ties of scores go to the lower index."""
    order = jnp.argsort(jnp.where(available, candidates, jnp.iinfo(jnp.int32).max))
    return jnp.maximum(candidates[order], 0), available[order]
