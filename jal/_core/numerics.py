"""Numerical pieces that several modules share: entropies, moment merging, top-k."""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy


def entropy_of_probabilities(probabilities: jax.Array) -> jax.Array:
    """Shannon entropy H(p) = -sum_c p_c ln p_c, with 0 ln 0 = 0.

    Args:
      probabilities: [..., C] in [0, 1].

    Returns:
      [...] entropies in nats.

    >>> bool(entropy_of_probabilities(jnp.array([0.0, 1.0])) == 0)
    True
    """
    # max, because -sum is -0.0 for a one-hot vector and may round below zero.
    return jnp.maximum(-jnp.sum(xlogy(probabilities, probabilities), axis=-1), 0.0)


def entropy_of_log_probabilities(log_probabilities: jax.Array) -> jax.Array:
    """Shannon entropy from log-probabilities, exact at -inf.

    Args:
      log_probabilities: [..., C], each row normalised; -inf allowed.

    Returns:
      [...] entropies in nats.

    >>> bool(entropy_of_log_probabilities(jnp.array([0.0, -jnp.inf])) == 0)
    True
    """
    log_p = jnp.where(jnp.isneginf(log_probabilities), 0.0, log_probabilities)
    return jnp.maximum(-jnp.sum(jnp.exp(log_probabilities) * log_p, axis=-1), 0.0)


def merge_moments(
    count_a: jax.Array,
    mean_a: jax.Array,
    spread_a: jax.Array,
    count_b: jax.Array,
    mean_b: jax.Array,
    spread_b: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Merges two sets of (count, mean, sum of squared deviations).

    With n = n_a + n_b and d = mean_b - mean_a: mean = mean_a + d n_b / n and
    spread = spread_a + spread_b + d^2 n_a n_b / n. An empty set (count 0) is neutral.

    Args:
      count_a: [] number of samples, as `count_b`.
      mean_a: [...] mean, as `mean_b`.
      spread_a: [...] sum of squared deviations from the mean, as `spread_b`.
      count_b: see `count_a`.
      mean_b: see `mean_a`.
      spread_b: see `spread_a`.

    Returns:
      count [], mean [...], spread [...] of the union.

    >>> one = jnp.float32(1)
    >>> _, mean, spread = merge_moments(one, one, 0 * one, one, 3 * one, 0 * one)
    >>> float(mean), float(spread)
    (2.0, 2.0)

    Reference: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", 1979, eq. 2.1.
    """
    count = count_a + count_b
    share_b = count_b / jnp.maximum(count, 1)
    difference = mean_b - mean_a
    mean = mean_a + difference * share_b
    spread = spread_a + spread_b + difference * difference * (count_a * share_b)
    return count, mean, spread


def top_k(values: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest values and their positions, as `jax.lax.top_k` but sooner on CPU.

    There `jax.lax.top_k` sorts all of them. Here they are cut into about sqrt(M k)
    groups, and only the members of the k groups with the largest maxima are sorted: k
    maxima are k values, and none of another group comes before the last of them.

    Args:
      values: [M] floating, without NaN.
      k: how many, at most M.

    Returns:
      values [k], largest first, and their positions [k] int32; ties go to the lower
      position.

    >>> top_k(jnp.array([3.0, 1.0, 3.0, 2.0]), 3)[1].tolist()
    [0, 2, 3]
    """
    size = values.size
    width = math.isqrt(size // max(k, 1))
    if width < 2 or k == 0:
        return jax.lax.top_k(values, k)
    groups = -(-size // width)
    table = jnp.pad(values, (0, groups * width - size), constant_values=-jnp.inf)
    table = table.reshape(groups, width)
    _, chosen = jax.lax.top_k(jnp.max(table, axis=1), k)
    chosen = jnp.sort(chosen)  # so that positions rise, and ties go to the lower one
    best, members = jax.lax.top_k(table[chosen].reshape(-1), k)
    return best, chosen[members // width] * width + members % width


def masked_top_k(
    scores: jax.Array, k: int, *, available: jax.Array | None = None
) -> jax.Array:
    """Positions of the k largest available scores, best first.

    NaN counts as unavailable, -0.0 as 0.0, ties go to the lower position, and an
    available item whose score is -inf still comes after all finite ones.

    Args:
      scores: [M] floating or integer.
      k: how many, at most M.
      available: [M] bool, or None for all.

    Returns:
      [k] int32 positions, -1 beyond what is available.

    Raises:
      ValueError: k > M.

    >>> masked_top_k(jnp.array([1.0, jnp.nan, 2.0]), 3).tolist()
    [2, 0, -1]
    """
    chex.assert_rank(scores, 1)
    usable = ~jnp.isnan(scores)
    if available is not None:
        chex.assert_equal_shape([scores, available])
        usable &= available
    if k > scores.size:
        raise ValueError(f"k={k}; there are {scores.size} scores to choose from")
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        # Every integer may be a score, so that none is left to mark the unusable; and
        # ~ reverses the order of all of them, unsigned ones and the lowest too.
        order = jax.lax.iota(jnp.int32, scores.size)
        missing, _, order = jax.lax.sort((~usable, ~scores, order), num_keys=3)
        return jnp.where(missing[:k], -1, order[:k])
    scores = jnp.where(scores == 0, jnp.zeros_like(scores), scores)
    lowest = jnp.finfo(scores.dtype).min
    scores = jnp.where(usable, jnp.maximum(scores, lowest), -jnp.inf)
    best, positions = top_k(scores, k)
    return jnp.where(jnp.isneginf(best), -1, positions).astype(jnp.int32)


def checked_available(
    k: int, num_items: int, available: jax.Array | None, *, name: str = "k"
) -> jax.Array:
    """Checks what all selectors are given: a number of picks and who may be picked.

    Args:
      k: K, static.
      num_items: N.
      available: [N] bool, or None for all.
      name: what the caller calls `k`.

    Returns:
      [N] bool, `available` with None filled in.

    Raises:
      ValueError: if `k` is not an integer in [0, N].

    >>> checked_available(2, 3, None).tolist()
    [True, True, True]
    """
    if not isinstance(k, (int, np.integer)) or not 0 <= k <= num_items:
        raise ValueError(
            f"{name} must be an integer between 0 and the number of items {num_items}, "
            f"got {k!r}"
        )
    if available is None:
        return jnp.ones(num_items, bool)
    available = jnp.asarray(available)
    chex.assert_shape(available, (num_items,))
    chex.assert_type(available, bool)
    return available


def take_rows(tree: Any, indices: jax.Array) -> Any:
    """Rows of each leaf of a pytree.

    Args:
      tree: pytree of [N, ...].
      indices: [B] int32.

    Returns:
      Pytree of [B, ...].

    >>> take_rows({"a": jnp.arange(5)}, jnp.array([4, 1]))["a"].tolist()
    [4, 1]
    """
    return jax.tree.map(lambda leaf: leaf[indices], tree)
