"""What a label costs, and information per cost: `cost_ratio` and image perimeters."""

import functools
import operator
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

_SQRT2 = 2.0**0.5
_STRAIGHT = (0, 1), (1, 0), (1, 2), (2, 1)
_OBLIQUE = (0, 0), (0, 2), (2, 0), (2, 2)


def _require_non_negative(**arguments) -> None:
    for name, value in arguments.items():
        if isinstance(value, (int, float, np.number)) and not 0 <= value < np.inf:
            raise ValueError(f"{name} = {value} must be a finite number >= 0")


def cost_ratio(
    information: jax.Array,
    cost: jax.Array,
    *,
    alpha: float | jax.Array = 1.0,
    beta: float | jax.Array,
) -> jax.Array:
    """Information per cost: v = I^alpha / C^beta, higher = label it.

    By logarithms, with 0^0 = 1: I = 0 ranks last (v = 0) unless alpha = 0. v is NaN,
    which no selector picks, where I is negative or NaN or, unless beta = 0, where C is
    zero, negative or NaN.

    Args:
      information: [M] or any shape, acquisition scores I >= 0, in any unit.
      cost: the shape of `information`, cost C > 0 in a unit of the caller's choice.
      alpha: weight of the information, a scalar >= 0.
      beta: weight of the cost, a scalar >= 0; 0 ignores `cost`, whatever it holds.

    Returns:
      v in the shape of `information`, float32 (float64 if either input is).

    Raises:
      ValueError: a number `alpha` or `beta` (not an array) is negative or not finite.

    Example:
      >>> information, cost = jnp.array([0.3, 0.2, 0.1]), jnp.array([100.0, 40.0, 12.0])
      >>> print(cost_ratio(information, cost, beta=0.5).round(4))
      [0.03   0.0316 0.0289]

    Reference:
      Bernatchez, Durand and Lavoie-Cardinal (2022), "Annotation Cost-Sensitive Deep
      Active Learning with Limited Data", eq. 1.
    """
    _require_non_negative(alpha=alpha, beta=beta)
    information, cost = jnp.asarray(information), jnp.asarray(cost)
    chex.assert_equal_shape((information, cost))
    double = jnp.float64 in (information.dtype, cost.dtype)
    dtype = jnp.float64 if double else jnp.float32
    information, cost = information.astype(dtype), cost.astype(dtype)
    alpha, beta = jnp.asarray(alpha, dtype), jnp.asarray(beta, dtype)
    chex.assert_rank((alpha, beta), 0)
    # Where an exponent is 0 its logarithm may be infinite or NaN, and 0 * inf = NaN.
    gain = jnp.where(alpha == 0, 0, alpha * jnp.log(information))
    price = jnp.where(beta == 0, 0, beta * jnp.log(cost))
    valid = (information >= 0) & ((beta == 0) | (cost > 0))
    return jnp.where(valid, jnp.exp(gain - price), jnp.nan)


def perimeter(
    images: jax.Array, *, threshold: float = 127, estimator: str = "benkrid_crookes"
) -> jax.Array:
    """Length of the outlines, holes included, of what is brighter than a threshold.

    The mask is `images > threshold`; outside the image all is background. Border
    pixels are those of the mask with a 4-neighbour outside the mask.
    "benkrid_crookes": sum of w(c) over the codes c = border * [[10, 2, 10], [2, 1, 2],
      [10, 2, 10]], a convolution; w = 1 for c in 5, 7, 15, 17, 25, 27; sqrt 2 for 21,
      33; (1 + sqrt 2) / 2 for 13, 23; else 0. By definition a bar of 5 measures 3.
    "exposed_edges": number of pixel edges between the mask and the background.
    "boundary_pixels": number of border pixels.
    "marching_squares": length of the contour at 1/2 of the mask seen as 0 and 1.

    Args:
      images: [B, H, W] or [B, H, W, 1] intensities, integer or floating.
      threshold: in the unit of `images`; 127 halves 0..255, take 0.5 for 0..1.
      estimator: one of the four; on MNIST their means differ by up to 1.5 times.

    Returns:
      [B] float32, in pixels, >= 0.

    Raises:
      ValueError: `estimator` is none of the four, or the images have channels.

    Example:
      >>> square = jnp.zeros((1, 7, 7)).at[:, 2:5, 2:5].set(255)
      >>> print(perimeter(square), perimeter(square, estimator="exposed_edges"))
      [8.] [12.]

    Reference:
      Benkrid, Crookes and Benkrid (2000), "Design and FPGA implementation of a
      perimeter estimator"; for the contour Lorensen and Cline (1987), "Marching cubes".
    """
    if estimator not in _ESTIMATORS:
        raise ValueError(f"estimator = {estimator!r} must be in {list(_ESTIMATORS)}")
    images = jnp.asarray(images)
    if images.ndim == 4:
        images = jnp.squeeze(images, 3)
    chex.assert_rank(images, 3)
    if not jnp.issubdtype(images.dtype, jnp.floating):  # uint8 cannot hold 0.5 or 300
        images = images.astype(jnp.float32)
    return _ESTIMATORS[estimator](images > threshold)


