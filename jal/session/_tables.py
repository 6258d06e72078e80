"""Text files that come back from people and their spreadsheets.

Nothing of them is believed: names and labels are looked up in lists and are never
opened, run or shown as HTML.
"""

import codecs
import contextlib
import csv
import io
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from jal._core import files

COLUMNS = ("index", "name", "label", "annotator", "seconds", "cost")

# 1 GiB. JSON takes about five times its size in memory while it is read.
MAX_BYTES = 1 << 30

_LONGEST_HEADER = 1 << 16
# Label Studio repeats the picture of a task in a cell.
_LONGEST_CELL = 1 << 24
_BINARY = {
    b"\x80": "a pickle",
    b"\x93NUMPY": "a .npy array",
    b"PK\x03\x04": "a zip archive, as .xlsx and .npz are",
    b"\x1f\x8b": "a gzip archive",
}
_REPR = reprlib.Repr()
_REPR.maxstring = 60


def open_text(path: str | os.PathLike) -> TextIO:
    """Opens a text file that somebody sent.

    Args:
      path: the file.

    Returns:
      It, open for reading as UTF-8, line ends as they are.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is empty, no text, or larger than `MAX_BYTES`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("text")
    >>> with open_text(path) as file:
    ...     file.read()
    'text'
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is no file; name one")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(
            f"{path} has {size} bytes; at most {MAX_BYTES} are read. Split it"
        )
    with open(path, "rb") as file:
        head = file.read(4096)
    for signature, what in _BINARY.items():
        if head.startswith(signature):
            raise ValueError(f"{path} is {what}; save it as CSV or JSON")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path} is UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)")
    if b"\0" in head:
        raise ValueError(f"{path} is no text; save it as CSV or JSON")
    if size == len(head) and not head.removeprefix(codecs.BOM_UTF8).strip():
        raise ValueError(f"{path} is empty")
    return open(path, encoding="utf-8-sig", newline="")


def header(path: str | os.PathLike) -> list[str]:
    """Reads the column names of a CSV file.

    Args:
      path: the file.

    Returns:
      The names of its first line.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no CSV file, or two columns have one name.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("index;label")
    >>> header(path)
    ['index', 'label']
    """
    return _columns(path, _cells(path))


def rows(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, str]]]:
    r"""Reads a CSV file row by row.

    Args:
      path: the file.

    Yields:
      Where the row ends, as "line 2", and its cells by column. Empty rows are left
      out. A row may be shorter than the header, but not longer.

    Returns:
      An iterator of that.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no CSV file; the line is named.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("index,label\n3,cat")
    >>> list(rows(path))
    [('line 2', {'index': '3', 'label': 'cat'})]
    """
    table = _cells(path)
    columns = _columns(path, table)
    for line, cells in table:
        # Spreadsheets cut empty cells off the end of a row.
        if any(cells[len(columns) :]):
            raise ValueError(
                f"{path}, line {line}: {len(cells)} cells below {len(columns)} names; "
                "put a cell that holds the separator in quotes"
            )
        if any(cells):
            yield f"line {line}", dict(zip(columns, cells, strict=False))


def write(path: Path, table: Iterable[Sequence[Any]]) -> None:
    """A file that is whole or not there.

    Names that begin with = + - or @ stay as they are, though a spreadsheet takes them
    for formulas: a quote put before them would come back in the name, and the item
    would not be found. Who opens a pool of files of unknown origin in a spreadsheet
    should import the column as text.
    """
    text = io.StringIO(newline="")
    # Both characters, so that a name with either of them is put in quotes.
    csv.writer(text, lineterminator="\r\n").writerows(table)
    content = text.getvalue()
    try:
        if "\0" in content:
            raise ValueError("it holds the character 0")
        # Excel takes a file without the mark for the code page of the machine.
        encoded = content.encode("utf-8" if content.isascii() else "utf-8-sig")
    except ValueError as error:
        raise ValueError(
            f"{path}: a name or an annotator cannot be written as UTF-8 text ({error})"
        ) from error
    with files.writing(path) as file:
        file.write(encoded)


def number(what: str, text: str | None) -> float | None:
    """Reads a number from a cell.

    Args:
      what: the name of the column.
      text: its content.

    Returns:
      The number, or None where the cell is empty.

    Raises:
      ValueError: it is something else.

    >>> number("seconds", "2.5"), number("seconds", "")
    (2.5, None)
    """
    if text is None or not text.strip():
        return None
    try:
        # Python's own digits_in_groups are none in a spreadsheet.
        return float(text.replace("_", "?"))
    except ValueError:
        raise ValueError(f"{what} is {shown(text)}; expected a number as 2.5") from None


def whole(what: str, text: str | None) -> int | None:
    """Reads a whole number >= 0 from a cell.

    Args:
      what: the name of the column.
      text: its content.

    Returns:
      The number, or None where the cell is empty.

    Raises:
      ValueError: it is something else.

    >>> whole("index", " 12"), whole("index", "")
    (12, None)
    """
    if text is None or not text.strip():
        return None
    if not is_whole(text.strip()):
        raise ValueError(f"{what} is {shown(text)}; expected a whole number as 12")
    return int(text)


def shown(value: Any) -> str:
    """What an error says of a value, however large it is.

    Args:
      value: anything that came from a file.

    Returns:
      Its repr, shortened.

    >>> shown("cat"), len(shown("a" * 1000))
    ("'cat'", 60)
    """
    return _REPR.repr(value)


def expect(what: str, value: Any, kind: Any, expected: str, verb: str = "is") -> Any:
    """The value, if it is of that kind."""
    if not isinstance(value, kind):
        raise ValueError(f"{what} {verb} {shown(value)}; expected {expected}")
    return value


@contextlib.contextmanager
def located(place: str) -> Iterator[None]:
    """Says of an error where it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _cells(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file, by the numbers of their ends."""
    number = 0
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    with open_text(path) as file:
        try:
            first = file.readline(_LONGEST_HEADER)
            file.seek(0)
            # Strict, or else a quote that is not closed swallows all lines after it.
            reader = csv.reader(file, delimiter=_delimiter(first), strict=True)
            for cells in reader:
                number = reader.line_num
                yield number, cells
        except csv.Error as error:
            raise ValueError(
                f"{path}, after line {number}: {error}; is a quote not closed?"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, after line {number}: this is no UTF-8 text; save it so (in "
                "Excel: CSV UTF-8)"
            ) from error


def _delimiter(first: str) -> str:
    """What stands between the names of a first line."""

    def fits(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([first], delimiter=delimiter))
        return len(set(COLUMNS) & {name.strip() for name in names}), len(names)

    return max(",;\t", key=fits)


def _columns(path: str | os.PathLike, table: Iterator) -> list[str]:
    """The names in the first line, taken off the table."""
    _, cells = next(table, (0, []))
    if not cells:
        raise ValueError(f"{path}: the first line is empty; put names of columns there")
    columns = [name.strip() for name in cells]
    for name in columns:
        if name and columns.count(name) > 1:
            raise ValueError(f"{path}: two columns are called {shown(name)}; drop one")
    return columns
