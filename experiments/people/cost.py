"""Asking by information alone, or by information per second: one session."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import runs
from experiments.people.annotators import People, annotation, people
from experiments.people.protocol import Config, keep_compiled, open_session, recipe
from jal import loop
from jal._core import files
from jal.session import Session


class Arm(NamedTuple):
    """One way to ask.

    Attributes:
      name: in tables and file names.
      beta: exponent of the predicted time.
    """

    name: str
    beta: float


@runs.recorded
def run_arm(config: Config, arm: Arm, seed: int, folder: Path, data_dir=None):
    """One session from the first batch to the last.

    Args are those of `runs.recorded`; the seed is of pool, annotators and session.

    Returns:
      Accuracy on held-out labels and seconds told, by batch.
    """
    keep_compiled(folder.parent.parent / "compiled")
    world = people(config, seed, data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"config": dataclasses.asdict(config)}
    files.write_json(folder / loop.RUN_FILE, identity)
    session = open_session(folder, world.images, recipe(config), seed)
    # Told once more, in case the process died in between; it changes nothing.
    for batch in session.store.batches():
        _answer(session, world, batch)
    if not session.store.batches():
        _answer(session, world, session.ask(config.test, test=True))
    while len(session.store.batches()) <= config.rounds:
        beta = arm.beta if session.status().labeled else 0.0
        batch = session.ask(config.k, beta=beta)
        _answer(session, world, batch)
        files.append_line(folder / loop.ROUNDS_FILE, {"batch": batch.number})
    session.ask(1, beta=arm.beta)  # measures the last model
    batches, labels = session.store.batches(), session.store.labels()
    seconds = np.cumsum(
        [np.nansum(labels.seconds[b.items]) for b in batches if b.purpose == "train"]
    )
    rounds = session.status().rounds
    return {
        "beta": arm.beta,
        "accuracy": [each.accuracy for each in rounds],
        "labels": [each.labels for each in rounds],
        "seconds": seconds[: len(rounds)],
    }


def _answer(session: Session, world: People, batch: Any) -> None:
    """True labels, without a time, of what measures: it costs all arms the same."""
    items = batch.items if hasattr(batch, "items") else batch.indices
    if batch.purpose == "test":
        session.tell(items, world.truth[items])
    else:
        session.store.tell([annotation(world, 0, int(item)) for item in items])
