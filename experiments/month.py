"""A month of labelling with simulated annotators, and what asking by their time saves.

`endurance` labels 30 batches of Fashion-MNIST through `jal.session`: two annotators who
err and are slow on some images, whose answers come late, twice and in any order, and a
process that is killed again and again. `cost` compares asking by information alone with
asking by information per second.

The annotators, as they were written down before anything was run:

* What they say is wrong with a probability of the image's own, drawn from a Beta
  distribution with the mean (.048) and SD (.100) of how often people err on an image of
  CIFAR-10H; the wrong label is that of the class most alike (`LIKE`).
* The median time of an image is `BASE` of its class, 2 to 8 seconds, more for classes
  that are easily confused, plus .02 seconds for each pixel of its outline; the time of
  an answer is log-normal about it, sigma .4.

Run `python -m experiments.month`.
"""

import contextlib
import dataclasses
import functools
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from experiments import datasets, paired, runs
from jal import acquisition, cost, driver, files, learners, networks, plots, strategies
from jal import pool as pools
from jal.annotations import Annotation
from jal.session import Recipe, Session

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
OUT = Path("outputs/month")
ERROR_MEAN, ERROR_SD = 0.048, 0.100
# T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot: how
# easily confused, 0 to 9, and with what.
RANKS = (6, 0, 8, 5, 7, 4, 9, 3, 1, 2)
LIKE = (6, 3, 4, 0, 2, 7, 0, 9, 5, 7)
BASE = cost.class_base_cost(RANKS, low=2.0, high=8.0)
OUTLINE, SIGMA = 0.02, 0.4
ANNOTATORS = ("ann", "bob")


@dataclasses.dataclass(frozen=True)
class Config:
    """The protocol of both parts.

    Attributes:
      data: name of the data set, or path of an .npz file.
      items: of the pool, drawn at random from the training images.
      k: items of a batch.
      rounds: batches.
      test: held-out labels that measure accuracy; 0 for none.
      late: share of a batch's answers that come after the next batch was asked for.
      steps: of Adam, batches of 32, from scratch for every batch.
      passes: with dropout.
      candidates: of a round, drawn at random.
    """

    data: str = "fashion_mnist"
    items: int = 20_000
    k: int = 50
    rounds: int = 30
    test: int = 0
    late: float = 0.1
    steps: int = 200
    passes: int = 10
    candidates: int = 2000


class People(NamedTuple):
    """What annotators would say of each item of a pool (N items).

    Attributes:
      images: [N, 28, 28, 1] uint8.
      truth: [N] classes.
      said: [A, N] classes, of each annotator.
      seconds: [A, N].
    """

    images: np.ndarray
    truth: np.ndarray
    said: np.ndarray
    seconds: np.ndarray


@functools.cache
def people(config: Config, seed: int, data_dir: str | None) -> People:
    """A pool, and its annotators."""
    items = config.items
    data = datasets.load(config.data, data_dir=data_dir, progress=False)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.labels))[:items]
    images, truth = data.images[rows], data.labels[rows]
    concentration = ERROR_MEAN * (1 - ERROR_MEAN) / ERROR_SD**2 - 1
    hardness = rng.beta(
        ERROR_MEAN * concentration, (1 - ERROR_MEAN) * concentration, items
    )
    wrong = rng.random((len(ANNOTATORS), items)) < hardness
    said = np.where(wrong, np.array(LIKE)[truth], truth)
    median = cost.annotation_cost(
        jnp.asarray(images), jnp.asarray(truth), base=jnp.asarray(BASE), slope=OUTLINE
    )
    noise = rng.normal(0, SIGMA, (len(ANNOTATORS), items))
    seconds = np.round(np.asarray(median) * np.exp(noise), 3)
    return People(images, truth, said, seconds)


