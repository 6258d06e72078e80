"""The minimum-cost comparison: a small one from end to end, and its verdicts."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.common import paired, runs
from experiments.min_cost import __main__ as commands
from experiments.min_cost import fits, protocol, report, simulation
from experiments.min_cost.protocol import Config, fixed, mcal
from jal import nn

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """MCAL at two prices and two fixed batches, on the digits of scikit-learn."""
    folder = tmp_path_factory.mktemp("runs")
    config = Config("digits", max_error=0.2, epochs=4, first_share=0.05)
    arms = [mcal("Amazon"), mcal("Satyam"), fixed(0.1), fixed(0.2)]
    return [
        protocol.run_arm(config, arm, 0, folder / str(place))
        for place, arm in enumerate(arms)
    ]


@pytest.mark.slow
def test_records_say_what_was_paid_for_what(records):
    for record in records:
        size = record["num_items"]
        assert size == 1797
        assert record["human_labels"] + record["machine_labels"] == size
        wrong = record["machine_labels"] * (record["machine_error"] or 0)
        assert record["error"] * size == pytest.approx(wrong)
        sizes = [row["size"] for row in record["rounds"]]
        assert record["training_cost"] == pytest.approx(protocol.CHEAP * sum(sizes))
        for service, cost in record["cost"].items():
            labels = record["human_labels"] * protocol.PRICES[service]
            assert cost == pytest.approx(labels + record["training_cost"])
    assert set(records[0]["cost"]) == {"Amazon"}
    assert set(records[2]["cost"]) == {"Amazon", "Satyam"}


@pytest.mark.slow
def test_the_commands_from_end_to_end(records, tmp_path, monkeypatch, invoke):
    def run_all(run, config, arms, seeds, folder, *, workers, data_dir):
        assert run is protocol.run_arm and config.data == "digits"
        names = [arm.name for arm in arms]
        return [record for record in records if record["arm"] in names]

    monkeypatch.setattr(runs, "run_all", run_all)
    out = str(tmp_path)
    done = invoke(
        commands.program,
        "sweep",
        "--data",
        "digits",
        "--batches",
        "0.1,0.2",
        "--out",
        out,
    )
    assert done.status == 0, done.output
    assert "cheaper than the best fixed batch, Amazon: not resolved" in done.output
    stored = json.loads((tmp_path / "sweep-digits.json").read_text())
    assert stored["command"].startswith("python -m experiments.min_cost")
    assert len(stored["records"]) == 4 and set(stored["summary"]["arms"]) == {
        record["arm"] for record in records
    }
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert {"sweep-digits-batches-Amazon.png", "sweep-digits-schemes-Satyam.png"} <= (
        pictures
    )
    short = invoke(commands.program, "fits", str(tmp_path / "sweep-digits.json"))
    assert short.status in (0, 2)
    assert invoke(commands.program, "sweep", "--batches", "x").status == 2
    assert (
        "shares above 0" in invoke(commands.program, "sweep", "--batches", "0,1").output
    )
    assert (
        invoke(commands.program, "table2", "--data", "none.npz", "--out", out).status
        == 2
    )
    (tmp_path / "bad.json").write_text("[]")
    assert (
        "not a results file"
        in invoke(commands.program, "fits", str(tmp_path / "bad.json")).output
    )


def record(arm, seed, *, human=200, trained=100, error=0.01, sizes=(50, 100), **more):
    """A run that labelled 1,000 items."""
    training = protocol.CHEAP * sum(sizes)
    return {
        "arm": arm,
        "seed": seed,
        "batch": None,
        "num_items": 1000,
        "human_labels": human,
        "machine_labels": 1000 - human,
        "trained_on": trained,
        "error": error,
        "machine_error": error,
        "error_estimate": error,
        "training_cost": training,
        "cost": {s: human * p + training for s, p in protocol.PRICES.items()},
        "rounds": [{"size": b, "plan_cost": None} for b in sizes],
    } | more


def compare(mcal_human, batches, *, seeds=3):
    """Claims where fixed batches need so many labels of people: batch -> number."""
    found = []
    for seed in range(seeds):
        for service in protocol.PRICES:
            human = mcal_human + seed
            found.append(record(f"MCAL {service}", seed, human=human, trained=human))
        for batch, human in batches.items():
            found.append(
                record(f"batch {batch}", seed, human=human + seed, batch=batch)
            )
    return report.summarize(found, "fashion_mnist")["claims"]


def test_verdicts_on_costs():
    claims = compare(200, {0.1: 400, 0.15: 300, 0.2: 500})
    verdict = lambda name: claims[name]["verdict"]
    assert verdict("cheaper than the best fixed batch, Amazon") == "replicated"
    assert verdict("cost against batch is U-shaped, Amazon") == "replicated"
    assert verdict("saving at Amazon's price") == "not resolved"  # 79.9 % +- .2
    assert verdict("fewer than 5 % wrong") == "replicated"
    assert verdict("cheaper labels -> larger B") == "not resolved"
    claims = compare(350, {0.1: 300, 0.15: 400})
    assert verdict("cheaper than the best fixed batch, Satyam") == "not replicated"
    assert verdict("cost against batch is U-shaped, Amazon") == "not replicated"
    assert verdict("saving at Satyam's price") == "not replicated"
    one = compare(200, {0.1: 400}, seeds=1)
    name = "cheaper than the best fixed batch, Amazon"
    assert one[name]["verdict"] == "not resolved"


def test_savings_are_held_against_a_band():
    verdict = lambda human: compare(human, {})["saving at Amazon's price"]["verdict"]
    assert verdict(170) == "replicated"
    assert verdict(190 + 8) == "not resolved"
    assert verdict(100) == "not replicated"


def test_wrong_labels_are_named():
    summary = report.summarize([record("MCAL Amazon", 4, error=0.06)], "mnist")
    claim = summary["claims"]["fewer than 5 % wrong"]
    assert claim["verdict"] == "not replicated"
    assert claim["text"] == "0 of 1 runs; MCAL Amazon seed 4: 6.00%"
    assert "6.00" in report.format_summary(summary)


@pytest.mark.parametrize(
    ("power", "verdict"), [(-1, "replicated"), (-2, "not replicated")]
)
def test_the_slope_of_training_costs(power, verdict):
    batches = {}
    for batch in (0.01, 0.02, 0.04):
        cost = 1e3 * batch**power  # over B^2, whatever B
        batches[batch] = {0: record("batch", 0, sizes=(cost - 1, 1.0))}
    (claim,) = paired.claims([report.training_slope(batches)]).values()
    assert claim["verdict"] == verdict
    assert f"batch^{power:.2f}" in claim["text"]


def test_fits_predict_later_rounds():
    sizes = 100 * np.arange(1, 13)
    shares = np.arange(1, 21) / 20
    rows = []
    for size in sizes:
        counts = np.round(4000 * shares).astype(int)
        errors = np.round(counts * 2 * shares * size**-0.4).astype(int)
        rows.append({"size": int(size), "counts": counts, "errors": errors})
    table, figure = fits.fits(record("batch 0.01", 0) | {"rounds": rows})
    assert set(table["rms"]["plain"]) == {3, 5, 7, 9} and table["later_rounds"] == 3
    assert all(value < 0.1 for value in table["rms"]["plain"].values())
    assert figure().axes[0].get_xscale() == "log"
    with pytest.raises(ValueError, match="has 2 rounds; at least 5"):
        fits.fits(record("batch 0.01", 0) | {"rounds": rows[:2]})


def test_terms_follow_the_protocol():
    config = Config("fashion_mnist")
    terms = protocol.terms_of(config, mcal("Satyam"), 70_000)
    assert (terms.num_test, terms.first_batch, terms.price) == (3500, 700, 0.003)
    terms = protocol.terms_of(config, fixed(0.1), 70_000)
    assert (terms.theta_base, terms.first_batch, terms.grid_step) == (
        "remaining",
        7000,
        700,
    )
    with pytest.raises(ValueError, match="subset=5000; digits has 1797"):
        protocol.load_data(
            dataclasses.replace(config, data="digits", subset=5000), None
        )
    images, labels = protocol.load_data(Config("digits", subset=100), None)
    assert len(images) == len(labels) == 100


@pytest.mark.parametrize("name", protocol.NETWORKS)
def test_every_network_takes_the_images(name):
    import jax

    module = protocol.NETWORKS[name].make(7, mean=(0.5,), sd=(0.2,))
    init, apply = nn.from_linen(module, np.zeros((1, 28, 28, 1), np.uint8))
    outputs = jax.eval_shape(
        lambda key: apply(*init(key), np.zeros((2, 28, 28, 1), np.uint8))[0],
        jax.random.key(0),
    )
    assert outputs.logits.shape == (2, 7)


@pytest.mark.slow
def test_one_world_in_the_command(tmp_path, monkeypatch, invoke):
    monkeypatch.setattr(simulation, "LIMIT_WORLDS", {})
    done = invoke(commands.program, "simulate", "--number", 2, "--out", tmp_path)
    assert done.status == 0, done.output
    stored = json.loads((tmp_path / "simulate.json").read_text())
    assert len(stored["worlds"]) == 8
    assert (tmp_path / "simulate.png").exists()
