"""Labels are bought once, and are on disk before anybody uses them."""

import json

import numpy as np
import pytest

from jal.mcal._journal import LABELS_FILE, Journal

TRUTH = np.arange(20) % 3


class Oracle:
    """Answers, and remembers what it was asked."""

    def __init__(self, answer=lambda indices: TRUTH[indices]):
        self.answer, self.asked = answer, []

    def __call__(self, indices):
        self.asked.append(indices.tolist())
        return self.answer(indices)


def journal(folder, oracle, **options):
    options = {"num_items": 20, "num_classes": 3, "ask_at_most": 4, **options}
    return Journal(folder, oracle, **options)


def never():
    raise AssertionError("chosen already")


def lines(folder):
    text = (folder / LABELS_FILE).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_it_asks_in_parts_and_never_twice(tmp_path):
    oracle, seen = Oracle(), []
    book = journal(tmp_path, oracle)
    chosen = book.buy("a", lambda: np.arange(10), bought=seen.append)
    assert chosen.tolist() == list(range(10)) and seen == [4, 4, 2]
    assert oracle.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    again = book.buy("b", lambda: np.array([8, 12, 3, 11]))
    assert again.tolist() == [8, 12, 3, 11] and oracle.asked[3:] == [[12, 11]]
    assert book.buy("a", never).tolist() == list(range(10))
    assert book.bought == 12
    known = book.labels >= 0
    assert (book.labels[known] == TRUTH[known]).all()
    assert lines(tmp_path)[0] == {"request": "a", "indices": list(range(10))}


def test_it_goes_on_where_it_was(tmp_path):
    def fails(indices):
        if 8 in indices:
            raise TimeoutError("nobody answers")
        return TRUTH[indices]

    with pytest.raises(TimeoutError):
        journal(tmp_path, Oracle(fails)).buy("a", lambda: np.arange(10))
    oracle = Oracle()
    book = journal(tmp_path, oracle)
    assert book.bought == 8
    book.buy("a", never)
    assert oracle.asked == [[8, 9]]
    same = journal(tmp_path, Oracle())
    assert (same.labels == book.labels).all() and same.bought == 10


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_line_cut_short_is_asked_for_again(tmp_path, cut):
    book = journal(tmp_path, Oracle())
    book.buy("a", lambda: np.arange(8))
    path = tmp_path / LABELS_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    oracle = Oracle()
    again = journal(tmp_path, oracle)
    again.buy("a", never)
    assert oracle.asked == [[4, 5, 6, 7]]
    assert (again.labels == book.labels).all()
    assert (journal(tmp_path, never).labels == book.labels).all()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda i: TRUTH[i][:-1], r"shape \(3,\); expected \[4\]"),
        (lambda i: TRUTH[i][:, None], "shape"),
        (lambda i: np.where(i == 2, np.nan, 1.0), "says nan of item 2"),
        (lambda i: np.where(i == 1, 3, 0), "says 3 of item 1"),
        (lambda i: np.where(i == 1, -1, 0), "says -1 of item 1"),
        (lambda i: np.where(i == 3, 0.5, 0), "says 0.5 of item 3"),
        (lambda i: ["cat"] * len(i), "dtype"),
        (lambda i: None, "shape"),
    ],
)
def test_answers_that_are_no_labels(tmp_path, answer, message):
    book = journal(tmp_path, Oracle(answer))
    with pytest.raises(ValueError, match=message):
        book.buy("a", lambda: np.arange(8))
    assert book.bought == 0
    assert "refused" in lines(tmp_path)[-1]
    oracle = Oracle()
    again = journal(tmp_path, oracle)
    again.buy("a", never)
    assert oracle.asked == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert again.bought == 8


def test_whole_floats_are_labels():
    book = journal(None, lambda indices: TRUTH[indices].astype(float))
    book.buy("a", lambda: np.arange(3))
    assert book.labels[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1]",
        "{}",
        '{"request": "a", "labels": [1]}',
        '{"request": "b", "indices": [99]}',
        '{"request": "b", "indices": ["x"]}',
    ],
)
def test_a_damaged_journal_is_not_passed_over(tmp_path, line):
    (tmp_path / LABELS_FILE).write_text(line + "\n")
    with pytest.raises(ValueError, match=r"labels.jsonl is damaged in line 1"):
        journal(tmp_path, Oracle())


def test_asking_for_nothing_at_a_time():
    with pytest.raises(ValueError, match="ask_at_most=0"):
        journal(None, Oracle(), ask_at_most=0)
