"""Label Studio: what is imported there, and every shape in which it exports."""

import base64
import io
import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from jal import session
from jal.session import Annotation, _tables

NAMES = ["a.png", "cats/b.png", "c d.png", "../../etc/passwd", "deadbeef-e.png"]
CLASSES = ["cat", "dog", "<script>alert(1)</script>"]
POOL = {"names": NAMES, "classes": CLASSES}


def given_file(folder, content, reader=session.read_label_studio, **options):
    path = folder / "export.txt"
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return reader(path, **{**POOL, **options})


def refusal(folder, content, **options):
    with pytest.raises(ValueError) as error:
        given_file(folder, content, **options)
    assert "export.txt" in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


def choice(*names, control="choice", **more):
    return {
        "id": "Dx_aB91ISN",
        "from_name": control,
        "to_name": "image",
        "type": "choices",
        "origin": "manual",
        "value": {"choices": list(names)},
        **more,
    }


def answer(*names, **more):
    """An annotation as in the documentation, of whoever has the number 10."""
    return {
        "id": 1001,
        "result": [choice(*names)] if names else [],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "updated_at": "2021-03-09T22:16:08.728378Z",
        "lead_time": 4.288,
        "result_count": 0,
        "task": 1,
        "completed_by": 10,
        **more,
    }


CHANGED = 1615328168.728378  # 2021-03-09T22:16:08.728378Z


def task(*answers, data=None, **more):
    return {
        "id": 17,
        "created_at": "2021-03-09T21:52:49.513742Z",
        "updated_at": "2021-03-09T22:16:08.746926Z",
        "project": 83,
        "data": {"jal_item": 1} if data is None else data,
        "annotations": list(answers),
        "predictions": [{"model_version": "m", "result": [choice("dog")]}],
        **more,
    }


def flat(**more):
    """A task as JSON-MIN has it."""
    return {
        "image": "/data/upload/1/0123abcd-a.png",
        "id": 17,
        "choice": "dog",
        "annotator": 3,
        "annotation_id": 1001,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "updated_at": "2021-03-09T22:16:08.728378Z",
        "lead_time": 2.5,
        **more,
    }


# what goes there


def test_tasks_say_which_item_they_are_about():
    made = session.label_studio_tasks(
        np.array([3, 1]),
        **POOL,
        images=["http://x/3.png", b"\xff\xd8\xffjpeg"],
        probabilities=np.float32([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]]),
        model_version="round 3",
    )
    assert json.loads(json.dumps(made)) == made
    assert made[0]["data"] == {
        "image": "http://x/3.png",
        "jal_item": 3,
        "name": "../../etc/passwd",
    }
    kind, content = made[1]["data"]["image"].split(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(content) == b"\xff\xd8\xffjpeg"
    (guess,) = made[0]["predictions"]
    assert guess["score"] == pytest.approx(0.7)
    assert guess["model_version"] == "round 3"
    assert guess["result"] == [
        {
            "from_name": "choice",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["dog"]},
        }
    ]
    assert made[1]["predictions"][0]["result"][0]["value"] == {"choices": ["cat"]}
    plain = session.label_studio_tasks([0], **POOL)
    assert plain == [{"data": {"image": "a.png", "jal_item": 0, "name": "a.png"}}]
    assert session.label_studio_tasks([], **POOL, probabilities=[], images=[]) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"items": [5]}, "index is 5; expected 0 to 4"),
        ({"items": [True]}, "expected an integer"),
        ({"items": [0], "images": []}, "images: 0 for 1 items"),
        ({"items": [0], "images": [b"BM"]}, "no PNG"),
        ({"items": [0], "probabilities": [0.1, 0.9]}, r"expected \[K, C\] = \(1, 3\)"),
        ({"items": [0], "probabilities": [[0, 2, 0]]}, "softmax"),
        ({"items": [0], "probabilities": [[0, np.nan, 0]]}, "softmax"),
        ({"items": [0], "classes": ["skip"]}, "rename it"),
    ],
)
def test_tasks_that_fit_nothing(options, says):
    with pytest.raises(ValueError, match=says):
        session.label_studio_tasks(**{**POOL, **options})


