"""One run of the task-aware comparison: protocol, methods, data, training.

Kim, Park, Kim and Chun, "Task-aware variational adversarial active learning" (2020).
In every stage a residual network is trained from scratch on what is labelled, with or
without a ranker, and each method picks from the same kind of random subset of the pool.
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
from jal import learners, nn, pool, strategies
from jal.learners import losses
from jal.types import Data, Strategy

# Images of each class that an imbalanced CIFAR-10 keeps, in hundreds.
PROFILES = {
    "a": (30, 30, 40, 50, 0.5, 1, 1, 1, 2, 10),
    "b": (30, 30, 40, 50, 5, 5, 2, 3, 5, 20),
    "c": (30, 30, 40, 50, 10, 10, 10, 10, 10, 30),
}
BINS = 40  # of the histogram of D


class Arm(NamedTuple):
    """One of the methods compared.

    Attributes:
      name: in tables and file names.
      select: "random", "learning_loss", "vaal" or "ta_vaal".
      ranking: how the ranker is trained, "hinge" or "logistic"; None for no ranker.
    """

    name: str
    select: str
    ranking: str | None = None


ARMS = {
    arm.name: arm
    for arm in (
        Arm("random", "random"),
        Arm("learning loss", "learning_loss", "hinge"),
        Arm("learning loss v2", "learning_loss", "logistic"),
        Arm("VAAL", "vaal"),
        Arm("VAAL + learning loss", "ta_vaal", "hinge"),
        Arm("TA-VAAL", "ta_vaal", "logistic"),
    )
}
RANKINGS = {"hinge": losses.hinge_ranking, "logistic": losses.logistic_ranking}


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that, with an arm and a seed, determines a run; the paper's setting.

    Attributes:
      data: "fashion_mnist", "cifar10", "mnist" or the path of an `.npz` file.
      profile: of `PROFILES`, or None for the pool as it is.
      profile_seed: which images a profile keeps.
      initial: labels before the first stage.
      picks: labels bought a stage.
      candidates: the random subset of the pool that is on the table.
      rounds: stages after the first one.
      width: of the residual network; 64 is that of ResNet-18.
      blocks: of each of its stages; two each are those of ResNet-18.
      epochs: of training, a stage.
      batch_size: of this training.
      learning_rate: for the first 80 % of the epochs, a tenth of it afterwards.
      weight_decay: of all weights.
      detach_after: share of the epochs after which the ranker leaves the trunk alone.
      augment: whether images are cropped and mirrored.
      vae_channels: of the autoencoder.
      latent: its latent dimensions.
      vae_epochs: steps * batch size over labels and candidates together, a stage.
      vae_batch_size: of these steps.
      ranker_for_all: every method trains with a ranker (logistic where it has none).
      release: the options of the official code.
    """

    data: str = "cifar10"
    profile: str | None = None
    profile_seed: int = 0
    initial: int = 1000
    picks: int = 1000
    candidates: int = 10_000
    rounds: int = 9
    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    detach_after: float = 0.6
    augment: bool = True
    vae_channels: tuple[int, ...] = (128, 256, 512, 1024)
    latent: int = 32
    vae_epochs: float = 100
    vae_batch_size: int = 128
    ranker_for_all: bool = False
    release: bool = False


# Up to 1,000 labels and far smaller networks: hours on two processor cores.
REDUCED: dict[str, Any] = dict(
    **dict(initial=200, picks=200, candidates=2000, rounds=4),
    **dict(width=16, blocks=(1, 1, 1, 1), epochs=30, batch_size=64),
    **dict(vae_channels=(16, 32, 64, 128), vae_epochs=8, vae_batch_size=32),
)
# At a size that says nothing.
SMOKE: dict[str, Any] = dict(
    **dict(initial=20, picks=10, candidates=40, rounds=1),
    **dict(width=2, blocks=(1, 1), epochs=1, batch_size=10),
    **dict(vae_channels=(2, 2, 2, 2), vae_epochs=0.5, vae_batch_size=10),
)
# Raw ranks for the discriminator, and scores that depend on the batch.
RELEASE = strategies.VaalOptions(adversary_condition="raw", batch_statistics=True)


@functools.cache
def load_data(config: Config, data_dir: str | None) -> tuple[Data, int]:
    """The pool, thinned out by class where there is a profile, and C."""
    images = datasets.load(config.data, data_dir=data_dir, progress=False)
    kept = np.arange(len(images.labels))
    if config.profile is not None:
        kept = imbalanced(images.labels, PROFILES[config.profile], config.profile_seed)
    pool_part = images.images[kept], images.labels[kept]
    data = runs.as_data(*pool_part, images.test_images, images.test_labels)
    return data, images.num_classes


