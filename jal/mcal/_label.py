"""Label a whole data set at minimum cost: by an oracle, or with people over days.

It needs a model that can be trained and somebody who answers; the same rounds serve a
simulation, a service that is paid, and people. Everything bought is kept before it is
used, and a run that was killed goes on where it was.
"""

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jal import pool as pools
from jal._core import files
from jal._core.checks import at_least_one
from jal._core.compile import jit
from jal.mcal import _plan, _prices
from jal.mcal._book import Book
from jal.mcal._campaign import ROUNDS_FILE, Campaign, Model, Policy, Predictions, Result
from jal.mcal._plan import THETAS, Terms
from jal.mcal._prices import TrainingPrice
from jal.mcal._profile import Profile, plan_profile
from jal.session import MODEL, STORE_FILE, Batch, LabelStore, Session, names_of
from jal.types import Data, Learner

FOLDER, CSV_FILE = "mcal", "labels.csv"
REFUSED_FILE = "refused.jsonl"
_OLD_FILE = "labels.jsonl"


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

    def fit(key, x, labels, order):
        pool = pools.add(pools.create(num_items, num_items), order)
        return learner.fit(key, learner.init(key), Data(x, labels), pool)[0]

    def predict(variables, x):
        def of_item(item):
            item = jax.tree.map(lambda leaf: leaf[None], item)
            return learner.predict(variables, item).need("logits")[0]

        logits = jax.lax.map(of_item, x, batch_size=min(batch_size, num_items))
        probabilities = jax.nn.softmax(logits)
        top, _ = jax.lax.top_k(probabilities, 2)
        return jnp.argmax(probabilities, 1).astype(jnp.int32), top[:, 0] - top[:, 1]

    compiled: list[Any] = []

    def train(indices, labels):
        targets, order = np.full((2, num_items), -1, np.int32)
        targets[indices], order[: len(indices)] = labels, indices
        arguments = key, x, jnp.asarray(targets), jnp.asarray(order)
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

    >>> from jal.mcal import Round
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
            sizes, counts, errors = zip(
                *((each.size, each.counts, each.errors) for each in rounds), strict=True
            )
            plan = plan_profile(
                terms,
                price,
                Profile(sizes, thetas, counts, errors, last.size, terms.num_test),
                spend=last.spend,
                batch=course.batch,
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

    >>> from jal.mcal import Round
    >>> terms = Terms(1000, 100, 0.04, theta_base="remaining")
    >>> policy = fixed_batch(terms, 50)
    >>> measured = Round("a", 0, size=10, machine=0)
    >>> policy(_plan.Course(), TrainingPrice(per_image=1e-3), [measured])[0].batch
    50
    """
    at_least_one(batch=batch)
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
    models: Mapping[str, Model],
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
    With several models each explores on labels of its own until its plan is stable;
    the one with the cheapest plan goes on with the labels of all. Of two rounds the one
    whose model may label more at the end is taken.

    `folder` receives `labels.sqlite`, the store of a session with every label as it is
    bought, `rounds.jsonl`, and at last `labels.npz` and `result.json`. Killed at any
    moment, the same call with resume=True asks for no label that was answered and ends
    in the same state. Items whose answer was on its way are asked for again, in the
    same request. An answer that is no label is kept in `refused.jsonl`.

    Args:
      key: PRNG key of the test set and the first batch.
      models: name -> model.
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
    at_least_one(ask_at_most=ask_at_most)
    thetas = tuple(float(theta) for theta in thetas)
    identity = _identity(key, models, terms, thetas, num_classes, config)
    folder = None if folder is None else Path(folder)
    store = None if folder is None else _open_store(folder, identity, resume)
    book = Book(terms.num_items, store, _mark(identity))
    policy = policy or adaptive(terms, thetas=thetas)
    bought = int(book.is_answered.sum())
    with files.progress_bar(terms.num_items, bought, progress, "label") as bar:
        campaign = Campaign(
            key, models, terms, thetas, policy, book, folder, say=bar.set_postfix
        )
        for request in campaign.run():
            items = book.waiting(request)[:ask_at_most]
            answer = oracle(items.copy())
            labels = _checked(request, items, answer, num_classes, folder)
            book.answer(items, labels, terms.price)
            bar.update(len(items))
        bar.update(int(np.sum(~campaign.result.is_human)))
    return campaign.result


def ask(
    key: jax.Array,
    models: Mapping[str, Model],
    store: LabelStore,
    terms: Terms,
    *,
    k: int | None = None,
    thetas: Sequence[float] = THETAS,
    policy: Policy | None = None,
    config: Mapping[str, Any] | None = None,
) -> Batch | Result:
    """Labels a whole pool with people, over days: says which items wait for an answer.

    The same as `label` with people in place of an oracle: tell their answers by
    `store.tell` (or `Session.tell`) and call again, with the same arguments, until
    there is a result. Training is done in between, once. Labels that the store has
    already are used and not asked for again. Items that people skipped, or are divided
    about, count as answered and train nothing.

    The folder `mcal` beside the store receives what `label` writes, and at last
    `labels.csv`: index, name, label and by whom.

    Args:
      key: PRNG key of the test set and the first batch.
      models: name -> model.
      store: of a session.
      terms: what is to be labelled and at what price.
      k: K, the most items to be returned; None for all that wait.
      thetas: Q rising shares that the model may label.
      policy: None for `adaptive`.
      config: what else identifies the run, as JSON.

    Returns:
      `Batch` of the items [K] that wait, most wanted first, with minus their margin as
      scores [K]; or `Result`, when everything is labelled.

    Raises:
      ValueError: terms out of range or of another pool, a different or damaged run in
        the folder, or no label that holds to train on or to test with.

    >>> import tempfile
    >>> from jal.session import Annotation
    >>> store = LabelStore.create(tempfile.mkdtemp(), num_items=200, classes="ab")
    >>> train = lambda indices, labels: Predictions(
    ...     np.arange(200) % 2, np.linspace(0, 1, 200), seconds=1.0
    ... )
    >>> models = {"perfect": Model(train, TrainingPrice(per_image=1e-4))}
    >>> terms = Terms(200, 20, 0.04, first_batch=10, grid_step=10)
    >>> def ask_again():
    ...     return ask(jax.random.key(0), models, store, terms)
    >>> while isinstance(found := ask_again(), Batch):
    ...     _ = store.tell([Annotation(i, i % 2, "ann") for i in found.indices])
    >>> int(found.is_human.sum()), LabelStore(store.folder).batches()[0].purpose
    (60, 'test')

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1.
    """
    at_least_one(k=k)
    if store.num_items != terms.num_items:
        raise ValueError(
            f"num_items={terms.num_items}, but {store.folder} has {store.num_items}"
        )
    thetas = tuple(float(theta) for theta in thetas)
    identity = _identity(key, models, terms, thetas, len(store.classes), config)
    folder = store.folder / FOLDER
    files.open_run(folder, identity, resume=True, traces=(ROUNDS_FILE,))
    book = Book(terms.num_items, store, _mark(identity))
    policy = policy or adaptive(terms, thetas=thetas)
    campaign = Campaign(key, models, terms, thetas, policy, book, folder)
    for request in campaign.run():
        return _batch_of(store, book.waiting(request), k)
    rows = [
        (item, name, store.classes[label], "people" if is_human else MODEL)
        for item, (name, label, is_human) in enumerate(
            zip(names_of(store), *campaign.result[:2], strict=True)
        )
        if label >= 0
    ]
    head = ("index", "name", "label", "by")
    files.write_table(folder / CSV_FILE, [head, *rows])
    return campaign.result


def ask_session(
    session: Session,
    terms: Terms,
    price: TrainingPrice | float,
    *,
    k: int | None = None,
) -> Batch | Result:
    """Labels the whole pool of a session: `ask` with its learner, trained from scratch.

    Args:
      session: whose learner labels; tell it the answers.
      terms: what is to be labelled and at what price.
      price: of a training, or USD per hour of the machine it is measured on.
      k: K, the most items to be returned; None for all that wait.

    Returns:
      `Batch` of the items [K] that wait; or `Result`, when everything is labelled.

    Raises:
      ValueError: as of `ask`.

    >>> import tempfile
    >>> from jal import strategies
    >>> from jal.session import Recipe
    >>> from jal.types import Outputs
    >>> learner = Learner(
    ...     lambda key: jnp.zeros(()),
    ...     lambda key, v, data, pool: (v, {}),
    ...     lambda v, x, key=None: Outputs(logits=jnp.stack([x, -x], axis=1) + v),
    ... )
    >>> session = Session.create(
    ...     tempfile.mkdtemp(),
    ...     np.linspace(-1, 1, 60).astype(np.float32),
    ...     Recipe(learner, strategies.random()),
    ...     classes=("high", "low"),
    ... )
    >>> terms = _plan.usual_terms(60, 0.04, num_test=20)
    >>> batch = ask_session(session, terms, TrainingPrice(per_image=1e-3), k=12)
    >>> batch.purpose, len(batch.indices)
    ('test', 12)

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1.
    """
    key, train_key = jax.random.split(jax.random.key(session.store.facts["seed"]))
    train = from_learner(train_key, session.recipe.learner, session.x)
    return ask(key, {"model": Model(train, price)}, session.store, terms, k=k)


def _batch_of(store: LabelStore, items: np.ndarray, k: int | None) -> Batch:
    """Those of the items that were asked for first: of one batch, at most K."""
    for batch in store.batches():
        left = np.flatnonzero(np.isin(batch.items, items))[:k]
        if len(left):
            break
    unknown = np.full(len(left), np.nan)
    return Batch(
        batch.number,
        batch.purpose,
        batch.items[left],
        batch.scores[left],
        batch.costs[left],
        predicted=np.full(len(left), -1, np.int32),
        confidence=unknown,
    )


def _identity(key, models, terms, thetas, num_classes, config) -> dict:
    """What tells a run from others, after a look at whether it can be run."""
    _plan.check(terms, thetas)
    if not models:
        raise ValueError("models is empty; give at least one name: Model")
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}; it must be at least 2")
    for name, model in models.items():
        if isinstance(model.price, TrainingPrice):
            _prices.check(model.price)
        elif not 0 < model.price < np.inf:
            raise ValueError(
                f"models[{name!r}].price={model.price}; an hour of training must cost "
                "more than 0 USD"
            )
    return files.as_json(
        {
            "key": jax.random.key_data(key),
            "terms": terms,
            "thetas": thetas,
            "num_classes": num_classes,
            "prices": {name: model.price for name, model in models.items()},
            "config": dict(config or {}),
        }
    )


def _mark(identity: dict) -> str:
    return f"{zlib.crc32(json.dumps(identity).encode()):08x}"


def _open_store(folder: Path, identity: dict, resume: bool) -> LabelStore:
    if (folder / _OLD_FILE).exists():
        raise ValueError(
            f"folder={str(folder)!r} has the labels of a run of an earlier jal, in "
            f"{_OLD_FILE}, which this one does not read; choose another folder"
        )
    traces = (STORE_FILE, ROUNDS_FILE)
    files.open_run(folder, identity, resume=resume, traces=traces)
    if not (folder / STORE_FILE).exists():
        LabelStore.create(
            folder,
            num_items=identity["terms"]["num_items"],
            classes=[str(number) for number in range(identity["num_classes"])],
            facts={"unit": "cost"},
        )
    return LabelStore(folder, pages_beside=10_000)


def _checked(
    name: str, items: np.ndarray, answer: Any, num_classes: int, folder: Path | None
) -> np.ndarray:
    """The answer as labels; what is paid for and no label is kept, too."""
    labels = np.asarray(answer)
    problem = None
    if labels.shape != items.shape:
        problem = f"has shape {labels.shape}; expected [{len(items)}]"
    elif labels.dtype.kind not in "iuf":
        problem = f"has dtype {labels.dtype}; expected integers"
    else:
        wrong = ~np.isin(labels, np.arange(num_classes))
        if wrong.any():
            first = int(np.argmax(wrong))
            problem = (
                f"says {labels[first]} of item {items[first]}; labels are integers "
                f"from 0 to {num_classes - 1}"
            )
    if problem is None:
        return labels.astype(np.int32)
    kept = ""
    if folder is not None:
        told = {"request": name, "items": items, "answer": repr(labels.tolist())}
        files.append_line(folder / REFUSED_FILE, told)
        kept = f" The answer is kept in {folder / REFUSED_FILE}."
    raise ValueError(
        f"the oracle's answer to request {name!r} {problem}.{kept} Correct the oracle "
        "and resume: these items will be asked for again"
    )
