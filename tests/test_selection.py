"""Selectors against NumPy references, closed-form distributions and each other."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jal import selection

NAN, INF = math.nan, math.inf
KEY = jax.random.key(0)
# Few shapes, because each one compiles.
SHAPES = st.sampled_from([(1, 1), (7, 3), (7, 7)])
SPECIAL = st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0, 1.0, -2.0])
FINITE = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
SCORE = SPECIAL | FINITE
few = settings(max_examples=100, deadline=None)

top_k = jax.jit(selection.top_k, static_argnames="k")
power = jax.jit(selection.power, static_argnames="k")
diversify = jax.jit(selection.diversify, static_argnames="k")
within_budget = jax.jit(selection.within_budget, static_argnames="max_k")

# One signature for all, so that what they have in common is tested on each.
SELECTORS = {
    "top_k": lambda x, k: selection.top_k(x["score"], k, available=x["available"]),
    "power": lambda x, k: selection.power(
        x["key"], x["score"], k, exponent=x["exponent"], available=x["available"]
    ),
    "diversify": lambda x, k: selection.diversify(
        x["score"], x["group"], k, available=x["available"]
    ),
    "within_budget": lambda x, k: selection.within_budget(
        x["score"], x["cost"], x["budget"], max_k=k, available=x["available"]
    )[0],
}
JITTED = {name: jax.jit(f, static_argnums=1) for name, f in SELECTORS.items()}
every_selector = pytest.mark.parametrize("select", JITTED.values(), ids=JITTED)


def inputs(seed: int, n: int = 12, available: float = 0.7):
    rng = np.random.default_rng(seed)
    return {
        "key": jax.random.key(seed),
        "score": jnp.asarray(rng.permutation(n) / 4, jnp.float32),
        "group": jnp.asarray(rng.integers(-2, 3, n), jnp.int32),
        "cost": jnp.asarray(rng.integers(0, 5, n) / 2, jnp.float32),
        "available": jnp.asarray(rng.random(n) < available),
        "budget": jnp.float32(4),
        "exponent": jnp.float32(1),
    }


def float32(values):
    return np.asarray(values, np.float32)


def lists(element, n):
    return st.lists(element, min_size=n, max_size=n)


def padded(positions, k):
    return (list(positions) + [-1] * k)[:k]


def ranking(scores, available):
    """Positions of the usable items, best first, by Python's own stable sort."""
    scores = np.asarray(scores, np.float64)
    usable = [i for i in range(len(scores)) if available[i] and scores[i] == scores[i]]
    return sorted(usable, key=lambda i: -scores[i])


def sweeps(scores, groups, available, already=None):
    """The diversification procedure sweep by sweep, as it is described in words."""
    left, picks, number = ranking(scores, available), [], 0
    already = np.zeros(len(scores), int) if already is None else already
    while left:
        seen = set(groups[already > number])
        number += 1
        for i in list(left):
            if groups[i] not in seen:
                seen.add(groups[i])
                picks.append(i)
                left.remove(i)
    return picks


def purchases(value, cost, budget, max_k, available):
    """Greedy purchases with the running sum in the type of the costs."""
    spent, picks = cost.dtype.type(0), []
    for i in ranking(value, available):
        fits = cost[i] >= 0 and spent + cost[i] <= budget
        if fits and len(picks) < max_k:
            spent += cost[i]
            picks.append(i)
    return picks


# What all selectors have in common.


@every_selector
@pytest.mark.parametrize("k", [0, 5, 12])
def test_positions_are_distinct_available_and_int32(select, k):
    for seed in range(3):
        x = inputs(seed)
        picks = select(x, k)
        chex.assert_shape(picks, (k,))
        chex.assert_type(picks, jnp.int32)
        chosen = [i for i in picks.tolist() if i >= 0]
        assert picks.tolist() == padded(chosen, k)
        assert len(set(chosen)) == len(chosen)
        assert all(x["available"][i] for i in chosen)


