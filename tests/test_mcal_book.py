"""Labels are bought once, and are on disk before anybody uses them."""

import jax
import numpy as np
import pytest

from jal._core import files
from jal.mcal import Model, Predictions, Terms, TrainingPrice, label
from jal.mcal._book import ORACLE, Book
from jal.mcal._label import REFUSED_FILE
from jal.session import STORE_FILE, TEST, TRAIN, Annotation, LabelStore

TRUTH = np.arange(20) % 3


@pytest.fixture
def store(tmp_path):
    return LabelStore.create(tmp_path, num_items=20, classes="abc")


def never():
    raise AssertionError("chosen already")


def chosen(*items):
    return lambda: (np.array(items), None)


def test_a_request_is_made_once_and_asks_for_nothing_twice(store):
    book = Book(20, store, "run")
    assert book.request("a", TEST, chosen(7, 3, 5)).tolist() == [7, 3, 5]
    book.answer(np.array([3, 7]), TRUTH[[3, 7]], 0.04)
    assert book.waiting("a").tolist() == [5]
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    again = book.request("b", TRAIN, lambda: (np.array([5, 12, 3, 11]), scores))
    assert again.tolist() == [5, 12, 3, 11]
    assert book.waiting("b").tolist() == [5, 12, 11]  # 5 is asked for already
    assert book.request("a", TEST, never).tolist() == [7, 3, 5]
    first, second = store.batches()
    assert first.purpose == TEST and second.purpose == TRAIN
    assert second.items.tolist() == [12, 11] and second.scores.tolist() == [0.2, 0.4]
    assert store.answers() == [
        Annotation(item, int(TRUTH[item]), ORACLE, cost=0.04) for item in (3, 7)
    ]


def test_it_goes_on_where_it_was(store):
    book = Book(20, store, "run")
    book.request("a", TRAIN, chosen(*range(10)))
    book.answer(np.arange(8), TRUTH[:8])
    book.request("b", TRAIN, chosen(9, 12, 2))
    for _ in range(2):
        again = Book(20, LabelStore(store.folder), "run")
        assert (again.labels == book.labels).all()
        assert again.request("b", TRAIN, never).tolist() == [9, 12, 2]
        assert again.waiting("a").tolist() == [8, 9]
        assert again.waiting("b").tolist() == [9, 12]
    assert len(store.batches()) == 2


def test_other_runs_have_requests_of_their_own_and_share_the_labels(store):
    book = Book(20, store, "run")
    book.request("a", TRAIN, chosen(1, 2))
    book.answer(np.array([1]), np.array([0]))
    other = Book(20, store, "other")
    assert other.request("a", TRAIN, chosen(2, 1, 4)).tolist() == [2, 1, 4]
    assert other.waiting("a").tolist() == [2, 4]
    assert store.batches()[1].items.tolist() == [4]


def test_a_batch_that_somebody_else_made_meanwhile(store):
    book = Book(20, store, "run")
    LabelStore(store.folder).add_batch(1, TRAIN, [3, 4])
    assert book.request("a", TRAIN, chosen(4, 5)).tolist() == [4, 5]
    assert [batch.items.tolist() for batch in store.batches()] == [[3, 4], [5]]
    # The same request of the same run, asked for by two at once, is one.
    late = Book(20, store, "run")
    book.request("b", TRAIN, chosen(8, 9))
    assert late.request("b", TRAIN, chosen(8, 10)).tolist() == [8, 9]
    assert len(store.batches()) == 3


def test_what_people_say_counts(store):
    store.tell([Annotation(1, 2, "ann"), Annotation(2, None, "ann")])
    store.tell([Annotation(3, 0, "ann"), Annotation(3, 1, "bob")])
    book = Book(20, store, "run")
    book.request("a", TRAIN, chosen(1, 2, 3, 4))
    # Skipped and disputed items are answered; no label of them holds.
    assert book.waiting("a").tolist() == [4]
    assert book.labels[:5].tolist() == [-1, 2, -1, -1, -1]