def imbalanced(labels: np.ndarray, hundreds, seed: int) -> np.ndarray:
    """Indices of a random part of each class, in rising order.

    Args:
      labels: [N] classes.
      hundreds: images of each class that are kept, in hundreds.
      seed: of the draw.

    Returns:
      Indices of the images that are kept.

    Raises:
      ValueError: a class has fewer images than the profile asks for.
    """
    rng = np.random.default_rng(seed)
    kept = []
    for number, share in enumerate(hundreds):
        members, size = np.flatnonzero(labels == number), round(100 * share)
        if size > len(members):
            raise ValueError(
                f"the profile asks for {size} images of class {number}, which has "
                f"{len(members)}"
            )
        kept.append(rng.permutation(members)[:size])
    return np.sort(np.concatenate(kept))


@functools.cache
def moments(config: Config, data_dir: str | None) -> tuple[tuple, tuple]:
    """Mean and standard deviation of each channel of the pool's images, in [0, 1]."""
    x = np.asarray(load_data(config, data_dir)[0].x)
    channels = [x[..., c] / np.float32(255) for c in range(x.shape[-1])]
    mean = tuple(float(c.mean(dtype=np.float64)) for c in channels)
    return mean, tuple(float(c.std(dtype=np.float64)) for c in channels)


@functools.cache
def build(config: Config, arm: Arm, data_dir: str | None) -> runs.Method:
    """What learns and chooses: the same objects for all seeds."""
    data, num_classes = load_data(config, data_dir)
    shape, (mean, sd) = data.x.shape[1:], moments(config, data_dir)
    ranking = arm.ranking or ("logistic" if config.ranker_for_all else None)
    sizes = num_classes, config.width, config.blocks
    network = nn.ResNet(*sizes, ranker=ranking is not None, mean=mean, sd=sd)
    decay = optax.add_decayed_weights(config.weight_decay)
    training: dict[str, Any] = dict(
        optimizer=optax.chain(decay, optax.sgd(config.learning_rate, momentum=0.9)),
        epochs=config.epochs,
        batch_size=config.batch_size,
        rate=lambda progress: jnp.where(progress < 0.8, 1.0, 0.1),
        augment=nn.crop_and_flip if config.augment else None,
    )
    functions = nn.from_linen(network, np.zeros((1, *shape), np.uint8))
    make = learners.by_epochs
    if ranking is not None:
        training |= dict(ranking=RANKINGS[ranking], detach_after=config.detach_after)
        make = learners.with_ranker
    learner = make(*functions, **training)
    return runs.Method(
        learner,
        _strategy(config, arm, shape, mean, sd),
        pool.random_subset(config.candidates),
        learners.accuracy(learner, batch_size=500),
        observe if "vaal" in arm.select else None,
    )


def _strategy(config, arm, shape, mean, sd):
    if arm.select == "random":
        return strategies.random()
    if arm.select == "learning_loss":
        return strategies.learning_loss(batch_size=500)
    conditioned = arm.select == "ta_vaal"
    vae = nn.VAE(shape, config.latent, config.vae_channels, conditioned)
    adversary = nn.from_discriminator(nn.Discriminator(), vae)
    assemble = strategies.ta_vaal if conditioned else strategies.vaal
    return assemble(
        strategies.Autoencoder(*nn.from_vae(vae)),
        strategies.Adversary(*adversary),
        steps=strategies.epochs_of(config.vae_epochs, batch_size=config.vae_batch_size),
        batch_size=config.vae_batch_size,
        prepare=functools.partial(nn.standardize, mean=mean, sd=sd),
        options=RELEASE if config.release else strategies.RECOMMENDED_VAAL,
        scoring_batch_size=500,
    )


def observe(data: Data, view, acquisition) -> dict[str, jax.Array]:
    """How far apart the discriminator holds the candidates."""
    del data
    d = jax.nn.sigmoid(-acquisition.scores)
    known = jnp.where(view.available, d, jnp.nan)
    low, high = jnp.nanquantile(known, jnp.array([0.25, 0.75]))
    edges = jnp.linspace(0, 1, BINS + 1)
    counts, _ = jnp.histogram(d, edges, weights=view.available.astype(jnp.float32))
    return {
        "histogram": counts,
        "sd": jnp.std(d, where=view.available),
        "iqr": high - low,
    }


