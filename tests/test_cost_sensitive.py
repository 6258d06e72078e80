"""The cost-sensitive experiment, at a size of seconds."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from experiments import cost_sensitive as experiment
from experiments import report, runs
from jal import cost
from jal._core import files

TINY = experiment.Config(rounds=2, candidates=20, picks=3, steps=3, passes=4)


def run(arm, folder, seed=0, config=TINY):
    return experiment.run_arm(config, arm, seed, folder)


def test_arms_of_a_seed_share_the_initial_set_and_differ_in_their_picks(tmp_path):
    records = {
        arm.name: run(arm, tmp_path / str(number))
        for number, arm in enumerate(
            (experiment.RANDOM, experiment.BETAS[5], experiment.LEARNED)
        )
    }
    random, known, learned = records.values()
    for record in records.values():
        assert record["count"] == [20, 23, 26]
        assert record["accuracy"][0] == random["accuracy"][0]
        assert record["spend"][0] == random["spend"][0]
        bought = [index for row in record["indices"][:-1] for index in row]
        assert len(set(bought)) == 6
        assert record["indices"][-1] == [-1, -1, -1]
    assert known["indices"] != random["indices"]
    assert known["observed"]["cost_bias"][:2] == [0, 0]
    assert learned["observed"]["cost_bias"][0] != 0
    assert learned["observed"]["cost_bias"][2] is None
    np.testing.assert_allclose(
        known["observed"]["mean_cost"][:2], learned["observed"]["mean_cost"][:2]
    )
    assert "accuracy" in report.format_demo(records.values()).lower()


def test_spend_is_base_plus_perimeter_of_what_was_bought(tmp_path):
    record = run(experiment.BETAS[0], tmp_path)
    data, num_classes = experiment.load_data(TINY, None)
    assert num_classes == 10
    expected = cost.annotation_cost(
        data.x, data.y, base=jnp.asarray(cost.MNIST_BASE_COST)
    )
    np.testing.assert_allclose(data.cost, expected, rtol=1e-6)
    bought = np.array(record["indices"][:-1]).reshape(-1)
    np.testing.assert_allclose(
        record["spend"][-1] - record["spend"][0],
        np.asarray(data.cost, np.float64)[bought].sum(),
        rtol=1e-5,
    )


def test_a_finished_run_is_kept_and_another_protocol_is_refused(tmp_path):
    first = experiment.run_all(TINY, [experiment.RANDOM], [0, 1], tmp_path, workers=2)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/record.json")}
    assert [record["seed"] for record in first] == [0, 1] and len(times) == 2
    again = experiment.run_all(TINY, [experiment.RANDOM], [0, 1], tmp_path)
    assert again == first
    assert {p: p.stat().st_mtime_ns for p in times} == times
    other = dataclasses.replace(TINY, steps=4)
    with pytest.raises(ValueError, match="another steps; choose another --out"):
        experiment.run_all(other, [experiment.RANDOM], [0], tmp_path)


def test_an_unfinished_run_of_another_protocol_is_refused(tmp_path):
    run(experiment.RANDOM, tmp_path)
    (tmp_path / "record.json").unlink()
    other = dataclasses.replace(TINY, steps=4)
    with pytest.raises(ValueError, match="different run .*steps"):
        run(experiment.RANDOM, tmp_path, config=other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"picks": 21}, "picks=21 of candidates=20"),
        ({"candidates": 1278}, "candidates=1278, but digits has only 1277 items"),
        (
            {"rounds": 64, "redraw": False},
            r"rounds \* candidates = 64 \* 20 = 1280, but digits has 1277 items",
        ),
        ({"per_class": 200}, "per_class=200, but a class of digits has only"),
        ({"data": "missing.npz"}, "missing.npz"),
        ({"data": "imagenet"}, "imagenet"),
        ({"network": "resnet"}, "network='resnet'; allowed are gal, small, digits"),
    ],
)
def test_bad_sizes_are_refused_before_anything_is_written(changes, message, tmp_path):
    config = dataclasses.replace(TINY, **changes)
    folder = tmp_path / "runs"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        experiment.run_all(config, [experiment.RANDOM], [0], folder)
    assert not folder.exists()


def test_own_data_with_costs(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        images=rng.integers(0, 256, (90, 12, 12), np.uint8),
        labels=np.arange(90) % 3,
        costs=rng.uniform(1, 5, 90),
        test_images=rng.integers(0, 256, (9, 12, 12), np.uint8),
        test_labels=np.arange(9) % 3,
    )
    config = dataclasses.replace(TINY, data=str(path), network="small")
    record = run(experiment.BETAS[3], tmp_path / "run", config=config)
    assert record["count"] == [6, 9, 12]
    with np.load(path) as arrays:
        costs = arrays["costs"].astype(np.float64)
    bought = np.array(record["indices"][:-1]).reshape(-1)
    np.testing.assert_allclose(
        record["spend"][-1] - record["spend"][0], costs[bought].sum(), rtol=1e-5
    )


def test_results_say_how_they_were_made(tmp_path):
    content = json.loads(json.dumps(files.as_json(runs.provenance(TINY, [0]))))
    assert content["config"]["steps"] == 3
    assert content["seeds"] == [0]
    assert content["machine"] and content["versions"]["jax"]


@pytest.mark.parametrize("command", ["demo", "table1", "figure1"])
def test_help_shows_an_example(command):
    result = CliRunner().invoke(experiment.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: python -m experiments.cost_sensitive {command}" in " ".join(
        result.output.split()
    )


def test_the_commands_write_tables_and_plots(tmp_path, monkeypatch):
    """All three commands, with records made up instead of computed."""
    rng = np.random.default_rng(0)

    def made_up(config, arms, seeds, folder, **_):
        rounds = config.rounds + 1
        evaluated = config.evaluate_rounds or range(rounds)
        return [
            {
                "arm": arm.name,
                "seed": seed,
                "accuracy": [
                    0.99 - 0.5 / (1 + r) if r in evaluated else None
                    for r in range(rounds)
                ],
                "count": [20 + 10 * r for r in range(rounds)],
                "spend": (100 * np.arange(rounds) + rng.uniform(0, 9)).tolist(),
                "indices": [[0]] * rounds,
                "observed": {
                    "cost_bias": [-1.0] * config.rounds + [None],
                    "mean_cost": [90.0] * config.rounds + [None],
                },
                "seconds": 1.0,
                "cpu_seconds": 1.0,
            }
            for arm in arms
            for seed in seeds
        ]

    monkeypatch.setattr(experiment, "run_all", made_up)
    for command, names in {
        "demo": ["accuracy-by-labels.png", "accuracy-by-cost.png", "demo.json"],
        "table1": ["table1.png", "table1.json"],
        "figure1": ["figure1.png", "figure1-curves.png", "figure1.json"],
    }.items():
        out = tmp_path / command
        result = CliRunner().invoke(
            experiment.app, [command, "--seeds", "2", "--out", str(out)]
        )
        assert result.exit_code == 0, result.output
        assert sorted(p.name for p in out.iterdir()) == sorted(names)
        assert "random" in result.output
        for path in out.glob("*.json"):
            content = json.loads(path.read_text())
            assert {"command", "config", "seeds", "machine", "commit"} <= set(content)
