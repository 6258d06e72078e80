"""What annotators said: records, and CSV files of them, on the host."""

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jal.session import _tables
from jal.session._tables import COLUMNS, expect, located, shown

# The label of an item that an annotator could not answer; the first is written.
SKIPPED = ("skip", "unsure")

# 30 years. A time of day, in seconds since 1970, is more and is no duration.
MAX_SECONDS = 1e9

# Who a label is by that no person gave.
MODEL = "model"

_SHOWN = 10
_NUMBERS = ("seconds", "cost", "at")
_NOT_IN_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Annotation(NamedTuple):
    """One answer of one annotator about one item.

    Attributes:
      item: its pool index.
      label: its class, 0 to C - 1, or None where the annotator skipped it or was
        unsure.
      annotator: who, or "" where nobody asked.
      seconds: how long it took, finite and >= 0, or None where unknown.
      cost: what it cost, finite and >= 0 in a unit of the caller's choice, or None
        where unknown.
      at: when it was said, in seconds since 1970, or None where unknown: of what one
        annotator said differently at different times, the newest counts.
      final: settles what others said differently.
    """

    item: int
    label: int | None
    annotator: str = ""
    seconds: float | None = None
    cost: float | None = None
    at: float | None = None
    final: bool = False


class Vocabulary:
    """What the names in a file stand for: items of a pool, and classes.

    >>> vocabulary = Vocabulary(["a.png", "b.png"], ["cat", "dog"])
    >>> vocabulary.item(name="b.png"), vocabulary.item(0, "a.png")
    (1, 0)
    >>> vocabulary.label("dog"), vocabulary.label("0"), vocabulary.label("Unsure")
    (1, 0, None)
    """

    def __init__(self, names: Sequence[str], classes: Sequence[str]):
        """Takes the names, after a look at whether they can be told apart.

        Args:
          names: [N] names of the items, distinct.
          classes: [C] names of the classes, distinct; neither empty nor one of
            `SKIPPED`, without line breaks and without blanks at the ends.

        Raises:
          ValueError: they are not like that.
        """
        self.names = names
        self.items = _numbers("names", names)
        self.classes = _numbers("classes", classes)
        if not self.classes:
            raise ValueError("classes is empty; give the name of each class")
        for name in self.classes:
            if not name or name != name.strip() or _NOT_IN_XML.search(name):
                raise ValueError(
                    f"classes: {shown(name)} is empty, or begins or ends with a blank, "
                    "or holds a line break or a control character; rename it"
                )
            if name.lower() in SKIPPED:
                raise ValueError(
                    f"classes: {name!r} is what annotators write for no answer; "
                    "rename it"
                )
        # With classes "1" and "2", a label 0 is a mistake and no class number.
        self._numbered = not any(map(_tables.is_whole, self.classes))

    def item(self, index: int | None = None, name: str | None = None) -> int:
        """The pool index of an item that is named, or numbered, or both alike."""
        if index is not None:
            index = _below("index", index, len(self.names))
            if name and name != self.names[index]:
                raise ValueError(
                    f"index {index} is {shown(self.names[index])}, but name says "
                    f"{shown(name)}; take the file of this pool, or leave one out"
                )
            return index
        if not name:
            raise ValueError("there is neither an index nor a name; give one")
        if name not in self.items:
            raise ValueError(
                f"no item is called {shown(name)}; the pool holds "
                f"{_some(self.items)}. Take the file of this pool"
            )
        return self.items[name]

    def label(self, text: str) -> int | None:
        """The class that a label names, or None for a word of `SKIPPED`."""
        text = expect("label", text, str, "the name of a class").strip()
        if text in self.classes:
            return self.classes[text]
        if text.lower() in SKIPPED:
            return None
        if self._numbered and _tables.is_whole(text) and int(text) < len(self.classes):
            return int(text)
        raise ValueError(
            f"label {shown(text)} is no class; allowed are {_some(self.classes)}, and "
            f"{SKIPPED[0]!r} for no answer"
        )

    def check(self, annotation: Annotation) -> Annotation:
        """Refuses what cannot be an answer about these items: see `check`."""
        sizes = {"num_items": len(self.names), "num_classes": len(self.classes)}
        return check(annotation, **sizes)


