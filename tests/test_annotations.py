"""Answers in CSV files: what is written is read, and what is no answer is refused."""

import csv
import io
import math
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jal import session
from jal.session import Annotation, Vocabulary, _tables, read_csv, write_csv
from jal.session._annotations import check

NAMES = ["a.png", "b/1.png", "c d.png", "=1+1", "@x", "é,;\t.png"]
CLASSES = ["cat", "dog", "<b>x</b>"]
POOL = {"names": NAMES, "classes": CLASSES}


def given_file(folder, content, **options):
    """Writes a file, and reads what it says."""
    path = folder / "batch.csv"
    path.unlink(missing_ok=True)  # file systems wait for what replaces a file
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv(path, **{**POOL, **options})


def labels(said):
    return [(answer.item, answer.label) for answer in said]


def refusal(folder, content, **options):
    with pytest.raises(ValueError) as error:
        given_file(folder, content, **options)
    assert "batch.csv" in str(error.value) and len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", ",;\t")
def test_all_dialects_say_the_same(tmp_path, mark, end, separator):
    table = [
        ["index", "name", "score", "label", "annotator", "seconds", "cost", "notes"],
        ["0", "a.png", "0.5", "dog", "ann", "2.5", "0.1", ""],
        ["5", '"é,;\t.png"', "0.4", "skip", "", "", "", '"two, cells"'],
        ["1", "b/1.png", "0.3", "", "", "", "", ""],
        ["2", "c d.png", "0.2", "UNSURE", "bob", "3", "", ""],
    ]
    text = mark + "".join(separator.join(row) + end for row in table)
    assert given_file(tmp_path, text) == [
        Annotation(0, 1, "ann", 2.5, 0.1),
        Annotation(5, None),
        Annotation(2, None, "bob", 3.0),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("index,label\n1,cat", [(1, 0)]),
        ("label,name\ndog,b/1.png\n", [(1, 1)]),
        ("index,name,label\n,a.png,cat\n1,,cat\n", [(0, 0), (1, 0)]),
        ('index,label\n\n  3 , dog \n,,\n"4","cat"\n', [(3, 1), (4, 0)]),
        ("index,label\n1,2\n", [(1, 2)]),
        ('"index","label"\n1,<b>x</b>\n', [(1, 2)]),
        ("index,label,seconds\n1,cat\n2\n", [(1, 0)]),
        ("name,label\n=1+1,cat\n@x,dog", [(3, 0), (4, 1)]),
        ("index,label\n", []),
        ('index,label,"my\nscore"\n1,dog,3\n', [(1, 1)]),
    ],
)
def test_what_people_write(tmp_path, text, expected):
    assert labels(given_file(tmp_path, text)) == expected


def test_a_class_number_is_taken_unless_classes_are_numbers(tmp_path):
    assert labels(given_file(tmp_path, "index,label\n0,2")) == [(0, 2)]
    digits = [str(digit) for digit in range(1, 4)]
    assert labels(given_file(tmp_path, "index,label\n0,2", classes=digits)) == [(0, 1)]
    assert "'1', '2', '3'" in refusal(tmp_path, "index,label\n0,0", classes=digits)


