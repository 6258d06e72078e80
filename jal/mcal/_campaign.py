"""The rounds of a whole set at minimum cost, replayed from what is kept of them.

`label` and `ask` open the files and start them; see there.
"""

import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jal._core import files
from jal.mcal import _laws, _plan, _prices
from jal.mcal._book import Book, Chosen, Purpose
from jal.mcal._plan import Course, Plan, Terms
from jal.mcal._prices import TrainingPrice
from jal.mcal._profile import measured_errors
from jal.session import TEST, TRAIN

ROUNDS_FILE, RESULT_FILE = "rounds.jsonl", "result.json"
ARRAYS_FILE = "labels.npz"
MOST_EXPLORING_ROUNDS = 8
_PREDICTIONS = "predictions"


class Predictions(NamedTuple):
    """What a trained model says of the whole pool.

    Attributes:
      labels: [N] int, most probable class.
      margin: [N] confidence, p_1 - p_2, higher = surer.
      seconds: that training took.
    """

    labels: np.ndarray
    margin: np.ndarray
    seconds: float


class Model(NamedTuple):
    """A model that may do the labelling, and what training it costs.

    Attributes:
      train: (indices [n], labels [n]) -> `Predictions`, trained from scratch.
      price: of a training, or USD per hour of the machine it is measured on.
    """

    train: Callable[[np.ndarray, np.ndarray], Predictions]
    price: TrainingPrice | float


class Round(NamedTuple):
    """One training, what was measured after it, and what was decided.

    Attributes:
      model: its name.
      number: of the round of this model, from 0.
      size: B, items asked for to train it on.
      seconds: that training took.
      spend: what training has cost this model so far, in USD.
      counts: [Q] items of the test set in each share theta.
      errors: [Q] of them.
      machine: items that this model may label, by these errors.
      plan_size: B_opt, or None before there is a plan.
      plan_theta: the share that the model would then label.
      plan_cost: C* in USD.
      stable: whether C* differed little from the last.
      batch: items to be bought next; 0 where this model is finished.
      batches: N, in how many such batches B_opt is to be reached.
      stop: why no more is bought, or None.
    """

    model: str
    number: int
    size: int
    seconds: float = 0.0
    spend: float = 0.0
    counts: Sequence[int] = ()
    errors: Sequence[int] = ()
    machine: int = 0
    plan_size: int | None = None
    plan_theta: float | None = None
    plan_cost: float | None = None
    stable: bool = False
    batch: int = 0
    batches: int = 0
    stop: str | None = None


class Result(NamedTuple):
    """All labels, where they come from, and what they cost.

    Attributes:
      labels: [N] int32; -1 where people were asked, and no label of theirs holds.
      is_human: [N] bool, answered by people; the others are the model's.
      model: name of the model whose labels they are.
      theta: share of the pool that it labelled.
      error_estimate: share of wrong labels in the pool, by the test set.
      trained_on: |B|, labels bought for training by the chosen model.
      human_cost: USD for answers.
      training_cost: USD for training, of all models.
      humans_alone: USD that buying all labels would have cost.
      stop: why no more labels were bought for training.
      rounds: all of them.
    """

    labels: np.ndarray
    is_human: np.ndarray
    model: str
    theta: float
    error_estimate: float
    trained_on: int
    human_cost: float
    training_cost: float
    humans_alone: float
    stop: str
    rounds: list[Round]

    @property
    def cost(self) -> float:
        """The total in USD."""
        return self.human_cost + self.training_cost


Policy = Callable[..., tuple[Course, Plan | None]]
# Names of requests with items that have no answer yet; it goes on when they have.
Waits = Generator[str, None, Any]


class _Run:
    """One model: what it was trained on, what was measured, and where it stands."""

    def __init__(self, name: str, model: Model):
        self.name, self.model = name, model
        self.order = np.zeros(0, np.int64)
        self.rounds: list[Round] = []
        self.course = Course()
        self.inherited = 0.0  # USD that training other models has cost

    @property
    def spend(self) -> float:
        """USD that training has cost."""
        return self.inherited + sum(map(self.cost_of, self.rounds))

    def price(self, rounds: Sequence[Round]) -> TrainingPrice:
        if isinstance(self.model.price, TrainingPrice):
            return self.model.price
        return _prices.price_from_seconds(
            [each.size for each in rounds],
            [each.seconds for each in rounds],
            dollars_per_hour=self.model.price,
        )

    def cost_of(self, row: Round) -> float:
        if isinstance(self.model.price, TrainingPrice):
            return float(_prices.price_of_training(self.model.price, row.size))
        return self.model.price * row.seconds / 3600


