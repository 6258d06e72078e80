"""The active-learning loop: one pure step, and the scan that runs it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jal import pool as pools
from jal.loop import _round
from jal.loop._round import COST, FIT, PROPOSAL, STRATEGY, round_key
from jal.types import Data, Learner, Picks, Pool, Proposal, Strategy, View


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
    settings = _Settings(
        learner,
        strategy,
        k,
        rounds,
        propose,
        cost,
        evaluate,
        _evaluated(rounds, evaluate_rounds),
        observe,
    )

    def init(key: jax.Array, data: Data, initial: jax.Array) -> State:
        return _init(settings, key, data, initial)

    def step(key: jax.Array, data: Data, state: State) -> tuple[State, RoundInfo]:
        return _step(settings, key, data, state)

    return init, step


class _Settings(NamedTuple):
    """What `make_step` was given, checked."""

    learner: Learner
    strategy: Strategy
    k: int
    rounds: int
    propose: Proposal
    cost: Literal["known"] | Learner | None
    evaluate: Callable[[Any, Any], dict] | None
    evaluated: np.ndarray  # [R + 1] bool
    observe: Callable[[Data, View, Picks], Any] | None

    @property
    def cost_learner(self) -> Learner | None:
        return self.cost if isinstance(self.cost, Learner) else None

    def hide(self, data: Data, pool: Pool) -> Data:
        return pools.hide(data, pool, cost_is_known=self.cost == "known")


def _evaluated(rounds: int, evaluate_rounds: Sequence[int] | None) -> np.ndarray:
    if evaluate_rounds is None:
        return np.ones(rounds + 1, bool)
    outside = [r for r in evaluate_rounds if not 0 <= r <= rounds]
    if outside:
        raise ValueError(
            f"evaluate_rounds contains {outside}; rounds go from 0 to {rounds}"
        )
    return np.isin(np.arange(rounds + 1), list(evaluate_rounds))


def _init(settings: _Settings, key, data: Data, initial) -> State:
    capacity = initial.shape[0] + settings.rounds * settings.k
    pool = pools.add(pools.create(data.y.shape[0], capacity), initial)
    carried = _round.start(
        key,
        settings.learner,
        settings.strategy,
        settings.propose,
        settings.cost_learner,
        settings.hide(data, pool),
        pool,
    )
    return State(
        round=jnp.zeros((), jnp.int32),
        pool=pool,
        spend=_total_cost(data, initial),
        **carried._asdict(),
    )


def _step(settings: _Settings, key, data: Data, state: State):
    seen = settings.hide(data, state.pool)
    fit_key = round_key(key, state.round, FIT)
    predict, fit_metrics = _round.fit(
        fit_key, settings.learner, state.variables, seen, state.pool
    )
    (variables,) = predict.args
    metrics = _measure(settings, state, variables, data)
    buy = functools.partial(_buy, settings, key, data, seen, state, predict)
    after, bought = jax.lax.cond(
        state.round < settings.rounds, buy, lambda: _buy_nothing(buy, state)
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


def _measure(settings: _Settings, state: State, variables, data: Data) -> dict:
    """Metrics of the round's model; NaN in rounds that are not evaluated."""
    if settings.evaluate is None:
        return {}
    evaluate = functools.partial(settings.evaluate, variables, data.test)
    if settings.evaluated.all():
        return evaluate()
    shapes = jax.eval_shape(evaluate)
    return jax.lax.cond(
        jnp.asarray(settings.evaluated)[state.round],
        evaluate,
        lambda: jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan, s.dtype), shapes),
    )


def _buy(settings: _Settings, key, data: Data, seen: Data, state: State, predict):
    """Proposes, prices, chooses, and adds: the new state and what was bought."""
    now = functools.partial(round_key, key, state.round)
    candidates, available, proposal = settings.propose.propose(
        now(PROPOSAL), state.proposal, state.pool
    )
    cost_variables, candidate_cost = state.cost_variables, None
    if settings.cost_learner is not None:
        assert seen.cost is not None
        cost_variables, candidate_cost = _round.price(
            now(COST),
            settings.cost_learner,
            cost_variables,
            seen.x,
            seen.cost,
            state.pool,
            candidates,
        )
    elif settings.cost == "known" and seen.cost is not None:
        candidate_cost = seen.cost[candidates]
    view = View(predict, seen, state.pool, candidates, available, candidate_cost)
    picks, strategy_state, counts = _round.choose(
        now(STRATEGY), settings.strategy, state.strategy, view, settings.k
    )
    price = _total_cost(data, picks.indices)
    observe = settings.observe
    bought = dict(
        indices=picks.indices,
        cost=price,
        observed=() if observe is None else observe(data, view, picks),
        **counts,
    )
    state = state._replace(
        pool=pools.add(state.pool, picks.indices),
        cost_variables=cost_variables,
        strategy=strategy_state,
        proposal=proposal,
        spend=state.spend + price,
    )
    return state, bought


def _buy_nothing(buy, state: State):
    _, shapes = jax.eval_shape(buy)
    nothing = jax.tree.map(_nothing, shapes)
    nothing |= {"indices": jnp.full_like(nothing["indices"], -1)}
    return state, {**nothing, "cost": jnp.zeros_like(nothing["cost"])}


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
    _check_inputs(data.x, num_items)
    _check_initial(initial, num_items)
    num_labels = initial.shape[0] + rounds * k
    if num_labels > num_items:
        raise ValueError(
            f"initial + rounds * k = {initial.shape[0]} + {rounds} * {k} = "
            f"{num_labels} labels, but data has {num_items} items; lower rounds or k"
        )
    if cost is not None and data.cost is None:
        raise ValueError(f"cost={cost!r}, but data.cost is None; give [N] costs > 0")
    if data.cost is not None:
        _check_cost(data.cost, num_items)
    if num_classes is not None and _is_known(data.y):
        _check_labels(np.asarray(data.y), num_classes)


def _check_inputs(x: Any, num_items: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
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


def _check_initial(initial: jax.Array, num_items: int) -> None:
    if initial.ndim != 1 or initial.shape[0] < 1:
        raise ValueError(f"initial has shape {initial.shape}; expected [n0], n0 >= 1")
    if not jnp.issubdtype(initial.dtype, jnp.integer):
        raise ValueError(f"initial has dtype {initial.dtype}; expected pool indices")
    if _is_known(initial):
        indices = np.asarray(initial)
        outside = indices[(indices < 0) | (indices >= num_items)]
        if outside.size:
            raise ValueError(
                f"initial contains {outside[0]}; allowed are 0 to {num_items - 1}"
            )
        if len(np.unique(indices)) < len(indices):
            raise ValueError("initial contains an index twice; all must be distinct")


def _check_cost(cost: jax.Array, num_items: int) -> None:
    if cost.shape != (num_items,):
        raise ValueError(f"data.cost has shape {cost.shape}; expected [{num_items}]")
    if _is_known(cost):
        bad = ~(np.asarray(cost) > 0) | ~np.isfinite(np.asarray(cost))
        if bad.any():
            first = int(np.argmax(bad))
            raise ValueError(
                f"data.cost[{first}] = {np.asarray(cost)[first]}; every cost "
                "must be positive and finite"
            )


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
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
