"""TypiClust against plain Python, brute force, and groups that anyone can see."""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jal import selection
from jal.selection import _typical

NAN, INF = math.nan, math.inf
KEY = jax.random.key(0)
N, D, K = 24, 3, 5
NOBODY, EVERYBODY = np.zeros(N, bool), np.ones(N, bool)

typical = jax.jit(selection.typical, static_argnames=("k", "max_clusters"))


@jax.jit
def k_means(key, features, members, number):
    """Clusters of the items; as many slots as items, and -1 for no cluster."""
    size = members.size
    features = _typical._centered(jnp.where(members[:, None], features, 0), members)
    _, cluster = _typical._k_means(key, features, members, number, size, size)
    return jnp.where(members, cluster, -1)


def inputs(seed, whole=False):
    """Random items, whole numbers if ties are wanted; some are covered, some out."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(N, D)).astype(np.float32)
    if whole:
        features = rng.integers(-3, 4, (N, D)).astype(np.float32)
    covered = rng.random(N) < 0.15
    return jax.random.key(seed), features, covered, rng.random(N) < 0.8


def padded(picks, k):
    return (list(picks) + [-1] * k)[:k]


def distances(features):
    features = np.asarray(features, np.float64)
    return np.sqrt(np.square(features[:, None] - features[None]).sum(-1))


def mean_distance(features, cluster, i):
    """1 / typicality, to the digits that count."""
    others = [j for j in np.flatnonzero(cluster == cluster[i]) if j != i]
    nearest = np.sort(distances(features)[i, others])[:20]
    fraction, exponent = np.frexp(nearest.mean() if len(nearest) else 0.0)
    return np.ldexp(np.round(fraction * 2**15), exponent - 15)


def pick_by_pick(features, cluster, covered, available, k):
    """Of the cluster with fewest labels and picks, the largest of them, and so on."""
    members = {c: np.flatnonzero(cluster == c) for c in set(cluster[cluster >= 0])}
    labels = {c: covered[rows].sum() for c, rows in members.items()}
    open_items = available & ~covered & (cluster >= 0)
    left = {}
    for c, rows in members.items():
        order = [(mean_distance(features, cluster, i), i) for i in rows]
        left[c] = [i for _, i in sorted(order) if open_items[i]]
    picks = []
    while len(picks) < k and any(left.values()):
        _, c = min(
            ((len(members[c]) < 5, labels[c], -len(members[c]), left[c][0]), c)
            for c in members
            if left[c]
        )
        picks.append(left[c].pop(0))
        labels[c] += 1
    return padded(picks, k)


def by_hand(key, features, covered, available, k, most=N):
    members = (covered | available) & np.isfinite(features).all(axis=1)
    number = min(int((covered & members).sum()) + k, most)
    cluster = np.asarray(k_means(key, features, members, number))
    return pick_by_pick(features, cluster, covered & members, available, k)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_picks_are_those_made_one_by_one(seed, whole):
    key, features, covered, available = inputs(seed, whole)
    picks = typical(key, features, K, covered=covered, available=available)
    chex.assert_shape(picks, (K,))
    chex.assert_type(picks, jnp.int32)
    assert picks.tolist() == by_hand(key, features, covered, available, K)
    chosen = picks.tolist()
    assert len(set(chosen)) == K and (available & ~covered)[chosen].all()


def test_few_clusters_in_small_blocks(monkeypatch):
    """More picks than clusters, so that all of them are gone through in turn."""
    monkeypatch.setattr(_typical, "BLOCKS", _typical.Blocks(items=7, centers=2))
    select = jax.jit(
        lambda key, features, covered, available: selection.typical(
            key, features, N, covered=covered, available=available, max_clusters=3
        )
    )
    for seed in range(6):
        key, features, covered, available = inputs(seed, whole=seed % 2 == 0)
        expected = by_hand(key, features, covered, available, N, most=3)
        assert select(key, features, covered, available).tolist() == expected


def test_few_items_and_none():
    key, features, _, _ = inputs(0)
    for number in (0, 1, 3):
        some = np.arange(N) % 8 == 2 if number == 3 else np.arange(N) < number
        picks = typical(key, features, K, covered=NOBODY, available=some).tolist()
        assert sorted(picks[:number]) == np.flatnonzero(some).tolist()
        assert picks[number:] == [-1] * (K - number)
    everybody = dict(covered=EVERYBODY, available=EVERYBODY)
    assert typical(key, features, K, **everybody).tolist() == [-1] * K
    assert selection.typical(KEY, jnp.ones((0, 2)), 0, covered=NOBODY[:0]).size == 0


def test_copies_are_one_cluster():
    parts = dict(covered=NOBODY, available=EVERYBODY)
    picks = typical(KEY, np.ones((N, D), np.float32), K, **parts)
    assert picks.tolist() == [0, 1, 2, 3, 4]


def test_what_is_out_of_play_does_not_matter():
    """Items neither covered nor available, and rows that are no numbers."""
    key, features, covered, available = inputs(3)
    parts = dict(covered=covered, available=available)
    expected = typical(key, features, K, **parts).tolist()
    out = ~covered & ~available
    assert out.any()
    changed = np.where(out[:, None], np.float32(3e38), features)
    assert typical(key, changed, K, **parts).tolist() == expected
    broken = features.copy()
    # One of each: available, available and covered.
    broken[np.flatnonzero(available & ~covered)[:2], [0, 1]] = NAN, INF
    broken[np.flatnonzero(covered)[0], 2] = -INF
    fine = np.isfinite(broken).all(axis=1)
    assert (~fine).sum() == 3
    rest = dict(covered=covered & fine, available=available & fine)
    expected = typical(key, features, K, **rest).tolist()
    assert typical(key, broken, K, **parts).tolist() == expected


@pytest.mark.parametrize("factor", [2.0**100, 2.0**-100])
def test_the_unit_of_the_features_does_not_matter(factor):
    key, features, covered, available = inputs(4)
    parts = dict(covered=covered, available=available)
    scaled = features * np.float32(factor)
    expected = typical(key, features, K, **parts).tolist()
    assert typical(key, scaled, K, **parts).tolist() == expected


def test_jit_gives_what_eager_gives():
    for seed in range(3):
        key, features, covered, available = inputs(seed)
        parts = dict(covered=covered, available=available)
        eager = selection.typical(key, jnp.asarray(features), K, **parts)
        assert typical(key, features, K, **parts).tolist() == eager.tolist()


@pytest.mark.parametrize("k", [-1, N + 1, 2.0, None])
def test_number_of_picks_is_checked(k):
    with pytest.raises(ValueError, match=f"k must be .* number of items {N}, got {k}"):
        selection.typical(KEY, jnp.ones((N, D)), k, covered=NOBODY)


@pytest.mark.parametrize("most", [0, -3, 2.0, None])
def test_number_of_clusters_is_checked(most):
    with pytest.raises(ValueError, match=f"max_clusters must be .* got {most}"):
        selection.typical(KEY, jnp.ones((N, D)), 1, covered=NOBODY, max_clusters=most)


@pytest.mark.parametrize(
    "change",
    [
        {"features": jnp.ones(N)},
        {"covered": jnp.ones(N - 1, bool)},
        {"covered": jnp.ones(N, jnp.int32)},
        {"available": jnp.ones(N - 1, bool)},
    ],
)
def test_shapes_and_types_are_checked(change):
    given = dict(features=jnp.ones((N, D)), covered=NOBODY, available=None) | change
    features = given.pop("features")
    with pytest.raises(AssertionError):
        selection.typical(KEY, features, 3, **given)


# k-means


def inertia(features, cluster):
    """Sum of squared distances to the means, in float64."""
    features = np.asarray(features, np.float64)
    groups = [features[cluster == c] for c in set(cluster) - {-1}]
    return sum(np.square(group - group.mean(0)).sum() for group in groups)


@pytest.mark.parametrize("seed", range(4))
def test_every_item_is_in_the_cluster_of_the_nearest_mean(seed):
    key, features, _, members = inputs(seed)
    cluster = np.asarray(k_means(key, features, members, 6))
    assert (cluster[members] >= 0).all() and set(cluster[~members]) <= {-1}
    assert set(cluster[members]) == set(range(6))
    means = np.stack([features[cluster == c].mean(0, np.float64) for c in range(6)])
    squared = np.square(features[:, None].astype(np.float64) - means).sum(-1)
    assert (squared.argmin(1) == cluster)[members].all()


def test_the_best_of_some_seeds_is_the_best_of_all_partitions():
    _, features, _, _ = inputs(5)
    members = np.arange(N) < 7
    partitions = itertools.product(range(3), repeat=7)
    best = min(inertia(features[:7], np.array(p)) for p in partitions)
    keys = jax.random.split(KEY, 20)
    found = [np.asarray(k_means(key, features, members, 3)) for key in keys]
    costs = [inertia(features, cluster) for cluster in found]
    np.testing.assert_allclose(min(costs), best, rtol=1e-9)
    # Half of the seeds are no worse, because seeds are tried before they are taken.
    assert np.median(costs) <= 1.2 * best


def test_seeds_are_drawn_by_the_squared_distance(monkeypatch):
    monkeypatch.setattr(_typical, "TRIALS", 1)
    features = jnp.array([[0.0], [1], [3], [9]])
    members, draws = jnp.arange(4) < 3, 4_000
    seeds = lambda key: _typical._seeds(key, features, members, 2, 2)
    centers, count = jax.jit(jax.vmap(seeds))(jax.random.split(KEY, draws))
    assert set(count.tolist()) == {2}
    pairs, times = np.unique(centers[..., 0], axis=0, return_counts=True)
    x = np.array([0.0, 1, 3])
    squared = np.square(x[:, None] - x)
    expected = squared / squared.sum(1, keepdims=True) / 3
    assert len(pairs) == 6
    for pair, share in zip(pairs, times / draws, strict=True):
        p = expected[x.tolist().index(pair[0]), x.tolist().index(pair[1])]
        assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / draws)


# Groups that are far apart


SIZES = [400, 100, 40, 16, 8, 30, 20]
GROUP = np.repeat(np.arange(len(SIZES)), SIZES)


def groups(seed):
    """Points about seven centres that are at least 20 apart, in random order."""
    rng = np.random.default_rng(seed)
    corners = 20.0 * np.array(list(itertools.product([0, 1], repeat=3)))
    centers = rng.permutation(corners)[: len(SIZES)]
    order = rng.permutation(len(GROUP))
    group = GROUP[order]
    return group, centers, centers[group] + rng.normal(size=(len(group), 3))


@pytest.mark.parametrize("seed", range(5))
def test_without_labels_one_of_each_group_near_its_centre(seed):
    group, centers, x = groups(seed)
    # Two groups are out of play.
    parts = dict(covered=np.zeros(len(x), bool), available=group < 5)
    key = jax.random.key(seed)
    picks = np.asarray(typical(key, x.astype(np.float32), K, **parts))
    assert group[picks].tolist() == [0, 1, 2, 3, 4]  # the largest first
    for number, pick in enumerate(picks):
        members = x[group == number]
        middle = np.median(np.linalg.norm(members - centers[number], axis=1))
        assert np.linalg.norm(x[pick] - centers[number]) < 1.1 * middle
    # Items in another order lead to the same groups here, and so to the same picks.
    order = np.random.default_rng(seed).permutation(len(x))
    parts = {name: mask[order] for name, mask in parts.items()}
    moved = typical(key, x[order].astype(np.float32), K, **parts)
    assert order[moved].tolist() == picks.tolist()


def test_groups_with_a_label_come_last():
    group, _, x = groups(0)
    covered = np.zeros(len(x), bool)
    covered[[np.flatnonzero(group == number)[0] for number in (0, 5)]] = True
    parts = dict(covered=covered, available=np.ones(len(x), bool))
    picks = typical(KEY, x.astype(np.float32), K, **parts)
    assert group[picks].tolist() == [1, 2, 6, 3, 4]
