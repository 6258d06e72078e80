"""Cost-sensitive active learning on images: the paper's Table 1 and Figure 1.

Bernatchez, Durand and Lavoie-Cardinal, "Annotation cost-sensitive deep active learning
with limited data" (2022). A stream shows N candidates a round, n of them are labelled
by v = I^alpha / C^beta, the rest is gone. Run `python -m experiments.cost_sensitive`.
"""

import dataclasses
import functools
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer

from experiments import analysis, datasets, report, runs
from jal import acquisition, cost, learners, loop, nn, plots, pool, scorers, strategies
from jal._core import files
from jal.types import Data, Learner


class Arm(NamedTuple):
    """One of the methods compared.

    Attributes:
      name: in tables and file names.
      score: name of an acquisition function, or None for random.
      beta: exponent of the cost.
      learned: whether the cost is predicted instead of known.
    """

    name: str
    score: str | None
    beta: float = 0.0
    learned: bool = False


RANDOM = Arm("random", None)
UNCERTAINTY = tuple(Arm(name, name) for name in ("bald", "entropy", "mean_std"))
BETAS = tuple(
    Arm(f"mean_std beta={beta}", "mean_std", beta)
    for beta in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
)
LEARNED = Arm("learned beta=0.3", "mean_std", 0.3, learned=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that, with an arm and a seed, determines a run.

    Attributes:
      data: "digits", "mnist", "fashion_mnist" or the path of an `.npz` file.
      network: "gal" (the published one), "small" (a tenth of its work), "digits" (8x8).
      rounds: T, rounds in which items are bought.
      candidates: N, candidates of a round.
      picks: n, items bought a round.
      per_class: initial items of each class.
      passes: MC-dropout passes for the acquisition.
      steps: Adam steps a round.
      batch_size: of these steps.
      restart: train from scratch in every round instead of going on (warm start).
      learning_rate: of Adam.
      l2: c of the penalty c / |L| * sum(w^2) on the first dense layer.
      estimator: of the perimeter, see `jal.cost.perimeter`.
      base_scale: factor on the base cost of the classes.
      evaluate_rounds: when the test accuracy is measured; empty for every round.
      redraw: serve what was never bought again when the stream has run dry.
    """

    data: str = "digits"
    network: str = "digits"
    rounds: int = 30
    candidates: int = 40
    picks: int = 5
    per_class: int = 2
    passes: int = 32
    steps: int = 100
    batch_size: int = 32
    restart: bool = False
    learning_rate: float = 1e-3
    l2: float = 1.0
    estimator: str = "benkrid_crookes"
    base_scale: float = 1.0
    evaluate_rounds: tuple[int, ...] = ()
    redraw: bool = True


def table1_config(**changes) -> Config:
    """The protocol of Table 1: 48 disjoint sets of 1,000 candidates, 10 bought."""
    protocol = dict(rounds=48, candidates=1000, picks=10, redraw=False)
    return Config(**{**protocol, **changes})


NETWORKS = {
    "gal": nn.GalCNN,
    "small": nn.small_cnn,
    "digits": functools.partial(nn.GalCNN, kernel=3, channels=(16, 32), dense=64),
}


@functools.cache
def load_data(config: Config, data_dir: str | None) -> tuple[Data, int]:
    """The pool with its annotation costs, and the number of classes."""
    images = datasets.load(config.data, data_dir=data_dir, progress=False)
    costs = images.costs
    if costs is None:
        costs = _annotation_cost(config, images)
    data = Data(
        x=jnp.asarray(images.images),
        y=jnp.asarray(images.labels),
        cost=jnp.asarray(costs, jnp.float32),
        test=(jnp.asarray(images.test_images), jnp.asarray(images.test_labels)),
    )
    return data, images.num_classes


def _annotation_cost(config: Config, images: datasets.ImageData) -> jax.Array:
    """Base cost of the class plus perimeter, in arbitrary cost units."""
    if images.num_classes == len(cost.MNIST_BASE_COST):
        base = config.base_scale * np.asarray(cost.MNIST_BASE_COST, np.float32)
    else:  # no pilot says which classes are informative: all alike
        mean = config.base_scale * np.mean(cost.MNIST_BASE_COST)
        base = np.full(images.num_classes, mean, np.float32)
    return cost.annotation_cost(
        jnp.asarray(images.images.mean(axis=-1)),
        jnp.asarray(images.labels),
        base=jnp.asarray(base),
        estimator=config.estimator,
    )


@functools.cache
def build(config: Config, arm: Arm, num_classes: int, shape: tuple[int, ...]):
    """Learner, strategy and cost learner of an arm: one set for all seeds."""
    example = np.zeros((1, *shape), np.uint8)
    training: dict[str, Any] = dict(
        optimizer=optax.adam(config.learning_rate),
        steps=config.steps,
        batch_size=config.batch_size,
        restart=config.restart,
    )
    network = NETWORKS[config.network]
    learner = learners.supervised(
        *nn.from_linen(network(outputs=num_classes), example),
        penalty=lambda params, count: (
            config.l2 / count * jnp.sum(jnp.square(params["DropoutDense_0"]["kernel"]))
        ),
        **training,
    )
    strategy = strategies.random()
    if arm.score is not None:
        strategy = strategies.from_scores(
            scorers.passes(getattr(acquisition, arm.score), config.passes),
            beta=arm.beta,
        )
    how_cost_is_known = "known"
    if arm.learned:
        how_cost_is_known = learners.regressor(
            *nn.from_linen(network(outputs=None), example), **training
        )
    return learner, strategy, how_cost_is_known


def observe(data: Data, view, _) -> dict[str, jax.Array]:
    """What the candidates cost in truth, and by how much the prediction is off."""
    mean = lambda values: jnp.mean(values, where=view.available)
    true = jnp.asarray(data.cost)[view.candidates]
    return {"mean_cost": mean(true), "cost_bias": mean(view.cost - true)}


def run_arm(
    config: Config, arm: Arm, seed: int, folder: Path, data_dir: str | None = None
) -> dict:
    """One run, resumed from its checkpoint if it was interrupted.

    Args:
      config: the protocol.
      arm: the method.
      seed: of the initial set, the candidates, the training and the passes.
      folder: of this run alone; receives `record.json` when the run is done.
      data_dir: TFDS directory, or None for `TFDS_DATA_DIR`.

    Returns:
      The record, as `experiments.report` takes it.
    """
    wall, process = time.monotonic(), time.process_time()
    data, num_classes = load_data(config, data_dir)
    learner, strategy, how_cost_is_known = build(
        config, arm, num_classes, data.x.shape[1:]
    )
    key = jax.random.key(seed)
    initial = initial_set(config, key, data, num_classes)
    loop.check(
        data, initial, k=config.picks, rounds=config.rounds, num_classes=num_classes
    )
    _, infos = loop.drive(
        key,
        learner,
        strategy,
        data,
        initial=initial,
        k=config.picks,
        rounds=config.rounds,
        propose=_proposal(config),
        cost=how_cost_is_known,
        evaluate=_evaluate(learner),
        evaluate_rounds=config.evaluate_rounds or None,
        observe=observe,
        folder=folder,
        resume=True,
        progress=False,
        config={**dataclasses.asdict(config), "arm": arm.name},
    )
    observed = {
        name: np.where(np.arange(config.rounds + 1) < config.rounds, values, np.nan)
        for name, values in infos.observed.items()
    }
    record = files.as_json(
        {
            "arm": arm.name,
            "seed": seed,
            "accuracy": infos.metrics["accuracy"],
            "count": infos.count,
            "spend": infos.spend,
            "indices": infos.indices,
            "observed": observed,
            "commit": runs.commit(),
            "seconds": round(time.monotonic() - wall, 1),
            "cpu_seconds": round(time.process_time() - process, 1),
        }
    )
    files.write_json(folder / "record.json", record)
    return record


def initial_set(config: Config, key, data: Data, num_classes: int) -> jax.Array:
    """The same number of items of each class, the same for all arms of a seed."""
    return pool.balanced_indices(
        loop.round_key(key, 0, loop.INITIAL),
        data.y,
        per_class=config.per_class,
        num_classes=num_classes,
    )


@functools.cache
def _proposal(config: Config):
    return pool.stream(config.candidates, redraw=config.redraw)


@functools.cache
def _evaluate(learner: Learner):
    return learners.accuracy(learner, batch_size=1000)


def check_sizes(config: Config, data: Data, num_classes: int) -> None:
    """Raises ValueError where the protocol asks for more items than there are."""
    if config.network not in NETWORKS:
        raise ValueError(
            f"network={config.network!r}; allowed are {', '.join(NETWORKS)}"
        )
    smallest = int(np.bincount(np.asarray(data.y), minlength=num_classes).min())
    if smallest < config.per_class:
        raise ValueError(
            f"per_class={config.per_class}, but a class of {config.data} has only "
            f"{smallest} items"
        )
    num_items = data.y.shape[0]
    served = num_items - config.per_class * num_classes
    if config.picks > config.candidates:
        raise ValueError(
            f"picks={config.picks} of candidates={config.candidates}; picks cannot be "
            "more than the candidates of a round"
        )
    if config.candidates > served:
        raise ValueError(
            f"candidates={config.candidates}, but {config.data} has only {served} "
            "items beside the initial set; lower candidates"
        )
    if not config.redraw and config.rounds * config.candidates > served:
        raise ValueError(
            f"rounds * candidates = {config.rounds} * {config.candidates} = "
            f"{config.rounds * config.candidates}, but {config.data} has {served} "
            "items beside the initial set; lower one of them, or allow redraw"
        )


def run_all(
    config: Config,
    arms: Iterable[Arm],
    seeds: Iterable[int],
    folder: Path,
    *,
    workers: int = 1,
    data_dir: str | None = None,
) -> list[dict]:
    """`runs.run_all` of `run_arm`, after a look at the sizes."""
    check_sizes(config, *load_data(config, data_dir))
    return runs.run_all(
        run_arm, config, arms, seeds, folder, workers=workers, data_dir=data_dir
    )


app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
Seeds = Annotated[
    int, typer.Option(min=1, help="Runs of each arm, with seeds 0, 1, ...")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes at a time; 0: one a core.")
]
Out = Annotated[Path, typer.Option(help="Folder of checkpoints and results.")]
Dataset = Annotated[
    str, typer.Option(help="digits, mnist, fashion_mnist, or the path of an .npz file.")
]
DataDir = Annotated[
    str | None, typer.Option(help="TFDS directory; default: TFDS_DATA_DIR.")
]
Network = Annotated[str, typer.Option(help="gal, small, or digits (for 8x8 images).")]
Scratch = Annotated[
    bool, typer.Option(help="Train from scratch in every round, not from the last one.")
]


@app.command()
def demo(
    seeds: Seeds = 3,
    workers: Workers = 0,
    out: Out = Path("outputs/demo"),
    data: Dataset = "digits",
    data_dir: DataDir = None,
) -> None:
    """Five strategies side by side on scikit-learn's digits, in two minutes.

    Example: python -m experiments.cost_sensitive demo --seeds 3 --out outputs/demo
    """
    arms = (RANDOM, *UNCERTAINTY, BETAS[3])
    config = Config(data=data)
    if data != "digits":
        config = dataclasses.replace(config, network="small")
    records = _run(config, arms, seeds, out, workers, data_dir)
    print(report.format_demo(records))
    figures = {
        "accuracy-by-labels.png": ("count", "labels"),
        "accuracy-by-cost.png": (
            "spend",
            "annotation cost without the initial labels (arbitrary units)",
        ),
    }
    _save_curves(records, figures, out)
    _save_results("demo", config, seeds, records, None, out)


@app.command()
def table1(
    seeds: Seeds = 5,
    workers: Workers = 0,
    out: Out = Path("outputs/table1"),
    data: Dataset = "mnist",
    data_dir: DataDir = None,
    network: Network = "gal",
    scratch: Scratch = False,
    steps: Annotated[int, typer.Option(min=1, help="Adam steps a round.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="T, rounds of 10 labels.")] = 48,
) -> None:
    """Labels needed for 90 %, relative to random (Table 1 of the paper).

    Example: python -m experiments.cost_sensitive table1 --network gal --seeds 5
    """
    config = table1_config(
        data=data, network=network, rounds=rounds, steps=steps, restart=scratch
    )
    records = _run(config, (RANDOM, *UNCERTAINTY), seeds, out, workers, data_dir)
    summary = analysis.table1(records)
    print(report.format_table1(summary))
    _save_curves(records, {"table1.png": ("count", "labels")}, out)
    _save_results("table1", config, seeds, records, summary, out)


@app.command()
def figure1(
    seeds: Seeds = 3,
    workers: Workers = 0,
    out: Out = Path("outputs/figure1"),
    data: Dataset = "mnist",
    data_dir: DataDir = None,
    network: Network = "gal",
    scratch: Scratch = False,
    steps: Annotated[int, typer.Option(min=1, help="Adam steps a round.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="T, rounds of 10 labels.")] = 98,
) -> None:
    """Accuracy against annotation cost over beta (Figure 1 of the paper).

    Example: python -m experiments.cost_sensitive figure1 --network small --seeds 3
    """
    half = min(50, rounds)
    config = Config(
        data=data,
        network=network,
        rounds=rounds,
        candidates=1000,
        picks=10,
        steps=steps,
        restart=scratch,
        evaluate_rounds=tuple(sorted({*range(10, rounds, 10), half, rounds})),
    )
    records = _run(config, (RANDOM, *BETAS, LEARNED), seeds, out, workers, data_dir)
    summary = analysis.figure1(records, rounds=(half, rounds))
    print(report.format_figure1(summary))
    plots.save(plots.cost_accuracy(summary["points"]), out / "figure1.png")
    curves = {
        "figure1-curves.png": (
            "spend",
            "annotation cost without the initial labels (arbitrary units)",
        )
    }
    _save_curves(records, curves, out)
    _save_results("figure1", config, seeds, records, summary, out)


def _run(config, arms, seeds, out, workers, data_dir):
    try:
        return run_all(
            config,
            arms,
            range(seeds),
            out / "runs",
            workers=workers or len(runs.cores()),
            data_dir=data_dir,
        )
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _save_curves(records, figures, out):
    for name, (field, x_label) in figures.items():
        curves = analysis.curves(records, field)
        figure = plots.learning_curves(curves, x_label=x_label, target=0.9)
        plots.save(figure, out / name)
        print(f"wrote {out / name}")


def _save_results(name, config, seeds, records, summary, out):
    path = out / f"{name}.json"
    content = {
        "command": f"python -m experiments.cost_sensitive {shlex.join(sys.argv[1:])}",
        **runs.provenance(config, range(seeds)),
        "summary": summary,
        "records": records,
    }
    files.write_json(path, content)
    print(f"wrote {path}")


if __name__ == "__main__":
    app()
