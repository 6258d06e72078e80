"""One run of the low-budget comparison: protocol, methods, training, record.

Aggarwal, Popescu and Hudelot, "Optimizing active learning for low annotation budgets"
(2022). In every round a linear classifier over frozen features, or the whole network
from the source's weights, is trained on what is labelled, and 200 more are chosen.
"""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common import runs
from experiments.low_budget import source as sources
from experiments.low_budget.source import Features
from jal import learners, nn, pool, strategies
from jal.types import Learner

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


METHODS = {
    "rand": lambda **options: strategies.random(),
    "marg": strategies.margin,
    "core": strategies.k_center,
    "badge": strategies.badge,
    "alamp": strategies.alamp,
    "alamp-div": functools.partial(strategies.alamp, diversify=True),
    "rand-div": strategies.rand_div,
    "marg-div": functools.partial(strategies.margin, diversify=True),
}


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


def synthetic(size: int = 25_000, features: int = 512, classes: int = 100) -> Features:
    """Gaussian classes of the paper's sizes, to time the comparison with."""
    rng = np.random.default_rng(0)
    centers = 0.15 * rng.normal(size=(classes, features))

    def draw(number):
        y = rng.integers(0, classes, number).astype(np.int32)
        x = centers[y] + rng.normal(size=(number, features))
        return np.maximum(x, 0).astype(np.float32), y

    return Features(*draw(size), *draw(10_000), {})


@functools.cache
def load_target(config: Config, folder: Path, data_dir: str | None) -> Features:
    """What is labelled: features, or for fine-tuning images."""
    if config.target == SYNTHETIC:
        target = synthetic()
    elif config.scheme == "ft":
        target = _images(config, folder.parent.parent / "source", data_dir)
    else:
        target = sources.read(folder)
    if config.imbalanced:
        kept = exponential_profile(target.train_labels, seed=0)
        thinned = target.train_features[kept], target.train_labels[kept]
        target = Features(*thinned, *target[2:])
    if config.unit_length and config.scheme != "ft":
        unit = lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        x, test_x = unit(target.train_features), unit(target.test_features)
        target = target._replace(train_features=x, test_features=test_x)
    return target


def _images(config, source, data_dir) -> Features:
    trained = sources.config_of(config.source_data, source)
    is_same = Path(config.source_data).stem == config.target
    name = config.source_data if is_same else config.target
    train, test, _ = sources.target_part(trained, name, data_dir)
    return Features(*train, *test, {})


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
def build(config: Config, arm: Arm, source: Path, shape, num_classes: int, data_dir):
    """What learns and chooses: the same objects for all seeds."""
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

    strategy = METHODS[arm.name](batch_size=batch_size)
    evaluate = learners.accuracy(judge, batch_size=500)
    return runs.Method(learner, strategy, pool.everything(), evaluate)


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


@runs.recorded
def run_arm(config: Config, arm: Arm, seed: int, folder: Path, data_dir=None):
    """One run, resumed from its checkpoint if it was interrupted.

    Args are those of `runs.recorded`; the seed is of the first labels, the folds and
    what is random in a method.

    Returns:
      The record: accuracy, labels, their classes and indices by round, and the strength
      that cross-validation chose.
    """
    base = folder.parent.parent.parent
    target = load_target(config, base / "features" / config.target, data_dir)
    num_classes = int(target.train_labels.max()) + 1
    shape = target.train_features.shape[1:]
    method = build(config, arm, base / "source", shape, num_classes, data_dir)
    data = runs.as_data(*target[:4])
    initial = runs.random_items(seed, data, config.initial)
    task = method, data, initial, num_classes
    often = 1 if config.scheme == "ft" else 4
    infos = runs.drive(config, arm, seed, folder, *task, segment=often)
    counts = runs.class_counts(data, initial, infos.indices, num_classes)
    return {
        "accuracy": infos.metrics["accuracy"],
        "count": infos.count,
        "initial": initial,
        "indices": infos.indices,
        "imbalance": imbalance(counts),
        "classes_seen": (counts > 0).sum(axis=1),
        "fit": dict(infos.fit),
    }
