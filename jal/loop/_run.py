"""The active-learning loop: one pure step, and the scan that runs it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jal import pool as pools
from jal.types import Data, Learner, Picks, Pool, Proposal, Strategy, View

# What a round's key is used for: fold_in(fold_in(key, round), purpose). With one key
# all strategies share the initial set, the candidates and the learner's seeds.
INITIAL, PROPOSAL, FIT, STRATEGY, COST = range(5)


class State(NamedTuple):
    """All that one round hands to the next.

    Attributes:
      round: [] int32, the number of rounds done.
      pool: the labelled set.
      variables: of the learner.
      cost_variables: of the cost learner, or ().
      strategy: state of the strategy.
      proposal: state of the proposal.
      spend: [] cost of all labels bought so far, the initial ones included; 0 if
        `data.cost` is None.
    """

    round: jax.Array
    pool: Pool
    variables: Any
    cost_variables: Any
    strategy: Any
    proposal: Any
    spend: jax.Array


class RoundInfo(NamedTuple):
    """What happened in one round; `run` stacks R + 1 of them.

    Attributes:
      round: [] int32.
      count: [] int32, labels the round's model was trained on.
      spend: [] what these labels cost, the initial ones included.
      indices: [K] int32, items bought after training, -1 where there were none.
      cost: [] what they cost.
      num_available: [] int32, candidates that could be chosen.
      num_nan: [] int32, available candidates whose score was NaN.
      fit: metrics of the learner.
      metrics: what `evaluate` returned; NaN in rounds that are not evaluated.
      observed: what `observe` returned, or ().
    """

    round: jax.Array
    count: jax.Array
    spend: jax.Array
    indices: jax.Array
    cost: jax.Array
    num_available: jax.Array
    num_nan: jax.Array
    fit: Any
    metrics: Any
    observed: Any


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


def make_step(
    learner: Learner,
    strategy: Strategy,
    *,
    k: int,
    rounds: int,
    propose: Proposal,
    cost: Literal["known"] | Learner | None = None,
    evaluate: Callable[[Any, Any], dict] | None = None,
    evaluate_rounds: Sequence[int] | None = None,
    observe: Callable[[Data, View, Picks], Any] | None = None,
) -> tuple[Callable, Callable]:
    """Builds the two pure functions of the loop.

    Args:
      learner: what is trained in each round.
      strategy: what chooses.
      k: K, items bought a round.
      rounds: R, rounds in which items are bought; step R only trains and evaluates.
      propose: what is on the table in each round.
      cost: None, "known" (`data.cost` of every item is there to be seen), or a learner
        trained in each round on the costs of the labelled items.
      evaluate: (variables, data.test) -> dict of [] arrays, or None.
      evaluate_rounds: rounds in which `evaluate` is called, or None for all.
      observe: (data, view, acquisition) -> pytree that is put into the `RoundInfo`. It
        sees the unmasked data: an oracle for diagnostics, which no decision can use.

    Returns:
      init: (key, data, initial [n0]) -> State, and
      step: (key, data, state) -> (State, RoundInfo).

    Raises:
      ValueError: k, rounds, cost or evaluate_rounds out of range.

    >>> from jal import strategies
    >>> learner = Learner(lambda key: (), lambda key, v, data, pool: ((), {}), print)
    >>> init, step = make_step(
    ...     learner, strategies.random(), k=1, rounds=2, propose=pools.everything()
    ... )
    >>> data = Data(x=jnp.zeros((5, 1)), y=jnp.zeros(5, jnp.int32))
    >>> state = init(jax.random.key(0), data, jnp.array([3]))
    >>> state, info = step(jax.random.key(0), data, state)
    >>> int(state.pool.count)
    2
    """
    if k < 1:
        raise ValueError(f"k={k}; at least one item must be bought a round")
    if rounds < 0:
        raise ValueError(f"rounds={rounds}; it must not be negative")
    if not (cost is None or cost == "known" or isinstance(cost, Learner)):
        raise ValueError(f'cost={cost!r}; allowed are None, "known" and a Learner')
    evaluated = np.ones(rounds + 1, bool)
    if evaluate_rounds is not None:
        outside = [r for r in evaluate_rounds if not 0 <= r <= rounds]
        if outside:
            raise ValueError(
                f"evaluate_rounds contains {outside}; rounds go from 0 to {rounds}"
            )
        evaluated = np.isin(np.arange(rounds + 1), list(evaluate_rounds))

    def init(key, data, initial):
        num_items = data.y.shape[0]
        pool = pools.create(num_items, initial.shape[0] + rounds * k)
        pool = pools.add(pool, initial)
        seen = pools.hide(data, pool, cost_is_known=cost == "known")
        # Keys of their own, beside that of the initial set and those of round 0.
        start = functools.partial(round_key, round_key(key, 0, INITIAL), 0)
        return State(
            round=jnp.zeros((), jnp.int32),
            pool=pool,
            variables=learner.init(start(FIT)),
            cost_variables=cost.init(start(COST)) if isinstance(cost, Learner) else (),
            strategy=strategy.init(start(STRATEGY), seen, pool),
            proposal=propose.init(start(PROPOSAL), pool),
            spend=_total_cost(data, initial),
        )

    def measure(evaluate, state, variables, data):
        if evaluated.all():
            return evaluate(variables, data.test)
        shapes = jax.eval_shape(evaluate, variables, data.test)
        return jax.lax.cond(
            jnp.asarray(evaluated)[state.round],
            lambda: evaluate(variables, data.test),
            lambda: jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes),
        )

    def buy(key, data, seen, state, variables):
        now = functools.partial(round_key, key, state.round)
        candidates, available, proposal = propose.propose(
            now(PROPOSAL), state.proposal, state.pool
        )
        if k > candidates.shape[0]:
            raise ValueError(
                f"k={k}, but a round has only {candidates.shape[0]} candidates; lower "
                "k or propose more"
            )
        cost_variables, candidate_cost = state.cost_variables, None
        if isinstance(cost, Learner):
            cost_variables, _ = cost.fit(
                now(COST), cost_variables, seen._replace(y=seen.cost), state.pool
            )
            x = jax.tree.map(lambda leaf: leaf[candidates], data.x)
            candidate_cost = cost.predict(cost_variables, x).need("value")
        elif cost == "known" and seen.cost is not None:
            candidate_cost = seen.cost[candidates]
        view = View(
            jax.tree_util.Partial(learner.predict, variables),
            seen,
            state.pool,
            candidates,
            available,
            candidate_cost,
        )
        acquisition, strategy_state = strategy.select(
            now(STRATEGY), state.strategy, view, k
        )
        price = _total_cost(data, acquisition.indices)
        num_nan = jnp.zeros((), jnp.int32)
        if acquisition.scores is not None:
            is_nan = jnp.isnan(acquisition.scores) & available
            num_nan = jnp.sum(is_nan, dtype=jnp.int32)
        bought = dict(
            indices=acquisition.indices,
            cost=price,
            num_available=jnp.sum(available, dtype=jnp.int32),
            num_nan=num_nan,
            observed=() if observe is None else observe(data, view, acquisition),
        )
        state = state._replace(
            pool=pools.add(state.pool, acquisition.indices),
            cost_variables=cost_variables,
            strategy=strategy_state,
            proposal=proposal,
            spend=state.spend + price,
        )
        return state, bought

    def buy_nothing(key, data, seen, state, variables):
        _, shapes = jax.eval_shape(buy, key, data, seen, state, variables)
        nothing = jax.tree.map(_nothing, shapes)
        nothing |= {"indices": jnp.full(k, -1, jnp.int32)}
        return state, {**nothing, "cost": jnp.zeros_like(nothing["cost"])}

    def step(key, data, state):
        seen = pools.hide(data, state.pool, cost_is_known=cost == "known")
        variables, fit_metrics = learner.fit(
            round_key(key, state.round, FIT), state.variables, seen, state.pool
        )
        metrics = measure(evaluate, state, variables, data) if evaluate else {}
        after, bought = jax.lax.cond(
            state.round < rounds,
            lambda: buy(key, data, seen, state, variables),
            lambda: buy_nothing(key, data, seen, state, variables),
        )
        info = RoundInfo(
            round=state.round,
            count=state.pool.count,
            spend=state.spend,
            fit=fit_metrics,
            metrics=metrics,
            **bought,
        )
        return after._replace(round=state.round + 1, variables=variables), info

    return init, step


def run(
    key: jax.Array,
    learner: Learner,
    strategy: Strategy,
    data: Data,
    *,
    initial: jax.Array,
    k: int,
    rounds: int,
    propose: Proposal,
    cost: Literal["known"] | Learner | None = None,
    evaluate: Callable[[Any, Any], dict] | None = None,
    evaluate_rounds: Sequence[int] | None = None,
    observe: Callable[[Data, View, Picks], Any] | None = None,
) -> tuple[State, RoundInfo]:
    """Runs the whole loop as one `lax.scan` of rounds + 1 steps.

    Each step trains, evaluates, selects and adds; the last one adds nothing. Pure, so
    `jax.jit`, `jax.lax.map` and `jax.vmap` take it; under `jit` hand `data` over as an
    argument, and `cpu_compiler_options()` as `compiler_options`.

    Args:
      key: PRNG key.
      learner: what is trained in each round.
      strategy: what chooses.
      data: N items; labels and costs are read when they are bought.
      initial: [n0] distinct pool indices, labelled before round 0.
      k: see `make_step`, as all that follow.
      rounds: R.
      propose: what is on the table in each round.
      cost: how the cost of an item is known before it is bought.
      evaluate: how a round's model is evaluated.
      evaluate_rounds: when.
      observe: what else is recorded.

    Returns:
      The last `State`, and a `RoundInfo` whose leaves have a leading axis of R + 1.

    Raises:
      ValueError: arguments that do not fit each other, or bad data (see `check`).

    >>> from jal import strategies
    >>> learner = Learner(lambda key: (), lambda key, v, data, pool: ((), {}), print)
    >>> state, infos = run(
    ...     jax.random.key(0),
    ...     learner,
    ...     strategies.random(),
    ...     Data(x=jnp.zeros((5, 1)), y=jnp.zeros(5, jnp.int32)),
    ...     initial=jnp.array([3]),
    ...     k=1,
    ...     rounds=2,
    ...     propose=pools.everything(),
    ... )
    >>> infos.count.tolist(), int(state.pool.count)
    ([1, 2, 3], 3)
    """
    check(data, initial, k=k, rounds=rounds, cost=cost)
    init, step = make_step(
        learner,
        strategy,
        k=k,
        rounds=rounds,
        propose=propose,
        cost=cost,
        evaluate=evaluate,
        evaluate_rounds=evaluate_rounds,
        observe=observe,
    )
    return jax.lax.scan(
        lambda state, _: step(key, data, state),
        init(key, data, initial),
        None,
        length=rounds + 1,
    )


def check(
    data: Data,
    initial: jax.Array,
    *,
    k: int,
    rounds: int,
    cost: Literal["known"] | Learner | None = None,
    num_classes: int | None = None,
) -> None:
    """Checks the shapes, and the values of arrays that are not traced, of a run.

    Args:
      data: N items.
      initial: [n0] pool indices.
      k: K, items bought a round.
      rounds: R.
      cost: as in `make_step`.
      num_classes: C, or None if labels are not class numbers.

    Raises:
      ValueError: names the argument, what was given, and what is allowed.

    >>> data = Data(x=jnp.zeros((5, 1)), y=jnp.zeros(5, jnp.int32))
    >>> check(data, jnp.array([0]), k=3, rounds=2)
    Traceback (most recent call last):
    ValueError: initial + rounds * k = 1 + 2 * 3 = 7 labels, but data has 5 items; \