@every_selector
def test_fewer_available_than_k_and_none(select):
    x = inputs(0) | {"budget": jnp.float32(INF)}
    x["available"] = jnp.arange(12) % 6 == 1
    picks = select(x, 5).tolist()
    assert sorted(picks[:2]) == [1, 7] and picks[2:] == [-1, -1, -1]
    assert select(x | {"available": jnp.zeros(12, bool)}, 5).tolist() == [-1] * 5
    assert select(x | {"score": jnp.full(12, NAN)}, 5).tolist() == [-1] * 5


@every_selector
def test_all_none_and_one_of_few_items(select):
    x = inputs(1) | {"available": None, "budget": jnp.float32(INF)}
    assert sorted(select(x, 12).tolist()) == list(range(12))
    assert select(inputs(1, n=1, available=1) | {"budget": INF}, 1).tolist() == [0]
    assert select(inputs(1, n=0), 0).shape == (0,)


@pytest.mark.parametrize("name", SELECTORS)
def test_jit_and_vmap_give_what_eager_gives(name):
    batch = [inputs(seed) for seed in range(4)]
    eager = [SELECTORS[name](x, 5).tolist() for x in batch]
    assert [JITTED[name](x, 5).tolist() for x in batch] == eager
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch)
    mapped = jax.jit(jax.vmap(lambda x: SELECTORS[name](x, 5)))
    assert mapped(stacked).tolist() == eager


@every_selector
def test_one_trace_serves_all_budgets_and_exponents(select):
    chex.clear_trace_counter()
    counted = jax.jit(chex.assert_max_traces(lambda x: select(x, 5), n=1))
    for seed in range(3):
        changed = {"budget": jnp.float32(seed), "exponent": jnp.float32(seed)}
        counted(inputs(seed) | changed)


@pytest.mark.parametrize("name", ["top_k", "diversify", "within_budget"])
def test_order_of_the_items_does_not_matter(name):
    for seed in range(5):
        x = inputs(seed)
        order = np.random.default_rng(seed).permutation(12)
        items = ("score", "group", "cost", "available")
        moved = x | {field: x[field][order] for field in items}
        picks = np.asarray(JITTED[name](moved, 12))
        back = np.where(picks < 0, -1, order[picks])
        assert back.tolist() == JITTED[name](x, 12).tolist()


@every_selector
@pytest.mark.parametrize("k", [-1, 13, 2.0, None])
def test_number_of_picks_is_checked(select, k):
    with pytest.raises(ValueError, match=f"k must be .* number of items 12, got {k}"):
        select(inputs(0), k)


@every_selector
def test_shapes_and_types_are_checked(select):
    x = inputs(0)
    with pytest.raises(AssertionError):
        select(x | {"score": x["score"][None]}, 3)
    with pytest.raises(AssertionError):
        select(x | {"available": jnp.ones(11, bool)}, 3)
    with pytest.raises(AssertionError):
        select(x | {"available": jnp.ones(12, jnp.int32)}, 3)


# top_k


@few
@given(st.data(), SHAPES)
def test_top_k_matches_a_stable_sort(data, shape):
    n, k = shape
    scores = float32(data.draw(lists(SCORE, n)))
    available = np.asarray(data.draw(lists(st.booleans(), n)))
    expected = padded(ranking(scores, available), k)
    assert top_k(scores, k, available=available).tolist() == expected


def test_top_k_edge_values():
    scores = jnp.array([-INF, NAN, 0.0, INF, -0.0, -1.0])
    assert top_k(scores, 6).tolist() == [3, 2, 4, 5, 0, -1]


# power


def first_pick_frequencies(scores, exponent, draws=20_000, **kwargs):
    keys = jax.random.split(KEY, draws)
    pick = jax.vmap(lambda key: power(key, scores, 1, exponent=exponent, **kwargs)[0])
    return np.bincount(pick(keys), minlength=len(scores)) / draws


