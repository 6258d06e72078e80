"""Scorers: a model in, the scores of items out; higher = label it.

One protocol for strategies, pools, sessions and the command line: a scorer is
(predict, key, x [B, ...], indices [B]) -> [B], where `predict` is
`jax.tree_util.Partial(apply, variables)`, and so an argument of the compiled program,
and `indices` are the places of the items in their pool. Those made here are equal where
their fields are, so that nothing is compiled again, and their `repr` tells them apart
when a job is resumed; a function of your own, or an acquisition function of your own
within one, is known by its module and name.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jal import predictive
from jal.types import Predictive

AcquisitionFunction = Callable[[Predictive], jax.Array]


def name_of(scorer: Any) -> str:
    """What tells a scorer from others, in all processes: for the records of a job.

    Args:
      scorer: made by a function of this module, or any function.

    Returns:
      The `repr` of what was made here, and module:qualname of a function.

    >>> from jal import acquisition
    >>> name_of(passes(acquisition.bald, 20))
    'passes(jal.acquisition:bald, 20, shared, None)'
    """
    if isinstance(scorer, _Scorer):
        return repr(scorer)
    if hasattr(scorer, "__qualname__"):
        return f"{scorer.__module__}:{scorer.__qualname__}"
    return f"{type(scorer).__module__}:{type(scorer).__qualname__}"


class _Scorer:
    """What scorers have in common: a `repr` without the addresses of functions."""

    def __repr__(self):
        values = vars(self).values()  # in the order of the fields
        shown = (name_of(value) if callable(value) else str(value) for value in values)
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclasses.dataclass(frozen=True, repr=False)
class passes(_Scorer):
    """Scores by S stochastic passes (MC dropout).

    Attributes:
      acquisition: of `jal.acquisition`, `Predictive` in, [B] scores out.
      num_samples: S >= 1.
      masks: "shared" or "independent", as in `predictive.predict_passes`.
      batch_size: items processed at a time, or None for all of them. On CPU about 500
        suits networks with `DropoutDense`, and about 50 those that drop activations and
        independent masks, which are bound by memory.

    >>> from jal import acquisition
    >>> from jal.types import Outputs
    >>> apply = lambda weights, x, key=None: Outputs(logits=x @ weights)
    >>> predict = jax.tree_util.Partial(apply, jnp.ones((3, 2)))
    >>> scorer = passes(acquisition.entropy, 5)
    >>> scorer(predict, jax.random.key(0), jnp.ones((4, 3)), jnp.arange(4)).shape
    (4,)

    Reference: Gal and Ghahramani, "Dropout as a Bayesian approximation", 2016.
    """

    acquisition: AcquisitionFunction
    num_samples: int
    masks: str = "shared"
    batch_size: int | None = None

    def __call__(self, predict, key, x, indices):
        """[B] scores of the items."""
        return self.acquisition(
            predictive.predict_passes(
                predict,
                key,
                x,
                self.num_samples,
                masks=self.masks,
                indices=indices,
                batch_size=self.batch_size,
            )
        )


@dataclasses.dataclass(frozen=True, repr=False)
class deterministic(_Scorer):
    """Scores by one prediction without dropout.

    Attributes:
      acquisition: of `jal.acquisition`; those that compare passes are 0 everywhere.
      batch_size: items predicted at a time, or None for all of them.

    >>> from jal import acquisition
    >>> name_of(deterministic(acquisition.margin))
    'deterministic(jal.acquisition:margin, None)'
    """

    acquisition: AcquisitionFunction
    batch_size: int | None = None

    def __call__(self, predict, key, x, indices):
        """[B] scores of the items."""
        outputs = predictive.predict_items(predict, x, self.batch_size)
        return self.acquisition(predictive.summarize(outputs.need("logits")[None]))


@dataclasses.dataclass(frozen=True, repr=False)
class output(_Scorer):
    """Scores that the model returns itself, taken as they are.

    Attributes:
      field: of `Outputs`, such as "loss_score" or "value".
      batch_size: items predicted at a time, or None for all of them.

    >>> from jal.types import Outputs
    >>> predict = jax.tree_util.Partial(lambda w, x: Outputs(loss_score=w * x), 2.0)
    >>> print(output("loss_score")(predict, None, jnp.arange(3.0), None))
    [0. 2. 4.]
    """

    field: str
    batch_size: int | None = None

    def __call__(self, predict, key, x, indices):
        """[B] scores of the items."""
        return predictive.predict_items(predict, x, self.batch_size).need(self.field)


@dataclasses.dataclass(frozen=True, repr=False)
class logits(_Scorer):
    """Scores of predictions made elsewhere: x is [B, S, C] logits, `predict` is None.

    `scoring.open_source(logits, items_axis=1)` reads logits [S, N, C] so.

    Attributes:
      acquisition: of `jal.acquisition`, `Predictive` in, [B] scores out.

    >>> from jal import acquisition
    >>> logits(acquisition.entropy)(None, None, jnp.zeros((3, 20, 2)), None).shape
    (3,)
    """

    acquisition: AcquisitionFunction

    def __call__(self, predict, key, x, indices):
        """[B] scores of the items."""
        first = jnp.swapaxes(x, 0, 1).astype(jnp.float32)
        return self.acquisition(predictive.summarize(first))


@dataclasses.dataclass(frozen=True, repr=False)
class members(_Scorer):
    """Scores by an ensemble, whose predictions have `member_logits` [B, S, C].

    Attributes:
      acquisition: of `jal.acquisition`, `Predictive` in, [B] scores out.
      batch_size: items predicted at a time, or None for all of them.

    >>> from jal import acquisition, learners
    >>> from jal.types import Outputs
    >>> predict = learners.stacked(lambda w, x, key=None: Outputs(logits=x @ w))
    >>> predict = jax.tree_util.Partial(predict, jnp.ones((5, 3, 2)))
    >>> members(acquisition.bald)(predict, None, jnp.ones((4, 3)), None).shape
    (4,)

    Reference: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive
    uncertainty estimation using deep ensembles", 2017.
    """

    acquisition: AcquisitionFunction
    batch_size: int | None = None

    def __call__(self, predict, key, x, indices):
        """[B] scores of the items."""
        outputs = predictive.predict_items(predict, x, self.batch_size)
        first = jnp.swapaxes(outputs.need("member_logits"), 0, 1)
        return self.acquisition(predictive.summarize(first))
