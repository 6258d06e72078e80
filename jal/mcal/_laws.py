"""How a model's error falls with the number of labels: profiles, laws and bounds.

The error of the most confident share theta of a pool is measured on a test set, and
followed over training sizes by a truncated power law for each theta. Theta letters:
Q the number of thetas, R rounds, G sizes of a grid.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class ErrorLaw(NamedTuple):
    """Truncated power laws eps(B) = alpha B^-gamma exp(-kappa B), one for each theta.

    Attributes:
      log_alpha: [Q], +inf where there was nothing to fit.
      gamma: [Q] >= 0.
      kappa: [Q] >= 0, one over the size at which errors begin to fall exponentially; 0
        is the plain power law.
    """

    log_alpha: jax.Array
    gamma: jax.Array
    kappa: jax.Array


def error_profile(
    margin: jax.Array, correct: jax.Array, shares: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Counts the errors among the most confident items of a test set.

    n = round(share * number of items); e = errors among the n items of largest margin.
    Ties go to the lower index, NaN margins last.

    Args:
      margin: [n] confidence in each test item, usually p_1 - p_2.
      correct: [n] bool, whether the prediction is right.
      shares: [Q] of the test set.

    Returns:
      counts [Q] int32, 0 where the share is above 1 or of less than one item, and
      errors [Q] int32.

    >>> margin = jnp.array([0.9, 0.1, 0.5, 0.7])
    >>> correct = jnp.array([True, False, False, True])
    >>> counts, errors = error_profile(margin, correct, jnp.array([0.5, 1.0, 1.2]))
    >>> counts.tolist(), errors.tolist()
    ([2, 4, 0], [0, 2, 0])

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1, lines 4 to 6.
    """
    chex.assert_rank([margin, correct, shares], 1)
    chex.assert_equal_shape([margin, correct])
    num_items = margin.shape[0]
    falling = jnp.argsort(-jnp.where(jnp.isnan(margin), -jnp.inf, margin))
    errors = jnp.cumsum(~correct[falling], dtype=jnp.int32)
    counts = jnp.round(shares * num_items).astype(jnp.int32)
    counts = jnp.where(counts <= num_items, counts, 0)
    return counts, jnp.where(counts > 0, errors[counts - 1], 0)