def test_repeated_rows_count_once_and_different_labels_are_kept(tmp_path):
    text = "index,label,annotator,seconds\n0,cat,ann,1\n0,cat,ann,2\n0,dog,ann,\n"
    said = given_file(tmp_path, text + "0,cat,bob,\n0,skip,ann,\n0, cat ,ann ,9\n")
    assert said == [
        Annotation(0, 0, "ann", 1.0),
        Annotation(0, 1, "ann"),
        Annotation(0, 0, "bob"),
        Annotation(0, None, "ann"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n" * 5000 + "index,label\n0,cat\n", "first line is empty"),
        (b"\xef\xbb", "first line is empty"),
        (" \n \n", "empty"),
        ("index,score\n0,1\n", "must name a column label"),
        ("label,annotator\ncat,ann\n", "index or name"),
        ("index,label,label\n", "two columns"),
        ("index,label\n0,cow\n", "line 2: label 'cow' is no class; allowed are 'cat'"),
        ("index,label\n0,Cat\n", "'Cat' is no class"),
        ("index,label\n0,3\n", "'3' is no class"),
        ("index,label\n0,-1\n", "'-1' is no class"),
        ("index,label\n1,cat\n6,cat\n", "line 3: index is 6; expected 0 to 5"),
        ("index,label\n-1,cat\n", "index is '-1'; expected a whole number"),
        ("index,label\n1.0,cat\n", "expected a whole number"),
        ("index,label\n٣,cat\n", "expected a whole number"),
        ("index,label\nTrue,cat\n", "expected a whole number"),
        (f"index,label\n{'9' * 5000},cat\n", "expected a whole number"),
        ("index,name,label\n0,@x,cat\n", "index 0 is 'a.png', but name says '@x'"),
        ("index,name,label\n,,cat\n", "neither an index nor a name"),
        ("name,label\n../../etc/passwd,cat\n", "no item is called '../../etc/passwd'"),
        ("name,label\n/etc/passwd,cat\n", "no item is called"),
        ("index,label,seconds\n0,cat,nan\n", "seconds is nan"),
        ("index,label,seconds\n0,cat,inf\n", "seconds is inf"),
        ("index,label,seconds\n0,cat,1e999\n", "seconds is inf"),
        ("index,label,seconds\n0,cat,-1\n", "seconds is -1.0"),
        ("index,label,seconds\n0,cat,1700000000\n", "at most 1e+09"),
        ("index,label,seconds\n0,cat,1_0\n", "expected a number as 2.5"),
        ("index;label;seconds\n0;cat;2,5\n", "expected a number as 2.5"),
        ("index,label,cost\n0,cat,cheap\n", "cost is 'cheap'"),
        ("index,label,cost\n0,cat,-0.5\n", "cost is -0.5"),
        ("index,label\n0,cat,dog\n", "line 2: 3 cells below 2 names"),
        ('index,label\n0,"cat\n1,dog\n', "quote not closed"),
        ('index,label\n0,"cat"x\n1,dog\n', "quote not closed"),
        ("index,label\n0," + "x" * (1 << 24) + "y", "field larger"),
        ("x" * 100_000, "must name a column"),
        (b"index,label\n0,c\xe9t\n", "no UTF-8"),
        (b"index,label\n" + b"0,cat\n" * 9000 + b"\xff", "no UTF-8"),
        ("index,label\n0,cat\n".encode("utf-16"), "UTF-16"),
        (b"\0\1\2\3", "no text"),
        (b"\x1f\x8b\x08", "gzip"),
        (pickle.dumps([1]), "pickle"),
    ],
)
def test_what_is_refused(tmp_path, text, says):
    assert says in refusal(tmp_path, text)


def test_arrays_and_archives_are_refused(tmp_path):
    file = io.BytesIO()
    np.save(file, np.arange(3))
    assert ".npy" in refusal(tmp_path, file.getvalue())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "a")
    assert "zip" in refusal(tmp_path, file.getvalue())


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere"):
        read_csv(tmp_path / "nowhere.csv", **POOL)
    with pytest.raises(ValueError, match="is no file"):
        read_csv(tmp_path, **POOL)


def test_a_file_is_not_read_above_the_limit(tmp_path, monkeypatch):
    assert _tables.MAX_BYTES == 2**30
    with open(tmp_path / "big.csv", "wb") as file:
        file.truncate(2**30 + 1)  # sparse
    with pytest.raises(ValueError, match="1073741825 bytes; at most 1073741824"):
        read_csv(tmp_path / "big.csv", **POOL)
    monkeypatch.setattr(_tables, "MAX_BYTES", 17)
    assert labels(given_file(tmp_path, "index,label\n0,cat")) == [(0, 0)]
    assert "at most 17" in refusal(tmp_path, "index,label\n0,cat\n")


def test_long_lists_are_shortened(tmp_path):
    many = [f"class {number}" for number in range(1000)]
    message = refusal(tmp_path, "index,label\n0,x\n", classes=many)
    assert "'class 9' and 990 more" in message and "class 10'" not in message
    message = refusal(tmp_path, "index,label\n0," + "y" * 9000)
    assert "..." in message