def class_base_cost(ranks: ArrayLike, *, low: float, high: float) -> np.ndarray:
    """Base cost of each class, linear in how informative the class is.

    base = low + (high - low) * rank / (C - 1), on the host: base costs are settings.

    Args:
      ranks: [C] 0 (least informative class) to C - 1 (most), ties may be fractional.
      low: cost of rank 0, >= 0, in the unit of the costs.
      high: cost of rank C - 1, >= 0, in the same unit.

    Returns:
      [C] NumPy float32, in the unit of `low` and `high`.

    Raises:
      ValueError: C < 2, a rank outside 0..C - 1, `low` or `high` not finite or < 0.

    Example:
      >>> print(class_base_cost([1, 0, 2], low=10, high=35))
      [22.5 10.  35. ]
    """
    _require_non_negative(low=low, high=high)
    rank = np.asarray(ranks, np.float64)
    chex.assert_rank(rank, 1)
    highest = len(rank) - 1
    if highest < 1 or not np.all((rank >= 0) & (rank <= highest)):
        raise ValueError(f"ranks = {ranks} must lie in 0..C - 1, for C >= 2 classes")
    return (low + (high - low) * rank / highest).astype(np.float32)


# From a pilot run with random acquisition: the most informative images are dearer than
# random ones at beta = 0, and those picked at beta = 0.3 are cheaper.
MNIST_BASE_COST = class_base_cost((1, 0, 4, 5, 6, 7, 3, 2, 8, 9), low=10.0, high=35.0)
MNIST_BASE_COST.setflags(write=False)


def annotation_cost(
    images: jax.Array,
    labels: jax.Array,
    *,
    base: jax.Array,
    slope: float | jax.Array = 1.0,
    threshold: float = 127,
    estimator: str = "benkrid_crookes",
) -> jax.Array:
    """Simulated cost of annotating images: a price per class and one per outline.

    cost = base[label] + slope * perimeter(image)

    Args:
      images: [B, H, W] or [B, H, W, 1] intensities.
      labels: [B] integer classes in 0..C - 1; any other label, -1 too, costs NaN.
      base: [C] base cost of each class, > 0, in a unit of the caller's choice.
      slope: cost of a pixel of outline, >= 0, in the unit of `base` per pixel.
      threshold: as in `perimeter`.
      estimator: as in `perimeter`.

    Returns:
      [B] float32, in the unit of `base`.

    Raises:
      ValueError: unknown `estimator`, or `slope` a number negative or not finite.

    Example:
      >>> square = jnp.zeros((2, 7, 7)).at[:, 2:5, 2:5].set(255)
      >>> print(annotation_cost(square, jnp.array([0, 3]), base=MNIST_BASE_COST))
      [20.777779 31.88889 ]

    Reference:
      Bernatchez, Durand and Lavoie-Cardinal (2022), who state no numbers.
    """
    _require_non_negative(slope=slope)
    labels, base = jnp.asarray(labels), jnp.asarray(base, jnp.float32)
    chex.assert_rank((labels, base), 1)
    chex.assert_equal_shape_prefix((images, labels), 1)
    class_cost = base.at[labels].get(
        mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
    )
    outline = perimeter(images, threshold=threshold, estimator=estimator)
    return class_cost + jnp.asarray(slope, jnp.float32) * outline


def _count(pixels: jax.Array) -> jax.Array:
    # In integers, so that the result does not depend on the order of summation.
    return jnp.sum(pixels, axis=(1, 2), dtype=jnp.int32).astype(jnp.float32)


def _around(combine: Callable, pixels: jax.Array, offsets: tuple) -> jax.Array:
    """The images shifted in four directions, background moving in, put together."""
    height, width = pixels.shape[1:]
    padded = jnp.pad(pixels, ((0, 0), (1, 1), (1, 1)))
    shifted = (padded[:, r : r + height, c : c + width] for r, c in offsets)
    return functools.reduce(combine, shifted)


def _border(mask: jax.Array) -> jax.Array:
    return mask & ~_around(operator.and_, mask, _STRAIGHT)


def _exposed_edges(mask: jax.Array) -> jax.Array:
    pixels = mask.astype(jnp.uint8)
    return _count(pixels * (4 - _around(operator.add, pixels, _STRAIGHT)))


def _benkrid_crookes(mask: jax.Array) -> jax.Array:
    border = _border(mask).astype(jnp.uint8)
    sides = _around(operator.add, border, _STRAIGHT)
    code = border + 2 * sides + 10 * _around(operator.add, border, _OBLIQUE)
    coded = lambda *codes: _count(
        functools.reduce(operator.or_, [code == c for c in codes])
    )
    straight, oblique, mixed = coded(5, 7, 15, 17, 25, 27), coded(21, 33), coded(13, 23)
    return straight + _SQRT2 * oblique + (1 + _SQRT2) / 2 * mixed


def _marching_squares(mask: jax.Array) -> jax.Array:
    padded = jnp.pad(mask, ((0, 0), (1, 1), (1, 1)))
    a, b = padded[:, :-1, :-1], padded[:, :-1, 1:]
    c, d = padded[:, 1:, :-1], padded[:, 1:, 1:]
    # Among four pixel centres the contour is a corner cut of length sqrt(1/2) if one or
    # three are set, 1 long if two adjacent ones are, two cuts if two opposite ones are.
    odd = a ^ b ^ c ^ d
    adjacent = ~odd & (a ^ d)
    opposite = ~odd & (a ^ b) & (a ^ c)
    return _count(adjacent) + _SQRT2 / 2 * (_count(odd) + 2 * _count(opposite))


_ESTIMATORS = {
    "benkrid_crookes": _benkrid_crookes,
    "exposed_edges": _exposed_edges,
    "boundary_pixels": lambda mask: _count(_border(mask)),
    "marching_squares": _marching_squares,
}
