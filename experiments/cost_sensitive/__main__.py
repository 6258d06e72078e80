"""Cost-sensitive active learning on images: the paper's Table 1 and Figure 1."""

import dataclasses

from experiments.common import figures, runs
from experiments.common.options import Option, Program, changed
from experiments.cost_sensitive import figure1, protocol, report, table1
from experiments.cost_sensitive.curves import curves
from experiments.cost_sensitive.protocol import BETAS, LEARNED, RANDOM, UNCERTAINTY

program = Program("cost_sensitive", __doc__)
LONG_RUNS = {
    "workers": 0,
    "data": "mnist",
    "network": Option("gal", "gal, small, or digits (for 8x8 images)."),
    "scratch": Option(False, "Train from scratch in every round, not from the last."),
    "steps": Option(100, "Adam steps a round.", 1),
}
ROUNDS = Option(48, "T, rounds of 10 labels.", 1)


@program.command(seeds=3, workers=0, out="outputs/demo", data="digits")
def demo(options) -> None:
    """Five strategies side by side on scikit-learn's digits, in two minutes.

    Example: python -m experiments.cost_sensitive demo --seeds 3 --out outputs/demo
    """
    config = protocol.Config(data=options.data)
    if options.data != "digits":
        config = dataclasses.replace(config, network="small")
    made_of = runs.Report(
        lambda records: None,
        lambda records, summary: report.format_demo(records),
        lambda records, summary: {
            "by-labels": _curves(records, "count"),
            "by-cost": _curves(records, "spend"),
        },
    )
    arms = (RANDOM, *UNCERTAINTY, BETAS[3])
    _compare("demo", config, arms, options, made_of, stem="accuracy")


@program.command("table1", seeds=5, out="outputs/table1", rounds=ROUNDS, **LONG_RUNS)
def labels_needed(options) -> None:
    """Labels needed for 90 %, relative to random (Table 1 of the paper).

    Example: python -m experiments.cost_sensitive table1 --network gal --seeds 5
    """
    config = changed(protocol.TABLE1, options, restart=options.scratch)
    made_of = runs.Report(
        table1.summarize,
        lambda records, summary: table1.format_summary(summary),
        lambda records, summary: {"": _curves(records, "count")},
    )
    _compare("table1", config, (RANDOM, *UNCERTAINTY), options, made_of)


@program.command(
    "figure1",
    seeds=3,
    out="outputs/figure1",
    rounds=ROUNDS._replace(default=98),
    **LONG_RUNS,
)
def cost_and_accuracy(options) -> None:
    """Accuracy against annotation cost over beta (Figure 1 of the paper).

    Example: python -m experiments.cost_sensitive figure1 --network small --seeds 3
    """
    half, end = min(50, options.rounds), options.rounds
    when = tuple(sorted({*range(10, end, 10), half, end}))
    changes = dict(restart=options.scratch, evaluate_rounds=when)
    config = changed(protocol.FIGURE1, options, **changes)
    made_of = runs.Report(
        lambda records: figure1.summarize(records, rounds=(half, end)),
        lambda records, summary: figure1.format_summary(summary),
        lambda records, summary: {
            "": report.cost_accuracy(summary["points"]),
            "curves": _curves(records, "spend"),
        },
    )
    _compare("figure1", config, (RANDOM, *BETAS, LEARNED), options, made_of)


def _compare(name, config, arms, options, made_of, stem=""):
    protocol.check(config, options.data_dir)
    runs_folder = options.out / "runs"
    place = name, protocol.run_arm, config, arms, runs_folder
    runs.compare(options, *place, made_of, stem=stem)


def _curves(records, against):
    cost = "annotation cost without the initial labels (arbitrary units)"
    x_label = "labels" if against == "count" else cost
    drawn = curves(records, against)
    return figures.learning_curves(drawn, x_label=x_label, target=0.9)


if __name__ == "__main__":
    program()
