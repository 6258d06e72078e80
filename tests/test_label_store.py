"""Answers are kept: whole, once, in any order, from several processes at a time."""

import contextlib
import itertools
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jal.session import TEST, TRAIN, Annotation, LabelStore, Told, decide
from jal.session._store import STORE_FILE

CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def store(tmp_path):
    return LabelStore.create(tmp_path, num_items=20, classes=CLASSES, facts={"a": 1})


def state(store):
    labels = store.labels()
    return [column.tolist() for column in map(np.nan_to_num, labels)], store.answers()


def test_facts_are_kept(store, tmp_path):
    again = LabelStore(tmp_path)
    assert again.classes == CLASSES and again.num_items == 20 and again.facts["a"] == 1


def test_the_order_of_answers_does_not_matter(tmp_path):
    said = [
        Annotation(3, 0, "ann", 2.0),
        Annotation(3, 1, "bob", 4.0),
        Annotation(3, 1, "eve", None, 0.5),
        Annotation(4, None, "ann", 1.0),
        Annotation(5, 2, "ann"),
    ]
    states = []
    for number, order in enumerate(itertools.permutations(range(5))):
        if number % 10:
            continue
        store = LabelStore.create(tmp_path / str(number), num_items=9, classes=CLASSES)
        for place in order:
            store.tell([said[place]])
        states.append(state(store))
    assert all(each == states[0] for each in states)
    labels = store.labels()
    assert labels.label[[3, 4, 5]].tolist() == [1, -1, 2]
    assert labels.seconds[3] == 3.0 and labels.cost[3] == 0.5
    assert labels.is_skipped.nonzero()[0].tolist() == [4]
    assert labels.order.tolist() == [3, 5]


def test_telling_twice_changes_nothing(store):
    said = [Annotation(2, 1, "ann", 3.0), Annotation(7, None, "bob")]
    assert store.tell(said) == Told(2, 0, ())
    before = state(store)
    assert store.tell(said) == Told(0, 2, ())
    assert store.tell(said[:1] * 3) == Told(0, 3, ())
    assert state(store) == before


def test_the_longer_time_holds_whichever_came_first(tmp_path):
    times = (2.0, None, 5.0)
    for number, order in enumerate(itertools.permutations(times)):
        store = LabelStore.create(tmp_path / str(number), num_items=2, classes=CLASSES)
        for time in order:
            store.tell([Annotation(0, 1, "ann", time)])
        assert store.labels().seconds[0] == 5.0
        assert len(store.answers()) == 1


def test_answers_that_differ_are_kept_and_named(store):
    store.tell([Annotation(1, 0, "ann"), Annotation(2, 0, "ann")])
    told = store.tell([Annotation(1, 2, "bob"), Annotation(2, 0, "bob")])
    assert told == Told(2, 0, (1,))
    assert len(store.answers()) == 4
    labels = store.labels()
    assert labels.is_disputed.nonzero()[0].tolist() == [1]
    assert labels.label[1] == -1 and labels.label[2] == 0
    # A skip is no label, so it contradicts none.
    assert store.tell([Annotation(2, None, "eve")]) == Told(1, 0, ())
    assert store.labels().label[2] == 0
    # Another vote, or a final answer, settles it.
    store.tell([Annotation(1, 2, "eve")])
    assert store.labels().label[1] == 2
    store.tell([Annotation(1, 0, "chief")], final=True)
    assert store.labels().label[1] == 0


def test_a_mistaken_final_answer_is_settled_by_who_gave_it(store):
    store.tell([Annotation(1, 0, "ann"), Annotation(1, 2, "bob")])
    for label in (2, 0, 2, 1):
        store.tell([Annotation(1, label, "chief")], final=True)
        # Told again it is no newer: a batch sent twice changes nothing.
        store.tell([Annotation(1, 2, "chief")], final=True)
    assert store.labels().label[1] == 1
    final = [a.label for a in store.answers() if a.final]
    assert final == [2, 0, 1] and len(store.answers()) == 5
    # Two who differ are as far as before.
    store.tell([Annotation(1, 0, "boss")], final=True)
    assert store.labels().is_disputed[1]


@pytest.mark.parametrize(
    "votes, holds",
    [
        ([], (None, False)),
        ([None], (None, False)),
        ([None, 1], (1, False)),
        ([1, 1, 0], (1, False)),
        ([1, 0], (None, True)),
        ([0, 1, 0, 1, 2], (None, True)),
    ],
)
def test_decide(votes, holds):
    said = [Annotation(0, v, str(n)) for n, v in enumerate(votes)]
    for order in itertools.permutations(said):
        assert decide(order) == holds
    final = [Annotation(0, 2, "chief", final=True)]
    assert decide(said + final) == (2, False)


