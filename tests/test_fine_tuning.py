"""Training from a source's weights, and probabilities divided by class frequencies."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import learners, nn, pool
from jal.types import Data, Outputs

KEY = jax.random.key(0)


def linear(key=None):
    """(init, apply) of a linear model that starts at zero."""
    apply = lambda w, state, x, key, train: (Outputs(logits=x @ w), state)
    return lambda key: (jnp.zeros((3, 2)), ()), apply


def make_data(items=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(items, 3)).astype(np.float32)
    return Data(x, (x[:, 0] > 0).astype(np.int32))


def fit(learner, data, key=KEY):
    """Pool, first weights and fit in one program."""
    items = len(data.y)

    def run(key, data):
        labeled = pool.add(pool.create(items, items), jnp.arange(items))
        return learner.fit(key, learner.init(key), data, labeled)

    return jax.jit(run)(key, data)


def test_it_is_sgd_with_nesterov_momentum_and_decay_in_numpy():
    """One batch an epoch, so that there is no order to the items."""
    data = make_data()
    options = dict(learning_rate=0.3, momentum=0.8, weight_decay=0.01, patience=99)
    learner = learners.fine_tune(*linear(), epochs=6, batch_size=12, **options)
    found, metrics = fit(learner, data)
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y)
    w, velocity = np.zeros((3, 2)), np.zeros((3, 2))
    for _ in range(6):
        z = x @ w
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        error, gradient = np.mean(z.argmax(axis=1) != y), x.T @ (p - np.eye(2)[y]) / 12
        gradient += 0.01 * w
        velocity = 0.8 * velocity + gradient
        w -= 0.3 * (gradient + 0.8 * velocity)
    np.testing.assert_allclose(found.params, w, atol=1e-5)
    assert float(metrics["error"]) == pytest.approx(error)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_rate_falls_to_a_tenth_where_the_error_stays(patience):
    """Constant outputs: the error never changes, the gradient is always 1."""

    def apply(w, state, x, key, train):
        # The gradient of the loss is that of w alone, and the same at any w.
        logits = jnp.stack([w * x[:, 0], jnp.zeros(len(x))], axis=1)
        return Outputs(logits=logits - jax.lax.stop_gradient(logits)), state

    learner = learners.fine_tune(
        lambda key: (jnp.zeros(()), ()),
        apply,
        epochs=8,
        batch_size=4,
        learning_rate=1.0,
        momentum=0.0,
        weight_decay=0.0,
        patience=patience,
    )
    data = Data(np.ones((4, 1), np.float32), np.zeros(4, np.int32))
    found, _ = fit(learner, data)
    # Its first epoch sets the mark; then every `patience` ones cut the rate.
    rates = [0.1 ** (max(epoch - 1, 0) // patience) for epoch in range(8)]
    assert float(found.params) == pytest.approx(0.5 * sum(rates), rel=1e-5)


def test_it_starts_from_the_source_every_time():
    module = nn.ResNet(outputs=3, width=2, blocks=(1,))
    images = np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
    source = jax.jit(nn.from_linen(module, images)[0])(jax.random.key(5))
    init, apply = nn.from_linen(module.clone(outputs=4), images)
    start = learners.from_source(init, source, head="Dense_0")
    params, state = jax.jit(start)(KEY)
    assert params["Dense_0"]["kernel"].shape == (2, 4)
    body = {name: layer for name, layer in params.items() if name != "Dense_0"}
    for name, layer in body.items():
        chex.assert_trees_all_equal(layer, source[0][name])
    chex.assert_trees_all_equal(state, source[1])
    learner = learners.fine_tune(start, apply, epochs=2, batch_size=3)
    data = Data(images, np.array([0, 1, 2, 3, 0, 1]))
    one, _ = fit(learner, data)
    # What was learned before does not matter.
    two, _ = fit(learner._replace(init=lambda key: one), data)
    chex.assert_trees_all_equal(one, two)


@pytest.mark.parametrize(
    "source, head, message",
    [
        (({"a": jnp.zeros(2), "b": jnp.zeros(1)}, ()), "c", "head='c'.*layers are"),
        (({"a": jnp.zeros(3), "b": jnp.zeros(1)}, ()), "b", "names and shapes"),
        (({"d": jnp.zeros(2), "b": jnp.zeros(1)}, ()), "b", "names and shapes"),
        (({"a": jnp.zeros(2), "b": jnp.zeros(1)}, {"mean": 0}), "b", "names and"),
    ],
)
def test_a_source_that_does_not_fit(source, head, message):
    init = lambda key: ({"a": jnp.zeros(2), "b": jnp.zeros(4)}, ())
    with pytest.raises(ValueError, match=message):
        learners.from_source(init, source, head=head)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience"])
def test_mistakes(name):
    with pytest.raises(ValueError, match=f"{name}=0; it must be at least 1"):
        learners.fine_tune(*linear(), **{name: 0})


def scores():
    """A model whose probabilities are its inputs."""
    apply = lambda w, state, x, key, train: (Outputs(logits=jnp.log(x)), state)
    return learners.supervised(
        lambda key: ((), ()), apply, optax.sgd(1), steps=1, batch_size=1
    )


def test_thresholds_on_the_worked_example():
    model = learners.counted(scores(), 3)
    x = np.tile(np.float32([[0.5, 0.3, 0.2]]), (10, 1))
    labels = np.array([0] * 6 + [1] * 3 + [2])
    variables, _ = fit(model, Data(x, labels))
    assert variables.counts.tolist() == [6, 3, 1]
    plain = jax.jit(model.predict)(variables, x).logits
    np.testing.assert_allclose(np.exp(plain), x, rtol=1e-6)
    predict = jax.jit(learners.thresholded(model).predict)
    logits = np.asarray(predict(variables, x).logits)
    np.testing.assert_allclose(np.exp(logits[0]), [0.5 / 0.6, 1.0, 2.0], rtol=1e-5)
    assert int(logits[0].argmax()) == 2


def test_classes_without_labels_have_no_threshold():
    model = learners.counted(scores(), 3)
    x = np.tile(np.float32([[0.5, 0.3, 0.2]]), (4, 1))
    labeled = pool.add(pool.create(4, 2), jnp.array([0, 2]))
    data = pool.hide(Data(x, jnp.array([0, 1, 2, 1])), labeled)
    variables, _ = jax.jit(model.fit)(KEY, model.init(KEY), data, labeled)
    assert variables.counts.tolist() == [1, 0, 1]
    predict = jax.jit(learners.thresholded(model).predict)
    logits = np.asarray(predict(variables, x).logits)
    assert np.isneginf(logits[:, 1]).all() and np.isfinite(logits[:, [0, 2]]).all()
