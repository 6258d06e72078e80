"""k-centre and BADGE against float64 references that choose one by one."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jal import selection
from jal._core import distances
from jal.selection import _diversity

NAN, INF = math.nan, math.inf
KEY = jax.random.key(0)
few = settings(max_examples=100, deadline=None)

k_center = jax.jit(selection.k_center, static_argnames="k")
badge = jax.jit(selection.badge, static_argnames="k")

POINTS = [[0.0, 0], [1, 0], [5, 0], [6, 0], [3, 4]]


def float32(values):
    return np.asarray(values, np.float32)


def padded(positions, k):
    return (list(positions) + [-1] * k)[:k]


@pytest.fixture
def blocks(monkeypatch):
    """Sets how many items go into the blocks; see `_diversity.Blocks`."""
    return lambda *sizes: monkeypatch.setattr(
        _diversity, "BLOCKS", _diversity.Blocks(*sizes)
    )


# What both have in common.


def inputs(seed: int = 0, n: int = 12, **changes):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), n)
    made = {
        "key": jax.random.key(seed),
        "features": jnp.asarray(rng.normal(size=(n, 4)), jnp.float32),
        "probabilities": jnp.asarray(probabilities, jnp.float32),
        "centers": jnp.asarray(rng.random(n) < 0.2),
        "available": jnp.asarray(rng.random(n) < 0.7),
    }
    return made | changes


SELECTORS = {
    "k_center": lambda x, k: selection.k_center(
        x["features"], k, centers=x["centers"], available=x["available"]
    ),
    "badge": lambda x, k: selection.badge(
        x["key"], x["probabilities"], x["features"], k, available=x["available"]
    ),
}
JITTED = {name: jax.jit(f, static_argnums=1) for name, f in SELECTORS.items()}
both = pytest.mark.parametrize("select", JITTED.values(), ids=JITTED)


def test_they_are_selectors():
    assert selection.k_center is selection.k_center
    assert selection.badge is selection.badge


NOBODY, EVERYBODY = jnp.zeros(12, bool), jnp.ones(12, bool)


@both
@pytest.mark.parametrize("k", [0, 5, 12])
def test_positions_are_distinct_available_and_int32(select, k):
    for seed in range(5):
        x = inputs(seed, centers=NOBODY)
        picks = select(x, k)
        chex.assert_shape(picks, (k,))
        chex.assert_type(picks, jnp.int32)
        chosen = [i for i in picks.tolist() if i >= 0]
        assert picks.tolist() == padded(chosen, k)
        assert len(set(chosen)) == len(chosen) == min(k, int(x["available"].sum()))
        assert all(x["available"][i] for i in chosen)


@both
def test_all_none_and_one_of_few_items(select):
    for available in (EVERYBODY, None):
        picks = select(inputs(centers=NOBODY, available=available), 12).tolist()
        assert sorted(picks) == list(range(12))
    assert select(inputs(available=NOBODY), 12).tolist() == [-1] * 12
    nobody = inputs(available=NOBODY, centers=NOBODY)
    assert select(nobody, 12).tolist() == [-1] * 12
    one = inputs(n=1, available=jnp.ones(1, bool), centers=jnp.zeros(1, bool))
    assert select(one, 1).tolist() == [0]
    assert select(inputs(n=0), 0).shape == (0,)


@both
def test_nan_and_infinite_rows_are_not_available(select):
    x = inputs(available=EVERYBODY, centers=NOBODY)
    features = x["features"].at[3, 1].set(NAN).at[5, 0].set(INF).at[7, 2].set(-INF)
    picks = select(x | {"features": features}, 12).tolist()
    assert sorted(picks) == [-1] * 3 + [0, 1, 2, 4, 6, 8, 9, 10, 11]
    # They change nothing for the others either.
    rest = jnp.isfinite(features).all(axis=1)
    assert select(x | {"available": rest}, 12).tolist() == picks


@both
def test_values_of_items_out_of_play_do_not_matter(select):
    x = inputs()
    out = ~x["available"] & ~x["centers"]
    assert out.any()
    huge = jnp.where(out[:, None], 3e38, x["features"])
    assert select(x | {"features": huge}, 12).tolist() == select(x, 12).tolist()


@pytest.mark.parametrize("name", SELECTORS)
def test_jit_and_vmap_give_what_eager_gives(name):
    batch = [inputs(seed) for seed in range(4)]
    eager = [SELECTORS[name](x, 12).tolist() for x in batch]
    assert [JITTED[name](x, 12).tolist() for x in batch] == eager
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch)
    mapped = jax.jit(jax.vmap(lambda x: SELECTORS[name](x, 12)))
    assert mapped(stacked).tolist() == eager


@pytest.mark.parametrize("name", SELECTORS)
def test_one_trace_serves_all_pools(name):
    chex.clear_trace_counter()
    select = chex.assert_max_traces(lambda x: SELECTORS[name](x, 5), n=1)
    counted = jax.jit(select)
    for seed in range(3):
        counted(inputs(seed))


@both
@pytest.mark.parametrize("k", [-1, 13, 2.0, None])
def test_number_of_picks_is_checked(select, k):
    with pytest.raises(ValueError, match=f"k must be .* number of items 12, got {k}"):
        select(inputs(), k)


@both
@pytest.mark.parametrize(
    "change",
    [
        {"features": jnp.ones(12)},
        {"available": jnp.ones(11, bool)},
        {"available": jnp.ones(12, jnp.int32)},
    ],
)
def test_shapes_and_types_are_checked(select, change):
    with pytest.raises(AssertionError):
        select(inputs(**change), 3)


@both
def test_low_precision_is_promoted(select):
    x = inputs()
    low = {name: x[name].astype(jnp.bfloat16) for name in ("features", "probabilities")}
    same = {name: value.astype(jnp.float32) for name, value in low.items()}
    assert select(x | low, 12).tolist() == select(x | same, 12).tolist()


@both
@pytest.mark.parametrize("factor", [2.0**100, 2.0**-100, 2.0**125, 1e30, 1e-30])
def test_the_unit_of_the_features_does_not_matter(select, factor):
    x = inputs()
    scaled = x | {"features": x["features"] * jnp.float32(factor)}
    assert select(scaled, 12).tolist() == select(x, 12).tolist()


# k_center


def nearest_distances(features, centers):
    """[N] float64 distances to the nearest of the centres."""
    features = np.asarray(features, np.float64)
    differences = features[:, None] - features[None, centers]
    return np.sqrt(np.square(differences).sum(-1)).min(1, initial=INF)


def greedy(features, k, centers, available):
    """The algorithm as it is described, on integers: exact, with all ties."""
    features = np.asarray(features, int)
    covered = np.flatnonzero(centers).tolist()
    left = np.flatnonzero(available & ~np.asarray(centers)).tolist()
    picks = []
    while left and len(picks) < k:
        others = features[covered] if covered else None
        if others is None:
            total = features[left].sum(0)
            score = [-np.square(len(left) * features[i] - total).sum() for i in left]
        else:
            score = [np.square(features[i] - others).sum(1).min() for i in left]
        best = left[int(np.argmax(score))]
        picks.append(best)
        covered.append(best)
        left.remove(best)
    return padded(picks, k)


def assert_greedy(features, picks, centers, available=None, tolerance=1e-5):
    """Each pick was as far from all before as any other, to a part of the size.

    In float64: near ties may be decided either way, a worse choice may not.
    """
    features = np.asarray(features, np.float64)
    size = np.abs(features - features.mean(0)).max() * math.sqrt(features.shape[1])
    available = np.ones(len(features), bool) if available is None else available
    left = np.asarray(available) & ~np.asarray(centers)
    nearest = nearest_distances(features, np.asarray(centers))
    for number, pick in enumerate(np.asarray(picks)):
        assert left[pick]
        # Squares carry the rounding error.
        best = np.square(nearest[left]).max()
        assert nearest[pick] ** 2 >= best - tolerance * size**2, number
        left[pick] = False
        to_pick = np.sqrt(np.square(features - features[pick]).sum(1))
        nearest = np.minimum(nearest, to_pick)
    return nearest[left].max(initial=0)


def test_k_center_worked_example():
    traces = [[0, 1, 5, 6, 5], [0, 1, 1, 0, 5], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]
    centers = jnp.arange(5) == 0
    picks = k_center(jnp.array(POINTS), 3, centers=centers).tolist()
    assert picks == [3, 4, 1]
    for number, trace in enumerate(traces):
        seen = nearest_distances(POINTS, [0, *picks[:number]])
        np.testing.assert_allclose(seen, trace, atol=1e-5)


@pytest.mark.parametrize("sizes", [_diversity.BLOCKS, (3, 1, 2, 4, 3), (1,) * 5])
def test_k_center_equals_the_exact_greedy_algorithm(blocks, sizes):
    blocks(*sizes)
    select = jax.jit(selection.k_center, static_argnums=1)
    masks = st.lists(st.booleans(), min_size=12, max_size=12)
    points = st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=12, max_size=12)

    @few
    @given(points, masks, masks, st.sampled_from([0, 1000]))
    def check(features, centers, available, offset):
        features = np.asarray(features) + offset
        centers, available = np.asarray(centers), np.asarray(available)
        expected = greedy(features, 8, centers, available)
        picks = select(float32(features), 8, centers=centers, available=available)
        assert picks.tolist() == expected

    check()


@pytest.mark.parametrize("sizes", [(3, 1, 1, 5, 1), (5, 1, 1, 3, 1)])
def test_a_tie_with_an_item_outside_goes_to_the_lower_position(blocks, sizes):
    # In the block, or among those that joined, are items 4, 3 and 1. The first pick
    # brings item 3 down to the square 41 of item 1, inside, and of item 2, outside.
    blocks(*sizes)
    features = jnp.array([[0.0, 0], [-4, -5], [-5, 4], [6, 5], [10, 0]])
    centers = jnp.arange(5) == 0
    select = jax.jit(selection.k_center, static_argnums=1)
    assert select(features, 4, centers=centers).tolist() == [4, 1, 2, 3]


def test_all_items_join_in_the_end(blocks):
    blocks(4, 2, 3, 7, 1)
    rng = np.random.default_rng(0)
    features = rng.integers(-9, 10, (60, 2))
    features[40:] = features[rng.integers(0, 40, 20)]
    select = jax.jit(selection.k_center, static_argnums=1)
    for num_centers in (0, 1, 20):
        # The first of them are as far as can be from what is left.
        centers = np.arange(60) < num_centers
        moved = np.where(np.arange(60)[:, None] < num_centers // 2, 90, features)
        available = np.arange(60) % 9 > 0
        expected = greedy(moved, 60, centers, available)
        picks = select(float32(moved), 60, centers=centers, available=available)
        assert picks.tolist() == expected


def test_one_in_so_many_positions_come_first():
    chosen = np.isin(np.arange(11), [0, 1, 2, 3, 8, 10])
    order = _diversity._spread_out(jnp.asarray(chosen)).tolist()
    assert order == padded([0, 8, 1, 2, 10, 3], 11)


def test_minima_are_taken_in_turns():
    table = np.random.default_rng(0).random((5, 20))
    chosen = jnp.asarray([3, 1, 4, 15, 9, 2, 6, 5, 8, 7, 19])
    distances = lambda columns: columns.T
    columns = lambda rows: [jnp.asarray(table).T[rows]]
    for sizes in [(9, 1, 1, 9, 9), (9, 1, 3, 9, 9), (9, 8, 128, 9, 9)]:
        update = jax.jit(_diversity._update, static_argnums=(1, 2, 6))
        update = functools.partial(update, jnp.full(5, 0.5), distances, columns, chosen)
        few_or_many = _diversity.Blocks(*sizes)
        for begin, end in [(0, 11), (2, 9), (10, 11), (4, 4)]:
            nearest = table[:, np.asarray(chosen)[begin:end]].min(1, initial=0.5)
            found = update(begin, end, few_or_many)
            np.testing.assert_allclose(found, nearest, rtol=1e-6)


def cloud(kind, n=300, d=16):
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(n, d))
    clusters = rng.normal(size=(12, d))[rng.integers(0, 12, n)]
    return float32(
        {
            "normal": lambda: normal,
            "clusters": lambda: clusters + 0.3 * normal,
            "tight clusters": lambda: clusters + 0.01 * normal,
            "far from the origin": lambda: 300 + normal,
            "copies": lambda: normal[rng.integers(0, 40, n)],
            "one outlier": lambda: np.where(np.arange(n) == 7, 1000, normal.T).T,
        }[kind]()
    )


KINDS = ["normal", "clusters", "tight clusters", "far from the origin", "copies"]


@pytest.mark.parametrize("kind", [*KINDS, "one outlier"])
def test_every_pick_of_k_center_is_the_farthest(kind):
    features, available = cloud(kind), np.arange(300) % 5 > 0
    for num_centers in (0, 1, 150):
        centers = np.arange(300) < num_centers
        picks = k_center(features, 100, centers=centers, available=available)
        seen, rest = centers, picks
        if num_centers == 0:
            mean = features[available].astype(float).mean(0)
            to_mean = np.square(features - mean).sum(1)
            nearest = to_mean[available].min()
            assert to_mean[picks[0]] <= nearest * (1 + 1e-5)
            seen, rest = np.arange(300) == picks[0], picks[1:]
        assert_greedy(features, rest, seen, available)


def test_blocks_pick_what_one_after_the_other_picks(blocks):
    results = []
    for sizes in [(1, 1, 1, 300, 1), (5, 2, 7, 30, 1), (64, 8, 128, 7, 1), (300,) * 5]:
        blocks(*sizes)
        select = jax.jit(selection.k_center, static_argnums=1)
        for kind in ("normal", "clusters", "copies"):
            picks = select(cloud(kind), 200, centers=np.arange(300) % 4 == 1)
            results.append(picks.tolist())
    assert results[3:] == results[:3] * 3


def test_a_block_serves_many_picks(monkeypatch):
    features, sizes, append = cloud("normal", n=2000), [], _diversity._append

    def spy(picks, chosen, count):
        jax.debug.callback(lambda n: sizes.append(int(n)), jnp.sum(chosen >= 0))
        return append(picks, chosen, count)

    monkeypatch.setattr(_diversity, "_append", spy)
    run = jax.jit(selection.k_center, static_argnums=1)
    run(features, 320, centers=jnp.arange(2000) < 200).block_until_ready()
    jax.effects_barrier()
    assert sum(sizes) == 320 and len(sizes) <= 12


def test_not_all_distances_are_computed(blocks, monkeypatch):
    blocks(32, 4, 64, 100, 1)
    features, sizes, compute = cloud("normal", n=4000), [], distances.squared_distances

    def spy(norms_x, norms_y, products, terms):
        # It depends on the products, so that it is called as often as they are.
        size = products.size + 0 * products[0, 0]
        jax.debug.callback(lambda size: sizes.append(int(size)), size)
        return compute(norms_x, norms_y, products, terms)

    monkeypatch.setattr(distances, "squared_distances", spy)
    run = jax.jit(selection.k_center, static_argnums=1)
    # Sorted by their first feature, so that the centres are no sample of the rest.
    features = features[np.argsort(features[:, 0])]
    centers = jnp.arange(4000) % 10 == 0
    run(features, 400, centers=centers).block_until_ready()
    jax.effects_barrier()
    # One in four of the centres for all items, all centres for some of them.
    assert 4000 * 100 < sum(sizes) < 0.7 * 4000 * 800


def test_copies_come_last_wherever_they_lie():
    # Far from the origin, where squared norms are 1e6 times the distances.
    features = 1000 + np.random.default_rng(0).normal(size=(40, 64))
    features[10:20] = features[0]
    features[30] = features[0] + 1e-2
    picks = k_center(float32(features), 39, centers=jnp.arange(40) == 0).tolist()
    assert picks[-11:] == [30, *range(10, 20)]


def test_of_equal_items_the_first_come_first():
    centers = jnp.arange(100) == 50
    picks = k_center(jnp.full((100, 3), 0.1), 99, centers=centers).tolist()
    assert picks == [*range(50), *range(51, 100)]
    picks = k_center(jnp.full((100, 3), 0.1), 99, centers=jnp.zeros(100, bool))
    assert picks.tolist() == list(range(99))


def test_without_centers_the_first_is_nearest_the_mean_of_the_available():
    features = jnp.array([[0.0], [1.0], [4.0], [5.0], [100.0]])
    nobody, available = jnp.zeros(5, bool), jnp.arange(5) < 4
    assert k_center(features, 3, centers=nobody, available=available).tolist() == [
        1,  # as near to 2.5 as the next, and before it
        3,
        0,
    ]


def test_centers_are_never_picked_and_need_not_be_available():
    centers = jnp.arange(5) < 2
    for available in (None, jnp.ones(5, bool), jnp.arange(5) != 1):
        picks = k_center(jnp.array(POINTS), 5, centers=centers, available=available)
        assert picks.tolist() == [3, 4, 2, -1, -1]


def test_a_center_without_finite_features_covers_nothing():
    features = jnp.array(POINTS).at[0, 0].set(NAN)
    labeled = jnp.arange(5) < 2
    picks = k_center(features, 4, centers=labeled)
    assert picks.tolist() == [3, 4, 2, -1]
    # As if there were no centre at all; the mean is then that of the others.
    picks = k_center(features, 4, centers=jnp.arange(5) == 0)
    assert picks.tolist() == [2, 4, 1, 3]


@pytest.mark.parametrize("num_centers", [0, 10])
def test_k_center_does_not_depend_on_the_order_of_the_items(num_centers):
    features = cloud("normal", n=60)
    centers, available = np.arange(60) < num_centers, np.arange(60) % 7 > 0
    expected = k_center(features, 40, centers=centers, available=available).tolist()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(60)
        picks = k_center(
            features[order], 40, centers=centers[order], available=available[order]
        )
        assert order[picks].tolist() == expected


def test_shorter_batches_begin_longer_ones():
    centers = jnp.arange(300) < 3
    long = k_center(cloud("normal"), 200, centers=centers).tolist()
    for k in (1, 65):
        assert k_center(cloud("normal"), k, centers=centers).tolist() == long[:k]


def test_centers_are_checked():
    for centers in (jnp.ones(4, bool), jnp.ones(5, int)):
        with pytest.raises(AssertionError):
            selection.k_center(jnp.array(POINTS), 1, centers=centers)


# badge

PROBABILITIES = float32(
    [[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [1, 0, 0], [0.2, 0.3, 0.5], [0.1, 0.6, 0.3]]
)
FEATURES = float32([[1, 2], [0, 1], [3, 3], [2, 0.5], [1, 1]])


def gradients(probabilities, features):
    """[N, C * D] the embeddings themselves, in float64."""
    p, h = np.asarray(probabilities, np.float64), np.asarray(features, np.float64)
    a = p - np.eye(p.shape[1])[p.argmax(1)]
    return (a[:, :, None] * h[:, None]).reshape(len(p), -1)


def squared_distances(g):
    return np.square(g[:, None] - g[None]).sum(-1)


def sequence_probabilities(g, length, available=None):
    """{sequence: probability} of the first picks, by their definition."""
    available = np.ones(len(g), bool) if available is None else available
    norms = np.where(available, np.square(g).sum(1), -1)
    sequences = {(int(norms.argmax()),): 1.0}
    for _ in range(length - 1):
        longer = {}
        for sequence, probability in sequences.items():
            weights = squared_distances(g)[:, sequence].min(1) * available
            weights[list(sequence)] = 0
            if weights.sum() == 0:
                weights = available.astype(float)
                weights[list(sequence)] = 0
            for i in np.flatnonzero(weights):
                share = weights[i] / weights.sum()
                longer[*sequence, int(i)] = probability * share
        sequences = longer
    return sequences


def assert_follows(sequences, drawn):
    """Pearson's test at about five standard deviations."""
    found = {sequence: 0 for sequence in sequences}
    for sequence in map(tuple, np.asarray(drawn).tolist()):
        found[sequence] += 1  # a KeyError is a sequence that cannot be
    expected = np.array(list(sequences.values())) * len(drawn)
    assert expected.min() > 5
    statistic = np.sum(np.square(list(found.values()) - expected) / expected)
    degrees = len(expected) - 1
    assert statistic < degrees + 5 * math.sqrt(2 * max(degrees, 1))


