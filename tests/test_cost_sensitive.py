"""The cost-sensitive experiment, at a size of seconds."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import runs
from experiments.cost_sensitive import __main__ as commands
from experiments.cost_sensitive import protocol as experiment
from experiments.cost_sensitive import report
from jal import cost
from jal._core import files

TINY = experiment.Config(rounds=2, candidates=20, picks=3, steps=3, passes=4)


def run(arm, folder, seed=0, config=TINY):
    return experiment.run_arm(config, arm, seed, folder)


def run_all(config, seeds, folder, **options):
    arms = [experiment.RANDOM]
    return runs.run_all(experiment.run_arm, config, arms, seeds, folder, **options)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_finished_run_is_kept_and_another_protocol_is_refused(tmp_path):
    first = run_all(TINY, [0, 1], tmp_path, workers=2)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/record.json")}
    assert [record["seed"] for record in first] == [0, 1] and len(times) == 2
    again = run_all(TINY, [0, 1], tmp_path)
    assert again == first
    assert {p: p.stat().st_mtime_ns for p in times} == times
    other = dataclasses.replace(TINY, steps=4)
    with pytest.raises(ValueError, match="another steps; choose another --out"):
        run_all(other, [0], tmp_path)


@pytest.mark.slow
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
def test_bad_sizes_are_refused(changes, message):
    config = dataclasses.replace(TINY, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        experiment.check(config, None)


def test_sizes_are_looked_at_before_anything_is_written(tmp_path, invoke):
    out = tmp_path / "out"
    ended = invoke(commands.program, "table1", "--data", "digits", "--out", out)
    assert ended.status == 2 and "1000 = 48000" in ended.output, ended.output
    assert not out.exists()


@pytest.mark.slow
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
def test_help_shows_an_example(command, invoke):
    ended = invoke(commands.program, command, "--help")
    assert ended.status == 0
    assert f"Example: python -m experiments.cost_sensitive {command}" in " ".join(
        ended.output.split()
    )


@pytest.mark.slow
def test_the_commands_write_tables_and_plots(tmp_path, monkeypatch, invoke):
    """All three commands, with records made up instead of computed."""
    rng = np.random.default_rng(0)

    def made_up(run, config, arms, seeds, folder, **_):
        assert run is experiment.run_arm
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

    monkeypatch.setattr(runs, "run_all", made_up)
    monkeypatch.setattr(experiment, "check", lambda *_: None)
    for command, names in {
        "demo": ["accuracy-by-labels.png", "accuracy-by-cost.png", "demo.json"],
        "table1": ["table1.png", "table1.json"],
        "figure1": ["figure1.png", "figure1-curves.png", "figure1.json"],
    }.items():
        out = tmp_path / command
        result = invoke(commands.program, command, "--seeds", 2, "--out", out)
        assert result.status == 0, result.output
        assert sorted(p.name for p in out.iterdir()) == sorted(names)
        assert "random" in result.output
        for path in out.glob("*.json"):
            content = json.loads(path.read_text())
            assert {"command", "config", "seeds", "machine", "commit"} <= set(content)
