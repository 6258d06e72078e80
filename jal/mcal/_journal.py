"""A journal of bought labels: what was asked for, and what was answered, on disk.

Every answer is written, and forced to the disk, before anybody uses it. What was asked
for is written before the oracle is asked, so that after a crash the very same items are
asked for again, and no others.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jal._core import files

LABELS_FILE = "labels.jsonl"


class Journal:
    """Buys labels from an oracle, each once.

    Lines of the file are {"request": name, "indices": [...]}, then, part by part,
    {"request": name, "labels": [...]}, in the order of the indices that had no label
    yet. An answer that is not what was asked for is kept as {"request": name,
    "refused": "..."}.

    >>> journal = Journal(None, lambda indices: indices % 2, num_items=5, num_classes=2)
    >>> journal.buy("first", lambda: np.array([3, 4])).tolist()
    [3, 4]
    >>> journal.labels.tolist()
    [-1, -1, -1, 1, 0]
    """

    def __init__(
        self,
        folder: Path | None,
        oracle: Callable[[np.ndarray], np.ndarray],
        *,
        num_items: int,
        num_classes: int,
        ask_at_most: int = 1000,
    ):
        """Opens the journal of a folder, and reads what it holds.

        Args:
          folder: an existing folder, or None to keep everything in memory.
          oracle: (indices [n] int64) -> labels [n].
          num_items: N.
          num_classes: C.
          ask_at_most: n, the most items the oracle is asked for at a time.
        """
        if ask_at_most < 1:
            raise ValueError(f"ask_at_most={ask_at_most}; it must be at least 1")
        self._path = None if folder is None else folder / LABELS_FILE
        self._oracle = oracle
        self._num_classes = num_classes
        self._ask_at_most = ask_at_most
        self._chosen: dict[str, np.ndarray] = {}
        self._missing: dict[str, np.ndarray] = {}
        self.labels = np.full(num_items, -1, np.int32)
        if self._path is not None:
            self._read(self._path)

    @property
    def bought(self) -> int:
        """How many labels were bought."""
        return int(np.sum(self.labels >= 0))

    def buy(
        self,
        name: str,
        choose: Callable[[], np.ndarray],
        *,
        bought: Callable[[int], None] = lambda number: None,
    ) -> np.ndarray:
        """Buys the labels of a request, or what is missing of it.

        Args:
          name: of the request.
          choose: () -> [K] distinct pool indices; called only if there is no such
            request yet. Those that have labels already are not bought again.
          bought: called with the number of labels after each part.

        Returns:
          [K] int64, the indices chosen.
        """
        if name not in self._chosen:
            chosen = np.asarray(choose(), np.int64)
            self._write({"request": name, "indices": chosen.tolist()})
            self._open(name, chosen)
        while len(missing := self._missing[name]):
            part = missing[: self._ask_at_most]
            labels = self._checked(name, part, self._oracle(part.copy()))
            self._write({"request": name, "labels": labels.tolist()})
            self._enter(name, labels)
            bought(len(part))
        return self._chosen[name]

    def _checked(self, name: str, indices: np.ndarray, answer) -> np.ndarray:
        """The answer as labels; what is paid for and no label is kept, too."""
        labels = np.asarray(answer)
        problem = None
        if labels.shape != indices.shape:
            problem = f"has shape {labels.shape}; expected [{len(indices)}]"
        elif labels.dtype.kind not in "iuf":
            problem = f"has dtype {labels.dtype}; expected integers"
        else:
            values = labels.astype(float)
            allowed = (values >= 0) & (values < self._num_classes)
            wrong = ~(allowed & (values == np.floor(values)))
            if wrong.any():
                first = int(np.argmax(wrong))
                problem = (
                    f"says {labels[first]} of item {indices[first]}; labels are "
                    f"integers from 0 to {self._num_classes - 1}"
                )
        if problem is None:
            return labels.astype(np.int32)
        self._write({"request": name, "refused": repr(labels.tolist())})
        kept = "" if self._path is None else f" The answer is kept in {self._path}."
        raise ValueError(
            f"the oracle's answer to request {name!r} {problem}.{kept} Correct the "
            "oracle and resume: these items will be asked for again"
        )

    def _write(self, line: dict) -> None:
        if self._path is not None:
            files.append_line(self._path, line)

    def _read(self, path: Path) -> None:
        for number, line in enumerate(files.read_lines(path), 1):
            try:
                name = line["request"]
                if "indices" in line:
                    self._open(name, np.asarray(line["indices"], np.int64))
                elif "labels" in line:
                    self._enter(name, np.asarray(line["labels"], np.int32))
            except (ValueError, KeyError, IndexError) as error:
                raise ValueError(
                    f"{path} is damaged in line {number} ({error}); restore it from a "
                    "copy: it holds labels that were paid for"
                ) from error

    def _open(self, name: str, chosen: np.ndarray) -> None:
        self._chosen[name] = chosen
        self._missing[name] = chosen[self.labels[chosen] < 0]

    def _enter(self, name: str, labels: np.ndarray) -> None:
        part, rest = np.split(self._missing[name], [len(labels)])
        self.labels[part] = labels
        self._missing[name] = rest
