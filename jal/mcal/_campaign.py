"""The rounds of a minimum-cost labelling campaign, replayed from its files.

`jal.labelling` opens the files and starts it; see there.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal._core import files
from jal.mcal import _laws, _plan, _prices
from jal.mcal._journal import LABELS_FILE, Journal
from jal.mcal._plan import Course, Terms
from jal.mcal._prices import TrainingPrice

ROUNDS_FILE = "rounds.jsonl"
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
      candidate: name of the model.
      number: of the round of this candidate, from 0.
      size: B, labels it was trained on.
      seconds: that training took.
      spend: what training has cost this candidate so far, in USD.
      counts: [Q] items of the test set in each share theta.
      errors: [Q] of them.
      machine: items that this model may label, by these errors.
      plan_size: B_opt, or None before there is a plan.
      plan_theta: the share that the model would then label.
      plan_cost: C* in USD.
      stable: whether C* differed little from the last.
      batch: items to be bought next; 0 where this candidate is finished.
      batches: N, in how many such batches B_opt is to be reached.
      stop: why no more is bought, or None.
    """

    candidate: str
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
      labels: [N] int32.
      is_human: [N] bool, bought from the oracle; the others are the model's.
      candidate: name of the model whose labels they are.
      theta: share of the pool that it labelled.
      error_estimate: share of wrong labels in the pool, by the test set.
      trained_on: |B|, labels bought for training by the chosen model.
      human_cost: USD for labels.
      training_cost: USD for training, of all candidates.
      humans_alone: USD that buying all labels would have cost.
      stop: why no more labels were bought for training.
      rounds: all of them.
    """

    labels: np.ndarray
    is_human: np.ndarray
    candidate: str
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


Policy = Callable[..., tuple[Course, _plan.Plan | None]]


class _Run:
    """One candidate: what it was trained on, what was measured, and where it stands."""

    def __init__(self, name: str, candidate: Model):
        self.name, self.candidate = name, candidate
        self.chosen: list[np.ndarray] = []
        self.rounds: list[Round] = []
        self.course = Course()
        self.inherited = 0.0  # USD that training other candidates has cost

    @property
    def order(self) -> np.ndarray:
        return np.concatenate(self.chosen)

    @property
    def spend(self) -> float:
        """USD that training has cost."""
        return self.inherited + sum(
            self.cost_of(r.size, r.seconds) for r in self.rounds
        )

    def price(self, rounds: Sequence[Round]) -> TrainingPrice:
        if isinstance(self.candidate.price, TrainingPrice):
            return self.candidate.price
        return _prices.price_from_seconds(
            [each.size for each in rounds],
            [each.seconds for each in rounds],
            dollars_per_hour=self.candidate.price,
        )

    def cost_of(self, size: int, seconds: float) -> float:
        if isinstance(self.candidate.price, TrainingPrice):
            return float(_prices.price_of_training(self.candidate.price, size))
        return self.candidate.price * seconds / 3600


class Campaign:
    """The rounds of all candidates, replayed from the files and then gone on with.

    Every step is computed as if it were the first time; what the files hold, a training
    or an answer, is read instead of asked for.
    """

    def __init__(
        self,
        key: jax.Array,
        candidates: Mapping[str, Model],
        journal: Journal,
        terms: Terms,
        thetas: Sequence[float],
        policy: Policy,
        folder: Path | None,
        bar: Any,
    ):
        self._journal, self._terms, self._thetas = journal, terms, thetas
        self._policy, self._folder, self._bar = policy, folder, bar
        self._runs = [_Run(name, each) for name, each in candidates.items()]
        self._shuffled = np.asarray(jax.random.permutation(key, terms.num_items))
        self._test = self._shuffled[: terms.num_test]
        self._predictions: dict[tuple[str, int], Predictions] = {}
        self._measured = {}
        if folder is not None:
            (folder / _PREDICTIONS).mkdir(exist_ok=True)
            for line in files.read_lines(folder / ROUNDS_FILE):
                self._measured[line["candidate"], line["number"]] = line

    def run(self) -> Result:
        """Buys, trains and decides until everything is labelled."""
        first = self._shuffled[self._terms.num_test :][: self._terms.first_batch]
        self._buy("test set", lambda: self._test)
        for run in self._runs:
            run.chosen.append(self._buy("first batch", lambda: first))
            self._explore(run)
        winner = min(
            self._runs, key=lambda run: np.nan_to_num(run.course.cost, nan=np.inf)
        )
        if len(self._runs) > 1:
            self._join(winner)
        while winner.course.stop is None:
            self._grow(winner)
            self._advance(winner)
        return self._finish(winner)

    def _explore(self, run: _Run) -> None:
        self._advance(run)
        alone = len(self._runs) == 1
        while run.course.stop is None and not alone:
            if run.course.stable or len(run.rounds) >= MOST_EXPLORING_ROUNDS:
                return
            self._grow(run)
            self._advance(run)

    def _join(self, winner: _Run) -> None:
        """The winner goes on with the labels, and the expenses, of all."""
        others = [run for run in self._runs if run is not winner]
        union = winner.order
        for run in others:
            union = np.concatenate([union, np.setdiff1d(run.order, union)])
        winner.chosen = [union]
        winner.inherited = sum(run.spend for run in others)
        course = winner.course
        winner.course = course._replace(cost=course.cost + winner.inherited, stop=None)
        self._advance(winner)

    def _grow(self, run: _Run) -> None:
        """Buys the items that the last model is least sure of."""

        def least_sure():
            margin = self._load(run.name, run.rounds[-1].number).margin
            is_open = np.ones(self._terms.num_items, bool)
            is_open[self._test] = is_open[run.order] = False
            ranked = np.asarray(_rank(jnp.asarray(margin), jnp.asarray(is_open)))
            return ranked[: run.course.batch]

        name = f"{run.name}, round {len(run.rounds)}"
        run.chosen.append(self._buy(name, least_sure))

    def _advance(self, run: _Run) -> None:
        """Trains, measures and decides; or only decides, if the files have the rest."""
        number, order = len(run.rounds), run.order
        measured = self._measured.get((run.name, number))
        if measured is None:
            self._say(run, "training")
            predictions = run.candidate.train(order, self._journal.labels[order])
            self._check(run.name, predictions)
            counts, errors = self._profile(predictions, len(order))
            seconds = float(predictions.seconds)
            self._save(run.name, number, predictions)
        else:
            if measured["size"] != len(order):
                raise ValueError(
                    f"{self._folder}: round {number} of {run.name!r} was trained on "
                    f"{measured['size']} labels, but {LABELS_FILE} has {len(order)}; "
                    "the files do not belong together"
                )
            counts, errors = measured["counts"], measured["errors"]
            seconds = measured["seconds"]
        _, machine = self._machine(len(order), counts, errors)
        spend = run.spend + run.cost_of(len(order), seconds)
        row = Round(
            run.name, number, len(order), seconds, spend, counts, errors, machine
        )
        rounds = [*run.rounds, row]
        run.course, plan = self._policy(run.course, run.price(rounds), rounds)
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
        if measured is None and self._folder is not None:
            files.append_line(self._folder / ROUNDS_FILE, row)
        self._forget()
        self._say(run, "buying")

    def _buy(self, name: str, choose: Callable[[], np.ndarray]) -> np.ndarray:
        return self._journal.buy(name, choose, bought=self._bar.update)

    def _check(self, name: str, predictions: Predictions) -> None:
        expected = (self._terms.num_items,)
        for field in ("labels", "margin"):
            shape = np.shape(getattr(predictions, field))
            if shape != expected:
                raise ValueError(
                    f"candidates[{name!r}].train returned {field} of shape {shape}; "
                    f"expected {expected}, one for each item of the pool"
                )

    def _profile(self, predictions: Predictions, size: int):
        shares = _plan.shares_of_test(self._terms, size, self._thetas)
        correct = predictions.labels[self._test] == self._journal.labels[self._test]
        counts, errors = _laws.error_profile(
            jnp.asarray(predictions.margin[self._test]),
            jnp.asarray(correct),
            jnp.asarray(shares, jnp.float32),
        )
        return counts.tolist(), errors.tolist()

    def _machine(self, size: int, counts, errors) -> tuple[float, int]:
        """What the model may label by what was measured: theta, and how many items."""
        rate, _ = _laws.error_rates(jnp.asarray(counts), jnp.asarray(errors))
        theta, machine = _plan.machine_share(
            self._terms, jnp.asarray([size]), rate[None], jnp.asarray(self._thetas)
        )
        return float(theta[0]), int(machine[0])

    def _finish(self, winner: _Run) -> Result:
        terms, runs = self._terms, {run.name: run for run in self._runs}
        is_human = self._journal.labels >= 0
        chosen, machine_made = winner.rounds[-1], np.zeros(0, np.int64)
        for name, number in self._kept(winner):
            row = runs[name].rounds[number]
            confident = self._most_confident(runs[name], row)
            confident = confident[~is_human[confident]]
            if len(confident) > len(machine_made):
                chosen, machine_made = row, confident
        rest = is_human | np.isin(np.arange(terms.num_items), machine_made)
        self._buy("rest", lambda: np.flatnonzero(~rest))
        labels = self._journal.labels.copy()
        is_human = labels >= 0
        error = 0.0
        if len(machine_made):
            predicted = self._load(chosen.candidate, chosen.number).labels
            labels[machine_made] = predicted[machine_made]
            theta, _ = self._machine(chosen.size, chosen.counts, chosen.errors)
            place = int(np.argmin(np.abs(np.asarray(self._thetas) - theta)))
            share = len(machine_made) / terms.num_items
            error = share * chosen.errors[place] / chosen.counts[place]
            self._bar.update(len(machine_made))
        return Result(
            labels=labels,
            is_human=is_human,
            candidate=chosen.candidate,
            theta=len(machine_made) / terms.num_items,
            error_estimate=error,
            trained_on=winner.rounds[-1].size,
            human_cost=float(is_human.sum() * terms.price),
            training_cost=float(winner.spend),
            humans_alone=terms.num_items * terms.price,
            stop=winner.course.stop or "",
            rounds=[row for run in self._runs for row in run.rounds],
        )

    def _most_confident(self, run: _Run, row: Round) -> np.ndarray:
        """What the model of a round may label, of what was not labelled then."""
        margin = self._load(row.candidate, row.number).margin
        is_open = np.ones(self._terms.num_items, bool)
        is_open[self._test] = is_open[run.order[: row.size]] = False
        surest = _rank(-jnp.asarray(margin), jnp.asarray(is_open))
        return np.asarray(surest)[: row.machine]

    def _kept(self, winner: _Run) -> list[tuple[str, int]]:
        """The last round of the winner, and that whose model may label most."""
        rows = [row for run in self._runs for row in run.rounds if row.machine]
        best = sorted(rows, key=lambda row: row.machine)[-1:]
        kept = [*winner.rounds[-1:], *best]
        return [(row.candidate, row.number) for row in kept]

    def _path(self, name: str, number: int) -> Path:
        place = [run.name for run in self._runs].index(name)
        return Path(self._folder or "") / _PREDICTIONS / f"{place}-{number}.npz"

    def _save(self, name: str, number: int, predictions: Predictions) -> None:
        self._predictions[name, number] = predictions
        if self._folder is not None:
            path = self._path(name, number)
            temporary = path.with_suffix(".tmp")
            with open(temporary, "wb") as file:
                np.savez(file, labels=predictions.labels, margin=predictions.margin)
            os.replace(temporary, path)

    def _load(self, name: str, number: int) -> Predictions:
        if (name, number) not in self._predictions:
            path = self._path(name, number)
            if not path.exists():
                raise ValueError(
                    f"{path} is missing, but {ROUNDS_FILE} has its round; remove the "
                    f"last lines of {ROUNDS_FILE} down to that round to train again"
                )
            with np.load(path, allow_pickle=False) as arrays:
                self._predictions[name, number] = Predictions(
                    arrays["labels"], arrays["margin"], 0.0
                )
        return self._predictions[name, number]

    def _forget(self) -> None:
        """Drops the predictions that nobody will ask for."""
        kept = {place for run in self._runs for place in self._kept(run)}
        for name, number in set(self._predictions) - kept:
            del self._predictions[name, number]
            if self._folder is not None:
                self._path(name, number).unlink(missing_ok=True)

    def _say(self, run: _Run, doing: str) -> None:
        cost = run.course.cost
        self._bar.set_postfix(
            {
                "model": run.name,
                "B": len(run.order),
                "predicted": "?" if np.isnan(cost) else f"{cost:.2f} USD",
                "now": doing,
            }
        )


@jax.jit
def _rank(values: jax.Array, is_open: jax.Array) -> jax.Array:
    """[N] indices by rising value, those of NaN and then those not open last."""
    values = jnp.where(jnp.isnan(values), jnp.finfo(values.dtype).max, values)
    return jnp.argsort(jnp.where(is_open, values, jnp.inf))
