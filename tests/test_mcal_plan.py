"""Plans of least cost: synthetic worlds, traces, stopping rules, bad terms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.min_cost import worlds
from jal import mcal
from jal.mcal import THETAS, Course, Plan, Terms, TrainingPrice, _plan

WORLD = worlds.World(6, 0.05, 0.35, 60_000)
AMAZON, SATYAM = 0.04, 0.003
PER_IMAGE = TrainingPrice(per_image=0.0003)
search = jax.jit(mcal.search, static_argnames="terms")


def synthetic_terms(price=AMAZON, **options) -> Terms:
    return Terms(60_000, 0, price, slack=0.05, **options)


def test_the_synthetic_errors():
    found = worlds.errors(WORLD, [6000, 12_000, 30_000], [0.5, 0.65, 1.0])
    expected = [0.03445939125895193, 0.051916021861772, 0.09945249766832942]
    np.testing.assert_allclose(np.diag(found), expected)


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ("overall", [0.5, 0.6, 0.65, 0.7, 0.7, 0.6, 0.5]),
        ("set", [0.4, 0.5, 0.55, 0.6, 0.65, 0.6, 0.5]),
    ],
)
def test_the_largest_feasible_theta(constraint, expected):
    sizes = [600, 3000, 6000, 12_000, 18_000, 24_000, 30_000]
    theta, machine = mcal.machine_share(
        synthetic_terms(constraint=constraint),
        jnp.asarray(sizes),
        jnp.asarray(worlds.errors(WORLD, sizes), jnp.float32),
        jnp.asarray(THETAS),
    )
    np.testing.assert_allclose(theta, expected, rtol=1e-6)
    np.testing.assert_allclose(machine, 60_000 * np.asarray(expected))


def test_a_theta_is_only_feasible_if_all_smaller_ones_are():
    terms = Terms(100, 10, 1.0)
    errors = jnp.array([[0.9, 0.0, 0.0], [0.0, 0.9, 0.0], [0.0, 0.0, jnp.nan]])
    theta, machine = mcal.machine_share(
        terms, jnp.array([10, 10, 10]), errors, jnp.array([0.1, 0.2, 0.3])
    )
    np.testing.assert_allclose(theta, [0, 0.1, 0.2])
    assert machine.tolist() == [0, 10, 20]


def test_the_constraint_is_strict():
    terms = Terms(100, 10, 1.0, max_error=0.25, constraint="set")
    feasible = functools.partial(
        mcal.machine_share, terms, jnp.array([10]), thetas=jnp.array([0.5])
    )
    assert int(feasible(jnp.array([[0.25]]))[1][0]) == 0
    assert int(feasible(jnp.array([[0.2499]]))[1][0]) == 50


def test_theta_of_what_remains():
    terms = Terms(1000, 100, 1.0, theta_base="remaining")
    theta, machine = mcal.machine_share(
        terms, jnp.array([100, 500]), jnp.zeros((2, 2)), jnp.array([0.5, 1.0])
    )
    assert theta.tolist() == [1.0, 1.0] and machine.tolist() == [800, 400]
    assert mcal.shares_of_test(terms, 500, [0.5]).tolist() == [0.5]
    # Of the pool, no more than remains.
    pool = terms._replace(theta_base="pool")
    assert mcal.shares_of_test(pool, 900, [0.5])[0] > 1


def test_confidence_makes_shares_smaller():
    terms = Terms(1000, 100, 1.0)
    machine = lambda z: mcal.machine_share(
        terms._replace(confidence=z),
        jnp.array([100]),
        jnp.array([[0.0, 0.03, 0.045]]),
        jnp.array([0.2, 0.5, 0.8]),
    )[1].item()
    assert machine(None) == 800
    assert machine(1.645) == 500
    assert machine(5.0) == 0


@pytest.mark.parametrize(
    ("constraint", "price", "per_image", "size", "theta", "cost"),
    [
        ("overall", AMAZON, 0.0003, 10_200, 0.7, 747.54),
        ("overall", AMAZON, 0.0009, 10_200, 0.7, 802.62),
        ("overall", SATYAM, 0.0003, 5400, 0.65, 71.10),
        ("overall", SATYAM, 0.0009, 3000, 0.6, 80.10),
        ("set", AMAZON, 0.0003, 13_200, 0.65, 885.54),
        ("set", AMAZON, 0.0009, 13_200, 0.65, 976.62),
        ("set", SATYAM, 0.0003, 4800, 0.55, 87.48),
        ("set", SATYAM, 0.0009, 3000, 0.5, 98.10),
    ],
)
def test_synthetic_optima(constraint, price, per_image, size, theta, cost):
    terms = synthetic_terms(price, constraint=constraint)
    found = search(
        terms,
        TrainingPrice(per_image=per_image),
        jnp.array(600),
        jnp.asarray(worlds.errors(WORLD, mcal.grid(terms, 600)), jnp.float32),
        jnp.asarray(THETAS),
        batch=jnp.array(600.0),
        spend=jnp.array(per_image * 600),
    )
    assert int(found.size) == size
    assert float(found.theta) == pytest.approx(theta)
    assert float(found.cost) == pytest.approx(cost, abs=1e-3)
    assert int(found.machine) == round(theta * 60_000)


def test_cheaper_labels_do_not_ask_for_more_of_them():
    """At a fixed batch; the opposite of what the paper says."""
    sizes = []
    for price in (0.001, 0.003, 0.01, 0.04, 0.1):
        found = search(
            synthetic_terms(price),
            PER_IMAGE,
            jnp.array(600),
            jnp.asarray(worlds.errors(WORLD, mcal.grid(synthetic_terms(), 600))),
            jnp.asarray(THETAS),
            batch=jnp.array(600.0),
            spend=jnp.array(0.18),
        )
        sizes.append(int(found.size))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_of_equal_costs_the_smallest_size():
    terms = Terms(1000, 100, 1.0, first_batch=100, grid_step=100)
    nobody_can = jnp.ones((10, 1))
    free = TrainingPrice(per_image=1e-12)
    found = mcal.search(
        terms,
        free,
        jnp.array(250),
        nobody_can,
        jnp.array([0.5]),
        batch=jnp.array(100.0),
        spend=jnp.array(0.0),
    )
    assert int(found.size) == 250 and int(found.machine) == 0
    assert found.costs[1:3].tolist() == [np.inf, np.inf]  # 100 and 200 are past
    assert float(found.cost) == 1000


AMAZON_TRACE = dict(
    sizes=list(range(600, 10_201, 600)),
    batches=[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
    cap=761.103,
    cost=747.54,
    spend=27.54,
    machine=42_000,
    now=[1200.18, 1080.54, 1081.08, 1081.80, 962.70],
)
SATYAM_TRACE = dict(
    sizes=[600, 1200, 1800, 2400, 3400, 4400, 5400],
    batches=[3, 2, 1],
    cap=69.741,
    cost=68.76,
    spend=5.76,
    machine=39_000,
    now=[90.18, 81.54, 82.08, 82.80, 74.82, 76.14, 68.76],
)


@pytest.mark.parametrize(
    ("price", "trace"), [(AMAZON, AMAZON_TRACE), (SATYAM, SATYAM_TRACE)]
)
def test_traces(price, trace):
    found = worlds.simulate(WORLD, synthetic_terms(price), PER_IMAGE)
    rounds = found["rounds"]
    assert [row["size"] for row in rounds] == trace["sizes"]
    assert [row["batches"] for row in rounds[3:-1]] == trace["batches"]
    assert all(
        row["cap"] == pytest.approx(trace["cap"], abs=1e-3) for row in rounds[3:]
    )
    assert [row["stable"] for row in rounds] == [False] * 3 + [True] * (len(rounds) - 3)
    now = [row["cost"] for row in rounds[: len(trace["now"])]]
    np.testing.assert_allclose(now, trace["now"], atol=1e-6)
    assert found["cost"] == pytest.approx(trace["cost"])
    assert found["spend"] == pytest.approx(trace["spend"])
    assert found["machine"] == trace["machine"]
    assert found["stop"].startswith("no larger training set")


def test_the_number_of_batches():
    terms = Terms(60_000, 3000, AMAZON)
    rounds = lambda extra, **options: mcal.spread_rounds(
        terms._replace(**options), PER_IMAGE, 3000, 12_000, extra=extra
    )
    assert rounds(15.0) == 7
    assert rounds(0.0) == 1 and rounds(-5.0) == 1
    assert rounds(1e9) == 15  # 600 a batch
    assert rounds(1e9, first_batch=5000) == 1
    assert rounds(1e9, first_batch=50_000) == 1


@pytest.fixture(scope="module")
def two_hundred_worlds():
    """(cost, optimum, rounds, human only) of 200 random worlds."""
    terms = Terms(60_000, 3000, AMAZON)
    found = []
    for world in worlds.draw(200, seed=0):
        ended = worlds.simulate(world, terms, PER_IMAGE)
        best = worlds.optimum(world, terms, PER_IMAGE)
        found.append((ended["cost"], best["cost"], len(ended["rounds"]), ended["stop"]))
    return found


def test_worlds_end_near_their_optimum(two_hundred_worlds):
    costs, optima, rounds, stops = map(np.array, zip(*two_hundred_worlds, strict=True))
    assert all(stops) and (rounds < worlds.MOST_ROUNDS).all()
    assert (costs <= 1.1 * 60_000 * AMAZON).all()
    assert (costs >= optima - 1e-6).all()
    assert np.mean(costs <= 1.03 * optima) >= 0.9


def advance(course, *, size=1000, spend=1.0, machine=0, cost=None, promised=30_000):
    """The course after a plan for 5,000 labels that costs so much, or without one."""
    plan = None
    if cost is not None:
        plan = Plan(5000, 0.5, promised, cost, sizes=None, costs=None, thetas=None)
    terms = Terms(60_000, 3000, AMAZON)
    return mcal.advance(
        terms, course, PER_IMAGE, size=size, spend=spend, machine=machine, plan=plan
    )


def test_batches_are_small_until_plans_are_stable():
    first = advance(Course(), cost=1000.0)
    assert (first.batch, first.stable, first.plans) == (600, False, 1)
    second = advance(first, cost=1049.0)
    assert second.stable and second.batch > 600
    assert second.cap == pytest.approx(1.02 * (30_000 * AMAZON + 1 + 5000 * 0.0003))
    later = advance(second, cost=1048.0, spend=90.0)
    assert later.cap == second.cap  # fixed once
    assert later.rounds == 1 and later.batch == 4000
    unstable = advance(later, cost=1200.0)
    assert unstable.batch == 600 and not unstable.stable and unstable.settled


def test_it_stops_where_a_stable_plan_is_reached():
    first = advance(Course(), cost=1000.0, size=5000)
    assert first.stop is None
    second = advance(first, cost=1001.0, size=5000)
    assert second.stop.startswith("no larger") and second.batch == 0


def test_it_stops_where_two_plans_are_passed_though_their_costs_rise():
    first = advance(Course(), cost=1000.0, size=6000)
    second = advance(first, cost=1200.0, size=6600)
    assert second.stop.startswith("no larger") and not second.stable


def test_it_stops_when_the_cost_rises_twice():
    course = advance(advance(Course(), cost=1000.0), cost=1000.0)
    course = advance(course, cost=1100.0)
    assert course.stop is None and course.rises == 1
    assert advance(course, cost=1100.0).rises == 0
    assert "rose twice" in advance(course, cost=1300.0).stop
    # Before the first stable plan, plans may wander.
    course = advance(advance(Course(), cost=1000.0), cost=1200.0)
    assert advance(course, cost=1400.0).stop is None


def test_it_stops_when_people_alone_are_cheaper():
    course = advance(Course(), cost=2500.0)
    course = advance(course, cost=2500.0)
    assert course.stop is None and course.dear == 1
    assert "for humans" in advance(course, cost=2500.0).stop


def test_it_stops_when_training_costs_too_much_in_vain():
    stopped = advance(Course(), spend=241.0)
    assert "training has cost 241.00 USD" in stopped.stop
    assert advance(Course(), spend=239.0).stop is None
    assert advance(Course(), spend=241.0, machine=3000).stop is None
    assert advance(Course(), spend=241.0, cost=2000.0).stop is None
    hopeless = advance(Course(), spend=241.0, cost=2000.0, promised=0)
    assert "no share of the pool" in hopeless.stop


def test_it_stops_when_nothing_is_left():
    assert "exhausted" in advance(Course(), size=57_000).stop
    assert advance(Course(), size=56_900).batch == 100


def test_the_plan_is_compiled_once_for_all_rounds():
    terms = Terms(1000, 100, AMAZON, first_batch=10, grid_step=10)
    traced = []

    @functools.partial(jax.jit, static_argnames="terms")
    def plan(terms, *args, **kwargs):
        traced.append(1)
        return mcal.plan(terms, PER_IMAGE, *args, **kwargs)

    for number in (3, 4, 7):
        sizes = np.where(np.arange(32) < number, 10.0 * (1 + np.arange(32)), 1)
        counts = np.where(np.arange(32) < number, 50, 0)[:, None]
        errors = np.where(counts > 0, 10, 0)
        found = plan(
            terms,
            sizes,
            counts,
            errors,
            np.array([0.5]),
            size=10 * number,
            batch=10.0,
            spend=0.1,
        )
        assert found.costs.shape == found.sizes.shape
    assert len(traced) == 1


def test_noise_in_the_test_set_changes_little_on_the_whole():
    terms = Terms(60_000, 3000, AMAZON)
    world = worlds.World(4, 0.02, 0.35, 60_000)
    exact = worlds.simulate(world, terms, PER_IMAGE)["cost"]
    noisy = [worlds.simulate(world, terms, PER_IMAGE, seed=s)["cost"] for s in range(5)]
    assert abs(np.median(noisy) / exact - 1) < 0.15
    again = worlds.simulate(world, terms, PER_IMAGE, seed=3)["cost"]
    assert again == noisy[3] and len(set(noisy)) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"price": 0.0}, "price=0.0"),
        ({"price": -1.0}, "price=-1.0"),
        ({"price": math.nan}, "price=nan"),
        ({"max_error": 0.0}, "max_error=0.0"),
        ({"max_error": 1.0}, "max_error=1.0"),
        ({"max_error": math.nan}, "max_error=nan"),
        ({"constraint": "all"}, "constraint='all'"),
        ({"theta_base": "test"}, "theta_base='test'"),
        ({"num_items": 0}, "num_items=0"),
        ({"num_test": 0}, "num_test=0"),
        ({"first_batch": 0}, "first_batch=0"),
        ({"grid_step": 0}, "grid_step=0"),
        ({"tolerance": -0.1}, "tolerance=-0.1"),
        ({"slack": math.inf}, "slack=inf"),
        ({"exploration": -1}, "exploration=-1"),
        ({"confidence": 0.0}, "confidence=0.0"),
        ({"num_test": 950}, "num_test . first_batch = 950 . 100"),
        ({"num_test": 8}, "num_test=8 is too small for theta=0.05"),
    ],
)
def test_terms_out_of_range(change, message):
    good = Terms(1000, 50, AMAZON, first_batch=100)
    _plan.check(good)
    with pytest.raises(ValueError, match=message):
        _plan.check(good._replace(**change))


@pytest.mark.parametrize("thetas", [(), (0.0, 0.5), (0.5, 0.5), (0.5, 1.1), (0.6, 0.4)])
def test_thetas_out_of_range(thetas):
    with pytest.raises(ValueError, match="thetas="):
        _plan.check(Terms(1000, 50, AMAZON), thetas)


def test_table_2_adds_up_only_roughly():
    """What is left to people costs about what the paper reports in all."""
    rows = [
        (70_000, AMAZON, 0.85, 400),
        (70_000, SATYAM, 0.85, 29),
        (60_000, AMAZON, 0.65, 792),
        (60_000, SATYAM, 0.65, 63),
        (60_000, AMAZON, 0.10, 1698),
        (60_000, SATYAM, 0.20, 139),
    ]
    implied = [cost - size * price * (1 - share) for size, price, share, cost in rows]
    np.testing.assert_allclose(implied, [-20, -2.5, -48, 0, -462, -5], atol=1e-9)
    # Of a pool without test and validation set.
    implied = [c - 0.9 * n * p * (1 - s) for n, p, s, c in rows]
    np.testing.assert_allclose(implied, [22, 0.65, 36, 6.3, -246, 9.4], atol=1e-9)


def test_one_training_is_the_cheapest_way_to_a_size():
    costs = mcal.price_of_rounds(PER_IMAGE, 600.0, 6000.0, np.arange(1, 9))
    assert (np.diff(costs) > 0).all()