def test_the_interface_is_what_tasks_and_exports_call_it():
    classes = ["cat", "a & b", "\"quotes\" and 'more'", *CLASSES[2:], "é 猫"]
    view = ElementTree.fromstring(session.label_studio_config(classes))
    image, choices = view
    assert image.attrib == {"name": "image", "value": "$image"}
    assert choices.attrib["name"] == session.CONTROL
    assert choices.attrib["toName"] == "image" and choices.attrib["choice"] == "single"
    assert [entry.attrib for entry in choices] == [{"value": name} for name in classes]
    assert all(entry.tag == "Choice" and not len(entry) for entry in choices)


@pytest.mark.parametrize("name", ["$5", "a $b", "a\tb", "\x07", "\ud800", "\ufffe"])
def test_classes_that_label_studio_cannot_show(name):
    with pytest.raises(ValueError, match="rename it"):
        session.label_studio_config(["cat", name])


def picture(url):
    from PIL import Image

    kind, content = url.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_thumbnails_show_the_pixels():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    enlarged = picture(session.thumbnail(grey, size=8))
    np.testing.assert_array_equal(enlarged, grey.repeat(2, 0).repeat(2, 1))
    same = picture(session.thumbnail(grey[..., None] / 255.0, size=4))
    np.testing.assert_array_equal(same, grey)
    for channels in (3, 4):
        wide = np.zeros((10, 300, channels), np.float16)
        small = picture(session.thumbnail(wide, size=30))
        assert small.shape == (1, 30, channels) and small.dtype == np.uint8
    assert picture(session.thumbnail(np.ones((500, 2)), size=9)).shape == (9, 1)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros(3, np.uint8), "expected"),
        (np.zeros((3, 3, 2), np.uint8), "expected"),
        (np.zeros((0, 3), np.uint8), "expected"),
        (np.zeros((3, 3), int), "dtype int64"),
        (np.zeros((3, 3), bool), "dtype bool"),
        (np.full((3, 3), -0.1), "scale floats"),
        (np.full((3, 3), np.nan), "scale floats"),
    ],
)
def test_what_is_no_image(image, says):
    with pytest.raises(ValueError, match=says):
        session.thumbnail(image)


def test_thumbnails_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"need Pillow: pip install 'jal\[label\]'"):
        session.thumbnail(np.zeros((2, 2)))


# what comes back: JSON


def test_several_annotators_of_a_task(tmp_path):
    export = [
        task(
            answer("cat"),
            answer("dog", completed_by="ann@example.com", ground_truth=True),
            answer("dog", completed_by={"id": 5, "email": "bob@example.com"}),
            answer("dog", completed_by={"id": 6, "username": "eve", "email": ""}),
            answer("dog", completed_by={"id": 7}, lead_time=None),
            answer("dog", completed_by=None, lead_time=3),
            answer("dog", completed_by={}, lead_time=5),
        ),
        task(answer("cat", completed_by=10), data={"jal_item": 0}, id=18),
        task(data={"image": "of another pool"}),
    ]
    assert given_file(tmp_path, export) == [
        Annotation(1, 0, "10", 4.288, at=CHANGED),
        Annotation(1, 1, "ann@example.com", 4.288, at=CHANGED),
        Annotation(1, 1, "bob@example.com", 4.288, at=CHANGED),
        Annotation(1, 1, "eve", 4.288, at=CHANGED),
        Annotation(1, 1, "7", at=CHANGED),
        Annotation(1, 1, "", 3.0, at=CHANGED),
        Annotation(0, 0, "10", 4.288, at=CHANGED),
    ]


