"""Runs of an experiment, one a core, and what is kept of them."""

import dataclasses
import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

import jal
from jal import loop, plots
from jal._core import files
from jal.types import Data, Learner, Strategy

RECORD_FILE = "record.json"


def run_all(run, config, arms, seeds, folder, *, workers=1, data_dir=None):
    """All runs, each in a process of its own core, going on where it was stopped.

    Args:
      run: (config, arm, seed, folder, data_dir) -> record; `recorded`, and a function
        of a module.
      config: the protocol, a frozen dataclass; the progress bar counts rounds if it has
        `rounds`, and otherwise runs.
      arms: the methods, each with a `name`; all share seeds.
      seeds: one run of each arm for each.
      folder: one folder a run goes below it.
      workers: processes at a time; 0: one a core, which is fastest.
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
    todo = [task for task in tasks if not (places[task] / RECORD_FILE).exists()]
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
            workers or len(cores()),
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
            records = [(place / RECORD_FILE).exists() for place in places.values()]
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
    return [json.loads((places[task] / RECORD_FILE).read_text()) for task in tasks]


def recorded(run: Callable[..., dict]) -> Callable[..., dict]:
    """Lets a run that returns what it found also write it to a record, and return that.

    Args:
      run: (config, arm, seed, folder, data_dir) -> what it found: the protocol, the
        method, the seed, a folder of this run alone, which receives the record when the
        run is done, and the TFDS directory, None for `TFDS_DATA_DIR`.

    Returns:
      The same function; the record names arm, seed, commit and seconds, too.
    """

    @functools.wraps(run)
    def wrapped(config, arm, seed, folder, data_dir=None):
        wall, process, code = time.monotonic(), time.process_time(), commit()
        found = run(config, arm, seed, folder, data_dir)
        record = {"arm": arm.name, "seed": seed, **found, "commit": code}
        record["seconds"] = round(time.monotonic() - wall, 1)
        record["cpu_seconds"] = round(time.process_time() - process, 1)
        record = files.as_json(record)
        files.write_json(folder / RECORD_FILE, record)
        return record

    return wrapped


class Method(NamedTuple):
    """What learns and chooses, and how that is measured: the same object for all seeds.

    Attributes:
      learner: as in `jal.loop.run`, as are the others.
      strategy: what chooses.
      propose: what is on the table.
      evaluate: on the test set.
      observe: of the candidates.
      cost: how it is known.
    """

    learner: Learner
    strategy: Strategy
    propose: Any
    evaluate: Any
    observe: Any = None
    cost: Any = None


def drive(config, arm, seed, folder, method, data, initial, num_classes, **options):
    """`loop.drive` by a protocol with `picks` and `rounds`, from where it stopped."""
    sizes = dict(k=config.picks, rounds=config.rounds)
    loop.check(data, initial, num_classes=num_classes, **sizes)
    _, infos = loop.drive(
        jax.random.key(seed),
        method.learner,
        method.strategy,
        data,
        initial=initial,
        **sizes,
        propose=method.propose,
        cost=method.cost,
        evaluate=method.evaluate,
        observe=method.observe,
        folder=folder,
        resume=True,
        progress=False,
        config={**dataclasses.asdict(config), "arm": arm.name},
        **options,
    )
    return infos


def check_picks(config: Any) -> None:
    """Raises ValueError where more is bought than is on the table."""
    if config.picks > config.candidates:
        raise ValueError(
            f"picks={config.picks} of candidates={config.candidates}; picks cannot be "
            "more than the candidates of a round"
        )


def as_data(x, y, test_x, test_y, cost=None) -> Data:
    """A pool and its test set on the device."""
    x, y, test_x, test_y = map(jnp.asarray, (x, y, test_x, test_y))
    cost = None if cost is None else jnp.asarray(cost, jnp.float32)
    return Data(x, y, cost, test=(test_x, test_y))


def random_items(seed: int, data: Data, number: int) -> jax.Array:
    """Items to begin with, the same for all arms of a seed."""
    key = loop.round_key(jax.random.key(seed), 0, loop.INITIAL)
    return jax.random.permutation(key, data.y.size)[:number].astype("int32")


def class_counts(data: Data, initial, indices, num_classes: int) -> np.ndarray:
    """[R + 1, C] labels of each class that the model of each round was trained on."""
    y = np.asarray(data.y)
    bought = [np.asarray(initial), *(row[row >= 0] for row in np.asarray(indices)[:-1])]
    return np.cumsum(
        [np.bincount(y[rows], minlength=num_classes) for rows in bought], 0
    )


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


class Report(NamedTuple):
    """What is made of records.

    Attributes:
      summarize: records -> summary.
      text: (records, summary) -> tables and verdicts.
      figures: (records, summary) -> kind -> figure.
    """

    summarize: Callable[[list[dict]], Any]
    text: Callable[[list[dict], Any], str]
    figures: Callable[[list[dict], Any], Mapping[str, Any]]


def compare(options, name, run, config, arms, folder, report, seeds=None, stem=""):
    """Runs a comparison, and writes and shows what came out.

    Args:
      options: of the command: `seeds`, `workers`, `out`, `data_dir`.
      name: of the results file, without its ending.
      run: as in `run_all`, as are config, arms and folder.
      config: the protocol.
      arms: the methods.
      folder: of the runs.
      report: what is made of the records.
      seeds: other ones than 0, 1, ...
      stem: of the figures' names, where it is not that of the results.
    """
    seeds = range(options.seeds) if seeds is None else seeds
    how = dict(workers=options.workers, data_dir=options.data_dir)
    records = run_all(run, config, arms, seeds, folder, **how)
    summary = report.summarize(records)
    path = options.out / f"{name}.json"
    write_results(path, options, config, seeds, summary=summary, records=records)
    drawn = lambda: report.figures(records, summary)
    show(report.text(records, summary), path.with_name(stem or name), drawn)


def write_results(path: Path, options, config, seeds: Iterable[int], **found) -> None:
    """Writes what was found, and how: command, protocol, seeds, machine, commit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"command": options.command, **provenance(config, seeds)}
    files.write_json(path, {**made, **found})
    print(f"wrote {path}")