def test_nothing_named_is_opened(tmp_path, monkeypatch):
    names = ["../../etc/passwd", "http://example.com/x", "file:///etc/passwd"]
    path = tmp_path / "batch.csv"
    path.write_text("name,label\n" + "".join(f"{name},cat\n" for name in names))
    opened = []

    def remembered(name, *args, **kwargs):
        opened.append(name)
        return open(name, *args, **kwargs)

    monkeypatch.setattr(_tables, "open", remembered, raising=False)
    said = read_csv(path, names=names, classes=CLASSES)
    assert labels(said) == [(0, 0), (1, 0), (2, 0)] and set(opened) == {path}


@pytest.mark.parametrize(
    "classes", [[], [""], ["a", "a"], [" a"], ["Skip"], ["unsure"], ["a\nb"], [3]]
)
def test_classes_that_cannot_be_told_apart(classes):
    with pytest.raises(ValueError, match="classes"):
        Vocabulary(["a"], classes)


def test_names_that_cannot_be_told_apart():
    with pytest.raises(ValueError, match="'a' stands for 0 and 2"):
        Vocabulary(["a", "b", "a"], ["c"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ((True, 0), "item is True; expected an integer"),
        ((np.True_, 0), "expected an integer"),
        ((1.0, 0), "expected an integer"),
        (("1", 0), "expected an integer"),
        ((5, 0), "expected 0 to 4"),
        ((-1, 0), "expected 0 to 4"),
        ((0, 3), "label is 3; expected 0 to 2"),
        ((0, False), "label is False"),
        ((0, 0, 7), "annotator is 7; expected text"),
        ((0, 0, None), "expected text"),
        ((0, 0, "", True), "seconds is True"),
        ((0, 0, "", "1"), "seconds is '1'"),
        ((0, 0, "", math.nan), "seconds is nan"),
        ((0, 0, "", 10**400), "seconds is 1000"),
        ((0, 0, "", 1e9 + 1), "at most 1e"),
        ((0, 0, "", [1]), "seconds is"),
        ((0, 0, "", None, -1), "cost is -1; expected a finite number >= 0"),
        ((0, 0, "", None, math.inf), "cost is inf"),
        ((0, 0, "", None, None, -1), "at is -1"),
        ((0, 0, "", None, None, 0, "yes"), "final is 'yes'; expected True or False"),
    ],
)
def test_what_is_no_answer(wrong, says):
    with pytest.raises(ValueError) as error:
        check(Annotation(*wrong), num_items=5, num_classes=3)
    assert says in str(error.value)


def test_answers_become_plain(tmp_path):
    said = Annotation(
        np.int64(4), np.int8(2), " ann\n", np.float32(2), np.array(3), 7, np.True_
    )
    plain = check(said, num_items=5, num_classes=3)
    assert plain == Annotation(4, 2, "ann", 2.0, 3.0, 7.0, True)
    types = [int, int, str, float, float, float, bool]
    assert [type(value) for value in plain] == types
    largest = Annotation(0, None, "", 1e9, 1e300)
    assert check(largest, num_items=1, num_classes=1) == largest


TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from(",;\t\n\r\"'=+-@\ufeff ")
)
AMOUNT = st.none() | st.floats(0, 1e9)


@pytest.fixture(scope="module", autouse=True)
def synced():
    """The disk is asked to keep a file, and not waited for."""
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tables.os, "fsync", asked.append)
        yield asked


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_what_is_written_is_read(tmp_path_factory, data):
    names = data.draw(st.lists(TEXT.filter(bool), min_size=1, max_size=5, unique=True))
    one = st.builds(
        Annotation,
        st.integers(0, len(names) - 1),
        st.none() | st.integers(0, 2),
        TEXT.map(str.strip),
        AMOUNT,
        AMOUNT,
        AMOUNT,
        st.booleans(),
    )
    said = data.draw(
        st.lists(one, unique_by=lambda answer: (*answer[:3], answer.final), max_size=5)
    )
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.unlink(missing_ok=True)
    write_csv(path, said, names=names, classes=CLASSES)
    assert read_csv(path, names=names, classes=CLASSES) == said


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | TEXT.map(lambda text: ("index,label" + text).encode()))
def test_any_content_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        read_csv(path, **POOL)
    except ValueError as error:
        assert str(path) in str(error)


