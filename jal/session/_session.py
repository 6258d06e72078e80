"""Active learning with people: ask for a batch, tell what they said, again and again.

Everything told is kept in a folder (`LabelStore`), together with the weights that
chose the last batch. The folder can be opened again after a crash, or a month later,
and goes on with the same choices as if nothing had happened.
"""

import functools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal import loop, strategies
from jal import pool as pools
from jal._core import checkpoints
from jal.session import _choose as rounds
from jal.session._annotations import Annotation
from jal.session._choose import Carried
from jal.session._status import Status, status_of
from jal.session._store import TEST, TRAIN, AskedBatch, Labels, LabelStore, Told
from jal.types import Data, Learner, Proposal, Strategy

CHECKPOINTS_FOLDER = "checkpoints"
UNITS = ("seconds", "cost")


def check_unit(unit: str) -> None:
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r}; allowed are {' and '.join(UNITS)}")


class Recipe(NamedTuple):
    """How a session trains and chooses: code, so it is given anew at each opening.

    Attributes:
      learner: what is trained on the labels.
      strategy: what chooses, or a function of beta that returns it, such as
        `lambda beta: strategies.from_scores(bald, num_samples=20, beta=beta)`.
      cost_learner: learns what an item costs from what was told, such as
        `learners.regressor(...)`; None where nothing is to be learned of it.
      first: what chooses before there is a label; it must need neither labels nor a
        trained model. None: random choice.
      propose: what is on the table in each round; `pool.everything()` or
        `pool.random_subset(M)`.
    """

    learner: Learner
    strategy: Strategy | Callable[[float], Strategy]
    cost_learner: Learner | None = None
    first: Strategy | None = None
    propose: Proposal = pools.everything()


class Batch(NamedTuple):
    """Items that people are asked about.

    Attributes:
      number: of the batch, from 1.
      purpose: "train", or "test" for items that measure accuracy and never train.
      indices: [K] pool indices, most wanted first; of a batch that is partly answered
        what is left of it.
      scores: [K] of the strategy, NaN where there are none.
      costs: [K] predicted cost, in the unit of the session, NaN where unknown.
      predicted: [K] class that the model expects, -1 before there is a model.
      confidence: [K] its probability, NaN before there is a model.
    """

    number: int
    purpose: str
    indices: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


