"""The loop: what it may know, what it records, and that all ways to run it agree."""

import functools
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import (
    acquisition,
    learners,
    loop,
    nn,
    pool,
    predictive,
    scorers,
    selection,
    strategies,
)
from jal._core.compile import cpu_compiler_options
from jal.types import (
    Data,
    Learner,
    Outputs,
    Picks,
    Proposal,
    Strategy,
    View,
)

KEY = jax.random.key(1)
CLASSES, BETA = 3, 4.0
INITIAL, K, ROUNDS, CANDIDATES = (5, 0, 17), 3, 4, 8
ARMS = ("random", "bald", "known", "learned")
every_arm = pytest.mark.parametrize("arm", ARMS)
jit = functools.partial(jax.jit, compiler_options=cpu_compiler_options())


# --- a problem with closed forms -----------------------------------------------------


@functools.cache
def make_data() -> Data:
    """40 items in 4 dimensions; multiples of 1/4, so that most sums are exact."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, 40)
    x = rng.integers(-4, 5, (40, 4)) / 4
    x[np.arange(40), y] += 1
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)
    cost = jnp.asarray(rng.integers(2, 13, 40) / 4, jnp.float32)
    return Data(x, y, cost, test=(x[:15], y[:15]))


@functools.cache
def nearest_mean() -> Learner:
    """Classifies by the nearest class mean; a key perturbs the means of all items."""

    def fit(key, variables, data, pool):
        rows = pool.labeled[:, None]
        member = jnp.where(rows, jax.nn.one_hot(data.y, CLASSES), 0)
        total = member.T @ jnp.where(rows, data.x, 0)
        size = jnp.maximum(jnp.sum(member, axis=0), 1)
        return total / size[:, None], {"labels": pool.count}

    def predict(variables, x, key=None):
        if key is not None:
            variables += jax.random.normal(key, variables.shape)
        square = jnp.sum(jnp.square(variables), axis=1)
        return Outputs(logits=2 * x @ variables.T - square[None])

    return Learner(lambda key: jnp.zeros((CLASSES, 4)), fit, predict)


@functools.cache
def ridge() -> Learner:
    """Predicts costs by linear regression with a penalty, in closed form."""

    def fit(key, variables, data, pool):
        x = jnp.where(pool.labeled[:, None], data.x, 0)
        y = jnp.where(pool.labeled, data.y, 0)
        return jnp.linalg.solve(x.T @ x + jnp.eye(4), x.T @ y), {}

    predict = lambda variables, x, key=None: Outputs(value=2 + x @ variables)
    return Learner(lambda key: jnp.zeros(4), fit, predict)


def observe(data, view, acquisition):
    """All that a test wants to know, and (`truth`) what no strategy may know."""
    return {
        "candidates": view.candidates,
        "available": view.available,
        "scores": acquisition.scores,
        "cost": () if view.cost is None else view.cost,
        "seen": (view.data.y, () if view.data.cost is None else view.data.cost),
        "truth": data.y[view.candidates],
    }


@functools.cache
def evaluate():
    return learners.accuracy(nearest_mean())


def options(**changes):
    defaults = dict(
        initial=jnp.array(INITIAL),
        k=K,
        rounds=ROUNDS,
        propose=pool.stream(CANDIDATES),
        observe=observe,
    )
    return {**defaults, **changes}


@functools.cache
def arm_parts(arm: str):
    """Strategy and knowledge of the costs."""
    bald = functools.partial(
        strategies.from_scores, scorers.passes(acquisition.bald, 6)
    )
    return {
        "random": (strategies.random(), None),
        "bald": (bald(), None),
        "known": (bald(beta=BETA), "known"),
        "learned": (bald(beta=BETA), ridge()),
    }[arm]


@functools.cache
def compiled(arm: str):
    """(key, data) -> (state, infos) of an arm, one compilation for all tests."""
    strategy, cost = arm_parts(arm)
    return jit(
        lambda key, data: loop.run(
            key, nearest_mean(), strategy, data, **options(cost=cost)
        )
    )


@functools.cache
def result(arm: str):
    """What an arm did with `KEY`, as NumPy arrays."""
    return jax.device_get(compiled(arm)(KEY, make_data()))


def bought(infos) -> list[int]:
    return [int(i) for i in np.ravel(infos.indices) if i >= 0]


# --- what happens in a round ---------------------------------------------------------


@every_arm
def test_labelled_set_grows_by_k_items_never_bought_before(arm):
    state, infos = result(arm)
    assert infos.round.tolist() == list(range(ROUNDS + 1))
    assert infos.count.tolist() == [len(INITIAL) + K * r for r in range(ROUNDS + 1)]
    assert (infos.indices[:-1] >= 0).all()
    assert (infos.indices[-1] == -1).all()
    order = [*INITIAL, *bought(infos)]
    assert len(set(order)) == len(order) == int(state.pool.count)
    assert state.pool.order.tolist() == order
    assert set(np.flatnonzero(state.pool.labeled)) == set(order)
    assert not state.pool.excluded.any()
    assert int(state.round) == ROUNDS + 1


@every_arm
def test_picks_are_available_candidates_with_the_highest_scores(arm):
    _, infos = result(arm)
    owned = set(INITIAL)
    for r in range(ROUNDS):
        seen = {name: infos.observed[name][r] for name in ("candidates", "available")}
        offered = seen["candidates"][seen["available"]]
        assert owned.isdisjoint(offered.tolist())
        assert infos.num_available[r] == len(offered) == len(set(offered.tolist()))
        scores = np.where(seen["available"], infos.observed["scores"][r], -np.inf)
        best = np.argsort(-scores, kind="stable")[:K]
        assert infos.indices[r].tolist() == seen["candidates"][best].tolist()
        owned |= set(infos.indices[r].tolist())
    assert infos.num_available[-1] == 0
    assert (infos.num_nan == 0).all()


def test_same_key_same_picks_other_key_other_picks():
    for arm in ("random", "bald"):
        state, infos = compiled(arm)(KEY, make_data())
        chex.assert_trees_all_equal(jax.device_get((state, infos)), result(arm))
        _, other = compiled(arm)(jax.random.key(2), make_data())
        assert bought(other) != bought(infos)


def test_strategies_share_the_candidates():
    # Until the stream is dry, when it goes on with what each has not bought.
    whole = (40 - len(INITIAL)) // CANDIDATES
    assert whole == ROUNDS
    names = ("candidates", "available")
    shared = [
        {name: result(arm)[1].observed[name][:whole] for name in names} for arm in ARMS
    ]
    for other in shared[1:]:
        chex.assert_trees_all_equal(shared[0], other)
    served = shared[0]["candidates"].ravel().tolist()
    assert len(set(served)) == whole * CANDIDATES
    assert len({tuple(bought(result(arm)[1])) for arm in ARMS}) == len(ARMS)


@every_arm
def test_spend_is_the_sum_of_the_costs_of_what_is_labelled(arm):
    state, infos = result(arm)
    cost = np.asarray(make_data().cost, np.float64)
    order = state.pool.order
    for r in range(ROUNDS + 1):
        assert infos.spend[r] == cost[order[: infos.count[r]]].sum()
    for r in range(ROUNDS):
        assert infos.cost[r] == cost[infos.indices[r]].sum()
    assert state.spend == infos.spend[-1]


def test_run_needs_no_jit_and_without_costs_nothing_is_spent():
    data = make_data()._replace(cost=None)
    state, infos = loop.run(
        KEY, nearest_mean(), arm_parts("bald")[0], data, **options()
    )
    want = result("bald")[1]
    assert bought(infos) == bought(want)
    scores, wanted = (run.observed["scores"][:-1] for run in (infos, want))
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-6)
    assert float(state.spend) == 0 and not infos.spend.any()


def test_learner_is_trained_on_all_that_is_labelled():
    state, infos = result("bald")
    assert infos.fit["labels"].tolist() == infos.count.tolist()
    data = jax.device_get(make_data())
    rows = state.pool.order
    for c in range(CLASSES):
        mean = data.x[rows][data.y[rows] == c].mean(axis=0)
        np.testing.assert_allclose(state.variables[c], mean, rtol=1e-6)


def test_no_rounds():
    state, infos = loop.run(
        KEY, nearest_mean(), arm_parts("random")[0], make_data(), **options(rounds=0)
    )
    assert infos.count.tolist() == [3] and infos.indices.tolist() == [[-1] * K]
    assert state.pool.order.tolist() == list(INITIAL)


# --- the oracle ----------------------------------------------------------------------


def garble(data, keep, *, cost=None):
    """Wrong labels, and costs if one is given, for all items that are not kept."""
    kept = jnp.isin(jnp.arange(40), jnp.asarray(keep))
    y = jnp.where(kept, data.y, (data.y + 1) % CLASSES)
    new_cost = data.cost if cost is None else jnp.where(kept, data.cost, cost)
    return data._replace(y=y, cost=new_cost)


def without_truth(state, infos):
    observed = {k: v for k, v in infos.observed.items() if k != "truth"}
    return state, infos._replace(observed=observed)


@pytest.mark.parametrize(
    ("arm", "cost"),
    [
        ("random", 1e6),
        ("random", jnp.nan),
        ("bald", 1e6),
        ("bald", jnp.nan),
        ("learned", 1e6),
        ("learned", jnp.nan),
        ("known", None),
    ],
)
def test_labels_and_costs_never_bought_change_nothing(arm, cost):
    before = result(arm)
    garbled = garble(make_data(), before[0].pool.order, cost=cost)
    after = jax.device_get(compiled(arm)(KEY, garbled))
    assert (after[1].observed["truth"] != before[1].observed["truth"]).any()
    chex.assert_trees_all_equal(without_truth(*after), without_truth(*before))


def test_labels_and_costs_that_are_bought_do():
    data = make_data()
    wrong_labels = data._replace(y=(data.y + 1) % CLASSES)
    state, _ = compiled("bald")(KEY, wrong_labels)
    assert (state.variables != result("bald")[0].variables).any()
    dearer = data._replace(cost=data.cost.at[INITIAL[0]].mul(9))
    _, infos = compiled("learned")(KEY, dearer)
    assert (infos.observed["cost"][0] != result("learned")[1].observed["cost"][0]).any()
    dear = jnp.where(jnp.arange(40) < 20, data.cost, 1e6)
    _, infos = compiled("known")(KEY, data._replace(cost=dear))
    assert bought(infos) != bought(result("known")[1])


@every_arm
def test_strategies_see_labels_and_costs_of_labelled_items_only(arm):
    state, infos = result(arm)
    y, cost = infos.observed["seen"]
    data = jax.device_get(make_data())
    for r in range(ROUNDS):
        labeled = np.isin(np.arange(40), state.pool.order[: infos.count[r]])
        assert y[r].tolist() == np.where(labeled, data.y, -1).tolist()
        known = labeled | (arm == "known")
        np.testing.assert_array_equal(cost[r], np.where(known, data.cost, np.nan))


# --- costs ---------------------------------------------------------------------------


def test_known_costs_are_those_of_the_candidates():
    _, infos = result("known")
    cost = np.asarray(make_data().cost)
    candidates = infos.observed["candidates"][:ROUNDS]
    np.testing.assert_array_equal(infos.observed["cost"][:ROUNDS], cost[candidates])
    assert result("bald")[1].observed["cost"] == ()


def test_known_costs_make_picks_cheaper():
    cheap, dear = (result(arm)[1] for arm in ("known", "bald"))
    assert bought(cheap) != bought(dear)
    assert cheap.spend[-1] < dear.spend[-1]


def test_learned_costs_are_predicted_from_labelled_costs():
    state, infos = result("learned")
    data = jax.device_get(make_data())
    for r in range(ROUNDS):
        rows = state.pool.order[: infos.count[r]]
        x, y = data.x[rows].astype(float), data.cost[rows].astype(float)
        weights = np.linalg.solve(x.T @ x + np.eye(4), x.T @ y)
        want = 2 + data.x[infos.observed["candidates"][r]] @ weights
        np.testing.assert_allclose(infos.observed["cost"][r], want, rtol=1e-4)
    np.testing.assert_allclose(state.cost_variables, weights, rtol=1e-4, atol=1e-4)


def test_every_purpose_has_a_key_of_its_own_in_every_round():
    data_of = jax.random.key_data
    learner = Learner(
        lambda key: data_of(key),
        lambda key, variables, data, pool: (variables, {"key": data_of(key)}),
        lambda variables, x, key=None: Outputs(value=x[:, 0]),
    )
    prices = Learner(
        lambda key: data_of(key),
        lambda key, variables, data, pool: (data_of(key), {}),
        lambda variables, x, key=None: Outputs(value=x[:, 0]),
    )
    strategy = Strategy(
        lambda key, data, pool: data_of(key),
        lambda key, state, view, k: (Picks(view.candidates[-k:]), data_of(key)),
    )
    everything = pool.everything()

    def propose(key, state, labelled):
        return *everything.propose(key, (), labelled)[:2], data_of(key)

    proposal = Proposal(lambda key, labelled: data_of(key), propose)
    rest = options(k=1, rounds=2, propose=proposal, cost=prices, observe=None)
    run = lambda key, data: loop.run(key, learner, strategy, data, **rest)
    state, infos = jit(run)(KEY, make_data())

    last = lambda purpose: data_of(loop.round_key(KEY, 1, purpose)).tolist()
    assert state.strategy.tolist() == last(loop.STRATEGY)
    assert state.proposal.tolist() == last(loop.PROPOSAL)
    assert state.cost_variables.tolist() == last(loop.COST)
    assert infos.fit["key"][1].tolist() == last(loop.FIT)
    start = loop.round_key(KEY, 0, loop.INITIAL)
    first = data_of(loop.round_key(start, 0, loop.FIT))
    assert state.variables.tolist() == first.tolist()
    keys = [loop.round_key(KEY, r, purpose) for r in (0, 1) for purpose in range(5)]
    keys += [loop.round_key(start, 0, purpose) for purpose in range(1, 5)]
    assert len({tuple(data_of(key).tolist()) for key in keys}) == 14


# --- evaluation ----------------------------------------------------------------------


def test_evaluated_in_the_rounds_asked_for():
    def run(when):
        rest = options(evaluate=evaluate(), evaluate_rounds=when)
        strategy, _ = arm_parts("random")
        run = lambda key, data: loop.run(key, nearest_mean(), strategy, data, **rest)
        return jit(run)(KEY, make_data())

    state, every = run(None)
    some = run((0, 3))[1].metrics
    asked = np.isin(np.arange(ROUNDS + 1), (0, 3))
    for name, values in every.metrics.items():
        np.testing.assert_array_equal(some[name], np.where(asked, values, np.nan))
    x, y = make_data().test
    hit = jnp.argmax(nearest_mean().predict(state.variables, x).logits, axis=1) == y
    np.testing.assert_allclose(every.metrics["accuracy"][-1], hit.mean(), rtol=1e-6)


# --- NaN, and too few items ----------------------------------------------------------


def nan_where_class_0(statistics):
    score = acquisition.least_confidence(statistics)
    likely = jnp.argmax(statistics.mean, axis=-1) == 0
    return jnp.where(likely, jnp.nan, score)


def test_nan_is_counted_and_never_picked():
    strategy = strategies.from_scores(scorers.passes(nan_where_class_0, 2))
    state, infos = jax.device_get(
        loop.run(
            KEY,
            nearest_mean(),
            strategy,
            make_data(),
            **options(k=7, rounds=5, propose=pool.everything()),
        )
    )
    buying = slice(0, -1)
    nan = np.isnan(infos.observed["scores"]) & infos.observed["available"]
    assert infos.num_nan[buying].tolist() == nan[buying].sum(axis=1).tolist()
    for r in range(5):
        forbidden = infos.observed["candidates"][r][nan[r]]
        assert not set(forbidden.tolist()) & set(infos.indices[r].tolist())
    # Fewer than k could be picked: -1 behind them, and no label counted for those.
    number = (infos.indices[buying] >= 0).sum(axis=1)
    want = np.minimum(7, (infos.num_available - infos.num_nan)[buying])
    assert number.tolist() == want.tolist()
    assert number[0] == 7 and 0 < number.min() < 7
    # Candidates that are not available have a score too, which does not count.
    all_nan = np.isnan(infos.observed["scores"][buying]).sum(axis=1)
    assert (infos.num_nan[buying] < all_nan).all()
    assert np.diff(infos.count).tolist() == number.tolist()
    assert state.pool.order[: state.pool.count].tolist() == [*INITIAL, *bought(infos)]
    assert (state.pool.order[state.pool.count :] == -1).all()
    assert state.spend == np.asarray(make_data().cost)[
        state.pool.order[: state.pool.count]
    ].sum(dtype=np.float64)


def test_a_stream_that_is_dry_ends_the_buying():
    state, infos = loop.run(
        KEY,
        nearest_mean(),
        arm_parts("random")[0],
        make_data(),
        **options(propose=pool.stream(15, redraw=False)),
    )
    assert infos.num_available.tolist() == [15, 15, 0, 0, 0]
    assert infos.count.tolist() == [3, 6, 9, 9, 9]
    assert (infos.indices[2:] == -1).all()
    assert infos.cost[2:4].tolist() == [0, 0]
    assert infos.spend[-1] == infos.spend[2] == state.spend


def test_excluded_items_are_never_bought():
    data = make_data()
    init, step = loop.make_step(
        nearest_mean(), arm_parts("random")[0], k=3, rounds=3, propose=pool.everything()
    )
    state, step = init(KEY, data, jnp.array([0, 1])), jit(step)
    state = state._replace(pool=pool.exclude(state.pool, jnp.arange(6, 40)))
    picks = []
    for _ in range(4):
        state, info = step(KEY, data, state)
        picks.append((info.indices.tolist(), int(info.num_available)))
    assert sorted(picks[0][0] + picks[1][0]) == [-1, -1, 2, 3, 4, 5]
    assert [number for _, number in picks] == [4, 1, 0, 0]
    assert picks[2][0] == picks[3][0] == [-1] * 3
    assert int(state.pool.count) == 6


# --- one compilation, and the same result however it is run --------------------------


@functools.cache
def stepwise(arm: str):
    """The result of an arm by a Python loop over its jitted step."""
    strategy, cost = arm_parts(arm)
    rest = options(cost=cost)
    initial = rest.pop("initial")
    init, step = loop.make_step(nearest_mean(), strategy, **rest)
    chex.clear_trace_counter()
    step = jit(chex.assert_max_traces(step, n=1))
    state, infos = jit(init)(KEY, make_data(), initial), []
    for _ in range(ROUNDS + 1):
        state, info = step(KEY, make_data(), state)
        infos.append(info)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos)


def test_scan_is_a_loop_over_the_jitted_step_traced_once():
    chex.assert_trees_all_equal(stepwise("learned"), result("learned"))


@pytest.mark.parametrize("segment", [2, 3])
def test_scan_is_drive_in_segments(segment):
    strategy, cost = arm_parts("learned")
    driven = loop.drive(
        KEY,
        nearest_mean(),
        strategy,
        make_data(),
        segment=segment,
        progress=False,
        **options(cost=cost, propose=the_stream()),
    )
    chex.assert_trees_all_equal(driven, result("learned"))


@functools.cache
def the_stream():
    return pool.stream(CANDIDATES)


def test_number_of_traces_does_not_depend_on_the_number_of_rounds():
    traces = []

    def fit(*args):
        traces.append("fit")
        return nearest_mean().fit(*args)

    def predict(*args, **kwargs):
        traces.append("predict")
        return nearest_mean().predict(*args, **kwargs)

    learner = Learner(nearest_mean().init, fit, predict)
    counts = []
    for rounds in (2, 9):
        run = lambda key, data, rounds=rounds: loop.run(
            key, learner, arm_parts("bald")[0], data, **options(rounds=rounds)
        )
        traces.clear()
        jax.eval_shape(run, KEY, make_data())
        counts.append((traces.count("fit"), traces.count("predict")))
    assert counts[0] == counts[1]
    assert counts[0][0] == 1


def grid(mapper):
    """A run for each of 2 seeds x 2 exponents of the cost, which are traced."""

    def run(seed, beta, data):
        strategy = strategies.from_scores(
            scorers.passes(acquisition.bald, 6), beta=beta
        )
        key = jax.random.key(seed)
        return loop.run(key, nearest_mean(), strategy, data, **options(cost="known"))[1]

    seeds, betas = jnp.array([1, 2, 1, 2]), jnp.array([0.0, 0.0, BETA, BETA])
    return jit(functools.partial(mapper, run))(seeds, betas, make_data())


def by_map(run, seeds, betas, data):
    return jax.lax.map(lambda pair: run(*pair, data), (seeds, betas))


def by_vmap(run, seeds, betas, data):
    return jax.vmap(run, in_axes=(0, 0, None))(seeds, betas, data)


@pytest.mark.parametrize("mapper", [by_map, by_vmap])
def test_mapped_over_seeds_and_beta_the_picks_are_those_of_single_runs(mapper):
    infos = grid(mapper)
    singles = [
        compiled(arm)(jax.random.key(seed), make_data())[1]
        for arm in ("bald", "known")
        for seed in (1, 2)
    ]
    picks = np.asarray(infos.indices)
    np.testing.assert_array_equal(picks, [single.indices for single in singles])
    np.testing.assert_array_equal(infos.spend, [single.spend for single in singles])
    assert len({row.tobytes() for row in picks}) == 4


# --- a convolutional network ---------------------------------------------------------


@functools.cache
def network_run():
    """A small network on twelve real digits."""
    with np.load(Path(__file__).parent / "mnist_digits.npz") as digits:
        images = jnp.asarray(digits["images"])
        labels = jnp.asarray(digits["labels"], jnp.int32)
    data = Data(images, labels)
    module = nn.GalCNN(channels=(4,), strides=(3,), dense=8, rates=(0, 0.5))
    learner = learners.supervised(
        *nn.from_linen(module, images),
        optax.sgd(0.1),
        steps=12,
        batch_size=4,
        restart=False,
    )
    strategy = strategies.from_scores(scorers.passes(acquisition.bald, 4))
    rest = dict(k=2, rounds=2, propose=pool.random_subset(6), observe=observe)
    run = lambda key, data: loop.run(
        key, learner, strategy, data, initial=jnp.array([0, 1]), **rest
    )
    return run, loop.make_step(learner, strategy, **rest), data


@functools.cache
def network_stepwise():
    """State and infos of a Python loop over the jitted step."""
    _, (init, step), data = network_run()
    chex.clear_trace_counter()
    step = jit(chex.assert_max_traces(step, n=1))
    state, infos = jit(init)(KEY, data, jnp.array([0, 1])), []
    for _ in range(3):
        state, info = step(KEY, data, state)
        infos.append(info)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *infos)


def test_network_in_a_scan_mapped_over_seeds_is_a_loop_over_the_jitted_step():
    run, _, data = network_run()
    mapped = jit(lambda keys, data: jax.lax.map(lambda key: run(key, data), keys))
    both = mapped(jnp.stack([jax.random.key(8), KEY]), data)
    other = jax.tree.map(lambda leaf: leaf[0], both)
    one = jax.tree.map(lambda leaf: leaf[1], both)
    chex.assert_trees_all_equal(one, network_stepwise())
    assert one[1].count.tolist() == [2, 4, 6]
    assert other[1].indices.tolist() != one[1].indices.tolist()


def test_network_under_vmap_has_the_scores_of_a_single_run_in_the_first_round():
    # Later rounds drift apart: a rounding error is trained on.
    run, _, data = network_run()
    keys = jnp.stack([jax.random.key(8), KEY])
    _, infos = jit(jax.vmap(run, in_axes=(0, None)))(keys, data)
    want = network_stepwise()[1].observed["scores"][0]
    scores = infos.observed["scores"][1, 0]
    np.testing.assert_allclose(scores, want, rtol=1e-4, atol=1e-5)


# --- strategies ----------------------------------------------------------------------


@functools.cache
def fitted_view() -> View:
    data = make_data()
    labelled = pool.add(pool.create(40, 3), jnp.array(INITIAL))
    learner = nearest_mean()
    variables, _ = learner.fit(KEY, learner.init(KEY), data, labelled)
    candidates = jnp.array([7, 3, 11, 30, 22, 9], jnp.int32)
    return View(
        jax.tree_util.Partial(learner.predict, variables),
        pool.hide(data, labelled),
        labelled,
        candidates,
        jnp.array([True, True, False, True, True, True]),
        data.cost[candidates],
    )


def make_view(**changes) -> View:
    return fitted_view()._replace(**changes)


def test_from_scores_weighs_information_and_cost():
    """The exponents are traced: one compilation."""

    @jax.jit
    def select(view, alpha, beta):
        strategy = strategies.from_scores(
            scorers.passes(acquisition.bald, 5), alpha=alpha, beta=beta
        )
        passes_key, _ = jax.random.split(KEY)
        x = view.data.x[view.candidates]
        information = acquisition.bald(
            predictive.predict_passes(view.predict, passes_key, x, 5)
        )
        return *strategy.select(KEY, (), view, 3), information

    view = make_view()
    for alpha, beta in (1.0, 0.0), (2.0, 0.0), (1.0, 0.5), (0.0, 1.0), (2.0, 3.0):
        chosen, state, information = select(view, alpha, beta)
        value = np.asarray(information) ** alpha / np.asarray(view.cost) ** beta
        np.testing.assert_allclose(chosen.scores, value, rtol=1e-5)
        best = np.argsort(-np.where(view.available, value, -np.inf))[:3]
        assert chosen.indices.tolist() == view.candidates[best].tolist()
        assert chosen.indices.dtype == jnp.int32 and state == ()


def test_from_scores_in_chunks():
    @jax.jit
    def select(view):
        strategy = lambda batch_size: strategies.from_scores(
            scorers.passes(
                acquisition.bald, 2, masks="independent", batch_size=batch_size
            )
        )
        return [strategy(size).select(KEY, (), view, 3)[0] for size in (4, None)]

    chunks, whole = select(make_view())
    chex.assert_trees_all_close(chunks, whole, rtol=1e-5)


def test_from_scores_with_another_selector():
    power = lambda key, scores, k, available: selection.power(
        key, scores, k, available=available
    )
    strategy = strategies.from_scores(scorers.passes(acquisition.bald, 5), select=power)
    view = make_view()
    picks = []
    for seed in range(8):
        key = jax.random.key(seed)
        chosen, _ = strategy.select(key, (), view, 2)
        positions = power(jax.random.split(key)[1], chosen.scores, 2, view.available)
        assert chosen.indices.tolist() == view.candidates[positions].tolist()
        picks.append(tuple(chosen.indices.tolist()))
    assert len(set(picks)) > 1
    assert 11 not in np.ravel(picks)


@pytest.mark.parametrize("strategy", ["random", "bald"])
def test_fewer_available_than_asked_for(strategy):
    view = make_view(available=jnp.array([False, True, False, False, True, False]))
    chosen, _ = arm_parts(strategy)[0].select(KEY, (), view, 4)
    assert sorted(chosen.indices.tolist()[:2]) == [3, 22]
    assert chosen.indices.tolist()[2:] == [-1, -1]


def test_a_cost_that_counts_must_be_known():
    strategy = strategies.from_scores(scorers.passes(acquisition.bald, 5), beta=0.5)
    with pytest.raises(ValueError, match='beta=0.5 weighs.*cost="known".*beta=0'):
        strategy.select(KEY, (), make_view(cost=None), 3)
    with pytest.raises(ValueError, match="beta=0.5 weighs"):
        loop.run(KEY, nearest_mean(), strategy, make_data(), **options())


def test_random_picks_uniformly_whatever_items_cost():
    view = make_view()
    strategy = strategies.random()
    pick = lambda seed: strategy.select(jax.random.key(seed), (), view, 2)[0].indices
    picks = jax.vmap(pick)(jnp.arange(4000))
    share = np.bincount(np.ravel(picks), minlength=40) / 4000
    offered = np.asarray(view.candidates[view.available])
    # Each of 5 with probability 2/5; the standard error is .008.
    np.testing.assert_allclose(share[offered], 0.4, atol=0.035)
    assert share.sum() == pytest.approx(2)
    assert share[offered].sum() == pytest.approx(2)


def test_a_strategy_with_state_and_without_scores():
    """Takes turns between the first and the last candidates."""

    def choose(key, turn, view, k):
        order = jnp.where(turn % 2 == 0, view.candidates, view.candidates[::-1])
        order = order[jnp.argsort(~pool.open_items(view.pool)[order], stable=True)]
        return Picks(order[:k]), turn + 1

    strategy = Strategy(lambda key, data, pool: jnp.zeros((), jnp.int32), choose)
    state, infos = loop.run(
        KEY,
        nearest_mean(),
        strategy,
        make_data(),
        **options(k=2, propose=pool.everything(), observe=None),
    )
    assert infos.indices.tolist() == [[1, 2], [39, 38], [3, 4], [37, 36], [-1, -1]]
    assert int(state.strategy) == ROUNDS
    assert infos.observed == ()


# --- arguments -----------------------------------------------------------------------


def replaced(**fields):
    return lambda: make_data()._replace(**fields)


def changed(field, index, value):
    data = lambda: make_data()._replace(
        **{field: getattr(make_data(), field).at[index].set(value)}
    )
    return data


@pytest.mark.parametrize(
    ("data", "change", "message"),
    [
        (replaced(y=jnp.zeros((40, 2))), {}, r"data.y has shape \(40, 2\).*\[N\]"),
        (
            replaced(x=jnp.zeros((39, 4))),
            {},
            r"data.x has shape \(39, 4\).*\[40, \.\.\.\]",
        ),
        (replaced(x={"a": jnp.zeros(())}), {}, r"data.x\['a'\] has shape \(\)"),
        (changed("x", (3, 1), jnp.nan), {}, "data.x contains NaN or infinite"),
        (changed("x", (3, 1), jnp.inf), {}, "remove or impute"),
        (changed("cost", 7, -1.0), {}, r"data.cost\[7\] = -1.0.*positive and finite"),
        (changed("cost", 7, 0.0), {}, r"data.cost\[7\] = 0.0"),
        (changed("cost", 7, jnp.nan), {}, r"data.cost\[7\] = nan"),
        (changed("cost", 7, jnp.inf), {}, r"data.cost\[7\] = inf"),
        (replaced(cost=jnp.ones(39)), {}, r"data.cost has shape \(39,\).*\[40\]"),
        (replaced(cost=None), {"cost": "known"}, "cost='known', but data.cost is None"),
        (make_data, {"initial": jnp.array([40])}, "initial contains 40.*0 to 39"),
        (make_data, {"initial": jnp.array([0, -1])}, "initial contains -1"),
        (make_data, {"initial": jnp.array([3, 3])}, "initial contains an index twice"),
        (make_data, {"initial": jnp.array([0.0])}, "initial has dtype float32"),
        (make_data, {"initial": jnp.zeros((2, 1), int)}, r"initial has shape \(2, 1\)"),
        (make_data, {"initial": jnp.zeros(0, int)}, r"initial has shape \(0,\).*>= 1"),
        (make_data, {"rounds": 20}, r"3 \+ 20 \* 3 = 63 labels.*40 items"),
        (make_data, {"k": 10}, r"3 \+ 4 \* 10 = 43 labels"),
        (make_data, {"k": 0}, "k=0; at least one"),
        (make_data, {"rounds": -1}, "rounds=-1; it must not be negative"),
        (make_data, {"cost": "free"}, "cost='free'; allowed are None, \"known\""),
        (make_data, {"k": 9}, "k=9, but a round has only 8 candidates; lower "),
        (make_data, {"evaluate_rounds": (0, 5)}, r"evaluate_rounds contains \[5\].*4"),
        (make_data, {"evaluate_rounds": (-1,)}, r"evaluate_rounds contains \[-1\]"),
        (make_data, {"propose": pool.stream(41)}, "num_candidates=41.*40 items"),
    ],
)
def test_arguments_that_cannot_be(data, change, message):
    strategy = arm_parts("random")[0]
    with pytest.raises(ValueError, match=message):
        loop.run(KEY, nearest_mean(), strategy, data(), **options(**change))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (lambda y: y.at[4].set(3), r"data.y\[4\] = 3; labels must lie between 0 and 2"),
        (lambda y: y.at[4].set(-1), r"data.y\[4\] = -1"),
        (lambda y: y.astype(float), "data.y has dtype float32; expected integers"),
    ],
)
def test_labels_are_checked_where_the_number_of_classes_is_known(y, message):
    data = make_data()
    sizes = dict(k=K, rounds=ROUNDS)
    loop.check(data, jnp.array(INITIAL), num_classes=CLASSES, **sizes)
    loop.check(data._replace(y=y(data.y)), jnp.array(INITIAL), **sizes)
    with pytest.raises(ValueError, match=message):
        loop.check(
            data._replace(y=y(data.y)), jnp.array(INITIAL), num_classes=3, **sizes
        )


def test_integer_inputs_and_costs_are_taken():
    data = make_data()
    data = data._replace(x=(4 * data.x).astype(jnp.int8), cost=jnp.full(40, 2))
    loop.check(data, jnp.array(INITIAL), k=K, rounds=ROUNDS, cost="known")


# --- double precision ----------------------------------------------------------------


def linear() -> tuple:
    """(init, apply) of a linear regression."""
    init = lambda key: (jax.random.normal(key, (4,)), ())
    apply = lambda weights, state, x, key, train: (Outputs(value=x @ weights), state)
    return init, apply


def test_in_double_precision():
    with jax.enable_x64(True):
        data = jax.tree.map(np.asarray, make_data())
        data = data._replace(x=data.x.astype(float), cost=data.cost.astype(float))
        data = jax.tree.map(jnp.asarray, data)
        assert data.x.dtype == jnp.float64
        learned = learners.regressor(*linear(), optax.sgd(0.1), steps=3, batch_size=4)
        rest = options(k=2, rounds=2, cost=learned)
        strategy = strategies.from_scores(scorers.passes(acquisition.bald, 3), beta=0.3)
        run = lambda key, data: loop.run(key, nearest_mean(), strategy, data, **rest)
        state, infos = jit(run)(jax.random.key(0), data)
    assert len(set(state.pool.order.tolist())) == 7
    assert state.pool.order.dtype == infos.indices.dtype == jnp.int32
    assert state.variables.dtype == state.spend.dtype == jnp.float64
    costs = np.asarray(make_data().cost)[np.asarray(state.pool.order)]
    assert float(state.spend) == costs.sum()