@pytest.mark.parametrize(
    "times, at",
    [
        ({"updated_at": "1970-01-01T00:01:00Z"}, 60),
        ({"updated_at": "1970-01-01T01:01:00.000000+01:00"}, 60),
        ({"updated_at": "1970-01-01T00:01:00"}, 60),
        ({"updated_at": None, "created_at": "1970-01-01T00:01:00Z"}, 60),
        ({"updated_at": "soon", "created_at": 7}, None),
        ({"updated_at": "0001-01-01T00:00:00+23:00"}, 0),
    ],
)
def test_when_it_was_said(tmp_path, times, at):
    said = given_file(tmp_path, [task(answer("cat", **{"created_at": None} | times))])
    assert [one.at for one in said] == [at]


def test_what_was_said_again_has_the_later_time(tmp_path):
    days = [f"2026-01-0{day}T00:00:00Z" for day in (2, 1, 3)]
    labels = ("cat", "dog", "cat")
    export = [
        task(*(answer(c, updated_at=d) for c, d in zip(labels, days, strict=True)))
    ]
    said = {one.label: one.at for one in given_file(tmp_path, export)}
    assert said[0] - said[1] == 2 * 24 * 3600


def test_who_skips_or_does_not_choose_has_no_label(tmp_path):
    remark = {"type": "textarea", "from_name": "why", "value": {"text": ["blurred"]}}
    export = [
        task(
            answer("cat", was_cancelled=True, completed_by=1),
            answer(skipped=True, completed_by=2),
            answer(completed_by=3),
            answer(result=None, completed_by=4),
            answer(result=[choice()], completed_by=5),
            answer(result=[remark], completed_by=6),
            answer("unsure", completed_by=7),
        )
    ]
    said = given_file(tmp_path, export)
    assert [(one.label, one.annotator) for one in said] == [
        (None, str(number)) for number in range(1, 8)
    ]


def test_old_exports_and_single_files(tmp_path):
    old = task(answer("dog"))
    old["completions"] = old.pop("annotations")
    expected = [Annotation(1, 1, "10", 4.288, at=CHANGED)]
    assert given_file(tmp_path, [old]) == expected
    # A file a task, or an annotation, in the target storage of a project.
    assert given_file(tmp_path, task(answer("dog"))) == expected
    stored = answer("dog", task={"id": 17, "data": {"jal_item": 1}})
    assert given_file(tmp_path, stored) == expected
    assert given_file(tmp_path, "\ufeff" + json.dumps([old])) == expected
    assert given_file(tmp_path, []) == []


@pytest.mark.parametrize("value", ["dog", ["dog"], {"choices": "dog"}, [["dog"]]])
def test_choices_however_they_are_packed(tmp_path, value):
    packed = value if isinstance(value, dict) else {"choices": value}
    full = task(answer(result=[choice() | {"value": packed}]))
    assert given_file(tmp_path, [full])[0].label == 1
    assert given_file(tmp_path, [flat(choice=value)])[0].label == 1


def test_repeated_annotations_count_once(tmp_path):
    export = [
        task(answer("dog", lead_time=1), answer("dog", lead_time=2), answer("cat")),
        task(answer("dog")),
    ]
    assert given_file(tmp_path, export) == [
        Annotation(1, 1, "10", 1.0, at=CHANGED),
        Annotation(1, 0, "10", 4.288, at=CHANGED),
    ]


