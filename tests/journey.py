"""Counts what a label passes on its way: `jal tell`, then `jal ask`.

PYTHONPATH=/path/to/a/clone python tests/journey.py, of this clone or of an older one.
"""

import contextlib
import csv
import importlib
import inspect
import io
import json
import os
import sqlite3
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

Y = np.random.default_rng(0).integers(0, 2, 60)
CLASSES = ("cat", "dog")


def journey(folder: Path) -> dict[str, Any]:
    """What the two commands touch, in a folder for a session over features.

    Returns:
      Of both commands together the files of jal's in which a function ran, and by
      command how many stores were opened and how often SQLite was connected to.
    """
    import jal

    root = Path(jal.__file__).parent
    # In clones from before there were packages the store is a module.
    is_old = (root / "label_store.py").exists()
    part = importlib.import_module("jal.label_store" if is_old else "jal.session")
    store: Any = part.LabelStore
    session, csv_file = folder / "lab", folder / "filled.csv"
    x = np.random.default_rng(1).normal(size=(60, 4)) + 3 * Y[:, None]
    np.save(folder / "x.npy", x.astype(np.float32))
    _run("init", session, folder / "x.npy", "--classes", ",".join(CLASSES))
    for number in (1, 2):
        _run("ask", session, "-k", 6)
        _fill(session / "batches" / f"{number:04d}" / "batch.csv", csv_file)
        if number == 1:
            _run("tell", session, csv_file)

    files: set[str] = set()
    counts: dict[str, Counter] = {}
    connect, init = sqlite3.connect, store.__init__

    def trace(frame, event, _):
        # Functions alone: the body of a module or of a class runs when it is imported.
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            files.add(frame.f_code.co_filename)

    for command in (("tell", session, csv_file), ("ask", session, "-k", 6)):
        count = counts[command[0]] = Counter(stores=0, connections=0)

        def counted(function, name, count=count):
            def call(*arguments, **options):
                count[name] += 1
                return function(*arguments, **options)

            return call

        sqlite3.connect = counted(connect, "connections")
        store.__init__ = counted(init, "stores")
        sys.setprofile(trace)
        try:
            _run(*command)
        finally:
            sys.setprofile(None)
            sqlite3.connect, store.__init__ = connect, init
    inside = (Path(file) for file in files if file.startswith(f"{root}{os.sep}"))
    names = sorted(path.relative_to(root).as_posix() for path in inside)
    return {"files": names, **{name: dict(count) for name, count in counts.items()}}


def _run(*arguments: Any) -> None:
    """A command of this process, as `python -m jal` runs it."""
    from jal.cli import app

    with contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            code = app([str(each) for each in arguments], standalone_mode=False)
    assert not code, errors.getvalue()


def _fill(batch: Path, out: Path) -> None:
    """Writes a batch as an annotator sends it back."""
    with open(batch, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {"label": CLASSES[Y[int(row["index"])]], "seconds": "2.5"}
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = journey(Path(place))
    print(json.dumps(found | {"number of files": len(found["files"])}, indent=1))
