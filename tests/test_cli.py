"""The command line: what it computes, what it refuses, and how it survives."""

import csv
import importlib.metadata
import inspect
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import jal as package
from jal import acquisition, cost, predictive, scoring, selection
from jal.cli import _app, _hosts, _output, _score, _select
from jal.types import Outputs

N, D, C = 203, 6, 3
POOL = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
# Nothing of JAX may run where this is imported, as jax.distributed starts after it.
MODEL = """
import os, time
import jax, jax.numpy as jnp, numpy as np

from jal import scoring
from jal.types import Outputs

WEIGHTS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)

def predict(weights, x, key=None):
    if key is not None:
        x = x * jax.random.bernoulli(key, 0.5, (6,))[None]
    return Outputs(logits=x @ weights, loss_score=x[:, 0])

def trained():
    return predict, WEIGHTS

def members():
    return predict, np.stack([WEIGHTS, 2 * WEIGHTS, -WEIGHTS])

def slow():
    def read(start, stop):
        time.sleep(float(os.environ.get("NAP", 0)))
        return pool[start:stop]
    pool = np.load("pool.npy")
    return scoring.Source(len(pool), read)

def records():
    return scoring.open_source(Records(), prepare=lambda batch: batch["image"])

def seeing():
    def predict(weights, x, key=None):
        features = x[:, ::4, 0, 0][:, :4].astype(jnp.float32) / 255
        return Outputs(logits=features @ weights[:4])
    return predict, WEIGHTS

class Records:
    def __len__(self):
        return 203
    def __getitem__(self, index):
        return {"image": np.load("pool.npy")[index], "id": "a"}
"""
BROKEN = """
import numpy as np, jax.numpy as jnp
from jal.types import Outputs

w = np.ones((6, 3), np.float32)
not_a_function = 3
def no_pair(): return w
def a_list(): return [print, w]
def needs_more(seed): return 3
def raises(): raise KeyError("weights")
def array(): return (lambda w, x, key=None: x @ w), w
def no_logits(): return (lambda w, x, key=None: Outputs(features=x)), w
def one_logit(): return (lambda w, x, key=None: Outputs(logits=(x @ w)[:, :1])), w
def flat(): return (lambda w, x, key=None: Outputs(logits=(x @ w)[:, 0])), w
def no_key(): return (lambda w, x: Outputs(logits=x @ w)), w
def fails(): return (lambda w, x, key=None: Outputs(logits=x @ w.T)), w
def text(): return (lambda w, x, key=None: x), {"name": "a", "w": w}
def uneven(): return (lambda w, x: x), {"a": np.ones((2, 3)), "b": np.ones((3, 3))}
def alone(): return (lambda w, x: x), w[None]
def number(): return 3
class Reads:
    def __len__(self): return 203
    def __getitem__(self, index): raise KeyError(index)
def unreadable(): return Reads()
"""
PLATFORM = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with models and a pool, and a Python that has not seen them yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delenv(_hosts.CHILD, raising=False)
    Path("mymodel.py").write_text(MODEL)
    Path("broken.py").write_text(BROKEN)
    np.save("pool.npy", POOL)
    yield tmp_path
    for name in ("mymodel", "broken"):
        sys.modules.pop(name, None)


def jal(*arguments, code=0):
    result = CliRunner().invoke(_app.app, list(map(str, arguments)))
    if code != 1 and isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def score(*options, model="mymodel:trained", pool="pool.npy", name="bald", **kwargs):
    arguments = ("--acquisition", name, "--out", "scores.npy", "--quiet")
    return jal("score", model, pool, *arguments, *options, **kwargs)


def error(*options, command=score, **kwargs):
    """The one line that says what the user did wrong."""
    result = command(*options, code=2, **kwargs)
    assert result.stdout == ""
    line, end = result.stderr.split("\n")
    assert line.startswith("Error: ") and end == ""
    return line


def logits(*, passes, masks="shared"):
    """[S, N, C], computed beside the command line."""
    model = runpy.run_path("mymodel.py")
    keys = [jax.random.fold_in(jax.random.key(0), s) for s in range(passes)]
    return jnp.stack(
        [model["predict"](model["WEIGHTS"], POOL, key).logits for key in keys]
    )


def expected(name="bald", **options):
    return getattr(acquisition, name)(predictive.summarize(logits(**options)))


# ---- jal score: what it computes


@pytest.mark.parametrize("name", ["entropy", "bald", "margin", "variation_ratio"])
def test_scores_by_passes(name):
    result = score("--passes", 20, name=name)
    scores = np.load("scores.npy")
    np.testing.assert_allclose(scores, expected(name, passes=20), atol=1e-5)
    assert result.stderr == ""
    assert result.stdout == (
        f"203 items scored by {name}: min {scores.min():.4g}, mean "
        f"{scores.mean(dtype=float):.4g}, max {scores.max():.4g}\nwrote scores.npy\n"
    )


def test_a_hundred_passes_with_shared_masks_are_the_default():
    score()
    default = np.load("scores.npy")
    score("--passes", 100, "--masks", "shared", "--resume")
    np.testing.assert_array_equal(np.load("scores.npy"), default)
    np.testing.assert_allclose(default, expected(passes=100), atol=1e-5)
    assert json.loads(Path("scores.npy.json").read_text())["config"] == {
        "model": "mymodel:trained",
        "acquisition": "bald",
        "passes": 100,
        "masks": "shared",
    }


def test_scores_with_independent_masks():
    score("--passes", 20, "--masks", "independent", "--chunk-size", 50)
    first = np.load("scores.npy")
    assert np.abs(first - expected(passes=20)).max() > 0.01
    Path("scores.npy").unlink()
    options = ("--masks", "independent", "--chunk-size", 7, "--batch-size", 3)
    score("--passes", 20, *options)
    np.testing.assert_allclose(np.load("scores.npy"), first, atol=1e-5)


def test_the_seed_draws_the_masks():
    scores = []
    for seed in (0, 0, 1):
        score("--passes", 5, "--seed", seed)
        scores.append(np.load("scores.npy"))
        Path("scores.npy").unlink()
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 0.01