class Session:
    """A pool that people label in batches: `ask`, `tell`, `status`, `predict`.

    >>> import tempfile
    >>> from jal.types import Outputs
    >>> learner = Learner(
    ...     lambda key: jnp.zeros(()),
    ...     lambda key, v, data, pool: (v, {}),
    ...     lambda v, x, key=None: Outputs(logits=jnp.stack([x, -x], axis=1) + v),
    ... )
    >>> session = Session.create(
    ...     tempfile.mkdtemp(),
    ...     np.arange(6, dtype=np.float32),
    ...     Recipe(learner, strategies.random()),
    ...     classes=("cat", "dog"),
    ... )
    >>> batch = session.ask(2)
    >>> session.tell(batch.indices, [0, 1], seconds=[3.0, 2.5], annotator="ann")
    Told(new=2, known=0, conflicts=())
    >>> status = session.status()
    >>> status.labeled, status.waiting, status.seconds
    (2, 0, 5.5)
    """

    def __init__(self, store: LabelStore, x: Any, recipe: Recipe):
        """Not called directly: see `create` and `open`."""
        self.store = store
        self.recipe = recipe
        self._folder = store.folder
        self.x = jax.tree.map(jnp.asarray, x)
        self._key = jax.random.key(store.facts["seed"])

    @classmethod
    def create(
        cls,
        folder: str | Path,
        x: Any,
        recipe: Recipe,
        *,
        classes: Sequence[str],
        seed: int = 0,
        unit: str = "seconds",
        facts: Mapping[str, Any] | None = None,
        told: Iterable[Annotation] = (),
    ) -> "Session":
        """Begins a session.

        Args:
          folder: made if it is not there; receives everything.
          x: pytree of [N, ...], the pool.
          recipe: how to train and to choose.
          classes: C names, all different.
          seed: of everything random.
          unit: "seconds" or "cost": what the cost learner learns, and `beta` weighs.
          facts: what else is to be kept, as JSON; `store.facts` has it.
          told: answers that there are already.

        Returns:
          The session.

        Raises:
          FileExistsError: the folder holds one.
          ValueError: x or classes are not as described.

        See the class for an example.
        """
        check_unit(unit)
        checkpoints.require("a session")
        num_items, checksum = _checked(x)
        facts = dict(facts or {}) | {"seed": seed, "unit": unit, "x_crc32": checksum}
        store = LabelStore.create(
            folder, num_items=num_items, classes=classes, facts=facts, told=told
        )
        return cls(store, x, recipe)

    @classmethod
    def open(cls, folder: str | Path | LabelStore, x: Any, recipe: Recipe) -> "Session":
        """Goes on with a session.

        Args:
          folder: that `create` made, or its store.
          x: the same pool.
          recipe: the same code.

        Returns:
          The session.

        Raises:
          FileNotFoundError: there is none.
          ValueError: x is another pool, or the folder is damaged.

        See the class for an example.
        """
        checkpoints.require("a session")
        store = folder if isinstance(folder, LabelStore) else LabelStore(folder)
        num_items, checksum = _checked(x)
        if (num_items, checksum) != (store.num_items, store.facts["x_crc32"]):
            raise ValueError(
                f"x is not the pool of {store.folder}, which has {store.num_items} "
                "items and another content; give the same arrays as at the beginning"
            )
        return cls(store, x, recipe)

    def ask(
        self, k: int, *, beta: float = 0.0, test: bool = False, another: bool = False
    ) -> Batch:
        """Trains on all that was told, and chooses what to ask next.

        While a batch of the same purpose is not fully answered, that one is returned
        again, without what was answered, whatever `k` and `beta` are: asking twice asks
        for nothing twice. Fewer than K items are left at the end.

        Args:
          k: K, how many items.
          beta: weight of the cost in v = I / C^beta; above 0 it needs a recipe whose
            strategy is a function of beta, a cost learner, and costs told.
          test: choose at random, to measure accuracy: these labels never train.
          another: open a further batch beside one that is not fully answered.

        Returns:
          `Batch`.

        Raises:
          ValueError: k or beta out of range, nothing left to ask, no costs to weigh, or
            weights in the folder that belong to another recipe.
        """
        if k < 1:
            raise ValueError(f"k={k}; at least one item must be asked for")
        if not 0 <= beta < float("inf"):
            raise ValueError(f"beta={beta}; it must be a finite number >= 0")
        strategy = self._strategy_of(float(beta))
        purpose = TEST if test else TRAIN
        while True:
            batches, labels = self.store.batches(), self.store.labels()
            if not another:
                for batch in batches:
                    left = labels.is_waiting[batch.items]
                    if batch.purpose == purpose and left.any():
                        return _asked(batch, left)
            number = len(batches) + 1
            is_open = ~(labels.is_answered | labels.is_asked)
            if not is_open.any():
                raise ValueError(
                    "nothing is left to ask: every item of the pool was asked for or "
                    "has a label"
                )
            count = min(k, int(is_open.sum()))
            if test:
                added = self._add_random(number, is_open, count)
            elif len(labels.order) == 0:
                if beta > 0:
                    raise ValueError(
                        f"beta={beta} weighs costs, but there is no label yet to learn "
                        "them from; ask for the first batch with beta=0"
                    )
                added = self._add_first(number, labels, is_open, count)
            else:
                added = self._add_chosen(number, labels, strategy, count, beta)
            if added:
                batch = self.store.batches()[number - 1]
                return _asked(batch, np.ones(len(batch.items), bool))
            # Somebody else asked meanwhile: look again at what is open.

    def tell(
        self,
        indices: Sequence[int] | np.ndarray,
        labels: Sequence[int | None] | np.ndarray,
        costs: Sequence[float] | np.ndarray | None = None,
        seconds: Sequence[float] | np.ndarray | None = None,
        *,
        annotator: str = "",
        final: bool = False,
    ) -> Told:
        """Takes labels of any items, in any order, as often as they are sent.

        Args:
          indices: [n] pool indices, of a batch or not.
          labels: [n] classes from 0; None or -1 where it was skipped.
          costs: [n] >= 0, NaN where unknown; None for all.
          seconds: [n] >= 0, NaN where unknown; None for all.
          annotator: who said so.
          final: settle what others said differently.

        Returns:
          `Told`; what was told before in the same words changes nothing, and what
          differs is kept beside it.

        Raises:
          ValueError: lengths that differ, or a value out of range; then nothing was
            taken.
        """
        unknown = [None] * len(indices)
        columns = {
            "indices": indices,
            "labels": labels,
            "seconds": unknown if seconds is None else seconds,
            "costs": unknown if costs is None else costs,
        }
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"{sizes}; all must have the same length")
        annotations = [
            Annotation(item, _label(label), annotator, _amount(time), _amount(price))
            for item, label, time, price in zip(*columns.values(), strict=True)
        ]
        return self.store.tell(annotations, final=final)

    def status(self) -> Status:
        """How far it is: labels, accuracy, what was spent, what the next batch costs.

        Returns:
          `Status`, of what the store has; no model is trained.
        """
        return status_of(self.store)

    def predict(self) -> np.ndarray:
        """Trains on all that was told, and predicts every item.

        Returns:
          [N, C] probabilities, of the model that would choose the next batch.

        Raises:
          ValueError: there is no label to train on.
        """
        labels, batches = self.store.labels(), self.store.batches()
        if len(labels.order) == 0:
            raise ValueError("there is no label to train on; ask and tell first")
        carried = self._restore(batches, self._strategy_of(0.0))
        found = rounds.predict(
            self._key,
            len(batches) + 1,
            self._data(labels),
            rounds.pool_of(labels.order, ~_eligible(labels)),
            carried.variables,
            learner=self.recipe.learner,
        )
        return np.asarray(found)

    def _add_random(self, number, is_open, count) -> bool:
        key = loop.round_key(self._key, number, loop.STRATEGY)
        chance = np.asarray(jax.random.uniform(key, is_open.shape))
        items = np.argsort(np.where(is_open, chance, np.inf), kind="stable")[:count]
        return self.store.add_batch(number, TEST, items)

    def _add_first(self, number, labels, is_open, count) -> bool:
        indices, scores = rounds.choose_first(
            self._key,
            number,
            self._data(labels),
            rounds.pool_of(labels.order, ~is_open),
            learner=self.recipe.learner,
            strategy=self.recipe.first or strategies.random(),
            propose=self.recipe.propose,
            k=count,
        )
        chosen = _some(np.asarray(indices) >= 0)
        items, scores = np.asarray(indices)[chosen], np.asarray(scores)[chosen]
        return self.store.add_batch(number, TRAIN, items, scores=scores)

    def _add_chosen(self, number, labels, strategy, count, beta) -> bool:
        recipe, unit = self.recipe, self.store.facts["unit"]
        told = _told_costs(labels, unit)
        cost_learner = recipe.cost_learner if np.isfinite(told).sum() >= 2 else None
        if beta > 0 and cost_learner is None:
            why = f"{unit} above 0 were told of fewer than two items; tell them"
            if recipe.cost_learner is None:
                why = "the recipe has no cost_learner; give one"
            raise ValueError(
                f"beta={beta} weighs the {unit} of a label, but {why}, or ask with "
                "beta=0"
            )
        carried = self._restore(self.store.batches(), strategy)
        tested = np.flatnonzero(labels.is_test & (labels.label >= 0))
        has_cost = labels.order[np.isfinite(told[labels.order])]
        carried, found = rounds.choose(
            self._key,
            number,
            self._data(labels)._replace(cost=jnp.asarray(told, jnp.float32)),
            rounds.pool_of(labels.order, ~_eligible(labels)),
            rounds.pool_of(has_cost, np.zeros(len(told), bool)),
            carried,
            rounds.padded(tested),
            learner=recipe.learner,
            strategy=strategy,
            cost_learner=cost_learner,
            propose=recipe.propose,
            k=count,
            weighs_cost=beta > 0,
        )
        found = jax.device_get(found)
        chosen, number_tested = _some(found.indices >= 0), len(tested)
        right = found.test_predicted[:number_tested] == labels.label[tested]
        detail = {
            "beta": beta,
            "labels": len(labels.order),
            "predicted": found.predicted[chosen].tolist(),
            "confidence": found.confidence[chosen].tolist(),
            "margins": found.test_margin[:number_tested].tolist(),
            "right": right.tolist(),
            "checkpoint": number,
        }
        return self.store.add_batch(
            number,
            TRAIN,
            found.indices[chosen],
            scores=found.scores[chosen],
            costs=found.cost[chosen],
            detail=detail,
            before=lambda: self._save(number, carried),
        )

    def _data(self, labels: Labels) -> Data:
        """The pool with the labels that train, and no others."""
        y = np.full(self.store.num_items, -1, np.int32)
        y[labels.order] = labels.label[labels.order]
        return Data(self.x, jnp.asarray(y))

    def _strategy_of(self, beta: float) -> Strategy:
        strategy = self.recipe.strategy
        if not isinstance(strategy, Strategy):
            return _made(strategy, beta)
        if beta > 0:
            raise ValueError(
                f"beta={beta}, but the recipe's strategy is not a function of beta; "
                "give `lambda beta: strategies.from_scores(..., beta=beta)`, or ask "
                "with beta=0"
            )
        return strategy

    def _restore(self, batches: list[AskedBatch], strategy: Strategy) -> Carried:
        """What the last batch that a model chose has left, or the beginning."""
        step, recipe = _last_step(batches), self.recipe
        made_of = (recipe.learner, strategy, recipe.cost_learner, recipe.propose)
        initial = rounds.initial(self._key, self.x, *made_of)
        if step is None:
            # Placed as what is restored, so that both share a compilation.
            return jax.device_put(initial, jax.devices()[0])
        with self._manager() as manager:
            if step not in manager.all_steps():
                raise ValueError(
                    f"{self._folder / CHECKPOINTS_FOLDER} lost the weights of batch "
                    f"{step}; restore them from a copy. The labels are safe: a new "
                    "session takes them by tell"
                )
            try:
                return checkpoints.restore(manager, step, initial)
            except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
                raise ValueError(
                    f"the weights of batch {step} in {self._folder} do not fit the "
                    f"recipe ({error}); open it with the recipe it was made with"
                ) from error

    def _save(self, number: int, carried: Carried) -> None:
        keep = _last_step(self.store.batches()) or 0
        with self._manager() as manager:
            checkpoints.save(manager, number, carried, keep=keep)

    def _manager(self):
        return checkpoints.open_manager(self._folder / CHECKPOINTS_FOLDER)