def assert_frequencies(frequencies, probabilities, draws=20_000, sigmas=5):
    tolerance = sigmas * np.sqrt(probabilities * (1 - probabilities) / draws)
    assert np.all(np.abs(frequencies - probabilities) <= tolerance)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_first_pick_follows_the_power_of_the_score(exponent):
    scores = jnp.array([1.0, 0.0, 2.0, NAN, 4.0, -3.0, 9.0])
    available = jnp.arange(7) < 6
    weights = np.array([1.0, 0, 2, 0, 4, 0, 0]) ** exponent
    frequencies = first_pick_frequencies(scores, exponent, available=available)
    assert_frequencies(frequencies, weights / weights.sum())


def test_later_picks_follow_the_same_law_without_replacement():
    draws, scores = 20_000, np.array([1.0, 2.0, 5.0])
    keys = jax.random.split(KEY, draws)
    pairs = jax.vmap(lambda key: power(key, float32(scores), 2))(keys)
    joint = np.bincount(pairs[:, 0] * 3 + pairs[:, 1], minlength=9).reshape(3, 3)
    p = scores / scores.sum()
    expected = p[:, None] * p[None] / (1 - p[:, None])
    np.fill_diagonal(expected, 0)
    assert_frequencies(joint / draws, expected)


def test_exponent_zero_is_uniform_over_what_is_available():
    scores = jnp.array([0.0, 1.0, 100.0, NAN, INF, -1.0])
    expected = np.array([1, 1, 1, 0, 1, 0]) / 4
    assert_frequencies(first_pick_frequencies(scores, 0.0), expected)


@pytest.mark.parametrize("score", [0.0, INF])
def test_infinite_logarithms_leave_the_choice_to_chance(score):
    scores = jnp.array([score, score, NAN, score])
    frequencies = first_pick_frequencies(scores, 1.0)
    assert_frequencies(frequencies, np.array([1, 1, 0, 1]) / 3)


def test_a_very_large_exponent_is_top_k():
    for seed in range(5):
        scores = float32(np.random.default_rng(seed).permutation(10) / 4)
        picks = power(jax.random.key(seed), scores, 10, exponent=1e6)
        assert picks.tolist() == np.argsort(-scores).tolist()


def test_an_overflowing_power_keeps_its_place():
    scores = jnp.array([NAN, 0.0, 1e-30, 0.5, 2.0, INF])
    assert power(KEY, scores, 6, exponent=1e38).tolist() == [5, 4, 3, 2, 1, -1]


@few
@given(st.data(), SHAPES, st.sampled_from([0.0, 0.5, 1.0, 30.0]))
def test_power_ranks_infinite_positive_zero_unavailable(data, shape, exponent):
    n, k = shape
    scores = float32(data.draw(lists(SCORE, n)))
    available = np.asarray(data.draw(lists(st.booleans(), n)))
    key = jax.random.key(data.draw(st.integers(0, 1000)))
    picks = power(key, scores, k, exponent=np.float32(exponent), available=available)
    usable = [i for i in range(n) if available[i] and scores[i] >= 0]
    chosen = picks.tolist()[: min(k, len(usable))]
    assert picks.tolist() == padded(chosen, k)
    assert set(chosen) <= set(usable) and len(set(chosen)) == len(chosen)
    if exponent > 0:
        tiers = np.array([2.0 if s == INF else float(s > 0) for s in scores])
        assert tiers[chosen].tolist() == sorted(tiers[usable])[::-1][:k]


def test_power_depends_on_the_key_and_on_nothing_else():
    scores = jnp.arange(1.0, 50.0)
    first = power(KEY, scores, 10).tolist()
    assert power(KEY, scores, 10).tolist() == first
    assert power(KEY, scores, 20).tolist()[:10] == first
    assert power(jax.random.key(1), scores, 10).tolist() != first


@pytest.mark.parametrize("exponent", [-1.0, NAN, INF])
def test_power_checks_its_exponent(exponent):
    with pytest.raises(ValueError, match=f"exponent must be finite .* got {exponent}"):
        selection.power(KEY, jnp.ones(3), 1, exponent=exponent)


