"""Batches that differ from each other: greedy k-centre and BADGE.

Both choose one item after the other, and each choice changes the distances of all
items. Here the choices are made in blocks, so that the features are read once a block
and not once a choice, without changing what is chosen: distances to the nearest chosen
item only fall, so those of before the block bound those of now.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jal import numerics


class Blocks(NamedTuple):
    """How many items are compared with all items at a time.

    Attributes:
      candidates: of a block of choices.
      few: where one choice changes everything, most candidates of a block are of no
        use, and a multiplication of this size is enough.
      centers: items that were chosen before the first block.
    """

    candidates: int
    few: int
    centers: int


# Wide enough for matrix multiplications to be bound by arithmetic and not by memory.
BLOCKS = Blocks(candidates=64, few=8, centers=128)


def k_center(
    features: jax.Array,
    k: int,
    *,
    centers: jax.Array,
    available: jax.Array | None = None,
) -> jax.Array:
    """Picks the item farthest from all that is labelled or picked, K times.

    Next = argmax over the available i of min over j in centers + picked of
    |x_i - x_j|. If there is no centre to begin with, the first pick is the available
    item nearest the mean of the available ones. Squared distances below the rounding
    error of their computation count as 0, so that a duplicate of a centre stays behind
    everything else.

    Args:
      features: [N, D] in any unit. A row with NaN or infinite values is never picked,
        and no centre either.
      k: K, static, 0 <= K <= N.
      centers: [N] bool, items that are covered already (the labelled ones); they are
        never picked. All of it may be False.
      available: [N] bool, items that may be picked; None for all.

    Returns:
      [K] int32 positions in the order picked, -1 beyond what is available.

    Raises:
      ValueError: if `k` is not an integer in [0, N].

    >>> features = jnp.array([[0.0, 0], [1, 0], [5, 0], [6, 0], [3, 4]])
    >>> k_center(features, 3, centers=jnp.arange(5) == 0).tolist()
    [3, 4, 1]

    Reference: Sener and Savarese, "Active learning for convolutional neural networks: a
    core-set approach", 2018, algorithm 1; Gonzalez, "Clustering to minimize the maximum
    intercluster distance", 1985.
    """
    chex.assert_rank(features, 2)
    features = _floating(features)
    n = features.shape[0]
    available = numerics.checked_available(k, n, available)
    centers = jnp.asarray(centers)
    chex.assert_shape(centers, (n,))
    chex.assert_type(centers, bool)
    if k == 0:
        return jnp.zeros(0, jnp.int32)
    return _k_center(features, centers, available, k=int(k), blocks=BLOCKS)


# Compiled, because each call outside of jit would compile the loops in it anew.
@functools.partial(jax.jit, static_argnames=("k", "blocks"))
def _k_center(features, centers, available, *, k, blocks):
    n = features.shape[0]
    finite = jnp.isfinite(_sizes(features))
    available &= finite & ~centers
    centers &= finite
    features = _centered(features, available | centers)
    norms = jnp.sum(jnp.square(features), axis=1)
    limit = jnp.minimum(k, jnp.sum(available, dtype=jnp.int32))

    def distances(rows: jax.Array, to: jax.Array | slice = slice(None)):
        products = _products(features[to], features[rows])
        return _squared_distances(norms[to], norms[rows], products, features.shape[1])

    # Without any centre the first pick becomes one.
    total, number = _sum(features, available)
    to_mean = number * norms - 2 * _products(features, total[None])[:, 0]
    first = jnp.argmin(jnp.where(available, to_mean, jnp.inf)).astype(jnp.int32)
    count = jnp.where(jnp.any(centers), 0, jnp.minimum(limit, 1))
    picks = jnp.full(k + blocks.candidates, -1, jnp.int32)
    picks = picks.at[0].set(jnp.where(count > 0, first, -1))
    centers = centers.at[first].set(centers[first] | (count > 0))

    size = min(blocks.centers, n)
    (order,) = jnp.nonzero(centers, size=-(-n // size) * size, fill_value=0)
    num_centers = jnp.sum(centers, dtype=jnp.int32)

    def add_centers(number, nearest):
        rows = jax.lax.dynamic_slice(order, (number * size,), (size,))
        return _update(nearest, distances, rows, num_centers - number * size, blocks)

    nearest = jax.lax.fori_loop(
        0, -(-num_centers // size), add_centers, jnp.full(n, jnp.inf, features.dtype)
    )
    # -1 marks what cannot be picked, and stays the smallest.
    nearest = jnp.where(available & ~centers, nearest, -1)

    def pick_block(state):
        nearest, picks, count = state
        values, rows = numerics.top_k(nearest, min(blocks.candidates, n))
        # No item outside of the block comes before its last one, now or later.
        bound, last = values[-1], rows[-1]
        rows = jnp.sort(rows)  # so that ties go to the lower position
        mutual = distances(rows, rows)

        def comes_first(state):
            values, best, chosen, taken = state
            value = values[best]
            before = (value > bound) | ((value == bound) & (rows[best] <= last))
            return before & (count + taken < limit)

        def pick(state):
            values, best, chosen, taken = state
            values = jnp.minimum(values, mutual[best]).at[best].set(-1)
            chosen = chosen.at[taken].set(rows[best])
            return values, jnp.argmax(values), chosen, taken + 1

        values = nearest[rows]
        start = values, jnp.argmax(values), jnp.full_like(rows, -1), jnp.int32(0)
        _, _, chosen, taken = jax.lax.while_loop(comes_first, pick, start)
        nearest = _update(nearest, distances, chosen, taken, blocks)
        nearest = _at(nearest, chosen, taken, -1)
        return nearest, _append(picks, chosen, count), count + taken

    _, picks, _ = jax.lax.while_loop(
        lambda state: state[2] < limit, pick_block, (nearest, picks, count)
    )
    return picks[:k]


def badge(
    key: jax.Array,
    probabilities: jax.Array,
    features: jax.Array,
    k: int,
    *,
    available: jax.Array | None = None,
) -> jax.Array:
    """Draws K items whose gradients are large and differ from each other.

    k-means++ seeding on the gradient embeddings g_i = a_i outer h_i of the last layer,
    a_i = p_i - onehot(argmax p_i). The first pick has the largest |g|, each other one
    is drawn with probability D_i^2 / sum over j of D_j^2, where D_i is the distance to
    the nearest pick, or uniformly if all of these are 0. The embeddings, C * D numbers
    an item, are never formed:

      |g_i - g_j|^2 = |a_i|^2 |h_i|^2 + |a_j|^2 |h_j|^2 - 2 (a_i . a_j) (h_i . h_j),

    taken as 0 below the rounding error of this sum.

    Args:
      key: PRNG key, consumed.
      probabilities: [N, C] predicted probabilities. A row with NaN or infinite values
        is never picked, here and in `features`.
      features: [N, D] penultimate features in any unit.
      k: K, static, 0 <= K <= N.
      available: [N] bool, items that may be picked; None for all.

    Returns:
      [K] int32 distinct positions in the order picked, -1 beyond what is available.

    Raises:
      ValueError: if `k` is not an integer in [0, N].

    >>> probabilities = jnp.array([[0.5, 0.5], [0.5, 0.5], [0.7, 0.3]])
    >>> features = jnp.array([[2.0], [2.0], [0.1]])
    >>> badge(jax.random.key(0), probabilities, features, 3).tolist()
    [0, 2, 1]

    Reference: Ash et al., "Deep batch active learning by diverse, uncertain gradient
    lower bounds", 2020, algorithm 1; Arthur and Vassilvitskii, "k-means++: the
    advantages of careful seeding", 2007.
    """
    chex.assert_rank([probabilities, features], 2)
    chex.assert_equal_shape_prefix([probabilities, features], 1)
    probabilities, h = _floating(probabilities), _floating(features)
    n = h.shape[0]
    available = numerics.checked_available(k, n, available)
    if k == 0:
        return jnp.zeros(0, jnp.int32)
    return _badge(key, probabilities, h, available, k=int(k), blocks=BLOCKS)


@functools.partial(jax.jit, static_argnames=("k", "blocks"))
def _badge(key, probabilities, h, available, *, k, blocks):
    n = h.shape[0]
    available &= jnp.isfinite(_sizes(probabilities)) & jnp.isfinite(_sizes(h))
    one_hot = jax.nn.one_hot(
        jnp.argmax(probabilities, axis=1),
        probabilities.shape[1],
        dtype=probabilities.dtype,
    )
    a = _scaled(probabilities - one_hot, available)
    h = _scaled(h, available)
    terms = a.shape[1] + h.shape[1]
    norms = jnp.sum(jnp.square(a), axis=1) * jnp.sum(jnp.square(h), axis=1)
    limit = jnp.minimum(k, jnp.sum(available, dtype=jnp.int32))

    def distances(rows: jax.Array, to: jax.Array | slice = slice(None)):
        products = _products(a[to], a[rows]) * _products(h[to], h[rows])
        return _squared_distances(norms[to], norms[rows], products, terms)

    size = min(blocks.candidates, n)
    first = jnp.argmax(jnp.where(available, norms, -1))
    chosen = jnp.full(size, -1, jnp.int32).at[0].set(first.astype(jnp.int32))
    taken = jnp.minimum(limit, 1)
    weights = jnp.where(available, jnp.inf, 0).astype(norms.dtype)
    weights = _update(weights, distances, chosen, taken, blocks)
    picks = jnp.full(k + blocks.candidates, -1, jnp.int32)
    picks = _append(picks, jnp.where(taken > 0, chosen, -1), 0)
    left = _at(available, chosen, taken, False)

    def pick_block(state):
        weights, left, picks, count = state
        draw_key, accept_key = jax.random.split(jax.random.fold_in(key, count))
        # If all that is left are copies of what was picked, they are all the same.
        copies = ~jnp.any(weights > 0)
        drawn_from = jnp.where(copies, left.astype(weights.dtype), weights)
        rows = _draw(draw_key, drawn_from, size)
        mutual = jnp.where(copies, jnp.inf, distances(rows, rows))
        mutual = jnp.where(rows[:, None] == rows[None], 0, mutual)
        level = jax.random.uniform(accept_key, rows.shape, weights.dtype)
        level *= drawn_from[rows]

        # Rejection sampling: what was drawn with the weights of before the block and is
        # accepted with probability D^2 now / D^2 then is drawn with the weights of now.
        def consider(number, state):
            now, chosen, taken = state
            accepted = (number == 0) | (level[number] < now[number])
            accepted &= count + taken < limit
            now = jnp.where(accepted, jnp.minimum(now, mutual[number]), now)
            slot = jnp.where(accepted, taken, size)
            chosen = chosen.at[slot].set(rows[number], mode="drop")
            return now, chosen, taken + accepted

        start = drawn_from[rows], jnp.full_like(rows, -1), jnp.int32(0)
        _, chosen, taken = jax.lax.fori_loop(0, size, consider, start)
        weights = _update(weights, distances, chosen, taken, blocks)
        weights = _at(weights, chosen, taken, 0)
        left = _at(left, chosen, taken, False)
        return weights, left, _append(picks, chosen, count), count + taken

    *_, picks, _ = jax.lax.while_loop(
        lambda state: state[-1] < limit, pick_block, (weights, left, picks, taken)
    )
    return picks[:k]


def _floating(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _sizes(rows: jax.Array) -> jax.Array:
    """[N] largest absolute value of each row."""
    return jnp.max(jnp.abs(rows), axis=1, initial=0)


def _power_of_two(number: jax.Array) -> jax.Array:
    """A power of two between a third of `number` and `number`; 1 for 0."""
    # Arithmetic would not do: compilers reorder divisions, which rounds.
    bits = jnp.finfo(number.dtype).nexp
    power = jax.lax.reduce_precision(number / 2, exponent_bits=bits, mantissa_bits=0)
    return jnp.where(power > 0, power, 1)


def _scaled(rows: jax.Array, usable: jax.Array) -> jax.Array:
    """Rows divided by a power of two, so that squares neither overflow nor vanish.

    Only ratios of distances count. Rows that are not usable become 0.
    """
    size = jnp.max(jnp.where(usable, _sizes(rows), 0), initial=0)
    return jnp.where(usable[:, None], rows, 0) / _power_of_two(size)


def _sum(rows: jax.Array, usable: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[D] sum of the usable rows, and their number."""
    usable = usable.astype(rows.dtype)
    return _products(usable[None], rows.T)[0], jnp.sum(usable)


