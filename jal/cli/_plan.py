"""`jal plan`: from measured errors and prices to what labelling everything costs."""

import csv
import functools
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from typer import Argument, Option

from jal import mcal, plots
from jal.cli._options import Json
from jal.cli._output import mistakes_in_one_line, print_json, print_table, refuse
from jal.mcal import THETAS, Plan, Terms, TrainingPrice, _plan
from jal.session import LabelStore, measured_errors, status_of

COLUMNS = ("size", "theta", "tested", "errors")
ROWS = 12  # of the printed table


def read_profile(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sizes [R], thetas [Q], and items tested and errors [R, Q] of a CSV file."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--errors {path}: {error}") from error
    if not rows or tuple(cell.strip() for cell in rows[0]) != COLUMNS:
        raise ValueError(
            f"--errors {path}: the first line must be {','.join(COLUMNS)}, and each "
            "other one a training size, a share of the most confident test items, "
            "their number, and how many of them were wrong"
        )
    found: dict[tuple[int, float], tuple[int, int]] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        where = f"--errors {path}, line {number}"
        try:
            size, theta, tested, errors = int(row[0]), float(row[1]), *map(int, row[2:])
        except ValueError as error:
            raise ValueError(f"{where}: {row}; expected four numbers") from error
        if size < 1 or not 0 < theta <= 1 or not 0 <= errors <= tested:
            raise ValueError(
                f"{where}: {row}; a size is at least 1, a share above 0 and at most 1, "
                "and there are at most as many errors as items tested"
            )
        if (size, theta) in found:
            raise ValueError(
                f"{where}: size {size} and theta {theta:g} for the second time"
            )
        found[size, theta] = tested, errors
    if not found:
        raise ValueError(f"--errors {path} has no line but the first")
    sizes = np.array(sorted({size for size, _ in found}))
    thetas = np.array(sorted({theta for _, theta in found}))
    table = np.array([[found.get((b, t), (0, 0)) for t in thetas] for b in sizes])
    return sizes, thetas, table[..., 0], table[..., 1]


