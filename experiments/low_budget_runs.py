"""One run of the low-budget comparison: protocol, methods, training, record.

Aggarwal, Popescu and Hudelot, "Optimizing active learning for low annotation budgets"
(2022). In every round a linear classifier over frozen features, or the whole network
from the source's weights, is trained on what is labelled, and 200 more are chosen.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import low_budget_source as sources
from experiments import runs
from jal import learners, loop, nn, pool, strategies
from jal._core import files
from jal.types import Data, Learner, Strategy

SYNTHETIC = "synthetic"
# Of the exponential profile n_c = n_max rho^(-c / (C - 1)); n_max as a share of the
# largest class. These give the paper's CIFAR-100: 17,168 images, SD 126.98.
RHO, LARGEST = 14.585, 491.3 / 500


class Arm(NamedTuple):
    """One of the methods compared.

    Attributes:
      name: in tables and file names.
    """

    name: str


METHODS = (
    "rand",
    "marg",
    "core",
    "badge",
    "alamp",
    "alamp-div",
    "rand-div",
    "marg-div",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that, with an arm and a seed, determines a run.

    Attributes:
      target: what features are called, or "synthetic".
      scheme: "svm" or "logistic" over frozen features, or "ft" for fine-tuning.
      imbalanced: thins the pool out by class, and weighs or thresholds against it.
      initial: labels before the first round.
      picks: labels bought a round.
      rounds: after the first one.
      unit_length: features are divided by their norms.
      epochs: of fine-tuning.
      batch_size: of fine-tuning.
      source_data: data set of the source, for fine-tuning.
    """

    target: str
    scheme: str = "svm"
    imbalanced: bool = False
    initial: int = 200
    picks: int = 200
    rounds: int = 15
    unit_length: bool = True
    epochs: int = 80
    batch_size: int = 64
    source_data: str = ""


class Target(NamedTuple):
    """A pool and a test set.

    Attributes:
      x: [N, ...] features or images.
      y: [N] classes.
      test_x: [n, ...].
      test_y: [n].
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def synthetic(size: int = 25_000, features: int = 512, classes: int = 100) -> Target:
    """Gaussian classes of the paper's sizes, to time the comparison with."""
    rng = np.random.default_rng(0)
    centers = 0.15 * rng.normal(size=(classes, features))

    def draw(number):
        y = rng.integers(0, classes, number).astype(np.int32)
        x = centers[y] + rng.normal(size=(number, features))
        return np.maximum(x, 0).astype(np.float32), y

    return Target(*draw(size), *draw(10_000))


@functools.cache
def load_target(config: Config, folder: Path, data_dir: str | None) -> Target:
    """What is labelled: features, or for fine-tuning images."""
    if config.target == SYNTHETIC:
        target = synthetic()
    elif config.scheme == "ft":
        target = _images(config, folder.parent.parent / "source", data_dir)
    else:
        target = Target(*sources.read(folder)[:4])
    if config.imbalanced:
        kept = exponential_profile(target.y, seed=0)
        target = target._replace(x=target.x[kept], y=target.y[kept])
    if config.unit_length and config.scheme != "ft":
        unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        target = target._replace(x=unit(target.x), test_x=unit(target.test_x))
    return target


def _images(config, source, data_dir) -> Target:
    trained = sources.config_of(config.source_data, source)
    is_same = Path(config.source_data).stem == config.target
    name = config.source_data if is_same else config.target
    train, test, _ = sources.target_part(trained, name, data_dir)
    return Target(*train, *test)


