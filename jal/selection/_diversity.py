"""Batches that differ from each other: greedy k-centre and BADGE.

Both choose one item after the other, and each choice changes the distances of all
items. Here the choices are made in blocks, so that the features are read once a block
and not once a choice, and most items are left out of most distances. What is chosen
stays the same: distances to the nearest chosen item only fall, so those of before bound
those of now.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jal._core import distances as _distances
from jal._core import numerics


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
BLOCKS = Blocks(candidates=128, few=8, chosen=128, items=1024, draws=1024)
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
    features = _distances.floating(features)
    n = features.shape[0]
    available = numerics.checked_available(k, n, available)
    centers = jnp.asarray(centers)
    chex.assert_shape(centers, (n,))
    chex.assert_type(centers, bool)
    if k == 0:
        return jnp.zeros(0, jnp.int32)
    blocks = _at_most(n, BLOCKS)
    return _k_center(features, centers, available, k=int(k), blocks=blocks)


# Compiled, because each call outside of jit would compile the loops in it anew.
@functools.partial(jax.jit, static_argnames=("k", "blocks"))
def _k_center(features, centers, available, *, k, blocks):
    n, terms = features.shape
    finite = jnp.isfinite(_distances.largest(features))
    available &= finite & ~centers
    centers &= finite
    root, mean, to_mean = _distances.frame(features, available | centers)
    limit = jnp.minimum(k, jnp.sum(available, dtype=jnp.int32))

    # Centred a part at a time: all of it would be written once and read from memory.
    def embedded(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Centred features [A, D] and their squared norms [A]."""
        x = features.at[rows].get(mode="clip") / root**2 - mean[None]
        # A barrier, because this would be computed anew wherever it is used.
        x = jax.lax.optimization_barrier(x)
        return x, jnp.sum(jnp.square(x), axis=1)

    # Rows that are not finite are 0 or inf away, and stay at -1, below all others.
    def distances(x, norms_x, y, norms_y):
        return _distances.squared_distances(
            norms_x, norms_y, _distances.products(x, y), terms
        )

    # Without any centre the first pick becomes one.
    def nearest_the_mean():
        total, number = to_mean
        x, norms = embedded(jnp.arange(n))
        score = number * norms - 2 * _distances.products(x, total[None])[:, 0]
        return jnp.argmin(jnp.where(available, score, jnp.inf)).astype(jnp.int32)

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
    size = blocks.items
    parts = -(-n // size)

    def bound_part(number, bounds):
        begin = jnp.minimum(number * size, n - size)
        to = functools.partial(distances, *embedded(begin + jnp.arange(size)))
        part = jnp.full(size, jnp.inf, features.dtype)
        part = _update(part, to, embedded, cover, 0, some, blocks)
        return jax.lax.dynamic_update_slice(bounds, part, (begin,))

    # -1 marks what cannot be picked, -2 what has joined.
    bounds = jnp.full(n, -1, features.dtype)
    bounds = jax.lax.fori_loop(0, parts, bound_part, bounds)
    bounds = _set(jnp.where(available, bounds, -1), first, -1)

    def step(state):
        nearest, cover, count, pool = state
        end = num_centers + count

        def bring_up_to_date(number, nearest):
            rows = pool.members[number]
            to = functools.partial(distances, *embedded(rows))
            values, begin = nearest.at[rows].get(mode="clip"), pool.seen[number]
            values = _update(values, to, embedded, cover, begin, end, blocks)
            return _set(nearest, rows, values)

        nearest = jax.lax.fori_loop(0, pool.joined, bring_up_to_date, nearest)
        seen = jnp.where(jnp.arange(parts) < pool.joined, end, some)
        pool = pool._replace(seen=seen)

        # No item that has not joined comes before the last one that has, now or later.
        def is_next(value, row):
            return (value > pool.bound) | ((value == pool.bound) & (row <= pool.last))

        def pick():
            chosen, taken = _picks_of_a_block(
                nearest,
                lambda rows: distances(*embedded(rows), *embedded(rows)),
                is_next,
                limit - count,
                blocks.candidates,
            )
            picked = _set(nearest, chosen, -1)
            return picked, _append(cover, chosen, end), count + taken, pool

        def join():
            values, rows = numerics.top_k(pool.bounds, size)
            joining = jnp.where(values > -2, rows, n)
            more = _Pool(
                bounds=_set(pool.bounds, joining, -2),
                bound=values[-1],
                last=rows[-1],
                members=pool.members.at[pool.joined].set(joining),
                joined=jnp.minimum(pool.joined + 1, parts),
                seen=pool.seen,
            )
            return _set(nearest, joining, values), cover, count, more

        best = jnp.argmax(nearest)
        return jax.lax.cond(is_next(nearest[best], best), pick, join)

    pool = _Pool(
        bounds=bounds,
        bound=jnp.array(jnp.inf, features.dtype),
        last=jnp.int32(-1),
        members=jnp.full((parts, size), n, jnp.int32),
        joined=jnp.int32(0),
        seen=jnp.full(parts, some),
    )
    start = jnp.full(n, -1, features.dtype), cover, count, pool
    _, cover, *_ = jax.lax.while_loop(lambda state: state[2] < limit, step, start)
    return jax.lax.dynamic_slice(cover, (num_centers,), (k,))


class _Pool(NamedTuple):
    """Which items of k-centre are kept up to date.

    Attributes:
      bounds: [N] upper bounds of the squared distances to the nearest centre.
      bound: [] bound of the last item that has joined.
      last: [] position of the last item that has joined.
      members: [P, A] positions of those that have joined, N where there is none.
      joined: [] number of rows of `members` that are in use.
      seen: [P] number of centres and picks that are in the distances of a row.
    """

    bounds: jax.Array
    bound: jax.Array
    last: jax.Array
    members: jax.Array
    joined: jax.Array
    seen: jax.Array


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
    probabilities, h = _distances.floating(probabilities), _distances.floating(features)
    n = h.shape[0]
    available = numerics.checked_available(k, n, available)
    if k == 0:
        return jnp.zeros(0, jnp.int32)
    blocks = _at_most(n, BLOCKS)
    return _badge(key, probabilities, h, available, k=int(k), blocks=blocks)


@functools.partial(jax.jit, static_argnames=("k", "blocks"))
def _badge(key, probabilities, h, available, *, k, blocks):
    root, squares = _distances.squared_norms(h, available)
    available &= jnp.isfinite(_distances.largest(probabilities)) & jnp.isfinite(squares)
    one_hot = jax.nn.one_hot(
        jnp.argmax(probabilities, axis=1),
        probabilities.shape[1],
        dtype=probabilities.dtype,
    )
    a = _distances.scaled(probabilities - one_hot, available)
    terms = a.shape[1] + h.shape[1]
    norms = jnp.where(available, jnp.sum(jnp.square(a), axis=1) * squares, 0)
    limit = jnp.minimum(k, jnp.sum(available, dtype=jnp.int32))

    # The features stay as they are: a scaled copy takes longer than the distances.
    def taken_at(rows):
        return a[rows], h[rows] / root**2 / root, norms[rows]

    # Rows that are not available give anything; their weights are 0 all along.
    def distances(y, scaled, norms_y, to: jax.Array | slice = slice(None)):
        products = _distances.products(a[to], y) * (
            _distances.products(h[to], scaled) / root
        )
        return _distances.squared_distances(norms[to], norms_y, products, terms)

    # The first pick has a large norm and is far from all others: in what comes next, a
    # third of the candidates is accepted.
    size = min(4 * k, blocks.draws)
    first = jnp.argmax(jnp.where(available, norms, -1)).astype(jnp.int32)
    count = jnp.minimum(limit, 1)
    first = jnp.where(count > 0, first, -1)
    picks = jnp.full(k + size, -1, jnp.int32).at[0].set(first)
    weights = jnp.where(available, distances(*taken_at(first[None]))[:, 0], 0)
    weights = _set(weights, first, 0)
    left = _set(available, first, False)

    def pick_block(state):
        weights, left, picks, count = state
        draw_key, accept_key = jax.random.split(jax.random.fold_in(key, count))
        # If all that is left are copies of what was picked, they are all the same.
        copies = ~jnp.any(weights > 0)
        drawn_from = jnp.where(copies, left.astype(weights.dtype), weights)
        rows = _draw(draw_key, drawn_from, size)
        mutual = jnp.where(copies, jnp.inf, distances(*taken_at(rows), to=rows))
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
        weights = _update(weights, distances, taken_at, chosen, 0, used, blocks)
        weights = _set(weights, chosen, 0)
        return weights, _set(left, chosen, False), picks, count

    *_, picks, _ = jax.lax.while_loop(
        lambda state: state[-1] < limit, pick_block, (weights, left, picks, count)
    )
    return picks[:k]


def _at_most(n: int, blocks: Blocks) -> Blocks:
    return Blocks(*(min(size, n) for size in blocks))


def _update(nearest, distances, taken_at, chosen, begin, end, blocks):
    """`nearest` after the items at `begin` to `end` of `chosen` were chosen.

    Args:
      nearest: [A] squared distances to the nearest chosen item.
      distances: from what `taken_at` returns to the squared distances [A, B].
      taken_at: from positions [B] to arrays [B, ...].
      chosen: positions.
      begin: [] where those that are new begin.
      end: [] where they end.
      blocks: how many are taken at a time.
    """
    most = min(blocks.chosen, chosen.size)
    chosen = jnp.pad(chosen, (0, most), constant_values=-1)
    # Reading the items takes most of the time of the small ones of these sizes.
    sizes = [min(blocks.few, most)]
    while sizes[-1] < most:
        sizes.append(min(4 * sizes[-1], most))

    def after(size, taken, number, nearest):
        squared = distances(*[array[:size] for array in taken])
        squared = jnp.where(jnp.arange(size)[None] < number, squared, jnp.inf)
        return jnp.minimum(nearest, jnp.min(squared, axis=1))

    branches = [functools.partial(after, size) for size in sizes]

    def step(turn, nearest):
        at = begin + turn * most
        rows = jax.lax.dynamic_slice(chosen, (at,), (most,))
        number = jnp.minimum(end - at, most)
        enough = jnp.searchsorted(jnp.asarray(sizes), number, method="compare_all")
        return jax.lax.switch(enough, branches, taken_at(rows), number, nearest)

    return jax.lax.fori_loop(0, -(-(end - begin) // most), step, nearest)


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
    reached = sums >= (levels * jnp.max(sums, axis=1))[:, None]
    last = weights.shape[1] - 1
    return jnp.min(jnp.where(reached, jnp.arange(last + 1), last), axis=1)
