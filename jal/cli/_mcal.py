"""`jal ask --mcal`: labelling everything at minimum cost, with people."""

from typing import Any

from jal import mcal
from jal.cli._output import print_json
from jal.mcal import Result, TrainingPrice
from jal.session import Batch, Session


def next_items(
    mine: Session, k: int, *, price: float | None, training_price: float, **options: Any
) -> Batch | Result:
    """What waits for answers, or all labels; options are of `mcal.usual_terms`."""
    if price is None:
        raise ValueError("--mcal needs the --price of a label, in USD")
    if not training_price > 0:
        raise ValueError(
            f"--training-price {training_price}; --mcal weighs labels against "
            "training, so a training image must cost more than 0 USD"
        )
    terms = mcal.usual_terms(mine.store.num_items, price, **options)
    return mcal.ask_session(mine, terms, TrainingPrice(per_image=training_price), k=k)


def show(mine: Session, result: Result, *, as_json: bool) -> None:
    """Who labelled how much, and what it cost."""
    place = mine.store.folder / mcal.FOLDER / mcal.CSV_FILE
    people, left = int(result.is_human.sum()), int((result.labels < 0).sum())
    machine = len(result.labels) - people
    if as_json:
        print_json(
            by_people=people,
            by_model=machine,
            without_label=left,
            error=result.error_estimate,
            cost=result.cost,
            people_alone=result.humans_alone,
            stop=result.stop,
            csv=str(place),
        )
        return
    print(
        f"everything is labelled: {people:,} items by people"
        + (f" ({left:,} of them without a label that holds)" if left else "")
        + f", {machine:,} by the model; about {result.error_estimate:.1%} of all are "
        f"wrong\n{result.cost:,.2f} USD, {result.humans_alone:,.2f} USD for people "
        f"alone; why no more was bought: {result.stop}\nwrote {place}"
    )
