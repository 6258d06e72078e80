"""What asking by the annotators' time saves: the measure of it, table and figure."""

import numpy as np

from experiments.common import figures, paired
from experiments.common.paired import Record, mean_interval, mean_of, value_text

POINTS = 21


def smooth(record: Record) -> np.ndarray:
    """Accuracy, as a running mean of three batches, of two at the ends."""
    return paired.running_mean(record["accuracy"], 3)


def seconds_to(record: Record, accuracy: float) -> float:
    """Seconds when the smoothed accuracy first is reached, between batches linearly."""
    curve = smooth(record)
    found = paired.first_reach(curve, record["seconds"], accuracy, interpolate=True)
    if found is None:
        raise ValueError(f"accuracy = {accuracy} is never reached: {curve.max()} is")
    return found


def relative_time(record: Record, base: Record) -> tuple[float, float]:
    """Time of one run against another's: over all accuracies, and to the last one.

    Both have accuracies from the higher one of their first to the lower one of their
    best. Over `POINTS` of them, equally spaced, the mean logarithm of
    seconds(record) / seconds(base) is what is returned first; the second is the
    logarithm at the last of them alone, which the noise of single batches moves far.
    """
    curves = smooth(record), smooth(base)
    low, high = max(c[0] for c in curves), min(c.max() for c in curves)
    logs = [
        np.log(seconds_to(record, accuracy) / seconds_to(base, accuracy))
        for accuracy in np.linspace(min(low, high), high, POINTS)
    ]
    return float(np.mean(logs)), float(logs[-1])


def summarize(records: list[dict], base: str = "beta 0") -> dict:
    """Time of each arm against that of beta = 0, to the same accuracy, by seed."""
    arms, found = paired.by_arm(records), {}
    for name, by_seed in arms.items():
        logs = {s: relative_time(run, arms[base][s]) for s, run in by_seed.items()}
        found[name] = {
            "time": _as_ratios(mean_interval(over for over, _ in logs.values())),
            "time_to_the_last": _as_ratios(
                mean_interval(last for _, last in logs.values())
            ),
            "by_seed": {seed: np.expm1(over) for seed, (over, _) in logs.items()},
            "seconds": mean_of(by_seed, lambda run: run["seconds"][-1]),
            "accuracy": mean_of(by_seed, lambda run: smooth(run)[-1]),
        }
    return found


def _as_ratios(logs: dict) -> dict:
    """Ratios less one for logarithms; SDs stay those of the logarithms."""
    ratio = lambda value: float(np.expm1(value))
    interval = logs["interval"] and [ratio(end) for end in logs["interval"]]
    return {**logs, "mean": ratio(logs["mean"]), "interval": interval}


def table(summary: dict) -> list[str]:
    text = lambda field, form, scale=1.0: (
        lambda _, found: value_text(found[field], form, scale)
    )
    columns = {
        "arm": lambda name, found: name,
        "minutes in all": text("seconds", ".0f", 1 / 60),
        "accuracy": text("accuracy", ".1%"),
        "time to an accuracy": text("time", "+.1%"),
        "to the last": text("time_to_the_last", "+.1%"),
    }
    return paired.columns(columns, summary.items())


def figure(records: list[dict]):
    """Accuracy by minutes of annotation, one line a run."""
    with figures.drawing(6.4, 4.2) as (drawn, axes):
        for number, runs_of in enumerate(paired.by_arm(records).items()):
            for place, run in enumerate(runs_of[1].values()):
                axes.plot(
                    np.asarray(run["seconds"]) / 60,
                    100 * smooth(run),
                    color=f"C{number}",
                    alpha=0.7,
                    label=runs_of[0] if place == 0 else None,
                )
        axes.set_xlabel("minutes of annotation told")
        axes.set_ylabel("accuracy on held-out labels, %")
        axes.legend(frameon=False)
    return drawn
