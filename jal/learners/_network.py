"""Learners: a model given as two functions, together with the way it is trained.

A model is `init(key) -> (params, state)` and
`apply(params, state, x, key, train) -> (Outputs, state)`, pure functions of any
network library or of none. `key` is None for a deterministic pass; `state` holds what
is not trained by gradients (batch-norm averages), `()` if there is nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jal import pool as pools
from jal._core import numerics
from jal._core.checks import at_least_one
from jal.learners import losses
from jal.learners._linear import linear_svm, logistic_regression
from jal.types import Data, Learner, Outputs

__all__ = [
    "CountedVariables",
    "RegressorVariables",
    "Variables",
    "accuracy",
    "by_epochs",
    "counted",
    "cross_entropy",
    "fine_tune",
    "from_source",
    "linear_svm",
    "logistic_regression",
    "regressor",
    "squared_error",
    "supervised",
    "thresholded",
    "with_ranker",
]


class Variables(NamedTuple):
    """What a supervised learner has learned.

    Attributes:
      params: pytree trained by gradients.
      state: pytree of running averages and the like.
    """

    params: Any
    state: Any


class RegressorVariables(NamedTuple):
    """What a regressor has learned.

    Attributes:
      model: the network's variables.
      center: [] mean of the (transformed) targets of the labelled items.
      scale: [] their standard deviation.
      floor: [] smallest value that is predicted, in the unit of the target.
    """

    model: Variables
    center: jax.Array
    scale: jax.Array
    floor: jax.Array


def cross_entropy(outputs: Outputs, y: jax.Array) -> jax.Array:
    """Softmax cross-entropy per item, -ln p_y.

    Args:
      outputs: with `logits` [B, C].
      y: [B] integer labels in [0, C).

    Returns:
      [B] losses in nats.

    >>> outputs = Outputs(logits=jnp.zeros((1, 2)))
    >>> print(cross_entropy(outputs, jnp.array([1])))
    [0.6931472]
    """
    return optax.softmax_cross_entropy_with_integer_labels(outputs.need("logits"), y)


def squared_error(outputs: Outputs, y: jax.Array) -> jax.Array:
    """Squared error per item, (value - y)^2.

    Args:
      outputs: with `value` [B].
      y: [B] targets.

    Returns:
      [B] losses in the squared unit of y.

    >>> squared_error(Outputs(value=jnp.array([3.0])), jnp.array([1.0])).tolist()
    [4.0]
    """
    return jnp.square(outputs.need("value") - y)


def supervised(
    init: Callable,
    apply: Callable,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
    restart: bool = True,
    loss: Callable[[Outputs, jax.Array], jax.Array] = cross_entropy,
    penalty: Callable[[Any, jax.Array], jax.Array] | None = None,
) -> Learner:
    """Trains a network by a fixed number of mini-batch steps in every round.

    Mini-batches are drawn with replacement from the labelled items; the optimizer
    starts afresh in every round.

    Args:
      init: (key) -> (params, state).
      apply: (params, state, x [B, ...], key, train) -> (Outputs, state).
      optimizer: an Optax gradient transformation.
      steps: optimizer steps a round.
      batch_size: B.
      restart: True trains from a fresh `init` in every round, False goes on from the
        weights of the round before (warm start).
      loss: (outputs, y [B]) -> [B].
      penalty: (params, number of labels []) -> [], added to the mean loss, or None.

    Returns:
      `Learner` with `Variables`, whose fit metrics hold `loss`, the mean over the last
      tenth of the steps.

    Raises:
      ValueError: steps or batch_size is below 1.

    >>> init = lambda key: (jnp.zeros((2, 3)), ())
    >>> apply = lambda w, state, x, key, train: (Outputs(logits=x @ w), state)
    >>> learner = supervised(init, apply, optax.adam(0.1), steps=20, batch_size=4)
    >>> data = Data(x=jnp.eye(2), y=jnp.array([0, 2]))
    >>> pool = pools.add(pools.create(2, capacity=2), jnp.array([0, 1]))
    >>> key = jax.random.key(0)
    >>> variables, _ = learner.fit(key, learner.init(key), data, pool)
    >>> learner.predict(variables, data.x).logits.argmax(axis=1).tolist()
    [0, 2]
    """
    at_least_one(steps=steps, batch_size=batch_size)

    def objective(params, state, x, y, key, count):
        outputs, state = apply(params, state, x, key=key, train=True)
        value = jnp.mean(loss(outputs, y))
        if penalty is not None:
            value += penalty(params, count)
        return value, state

    def fit(key, variables, data, pool):
        init_key, train_key = jax.random.split(key)
        params, state = init(init_key) if restart else variables

        def step(carry, number):
            params, state, optimizer_state = carry
            batch_key, dropout_key = jax.random.split(
                jax.random.fold_in(train_key, number)
            )
            rows = pools.minibatch(batch_key, pool, batch_size)
            x = numerics.take_rows(data.x, rows)
            (value, state), gradients = jax.value_and_grad(objective, has_aux=True)(
                params, state, x, data.y[rows], dropout_key, pool.count
            )
            updates, optimizer_state = optimizer.update(
                gradients, optimizer_state, params
            )
            params = optax.apply_updates(params, updates)
            return (params, state, optimizer_state), value

        start = (params, state, optimizer.init(params))
        (params, state, _), losses = jax.lax.scan(step, start, jnp.arange(steps))
        metrics = {"loss": jnp.mean(losses[-max(1, steps // 10) :])}
        return Variables(params, state), metrics

    def predict(variables, x, key=None):
        return apply(variables.params, variables.state, x, key=key, train=False)[0]

    return Learner(lambda key: Variables(*init(key)), fit, predict)


def by_epochs(
    init: Callable,
    apply: Callable,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    rate: Callable[[jax.Array], jax.Array] = lambda progress: jnp.ones_like(progress),
    augment: Callable[[jax.Array, Any], Any] | None = None,
    loss: Callable[[Outputs, jax.Array], jax.Array] = cross_entropy,
) -> Learner:
    """Trains a network from scratch in every round, for a number of epochs.

    An epoch shows every labelled item once, in an order of its own; the last batch is
    filled up with the first items of that order. The number of labels is traced: rounds
    with more labels take more steps, and need no compilation of their own.

    Args:
      init: (key) -> (params, state).
      apply: (params, state, x [B, ...], key, train) -> (Outputs, state).
      optimizer: an Optax gradient transformation.
      epochs: a round.
      batch_size: B.
      rate: (progress [] from 0 to 1) -> [] factor on the updates of `optimizer`, so
        that one with learning_rate=1 follows `rate`.
      augment: (key, x [B, ...]) -> x, changes training images at random.
      loss: (outputs, y [B]) -> [B].

    Returns:
      `Learner` with `Variables`, whose fit metrics hold `loss`, the mean over the last
      epoch.

    Raises:
      ValueError: epochs or batch_size is below 1.

    >>> init = lambda key: (jnp.zeros((2, 3)), ())
    >>> apply = lambda w, state, x, key, train: (Outputs(logits=x @ w), state)
    >>> learner = by_epochs(init, apply, optax.sgd(1.0), epochs=20, batch_size=2)
    >>> data = Data(x=jnp.eye(2), y=jnp.array([0, 2]))
    >>> pool = pools.add(pools.create(2, capacity=2), jnp.array([0, 1]))
    >>> key = jax.random.key(0)
    >>> variables, _ = learner.fit(key, learner.init(key), data, pool)
    >>> learner.predict(variables, data.x).logits.argmax(axis=1).tolist()
    [0, 2]
    """

    def objective(params, state, x, y, key, progress):
        del progress
        outputs, state = apply(params, state, x, key=key, train=True)
        value = jnp.mean(loss(outputs, y))
        return value, (state, {"loss": value})

    return _epoch_learner(
        init, apply, optimizer, objective, ("loss",), epochs, batch_size, rate, augment
    )


def with_ranker(
    init: Callable,
    apply: Callable,
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    ranking: Callable[[jax.Array, jax.Array], jax.Array] = losses.logistic_ranking,
    weight: float = 1.0,
    detach_after: float = 0.6,
    rate: Callable[[jax.Array], jax.Array] = lambda progress: jnp.ones_like(progress),
    augment: Callable[[jax.Array, Any], Any] | None = None,
) -> Learner:
    """Trains a network together with a ranker, which predicts the loss of each item.

    mean cross-entropy + weight * ranking(predicted losses, cross-entropies), by epochs
    as in `by_epochs`. From a share of the epochs on the ranker's gradient no longer
    reaches the trunk it sits on.

    Args:
      init: (key) -> (params, state) of network and ranker together.
      apply: (params, state, x [B, ...], key, train, trunk_gradient=[]) ->
        (Outputs with `logits` and `loss_score`, state); trunk_gradient, 1 or 0, is the
        share of the ranker's gradient that reaches the trunk. `nn.from_linen` of
        `nn.ResNet(ranker=True)` is such a pair.
      optimizer: an Optax gradient transformation.
      epochs: a round.
      batch_size: B, even, because items are ranked in pairs.
      ranking: (predicted losses [B], losses [B]) -> [], of `jal.losses`.
      weight: of the ranking loss, >= 0.
      detach_after: share of the epochs, from 0 to 1.
      rate: as in `by_epochs`.
      augment: as in `by_epochs`.

    Returns:
      `Learner` with `Variables`, whose predictions have a `loss_score`, and whose fit
      metrics hold `loss` and `ranking_loss`, means over the last epoch.

    Raises:
      ValueError: epochs, batch_size, weight or detach_after is out of range.

    >>> from jal import nn
    >>> network = nn.ResNet(width=2, blocks=(1,), ranker=True)
    >>> init, apply = nn.from_linen(network, jnp.zeros((1, 8, 8, 1)))
    >>> learner = with_ranker(init, apply, optax.sgd(0.1), epochs=2, batch_size=4)
    >>> variables = learner.init(jax.random.key(0))
    >>> learner.predict(variables, jnp.zeros((3, 8, 8, 1))).loss_score.shape
    (3,)

    Reference: Yoo and Kweon, "Learning loss for active learning", 2019, section 3.1;
    Kim, Park, Kim and Chun, "Task-aware variational adversarial active learning", 2020,
    eq. 5.
    """
    if batch_size % 2:
        raise ValueError(
            f"batch_size={batch_size}; it must be even, because items are ranked in "
            "pairs"
        )
    if not 0 <= detach_after <= 1:
        raise ValueError(f"detach_after={detach_after}; it must lie between 0 and 1")
    if weight < 0:
        raise ValueError(f"weight={weight}; it must not be negative")

    def objective(params, state, x, y, key, progress):
        attached = (progress < detach_after).astype(jnp.float32)
        outputs, state = apply(
            params, state, x, key=key, train=True, trunk_gradient=attached
        )
        values = cross_entropy(outputs, y)
        rank = ranking(outputs.need("loss_score"), values)
        value = jnp.mean(values) + weight * rank
        return value, (state, {"loss": value, "ranking_loss": rank})

    names = ("loss", "ranking_loss")
    return _epoch_learner(
        init, apply, optimizer, objective, names, epochs, batch_size, rate, augment
    )


def _epoch_learner(
    init,
    apply,
    optimizer,
    objective,
    names,
    epochs,
    batch_size,
    rate,
    augment,
    plateau=None,
) -> Learner:
    """What `by_epochs`, `with_ranker` and `fine_tune` share.

    `objective` is (params, state, x, y, key, progress) -> (loss, (state, metrics)), and
    `names` are those of its metrics. `plateau`, such as
    `optax.contrib.reduce_on_plateau`, is shown the last of them after each epoch, and
    scales the updates of the next.
    """
    plateau = optax.with_extra_args_support(plateau or optax.identity())
    at_least_one(epochs=epochs, batch_size=batch_size)
    gradient = jax.value_and_grad(objective, has_aux=True)

    def fit(key, variables, data, pool):
        del variables  # every round starts afresh
        init_key, order_key, train_key = jax.random.split(key, 3)
        params, state = init(init_key)
        batches = -(-pool.count // batch_size)

        def run_epoch(carry, epoch):
            *carry, factor, plateau_state = carry
            order = pools.shuffled(jax.random.fold_in(order_key, epoch), pool)
            epoch_key = jax.random.fold_in(train_key, epoch)

            def step(number, carry):
                params, state, optimizer_state, sums = carry
                places = number * batch_size + jnp.arange(batch_size)
                rows = order[places % pool.count]
                x = numerics.take_rows(data.x, rows)
                augment_key, dropout_key = jax.random.split(
                    jax.random.fold_in(epoch_key, number)
                )
                if augment is not None:
                    x = augment(augment_key, x)
                progress = (epoch + number / batches) / epochs
                (_, (state, metrics)), gradients = gradient(
                    params, state, x, data.y[rows], dropout_key, progress
                )
                updates, optimizer_state = optimizer.update(
                    gradients, optimizer_state, params
                )
                scale = rate(progress) * factor
                updates = jax.tree.map(lambda leaf: scale * leaf, updates)
                params = optax.apply_updates(params, updates)
                sums = jax.tree.map(jnp.add, sums, metrics)
                return params, state, optimizer_state, sums

            start = (*carry, {name: jnp.zeros(()) for name in names})
            *carry, sums = jax.lax.fori_loop(0, batches, step, start)
            means = jax.tree.map(lambda total: total / batches, sums)
            plateau_carry = plateau.update(one, plateau_state, value=means[names[-1]])
            return (*carry, *plateau_carry), means

        one = jnp.ones(())
        start = (params, state, optimizer.init(params), one, plateau.init(params))
        (params, state, *_), metrics = jax.lax.scan(
            run_epoch, start, jnp.arange(epochs)
        )
        return Variables(params, state), jax.tree.map(lambda leaf: leaf[-1], metrics)

    def predict(variables, x, key=None):
        return apply(variables.params, variables.state, x, key=key, train=False)[0]

    return Learner(lambda key: Variables(*init(key)), fit, predict)


def fine_tune(
    init: Callable,
    apply: Callable,
    *,
    epochs: int = 80,
    batch_size: int = 64,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 1e-3,
    patience: int = 10,
    augment: Callable[[jax.Array, Any], Any] | None = None,
) -> Learner:
    """Trains all layers from the weights of a source network, anew in every round.

    SGD with Nesterov momentum, whose rate falls to a tenth when the share of training
    items that are wrong has not fallen for some epochs.

    Args:
      init: (key) -> (params, state) of the source, with a new head; see `from_source`.
      apply: (params, state, x [B, ...], key, train) -> (Outputs, state).
      epochs: a round.
      batch_size: B.
      learning_rate: at first.
      momentum: Nesterov's.
      weight_decay: added to the gradient, of all weights.
      patience: epochs without progress before the rate falls.
      augment: (key, x [B, ...]) -> x, changes training images at random.

    Returns:
      `Learner` with `Variables`, whose fit metrics hold `loss` and `error`, means over
      the last epoch.

    Raises:
      ValueError: epochs, batch_size or patience is below 1.

    >>> init = lambda key: (jnp.zeros((2, 3)), ())
    >>> apply = lambda w, state, x, key, train: (Outputs(logits=x @ w), state)
    >>> learner = fine_tune(init, apply, epochs=5, batch_size=2)
    >>> data = Data(x=jnp.eye(2), y=jnp.array([0, 2]))
    >>> pool = pools.add(pools.create(2, capacity=2), jnp.array([0, 1]))
    >>> key = jax.random.key(0)
    >>> variables, metrics = learner.fit(key, learner.init(key), data, pool)
    >>> float(metrics["error"])
    0.0

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022 (fine-tuning scheme).
    """
    at_least_one(patience=patience)

    def objective(params, state, x, y, key, progress):
        del progress
        outputs, state = apply(params, state, x, key=key, train=True)
        value = jnp.mean(cross_entropy(outputs, y))
        wrong = jnp.argmax(outputs.need("logits"), axis=-1) != y
        return value, (state, {"loss": value, "error": jnp.mean(wrong.astype(float))})

    optimizer = optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum=momentum, nesterov=True),
    )
    return _epoch_learner(
        init,
        apply,
        optimizer,
        objective,
        ("loss", "error"),
        epochs,
        batch_size,
        lambda progress: jnp.ones_like(progress),
        augment,
        optax.contrib.reduce_on_plateau(factor=0.1, patience=patience),
    )


def from_source(init: Callable, source: tuple[Any, Any], *, head: str) -> Callable:
    """An `init` that takes a source network's weights, all but those of its last layer.

    Args:
      init: (key) -> (params, state) of a network with the same layers as the source;
        params is a dict by layer.
      source: (params, state) of the source.
      head: name of the layer that is not taken, in params.

    Returns:
      (key) -> (params, state), of which only the head depends on the key.

    Raises:
      ValueError: there is no such layer, or another has another shape in the source.

    >>> init = lambda key: ({"body": jnp.zeros(2), "head": jnp.zeros(5)}, ())
    >>> source = ({"body": jnp.ones(2), "head": jnp.ones(9)}, ())
    >>> params, _ = from_source(init, source, head="head")(jax.random.key(0))
    >>> params["body"].tolist(), params["head"].tolist()
    ([1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0])
    """
    params, state = source
    wanted = jax.eval_shape(init, jax.random.key(0))
    if head not in wanted[0]:
        raise ValueError(f"head={head!r}; the network's layers are {list(wanted[0])}")
    body = lambda layers: {name: layers[name] for name in layers if name != head}
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    if shapes((body(wanted[0]), wanted[1])) != shapes((body(params), state)):
        raise ValueError(
            f"the source's layers, {head!r} left out, do not have the network's names "
            "and shapes"
        )

    def start(key):
        return {**body(params), head: init(key)[0][head]}, state

    return start


class CountedVariables(NamedTuple):
    """What a learner has learned, and from how many items of each class.

    Attributes:
      model: the learner's variables.
      counts: [C] float, labels of each class.
    """

    model: Any
    counts: jax.Array


def counted(learner: Learner, num_classes: int) -> Learner:
    """Counts the classes of the labels beside what a learner does, for `thresholded`.

    Args:
      learner: a classifier.
      num_classes: C.

    Returns:
      `Learner` with `CountedVariables` that predicts as `learner` does.

    >>> svm = counted(linear_svm(2, 3, strengths=(1.0,)), 3)
    >>> svm.init(jax.random.key(0)).counts.shape
    (3,)
    """

    def fit(key, variables, data, pool):
        model, metrics = learner.fit(key, variables.model, data, pool)
        one_hot = jax.nn.one_hot(data.y, num_classes)
        counts = jnp.sum(one_hot, axis=0, where=pool.labeled[:, None])
        return CountedVariables(model, counts), metrics

    return Learner(
        lambda key: CountedVariables(learner.init(key), jnp.zeros(num_classes)),
        fit,
        lambda variables, x, key=None: learner.predict(variables.model, x, key),
    )


def thresholded(learner: Learner) -> Learner:
    """Divides probabilities by how frequent a class is among the labels.

    p_c / (n_c / n), normalised, against the preference that training on imbalanced
    labels teaches. To choose by plain probabilities and be evaluated by these, run the
    loop with `learner` and evaluate with `accuracy(thresholded(learner))`.

    Args:
      learner: what `counted` returned.

    Returns:
      `Learner` whose logits are lower by ln(n_c / n); -inf for classes without labels.

    >>> init = lambda key: ((), ())
    >>> apply = lambda w, state, x, key, train: (Outputs(logits=jnp.log(x)), state)
    >>> model = counted(supervised(init, apply, optax.sgd(1), steps=1, batch_size=1), 3)
    >>> counts = jnp.array([60.0, 30.0, 10.0])
    >>> variables = CountedVariables(Variables((), ()), counts)
    >>> outputs = thresholded(model).predict(variables, jnp.array([[0.5, 0.3, 0.2]]))
    >>> print(jnp.exp(outputs.logits).round(4))
    [[0.8333 1.     2.    ]]

    Reference: Buda, Maki and Mazurowski, "A systematic study of the class imbalance
    problem in convolutional neural networks", 2018, section 3.3.
    """

    def predict(variables, x, key=None):
        outputs = learner.predict(variables, x, key)
        logits, counts = outputs.need("logits"), variables.counts
        prior = counts / jnp.maximum(jnp.sum(counts), 1)
        lower = logits - jnp.log(jnp.where(prior > 0, prior, 1))[None]
        return outputs._replace(logits=jnp.where(prior[None] > 0, lower, -jnp.inf))

    return learner._replace(predict=predict)


def regressor(
    init: Callable,
    apply: Callable,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int,
    restart: bool = True,
    log_targets: bool = False,
    floor_share: float = 0.01,
) -> Learner:
    """Learns a positive quantity, such as the annotation cost, from labelled items.

    The network fits (t - center) / scale, t = y or ln y, with center and scale taken
    from the labelled items; predictions are max(value, floor) in the unit of y.

    Args:
      init: as in `supervised`.
      apply: as in `supervised`, with `Outputs.value` [B].
      optimizer: an Optax gradient transformation.
      steps: optimizer steps a round.
      batch_size: B.
      restart: as in `supervised`.
      log_targets: fit ln y. Exponentiating then predicts a median, which is below the
        mean.
      floor_share: smallest prediction, as a share of the mean labelled y.

    Returns:
      `Learner` with `RegressorVariables`; `data.y` holds the targets, all > 0.

    Raises:
      ValueError: steps or batch_size is below 1, or floor_share not above 0.

    >>> init = lambda key: (jnp.zeros(2), ())
    >>> apply = lambda w, state, x, key, train: (Outputs(value=x @ w), state)
    >>> learner = regressor(init, apply, optax.adam(0.1), steps=99, batch_size=4)
    >>> data = Data(x=jnp.eye(2), y=jnp.array([10.0, 30.0]))
    >>> pool = pools.add(pools.create(2, capacity=2), jnp.array([0, 1]))
    >>> key = jax.random.key(0)
    >>> variables, _ = learner.fit(key, learner.init(key), data, pool)
    >>> print(learner.predict(variables, data.x).value.round())
    [10. 30.]

    Reference: Bernatchez, Durand and Lavoie-Cardinal, "Annotation cost-sensitive deep
    active learning with limited data", 2022, Methods (learned annotation costs).
    """
    if not floor_share > 0:
        raise ValueError(f"floor_share={floor_share}; it must be above 0")
    network = supervised(
        init,
        apply,
        optimizer,
        steps=steps,
        batch_size=batch_size,
        restart=restart,
        loss=squared_error,
    )

    def init_variables(key):
        one = jnp.ones(())
        return RegressorVariables(network.init(key), 0 * one, one, 0 * one)

    def fit(key, variables, data, pool):
        # In the default precision, whatever that of y: a loop carries the variables.
        y = data.y.astype(jnp.result_type(float))
        count = pool.count.astype(y.dtype)
        mean = lambda values: jnp.sum(jnp.where(pool.labeled, values, 0)) / count
        targets = jnp.log(y) if log_targets else y
        center = mean(targets)
        deviation = jnp.sqrt(mean(jnp.square(targets - center)))
        scale = jnp.where(deviation > 0, deviation, 1.0)
        standard = Data(data.x, (targets - center) / scale)
        model, metrics = network.fit(key, variables.model, standard, pool)
        floor = floor_share * mean(y)
        return RegressorVariables(model, center, scale, floor), metrics

    def predict(variables, x, key=None):
        value = network.predict(variables.model, x, key).need("value")
        value = value * variables.scale + variables.center
        value = jnp.exp(value) if log_targets else value
        return Outputs(value=jnp.maximum(value, variables.floor))

    return Learner(init_variables, fit, predict)


def accuracy(learner: Learner, *, batch_size: int | None = None) -> Callable:
    """An `evaluate` function for `loop.run`: accuracy and loss on test data.

    Args:
      learner: whose deterministic predictions are evaluated.
      batch_size: items evaluated at a time, or None for all of them.

    Returns:
      (variables, (x [n, ...], y [n])) -> {"accuracy": [], "loss": [] in nats}.

    >>> init = lambda key: (jnp.eye(2), ())
    >>> apply = lambda w, state, x, key, train: (Outputs(logits=x @ w), state)
    >>> learner = supervised(init, apply, optax.sgd(0.1), steps=1, batch_size=1)
    >>> variables = learner.init(jax.random.key(0))
    >>> test = (jnp.eye(2), jnp.array([0, 0]))
    >>> float(accuracy(learner)(variables, test)["accuracy"])
    0.5
    """

    def evaluate(variables, test):
        x, y = test

        def of_item(item):
            x, y = jax.tree.map(lambda leaf: leaf[None], item)
            outputs = learner.predict(variables, x)
            hit = jnp.argmax(outputs.need("logits"), axis=-1) == y
            return hit[0].astype(jnp.float32), cross_entropy(outputs, y)[0]

        if batch_size is None:
            hits, losses = jax.vmap(of_item)((x, y))
        else:
            hits, losses = jax.lax.map(of_item, (x, y), batch_size=batch_size)
        return {"accuracy": jnp.mean(hits), "loss": jnp.mean(losses)}

    return evaluate