@runs.recorded
def run_arm(config: Config, arm: Arm, seed: int, folder: Path, data_dir=None):
    """One run, resumed from its checkpoint if it was interrupted.

    Args are those of `runs.recorded`; the seed is of the initial set, the subsets and
    the training.

    Returns:
      The record: accuracy, labels, their classes and indices by stage, and for the
      adversarial methods the distribution of D over the candidates.
    """
    data, num_classes = load_data(config, data_dir)
    initial = runs.random_items(seed, data, config.initial)
    method = build(config, arm, data_dir)
    infos = runs.drive(config, arm, seed, folder, method, data, initial, num_classes)
    return {
        "accuracy": infos.metrics["accuracy"],
        "count": infos.count,
        "initial": initial,
        "indices": infos.indices,
        "class_counts": runs.class_counts(data, initial, infos.indices, num_classes),
        "discriminator": infos.observed if method.observe else None,
    }


def check(config: Config, data_dir: str | None) -> None:
    """Raises ValueError where the protocol contradicts itself or its data."""
    if config.profile is not None and config.profile not in PROFILES:
        raise ValueError(
            f"profile={config.profile!r}; allowed are {', '.join(PROFILES)}"
        )
    if config.profile is not None and config.data != "cifar10":
        raise ValueError(
            f"profile={config.profile!r} of data={config.data!r}; the profiles are "
            "those of cifar10"
        )
    runs.check_picks(config)
    x = np.asarray(load_data(config, data_dir)[0].x)
    num_items, height, width, channels = x.shape
    if (height, width) not in ((28, 28), (32, 32)):
        raise ValueError(
            f"the images of data={config.data!r} have {height}x{width} pixels; "
            "28x28 or 32x32 are needed: resize or pad them"
        )
    flat = [c for c in range(channels) if np.ptp(x[..., c]) == 0]
    if flat:
        raise ValueError(
            f"channel {flat[0]} of the images of data={config.data!r} is the same "
            "everywhere; leave it out"
        )
    needed = config.initial + config.rounds * config.picks
    if needed > num_items or config.candidates > num_items:
        raise ValueError(
            f"initial + rounds * picks = {needed} labels and candidates="
            f"{config.candidates}, but data={config.data!r} has {num_items} items; "
            "lower them"
        )


def protocol(data: str, profile: str | None = None, *, full: bool, **changes) -> Config:
    """The setting of the paper for a data set, or the reduced one.

    Args:
      data: as in `Config`.
      profile: as in `Config`; profiles end at 5,000 labels, whole sets at 10,000.
      full: the paper's setting.
      **changes: other fields of `Config`.

    Returns:
      `Config`.
    """
    if data != "cifar10":  # digits and clothes: neither mirrored nor moved
        changes["augment"] = False
    if data in ("fashion_mnist", "mnist"):
        changes["latent"] = 28
    sizes = {"rounds": 9 if profile is None else 4} if full else REDUCED
    return Config(data=data, profile=profile, **{**sizes, **changes})


class Replay(NamedTuple):
    """Choices that were made, to be labelled again.

    Attributes:
      name: of the method that made them.
      choices: (seed, initial indices, indices by stage), for each seed.
    """

    name: str
    choices: tuple[tuple[int, tuple[int, ...], tuple[tuple[int, ...], ...]], ...]


@runs.recorded
def reevaluate_arm(config: Config, arm: Replay, seed: int, folder: Path, data_dir=None):
    """A plain network, trained in every stage on what a method had chosen by then.

    Args are those of `runs.recorded`; the seed is which of its runs.

    Returns:
      The record: accuracy and number of labels by stage.
    """
    data, num_classes = load_data(config, data_dir)
    plain = dataclasses.replace(config, ranker_for_all=False)
    (initial, stages), *_ = (rest for own, *rest in arm.choices if own == seed)
    chosen = np.array(stages, np.int32)[: config.rounds]
    method = build(plain, ARMS["random"], data_dir)
    method = method._replace(strategy=_replay(chosen), propose=pool.everything())
    first = jnp.array(initial, jnp.int32)
    infos = runs.drive(config, arm, seed, folder, method, data, first, num_classes)
    return {"accuracy": infos.metrics["accuracy"], "count": infos.count}


def _replay(chosen: np.ndarray) -> Strategy:
    """Chooses what was chosen before, [R, K] pool indices, among all items."""

    def select(key, stage, view, k):
        del key, k
        return pool.picks(view, jnp.asarray(chosen)[stage]), stage + 1

    return Strategy(init=lambda key, data, pool: jnp.int32(0), select=select)
