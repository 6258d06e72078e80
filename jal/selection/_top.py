"""Selectors: scores (and costs, groups) in, positions of the items to label out.

All return int32 positions in the array given, best first. NaN counts as unavailable,
-0.0 as 0.0, ties go to the lower position, and positions beyond what is available are
-1. Numbers of picks are static; everything else may be traced. The selectors that look
at more than scores are in files of their own.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jal._core import numerics


def _sort_keys(
    scores: jax.Array, available: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Operands (missing, key, position) whose ascending order is best first.

    A key of its own for what is missing keeps an available -inf ahead of it, and `~`
    reverses integers where `-` overflows.
    """
    missing = ~available | jnp.isnan(scores)
    floating = jnp.issubdtype(scores.dtype, jnp.floating)
    position = jax.lax.iota(jnp.int32, scores.size)
    return missing, -scores if floating else ~scores, position


def top_k(
    scores: jax.Array, k: int, *, available: jax.Array | None = None
) -> jax.Array:
    """Positions of the K highest scores.

    Args:
      scores: [N], higher = label it.
      k: K, static, 0 <= K <= N.
      available: [N] bool, items that may be chosen; None for all.

    Returns:
      [K] int32 positions, best first, -1 beyond what is available.

    Raises:
      ValueError: if `k` is not an integer in [0, N].

    >>> top_k(jnp.array([0.1, jnp.nan, 0.7, 0.7]), 3).tolist()
    [2, 3, 0]
    """
    scores = jnp.asarray(scores)
    chex.assert_rank(scores, 1)
    available = numerics.checked_available(k, scores.size, available)
    return numerics.masked_top_k(scores, k, available=available)


def power(
    key: jax.Array,
    scores: jax.Array,
    k: int,
    *,
    exponent: float | jax.Array = 1.0,
    available: jax.Array | None = None,
) -> jax.Array:
    """Draws K items without replacement, with probability in proportion to a power.

    P(next = i) = score_i^exponent / sum over the items j left of score_j^exponent, all
    K picks at once as the top K of exponent * ln score_i + Gumbel noise. A batch of the
    K highest scores is full of near-duplicates; noise spreads it out. Exponent 0 is
    uniform over the available items (0^0 = 1), a very large one is `top_k`.

    Items of score inf come before all others and items of score 0 after them, each in
    random order.

    Args:
      key: PRNG key, consumed.
      scores: [N] >= 0; a negative score counts as unavailable, as NaN does.
      k: K, static, 0 <= K <= N.
      exponent: [] >= 0 and finite, the inverse temperature.
      available: [N] bool, items that may be chosen; None for all.

    Returns:
      [K] int32 positions in the order drawn, -1 beyond what is available.

    Raises:
      ValueError: if `k` is not an integer in [0, N], or if an `exponent` that is not a
        jax.Array is negative, NaN or infinite.

    >>> power(jax.random.key(0), jnp.array([0.0, 2.0, -1.0]), 3).tolist()
    [1, 0, -1]

    Reference: Kirsch et al., "Stochastic batch acquisition: a simple baseline for deep
    active learning", 2021 (power acquisition); Kool, van Hoof and Welling, "Stochastic
    beams and where to find them", 2019 (Gumbel-top-k).
    """
    scores = jnp.asarray(scores)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    chex.assert_rank(scores, 1)
    available = numerics.checked_available(k, scores.size, available)
    chex.assert_rank(exponent, 0)
    if not isinstance(exponent, jax.Array) and not 0 <= exponent < np.inf:
        raise ValueError(f"exponent must be finite and >= 0, got {exponent!r}")
    exponent = jnp.asarray(exponent, scores.dtype)

    usable = available & (scores >= 0)
    # 0 * ln 0 and 0 * ln inf would be NaN, but at exponent 0 every score weighs 1.
    log_scores = jnp.log(jnp.where(usable & (exponent != 0), scores, 1.0))
    # Few bits of noise leave ties among the best of millions of items.
    noise = jax.random.gumbel(key, scores.shape, scores.dtype, mode="high")
    noisy = exponent * jnp.where(jnp.isfinite(log_scores), log_scores, 0.0) + noise
    # Scores of exactly 0 are common (clipped BALD), and infinite ln would absorb the
    # noise and leave the choice among them to their positions.
    tiers = jnp.isposinf(log_scores), jnp.isfinite(log_scores), jnp.isneginf(log_scores)
    picks = jnp.concatenate(
        [numerics.masked_top_k(noisy, k, available=usable & tier) for tier in tiers]
    )
    return picks[jnp.argsort(picks < 0, stable=True)[:k]]