def test_who_corrects_an_answer_has_one_vote(store):
    """The newest where the times are known, in whatever order they come."""
    ann = [Annotation(1, c, "ann", at=t) for c, t in ((0, 10.0), (2, 30.0), (1, 20.0))]
    bob = Annotation(1, 0, "bob", at=5.0)
    for order in itertools.permutations([*ann, bob]):
        assert decide(order) == (None, True)
    assert decide(ann) == (2, False)
    assert decide([*ann, Annotation(1, None, "ann", at=40.0)]) == (None, False)
    # Without the times it is no vote at all.
    undated = [*ann, Annotation(1, 1, "ann")]
    assert decide(undated) == (None, True)
    assert decide([*undated, bob]) == (0, False)
    assert decide([Annotation(1, None, "ann"), Annotation(1, 1, "ann")]) == (1, False)
    store.tell(ann)
    store.tell([Annotation(1, 0, "ann", at=40.0)])  # once more, later than all
    assert store.labels().label[1] == 0
    assert len(store.answers()) == 3 and store.answers()[0].at == 40


def test_an_amount_is_corrected_by_a_final_answer(store):
    store.tell([Annotation(1, 0, "ann", cost=400.0), Annotation(1, 0, "bob", cost=2.0)])
    assert store.labels().cost[1] == 201
    store.tell([Annotation(1, 0, "ann", cost=4.0)], final=True)
    assert store.labels().cost[1] == 3


def test_a_store_of_the_version_before_is_brought_up(tmp_path):
    store = LabelStore.create(tmp_path, num_items=3, classes="ab")
    store.tell([Annotation(0, 1, "ann", 2.0)])
    with contextlib.closing(sqlite3.connect(tmp_path / STORE_FILE)) as connection:
        connection.execute("ALTER TABLE annotations DROP COLUMN said_at")
        connection.execute("PRAGMA user_version = 1")
    store = LabelStore(tmp_path)
    store.tell([Annotation(0, 0, "ann", at=7.0)])
    assert store.answers() == [
        Annotation(0, 0, "ann", at=7.0),
        Annotation(0, 1, "ann", 2.0),
    ]


def test_batches(store):
    scores = np.array([0.5, np.nan, 0.1])
    assert store.add_batch(1, TEST, [4, 0, 9], scores=scores, detail={"x": [1]})
    assert not store.add_batch(1, TRAIN, [5])  # somebody was faster
    assert store.add_batch(2, TRAIN, [8, 2], costs=np.array([3.0, 4.0]))
    first, second = store.batches()
    assert first.items.tolist() == [4, 0, 9] and first.detail == {"x": [1]}
    np.testing.assert_array_equal(first.scores, scores)
    assert second.costs.tolist() == [3.0, 4.0] and np.isnan(second.scores).all()
    store.tell([Annotation(i, 0) for i in (2, 8, 4, 11, 10)])
    labels = store.labels()
    # Unasked ones by index, then batch by batch as asked; test items do not train.
    assert labels.order.tolist() == [10, 11, 8, 2]
    assert labels.is_waiting.nonzero()[0].tolist() == [0, 9]
    with pytest.raises(ValueError, match="batch 3 asks for an item that was asked"):
        store.add_batch(3, TRAIN, [1, 2])
    assert len(store.batches()) == 2 and not store.labels().is_asked[1]


def test_what_is_wrong_takes_nothing(store):
    good = Annotation(0, 1)
    for bad, text in [
        (Annotation(20, 0), "item"),
        (Annotation(-1, 0), "item"),
        (Annotation(True, 0), "item"),
        (Annotation(1, 3), "label"),
        (Annotation(1, 0.5), "label"),
        (Annotation(1, 0, 7), "annotator"),
        (Annotation(1, 0, "a", float("nan")), "seconds"),
        (Annotation(1, 0, "a", -1.0), "seconds"),
        (Annotation(1, 0, "a", None, float("inf")), "cost"),
    ]:
        with pytest.raises(ValueError, match=text):
            store.tell([good, bad])
    assert store.answers() == []


