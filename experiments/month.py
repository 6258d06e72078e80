"""A month of labelling with simulated annotators, and what asking by their time saves.

`endurance` labels 30 batches of Fashion-MNIST through `jal.session`: two annotators who
err and are slow on some images (`experiments.month_people`), whose answers come late,
twice and in any order, and a process that is killed again and again. `cost` compares
asking by information alone with asking by information per second.

Run `python -m experiments.month`.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm.auto import tqdm

from experiments import runs
from experiments.month_cost import Arm, figure, run_arm, summarize, table
from experiments.month_people import SECONDS, Config, annotation, check_times, people
from experiments.month_recipe import keep_compiled, recipe
from jal import plots
from jal._core import files
from jal.session import Annotation, Session

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
OUT = Path("outputs/month")


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
    keep_compiled(folder.parent / "compiled")
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


@app.command(name="cost")
def compare_cost(
    data: Annotated[str, typer.Option(help="Of the images.")] = "fashion_mnist",
    times: Annotated[
        str, typer.Option(help=f"Of people: {', '.join(SECONDS)}.")
    ] = "dark",
    betas: Annotated[str, typer.Option(help="Besides 0; separated by commas.")] = "0.3",
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The others follow.")] = 0,
    rounds: Annotated[int, typer.Option(min=2, help="Batches.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = Config.steps,
    passes: Annotated[int, typer.Option(min=2, help="With dropout.")] = Config.passes,
    test: Annotated[int, typer.Option(min=10, help="Items that measure.")] = 2000,
    workers: Annotated[int, typer.Option(min=0, help="0: one a core.")] = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """Seconds of annotation to the same accuracy, with and without asking by time.

    Example: python -m experiments.month cost --betas 0.3,0.5 --seeds 5
    """
    config = Config(
        data, rounds=rounds, test=test, times=times, steps=steps, passes=passes
    )
    check_times(times)
    chosen = range(first_seed, first_seed + seeds)
    arms = [Arm("beta 0", 0.0)]
    arms += [Arm(f"beta {b}", float(b)) for b in betas.split(",")]
    records = runs.run_all(
        run_arm,
        config,
        arms,
        chosen,
        out / "cost",
        workers=workers or len(runs.cores()),
        data_dir=data_dir,
    )
    summary = summarize(records)
    content = {
        "command": f"python -m experiments.month {shlex.join(sys.argv[1:])}",
        **runs.provenance(config, chosen),
        "summary": summary,
        "records": records,
    }
    files.write_json(out / "cost.json", content)
    print("\n".join(table(summary)))
    plots.save(figure(records), out / "cost.png")
    print(f"wrote {out / 'cost.json'} and .png")


@app.command(name="table")
def show_table(
    results: Annotated[list[Path], typer.Argument(help="What cost has written.")],
    first_seed: Annotated[int, typer.Option(min=0, help="Leave out those below.")] = 0,
    seeds: Annotated[int, typer.Option(min=2, help="From there on.")] = 1000,
) -> None:
    """The table of results that are there, or of some of their seeds.

    Example: python -m experiments.month table cost.json --first-seed 5 --seeds 11
    """
    records = []
    for path in results:
        try:
            records += json.loads(path.read_text())["records"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise typer.BadParameter(f"{path} holds no records ({error})") from error
    chosen = range(first_seed, first_seed + seeds)
    records = [record for record in records if record["seed"] in chosen]
    if not records:
        raise typer.BadParameter("there are no such seeds")
    print(f"{len({record['seed'] for record in records})} seeds")
    print("\n".join(table(summarize(records))))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app()