@functools.cache
def recipe(config: Config) -> Recipe:
    """A small CNN and BALD; the cost is learned by a network of the same kind."""
    example = np.zeros((1, 28, 28, 1), np.uint8)
    options: Any = dict(steps=config.steps, batch_size=32)
    learner = learners.supervised(
        *networks.from_linen(networks.small_cnn(), example), optax.adam(1e-3), **options
    )
    cost_learner = learners.regressor(
        *networks.from_linen(networks.small_cnn(None), example),
        optax.adam(1e-3),
        log_targets=True,
        **options,
    )
    return Recipe(
        learner,
        lambda beta: strategies.from_scores(
            acquisition.bald, num_samples=config.passes, beta=beta, batch_size=500
        ),
        cost_learner,
        propose=pools.random_subset(min(config.candidates, config.items // 2)),
    )


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


def annotation(world: People, who: int, item: int) -> Annotation:
    return Annotation(
        item,
        int(world.said[who, item]),
        ANNOTATORS[who],
        float(world.seconds[who, item]),
    )


# Endurance.


def work(folder: Path, config: Config, disorder: int | None) -> None:
    """Asks and tells until all batches are answered, from wherever the folder is.

    Args:
      folder: of the session; `phases.log` there receives a line as each step ends.
      config: the protocol.
      disorder: None tells each batch once and in order; a seed tells it in parts, in
        another order, and some of it twice.
    """
    world, made = people(config, 0, None), recipe(config)
    try:
        session = Session.open(folder, world.images, made)
    except FileNotFoundError:
        session = Session.create(
            folder, world.images, made, classes=[f"class {c}" for c in range(10)]
        )
    with open(folder / "phases.log", "a") as log:

        def ended(what: str) -> None:
            log.write(what + "\n")
            log.flush()

        def tell(told: list[Annotation]) -> None:
            if disorder is None or not told:
                session.store.tell(told)
                return
            rng = np.random.default_rng([disorder, len(told)])
            order = rng.permutation(len(told))
            for part in np.array_split(order, 3):
                again = rng.choice(order, max(1, len(part) // 3))
                session.store.tell([told[i] for i in [*part, *again]])
                ended("told a part")

        while True:
            batches = session.store.batches()
            late = []
            if batches:
                for batch in batches[-2:]:
                    is_last = batch is batches[-1]
                    said = answers(config, batch.number, batch.items)
                    late = [
                        annotation(world, w, i) for w, i, is_late in said if is_late
                    ]
                    on_time = [annotation(world, w, i) for w, i, l in said if not l]
                    tell(on_time if is_last else late)
            if len(batches) == config.rounds:
                tell(late)
                ended("done")
                return
            ended("asking")
            # One batch in ten measures.
            session.ask(config.k, another=True, test=len(batches) % 10 == 5)
            ended(f"asked {len(batches) + 1}")


def _keep_compiled(folder: Path) -> None:
    """What one process compiles the next ones need not."""
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def state_of(folder: Path, config: Config) -> dict:
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


DataDir = Annotated[
    str | None, typer.Option(help="TFDS directory; default: TFDS_DATA_DIR.")
]
Out = Annotated[Path, typer.Option(help="Folder of sessions and results.")]


@app.command(hidden=True)
def worker(
    folder: Path, data: str, items: int, k: int, rounds: int, disorder: int = -1
) -> None:
    """One life of the process that is killed."""
    config = Config(data, items=items, k=k, rounds=rounds)
    _keep_compiled(folder.parent / "compiled")
    folder.mkdir(parents=True, exist_ok=True)
    work(folder, config, None if disorder < 0 else disorder)


@app.command()
def endurance(
    kills: Annotated[int, typer.Option(min=0, help="How often it is killed.")] = 50,
    items: Annotated[int, typer.Option(min=100, help="Of the pool.")] = 20_000,
    k: Annotated[int, typer.Option("-k", min=1, help="Items of a batch.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="Batches.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of the moments of death.")] = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """A month twice: undisturbed, and killed, with answers in disorder.

    Example: python -m experiments.month endurance --kills 50
    """
    calm, wild, log = out / "calm", out / "wild", out / "deaths.jsonl"
    # A small file, so that a life does not begin with decoding all images.
    out.mkdir(parents=True, exist_ok=True)
    pool = out / "fashion_mnist-part.npz"
    world = people(Config(items=items), 0, data_dir)
    np.savez(
        pool,
        images=world.images,
        labels=world.truth,
        test_images=world.images[:10],
        test_labels=world.truth[:10],
    )
    config = Config(str(pool), items=items, k=k, rounds=rounds)
    command = [sys.executable, "-m", "experiments.month", "worker"]
    sizes = [str(pool), str(items), str(k), str(rounds)]
    subprocess.run([*command, str(calm), *sizes], check=True)
    rng = np.random.default_rng(seed)
    # Goes on after an interruption: all of it is on the disk.
    deaths = [line["after"] for line in files.read_lines(log)]
    lives = len(deaths)
    with tqdm(total=kills, initial=lives, unit="kill") as bar:
        while True:
            disorder = ["--disorder", str(lives)]
            process = subprocess.Popen([*command, str(wild), *sizes, *disorder])
            lives += 1
            if len(deaths) >= kills:
                process.wait()
            else:
                _wait_for(process, wild / "phases.log", int(rng.integers(1, 9)))
                # At once, or somewhere while it asks.
                pause = rng.uniform(0, rng.choice([0.05, 3.0]))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(float(pause))
            if process.poll() is not None:
                if process.returncode:
                    raise SystemExit(f"the worker failed ({process.returncode})")
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            lines = (wild / "phases.log").read_text().splitlines()
            deaths.append(lines[-1] if lines else "before the first batch")
            files.append_line(log, {"after": deaths[-1], "steps": len(lines)})
            bar.update(1)
    found, expected = (state_of(f, config) for f in (wild, calm))
    same = {name: _same(found[name], expected[name]) for name in found}
    last = {
        text: sum(death.startswith(text) for death in deaths)
        for text in ("before", "asking", "asked", "told a part")
    }
    content = {
        "command": f"python -m experiments.month {shlex.join(sys.argv[1:])}",
        **runs.provenance(config, [seed]),
        "kills": len(deaths),
        "lives": lives,
        "last_step_before_death": last,
        "same": same,
        "answers": len(found["answers"]),
        "status": found["status"],
    }
    files.write_json(out / "endurance.json", content)
    status = found["status"]
    print(
        f"killed {len(deaths)} times, in {lives} lives; the last step that had ended: "
        + ", ".join(f"{name} {number}" for name, number in last.items())
    )
    print(
        f"{len(found['answers'])} answers, {status.labeled} labels, {status.waiting} "
        f"waiting, {len(status.disputed)} disputed, {status.seconds / 3600:.1f} hours"
    )
    for name, is_same in same.items():
        print(f"{name}: {'the same' if is_same else 'DIFFERENT'}")
    print(f"wrote {out / 'endurance.json'}")
    if not all(same.values()):
        raise typer.Exit(1)


def _wait_for(process: subprocess.Popen, log: Path, number: int) -> None:
    """Until that many more steps have ended, or the process has."""
    lines = lambda: log.read_bytes().count(b"\n") if log.exists() else 0
    last = lines() + number
    while lines() < last and process.poll() is None:
        time.sleep(0.02)


def _same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return files.as_json(a) == files.as_json(b)


# What asking by their time saves.


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
    _keep_compiled(folder.parent.parent / "compiled")
    world, made = people(config, seed, data_dir), recipe(config)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"config": dataclasses.asdict(config)}
    files.write_json(folder / driver.RUN_FILE, identity)
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
        files.append_line(folder / driver.ROUNDS_FILE, {"batch": batch.number})
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
        session.store.tell([annotation(world, 0, int(item)) for item in items])


def _has_labels(session: Session) -> bool:
    return session.status().labeled > 0


def smooth(values) -> np.ndarray:
    """Running mean of three, of two at the ends."""
    padded = np.pad(np.asarray(values, float), 1, constant_values=np.nan)
    return np.nanmean(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def seconds_to(record: dict, accuracy: float) -> float:
    """Seconds when the smoothed accuracy first is reached, between batches linearly."""
    curve, seconds = smooth(record["accuracy"]), np.asarray(record["seconds"], float)
    first = int(np.argmax(curve >= accuracy))
    if first == 0:
        return float(seconds[0])
    low, high = curve[first - 1], curve[first]
    share = (accuracy - low) / (high - low)
    return float(seconds[first - 1] + share * (seconds[first] - seconds[first - 1]))


def summarize(records: list[dict], base: str = "beta 0") -> dict:
    """Time of each arm against that of beta = 0, to the same accuracy, by seed.

    The accuracy is the highest that both reach with that seed: the lower one of their
    best smoothed accuracies.
    """
    arms: dict[str, dict[int, dict]] = {}
    for record in records:
        arms.setdefault(record["arm"], {})[record["seed"]] = record
    found = {}
    for name, by_seed in arms.items():
        ratios, ends = {}, {}
        for seed, record in by_seed.items():
            other = arms[base][seed]
            target = min(smooth(r["accuracy"]).max() for r in (record, other))
            ratios[seed] = seconds_to(record, target) / seconds_to(other, target) - 1
            ends[seed] = record["seconds"][-1]
        found[name] = {
            "time_to_the_same_accuracy": paired.mean_interval(ratios.values()),
            "by_seed": ratios,
            "seconds": paired.mean_interval(ends.values()),
            "accuracy": paired.mean_interval(
                smooth(r["accuracy"])[-1] for r in by_seed.values()
            ),
        }
    return found


@app.command(name="cost")
def compare_cost(
    betas: Annotated[str, typer.Option(help="Besides 0; separated by commas.")] = "0.3",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 5,
    rounds: Annotated[int, typer.Option(min=2, help="Batches.")] = 20,
    workers: Annotated[int, typer.Option(min=0, help="0: one a core.")] = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """Seconds of annotation to the same accuracy, with and without asking by time.

    Example: python -m experiments.month cost --betas 0.3,0.5 --seeds 5
    """
    config = Config(rounds=rounds, test=2000)
    arms = [Arm("beta 0", 0.0)]
    arms += [Arm(f"beta {b}", float(b)) for b in betas.split(",")]
    records = runs.run_all(
        run_arm,
        config,
        arms,
        range(seeds),
        out / "cost",
        workers=workers or len(runs.cores()),
        data_dir=data_dir,
    )
    summary = summarize(records)
    content = {
        "command": f"python -m experiments.month {shlex.join(sys.argv[1:])}",
        **runs.provenance(config, range(seeds)),
        "summary": summary,
        "records": records,
    }
    files.write_json(out / "cost.json", content)
    rows = [
        [
            name,
            paired.value_text(paired.scaled(each["seconds"], 1 / 60), ".0f"),
            paired.value_text(each["accuracy"], ".1%"),
            paired.value_text(each["time_to_the_same_accuracy"], "+.1%"),
        ]
        for name, each in summary.items()
    ]
    header = ["arm", "minutes in all", "accuracy", "time to the same accuracy"]
    print("\n".join(paired.table(header, rows)))
    plots.save(figure(records), out / "cost.png")
    print(f"wrote {out / 'cost.json'} and .png")


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
    axes.set_ylabel("accuracy on 2,000 held-out labels, %")
    axes.legend(frameon=False)
    return drawn


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app()
