"""What was asked for and what was answered: each item once, and on disk before use.

What is asked for is recorded before anybody is asked, so that after a crash the very
same items are asked for again, and no others.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from jal.session import Annotation, LabelStore

ORACLE = "oracle"
Purpose = Literal["train", "test"]
Chosen = tuple[np.ndarray, np.ndarray | None]


class Book:
    """Requests and answers of one run, in memory and, where there is one, in a store.

    >>> book = Book(5)
    >>> chosen = book.request("first", "train", lambda: (np.array([3, 4]), None))
    >>> book.answer(book.waiting("first"), [1, 0])
    >>> book.labels.tolist(), book.waiting("first").tolist()
    ([-1, -1, -1, 1, 0], [])
    """

    def __init__(self, num_items: int, store: LabelStore | None = None, run: str = ""):
        """Opens the book, and reads what the store has.

        Args:
          num_items: N.
          store: where everything is kept, or None.
          run: what tells the requests of this run from others in the store.
        """
        self.labels = np.full(num_items, -1, np.int32)
        self.is_answered = np.zeros(num_items, bool)
        self._is_asked = np.zeros(num_items, bool)
        self._chosen: dict[str, np.ndarray] = {}
        self._store, self._run, self._batches = store, run, 0
        self._read()

    def request(
        self, name: str, purpose: Purpose, choose: Callable[[], Chosen]
    ) -> np.ndarray:
        """Finds a request by its name, or makes and records it.

        Args:
          name: of the request.
          purpose: "train" or "test".
          choose: () -> [K] distinct pool indices, and their scores [K] or None; called
            only if there is no such request yet. Items that have an answer, or are
            asked for already, are not asked for again.

        Returns:
          [K] int64, the indices chosen.
        """
        if name not in self._chosen:
            chosen, scores = choose()
            while not self._is_recorded(name, purpose, chosen, scores):
                self._read()  # somebody else's batch was faster
        return self._chosen[name]

    def waiting(self, name: str) -> np.ndarray:
        """The items of a request that have no answer yet, in the order chosen."""
        return self._chosen[name][~self.is_answered[self._chosen[name]]]

    def answer(self, items: np.ndarray, labels: np.ndarray, cost: float | None = None):
        """Takes labels: all of them in one transaction, and only then uses them."""
        if self._store is not None:
            self._store.tell(
                Annotation(int(item), int(label), ORACLE, cost=cost)
                for item, label in zip(items, labels, strict=True)
            )
        self.labels[items], self.is_answered[items] = labels, True

    def _is_recorded(self, name, purpose, chosen, scores) -> bool:
        if self._store is not None and name not in self._chosen:
            is_new = ~(self.is_answered | self._is_asked)[chosen]
            detail = {"run": self._run, "request": name}
            if not is_new.all():
                detail["chosen"] = chosen.tolist()
            if not self._store.add_batch(
                self._batches + 1,
                purpose,
                chosen[is_new],
                scores=None if scores is None else scores[is_new],
                detail=detail,
            ):
                return False
            self._batches += 1
            self._is_asked[chosen] = True
        self._chosen.setdefault(name, chosen)
        return True

    def _read(self) -> None:
        if self._store is None:
            return
        held, batches = self._store.labels(), self._store.batches()
        self.labels, self.is_answered = held.label, held.is_answered
        self._is_asked, self._batches = held.is_asked, len(batches)
        for batch in batches:
            if batch.detail.get("run") == self._run:
                chosen = batch.detail.get("chosen", batch.items)
                self._chosen[batch.detail["request"]] = np.array(chosen, np.int64)
