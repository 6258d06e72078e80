"""One round of a labelling session: train, predict the costs, choose.

The same as a step of `jal.loop`, but for what people leave open: batches that are not
answered yet, items without a cost, and a round before there is any label.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal import loop
from jal._core.compile import jit
from jal.loop import Carried
from jal.predictive import predict_items
from jal.types import Data, Learner, Picks, Pool, Proposal, Strategy, View

_PREDICTED_AT_ONCE = 500


class Found(NamedTuple):
    """What a round says of the items chosen, and of those that measure accuracy."""

    indices: jax.Array  # [K], -1 where there were no more
    scores: jax.Array  # [K], NaN where there are none
    cost: jax.Array  # [K] predicted, NaN where it is not
    predicted: jax.Array  # [K] class
    confidence: jax.Array  # [K] its probability
    test_predicted: jax.Array  # [n] class
    test_margin: jax.Array  # [n] p_1 - p_2


def pool_of(order: np.ndarray, excluded: np.ndarray) -> Pool:
    """The labelled set, in a buffer whose size is a power of four: few compilations."""
    num_items = len(excluded)
    labeled = np.zeros(num_items, bool)
    labeled[order] = True
    return Pool(
        jnp.asarray(labeled),
        jnp.asarray(excluded & ~labeled),
        padded(order, -1, num_items),
        jnp.asarray(len(order), jnp.int32),
    )


def padded(rows: np.ndarray, fill: int = 0, most: int | None = None) -> jax.Array:
    """Pool indices, filled up to a power of four, but at `most` so many."""
    number = len(rows)
    size = max(64, 4 ** -(-max(number - 1, 0).bit_length() // 2))
    filled = np.full(size if most is None else min(size, most), fill, np.int32)
    filled[:number] = rows
    return jnp.asarray(filled)


def initial(
    key: jax.Array,
    x: Any,
    learner: Learner,
    strategy: Strategy,
    cost_learner: Learner | None,
    propose: Proposal,
) -> Carried:
    """What the first round begins with."""
    num_items = len(jax.tree.leaves(x)[0])
    pool = pool_of(np.zeros(0, np.int64), np.zeros(num_items, bool))
    data = Data(x, jnp.full(num_items, -1, jnp.int32))
    return loop.start(key, learner, strategy, propose, cost_learner, data, pool)


def _jit(*static: str) -> Callable:
    """`jal.jit`, but for options that depend on a backend which is not there yet."""

    def decorate(function):
        compiled = functools.cache(lambda: jit(function, static_argnames=static))

        @functools.wraps(function)
        def call(*arguments, **options):
            return compiled()(*arguments, **options)

        call.compiled = compiled  # type: ignore[attr-defined]
        return call

    return decorate


@_jit("learner")
def predict(
    key: jax.Array,
    number: int | jax.Array,
    data: Data,
    pool: Pool,
    variables: Any,
    *,
    learner: Learner,
) -> jax.Array:
    """Trains as round `number` does; probabilities [N, C] of all items."""
    now = loop.round_key(key, number, loop.FIT)
    trained, _ = loop.fit(now, learner, variables, data, pool)
    logits = predict_items(trained, data.x, _PREDICTED_AT_ONCE).need("logits")
    return jax.nn.softmax(logits)


@_jit("learner", "strategy", "propose", "k")
def choose_first(
    key: jax.Array,
    number: int | jax.Array,
    data: Data,
    pool: Pool,
    *,
    learner: Learner,
    strategy: Strategy,
    propose: Proposal,
    k: int,
) -> tuple[jax.Array, jax.Array]:
    """Indices [K] and scores [K] of a round without a trained model."""
    now = functools.partial(loop.round_key, key, number)
    state = propose.init(now(loop.INITIAL), pool)
    candidates, available, _ = propose.propose(now(loop.PROPOSAL), state, pool)
    untrained = jax.tree_util.Partial(learner.predict, learner.init(now(loop.FIT)))
    view = View(untrained, data, pool, candidates, available)
    state = strategy.init(now(loop.COST), data, pool)
    picks, _, _ = loop.choose(now(loop.STRATEGY), strategy, state, view, k)
    return picks.indices, _scores_of(picks, candidates)


@_jit("learner", "strategy", "cost_learner", "propose", "k", "weighs_cost")
def choose(
    key: jax.Array,
    number: int | jax.Array,
    data: Data,
    pool: Pool,
    cost_pool: Pool,
    carried: Carried,
    tested: jax.Array,
    *,
    learner: Learner,
    strategy: Strategy,
    cost_learner: Learner | None,
    propose: Proposal,
    k: int,
    weighs_cost: bool,
) -> tuple[Carried, Found]:
    """Trains, chooses K items, and predicts those and the items `tested` [n]."""
    now = functools.partial(loop.round_key, key, number)
    seen = data if weighs_cost else data._replace(cost=None)
    predict, _ = loop.fit(now(loop.FIT), learner, carried.variables, seen, pool)
    candidates, available, proposal = propose.propose(
        now(loop.PROPOSAL), carried.proposal, pool
    )
    cost_variables = carried.cost_variables
    cost = jnp.full(candidates.shape, jnp.nan)
    if cost_learner is not None:
        assert data.cost is not None
        cost_variables, cost = loop.price(
            now(loop.COST),
            cost_learner,
            cost_variables,
            data.x,
            data.cost,
            cost_pool,
            candidates,
            batch_size=_PREDICTED_AT_ONCE,
        )
    view = View(
        predict, seen, pool, candidates, available, cost if weighs_cost else None
    )
    picks, state, _ = loop.choose(
        now(loop.STRATEGY), strategy, carried.strategy, view, k
    )
    # -1 stands for item 0, and is left out later.
    picked = jnp.maximum(picks.indices, 0)
    predicted, confidence, _ = _top(view, picked)
    test_predicted, _, test_margin = _top(view, tested)
    found = Found(
        picks.indices,
        _scores_of(picks, candidates),
        cost[_places(candidates, picked)],
        predicted,
        confidence,
        test_predicted,
        test_margin,
    )
    return Carried(predict.args[0], cost_variables, state, proposal), found


def _top(view: View, items: jax.Array):
    """[B] class, its probability, and how far it is above the second."""
    outputs = predict_items(view.predict, view.items(items), _PREDICTED_AT_ONCE)
    p = jax.nn.softmax(outputs.need("logits"))
    top = jax.lax.top_k(p, 2)[0]
    return jnp.argmax(p, axis=1).astype(jnp.int32), top[:, 0], top[:, 0] - top[:, 1]


def _places(candidates, indices):
    return jnp.argmax(candidates[None] == indices[:, None], axis=1)


def _scores_of(picks: Picks, candidates):
    if picks.scores is None:
        return jnp.full(picks.indices.shape, jnp.nan)
    return picks.scores[_places(candidates, picks.indices)]
