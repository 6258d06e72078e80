"""What chooses by the joint predictions of passes: BatchBALD."""

import jax

from jal import pool as pools
from jal import predictive, selection
from jal.types import Strategy, View


def batch_bald(*, num_samples: int, num_configurations: int) -> Strategy:
    """Picks the candidates whose labels tell most about the model together.

    `selection.batch_bald` of passes with dropout masks that all candidates share: joint
    predictions need one model a pass. The log-probabilities of all passes are kept at
    once, S * M * C numbers.

    Args:
      num_samples: S stochastic passes.
      num_configurations: configurations of the labels picked that are looked at.

    Returns:
      `Strategy` without state or scores.

    >>> strategy = batch_bald(num_samples=20, num_configurations=1000)
    >>> strategy.init(jax.random.key(0), None, None)
    ()

    Reference: Kirsch, van Amersfoort and Gal, "BatchBALD: efficient and diverse batch
    acquisition for deep Bayesian active learning", 2019, algorithm 1.
    """

    def choose(key, state, view: View, k):
        passes_key, select_key = jax.random.split(key)
        x = view.items(view.candidates)
        log_probs = predictive.log_prob_passes(view.predict, passes_key, x, num_samples)
        positions, _ = selection.batch_bald(
            select_key,
            log_probs,
            k,
            num_configurations=num_configurations,
            available=view.available,
        )
        return pools.picks(view, positions), state

    return Strategy(init=lambda key, data, pool: (), select=choose)
