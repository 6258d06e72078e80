"""The low-budget comparison: a small one from end to end, and its verdicts."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.common import runs
from experiments.low_budget import __main__ as commands
from experiments.low_budget import protocol, report
from experiments.low_budget import source as sources
from experiments.low_budget.protocol import Arm, Config

pytest.importorskip("matplotlib")
SOURCE = sources.SourceConfig("digits", width=2, blocks=(1,), epochs=2)
SMALL = dict(initial=15, picks=10, rounds=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A source that knows five of the digits, and the features of the others."""
    folder = tmp_path_factory.mktemp("low_budget")
    made = sources.train(SOURCE, folder / "source", progress=False)
    sources.extract(SOURCE, made, "digits", folder / "features" / "digits")
    return folder


@pytest.fixture(scope="module")
def records(base):
    config = Config("digits", **SMALL)
    return [
        protocol.run_arm(config, Arm(name), 0, base / "digits" / "x" / name)
        for name in ("rand", "alamp-div")
    ]


@pytest.mark.slow
def test_the_source_is_trained_once(base):
    manifest = json.loads((base / "source" / "manifest.json").read_text())
    (_, again), found = sources.train(SOURCE, base / "source", progress=False)
    assert found == manifest and again
    target_images = len(sources.read(base / "features" / "digits").train_labels)
    assert manifest["source_images"] + target_images == 1297
    other = dataclasses.replace(SOURCE, epochs=3)
    with pytest.raises(ValueError, match="epochs"):
        sources.train(other, base / "source", progress=False)


def test_source_and_target_have_no_class_in_common():
    source, target = sources.split_classes(10, seed=0)
    assert sorted([*source, *target]) == list(range(10))
    labels = np.array([3, 1, 3, 0])
    images, numbers = sources.of_classes(np.arange(4), labels, np.array([0, 3]))
    assert images.tolist() == [0, 2, 3] and numbers.tolist() == [1, 1, 0]


def write(folder, **arrays):
    """Features of a user's own, some of them spoilt."""
    rng = np.random.default_rng(0)
    whole = {
        "train_features": rng.normal(size=(6, 3)),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_features": rng.normal(size=(4, 3)),
        "test_labels": np.array([0, 1, 2, 0]),
        **arrays,
    }
    for name, array in whole.items():
        np.save(folder / f"{name}.npy", array)
    return whole


def test_features_of_ones_own_need_no_manifest(tmp_path):
    whole = write(tmp_path)
    read = sources.read(tmp_path)
    assert read.manifest == {} and read.train_features.dtype == np.float32
    np.testing.assert_allclose(read.test_features, whole["test_features"], rtol=1e-6)


@pytest.mark.slow
def test_features_are_those_that_the_manifest_describes(base, tmp_path):
    folder = base / "features" / "digits"
    read = sources.read(folder)
    assert read.train_features.shape == (len(read.train_labels), 2)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert sources.read(tmp_path).manifest == read.manifest != {}
    np.save(tmp_path / "test_labels.npy", read.test_labels[::-1])
    with pytest.raises(ValueError, match="test_labels.npy is not what"):
        sources.read(tmp_path)


@pytest.mark.parametrize(
    "spoilt, message",
    [
        (
            {"train_features": np.full((6, 3), np.nan)},
            "NaN or infinite values in row 0",
        ),
        ({"test_features": np.ones((4, 2))}, "have 3 features an item.* 2"),
        ({"train_features": np.ones(6)}, r"shape \(6,\)"),
        ({"train_labels": np.zeros(5, int)}, "expected 6 integers"),
        ({"train_labels": np.zeros(6)}, "dtype float64; expected 6 integers"),
        ({"train_labels": np.zeros(6, int)}, "all 0; nothing to learn"),
        ({"test_labels": np.array([0, 1, -1, 0])}, "contains -1"),
        ({"test_labels": np.array([{}], object)}, "not a whole .npy file"),
    ],
)
def test_spoilt_features(tmp_path, spoilt, message):
    write(tmp_path, **spoilt)
    with pytest.raises(ValueError, match=message):
        sources.read(tmp_path)


def test_truncated_and_missing_features(tmp_path):
    write(tmp_path)
    path = tmp_path / "train_features.npy"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match="not a whole .npy file"):
        sources.read(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="features and labels of your own"):
        sources.read(tmp_path)


@pytest.mark.slow
def test_records_say_what_was_chosen(records, base):
    target = protocol.load_target(
        Config("digits", **SMALL), base / "features/digits", None
    )
    first = {tuple(record["initial"]) for record in records}
    assert len(first) == 1, "all methods start from the same labels"
    for record in records:
        bought = np.array(record["initial"] + sum(record["indices"][:-1], []))
        assert len(set(bought.tolist())) == 45 and record["count"] == [15, 25, 35, 45]
        counts = np.bincount(target.train_labels[bought], minlength=5)
        assert record["imbalance"][-1] == pytest.approx(counts.std() / counts.mean())
        strengths = np.array(record["fit"]["strength"])[:, None]
        distances = abs(strengths - [[0.001, 0.01, 0.1, 1, 10]]).min(axis=1)
        assert distances.max() < 1e-6
    assert records[0]["accuracy"][0] == records[1]["accuracy"][0]


