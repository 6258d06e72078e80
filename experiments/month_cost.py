"""What asking by the annotators' time saves: runs, and the measure of them."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import month_people, paired, runs
from experiments.month_people import Config, People
from experiments.month_recipe import keep_compiled, recipe
from jal import loop
from jal._core import files
from jal.session import Session

POINTS = 21


class Arm(NamedTuple):
    """One way to ask.

    Attributes:
      name: in tables and file names.
      beta: exponent of the predicted time.
    """

    name: str
    beta: float


def run_arm(
    config: Config, arm: Arm, seed: int, folder: Path, data_dir: str | None = None
) -> dict:
    """One session from the first batch to the last.

    Args:
      config: the protocol.
      arm: the beta.
      seed: of pool, annotators and session.
      folder: of this session; receives `record.json` at last.
      data_dir: TFDS directory.

    Returns:
      Accuracy on held-out labels and seconds told, by batch.
    """
    code = runs.commit()
    keep_compiled(folder.parent.parent / "compiled")
    world, made = month_people.people(config, seed, data_dir), recipe(config)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"config": dataclasses.asdict(config)}
    files.write_json(folder / loop.RUN_FILE, identity)
    try:
        session = Session.open(folder, world.images, made)
    except FileNotFoundError:
        session = Session.create(
            folder,
            world.images,
            made,
            classes=[f"class {c}" for c in range(10)],
            seed=seed,
        )
    # Told once more, in case the process died in between; it changes nothing.
    for batch in session.store.batches():
        _answer(session, world, batch)
    if not session.store.batches():
        _answer(session, world, session.ask(config.test, test=True))
    while len(session.store.batches()) <= config.rounds:
        batch = session.ask(config.k, beta=arm.beta if _has_labels(session) else 0.0)
        _answer(session, world, batch)
        files.append_line(folder / loop.ROUNDS_FILE, {"batch": batch.number})
    session.ask(1, beta=arm.beta)  # measures the last model
    batches, labels = session.store.batches(), session.store.labels()
    seconds = np.cumsum(
        [np.nansum(labels.seconds[b.items]) for b in batches if b.purpose == "train"]
    )
    rounds = session.status().rounds
    record = files.as_json(
        {
            "arm": arm.name,
            "seed": seed,
            "beta": arm.beta,
            "accuracy": [each.accuracy for each in rounds],
            "labels": [each.labels for each in rounds],
            "seconds": seconds[: len(rounds)],
            "commit": code,
        }
    )
    files.write_json(folder / "record.json", record)
    return record


def _answer(session: Session, world: People, batch: Any) -> None:
    """True labels, without a time, of what measures: it costs all arms the same."""
    items = batch.items if hasattr(batch, "items") else batch.indices
    if batch.purpose == "test":
        session.tell(items, world.truth[items])
    else:
        session.store.tell(
            [month_people.annotation(world, 0, int(item)) for item in items]
        )


def _has_labels(session: Session) -> bool:
    return session.status().labeled > 0


def smooth(values) -> np.ndarray:
    """Running mean of three, of two at the ends."""
    padded = np.pad(np.asarray(values, float), 1, constant_values=np.nan)
    return np.nanmean(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def seconds_to(record: dict, accuracy: float) -> float:
    """Seconds when the smoothed accuracy first is reached, between batches linearly."""
    curve, seconds = smooth(record["accuracy"]), np.asarray(record["seconds"], float)
    if accuracy > curve.max():
        raise ValueError(f"accuracy = {accuracy} is never reached: {curve.max()} is")
    first = int(np.argmax(curve >= accuracy))
    if first == 0:
        return float(seconds[0])
    low, high = curve[first - 1], curve[first]
    share = (accuracy - low) / (high - low)
    return float(seconds[first - 1] + share * (seconds[first] - seconds[first - 1]))


def relative_time(record: dict, base: dict) -> tuple[float, float]:
    """Time of one run against another's: over all accuracies, and to the last one.

    Both have accuracies from the higher one of their first to the lower one of their
    best. Over `POINTS` of them, equally spaced, the mean logarithm of
    seconds(record) / seconds(base) is what is returned first; the second is the
    logarithm at the last of them alone, which the noise of single batches moves far.
    """
    curves = [smooth(each["accuracy"]) for each in (record, base)]
    low, high = max(c[0] for c in curves), min(c.max() for c in curves)
    logs = [
        np.log(seconds_to(record, accuracy) / seconds_to(base, accuracy))
        for accuracy in np.linspace(min(low, high), high, POINTS)
    ]
    return float(np.mean(logs)), float(logs[-1])


def summarize(records: list[dict], base: str = "beta 0") -> dict:
    """Time of each arm against that of beta = 0, to the same accuracy, by seed."""
    arms: dict[str, dict[int, dict]] = {}
    for record in records:
        arms.setdefault(record["arm"], {})[record["seed"]] = record
    found = {}
    for name, by_seed in arms.items():
        logs = {
            s: relative_time(record, arms[base][s]) for s, record in by_seed.items()
        }
        found[name] = {
            "time": _as_ratios(paired.mean_interval(over for over, _ in logs.values())),
            "time_to_the_last": _as_ratios(
                paired.mean_interval(last for _, last in logs.values())
            ),
            "by_seed": {seed: np.expm1(over) for seed, (over, _) in logs.items()},
            "seconds": paired.mean_interval(
                record["seconds"][-1] for record in by_seed.values()
            ),
            "accuracy": paired.mean_interval(
                smooth(record["accuracy"])[-1] for record in by_seed.values()
            ),
        }
    return found


def _as_ratios(logs: dict) -> dict:
    """Ratios less one for logarithms; SDs stay those of the logarithms."""
    interval = logs["interval"]
    return {
        **logs,
        "mean": float(np.expm1(logs["mean"])),
        "interval": interval and [float(np.expm1(end)) for end in interval],
    }


def table(summary: dict) -> list[str]:
    rows = [
        [
            name,
            paired.value_text(paired.scaled(each["seconds"], 1 / 60), ".0f"),
            paired.value_text(each["accuracy"], ".1%"),
            paired.value_text(each["time"], "+.1%"),
            paired.value_text(each["time_to_the_last"], "+.1%"),
        ]
        for name, each in summary.items()
    ]
    header = ["arm", "minutes in all", "accuracy", "time to an accuracy", "to the last"]
    return paired.table(header, rows)


def figure(records: list[dict]) -> Figure:
    """Accuracy by minutes of annotation, one line a run."""
    drawn = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = drawn.subplots()
    names = list(dict.fromkeys(record["arm"] for record in records))
    for number, name in enumerate(names):
        for place, record in enumerate(r for r in records if r["arm"] == name):
            minutes = np.asarray(record["seconds"]) / 60
            axes.plot(
                minutes,
                100 * smooth(record["accuracy"]),
                color=f"C{number}",
                alpha=0.7,
                label=name if place == 0 else None,
            )
    axes.set_xlabel("minutes of annotation told")
    axes.set_ylabel("accuracy on held-out labels, %")
    axes.legend(frameon=False)
    return drawn