def test_a_batch_is_filled_in_and_comes_back(tmp_path):
    path = tmp_path / "batch.csv"
    columns = {"score": np.float32([0.1, 0.2, 0.3]), "guess": ["cat", "=dog", "cat"]}
    session.write_batch(path, np.array([5, 0, 3]), names=NAMES, columns=columns)
    assert read_csv(path, **POOL) == []
    with open(path, encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["score"] for row in table] == ["0.1", "0.2", "0.3"]
    # Not altered, though a spreadsheet may take it for a formula.
    assert table[2]["name"] == "=1+1" and table[1]["guess"] == "=dog"
    table[0]["label"], table[1]["label"], table[1]["annotator"] = "dog", "Skip", "ann"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0], delimiter=";")
        writer.writeheader()
        writer.writerows(reversed(table))
    assert read_csv(path, **POOL) == [Annotation(0, None, "ann"), Annotation(5, 1)]


def test_a_batch_for_another_pool_is_refused(tmp_path):
    path = tmp_path / "batch.csv"
    session.write_batch(path, [1], names=NAMES, pool="00c0ffee")
    path.write_text(
        path.read_text().replace("1,", "1,", 1).replace(",,,,,", ",dog,,,,")
    )
    for pool in ("00c0ffee", None):
        assert read_csv(path, **POOL, pool=pool) == [Annotation(1, 1)]
    with pytest.raises(ValueError, match="line 2: this was written for another pool"):
        read_csv(path, **POOL, pool="0badcafe")


def test_guesses_of_the_model_are_no_answers(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("index,label,by\n0,cat,people\n1,dog,model\n")
    with pytest.raises(
        ValueError, match="line 3: the column by says that the label is"
    ):
        read_csv(path, **POOL)
    path.write_text("index,label,by\n0,cat,people\n1,dog,\n")
    assert len(read_csv(path, **POOL)) == 2


def test_a_batch_that_is_wrong_is_not_written(tmp_path):
    def written(items, **columns):
        session.write_batch(tmp_path / "b.csv", items, names=NAMES, columns=columns)

    with pytest.raises(ValueError, match="items is 6; expected 0 to 5"):
        written([6])
    with pytest.raises(ValueError, match="'label' is taken"):
        written([0], label=["cat"])
    with pytest.raises(ValueError, match="'score' has 2 values for 1 items"):
        written([0], score=[1, 2])
    assert not list(tmp_path.iterdir())


def test_files_are_whole_or_not_there(tmp_path, synced):
    path, before = tmp_path / "a.csv", len(synced)
    write_csv(path, [Annotation(0, 0)], **POOL)
    assert len(synced) == before + 2  # the file, and the name in its folder
    before = path.read_bytes()
    assert not before.startswith(b"\xef\xbb\xbf")
    for wrong in (
        Annotation(0, 9),
        Annotation(0, 0, "zero\0byte"),
        Annotation(0, 0, "half \ud800 pair"),
    ):
        with pytest.raises(ValueError):
            write_csv(path, [Annotation(1, 1), wrong], **POOL)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    # Excel needs the mark to see that it is UTF-8.
    write_csv(path, [Annotation(5, 0)], **POOL)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")


def test_a_file_cut_short_anywhere_gives_no_other_answers(tmp_path):
    path = tmp_path / "a.csv"
    said = [Annotation(item, item % 3, "an\nn") for item in range(6)]
    write_csv(path, said, **POOL)
    whole = path.read_bytes()
    for end in range(len(whole)):
        try:
            part = given_file(tmp_path, whole[:end])
        except ValueError:
            continue
        assert labels(part) == labels(said)[: len(part)]