def exponential_profile(labels: np.ndarray, seed: int) -> np.ndarray:
    """Indices of a random part of each class, the sizes falling exponentially.

    Args:
      labels: [N] classes from 0.
      seed: of the order of the classes and of the draw.

    Returns:
      Indices that are kept, rising.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == c) for c in range(int(labels.max()) + 1)]
    largest = LARGEST * max(map(len, members))
    ranks = rng.permutation(len(members))
    kept = []
    for rows, rank in zip(members, ranks, strict=True):
        share = rank / max(len(members) - 1, 1)
        size = min(len(rows), round(largest * RHO**-share))
        kept.append(rng.permutation(rows)[:size])
    return np.sort(np.concatenate(kept))


def imbalance(counts: np.ndarray) -> np.ndarray:
    """SD / mean of the number of labels of a class, [..., C] -> [...]."""
    return counts.std(axis=-1) / counts.mean(axis=-1)


@functools.cache
def build(
    config: Config, arm: Arm, source: Path, shape, num_classes: int, data_dir
) -> tuple[Learner, Strategy, object]:
    """Learner, strategy and `evaluate` of an arm: the same objects for all seeds."""
    batch_size = None
    if config.scheme == "ft":
        batch_size = 500
        learner = _fine_tuning(config, source, num_classes, data_dir)
    else:
        make = {"svm": learners.linear_svm, "logistic": learners.logistic_regression}
        learner = make[config.scheme](shape[0], num_classes, balanced=config.imbalanced)
    judge = learner
    if config.scheme == "ft" and config.imbalanced:
        learner = learners.counted(learner, num_classes)
        judge = learners.thresholded(learner)

    def evaluate(variables, test):
        x, y = test

        def is_right(item):
            x, y = item
            logits = judge.predict(variables, x[None]).need("logits")
            return (jnp.argmax(logits[0]) == y).astype(jnp.float32)

        right = jax.lax.map(is_right, (x, y), batch_size=500)
        return {"accuracy": jnp.mean(right)}

    return learner, _strategy(arm.name, batch_size), evaluate


def _strategy(name: str, batch_size: int | None) -> Strategy:
    return {
        "rand": lambda: strategies.random(),
        "marg": lambda: strategies.margin(batch_size=batch_size),
        "core": lambda: strategies.k_center(batch_size=batch_size),
        "badge": lambda: strategies.badge(batch_size=batch_size),
        "alamp": lambda: strategies.alamp(batch_size=batch_size),
        "alamp-div": lambda: strategies.alamp(diversify=True, batch_size=batch_size),
        "rand-div": lambda: strategies.rand_div(batch_size=batch_size),
        "marg-div": lambda: strategies.margin(diversify=True, batch_size=batch_size),
    }[name]()


def _fine_tuning(config, folder, num_classes, data_dir) -> Learner:
    source = sources.config_of(config.source_data, folder)
    variables, _ = sources.train(source, folder, data_dir=data_dir, progress=False)
    (images, _), *_ = sources.source_part(source, data_dir)
    init, apply = sources.network_of(source, num_classes, images)
    return learners.fine_tune(
        learners.from_source(init, variables, head="Dense_0"),
        apply,
        epochs=config.epochs,
        batch_size=config.batch_size,
        augment=lambda key, x: nn.crop_and_flip(key, x, pad=0),
    )


def run_arm(
    config: Config, arm: Arm, seed: int, folder: Path, data_dir: str | None = None
) -> dict:
    """One run, resumed from its checkpoint if it was interrupted.

    Args:
      config: the protocol.
      arm: the method.
      seed: of the first labels, the folds and what is random in a method.
      folder: of this run alone, three below that of all features and the source;
        receives `record.json` when the run is done.
      data_dir: TFDS directory, or None for `TFDS_DATA_DIR`.

    Returns:
      The record: accuracy, labels, their classes and indices by round, and the strength
      that cross-validation chose.
    """
    wall, process, code = time.monotonic(), time.process_time(), runs.commit()
    base = folder.parent.parent.parent
    target = load_target(config, base / "features" / config.target, data_dir)
    num_classes = int(target.y.max()) + 1
    learner, strategy, evaluate = build(
        config, arm, base / "source", target.x.shape[1:], num_classes, data_dir
    )
    data = Data(
        jnp.asarray(target.x),
        jnp.asarray(target.y),
        test=(jnp.asarray(target.test_x), jnp.asarray(target.test_y)),
    )
    key = jax.random.key(seed)
    initial_key = loop.round_key(key, 0, loop.INITIAL)
    initial = jax.random.permutation(initial_key, len(target.y))[: config.initial]
    loop.check(
        data, initial, k=config.picks, rounds=config.rounds, num_classes=num_classes
    )
    _, infos = loop.drive(
        key,
        learner,
        strategy,
        data,
        initial=initial,
        k=config.picks,
        rounds=config.rounds,
        propose=pool.everything(),
        evaluate=evaluate,
        folder=folder,
        resume=True,
        segment=1 if config.scheme == "ft" else 4,
        progress=False,
        config={**dataclasses.asdict(config), "arm": arm.name},
    )
    indices = np.asarray(infos.indices)
    bought = np.concatenate([np.asarray(initial), indices[:-1].reshape(-1)])
    one_hot = np.eye(num_classes, dtype=int)[target.y[bought]]
    counts = np.stack([one_hot[:number].sum(axis=0) for number in infos.count])
    record = files.as_json(
        {
            "arm": arm.name,
            "seed": seed,
            "accuracy": infos.metrics["accuracy"],
            "count": infos.count,
            "initial": initial,
            "indices": indices,
            "imbalance": imbalance(counts),
            "classes_seen": (counts > 0).sum(axis=1),
            "fit": {name: values for name, values in infos.fit.items()},
            "commit": code,
            "seconds": round(time.monotonic() - wall, 1),
            "cpu_seconds": round(time.process_time() - process, 1),
        }
    )
    files.write_json(folder / "record.json", record)
    return record
