"""Label a whole data set at minimum cost: the driver of `jal.min_cost`.

It needs a model that can be trained and an oracle that answers; the same code runs a
simulation and a campaign with people. Everything bought is journaled before it is used,
and a run that was killed goes on where it was.
"""

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal import error_laws, files, min_cost, training_price
from jal import pool as pools
from jal.convolution import cpu_compiler_options
from jal.journal import LABELS_FILE, Journal
from jal.min_cost import THETAS, Course, Terms
from jal.training_price import TrainingPrice
from jal.types import Data, Learner

RUN_FILE = "run.json"
ROUNDS_FILE = "rounds.jsonl"
RESULT_FILE = "result.json"
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


class Candidate(NamedTuple):
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


Policy = Callable[..., tuple[Course, min_cost.Plan | None]]


def from_learner(
    key: jax.Array, learner: Learner, x: Any, *, batch_size: int = 1000
) -> Callable[[np.ndarray, np.ndarray], Predictions]:
    """Makes the `train` of a `Candidate` from a learner.

    All rounds begin with the same weights, and share one compilation. Seconds do not
    include it.

    Args:
      key: PRNG key of all trainings.
      learner: which must train from scratch in each round.
      x: pytree of [N, ...], the pool.
      batch_size: items predicted at a time.

    Returns:
      (indices [n], labels [n]) -> `Predictions`.

    >>> from jal.types import Outputs
    >>> learner = Learner(
    ...     lambda key: jnp.zeros(2),
    ...     lambda key, v, data, pool: (jnp.array([1.0, 3.0]), {}),
    ...     lambda v, x, key=None: Outputs(logits=x * v),
    ... )
    >>> train = from_learner(jax.random.key(0), learner, jnp.eye(2), batch_size=2)
    >>> predictions = train(np.array([1]), np.array([1]))
    >>> predictions.labels.tolist(), predictions.margin.round(2).tolist()
    ([0, 1], [0.46000000834465027, 0.9100000262260437])
    """
    num_items = len(jax.tree.leaves(x)[0])
    x = jax.tree.map(jnp.asarray, x)

    def fit(key, x, labels, order, count):
        pool = pools.create(num_items, num_items)
        rows = jnp.where(jnp.arange(num_items) < count, order, num_items)
        labeled = pool.labeled.at[rows].set(True, mode="drop")
        pool = pool._replace(labeled=labeled, order=order, count=count)
        return learner.fit(key, learner.init(key), Data(x, labels), pool)[0]

    def predict(variables, x):
        def of_item(item):
            item = jax.tree.map(lambda leaf: leaf[None], item)
            probabilities = jax.nn.softmax(
                learner.predict(variables, item).need("logits")
            )
            (top, second), _ = jax.lax.top_k(probabilities[0], 2)
            return jnp.argmax(probabilities[0]).astype(jnp.int32), top - second

        return jax.lax.map(of_item, x, batch_size=min(batch_size, num_items))

    jit = functools.partial(jax.jit, compiler_options=cpu_compiler_options())
    compiled: list[Any] = []

    def train(indices, labels):
        targets = np.full(num_items, -1, np.int32)
        targets[indices] = labels
        order = np.full(num_items, -1, np.int32)
        order[: len(indices)] = indices
        arguments = (
            key,
            x,
            jnp.asarray(targets),
            jnp.asarray(order),
            jnp.asarray(len(indices), jnp.int32),
        )
        if not compiled:
            compiled.extend((jit(fit).lower(*arguments).compile(), jit(predict)))
        start = time.perf_counter()
        variables = jax.block_until_ready(compiled[0](*arguments))
        seconds = time.perf_counter() - start
        found, margin = jax.device_get(compiled[1](variables, x))
        return Predictions(found, margin, seconds)

    return train


