"""Labelling a whole data set at minimum cost: MCAL beside people and fixed batches.

Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active labeling"
(2023).
"""

from pathlib import Path

from experiments.common import figures, runs
from experiments.common.options import Option, Program, changed, names
from experiments.min_cost import protocol, report, simulation
from experiments.min_cost.fits import fits, format_fits
from experiments.min_cost.protocol import DEFAULT, NETWORKS, PRICES, fixed, mcal
from jal._core import files

program = Program("min_cost", __doc__)
TRAINING = {
    "data": "fashion_mnist",
    "epochs": Option(20, "Of each training.", 1),
    "augment": Option(False, "Shift and mirror the training images."),
    "workers": 0,
    "out": "outputs/min_cost",
}
NETWORK = Option(DEFAULT, f"One of: {', '.join(NETWORKS)}.")
BATCHES = Option(
    "0.01,0.02,0.035,0.05,0.1,0.15,0.2", "Shares of the pool, separated by commas."
)
TO_CHOOSE_FROM = Option(
    "small CNN,small ResNet", f"To choose from, of: {', '.join(NETWORKS)}."
)


@program.command(network=NETWORK, seeds=3, **TRAINING)
def table2(options) -> None:
    """MCAL at two prices and by two constraints, beside people alone (Table 2).

    Example: python -m experiments.min_cost table2 --data fashion_mnist --seeds 3
    """
    networks = _networks(options.network)
    arms = [mcal(service, "overall", networks) for service in PRICES]
    arms += [mcal(service, "set", networks) for service in PRICES]
    _compare("table2", arms, options)


@program.command(batches=BATCHES, network=NETWORK, seeds=3, **TRAINING)
def sweep(options) -> None:
    """MCAL beside active learning with batches of 1 to 20 % (Figures 5 to 12).

    Example: python -m experiments.min_cost sweep --data fashion_mnist --seeds 3
    """
    networks = _networks(options.network)
    arms = [mcal(service, "overall", networks) for service in PRICES]
    arms += [fixed(share, options.network) for share in _shares(options.batches)]
    _compare("sweep", arms, options)


@program.command(networks=TO_CHOOSE_FROM, seeds=1, **TRAINING)
def architectures(options) -> None:
    """MCAL choosing among networks, all of its exploration paid for.

    Example: python -m experiments.min_cost architectures --networks "ResNet-18,CNN-18"
    """
    networks = _networks(options.networks)
    _compare("architectures", [mcal(s, "overall", networks) for s in PRICES], options)


@program.command(
    "fits",
    results=Option(Path, "A JSON file that sweep wrote, with small batches."),
    theta=Option(0.5, "Share whose errors are drawn."),
)
def compare_fits(options) -> None:
    """Power laws of the first 3, 5, 7, 9 rounds beside later ones (Figures 13 to 21).

    Example: python -m experiments.min_cost fits outputs/min_cost/sweep-mnist.json
    """
    _, records = runs.read_results(options.results, "sweep or table2")
    longest = max(records, key=lambda record: len(record["rounds"]))
    found, figure = fits(longest, options.theta)
    stem = options.results.with_name(f"{options.results.stem}-fits")
    files.write_json(stem.with_suffix(".json"), {"command": options.command, **found})
    runs.show(format_fits(found, longest), stem, lambda: {"": figure()})
    print(f"wrote {stem}.json")


@program.command(
    number=Option(200, "Worlds, and seeds.", 1),
    seed=Option(0, "Of the worlds.", 0),
    out="outputs/min_cost",
)
def simulate(options) -> None:
    """Errors by formula: how near MCAL comes to the optimum, and to the limit.

    Example: python -m experiments.min_cost simulate --number 200
    """
    found, drawn, limit = {}, {}, {}
    for name, world, bins in simulation.near_optimum(options.number, options.seed):
        found[name], drawn[name] = world, bins
        print(simulation.world_text(name, world))
    for name, held in simulation.within_limit(options.number):
        limit[name] = held
        print(simulation.limit_text(name, held))
    figure = lambda: figures.histograms(
        drawn,
        simulation.EDGES,
        x_label="cost / cost of the best (B, theta, rounds); 1.5 and more at the end",
        y_label="share of the worlds",
        title=f"{options.number} worlds",
    )
    stem, config = options.out / "simulate", protocol.Config("worlds")
    made = {"worlds": found, "constraint": limit}
    path = stem.with_suffix(".json")
    runs.write_results(path, options, config, [options.seed], **made)
    runs.show("", stem, lambda: {"": figure()})


def _networks(text: str) -> tuple[str, ...]:
    return tuple(names(text, NETWORKS, "networks"))


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(
            f"--batches {text!r}; expected shares above 0 and below 1, such as 0.05,0.1"
        )
    return shares


def _compare(command: str, arms, options) -> None:
    config = changed(protocol.Config(""), options)
    protocol.load_data(config, options.data_dir)
    name = Path(options.data).stem
    made_of = runs.Report(
        lambda records: report.summarize(records, name),
        lambda records, summary: report.format_summary(summary),
        lambda records, summary: report.figures(records, name),
    )
    place = f"{command}-{name}", protocol.run_arm, config, arms, options.out / name
    runs.compare(options, *place, made_of)


if __name__ == "__main__":
    program()
