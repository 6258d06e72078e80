"""Labelling a whole data set at minimum cost: MCAL beside people and fixed batches.

Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active labeling"
(2023). `min_cost_runs` has the protocol, `min_cost_report` what is made of the results,
`min_cost_worlds` errors by formula. Run `python -m experiments.min_cost`.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments import runs
from experiments.min_cost_runs import Arm, Config, fixed, load_data, mcal, run_arm
from jal import files

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
DataDir = Annotated[
    str | None, typer.Option(help="TFDS directory; default: TFDS_DATA_DIR.")
]
BATCHES = (0.01, 0.02, 0.035, 0.05, 0.1, 0.15, 0.2)


@app.command()
def table2(
    data: Dataset = "fashion_mnist",
    seeds: Seeds = 3,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """MCAL at two prices and by two constraints, beside people alone (Table 2).

    Example: python -m experiments.min_cost table2 --data fashion_mnist --seeds 3
    """
    _compare("table2", Config(data), table2_arms(), seeds, workers, out, data_dir)


@app.command()
def sweep(
    data: Dataset = "fashion_mnist",
    batches: Annotated[
        str, typer.Option(help="Shares of the pool, separated by commas.")
    ] = ",".join(map(str, BATCHES)),
    seeds: Seeds = 3,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """MCAL beside active learning with batches of 1 to 20 % (Figures 5 to 12).

    Example: python -m experiments.min_cost sweep --data fashion_mnist --seeds 3
    """
    arms = [*table2_arms(constraints=("overall",)), *map(fixed, _shares(batches))]
    _compare("sweep", Config(data), arms, seeds, workers, out, data_dir)


def table2_arms(constraints=("overall", "set")) -> list[Arm]:
    """MCAL at the price of each service, by each constraint."""
    return [
        mcal(service, constraint)
        for constraint in constraints
        for service in ("Amazon", "Satyam")
    ]


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


def _compare(command, config, arms, seeds, workers, out, data_dir):
    try:
        load_data(config, data_dir)
        records = runs.run_all(
            run_arm,
            config,
            arms,
            range(seeds),
            out / Path(config.data).stem,
            workers=workers or len(runs.cores()),
            data_dir=data_dir,
        )
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    path = out / f"{command}-{Path(config.data).stem}.json"
    content = {
        "command": f"python -m experiments.min_cost {shlex.join(sys.argv[1:])}",
        **runs.provenance(config, range(seeds)),
        "records": records,
    }
    files.write_json(path, content)
    print(f"wrote {path}")


if __name__ == "__main__":
    app()