def adaptive(
    terms: Terms, *, thetas: Sequence[float] = THETAS, truncated: bool = True
) -> Policy:
    """The policy of MCAL: fit error laws, search, and decide by the plan.

    Args:
      terms: the terms.
      thetas: Q rising shares.
      truncated: fit the truncated power law, or the plain one.

    Returns:
      (course, price, rounds) -> (next course, plan or None), where `rounds` are those
      of one candidate, the last of them measured but not decided.

    >>> policy = adaptive(Terms(1000, 100, 0.04, first_batch=10), thetas=[0.5])
    >>> measured = Round("a", 0, size=10, counts=[5], errors=[1])
    >>> policy(Course(), TrainingPrice(per_image=1e-3), [measured])[0].batch
    10

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1.
    """

    def decide(course, price, rounds):
        last, plan = rounds[-1], None
        if len(rounds) >= 3:
            # Filled up, so that one compilation serves many rounds.
            missing = -len(rounds) % 32
            fill = lambda values, one: np.asarray([*values, *[one] * missing])
            nothing = [0] * len(thetas)
            plan = _plan(
                terms,
                price,
                fill([float(r.size) for r in rounds], 1.0),
                fill([r.counts for r in rounds], nothing),
                fill([r.errors for r in rounds], nothing),
                np.asarray(thetas),
                size=last.size,
                batch=float(course.batch or terms.first_batch),
                spend=last.spend,
                truncated=truncated,
            )
        course = min_cost.advance(
            terms,
            course,
            price,
            size=last.size,
            spend=last.spend,
            machine=last.machine,
            plan=plan,
        )
        return course, plan

    return decide


_plan = jax.jit(min_cost.plan, static_argnames=("terms", "truncated"))


def fixed_batch(terms: Terms, batch: int) -> Policy:
    """The policy of plain active learning: one batch after another.

    It stops as soon as the model may label all that remains: the terms need the
    `theta_base` "remaining", and the thetas of `label` must end with 1.

    Args:
      terms: the terms.
      batch: delta, items a round.

    Returns:
      A policy as `adaptive` does, without plans.

    Raises:
      ValueError: batch is below 1, or the terms have another `theta_base`.

    >>> terms = Terms(1000, 100, 0.04, theta_base="remaining")
    >>> policy = fixed_batch(terms, 50)
    >>> measured = Round("a", 0, size=10, machine=0)
    >>> policy(Course(), TrainingPrice(per_image=1e-3), [measured])[0].batch
    50
    """
    if batch < 1:
        raise ValueError(f"batch={batch}; it must be at least 1")
    if terms.theta_base != "remaining":
        raise ValueError(
            f'theta_base={terms.theta_base!r}; a fixed batch needs "remaining", as the '
            "model is to label all that remains"
        )

    def decide(course, price, rounds):
        del price
        last = rounds[-1]
        left = terms.num_items - terms.num_test - last.size
        if 0 < left == last.machine:
            return course._replace(batch=0, stop="the model may label the rest"), None
        if left <= 0:
            return course._replace(batch=0, stop="the pool is exhausted"), None
        return course._replace(batch=min(batch, left)), None

    return decide


def label(
    key: jax.Array,
    candidates: Mapping[str, Candidate],
    oracle: Callable[[np.ndarray], np.ndarray],
    terms: Terms,
    *,
    num_classes: int,
    thetas: Sequence[float] = THETAS,
    policy: Policy | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    ask_at_most: int = 1000,
    config: Mapping[str, Any] | None = None,
) -> Result:
    """Labels a whole pool: some items by people, the others by a model.

    Buys a random test set and a random first batch; then trains, measures, decides and
    buys the items of smallest margin, until the policy stops. The model labels its most
    confident items, as many as the measured errors allow, and people label the rest.
    With several candidates each explores on labels of its own until its plan is stable;
    the one with the cheapest plan goes on with the labels of all. Of two models the one
    that may label more at the end is taken.

    `folder` receives `labels.jsonl`, every label as it is bought, `rounds.jsonl`, and
    at last `labels.npz` and `result.json`. Killed at any moment, the same call with
    resume=True asks for no label that was answered and ends in the same state. Items
    whose answer was on its way are asked for again, in the same request.

    Args:
      key: PRNG key of the test set and the first batch.
      candidates: name -> model.
      oracle: (indices [n]) -> labels [n], integers from 0 to C - 1; asks people.
      terms: what is to be labelled and at what price.
      num_classes: C.
      thetas: Q rising shares that the model may label.
      policy: None for `adaptive`.
      folder: where everything bought is kept, or None to keep it in memory.
      resume: go on from what `folder` holds; with nothing there, start.
      progress: show a progress bar of labels.
      ask_at_most: items in one call of the oracle.
      config: what else identifies the run, as JSON; a run is only resumed with the same
        terms and config.

    Returns:
      `Result`.

    Raises:
      ValueError: terms out of range, an oracle that answers something else than labels,
        or a folder that holds a different or damaged run.
      FileExistsError: the folder holds a run and `resume` is False.

    >>> truth = np.arange(200) % 2
    >>> def train(indices, labels):
    ...     return Predictions(truth, np.linspace(0, 1, 200), seconds=1.0)
    >>> terms = Terms(200, 20, 0.04, first_batch=10, grid_step=10)
    >>> result = label(
    ...     jax.random.key(0),
    ...     {"perfect": Candidate(train, TrainingPrice(per_image=1e-4))},
    ...     lambda indices: truth[indices],
    ...     terms,
    ...     num_classes=2,
    ...     progress=False,
    ... )
    >>> bool((result.labels == truth).all()), int(result.is_human.sum())
    (True, 60)

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1.
    """
    thetas = tuple(float(theta) for theta in thetas)
    min_cost.check(terms, thetas)
    if not candidates:
        raise ValueError("candidates is empty; give at least one name: Candidate")
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}; it must be at least 2")
    for name, candidate in candidates.items():
        _check_price(name, candidate.price)
    if folder is not None:
        folder = Path(folder)
        identity = {
            "key": jax.random.key_data(key),
            "terms": terms,
            "thetas": thetas,
            "num_classes": num_classes,
            "prices": {name: each.price for name, each in candidates.items()},
            "config": dict(config or {}),
        }
        _open_folder(folder, files.as_json(identity), resume)
    journal = Journal(
        folder,
        oracle,
        num_items=terms.num_items,
        num_classes=num_classes,
        ask_at_most=ask_at_most,
    )
    with files.progress_bar(terms.num_items, journal.bought, progress, "label") as bar:
        campaign = _Campaign(
            key,
            candidates,
            journal,
            terms,
            thetas,
            policy or adaptive(terms, thetas=thetas),
            folder,
            bar,
        )
        result = campaign.run()
    if folder is not None:
        _write_result(folder, result)
    return result


