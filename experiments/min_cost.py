"""Labelling a whole data set at minimum cost: MCAL beside people and fixed batches.

Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active labeling"
(2023). `min_cost_runs` has the protocol, `min_cost_report` what is made of the results,
`min_cost_worlds` errors by formula. Run `python -m experiments.min_cost`.
"""

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import stats
from tqdm.auto import tqdm

from experiments import min_cost_report as report
from experiments import min_cost_worlds as worlds
from experiments import paired, runs
from experiments.min_cost_runs import (
    DEFAULT,
    NETWORKS,
    PRICES,
    Arm,
    Config,
    adaptive,
    fixed,
    load_data,
    run_arm,
)
from jal import plots
from jal._core import files
from jal.mcal import Terms, TrainingPrice

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
Seeds = Annotated[
    int, typer.Option(min=1, help="Runs of each method, with seeds 0, 1, ...")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes at a time; 0: one a core.")
]
Out = Annotated[Path, typer.Option(help="Folder of journals and results.")]
OUT = Path("outputs/min_cost")
Dataset = Annotated[
    str,
    typer.Option(help="fashion_mnist, mnist, cifar10, or the path of an .npz file."),
]
NetworkName = Annotated[str, typer.Option(help=f"One of: {', '.join(NETWORKS)}.")]
Epochs = Annotated[int, typer.Option(min=1, help="Of each training.")]
Augment = Annotated[
    bool, typer.Option("--augment", help="Shift and mirror the training images.")
]
DataDir = Annotated[
    str | None, typer.Option(help="TFDS directory; default: TFDS_DATA_DIR.")
]
BATCHES = (0.01, 0.02, 0.035, 0.05, 0.1, 0.15, 0.2)