@pytest.mark.parametrize(
    ("data", "item"),
    [
        ({"jal_item": 4, "name": "deadbeef-e.png", "image": "a.png"}, 4),
        ({"name": "c d.png"}, 2),
        ({"name": "a patient's", "image": "a.png"}, 0),
        ({"image": "https://example.com/pool/a.png?X-Amz-Date=1&d=x#there"}, 0),
        ({"image": "s3://bucket/pool/cats/b.png"}, 1),
        ({"image": "/data/upload/1/0123abcd-a.png"}, 0),
        ({"image": "/data/upload/1/cats/0123abcd-b.png"}, 1),
        ({"image": "/data/upload/1/0123abcd-deadbeef-e.png"}, 4),
        ({"image": "/data/upload/1/deadbeef-e.png"}, 4),
        ({"image": "/data/local-files/?d=pool/cats/b.png"}, 1),
        ({"image": "/data/local-files/?d=pool%2Fc%20d.png"}, 2),
        ({"image": "https://host/data/local-files?x=1&d=pool\\cats\\b.png&y=2"}, 1),
        ({"image": "/data/local-files/?d=../../etc/passwd"}, 3),
        ({"image": "../../etc/passwd"}, 3),
        ({"image": "https://[/c%20d.png"}, 2),
    ],
)
def test_how_an_item_is_found(tmp_path, data, item, monkeypatch):
    opened = []

    def remembered(name, *args, **kwargs):
        opened.append(name)
        return open(name, *args, **kwargs)

    monkeypatch.setattr(_tables, "open", remembered, raising=False)
    (said,) = given_file(tmp_path, [task(answer("dog"), data=data)])
    assert said.item == item
    (said,) = given_file(tmp_path, [flat(image="") | data])
    assert said.item == item
    assert set(opened) == {tmp_path / "export.txt"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"jal_item": 5}, "index is 5; expected 0 to 4"),
        ({"jal_item": -1}, "index is -1"),
        ({"jal_item": True}, "expected an integer"),
        ({"jal_item": "1"}, "expected an integer"),
        ({"jal_item": 1.0}, "expected an integer"),
        ({"jal_item": 0, "name": "c d.png"}, "index 0 is 'a.png', but name says"),
        ({"image": "b.png"}, "no item of the pool is meant"),
        ({"image": "c d0123abcd-.png"}, "no item of the pool is meant"),
        ({"image": "data:image/png;base64,/a.png"}, "no item of the pool is meant"),
        ({"image": "/" * 100_000}, "no item of the pool is meant"),
        ({"name": 7, "image": None}, "name is 7 and image None"),
        ({}, "no item of the pool is meant"),
    ],
)
def test_items_that_are_not_found(tmp_path, data, says):
    message = refusal(tmp_path, [task(), task(answer("dog"), data=data)])
    assert says in message and "task 2 (id 17)" in message


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lead_time": "4.2"}, "lead_time: seconds is '4.2'"),
        ({"lead_time": True}, "seconds is True"),
        ({"lead_time": float("nan")}, "seconds is nan"),
        ({"lead_time": float("inf")}, "seconds is inf"),
        ({"lead_time": -0.5}, "seconds is -0.5"),
        ({"lead_time": 10**12}, "at most 1e+09"),
        ({"lead_time": {}}, "seconds is {}"),
        ({"completed_by": True}, "completed_by is True"),
        ({"completed_by": [1]}, "completed_by is [1]"),
        ({"was_cancelled": "yes"}, "was_cancelled is 'yes'; expected true or false"),
        ({"was_cancelled": 1}, "expected true or false"),
        ({"result": "dog"}, "result is 'dog'; expected a list"),
        ({"result": ["dog"]}, "expected objects"),
        ({"result": [choice("cow")]}, "label 'cow' is no class; allowed are 'cat'"),
        ({"result": [choice("cat", "dog")]}, "more than one choice, ['cat', 'dog']"),
        ({"result": [choice("cat"), choice("dog")]}, "more than one choice"),
        ({"result": [choice(True)]}, "label is True; expected the name"),
        ({"result": [choice(1)]}, "label is 1; expected the name"),
        ({"result": [{"type": "rectanglelabels"}]}, "'rectanglelabels' and no choices"),
        ({"result": [{}]}, "no choices"),
    ],
)
def test_annotations_that_are_wrong(tmp_path, wrong, says):
    message = refusal(tmp_path, [task(answer("cat"), answer("dog", **wrong))])
    assert says in message and "task 1 (id 17)" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"id": 1, "annotations": [', "no whole JSON file"),
        ("[1, 2]", "task 1: this is 1; expected an object"),
        ('["a"]', "expected an object"),
        ("[null]", "expected an object"),
        ("[{}] []", "no whole JSON file"),
        ('{"a": 1}\n{"a": 2}', "no whole JSON file"),
        ('[{"annotations": null}]', "annotations is None; expected a list"),
        ('[{"annotations": [7]}]', "data is None"),
        ('[{"annotations": [7], "data": {}}]', "no item of the pool"),
        ('[{"annotations": [7], "data": {"jal_item": 1}}]', "not only their numbers"),
        ('[{"data": {"jal_item": 1}}]', "these are tasks to be labelled"),
        ('[{"x": "\\ud800", "annotation_id": 1}]', "no item of the pool"),
        (f'[{{"id": {"9" * 9999}}}]', "no whole JSON file"),
        (b'[{"name": "\xff"}]', "no UTF-8"),
        ("[" * 200_000, "nested too deeply"),
        ('{"annotations":' * 100_000, "nested too deeply"),
        ("", "empty"),
        (b"\x80\x04.", "pickle"),
    ],
)
def test_files_that_are_no_exports(tmp_path, content, says):
    assert says in refusal(tmp_path, content)
    assert says in refusal(tmp_path, content, reader=session.read_answers)


