"""Active learning with few labels over frozen features, beside its baselines.

Aggarwal, Popescu and Hudelot, "Optimizing active learning for low annotation budgets"
(2022). Run `python -m experiments.low_budget`.
"""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from experiments import low_budget_source as sources

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
Out = Annotated[Path, typer.Option(help="Folder of features, runs and results.")]
OUT = Path("outputs/low_budget")
DataDir = Annotated[
    str | None, typer.Option(help="TFDS directory; default: TFDS_DATA_DIR.")
]


@app.callback()
def main() -> None:
    """Active learning with few labels over frozen features, beside its baselines."""


@app.command()
def source(
    data: Annotated[
        str, typer.Argument(help="Data set whose classes are split: a name or an .npz.")
    ],
    targets: Annotated[
        str, typer.Option(help="Further data sets, separated by commas.")
    ] = "",
    width: Annotated[int, typer.Option(min=1, help="ResNet-18 has 64.")] = 32,
    blocks: Annotated[
        int, typer.Option(min=1, help="Of each stage; ResNet-18 has 2.")
    ] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Over the source images.")] = 10,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """Trains the source on half of the classes; writes the features of the others.

    Example: python -m experiments.low_budget source tiny.npz --targets cifar10
    """
    config = sources.SourceConfig(
        data, width=width, blocks=(blocks,) * 4, epochs=epochs
    )
    with _mistakes():
        trained = sources.train(config, out / "source", data_dir=data_dir)
        print(
            f"accuracy on test images of the source's own classes: "
            f"{trained[1]['source_accuracy']:.1%}"
        )
        for target in (data, *filter(None, targets.split(","))):
            folder = out / "features" / Path(target).stem
            sources.extract(config, trained, target, folder, data_dir=data_dir)
            print(f"wrote {folder}")


@contextlib.contextmanager
def _mistakes():
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
