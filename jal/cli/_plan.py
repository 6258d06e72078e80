"""`jal plan`: from measured errors and prices to what labelling everything costs."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typer import Argument, Option

from jal import mcal, plots
from jal.cli._options import Json
from jal.cli._output import mistakes_in_one_line, print_json, print_table, refuse
from jal.mcal import Outlook, Profile, Terms, TrainingPrice
from jal.session import LabelStore

ROWS = 12  # of the printed table


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
    training = TrainingPrice(per_image=training_price)
    if not training.per_image >= 0:
        raise ValueError(
            f"--training-price {training.per_image}; it must not be negative"
        )
    options: Any = dict(max_error=max_error, batch=batch, confidence=confidence)
    options |= dict(constraint=constraint, theta_base=theta_base)
    if session is not None:
        refuse(f"{session} has them", pool=pool, errors=errors, test_size=test_size)
        store = LabelStore(session)
        terms = mcal.usual_terms(store.num_items, price, **options)
        profile = mcal.session_profile(store, terms)
    elif pool is None or errors is None:
        raise ValueError("give --pool and --errors, or the folder of a session")
    else:
        terms = mcal.usual_terms(pool, price, **options)
        profile = mcal.read_profile(errors)
    terms = terms._replace(num_test=test_size or profile.num_test)
    found = mcal.outlook(terms, training, profile, truncated=not plain)
    if not as_json:
        _print_plan(terms, profile, found, training)
    plots.save(_figure(terms, found), out)
    if not as_json:
        print(f"wrote {out}")
        return
    machine = int(found.plan.machine)
    print_json(
        train_on=int(found.plan.size),
        labels_now=profile.size,
        by_model=machine,
        by_people=terms.num_items - machine,
        cost=float(found.plan.cost),
        people_alone=terms.num_items * terms.price,
        measured_sizes=profile.sizes,
        plot=str(out),
    )


def _figure(terms: Terms, found: Outlook):
    return plots.plan(
        found.sizes,
        found.costs,
        found.machine / terms.num_items,
        humans_alone=terms.num_items * terms.price,
        title=f"{terms.num_items:,} items at {terms.price:g} USD, fewer than "
        f"{terms.max_error:.1%} wrong",
    )


def _print_plan(
    terms: Terms, profile: Profile, found: Outlook, training: TrainingPrice
) -> None:
    """The plan in words, and the costs of some other sizes in a table."""
    plan, number = found.plan, len(profile.sizes)
    size, machine, cost = int(plan.size), int(plan.machine), float(plan.cost)
    alone, human = terms.num_items * terms.price, terms.num_items - machine
    if machine:
        print(
            f"Train on {size:,} labels ({size - profile.size:,} more than now). The "
            f"model then labels {machine:,} of the {terms.num_items:,} items, people "
            f"the other {human:,}, the test set of {terms.num_test:,} included.\n"
            f"Labels {human * terms.price:,.2f} USD and training "
            f"{cost - human * terms.price:,.2f} USD make {cost:,.2f} USD, "
            f"{1 - cost / alone:.1%} less than {alone:,.2f} USD for people alone."
        )
    else:
        print(
            f"People label all {terms.num_items:,} items, for {alone:,.2f} USD: with "
            "these errors no share that the model labels would be right enough."
        )
    if number < 3:
        print(
            f"Note: {number} training size{'' if number == 1 else 's'} measured; a law "
            "needs three, and more are better."
        )
    if not training.per_image:
        print("Note: training costs nothing here; --training-price says otherwise.")
    best = int(np.argmax(found.sizes == size))
    spread = np.linspace(0, len(found.sizes) - 1, ROWS).round().astype(int)
    some = np.unique([best, *spread])
    rows: list[tuple] = []
    for place in some:
        labels, total = found.labels[place], found.costs[place]
        row = (
            f"{found.sizes[place]:,}",
            f"{found.machine[place] / terms.num_items:.1%}",
            f"{labels:,.2f}",
            f"{max(total - labels, 0):,.2f}",
            f"{total:,.2f}",
            "<- cheapest" if place == best and machine else "",
        )
        rows.append(row)
    print()
    heads = ("training size", "by the model", "labels USD", "training USD", "total USD")
    print_table((*heads, ""), rows)