def draw(probabilities, features, k, draws=20_000, **kwargs):
    keys = jax.random.split(jax.random.key(1), draws)
    run = lambda key: selection.badge(key, probabilities, features, k, **kwargs)
    return jax.jit(jax.vmap(run))(keys)


def test_badge_worked_example():
    p, h = PROBABILITIES[:2], FEATURES[:2]
    embedding = [[-0.3, -0.6, 0.2, 0.4, 0.1, 0.2], [0, -0.6, 0, 0.35, 0, 0.25]]
    np.testing.assert_allclose(gradients(p, h), embedding, atol=1e-6)
    a = p - np.eye(3, dtype=np.float32)[[0, 0]]
    norms = np.square(a).sum(1) * np.square(h).sum(1)
    np.testing.assert_allclose(norms, [0.7, 0.545], atol=1e-5)
    products = distances.products(a, a) * distances.products(h, h)
    squared = distances.squared_distances(norms, norms, products, terms=5)
    np.testing.assert_allclose(squared, [[0, 0.145], [0.145, 0]], atol=1e-5)
    assert badge(KEY, p, h, 2).tolist() == [0, 1]


def test_factored_distances_equal_those_of_the_gradients():
    x = inputs(n=50)
    g = gradients(x["probabilities"], x["features"])
    a = x["probabilities"] - np.eye(3)[np.argmax(x["probabilities"], 1)]
    a, h = jnp.asarray(a, jnp.float32), x["features"]
    norms = jnp.sum(a**2, axis=1) * jnp.sum(h**2, axis=1)
    products = distances.products(a, a) * distances.products(h, h)
    squared = distances.squared_distances(norms, norms, products, terms=7)
    np.testing.assert_allclose(squared, squared_distances(g), rtol=1e-4, atol=1e-5)
    assert np.all(np.diag(squared) == 0)


