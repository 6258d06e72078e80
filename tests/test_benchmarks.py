import json
import subprocess
import time

import numpy as np
import pytest

from benchmarks import (
    __main__,
    acquisition,
    adversarial,
    batch_selection,
    linear_svm,
    mc_dropout,
    peers,
    timing,
)
from benchmarks.timing import Program, Timing


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No peers, no pauses, and bounds that are not measured."""
    monkeypatch.setattr(peers, "installed", lambda peer: False)
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setattr(timing, "bounds", lambda: timing.Bounds(1e10, 1e11))


def check_rows(rows):
    """What every row has; those of missing peers have no value."""
    for row in rows:
        assert {"what", "value", "unit"} <= set(row), row
        measured = {"by", "fastest", "ratio", "repeats", "note"}
        assert set(row) <= {"what", "value", "unit"} | measured
        missing = row["unit"] == peers.MISSING
        assert (row["value"] is None) == missing, row
        assert missing or np.isfinite(row["value"]), row
    json.dumps(rows)
    assert __main__.table(rows).count("\n") == len(rows) - 1


def missing(rows):
    return {row["by"] for row in rows if row["unit"] == peers.MISSING}


def test_acquisition_rows():
    rows = acquisition.measure(1, pool=30, settings=((4, 3),))
    check_rows(rows)
    assert missing(rows) == {"PyTorch", "Baal", "scikit-activeml", "batchbald_redux"}
    times = {
        (row["what"], row["by"]): row for row in rows if row.get("repeats") is not None
    }
    assert {by for _, by in times} == {"jal", "NumPy"}
    assert len(times) == 2 * len(acquisition.SCORES)
    assert "ratio" in times["BALD, S=4, C=3", "NumPy"]


def test_acquisition_leaves_out_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(acquisition, "available_memory", lambda: 1e3)
    rows = acquisition.measure(1, pool=30, settings=((4, 3),))
    assert rows[-1]["what"] == "S=4, C=3: left out, memory needed"


@pytest.mark.slow
def test_mc_dropout_rows_and_the_last_chunk():
    rows = mc_dropout.measure(1, pool=5, num_samples=(2,), chunk=4)
    check_rows(rows)
    assert len(missing(rows)) == 4
    means = [row["value"] for row in rows if row["what"].endswith("mean BALD")]
    assert len(means) == 3 and all(mean > 0 for mean in means)


def test_plain_model_has_the_weights_of_jals_own():
    params = mc_dropout.make_params()
    x = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    own = mc_dropout.gal_predict(params, x, None).logits
    plain = mc_dropout.linen_predict(params, x, None).logits
    np.testing.assert_allclose(own, plain, rtol=1e-4, atol=1e-4)


def test_flops_of_the_published_network():
    # Every output of a convolution or dense layer is a sum over its inputs.
    trunk = 25 * 25 * 32 * 16 + 22 * 22 * 32 * 512
    one = mc_dropout.flops(1, 128) - mc_dropout.flops(0, 128)
    assert one == 2 * (11 * 11 * 32 + 10) * 128
    assert mc_dropout.flops(0, 64) == 2 * trunk


@pytest.mark.slow
def test_adversarial_rows():
    setting = adversarial.Setting("tiny", (1, 1, 1, 1), 2, 2)
    rows = adversarial.measure(1, settings=(setting,))
    check_rows(rows)
    assert missing(rows) == {"PyTorch"}
    found = {row["what"].rpartition(": ")[2]: row["value"] for row in rows}
    flops = adversarial.flops(setting, 512)
    assert found["of the matrix product's rate"] == pytest.approx(
        100 * found["steps"] * flops / 1e11, rel=1e-3
    )
    assert found["convolutions"] > 0 and found["batch normalisation"] > 0


def test_flops_of_the_published_autoencoder():
    published = adversarial.SETTINGS[0]
    # Products of one image: four convolutions and two heads; then a dense layer, three
    # transposed convolutions and the image. A gradient costs two more forward passes.
    encoder = 16**2 * 16 * 3 * 128 + 3 * 2**25 + 2 * 4096 * 32
    decoder = 33 * 16384 + 3 * 2**27 + 32**2 * 128 * 3
    judge = 33 * 512 + 512**2 + 512
    products = 3 * (encoder + decoder) - 16**2 * 48 * 128 + encoder + 5 * judge
    images = 2 * published.batch_size
    assert adversarial.flops(published, 512) == 2 * images * products


@pytest.mark.slow
def test_batch_selection_rows():
    rows = batch_selection.measure(
        1,
        kinds=("clustered",),
        pool=60,
        dimensions=8,
        labeled=10,
        picks=(5,),
        batchbald_pools=(20,),
        configurations=20,
        passes=6,
    )
    check_rows(rows)
    assert missing(rows) == {"PyTorch", "scikit-activeml", "batchbald_redux"}
    assert any("joint mutual information" in row["what"] for row in rows)


def test_numpy_k_center_is_greedy():
    features = batch_selection.make_features("clustered", 40, 4)
    is_center = np.arange(40) < 3
    centers = [0, 1, 2]
    for pick in batch_selection.numpy_k_center(features, is_center, 5):
        gaps = np.linalg.norm(features[:, None] - features[centers], axis=2).min(1)
        assert pick == gaps.argmax()
        centers.append(pick)
    gaps = np.linalg.norm(features[:, None] - features[centers], axis=2).min(1)
    radius = batch_selection.covering_radius(features, is_center, centers[3:])
    np.testing.assert_allclose(radius, gaps.max(), rtol=1e-5)


def test_potential_is_that_of_the_gradients():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 20)
    features = rng.normal(size=(20, 4))
    residuals = batch_selection.residuals(probabilities)
    gradients = (residuals[:, :, None] * features[:, None]).reshape(20, -1)
    picks = np.array([2, 7])
    squares = np.square(gradients[:, None] - gradients[picks]).sum(2).min(1)
    result = batch_selection.potential(probabilities, features, picks)
    np.testing.assert_allclose(result, squares.sum(), rtol=1e-9)


@pytest.mark.slow
def test_linear_svm_rows():
    rows = linear_svm.measure(1, [(60, 8, 3, 0.5, 1.0)], [(60, 8, 3, 0.5)], workers=1)
    check_rows(rows)
    values = {row["what"].rpartition(": ")[2]: row["value"] for row in rows}
    assert values["most that its objective differs"] < 1e-4
    assert values["least agreement"] >= 0.98
    assert {row["by"] for row in rows if row.get("repeats")} == {
        "jal",
        "GridSearchCV, 1 workers",
    }


def test_slow_programs_take_fewer_turns(monkeypatch):
    monkeypatch.setattr(timing, "SHORT", 0.0)
    calls = {"fast": 0, "slow": 0, "slower": 0}

    def run(name, seconds):
        calls[name] += 1
        time.sleep(seconds)

    timings = timing.side_by_side(
        {
            "fast": Program(lambda: run("fast", 0.0)),
            "slow": Program(lambda: run("slow", 0.05), scale=2.0, note="half"),
            "slower": Program(lambda: run("slower", 0.2)),
            "none": Program(None, note=peers.MISSING),
        },
        5,
        limit=0.12,
    )
    assert [timings[name].repeats for name in timings] == [5, 2, 1, 0]
    assert calls == {"fast": 2 + 5, "slow": 1 + 2, "slower": 1}
    assert timings["slow"].seconds >= 0.1
    rows = timing.comparison("x", timings, ours="fast")
    assert [row["unit"] for row in rows] == ["ms", "ms", "ms", peers.MISSING]
    assert rows[1]["note"] == "half" and rows[1]["ratio"] > 1


def test_fastest_variant():
    variants = {
        "slow": lambda: time.sleep(0.05),
        "fast": lambda: None,
        "slowest": lambda: time.sleep(0.2),
    }
    assert timing.fastest(variants).note == "fast"


def test_disagreement_is_an_error():
    results = {"jal": np.zeros(2), "a": np.array([0.0, 1e-3]), "b": np.zeros(2)}
    row = timing.agreement("x", results, 1e-2, "nats")
    assert (row["value"], row["by"]) == (1e-3, "a")
    with pytest.raises(ValueError, match="a differs from jal by 0.001"):
        timing.agreement("x", results, 1e-4, "nats")
    with pytest.raises(ValueError, match="nan"):
        timing.agreement("x", results | {"b": np.full(2, np.nan)}, 1e-2, "nats")


def test_peak_memory_sees_what_is_freed_again():
    def run():
        held = np.ones(8_000_000)
        time.sleep(0.05)
        return held.sum()

    peak = timing.peak_memory(run)
    assert np.isnan(peak) or 60e6 < peak < 200e6


def test_results_of_one_case_leave_the_others(tmp_path):
    path = tmp_path / "results" / "machine.json"
    __main__.merge(path, "loop", {"rows": [1]})
    __main__.merge(path, "acquisition", {"rows": [2]})
    __main__.merge(path, "loop", {"rows": [3]})
    content = json.loads(path.read_text())
    assert content["cases"] == {"acquisition": {"rows": [2]}, "loop": {"rows": [3]}}
    assert [file.name for file in path.parent.iterdir()] == ["machine.json"]


def test_table_says_what_is_missing():
    timings = {
        "jal": Timing(0.5, 0.4, 7, ""),
        "peer": Timing(1.0, 0.9, 3, "1 thread"),
        "other": Timing(float("nan"), float("nan"), 0, peers.MISSING),
    }
    text = __main__.table(timing.comparison("score", timings, unit="s"))
    assert [line.split() for line in text.splitlines()] == [
        ["score", "jal", "0.5", "s", "n=7"],
        ["score", "peer", "1", "s", "2", "x", "jal", "n=3", "1", "thread"],
        ["score", "other", "not", "installed"],
    ]


def test_a_case_is_measured_and_written(tmp_path, monkeypatch):
    rows = [timing.row("a", 1.0, "s")]
    monkeypatch.setattr(__main__, "RESULTS", tmp_path)
    monkeypatch.setitem(__main__.CASES, "acquisition", lambda repeats: rows)
    path = __main__.measure("acquisition", 3, False)
    record = json.loads(path.read_text())["cases"]["acquisition"]
    assert record["rows"] == rows and "jax" in record["versions"]


def test_a_case_that_fails_leaves_the_others(tmp_path, monkeypatch, capsys):
    def run(command, **_):
        case = command[3]
        if case == "loop":
            return subprocess.CompletedProcess(command, 1)
        path = tmp_path / f"{__main__.machine()}.json"
        __main__.merge(path, case, {"rows": [timing.row("a", 1.0, "s")]})
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(__main__, "RESULTS", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    cases = [__main__.Case("loop"), __main__.Case("devices")]
    with pytest.raises(SystemExit, match="loop"):
        __main__.main(cases)
    assert "a" in capsys.readouterr().out.splitlines()[0]
