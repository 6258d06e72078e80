"""Batches that tell most about the model together: BatchBALD.

The labels of b items have C^b configurations. While these are few, all are looked at;
afterwards some are drawn. Either way a configuration is a row of S log-likelihoods,
and what one more item would tell is a matrix multiplication: posterior weights of the
passes times the probabilities of the items.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jal._core import numerics


class Blocks(NamedTuple):
    """How much is computed at a time: what stays in a processor's cache.

    Attributes:
      configurations: whose posteriors are multiplied by probabilities.
      probabilities: of items, by which they are multiplied.
      log_likelihoods: that `joint_mutual_information` adds up.
    """

    configurations: int
    probabilities: int
    log_likelihoods: int


BLOCKS = Blocks(configurations=128, probabilities=4096, log_likelihoods=2**20)


def batch_bald(
    key: jax.Array,
    log_probs: jax.Array,
    k: int,
    *,
    num_configurations: int,
    available: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Greedily picks the K items whose labels tell most about the model together.

    Next = argmax over the items i left of I(y_i; w | y_1..y_b), the mean over the
    configurations m of the labels y_1..y_b of the picks so far, of weight q_m, of

      H(sum_s W_ms p_si) - sum_s W_ms H(p_si),   W_ms = p(y_m | s) / sum_t p(y_m | t).

    All C^b configurations with q_m = p(y_m) while they are at most
    `num_configurations`; afterwards that many of weight 1 / num_configurations, drawn
    from the joint predictive distribution with passes in equal numbers. The same ones
    are used for all items and, with one label more, for the picks that follow. Both
    terms of the difference are taken over the same configurations, so that it is never
    negative, and less noisy than with the mean of the second over all passes, which is
    the same in expectation.

    Time is proportional to K * num_configurations * S * N * C. Memory is that of a
    second `log_probs`, of a few arrays [num_configurations, S], and 8 MB.

    Args:
      key: PRNG key, consumed.
      log_probs: [S, N, C] log-probabilities or logits of S passes, each pass with one
        model (one dropout mask) for all items; -inf is allowed (probability 0).
        Normalised here. An item with NaN in any pass is never picked.
      k: K, static, 0 <= K <= N.
      num_configurations: static, >= 1.
      available: [N] bool, items that may be picked; None for all.

    Returns:
      [K] int32 distinct positions in the order picked, -1 beyond what is available, and
      [K] the joint mutual information I(y_1..y_b; w) of the first b = 1..K picks in
      nats, NaN beyond what is available. It never falls. Where configurations are
      drawn it is the estimate that the pick was chosen for, and so a little too high;
      `joint_mutual_information` with another key is not.

    Raises:
      ValueError: if `k` is not an integer in [0, N] or `num_configurations` is not one
        >= 1.

    >>> p = jnp.array([0.9, 0.1, 0.1, 0.9])  # of class 0 in four passes
    >>> p = jnp.stack([p, p, jnp.array([0.2, 0.8, 0.2, 0.8])], axis=1)
    >>> p = jnp.stack([p, 1 - p], axis=2)
    >>> positions, scores = batch_bald(
    ...     jax.random.key(0), jnp.log(p), 2, num_configurations=100
    ... )
    >>> positions.tolist(), [round(float(score), 3) for score in scores]
    ([0, 2], [0.368, 0.561])

    Reference: Kirsch, van Amersfoort and Gal, "BatchBALD: efficient and diverse batch
    acquisition for deep Bayesian active learning", 2019, algorithm 1.
    """
    log_probs = _checked(log_probs, num_configurations)
    available = numerics.checked_available(k, log_probs.shape[1], available)
    if k == 0:
        return jnp.zeros(0, jnp.int32), jnp.zeros(0, log_probs.dtype)
    sizes = dict(k=int(k), num_configurations=int(num_configurations))
    return _batch_bald(key, log_probs, available, **sizes, blocks=BLOCKS)