def test_scores_by_one_prediction():
    score("--passes", 0, name="margin")
    model = runpy.run_path("mymodel.py")
    one = predictive.summarize(jnp.asarray(POOL @ model["WEIGHTS"])[None])
    np.testing.assert_allclose(
        np.load("scores.npy"), acquisition.margin(one), atol=1e-5
    )


@pytest.mark.parametrize("passes", [[], ["--passes", 0]])
def test_scores_by_predicted_loss(passes):
    score(*passes, name="predicted_loss")
    np.testing.assert_array_equal(np.load("scores.npy"), POOL[:, 0])


def test_scores_by_members():
    score("--members", model="mymodel:members")
    weights = runpy.run_path("mymodel.py")["members"]()[1]
    ensemble = predictive.summarize(jnp.einsum("nd,sdc->snc", POOL, weights))
    np.testing.assert_allclose(
        np.load("scores.npy"), acquisition.bald(ensemble), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_logits_made_elsewhere(dtype):
    made = np.asarray(logits(passes=4), dtype)
    np.save("logits.npy", made)
    score(model="logits", pool="logits.npy")
    scores = np.load("scores.npy")
    summary = predictive.summarize(jnp.asarray(made, jnp.float32))
    np.testing.assert_allclose(scores, acquisition.bald(summary), atol=1e-5)

    Path("shards").mkdir()
    np.save("shards/10.npy", made[:, 150:])
    np.save("shards/9.npy", made[:, :150])
    Path("scores.npy").unlink()
    score("--chunk-size", 64, model="logits", pool="shards")
    np.testing.assert_allclose(np.load("scores.npy"), scores, atol=1e-6)


def photos(number=7):
    """A folder of images in folders, as [N, 16, 16, 3] of the size asked for."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(2).integers(0, 256, (number, 16, 16, 3), np.uint8)
    for place, one in enumerate(pixels):
        path = Path("photos") / f"{place % 2}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(one).save(path)
    order = sorted(range(number), key=lambda place: (place % 2, place))
    return pixels[order], [f"{place % 2}/{place}.png" for place in order]


def test_scores_of_a_folder_of_images_are_those_of_its_array():
    """Decoded as jal init does, a chunk at a time."""
    x, names = photos()
    np.save("x.npy", x)
    options = dict(model="mymodel:seeing", name="entropy")
    result = score(
        "--size", 16, "--chunk-size", 3, "--top", 2, pool="photos", **options
    )
    scores = np.load("scores.npy")
    table = [line.split(",") for line in Path("scores.top.csv").read_text().split()]
    assert table[0] == ["index", "score", "name"]
    assert [row[2] for row in table[1:]] == [names[int(row[0])] for row in table[1:]]
    assert names[scores.argmax()] in result.stdout
    message = "'size': 16"
    assert message in error("--resume", "--size", 20, pool="photos", **options)
    Path("scores.npy").unlink()
    score("--chunk-size", 3, pool="x.npy", **options)
    np.testing.assert_array_equal(np.load("scores.npy"), scores)

    # Without --size they are as large as those of jal init.
    jal("init", "lab", "photos", "--classes", "a,b")
    Path("scores.npy").unlink()
    score("--passes", 2, pool="photos", **options)
    default = np.load("scores.npy")
    Path("scores.npy").unlink()
    score("--passes", 2, pool="lab/pool.npy", **options)
    np.testing.assert_array_equal(np.load("scores.npy"), default)


@pytest.mark.parametrize("pool", ["mymodel:slow", "mymodel:records", "mymodel.py:slow"])
@pytest.mark.parametrize("model", ["mymodel:trained", "./mymodel.py:trained"])
def test_models_and_pools_are_named_by_functions(model, pool):
    score("--passes", 20, model=model, pool=pool)
    np.testing.assert_allclose(np.load("scores.npy"), expected(passes=20), atol=1e-5)


def test_what_stands_beside_a_file_can_be_imported():
    Path("models").mkdir()
    Path("models/beside.py").write_text("from dataclasses import dataclass\n")
    Path("models/types.py").write_text(
        "from __future__ import annotations\nfrom beside import dataclass\n"
        "@dataclass\nclass Model:\n    depth: int\n"
        "from mymodel import trained, slow\n"
    )
    score("--passes", 2, model="models/types.py:trained", pool="models/types.py:slow")
    assert sys.modules["types"].__name__ == "types"


def test_the_highest_scores_go_to_a_table():
    result = score("--passes", 20, "--top", 30)
    scores = np.load("scores.npy")
    order = np.lexsort((np.arange(N), -scores))[:30]
    lines = Path("scores.top.csv").read_text().splitlines()
    assert lines[0] == "index,score"
    assert lines[1:] == [f"{index},{str(scores[index])}" for index in order]
    assert [np.float32(line.split(",")[1]) for line in lines[1:]] == list(scores[order])
    shown = result.stdout.splitlines()[3:]
    assert shown[0].split() == ["index", "score"]
    assert shown[1].split() == lines[1].split(",")
    assert len(shown) == 12 and shown[-1] == "... and 20 more"
    assert not list(Path().glob("*.tmp"))


def test_nan_is_told_in_a_line():
    pool = POOL.copy()
    pool[5:17] = np.nan
    np.save("pool.npy", pool)
    result = score("--passes", 3, "--top", N)
    told = "12 NaN (items 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, ...)"
    assert result.stderr == f"Warning: {told}; they are never chosen\n"
    assert f", {told}\n" in result.stdout and "min 0" in result.stdout
    assert len(Path("scores.top.csv").read_text().splitlines()) == 1 + N - 12

    np.save("pool.npy", pool[5:7])
    Path("scores.npy").unlink()
    result = score("--passes", 3, "--top", 1)
    assert result.stdout.startswith("2 items scored by bald, 2 NaN (items 0, 1)\n")


def test_range_of_scores():
    scores = np.array([np.nan, np.nan, 3, np.nan, -1, 4, np.nan], np.float32)
    assert _score._range_of(scores) == (-1, 2, 4)
    assert _score._range_of(np.array([np.inf, 1], np.float32)) == (
        1,
        np.inf,
        np.inf,
    )


def test_the_progress_bar_goes_to_stderr():
    arguments = ("--acquisition", "bald", "--passes", 3, "--out", "scores.npy")
    result = jal("score", "mymodel:trained", "pool.npy", *arguments)
    assert "203/203" in result.stderr and "203/203" not in result.stdout


def test_a_finished_file_is_resumed_as_it_is():
    first = score("--passes", 3, "--top", 4)
    table = Path("scores.top.csv").read_bytes()
    Path("scores.top.csv").unlink()
    changed = os.stat("scores.npy").st_mtime_ns
    assert score("--passes", 3, "--top", 4, "--resume").stdout == first.stdout
    assert Path("scores.top.csv").read_bytes() == table
    assert os.stat("scores.npy").st_mtime_ns == changed


# ---- jal score: what it refuses


def test_another_run_is_neither_replaced_nor_resumed():
    score("--passes", 3)
    assert "scores.npy: there is something already; go on with it by --resume" in error(
        "--passes", 3
    )
    assert "'passes': 3" in error("--passes", 4, "--resume")
    assert "key was" in error("--passes", 3, "--seed", 1, "--resume")
    assert "'margin'" in error("--passes", 3, "--resume", name="margin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "bold"}, "--acquisition 'bold'; allowed are entropy, bald, mean_std"),
        ({"name": "shift"}, "--acquisition shift compares two successive models"),
        ({"model": "mymodel"}, "MODEL 'mymodel'; expected MODULE:FUNCTION, FILE.py:"),
        ({"model": "my/model:trained"}, "MODEL 'my/model:trained'; expected MODULE"),
        ({"model": "mymodel:"}, "FILE.py:FUNCTION or the word logits"),
        ({"model": "no_such:f"}, "MODEL: there is no module 'no_such', neit"),
        ({"model": "no.such:f"}, "MODEL: there is no module 'no', neit"),
        ({"model": "no_such.py:f"}, "MODEL: there is no file /"),
        ({"model": "importer:f"}, "importing importer: No module named 'no_such'"),
        ({"model": "mymodel:f"}, "no function 'f', only predict, trained, members, sl"),
        ({"model": "broken:not_a_function"}, "broken has no function 'not_a_function'"),
        ({"model": "empty:f"}, "empty has no function 'f', only none at all"),
        ({"model": "broken:needs_more"}, "broken:needs_more() is how jal calls it, bu"),
        ({"model": "broken:no_pair"}, "no_pair() returned a ndarray; expected the pai"),
        ({"model": "broken:a_list"}, "a_list() returned a list; expected the pair (pr"),
        ({"model": "broken:text"}, "variables that hold a str; expected a pytree of a"),
        ({"model": "broken:array"}, "predict of broken:array returned a "),
        ({"model": "broken:no_logits"}, "the model returned no logits, only ['feature"),
        ({"model": "broken:one_logit"}, "logits of 1 classes; expected 2 or more"),
        ({"model": "broken:flat"}, "predict of broken:flat returned logits of shape ("),
        ({"model": "broken:no_key"}, "broken:no_key: predict(variables, x, key) is ho"),
        ({"pool": "no.npy"}, "no.npy: there is no such file or folder"),
        ({"pool": "a:no.npy"}, "a:no.npy: there is no such file or folder"),
        (
            {"pool": "void"},
            "void: there is no image in it (.bmp, .gif, .jpeg, .jpg, .p",
        ),
        ({"pool": "void"}, ".webp), nor a .npy file"),
        ({"pool": "."}, "text.npy is not a whole .npy file of numbers"),
        ({"pool": "text.npy"}, "text.npy is not a whole .npy file of numbers"),
        ({"pool": "gs://bucket/x"}, "POOL 'gs://bucket/x'; expected MODULE:FUNCTION, "),
        ({"pool": "broken:number"}, "broken:number(): source is a int; expected arr"),
        ({"model": "logits"}, "POOL has 2 axes; expected logits [S, N, C] (logits[No"),
        ({"model": "logits", "pool": "whole.npy"}, "POOL holds int64; expected logits"),
        ({"model": "logits", "pool": "one_class.npy"}, "POOL has logits of 1 classes"),
        ({"model": "logits", "pool": "one_pass.npy"}, "with 1 predictions for each it"),
        (
            {"model": "logits", "name": "predicted_loss"},
            "loss needs a model that retur",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(options, message):
    Path("importer.py").write_text("import no_such")
    Path("empty.py").write_text("")
    Path("void").mkdir()
    Path("text.npy").write_text("1, 2, 3")
    np.save("whole.npy", np.ones((2, 3, 4), int))
    np.save("one_class.npy", np.ones((2, 3, 1)))
    np.save("one_pass.npy", np.ones((1, 3, 4)))
    assert message in error(**options)
    assert not list(Path().glob("scores*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--passes", 1], "compares predictions, and with 1 passes it is 0 for every"),
        (["--passes", 0], "with 1 prediction without dropout it is 0 for every item"),
        (["--passes", 0, "--masks", "shared"], "--masks: no effect, as --passes 0 has"),
        (["--size", 64], "--size: no effect, as POOL is no folder of images; leave it"),
        (["--masks", "none"], "--masks 'none'; allowed are shared, independent"),
        (["--members", "--passes", 3], "--passes: no effect, as --members is one pas"),
        (["--members", "--batch-size", 3], "--batch-size: no effect, as --members"),
        (["--top", 204], "--top 204: the pool has only 203 items"),
        (
            ["--out", "scores.txt"],
            "--out scores.txt: expected a name that ends in .npy",
        ),
        (["--out", "no/scores.npy"], "--out no/scores.npy: there is no folder no; mak"),
        (
            ["--coordinator", "a:1"],
            "several hosts also need --num-processes and --proc",
        ),
    ],
)
def test_options_that_do_not_fit_are_told_in_a_line(options, message):
    assert message in error(*options)


def test_options_without_effect_on_a_prediction():
    expectation = "--members and --passes: no effect, as predicted_loss is one predicti"
    assert expectation in error("--members", "--passes", 3, name="predicted_loss")
    expectation = "--masks: no effect, as the logits are predictions already; leave it"
    assert expectation in error("--masks", "shared", model="logits")


def test_ensembles_that_are_none():
    assert "but with [(2,), (3,)]; stack" in error("--members", model="broken:uneven")
    assert "with 1 members it is 0 for" in error("--members", model="broken:alone")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "broken:raises"}, "broken:raises() failed: 'weights'"),
        ({"model": "broken:fails"}, "predict of broken:fails failed: "),
        ({"pool": "broken:unreadable"}, "reading items 0 to 0 of broken:unreadable f"),
    ],
)
def test_what_fails_in_the_users_code_keeps_its_traceback(options, message):
    failure = score(**options, code=1).exception
    assert isinstance(failure, RuntimeError) and message in str(failure)
    assert failure.__cause__ is not None


def test_a_missing_or_wrong_option_is_a_usage_error():
    result = jal("score", "a", "b", "--acquisition", "bald", code=2)
    assert "Missing option '--out'" in result.stderr
    assert "--chunk-size" in score("--chunk-size", 0, code=2).stderr


def raising(failure):
    def raises(*_, **__):
        raise failure

    return raises


def test_memory_that_runs_out(monkeypatch):
    failure = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 3 GB\nmore")
    monkeypatch.setattr(scoring, "score_pool", raising(failure))
    assert "out of memory with --chunk-size 1000; lower it, or give --batch-siz" in (
        error()
    )


def test_defects_are_not_hidden(monkeypatch):
    failure = jax.errors.JaxRuntimeError("INTERNAL: Gloo")
    monkeypatch.setattr(scoring, "score_pool", raising(failure))
    assert score(code=1).exception is failure


def test_being_stopped_from_the_keyboard(monkeypatch):
    monkeypatch.setattr(scoring, "score_pool", raising(KeyboardInterrupt()))
    result = score(code=130)
    assert result.stderr == "\nStopped; what is scored is kept, and --resume goes on.\n"


# ---- jal select: what it computes


def files(**arrays):
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)


def select(*options, **kwargs):
    return jal("select", "scores.npy", *options, **kwargs)


def table(text=None):
    """The columns of a CSV file."""
    text = Path("batch.csv").read_text() if text is None else text
    heads, *rows = [line.split(",") for line in text.splitlines()]
    assert heads == ["index", "score", "cost", "cumulative_cost"]
    return {head: [row[i] for row in rows] for i, head in enumerate(heads)}


def chosen(*options, **kwargs):
    select(*options, "--out", "batch.csv", **kwargs)
    return list(map(int, table()["index"]))


RNG = np.random.default_rng(3)
SCORES = RNG.permutation(60).astype(np.float32) / 7
COSTS = RNG.uniform(1, 5, 60)
FEATURES = RNG.normal(size=(60, 4)).astype(np.float32)
PROBABILITIES = RNG.dirichlet(np.ones(3), 60).astype(np.float32)
GROUPS = RNG.integers(0, 4, 60)


@pytest.fixture
def data():
    files(scores=SCORES, costs=COSTS, features=FEATURES, groups=GROUPS)
    files(probabilities=PROBABILITIES, labeled=np.array([3, 7, 50]))


def test_the_highest_scores_are_chosen(data):
    assert chosen("-k", 7) == selection.top_k(jnp.asarray(SCORES), 7).tolist()
    columns = table()
    assert columns["cost"] == columns["cumulative_cost"] == [""] * 7
    assert columns["score"] == [str(s) for s in np.sort(SCORES)[::-1][:7]]


def test_scores_of_every_kind_are_ranked_exactly():
    close = np.array([1.0, 1 + 1e-12, 1 + 2e-12])
    files(scores=close)
    assert chosen("-k", 3) == [2, 1, 0]
    files(scores=np.array([3, -1, 5], np.int8))
    assert chosen("-k", 3) == [2, 0, 1]
    assert table()["score"] == ["5", "3", "-1"]
    files(scores=np.array([0.5, np.inf, -np.inf, np.nan], ">f2"))
    assert chosen("-k", 3) == [1, 0, 2]


def test_what_is_labelled_or_nan_is_never_chosen():
    files(scores=np.array([5, np.nan, 4, 3, 2, np.nan]))
    for labeled in (np.array([0, 5]), np.arange(6) % 5 == 0):
        files(labeled=labeled)
        result = select("-k", 3, "--labeled", "labeled.npy", "--out", "batch.csv")
        assert table()["index"] == ["2", "3", "4"]
        assert result.stdout.splitlines()[0] == (
            "chose 3 of 3 requested from 3 items (6 in all, 2 of them labelled, 1 with "
            "the score NaN)"
        )
    for nothing in (np.array([]), np.zeros(6, bool), np.array([], int)):
        files(labeled=nothing)
        assert chosen("-k", 4, "--labeled", "labeled.npy") == [0, 2, 3, 4]


def test_values_are_information_per_cost(data):
    for options, alpha, beta in (
        ([], 1, 1),
        (["--alpha", 2, "--beta", 0.3], 2, 0.3),
        (["--beta", 0], 1, 0),
        (["--alpha", 0], 0, 1),
    ):
        value = SCORES.astype(float) ** alpha / COSTS**beta
        best = np.lexsort((np.arange(60), -value))[:9]
        assert chosen("-k", 9, "--costs", "costs.npy", *options) == best.tolist()
    columns = table()
    assert columns["score"] == [str(score) for score in SCORES[best]]
    assert [float(price) for price in columns["cost"]] == COSTS[best].tolist()
    total = [f"{total:.15g}" for total in np.cumsum(COSTS[best])]
    assert columns["cumulative_cost"] == total


def test_a_budget_is_kept_to_the_last_digit():
    # In float32 ten times 0.1 are 1.0000001, in float64 a little less than 1.
    files(scores=np.ones(12), costs=np.full(12, 0.1))
    budget = ("--costs", "costs.npy", "--budget", 1)
    result = select(*budget, "--out", "batch.csv")
    assert table()["index"] == list(map(str, range(10)))
    assert result.stdout.splitlines()[0] == (
        "chose 10 from 12 items (12 in all, 0 of them labelled, 0 with the score NaN) "
        "at a cost of 1"
    )
    assert len(chosen(*budget, "-k", 4)) == 4
    assert len(chosen(*budget, "-k", 400)) == 10
    assert chosen("--costs", "costs.npy", "--budget", 0) == []
    assert select("--costs", "costs.npy", "--budget", "inf").stdout.count("\n") == 13


def test_a_budget_buys_what_still_fits(data):
    options = ("--costs", "costs.npy", "--budget", 20, "--labeled", "labeled.npy")
    with jax.enable_x64(True):
        available = jnp.asarray(~np.isin(np.arange(60), [3, 7, 50]))
        price = jnp.asarray(COSTS)
        value = cost.cost_ratio(jnp.asarray(SCORES), price, beta=1)
        picks, count = selection.within_budget(
            value, price, 20, max_k=57, available=available
        )
        picks = picks[:count].tolist()
    assert chosen(*options) == picks
    assert 18 < float(table()["cumulative_cost"][-1]) <= 20


def test_costs_that_nobody_can_pay_do_not_matter(data):
    """Where an item is not offered, its cost may be anything."""
    costs, scores = COSTS.copy(), SCORES.copy()
    costs[[3, 7, 50, 9]] = [np.nan, -1, 0, np.nan]
    scores[[7, 9]] = [-5, np.nan]
    files(costs=costs, scores=scores)
    options = ("--costs", "costs.npy", "--labeled", "labeled.npy")
    assert not {3, 7, 50, 9} & set(chosen("-k", 56, *options))


def test_items_are_drawn_at_random(data):
    with jax.enable_x64(True):
        expectation = selection.power(
            jax.random.key(4), jnp.asarray(SCORES, jnp.float64), 9, exponent=3.0
        ).tolist()
    power = ("-k", 9, "--method", "power")
    assert chosen(*power, "--exponent", 3, "--seed", 4) == expectation
    assert chosen(*power, "--seed", 4) != expectation
    assert chosen(*power) != chosen(*power, "--seed", 1)
    assert chosen(*power) != chosen(*power, "--exponent", 0)


def test_items_of_all_groups(data):
    expectation = selection.diversify(jnp.asarray(SCORES), jnp.asarray(GROUPS), 9)
    diversify = ("-k", 9, "--method", "diversify", "--groups", "groups.npy")
    assert chosen(*diversify) == expectation.tolist()
    files(groups=GROUPS.astype(np.uint8))
    assert chosen(*diversify) == expectation.tolist()


K_CENTER = ("-k", 9, "--method", "k-center", "--features", "features.npy")
BADGE = ("-k", 9, "--method", "badge", "--features", "features.npy")
BADGE += ("--probabilities", "probabilities.npy")


def best(number):
    """The candidates, in the order of the pool."""
    return np.sort(np.argsort(-SCORES)[:number])


def test_items_far_from_each_other(data):
    everything = selection.k_center(
        jnp.asarray(FEATURES), 9, centers=jnp.zeros(60, bool)
    ).tolist()
    assert chosen(*K_CENTER) == chosen(*K_CENTER, "--candidates", 0) == everything

    rows = best(20)
    among = selection.k_center(
        jnp.asarray(FEATURES[rows]), 9, centers=jnp.zeros(20, bool)
    )
    assert chosen(*K_CENTER, "--candidates", 20) == rows[among].tolist()
    assert rows[among].tolist() != everything


@pytest.mark.parametrize("name", ["core-set", "coreset"])
def test_k_center_has_another_name_in_papers(data, name):
    expectation = chosen(*K_CENTER)
    assert chosen(*K_CENTER[:3], name, *K_CENTER[4:]) == expectation


def test_items_far_from_what_is_labelled(data):
    labeled = np.array([3, 7, 50])
    candidates = np.array([i for i in np.argsort(-SCORES) if i not in labeled])[:20]
    rows = np.union1d(candidates, labeled)
    centers = jnp.asarray(np.isin(rows, labeled))
    among = selection.k_center(jnp.asarray(FEATURES[rows]), 9, centers=centers)
    options = ("--candidates", 20, "--labeled", "labeled.npy")
    assert chosen(*K_CENTER, *options) == rows[among].tolist()


def test_items_with_gradients_that_differ(data):
    rows = best(20)
    among = selection.badge(
        jax.random.key(2),
        jnp.asarray(PROBABILITIES[rows]),
        jnp.asarray(FEATURES[rows]),
        9,
    )
    options = ("--candidates", 20, "--seed", 2)
    assert chosen(*BADGE, *options) == rows[among].tolist()
    assert set(chosen(*BADGE, "--candidates", 20)) != set(rows[among].tolist())


def test_candidates_are_the_highest_values():
    n = 1500
    values = np.random.default_rng(0).permutation(n)
    files(scores=values, features=np.random.default_rng(1).normal(size=(n, 2)))
    highest = lambda number: set(np.argsort(-values)[:number].tolist())
    assert set(chosen(*K_CENTER, "--candidates", 9)) == highest(9)
    # The features of the others are not looked at.
    features = np.load("features.npy")
    features[list(set(range(n)) - highest(1000))] = np.nan
    files(features=features)
    assert set(chosen(*K_CENTER)) <= highest(1000)
    many = ("-k", 120, *K_CENTER[2:])
    assert "has values that are NaN" in error(*many, command=select)


def test_the_table_goes_to_stdout_if_there_is_no_file(data):
    for out in ([], ["--out", "-"]):
        result = select("-k", 3, *out)
        best = map(str, np.argsort(-SCORES)[:3])
        assert table(result.stdout)["index"] == list(best)
        assert result.stderr.startswith("chose 3 of 3 requested from 60 items")
    assert not Path("batch.csv").exists() and not Path("-").exists()


def test_a_summary_goes_to_stdout_if_there_is_a_file(data):
    Path("batch.csv").write_text("of yesterday")
    result = select("-k", 12, "--out", "batch.csv")
    lines = result.stdout.splitlines()
    assert lines[1] == "wrote batch.csv" and lines[2].split() == ["index", "score"]
    assert len(lines) == 14 and lines[-1] == "... and 2 more"
    files(costs=np.full(60, 0.1, np.float32))
    result = select("-k", 3, "--costs", "costs.npy", "--out", "batch.csv")
    lines = result.stdout.splitlines()
    assert lines[0].endswith("at a cost of 0.3") and "more" not in lines[-1]
    assert lines[2].split() == ["index", "score", "cost", "cumulative_cost"]
    assert lines[-1].split()[2:] == ["0.1", "0.3"]
    files(costs=np.full(60, 100, np.uint8))
    chosen("-k", 3, "--costs", "costs.npy")
    assert table()["cumulative_cost"] == ["100", "200", "300"]


# ---- jal select: what it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "best"], "--method 'best'; allowed are top-k, power, diversify"),
        ([], "-k or --budget is needed: how many items to choose"),
        (["-k", 61], "-k 61: there are only 60 items (60 in all, 0 of them labelled, "),
        (["-k", 58, "--labeled", "labeled.npy"], "only 57 items (60 in all, 3 of the"),
        (["-k", 9, "--method", "diversify"], "--method diversify needs --groups"),
        (["-k", 9, "--method", "k-center"], "--method k-center needs --features"),
        (list(BADGE[:-2]), "--method badge needs --probabilities"),
        (["-k", 9, "--groups", "groups.npy"], "--groups: no effect with --method top-"),
        (["-k", 9, "--exponent", 2], "--exponent: no effect with --method top-k; lea"),
        (["-k", 9, "--candidates", 0], "--candidates: no effect with --method top-k"),
        (["--budget", 0], "--budget: no effect, as there are no --costs; leave it out"),
        (["-k", 9, "--beta", 0.3], "--beta: no effect, as there are no --costs"),
        ([*K_CENTER, "--candidates", 8], "--candidates 8 are fewer than -k 9"),
        ([*K_CENTER, "--costs", "costs.npy", "--budget", 9], "with --method k-center;"),
        (["-k", 9, "--out", "no/batch.csv"], "--out no/batch.csv: there is no folder"),
        (["-k", 9, "--costs", "costs.npy", "--beta", -1], "beta = -1.0 must be a fi"),
        (["-k", 9, "--costs", "costs.npy", "--alpha", "inf"], "alpha = inf must be a"),
        (["--costs", "costs.npy", "--budget", "nan"], "budget must be >= 0, got nan"),
        (["-k", 9, "--labeled", "no.npy"], "--labeled no.npy: there is no such file"),
        (["-k", 9, "--labeled", "."], "--labeled . is not a whole .npy file of numbe"),
        (["-k", 9, "--labeled", "cut.npy"], "--labeled cut.npy is not a whole .npy f"),
        (["-k", 9, "--labeled", "empty.npy"], "--labeled empty.npy is not a whole .n"),
        (["-k", 9, "--labeled", "objects.npy"], "--labeled objects.npy is not a whol"),
        (
            ["-k", 9, "--labeled", "archive.npz"],
            "--labeled archive.npz is an .npz archive",
        ),
        (["-k", 9, "--labeled", "features.npy"], "holds float32; expected integers"),
        (
            ["-k", 9, "--labeled", "matrix.npy"],
            "has shape (60, 1); expected [n0] or [N",
        ),
        (["-k", 9, "--labeled", "outside.npy"], "holds 60; indices are between 0 and"),
        (["-k", 9, "--labeled", "negative.npy"], "holds -1; indices are between 0 an"),
        (["-k", 9, "--labeled", "mask01.npy"], "names items twice; a mask [N] must be"),
        (["-k", 9, "--labeled", "mask59.npy"], "is a mask of 59 items, and SCORES of"),
        (["-k", 9, "--costs", "short.npy"], "--costs short.npy is of 59 items, and SC"),
        (["-k", 9, "--costs", "text.npy"], "--costs text.npy holds <U1; expected num"),
        (["-k", 9, "--costs", "nan.npy"], "--costs: item 5 has nan; expected >= 0 an"),
        (["-k", 9, "--costs", "inf.npy"], "--costs: item 5 has inf; expected >= 0 an"),
        (["-k", 9, "--costs", "below.npy"], "--costs: item 5 has -0.5; expected >= 0"),
        (["-k", 9, "--costs", "zero.npy"], "item 5 has 0.0; expected > 0, or --beta 0"),
        ([*K_CENTER[:4], "--features", "costs.npy"], "has shape (60,); expected [N, D"),
        ([*BADGE[:-1], "features.npy"], "--probabilities: those of an item are not"),
        ([*BADGE[:-1], "below2.npy"], "--probabilities: those of an item are not >= "),
        ([*BADGE[:-1], "nan2.npy"], "--probabilities: item 5 has values that are NaN"),
    ],
)
def test_what_cannot_be_chosen_is_told_in_a_line(data, options, message):
    at_five = lambda value, array=COSTS: np.where(np.arange(60) == 5, value, array.T).T
    files(
        matrix=np.arange(60)[:, None],
        outside=np.array([3, 60]),
        negative=np.array([3, -1]),
        mask01=(np.arange(60) > 40).astype(int),
        mask59=np.ones(59, bool),
        short=COSTS[:59],
        text=np.full(60, "a"),
        nan=at_five(np.nan),
        inf=at_five(np.inf),
        below=at_five(-0.5),
        zero=at_five(0.0),
        below2=at_five(np.array([[2.0], [-0.5], [-0.5]]), PROBABILITIES),
        nan2=at_five(np.nan, PROBABILITIES),
    )
    np.savez("archive.npz", a=COSTS)
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    Path("cut.npy").write_bytes(Path("labeled.npy").read_bytes()[:-5])
    Path("empty.npy").write_bytes(b"")
    assert message in error(*options, command=select)
    assert not Path("batch.csv").exists()


def test_negative_scores_have_no_value_per_cost(data):
    files(scores=np.where(np.arange(60) == 5, -0.25, SCORES))
    line = error("-k", 9, "--costs", "costs.npy", command=select)
    assert line == "Error: SCORES: item 5 has -0.25; expected >= 0 for --costs"
    line = error("-k", 9, "--method", "power", command=select)
    assert line == "Error: SCORES: item 5 has -0.25; expected >= 0 for --method power"
    assert 5 not in chosen("-k", 59)


@pytest.mark.parametrize("content", [np.ones((3, 2)), np.array(["a"]), np.array(3.0)])
def test_scores_that_are_none(content):
    files(scores=content)
    assert "SCORES scores.npy " in error("-k", 1, command=select)


def test_an_empty_pool():
    files(scores=np.array([]))
    assert "-k 1: there are only 0 items" in error("-k", 1, command=select)


def test_a_reader_that_goes_away(data, monkeypatch):
    monkeypatch.setattr(csv, "writer", raising(BrokenPipeError(32, "Broken pipe")))
    assert select("-k", 3, code=1).stderr == ""


# ---- the others


def test_every_acquisition_function_is_listed():
    functions = {
        name: function
        for name, function in vars(acquisition).items()
        if inspect.isfunction(function) and function.__module__ == acquisition.__name__
    }
    facts = {fact.function.__name__: fact for fact in acquisition.FACTS}
    assert set(facts) == set(functions)
    lines = jal("acquisitions").stdout.splitlines()
    for name, function in functions.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        text = inspect.getdoc(function)
        fact = facts[name]
        assert fact.reference[-4:] in text and fact.reference.split()[0] in text
        assert line.endswith(fact.reference) and max(map(len, lines)) <= 110
        if fact.low != "-inf":
            assert f"in [{fact.low}, {fact.high}]" in text


@pytest.mark.parametrize("name", _score.SCORABLE)
def test_the_table_says_how_many_predictions_are_needed(name):
    needs = _score.FACTS[name].needs
    function = getattr(acquisition, name)
    if needs == "loss_score":
        assert function(Outputs(loss_score=jnp.ones(2))).shape == (2,)
        return
    one = function(predictive.summarize(logits(passes=1)))
    two = function(predictive.summarize(logits(passes=2)))
    assert ("S >= 2" not in needs) == (float(one.max()) > 0.01)
    assert float(two.max()) > 0.01


def test_tables_are_plain_and_whole_where_nobody_looks(capsys):
    long = "x" * 300
    _output.print_table(("a", "name"), [(1, "[b]two[/b]"), (22, long)])
    assert capsys.readouterr().out.splitlines() == [
        " a".ljust(2) + "  " + "name".rjust(300),
        " 1  " + "[b]two[/b]".rjust(300),
        f"22  {long}",
    ]
    _output.print_table(("a", "b"), [("c", "d")] * 3, justify="left", shown=2)
    assert capsys.readouterr().out == "a  b\nc  d\nc  d\n... and 1 more\n"


def test_tables_fit_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    _output.print_table(("a", "name"), [(1, "x" * 100)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 4 and "\x1b[" in lines[0] + lines[1]


def test_every_method_is_described():
    text = jal("select", "--help").stdout
    assert all(re.search(rf"^    {method} ", text, re.M) for method in _select.METHODS)


@pytest.mark.parametrize("command", ["score", "select", "acquisitions"])
def test_help_has_examples(command):
    text = jal(command, "--help").stdout
    assert "Example" in text and f"jal {command}" in text


def test_the_version():
    assert jal("--version").stdout == f"jal {importlib.metadata.version('jal')}\n"


def test_main_runs_what_stands_on_the_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jal", "acquisitions"])
    with pytest.raises(SystemExit) as end:
        _app.main()
    assert end.value.code == 0 and "bald" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main = Path(package.__file__).with_name("__main__.py")
        runpy.run_path(main, None, "__main__")
    assert "bald" in capsys.readouterr().out


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_without_a_library_a_line_says_what_to_install(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SystemExit, match=r"needs typer .*: pip install 'jal\[cli\]'"):
        runpy.run_path(_app.__file__)


# ---- several hosts


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def hosts(number=0, of=2, port=1234):
    address = f"127.0.0.1:{port}"
    numbers = ("--num-processes", of, "--process-id", number)
    return ("--coordinator", address, *numbers, "--heartbeat-timeout", 10)


def test_hosts_that_cannot_be_are_told_in_a_line():
    assert "--process-id 2: with --num-processes 2 they are 0 to 1" in error(*hosts(2))
    for address in ("here", ":1", "a:b", "a:70000", "a:0"):
        line = error(*hosts(1), "--coordinator", address)
        assert f"--coordinator '{address}'; expected HOST:PORT" in line
    line = error(*hosts(1), "--coordinator", "no-such-host.invalid:1")
    assert "--coordinator no-such-host.invalid:1: there is no host 'no-such" in line
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        line = error(*hosts(0, port=port))
    assert f"process 0 cannot listen to port {port}" in line


def test_the_work_of_a_host_is_done_in_another_process(monkeypatch):
    commands = []
    monkeypatch.setattr(sys, "argv", ["jal", "score", "and so on"])
    monkeypatch.setattr(_score, "supervised", lambda command: commands.append(command))
    score(*hosts(0, port=free_port()))
    assert commands == [[sys.executable, "-m", "jal", "score", "and so on"]]


@pytest.mark.parametrize(
    ("ends", "code", "message"),
    [
        ("sys.exit(0)", 0, ""),
        ("sys.exit(2)", 2, ""),
        ("os.abort()", 1, "another process was lost, or did not start"),
        (f"sys.exit({_hosts.PEER_LOST})", 1, "--resume on all hosts"),
        ("os.kill(os.getpid(), 9)", 1, "the job was ended by SIGKILL; what is sco"),
    ],
)
def test_how_the_work_ended_is_told_in_a_line(capsys, ends, code, message):
    program = f"import os, sys; assert os.environ[{_hosts.CHILD!r}]; {ends}"
    assert _hosts.supervised([sys.executable, "-c", program]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (message != "") and message in "".join(lines)


def test_the_work_ends_with_the_process_that_waits_for_it(monkeypatch):
    """By a signal if it is stopped, and by the closed pipe however it ends."""
    children = []

    def wait(child):
        children.append(child)
        raise KeyboardInterrupt

    program = "import time; time.sleep(60)"
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            _hosts.supervised([sys.executable, "-c", program])
    assert children[0].wait() == -signal.SIGKILL

    codes, (reads, writes) = [], os.pipe()
    monkeypatch.setattr(os, "_exit", codes.append)
    watch = threading.Thread(target=_hosts._end_with_parent, args=(reads,))
    watch.start()
    assert not codes
    os.close(writes)
    watch.join()
    os.close(reads)
    assert codes == [1]


@pytest.fixture
def as_child(monkeypatch):
    """Runs `main` as the process that does the work; gives what it exits with."""
    codes = []
    monkeypatch.setenv(_hosts.CHILD, "1")
    monkeypatch.setattr(_hosts, "_end_with_parent", lambda pipe: None)
    monkeypatch.setattr(os, "_exit", codes.append)

    def run(app):
        monkeypatch.setattr(_app, "app", app)
        stdout, keep = sys.stdout, os.dup(1)
        try:
            _app.main()
        finally:
            sys.stdout.close()
            sys.stdout = stdout
            os.dup2(keep, 1)
            os.close(keep)
        return codes

    return run


def test_what_the_child_writes_and_exits_with(as_child, capfd):
    def app():
        os.write(1, b"[Gloo]\n")
        print("summary")
        raise SystemExit(0)

    assert as_child(app) == []
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("summary\n", "[Gloo]\n")
    assert as_child(raising(SystemExit(2))) == [2]
    assert as_child(raising(SystemExit("text"))) == [2, 1]
    assert as_child(raising(KeyError("a defect"))) == [2, 1, 1]
    lost = RuntimeError("Unable to initialize backend 'cpu': Connection reset by peer")
    assert as_child(raising(lost)) == [2, 1, 1, _hosts.PEER_LOST]
    assert "KeyError: 'a defect'" in capfd.readouterr().err


def test_a_child_joins_before_it_loads_anything(monkeypatch):
    calls = []
    monkeypatch.setenv(_hosts.CHILD, "1")
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *a, **k: calls.append((a, k))
    )
    port = free_port()
    line = score(*hosts(0, port=port), model="no:f", code=2).stderr.splitlines()[0]
    assert line == (
        f"process 0 waits for all 2 at 127.0.0.1:{port}, for 5 minutes at most"
    )
    ((arguments, options),) = calls
    assert arguments == (f"127.0.0.1:{port}", 2, 0)
    assert options["heartbeat_timeout_seconds"] == 10

    failure = ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
    monkeypatch.setattr(scoring, "score_pool", raising(failure))
    result = score(*hosts(0, port=port), code=_hosts.PEER_LOST)
    assert result.stderr.splitlines()[1:] == [str(failure)]


# ---- processes of their own, killed


def started(*options, pool="mymodel:slow", **environment):
    arguments = ("mymodel:trained", pool, "--acquisition", "bald", "--passes", 20)
    arguments += ("--chunk-size", 100, "--top", 50, *options)
    command = [sys.executable, "-m", "jal", "score", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env={**os.environ, **PLATFORM, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*processes, code=0):
    """What each of them wrote to stdout and stderr."""
    outputs = [process.communicate(timeout=60) for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [code] * len(processes), outputs
    return outputs


def wait_for(journal, lines):
    journal = Path(journal)
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("]\n") >= lines):
        assert time.monotonic() < deadline, "nothing was scored"
        time.sleep(0.02)


@pytest.fixture
def reference():
    """The same pool scored in this process, on one device, with the same chunks."""
    pool = np.random.default_rng(5).normal(size=(3001, D)).astype(np.float32)
    np.save("pool.npy", pool)
    score("--passes", 20, "--chunk-size", 100, "--top", 50, "--out", "one.npy")
    return Path("one.npy")


def assert_same_result(path, reference):
    """Two hosts run programs of other shapes, whose sums round otherwise."""
    scores, expected = (np.load(file) for file in (path, reference))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-6)
    top, expected = (
        np.loadtxt(file.with_suffix(".top.csv"), delimiter=",", skiprows=1)
        for file in (path, reference)
    )
    np.testing.assert_array_equal(top[:, 0], expected[:, 0])
    np.testing.assert_allclose(top[:, 1], expected[:, 1], rtol=0, atol=2e-6)


def test_killed_and_resumed_to_the_same_bytes(reference):
    process = started("--out", "scores.npy", NAP="0.3")
    wait_for("scores.npy.partial/journal-0.jsonl", 3)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not Path("scores.npy").exists()
    ((stdout, stderr),) = finished(started("--out", "scores.npy", "--resume"))
    assert stdout.startswith("3001 items scored by bald: min ")
    assert "3001/3001" in stderr and "| 0/3001" not in stderr
    assert Path("scores.npy").read_bytes() == reference.read_bytes()
    table = reference.with_suffix(".top.csv").read_bytes()
    assert Path("scores.top.csv").read_bytes() == table


def test_two_hosts_killed_and_resumed_to_the_same_result(reference):
    """And the other one says so, soon after the heartbeat was missed."""
    run = lambda number, port, *options, **environment: started(
        "--out", "scores.npy", *hosts(number, port=port), *options, **environment
    )
    port = free_port()
    others, lost = run(0, port, NAP="2"), run(1, port, NAP="2")
    wait_for("scores.npy.partial/journal-0.jsonl", 1)
    wait_for("scores.npy.partial/journal-1.jsonl", 1)
    lost.kill()
    killed = time.monotonic()
    ((stdout, stderr),) = finished(others, code=1)
    assert time.monotonic() - killed < 25
    lost.communicate()
    assert stdout == ""
    assert stderr.splitlines()[-1] == (
        "Error: the job stopped because another process was lost, or did not start "
        "(the lines above say which); what is scored is kept: run the same command "
        "with --resume on all hosts"
    )

    port = free_port()
    outputs = finished(*(run(number, port, "--resume") for number in (0, 1)))
    assert outputs[0][0].startswith("3001 items scored by bald: min ")
    assert outputs[1][0] == "" and "Gloo" not in outputs[0][0]
    assert_same_result(Path("scores.npy"), reference)


def test_two_hosts_score_as_one_does(reference):
    port = free_port()
    processes = [started("--out", "two.npy", *hosts(i, port=port)) for i in (0, 1)]
    outputs = finished(*processes)
    assert_same_result(Path("two.npy"), reference)
    assert "wrote two.npy\n" in outputs[0][0] and outputs[1][0] == ""


def test_a_mistake_on_one_host_ends_the_job(reference):
    port = free_port()
    options = ("--out", "two.npy", "--quiet")
    wrong = started(*options, *hosts(0, port=port), pool="mymodel:none")
    right = started(*options, *hosts(1, port=port))
    ((_, stderr),) = finished(wrong, code=2)
    assert "Error: POOL 'mymodel:none': mymodel has no function 'none'" in stderr
    ((_, stderr),) = finished(right, code=1)
    assert "Error: the job stopped because another process was lost" in stderr