@pytest.mark.parametrize("sizes", [_diversity.BLOCKS, (1,) * 5, (1, 1, 1, 1, 2)])
def test_badge_follows_its_law(blocks, sizes):
    blocks(*sizes)
    g = gradients(PROBABILITIES, FEATURES)
    assert_follows(sequence_probabilities(g, 3), draw(PROBABILITIES, FEATURES, 3))


def test_badge_follows_its_law_where_each_pick_changes_the_rest():
    """Three tight groups: most proposals of a block must be rejected."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 3)
    p = np.array([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])[group]
    h = np.array([[2.0, 0], [0, 3], [-1, -1]])[group] + 0.3 * rng.normal(size=(9, 2))
    p, h, available = float32(p), float32(h), np.arange(9) != 4
    law = sequence_probabilities(gradients(p, h), 4, available)
    # Pairs of the last two picks, because sequences of four are too rare to count.
    drawn = np.asarray(draw(p, h, 4, draws=40_000, available=available))
    assert len(np.unique(drawn[:, 0])) == 1
    for columns in ([1, 2], [2, 3], [1, 3]):
        marginal = {}
        for sequence, probability in law.items():
            pair = tuple(sequence[column] for column in columns)
            marginal[pair] = marginal.get(pair, 0) + probability
        likely = {pair for pair, share in marginal.items() if share > 3e-4}
        merge = lambda pair, likely=likely: pair if pair in likely else (-1, -1)
        merged = {(-1, -1): 0.0}
        for pair, share in marginal.items():
            merged[merge(pair)] = merged.get(merge(pair), 0) + share
        merged = {pair: share for pair, share in merged.items() if share > 0}
        assert_follows(merged, [merge(tuple(row)) for row in drawn[:, columns]])


def test_the_first_pick_has_the_largest_gradient():
    for seed in range(5):
        x = inputs(seed, n=40)
        norms = np.square(gradients(x["probabilities"], x["features"])).sum(1)
        norms = np.where(x["available"], norms, -1)
        picks = JITTED["badge"](x, 1)
        assert picks.tolist() == [norms.argmax()]


@pytest.mark.parametrize("distinct", [60, 7])
def test_badge_never_repeats(distinct):
    x, rows = inputs(n=60), jnp.arange(60) % distinct
    p, h = x["probabilities"][rows], x["features"][rows]
    drawn = np.asarray(draw(p, h, 40, draws=50))
    assert np.all(np.diff(np.sort(drawn)) > 0) and drawn.min() >= 0
    # Copies only after one of each.
    first = np.sort(drawn[:, :distinct] % distinct)
    assert np.all(np.diff(first) > 0)


def test_copies_are_drawn_when_nothing_else_is_left():
    p, h = PROBABILITIES[[0, 1, 3] * 5], FEATURES[[0, 1, 3] * 5]
    for picks in np.asarray(draw(p, h, 15, draws=50)):
        assert sorted(picks[:3] % 3) == [0, 1, 2]
        assert sorted(picks) == list(range(15))


def test_equal_items_are_drawn_uniformly():
    p, h = np.tile(PROBABILITIES[:1], (5, 1)), np.tile(FEATURES[:1], (5, 1))
    available = np.arange(5) != 2
    law = sequence_probabilities(gradients(p, h), 3, available)
    assert len(law) == 6 and np.allclose(list(law.values()), 1 / 6)
    assert_follows(law, draw(p, h, 3, available=available))


def test_certain_predictions_have_no_gradient_and_are_drawn_uniformly():
    p, h = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], FEATURES[:4]
    law = sequence_probabilities(gradients(p, h), 3)
    assert len(law) == 6
    assert_follows(law, draw(p, h, 3))


def test_the_origin_is_no_pick():
    """An item without gradient is as far from the picks as any, and is drawn."""
    p, h = PROBABILITIES[[0, 2]], FEATURES[[0, 2]]
    assert badge(KEY, p, h, 2).tolist() == [0, 1]


def test_probabilities_that_are_nan_are_not_available():
    p = jnp.asarray(PROBABILITIES).at[0, 1].set(NAN)
    assert sorted(badge(KEY, p, FEATURES, 5).tolist()) == [-1, 1, 2, 3, 4]


def test_badge_depends_on_the_key_and_on_nothing_else():
    x = inputs(n=60, available=jnp.ones(60, bool))
    first = JITTED["badge"](x, 20).tolist()
    assert JITTED["badge"](x, 20).tolist() == first
    assert JITTED["badge"](x | {"key": jax.random.key(7)}, 20).tolist() != first


def test_draws_follow_the_weights_and_never_hit_a_zero():
    weights = float32(np.arange(50) % 4) ** 8  # from 0 to 6561
    drawn = np.asarray(_diversity._draw(KEY, weights, 50_000))
    assert drawn.dtype == np.int32
    found = np.bincount(drawn, minlength=50)
    assert not found[weights == 0].any() and len(found) == 50
    heavy = weights == 6561
    expected = 50_000 * weights[heavy] / weights.sum()
    assert np.all(np.abs(found[heavy] - expected) < 5 * np.sqrt(expected))


def test_draws_at_the_ends():
    weights = jnp.asarray([[0, 0, 3, 0, 1e-3, 1, 0]] * 4, jnp.float32)
    levels = jnp.asarray([0, 0.5, 0.7499, 1 - 2.0**-24], jnp.float32)
    assert _diversity._inverted(levels, weights).tolist() == [2, 2, 4, 5]


def test_badge_draws_further_blocks_where_most_are_rejected(monkeypatch):
    rng = np.random.default_rng(0)
    group = np.arange(800) % 40
    groups, noise = 1 + rng.random((40, 60)), rng.normal(size=(800, 60))
    taken, append = [], _diversity._append

    def spy(picks, chosen, count):
        jax.debug.callback(lambda n: taken.append(int(n)), jnp.sum(chosen >= 0))
        return append(picks, chosen, count)

    monkeypatch.setattr(_diversity, "_append", spy)
    run = jax.jit(selection.badge, static_argnums=3)

    def picks_and_blocks(spread):
        h = float32(groups[group] + spread * noise)
        picks = np.asarray(run(KEY, np.full((800, 2), 0.5, np.float32), h, 60))
        jax.effects_barrier()
        assert len(set(picks.tolist())) == 60 and sum(taken) == 59
        blocks = len(taken)
        taken.clear()
        return picks, blocks

    assert picks_and_blocks(spread=1)[1] == 1
    # Groups of near copies: one of each, and then anything.
    picks, blocks = picks_and_blocks(spread=1e-4)
    assert blocks > 2 and sorted(group[picks[:40]]) == list(range(40))


def test_badge_checks_its_probabilities():
    with pytest.raises(AssertionError):
        selection.badge(KEY, PROBABILITIES[0], FEATURES, 1)
    with pytest.raises(AssertionError):
        selection.badge(KEY, PROBABILITIES[:4], FEATURES, 1)


# 64 bits


def test_float64_is_not_rounded_to_float32():
    with jax.enable_x64(True):
        features = 1 + 1e-9 * jnp.array([[0.0], [1], [5], [2]])
        picks = k_center(features, 3, centers=jnp.arange(4) == 0)
        assert picks.tolist() == [2, 3, 1]
        # Items 1 and 2 are apart from each other, and 3 is a copy, in 64 bits only.
        h = 1 + 1e-6 * jnp.array([[9.0], [1], [5], [9]])
        picks = badge(KEY, jnp.full((4, 2), 0.5), h, 4)
        assert picks[0] == 0 and picks[3] == 3
        chex.assert_type(picks, jnp.int32)


def test_nothing_changes_under_x64_for_float32():
    x = inputs()
    before = {name: select(x, 12).tolist() for name, select in JITTED.items()}
    with jax.enable_x64(True):
        for name, select in JITTED.items():
            picks = select(x, 12)
            chex.assert_type(picks, jnp.int32)
            assert picks.tolist() == before[name]