def session_profile(
    models: list[tuple[int, np.ndarray, np.ndarray]], terms: Terms
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same as `read_profile`, of the models measured in a labelling session."""
    fewest = min(len(right) for _, _, right in models)
    thetas = np.array([theta for theta in THETAS if round(theta * fewest) >= 1])
    profiles = [
        mcal.error_profile(
            jnp.asarray(margins),
            jnp.asarray(right),
            jnp.asarray(
                mcal.shares_of_test(
                    terms._replace(num_test=len(right)), size, thetas.tolist()
                )
            ),
        )
        for size, margins, right in models
    ]
    counts, errors = (np.stack(part) for part in zip(*profiles, strict=True))
    return np.array([size for size, _, _ in models]), thetas, counts, errors


Price = Annotated[float, Option(help="Of a label, in USD.")]
Session = Annotated[
    Path | None,
    Argument(metavar="[SESSION]", help="Folder whose measured errors are used."),
]
Pool = Annotated[int | None, Option(min=1, help="How many items there are.")]
Errors = Annotated[Path | None, Option(help="The CSV file of measured errors.")]
MaxError = Annotated[float, Option(help="Greatest share of wrong labels.")]
PriceOfTraining = Annotated[
    float, Option(help="Of a training image, all epochs together, in USD.")
]
TestSize = Annotated[
    int | None, Option(min=1, help="Labels of the test set. Default: the most tested.")
]
BatchSize = Annotated[
    int | None, Option(min=1, help="Labels bought a round. Default: 1 % of the pool.")
]
Constraint = Annotated[
    str, Option(help="What must be below --max-error: overall, or set (the model's).")
]
ThetaBase = Annotated[str, Option(help="What theta is a share of: pool, or remaining.")]
Confidence = Annotated[
    float | None, Option(help="Use Wilson's upper bound of errors: z, such as 1.645.")
]
Plain = Annotated[bool, Option("--plain", help="Fit a power law without truncation.")]
Out = Annotated[Path, Option(help="The plot, a .png file.")]


@mistakes_in_one_line()
def plan(
    price: Price,
    session: Session = None,
    pool: Pool = None,
    errors: Errors = None,
    max_error: MaxError = 0.05,
    training_price: PriceOfTraining = 0.0,
    test_size: TestSize = None,
    batch: BatchSize = None,
    constraint: Constraint = "overall",
    theta_base: ThetaBase = "pool",
    confidence: Confidence = None,
    plain: Plain = False,
    out: Out = Path("plan.png"),
    as_json: Json = False,
) -> None:
    r"""Plan the labelling of a whole pool at minimum cost, before paying for it.

    From the errors of a model at a few training sizes, and the prices of labels and of
    training, says how many labels to train on, which share of the pool the model then
    labels, and what all of it costs: the plan of MCAL. Writes the cost curve as a plot.

    --errors is a CSV file with the columns size, theta, tested and errors: trained on
    so many labels, of the most confident share theta of the test set so many items were
    looked at, and so many of them were wrong. Three sizes are needed for a law, and the
    test set should be large enough for errors to be counted: some thousands.

    \b
    Example:
      size,theta,tested,errors
      600,0.25,750,12
      600,0.5,1500,90
      1200,0.25,750,5
      1200,0.5,1500,61
      1800,0.25,750,3
      1800,0.5,1500,45
    \b
      jal plan --pool 60000 --price 0.04 --max-error 0.05 --errors profile.csv \
        --training-price 0.0003 --out plan.png

    With SESSION, a folder of jal init, pool and errors are those measured there on the
    labels of jal ask --test:

    \b
      jal plan mylab --price 0.04 --max-error 0.05
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: it must end in .png")
    if session is not None:
        refuse(f"{session} has them", pool=pool, errors=errors, test_size=test_size)
        pool = LabelStore(session).num_items
    elif pool is None or errors is None:
        raise ValueError("give --pool and --errors, or the folder of a session")
    step = max(1, round(0.01 * pool))
    options: Any = dict(constraint=constraint, theta_base=theta_base)
    options["confidence"] = confidence
    terms = Terms(
        pool,
        test_size or 1,
        price,
        max_error=max_error,
        first_batch=batch or step,
        grid_step=step,
        **options,
    )
    if session is not None:
        models = measured_errors(LabelStore(session))
        sizes, thetas, tested, wrong = session_profile(models, terms)
        terms = terms._replace(num_test=max(len(right) for *_, right in models))
    else:
        assert errors is not None
        sizes, thetas, tested, wrong = read_profile(errors)
        terms = terms._replace(num_test=test_size or int(tested.max()))
    _plan.check(terms, tuple(thetas.tolist()))
    now = int(sizes[-1])
    if session is not None:
        now = max(now, status_of(LabelStore(session)).labeled)
    if terms.num_test + now > pool:
        where = f"--pool {pool}" if session is None else str(session)
        raise ValueError(
            f"{where}: the test set of {terms.num_test} and the {now} labels of the "
            f"largest size of {session or errors} are more than that"
        )
    if not training_price >= 0:
        raise ValueError(f"--training-price {training_price}; it must not be negative")
    training = TrainingPrice(per_image=training_price)
    spend = float(sum(mcal.price_of_training(training, sizes)))
    found = _compiled_plan(
        terms,
        training,
        jnp.asarray(sizes, jnp.float32),
        jnp.asarray(tested),
        jnp.asarray(wrong),
        jnp.asarray(thetas, jnp.float32),
        size=now,
        batch=float(terms.first_batch),
        spend=spend,
        truncated=not plain,
    )
    if not as_json:
        _report(terms, found, now, spend, len(sizes), training_price)
    shown = np.isfinite(found.costs)
    costs = np.asarray(found.costs)[shown]
    share = np.asarray(found.thetas)[shown]
    if terms.theta_base == "remaining":
        left = terms.num_items - terms.num_test - np.asarray(found.sizes)[shown]
        share = share * left / pool
    figure = plots.plan(
        np.asarray(found.sizes)[shown],
        costs,
        share,
        humans_alone=pool * price,
        title=f"{pool:,} items at {price:g} USD, fewer than {max_error:.1%} wrong",
    )
    plots.save(figure, out)
    if as_json:
        machine = int(found.machine)
        print_json(
            train_on=int(found.size),
            labels_now=now,
            by_model=machine,
            by_people=pool - machine,
            cost=float(found.cost),
            people_alone=pool * price,
            measured_sizes=sizes,
            plot=str(out),
        )
    else:
        print(f"wrote {out}")


_compiled_plan = jax.jit(mcal.plan, static_argnames=("terms", "truncated"))


def _report(terms: Terms, found: Plan, now, spend, number, training_price_per_image):
    """The plan in words, and the costs of some other sizes in a table."""
    alone = terms.num_items * terms.price
    size, machine, cost = int(found.size), int(found.machine), float(found.cost)
    human = terms.num_items - machine
    if not machine:
        print(
            f"People label all {terms.num_items:,} items, for {alone:,.2f} USD: with "
            "these errors no share that the model labels would be right enough."
        )
    else:
        print(
            f"Train on {size:,} labels ({max(size - now, 0):,} more than now). The "
            f"model then labels {machine:,} of the {terms.num_items:,} items, people "
            f"the other {human:,}, the test set of {terms.num_test:,} included."
        )
        print(
            f"Labels {human * terms.price:,.2f} USD and training "
            f"{cost - human * terms.price:,.2f} USD make {cost:,.2f} USD, "
            f"{1 - cost / alone:.1%} less than {alone:,.2f} USD for people alone."
        )
    if number < 3:
        print(
            f"Note: {number} training size{'' if number == 1 else 's'} measured; a law "
            "needs three, and more are better."
        )
    if not training_price_per_image:
        print("Note: training costs nothing here; --training-price says otherwise.")
    shown = np.flatnonzero(np.isfinite(found.costs))
    order = shown[np.argsort(np.asarray(found.sizes)[shown], kind="stable")]
    best = int(np.flatnonzero(np.asarray(found.sizes)[order] == size)[0])
    some = {0, best, *np.linspace(0, len(order) - 1, ROWS).round().astype(int).tolist()}
    heads = (
        "training size",
        "by the model",
        "labels USD",
        "training USD",
        "total USD",
        "",
    )
    rows = []
    machine_of = functools.partial(_machine, terms)
    for place in sorted(some):
        b, theta, total = (
            np.asarray(values)[order[place]]
            for values in (found.sizes, found.thetas, found.costs)
        )
        labels = (terms.num_items - machine_of(int(b), float(theta))) * terms.price
        mark = "<- cheapest" if place == best and machine else ""
        rows.append(
            (
                f"{b:,}",
                f"{machine_of(int(b), float(theta)) / terms.num_items:.1%}",
                f"{labels:,.2f}",
                f"{max(total - labels, 0):,.2f}",
                f"{total:,.2f}",
                mark,
            )
        )
    print()
    print_table(heads, rows)


def _machine(terms: Terms, size: int, theta: float) -> int:
    base = terms.num_items
    if terms.theta_base == "remaining":
        base -= terms.num_test + size
    return round(theta * base)
