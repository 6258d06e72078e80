"""One round: fit, price, choose; shared by the scan, sessions with people and MCAL.

The three take finished keys. What is masked, which buffers there are and which answers
are still open is the business of whoever calls them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jal import predictive
from jal._core import numerics
from jal.types import Data, Learner, Picks, Pool, Proposal, Strategy, View

# What a round's key is used for: fold_in(fold_in(key, round), purpose). With one key
# all strategies share the initial set, the candidates and the learner's seeds.
INITIAL, PROPOSAL, FIT, STRATEGY, COST = range(5)


def round_key(key: jax.Array, round_number: int | jax.Array, purpose: int) -> jax.Array:
    """The key of one purpose in one round.

    Args:
      key: the run's key.
      round_number: [] from 0.
      purpose: INITIAL, PROPOSAL, FIT, STRATEGY or COST.

    Returns:
      fold_in(fold_in(key, round_number), purpose).

    >>> round_key(jax.random.key(0), 0, INITIAL).shape
    ()
    """
    return jax.random.fold_in(jax.random.fold_in(key, round_number), purpose)


class Carried(NamedTuple):
    """What one round hands to the next, beside the labelled set.

    Attributes:
      variables: of the learner.
      cost_variables: of the cost learner, or ().
      strategy: state of the strategy.
      proposal: state of the proposal.
    """

    variables: Any
    cost_variables: Any
    strategy: Any
    proposal: Any


def start(
    key: jax.Array,
    learner: Learner,
    strategy: Strategy,
    propose: Proposal,
    cost: Learner | None,
    data: Data,
    pool: Pool,
) -> Carried:
    """What the first round begins with.

    Args:
      key: [] the run's key; with keys of its own for each part, beside that of the
        initial set and those of round 0.
      learner: what is trained.
      strategy: what chooses.
      propose: what is on the table.
      cost: what learns the costs, or None.
      data: masked, N items.
      pool: the labelled set.

    Returns:
      `Carried`.

    >>> from jal import pool, strategies
    >>> learner = Learner(lambda key: 1.0, print, print)
    >>> data = Data(x=jnp.zeros((5, 1)), y=jnp.full(5, -1))
    >>> parts = learner, strategies.random(), pool.everything(), None
    >>> start(jax.random.key(0), *parts, data, pool.create(5, capacity=2)).variables
    1.0
    """
    of = functools.partial(round_key, round_key(key, 0, INITIAL), 0)
    return Carried(
        learner.init(of(FIT)),
        () if cost is None else cost.init(of(COST)),
        strategy.init(of(STRATEGY), data, pool),
        propose.init(of(PROPOSAL), pool),
    )


def fit(
    key: jax.Array, learner: Learner, variables: Any, data: Data, pool: Pool
) -> tuple[jax.tree_util.Partial, dict[str, jax.Array]]:
    """Trains on the labelled items.

    Args:
      key: PRNG key.
      learner: what is trained.
      variables: that it goes on from.
      data: masked, N items.
      pool: the labelled set.

    Returns:
      `Partial(learner.predict, variables)` of the new variables, which are `args[0]` of
      it, and the learner's metrics.

    >>> learner = Learner(print, lambda key, v, data, pool: (v + 1, {}), print)
    >>> fit(jax.random.key(0), learner, 1, None, None)[0].args
    (2,)
    """
    variables, metrics = learner.fit(key, variables, data, pool)
    return jax.tree_util.Partial(learner.predict, variables), metrics


def price(
    key: jax.Array,
    cost: Learner,
    variables: Any,
    x: Any,
    costs: jax.Array,
    pool: Pool,
    candidates: jax.Array,
    *,
    batch_size: int | None = None,
) -> tuple[Any, jax.Array]:
    """Learns what a label costs from those bought, and predicts it for candidates.

    Args:
      key: PRNG key.
      cost: what learns it.
      variables: that it goes on from.
      x: pytree of [N, ...] inputs.
      costs: [N] what each label took, in the caller's unit; NaN where it is not known.
      pool: the items whose cost is known.
      candidates: [M] pool indices.
      batch_size: items predicted at a time, or None for all of them.

    Returns:
      Its new variables, and the predicted costs [M] in the unit of `costs`.

    >>> from jal.types import Outputs
    >>> mean = Learner(
    ...     print,
    ...     lambda key, v, data, pool: (jnp.nanmean(data.y), {}),
    ...     lambda v, x: Outputs(value=jnp.full(len(x), v)),
    ... )
    >>> x, costs = jnp.zeros((3, 1)), jnp.array([2.0, 4.0, jnp.nan])
    >>> price(jax.random.key(0), mean, (), x, costs, None, jnp.array([2]))[1].tolist()
    [3.0]
    """
    predict, _ = fit(key, cost, variables, Data(x, costs), pool)
    rows = numerics.take_rows(x, candidates)
    outputs = predictive.predict_items(predict, rows, batch_size)
    return predict.args[0], outputs.need("value")


def choose(
    key: jax.Array, strategy: Strategy, state: Any, view: View, k: int
) -> tuple[Picks, Any, dict[str, jax.Array]]:
    """Lets a strategy pick, and counts what it had to pick from.

    Args:
      key: PRNG key.
      strategy: what chooses.
      state: of it.
      view: what it may look at, M candidates.
      k: K, how many.

    Returns:
      `Picks` of [K], the new state, and the counts [] `num_available` and `num_nan`,
      available candidates whose score was NaN.

    Raises:
      ValueError: there are fewer than K candidates.

    >>> from jal import strategies
    >>> view = View(print, None, None, jnp.array([7, 9]), jnp.array([False, True]))
    >>> picks, _, _ = choose(jax.random.key(0), strategies.random(), (), view, 2)
    >>> picks.indices.tolist()
    [9, -1]
    """
    number = view.candidates.shape[0]
    if k > number:
        raise ValueError(
            f"k={k}, but a round has only {number} candidates; lower k or propose more"
        )
    picks, state = strategy.select(key, state, view, k)
    num_nan = jnp.zeros((), jnp.int32)
    if picks.scores is not None:
        is_nan = jnp.isnan(picks.scores) & view.available
        num_nan = jnp.sum(is_nan, dtype=jnp.int32)
    num_available = jnp.sum(view.available, dtype=jnp.int32)
    return picks, state, {"num_available": num_available, "num_nan": num_nan}
