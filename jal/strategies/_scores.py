"""What chooses by a score of each item: a scorer, a cost, a selector."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jal import cost, scorers, selection
from jal import pool as pools
from jal.predictive import check_batch_size
from jal.types import Strategy, View


def from_scores(
    scorer: Callable[..., jax.Array],
    *,
    select: Callable[..., jax.Array] | None = None,
    alpha: float | jax.Array = 1.0,
    beta: float | jax.Array = 0.0,
) -> Strategy:
    """Scores all candidates and selects by v = I^alpha / C^beta.

    Args:
      scorer: (predict, key, x [M, ...], indices [M]) -> I [M], such as
        `scorers.passes(acquisition.bald, 20)`. Without exponents it may have any sign.
      select: (key, scores [M], k, available=[M]) -> positions [k], such as
        `selection.power`; None for the k highest.
      alpha: exponent of the information, >= 0; may be traced.
      beta: exponent of the cost, >= 0; 0 ignores the cost; may be traced.

    Returns:
      `Strategy` without state. It needs a cost in the view unless beta is 0.

    >>> from jal import acquisition
    >>> strategy = from_scores(scorers.passes(acquisition.bald, 20))
    >>> strategy.init(jax.random.key(0), None, None)
    ()

    Reference: Bernatchez, Durand and Lavoie-Cardinal, "Annotation cost-sensitive deep
    active learning with limited data", 2022, eq. 1.
    """
    is_number = lambda exponent: isinstance(exponent, int | float)
    ignores_cost = is_number(beta) and beta == 0
    is_plain = ignores_cost and is_number(alpha) and alpha == 1

    def choose(key, state, view: View, k):
        score_key, select_key = jax.random.split(key)
        x = view.items(view.candidates)
        value = information = scorer(view.predict, score_key, x, view.candidates)
        candidate_cost = view.cost
        if candidate_cost is None:
            if not ignores_cost:
                raise ValueError(
                    f"beta={beta} weighs the cost, but the view has none; give the "
                    'loop cost="known" or a cost learner, or set beta=0'
                )
            candidate_cost = jnp.ones_like(information)
        if not is_plain:
            value = cost.cost_ratio(information, candidate_cost, alpha=alpha, beta=beta)
        if select is None:
            positions = selection.top_k(value, k, available=view.available)
        else:
            positions = select(select_key, value, k, available=view.available)
        return pools.picks(view, positions, value), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def random() -> Strategy:
    """Picks uniformly among the candidates, whatever they cost.

    Returns:
      `Strategy` without state.

    >>> random().init(jax.random.key(0), None, None)
    ()
    """

    def choose(key, state, view: View, k):
        scores = jax.random.uniform(key, view.candidates.shape)
        positions = selection.top_k(scores, k, available=view.available)
        return pools.picks(view, positions, scores), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def learning_loss(*, batch_size: int | None = None) -> Strategy:
    """Picks the candidates whose loss is predicted to be the highest.

    `from_scores` of what the model returns as `loss_score`.

    Args:
      batch_size: candidates predicted at a time, or None for all of them.

    Returns:
      `Strategy` without state, for learners whose predictions have a `loss_score`, such
      as `learners.with_ranker`.

    Raises:
      ValueError: batch_size is below 1.

    >>> learning_loss().init(jax.random.key(0), None, None)
    ()

    Reference: Yoo and Kweon, "Learning loss for active learning", 2019.
    """
    check_batch_size(batch_size)
    return from_scores(scorers.output("loss_score", batch_size=batch_size))