def diversify(
    scores: jax.Array,
    groups: jax.Array,
    k: int,
    *,
    already: jax.Array | None = None,
    available: jax.Array | None = None,
) -> jax.Array:
    """Sweeps over the groups, taking the best item left of each, until K are chosen.

    Lexicographic order of (n_i + r_i, -score_i), where r_i is the number of items of
    i's group that rank before i, and n_i the number that the group has to begin with;
    a group without items left is skipped. Usually the groups are predicted classes.

    Args:
      scores: [N], higher = label it.
      groups: [N] integers, any values.
      k: K, static, 0 <= K <= N.
      already: [N] integers, how many items the group of each item has already, the
        same for all of a group: a group that has n joins in sweep n. None for 0.
      available: [N] bool, items that may be chosen; None for all.

    Returns:
      [K] int32 positions, sweep by sweep and best first within a sweep, -1 beyond what
      is available.

    Raises:
      ValueError: if `k` is not an integer in [0, N].

    >>> scores, groups = jnp.array([0.9, 0.8, 0.7, 0.6]), jnp.array([5, 5, -1, -1])
    >>> diversify(scores, groups, 3).tolist()
    [0, 2, 1]
    >>> diversify(scores, groups, 3, already=jnp.array([1, 1, 0, 0])).tolist()
    [2, 0, 3]

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022, algorithm 1, which has no `already` (and does not end
    when K >= N).
    """
    scores, groups = jnp.asarray(scores), jnp.asarray(groups)
    chex.assert_rank(scores, 1)
    available = numerics.checked_available(k, scores.size, available)
    chex.assert_equal_shape([scores, groups])
    chex.assert_type(groups, int)
    if already is not None:
        already = jnp.asarray(already)
        chex.assert_equal_shape([scores, already])
        chex.assert_type(already, int)

    missing, descending, position = _sort_keys(scores, available)
    # Missing items go to the end of their group, where they delay no other.
    groups, missing, descending, position = jax.lax.sort(
        (groups, missing, descending, position), num_keys=3
    )
    place = jax.lax.iota(jnp.int32, scores.size)
    starts = groups != jnp.roll(groups, 1)
    sweep = place - jax.lax.cummax(jnp.where(starts, place, 0))
    if already is not None:
        sweep += already[position].astype(sweep.dtype)
    # The first sort put groups before positions, so here ties need the position as key.
    missing, _, _, position = jax.lax.sort(
        (missing, sweep, descending, position), num_keys=4
    )
    return jnp.where(missing, -1, position)[:k]


# Not nested in `within_budget`, where each call outside of jit would compile it anew.
def _buy(carry, item):
    """Takes the item if it fits in the budget and a pick is left."""
    spent, left, budget = carry
    missing, cost = item
    total = spent + cost
    chosen = ~missing & (total <= budget) & (left > 0)
    return (jnp.where(chosen, total, spent), left - chosen, budget), chosen


def within_budget(
    value: jax.Array,
    cost: jax.Array,
    budget: float | jax.Array,
    *,
    max_k: int,
    available: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Buys by descending value, skipping what no longer fits in the budget.

    In order of value, item i is chosen if spent + cost_i <= budget and fewer than K
    have been, where spent is the sum so far in the dtype of `cost`: the costs added up
    in the order returned never exceed the budget, not even by rounding.

    Args:
      value: [N], higher = label it.
      cost: [N] >= 0 in any unit; an item of negative or NaN cost is never chosen.
      budget: [] >= 0 in the unit of `cost`, inf allowed. A traced budget that is
        negative or NaN buys nothing.
      max_k: K, static, the largest number of items to choose, 0 <= K <= N.
      available: [N] bool, items that may be chosen; None for all.

    Returns:
      [K] int32 positions by descending value, -1 beyond the number chosen, and that
      number, [] int32.

    Raises:
      ValueError: if `max_k` is not an integer in [0, N], or if a `budget` that is not a
        jax.Array is negative or NaN.

    >>> value, cost = jnp.array([3.0, 2.0, 1.0]), jnp.array([2.0, 2.0, 1.0])
    >>> positions, count = within_budget(value, cost, 3.0, max_k=3)
    >>> positions.tolist(), int(count)
    ([0, 2, -1], 2)

    Reference: Dantzig, "Discrete-variable extremum problems", 1957, where value is the
    gain divided by the cost.
    """
    value, cost = jnp.asarray(value), jnp.asarray(cost)
    chex.assert_rank(value, 1)
    available = numerics.checked_available(max_k, value.size, available, name="max_k")
    chex.assert_equal_shape([value, cost])
    chex.assert_rank(budget, 0)
    if not isinstance(budget, jax.Array) and not budget >= 0:
        raise ValueError(f"budget must be >= 0, got {budget!r}")
    cost = cost.astype(jnp.promote_types(cost.dtype, jnp.float32))
    budget = jnp.asarray(budget, cost.dtype)

    missing, _, order = jax.lax.sort(
        _sort_keys(value, available & (cost >= 0)), num_keys=2
    )

    start = jnp.zeros_like(budget), jnp.int32(max_k), budget
    _, chosen = jax.lax.scan(_buy, start, (missing, cost[order]))
    (places,) = jnp.nonzero(chosen, size=max_k, fill_value=value.size)
    positions = order.at[places].get(mode="fill", fill_value=-1)
    return positions, jnp.sum(chosen, dtype=jnp.int32)
