"""Files that are whole or not there, records of runs, progress bars: for the host."""

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

RUN_FILE = "run.json"


def as_json(tree) -> Any:
    """Arrays and NamedTuples as what JSON has; NaN and infinities become None.

    Args:
      tree: dicts, lists, NamedTuples and arrays of any shape.

    Returns:
      Dicts, lists and numbers.

    >>> as_json({"a": np.array([1.0, np.nan])})
    {'a': [1.0, None]}
    """
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if isinstance(tree, Mapping):
        return {str(name): as_json(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_json(value) for value in tree]
    if isinstance(tree, np.ndarray | np.generic | jax.Array):
        return as_json(np.asarray(tree).tolist())
    if isinstance(tree, float) and not np.isfinite(tree):
        return None
    return tree


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file that is either whole or not there.

    Args:
      path: where to; written under a temporary name first, and renamed.
      content: anything `as_json` takes.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> write_json(path, {"b": 1})
    >>> json.loads(path.read_text())
    {'b': 1}
    """
    with writing(path) as file:
        file.write((json.dumps(as_json(content)) + "\n").encode())


@contextlib.contextmanager
def writing(path: Path, mode: str = "wb", **options: Any) -> Iterator[IO]:
    """A file that is either whole or not there, and on the disk when it has its name.

    Args:
      path: where to; written under a temporary name first, and renamed.
      mode: "wb" or "w".
      **options: of `open`.

    Yields:
      The open file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with writing(path, "w") as file:
    ...     _ = file.write("text")
    >>> path.read_text()
    'text'
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def rename(source: Path, target: Path) -> None:
    """Gives a file another name, and waits until the disk has the name, too.

    Args:
      source: a file.
      target: of the same file system; replaced if it is there.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "a").touch()
    >>> rename(folder / "a", folder / "b")
    >>> (folder / "b").exists()
    True
    """
    os.replace(source, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_table(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV file that is either whole or not there.

    Args:
      path: where to.
      rows: cells, the names of the columns first.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> write_table(path, [("index", "score"), (3, 0.5)])
    >>> path.read_text().splitlines()
    ['index,score', '3,0.5']
    """
    with writing(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def append_line(path: Path, content: Any) -> None:
    """Adds a line of JSON to a file, and waits until the disk has it.

    Args:
      path: made if it is not there.
      content: anything `as_json` takes.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.jsonl"
    >>> append_line(path, {"b": 1})
    >>> read_lines(path)
    [{'b': 1}]
    """
    with open(path, "a") as file:
        file.write(json.dumps(as_json(content)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict]:
    """Reads what `append_line` wrote, and cuts off a last line that was cut short.

    Args:
      path: a file, or one that is not there yet.

    Returns:
      One object a line.

    Raises:
      ValueError: a line is not a JSON object; it is named.

    >>> read_lines(Path("not-there.jsonl"))
    []
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        # Nobody has used it: its writing was not over.
        with open(path, "r+b") as file:
            file.truncate(len(whole))
    lines = []
    for number, line in enumerate(whole.decode(errors="replace").splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            lines.append(None)
        if not isinstance(lines[-1], dict):
            raise ValueError(
                f"{path} is damaged in line {number} ({line[:60]!r}); restore it from "
                "a copy"
            )
    return lines


def check_identity(run_file: Path, identity: dict) -> None:
    """Compares what a file says of a run with what is to be run.

    Args:
      run_file: a JSON object, as `write_json` makes it.
      identity: what must be equal; further entries of the file do not matter.

    Raises:
      ValueError: the file holds something else, named entry by entry.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.json"
    >>> write_json(path, {"seed": 1})
    >>> check_identity(path, {"seed": 1})
    """
    try:
        stored = json.loads(run_file.read_text())
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise ValueError(
            f"{run_file} is not a JSON object; remove its folder or choose another"
        )
    # Through JSON and back, so that tuples and lists compare as equal.
    identity = json.loads(json.dumps(identity))
    different = [
        f"{name} was {stored.get(name)!r} and is {identity[name]!r}"
        for name in identity
        if stored.get(name) != identity[name]
    ]
    if different:
        raise ValueError(
            f"{run_file} belongs to a different run ({'; '.join(different)}); choose "
            "another place"
        )


def open_run(
    folder: Path, identity: Any, *, resume: bool, traces: Sequence[str] = ()
) -> None:
    """Begins a run in a folder, or goes on with the same run.

    Args:
      folder: made if it is not there; its `run.json` says which run it holds.
      identity: what must be equal on resuming; anything `as_json` takes.
      resume: go on with what is there; with nothing there, begin.
      traces: names of files that only a run leaves.

    Raises:
      FileExistsError: the folder holds a run, and `resume` is False.
      ValueError: it holds another run, or traces of one without `run.json`.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> open_run(folder, {"seed": 1}, resume=False)
    >>> open_run(folder, {"seed": 1}, resume=True)
    """
    run_file, identity = folder / RUN_FILE, as_json(identity)
    if run_file.exists():
        if not resume:
            raise FileExistsError(
                f"folder={str(folder)!r} holds a run; pass resume=True to go on with "
                "it, or another folder"
            )
        check_identity(run_file, identity)
        return
    found = [name for name in traces if (folder / name).exists()]
    if found:
        raise ValueError(
            f"folder={str(folder)!r} has {found[0]} of a run, but {RUN_FILE} does not "
            "say of which; choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(run_file, identity)


def map_file(path: Path) -> np.ndarray:
    """Maps a `.npy` file of numbers; nothing is read but its header.

    Args:
      path: the file.

    Returns:
      Read-only memory map of any shape [...].

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is truncated, of another format, or holds Python objects.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npy"
    >>> np.save(path, np.arange(3))
    >>> map_file(path).tolist()
    [0, 1, 2]
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole .npy file of numbers ({error}); write it with "
            "numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(
            f"{path} is an .npz archive, which cannot be read in slices; save its "
            "array with numpy.save"
        )
    return array


def progress_bar(total: int, done: int, shown: bool, unit: str) -> Any:
    """A tqdm progress bar, or where tqdm is missing and no bar is wanted, nothing.

    Args:
      total: number of units of work.
      done: how many of them are done already.
      shown: whether there is anything to see.
      unit: what is counted.

    Returns:
      A context manager with `update` and `set_postfix`.

    Raises:
      ImportError: the bar is wanted and tqdm is missing.

    >>> with progress_bar(2, 0, False, "item") as bar:
    ...     _ = bar.update(2)
    """
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        if shown:
            raise ImportError(
                "the progress bar needs tqdm: pip install tqdm, or progress=False"
            ) from error
        return _NoBar()
    return tqdm(total=total, initial=done, unit=unit, disable=not shown)


class _NoBar:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def update(self, _):
        return None

    def set_postfix(self, *_, **__):
        return None
