"""`jal plan`: from measured errors and prices to what labelling everything costs."""

from pathlib import Path
from typing import Any

import numpy as np

from jal import mcal, plots
from jal.cli._output import columns, print_json, refuse
from jal.mcal import Outlook, Profile, Terms, TrainingPrice
from jal.session import LabelStore

ROWS = 12  # of the printed table


def make_plan(
    session: Path | None,
    pool: int | None,
    price: float,
    max_error: float,
    errors: Path | None,
    *,
    training_price_per_image: float,
    test_size: int | None,
    truncated: bool,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Prints the plan, and draws it; options are those of `mcal.usual_terms`."""
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: it must end in .png")
    training = TrainingPrice(per_image=training_price_per_image)
    if not training.per_image >= 0:
        raise ValueError(
            f"--training-price {training.per_image}; it must not be negative"
        )
    options["max_error"] = max_error
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
    found = mcal.outlook(terms, training, profile, truncated=truncated)
    if not as_json:
        print(_in_words(terms, profile, found, training))
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


def _in_words(
    terms: Terms, profile: Profile, found: Outlook, training: TrainingPrice
) -> str:
    """The plan, and the costs of some other sizes in a table."""
    plan, number = found.plan, len(profile.sizes)
    size, machine, cost = int(plan.size), int(plan.machine), float(plan.cost)
    alone, human = terms.num_items * terms.price, terms.num_items - machine
    if machine:
        lines = [
            f"Train on {size:,} labels ({size - profile.size:,} more than now). The "
            f"model then labels {machine:,} of the {terms.num_items:,} items, people "
            f"the other {human:,}, the test set of {terms.num_test:,} included.",
            f"Labels {human * terms.price:,.2f} USD and training "
            f"{cost - human * terms.price:,.2f} USD make {cost:,.2f} USD, "
            f"{1 - cost / alone:.1%} less than {alone:,.2f} USD for people alone.",
        ]
    else:
        lines = [
            f"People label all {terms.num_items:,} items, for {alone:,.2f} USD: with "
            "these errors no share that the model labels would be right enough."
        ]
    if number < 3:
        lines.append(
            f"Note: {number} training size{'' if number == 1 else 's'} measured; a law "
            "needs three, and more are better."
        )
    if not training.per_image:
        lines.append(
            "Note: training costs nothing here; --training-price says otherwise."
        )
    best = int(np.argmax(found.sizes == size))
    spread = np.linspace(0, len(found.sizes) - 1, ROWS).round().astype(int)
    some = np.unique([best, *spread])
    rows: list[tuple] = [
        ("training size", "by the model", "labels USD", "training USD", "total USD", "")
    ]
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
    return "\n".join(lines) + "\n\n" + columns(rows, str.rjust)
