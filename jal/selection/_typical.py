"""Items that stand for many others: TypiClust, for when there are few labels or none.

The items are clustered, and of each large cluster without a label the item with the
nearest neighbours is taken. No model is asked, so that there need not be one yet.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jal._core import numerics

NEIGHBORS = 20  # that an item is compared with, as in the paper
FEWEST_MEMBERS = 5  # of a cluster that is no handful of outliers
TRIALS = 8  # items that are tried as the next seed
STEPS = 50  # of Lloyd's iteration, at most


class Blocks(NamedTuple):
    """How many are compared at a time.

    Attributes:
      items: with as many others of their cluster.
      centers: with all items.
    """

    items: int
    centers: int


BLOCKS = Blocks(items=512, centers=32)


def typical(
    key: jax.Array,
    features: jax.Array,
    k: int,
    *,
    covered: jax.Array,
    available: jax.Array | None = None,
    max_clusters: int = 500,
) -> jax.Array:
    """Picks the most typical item of each of the K largest clusters without labels.

    k-means of all that is covered or available into min(L + K, max_clusters) clusters,
    L being the number of covered items. With n_c the covered items of cluster c, |c|
    its members and r_i the number of available items of i's cluster that are more
    typical than i, the picks are in the lexicographic order of (n_c + r_i, -|c|):
    clusters without labels first and the largest of them first, then those with the
    fewest labels and picks. Clusters of fewer than 5 members come after all others.

      typicality_i = 1 / mean over j of |x_i - x_j|,

    j being the min(20, |c| - 1) nearest other members of the cluster. Typicalities that
    agree to 4 digits are ties, and ties go to the lower position.

    Each seed of k-means is the best of 8 items drawn as k-means++ draws them; it ends
    when no item moves, or after 50 steps. The draws go by position: items in another
    order are clustered from other seeds, and the same are picked only where these lead
    to the same clusters. Time goes with N D (L + K) a step and with the squared sizes
    of the clusters, memory with N (D + 32).

    Args:
      key: PRNG key, consumed.
      features: [N, D] in any unit. A row with NaN or infinite values is in no cluster
        and never picked.
      k: K, static, 0 <= K <= N.
      covered: [N] bool, items that are labelled; they are never picked. All of it may
        be False.
      available: [N] bool, items that may be picked; None for all.
      max_clusters: the largest number of clusters, static, at least 1.

    Returns:
      [K] int32 positions in the order picked, -1 beyond what is available.

    Raises:
      ValueError: if `k` is not an integer in [0, N], or `max_clusters` none above 0.

    >>> features = jnp.array([[0.0], [1], [2], [10], [11]])
    >>> nothing = jnp.zeros(5, bool)
    >>> typical(jax.random.key(0), features, 2, covered=nothing).tolist()
    [1, 3]

    Reference: Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite
    strategies suit high and low budgets", 2022, algorithm 1 (whose authors' code leaves
    small clusters out, and labels and picks out of the neighbours); Arthur and
    Vassilvitskii, "k-means++: the advantages of careful seeding", 2007.
    """
    chex.assert_rank(features, 2)
    features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
    n = features.shape[0]
    available = numerics.checked_available(k, n, available)
    covered = jnp.asarray(covered)
    chex.assert_shape(covered, (n,))
    chex.assert_type(covered, bool)
    if not isinstance(max_clusters, (int, np.integer)) or max_clusters < 1:
        raise ValueError(f"max_clusters must be an integer above 0, got {max_clusters}")
    if k == 0:
        return jnp.zeros(0, jnp.int32)
    most = min(int(max_clusters), n)
    return _typical(
        key, features, covered, available, k=int(k), most=most, blocks=BLOCKS
    )


# Compiled, because each call outside of jit would compile the loops in it anew.
@functools.partial(jax.jit, static_argnames=("k", "most", "blocks"))
def _typical(key, features, covered, available, *, k, most, blocks):
    finite = jnp.all(jnp.isfinite(features), axis=1)
    covered &= finite
    available &= finite & ~covered
    members = covered | available
    number = jnp.minimum(jnp.sum(covered, dtype=jnp.int32) + k, most)
    features = _centered(features, members)
    width = min(blocks.centers, most)
    slots = -(-most // width) * width
    centers, cluster = _k_means(key, features, members, number, slots, width)

    size = jnp.zeros(slots, jnp.int32).at[cluster].add(1, mode="drop")
    of_covered = jnp.where(covered, cluster, slots)
    labels = jnp.zeros(slots, jnp.int32).at[of_covered].add(1, mode="drop")
    # About its centre, where distances are no small differences of large numbers.
    features -= centers.at[cluster].get(mode="fill", fill_value=0)
    distance = _mean_distances(features, cluster, size, min(blocks.items, len(cluster)))
    # Rounding would decide ties: two items alone are as typical as each other.
    bits = jnp.finfo(distance.dtype).nexp
    distance = jax.lax.reduce_precision(distance, exponent_bits=bits, mantissa_bits=14)

    position = jax.lax.iota(jnp.int32, cluster.size)
    cluster, missing, _, position = jax.lax.sort(
        (cluster, ~available, distance, position), num_keys=4
    )
    starts = cluster != jnp.roll(cluster, 1)
    rank = jnp.arange(cluster.size, dtype=jnp.int32)
    rank -= jax.lax.cummax(jnp.where(starts, rank, 0))
    # What is in no cluster is missing.
    turn, members_of = labels[cluster] + rank, size[cluster]
    missing, _, _, _, position = jax.lax.sort(
        (missing, members_of < FEWEST_MEMBERS, turn, -members_of, position), num_keys=5
    )
    return jnp.where(missing, -1, position)[:k]


def _centered(features: jax.Array, members: jax.Array) -> jax.Array:
    """Members about their mean, divided by a power of two; all other rows are 0.

    So squares neither overflow nor vanish, and only ratios of distances count.
    """
    features = jnp.where(members[:, None], features, 0)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(features), initial=0))
    features = jnp.ldexp(features, -exponent)
    mean = jnp.sum(features, axis=0) / jnp.maximum(jnp.sum(members), 1)
    features = jnp.where(members[:, None], features - mean[None], 0)
    # A barrier, because this would be computed anew wherever it is used.
    return jax.lax.optimization_barrier(features)


def _norms(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x), axis=1)


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
    # Full precision: accelerators would round the factors, and distances cancel.
    return jnp.matmul(x, y, precision="highest")


def _distances_from(x: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """Squared distances [A, B] of x to a y [B, D], 0 within the rounding error."""
    norms = _norms(x)

    def to(y):
        total = norms[:, None] + _norms(y)[None]
        squared = total - 2 * _products(x, y.T)
        error = jnp.finfo(x.dtype).eps * x.shape[1] ** 0.5 * total
        return jnp.where(squared > error, squared, 0)

    return to


def _k_means(key, features, members, number, slots, width):
    """Centres [slots, D] and the cluster of each item [N] int32, `slots` for none.

    There are `number` centres, or fewer where there are fewer different items. Time
    goes with their number and not with that of the slots.
    """
    distances = _distances_from(features)
    centers, count = _seeds(key, features, members, number, slots)
    num_blocks = -(-count // width)

    def numbers_of(block):
        return block * width + jnp.arange(width, dtype=jnp.int32)

    def centers_of(block, centers):
        return jax.lax.dynamic_slice_in_dim(centers, block * width, width)

    def assign(centers):
        def compare(block, state):
            best, cluster = state
            squared = distances(centers_of(block, centers))
            numbers = numbers_of(block)
            squared = jnp.where(numbers[None] < count, squared, jnp.inf)
            nearest = numbers[jnp.argmin(squared, axis=1)]
            lowest = jnp.min(squared, axis=1)
            cluster = jnp.where(lowest < best, nearest, cluster)
            return jnp.minimum(best, lowest), cluster

        nowhere = jnp.full(members.shape, jnp.inf, features.dtype)
        start = nowhere, jnp.zeros(members.shape, jnp.int32)
        _, cluster = jax.lax.fori_loop(0, num_blocks, compare, start)
        return jnp.where(members, cluster, slots)

    def move(cluster, centers):
        def average(block, centers):
            inside = cluster[:, None] == numbers_of(block)[None]
            inside = inside.astype(features.dtype)
            size = jnp.sum(inside, axis=0)[:, None]
            mean = _products(inside.T, features) / jnp.maximum(size, 1)
            mean = jnp.where(size > 0, mean, centers_of(block, centers))
            return jax.lax.dynamic_update_slice_in_dim(centers, mean, block * width, 0)

        return jax.lax.fori_loop(0, num_blocks, average, centers)

    def step(state):
        centers, cluster, _, steps = state
        centers = move(cluster, centers)
        after = assign(centers)
        return centers, after, jnp.any(after != cluster), steps + 1

    start = centers, assign(centers), jnp.ones((), bool), jnp.int32(0)
    centers, cluster, *_ = jax.lax.while_loop(
        lambda state: state[2] & (state[3] < STEPS), step, start
    )
    return centers, cluster


def _seeds(key, features, members, number, slots):
    """Centres [slots, D] to begin with, and how many of them there are.

    Each is the one of a few items that leaves the smallest sum of squared distances to
    the nearest centre; these items are drawn in proportion to that squared distance.
    """
    distances = _distances_from(features)
    # More than any distance: the first is drawn uniformly.
    far = 4 * jnp.max(_norms(features)) + 1
    nearest = jnp.where(members, far, 0)
    trials = min(TRIALS, members.size)

    def add(state):
        centers, nearest, count = state
        # Few bits of noise leave ties among the best of millions of items.
        noise = jax.random.gumbel(
            jax.random.fold_in(key, count), nearest.shape, nearest.dtype, mode="high"
        )
        _, rows = numerics.top_k(jnp.log(nearest) + noise, trials)
        after = jnp.minimum(nearest[:, None], distances(features[rows]))
        # Where fewer items than trials have a weight, others are among the rows.
        rest = jnp.where(nearest[rows] > 0, jnp.sum(after, axis=0), jnp.inf)
        best = jnp.argmin(rest)
        nearest = after[:, best].at[rows[best]].set(0)
        return centers.at[count].set(features[rows[best]]), nearest, count + 1

    centers = jnp.zeros((slots, features.shape[1]), features.dtype)
    centers, _, count = jax.lax.while_loop(
        lambda state: (state[2] < number) & jnp.any(state[1] > 0),
        add,
        (centers, nearest, jnp.int32(0)),
    )
    return centers, count


def _mean_distances(features, cluster, size, width):
    """[N] mean distance of each item to its nearest neighbours within its cluster.

    In the order of their clusters the neighbours of a block of items are in a few
    blocks: the time goes with the sum of the squared sizes of the clusters.
    """
    n, none = cluster.size, size.size
    position = jax.lax.iota(jnp.int32, n)
    cluster, order = jax.lax.sort((cluster, position), num_keys=2)
    padding = -n % width
    cluster = jnp.pad(cluster, (0, padding), constant_values=none)
    features = jnp.pad(features[order], ((0, padding), (0, 0)))
    ends = jnp.cumsum(size, dtype=jnp.int32)
    last = ends.at[cluster].get(mode="fill", fill_value=n)
    first = (ends - size).at[cluster].get(mode="fill", fill_value=n)
    nearest_of = jax.vmap(lambda values: numerics.top_k(values, NEIGHBORS)[0])

    def of_block(block):
        part = lambda array, block=block: jax.lax.dynamic_slice_in_dim(
            array, block * width, width
        )
        place = lambda block: block * width + jnp.arange(width)
        distances = _distances_from(part(features))

        def compare(other, nearest):
            squared = distances(part(features, other))
            together = part(cluster)[:, None] == part(cluster, other)[None]
            together &= place(block)[:, None] != place(other)[None]
            squared = jnp.where(together, squared, jnp.inf)
            return -nearest_of(-jnp.concatenate([nearest, squared], axis=1))

        nearest = jax.lax.fori_loop(
            part(first)[0] // width,
            -(-part(last)[-1] // width),
            compare,
            jnp.full((width, NEIGHBORS), jnp.inf, features.dtype),
        )
        number = jnp.minimum(NEIGHBORS, part(last) - part(first) - 1)[:, None]
        counted = jnp.arange(NEIGHBORS)[None] < number
        total = jnp.sum(jnp.where(counted, jnp.sqrt(nearest), 0), axis=1)
        return total / jnp.maximum(number[:, 0], 1)

    means = jax.lax.map(of_block, jnp.arange(cluster.size // width))
    return jnp.zeros(n, features.dtype).at[order].set(means.reshape(-1)[:n])
