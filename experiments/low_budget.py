"""Active learning with few labels over frozen features, beside its baselines.

Aggarwal, Popescu and Hudelot, "Optimizing active learning for low annotation budgets"
(2022). Run `python -m experiments.low_budget`.
"""

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments import low_budget_report as report
from experiments import low_budget_source as sources
from experiments import runs
from experiments.low_budget_runs import METHODS, Arm, Config, load_target, run_arm
from jal import plots
from jal._core import files

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
Out = Annotated[Path, typer.Option(help="Folder of features, runs and results.")]
OUT = Path("outputs/low_budget")
ALL = ",".join(METHODS)
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
    epochs: Annotated[int, typer.Option(min=1, help="Over the source images.")] = 25,
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


Target = Annotated[
    str, typer.Argument(help="A folder below features, or synthetic (for timing).")
]
Methods = Annotated[
    str, typer.Option(help=f"Of: {', '.join(METHODS)}; separated by commas.")
]
Scheme = Annotated[str, typer.Option(help="svm, logistic, or ft: fine-tuning.")]
Seeds = Annotated[
    int, typer.Option(min=1, help="Runs of each method, with seeds 0, 1, ...")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes at a time; 0: one a core.")
]
SourceData = Annotated[
    str, typer.Option(help="Data set of the source, where the scheme is ft.")
]
Epochs = Annotated[int, typer.Option(min=1, help="Of fine-tuning.")]


@app.command()
def balanced(
    target: Target,
    methods: Methods = ALL,
    scheme: Scheme = "svm",
    seeds: Seeds = 5,
    epochs: Epochs = 80,
    source_data: SourceData = "",
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """All methods from 200 to 3,200 labels of a balanced pool.

    Example: python -m experiments.low_budget balanced tiny --seeds 5
    """
    config = Config(target, scheme, epochs=epochs, source_data=source_data)
    _compare("balanced", config, methods, seeds, workers, out, data_dir)


@app.command()
def imbalanced(
    target: Target,
    methods: Methods = "rand,marg,core,badge,alamp,alamp-div",
    scheme: Scheme = "svm",
    seeds: Seeds = 5,
    epochs: Epochs = 80,
    source_data: SourceData = "",
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """The same with a pool whose classes have exponentially falling sizes.

    The SVM weighs classes, fine-tuning divides by their frequencies.

    Example: python -m experiments.low_budget imbalanced tiny --seeds 5
    """
    config = Config(
        target, scheme, imbalanced=True, epochs=epochs, source_data=source_data
    )
    _compare("imbalanced", config, methods, seeds, workers, out, data_dir)


@app.command()
def diversify(
    target: Target,
    scheme: Scheme = "svm",
    seeds: Seeds = 5,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """What diversification adds: rand, marg and alamp with and without it.

    Example: python -m experiments.low_budget diversify tiny --seeds 5
    """
    methods = "rand,marg,alamp,rand-div,marg-div,alamp-div"
    config = Config(target, scheme)
    _compare("diversify", config, methods, seeds, workers, out, data_dir)


@app.command()
def schemes(
    target: Target,
    source_data: Annotated[str, typer.Option(help="Data set of the source.")],
    epochs: Epochs = 80,
    seeds: Seeds = 3,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """SVM over frozen features against fine-tuning, with 200 and 3,200 random labels.

    Example: python -m experiments.low_budget schemes tiny --source-data tiny.npz
    """
    results = {}
    with _mistakes():
        for scheme in ("svm", "ft"):
            config = Config(
                target,
                scheme,
                picks=3000,
                rounds=1,
                epochs=epochs,
                source_data=source_data if scheme == "ft" else "",
            )
            results[scheme] = _run(
                "schemes", config, ["rand"], seeds, workers, out, data_dir
            )
        found = report.compare_schemes(results)
        path = out / f"schemes-{target}.json"
        content = {
            "command": _command(),
            **runs.provenance(config, range(seeds)),
            "summary": found,
            "records": results,
        }
        files.write_json(path, content)
        print(f"wrote {path}")
        print(report.format_schemes(found, f"{target}, {report.SOURCE}"))


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    unknown = [name for name in names if name not in METHODS]
    if unknown or len(set(names)) < len(names):
        raise ValueError(
            f"methods {text!r}; each once, and only of: {', '.join(METHODS)}"
        )
    if "rand" not in names:
        raise ValueError(f"methods {text!r}; rand is what the others are compared with")
    return names


def _run(command, config, names, seeds, workers, out, data_dir) -> list[dict]:
    if config.scheme not in ("svm", "logistic", "ft"):
        raise ValueError(f"scheme={config.scheme!r}; allowed are svm, logistic and ft")
    if config.scheme == "ft" and not config.source_data:
        raise ValueError("scheme ft needs --source-data, to read the images again")
    load_target(config, out / "features" / config.target, data_dir)
    # One folder for all commands that share a protocol, so that runs are shared too.
    parts = [config.scheme, "imbalanced" if config.imbalanced else "balanced"]
    parts += ["schemes"] if command == "schemes" else []
    folder = out / config.target / "-".join(parts)
    return runs.run_all(
        run_arm,
        config,
        [Arm(name) for name in names],
        range(seeds),
        folder,
        workers=workers or len(runs.cores()),
        data_dir=data_dir,
    )


def _compare(command, config, methods, seeds, workers, out, data_dir):
    with _mistakes():
        names = _names(methods)
        records = _run(command, config, names, seeds, workers, out, data_dir)
        kind = "imbalanced" if config.imbalanced else "balanced"
        summary = report.summarize(records, kind)
        suffix = "" if config.scheme == "svm" else f"-{config.scheme}"
        path = out / f"{command}-{config.target}{suffix}.json"
        content = {
            "command": _command(),
            **runs.provenance(config, range(seeds)),
            "summary": summary,
            "records": records,
        }
        files.write_json(path, content)
        print(f"wrote {path}")
        title = f"{config.target}, {kind}, {config.scheme}"
        print(report.format_summary(summary, f"{title}, {report.SOURCE}"))
        for name, figure in report.figures(records, title).items():
            picture = path.with_name(f"{path.stem}-{name}.png")
            plots.save(figure, picture)
            print(f"wrote {picture}")


def _command() -> str:
    return f"python -m experiments.low_budget {shlex.join(sys.argv[1:])}"


@contextlib.contextmanager
def _mistakes():
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