@functools.cache
def _made(make: Callable[[float], Strategy], beta: float) -> Strategy:
    """One object for all rounds, so that they share a compilation."""
    return make(beta)


def _last_step(batches: list[AskedBatch]) -> int | None:
    steps = [b.detail["checkpoint"] for b in batches if "checkpoint" in b.detail]
    return steps[-1] if steps else None


def _some(chosen: np.ndarray) -> np.ndarray:
    if not chosen.any():
        raise ValueError(
            "the strategy chose nothing: all of its scores are NaN, as of a model that "
            "diverged or of costs out of range, or it was offered no candidate"
        )
    return chosen


def _asked(batch: AskedBatch, left: np.ndarray) -> Batch:
    size = len(batch.items)
    predicted = np.array(batch.detail.get("predicted", [-1] * size), np.int32)
    confidence = np.array(batch.detail.get("confidence", [np.nan] * size), float)
    columns = (batch.items, batch.scores, batch.costs, predicted, confidence)
    return Batch(batch.number, batch.purpose, *(column[left] for column in columns))


def _eligible(labels: Labels) -> np.ndarray:
    """[N] bool, items of which nothing is known, and those that train."""
    out = labels.is_test | labels.is_skipped | labels.is_disputed | labels.is_waiting
    return ~out


def _told_costs(labels: Labels, unit: str) -> np.ndarray:
    """[N] what was told of items that train, NaN where it was not or is nothing."""
    told = labels.seconds if unit == "seconds" else labels.cost
    found = np.full(len(told), np.nan, np.float32)
    with np.errstate(over="ignore"):
        found[labels.order] = told[labels.order]
    return np.where(np.isfinite(found) & (found > 0), found, np.nan)


def _label(value) -> Any:
    """A class, None where it was skipped; floats that are whole as integers."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value == -1 else value


def _amount(value) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value


def _checked(x: Any) -> tuple[int, int]:
    """N and a checksum of the pool."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes == {()}:
        raise ValueError(
            f"x has leaves of shapes {[leaf.shape for leaf in leaves]}; expected "
            "[N, ...] of one N"
        )
    checksum = 0
    for leaf in leaves:
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            raise ValueError("x contains NaN or infinite values; remove or impute them")
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    return len(leaves[0]), checksum