def _centered(features: jax.Array, usable: jax.Array) -> jax.Array:
    """Features about the mean of those that are usable, scaled.

    Distances between items far from the origin would be small differences of large
    numbers. The mean need not be exact: it is rounded to quarters of a spread that is a
    power of two, so that small integers stay exact, and with them all ties.
    """
    features = _scaled(features, usable)
    total, number = _sum(features, usable)
    mean = total / jnp.maximum(number, 1)
    deviations = jnp.mean(jnp.abs(features - mean[None]), axis=1)
    spread = jnp.sum(jnp.where(usable, deviations, 0)) / jnp.maximum(number, 1)
    step = _power_of_two(spread) / 4
    mean = step * jnp.round(mean / step)
    # A barrier, because this would be computed anew wherever it is used.
    return jax.lax.optimization_barrier(features - mean[None])


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
    # Full precision: accelerators would round the factors, and distances cancel.
    return jnp.matmul(x, y.T, precision="highest")


def _squared_distances(
    norms_x: jax.Array, norms_y: jax.Array, products: jax.Array, terms: int
) -> jax.Array:
    """|x - y|^2 = |x|^2 + |y|^2 - 2 x . y of all pairs, 0 within the rounding error.

    Args:
      norms_x: [A] squared norms.
      norms_y: [B] squared norms.
      products: [A, B] inner products.
      terms: number of terms of an inner product.
    """
    total = norms_x[:, None] + norms_y[None]
    squared = total - 2 * products
    precision = jnp.finfo(total.dtype)
    # Twice what copies of an item of 2 to 8,192 numbers were found to be apart.
    error = jnp.maximum(precision.eps * terms**0.5 * total, precision.tiny)
    return jnp.where(squared > error, squared, 0)


