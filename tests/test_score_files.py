"""Scores on disk: what is journalled is there, nothing is half-written."""

import json
import os
import shutil

import numpy as np
import pytest

from jal.scoring import _journal

IDENTITY = {"seed": 1, "config": {"passes": 20}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.npy"


def state(path, resume=True, identity=IDENTITY):
    return _journal.state_of(path, identity, resume=resume)


def write(path, *ranges, process=0):
    with _journal.writer(path, process) as put:
        for start, stop in ranges:
            put(start, np.arange(start, stop))


def journal(path, process=0):
    return path.parent / f"{path.name}.partial" / f"journal-{process}.jsonl"


def test_from_new_to_finished(path):
    assert state(path) == state(path, resume=False) == "new"
    _journal.create(path, 6, IDENTITY)
    assert state(path) == "partial" and not path.exists()
    assert _journal.missing(path, 6) == [(0, 6)]
    write(path, (2, 4))
    assert _journal.missing(path, 6) == [(0, 2), (4, 6)]
    write(path, (0, 2), process=1)
    write(path, (4, 6))
    assert _journal.missing(path, 6) == []
    assert _journal.read(path).tolist() == [0, 1, 2, 3, 4, 5]
    _journal.finish(path, 6, {**IDENTITY, "num_nan": 0})
    assert state(path) == "finished"
    assert sorted(os.listdir(path.parent)) == ["scores.npy", "scores.npy.json"]
    scores = np.load(path, allow_pickle=False)
    assert scores.dtype == np.float32 and scores.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(_journal.read(path), scores)
    summary = json.loads((path.parent / "scores.npy.json").read_text())
    assert summary == {**IDENTITY, "num_nan": 0}


@pytest.mark.parametrize(
    ("ranges", "gaps"),
    [
        ([(0, 9)], []),
        ([(8, 9), (0, 3), (2, 5)], [(5, 8)]),
        ([(0, 5), (1, 2), (6, 9)], [(5, 6)]),
        ([(3, 4)], [(0, 3), (4, 9)]),
    ],
)
def test_gaps_between_ranges_in_any_order(path, ranges, gaps):
    _journal.create(path, 9, IDENTITY)
    write(path, *ranges)
    assert _journal.missing(path, 9) == gaps


def test_a_line_that_was_cut_off_does_not_count(path):
    _journal.create(path, 30, IDENTITY)
    write(path, (0, 10), (10, 20))
    whole = journal(path).read_bytes()
    for cut in range(1, len("\n[10, 20]\n") - 1):
        journal(path).write_bytes(whole[:-cut])
        # Without its newline a line is there, and so are its scores.
        expected = [(20, 30)] if cut == 1 else [(10, 30)]
        assert _journal.missing(path, 30) == expected, cut
    write(path, (25, 30))  # after a torn line
    assert _journal.missing(path, 30) == [(10, 25)]


@pytest.mark.parametrize("line", ["null", "[1]", "7", '["a", "b"]', "{}", "\x00"])
def test_lines_that_are_no_ranges_do_not_count(path, line):
    _journal.create(path, 3, IDENTITY)
    journal(path).write_text(f"{line}\n[0, 1]\n")
    assert _journal.missing(path, 3) == [(1, 3)]


def test_finishing_needs_all_scores(path):
    _journal.create(path, 6, IDENTITY)
    write(path, (0, 2), (3, 6))
    with pytest.raises(RuntimeError, match=r"items \[\(2, 3\)\] are not scored"):
        _journal.finish(path, 6, IDENTITY)
    assert not path.exists() and state(path) == "partial"


@pytest.mark.parametrize("step", ["summary", "rename"])
def test_killed_while_finishing(path, step, monkeypatch):
    _journal.create(path, 2, IDENTITY)
    write(path, (0, 2))
    with monkeypatch.context() as patch:
        die = lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt)
        name = {"summary": "replace", "rename": "rmtree"}[step]
        if name == "replace":
            real = os.replace
            patch.setattr(
                os, "replace", lambda a, b: die() if b == path else real(a, b)
            )
        else:
            patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            _journal.finish(path, 2, IDENTITY)
    assert state(path) == {"summary": "partial", "rename": "finished"}[step]
    _journal.finish(path, 2, IDENTITY)
    assert state(path) == "finished"
    assert np.load(path).tolist() == [0, 1]
    assert not journal(path).parent.exists()


def test_killed_before_the_first_score(path):
    folder = path.parent / "scores.npy.partial"
    folder.mkdir()
    assert state(path) == "new"
    (folder / "scores.tmp").write_bytes(b"\x93NUM")
    (folder / "run.json").write_text("{}")
    assert state(path) == "new"
    _journal.create(path, 2, IDENTITY)
    assert state(path) == "partial"


def test_what_is_there_is_not_overwritten(path):
    _journal.create(path, 2, IDENTITY)
    with pytest.raises(
        FileExistsError, match="scores.npy.partial exists; resume to go"
    ):
        state(path, resume=False)
    write(path, (0, 2))
    _journal.finish(path, 2, IDENTITY)
    with pytest.raises(FileExistsError, match="scores.npy exists; resume to go on"):
        state(path, resume=False)


@pytest.mark.parametrize("finished", [False, True])
def test_another_run_is_refused(path, finished):
    _journal.create(path, 2, IDENTITY)
    if finished:
        write(path, (0, 2))
        _journal.finish(path, 2, IDENTITY)
    with pytest.raises(ValueError, match="seed was 1 and is 2"):
        state(path, identity={**IDENTITY, "seed": 2})


def test_a_file_of_unknown_origin_is_refused(path):
    np.save(path, np.zeros(3))
    with pytest.raises(
        ValueError, match=r"no scores\.npy\.json that says what made it"
    ):
        state(path)
    _journal.create(path.with_name("b.npy"), 2, IDENTITY)
    (path.parent / "b.npy.partial" / "run.json").unlink()
    with pytest.raises(ValueError, match="no run.json that says what made it"):
        state(path.with_name("b.npy"))


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        state(tmp_path / "no" / "scores.npy")
