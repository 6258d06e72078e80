"""`jal ask --mcal`: all of a pool, labelled by people and a model over days."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from jal.cli._app import app
from jal.session import LabelStore

pytest.importorskip("orbax.checkpoint")
CLASSES = ["cat", "dog"]
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 400)
FEATURES = (RNG.normal(size=(2, 6))[Y] + 0.2 * RNG.normal(size=(400, 6))).astype("f4")
OPTIONS = "--price 0.04 --training-price 0.0003 --max-error 0.1 --test-size 60".split()


def jal(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", FEATURES)
    jal("init", "lab", "features.npy", "--classes", ",".join(CLASSES))
    return tmp_path


def ask(*options):
    return json.loads(jal("ask", "lab", "--mcal", *OPTIONS, "--json", *options))


def answer(place):
    with open(place, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {"label": CLASSES[Y[int(row["index"])]], "annotator": "ann"}
    with open("filled.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    jal("tell", "lab", "filled.csv")


def test_everything_is_labelled(lab):
    out = jal("ask", "lab", "--mcal", "-k", 25, *OPTIONS)
    assert "batch 1: 25 items chosen at random, to measure accuracy" in out
    asked = []
    while "batch" in (found := ask("-k", 25)):
        assert len(found["items"]) <= 25
        asked += found["items"]
        answer(found["csv"])
    assert len(asked) == len(set(asked)) == found["by_people"]
    assert found["by_people"] + found["by_model"] == 400 and found["by_model"] > 200
    assert found["cost"] < found["people_alone"] == pytest.approx(16)
    with open(found["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 400
    assert sum(row["by"] == "people" for row in rows) == found["by_people"]
    wrong = [row["label"] != CLASSES[Y[int(row["index"])]] for row in rows]
    assert np.mean(wrong) < 0.1
    text = jal("ask", "lab", "--mcal", *OPTIONS)
    assert f"{found['by_people']:,} items by people" in text and "16.00 USD" in text
    assert LabelStore("lab").labels().is_test.sum() == 60


def test_what_is_refused(lab):
    assert "--mcal needs the --price" in jal("ask", "lab", "--mcal", code=2)
    free = ("ask", "lab", "--mcal", "--price", 0.04)
    assert "--training-price 0.0; --mcal weighs" in jal(*free, code=2)
    assert "--price: no effect, as it is of --mcal" in jal(
        "ask", "lab", "--price", 0.04, code=2
    )
    said = jal("ask", "lab", "--mcal", "--test", *OPTIONS, code=2)
    assert "--test: no effect, as --mcal chooses by itself" in said
    ask()
    said = jal("ask", "lab", "--mcal", *OPTIONS, "--confidence", 1.645, code=2)
    assert "belongs to a different run" in said
