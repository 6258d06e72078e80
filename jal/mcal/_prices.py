"""What it costs to train a model again and again on a growing set.

Dollars are USD; R rounds.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class TrainingPrice(NamedTuple):
    """What one training from scratch on b items costs, in USD.

    fixed + per_image b + per_image_squared b^2. Summed over rounds the second is the
    exact sum of a price per image, the third that of epochs in proportion to b.
    `per_image=2 * k` gives the total k |B| (|B| / delta + 1) as printed in the paper.

    Attributes:
      fixed: a training, whatever its size.
      per_image: a training image, all epochs together.
      per_image_squared: a squared training image.
    """

    fixed: float = 0.0
    per_image: float = 0.0
    per_image_squared: float = 0.0


def check(price: TrainingPrice) -> None:
    """Checks the price of training.

    Args:
      price: of one training.

    Raises:
      ValueError: a coefficient is negative or not finite, or all are 0.

    >>> check(TrainingPrice(per_image=-1.0))
    Traceback (most recent call last):
    ValueError: per_image=-1.0; the price of training must not be negative
    """
    for name, value in price._asdict().items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(
                f"{name}={value}; the price of training must not be negative"
            )
    if not any(price):
        raise ValueError(
            "the price of training is 0; give TrainingPrice(per_image=...)"
        )


def price_of_training(price: TrainingPrice, size: Any) -> Any:
    """What one training costs.

    Args:
      price: of training.
      size: [...] b, training images.

    Returns:
      [...] USD.

    >>> price_of_training(TrainingPrice(per_image=0.0003), 600)
    0.18
    """
    return price.fixed + price.per_image * size + price.per_image_squared * size**2


def price_of_rounds(price: TrainingPrice, start: Any, stop: Any, rounds: Any) -> Any:
    """What training costs in N equal rounds from one size to another.

    sum over i = 1..N of the price of a training on start + i (stop - start) / N images.

    Args:
      price: of training.
      start: [...] B of today, already trained on; 0 counts from the beginning.
      stop: [...] B of the last round.
      rounds: [...] N >= 0; without rounds the cost is 0.

    Returns:
      [...] USD.

    >>> round(price_of_rounds(TrainingPrice(per_image=0.0003), 0, 6000, 10), 6)
    9.9

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, eq. 3, whose k is that of the exact sum, halved.
    """
    whole = stop - start
    # Sums of i / N and of its square.
    first = (rounds + 1) / 2
    second = (rounds + 1) * (2 * rounds + 1) / 6 / (rounds + (rounds == 0))
    squares = rounds * start**2 + 2 * start * whole * first + whole**2 * second
    images = rounds * start + whole * first
    total = (
        rounds * price.fixed
        + price.per_image * images
        + price.per_image_squared * squares
    )
    return total * (rounds > 0)


def price_of_batches(price: TrainingPrice, start: Any, stop: Any, batch: Any) -> Any:
    """What training costs from one size to another in batches of a fixed size.

    The sizes are start + batch, start + 2 batch, ..., and at last stop.

    Args:
      price: of training.
      start: [...] B of today, already trained on.
      stop: [...] B of the last round, >= start.
      batch: [...] delta > 0.

    Returns:
      [...] USD.

    >>> round(price_of_batches(TrainingPrice(per_image=0.0003), 3000, 4300, 1000), 6)
    2.49
    """
    rounds = -((start - stop) // batch)
    full = rounds - (rounds > 0)
    cost = price_of_rounds(price, start, start + full * batch, full)
    return cost + price_of_training(price, stop) * (rounds > 0)


def price_from_seconds(
    sizes: Sequence[int], seconds: Sequence[float], *, dollars_per_hour: float
) -> TrainingPrice:
    """The price of training, from how long trainings took.

    Non-negative least squares of seconds by a constant and b, weighted by 1 / seconds.

    Args:
      sizes: [R] b, training images.
      seconds: [R] that training took, > 0.
      dollars_per_hour: of the machine, USD, > 0.

    Returns:
      `TrainingPrice` with `fixed` and `per_image`.

    Raises:
      ValueError: lengths that differ, nothing measured, or values not above 0.

    >>> price = price_from_seconds([100, 200], [3.0, 5.0], dollars_per_hour=3600.0)
    >>> round(price.fixed, 6), round(price.per_image, 6)
    (1.0, 0.02)
    """
    from scipy.optimize import nnls

    b, took = np.asarray(sizes, float), np.asarray(seconds, float)
    if b.shape != took.shape or b.ndim != 1 or not b.size:
        raise ValueError(
            f"sizes has shape {b.shape} and seconds {took.shape}; expected [R], R >= 1"
        )
    for name, values in (
        ("sizes", b),
        ("seconds", took),
        ("dollars_per_hour", np.asarray([dollars_per_hour])),
    ):
        if not ((values > 0) & np.isfinite(values)).all():
            raise ValueError(f"{name}={values.tolist()}; all must be above 0")
    design = np.stack([np.ones_like(b), b], axis=1)
    if len(np.unique(b)) < 2:
        design[:, 0] = 0  # one size cannot tell a constant from a slope
    (fixed, per_image), _ = nnls(design / took[:, None], np.ones_like(b))
    per_second = dollars_per_hour / 3600
    return TrainingPrice(float(fixed * per_second), float(per_image * per_second))
