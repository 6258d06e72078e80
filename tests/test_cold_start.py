"""The first labels: all methods on one small pool, and what they are compared by."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")

from experiments.people import __main__ as commands  # noqa: E402
from experiments.people import cold_start  # noqa: E402


@pytest.fixture
def blobs(tmp_path):
    """Three kinds of images, each of two brightnesses of one half."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 240)
    images = rng.integers(0, 20, (240, 4, 4, 1))
    for c in range(3):
        images[labels == c, c] += 200
    path = tmp_path / "blobs.npz"
    images = images.astype(np.uint8)
    held_out = dict(test_images=images[200:], test_labels=labels[200:])
    np.savez(path, images=images[:200], labels=labels[:200], **held_out)
    return path


@pytest.mark.slow
def test_one_label_of_each_kind_is_enough(blobs, tmp_path, invoke):
    options = [
        "--seeds",
        3,
        "--labels",
        "1,3",
        "--items",
        150,
        "--out",
        tmp_path / "new",
    ]
    result = invoke(commands.program, "cold-start", blobs, *options)
    assert result.status == 0, result.output
    found = json.loads((tmp_path / "new" / "blobs.json").read_text())
    assert len(found["records"]) == 3 * 2 * len(cold_start.METHODS)
    for record in found["records"]:
        assert len(set(record["picks"])) == record["labels"]
        if record["method"] == "typical" and record["labels"] == 3:
            assert record["classes"] == 3
            assert record["nearest neighbour"] == 1 == record["logistic"]
        if record["labels"] == 1:
            assert record["classes"] == 1 and record["logistic"] < 0.6
    by_case = {(each["labels"], each["method"]): each for each in found["summary"]}
    less = by_case[3, "typical"]["nearest neighbour, less random"]
    random = by_case[3, "random"]["nearest neighbour"]
    assert less["mean"] == pytest.approx(1 - random["mean"])
    assert (tmp_path / "new" / "blobs.png").stat().st_size > 5000


@pytest.mark.parametrize("labels", ["0,3", "3,151", "few", ""])
def test_numbers_of_labels_are_checked(blobs, tmp_path, labels, invoke):
    options = ["--labels", labels, "--items", 150, "--out", tmp_path]
    result = invoke(commands.program, "cold-start", blobs, *options)
    assert result.status == 2 and "from 1 to 150" in result.output


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match="method = 'best', choose one of random"):
        cold_start.first_picks("best", None, np.zeros((3, 2)), 1)
