"""Cost-sensitive active learning on images: the protocol of Table 1 and Figure 1.

Bernatchez, Durand and Lavoie-Cardinal, "Annotation cost-sensitive deep active learning
with limited data" (2022). A stream shows N candidates a round, n of them are labelled
by v = I^alpha / C^beta, the rest is gone.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets, runs
from jal import acquisition, cost, learners, loop, nn, pool, scorers, strategies
from jal.types import Data


class Arm(NamedTuple):
    """One of the methods compared.

    Attributes:
      name: in tables and file names.
      score: name of an acquisition function, or None for random.
      beta: exponent of the cost.
      learned: whether the cost is predicted instead of known.
    """

    name: str
    score: str | None
    beta: float = 0.0
    learned: bool = False


SCORES = {
    "bald": acquisition.bald,
    "entropy": acquisition.entropy,
    "mean_std": acquisition.mean_std,
}
RANDOM = Arm("random", None)
UNCERTAINTY = tuple(Arm(name, name) for name in SCORES)
BETAS = tuple(
    Arm(f"mean_std beta={beta}", "mean_std", beta)
    for beta in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
)
LEARNED = Arm("learned beta=0.3", "mean_std", 0.3, learned=True)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that, with an arm and a seed, determines a run.

    Attributes:
      data: "digits", "mnist", "fashion_mnist" or the path of an `.npz` file.
      network: "gal" (the published one), "small" (a tenth of its work), "digits" (8x8).
      rounds: T, rounds in which items are bought.
      candidates: N, candidates of a round.
      picks: n, items bought a round.
      per_class: initial items of each class.
      passes: MC-dropout passes for the acquisition.
      steps: Adam steps a round.
      batch_size: of these steps.
      restart: train from scratch in every round instead of going on (warm start).
      learning_rate: of Adam.
      l2: c of the penalty c / |L| * sum(w^2) on the first dense layer.
      estimator: of the perimeter, see `jal.cost.perimeter`.
      base_scale: factor on the base cost of the classes.
      evaluate_rounds: when the test accuracy is measured; empty for every round.
      redraw: serve what was never bought again when the stream has run dry.
    """

    data: str = "digits"
    network: str = "digits"
    rounds: int = 30
    candidates: int = 40
    picks: int = 5
    per_class: int = 2
    passes: int = 32
    steps: int = 100
    batch_size: int = 32
    restart: bool = False
    learning_rate: float = 1e-3
    l2: float = 1.0
    estimator: str = "benkrid_crookes"
    base_scale: float = 1.0
    evaluate_rounds: tuple[int, ...] = ()
    redraw: bool = True


# Table 1: 48 disjoint sets of candidates.
FIGURE1 = Config("mnist", "gal", rounds=98, candidates=1000, picks=10)
TABLE1 = dataclasses.replace(FIGURE1, rounds=48, redraw=False)
NETWORKS = {
    "gal": nn.GalCNN,
    "small": nn.small_cnn,
    "digits": functools.partial(nn.GalCNN, kernel=3, channels=(16, 32), dense=64),
}


@functools.cache
def load_data(config: Config, data_dir: str | None) -> tuple[Data, int]:
    """The pool with its annotation costs, and the number of classes."""
    images = datasets.load(config.data, data_dir=data_dir, progress=False)
    costs = images.costs
    if costs is None:
        costs = _annotation_cost(config, images)
    return runs.as_data(*images[1:5], costs), images.num_classes


def _annotation_cost(config: Config, images: datasets.ImageData) -> jax.Array:
    """Base cost of the class plus perimeter, in arbitrary cost units."""
    if images.num_classes == len(cost.MNIST_BASE_COST):
        base = config.base_scale * np.asarray(cost.MNIST_BASE_COST, np.float32)
    else:  # no pilot says which classes are informative: all alike
        mean = config.base_scale * np.mean(cost.MNIST_BASE_COST)
        base = np.full(images.num_classes, mean, np.float32)
    return cost.annotation_cost(
        jnp.asarray(images.images.mean(axis=-1)),
        jnp.asarray(images.labels),
        base=jnp.asarray(base),
        estimator=config.estimator,
    )


