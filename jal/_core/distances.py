"""Squared distances between many rows by matrix products, in a stable way.

Products of numbers of any size would overflow or vanish, and distances between items
far from the origin are small differences of large numbers. So rows are divided by
powers of two, which rounds nothing, and moved towards their mean.
"""

import jax
import jax.numpy as jnp


def floating(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def largest(rows: jax.Array) -> jax.Array:
    """[N] largest absolute value of each row."""
    return jnp.max(jnp.abs(rows), axis=1, initial=0)


def _power_of_two(number: jax.Array) -> jax.Array:
    """A power of two between a third of `number` and `number`; 1 for 0."""
    # Arithmetic would not do: compilers reorder divisions, which rounds.
    bits = jnp.finfo(number.dtype).nexp
    power = jax.lax.reduce_precision(number / 2, exponent_bits=bits, mantissa_bits=0)
    return jnp.where(power > 0, power, 1)


def _root(size: jax.Array) -> jax.Array:
    """A power of two whose square is between a ninth of `size` and `size`.

    Products of what was divided by the square neither overflow nor vanish, wherever it
    is divided in two steps so that nothing in between does.
    """
    return _power_of_two(jnp.sqrt(size))


def squared_norms(rows: jax.Array, usable: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What rows are divided by, twice, and their squared norms then.

    A norm is finite where the row is, as far as usable rows go.
    """
    squares = jnp.sum(jnp.square(rows), axis=1)
    most = jnp.max(jnp.where(usable, squares, 0), initial=0)

    # One pass over the rows is enough, unless squares overflow or vanish.
    def in_range():
        values = largest(rows)
        finite = usable & jnp.isfinite(values)
        root = _root(jnp.max(jnp.where(finite, values, 0), initial=0))
        squares = jnp.sum(jnp.square(rows / root**2), axis=1)
        return root, jnp.where(finite, squares, jnp.inf)

    moderate = (most > 1e-12) & (most < 1e12)  # False if it is NaN
    return jax.lax.cond(moderate, lambda: (jnp.ones_like(most), squares), in_range)


def scaled(rows: jax.Array, usable: jax.Array) -> jax.Array:
    """Rows divided by a power of two, so that squares neither overflow nor vanish.

    Only ratios of distances count. Rows that are not usable become 0.
    """
    size = jnp.max(jnp.where(usable, largest(rows), 0), initial=0)
    return jnp.where(usable[:, None], rows, 0) / _power_of_two(size)


def _sum(rows: jax.Array, usable: jax.Array, root: jax.Array) -> jax.Array:
    """[D] sum of the usable rows divided by `root` twice."""
    weights = (usable.astype(rows.dtype) / root)[None]
    # 0 times NaN is NaN; but a copy without them takes longer than the sum.
    total = jax.lax.cond(
        jnp.all(jnp.isfinite(largest(rows))),
        lambda: products(weights, rows.T),
        lambda: products(weights, jnp.where(usable[:, None], rows, 0).T),
    )
    return total[0] / root


def frame(features: jax.Array, usable: jax.Array):
    """Distances between items far from the origin are small differences of large ones.

    The mean need not be exact: it is rounded to quarters of a spread that is a power of
    two, so that small integers stay exact, and with them all ties.

    Args:
      features: [N, D].
      usable: [N] bool, those that count.

    Returns:
      what features are divided by, twice; what is then subtracted, [D]; and the sum of
      what is left of those that count, [D], with their number.
    """
    root = _root(jnp.max(jnp.where(usable, largest(features), 0), initial=0))
    total = _sum(features, usable, root)
    number = jnp.sum(usable.astype(features.dtype))
    mean = total / jnp.maximum(number, 1)
    deviations = jnp.mean(jnp.abs(features / root**2 - mean[None]), axis=1)
    spread = jnp.sum(jnp.where(usable, deviations, 0)) / jnp.maximum(number, 1)
    step = _power_of_two(spread) / 4
    mean = step * jnp.round(mean / step)
    return root, mean, (total - number * mean, number)


def products(x: jax.Array, y: jax.Array) -> jax.Array:
    # Full precision: accelerators would round the factors, and distances cancel.
    return jnp.matmul(x, y.T, precision="highest")


def squared_distances(
    norms_x: jax.Array, norms_y: jax.Array, products: jax.Array, terms: int
) -> jax.Array:
    """|x - y|^2 = |x|^2 + |y|^2 - 2 x . y of all pairs, 0 within the rounding error.

    Args:
      norms_x: [A] squared norms.
      norms_y: [B] squared norms.
      products: [A, B] inner products.
      terms: number of terms of an inner product.
    """
    total = norms_x[:, None] + norms_y[None]
    squared = total - 2 * products
    precision = jnp.finfo(total.dtype)
    # Twice what copies of an item of 2 to 8,192 numbers were found to be apart.
    error = jnp.maximum(precision.eps * terms**0.5 * total, precision.tiny)
    return jnp.where(squared > error, squared, 0)