lower rounds or k
    """
    if data.y.ndim != 1:
        raise ValueError(f"data.y has shape {data.y.shape}; expected [N]")
    num_items = data.y.shape[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(data.x):
        if leaf.ndim < 1 or leaf.shape[0] != num_items:
            raise ValueError(
                f"data.x{jax.tree_util.keystr(path)} has shape {leaf.shape}; expected "
                f"[{num_items}, ...] as data.y has {num_items} items"
            )
        if _is_known(leaf) and not _all_finite(leaf):
            raise ValueError(
                f"data.x{jax.tree_util.keystr(path)} contains NaN or infinite values; "
                "remove or impute them"
            )
    if initial.ndim != 1 or initial.shape[0] < 1:
        raise ValueError(f"initial has shape {initial.shape}; expected [n0], n0 >= 1")
    if not jnp.issubdtype(initial.dtype, jnp.integer):
        raise ValueError(f"initial has dtype {initial.dtype}; expected pool indices")
    num_labels = initial.shape[0] + rounds * k
    if num_labels > num_items:
        raise ValueError(
            f"initial + rounds * k = {initial.shape[0]} + {rounds} * {k} = "
            f"{num_labels} labels, but data has {num_items} items; lower rounds or k"
        )
    if _is_known(initial):
        indices = np.asarray(initial)
        outside = indices[(indices < 0) | (indices >= num_items)]
        if outside.size:
            raise ValueError(
                f"initial contains {outside[0]}; allowed are 0 to {num_items - 1}"
            )
        if len(np.unique(indices)) < len(indices):
            raise ValueError("initial contains an index twice; all must be distinct")
    if cost is not None and data.cost is None:
        raise ValueError(f"cost={cost!r}, but data.cost is None; give [N] costs > 0")
    if data.cost is not None:
        if data.cost.shape != (num_items,):
            raise ValueError(
                f"data.cost has shape {data.cost.shape}; expected [{num_items}]"
            )
        if _is_known(data.cost):
            bad = ~(np.asarray(data.cost) > 0) | ~np.isfinite(np.asarray(data.cost))
            if bad.any():
                first = int(np.argmax(bad))
                raise ValueError(
                    f"data.cost[{first}] = {np.asarray(data.cost)[first]}; every cost "
                    "must be positive and finite"
                )
    if num_classes is not None and _is_known(data.y):
        labels = np.asarray(data.y)
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"data.y has dtype {labels.dtype}; expected integers")
        bad = (labels < 0) | (labels >= num_classes)
        if bad.any():
            first = int(np.argmax(bad))
            raise ValueError(
                f"data.y[{first}] = {labels[first]}; labels must lie between 0 and "
                f"{num_classes - 1}"
            )


def _is_known(array) -> bool:
    return not isinstance(array, Tracer)


def _all_finite(array) -> bool:
    kind = np.dtype(array.dtype).kind
    return kind != "f" or bool(np.isfinite(np.asarray(array)).all())


def _nothing(shape):
    missing = jnp.nan if jnp.issubdtype(shape.dtype, jnp.floating) else 0
    return jnp.full(shape.shape, missing, shape.dtype)


def _total_cost(data, indices):
    """Cost of the items bought: the oracle is asked here, and for these alone."""
    if data.cost is None:
        return jnp.zeros((), jnp.float32)
    return jnp.sum(jnp.where(indices >= 0, data.cost[indices], 0))