@functools.cache
def build(config: Config, arm: Arm, num_classes: int, shape) -> runs.Method:
    """What learns and chooses: one set for all seeds of an arm."""
    example = np.zeros((1, *shape), np.uint8)
    training: dict[str, Any] = dict(
        optimizer=optax.adam(config.learning_rate),
        steps=config.steps,
        batch_size=config.batch_size,
        restart=config.restart,
    )
    network = NETWORKS[config.network]
    learner = learners.supervised(
        *nn.from_linen(network(outputs=num_classes), example),
        penalty=lambda params, count: (
            config.l2 / count * jnp.sum(jnp.square(params["DropoutDense_0"]["kernel"]))
        ),
        **training,
    )
    strategy = strategies.random()
    if arm.score is not None:
        strategy = strategies.from_scores(
            scorers.passes(SCORES[arm.score], config.passes), beta=arm.beta
        )
    how_cost_is_known = "known"
    if arm.learned:
        how_cost_is_known = learners.regressor(
            *nn.from_linen(network(outputs=None), example), **training
        )
    return runs.Method(
        learner,
        strategy,
        propose=pool.stream(config.candidates, redraw=config.redraw),
        evaluate=learners.accuracy(learner, batch_size=1000),
        observe=observe,
        cost=how_cost_is_known,
    )


def observe(data: Data, view, _) -> dict[str, jax.Array]:
    """What the candidates cost in truth, and by how much the prediction is off."""
    mean = lambda values: jnp.mean(values, where=view.available)
    true = jnp.asarray(data.cost)[view.candidates]
    return {"mean_cost": mean(true), "cost_bias": mean(view.cost - true)}


@runs.recorded
def run_arm(config: Config, arm: Arm, seed: int, folder: Path, data_dir=None):
    """One run, resumed from its checkpoint if it was interrupted.

    Args are those of `runs.recorded`; the seed is of the initial set, the candidates,
    the training and the passes.

    Returns:
      The record, as `experiments.cost_sensitive.report` takes it.
    """
    data, num_classes = load_data(config, data_dir)
    method = build(config, arm, num_classes, data.x.shape[1:])
    initial = initial_set(config, jax.random.key(seed), data, num_classes)
    task = method, data, initial, num_classes
    when = config.evaluate_rounds or None
    infos = runs.drive(config, arm, seed, folder, *task, evaluate_rounds=when)
    bought = np.arange(config.rounds + 1) < config.rounds
    return {
        "accuracy": infos.metrics["accuracy"],
        "count": infos.count,
        "spend": infos.spend,
        "indices": infos.indices,
        "observed": {
            name: np.where(bought, values, np.nan)
            for name, values in infos.observed.items()
        },
    }


def initial_set(config: Config, key, data: Data, num_classes: int) -> jax.Array:
    """The same number of items of each class, the same for all arms of a seed."""
    return pool.balanced_indices(
        loop.round_key(key, 0, loop.INITIAL),
        data.y,
        per_class=config.per_class,
        num_classes=num_classes,
    )


def check(config: Config, data_dir: str | None) -> None:
    """Raises ValueError where the protocol asks for more items than there are."""
    if config.network not in NETWORKS:
        raise ValueError(
            f"network={config.network!r}; allowed are {', '.join(NETWORKS)}"
        )
    data, num_classes = load_data(config, data_dir)
    smallest = int(np.bincount(np.asarray(data.y), minlength=num_classes).min())
    if smallest < config.per_class:
        raise ValueError(
            f"per_class={config.per_class}, but a class of {config.data} has only "
            f"{smallest} items"
        )
    runs.check_picks(config)
    served = data.y.shape[0] - config.per_class * num_classes
    if config.candidates > served:
        raise ValueError(
            f"candidates={config.candidates}, but {config.data} has only {served} "
            "items beside the initial set; lower candidates"
        )
    shown = config.rounds * config.candidates
    if not config.redraw and shown > served:
        raise ValueError(
            f"rounds * candidates = {config.rounds} * {config.candidates} = {shown}, "
            f"but {config.data} has {served} items beside the initial set; lower one "
            "of them, or allow redraw"
        )
