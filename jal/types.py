"""The contracts: what a learner, a proposal and a strategy are, and what they exchange.

Letters used for shapes everywhere in jal: S stochastic passes, N pool, M candidates
of a round, C classes, D features, K picks of a round, B batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Outputs(NamedTuple):
    """What a model tells jal about a batch; fields that are not used stay None.

    Attributes:
      logits: [B, C] unnormalised log-probabilities.
      features: [B, D] penultimate features.
      loss_score: [B] predicted loss, higher = expected to be worse.
      value: [B] output of a regression model (cost models), in the unit of its target.
      member_logits: [B, S, C] logits of each member of an ensemble, whose `logits` are
        the log of the mean probability.
    """

    logits: jax.Array | None = None
    features: jax.Array | None = None
    loss_score: jax.Array | None = None
    value: jax.Array | None = None
    member_logits: jax.Array | None = None

    def need(self, field: str) -> jax.Array:
        """The field of that name, or a ValueError that says it is missing."""
        array = getattr(self, field)
        if array is None:
            given = [
                name for name, value in self._asdict().items() if value is not None
            ]
            raise ValueError(
                f"the model returned no {field}, only {given}; set Outputs({field}=...)"
            )
        return array


class Predictive(NamedTuple):
    """Sufficient statistics of S stochastic predictions over C classes.

    They merge (`jal.predictive.merge`), so passes can be streamed, sharded and
    resumed at the memory of one pass.

    Attributes:
      mean: [..., C] mean probability.
      spread: [..., C] sum over passes of (p - mean)^2 (Welford's M2).
      votes: [..., C] number of passes whose most probable class is c, float.
      mean_entropy: [...] mean over passes of the entropy, in nats.
      count: [] number of passes S, float.
    """

    mean: jax.Array
    spread: jax.Array
    votes: jax.Array
    mean_entropy: jax.Array
    count: jax.Array


class Data(NamedTuple):
    """A pool with its labels, which only the loop's oracle step reads unmasked.

    Attributes:
      x: pytree of [N, ...] inputs.
      y: [N] integer labels or float targets.
      cost: [N] annotation cost in a unit of the caller's choice, > 0, or None.
      test: anything `evaluate` understands, usually a pair (x, y).
    """

    x: Any
    y: jax.Array
    cost: jax.Array | None = None
    test: Any = None


class Pool(NamedTuple):
    """Which items are labelled, in buffers of a fixed size.

    Attributes:
      labeled: [N] bool.
      excluded: [N] bool, items that are never offered.
      order: [capacity] int32, items in the order in which they were labelled; only
        the first `count` are valid.
      count: [] int32.
    """

    labeled: jax.Array
    excluded: jax.Array
    order: jax.Array
    count: jax.Array


class Learner(NamedTuple):
    """A model together with the way it is trained.

    Attributes:
      init: (key) -> variables.
      fit: (key, variables, data, pool) -> (variables, metrics), trained on the items
        `pool.order[:pool.count]` of `data` and on nothing else; metrics is a dict.
      predict: (variables, x [B, ...], key=None) -> Outputs. Without a key the
        prediction is deterministic, with one dropout is on.
    """

    init: Callable[..., Any]
    fit: Callable[..., tuple[Any, dict[str, jax.Array]]]
    predict: Callable[..., Outputs]


class Proposal(NamedTuple):
    """What is on the table in each round: a set of candidates of a fixed size M.

    Attributes:
      init: (key, pool) -> state.
      propose: (key, state, pool) -> (candidates [M] int32, available [M] bool, state).
    """

    init: Callable[..., Any]
    propose: Callable[..., tuple[jax.Array, jax.Array, Any]]


class View(NamedTuple):
    """All that a strategy may look at in one round: a pytree.

    Attributes:
      predict: `jax.tree_util.Partial(learner.predict, variables)`; the variables are
        `view.predict.args[0]`.
      data: the pool, masked: y = -1 (NaN if floating) and cost = NaN wherever an item
        is not labelled, except that cost stays where it is declared known.
      pool: the labelled set.
      candidates: [M] int32 pool indices.
      available: [M] bool, candidates that may be chosen.
      cost: [M] known or predicted cost of the candidates, or None.
    """

    predict: Callable[..., Outputs]
    data: Data
    pool: Pool
    candidates: jax.Array
    available: jax.Array
    cost: jax.Array | None = None

    def items(self, indices: jax.Array) -> Any:
        """The inputs [B, ...] of some items, by their pool indices [B]."""
        return jax.tree.map(lambda leaf: leaf[indices], self.data.x)


class Picks(NamedTuple):
    """What a strategy chose.

    Attributes:
      indices: [K] int32 distinct available pool indices, -1 where fewer than K items
        were available.
      scores: [M], higher = label it; or None where a strategy scores no candidates.
    """

    indices: jax.Array
    scores: jax.Array | None = None


class Strategy(NamedTuple):
    """A rule that picks K of the candidates.

    Attributes:
      init: (key, data, pool) -> state, with `data` masked as in `View`.
      select: (key, state, view, k) -> (Picks, state); learned strategies train
        inside.
    """

    init: Callable[..., Any]
    select: Callable[..., tuple[Picks, Any]]
