"""Scores in a `.npy` file that is written a chunk at a time and survives a crash.

While `scores.npy` is being made, a folder `scores.npy.partial` holds the scores so far,
what identifies the run, and a journal for each process: a line for each chunk, written
after the scores it speaks of. The last step gives `scores.npy` its name, and
`scores.npy.json` beside it says what made it.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jal._core import files

DTYPE = np.dtype("<f4")


def state_of(path: Path, identity: dict, *, resume: bool) -> str:
    """Says what there is at `path`, without changing anything.

    Args:
      path: the `.npy` file that is wanted.
      identity: what identifies the run, as JSON.
      resume: whether what there is may be gone on with.

    Returns:
      "new", "partial" or "finished".

    Raises:
      FileExistsError: there is something, and `resume` is False.
      ValueError: there is something that this run did not write.

    >>> state_of(Path("no-such-file.npy"), {}, resume=True)
    'new'
    """
    found = [name for name in (path, _partial(path)) if name.exists()]
    if not found:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"out={str(path)!r}; there is no such folder")
        return "new"
    if not resume:
        raise FileExistsError(
            f"{found[0]} exists; resume to go on with it, remove it, or choose another "
            "file"
        )
    if (_partial(path) / path.name).exists():
        run_file, state = _partial(path) / "run.json", "partial"
    else:
        run_file, state = _summary(path), "finished"
    if not run_file.exists():
        if state == "finished" and not path.exists():
            return "new"  # killed before the first score
        raise ValueError(
            f"{found[0]} exists, but there is no {run_file.name} that says what made "
            "it; remove it or choose another file"
        )
    files.check_identity(run_file, identity)
    return state


def create(path: Path, length: int, identity: dict) -> None:
    """Makes the folder of a new run, with room for all scores.

    Args:
      path: the `.npy` file that is wanted.
      length: N.
      identity: what identifies the run, as JSON.

    Raises:
      OSError: the file cannot be made.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.npy"
    >>> create(path, 3, {"seed": 0})
    >>> state_of(path, {"seed": 0}, resume=True)
    'partial'
    """
    folder = _partial(path)
    folder.mkdir(exist_ok=True)
    files.write_json(folder / "run.json", identity)
    with files.writing(folder / path.name) as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": DTYPE.str, "fortran_order": False, "shape": (length,)}
        )
        file.truncate(file.tell() + length * DTYPE.itemsize)


def missing(path: Path, length: int) -> list[tuple[int, int]]:
    """The gaps [start, stop) that no journal says are scored, in order.

    Args:
      path: the `.npy` file that is wanted.
      length: N.

    Returns:
      Disjoint ranges; none if all of N is scored.

    >>> missing(Path("no-such-file.npy"), 7)
    [(0, 7)]
    """
    scored = []
    for journal in sorted(_partial(path).glob("journal-*.jsonl")):
        for line in journal.read_bytes().split(b"\n"):
            try:
                start, stop = map(int, json.loads(line))
            except (ValueError, TypeError):
                continue  # the line that was being written when the process ended
            scored.append((start, stop))
    gaps, position = [], 0
    for start, stop in [*sorted(scored), (length, length)]:
        if start > position:
            gaps.append((position, start))
        position = max(position, stop)
    return gaps


@contextlib.contextmanager
def writer(path: Path, process: int) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Writes chunks of scores, each of them followed by a line of the journal.

    Args:
      path: the `.npy` file that is wanted, for which `create` was called.
      process: number of this process; each has a journal of its own.

    Returns:
      A context manager that gives (start, scores [B]) -> None, which puts the scores at
      [start, start + B) and returns when they are on the disk.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.npy"
    >>> create(path, 3, {})
    >>> with writer(path, 0) as write:
    ...     write(1, np.ones(2))
    >>> missing(path, 3)
    [(0, 1)]
    """
    folder = _partial(path)
    journal_name = folder / f"journal-{process}.jsonl"
    with open(folder / path.name, "r+b") as file, open(journal_name, "ab") as journal:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
        journal.write(b"\n")  # ends a line that was cut off

        def write(start, scores):
            file.seek(offset + start * DTYPE.itemsize)
            file.write(scores.astype(DTYPE).tobytes())
            _to_disk(file)
            line = json.dumps([int(start), int(start + len(scores))])
            journal.write(f"{line}\n".encode())
            _to_disk(journal)

        yield write


def finish(path: Path, length: int, summary: dict) -> None:
    """Gives the scores their name, once all of them are there; may be done again.

    Args:
      path: the `.npy` file that is wanted.
      length: N.
      summary: the run's identity and what came of it, as JSON.

    Raises:
      RuntimeError: some items are not scored.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.npy"
    >>> create(path, 2, {})
    >>> with writer(path, 0) as write:
    ...     write(0, np.ones(2))
    >>> finish(path, 2, {})
    >>> np.load(path).tolist()
    [1.0, 1.0]
    """
    folder = _partial(path)
    if (folder / path.name).exists():
        if gaps := missing(path, length):
            raise RuntimeError(
                f"{folder}: items {gaps[:3]} are not scored; do all processes see the "
                "same file system? Resume to score them"
            )
        files.write_json(_summary(path), summary)
        files.rename(folder / path.name, path)
    shutil.rmtree(folder, ignore_errors=True)


def read(path: Path) -> np.ndarray:
    """Maps the scores [N], whether or not they have their name yet.

    Args:
      path: the `.npy` file that is wanted.

    Returns:
      [N] float32 memory map, read-only.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.npy"
    >>> create(path, 2, {})
    >>> read(path).shape
    (2,)
    """
    partial = _partial(path) / path.name
    return files.map_file(partial if partial.exists() else path)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _summary(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _to_disk(file):
    file.flush()
    os.fsync(file.fileno())
