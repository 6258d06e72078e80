"""Everything people said of a pool, and what they were asked, in an SQLite file.

A label that a person gave is never lost: an answer is on the disk when `tell` returns,
processes that tell at once wait for each other, and telling the same twice changes
nothing. What holds of an item depends on the answers alone, not on their order.
"""

import contextlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from jal.session._annotations import Annotation, check
from jal.session._consensus import amounts, by_item, decide

STORE_FILE = "labels.sqlite"
TRAIN, TEST = "train", "test"
# What an answer without a label is stored as.
_SKIPPED = -1
_VERSION = 2
_WAIT_SECONDS = 60

_TABLES = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE batches (
  number INTEGER PRIMARY KEY,
  purpose TEXT NOT NULL,
  detail TEXT NOT NULL,
  made TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE asked (
  batch INTEGER NOT NULL REFERENCES batches,
  position INTEGER NOT NULL,
  item INTEGER NOT NULL UNIQUE,
  score REAL,
  cost REAL,
  PRIMARY KEY (batch, position)
);
CREATE TABLE annotations (
  item INTEGER NOT NULL,
  annotator TEXT NOT NULL,
  label INTEGER NOT NULL,
  final INTEGER NOT NULL,
  seconds REAL,
  cost REAL,
  made TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
  said_at REAL,
  PRIMARY KEY (item, annotator, label, final)
);
PRAGMA user_version = {_VERSION};
"""
# From the version before to this one.
_MIGRATE = "ALTER TABLE annotations ADD COLUMN said_at REAL"
# The greater of two times, as an annotation tool counts on when a task is opened again;
# what is unknown is less than everything.
_TELL = """
INSERT INTO annotations (item, annotator, label, final, seconds, cost, said_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  seconds = NULLIF(MAX(IFNULL(seconds, -1), IFNULL(excluded.seconds, -1)), -1),
  cost = NULLIF(MAX(IFNULL(cost, -1), IFNULL(excluded.cost, -1)), -1),
  said_at = NULLIF(MAX(IFNULL(said_at, -1), IFNULL(excluded.said_at, -1)), -1)
"""

_SAID = """
SELECT item, annotator, label, final FROM annotations
WHERE item IN (SELECT value FROM json_each(?))
"""


class AskedBatch(NamedTuple):
    """Items that were asked for together.

    Attributes:
      number: from 1.
      purpose: "train", or "test" for items that measure and never train.
      items: [K] pool indices, in the order asked.
      scores: [K] of the strategy, NaN where there are none.
      costs: [K] predicted, NaN where they were not.
      detail: what else was recorded with it.
    """

    number: int
    purpose: str
    items: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    detail: dict


class Told(NamedTuple):
    """What telling changed.

    Attributes:
      new: annotations that were not known.
      known: annotations that were.
      conflicts: items about which this and an earlier answer differ.
    """

    new: int
    known: int
    conflicts: tuple[int, ...]


class Labels(NamedTuple):
    """What holds of each item after all that was said.

    Attributes:
      label: [N] int32, the class, -1 where there is none.
      seconds: [N] mean time of the annotators, NaN where unknown.
      cost: [N] mean cost of the annotators, NaN where unknown.
      is_test: [N] bool, items that were asked for to measure.
      is_skipped: [N] bool, answered, and by nobody with a label.
      is_disputed: [N] bool, as many people said one thing as another.
      is_asked: [N] bool, items of a batch.
      order: [n] labelled items that train: those told unasked by their index, then
        batch by batch in the order asked, whenever the answers came.
    """

    label: np.ndarray
    seconds: np.ndarray
    cost: np.ndarray
    is_test: np.ndarray
    is_skipped: np.ndarray
    is_disputed: np.ndarray
    is_asked: np.ndarray
    order: np.ndarray

    @property
    def is_answered(self) -> np.ndarray:
        """[N] bool, somebody said something of it, be it that nothing can be said."""
        return (self.label >= 0) | self.is_skipped | self.is_disputed

    @property
    def is_waiting(self) -> np.ndarray:
        """[N] bool, asked for and not yet answered."""
        return self.is_asked & ~self.is_answered


class LabelStore:
    """Batches and answers of one pool; the only one who writes its file.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = LabelStore.create(folder, num_items=3, classes=("cat", "dog"))
    >>> store.tell([Annotation(2, 1, "ann"), Annotation(0, None, "ann")])
    Told(new=2, known=0, conflicts=())
    >>> store.tell([Annotation(2, 1, "ann")])
    Told(new=0, known=1, conflicts=())
    >>> store.labels().label.tolist(), store.labels().is_skipped.tolist()
    ([-1, -1, 1], [True, False, False])
    """

    def __init__(self, folder: str | Path, *, pages_beside: int = 1):
        """Opens the store of a folder.

        Args:
          folder: where `create` made one.
          pages_beside: how much may lie in a file beside it, in pages of 4 KiB, before
            it is copied into the file itself; with 1 a copy of the file alone is whole
            whenever an answer was taken, with more many answers are taken faster.

        Raises:
          FileNotFoundError: there is none.
          ValueError: the file is something else, or damaged.
        """
        self.folder = Path(folder)
        self._path = self.folder / STORE_FILE
        if not self._path.is_file():
            raise FileNotFoundError(
                f"{self._path} is not there; create it first, or name another folder"
            )
        # Threads take turns; a thread may read while it writes.
        self._lock = threading.RLock()
        with self._errors_named():
            self._connection = _connect(self._path)
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages_beside}")
        weakref.finalize(self, self._connection.close)
        with self._reading() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 1:
                version = self._migrate()
            if version != _VERSION:
                raise ValueError(
                    f"{self._path} has version {version} of the tables, this jal "
                    f"expects {_VERSION}"
                )
            rows = connection.execute("SELECT name, value FROM facts").fetchall()
        self.facts: dict[str, Any] = {name: json.loads(value) for name, value in rows}
        self.num_items: int = self.facts["num_items"]
        self.classes: tuple[str, ...] = tuple(self.facts["classes"])

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        num_items: int,
        classes: Sequence[str],
        facts: Mapping[str, Any] | None = None,
        told: Iterable[Annotation] = (),
    ) -> "LabelStore":
        """Makes the store of a pool.

        Args:
          folder: made if it is not there.
          num_items: N.
          classes: C names, all different.
          facts: what else is to be kept, as JSON.
          told: answers that there are already.

        Returns:
          The store.

        Raises:
          FileExistsError: the folder has a store.
          ValueError: no items, or fewer than two classes, or a name twice.

        >>> import tempfile
        >>> LabelStore.create(tempfile.mkdtemp(), num_items=3, classes="ab").classes
        ('a', 'b')
        """
        classes = [str(name) for name in classes]
        if num_items < 1:
            raise ValueError(f"num_items={num_items}; a pool has at least one item")
        if len(classes) < 2 or len(set(classes)) < len(classes) or "" in classes:
            raise ValueError(
                f"classes={classes}; give at least two names, all different and none "
                "of them empty"
            )
        path = Path(folder) / STORE_FILE
        if path.exists():
            raise FileExistsError(
                f"{path} is there already; open it, or choose another folder"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first, so that a store is whole or not there; unlike a
        # renaming, a link replaces nothing that somebody else made meanwhile.
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        facts = dict(facts or {}) | {"num_items": int(num_items), "classes": classes}
        try:
            with contextlib.closing(_connect(temporary, "DELETE")) as connection:
                connection.executescript("BEGIN;" + _TABLES)
                rows = [(name, json.dumps(value)) for name, value in facts.items()]
                connection.executemany("INSERT INTO facts VALUES (?, ?)", rows)
                sizes = {"num_items": num_items, "num_classes": len(classes)}
                connection.executemany(
                    _TELL, [_row(check(each, **sizes)) for each in told]
                )
                connection.execute("COMMIT")
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
            temporary.with_name(f"{temporary.name}-journal").unlink(missing_ok=True)
        return cls(folder)

    def tell(self, annotations: Iterable[Annotation], *, final: bool = False) -> Told:
        """Takes answers: all of them or, if one is not what it should be, none.

        Args:
          annotations: what was said, in any order; what is known already changes
            nothing but that a longer time or a higher cost replaces a lower one.
          final: all these answers are final. Of an item that has final ones only
            these count, and of each annotator the one told last.

        Returns:
          `Told`; answers that differ are kept side by side.

        Raises:
          ValueError: an item, label, time or cost out of range.
        """
        sizes = {"num_items": self.num_items, "num_classes": len(self.classes)}
        told = [check(annotation, **sizes) for annotation in annotations]
        if final:
            told = [annotation._replace(final=True) for annotation in told]
        rows, new, conflicts = [_row(annotation) for annotation in told], 0, set()
        with self._writing() as connection:
            held: dict[int, set[tuple]] = {row[0]: set() for row in rows}
            for item, *answer in connection.execute(_SAID, [json.dumps(list(held))]):
                held[item].add(tuple(answer))
            for item, *answer, _, _, _ in rows:
                answer, others = tuple(answer), held[item]
                new += answer not in others
                labels = {label for _, label, _ in others} - {_SKIPPED}
                if answer[1] != _SKIPPED and labels - {answer[1]}:
                    conflicts.add(item)
                others.add(answer)
            connection.executemany(_TELL, rows)
        return Told(new, len(told) - new, tuple(sorted(conflicts)))

    def add_batch(
        self,
        number: int,
        purpose: Literal["train", "test"],
        items: Sequence[int] | np.ndarray,
        *,
        scores: np.ndarray | None = None,
        costs: np.ndarray | None = None,
        detail: Mapping[str, Any] | None = None,
        before: Any = None,
    ) -> bool:
        """Records a batch, if it is still the next one.

        Args:
          number: of the batch; one more than there are.
          purpose: "train" or "test".
          items: [K] distinct pool indices, of no other batch.
          scores: [K], or None.
          costs: [K] predicted, or None.
          detail: what else is to be kept, as JSON.
          before: () -> None, called when it is sure that the batch will be recorded and
            no one else can write; what it does must not matter if the process dies.

        Returns:
          Whether it was recorded; False if somebody else's batch has the number.

        Raises:
          ValueError: an item was asked for before.
        """
        columns = [
            [None] * len(items) if values is None else _numbers(values)
            for values in (scores, costs)
        ]
        with self._writing() as connection:
            query = "SELECT COUNT(*) FROM batches"
            if connection.execute(query).fetchone()[0] + 1 != number:
                return False
            if before is not None:
                before()
            row = (number, purpose, json.dumps(dict(detail or {})))
            connection.execute(
                "INSERT INTO batches (number, purpose, detail) VALUES (?, ?, ?)", row
            )
            rows = [
                (number, position, int(item), score, cost)
                for position, (item, score, cost) in enumerate(
                    zip(items, *columns, strict=True)
                )
            ]
            try:
                connection.executemany("INSERT INTO asked VALUES (?, ?, ?, ?, ?)", rows)
            except sqlite3.IntegrityError as error:
                raise ValueError(
                    f"batch {number} asks for an item that was asked for before"
                ) from error
        return True

    def batches(self) -> list[AskedBatch]:
        """All batches, in their order."""
        with self._reading() as connection:
            heads = connection.execute(
                "SELECT number, purpose, detail FROM batches ORDER BY number"
            ).fetchall()
            rows = connection.execute(
                "SELECT batch, item, score, cost FROM asked ORDER BY batch, position"
            ).fetchall()
        by_batch: dict[int, list[tuple]] = {number: [] for number, *_ in heads}
        for number, *row in rows:
            by_batch[number].append(tuple(row))
        found = []
        for number, purpose, detail in heads:
            table = np.array(by_batch[number], float).reshape(-1, 3)
            items = table[:, 0].astype(np.int64)
            scores, costs = table[:, 1], table[:, 2]
            found.append(
                AskedBatch(number, purpose, items, scores, costs, json.loads(detail))
            )
        return found

    def answers(self) -> list[Annotation]:
        """All that was said, by item and annotator: by label, final ones as told."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT item, label, annotator, seconds, cost, said_at, final "
                "FROM annotations ORDER BY item, annotator, final, "
                "CASE WHEN final THEN rowid ELSE label END"
            ).fetchall()
        return [
            Annotation(
                item,
                None if label == _SKIPPED else label,
                who,
                time,
                cost,
                at,
                bool(final),
            )
            for item, label, who, time, cost, at, final in rows
        ]

    def labels(self) -> Labels:
        """What holds: of each item the label that most people gave it.

        Where as many people said one thing as another nothing holds, and the item is
        disputed until somebody tells a final answer.
        """
        label = np.full(self.num_items, -1, np.int32)
        seconds, cost = (np.full(self.num_items, np.nan) for _ in range(2))
        is_test, is_skipped, is_disputed, is_asked = (
            np.zeros(self.num_items, bool) for _ in range(4)
        )
        order = []
        with self._reading() as connection:
            asked = connection.execute(
                "SELECT item, purpose FROM asked JOIN batches ON batch = number "
                "ORDER BY batch, position"
            ).fetchall()
        for item, purpose in asked:
            is_asked[item], is_test[item] = True, purpose == TEST
            order.append(item)
        for item, answers in by_item(self.answers()).items():
            holds, disputed = decide(answers)
            label[item] = -1 if holds is None else holds
            is_disputed[item] = disputed
            is_skipped[item] = holds is None and not disputed
            seconds[item] = _mean(amounts(answers, "seconds").values())
            cost[item] = _mean(amounts(answers, "cost").values())
        unasked = np.flatnonzero((label >= 0) & ~is_asked).tolist()
        order = np.array(unasked + order, np.int64)
        order = order[(label[order] >= 0) & ~is_test[order]]
        return Labels(
            label, seconds, cost, is_test, is_skipped, is_disputed, is_asked, order
        )

    def _migrate(self) -> int:
        with self._writing() as connection:
            # Another process may have been faster.
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 1:
                connection.execute(_MIGRATE)
                connection.execute("PRAGMA user_version = 2")
        return 2

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors_named():
            yield self._connection

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self._path} is damaged, or no store of labels ({error}); restore it "
                "from a copy"
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _connect(path: Path, journal: str = "WAL") -> sqlite3.Connection:
    # Transactions are begun by hand; "full" waits for the disk at each commit.
    connection = sqlite3.connect(
        path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _row(annotation: Annotation) -> tuple:
    item, label, annotator, seconds, cost, at, final = annotation
    stored = _SKIPPED if label is None else label
    return item, annotator, stored, int(final), seconds, cost, at


def _numbers(values) -> list[float]:
    """What is not finite as NaN, which SQLite takes as nothing."""
    values = np.asarray(values, float)
    return np.where(np.isfinite(values), values, np.nan).tolist()


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else float("nan")
