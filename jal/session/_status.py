"""How far a labelling session is, from what is stored of it: no pool, no model."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from jal.session._annotations import Annotation
from jal.session._consensus import amounts, by_item
from jal.session._store import TRAIN, AskedBatch, LabelStore

# Of the 95 % interval of an accuracy.
_Z = 1.959964


class Measured(NamedTuple):
    """How good the model was that chose a batch.

    Attributes:
      batch: its number.
      labels: that it was trained on.
      tested: held-out items with labels, 0 where there were none.
      right: of them.
      accuracy: right / tested, NaN without a test.
      low: end of its 95 % interval (Wilson).
      high: the other end.
    """

    batch: int
    labels: int
    tested: int
    right: int
    accuracy: float
    low: float
    high: float


class Annotator(NamedTuple):
    """What one annotator did.

    Attributes:
      who: "" where nobody asked.
      labels: items that got one.
      skipped: items that got none.
      seconds: in all, of those that are known.
      median_seconds: of an item, NaN where none is known.
      cost: in all, of those that are known.
    """

    who: str
    labels: int
    skipped: int
    seconds: float
    median_seconds: float
    cost: float


class Status(NamedTuple):
    """How far a session is.

    Attributes:
      num_items: N.
      classes: C names.
      labeled: items whose label trains.
      tested: items whose label measures.
      waiting: asked for and not yet answered.
      skipped: answered, and by nobody with a label.
      disputed: pool indices of items of which nothing holds yet.
      counts: [C] labels of each class, of training and test.
      batches: how many there were.
      unit: "seconds" or "cost", what is weighed against information.
      seconds: told in all.
      cost: told in all.
      typical: median told of an item, in the unit; NaN where nothing was.
      waiting_cost: expected of what is waiting, in the unit: predicted, or `typical`
        where that was not; NaN where neither is known.
      batch_size: items of the last batch that trains, 0 before there is one.
      annotators: one each.
      rounds: one for each batch that a model chose.
    """

    num_items: int
    classes: tuple[str, ...]
    labeled: int
    tested: int
    waiting: int
    skipped: int
    disputed: tuple[int, ...]
    counts: tuple[int, ...]
    batches: int
    unit: str
    seconds: float
    cost: float
    typical: float
    waiting_cost: float
    batch_size: int
    annotators: tuple[Annotator, ...]
    rounds: tuple[Measured, ...]


def status_of(store: LabelStore) -> Status:
    """How far a session is, from its store alone: no pool, no model.

    Args:
      store: of the session.

    Returns:
      `Status`.

    >>> import tempfile
    >>> store = LabelStore.create(
    ...     tempfile.mkdtemp(), num_items=3, classes="ab", facts={"unit": "seconds"}
    ... )
    >>> _ = store.tell([Annotation(2, 1, seconds=4.0)])
    >>> status_of(store).counts, status_of(store).typical
    ((0, 1), 4.0)
    """
    labels, batches, answers = store.labels(), store.batches(), store.answers()
    unit = store.facts["unit"]
    told = labels.seconds if unit == "seconds" else labels.cost
    by_name: dict[str, list[Annotation]] = {}
    for annotation in answers:
        by_name.setdefault(annotation.annotator, []).append(annotation)
    annotators = tuple(_annotator(name, said) for name, said in by_name.items())
    holds = labels.label[labels.label >= 0]
    known = told[np.isfinite(told)]
    typical = float(np.median(known)) if len(known) else float("nan")
    waiting_cost = 0.0
    for batch in batches:
        costs = batch.costs[labels.is_waiting[batch.items]]
        waiting_cost += float(np.where(np.isfinite(costs), costs, typical).sum())
    return Status(
        num_items=store.num_items,
        classes=store.classes,
        labeled=len(labels.order),
        tested=int(np.sum(labels.is_test & (labels.label >= 0))),
        waiting=int(labels.is_waiting.sum()),
        skipped=int(labels.is_skipped.sum()),
        disputed=tuple(np.flatnonzero(labels.is_disputed).tolist()),
        counts=tuple(np.bincount(holds, minlength=len(store.classes)).tolist()),
        batches=len(batches),
        unit=unit,
        seconds=sum(each.seconds for each in annotators),
        cost=sum(each.cost for each in annotators),
        typical=typical,
        waiting_cost=waiting_cost,
        batch_size=next(
            (len(b.items) for b in reversed(batches) if b.purpose == TRAIN), 0
        ),
        annotators=annotators,
        rounds=tuple(_measured(b) for b in batches if "checkpoint" in b.detail),
    )


def spending(
    store: LabelStore, field: Literal["seconds", "cost"]
) -> list[tuple[int, float]]:
    """What was spent after how many labels, item by item.

    Args:
      store: of the session.
      field: time, or money.

    Returns:
      (labels, spent in all) after each answered item: those told unasked by
      their index, then batch by batch in the order asked. Skipped items, items that
      measure and every annotator's time count, so that the last one is what `status_of`
      says. Empty where nobody said what it took.

    >>> import tempfile
    >>> store = LabelStore.create(
    ...     tempfile.mkdtemp(), num_items=3, classes="ab", facts={"unit": "seconds"}
    ... )
    >>> said = [Annotation(0, 1, "ann", seconds=4.0), Annotation(0, 1, "bob")]
    >>> _ = store.tell([*said, Annotation(2, None, "ann", seconds=1.0)])
    >>> spending(store, "seconds")
    [(1, 4.0), (1, 5.0)]
    """
    answers = by_item(store.answers())
    asked = [i for batch in store.batches() for i in batch.items.tolist()]
    order = [*sorted(answers.keys() - set(asked)), *filter(answers.__contains__, asked)]
    label, curve, labels, total = store.labels().label, [], 0, 0.0
    for item in order:
        labels += int(label[item] >= 0)
        total += sum(amounts(answers[item], field).values())
        curve.append((labels, total))
    return curve if total > 0 else []


def said_of(store: LabelStore, items: Iterable[int]) -> dict[int, str]:
    """What was said of some items, in a line each.

    Args:
      store: of the session.
      items: pool indices.

    Returns:
      Lines by pool index.

    >>> import tempfile
    >>> store = LabelStore.create(tempfile.mkdtemp(), num_items=3, classes="ab")
    >>> _ = store.tell([Annotation(2, 1, "ann"), Annotation(2, None)])
    >>> said_of(store, [2])
    {2: '(nobody): skip; ann: b'}
    """
    said = by_item(store.answers())
    line = lambda answers: "; ".join(
        f"{a.annotator or '(nobody)'}: "
        + ("skip" if a.label is None else store.classes[a.label])
        + (" (final)" if a.final else "")
        for a in answers
    )
    return {int(item): line(said.get(item, [])) for item in items}


def _annotator(who: str, said: list[Annotation]) -> Annotator:
    labeled = {each.item for each in said if each.label is not None}
    items = by_item(said).values()
    seconds = [time for each in items for time in amounts(each, "seconds").values()]
    cost = [price for each in items for price in amounts(each, "cost").values()]
    return Annotator(
        who,
        len(labeled),
        len(items) - len(labeled),
        float(sum(seconds)),
        float(np.median(seconds)) if seconds else float("nan"),
        float(sum(cost)),
    )


def _measured(batch: AskedBatch) -> Measured:
    right, tested = sum(batch.detail["right"]), len(batch.detail["right"])
    accuracy, low, high = wilson(right, tested)
    return Measured(
        batch.number, batch.detail["labels"], tested, right, accuracy, low, high
    )


def wilson(right: int, tested: int) -> tuple[float, float, float]:
    """A share and its 95 % interval.

    Args:
      right: of them.
      tested: n; 0 makes all NaN.

    Returns:
      right / tested, and the ends of Wilson's interval.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.8, 0.49, 0.943]

    Reference: Wilson, "Probable inference, the law of succession, and statistical
    inference", 1927.
    """
    if tested == 0:
        return float("nan"), float("nan"), float("nan")
    share, z2 = right / tested, _Z**2 / tested
    half = _Z * (share * (1 - share) / tested + z2 / (4 * tested)) ** 0.5
    middle = share + z2 / 2
    return share, (middle - half) / (1 + z2), (middle + half) / (1 + z2)