def check(annotation: Annotation, *, num_items: int, num_classes: int) -> Annotation:
    """Refuses what cannot be an answer.

    Args:
      annotation: what somebody said.
      num_items: N.
      num_classes: C.

    Returns:
      The same in Python's own types, blanks around the annotator's name removed.

    Raises:
      ValueError: item or label are no integers in range (True and False are none),
        annotator is no text, seconds, cost or at are no finite numbers >= 0, seconds
        exceed `MAX_SECONDS`, or final is neither True nor False.

    >>> check(Annotation(3, 1, "ann "), num_items=5, num_classes=2).annotator
    'ann'
    """
    item, label, annotator, seconds, cost, at, final = annotation
    expect("annotator", annotator, str, "text")
    expect("final", final, bool | np.bool_, "True or False")
    if "\0" in annotator or annotator.encode(errors="replace") != annotator.encode(
        errors="surrogatepass"
    ):
        raise ValueError(
            f"annotator is {shown(annotator)}, which no text file can hold; rename the "
            "annotator"
        )
    return Annotation(
        _below("item", item, num_items),
        None if label is None else _below("label", label, num_classes),
        annotator.strip(),
        _amount("seconds", seconds, MAX_SECONDS),
        _amount("cost", cost, math.inf),
        _amount("at", at, math.inf),
        bool(final),
    )


def read_csv(
    path: str | os.PathLike,
    *,
    names: Sequence[str],
    classes: Sequence[str],
    pool: str | None = None,
) -> list[Annotation]:
    r"""Reads answers from a CSV file, such as a batch that was filled in.

    The header names the columns: label, and index or name or both; annotator, seconds,
    cost, at and final where known; others do not matter. Commas, semicolons or tabs
    stand between the cells. The text is UTF-8.

    Args:
      path: the file, of at most 1 GiB.
      names: [N] names of the items.
      classes: [C] names of the classes. A label may also be a class number, unless
        classes have numbers as names; `SKIPPED` words mean no answer.
      pool: the mark of the pool (see `write_batch`): a row with another one is refused.

    Returns:
      An annotation a row, in the order of the file. Rows without a label are left
      out, and so is what one annotator said again of the same item; where two labels
      of an annotator differ, both are there.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: something in it is wrong; line and value are named.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "batch.csv"
    >>> _ = path.write_text("index,label\n1,dog\n2,\n0,skip\n")
    >>> said = read_csv(path, names=["a", "b", "c"], classes=["cat", "dog"])
    >>> [(answer.item, answer.label) for answer in said]
    [(1, 1), (0, None)]
    """
    vocabulary = Vocabulary(names, classes)
    columns = _tables.header(path)
    if "label" not in columns or not {"index", "name"} & set(columns):
        raise ValueError(
            f"{path}: the first line must name a column label, and index or name; it "
            f"names {_some(columns)}"
        )
    said: dict[tuple, Annotation] = {}
    for line, row in _tables.rows(path):
        if not row.get("label", "").strip():
            continue
        with located(f"{path}, {line}"):
            same_pool(row.get("pool"), pool)
            if row.get("by", "").strip() == MODEL:
                raise ValueError(
                    f"the column by says that the label is a guess of the {MODEL}; "
                    "leave such rows out, or empty the cell where a person agrees"
                )
            index = _tables.whole("index", row.get("index"))
            numbers = {w: _tables.number(w, row.get(w)) for w in _NUMBERS}
            annotation = Annotation(
                vocabulary.item(index, row.get("name")),
                vocabulary.label(row["label"]),
                row.get("annotator", ""),
                **numbers,
                final=_yes("final", row.get("final")),
            )
            annotation = vocabulary.check(annotation)
        said.setdefault((*annotation[:3], annotation.final), annotation)
    return list(said.values())