@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 950, 975, 990, 1100])
def test_deep_values_end_in_an_error_of_one_kind(tmp_path, depth):
    deep = "[" * depth + "7" + "]" * depth
    export = json.dumps([task(answer("dog", completed_by="X"))]).replace('"X"', deep)
    assert "export.txt" in refusal(tmp_path, export)
    export = json.dumps([task(answer("X"))]).replace('"X"', deep)
    assert "export.txt" in refusal(tmp_path, export)


def test_a_missing_file(tmp_path):
    for reader in (session.read_label_studio, session.read_answers):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            reader(tmp_path / "nowhere.json", **POOL)


def test_an_interface_of_ones_own(tmp_path):
    both = [choice("dog", control="species"), choice("good", control="quality")]
    export = [task(answer(result=both), answer(result=both[1:], completed_by=2))]
    said = given_file(tmp_path, export, control="species")
    assert [one.label for one in said] == [1, None]
    assert "'species'; name that as control" in refusal(tmp_path, export)
    # A tag that was renamed on the way: its answers are no skips.
    renamed = [task(answer(result=[choice("cat", control="class")]), answer("dog"))]
    for order in (renamed, [task(answer("dog")), *renamed]):
        assert "it is 'class' that names a class" in refusal(tmp_path, order)
    record = flat(species="dog")
    del record["choice"]
    assert given_file(tmp_path, [record], control="species")[0].label == 1
    assert "'species'; name that as control" in refusal(tmp_path, [record])
    # Where the control is there, other fields may hold what they like.
    assert len(given_file(tmp_path, [record, flat(annotator=4)])) == 2


# what comes back: JSON-MIN and tables


def test_json_min(tmp_path):
    unsure, nobody = flat(annotator="ann@example.com"), flat(annotator=None)
    del unsure["choice"], nobody["choice"]
    export = [
        flat(),
        unsure,
        nobody | {"annotation_id": None, "lead_time": None},
        flat(jal_item=2, name="c d.png", choice="cat", annotator="None"),
        {"image": "a.png", "choice": "cat"},
    ]
    assert given_file(tmp_path, export) == [
        Annotation(0, 1, "3", 2.5, at=CHANGED),
        Annotation(0, None, "ann@example.com", 2.5, at=CHANGED),
        Annotation(2, 0, "", 2.5, at=CHANGED),
        Annotation(0, 0),
    ]
    several = [flat(choice={"choices": ["cat", "dog"]})]
    assert "more than one choice" in refusal(tmp_path, several)
    assert given_file(tmp_path, [unsure])[0].label is None


