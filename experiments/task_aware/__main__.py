"""Task-aware active learning on images: TA-VAAL beside its relatives.

Kim, Park, Kim and Chun, "Task-aware variational adversarial active learning" (2020).
"""

import zlib
from pathlib import Path

from experiments.common import paired, runs
from experiments.common.options import Option, Program, names
from experiments.task_aware import protocol, report
from experiments.task_aware.protocol import ARMS, SMOKE, Config, Replay
from jal._core import files

program = Program("task_aware", __doc__)
METHODS = Option("all", f"Comma-separated, of: {', '.join(ARMS)}; or all.")
PROFILE = Option("b", "Of the imbalance: a, b or c.")
FULL = Option(False, "The paper's setting: for an accelerator.")
COMPARED = {"seeds": 3, "workers": 0, "out": "outputs/task_aware"}
VARIANTS = {
    "full": FULL,
    "ranker_for_all": Option(False, "Every method trains with a ranker."),
    "release": Option(False, "As the official code: a ranker for all, too."),
}


@program.command(data="fashion_mnist", methods=METHODS, **COMPARED, **VARIANTS)
def figure2(options) -> None:
    """Whole data sets: accuracy by labels (Figure 2 of the paper).

    Example: python -m experiments.task_aware figure2 --data fashion_mnist --seeds 3
    """
    _compare("figure2", _config(options, options.data), options)


@program.command(
    profile=PROFILE,
    methods=METHODS._replace(default="random,learning loss v2,VAAL,TA-VAAL"),
    **COMPARED,
    **VARIANTS,
)
def figure3(options) -> None:
    """Imbalanced CIFAR-10: accuracy by labels (Figure 3 of the paper).

    Example: python -m experiments.task_aware figure3 --profile b --seeds 3
    """
    _compare("figure3", _config(options, "cifar10", options.profile), options)


@program.command(profile=PROFILE, full=FULL, **COMPARED)
def ablation(options) -> None:
    """All six methods on imbalanced CIFAR-10; runs of figure3 are not run again.

    Example: python -m experiments.task_aware ablation --profile b --seeds 3
    """
    options.methods = "all"
    config = protocol.protocol("cifar10", options.profile, full=options.full)
    _compare("ablation", config, options)


@program.command(data="fashion_mnist", out="outputs/task_aware_smoke")
def smoke(options) -> None:
    """Every method once, at a size that says nothing: does it all run?

    Example: python -m experiments.task_aware smoke --data fashion_mnist
    """
    options.methods, options.seeds, options.workers = "all", 1, 1
    _compare("smoke", protocol.protocol(options.data, full=False, **SMOKE), options)


@program.command(
    results=Option(Path, "JSON of figure2, figure3, ablation."),
    reevaluate=Option(False, "Train a network without a ranker on what was chosen."),
    workers=0,
    out=Option(None, "Folder of figures; default: beside RESULTS."),
)
def analysis(options) -> None:
    """Tables, verdicts and figures of stored results, without running them again.

    Example: python -m experiments.task_aware analysis RESULTS.json --reevaluate
    """
    makers = "experiments.task_aware figure2, figure3 and ablation"
    config, records = runs.read_results(options.results, makers, Config)
    stem = Path(options.out or options.results.parent) / options.results.stem
    made_of = _report(config)
    summary = made_of.summarize(records)
    drawn = lambda: made_of.figures(records, summary)
    runs.show(made_of.text(records, summary), stem, drawn)
    if options.reevaluate:
        stem = stem.with_name(f"{stem.name}-reevaluated")
        again = _reevaluate_all(config, records, stem, options)
        files.write_json(stem.with_suffix(".json"), again)
        print(f"wrote {stem}.json")


def _reevaluate_all(config, records, folder, options):
    """Records of all replays; prints how they differ from the runs themselves."""
    choices = lambda run: (tuple(run["initial"]), tuple(map(tuple, run["indices"])))
    arms = [
        Replay(name, tuple((seed, *choices(run)) for seed, run in found.items()))
        for name, found in paired.by_arm(records).items()
    ]
    seeds = sorted({record["seed"] for record in records})
    # Other choices are other runs, whatever the name of their file.
    folder = folder / f"{zlib.crc32(repr(arms).encode()):08x}"
    how = dict(workers=options.workers, data_dir=options.data_dir)
    again = runs.run_all(protocol.reevaluate_arm, config, arms, seeds, folder, **how)
    print(report.format_reevaluation(records, again))
    return again


def _config(options, data, profile=None) -> Config:
    ranker_for_all = options.ranker_for_all or options.release
    variant = dict(ranker_for_all=ranker_for_all, release=options.release)
    return protocol.protocol(data, profile, full=options.full, **variant)


def _report(config: Config) -> runs.Report:
    titles = {"fashion_mnist": "Fashion-MNIST", "mnist": "MNIST", "cifar10": "CIFAR-10"}
    title = titles.get(config.data, Path(config.data).stem)
    title += "" if config.profile is None else f", profile {config.profile}"
    setting = config.data, config.profile, config.ranker_for_all
    return runs.Report(
        lambda records: report.summarize(records, *setting),
        lambda records, summary: (
            report.format_summary(summary) + report.different_code(records)
        ),
        lambda records, summary: report.figures(records, title),
    )


def _compare(command: str, config: Config, options) -> None:
    arms = [ARMS[name] for name in names(options.methods, ARMS, "methods")]
    protocol.check(config, options.data_dir)
    flags = {"ranker-for-all": config.ranker_for_all, "release": config.release}
    variant = [Path(config.data).stem, *filter(None, [config.profile])]
    variant = "-".join([*variant, *(flag for flag, on in flags.items() if on)])
    place = f"{command}-{variant}", protocol.run_arm, config, arms
    runs.compare(options, *place, options.out / variant, _report(config))


if __name__ == "__main__":
    program()
