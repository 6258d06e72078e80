"""How a simulated month trains and chooses: a small CNN, BALD, a learned time."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from experiments.month_people import Config
from jal import acquisition, learners, nn, scorers, strategies
from jal import pool as pools
from jal.session import Recipe


@functools.cache
def recipe(config: Config) -> Recipe:
    """A small CNN and BALD; the cost is learned by a network of the same kind."""
    example = np.zeros((1, 28, 28, 1), np.uint8)
    options: Any = dict(steps=config.steps, batch_size=32)
    learner = learners.supervised(
        *nn.from_linen(nn.small_cnn(), example), optax.adam(1e-3), **options
    )
    cost_learner = learners.regressor(
        *nn.from_linen(nn.small_cnn(None), example),
        optax.adam(1e-3),
        log_targets=True,
        **options,
    )
    return Recipe(
        learner,
        lambda beta: strategies.from_scores(
            scorers.passes(acquisition.bald, config.passes, batch_size=500), beta=beta
        ),
        cost_learner,
        propose=pools.random_subset(min(config.candidates, config.items // 2)),
    )


def keep_compiled(folder: Path) -> None:
    """What one process compiles the next ones need not."""
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