@pytest.mark.parametrize("separator", [",", "\t"])
def test_tables_of_label_studio(tmp_path, separator):
    """Columns in the order of the alphabet, text in quotes, numbers without."""
    rows = [
        '"annotation_id","annotator","choice","created_at","id","image","jal_item",'
        '"lead_time","name","updated_at"',
        '1001,"ann@example.com","dog","2021","17","/data/upload/1/x.png",2,4.5,'
        '"c d.png","2021"',
        '1002,"3","","2021","18","/data/upload/1/0123abcd-a.png","",7,"","2021"',
        '"","","","","19","/data/upload/1/0123abcd-a.png","","","",""',
    ]
    text = "\n".join(rows).replace(",", separator)
    for reader in (session.read_label_studio, session.read_answers):
        assert given_file(tmp_path, text, reader) == [
            Annotation(2, 1, "ann@example.com", 4.5),
            Annotation(0, None, "3", 7.0),
        ]
    for before, after, says in [
        ("4.5", "long", "line 2: lead_time is 'long'"),
        ("4.5", "nan", "line 2: lead_time: seconds is nan"),
        ('"dog"', '"cow"', "line 2: label 'cow'"),
        ('png"' + separator + "2", 'png"' + separator + "2.5", "jal_item is '2.5'"),
        ('png"' + separator + "2", 'png"' + separator + "9", "expected 0 to 4"),
    ]:
        assert says in refusal(tmp_path, text.replace(before, after))


def test_the_content_says_what_a_file_is(tmp_path):
    read_any = session.read_answers
    expected = [Annotation(1, 1)]
    for text in (
        "index,label\n1,dog",
        "image,choice\nhttp://x/cats/b.png,dog",
        ' \n [{"jal_item": 1, "choice": "dog"}]',
        '{"jal_item": 1, "choice": "dog"}',
        "index;label;choice\n1;dog;cat",
    ):
        assert given_file(tmp_path, text, read_any) == expected
    assert "must name a column" in refusal(tmp_path, "a,b\n1,2", reader=read_any)
    assert "no UTF-8" in refusal(tmp_path, b"\xff\xff", reader=read_any)
    for other in ([{}], [{"id": 1}], [{"text": "cat"}]):
        assert "this is no export of Label Studio" in refusal(tmp_path, other)
    alone = answer("cat")  # as the interface for programs gives it
    assert "an annotation without its task" in refusal(tmp_path, [alone])


def test_answers_for_another_pool_are_refused(tmp_path):
    made = session.label_studio_tasks([1], **POOL, pool="00c0ffee")
    export = [{**made[0], "annotations": [answer("dog")]}]
    for pool in ("00c0ffee", None):
        assert given_file(tmp_path, export, pool=pool)[0].label == 1
    assert "was written for another pool" in refusal(tmp_path, export, pool="1")
    del export[0]["data"]["jal_pool"]
    assert given_file(tmp_path, export, pool="1")[0].label == 1


def test_cells_with_pictures(tmp_path):
    text = f'image,jal_item,choice\n"data:image/png;base64,{"A" * 400_000}",1,dog\n'
    assert given_file(tmp_path, text) == [Annotation(1, 1)]


def test_tasks_come_back_as_answers(tmp_path):
    made = session.label_studio_tasks([4, 2, 0], **POOL, probabilities=np.eye(3))
    for number, one in enumerate(made):
        one["annotations"] = [answer(CLASSES[number], lead_time=number)]
    assert given_file(tmp_path, made) == [
        Annotation(4, 0, "10", 0.0, at=CHANGED),
        Annotation(2, 1, "10", 1.0, at=CHANGED),
        Annotation(0, 2, "10", 2.0, at=CHANGED),
    ]
