"""Active learning with few labels over frozen features, beside its baselines.

Aggarwal, Popescu and Hudelot, "Optimizing active learning for low annotation budgets"
(2022).
"""

import dataclasses
from pathlib import Path

from experiments.common import runs
from experiments.common.options import Option, Program, changed, names
from experiments.low_budget import report
from experiments.low_budget import source as sources
from experiments.low_budget.protocol import METHODS, Arm, Config, load_target, run_arm

program = Program("low_budget", __doc__)
OUT = {"out": "outputs/low_budget"}
COMPARED = {
    "target": Option(str, "A folder below features, or synthetic (for timing)."),
    "seeds": 5,
    "workers": 0,
    **OUT,
}
EPOCHS = Option(80, "Of fine-tuning.", 1)
TRAINED = {
    "scheme": Option("svm", "svm, logistic, or ft: fine-tuning."),
    "epochs": EPOCHS,
    "source_data": Option("", "Data set of the source, where the scheme is ft."),
}
SOME = Option(",".join(METHODS), f"Of: {', '.join(METHODS)}; separated by commas.")


@program.command(
    data=Option(str, "Data set whose classes are split: a name or an .npz."),
    targets=Option("", "Further data sets, separated by commas."),
    width=Option(32, "ResNet-18 has 64.", 1),
    blocks=Option(1, "Of each stage; ResNet-18 has 2.", 1),
    epochs=Option(25, "Over the source images.", 1),
    **OUT,
)
def source(options) -> None:
    """Trains the source on half of the classes; writes the features of the others.

    Example: python -m experiments.low_budget source tiny.npz --targets cifar10
    """
    blocks = (options.blocks,) * 4
    config = changed(sources.SourceConfig(""), options, blocks=blocks)
    where = dict(data_dir=options.data_dir)
    trained = sources.train(config, options.out / "source", **where)
    print(
        f"accuracy on test images of the source's own classes: "
        f"{trained[1]['source_accuracy']:.1%}"
    )
    for target in (options.data, *filter(None, options.targets.split(","))):
        folder = options.out / "features" / Path(target).stem
        sources.extract(config, trained, target, folder, **where)
        print(f"wrote {folder}")


@program.command(methods=SOME, **COMPARED, **TRAINED)
def balanced(options) -> None:
    """All methods from 200 to 3,200 labels of a balanced pool.

    Example: python -m experiments.low_budget balanced tiny --seeds 5
    """
    _compare("balanced", options, changed(Config(""), options))


@program.command(
    methods=SOME._replace(default="rand,marg,core,badge,alamp,alamp-div"),
    **COMPARED,
    **TRAINED,
)
def imbalanced(options) -> None:
    """The same with a pool whose classes have exponentially falling sizes.

    The SVM weighs classes, fine-tuning divides by their frequencies.

    Example: python -m experiments.low_budget imbalanced tiny --seeds 5
    """
    _compare("imbalanced", options, changed(Config(""), options, imbalanced=True))


@program.command(scheme=TRAINED["scheme"], **COMPARED)
def diversify(options) -> None:
    """What diversification adds: rand, marg and alamp with and without it.

    Example: python -m experiments.low_budget diversify tiny --seeds 5
    """
    options.methods = "rand,marg,alamp,rand-div,marg-div,alamp-div"
    _compare("diversify", options, changed(Config(""), options))


@program.command(
    source_data=Option("", "Data set of the source."),
    epochs=EPOCHS,
    **COMPARED | {"seeds": 3},
)
def schemes(options) -> None:
    """SVM over frozen features against fine-tuning, with 200 and 3,200 random labels.

    Example: python -m experiments.low_budget schemes tiny --source-data tiny.npz
    """
    config = changed(Config(""), options, scheme="ft", picks=3000, rounds=1)
    svm = dataclasses.replace(config, scheme="svm", source_data="")
    results = {}
    for each in (svm, config):
        folder = _folder(each, options, "schemes")
        how = dict(workers=options.workers, data_dir=options.data_dir)
        seeds = range(options.seeds)
        arms = [Arm("rand")]
        results[each.scheme] = runs.run_all(run_arm, each, arms, seeds, folder, **how)
    found = report.compare_schemes(results)
    path = options.out / f"schemes-{options.target}.json"
    runs.write_results(path, options, config, seeds, summary=found, records=results)
    print(report.format_schemes(found, f"{options.target}, {report.SOURCE}"))


def _folder(config: Config, options, *more: str) -> Path:
    """Of all commands that share a protocol, so that runs are shared too."""
    if config.scheme not in ("svm", "logistic", "ft"):
        raise ValueError(f"scheme={config.scheme!r}; allowed are svm, logistic and ft")
    if config.scheme == "ft" and not config.source_data:
        raise ValueError("scheme ft needs --source-data, to read the images again")
    features = options.out / "features" / config.target
    load_target(config, features, options.data_dir)
    parts = config.scheme, "imbalanced" if config.imbalanced else "balanced", *more
    return options.out / config.target / "-".join(parts)


def _compare(command: str, options, config: Config) -> None:
    methods = names(options.methods, METHODS, "methods")
    if "rand" not in methods:
        raise ValueError(
            f"methods {options.methods!r}; rand is what the others are compared with"
        )
    kind = "imbalanced" if config.imbalanced else "balanced"
    title = f"{config.target}, {kind}, {config.scheme}"
    made_of = runs.Report(
        lambda records: report.summarize(records, kind),
        lambda records, summary: report.format_summary(
            summary, f"{title}, {report.SOURCE}"
        ),
        lambda records, summary: report.figures(records, title),
    )
    suffix = "" if config.scheme == "svm" else f"-{config.scheme}"
    arms, folder = [Arm(name) for name in methods], _folder(config, options)
    name = f"{command}-{config.target}{suffix}"
    runs.compare(options, name, run_arm, config, arms, folder, made_of)


if __name__ == "__main__":
    program()
