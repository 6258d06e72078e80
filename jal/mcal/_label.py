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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jal import pool as pools
from jal._core import files
from jal._core.compile import cpu_compiler_options
from jal.mcal import _plan, _prices
from jal.mcal._campaign import ROUNDS_FILE, Campaign, Model, Policy, Predictions, Result
from jal.mcal._journal import LABELS_FILE, Journal
from jal.mcal._plan import THETAS, Terms
from jal.mcal._prices import TrainingPrice
from jal.types import Data, Learner

RUN_FILE = "run.json"
RESULT_FILE = "result.json"
ARRAYS_FILE = "labels.npz"


def from_learner(
    key: jax.Array, learner: Learner, x: Any, *, batch_size: int = 1000
) -> Callable[[np.ndarray, np.ndarray], Predictions]:
    """Makes the `train` of a `Model` from a learner.

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
    ...     lambda v, x, key=None: Outputs(logits=x * v[None]),
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

    >>> from jal.mcal._campaign import Round
    >>> policy = adaptive(Terms(1000, 100, 0.04, first_batch=10), thetas=[0.5])
    >>> measured = Round("a", 0, size=10, counts=[5], errors=[1])
    >>> policy(_plan.Course(), TrainingPrice(per_image=1e-3), [measured])[0].batch
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
        course = _plan.advance(
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


_plan = jax.jit(_plan.plan, static_argnames=("terms", "truncated"))


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

    >>> from jal.mcal._campaign import Round
    >>> terms = Terms(1000, 100, 0.04, theta_base="remaining")
    >>> policy = fixed_batch(terms, 50)
    >>> measured = Round("a", 0, size=10, machine=0)
    >>> policy(_plan.Course(), TrainingPrice(per_image=1e-3), [measured])[0].batch
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
    candidates: Mapping[str, Model],
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
    ...     {"perfect": Model(train, TrainingPrice(per_image=1e-4))},
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
    _plan.check(terms, thetas)
    if not candidates:
        raise ValueError("candidates is empty; give at least one name: Model")
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
        campaign = Campaign(
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
        _prices.check(price)
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