def read_results(path: Path, makers: str, kind: Any = None) -> tuple[Any, list[dict]]:
    """What `write_results` wrote.

    Args:
      path: the file.
      makers: the commands that write such files, for the message.
      kind: class of the protocol; None if it is not needed.

    Returns:
      The protocol, or None, and the records.

    Raises:
      ValueError: the file holds no records, or another protocol.
    """
    try:
        content = json.loads(path.read_text())
        if not content["records"]:
            raise ValueError("it has no runs")
        fields = content["config"] if kind else {}
        tuples = {n: tuple(v) for n, v in fields.items() if isinstance(v, list)}
        return kind and kind(**{**fields, **tuples}), content["records"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a results file of {makers}: {error!r}; give another one"
        ) from error


def show(text: str, stem: Path, figures: Callable[[], Mapping[str, Any]]) -> None:
    """Prints a report and writes its figures, where there is matplotlib.

    Args:
      text: the report.
      stem: of their files, STEM-KIND.png, or STEM.png where a kind is "".
      figures: () -> kind -> figure.
    """
    print(text)
    try:
        for kind, figure in figures().items():
            path = stem.with_name(f"{stem.name}{kind and '-'}{kind}.png")
            plots.save(figure, path)
            print(f"wrote {path}")
    except ImportError as error:
        print(f"no figures: {error}", file=sys.stderr)


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
        options: dict[str, Any] = dict(capture_output=True, text=True, check=True)
        folder = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=folder, **options).stdout.strip()

    try:
        described = git("describe", "--always", "--abbrev=12")
        # Results that were written a minute ago do not make the code another one.
        folders = "experiments", "benchmarks"
        results = [f":(top,exclude){folder}/results" for folder in folders]
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