def test_power_makes_no_nan_on_the_way():
    with jax.debug_nans(True):
        scores = jnp.array([0.0, INF, -1.0, 2.0])
        for exponent in (0.0, 1.0):
            picks = selection.power(KEY, scores, 4, exponent=exponent)
            assert sorted(picks.tolist()) == [-1, 0, 1, 3]


# diversify


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (3, [0, 2, 4]),
        (4, [0, 2, 4, 9]),
        (5, [0, 2, 4, 9, 1]),
        (8, [0, 2, 4, 9, 1, 5, 6, 3]),
        (10, [0, 2, 4, 9, 1, 5, 6, 3, 7, 8]),
    ],
)
def test_diversify_worked_example(k, expected):
    groups = jnp.array([ord(letter) for letter in "AABACCBAAD"])
    scores = -jnp.arange(10.0)
    assert diversify(scores, groups, k).tolist() == expected


@few
@given(st.data(), SHAPES)
def test_diversify_matches_the_sweeps(data, shape):
    n, k = shape
    scores = float32(data.draw(lists(SCORE, n)))
    group = st.integers(-1, 2) | st.sampled_from([-(2**31), 2**31 - 1])
    groups = np.asarray(data.draw(lists(group, n)), np.int32)
    available = np.asarray(data.draw(lists(st.booleans(), n)))
    expected = padded(sweeps(scores, groups, available), k)
    assert diversify(scores, groups, k, available=available).tolist() == expected


def test_diversify_of_one_group_or_of_all_different_is_top_k():
    scores = inputs(3)["score"]
    expected = top_k(scores, 12).tolist()
    for groups in (jnp.zeros(12, int), jnp.arange(12)):
        assert diversify(scores, groups, 12).tolist() == expected


def test_diversify_breaks_ties_between_groups_by_position():
    groups = jnp.array([3, 1, 3, 1])
    assert diversify(jnp.ones(4), groups, 4).tolist() == [0, 1, 2, 3]


def test_diversify_orders_integers_to_the_last_bit():
    scores = jnp.array([-(2**31), 2**24, 2**24 + 1, 2**31 - 1])
    groups = jnp.zeros(4, int)
    assert diversify(scores, groups, 4).tolist() == [3, 2, 1, 0]


@few
@given(st.data())
def test_groups_that_have_some_already_join_later(data):
    scores = float32(data.draw(lists(SCORE, 7)))
    groups = np.asarray(data.draw(lists(st.integers(0, 2), 7)), np.int32)
    already = np.asarray(data.draw(lists(st.integers(0, 4), 3)), np.int32)[groups]
    available = np.asarray(data.draw(lists(st.booleans(), 7)))
    picks = diversify(scores, groups, 7, already=already, available=available)
    expected = sweeps(scores, groups, available, already)
    assert picks.tolist() == padded(expected, 7)


def test_diversify_evens_out_what_groups_have():
    """Groups that have 5, 2 and 0 of their own get none, 3 and 5 of 8 more."""
    groups = jnp.arange(60) % 3
    already = jnp.array([5, 2, 0])[groups]
    picks = diversify(inputs(0, n=60)["score"], groups, 8, already=already)
    assert np.bincount(groups[picks], minlength=3).tolist() == [0, 3, 5]
    assert groups[picks].tolist()[:2] == [2, 2]
    # What all have in common changes nothing.
    scores = inputs(0, n=60)["score"]
    same = diversify(scores, groups, 8, already=jnp.full(60, 7, jnp.int8))
    assert same.tolist() == diversify(scores, groups, 8).tolist()


def test_diversify_checks_its_groups():
    for groups in (jnp.ones(4, int), jnp.ones(3)):
        with pytest.raises(AssertionError):
            selection.diversify(jnp.ones(3), groups, 1)
        with pytest.raises(AssertionError):
            selection.diversify(jnp.ones(3), jnp.ones(3, int), 1, already=groups)


