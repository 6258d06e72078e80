"""One run of the minimum-cost comparison: protocol, methods, data, training.

Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active labeling"
(2023). A whole data set, training and test images together, is labelled by people at
4 or .3 cents an image and by a network trained on what they labelled.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets, runs
from jal import learners, nn
from jal.mcal import (
    Model,
    Terms,
    TrainingPrice,
    fixed_batch,
    from_learner,
    label,
)

Constraint = Literal["overall", "set"]
# USD for a label.
PRICES = {"Amazon": 0.04, "Satyam": 0.003}
# USD for a training image, all epochs together: Table 1 of the paper.
CHEAP, MIDDLE, DEAR = 0.00007, 0.0003, 0.0009


class Network(NamedTuple):
    """A network that may do the labelling.

    Attributes:
      make: (classes, mean=, sd=) -> module; mean and sd are of the images' channels.
      price: USD for a training image.
    """

    make: Any
    price: float


def _small(classes, mean, sd):
    del mean, sd
    return nn.GalCNN(classes, channels=(16, 32), kernel=3)


_SMALL_RESNET = functools.partial(nn.ResNet, width=16, blocks=(1, 1, 1))
DEFAULT = "small CNN"
NETWORKS = {
    # For two cores: 3x3 convolutions, dropout, one dense layer.
    DEFAULT: Network(_small, CHEAP),
    "small ResNet": Network(_SMALL_RESNET, MIDDLE),
    # As the paper names them.
    "CNN-18": Network(nn.cnn18, CHEAP),
    "ResNet-18": Network(nn.ResNet, MIDDLE),
    "ResNet-50": Network(nn.resnet50, DEAR),
    # As the release has them under the same names.
    "plain CNN": Network(nn.PlainCNN, CHEAP),
    "ResNet-20": Network(nn.resnet20, MIDDLE),
    "ResNet-56": Network(nn.resnet56, DEAR),
}


class Arm(NamedTuple):
    """One of the ways to label the data set.

    Attributes:
      name: in tables and file names.
      price: USD for a label; None where it makes no difference to what is bought.
      batch: share of the data set in a batch, or None for MCAL, which chooses.
      constraint: of `mcal.Terms`.
      confidence: of `mcal.Terms`.
      candidates: networks to choose from.
    """

    name: str
    price: float | None = None
    batch: float | None = None
    constraint: Constraint = "overall"
    confidence: float | None = None
    candidates: tuple[str, ...] = (DEFAULT,)


@dataclasses.dataclass(frozen=True)
class Config:
    """The protocol that all arms share.

    Attributes:
      data: name of the data set, or path of an .npz file.
      max_error: share of wrong labels that is allowed.
      test_share: of the data set, for the test set.
      first_share: of the data set, for the first batch and the smallest.
      slack: of `mcal.Terms`.
      epochs: of each training.
      batch_size: of each training step.
      learning_rate: of Adam, falling linearly to a hundredth.
      augment: whether images are shifted and, but for digits, mirrored in training.
      subset: items taken of the data set at random, or None for all.
    """

    data: str
    max_error: float = 0.05
    test_share: float = 0.05
    first_share: float = 0.01
    slack: float = 0.02
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    augment: bool = False
    subset: int | None = None


def mcal(
    service: str,
    constraint: Constraint = "overall",
    candidates: tuple[str, ...] = (DEFAULT,),
) -> Arm:
    """MCAL at a service's price, choosing from some networks."""
    name = f"MCAL {service}" + (" set" if constraint == "set" else "")
    return Arm(
        name + _suffix(candidates),
        PRICES[service],
        constraint=constraint,
        candidates=candidates,
    )


def fixed(batch: float, network: str = DEFAULT) -> Arm:
    """Active learning with a fixed batch, a share of the data set."""
    name = f"batch {batch:g}{_suffix((network,))}"
    return Arm(name, batch=batch, candidates=(network,))