def _update(nearest, distances, chosen, taken, blocks):
    """[N] `nearest` after the first `taken` of the items `chosen` were chosen."""

    def after(size):
        squared = distances(chosen[:size])
        valid = jnp.arange(size) < taken
        squared = jnp.where(valid[None], squared, jnp.inf)
        return jnp.minimum(nearest, jnp.min(squared, axis=1))

    # Twice as many from size to size, so that less than half of the columns is waste.
    sizes = [blocks.few]
    while 2 * sizes[-1] < chosen.size:
        sizes.append(2 * sizes[-1])
    sizes = [size for size in sizes if size < chosen.size] + [chosen.size]
    enough = jnp.searchsorted(jnp.asarray(sizes), taken, method="compare_all")
    return jax.lax.switch(enough, [functools.partial(after, size) for size in sizes])


def _at(array, chosen, taken, value):
    """`array` with `value` at the first `taken` of the positions `chosen`."""
    valid = jnp.arange(chosen.size) < taken
    return array.at[jnp.where(valid, chosen, array.size)].set(value, mode="drop")


def _append(picks, chosen, count):
    """Writes `chosen` behind the first `count` of the picks."""
    return jax.lax.dynamic_update_slice(picks, chosen, (count,))


def _draw(key: jax.Array, weights: jax.Array, size: int) -> jax.Array:
    """[size] independent positions, each with probability weight / sum of weights.

    First a part of the items and then an item of it, in a table of about sqrt(N) by
    sqrt(N): noise for each of N items would cost more than their distances, and in a
    sum over all of them the small weights would be lost.
    """
    part_key, item_key = jax.random.split(key)
    side = math.isqrt(weights.size - 1) + 1
    table = jnp.pad(weights, (0, side * side - weights.size)).reshape(side, side)
    log_sums = jnp.log(jnp.sum(table, axis=1))
    parts = jax.random.categorical(part_key, log_sums, shape=(size,))
    items = jax.random.categorical(item_key, jnp.log(table[parts]), axis=1)
    return (parts * side + items).astype(jnp.int32)