# within_budget


@few
@given(st.data(), SHAPES)
def test_within_budget_matches_a_greedy_loop(data, shape):
    n, k = shape
    value = float32(data.draw(lists(SCORE, n)))
    price = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 2.5, -1.0, NAN, INF])
    cost = float32(data.draw(lists(price | st.floats(0, 4, width=32), n)))
    assume(not np.any((cost > 0) & (cost < np.finfo(np.float32).tiny)))
    available = np.asarray(data.draw(lists(st.booleans(), n)))
    budget = np.float32(data.draw(st.sampled_from([0.0, 0.3, 0.6, 3.0, 10.0, INF])))
    picks, count = within_budget(value, cost, budget, max_k=k, available=available)
    expected = purchases(value, cost, budget, k, available)
    assert picks.tolist() == padded(expected, k)
    assert int(count) == len(expected)
    chex.assert_type([picks, count], jnp.int32)
    # Added up in the order returned, the bill is never above the budget.
    assert not expected or np.cumsum(cost[expected])[-1] <= budget


@pytest.mark.parametrize(
    ("budget", "max_k", "expected"),
    [
        (6.0, 4, [0, 2, 3]),  # exact fit, the second no longer fits
        (5.9, 4, [0, 2]),
        (9.0, 4, [0, 1]),  # exact fit with the two best
        (100.0, 2, [0, 1]),
        (0.0, 4, []),
        (INF, 4, [0, 1, 2, 3]),
        (INF, 0, []),
    ],
)
def test_within_budget_by_hand(budget, max_k, expected):
    value, cost = jnp.array([4.0, 3.0, 2.0, 1.0]), jnp.array([4.0, 5.0, 1.0, 1.0])
    picks, count = within_budget(value, cost, budget, max_k=max_k)
    assert picks.tolist() == padded(expected, max_k)
    assert int(count) == len(expected)


def test_items_that_cost_nothing_fit_a_budget_of_nothing():
    cost = jnp.array([1.0, 0.0, -0.0, NAN, -1.0])
    picks, count = within_budget(jnp.arange(5.0), cost, 0, max_k=5)
    assert picks.tolist() == [2, 1, -1, -1, -1] and int(count) == 2


def test_within_budget_takes_integer_costs():
    cost = jnp.array([3, 2, 1])
    picks, _ = within_budget(jnp.array([3, 2, 1]), cost, 4.5, max_k=3)
    assert picks.tolist() == [0, 2, -1]


@pytest.mark.parametrize("budget", [-1.0, NAN])
def test_within_budget_checks_its_budget(budget):
    value = jnp.arange(3.0)
    with pytest.raises(ValueError, match=f"budget must be >= 0, got {budget}"):
        selection.within_budget(value, value, budget, max_k=1)
    picks, count = within_budget(value, value, jnp.float32(budget), max_k=1)
    assert picks.tolist() == [-1] and int(count) == 0


# 64 bits


def test_float64_is_not_rounded_to_float32():
    with jax.enable_x64(True):
        scores = 1 + 1e-12 * jnp.arange(4)
        for picks in (
            top_k(scores, 4),
            power(KEY, scores, 4, exponent=1e15),
            diversify(scores, jnp.zeros(4, int), 4),
            within_budget(scores, scores, 9.0, max_k=4)[0],
        ):
            chex.assert_type(picks, jnp.int32)
            assert picks.tolist() == [3, 2, 1, 0]


def test_the_bill_is_added_up_in_the_type_of_the_costs():
    # 0.1 + 0.2 > 0.3 in 64 bits, and not in 32.
    for wide, expected in ((True, [0, -1]), (False, [0, 1])):
        with jax.enable_x64(wide):
            value, cost = jnp.ones(2), jnp.array([0.1, 0.2])
            picks, _ = within_budget(value, cost, 0.3, max_k=2)
            assert picks.tolist() == expected