@app.command()
def table2(
    data: Dataset = "fashion_mnist",
    network: NetworkName = DEFAULT,
    epochs: Epochs = 20,
    augment: Augment = False,
    seeds: Seeds = 3,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """MCAL at two prices and by two constraints, beside people alone (Table 2).

    Example: python -m experiments.min_cost table2 --data fashion_mnist --seeds 3
    """
    config = Config(data, epochs=epochs, augment=augment)
    arms = table2_arms(_names(network))
    _compare("table2", config, arms, seeds, workers, out, data_dir)


@app.command()
def sweep(
    data: Dataset = "fashion_mnist",
    batches: Annotated[
        str, typer.Option(help="Shares of the pool, separated by commas.")
    ] = ",".join(map(str, BATCHES)),
    network: NetworkName = DEFAULT,
    epochs: Epochs = 20,
    augment: Augment = False,
    seeds: Seeds = 3,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """MCAL beside active learning with batches of 1 to 20 % (Figures 5 to 12).

    Example: python -m experiments.min_cost sweep --data fashion_mnist --seeds 3
    """
    config = Config(data, epochs=epochs, augment=augment)
    arms = table2_arms(_names(network), constraints=("overall",))
    arms += [fixed(share, network) for share in _shares(batches)]
    _compare("sweep", config, arms, seeds, workers, out, data_dir)


@app.command()
def architectures(
    networks: Annotated[
        str, typer.Option(help=f"To choose from, of: {', '.join(NETWORKS)}.")
    ] = "small CNN,small ResNet",
    data: Dataset = "fashion_mnist",
    epochs: Epochs = 20,
    augment: Augment = False,
    seeds: Seeds = 1,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """MCAL choosing among networks, all of its exploration paid for.

    Example: python -m experiments.min_cost architectures --networks "ResNet-18,CNN-18"
    """
    config = Config(data, epochs=epochs, augment=augment)
    arms = table2_arms(_names(networks), constraints=("overall",))
    _compare("architectures", config, arms, seeds, workers, out, data_dir)


@app.command()
def fits(
    results: Annotated[
        Path, typer.Argument(help="A JSON file that sweep wrote, with small batches.")
    ],
    theta: Annotated[float, typer.Option(help="Share whose errors are drawn.")] = 0.5,
) -> None:
    """Power laws of the first 3, 5, 7, 9 rounds beside later ones (Figures 13 to 21).

    Example: python -m experiments.min_cost fits outputs/min_cost/sweep-mnist.json
    """
    with _mistakes():
        records = _read(results)
        longest = max(records, key=lambda record: len(record["rounds"]))
        table, figure = report.fits(longest, theta)
        print(
            f"Root mean square error of ln eps in {table['later_rounds']} later "
            f"rounds, of {longest['arm']}, seed {longest['seed']}:"
        )
        points = list(table["rms"]["plain"])
        rows = [
            [name, *(f"{row[number]:.3f}" for number in points)]
            for name, row in table["rms"].items()
        ]
        header = ["law", *(f"{number} points" for number in points)]
        print("\n".join(paired.table(header, rows)))
        path = results.with_name(results.stem + "-fits")
        files.write_json(path.with_suffix(".json"), {"command": _command(), **table})
        plots.save(figure, path.with_suffix(".png"))
        print(f"wrote {path}.json and .png")


@app.command()
def simulate(
    number: Annotated[int, typer.Option(min=1, help="Worlds, and seeds.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the worlds.")] = 0,
    out: Out = OUT,
) -> None:
    """Errors by formula: how near MCAL comes to the optimum, and to the limit.

    Example: python -m experiments.min_cost simulate --number 200
    """
    price = TrainingPrice(per_image=0.0003)
    content: dict[str, Any] = {
        "command": _command(),
        **runs.provenance(Config("worlds"), [seed]),
        "worlds": {},
        "constraint": {},
    }
    edges = np.linspace(1, 1.5, 41)
    drawn = {}
    for service, label_price in PRICES.items():
        for slack in (0.02, 0.05):
            for noise in (False, True):
                name = f"{service}, slack {slack:g}, " + (
                    "3,000 test items" if noise else "exact errors"
                )
                terms = Terms(60_000, 3000, label_price, slack=slack)
                rows = [
                    _one_world(world, terms, price, place if noise else None)
                    for place, world in enumerate(
                        tqdm(worlds.draw(number, seed), desc=name, leave=False)
                    )
                ]
                content["worlds"][name] = _world_statistics(rows)
                ratios = np.array([row["ratio"] for row in rows])
                drawn[name] = np.histogram(ratios.clip(1, edges[-1]), edges)[0]
                print(_world_text(name, content["worlds"][name]))
    for name, world in LIMIT_WORLDS.items():
        for confidence in (None, 1.645):
            terms = Terms(
                20_000,
                1000,
                0.04,
                first_batch=200,
                grid_step=200,
                confidence=confidence,
            )
            wrong = [
                worlds.label_world(world, terms, price, seed=each)[1]
                for each in tqdm(range(number), desc=name, leave=False)
            ]
            held = int(np.sum(np.array(wrong) < terms.max_error))
            low = stats.binomtest(held, number, alternative="greater")
            bound = float(low.proportion_ci(0.95).low)
            key = f"{name}, " + ("Wilson's bound" if confidence else "no bound")
            content["constraint"][key] = {
                "runs": number,
                "held": held,
                "at_least": bound,
                "error": paired.mean_interval(wrong),
                "most": max(wrong),
            }
            print(
                f"{key}: fewer than 5 % wrong in {held} of {number} runs, with 95 % "
                f"confidence in at least {bound:.1%}; {np.mean(wrong):.2%} wrong on "
                f"average, {max(wrong):.2%} at most"
            )
    path = out / "simulate.json"
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(path, content)
    figure = plots.histograms(
        drawn,
        edges,
        x_label="cost / cost of the best (B, theta, rounds); 1.5 and more at the end",
        y_label="share of the worlds",
        title=f"{number} worlds",
    )
    plots.save(figure, path.with_suffix(".png"))
    print(f"wrote {path} and .png")


# Errors that fall on hard items, which are bought, and errors that fall anywhere.
LIMIT_WORLDS = {
    "errors among hard items": worlds.World(4, 0.02, 0.35, 60_000),
    "errors anywhere": worlds.World(0, 1.0, 0.3, 60_000),
}


def _one_world(world, terms, price, seed) -> dict:
    best = worlds.optimum(world, terms, price)
    ended = worlds.simulate(world, terms, price, seed=seed)
    return {
        "ratio": ended["cost"] / best["cost"],
        "of_humans": ended["cost"] / (terms.num_items * terms.price),
        "rounds": len(ended["rounds"]),
    }


def _world_statistics(rows) -> dict:
    ratios = np.array([row["ratio"] for row in rows])
    return {
        "within_3_percent": float(np.mean(ratios <= 1.03)),
        "ratio_quantiles": {
            str(q): float(np.quantile(ratios, q)) for q in (0.05, 0.5, 0.9, 0.97, 1)
        },
        "most_of_human_cost": max(row["of_humans"] for row in rows),
        "rounds": paired.mean_interval(row["rounds"] for row in rows),
    }


def _world_text(name, found) -> str:
    quantiles = found["ratio_quantiles"]
    return (
        f"{name}: {found['within_3_percent']:.1%} of the worlds within 3 % of their "
        f"optimum; cost / optimum {quantiles['0.5']:.3f} (median), "
        f"{quantiles['0.9']:.3f} (90 %), {quantiles['1']:.3f} (most); at most "
        f"{found['most_of_human_cost']:.1%} of people alone"
    )


def table2_arms(
    candidates: tuple[str, ...] = (DEFAULT,), constraints=("overall", "set")
) -> list[Arm]:
    """MCAL at the price of each service, by each constraint."""
    return [
        adaptive(service, constraint, candidates)
        for constraint in constraints
        for service in PRICES
    ]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in NETWORKS]
    if unknown or len(set(names)) < len(names):
        typer.echo(
            f"error: networks {text!r}; each once, and only of: {', '.join(NETWORKS)}",
            err=True,
        )
        raise typer.Exit(2)
    return names


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not shares or not all(0 < share < 1 for share in shares):
        typer.echo(
            f"error: --batches {text!r}; expected shares above 0 and below 1, such as "
            "0.05,0.1",
            err=True,
        )
        raise typer.Exit(2)
    return shares


@contextlib.contextmanager
def _mistakes():
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _command() -> str:
    return f"python -m experiments.min_cost {shlex.join(sys.argv[1:])}"


def _read(path: Path) -> list[dict]:
    try:
        records = json.loads(path.read_text())["records"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a results file of sweep or table2") from error
    if not records:
        raise ValueError(f"{path} has no runs")
    return records


def _compare(command, config, arms, seeds, workers, out, data_dir):
    name = Path(config.data).stem
    with _mistakes():
        load_data(config, data_dir)
        records = runs.run_all(
            run_arm,
            config,
            arms,
            range(seeds),
            out / name,
            workers=workers or len(runs.cores()),
            data_dir=data_dir,
        )
        summary = report.summarize(records, name)
        path = out / f"{command}-{name}.json"
        content = {
            "command": _command(),
            **runs.provenance(config, range(seeds)),
            "summary": summary,
            "records": records,
        }
        files.write_json(path, content)
        print(f"wrote {path}")
        print(report.format_summary(summary))
        for kind, figure in report.figures(records, name).items():
            picture = path.with_name(f"{path.stem}-{kind}.png")
            plots.save(figure, picture)
            print(f"wrote {picture}")


if __name__ == "__main__":
    app()
