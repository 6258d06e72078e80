"""Many runs of an experiment, one a core, going on where they were stopped."""

import dataclasses
import functools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent import futures
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
from tqdm.auto import tqdm

import jal
from jal import loop


def run_all(
    run: Callable[..., dict],
    config: Any,
    arms: Iterable[Any],
    seeds: Iterable[int],
    folder: Path,
    *,
    workers: int = 1,
    data_dir: str | None = None,
) -> list[dict]:
    """All runs, each in a process of its own core, going on where it was stopped.

    Args:
      run: (config, arm, seed, folder, data_dir) -> record, which it writes to
        `record.json` in its folder at last; a function of a module.
      config: the protocol, a frozen dataclass; the progress bar counts rounds if it has
        `rounds`, and otherwise runs.
      arms: the methods, each with a `name`; all share seeds.
      seeds: one run of each arm for each.
      folder: one folder a run goes below it.
      workers: processes at a time; one a core is fastest.
      data_dir: TFDS directory, or None for `TFDS_DATA_DIR`.

    Returns:
      The records, seed by seed.

    Raises:
      ValueError: a folder holds a run of another protocol.
    """
    # Seed by seed, so that a comparison of all arms is there early.
    arms = list(arms)
    tasks = [(arm, seed) for seed in seeds for arm in arms]
    places = {task: folder / f"{_slug(task[0])}-seed{task[1]}" for task in tasks}
    todo = [task for task in tasks if not (places[task] / "record.json").exists()]
    # The folder of a finished run is only trusted if it was this very protocol.
    for task in set(tasks) - set(todo):
        _check_config(places[task], config)
    context = get_context("spawn")
    rounds = config.rounds + 1 if hasattr(config, "rounds") else None
    with (
        tqdm(
            total=len(tasks) * (rounds or 1),
            unit="round" if rounds else "run",
            smoothing=0.05,
            mininterval=1 if sys.stderr.isatty() else 30,
        ) as bar,
        futures.ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_take_core,
            initargs=(context.Value("i", 0),),
        ) as executor,
    ):
        running = [
            executor.submit(run, config, arm, seed, places[arm, seed], data_dir)
            for arm, seed in todo
        ]
        while running:
            done, _ = futures.wait(running, 1.0, futures.FIRST_EXCEPTION)
            lines = [_lines(place) for place in places.values()]
            records = [(place / "record.json").exists() for place in places.values()]
            if rounds:
                complete = f"{sum(records)}/{len(tasks)} runs"
                bar.update(sum(min(number, rounds) for number in lines) - bar.n)
            else:
                complete = f"{sum(lines)} rounds"
                bar.update(sum(records) - bar.n)
            bar.set_postfix_str(complete, refresh=False)
            for future in done:
                if future.exception() is not None:
                    executor.shutdown(cancel_futures=True)
                    future.result()
            if len(done) == len(running):
                break
    return [json.loads((places[task] / "record.json").read_text()) for task in tasks]


def cores() -> list[int]:
    """The processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _take_core(counter) -> None:
    """Gives each worker one core: two runs side by side beat one run on two cores."""
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores()[number % len(cores())]})


def _slug(arm) -> str:
    return arm.name.replace(" ", "-").replace("=", "")


def _lines(folder: Path) -> int:
    path = folder / loop.ROUNDS_FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _check_config(folder: Path, config) -> None:
    stored = json.loads((folder / loop.RUN_FILE).read_text())["config"]
    asked = json.loads(json.dumps(dataclasses.asdict(config)))
    different = [name for name in asked if stored.get(name) != asked[name]]
    if different:
        raise ValueError(
            f"{folder} holds a run with another {', '.join(different)}; choose another "
            "--out, or remove it"
        )


def provenance(config: Any, seeds: Iterable[int]) -> dict:
    """What a results file says of its making: sizes, machine, versions, commit."""
    return {
        "config": dataclasses.asdict(config),
        "seeds": list(seeds),
        "machine": f"{processor()}, {os.cpu_count()} cores, {jax.default_backend()}",
        "versions": {"jax": jax.__version__, "jal": jal.__version__},
        "commit": commit(),
    }


@functools.cache
def commit() -> str | None:
    """The commit of this code, "-dirty" where it was changed; None outside of git."""

    def git(*arguments):
        command = ["git", *arguments]
        folder = Path(__file__).parent
        options: dict[str, Any] = dict(capture_output=True, text=True, check=True)
        return subprocess.run(command, cwd=folder, **options).stdout.strip()

    try:
        described = git("describe", "--always", "--abbrev=12")
        # Results that were written a minute ago do not make the code another one.
        results = (
            ":(top,exclude)experiments/results",
            ":(top,exclude)benchmarks/results",
        )
        changed = git("status", "--porcelain", "-uno", "--", ":(top)", *results)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{described}-dirty" if changed else described


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
