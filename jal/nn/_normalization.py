"""Batch normalisation whose sums over the batch are fast on CPU.

XLA's CPU backend sums over the rows of a [rows, channels] array slowly, on any number
of channels; a product with a few rows of ones is 2 to 10 times faster. Training needs
four such sums a layer: two for the statistics and two for their gradients.
"""

import jax
import jax.numpy as jnp
from jax import lax

_ROWS = 4  # of ones; with one the product is that of a vector, on one core


def column_sums(x: jax.Array) -> jax.Array:
    """Sums over all axes but the last.

    Args:
      x: [..., C], floating.

    Returns:
      [C].

    >>> column_sums(jnp.ones((2, 3, 5))).tolist()
    [6.0, 6.0, 6.0, 6.0, 6.0]
    """
    flat = x.reshape(-1, x.shape[-1])
    if jax.default_backend() != "cpu":
        return jnp.sum(flat, axis=0)
    return (jnp.ones((_ROWS, flat.shape[0]), flat.dtype) @ flat)[0]


def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each channel by the mean and variance of the batch.

    (x - mean) / sqrt(variance + epsilon) * scale + bias, variance = E[x^2] - mean^2,
    not below 0.

    Args:
      x: [..., C].
      scale: [C].
      bias: [C].
      epsilon: [] added to the variance, not differentiated.

    Returns:
      The result [..., C], the mean [C] and the variance [C]; the last two have no
      gradient.

    >>> x = jnp.array([[1.0], [3.0]])
    >>> y, mean, variance = normalize(x, jnp.ones(1), jnp.zeros(1), jnp.array(0.0))
    >>> y.tolist(), mean.tolist(), variance.tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])

    Reference: Ioffe and Szegedy, "Batch normalization: accelerating deep network
    training by reducing internal covariate shift", 2015, algorithm 1.
    """
    return _normalize(x, scale, bias, epsilon)


@jax.custom_vjp
def _normalize(x, scale, bias, epsilon):
    return _forward(x, scale, bias, epsilon)[0]


def _row(values, like):
    """[C] as [1, ..., 1, C]."""
    return values.reshape((1,) * (like.ndim - 1) + values.shape)


def _forward(x, scale, bias, epsilon):
    number = x.size // x.shape[-1]
    mean = column_sums(x) / number
    variance = jnp.maximum(column_sums(jnp.square(x)) / number - jnp.square(mean), 0)
    inverse = lax.rsqrt(variance + epsilon)
    y = (x - _row(mean, x)) * _row(inverse * scale, x) + _row(bias, x)
    return (y, mean, variance), (x, mean, inverse, scale)


def _backward(kept, gradients):
    x, mean, inverse, scale = kept
    gradient, _, _ = gradients
    number = x.size // x.shape[-1]
    standard = (x - _row(mean, x)) * _row(inverse, x)
    of_bias = column_sums(gradient)
    of_scale = column_sums(gradient * standard)
    shared = _row(of_bias / number, x) + standard * _row(of_scale / number, x)
    of_x = (gradient - shared) * _row(inverse * scale, x)
    return of_x, of_scale, of_bias, jnp.zeros_like(inverse[0])


_normalize.defvjp(_forward, _backward)
