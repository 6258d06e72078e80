"""Stochastic predictions, reduced to statistics that merge.

The part of a network before its first dropout does not depend on the key. `vmap` over
keys does not batch it, so it runs once however many passes are asked for.
"""

import functools
import math
import operator
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jal._core import numerics
from jal.types import Outputs, Predictive

# Passes computed at a time: enough to fill a matrix multiplication, few enough that
# memory stays that of this many passes whatever S is.
PASSES_AT_A_TIME = 20
# Passes summarised at a time, and the numbers they may hold to stay in a cache.
SUMMED_AT_A_TIME = 10
CACHED = 500_000


def summarize(logits: jax.Array) -> Predictive:
    """Reduces S predictions to their sufficient statistics.

    Args:
      logits: [S, ..., C] unnormalised log-probabilities or log-probabilities; -inf is
        allowed (probability 0). Normalised here.

    Returns:
      `Predictive` over the first axis, with shapes [..., C] and [...].

    >>> p = jnp.array([[[0.75, 0.25]], [[0.25, 0.75]]])
    >>> print(summarize(jnp.log(p)).mean)
    [[0.5 0.5]]

    Reference: Welford, "Note on a method for calculating corrected sums of squares
    and products", 1962.
    """
    if logits.ndim < 2:
        raise ValueError(
            f"logits has shape {logits.shape}; expected [S, ..., C], S passes first, "
            "C classes last (add an axis: logits[None] for a single pass)"
        )
    # A group at a time is read from memory once; all at once, once for each statistic.
    per_pass = max(1, math.prod(logits.shape[1:]))
    size = min(max(1, CACHED // per_pass), SUMMED_AT_A_TIME)
    groups, rest = divmod(logits.shape[0], size)
    if groups + (rest > 0) == 1:
        return _summarize_few(logits)
    # Without a rest nothing is cut off, and so nothing is copied.
    whole = logits[: groups * size] if rest else logits
    few = _summarize_few
    if size > 1:
        whole = whole.reshape(groups, size, *logits.shape[1:])
    else:  # groups of one, cut out by the scan: half the time of [S, 1, ...]
        few = lambda logits: _summarize_few(logits[None])
    shapes = jax.eval_shape(few, whole[0])
    empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    start = _summarize_few(logits[groups * size :]) if rest else empty
    add = lambda total, group: (merge(total, few(group)), None)
    return jax.lax.scan(add, start, whole)[0]


def merge(a: Predictive, b: Predictive) -> Predictive:
    """Statistics of the union of two sets of passes over the same items.

    Associative, and `merge(summarize(x), summarize(y))` is `summarize` of x and y
    concatenated along S.

    Args:
      a: statistics over items [...] and C classes.
      b: the same shapes.

    Returns:
      `Predictive` of a.count + b.count passes.

    >>> x = jnp.log(jnp.array([[[0.9, 0.1]], [[0.5, 0.5]]]))
    >>> float(merge(summarize(x[:1]), summarize(x[1:])).count)
    2.0

    Reference: Chan, Golub and LeVeque, 1979, eq. 2.1 (see `numerics.merge_moments`).
    """
    chex.assert_equal_shape([a.mean, b.mean])
    count, mean, spread = numerics.merge_moments(
        a.count, a.mean, a.spread, b.count, b.mean, b.spread
    )
    share_b = b.count / jnp.maximum(count, 1)
    entropy = a.mean_entropy + (b.mean_entropy - a.mean_entropy) * share_b
    return Predictive(mean, spread, a.votes + b.votes, entropy, count)


def predict_passes(
    predict: Callable[..., Outputs],
    key: jax.Array,
    x: jax.Array,
    num_samples: int,
    *,
    masks: str = "shared",
    indices: jax.Array | None = None,
    batch_size: int | None = None,
) -> Predictive:
    """Statistics of `num_samples` stochastic passes of a network (MC dropout).

    Passes are computed `PASSES_AT_A_TIME` at a time, so memory does not grow with S.

    Args:
      predict: (x [B, ...], key) -> Outputs with `logits` [B, C].
      key: PRNG key; pass s uses `fold_in(key, s)`.
      x: pytree of [B, ...] inputs.
      num_samples: S >= 1.
      masks: "shared" draws one dropout mask a pass for all items (consistent MC
        dropout); "independent" draws one for each item from its pool index.
      indices: [B] pool indices of the items, required by "independent" masks, so
        that the draw does not depend on how the pool is cut.
      batch_size: items processed at a time, or None for all of them.

    Returns:
      `Predictive` with shapes [B, C] and [B].

    Raises:
      ValueError: num_samples < 1, unknown masks, or indices missing.

    >>> predict = lambda x, key: Outputs(logits=x * jax.random.normal(key, (2,))[None])
    >>> key = jax.random.key(0)
    >>> predict_passes(predict, key, jnp.ones((3, 2)), 8).mean.shape
    (3, 2)

    Reference: Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016; shared
    masks: Kirsch, van Amersfoort and Gal, "BatchBALD", 2019, section 3.3.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}; at least one pass is needed")
    one_pass = _pass_function(predict, masks, indices)
    num_items = jax.tree.leaves(x)[0].shape[0]
    if indices is None:
        indices = jnp.arange(num_items, dtype=jnp.int32)

    def of_items(x, indices):
        def of_passes(passes):
            keys = jax.vmap(lambda s: jax.random.fold_in(key, s))(passes)
            return summarize(jax.vmap(lambda key: one_pass(key, x, indices))(keys))

        return _merge_over_passes(of_passes, num_samples)

    return _over_items(of_items, (x, indices), num_items, batch_size)


def log_prob_passes(
    predict: Callable[..., Outputs],
    key: jax.Array,
    x: jax.Array,
    num_samples: int,
    *,
    masks: str = "shared",
    indices: jax.Array | None = None,
) -> jax.Array:
    """Log-probabilities of every pass, for methods that need joint predictions.

    Args:
      predict: as in `predict_passes`, with the same keys and so the same passes.
      key: PRNG key.
      x: pytree of [B, ...] inputs.
      num_samples: S >= 1.
      masks: as in `predict_passes`; joint predictions only make sense with "shared".
      indices: as in `predict_passes`.

    Returns:
      [S, B, C] normalised log-probabilities; memory grows with S.

    Raises:
      ValueError: num_samples < 1, unknown masks, or indices missing.

    >>> predict = lambda x, key: Outputs(logits=x * jax.random.normal(key, (2,))[None])
    >>> log_prob_passes(predict, jax.random.key(0), jnp.ones((3, 2)), 8).shape
    (8, 3, 2)

    Reference: Kirsch, van Amersfoort and Gal, "BatchBALD", 2019.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}; at least one pass is needed")
    one_pass = _pass_function(predict, masks, indices)
    keys = jax.vmap(lambda s: jax.random.fold_in(key, s))(jnp.arange(num_samples))
    logits = jax.vmap(lambda key: one_pass(key, x, indices))(keys)
    return jax.nn.log_softmax(logits, axis=-1)


def predict_members(
    predict: Callable[..., Outputs], stacked_variables, x: jax.Array
) -> Predictive:
    """Statistics of the predictions of an ensemble (deep ensembles).

    Args:
      predict: (variables, x [B, ...]) -> Outputs with `logits` [B, C].
      stacked_variables: pytree whose leaves have a leading axis of S members.
      x: pytree of [B, ...] inputs.

    Returns:
      `Predictive` over the members, with shapes [B, C] and [B].

    >>> predict = lambda weights, x: Outputs(logits=x @ weights)
    >>> predict_members(predict, jnp.ones((5, 4, 3)), jnp.ones((2, 4))).mean.shape
    (2, 3)

    Reference: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive
    uncertainty estimation using deep ensembles", 2017.
    """
    num_members = jax.tree.leaves(stacked_variables)[0].shape[0]

    def of_member(number):
        variables = jax.tree.map(lambda leaf: leaf[number], stacked_variables)
        return predict(variables, x).need("logits")

    of_members = lambda numbers: summarize(jax.lax.map(of_member, numbers))
    return _merge_over_passes(of_members, num_members)


def predict_items(
    predict: Callable[..., Outputs], x: jax.Array, batch_size: int | None = None
) -> Outputs:
    """Deterministic predictions, of some items at a time.

    Args:
      predict: (x [B, ...]) -> `Outputs`.
      x: pytree of [B, ...] inputs.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      `Outputs` whose fields start with [B].

    Raises:
      ValueError: batch_size is below 1.

    >>> predict = lambda x: Outputs(value=2 * x[:, 0])
    >>> predict_items(predict, jnp.array([[2.0], [0.0]]), batch_size=1).value.tolist()
    [4.0, 0.0]
    """
    if batch_size is None:
        return predict(x)
    check_batch_size(batch_size)

    def of_item(item):
        outputs = predict(jax.tree.map(lambda leaf: leaf[None], item))
        return jax.tree.map(lambda leaf: leaf[0], outputs)

    return jax.lax.map(of_item, x, batch_size=batch_size)


def check_batch_size(batch_size: int | None) -> None:
    """Checks how many items are to be predicted at a time.

    Args:
      batch_size: at least 1, or None for all of them.

    Raises:
      ValueError: it is below 1.

    >>> check_batch_size(0)
    Traceback (most recent call last):
    ValueError: batch_size=0; it must be at least 1, or None
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; it must be at least 1, or None")


def _summarize_few(logits: jax.Array) -> Predictive:
    """`summarize` in one pass over memory, for a small number of passes."""
    # XLA's own sum over a leading axis goes through memory again.
    add_up = lambda values: functools.reduce(operator.add, list(values))
    num_samples, num_classes = logits.shape[0], logits.shape[-1]
    highest = jnp.max(logits, axis=-1, keepdims=True)
    shifted = logits - highest
    weights = jnp.exp(shifted)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    p = weights * (1 / total)
    # ln total - sum p_c ln weight_c, with 0 ln 0 = 0
    surprise = jnp.sum(jnp.where(weights > 0, weights * shifted, 0), axis=-1)
    entropy = jnp.log(total[..., 0]) - surprise / total[..., 0]
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    modes = jnp.where(shifted == 0, classes, num_classes)
    votes = classes == jnp.min(modes, axis=-1, keepdims=True)
    # NaN stays NaN: a comparison alone would say that there is no vote.
    votes = votes.astype(p.dtype) + (highest - highest)
    mean = add_up(p) / num_samples
    return Predictive(
        mean=mean,
        spread=add_up(jnp.square(p - mean[None])),
        votes=add_up(votes),
        mean_entropy=add_up(jnp.maximum(entropy, 0)) / num_samples,
        count=jnp.asarray(num_samples, p.dtype),
    )


def _pass_function(predict, masks, indices):
    """(key, x, indices) -> logits [B, C] of one pass."""
    if masks not in ("shared", "independent"):
        raise ValueError(f'masks={masks!r}; allowed are "shared" and "independent"')
    if masks == "independent" and indices is None:
        raise ValueError(
            'masks="independent" needs indices, the [B] pool indices of the items in x'
        )

    def of_item(key, item, index):
        if masks == "independent":
            key = jax.random.fold_in(key, index)
        item = jax.tree.map(lambda leaf: leaf[None], item)
        return predict(item, key).need("logits")[0]

    if masks == "shared":  # vmap with an unbatched key: the mask is drawn once
        return lambda key, x, _: jax.vmap(lambda item: of_item(key, item, None))(x)
    return lambda key, x, index: jax.vmap(lambda i, j: of_item(key, i, j))(x, index)


def _merge_over_passes(of_passes, num_samples):
    """Merges `of_passes(pass numbers)` over groups of passes, the last one smaller."""
    # Groups of one size need one compiled body; a last smaller one needs another.
    divisors = range(PASSES_AT_A_TIME, PASSES_AT_A_TIME // 2 - 1, -1)
    size = next((d for d in divisors if num_samples % d == 0), PASSES_AT_A_TIME)
    groups, rest = divmod(num_samples, size)
    if groups <= 1:
        total = of_passes(jnp.arange(size if groups else num_samples))
    else:
        passes = jnp.arange(groups * size).reshape(groups, size)
        shapes = jax.eval_shape(of_passes, passes[0])
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(
            lambda total, group: (merge(total, of_passes(group)), None), empty, passes
        )
    if groups and rest:
        total = merge(total, of_passes(groups * size + jnp.arange(rest)))
    return total


def _over_items(function, items, num_items, batch_size):
    """Applies `function` to all items, or to `batch_size` of them at a time."""
    if batch_size is None or batch_size >= num_items:
        return function(*items)
    check_batch_size(batch_size)
    chunks = -(-num_items // batch_size)
    # The last chunk is filled up with the first items, and cut afterwards.
    take = jnp.arange(chunks * batch_size).reshape(chunks, batch_size) % num_items
    stacked = jax.lax.map(
        lambda rows: function(*jax.tree.map(lambda leaf: leaf[rows], items)), take
    )
    flat = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_items]
    fields = {
        name: leaf[0] if name == "count" else flat(leaf)
        for name, leaf in stacked._asdict().items()
    }
    return Predictive(**fields)
