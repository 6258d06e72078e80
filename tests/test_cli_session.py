"""`jal init`, `ask`, `tell`, `status`, `plan`, `export`, `report` as a lab does."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jal import mcal, session
from jal._core import files
from jal.cli._app import app
from jal.cli._output import amount
from jal.session import LabelStore, _pool

pytest.importorskip("orbax.checkpoint")
Image = pytest.importorskip("PIL.Image")

# A script, and no part of a package.
_spec = importlib.util.spec_from_file_location(
    "journey", Path(__file__).with_name("journey.py")
)
assert _spec is not None and _spec.loader is not None
journey = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(journey)

CLASSES = ["cat", "dog", "owl <b>"]
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 90)
CENTERS = RNG.normal(size=(3, 8))
FEATURES = (CENTERS[Y] + 0.3 * RNG.normal(size=(90, 8))).astype(np.float32)


def jal(*arguments, code=0):
    """Output of a command; anything but a mistake in one line is a defect."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", FEATURES)
    jal("init", "lab", "features.npy", "--classes", ",".join(CLASSES), "--seed", 3)
    return tmp_path


def fill(path, annotator="ann", rows=slice(None), label=None):
    """A batch as an annotator sends it back."""
    with open(path, newline="") as file:
        table = list(csv.DictReader(file))
    for row in table[rows]:
        item = int(row["index"])
        row["label"] = CLASSES[Y[item]] if label is None else label
        row |= {"annotator": annotator, "seconds": 2.0 + Y[item]}
    with open("filled.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    return "filled.csv"


def test_a_campaign(lab):
    """From nothing to a plan, over features."""
    assert "0 of 90 items labelled" in jal("status", "lab")
    out = jal("ask", "lab", "--test", "-k", 30)
    assert "batch 1: 30 items chosen at random" in out
    out = jal("tell", "lab", fill("lab/batches/0001/batch.csv"))
    assert "30 new answers, 0 that were known" in out
    assert "0 new answers, 30 that were known" in jal("tell", "lab", "filled.csv")
    jal("ask", "lab", "-k", 6)
    # Half of it, then asking again shows the other half.
    jal("tell", "lab", fill("lab/batches/0002/batch.csv", rows=slice(0, 3)))
    assert "batch 2: 3 items" in jal("ask", "lab", "-k", 9)
    with open("lab/batches/0002/batch.csv") as file:
        assert len(list(csv.DictReader(file))) == 3
    jal("tell", "lab", fill("lab/batches/0002/batch.csv", "bob"))
    out = jal("ask", "lab", "-k", 6, "--beta", 1, "--guesses")
    assert "batch 3: 6 items, expected to take" in out
    with open("lab/batches/0003/batch.csv") as file:
        rows = list(csv.DictReader(file))
    assert all(row["guess"] in CLASSES for row in rows)
    assert all(float(row["expected_seconds"]) > 0 for row in rows)
    tasks = json.loads((lab / "lab/batches/0003/tasks.json").read_text())
    assert [task["data"]["jal_item"] for task in tasks] == [
        int(row["index"]) for row in rows
    ]
    assert "predictions" in tasks[0]
    jal("tell", "lab", fill("lab/batches/0003/batch.csv"))
    status = json.loads(jal("status", "lab", "--json"))
    assert (status["labeled"], status["tested"], status["waiting"]) == (12, 30, 0)
    assert status["rounds"][0]["labels"] == 6 and status["rounds"][0]["tested"] == 30
    by_name = {each["who"]: each for each in status["annotators"]}
    assert by_name["ann"]["labels"] == 39 and by_name["bob"]["labels"] == 3
    text = jal("status", "lab")
    assert "12 of 90 items labelled to train on, 30 to measure" in text
    assert "accuracy with 6 labels" in text and "owl <b>" in text
    out = jal("plan", "lab", "--price", 0.04, "--max-error", 0.2, "--out", "plan.png")
    assert (lab / "plan.png").exists() and "USD" in out
    jal("export", "lab", "--out", "labels.csv")
    with open("labels.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 42 and {row["by"] for row in rows} == {"people"}
    assert all(row["label"] == CLASSES[Y[int(row["index"])]] for row in rows)
    jal("export", "lab", "--out", "all.csv", "--predict")
    with open("all.csv") as file:
        rows = list(csv.DictReader(file))
    right = [r["label"] == CLASSES[Y[int(r["index"])]] for r in rows]
    assert len(rows) == 90 and np.mean(right) > 0.8
    jal("export", "lab", "--out", "answers.csv", "--annotations")
    with open("answers.csv", encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == 42
    jal("report", "lab")
    page = (lab / "lab" / "report.html").read_text()
    assert "owl &lt;b&gt;" in page and "<script" not in page


def test_what_a_command_does_python_can_call(lab):
    """The same files from both, byte by byte."""
    mine = session.begin(
        "mine", "features.npy", classes=CLASSES, strategy="margin", seed=3
    )
    for theirs, ours in [("names.json",) * 2, ("labeling.xml",) * 2, ("pool.npy",) * 2]:
        assert (lab / "lab" / theirs).read_bytes() == (lab / "mine" / ours).read_bytes()
    for number, options in enumerate([{"test": True}, {}, {}], 1):
        jal("ask", "lab", "-k", 6, *(["--test"] if options else []), "--guesses")
        place = session.write_batch_files(mine, mine.ask(6, **options), guesses=True)
        for name in ("batch.csv", "tasks.json"):
            expected = (lab / f"lab/batches/{number:04d}" / name).read_bytes()
            assert (place / name).read_bytes() == expected
        filled = fill(place / "batch.csv")
        jal("tell", "lab", filled)
        told = session.tell_file(mine.store, filled)
        assert (told.new, told.known) == (6, 0)
        mine = session.resume("mine")
    jal("export", "lab", "--out", "theirs.csv", "--predict")
    found = session.export_labels(mine.store, "ours.csv", probabilities=mine.predict())
    assert found == (18, 72)
    assert (lab / "theirs.csv").read_bytes() == (lab / "ours.csv").read_bytes()
    assert session.write_report(mine.store) == Path("mine/report.html")
    assert json.loads(jal("status", "lab", "--json")) == files.as_json(mine.status())
    assert mcal.session_profile(mine.store, mcal.Terms(90, 1, 0.04)).sizes == [6]


def test_a_session_of_python_arrays_has_a_status_and_a_report(lab):
    recipe = session.default_recipe(FEATURES, 3)
    mine = session.Session.create("arrays", FEATURES, recipe, classes=CLASSES)
    mine.tell([4, 5], [0, None])
    assert "1 of 90 items labelled" in jal("status", "arrays")
    jal("export", "arrays", "--out", "labels.csv")
    assert (lab / "labels.csv").read_text().splitlines()[1] == "4,4,cat,people,"
    jal("report", "arrays")
    assert "made from Python; open it there" in jal("ask", "arrays", code=2)


def test_a_label_opens_a_store_once_a_command(tmp_path):
    found = journey.journey(tmp_path)
    assert found["tell"] == found["ask"] == {"stores": 1, "connections": 1}
    here = [name for name in found["files"] if name.split("/")[0] in ("cli", "session")]
    assert len(here) <= 14


def test_core_set_is_k_center(lab):
    for name in ("k-center", "core-set", "coreset"):
        init = ("init", name, "features.npy", "--classes", "a,b", "--strategy", name)
        assert "chooses by k-center" in jal(*init)


def test_people_who_differ(lab):
    jal("ask", "lab", "-k", 4)
    batch = "lab/batches/0001/batch.csv"
    jal("tell", "lab", fill(batch))
    out = jal("tell", "lab", fill(batch, "bob", label="dog"))
    differ = int(re.search(r"; (\d) items were labelled otherwise", out)[1])
    assert differ and "ann: " in out and "bob: dog" in out
    out = jal("status", "lab")
    assert f"{differ} disputed" in out and "--final" in out
    assert "disputed: " in out
    jal("tell", "lab", fill(batch, "eve"), "--final")
    assert "0 disputed" in jal("status", "lab")
    jal("tell", "lab", fill(batch, "zoe", label="skip"))
    assert json.loads(jal("status", "lab", "--json"))["skipped"] == 0


def test_a_folder_of_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(24):
        folder = tmp_path / "photos" / f"{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d} ä.png")
    jal("init", "lab", "photos", "--classes", "cat,dog", "--size", 16)
    assert np.load("lab/pool.npy").shape == (24, 16, 16, 3)
    jal("ask", "lab", "-k", 3)
    with open("lab/batches/0001/batch.csv", encoding="utf-8-sig") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert all(re.fullmatch(r"[01]/\d\d ä\.png", name) for name in names)
    tasks = json.loads((tmp_path / "lab/batches/0001/tasks.json").read_text())
    assert tasks[0]["data"]["image"].startswith("data:image/png;base64,")
    assert "<Choice value=" in (tmp_path / "lab/labeling.xml").read_text()
    # An export of Label Studio, of one who is called by a number.
    said = [
        {
            "id": 5,
            "data": tasks[0]["data"],
            "annotations": [
                {
                    "completed_by": 7,
                    "lead_time": 4.5,
                    "result": [
                        {
                            "from_name": "choice",
                            "to_name": "image",
                            "type": "choices",
                            "value": {"choices": ["dog"]},
                        }
                    ],
                }
            ],
        }
    ]
    (tmp_path / "export.json").write_text(json.dumps(said))
    assert "1 new answers" in jal("tell", "lab", "export.json")
    answer = LabelStore("lab").answers()[0]
    assert answer.label == 1 and answer.seconds == 4.5
    assert answer.item == tasks[0]["data"]["jal_item"]
    jal("ask", "lab", "--image-url", "http://localhost/photos", "-k", 3)
    tasks = json.loads((tmp_path / "lab/batches/0001/tasks.json").read_text())
    assert tasks[0]["data"]["image"].startswith("http://localhost/photos/")
    jal("report", "lab", "--out", "page.html")
    assert "data:image/png" in (tmp_path / "page.html").read_text()


def test_images_are_seen_as_people_see_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8] = 200  # bright above
    turned = Image.fromarray(half)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save("photos/0.png", exif=exif)
    deep = np.full((16, 16), 1000, np.uint16)
    deep[:8] = 3000
    Image.fromarray(deep).save("photos/1.png")
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[8:, :, 3] = 255
    Image.fromarray(clear).save("photos/2.png")
    Image.fromarray(half[..., 0]).convert("P").save("photos/3.gif")
    jal("init", "lab", "photos", "--classes", "a,b", "--size", 16)
    pool = np.load("lab/pool.npy").astype(int)
    above, below = pool[:, 2:6].mean((1, 2, 3)), pool[:, 10:14].mean((1, 2, 3))
    assert above.round().tolist() == [0, 255, 255, 200]
    assert below.round().tolist() == [200, 0, 0, 0]
    for number in range(4):
        shown = _pool.preview(
            next((tmp_path / "photos").glob(f"{number}.*")), 16
        ).astype(int)
        np.testing.assert_array_equal(shown, pool[number])


def test_an_image_too_large_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("L", (40, 40)).save("photos/scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    out = jal("init", "lab", "photos", "--classes", "a,b", code=2)
    assert "scan.png cannot be read" in out and "pixels" in out


def test_names_in_urls_are_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("L", (16, 16)).save("photos/a&b #1.png")
    jal("init", "lab", "photos", "--classes", "a,b", "--size", 16)
    for place, end in [
        ("/data/local-files/?d=photos", "photos/a%26b%20%231.png"),
        ("https://x.org/photos/", "photos/a%26b%20%231.png"),
        ("s3://bucket/photos", "s3://bucket/photos/a&b #1.png"),
    ]:
        jal("ask", "lab", "-k", 1, "--image-url", place)
        (task,) = json.loads((tmp_path / "lab/batches/0001/tasks.json").read_text())
        assert task["data"]["image"].endswith(end)


def test_a_batch_of_another_session_is_refused(lab):
    np.save("others.npy", FEATURES[::-1])
    jal("init", "other", "others.npy", "--classes", ",".join(CLASSES))
    jal("ask", "lab", "-k", 4)
    filled = fill("lab/batches/0001/batch.csv")
    assert "another pool" in jal("tell", "other", filled, code=2)
    assert "4 new answers" in jal("tell", "lab", filled)


def test_what_is_exported_can_be_told_to_a_new_session(lab):
    jal("ask", "lab", "-k", 6)
    batch = "lab/batches/0001/batch.csv"
    jal("tell", "lab", fill(batch))
    jal("tell", "lab", fill(batch, "bob"))
    jal("tell", "lab", fill(batch, "chief", label="dog"), "--final")
    jal("export", "lab", "--annotations", "--out", "said.csv")
    options = ("--classes", ",".join(CLASSES), "--labels", "said.csv")
    jal("init", "again", "features.npy", *options)
    before, after = LabelStore("lab"), LabelStore("again")
    assert before.answers() == after.answers()
    np.testing.assert_array_equal(before.labels().label, after.labels().label)
    # What the model guessed is no answer of people.
    jal("export", "lab", "--predict", "--out", "all.csv")
    assert "guess of the model" in jal("tell", "lab", "all.csv", code=2)


def test_for_machines(lab):
    def told(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        return json.loads(result.stdout)

    asked = told("ask", "lab", "-k", 4)
    assert asked["batch"] == 1 and len(asked["items"]) == 4
    assert asked["purpose"] == "train" and asked["expected"] is None
    new = {"new": 4, "known": 0, "conflicts": []}
    assert told("tell", "lab", fill(asked["csv"])) == new
    out = ("export", "lab", "--out", "labels.csv")
    assert told(*out)["by_people"] == 4
    assert told(*out, "--annotations")["answers"] == 4
    init = ("init", "b", "features.npy", "--classes", "a,b")
    assert told(*init) == {"items": 90, "classes": ["a", "b"], "labeled": 0}


def test_what_waits_without_a_prediction_takes_what_others_took(lab):
    jal("ask", "lab", "-k", 4)
    jal("tell", "lab", fill("lab/batches/0001/batch.csv", rows=slice(2)))
    status = json.loads(jal("status", "lab", "--json"))
    assert status["waiting"] == 2
    assert status["waiting_cost"] == pytest.approx(2 * status["typical"])
    jal("tell", "lab", fill("lab/batches/0001/batch.csv"))
    status = json.loads(jal("status", "lab", "--json"))
    assert status["batch_size"] == 4 and status["waiting"] == 0
    total = amount(4 * status["typical"], "seconds")
    assert f"4 more are expected to take about {total}" in jal("status", "lab")


def test_the_report_shows_money_if_only_that_was_told(lab):
    (lab / "paid.csv").write_text("index,label,cost\n3,cat,2.5\n5,dog,2.5\n")
    jal("tell", "lab", "paid.csv")
    jal("report", "lab", "--out", "page.html")
    page = (lab / "page.html").read_text()
    assert "5.00" in page and "nothing recorded" not in page


def test_labels_there_are_already(lab):
    (lab / "old.csv").write_text("index,label\n3,cat\n5,dog\n7,cat\n")
    classes = ",".join(CLASSES)
    options = ("--classes", classes, "--labels", "old.csv")
    out = jal("init", "b", "features.npy", *options)
    assert "3 of them labelled" in out
    assert LabelStore("b").labels().order.tolist() == [3, 5, 7]


def test_a_recipe_of_ones_own(lab):
    (lab / "mine.py").write_text(
        "from jal import learners, session, strategies\n"
        "def recipe():\n"
        "    learner = learners.logistic_regression(8, 3, strengths=(1.0,))\n"
        "    return session.Recipe(learner, strategies.random())\n"
        "def wrong():\n    return 1\n"
    )
    init = ("init", "b", "features.npy", "--classes", "a,b,c", "--model")
    assert "a recipe of mine.py:recipe" in jal(*init, "mine.py:recipe")
    assert "batch 1: 2 items" in jal("ask", "b", "-k", 2)
    out = jal("init", "c", *init[2:], "mine.py:wrong", code=2)
    assert "expected jal.session.Recipe" in out
    assert not (lab / "c").exists()


@pytest.mark.parametrize(
    "arguments, text",
    [
        (("init", "lab", "features.npy", "--classes", "a,b"), "lab holds "),
        (("init", "b", "none.npy", "--classes", "a,b"), "no such file or folder"),
        (("init", "b", "bad.npy", "--classes", "a,b"), "not a whole .npy file"),
        (
            ("init", "b", "nan.npy", "--classes", "a,b"),
            "NaN or infinite values in item 1",
        ),
        (("init", "b", "objects.npy", "--classes", "a,b"), "not a whole .npy file"),
        (("init", "b", "empty", "--classes", "a,b"), "there is no image in it"),
        (("init", "b", "broken", "--classes", "a,b"), "cannot be read as an image"),
        (("init", "b", "features.npy", "--classes", "a"), "at least two"),
        (("init", "b", "features.npy", "--classes", "a,a"), "classes"),
        (
            ("init", "b", "features.npy", "--classes", "a,b", "--strategy", "x"),
            "allowed are",
        ),  # fmt: skip
        (
            ("init", "b", "features.npy", "--classes", "a,b", "--strategy", "bald"),
            "dropout",
        ),  # fmt: skip
        (
            ("init", "b", "features.npy", "--classes", "a,b", "--features", "few.npy"),
            "3 rows",
        ),  # fmt: skip
        (("ask", "nowhere"), "is not there"),
        (("ask", "lab", "--beta", "0.5"), "there is no label yet"),
        (("tell", "lab", "none.csv"), "there is no"),
        (("tell", "lab", "unknown.csv"), "zebra"),
        (("tell", "lab", "features.npy"), "a .npy array"),
        (("plan", "lab", "--price", "0.04"), "no model was measured yet"),
        (("plan", "--price", "0.04"), "give --pool and --errors"),
        (("export", "lab", "--out", "x.csv", "--predict"), "no label to train on"),
        (("export", "lab", "--out", "no/x.csv"), "there is no folder"),
    ],
)
def test_mistakes(lab, arguments, text):
    (lab / "bad.npy").write_bytes(b"nothing")
    np.save("nan.npy", np.where(np.arange(6) == 2, np.nan, 0).reshape(3, 2))
    np.save("few.npy", FEATURES[:3])
    np.save("objects.npy", np.array([{}, {}]), allow_pickle=True)
    (lab / "empty").mkdir()
    (lab / "broken").mkdir()
    (lab / "broken" / "a.png").write_bytes(b"\x89PNG nothing")
    (lab / "unknown.csv").write_text("index,label\n3,zebra\n")
    out = jal(*arguments, code=2)
    assert text in out and "Traceback" not in out
    assert out.strip().count("\n") <= 1
    assert not (lab / "b").exists()
    assert LabelStore("lab").answers() == []


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_hostile_files_write_nothing_elsewhere(lab, monkeypatch):
    """Names are looked up in the pool, and open no file."""
    inner = lab / "deep" / "er"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    jal("init", "lab", "../../features.npy", "--classes", "cat,dog")
    (inner / "evil.csv").write_text("name,label\n../../features.npy,cat\n")
    task = {"data": {"image": "/data/../../features.npy"}}
    task["annotations"] = [{"result": []}]
    (inner / "evil.json").write_text(json.dumps([task]))
    (inner / "evil.pkl").write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    (inner / "who.csv").write_bytes(b"index,label,annotator\n1,cat,x\0y\n")
    before = contents(lab)
    assert "no item is called" in jal("tell", "lab", "evil.csv", code=2)
    jal("tell", "lab", "evil.json", code=2)
    assert "pickle" in jal("tell", "lab", "evil.pkl", code=2)
    jal("tell", "lab", "who.csv", code=2)
    after = contents(lab)
    changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    assert all("lab/labels.sqlite" in str(path) for path in changed)
    assert LabelStore("lab").answers() == []


def test_a_file_that_was_filled_in_is_not_written_over(lab):
    jal("ask", "lab", "-k", 3)
    batch = lab / "lab/batches/0001/batch.csv"
    (lab / "filled.csv").unlink(missing_ok=True)
    fill(batch, rows=slice(0, 2))
    batch.write_bytes((lab / "filled.csv").read_bytes())
    out = jal("ask", "lab", "-k", 3, code=2)
    assert "holds 2 answers that were not told" in out and "jal tell lab" in out
    assert batch.read_bytes() == (lab / "filled.csv").read_bytes()
    jal("tell", "lab", batch)
    assert "batch 1: 1 items" in jal("ask", "lab", "-k", 3)
    batch.write_text(batch.read_text().replace(",,,,,", ",zebra,,,,"))
    assert "zebra" in jal("ask", "lab", "-k", 3, code=2)


def test_an_init_that_failed_can_be_repeated(lab):
    init = ("init", "b", "features.npy", "--classes")
    assert "$" in jal(*init, "a,$b", code=2)
    assert "allowed are seconds" in jal(*init, "a,b", "--unit", "hours", code=2)
    assert not (lab / "b").exists()
    (lab / "b").mkdir()
    (lab / "b" / "names.json").write_text("half")
    (lab / "b" / "pool.npy.tmp").write_text("half")
    (lab / "b" / "labels.sqlite.12.tmp-journal").write_text("half")
    jal(*init, "a,b")
    assert "is not empty" not in jal(*init, "a,b", code=2)
    assert "batch 1: 2 items" in jal("ask", "b", "-k", 2)


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (0.003, "cost", "0.003"),
        (0, "cost", "0"),
        (1234.5, "cost", "1,234.50"),
        (90, "seconds", "2 min"),
    ],
)
def test_amounts_as_a_person_writes_them(value, unit, text):
    assert amount(value, unit) == text