def test_imbalance_on_the_worked_example():
    assert protocol.imbalance(np.array([4, 0, 8, 4])) == pytest.approx(0.707107)


def test_the_profile_is_that_of_the_paper():
    labels = np.repeat(np.arange(100), 500)
    kept = protocol.exponential_profile(labels, seed=0)
    counts = np.bincount(labels[kept], minlength=100)
    assert counts.sum() == pytest.approx(17_168, rel=0.001)
    assert counts.std() == pytest.approx(126.98, rel=0.002)
    assert protocol.imbalance(counts) == pytest.approx(0.74, abs=0.002)
    assert np.all(np.diff(kept) > 0)


@pytest.mark.slow
def test_the_commands_from_end_to_end(records, base, monkeypatch, invoke):
    def run_all(run, config, arms, seeds, folder, *, workers, data_dir):
        names = [arm.name for arm in arms]
        assert config.target == "digits" and run is protocol.run_arm
        return [
            {**records[name != "rand"], "arm": name, "seed": seed}
            for seed in seeds
            for name in names
        ]

    monkeypatch.setattr(runs, "run_all", run_all)
    run = lambda *arguments: invoke(commands.program, *arguments, "--out", base)
    for command, number in (("balanced", 8), ("imbalanced", 6), ("diversify", 6)):
        done = run(command, "digits", "--seeds", "2")
        assert done.status == 0, done.output
        assert "alamp-div is above rand" in done.output
        stored = json.loads((base / f"{command}-digits.json").read_text())
        assert len(stored["summary"]["arms"]) == number
        assert (base / f"{command}-digits-accuracy.png").stat().st_size > 10_000
    done = run("schemes", "digits", "--source-data", "digits")
    assert done.status == 0, done.output
    assert "SVM is above" in done.output
    for arguments, message in (
        (
            ("balanced", "digits", "--methods", "rand,best"),
            "no 'best'; allowed are rand, marg",
        ),
        (("balanced", "digits", "--methods", "marg"), "compared with"),
        (("balanced", "digits", "--scheme", "knn"), "allowed are svm"),
        (("balanced", "digits", "--scheme", "ft"), "needs --source-data"),
        (("balanced", "nowhere"), "is not there"),
    ):
        failed = run(*arguments)
        assert failed.status == 2 and message in failed.output, failed.output


@pytest.mark.slow
def test_fine_tuning_starts_from_the_source(base):
    config = Config(
        "digits", "ft", initial=10, picks=5, rounds=1, epochs=1, batch_size=8,
        source_data="digits", imbalanced=True,
    )  # fmt: skip
    record = protocol.run_arm(config, Arm("marg-div"), 0, base / "digits" / "ft" / "a")
    assert record["count"] == [10, 15] and 0 <= record["accuracy"][1] <= 1
    assert set(record["fit"]) == {"loss", "error"}
    with pytest.raises(FileNotFoundError, match="is not there"):
        sources.config_of("digits", base)
    with pytest.raises(ValueError, match="trained on digits"):
        sources.config_of("mnist", base / "source")


def made(arm, seed, accuracy, imbalance=0.3):
    counts = [200, 1800, 3200]
    return {
        "arm": arm, "seed": seed, "count": counts, "accuracy": accuracy,
        "imbalance": [imbalance] * 3,
    }  # fmt: skip


def test_verdicts():
    records = []
    for seed, noise in enumerate((0.0, 0.001, -0.001)):
        records += [
            made("rand", seed, [0.2, 0.4 + noise, 0.5], 0.4),
            made("alamp", seed, [0.2, 0.43 + 2 * noise, 0.52], 0.2),
            made("marg", seed, [0.2, 0.4 - 20 * noise, 0.5], 0.4),
            made("core", seed, [0.2, 0.3, 0.4 + noise], 0.5),
        ]
    summary = report.summarize(records, "balanced")
    assert summary["threshold"] == 0.40
    verdicts = {name: claim["verdict"] for name, claim in summary["claims"].items()}
    assert verdicts["alamp is above rand"] == "replicated"
    assert verdicts["marg is above rand"] == "not resolved"
    assert verdicts["core is below rand"] == "replicated"
    assert verdicts["alamp labels more evenly than rand"] == "replicated"
    gain = summary["arms"]["alamp"]["gain"]
    assert gain["mean"] == pytest.approx(2.5)
    assert summary["arms"]["core"]["labels_to_threshold"]["mean"] == 3200