def error_rates(counts: jax.Array, errors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Error rates, positive ones so that they have logarithms, and their weights.

    rate = e / n, or (e + 1/2) / (n + 1) where e = 0; weight = e + 1/2, as the variance
    of the logarithm of a binomial rate is about 1 / e.

    Args:
      counts: [...] n, items; 0 where nothing was measured.
      errors: [...] e, of them.

    Returns:
      rate [...], NaN where nothing was measured, and weight [...], 0 there.

    >>> rate, weight = error_rates(jnp.array([9, 10, 0]), jnp.array([0, 2, 0]))
    >>> rate.round(3).tolist(), weight.tolist()
    ([0.05000000074505806, 0.20000000298023224, nan], [0.5, 2.5, 0.0])
    """
    measured = counts > 0
    number = counts.astype(jnp.result_type(float))
    found = errors.astype(number.dtype)
    rate = jnp.where(errors > 0, found / jnp.maximum(number, 1), 0.5 / (number + 1))
    return jnp.where(measured, rate, jnp.nan), jnp.where(measured, found + 0.5, 0.0)


def upper_bound(rate: jax.Array, counts: jax.Array, *, z: float) -> jax.Array:
    """Upper end of Wilson's interval of a binomial rate.

    (p + z^2 / 2n + z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Args:
      rate: [...] p, errors over items.
      counts: [...] n, items; may be fractional.
      z: quantile of the normal distribution, 1.645 for an interval of 90 %.

    Returns:
      [...], NaN where counts is 0.

    >>> upper_bound(jnp.array(0.05), jnp.array(100), z=1.645).round(4).item()
    0.09919999539852142

    Reference: Wilson, "Probable inference, the law of succession, and statistical
    inference", 1927.
    """
    number = jnp.asarray(counts, jnp.result_type(float))
    rate = jnp.clip(rate, 0, 1)
    spread = jnp.sqrt(rate * (1 - rate) / number + z**2 / (4 * number**2))
    bound = (rate + z**2 / (2 * number) + z * spread) / (1 + z**2 / number)
    return jnp.where(number > 0, bound, jnp.nan)


def fit_law(
    sizes: jax.Array,
    rate: jax.Array,
    weight: jax.Array | None = None,
    *,
    truncated: bool = True,
) -> ErrorLaw:
    """Fits the law of each theta, by weighted non-negative least squares of logarithms.

    min sum_r w_r (ln eps_r - ln alpha + gamma ln B_r + kappa B_r)^2 with gamma, kappa
    >= 0, in closed form: the solution with both, or the better of those with one. Laws
    of fewer than three points have kappa = 0, of fewer than two also gamma = 0.

    Args:
      sizes: [R] B > 0, training sizes; some may be equal.
      rate: [R, Q] errors > 0.
      weight: [R, Q] >= 0; points of weight 0, or with a NaN rate, do not count. None:
        1 each.
      truncated: whether kappa is fitted; otherwise it is 0.

    Returns:
      `ErrorLaw`.

    >>> sizes = jnp.array([500.0, 1000.0, 2000.0, 4000.0])
    >>> law = fit_law(sizes, (5 * sizes**-0.5 * jnp.exp(-sizes / 20_000))[:, None])
    >>> [round(float(value[0]), 3) for value in law]
    [1.609, 0.5, 0.0]

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, eq. 2.
    """
    chex.assert_rank([sizes, rate], [1, 2])
    chex.assert_equal_shape_prefix([sizes, rate], 1)
    weight = jnp.ones_like(rate) if weight is None else weight
    chex.assert_equal_shape([rate, weight])
    of_theta = lambda rate, weight: _fit_one(sizes, rate, weight, truncated)
    return jax.vmap(of_theta, in_axes=1)(rate, weight)


def _fit_one(sizes, rate, weight, truncated: bool) -> ErrorLaw:
    usable = (weight > 0) & (rate > 0) & jnp.isfinite(rate)
    weight = jnp.where(usable, weight, 0)
    weight = weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny)
    # Both regressors of the order of 1, and centred, so that float32 is enough.
    scale = jnp.max(sizes)
    log_size, size = jnp.log(sizes / scale), sizes / scale
    log_rate = jnp.where(usable, jnp.log(jnp.where(usable, rate, 1)), 0)
    mean = lambda values: jnp.sum(weight * values)
    u, v, y = (values - mean(values) for values in (log_size, size, log_rate))
    uu, uv, vv, uy, vy = mean(u * u), mean(u * v), mean(v * v), mean(u * y), mean(v * y)
    # Points of one size cannot tell the regressors from the constant.
    spread = 1e-6
    points = jnp.sum(usable)
    has_two, has_three = points >= 2, (points >= 3) & truncated
    over = lambda a, b: jnp.where(b > spread**2, a / jnp.where(b > spread**2, b, 1), 0)
    gamma_alone = jnp.where(has_two, jnp.maximum(over(-uy, uu), 0), 0)
    kappa_alone = jnp.where(has_three, jnp.maximum(over(-vy, vv), 0), 0)
    determinant = uu * vv - uv * uv
    is_regular = has_three & (determinant > spread * uu * vv)
    safe = jnp.where(is_regular, determinant, 1)
    gamma, kappa = (uv * vy - vv * uy) / safe, (uv * uy - uu * vy) / safe
    both = is_regular & (gamma >= 0) & (kappa >= 0)
    # What each alone takes from the sum of squares.
    power_is_better = gamma_alone**2 * uu >= kappa_alone**2 * vv
    gamma = jnp.where(both, gamma, jnp.where(power_is_better, gamma_alone, 0))
    kappa = jnp.where(both, kappa, jnp.where(power_is_better, 0, kappa_alone))
    constant = mean(log_rate) + gamma * mean(log_size) + kappa * mean(size)
    log_alpha = constant + gamma * jnp.log(scale)
    return ErrorLaw(jnp.where(points > 0, log_alpha, jnp.inf), gamma, kappa / scale)


def predict_errors(law: ErrorLaw, sizes: jax.Array) -> jax.Array:
    """The errors that the laws predict.

    Args:
      law: of Q thetas.
      sizes: [G] B > 0.

    Returns:
      [G, Q] alpha B^-gamma exp(-kappa B), +inf where there is no law.

    >>> law = ErrorLaw(jnp.log(jnp.array([5.0])), jnp.array([0.5]), jnp.array([0.0]))
    >>> predict_errors(law, jnp.array([100.0])).round(3).tolist()
    [[0.5]]

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, eq. 2.
    """
    chex.assert_rank(sizes, 1)
    sizes = sizes[:, None]
    row = lambda values: values[None]
    falls = row(law.gamma) * jnp.log(sizes) + row(law.kappa) * sizes
    return jnp.exp(row(law.log_alpha) - falls)


def rising(rate: jax.Array) -> jax.Array:
    """The nearest errors that do not fall as theta grows: isotonic regression.

    max over j <= q of min over k >= q of the mean of rate[j..k].

    Args:
      rate: [..., Q] errors by rising theta, +inf where unknown.

    Returns:
      [..., Q].

    >>> rising(jnp.array([0.1, 0.3, 0.2, jnp.inf])).round(3).tolist()
    [0.10000000149011612, 0.25, 0.25, inf]

    Reference: Barlow, Bartholomew, Bremner and Brunk, "Statistical inference under
    order restrictions", 1972, section 1.2.
    """
    number = rate.shape[-1]
    known = jnp.isfinite(rate)
    start = lambda values: jnp.concatenate(
        [jnp.zeros((*rate.shape[:-1], 1), values.dtype), jnp.cumsum(values, -1)], -1
    )
    sums, unknown = start(jnp.where(known, rate, 0)), start((~known).astype(jnp.int32))
    # Over j and k: of the entries j, ..., k.
    between = lambda values: values[..., None, 1:] - values[..., :-1, None]
    first = jnp.arange(number)[:, None]
    last = jnp.arange(number)[None]
    length = jnp.maximum(last - first + 1, 1).reshape(
        (1,) * (rate.ndim - 1) + (number, number)
    )
    mean = jnp.where(between(unknown) > 0, jnp.inf, between(sums) / length)
    after = jax.lax.cummin(mean, axis=mean.ndim - 1, reverse=True)
    allowed = (first <= last).reshape(length.shape)
    return jnp.max(jnp.where(allowed, after, -jnp.inf), axis=-2)
