"""What a run of the cost-sensitive comparison needed, and its curves.

A record is a dict, as JSON gives it, of one run: "arm" (what chose), "seed", and lists
of T + 1 entries, one for each round: "accuracy" of the round's model on the test set
(None where it was not evaluated), "count" of the labels and "spend", the cost of the
labels it was trained on. Arms with the same seed share the initial labels and the
candidates, so everything is compared seed by seed.

Costs are in arbitrary units, accuracies in [0, 1].
"""

import math
from collections.abc import Callable, Iterable

import numpy as np

from experiments.common import paired
from experiments.common.paired import Record

# Accuracies come from float32: 0.9 may be stored as 0.8999999762.
_TOLERANCE = 1e-6


def labels_to_reach(
    record: Record, target: float = 0.9, *, interpolate: bool = False, smooth: int = 1
) -> float | None:
    """Labels, the initial ones included, with which a run first reached an accuracy.

    Args:
      record: a run.
      target: the accuracy; 1e-6 less is accepted, for accuracies computed in float32.
      interpolate: between the evaluated rounds, as `paired.first_reach`.
      smooth: odd number of evaluated rounds over which the accuracies are averaged
        first, centred; fewer at either end.

    Returns:
      The number of labels, or None if the target was never reached (censored).

    Raises:
      ValueError: `smooth` is not odd and positive.

    Example:
      >>> run = {"accuracy": [0.5, None, 0.8, 1.0], "count": [20, 30, 40, 50]}
      >>> labels_to_reach(run), labels_to_reach(run, interpolate=True)
      (50.0, 45.0)
    """
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError(f"smooth={smooth}; it must be odd and positive")
    return _reach(record, record["count"], target, interpolate, smooth)


def spend_to_reach(record: Record, target=0.9, *, interpolate=False) -> float | None:
    """Annotation cost, that of the initial labels excluded, to first reach an accuracy.

    Args:
      record: a run.
      target: as in `labels_to_reach`.
      interpolate: between evaluated rounds.

    Returns:
      The cost, or None if the target was never reached (censored).

    Example:
      >>> run = {"accuracy": [0.5, 0.8, 1.0], "spend": [7.0, 9.0, 12.0]}
      >>> spend_to_reach(run), spend_to_reach(run, interpolate=True)
      (5.0, 3.5)
    """
    return _reach(record, bought(record), target, interpolate, 1)


def _reach(record, paid, target, interpolate, smooth):
    rounds = evaluated_rounds(record)
    accuracy = paired.running_mean([record["accuracy"][r] for r in rounds], smooth)
    return paired.first_reach(
        accuracy,
        [paid[r] for r in rounds],
        target,
        interpolate=interpolate,
        tolerance=_TOLERANCE,
    )


def bought(record: Record) -> list[float]:
    """Cost up to each round, without that of the initial labels."""
    return [spend - record["spend"][0] for spend in record["spend"]]


def evaluated_rounds(record: Record) -> list[int]:
    return [r for r, value in enumerate(record["accuracy"]) if is_number(value)]


def is_number(value) -> bool:
    return value is not None and not math.isnan(value)


def by_arm(records: Iterable[Record], wanted: Callable[[str], bool]) -> dict:
    """Arm -> seed -> record, of the arms wanted, in the order of the records."""
    records = [record for record in records if wanted(record["arm"])]
    for record in records:
        lengths = {name: len(record[name]) for name in ("accuracy", "count", "spend")}
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"{record['arm']!r}, seed {record['seed']}: lengths differ: {lengths}"
            )
    if not records:
        raise ValueError("records holds no run of an arm that this table is about")
    return paired.by_arm(records)


def curves(records: Iterable[Record], against: str = "count") -> dict:
    """What `figures.learning_curves` draws: accuracy against labels or cost.

    Args:
      records: runs of any arms; those of an arm have the same number T of rounds.
      against: "count", labels, the initial ones included, or "spend", their cost, that
        of the initial ones excluded; averaged over seeds round by round.

    Returns:
      arm -> (x [T + 1], accuracy [seeds, T + 1], NaN where not evaluated).

    Raises:
      ValueError: `against` is neither, runs of different lengths, or one run twice.

    Example:
      >>> run = {"arm": "random", "seed": 0, "accuracy": [0.5, None],
      ...     "count": [20, 30], "spend": [7.0, 9.0]}  # fmt: skip
      >>> curves([run], "spend")
      {'random': (array([0., 2.]), array([[0.5, nan]]))}
    """
    if against not in ("count", "spend"):
        raise ValueError(f'against={against!r}; allowed are "count" and "spend"')
    result = {}
    for arm, found in by_arm(records, lambda arm: True).items():
        runs = [found[seed] for seed in sorted(found)]
        if len({len(run["accuracy"]) for run in runs}) > 1:
            raise ValueError(f"the runs of {arm!r} have different numbers of rounds")
        x = [run["count"] if against == "count" else bought(run) for run in runs]
        y = np.array([run["accuracy"] for run in runs], float)
        result[arm] = np.mean(np.array(x, float), axis=0), y
    return result