# Compiled, because each call outside of jit would compile the loops in it anew.
@functools.partial(jax.jit, static_argnames=("k", "num_configurations", "blocks"))
def _batch_bald(key, log_probs, available, *, k, num_configurations, blocks):
    p = jax.nn.softmax(log_probs, axis=2)
    num_passes, n, num_classes = p.shape
    available &= ~jnp.any(jnp.isnan(p), axis=(0, 2))
    p = jnp.where(available[None, :, None], p, 0)
    entropies = -jnp.sum(_x_log_x(p), axis=2)

    # Rows for all configurations while these are few enough, and for those drawn.
    sizes = [1]
    for _ in range(1, k):
        sizes.append(min(sizes[-1] * num_classes, num_configurations + 1))
    block = min(blocks.configurations, num_configurations)
    rows = jnp.arange(-(-num_configurations // block) * block, dtype=jnp.int32)
    pass_key, label_key = jax.random.split(key)
    shift = jax.random.randint(pass_key, (), 0, num_passes, jnp.int32)
    passes = (rows + shift) % num_passes

    def pick(number, state):
        positions, scores, left, score, every, drawn = state
        size = jnp.asarray(sizes)[number]
        exact = size <= num_configurations
        size = jnp.where(exact, size, num_configurations)
        log_likelihood = jnp.where(exact, every, drawn)
        posterior, evidence = _posterior(log_likelihood)
        weights = jnp.where(exact, evidence / num_passes, 1 / num_configurations)
        weights = jnp.where(rows < size, weights, 0)

        known = _products(_products(weights[None], posterior), entropies)[0]
        predicted = _predicted_entropies(
            weights,
            posterior,
            p,
            num_blocks=-(-size // block),
            block=block,
            width=blocks.probabilities,
        )
        gains = jnp.maximum(predicted - known, 0)
        best = jnp.argmax(jnp.where(left, gains, -1)).astype(jnp.int32)
        score += gains[best]

        # Of each drawn configuration, the new label is drawn from the pass that the
        # others came from: still a draw from the joint distribution.
        of_class = jnp.log(p[:, best]).T
        chances = of_class.T[passes]
        labels = jax.random.categorical(jax.random.fold_in(label_key, number), chances)
        return (
            positions.at[number].set(best),
            scores.at[number].set(score),
            left.at[best].set(False),
            score,
            every[rows // num_classes] + of_class[rows % num_classes],
            drawn + of_class[labels],
        )

    nothing_known = jnp.zeros((rows.size, num_passes), p.dtype)
    start = (
        jnp.full(k, -1, jnp.int32),
        jnp.full(k, jnp.nan, p.dtype),
        available,
        jnp.zeros((), p.dtype),
        nothing_known,
        nothing_known,
    )
    limit = jnp.minimum(k, jnp.sum(available, dtype=jnp.int32))
    positions, scores, *_ = jax.lax.fori_loop(0, limit, pick, start)
    return positions, scores


def joint_mutual_information(
    key: jax.Array, log_probs: jax.Array, *, num_configurations: int
) -> tuple[jax.Array, jax.Array]:
    """What the labels of a batch tell about the model together, I(y_1..y_K; w).

    The mean over configurations m of the K labels of the divergence of the posterior
    from the prior,

      ln S + sum_s W_ms ln W_ms,   W_ms = p(y_m | s) / sum_t p(y_m | t),

    over all C^K of them if these are at most `num_configurations`, and otherwise over
    that many, drawn from the joint predictive distribution with passes in equal
    numbers.

    Args:
      key: PRNG key, consumed.
      log_probs: [S, K, C] log-probabilities or logits of S passes; -inf is allowed
        (probability 0). Normalised here.
      num_configurations: static, >= 1.

    Returns:
      [] the estimate in nats, in [0, ln S], and its standard error [], which is 0 if
      all configurations were looked at and otherwise counts the passes as drawn
      independently, a little too large. NaN in `log_probs` makes both NaN.

    Raises:
      ValueError: if `num_configurations` is not an integer >= 1.

    >>> p = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> information, error = joint_mutual_information(
    ...     jax.random.key(0), jnp.log(p), num_configurations=100
    ... )
    >>> round(float(information), 3), float(error)
    (0.693, 0.0)

    Reference: Kirsch, van Amersfoort and Gal, "BatchBALD: efficient and diverse batch
    acquisition for deep Bayesian active learning", 2019.
    """
    log_probs = _checked(log_probs, num_configurations)
    return _joint_mutual_information(
        key, log_probs, num_configurations=int(num_configurations), blocks=BLOCKS
    )


@functools.partial(jax.jit, static_argnames=("num_configurations", "blocks"))
def _joint_mutual_information(key, log_probs, *, num_configurations, blocks):
    log_p = jax.nn.log_softmax(log_probs, axis=2)
    num_passes, k, num_classes = log_p.shape
    exact = num_classes**k <= num_configurations
    count = num_classes**k if exact else num_configurations
    pass_key, label_key = jax.random.split(key)
    shift = jax.random.randint(pass_key, (), 0, num_passes, jnp.int32)
    of_class = jnp.moveaxis(log_p, 0, 2)
    items = jnp.arange(k)

    def information(row):
        if exact:
            labels = row // num_classes**items % num_classes
        else:
            chances = log_p[(row + shift) % num_passes]
            labels = jax.random.categorical(jax.random.fold_in(label_key, row), chances)
        log_likelihood = jnp.sum(of_class[items, labels], axis=0)
        posterior, evidence = _posterior(log_likelihood[None])
        divergence = math.log(num_passes) + jnp.sum(_x_log_x(posterior))
        return jnp.maximum(divergence, 0), evidence[0] / num_passes

    block = max(1, blocks.log_likelihoods // max(1, num_passes * k))
    rows = jnp.arange(count, dtype=jnp.int32)
    divergence, evidence = jax.lax.map(information, rows, batch_size=min(block, count))
    if exact:
        return jnp.sum(evidence * divergence), 0 * jnp.sum(evidence)
    spread = jnp.sum(jnp.square(divergence - jnp.mean(divergence)))
    return jnp.mean(divergence), jnp.sqrt(spread / (count - 1) / count)


def _checked(log_probs: jax.Array, num_configurations: int) -> jax.Array:
    """Checks what both functions are given; returns at least float32."""
    chex.assert_rank(log_probs, 3)
    is_integer = isinstance(num_configurations, (int, np.integer))
    if not is_integer or num_configurations < 1:
        raise ValueError(
            f"num_configurations must be an integer >= 1, got {num_configurations!r}"
        )
    return log_probs.astype(jnp.promote_types(log_probs.dtype, jnp.float32))


def _x_log_x(x: jax.Array) -> jax.Array:
    return x * jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
    # Full precision, which entropies of nearly equal probabilities need.
    return jnp.matmul(x, y, precision="highest")


def _posterior(log_likelihood: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Posterior weights [M, S] of the passes, and [M] the sums of their likelihoods.

    Both are 0 where no pass allows the configuration.
    """
    highest = jnp.max(log_likelihood, axis=1, keepdims=True)
    highest = jnp.where(jnp.isneginf(highest), 0, highest)
    likelihood = jnp.exp(log_likelihood - highest)
    total = jnp.sum(likelihood, axis=1, keepdims=True)
    posterior = likelihood / jnp.where(total == 0, 1, total)
    return posterior, (total * jnp.exp(highest))[:, 0]


def _predicted_entropies(
    weights: jax.Array,
    posterior: jax.Array,
    p: jax.Array,
    *,
    num_blocks: jax.Array,
    block: int,
    width: int,
) -> jax.Array:
    """[N] mean over configurations of the entropy of an item's predicted label.

    Args:
      weights: [M] of the configurations.
      posterior: [M, S] weights of the passes.
      p: [S, N, C] probabilities.
      num_blocks: [] blocks of configurations to look at; the others weigh nothing.
      block: configurations of a block.
      width: about how many probabilities they are multiplied by at a time.
    """
    num_passes, n, num_classes = p.shape
    size = min(n, max(1, width // num_classes))

    def of_items(number, entropies):
        # The last part reaches back into the one before, as slices end within arrays.
        first = number * size
        part = jax.lax.dynamic_slice_in_dim(p, first, size, axis=1)
        part = part.reshape(num_passes, size * num_classes)

        def add(number, total):
            rows = jax.lax.dynamic_slice_in_dim(posterior, number * block, block)
            weight = jax.lax.dynamic_slice_in_dim(weights, number * block, block)
            summands = weight[:, None] * _x_log_x(_products(rows, part))
            return total - jnp.sum(summands, axis=0)

        total = jax.lax.fori_loop(0, num_blocks, add, jnp.zeros_like(part[0]))
        total = jnp.sum(total.reshape(size, num_classes), axis=1)
        return jax.lax.dynamic_update_slice_in_dim(entropies, total, first, axis=0)

    return jax.lax.fori_loop(0, -(-n // size), of_items, jnp.zeros(n, p.dtype))