def test_answers_that_are_cut_short_are_none(store):
    book = Book(20, store, "run")
    book.request("a", TRAIN, chosen(*range(8)))
    with pytest.raises(ValueError, match="label is 7"):
        book.answer(np.arange(4), np.array([0, 1, 2, 7]))
    assert (book.labels == -1).all() and store.answers() == []
    assert Book(20, store, "run").waiting("a").tolist() == list(range(8))


def test_without_a_store_it_is_in_memory():
    book = Book(20)
    assert book.request("a", TRAIN, chosen(3, 1)).tolist() == [3, 1]
    book.answer(book.waiting("a")[:1], TRUTH[[3]])
    assert book.waiting("a").tolist() == [1] and book.labels[3] == 0


TERMS = Terms(20, 8, 0.04, first_batch=4, grid_step=4)


def buy(folder, oracle, **options):
    """The test set and the first batch are asked for; there are three classes."""
    train = lambda indices, labels: Predictions(TRUTH, np.ones(20), 1.0)
    model = Model(train, TrainingPrice(per_image=1e-3))
    options = {"thetas": [0.5, 1.0], "ask_at_most": 4, "progress": False, **options}
    return label(
        jax.random.key(0),
        {"a": model},
        oracle,
        TERMS,
        num_classes=3,
        folder=folder,
        **options,
    )


def test_it_asks_in_parts_and_goes_on_after_a_failure(tmp_path):
    asked = []

    def fails(indices):
        asked.append(indices.tolist())
        if len(asked) == 2:
            raise TimeoutError("nobody answers")
        return TRUTH[indices]

    with pytest.raises(TimeoutError):
        buy(tmp_path, fails)
    assert [len(part) for part in asked] == [4, 4]
    assert len(LabelStore(tmp_path).answers()) == 4
    buy(tmp_path, fails, resume=True)
    assert asked[2] == asked[1] and all(len(part) <= 4 for part in asked)
    items = sum(asked[:1] + asked[2:], [])
    assert len(items) == len(set(items)) == len(LabelStore(tmp_path).answers())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda i: TRUTH[i][:-1], r"shape \(3,\); expected \[4\]"),
        (lambda i: TRUTH[i][:, None], "shape"),
        (lambda i: np.where(i == i[2], np.nan, 1.0), "says nan of item"),
        (lambda i: np.where(i == i[1], 3, 0), "says 3 of item"),
        (lambda i: np.where(i == i[1], -1, 0), "says -1 of item"),
        (lambda i: np.where(i == i[3], 0.5, 0), "says 0.5 of item"),
        (lambda i: ["cat"] * len(i), "dtype"),
        (lambda i: None, "shape"),
    ],
)
def test_answers_that_are_no_labels(tmp_path, answer, message):
    with pytest.raises(ValueError, match=message):
        buy(tmp_path, answer)
    assert LabelStore(tmp_path).answers() == []
    kept = files.read_lines(tmp_path / REFUSED_FILE)
    assert [line["request"] for line in kept] == ["test set"]
    asked = []

    def oracle(indices):
        asked.append(indices.tolist())
        return TRUTH[indices]

    buy(tmp_path, oracle, resume=True)
    assert asked[0] == kept[0]["items"]


def test_whole_floats_are_labels():
    result = buy(None, lambda indices: TRUTH[indices].astype(float))
    assert (result.labels == TRUTH).all() and result.labels.dtype == np.int32


def test_folders_that_cannot_be_read(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "labels.jsonl").touch()
    with pytest.raises(ValueError, match="of an earlier jal"):
        buy(tmp_path / "old", never)
    buy(tmp_path / "new", lambda indices: TRUTH[indices])
    for path in (tmp_path / "new").glob(f"{STORE_FILE}*"):
        path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ValueError, match="labels.sqlite is damaged, or no store"):
        buy(tmp_path / "new", never, resume=True)
