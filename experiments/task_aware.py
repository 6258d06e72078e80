"""Task-aware active learning on images: TA-VAAL beside its relatives.

Kim, Park, Kim and Chun, "Task-aware variational adversarial active learning" (2020).
`task_aware_runs` has the protocol, `task_aware_report` what is made of the results. Run
`python -m experiments.task_aware`.
"""

import json
import shlex
import sys
import zlib
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments import runs
from experiments import task_aware_report as report
from experiments.task_aware_runs import (
    ARMS,
    Arm,
    Config,
    Replay,
    check_config,
    check_sizes,
    load_data,
    protocol,
    reevaluate_arm,
    run_arm,
)
from jal import plots
from jal._core import files

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
Seeds = Annotated[
    int, typer.Option(min=1, help="Runs of each method, with seeds 0, 1, ...")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes at a time; 0: one a core.")
]
Out = Annotated[Path, typer.Option(help="Folder of checkpoints and results.")]
OUT = Path("outputs/task_aware")
Dataset = Annotated[
    str,
    typer.Option(help="fashion_mnist, mnist, cifar10, or the path of an .npz file."),
]
Profile = Annotated[str, typer.Option(help="Of the imbalance: a, b or c.")]
DataDir = Annotated[
    str | None, typer.Option(help="TFDS directory; default: TFDS_DATA_DIR.")
]
Full = Annotated[
    bool, typer.Option("--full", help="The paper's setting: for an accelerator.")
]
Methods = Annotated[
    str, typer.Option(help=f"Comma-separated, of: {', '.join(ARMS)}; or all.")
]
RankerForAll = Annotated[
    bool,
    typer.Option("--ranker-for-all", help="Every method trains with a ranker."),
]
Release = Annotated[
    bool, typer.Option("--release", help="As the official code: a ranker for all, too.")
]