def _suffix(candidates: tuple[str, ...]) -> str:
    return "" if candidates == (DEFAULT,) else f", {' or '.join(candidates)}"


def load_data(config: Config, data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W, channels] and labels [N] of training and test set together."""
    data = datasets.load(config.data, data_dir=data_dir, progress=False)
    images = np.concatenate([data.images, data.test_images])
    labels = np.concatenate([data.labels, data.test_labels])
    if config.subset is not None:
        if not 0 < config.subset <= len(labels):
            raise ValueError(
                f"subset={config.subset}; {config.data} has {len(labels)} items"
            )
        rows = np.random.default_rng(0).permutation(len(labels))[: config.subset]
        images, labels = images[rows], labels[rows]
    return images, labels


def terms_of(config: Config, arm: Arm, num_items: int) -> Terms:
    """What is to be labelled, at the arm's price; for a fixed batch any would do."""
    share = lambda part: max(1, round(part * num_items))
    step = share(config.first_share)
    return Terms(
        num_items,
        share(config.test_share),
        arm.price or PRICES["Amazon"],
        max_error=config.max_error,
        constraint=arm.constraint,
        theta_base="pool" if arm.batch is None else "remaining",
        first_batch=step if arm.batch is None else share(arm.batch),
        grid_step=step,
        slack=config.slack,
        confidence=arm.confidence,
    )


def candidate(
    config: Config, name: str, key: jax.Array, images: np.ndarray, num_classes: int
) -> Model:
    """A network with its training and its price."""
    mean, sd = datasets.moments(images)
    module = NETWORKS[name].make(num_classes, mean=mean, sd=sd)
    mirror = config.data not in ("mnist", "digits")
    move = lambda key, x: nn.crop_and_flip(key, x, pad=3, flip=mirror)
    learner = learners.by_epochs(
        *nn.from_linen(module, images[:1]),
        optax.adam(config.learning_rate),
        epochs=config.epochs,
        batch_size=config.batch_size,
        rate=lambda progress: jnp.maximum(1 - progress, 0.01),
        augment=move if config.augment else None,
    )
    return Model(
        from_learner(key, learner, images),
        TrainingPrice(per_image=NETWORKS[name].price),
    )


@runs.recorded
def run_arm(config: Config, arm: Arm, seed: int, folder: Path, data_dir=None):
    """One data set labelled, resumed if it was interrupted.

    Args are those of `runs.recorded`; the seed is of the test set, the first batch and
    the training.

    Returns:
      The record: what was labelled by whom, what it cost, how wrong it is, and the
      rounds.
    """
    images, labels = load_data(config, data_dir)
    num_classes = int(labels.max()) + 1
    terms = terms_of(config, arm, len(labels))
    key, train_key = jax.random.split(jax.random.key(seed))
    policy = None
    if arm.batch is not None:
        policy = fixed_batch(terms, terms.first_batch)
    result = label(
        key,
        {
            name: candidate(config, name, train_key, images, num_classes)
            for name in arm.candidates
        },
        lambda indices: labels[indices],
        terms,
        num_classes=num_classes,
        policy=policy,
        folder=folder,
        resume=True,
        progress=False,
        ask_at_most=len(labels),
        config={**dataclasses.asdict(config), "arm": arm._asdict()},
    )
    human, wrong = int(result.is_human.sum()), result.labels != labels
    machine = len(labels) - human
    return {
        "price": arm.price,
        "batch": arm.batch,
        "constraint": arm.constraint,
        "num_items": len(labels),
        "human_labels": human,
        "machine_labels": machine,
        "trained_on": result.trained_on,
        "candidate": result.model,
        "error": np.mean(wrong),
        "machine_error": np.mean(wrong[~result.is_human]) if machine else None,
        "error_estimate": result.error_estimate,
        "training_cost": result.training_cost,
        "cost": {
            service: human * price + result.training_cost
            for service, price in PRICES.items()
            if arm.price in (None, price)
        },
        "stop": result.stop,
        "rounds": [row._asdict() for row in result.rounds],
    }
