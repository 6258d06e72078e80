"""The labelled set, and what is on the table in each round."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jal import pool
from jal.types import Data

KEY = jax.random.key(0)


def make(num_items, capacity, labeled=(), excluded=()):
    made = pool.add(pool.create(num_items, capacity), jnp.array(labeled, int))
    return pool.exclude(made, jnp.array(excluded, int))


def items(flags):
    return np.flatnonzero(flags).tolist()


# --- Pool ----------------------------------------------------------------------------


def test_create_is_empty():
    empty = pool.create(5, 3)
    assert items(empty.labeled) == items(empty.excluded) == []
    assert empty.order.tolist() == [-1, -1, -1]
    assert int(empty.count) == 0
    assert empty.order.dtype == empty.count.dtype == jnp.int32


@pytest.mark.parametrize("capacity", [-1, 6])
def test_capacity_lies_between_0_and_n(capacity):
    with pytest.raises(ValueError, match=f"capacity={capacity}.*5 items.*0 and 5"):
        pool.create(5, capacity)
    assert pool.create(5, 5).order.shape == (5,)
    assert pool.create(5, 0).order.shape == (0,)


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("dtype", ["int32", "int16", "uint32"])
def test_add_in_the_order_given(jitted, dtype):
    add = jax.jit(pool.add) if jitted else pool.add
    first = add(pool.create(6, 4), jnp.array([5, 0], dtype))
    second = add(first, jnp.array([3, 2], dtype))
    assert second.order.tolist() == [5, 0, 3, 2]
    assert items(second.labeled) == [0, 2, 3, 5]
    assert int(first.count) == 2 and int(second.count) == 4
    assert first.order.tolist() == [5, 0, -1, -1]
    assert second.order.dtype == second.count.dtype == jnp.int32


@pytest.mark.parametrize(
    ("indices", "order"),
    [
        ([-1, -1], [-1, -1, -1, -1]),
        ([-1, 0], [0, -1, -1, -1]),
        ([0, -1], [0, -1, -1, -1]),
        # -1 must stand neither for the last item nor for the last slot.
        ([-1, 5], [5, -1, -1, -1]),
        ([5, -1, 0, -1], [5, 0, -1, -1]),
        ([-1, 1, -1, 2, 3, 4], [1, 2, 3, 4]),
        # Beyond the capacity nothing is added, and nothing is overwritten.
        ([1, 2, 3, 4, 5], [1, 2, 3, 4]),
        ([1, -1, 2, 3, 4, 0], [1, 2, 3, 4]),
    ],
)
def test_add_skips_minus_one_and_what_exceeds_the_capacity(indices, order):
    added = pool.add(pool.create(6, 4), jnp.array(indices))
    assert added.order.tolist() == order
    chosen = [i for i in order if i >= 0]
    assert items(added.labeled) == sorted(chosen)
    assert int(added.count) == len(chosen)


def test_add_to_a_full_set_changes_nothing():
    full = make(6, 2, labeled=[1, 2])
    chex.assert_trees_all_equal(pool.add(full, jnp.array([3, -1])), full)
    none = pool.create(6, 0)
    chex.assert_trees_all_equal(pool.add(none, jnp.array([3, -1])), none)


def test_exclude():
    made = make(6, 4, labeled=[1], excluded=[5, -1, 2, -1])
    assert items(made.excluded) == [2, 5]
    assert items(pool.open_items(made)) == [0, 3, 4]
    assert items(made.labeled) == [1] and int(made.count) == 1
    nothing = pool.exclude(pool.create(6, 4), jnp.array([-1]))
    assert items(nothing.excluded) == []


# --- hide ----------------------------------------------------------------------------


def test_hide_masks_labels_and_costs_of_what_is_not_labelled():
    x = {"a": jnp.arange(4.0)}
    data = Data(x, y=jnp.array([7, 8, 9, 6]), cost=jnp.array([1.0, 2, 3, 4]), test="t")
    seen = pool.hide(data, make(4, 2, labeled=[2, 0], excluded=[1]))
    assert seen.y.tolist() == [7, -1, 9, -1] and seen.y.dtype == data.y.dtype
    np.testing.assert_array_equal(seen.cost, [1, np.nan, 3, np.nan])
    assert seen.test is None
    assert seen.x is x


def test_hide_masks_targets_with_nan():
    data = Data(x=jnp.zeros(3), y=jnp.array([0.5, 1.5, 2.5]))
    seen = pool.hide(data, make(3, 1, labeled=[1]))
    np.testing.assert_array_equal(seen.y, [np.nan, 1.5, np.nan])
    assert seen.cost is None


def test_hide_leaves_known_costs():
    data = Data(jnp.zeros(3), jnp.array([4, 5, 6]), cost=jnp.array([1.0, 2.0, 3.0]))
    seen = pool.hide(data, make(3, 1, labeled=[1]), cost_is_known=True)
    assert seen.cost.tolist() == [1, 2, 3]
    assert seen.y.tolist() == [-1, 5, -1]


def test_hide_masks_integer_costs():
    data = Data(jnp.zeros(2), jnp.array([4, 5]), cost=jnp.array([3, 2]))
    np.testing.assert_array_equal(
        pool.hide(data, make(2, 1, labeled=[1])).cost, [np.nan, 2]
    )


# --- draws ---------------------------------------------------------------------------


def test_minibatch_draws_labelled_items_uniformly():
    made = make(9, 6, labeled=[8, 0, 4])
    rows = pool.minibatch(KEY, made, 6000)
    assert rows.shape == (6000,) and rows.dtype == jnp.int32
    share = np.bincount(rows, minlength=9) / 6000
    assert items(share) == [0, 4, 8]
    np.testing.assert_allclose(share[[0, 4, 8]], 1 / 3, atol=0.03)
    traced = jax.jit(pool.minibatch, static_argnums=2)(KEY, made, 6000)
    np.testing.assert_array_equal(rows, traced)


def test_balanced_indices():
    labels = jnp.array([2, 0, 1, 0, 1, 2, 0, 0, 1, 2])
    draw = lambda key: pool.balanced_indices(key, labels, per_class=2, num_classes=3)
    chosen = draw(KEY)
    assert labels[chosen].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(chosen.tolist())) == 6
    np.testing.assert_array_equal(chosen, jax.jit(draw)(KEY))
    many = np.asarray(jax.vmap(draw)(jax.random.split(KEY, 200)))
    assert set(np.unique(many)) == set(range(10))  # each item has its chance
    assert (np.asarray(labels)[many] == [0, 0, 1, 1, 2, 2]).all()


def test_balanced_indices_where_a_class_has_too_few():
    labels = jnp.array([0, 0, 0, 1])
    chosen = pool.balanced_indices(KEY, labels, per_class=2, num_classes=3)
    assert labels[chosen[:2]].tolist() == [0, 0]
    assert chosen[2:].tolist() == [3, -1, -1, -1]


# --- proposals -----------------------------------------------------------------------


def served(proposal, made, rounds, *, jitted=True, buy=0):
    """(candidates, available) of each round, `buy` of the first ones being bought."""
    propose = jax.jit(proposal.propose) if jitted else proposal.propose
    state = proposal.init(jax.random.key(99), made)
    result = []
    for number in range(rounds):
        candidates, available, state = propose(jax.random.key(number), state, made)
        result.append((np.asarray(candidates), np.asarray(available)))
        bought = np.where(available, candidates, -1)
        made = pool.add(made, jnp.asarray(bought[available][:buy]))
    return result


def offered(candidates, available):
    return candidates[available].tolist()


PROPOSALS = {
    "everything": pool.everything,
    "random_subset": functools.partial(pool.random_subset, 4),
    "stream": functools.partial(pool.stream, 4),
    "stream that is not redrawn": functools.partial(pool.stream, 4, redraw=False),
}
every_proposal = pytest.mark.parametrize("name", PROPOSALS)


@every_proposal
def test_only_open_items_are_offered_sorted_and_once(name):
    made = make(14, 12, labeled=[13, 0], excluded=[12, 5])
    for candidates, available in served(PROPOSALS[name](), made, 8, buy=1):
        assert candidates.dtype == np.int32 and available.dtype == bool
        assert candidates.shape == available.shape == (14 if "every" in name else 4,)
        assert ((candidates >= 0) & (candidates < 14)).all()
        offer = offered(candidates, available)
        assert offer == sorted(set(offer))
        assert not {13, 0, 12, 5} & set(offer)


@every_proposal
def test_what_was_bought_is_not_offered_again(name):
    made = make(14, 14, labeled=[13, 0])
    bought = {13, 0}
    for candidates, available in served(PROPOSALS[name](), made, 7, buy=2):
        offer = offered(candidates, available)
        assert not bought & set(offer)
        bought |= set(offer[:2])


@every_proposal
def test_jit_is_eager(name):
    made = make(14, 12, labeled=[13, 0], excluded=[12, 5])
    eager = served(PROPOSALS[name](), made, 6, buy=1, jitted=False)
    jitted = served(PROPOSALS[name](), made, 6, buy=1)
    chex.assert_trees_all_equal(eager, jitted)


def test_everything_is_the_pool():
    ((candidates, available),) = served(
        pool.everything(), make(5, 2, labeled=[4], excluded=[0]), 1
    )
    assert candidates.tolist() == [0, 1, 2, 3, 4]
    assert available.tolist() == [False, True, True, True, False]


def test_random_subset_is_fresh_and_uniform():
    made = make(10, 3, labeled=[9], excluded=[4])
    rounds = served(pool.random_subset(4), made, 400)
    assert all(available.all() for _, available in rounds)
    share = np.bincount(np.ravel([c for c, _ in rounds]), minlength=10) / 400
    assert share[[4, 9]].tolist() == [0, 0]
    # Each of 8 with probability 1/2; the standard error is .025.
    np.testing.assert_allclose(np.delete(share, [4, 9]), 0.5, atol=0.11)


def test_fewer_open_than_candidates():
    made = make(6, 4, labeled=[0, 5, 2], excluded=[3])
    for proposal in (pool.random_subset(4), pool.stream(4)):
        for candidates, available in served(proposal, made, 3):
            assert offered(candidates, available) == [1, 4]
            assert available.tolist() == [True, True, False, False]
    for _, available in served(pool.stream(4, redraw=False), made, 3):
        assert not available.any()
    full = make(3, 3, labeled=[0, 1, 2])
    for name in PROPOSALS:
        proposal = PROPOSALS[name] if "every" in name else PROPOSALS[name].func
        options = [] if "every" in name else [3]
        for _, available in served(proposal(*options), full, 2):
            assert not available.any()


@pytest.mark.parametrize("redraw", [True, False])
def test_stream_is_disjoint_until_it_is_dry(redraw):
    made = make(17, 12, labeled=[3], excluded=[8])
    rounds = served(pool.stream(4, redraw=redraw), made, 3, buy=1)
    seen = [i for both in rounds for i in offered(*both)]
    assert all(available.all() for _, available in rounds)
    assert len(set(seen)) == 12
    assert not {3, 8} & set(seen)


def test_stream_goes_on_with_what_was_never_bought():
    made = make(17, 17, labeled=[3], excluded=[8])
    rounds = [offered(*both) for both in served(pool.stream(4), made, 8, buy=2)]
    bought = {i for offer in rounds[:3] for i in offer[:2]}
    # 15 items are 3 whole sets. 9 are left then, which are 2 whole sets, and so on.
    again = rounds[3] + rounds[4]
    assert len(set(again)) == 8
    assert not set(again) & (bought | {3, 8})
    assert [len(offer) for offer in rounds] == [4, 4, 4, 4, 4, 4, 3, 1]
    assert set(rounds[6]) == set(range(17)) - {3, 8} - {
        i for offer in rounds[:6] for i in offer[:2]
    }


def test_stream_without_redraw_offers_nothing_once_dry():
    made = make(17, 17, labeled=[3])
    rounds = served(pool.stream(4, redraw=False), made, 7)
    assert [available.sum() for _, available in rounds] == [4, 4, 4, 4, 0, 0, 0]
    rounds = served(pool.stream(5, redraw=False), made, 5)  # the last one is not full
    assert [available.sum() for _, available in rounds] == [5, 5, 5, 0, 0]


def test_stream_depends_on_its_first_key_until_it_is_dry():
    made, proposal = make(20, 3), pool.stream(5)
    state = proposal.init(KEY, made)
    one, other = (
        proposal.propose(jax.random.key(seed), state, made)[0] for seed in (1, 2)
    )
    np.testing.assert_array_equal(one, other)
    again = proposal.init(jax.random.key(1), made)
    assert (proposal.propose(KEY, again, made)[0] != one).any()


def test_an_item_excluded_while_it_streams_is_not_available():
    made, proposal = make(8, 3), pool.stream(4)
    state = proposal.init(KEY, made)
    first, _, _ = proposal.propose(KEY, state, made)
    gone = int(first[1])
    candidates, available, _ = proposal.propose(
        KEY, state, pool.exclude(made, jnp.array([gone]))
    )
    assert offered(candidates, available) == [i for i in first.tolist() if i != gone]


@pytest.mark.parametrize("number", [-1, 0, 6])
@pytest.mark.parametrize("proposal", [pool.random_subset, pool.stream])
def test_number_of_candidates_lies_between_1_and_n(proposal, number):
    with pytest.raises(ValueError, match=f"num_candidates={number}.*5 items.*1 and 5"):
        proposal(number).init(KEY, pool.create(5, 1))
    proposal(5).init(KEY, pool.create(5, 1))