def write_csv(
    path: str | os.PathLike,
    annotations: Iterable[Annotation],
    *,
    names: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Writes answers to a CSV file that `read_csv` reads; it is whole or not there.

    Args:
      path: where to.
      annotations: one a row.
      names: [N] names of the items.
      classes: [C] names of the classes.

    Raises:
      ValueError: an annotation is none (see `check`), or a text cannot be written.

    >>> import tempfile
    >>> path, pool = Path(tempfile.mkdtemp()) / "a.csv", {"names": ["x", "y"]}
    >>> write_csv(path, [Annotation(1, None, "ann", 2.5)], **pool, classes=["c"])
    >>> path.read_text().splitlines()
    ['index,name,label,annotator,seconds,cost,at,final', '1,y,skip,ann,2.5,,,']
    >>> read_csv(path, **pool, classes=["c"])[0].seconds
    2.5
    """
    vocabulary = Vocabulary(names, classes)
    table: list[Sequence[Any]] = [(*COLUMNS, "at", "final")]
    for said in map(vocabulary.check, annotations):
        label = SKIPPED[0] if said.label is None else classes[said.label]
        final = "yes" if said.final else ""
        table.append((said.item, names[said.item], label, *said[2:-1], final))
    _tables.write(Path(path), table)


def write_batch(
    path: str | os.PathLike,
    items: Iterable[int],
    *,
    names: Sequence[str],
    columns: Mapping[str, Iterable[Any]] | None = None,
    pool: str | None = None,
) -> None:
    """Writes a CSV file for annotators to fill in; it is whole or not there.

    Args:
      path: where to.
      items: [K] pool indices, in the order they are to be labelled.
      names: [N] names of the items.
      columns: further columns by name, each of K values: scores, or guesses. They are
        for the annotators to see; `read_csv` passes over them.
      pool: a mark of the pool, in a column of its own, so that the file is not taken
        for one of another pool whose items have the same names.

    Raises:
      ValueError: an item is no pool index, a column has other than K values, or the
        name of one is one of `COLUMNS`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "batch.csv"
    >>> write_batch(path, [1], names=["x", "y"], columns={"score": [0.5]})
    >>> path.read_text().splitlines()
    ['index,name,label,annotator,seconds,cost,score', '1,y,,,,,0.5']
    """
    indices = [_below("items", item, len(names)) for item in items]
    values = {name: list(column) for name, column in (columns or {}).items()}
    if pool is not None:
        values["pool"] = [pool] * len(indices)
    for name, column in values.items():
        if name in COLUMNS or not name.strip():
            raise ValueError(f"columns: {name!r} is taken or empty; rename it")
        if len(column) != len(indices):
            raise ValueError(
                f"columns: {name!r} has {len(column)} values for {len(indices)} items"
            )
    blank = [""] * len(COLUMNS[2:])
    table: list[Sequence[Any]] = [(*COLUMNS, *values)]
    for index, *more in zip(indices, *values.values(), strict=True):
        table.append((index, names[index], *blank, *more))
    _tables.write(Path(path), table)


def same_pool(told: Any, pool: str | None) -> None:
    """Refuses what was written for another pool.

    Args:
      told: the mark in a file, or None or "" where there is none.
      pool: the mark of this pool, or None where nobody asks.

    Raises:
      ValueError: they differ.

    >>> same_pool("", "1a2b"), same_pool("1a2b", "1a2b")
    (None, None)
    """
    if pool is not None and told not in (None, "", pool):
        raise ValueError(
            f"this was written for another pool ({shown(told)}, this one is {pool}); "
            "tell it to the session that asked"
        )


def _yes(what: str, text: str | None) -> bool:
    word = (text or "").strip().lower()
    if word not in ("", "no", "false", "0", "yes", "true", "1"):
        raise ValueError(f"{what} is {shown(text)}; expected yes, or nothing")
    return word in ("yes", "true", "1")


def _numbers(what: str, names: Sequence[str]) -> dict[str, int]:
    numbers = {name: number for number, name in enumerate(names)}
    for number, name in enumerate(names):
        expect(f"{what}[{number}]", name, str, "text")
        if numbers[name] != number:
            raise ValueError(
                f"{what}: {shown(name)} stands for {number} and {numbers[name]}; "
                "names must be distinct"
            )
    return numbers


def _some(names: Iterable[str]) -> str:
    names = list(names)
    text = ", ".join(map(shown, names[:_SHOWN]))
    return text + f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)


def _below(what: str, value: Any, end: int) -> int:
    """An integer from 0 to end - 1; a bool is none, though Python says it is."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        integer = operator.index(value)
    except TypeError:
        raise ValueError(f"{what} is {shown(value)}; expected an integer") from None
    if not 0 <= integer < end:
        raise ValueError(f"{what} is {shown(value)}; expected 0 to {end - 1}")
    return integer


def _amount(what: str, value: Any, limit: float) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool | np.bool_ | str):
            raise TypeError
        amount = float(value)
    except (TypeError, OverflowError):
        amount = math.nan
    if not 0 <= amount <= limit or math.isinf(amount):
        most = "" if math.isinf(limit) else f" and at most {limit:g}"
        raise ValueError(
            f"{what} is {shown(value)}; expected a finite number >= 0{most}"
        )
    return amount
