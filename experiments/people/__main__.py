"""Simulated people: a month of labelling, what asking by time saves, first labels."""

import os
from pathlib import Path

from experiments.common import datasets, runs
from experiments.common.options import SHARED, Option, Program, changed
from experiments.people import cold_start, cost, month, report
from experiments.people.annotators import SECONDS, check_times
from experiments.people.protocol import Config, keep_compiled

program = Program("people", __doc__)
ROUNDS = Option(30, "Batches.", 1)
SEEDS = SHARED["seeds"]._replace(least=2)
FIRST_SEED = Option(0, "The others follow.", 0)


@program.command(
    folder=Option(Path, "Of the session."),
    data=Option(str, "The pool."),
    items=Option(int, "Of the pool."),
    k=Option(int, "Items of a batch."),
    rounds=Option(int, "Batches."),
    disorder=Option(-1, "Seed of the disorder; -1: none.", nargs="?"),
)
def worker(options) -> None:
    """One life of the process that is killed."""
    keep_compiled(options.folder.parent / "compiled")
    options.folder.mkdir(parents=True, exist_ok=True)
    disorder = None if options.disorder < 0 else options.disorder
    month.work(options.folder, changed(Config(), options), disorder)


@program.command(
    kills=Option(50, "How often it is killed.", 0),
    items=Option(20_000, "Of the pool.", 100),
    k=Option(50, "Items of a batch.", 1),
    rounds=ROUNDS,
    seed=Option(0, "Of the moments of death.", 0),
    out="outputs/month",
)
def endurance(options) -> None:
    """A month twice: undisturbed, and killed, with answers in disorder.

    Example: python -m experiments.people endurance --kills 50
    """
    pool = month.pool_file(options.out, options.items, options.data_dir)
    config = changed(Config(), options, data=str(pool))
    ends = dict(kills=options.kills, seed=options.seed)
    found, text = month.endure(options.out, config, **ends)
    print(text)
    path = options.out / "endurance.json"
    runs.write_results(path, options, config, [options.seed], **found)
    if not all(found["same"].values()):
        raise SystemExit(1)


@program.command(
    "cost",
    data="fashion_mnist",
    times=Option("dark", f"Of people: {', '.join(SECONDS)}."),
    betas=Option("0.3", "Besides 0; separated by commas."),
    seeds=SEEDS._replace(default=5),
    first_seed=FIRST_SEED,
    rounds=ROUNDS._replace(default=20, least=2),
    steps=Option(Config.steps, "Of training.", 1),
    passes=Option(Config.passes, "With dropout.", 2),
    test=Option(2000, "Items that measure.", 10),
    workers=0,
    out="outputs/month",
)
def compare_cost(options) -> None:
    """Seconds of annotation to the same accuracy, with and without asking by time.

    Example: python -m experiments.people cost --betas 0.3,0.5 --seeds 5
    """
    check_times(options.times)
    config = changed(Config(), options)
    arms = [cost.Arm("beta 0", 0.0)]
    arms += [cost.Arm(f"beta {b}", float(b)) for b in options.betas.split(",")]
    made_of = runs.Report(
        report.summarize,
        lambda records, summary: "\n".join(report.table(summary)),
        lambda records, summary: {"": report.figure(records)},
    )
    place = "cost", cost.run_arm, config, arms, options.out / "cost", made_of
    runs.compare(options, *place, seeds=_seeds(options))


@program.command(
    results=Option(Path, "What cost has written.", nargs="+"),
    first_seed=FIRST_SEED._replace(help="Leave out those below."),
    seeds=SEEDS._replace(default=1000),
)
def table(options) -> None:
    """The table of results that are there, or of some of their seeds.

    Example: python -m experiments.people table cost.json --first-seed 5 --seeds 11
    """
    files = [runs.read_results(path, "cost")[1] for path in options.results]
    chosen = _seeds(options)
    records = [run for each in files for run in each if run["seed"] in chosen]
    if not records:
        raise ValueError("there are no such seeds")
    print(f"{len({run['seed'] for run in records})} seeds")
    print("\n".join(report.table(report.summarize(records))))


@program.command(
    "cold-start",
    data=Option("mnist", "A name or an .npz file.", nargs="?"),
    items=Option(cold_start.Config.items, "Of the pool.", 100),
    labels=Option("10,20,50,100", "Separated by commas."),
    seeds=SEEDS._replace(default=10),
    out="outputs/cold_start",
)
def first_labels(options) -> None:
    """Accuracy of the first labels chosen at random, far apart, and typical of many.

    Example: python -m experiments.people cold-start mnist --seeds 10
    """
    loaded = datasets.load(options.data, data_dir=options.data_dir)
    size = min(options.items, len(loaded.labels))
    numbers = cold_start.numbers(options.labels, size)
    config = changed(cold_start.Config(), options, labels=numbers)
    records = cold_start.measure(config, loaded, options.seeds)
    summary = cold_start.summarize(records)
    name = Path(options.data).stem
    path, seeds = options.out / f"{name}.json", range(options.seeds)
    runs.write_results(path, options, config, seeds, summary=summary, records=records)
    drawn = lambda: {"": cold_start.figure(summary, name)}
    runs.show("\n".join(cold_start.table(summary)), options.out / name, drawn)


def _seeds(options) -> range:
    return range(options.first_seed, options.first_seed + options.seeds)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    program()
