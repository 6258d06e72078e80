"""Label a whole data set at minimum cost: how many labels to buy, and when to stop.

MCAL in pure functions. Humans label a test set T, a training set B and whatever the
model is not sure of; the model labels the most confident share theta of the pool X.
From the predicted errors of every (B, theta), `search` finds the plan of least cost and
`advance` decides, round by round, how many labels to buy next or why to stop.
`jal.mcal.label` runs it. Dollars are USD; Q thetas, G sizes of a grid, R rounds.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal.mcal import _laws, _prices
from jal.mcal._prices import TrainingPrice

THETAS = tuple(round(0.05 * step, 2) for step in range(1, 21))


class Terms(NamedTuple):
    """What is to be labelled, at what price, and how wrong it may be.

    Attributes:
      num_items: |X|, the items to be labelled, those of the test set included.
      num_test: |T|, items that humans label and nobody trains on.
      price: of a human label, in USD, > 0.
      max_error: eps, the greatest share of wrong labels, between 0 and 1, not reached.
      constraint: what must stay below eps: "overall", the share of wrong labels in X,
        or "set", that among the labels of the model.
      theta_base: what theta is a share of: "pool", all of X, or "remaining", the items
        not yet labelled.
      first_batch: delta_0, the first batch and the smallest.
      grid_step: items between the training sizes that are compared.
      tolerance: Delta, the relative change of the predicted cost that counts as none.
      slack: beta, the share of the predicted cost that more, smaller batches may add.
      exploration: share of the cost of human labels that training may cost before
        any theta is feasible.
      confidence: z of Wilson's upper bound that replaces each error, 1.645 for an
        interval of 90 %; None takes the errors as they are.
    """

    num_items: int
    num_test: int
    price: float
    max_error: float = 0.05
    constraint: Literal["overall", "set"] = "overall"
    theta_base: Literal["pool", "remaining"] = "pool"
    first_batch: int = 600
    grid_step: int = 600
    tolerance: float = 0.05
    slack: float = 0.02
    exploration: float = 0.10
    confidence: float | None = None


class Plan(NamedTuple):
    """The training size of least total cost, and the costs of all others.

    Attributes:
      size: [] int32, B_opt.
      theta: [] share that the model then labels, 0 where it may label none.
      machine: [] int32, how many items that is.
      cost: [] C*, the predicted total in USD.
      sizes: [G] int32, the grid: the present size, then the multiples of the step.
      costs: [G] total in USD, +inf where a size is not above the present one.
      thetas: [G] largest feasible theta of each size.
    """

    size: jax.Array
    theta: jax.Array
    machine: jax.Array
    cost: jax.Array
    sizes: jax.Array
    costs: jax.Array
    thetas: jax.Array


class Course(NamedTuple):
    """What `advance` remembers from one round to the next.

    Attributes:
      plans: how many plans there were.
      cost: the last C* in USD, NaN before the first plan.
      stable: whether it differed little from the one before.
      settled: whether there ever was a stable plan.
      rises: by how many successive plans C* rose by more than the tolerance, since.
      dear: by how many successive stable plans C* was at least that of humans alone.
      passed: successive plans whose B_opt was not above B.
      cap: USD that the total may cost with more batches, NaN before the first stable
        plan.
      batch: delta, items bought in the next round.
      rounds: N, in how many batches B_opt is to be reached; 0 while exploring.
      stop: why no more labels are bought for training, or None.
    """

    plans: int = 0
    cost: float = math.nan
    stable: bool = False
    settled: bool = False
    rises: int = 0
    dear: int = 0
    passed: int = 0
    cap: float = math.nan
    batch: int = 0
    rounds: int = 0
    stop: str | None = None


def usual_terms(
    num_items: int,
    price: float,
    *,
    num_test: int | None = None,
    batch: int | None = None,
    **options: Any,
) -> Terms:
    """Terms with the sizes that the paper takes: 5 % test, batches and steps of 1 %.

    Args:
      num_items: |X|.
      price: of a human label, in USD.
      num_test: |T|, or None for 5 % of |X|.
      batch: delta_0, or None for 1 % of |X|.
      **options: the other fields of `Terms`.

    Returns:
      `Terms`.

    >>> usual_terms(60_000, 0.04)[:3], usual_terms(60_000, 0.04, batch=50).first_batch
    ((60000, 3000, 0.04), 50)

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1, lines 1 and 2.
    """
    step = max(1, round(0.01 * num_items))
    options = {"first_batch": batch or step, "grid_step": step, **options}
    return Terms(num_items, num_test or max(1, num_items // 20), price, **options)


def check(terms: Terms, thetas: Sequence[float] = THETAS) -> None:
    """Checks what is to be labelled and on which terms.

    Args:
      terms: the terms.
      thetas: Q shares, rising, above 0 and at most 1.

    Raises:
      ValueError: names the field, its value and what is allowed.

    >>> check(Terms(num_items=1000, num_test=50, price=0.0))
    Traceback (most recent call last):
    ValueError: price=0.0; a label must cost more than 0 USD
    """
    amount = lambda value: 0 <= value < math.inf, "it must not be negative"
    number = lambda value: value >= 1, "it must be at least 1"
    either = lambda a, b: ((a, b).__contains__, f'allowed are "{a}" and "{b}"')
    rules = {
        "price": (
            lambda value: 0 < value < math.inf,
            "a label must cost more than 0 USD",
        ),
        "max_error": (
            lambda value: 0 < value < 1,
            "it must lie between 0 and 1, such as 0.05",
        ),
        "constraint": either("overall", "set"),
        "theta_base": either("pool", "remaining"),
        **dict.fromkeys(("num_items", "num_test", "first_batch", "grid_step"), number),
        **dict.fromkeys(("tolerance", "slack", "exploration"), amount),
        "confidence": (
            lambda z: z is None or z > 0,
            "z must be above 0, such as 1.645, or None",
        ),
    }
    for name, (holds, allowed) in rules.items():
        if not holds(value := getattr(terms, name)):
            raise ValueError(f"{name}={value!r}; {allowed}")
    if terms.num_test + terms.first_batch > terms.num_items:
        raise ValueError(
            f"num_test + first_batch = {terms.num_test} + {terms.first_batch}, but "
            f"num_items={terms.num_items}; lower one of them"
        )
    thetas = tuple(thetas)
    rises = all(a < b for a, b in zip(thetas, thetas[1:], strict=False))
    if not thetas or not rises or not 0 < thetas[0] <= thetas[-1] <= 1:
        raise ValueError(f"thetas={thetas}; they must rise, from above 0 to at most 1")
    if round(thetas[0] * terms.num_test) < 1:
        raise ValueError(
            f"num_test={terms.num_test} is too small for theta={thetas[0]}: no item of "
            f"the test set would be in that share; take at least "
            f"{math.ceil(0.5 / thetas[0]) + 1} or larger thetas"
        )


def shares_of_test(terms: Terms, size: int, thetas: Sequence[float]) -> np.ndarray:
    """Which share of the test set stands for each theta.

    The test set is like the pool: as many of the most confident items of what remains
    of X as theta asks for are this share of it.

    Args:
      terms: the terms.
      size: items bought for training.
      thetas: Q shares.

    Returns:
      [Q], above 1 where fewer items remain than theta asks for.

    >>> terms = Terms(num_items=1000, num_test=100, price=0.04)
    >>> shares_of_test(terms, 400, [0.25, 0.5, 0.75]).tolist()
    [0.5, 1.0, 1.5]
    """
    shares = np.asarray(thetas, float)
    if terms.theta_base == "remaining":
        return shares
    remaining = terms.num_items - terms.num_test - size
    return shares * terms.num_items / max(remaining, 1) + 2.0 * (remaining < 1)


def grid(terms: Terms, size) -> jax.Array:
    """The training sizes that are compared, in an array of one shape for all rounds.

    Args:
      terms: the terms.
      size: [] B of today.

    Returns:
      [G] int32: the present size, then the multiples of the step up to |X| - |T|, those
      not above the present size included.

    >>> terms = Terms(1000, 100, 0.04, first_batch=300, grid_step=300)
    >>> grid(terms, jnp.array(400)).tolist()
    [400, 300, 600, 900]
    """
    most = terms.num_items - terms.num_test
    multiples = jnp.arange(terms.grid_step, most + 1, terms.grid_step, dtype=jnp.int32)
    return jnp.concatenate([jnp.asarray(size, jnp.int32).reshape(1), multiples])


def machine_share(
    terms: Terms, sizes: jax.Array, errors: jax.Array, thetas: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """How much the model may label at each training size.

    The largest theta such that it and all smaller ones meet the constraint and ask for
    no more items than remain: (|S| / |X|) eps(S) < eps, or eps(S) < eps for the
    constraint "set".

    Args:
      terms: the terms.
      sizes: [G] items bought for training.
      errors: [G, Q] eps of the most confident share theta, +inf or NaN where unknown.
      thetas: [Q] rising shares.

    Returns:
      theta [G], 0 where none is feasible, and |S| [G] int32.

    >>> terms = Terms(1000, 100, 0.04, max_error=0.05)
    >>> errors = jnp.array([[0.01, 0.08, 0.2]])
    >>> thetas = jnp.array([0.3, 0.6, 0.9])
    >>> theta, machine = machine_share(terms, jnp.array([100]), errors, thetas)
    >>> theta.tolist(), machine.tolist()
    ([0.6000000238418579], [600])

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, section 3 (the constraint of eq. 1).
    """
    remaining = (terms.num_items - terms.num_test - sizes)[:, None]
    base = terms.num_items if terms.theta_base == "pool" else remaining
    machine = jnp.round(thetas[None] * base).astype(jnp.int32)
    if terms.confidence is not None:
        # Of a test set as large as ours.
        tested = terms.num_test * machine / jnp.maximum(remaining, 1)
        errors = _laws.upper_bound(errors, tested, z=terms.confidence)
    share = machine / terms.num_items if terms.constraint == "overall" else 1.0
    feasible = (share * errors < terms.max_error) & (machine <= remaining)
    feasible &= machine > 0
    number = jnp.sum(jnp.cumprod(feasible, axis=1), axis=1)
    rows = jnp.arange(len(sizes))
    last = jnp.maximum(number - 1, 0)
    found = number > 0
    return jnp.where(found, thetas[last], 0), jnp.where(found, machine[rows, last], 0)


def search(
    terms: Terms,
    price: TrainingPrice,
    size: jax.Array,
    errors: jax.Array,
    thetas: jax.Array,
    *,
    batch: jax.Array,
    spend: jax.Array,
) -> Plan:
    """Finds the training size, and the share for the model, of least total cost.

    C(B) = (|X| - |S|) price + spend + training from today's B on in batches of delta.

    Args:
      terms: the terms; static under `jit`.
      price: of training.
      size: [] B of today.
      errors: [G, Q] predicted, for the sizes of `grid`.
      thetas: [Q] rising shares.
      batch: [] delta > 0, items bought a round.
      spend: [] what training has cost so far, in USD.

    Returns:
      `Plan`; of equal costs the smallest size.

    >>> terms = Terms(60_000, 3000, 0.04)
    >>> thetas, sizes = jnp.array(THETAS), grid(terms, 600).astype(jnp.float32)[:, None]
    >>> errors = sizes**-0.35 * jnp.exp(-sizes / 60_000) * (6 * thetas[None]**3 + 0.05)
    >>> plan = search(
    ...     terms, TrainingPrice(per_image=0.0003), jnp.array(600), errors, thetas,
    ...     batch=jnp.array(600), spend=jnp.array(0.18)
    ... )
    >>> int(plan.size), round(float(plan.theta), 2)
    (10200, 0.7)

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, eq. 1 and algorithm 1, line 18.
    """
    sizes = grid(terms, size)
    theta, machine = machine_share(terms, sizes, errors, thetas)
    human = (terms.num_items - machine) * terms.price
    numbers = sizes.astype(errors.dtype)
    training = _prices.price_of_batches(price, numbers[0], numbers, batch)
    is_ahead = (sizes > size) | (jnp.arange(len(sizes)) == 0)
    costs = jnp.where(is_ahead, human + spend + training, jnp.inf)
    best = jnp.argmin(costs)
    return Plan(
        sizes[best], theta[best], machine[best], costs[best], sizes, costs, theta
    )


def plan(
    terms: Terms,
    price: TrainingPrice,
    sizes: jax.Array,
    counts: jax.Array,
    errors: jax.Array,
    thetas: jax.Array,
    *,
    size: jax.Array,
    batch: jax.Array,
    spend: jax.Array,
    truncated: bool = True,
) -> Plan:
    """Fits the laws to what was measured and searches with what they predict.

    Args:
      terms: the terms; static under `jit`.
      price: of training.
      sizes: [R] B > 0 of the rounds.
      counts: [R, Q] items of the test set in each share, 0 where nothing was measured:
        rounds that have not been are filled up with zeros.
      errors: [R, Q] of them.
      thetas: [Q] rising shares.
      size: [] B of today.
      batch: [] delta > 0, items bought a round.
      spend: [] what training has cost so far, in USD.
      truncated: fit the truncated power law, or the plain one; static under `jit`.

    Returns:
      `Plan`.

    >>> terms = Terms(1000, 100, 0.04, first_batch=10, grid_step=10)
    >>> rounds = jnp.array([10.0, 20.0, 30.0])
    >>> counts, errors = jnp.full((3, 1), 60), jnp.array([[12], [8], [6]])
    >>> best = plan(
    ...     terms, TrainingPrice(per_image=1e-3), rounds, counts, errors,
    ...     jnp.array([0.6]), size=jnp.array(30), batch=jnp.array(10),
    ...     spend=jnp.array(0.06),
    ... )
    >>> int(best.size), int(best.machine)
    (40, 600)

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1, lines 14 to 18.
    """
    law = _laws.fit_law(sizes, *_laws.error_rates(counts, errors), truncated=truncated)
    predicted = _laws.predict_errors(law, grid(terms, size).astype(law.gamma.dtype))
    predicted = _laws.rising(predicted)
    return search(terms, price, size, predicted, thetas, batch=batch, spend=spend)


def spread_rounds(
    terms: Terms, price: TrainingPrice, size: int, target: int, *, extra: float
) -> int:
    """In how many equal batches to buy what is missing.

    The largest N >= 1 with (target - size) / N >= delta_0 whose training costs at most
    `extra` more than that of one batch.

    Args:
      terms: the terms.
      price: of training.
      size: B of today.
      target: B_opt > size.
      extra: USD.

    Returns:
      N.

    >>> terms = Terms(60_000, 3000, 0.04)
    >>> spread_rounds(terms, TrainingPrice(per_image=3e-4), 3000, 12_000, extra=15.0)
    7

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1, lines 19 to 21.
    """
    numbers = np.arange(1, max((target - size) // terms.first_batch, 1) + 1)
    costs = _prices.price_of_rounds(price, float(size), float(target), numbers)
    # A cent of a cent, so that rounding does not decide.
    return int(numbers[costs <= costs[0] + extra + 1e-4].max(initial=1))


def advance(
    terms: Terms,
    course: Course,
    price: TrainingPrice,
    *,
    size: int,
    spend: float,
    machine: int,
    plan: Plan | None,
) -> Course:
    """Decides, after a round, how many labels to buy next or why to stop.

    Batches stay at delta_0 until two successive plans differ by less than Delta. From
    then on B_opt is approached in as many equal batches as cost at most beta more than
    one, by a cap fixed once. No more is bought for training when

    (a) no larger B is predicted to be cheaper, by a stable plan or by two in a row,
    (b) C* rose by more than Delta twice in a row after it had been stable,
    (c) twice in a row a stable plan was not cheaper than humans alone, or training has
        cost more than its share while no theta is feasible, or
    (d) the pool is exhausted.

    Args:
      terms: the terms.
      course: of the last round, `Course()` at first.
      price: of training.
      size: B of today.
      spend: what training has cost so far, in USD.
      machine: items that the present model may label by what was measured.
      plan: of this round, or None before there are three points to fit.

    Returns:
      `Course` with the next `batch`, or with `stop`.

    >>> terms = Terms(60_000, 3000, 0.04)
    >>> price = TrainingPrice(per_image=3e-4)
    >>> advance(
    ...     terms, Course(), price, size=600, spend=0.18, machine=0, plan=None
    ... ).batch
    600

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1, lines 9 to 26, its loop test read on predicted costs.
    """
    left = terms.num_items - terms.num_test - size
    humans_alone = terms.num_items * terms.price
    course = course._replace(batch=min(terms.first_batch, left), rounds=0)
    promised = machine
    if plan is not None:
        cost, target = float(plan.cost), int(plan.size)
        promised = max(machine, int(plan.machine))
        change = (cost - course.cost) / cost
        stable = abs(change) < terms.tolerance
        rose = course.settled and change > terms.tolerance
        dear = stable and cost >= humans_alone
        course = course._replace(
            plans=course.plans + 1,
            cost=cost,
            stable=stable,
            settled=course.settled or stable,
            rises=course.rises + 1 if rose else 0,
            dear=course.dear + 1 if dear else 0,
            passed=course.passed + 1 if target <= size else 0,
        )
    stop = _why_stop(terms, course, left, spend, promised)
    if stop is not None:
        return course._replace(batch=0, stop=stop)
    if plan is None or not course.stable:
        return course
    human = (terms.num_items - int(plan.machine)) * terms.price
    at_once = (
        human + spend + float(_prices.price_of_rounds(price, float(size), target, 1))
    )
    if math.isnan(course.cap):
        course = course._replace(cap=(1 + terms.slack) * at_once)
    rounds = spread_rounds(terms, price, size, target, extra=course.cap - at_once)
    batch = min(-(-(target - size) // rounds), left)
    return course._replace(batch=batch, rounds=rounds)


def _why_stop(terms: Terms, course: Course, left: int, spend: float, promised: int):
    humans_alone = terms.num_items * terms.price
    if left <= 0:
        return "the pool is exhausted"
    if promised == 0 and spend > terms.exploration * humans_alone:
        return (
            f"training has cost {spend:.2f} USD, more than "
            f"{terms.exploration:.0%} of the human labels, and no share of the pool "
            "is predicted to be labelled well enough"
        )
    if course.dear >= 2:
        return (
            f"the best plan costs {course.cost:.2f} USD, not less than "
            f"{humans_alone:.2f} USD for humans"
        )
    if course.rises >= 2:
        return f"the predicted cost rose twice in a row, to {course.cost:.2f} USD"
    if course.passed >= (1 if course.stable else 2):
        stop = "no larger training set is predicted to be cheaper"
        if course.cost >= humans_alone:
            stop += (
                f", nor any plan to cost less than {humans_alone:.2f} USD for humans"
            )
        return stop
    return None