def test_numpy_numbers_are_numbers(store):
    said = Annotation(np.int64(3), np.int32(1), "ann", np.float32(2.5), np.float64(1))
    store.tell([said])
    assert store.answers()[0] == Annotation(3, 1, "ann", 2.5, 1.0)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there; create it first"):
        LabelStore(tmp_path)
    LabelStore.create(tmp_path, num_items=1, classes=CLASSES)
    with pytest.raises(FileExistsError, match="there already"):
        LabelStore.create(tmp_path, num_items=1, classes=CLASSES)
    for classes in (["a"], ["a", "a"], ["a", ""]):
        with pytest.raises(ValueError, match="at least two names"):
            LabelStore.create(tmp_path / "b", num_items=1, classes=classes)
    with pytest.raises(ValueError, match="at least one item"):
        LabelStore.create(tmp_path / "b", num_items=0, classes=CLASSES)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / STORE_FILE).write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    with pytest.raises((ValueError, OSError), match=STORE_FILE):
        LabelStore(tmp_path)
    (tmp_path / STORE_FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(ValueError, match="damaged, or no store"):
        LabelStore(tmp_path)


def test_another_version_is_refused(store, tmp_path):
    connection = sqlite3.connect(tmp_path / STORE_FILE)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(ValueError, match="version 7"):
        LabelStore(tmp_path)


def test_a_half_made_store_is_made_again(tmp_path):
    (tmp_path / (STORE_FILE + ".tmp")).write_bytes(b"half")
    store = LabelStore.create(tmp_path, num_items=1, classes=CLASSES)
    assert store.answers() == []


def test_one_connection_serves_all_threads(store, monkeypatch):
    monkeypatch.setattr(sqlite3, "connect", None)
    with ThreadPoolExecutor(4) as threads:
        told = threads.map(lambda i: store.tell([Annotation(i, 0, "ann")]), range(20))
        assert [each.new for each in told] == [1] * 20
    assert len(store.answers()) == 20


def test_a_copy_of_the_file_alone_is_whole(store, tmp_path):
    store.tell([Annotation(2, 1, "ann")])
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / STORE_FILE, tmp_path / "copy")
    assert LabelStore(tmp_path / "copy").answers() == store.answers()


def test_what_lies_beside_the_file_is_told(store, tmp_path):
    beside = LabelStore(tmp_path, pages_beside=1000)
    beside.tell([Annotation(2, 1, "ann")])
    assert (tmp_path / f"{STORE_FILE}-wal").stat().st_size > 0
    assert store.answers() == LabelStore(tmp_path).answers() == beside.answers()


def test_telling_many_at_once_is_telling_one_by_one(tmp_path):
    said = [Annotation(n % 5, n % 3, "ann", final=n % 4 == 0) for n in range(40)]
    said += [Annotation(n, None, "bob", 2.0) for n in range(5)] * 2
    at_once = LabelStore.create(tmp_path / "a", num_items=20, classes=CLASSES)
    one_by_one = LabelStore.create(tmp_path / "b", num_items=20, classes=CLASSES)
    told = [one_by_one.tell([each]) for each in said]
    new = sum(each.new for each in told)
    conflicts = sorted({item for each in told for item in each.conflicts})
    assert at_once.tell(said) == Told(new, len(said) - new, tuple(conflicts))
    assert state(at_once) == state(one_by_one)
    scores = np.array([np.inf, np.nan, -np.inf, 0.5])
    assert at_once.add_batch(1, TRAIN, [1, 2, 3, 4], scores=scores)
    assert np.isnan(at_once.batches()[0].scores).tolist() == [True] * 3 + [False]


def test_a_store_that_nobody_needs_leaves_its_file_alone(tmp_path):
    LabelStore.create(tmp_path, num_items=1, classes=CLASSES).tell([Annotation(0, 1)])
    assert [path.name for path in tmp_path.iterdir()] == [STORE_FILE]


TELL_MANY = """
import sys
from jal.session import Annotation
from jal.session import LabelStore

folder, first, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = LabelStore(folder)
print("ready", flush=True)
sys.stdin.readline()
for item in range(first, first + number):
    store.tell([Annotation(item, item % 3, f"person {first}", float(item))])
    print(item, flush=True)
"""


def teller(folder, first, number):
    """A process that tells of items, once a line comes in, and says of which it did."""
    arguments = [str(folder), str(first), str(number)]
    worker = subprocess.Popen(
        [sys.executable, "-c", TELL_MANY, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def test_processes_that_tell_at_once_wait_for_each_other(tmp_path):
    LabelStore.create(tmp_path, num_items=120, classes=CLASSES)
    # The last two tell of the same items.
    workers = [teller(tmp_path, *part) for part in ((0, 60), (60, 60), (60, 60))]
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    labels = LabelStore(tmp_path).labels()
    assert labels.label.tolist() == [item % 3 for item in range(120)]
    assert len(LabelStore(tmp_path).answers()) == 120


def test_what_was_told_outlives_a_killed_process(tmp_path):
    LabelStore.create(tmp_path, num_items=1000, classes=CLASSES)
    worker = teller(tmp_path, 0, 1000)
    worker.stdin.write("\n")
    worker.stdin.flush()
    while int(worker.stdout.readline()) < 25:
        pass
    worker.kill()
    said = worker.communicate()[0].split()
    last = int(said[-1]) if said else 25
    kept = LabelStore(tmp_path).labels().label >= 0
    assert last < 999 and kept[: last + 1].all() and kept.sum() <= last + 2