@app.command()
def figure2(
    data: Dataset = "fashion_mnist",
    methods: Methods = "all",
    seeds: Seeds = 3,
    full: Full = False,
    ranker_for_all: RankerForAll = False,
    release: Release = False,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """Whole data sets: accuracy by labels (Figure 2 of the paper).

    Example: python -m experiments.task_aware figure2 --data fashion_mnist --seeds 3
    """
    options: dict[str, Any] = dict(
        ranker_for_all=ranker_for_all or release, release=release
    )
    config = protocol(data, full=full, **options)
    _compare("figure2", config, methods, seeds, workers, out, data_dir)


@app.command()
def figure3(
    profile: Profile = "b",
    methods: Methods = "random,learning loss v2,VAAL,TA-VAAL",
    seeds: Seeds = 3,
    full: Full = False,
    ranker_for_all: RankerForAll = False,
    release: Release = False,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """Imbalanced CIFAR-10: accuracy by labels (Figure 3 of the paper).

    Example: python -m experiments.task_aware figure3 --profile b --seeds 3
    """
    options: dict[str, Any] = dict(
        ranker_for_all=ranker_for_all or release, release=release
    )
    config = protocol("cifar10", profile, full=full, **options)
    _compare("figure3", config, methods, seeds, workers, out, data_dir)


@app.command()
def ablation(
    profile: Profile = "b",
    seeds: Seeds = 3,
    full: Full = False,
    workers: Workers = 0,
    out: Out = OUT,
    data_dir: DataDir = None,
) -> None:
    """All six methods on imbalanced CIFAR-10; runs of figure3 are not run again.

    Example: python -m experiments.task_aware ablation --profile b --seeds 3
    """
    config = protocol("cifar10", profile, full=full)
    _compare("ablation", config, "all", seeds, workers, out, data_dir)


@app.command()
def smoke(
    data: Dataset = "fashion_mnist",
    out: Out = Path("outputs/task_aware_smoke"),
    data_dir: DataDir = None,
) -> None:
    """Every method once, at a size that says nothing: does it all run?

    Example: python -m experiments.task_aware smoke --data fashion_mnist
    """
    config = protocol(
        data,
        full=False,
        initial=20,
        picks=10,
        candidates=40,
        rounds=1,
        width=2,
        blocks=(1, 1),
        epochs=1,
        batch_size=10,
        vae_channels=(2, 2, 2, 2),
        vae_epochs=0.5,
        vae_batch_size=10,
    )
    _compare("smoke", config, "all", 1, 1, out, data_dir)


@app.command()
def analysis(
    results: Annotated[
        Path, typer.Argument(help="JSON of figure2, figure3, ablation.")
    ],
    reevaluate: Annotated[
        bool,
        typer.Option(
            "--reevaluate", help="Train a network without a ranker on what was chosen."
        ),
    ] = False,
    workers: Workers = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of figures; default: beside RESULTS.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Tables, verdicts and figures of stored results, without running them again.

    Example: python -m experiments.task_aware analysis RESULTS.json --reevaluate
    """
    try:
        config, records = read_results(results)
        out = out or results.parent
        _show(config, records, _summary(config, records), out / results.stem)
        if reevaluate:
            again = _reevaluate_all(
                config, records, out / f"{results.stem}-reevaluated", workers, data_dir
            )
            files.write_json(out / f"{results.stem}-reevaluated.json", again)
            print(f"wrote {out / f'{results.stem}-reevaluated.json'}")
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def read_results(path: Path) -> tuple[Config, list[dict]]:
    """The protocol and the records of a results file.

    Args:
      path: a JSON file of this experiment.

    Returns:
      `Config` and the records.

    Raises:
      ValueError: the file is not one of this experiment.
    """
    try:
        content = json.loads(path.read_text())
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in content["config"].items()
        }
        return Config(**fields), content["records"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a results file of experiments.task_aware: {error!r}; give "
            "one that figure2, figure3 or ablation wrote"
        ) from error


def _reevaluate_all(config, records, folder, workers, data_dir):
    """Records of all replays; prints how they differ from the runs themselves."""
    by_arm: dict[str, list[dict]] = {}
    for record in records:
        by_arm.setdefault(record["arm"], []).append(record)
    arms = [
        Replay(
            name,
            tuple(
                (
                    run["seed"],
                    tuple(run["initial"]),
                    tuple(map(tuple, run["indices"])),
                )
                for run in own
            ),
        )
        for name, own in by_arm.items()
    ]
    seeds = sorted({record["seed"] for record in records})
    # Other choices are other runs, whatever the name of their file.
    folder = folder / f"{zlib.crc32(repr(arms).encode()):08x}"
    again = runs.run_all(
        reevaluate_arm,
        config,
        arms,
        seeds,
        folder,
        workers=workers or len(runs.cores()),
        data_dir=data_dir,
    )
    print(report.format_reevaluation(records, again))
    return again


def _arms(methods: str) -> list[Arm]:
    names = [name.strip() for name in methods.split(",")]
    names = list(ARMS) if names == ["all"] else names
    if len(set(names)) < len(names):
        raise ValueError(f"methods={methods!r}; each method only once")
    for name in names:
        if name not in ARMS:
            raise ValueError(
                f"methods={methods!r}: there is no {name!r}; allowed are "
                f"{', '.join(ARMS)}, or all"
            )
    return [ARMS[name] for name in names]


def _name(config: Config) -> str:
    return Path(config.data).stem + (f"-{config.profile}" if config.profile else "")


def _title(config: Config) -> str:
    names = {"fashion_mnist": "Fashion-MNIST", "mnist": "MNIST", "cifar10": "CIFAR-10"}
    title = names.get(config.data, Path(config.data).stem)
    return title if config.profile is None else f"{title}, profile {config.profile}"


def _compare(command, config, methods, seeds, workers, out, data_dir):
    try:
        check_config(config)
        arms = _arms(methods)
        data, _ = load_data(config, data_dir)
        check_sizes(config, data)
        records = runs.run_all(
            run_arm,
            config,
            arms,
            range(seeds),
            out / _variant(config),
            workers=workers or len(runs.cores()),
            data_dir=data_dir,
        )
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    path = out / f"{command}-{_variant(config)}.json"
    summary = _summary(config, records)
    content = {
        "command": f"python -m experiments.task_aware {shlex.join(sys.argv[1:])}",
        **runs.provenance(config, range(seeds)),
        "summary": summary,
        "records": records,
    }
    files.write_json(path, content)
    print(f"wrote {path}")
    _show(config, records, summary, path.with_suffix(""))


def _variant(config: Config) -> str:
    flags = {"ranker-for-all": config.ranker_for_all, "release": config.release}
    return "-".join([_name(config), *(flag for flag, on in flags.items() if on)])


def _summary(config: Config, records) -> dict:
    return report.summarize(
        records,
        data=config.data,
        profile=config.profile,
        ranker_for_all=config.ranker_for_all,
    )


def _show(config: Config, records, summary, stem) -> None:
    """Prints the tables and verdicts, and writes the figures."""
    print(report.format_summary(summary))
    commits = sorted({str(record["commit"]) for record in records})
    if len(commits) > 1:
        print(f"\nnote: the runs are of different code: {', '.join(commits)}")
    try:
        for kind, figure in report.figures(records, _title(config)).items():
            path = stem.with_name(f"{stem.name}-{kind}.png")
            plots.save(figure, path)
            print(f"wrote {path}")
    except ImportError as error:
        typer.echo(f"no figures: {error}", err=True)


if __name__ == "__main__":
    app()
