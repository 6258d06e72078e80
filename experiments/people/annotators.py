"""Two annotators who err and take their time: whom a simulated month asks.

Written down before anything was run with them; but the times "unrelated" came after
runs with "alike" had shown little, and "dark" after "unrelated" had on MNIST:

* What they say is wrong with a probability of the image's own, drawn from a Beta
  distribution with the mean (.048) and SD (.100) of how often people err on an image of
  CIFAR-10H; the wrong label is that of the class most alike (`LIKE`).
* The time of an answer is log-normal, sigma .4, about a median that `Config.times`
  names. Two go by class, plus .02 seconds for each pixel of the outline:
  "alike": 2 to 8 seconds, more for classes that are easily confused (`RANKS`);
  "unrelated": 2 to 20 seconds in equal steps, by an order of the classes that is drawn
  from the seed, so that time says nothing of difficulty.
  And one goes by picture, as if people had to look closer at dark ones:
  "dark": 3 seconds for the brightest image of a class to 30 for the darkest, evenly in
  the logarithm by its place among the pool's images of its class, so that all classes
  take as long.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.common import datasets
from experiments.people.protocol import Config
from jal import cost
from jal.session import Annotation

ERROR_MEAN, ERROR_SD = 0.048, 0.100
# T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot: how
# easily confused, 0 to 9, and with what.
RANKS = (6, 0, 8, 5, 7, 4, 9, 3, 1, 2)
LIKE = (6, 3, 4, 0, 2, 7, 0, 9, 5, 7)
SECONDS = {"alike": (2.0, 8.0), "unrelated": (2.0, 20.0), "dark": (3.0, 30.0)}
OUTLINE, SIGMA = 0.02, 0.4
ANNOTATORS = ("ann", "bob")


class People(NamedTuple):
    """What annotators would say of each item of a pool (N items).

    Attributes:
      images: [N, 28, 28, 1] uint8.
      truth: [N] classes.
      said: [A, N] classes, of each annotator.
      seconds: [A, N].
    """

    images: np.ndarray
    truth: np.ndarray
    said: np.ndarray
    seconds: np.ndarray


def check_times(times: str) -> None:
    """Raises ValueError for unknown `times`."""
    if times not in SECONDS:
        raise ValueError(f"times = {times!r}, choose one of {', '.join(SECONDS)}")


def median_seconds(
    times: str, seed: int, images: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """[N] median seconds of the pool's images.

    Raises:
      ValueError: unknown `times`.
    """
    check_times(times)
    low, high = SECONDS[times]
    if times == "dark":
        return low * (high / low) ** _darkness(images, truth)
    ranks = RANKS
    if times == "unrelated":
        ranks = np.random.default_rng([seed, len(RANKS)]).permutation(len(RANKS))
    base = jnp.asarray(cost.class_base_cost(ranks, low=low, high=high))
    median = cost.annotation_cost(
        jnp.asarray(images), jnp.asarray(truth), base=base, slope=OUTLINE
    )
    return np.asarray(median)


def _darkness(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] 0 for the brightest image of each class to 1 for its darkest."""
    brightness = images.reshape(len(images), -1).mean(1)
    place = np.zeros(len(images))
    for c in np.unique(truth):
        members = np.flatnonzero(truth == c)
        order = members[np.argsort(-brightness[members], kind="stable")]
        place[order] = np.linspace(0, 1, len(order))
    return place


@functools.cache
def people(config: Config, seed: int, data_dir: str | None) -> People:
    """A pool, and its annotators."""
    items = config.items
    data = datasets.load(config.data, data_dir=data_dir, progress=False)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.labels))[:items]
    images, truth = data.images[rows], data.labels[rows]
    concentration = ERROR_MEAN * (1 - ERROR_MEAN) / ERROR_SD**2 - 1
    hardness = rng.beta(
        ERROR_MEAN * concentration, (1 - ERROR_MEAN) * concentration, items
    )
    wrong = rng.random((len(ANNOTATORS), items)) < hardness
    said = np.where(wrong, np.array(LIKE)[truth], truth)
    median = median_seconds(config.times, seed, images, truth)
    noise = rng.normal(0, SIGMA, (len(ANNOTATORS), items))
    seconds = np.round(median * np.exp(noise), 3)
    return People(images, truth, said, seconds)


def annotation(world: People, who: int, item: int) -> Annotation:
    return Annotation(
        item,
        int(world.said[who, item]),
        ANNOTATORS[who],
        float(world.seconds[who, item]),
    )
