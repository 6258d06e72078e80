"""Batches that differ from each other: greedy k-centre and BADGE.

Both choose one item after the other, and each choice changes the distances of all
items. Here the choices are made in blocks, so that the features are read once a block
and not once a choice, and most items are left out of most distances. What is chosen
stays the same: distances to the nearest chosen item only fall, so those of before bound
those of now.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jal import numerics


class Blocks(NamedTuple):
    """How many items are compared with each other at a time.

    Attributes:
      candidates: of a block of choices of k-centre.
      few: where one choice changes everything, most candidates of a block are of no
        use, and a multiplication of this size is enough.
      chosen: columns of a multiplication at most; more are taken in turns.
      items: rows of a multiplication, of k-centre.
      draws: candidates of a block of BADGE at most.
    """

    candidates: int
    few: int
    chosen: int
    items: int
    draws: int


# Wide enough for matrix multiplications to be bound by arithmetic and not by memory,
# and small enough for their results to stay in the cache.
BLOCKS = Blocks(candidates=128, few=8, chosen=128, items=512, draws=1024)
# One centre in so many bounds the distances of all items.
SHARE = 4


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
    n, terms = features.shape
    finite = jnp.isfinite(_sizes(features))
    available &= finite & ~centers
    centers &= finite
    usable = available | centers
    root, mean = _frame(features, usable)
    limit = jnp.minimum(k, jnp.sum(available, dtype=jnp.int32))

    # Centred a part at a time: all of it would be written once and read from memory.
    def embedded(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Centred features [A, D] and their squared norms [A]."""
        x = jnp.where(_at(usable, rows)[:, None], _at(features, rows), 0)
        # A barrier, because this would be computed anew wherever it is used.
        x = jax.lax.optimization_barrier(x / root**2 - mean[None])
        return x, jnp.sum(jnp.square(x), axis=1)

    def distances(x: jax.Array, norms: jax.Array) -> Callable[[jax.Array], jax.Array]:
        def to(rows):
            y, norms_y = embedded(rows)
            return _squared_distances(norms, norms_y, _products(x, y), terms)

        return to

    size = min(blocks.items, n)
    parts = -(-n // size)

    def of_all(function, dtype):
        """[N] what `function` says of `size` positions at a time."""

        def one(number, result):
            begin = jnp.minimum(number * size, n - size)
            part = function(begin + jnp.arange(size))
            return jax.lax.dynamic_update_slice(result, part, (begin,))

        return jax.lax.fori_loop(0, parts, one, jnp.zeros(n, dtype))

    # Without any centre the first pick becomes one.
    def nearest_the_mean():
        total, number = _sum(features, available, root)
        total -= number * mean

        def score(rows):
            x, norms = embedded(rows)
            return number * norms - 2 * _products(x, total[None])[:, 0]

        to_mean = of_all(score, features.dtype)
        return jnp.argmin(jnp.where(available, to_mean, jnp.inf)).astype(jnp.int32)

    num_centers = jnp.sum(centers, dtype=jnp.int32)
    first = jax.lax.cond(num_centers > 0, lambda: jnp.int32(-1), nearest_the_mean)
    count = jnp.where(num_centers > 0, 0, jnp.minimum(limit, 1))
    # The centres, and behind them the picks.
    cover = jnp.full(n + k + blocks.candidates, -1, jnp.int32)
    cover = cover.at[:n].set(_spread_out(centers))
    cover = cover.at[num_centers].set(jnp.where(count > 0, first, cover[num_centers]))

    # Some centres bound the distances of all items. Most bounds are below whatever is
    # picked; only the items with the largest join those that are kept up to date.
    some = -(-(num_centers + count) // SHARE)

    def bounds_of(rows):
        to = distances(*embedded(rows))
        nearest = jnp.full(size, jnp.inf, features.dtype)
        return _update(nearest, to, cover, 0, some, blocks)

    # -1 marks what cannot be picked, -2 what has joined.
    bounds = jnp.where(available, of_all(bounds_of, features.dtype), -1)
    bounds = _set(bounds, first, -1)

    def join(state):
        bounds, nearest, members, joined, cover, count = state
        values, rows = numerics.top_k(bounds, size)
        # No item that has not joined comes before the last one, now or later.
        bound, last = values[-1], rows[-1]
        rows = jnp.where(values > -2, rows, n)
        bounds = _set(bounds, rows, -2)
        to = distances(*embedded(rows))
        values = _update(values, to, cover, some, num_centers + count, blocks)
        nearest = _set(nearest, rows, values)
        members = members.at[joined].set(rows)
        joined += 1

        def is_next(value, row):
            return (value > bound) | ((value == bound) & (row <= last))

        def goes_on(state):
            nearest, _, count = state
            best = jnp.argmax(nearest)
            return (count < limit) & is_next(nearest[best], best)

        def pick_block(state):
            nearest, cover, count = state
            chosen, taken = _picks_of_a_block(
                nearest,
                lambda rows: distances(*embedded(rows))(rows),
                is_next,
                limit - count,
                min(blocks.candidates, n),
            )
            cover = _append(cover, chosen, num_centers + count)
            count += taken

            def bring_up_to_date(number, nearest):
                rows = members[number]
                to = distances(*embedded(rows))
                values = _update(_at(nearest, rows), to, chosen, 0, taken, blocks)
                return _set(nearest, rows, values)

            # After the last pick nobody asks.
            used = jnp.where(count < limit, joined, 0)
            nearest = jax.lax.fori_loop(0, used, bring_up_to_date, nearest)
            return _set(nearest, chosen, -1), cover, count

        nearest, cover, count = jax.lax.while_loop(
            goes_on, pick_block, (nearest, cover, count)
        )
        return bounds, nearest, members, joined, cover, count

    nearest = jnp.full(n, -1, features.dtype)
    members = jnp.full((parts, size), n, jnp.int32)
    start = bounds, nearest, members, jnp.int32(0), cover, count
    *_, cover, _ = jax.lax.while_loop(lambda state: state[-1] < limit, join, start)
    return jax.lax.dynamic_slice(cover, (num_centers,), (k,))


def _spread_out(chosen: jax.Array) -> jax.Array:
    """[N] positions of what is chosen, -1 behind them.

    One in `SHARE` of all positions come first, and so on: where items are sorted by
    class, the first of those that are chosen come from all classes.
    """
    n = chosen.size
    table = jnp.pad(chosen, (0, -n % SHARE)).reshape(-1, SHARE)
    (found,) = jnp.nonzero(table.T.reshape(-1), size=n, fill_value=-1)
    rows = found % len(table) * SHARE + found // len(table)
    return jnp.where(found >= 0, rows, -1).astype(jnp.int32)


def _picks_of_a_block(nearest, distances, is_next, most, size):
    """The next picks of k-centre, as far as `size` items tell.

    Args:
      nearest: [N] squared distances to the nearest centre or pick.
      distances: from [size] positions to their [size, size] squared distances.
      is_next: whether no item outside of `nearest` comes before a distance and its
        position.
      most: number of picks at most.
      size: number of candidates.

    Returns:
      [size] positions, -1 behind them, and how many there are.
    """
    values, rows = numerics.top_k(nearest, size)
    # No item outside of the block comes before its last one, now or later.
    bound, last = values[-1], rows[-1]
    rows = jnp.sort(rows)  # so that ties go to the lower position
    mutual = distances(rows)

    def goes_on(state):
        values, best, _, taken = state
        value, row = values[best], rows[best]
        inside = (value > bound) | ((value == bound) & (row <= last))
        return inside & is_next(value, row) & (taken < most)

    def pick(state):
        values, best, chosen, taken = state
        values = jnp.minimum(values, mutual[best]).at[best].set(-1)
        chosen = chosen.at[taken].set(rows[best])
        return values, jnp.argmax(values), chosen, taken + 1

    values = nearest[rows]
    start = values, jnp.argmax(values), jnp.full_like(rows, -1), jnp.int32(0)
    _, _, chosen, taken = jax.lax.while_loop(goes_on, pick, start)
    return chosen, taken


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
    sizes = _sizes(h)
    available &= jnp.isfinite(_sizes(probabilities)) & jnp.isfinite(sizes)
    one_hot = jax.nn.one_hot(
        jnp.argmax(probabilities, axis=1),
        probabilities.shape[1],
        dtype=probabilities.dtype,
    )
    a = _scaled(probabilities - one_hot, available)
    # The features stay as they are: a scaled copy takes longer than the distances.
    root = _root(jnp.max(jnp.where(available, sizes, 0)))
    terms = a.shape[1] + h.shape[1]
    norms = jnp.sum(jnp.square(a), axis=1) * jnp.sum(jnp.square(h / root**2), axis=1)
    norms = jnp.where(available, norms, 0)
    limit = jnp.minimum(k, jnp.sum(available, dtype=jnp.int32))

    # Rows that are not available give anything; their weights are 0 all along.
    def distances(rows: jax.Array, to: jax.Array | slice = slice(None)):
        scaled = h[rows] / root**2
        products = _products(a[to], a[rows]) * (_products(h[to], scaled / root) / root)
        return _squared_distances(norms[to], norms[rows], products, terms)

    # Half more than are picked, because some candidates are rejected.
    size = min(1 << (3 * k // 2).bit_length(), blocks.draws, n)
    first = jnp.argmax(jnp.where(available, norms, -1)).astype(jnp.int32)
    count = jnp.minimum(limit, 1)
    first = jnp.where(count > 0, first, -1)
    picks = jnp.full(k + size, -1, jnp.int32).at[0].set(first)
    weights = jnp.where(available, distances(first[None])[:, 0], 0)
    weights = _set(weights, first, 0)
    left = _set(available, first, False)

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
        def goes_on(state):
            _, candidate, _, taken = state
            return (candidate < size) & (count + taken < limit)

        def accept(state):
            now, candidate, chosen, taken = state
            now = jnp.minimum(now, mutual[candidate])
            chosen = chosen.at[taken].set(rows[candidate])
            # All up to the next one that is accepted are rejected by the same weights.
            accepted = (jnp.arange(size) > candidate) & (level < now)
            following = jnp.where(jnp.any(accepted), jnp.argmax(accepted), size)
            return now, following.astype(jnp.int32), chosen, taken + 1

        # The first candidate is drawn with the weights of now.
        start = drawn_from[rows], jnp.int32(0), jnp.full_like(rows, -1), jnp.int32(0)
        _, _, chosen, taken = jax.lax.while_loop(goes_on, accept, start)
        picks = _append(picks, chosen, count)
        count += taken
        # After the last pick nobody asks.
        used = jnp.where(count < limit, taken, 0)
        weights = _update(weights, distances, chosen, 0, used, blocks)
        weights = _set(weights, chosen, 0)
        return weights, _set(left, chosen, False), picks, count

    *_, picks, _ = jax.lax.while_loop(
        lambda state: state[-1] < limit, pick_block, (weights, left, picks, count)
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


def _root(size: jax.Array) -> jax.Array:
    """A power of two whose square is between a ninth of `size` and `size`.

    Products of what was divided by the square neither overflow nor vanish, wherever it
    is divided in two steps so that nothing in between does.
    """
    return _power_of_two(jnp.sqrt(size))


def _scaled(rows: jax.Array, usable: jax.Array) -> jax.Array:
    """Rows divided by a power of two, so that squares neither overflow nor vanish.

    Only ratios of distances count. Rows that are not usable become 0.
    """
    size = jnp.max(jnp.where(usable, _sizes(rows), 0), initial=0)
    return jnp.where(usable[:, None], rows, 0) / _power_of_two(size)


def _sum(
    rows: jax.Array, usable: jax.Array, root: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """[D] sum of the usable rows divided by `root` twice, and their number."""
    weights = usable.astype(rows.dtype)
    # 0 times NaN is NaN; but a copy without them takes longer than the sum.
    total = jax.lax.cond(
        jnp.all(jnp.isfinite(_sizes(rows))),
        lambda: _products((weights / root)[None], rows.T)[0],
        lambda: _products(
            (weights / root)[None], jnp.where(usable[:, None], rows, 0).T
        )[0],
    )
    return total / root, jnp.sum(weights)


def _frame(features: jax.Array, usable: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What features are divided by, twice, and what is then subtracted, [D].

    Distances between items far from the origin would be small differences of large
    numbers. The mean need not be exact: it is rounded to quarters of a spread that is a
    power of two, so that small integers stay exact, and with them all ties.
    """
    root = _root(jnp.max(jnp.where(usable, _sizes(features), 0), initial=0))
    total, number = _sum(features, usable, root)
    mean = total / jnp.maximum(number, 1)
    deviations = jnp.mean(jnp.abs(features / root**2 - mean[None]), axis=1)
    spread = jnp.sum(jnp.where(usable, deviations, 0)) / jnp.maximum(number, 1)
    step = _power_of_two(spread) / 4
    return root, step * jnp.round(mean / step)


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


def _update(nearest, distances, chosen, begin, end, blocks):
    """`nearest` after the items at `begin` to `end` of `chosen` were chosen.

    Args:
      nearest: [A] squared distances to the nearest chosen item.
      distances: from positions [B] to the squared distances [A, B].
      chosen: positions.
      begin: [] where those that are new begin.
      end: [] where they end.
      blocks: how many are taken at a time.
    """
    most = min(blocks.chosen, chosen.size)
    chosen = jnp.pad(chosen, (0, most), constant_values=-1)
    # Twice as many from size to size, so that less than half of the columns is waste.
    sizes = [min(blocks.few, most)]
    while sizes[-1] < most:
        sizes.append(min(2 * sizes[-1], most))

    def after(size, rows, number, nearest):
        squared = distances(rows[:size])
        squared = jnp.where(jnp.arange(size)[None] < number, squared, jnp.inf)
        return jnp.minimum(nearest, jnp.min(squared, axis=1))

    branches = [functools.partial(after, size) for size in sizes]

    def step(turn, nearest):
        at = begin + turn * most
        rows = jax.lax.dynamic_slice(chosen, (at,), (most,))
        number = jnp.minimum(end - at, most)
        enough = jnp.searchsorted(jnp.asarray(sizes), number, method="compare_all")
        return jax.lax.switch(enough, branches, rows, number, nearest)

    return jax.lax.fori_loop(0, -(-(end - begin) // most), step, nearest)


def _at(array, rows):
    """`array` at the positions; anything at those outside of it."""
    return array.at[rows].get(mode="clip")


def _set(array, rows, values):
    """`array` with the values at the positions that are in it; -1 is in none."""
    rows = jnp.where(rows >= 0, rows, len(array))
    return array.at[rows].set(values, mode="drop")


def _append(picks, chosen, count):
    """Writes `chosen` behind the first `count` of the picks."""
    return jax.lax.dynamic_update_slice(picks, chosen, (count,))


def _draw(key: jax.Array, weights: jax.Array, size: int) -> jax.Array:
    """[size] independent positions, each with probability weight / sum of weights.

    First a part of the items and then an item of it, in a table of about sqrt(N) by
    sqrt(N): in a sum over all of them the small weights would be lost.
    """
    part_key, item_key = jax.random.split(key)
    side = math.isqrt(weights.size - 1) + 1
    table = jnp.pad(weights, (0, side * side - weights.size)).reshape(side, side)
    sums = jnp.broadcast_to(jnp.sum(table, axis=1), (size, side))
    parts = _inverted(jax.random.uniform(part_key, (size,), weights.dtype), sums)
    levels = jax.random.uniform(item_key, (size,), weights.dtype)
    return (parts * side + _inverted(levels, table[parts])).astype(jnp.int32)


def _inverted(levels: jax.Array, weights: jax.Array) -> jax.Array:
    """[size] where the cumulative sums of weights [size, M] reach a part of the total.

    Never where a weight is 0, unless all are.
    """
    # Rounded sums may rise from one to the next without a weight, or fall with one.
    sums = jnp.where(weights > 0, jnp.cumsum(weights, axis=1), -1)
    total = jnp.max(sums, axis=1)
    return jnp.argmax(sums >= (levels * total)[:, None], axis=1)
