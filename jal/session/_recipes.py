"""How a session trains and chooses where nobody says it."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from jal import acquisition, learners, scorers, strategies
from jal.session._session import Recipe
from jal.types import Learner, Outputs, Strategy

_PASSES = 20
_STEPS: Any = dict(steps=500, batch_size=32)
_AT_ONCE = 500

# Those of a score trade it against the cost; with features one prediction is enough.
_SCORES = ("entropy", "bald", "mean_std", "margin", "least_confidence")
_OTHERS: dict[str, Callable[[], Strategy]] = {
    "random": strategies.random,
    "k-center": lambda: strategies.k_center(batch_size=_AT_ONCE),
    "badge": lambda: strategies.badge(batch_size=_AT_ONCE),
    "alamp": lambda: strategies.alamp(diversify=True, batch_size=_AT_ONCE),
    "class-balanced": lambda: strategies.class_balanced(batch_size=_AT_ONCE),
}
STRATEGIES = (*_SCORES, *_OTHERS)


def default_strategy(x: Any) -> str:
    """What `jal init` chooses by: BALD needs dropout, which no linear model has.

    Args:
      x: [N, H, W, C] images, or features [N, D].

    Returns:
      One of `STRATEGIES`.

    >>> default_strategy(jnp.zeros((9, 4)))
    'margin'
    """
    return "margin" if x.ndim == 2 else "bald"


def default_recipe(x: Any, num_classes: int, strategy: str | None = None) -> Recipe:
    """How `jal init` trains and chooses: a small CNN of images, an SVM of features.

    Args:
      x: [N, H, W, C] images of 12 pixels or more, or features [N, D], best of unit
        length.
      num_classes: C.
      strategy: one of `STRATEGIES`; by default "bald" of images, "margin" of features.

    Returns:
      `Recipe`; before there are labels it chooses typical items.

    Raises:
      ValueError: no such strategy, one that needs dropout with features, or images that
        are too small.

    >>> recipe = default_recipe(jnp.zeros((9, 4)), num_classes=3)
    >>> recipe.learner.init(None).weights.shape
    (5, 3)
    """
    is_flat = x.ndim == 2
    strategy = default_strategy(x) if strategy is None else strategy
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r}; allowed are {', '.join(STRATEGIES)}")
    if is_flat and strategy in ("bald", "mean_std"):
        raise ValueError(
            f"strategy {strategy} compares passes with dropout, and the linear model "
            "of features has none; take margin, entropy or alamp"
        )
    if strategy in _SCORES:
        score = getattr(acquisition, strategy)
        passes = 1 if is_flat else _PASSES
        scorer = scorers.passes(score, passes, batch_size=_AT_ONCE)
        chooses: Any = lambda beta: strategies.from_scores(scorer, beta=beta)
    else:
        chooses = _OTHERS[strategy]()
    flat = lambda x: x.reshape(len(x), -1).astype(jnp.float32)
    first = strategies.typical(features=flat)
    if is_flat:
        learner = learners.linear_svm(x.shape[1], num_classes)
        return Recipe(learner, chooses, _linear_cost(x.shape[1]), first)
    return Recipe(_network(x, num_classes), chooses, _network(x, None), first)


def _network(x: Any, outputs: int | None) -> Learner:
    """A small convolutional network, of classes or of the cost."""
    from jal import nn

    if min(x.shape[1:3]) < 12:
        raise ValueError(
            f"images of {x.shape[1]} x {x.shape[2]} are too small for the network that "
            "comes with jal; take features, or a model of your own"
        )
    make, optimizer = nn.from_linen(nn.small_cnn(outputs), x[:1]), optax.adam(1e-3)
    if outputs is None:
        return learners.regressor(*make, optimizer, log_targets=True, **_STEPS)
    return learners.supervised(*make, optimizer, **_STEPS)


def _linear_cost(features: int) -> Learner:
    init = lambda key: (jnp.zeros(features), ())

    def apply(weights, state, x, key=None, train=False):
        return Outputs(value=x @ weights), state

    return learners.regressor(init, apply, optax.adam(0.03), log_targets=True, **_STEPS)