@dataclasses.dataclass
class Campaign:
    """The rounds of all models, replayed from what is kept and then gone on with.

    Every step is computed as if it were the first time; what is there already, a
    request, an answer or a training, is read instead of asked for.
    """

    key: jax.Array
    models: Mapping[str, Model]
    terms: Terms
    thetas: Sequence[float]
    policy: Policy
    book: Book
    folder: Path | None = None
    say: Callable[[dict], Any] = lambda facts: None
    result: Result = dataclasses.field(init=False)

    def __post_init__(self):
        self._runs = [_Run(name, each) for name, each in self.models.items()]
        shuffled = jax.random.permutation(self.key, self.terms.num_items)
        shuffled = np.asarray(shuffled, np.int64)
        self._test, self._rest = np.split(shuffled, [self.terms.num_test])
        self._predictions: dict[tuple[str, int], Predictions] = {}
        self._measured: dict[tuple[str, int], Round] = {}
        if self.folder is not None:
            (self.folder / _PREDICTIONS).mkdir(exist_ok=True)
            for line in files.read_lines(self.folder / ROUNDS_FILE):
                row = Round(**line)
                self._measured[row.model, row.number] = row

    def run(self) -> Waits:
        """Trains and decides until everything is labelled: then there is a `result`.

        Yields:
          Names of requests with items that have no answer yet; it goes on when they
          have, or says so again.
        """
        yield from self._ask("test set", TEST, lambda: (self._test, None))
        first = self._rest[: self.terms.first_batch], None
        for run in self._runs:
            run.order = yield from self._ask("first batch", TRAIN, lambda: first)
            yield from self._explore(run)
        cost = lambda run: np.nan_to_num(run.course.cost, nan=np.inf)
        winner = min(self._runs, key=cost)
        if len(self._runs) > 1:
            self._join(winner)
        while winner.course.stop is None:
            yield from self._grow(winner)
        yield from self._finish(winner)

    def _explore(self, run: _Run) -> Waits:
        self._advance(run)
        while run.course.stop is None and len(self._runs) > 1:
            if run.course.stable or len(run.rounds) >= MOST_EXPLORING_ROUNDS:
                return
            yield from self._grow(run)

    def _join(self, winner: _Run) -> None:
        """The winner goes on with the labels, and the expenses, of all."""
        for run in self._runs:
            if run is not winner:
                more = np.setdiff1d(run.order, winner.order)
                winner.order = np.concatenate([winner.order, more])
                winner.inherited += run.spend
        cost = winner.course.cost + winner.inherited
        winner.course = winner.course._replace(cost=cost, stop=None)
        self._advance(winner)

    def _ask(self, name: str, purpose: Purpose, choose: Callable[[], Chosen]) -> Waits:
        chosen = self.book.request(name, purpose, choose)
        while len(self.book.waiting(name)):
            yield name
        return chosen

    def _grow(self, run: _Run) -> Waits:
        """Buys the items that the last model is least sure of, and trains with them."""

        def least_sure():
            margin = self._load(run.rounds[-1]).margin
            chosen = self._ranked(margin, run.order)[: run.course.batch]
            return chosen, -margin[chosen]

        name = f"{run.name}, round {len(run.rounds)}"
        chosen = yield from self._ask(name, TRAIN, least_sure)
        run.order = np.concatenate([run.order, chosen])
        self._advance(run)

    def _advance(self, run: _Run) -> None:
        """Trains, measures and decides; or only decides, if the rest is there."""
        row = self._measured.get((run.name, len(run.rounds)))
        is_new = row is None
        if row is None:
            row = self._train(run)
        elif row.size != len(run.order):
            raise ValueError(
                f"{self.folder}: round {row.number} of {run.name!r} was trained on "
                f"{row.size} labels, but {len(run.order)} were asked for; the files do "
                "not belong together"
            )
        _, machine = self._machine(row)
        row = row._replace(spend=run.spend + run.cost_of(row), machine=machine)
        rounds = [*run.rounds, row]
        run.course, plan = self.policy(run.course, run.price(rounds), rounds)
        row = row._replace(
            plan_size=None if plan is None else int(plan.size),
            plan_theta=None if plan is None else round(float(plan.theta), 6),
            plan_cost=None if plan is None else float(plan.cost),
            stable=run.course.stable,
            batch=run.course.batch,
            batches=run.course.rounds,
            stop=run.course.stop,
        )
        run.rounds.append(row)
        if is_new and self.folder is not None:
            files.append_line(self.folder / ROUNDS_FILE, row)
        self._forget()
        self._show(run, "buying")

    def _train(self, run: _Run) -> Round:
        """Trains and measures; the predictions are kept before anything is said."""
        self._show(run, "training")
        known = self._with_labels(run.order, "asked for to train on")
        test = self._with_labels(self._test, "of the test set")
        labels = self.book.labels
        predictions = run.model.train(known, labels[known])
        for field in ("labels", "margin"):
            shape = np.shape(getattr(predictions, field))
            if shape != labels.shape:
                raise ValueError(
                    f"models[{run.name!r}].train returned {field} of shape {shape}; "
                    f"expected {labels.shape}, one for each item of the pool"
                )
        size, right = len(run.order), predictions.labels[test] == labels[test]
        counts, errors = measured_errors(
            self.terms, size, self.thetas, predictions.margin[test], right
        )
        row = Round(run.name, len(run.rounds), size, float(predictions.seconds))
        self._predictions[row.model, row.number] = predictions
        if self.folder is not None:
            with files.writing(self._path(row.model, row.number)) as file:
                np.savez(file, labels=predictions.labels, margin=predictions.margin)
        return row._replace(counts=counts, errors=errors)

    def _with_labels(self, items: np.ndarray, which: str) -> np.ndarray:
        known = items[self.book.labels[items] >= 0]
        if not len(known):
            raise ValueError(
                f"none of the {len(items)} items {which} has a label that holds; "
                "settle those that are disputed, or tell labels of skipped ones"
            )
        return known

    def _machine(self, row: Round) -> tuple[float, int]:
        """What the model may label by what was measured: theta, and how many items."""
        measured = map(np.asarray, (row.size, row.counts, row.errors, self.thetas))
        theta, machine = _may_label(self.terms, *measured)
        return float(theta[0]), int(machine[0])

    def _finish(self, winner: _Run) -> Waits:
        """People label what no model may; of two models the one that may label more."""
        terms, book = self.terms, self.book
        orders = {run.name: run.order for run in self._runs}
        chosen, by_model = winner.rounds[-1], np.zeros(0, np.int64)
        for row in self._kept(winner):
            # Of what was not labelled then.
            known = orders[row.model][: row.size]
            surest = self._ranked(-self._load(row).margin, known)[: row.machine]
            surest = surest[~book.is_answered[surest]]
            if len(surest) > len(by_model):
                chosen, by_model = row, surest
        is_rest = ~book.is_answered
        is_rest[by_model] = False
        rest = f"rest of {chosen.model}, round {chosen.number}"
        yield from self._ask(rest, TRAIN, lambda: (np.flatnonzero(is_rest), None))
        labels, is_human, error = book.labels.copy(), book.is_answered.copy(), 0.0
        if len(by_model):
            labels[by_model] = self._load(chosen).labels[by_model]
            theta, _ = self._machine(chosen)
            place = int(np.argmin(np.abs(np.asarray(self.thetas) - theta)))
            share = len(by_model) / terms.num_items
            error = share * chosen.errors[place] / chosen.counts[place]
        self.result = Result(
            labels=labels,
            is_human=is_human,
            model=chosen.model,
            theta=len(by_model) / terms.num_items,
            error_estimate=error,
            trained_on=winner.rounds[-1].size,
            human_cost=float(is_human.sum() * terms.price),
            training_cost=float(winner.spend),
            humans_alone=terms.num_items * terms.price,
            stop=winner.course.stop or "",
            rounds=[row for run in self._runs for row in run.rounds],
        )
        if self.folder is not None:
            _write(self.folder, self.result)

    def _ranked(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Items by rising value, NaN last: all but the test set and those known."""
        is_open = np.ones(len(values), bool)
        is_open[self._test] = is_open[known] = False
        items = np.flatnonzero(is_open)
        return items[np.argsort(values[items], kind="stable")]

    def _kept(self, run: _Run) -> list[Round]:
        """The last round of a model, and that whose model may label most."""
        rows = [row for each in self._runs for row in each.rounds if row.machine]
        return [*run.rounds[-1:], *sorted(rows, key=lambda row: row.machine)[-1:]]

    def _path(self, name: str, number: int) -> Path:
        place = [run.name for run in self._runs].index(name)
        return Path(self.folder or "") / _PREDICTIONS / f"{place}-{number}.npz"

    def _load(self, row: Round) -> Predictions:
        place = row.model, row.number
        if place not in self._predictions:
            path = self._path(row.model, row.number)
            if not path.exists():
                raise ValueError(
                    f"{path} is missing, but {ROUNDS_FILE} has its round; remove the "
                    f"last lines of {ROUNDS_FILE} down to that round to train again"
                )
            with np.load(path, allow_pickle=False) as arrays:
                kept = Predictions(arrays["labels"], arrays["margin"], row.seconds)
            self._predictions[place] = kept
        return self._predictions[place]

    def _forget(self) -> None:
        """Drops the predictions that nobody will ask for."""
        rows = [row for run in self._runs for row in self._kept(run)]
        for place in set(self._predictions) - {(row.model, row.number) for row in rows}:
            del self._predictions[place]
            if self.folder is not None:
                self._path(*place).unlink(missing_ok=True)

    def _show(self, run: _Run, doing: str) -> None:
        cost = run.course.cost
        predicted = "?" if np.isnan(cost) else f"{cost:.2f} USD"
        facts = {"model": run.name, "B": len(run.order), "predicted": predicted}
        self.say(facts | {"now": doing})


@functools.partial(jax.jit, static_argnames="terms")
def _may_label(terms: Terms, size, counts, errors, thetas):
    rate, _ = _laws.error_rates(counts, errors)
    return _plan.machine_share(terms, size[None], rate[None], thetas)


def _write(folder: Path, result: Result) -> None:
    with files.writing(folder / ARRAYS_FILE) as file:
        np.savez(file, labels=result.labels, is_human=result.is_human)
    content = result._asdict() | {"cost": result.cost}
    content["human_labels"] = int(result.is_human.sum())
    del content["labels"], content["is_human"]
    files.write_json(folder / RESULT_FILE, content)
