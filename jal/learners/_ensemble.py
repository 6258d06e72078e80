"""Deep ensembles: members of one learner, trained apart, predicting together."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jal.types import Learner, Outputs


def stacked(member_predict: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """The predictions of an ensemble, from those of one member.

    logits = ln (1/S) sum_s softmax(member_logits_s), the log of the mean probability.

    Args:
      member_predict: (variables, x [B, ...], key=None) -> `Outputs` with logits [B, C].

    Returns:
      (stacked variables, x, key=None) -> `Outputs` with `member_logits` [B, S, C], with
      `logits` [B, C], and the mean over the members of what else they return. The
      leaves of the variables have a leading axis of S members; with a key each member
      has a key of its own.

    >>> predict = stacked(lambda weights, x, key=None: Outputs(logits=x @ weights))
    >>> outputs = predict(jnp.ones((5, 4, 3)), jnp.ones((2, 4)))
    >>> outputs.member_logits.shape, outputs.logits.shape
    ((2, 5, 3), (2, 3))

    Reference: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive
    uncertainty estimation using deep ensembles", 2017.
    """

    def predict(variables, x, key=None):
        number = jax.tree.leaves(variables)[0].shape[0]

        def of_member(member):
            own, place = member
            own_key = () if key is None else (jax.random.fold_in(key, place),)
            return member_predict(own, x, *own_key)

        each = jax.lax.map(of_member, (variables, jnp.arange(number)))
        log_p = jax.nn.log_softmax(each.need("logits"), axis=-1)
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)
        return mean._replace(
            logits=jax.nn.logsumexp(log_p, axis=0) - jnp.log(number),
            member_logits=jnp.swapaxes(each.logits, 0, 1),
        )

    return predict


def ensemble(learner: Learner, members: int) -> Learner:
    """Trains S members of a learner on the same items, each from its own start.

    Args:
      learner: of one member.
      members: S >= 2.

    Returns:
      `Learner` whose variables have a leading axis of S members, one trained after the
      other, and whose metrics are [S]. `scorers.members` compares their predictions.

    Raises:
      ValueError: members is below 2.

    >>> member = Learner(
    ...     lambda key: jax.random.normal(key, (4, 3)),
    ...     lambda key, v, data, pool: (v, {}),
    ...     lambda v, x, key=None: Outputs(logits=x @ v),
    ... )
    >>> ensemble(member, 5).init(jax.random.key(0)).shape
    (5, 4, 3)

    Reference: Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive
    uncertainty estimation using deep ensembles", 2017.
    """
    if members < 2:
        raise ValueError(f"members={members}; an ensemble has at least 2")

    def init(key):
        return jax.lax.map(learner.init, jax.random.split(key, members))

    def fit(key, variables, data, pool) -> tuple[Any, dict[str, jax.Array]]:
        fit_one = lambda member: learner.fit(*member, data, pool)
        return jax.lax.map(fit_one, (jax.random.split(key, members), variables))

    return Learner(init, fit, stacked(learner.predict))
