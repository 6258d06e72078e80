"""A month of labelling: 30 batches, twice, once with a process that is killed.

Two annotators err and are slow on some images (`experiments.people.annotators`); their
answers come late, twice and in any order.
"""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from experiments.people.annotators import annotation, people
from experiments.people.protocol import Config, open_session, recipe
from jal._core import files
from jal.session import Annotation, Session

PHASES = "phases.log"


def answers(config: Config, number: int, items: np.ndarray):
    """(annotator, item, whether it comes late) of a batch: who looks at what.

    Each item has one annotator, and each tenth has both.
    """
    rng = np.random.default_rng([number, len(items)])
    found = []
    for place, item in enumerate(items.tolist()):
        who = range(2) if place % 10 == 0 else [int(rng.integers(2))]
        found += [(each, item, bool(rng.random() < config.late)) for each in who]
    return found


def work(folder: Path, config: Config, disorder: int | None) -> None:
    """Asks and tells until all batches are answered, from wherever the folder is.

    Args:
      folder: of the session; `phases.log` there receives a line as each step ends.
      config: the protocol.
      disorder: None tells each batch once and in order; a seed tells it in parts, in
        another order, and some of it twice.
    """
    world = people(config, 0, None)
    session = open_session(folder, world.images, recipe(config))
    with open(folder / PHASES, "a", buffering=1) as log:

        def tell(told: list[Annotation]) -> None:
            if disorder is None or not told:
                session.store.tell(told)
                return
            rng = np.random.default_rng([disorder, len(told)])
            order = rng.permutation(len(told))
            for part in np.array_split(order, 3):
                again = rng.choice(order, max(1, len(part) // 3))
                session.store.tell([told[i] for i in [*part, *again]])
                log.write("told a part\n")

        while True:
            batches, late = session.store.batches(), []
            for batch in batches[-2:]:
                said = answers(config, batch.number, batch.items)
                late = [annotation(world, w, i) for w, i, is_late in said if is_late]
                on_time = [annotation(world, w, i) for w, i, l in said if not l]
                tell(on_time if batch is batches[-1] else late)
            if len(batches) == config.rounds:
                tell(late)
                log.write("done\n")
                return
            log.write("asking\n")
            # One batch in ten measures.
            session.ask(config.k, another=True, test=len(batches) % 10 == 5)
            log.write(f"asked {len(batches) + 1}\n")


def state_of(folder: Path, config: Config) -> dict[str, Any]:
    """Everything that must be the same: answers, batches, predictions."""
    world = people(config, 0, None)
    session = Session.open(folder, world.images, recipe(config))
    batches = session.store.batches()
    return {
        "answers": session.store.answers(),
        "items": [batch.items.tolist() for batch in batches],
        "scores": [np.nan_to_num(batch.scores).tolist() for batch in batches],
        "costs": [np.nan_to_num(batch.costs).tolist() for batch in batches],
        "predictions": session.predict(),
        "status": session.status(),
    }


def pool_file(folder: Path, items: int, data_dir: str | None) -> Path:
    """The pool as a small file, so that a life does not begin with decoding it all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fashion_mnist-part.npz"
    world = people(Config(items=items), 0, data_dir)
    some: dict[str, Any] = dict(test_images=world.images[:10])
    some["test_labels"] = world.truth[:10]
    np.savez(path, images=world.images, labels=world.truth, **some)
    return path


def kill_again_and_again(command, wild: Path, log: Path, *, kills: int, seed: int):
    """Runs a command until it ends by itself, after it was killed so many times.

    Args:
      command: goes on where it was killed; ends with the number of its life.
      wild: folder with its `phases.log`.
      log: of the deaths: goes on after an interruption, as all of it is on the disk.
      kills: how often.
      seed: of the moments of death.

    Returns:
      The last step that had ended before each death, and the number of lives.
    """
    rng, path = np.random.default_rng(seed), wild / PHASES
    deaths = [line["after"] for line in files.read_lines(log)]
    lives = len(deaths)
    with tqdm(total=kills, initial=lives, unit="kill") as bar:
        while True:
            process = subprocess.Popen([*command, str(lives)])
            lives += 1
            if len(deaths) >= kills:
                process.wait()
            else:
                _wait_for(process, path, int(rng.integers(1, 9)))
                # At once, or somewhere while it asks.
                pause = rng.uniform(0, rng.choice([0.05, 3.0]))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(float(pause))
            if process.poll() is not None:
                if process.returncode:
                    raise SystemExit(f"the worker failed ({process.returncode})")
                return deaths, lives
            process.send_signal(signal.SIGKILL)
            process.wait()
            lines = path.read_text().splitlines()
            deaths.append(lines[-1] if lines else "before the first batch")
            files.append_line(log, {"after": deaths[-1], "steps": len(lines)})
            bar.update(1)


def endure(out: Path, config: Config, *, kills: int, seed: int) -> tuple[dict, str]:
    """A month twice: undisturbed, and killed, with answers in disorder.

    Args:
      out: folder of both.
      config: the protocol, with the pool of `pool_file`.
      kills: how often the second one is killed.
      seed: of the moments of death.

    Returns:
      What was found, and it as text.
    """
    calm, wild = out / "calm", out / "wild"
    command = [sys.executable, "-m", "experiments.people", "worker"]
    sizes = [config.data, *map(str, (config.items, config.k, config.rounds))]
    subprocess.run([*command, str(calm), *sizes], check=True)
    command += [str(wild), *sizes]
    log = out / "deaths.jsonl"
    deaths, lives = kill_again_and_again(command, wild, log, kills=kills, seed=seed)
    found, expected = (state_of(folder, config) for folder in (wild, calm))
    same = {name: is_same(found[name], expected[name]) for name in found}
    last = {
        text: sum(death.startswith(text) for death in deaths)
        for text in ("before", "asking", "asked", "told a part")
    }
    status = found["status"]
    lines = [
        f"killed {len(deaths)} times, in {lives} lives; the last step that had ended: "
        + ", ".join(f"{name} {number}" for name, number in last.items()),
        f"{len(found['answers'])} answers, {status.labeled} labels, {status.waiting} "
        f"waiting, {len(status.disputed)} disputed, {status.seconds / 3600:.1f} hours",
        *(f"{name}: {'the same' if same[name] else 'DIFFERENT'}" for name in same),
    ]
    content = {
        "kills": len(deaths),
        "lives": lives,
        "last_step_before_death": last,
        "same": same,
        "answers": len(found["answers"]),
        "status": status,
    }
    return content, "\n".join(lines)


def _wait_for(process, log: Path, number: int) -> None:
    """Until that many more steps have ended, or the process has."""
    lines = lambda: log.read_bytes().count(b"\n") if log.exists() else 0
    last = lines() + number
    while lines() < last and process.poll() is None:
        time.sleep(0.02)


def is_same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return files.as_json(a) == files.as_json(b)
