"""What holds of an item after all that people said of it, on the host."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from jal.session._annotations import Annotation


def by_item(answers: Iterable[Annotation]) -> dict[int, list[Annotation]]:
    """Answers by the item that they are about, in their order.

    Args:
      answers: any.

    Returns:
      Lists by pool index, none of them empty.

    >>> list(by_item([Annotation(3, 1, "ann"), Annotation(3, 0, "bob")]))
    [3]
    """
    found: dict[int, list[Annotation]] = {}
    for answer in answers:
        found.setdefault(answer.item, []).append(answer)
    return found


def decide(answers: Sequence[Annotation]) -> tuple[int | None, bool]:
    """What holds of an item.

    Each annotator has one vote. Of what one said differently the newest counts, where
    all of it is dated; else there is a vote only if it was one label, besides skips.

    Args:
      answers: all that was said of it, final answers in the order told.

    Returns:
      The label that most annotators say, or None; and whether that is because no label
      is ahead. If there are final ones, the last of each annotator counts and nothing
      else does.

    >>> said = [Annotation(0, 1, "ann"), Annotation(0, 0, "bob")]
    >>> decide(said)
    (None, True)
    >>> decide([*said, Annotation(0, 1, "eve", final=True)])
    (1, False)
    >>> decide([Annotation(0, 1, "ann", at=10.0), Annotation(0, 0, "ann", at=20.0)])
    (0, False)
    """
    by_name: dict[str, list[Annotation]] = {}
    for answer in answers:
        by_name.setdefault(answer.annotator, []).append(answer)
    final = [answer for answer in answers if answer.final]
    if final:
        by_name = {answer.annotator: [answer] for answer in final}
    votes = [_labels_of(said) for said in by_name.values()]
    counts = Counter(next(iter(labels)) for labels in votes if len(labels) == 1)
    ranked = counts.most_common(2)
    if not ranked:
        return None, any(len(labels) > 1 for labels in votes)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return None, True
    return ranked[0][0], False


def _labels_of(said: list[Annotation]) -> set[int]:
    """What stands of one annotator's answers about an item: several labels, no vote."""
    times = [answer.at for answer in said if answer.at is not None]
    if len(times) == len(said):
        said = [answer for answer in said if answer.at == max(times)]
    return {answer.label for answer in said if answer.label is not None}


def amounts(
    answers: Iterable[Annotation], field: Literal["seconds", "cost"]
) -> dict[str, float]:
    """What an item took of each annotator of whom that is known.

    The greatest of what was told, as who corrects an answer has not taken the time
    twice; but an amount told with a final answer replaces those before.

    Args:
      answers: all that was said of the item, final answers in the order told.
      field: "seconds" or "cost".

    Returns:
      Amounts by annotator.

    >>> said = [Annotation(0, 1, "ann", cost=3.0), Annotation(0, 0, "ann", cost=400.0)]
    >>> amounts(said, "cost")
    {'ann': 400.0}
    >>> amounts([*said, Annotation(0, 0, "ann", cost=4.0, final=True)], "cost")
    {'ann': 4.0}
    """
    greatest: dict[str, float] = {}
    settled: dict[str, float] = {}
    for answer in answers:
        amount, who = getattr(answer, field), answer.annotator
        if amount is not None:
            greatest[who] = max(amount, greatest.get(who, 0.0))
            if answer.final:
                settled[who] = amount
    return greatest | settled
