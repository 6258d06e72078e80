"""Strategies: assemblies of predictions, acquisition functions, costs and selectors."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jal import cost, predictive, selection
from jal.types import Acquisition, Predictive, Strategy, View


def highest(
    key: jax.Array, scores: jax.Array, k: int, available: jax.Array
) -> jax.Array:
    """The selector that takes the k highest scores; it needs no randomness.

    Args:
      key: PRNG key, not used.
      scores: [M].
      k: how many.
      available: [M] bool.

    Returns:
      [k] int32 positions, -1 beyond what is available.

    >>> scores = jnp.array([1.0, 3.0, 2.0])
    >>> highest(jax.random.key(0), scores, 2, jnp.ones(3, bool)).tolist()
    [1, 2]
    """
    del key
    return selection.top_k(scores, k, available=available)


def from_scores(
    score: Callable[[Predictive], jax.Array],
    *,
    num_samples: int,
    select: Callable[..., jax.Array] = highest,
    alpha: float | jax.Array = 1.0,
    beta: float | jax.Array = 0.0,
    masks: str = "shared",
    batch_size: int | None = None,
) -> Strategy:
    """Scores all candidates by MC dropout and selects by v = I^alpha / C^beta.

    Args:
      score: an acquisition function, e.g. `jal.acquisition.bald`.
      num_samples: S stochastic passes.
      select: (key, scores [M], k, available [M]) -> positions [k].
      alpha: exponent of the information, >= 0; may be traced.
      beta: exponent of the cost, >= 0; 0 ignores the cost; may be traced.
      masks: "shared" or "independent", as in `predictive.predict_passes`.
      batch_size: candidates scored at a time, or None for all of them.

    Returns:
      `Strategy` without state. It needs a cost in the view unless beta is 0.

    >>> from jal import acquisition
    >>> strategy = from_scores(acquisition.bald, num_samples=20)
    >>> strategy.init(jax.random.key(0), None, None)
    ()

    Reference: Bernatchez, Durand and Lavoie-Cardinal, "Annotation cost-sensitive deep
    active learning with limited data", 2022, eq. 1.
    """
    ignores_cost = isinstance(beta, int | float) and beta == 0

    def choose(key, state, view: View, k):
        passes_key, select_key = jax.random.split(key)
        x = jax.tree.map(lambda leaf: leaf[view.candidates], view.data.x)
        information = score(
            predictive.predict_passes(
                view.predict,
                passes_key,
                x,
                num_samples,
                masks=masks,
                indices=view.candidates,
                batch_size=batch_size,
            )
        )
        candidate_cost = view.cost
        if candidate_cost is None:
            if not ignores_cost:
                raise ValueError(
                    f"beta={beta} weighs the cost, but the view has none; give the "
                    'loop cost="known" or a cost learner, or set beta=0'
                )
            candidate_cost = jnp.ones_like(information)
        value = cost.cost_ratio(information, candidate_cost, alpha=alpha, beta=beta)
        positions = select(select_key, value, k, view.available)
        return _acquire(view, value, positions), state

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
        return _acquire(view, scores, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)


def _acquire(view, scores, positions):
    """Positions among the candidates, as pool indices."""
    indices = jnp.where(positions >= 0, view.candidates[positions], -1)
    return Acquisition(indices.astype(jnp.int32), scores)