def _check_price(name: str, price: TrainingPrice | float) -> None:
    if isinstance(price, TrainingPrice):
        training_price.check(price)
    elif not (price > 0 and np.isfinite(price)):
        raise ValueError(
            f"candidates[{name!r}].price={price}; an hour of training must cost more "
            "than 0 USD"
        )


def _open_folder(folder: Path, identity: dict, resume: bool) -> None:
    run_file = folder / RUN_FILE
    if run_file.exists():
        if not resume:
            raise FileExistsError(
                f"folder={str(folder)!r} holds a run; pass resume=True to go on with "
                "it, or another folder"
            )
        files.check_identity(run_file, identity)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        if any((folder / name).exists() for name in (LABELS_FILE, ROUNDS_FILE)):
            raise ValueError(
                f"folder={str(folder)!r} has the labels of a run, but {RUN_FILE} does "
                "not say of which; choose another folder"
            )
        files.write_json(run_file, identity)


def _write_result(folder: Path, result: Result) -> None:
    temporary = folder / (ARRAYS_FILE + ".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, labels=result.labels, is_human=result.is_human)
    os.replace(temporary, folder / ARRAYS_FILE)
    content = {
        name: value
        for name, value in result._asdict().items()
        if name not in ("labels", "is_human")
    }
    content["human_labels"] = int(result.is_human.sum())
    files.write_json(folder / RESULT_FILE, {**content, "cost": result.cost})


class _Run:
    """One candidate: what it was trained on, what was measured, and where it stands."""

    def __init__(self, name: str, candidate: Candidate):
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
        return training_price.from_seconds(
            [each.size for each in rounds],
            [each.seconds for each in rounds],
            dollars_per_hour=self.candidate.price,
        )

    def cost_of(self, size: int, seconds: float) -> float:
        if isinstance(self.candidate.price, TrainingPrice):
            return float(training_price.of_fit(self.candidate.price, size))
        return self.candidate.price * seconds / 3600


class _Campaign:
    """The rounds of all candidates, replayed from the files and then gone on with."""

    def __init__(self, key, candidates, journal, terms, thetas, policy, folder, bar):
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
        shares = min_cost.shares_of_test(self._terms, size, self._thetas)
        correct = predictions.labels[self._test] == self._journal.labels[self._test]
        counts, errors = error_laws.profile(
            jnp.asarray(predictions.margin[self._test]),
            jnp.asarray(correct),
            jnp.asarray(shares, jnp.float32),
        )
        return counts.tolist(), errors.tolist()

    def _machine(self, size: int, counts, errors) -> tuple[float, int]:
        """What the model may label by what was measured: theta, and how many items."""
        rate, _ = error_laws.rates(jnp.asarray(counts), jnp.asarray(errors))
        theta, machine = min_cost.machine_share(
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
