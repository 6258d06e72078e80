"""A simulated month: its sizes, and how it trains and chooses.

A small CNN and BALD; the time of an answer is learned.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jal import acquisition, learners, nn, scorers, strategies
from jal import pool as pools
from jal.session import Recipe, Session


@dataclasses.dataclass(frozen=True)
class Config:
    """The protocol of both parts.

    Attributes:
      data: name of the data set, or path of an .npz file.
      items: of the pool, drawn at random from the training images.
      k: items of a batch.
      rounds: batches.
      times: how long people take: "alike", "unrelated" or "dark", as `annotators` says.
      test: held-out labels that measure accuracy; 0 for none.
      late: share of a batch's answers that come after the next batch was asked for.
      steps: of Adam, batches of 32, from scratch for every batch.
      passes: with dropout.
      candidates: of a round, drawn at random.
    """

    data: str = "fashion_mnist"
    items: int = 20_000
    k: int = 50
    rounds: int = 30
    times: str = "alike"
    test: int = 0
    late: float = 0.1
    steps: int = 200
    passes: int = 10
    candidates: int = 2000


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


def open_session(folder: Path, images, made: Recipe, seed: int = 0) -> Session:
    """The session in a folder, or a new one."""
    try:
        return Session.open(folder, images, made)
    except FileNotFoundError:
        classes = [f"class {c}" for c in range(10)]
        return Session.create(folder, images, made, classes=classes, seed=seed)


def keep_compiled(folder: Path) -> None:
    """What one process compiles the next ones need not."""
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
