"""Learners on problems whose solution is known in closed form."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import learners, nn, pool
from jal._core.compile import cpu_compiler_options
from jal.learners import losses
from jal.types import Data, Outputs

KEY = jax.random.key(0)
LABELED = (11, 0, 5, 2, 7, 14)


def labelled(num_items, rows=LABELED):
    """A pool with room for more than it holds."""
    return pool.add(pool.create(num_items, len(rows) + 2), jnp.array(rows))


def linear(shape=(3,)):
    """(init, apply) of a linear model: logits for a matrix, a value for a vector."""
    init = lambda key: (jax.random.normal(key, shape), {"calls": jnp.zeros(())})

    def apply(weights, state, x, key, train):
        y = x @ weights
        state = {"calls": state["calls"] + train}
        return (Outputs(logits=y) if y.ndim == 2 else Outputs(value=y)), state

    return init, apply


def constant():
    """(init, apply) of a value that does not depend on the input."""
    init = lambda key: (jnp.zeros(()), ())
    apply = lambda value, state, x, key, train: (
        Outputs(value=jnp.full(x.shape[0], value)),
        state,
    )
    return init, apply


def fit(learner, data, made, key=KEY, variables=None):
    """Fits under jit, with the data as arguments."""
    variables = learner.init(key) if variables is None else variables
    return jax.jit(learner.fit)(key, variables, data, made)


def regression_data(num_items=16, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_items, 3))
    y = x @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=num_items)
    return Data(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))


def least_squares(**changes):
    options = dict(steps=60, batch_size=4, loss=learners.squared_error, **changes)
    options["optimizer"] = options.get("optimizer", optax.sgd(0.05))
    return learners.supervised(*linear(), **options)


# --- supervised ----------------------------------------------------------------------


def test_cross_entropy_and_squared_error():
    outputs = Outputs(logits=jnp.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]))
    want = [np.log(np.exp([-3, -2, 0]).sum()) + 2, np.log(3)]
    np.testing.assert_allclose(
        learners.cross_entropy(outputs, jnp.array([1, 2])), want, rtol=1e-6
    )
    values = Outputs(value=jnp.array([3.0, -1.0]))
    assert learners.squared_error(values, jnp.array([1.0, 1.0])).tolist() == [4, 4]
    with pytest.raises(ValueError, match="no logits, only \\['value'\\]"):
        learners.cross_entropy(values, jnp.array([0, 1]))
    with pytest.raises(ValueError, match="no value, only \\['logits'\\]"):
        learners.squared_error(outputs, jnp.array([1.0, 1.0]))


def test_linear_regression_converges_to_least_squares():
    data, made = regression_data(), labelled(16)
    rate = optax.exponential_decay(0.1, 500, 0.1)  # mini-batches: the noise must go
    learner = learners.supervised(
        *linear(),
        optax.sgd(rate),
        steps=2500,
        batch_size=8,
        loss=learners.squared_error,
    )
    variables, metrics = fit(learner, data, made)
    rows = np.array(LABELED)
    x, y = np.asarray(data.x)[rows], np.asarray(data.y)[rows]
    want, residual, *_ = np.linalg.lstsq(x, y)
    np.testing.assert_allclose(variables.params, want, atol=0.01)
    # The loss is the mean over the last tenth of the steps.
    np.testing.assert_allclose(metrics["loss"], residual[0] / len(rows), rtol=0.2)
    assert variables.state["calls"] == 2500
    np.testing.assert_allclose(
        learner.predict(variables, data.x).value, data.x @ variables.params, rtol=1e-6
    )


def test_logistic_regression_separates():
    rng = np.random.default_rng(1)
    y = np.arange(30) % 3
    x = 3 * np.eye(3)[y] + rng.normal(size=(30, 3)) / 3
    data = Data(jnp.asarray(x, jnp.float32), jnp.asarray(y))
    learner = learners.supervised(
        *linear((3, 3)), optax.adam(0.1), steps=100, batch_size=8
    )
    variables, metrics = fit(learner, data, labelled(30, range(9)))
    predicted = learner.predict(variables, data.x).logits.argmax(axis=1)
    assert predicted.tolist() == y.tolist()
    assert 0 < metrics["loss"] < 0.1
    evaluated = learners.accuracy(learner)(variables, (data.x, data.y))
    assert evaluated["accuracy"] == 1


def test_only_labelled_items_count():
    data, made = regression_data(), labelled(16)
    owned = jnp.isin(jnp.arange(16), jnp.array(LABELED))
    learner = least_squares()
    want = fit(learner, data._replace(cost=data.y), made)
    for garbage in (jnp.nan, 1e9):
        garbled = Data(
            jnp.where(owned[:, None], data.x, garbage),
            jnp.where(owned, data.y, garbage),
            cost=jnp.full(16, garbage),
        )
        chex.assert_trees_all_equal(fit(learner, garbled, made), want)


def test_inputs_may_be_a_pytree():
    data, made = regression_data(), labelled(16)
    init, apply = linear()
    learner = learners.supervised(
        init,
        lambda w, state, x, key, train: apply(w, state, x["a"] + x["b"], key, train),
        optax.sgd(0.05),
        steps=60,
        batch_size=4,
        loss=learners.squared_error,
    )
    split = data._replace(x={"a": data.x / 2, "b": data.x / 2})
    chex.assert_trees_all_close(
        fit(learner, split, made), fit(least_squares(), data, made), rtol=1e-6
    )


def test_restart_forgets_and_warm_start_goes_on():
    data, made = regression_data(), labelled(16)
    elsewhere = learners.Variables(jnp.full(3, 50.0), {"calls": jnp.float32(7)})
    restarted = least_squares(optimizer=optax.sgd(1e-4))
    warm = least_squares(optimizer=optax.sgd(1e-4), restart=False)
    first, _ = fit(restarted, data, made)
    again, _ = fit(restarted, data, made, variables=elsewhere)
    chex.assert_trees_all_equal(first, again)
    assert first.state["calls"] == 60
    on, _ = fit(warm, data, made, variables=elsewhere)
    np.testing.assert_allclose(on.params, 50, atol=5)
    assert on.state["calls"] == 67
    # A restart with another key starts elsewhere, in `fit` and not only in `init`.
    other, _ = fit(restarted, data, made, key=jax.random.key(3))
    assert (np.abs(other.params - first.params) > 0.1).any()


def test_the_optimizer_starts_afresh():
    """One step of Adam is the learning rate long, whatever was before."""
    data, made = regression_data(), labelled(16)
    learner = learners.supervised(
        *linear(),
        optax.adam(0.01),
        steps=1,
        batch_size=8,
        restart=False,
        loss=learners.squared_error,
    )
    variables = learner.init(KEY)
    for seed in range(3):
        after, _ = fit(learner, data, made, jax.random.key(seed), variables)
        np.testing.assert_allclose(
            np.abs(after.params - variables.params), 0.01, rtol=1e-3
        )
        variables = after


def test_same_key_same_result_other_key_other_mini_batches():
    data, made = regression_data(), labelled(16)
    learner = least_squares(restart=False)
    start = learner.init(KEY)
    results = [
        fit(learner, data, made, key=jax.random.key(seed), variables=start)
        for seed in (1, 1, 2)
    ]
    chex.assert_trees_all_equal(results[0], results[1])
    assert (results[0][0].params != results[2][0].params).any()


def test_the_penalty_shrinks_and_knows_the_number_of_labels():
    data, made = regression_data(), labelled(16)

    def ridge(c):
        return learners.supervised(
            *linear(),
            optax.sgd(0.01),
            steps=1500,
            batch_size=16,
            loss=learners.squared_error,
            penalty=lambda params, count: c / count * jnp.sum(jnp.square(params)),
        )

    rows = np.array(LABELED)
    x, y = np.asarray(data.x)[rows], np.asarray(data.y)[rows]
    norms = [np.linalg.norm(np.linalg.lstsq(x, y)[0])]
    for c in (3.0, 60.0):
        variables, _ = fit(ridge(c), data, made)
        # mean((y - xw)^2) + c/n |w|^2 has the minimum of ridge regression.
        want = np.linalg.solve(x.T @ x + c * np.eye(3), x.T @ y)
        np.testing.assert_allclose(variables.params, want, atol=0.08)
        norms.append(np.linalg.norm(variables.params))
    assert norms[0] > norms[1] > 2 * norms[2]


def test_the_network_is_told_what_it_is_run_for():
    """Keys and `train` as the contract says: training, deterministic, stochastic."""
    calls = []

    def apply(weights, state, x, key, train):
        calls.append((key is not None, train))
        return Outputs(value=x @ weights), state

    learner = learners.supervised(
        lambda key: (jnp.zeros(3), ()),
        apply,
        optax.sgd(0.1),
        steps=2,
        batch_size=2,
        loss=learners.squared_error,
    )
    variables, _ = learner.fit(KEY, learner.init(KEY), regression_data(), labelled(16))
    assert set(calls) == {(True, True)}
    calls.clear()
    learner.predict(variables, jnp.ones((1, 3)))
    learner.predict(variables, jnp.ones((1, 3)), KEY)
    assert calls == [(False, False), (True, False)]


@pytest.mark.parametrize("make", [learners.supervised, learners.regressor])
@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_numbers_of_steps_and_items_are_positive(make, name):
    options = {"steps": 1, "batch_size": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name}=0; it must be at least 1"):
        make(*linear(), optax.sgd(0.1), **options)


# --- regressor -----------------------------------------------------------------------


def regressor(model=None, optimizer=None, **options):
    return learners.regressor(
        *(model or linear()),
        optimizer or optax.adam(0.03),
        **{"steps": 400, "batch_size": 16, **options},
    )


def test_large_targets_are_learned_in_their_unit():
    data, made = regression_data(), labelled(16)
    data = data._replace(y=1000 + 5 * data.y)
    learner = regressor()
    variables, metrics = fit(learner, data, made)
    rows = np.array(LABELED)
    y = np.asarray(data.y, np.float64)[rows]
    np.testing.assert_allclose(variables.center, y.mean(), rtol=1e-6)
    np.testing.assert_allclose(variables.scale, y.std(), rtol=1e-4)
    np.testing.assert_allclose(variables.floor, 0.01 * y.mean(), rtol=1e-6)
    predicted = learner.predict(variables, data.x).value[rows]
    x = np.asarray(data.x)[rows]
    weights = np.linalg.lstsq(x, (y - y.mean()) / y.std())[0]
    want = y.mean() + y.std() * x @ weights
    np.testing.assert_allclose(predicted, want, atol=0.1 * y.std())
    assert metrics["loss"] < 1  # in units of the deviation


@pytest.mark.parametrize("log_targets", [False, True])
def test_only_labelled_targets_count(log_targets):
    data, made = regression_data(), labelled(16)
    data = data._replace(y=jnp.exp(data.y))
    owned = jnp.isin(jnp.arange(16), jnp.array(LABELED))
    learner = regressor(log_targets=log_targets, steps=20)
    want = fit(learner, data, made)
    for garbage in (jnp.nan, 1e9):
        garbled = data._replace(y=jnp.where(owned, data.y, garbage))
        chex.assert_trees_all_equal(fit(learner, garbled, made), want)


@pytest.mark.parametrize("log_targets", [False, True])
def test_logarithms_predict_a_median(log_targets):
    """Inputs that tell nothing: the mean, or the geometric mean, of 1, 1, 1 and 100."""
    y = jnp.array([1.0, 100.0, 1.0, 1.0, 7.0, 7.0])
    data = Data(jnp.zeros((6, 1)), y)
    learner = regressor(
        constant(),
        optax.sgd(optax.exponential_decay(0.1, 500, 0.1)),
        steps=2000,
        log_targets=log_targets,
    )
    variables, _ = fit(learner, data, labelled(6, (0, 1, 2, 3)))
    predicted = learner.predict(variables, data.x[:1]).value[0]
    mean, geometric_mean = 103 / 4, 100 ** (1 / 4)
    want = geometric_mean if log_targets else mean
    np.testing.assert_allclose(predicted, want, rtol=0.05)
    np.testing.assert_allclose(variables.floor, 0.01 * mean, rtol=1e-6)


def test_one_labelled_item_predicts_its_target():
    data = regression_data()._replace(y=jnp.full(16, 3.0).at[4].set(12.5))
    made = labelled(16, (4,))
    for log_targets in (False, True):
        learner = regressor(constant(), log_targets=log_targets, steps=5)
        variables, metrics = fit(learner, data, made)
        assert variables.scale == 1 and metrics["loss"] == 0
        predicted = learner.predict(variables, data.x).value
        np.testing.assert_allclose(predicted, 12.5, rtol=1e-6)


def test_predictions_are_positive():
    data = regression_data()
    data = data._replace(y=1.0 + jnp.square(data.y))
    made = labelled(16)
    far = -100 * data.x
    for share, log_targets in ((0.2, False), (0.01, True)):
        learner = regressor(floor_share=share, log_targets=log_targets, steps=50)
        variables, _ = fit(learner, data, made)
        floor = share * np.asarray(data.y)[np.array(LABELED)].mean()
        predicted = learner.predict(variables, far).value
        assert np.isclose(predicted.min(), floor, rtol=1e-5)
        assert predicted.max() > floor
    with pytest.raises(ValueError, match="floor_share=0; it must be above 0"):
        regressor(floor_share=0)


def test_a_regressor_goes_on_or_restarts():
    data, made = regression_data(), labelled(16)
    data = data._replace(y=50 + data.y)
    for restart in (True, False):
        learner = regressor(restart=restart, optimizer=optax.sgd(1e-4), steps=5)
        start = learner.init(KEY)
        model = start.model._replace(params=jnp.full(3, 50.0))
        start = start._replace(model=model)
        variables, _ = fit(learner, data, made, variables=start)
        assert (jnp.abs(variables.model.params - 50).max() < 1) == (not restart)
        chex.assert_trees_all_equal_shapes_and_dtypes(variables, start)


# --- accuracy ------------------------------------------------------------------------


def test_accuracy_is_evaluated_right_in_any_chunks():
    learner = learners.supervised(
        *linear((3, 4)), optax.sgd(0.1), steps=1, batch_size=1
    )
    variables = learner.init(KEY)
    x = jax.random.normal(jax.random.key(1), (11, 3))
    y = jnp.arange(11) % 4
    logits = np.asarray(x @ variables.params, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    want = {
        "accuracy": (logits.argmax(axis=1) == y).mean(),
        "loss": -log_p[np.arange(11), y].mean(),
    }
    assert 0 < want["accuracy"] < 1
    for batch_size in (None, 1, 4, 11, 50):
        evaluate = jax.jit(learners.accuracy(learner, batch_size=batch_size))
        chex.assert_trees_all_close(
            evaluate(variables, (x, y)), want, rtol=1e-5, atol=1e-6
        )


# ---- by epochs, and with a ranker


def recording(seen):
    """A model that writes down which items it is trained on; x is [N, 1] indices."""

    def init(key):
        return jnp.zeros((1, 2)), ()

    def apply(params, state, x, key=None, train=False, trunk_gradient=None):
        if train:
            jax.debug.callback(
                lambda x, share: seen.append((x[:, 0].astype(int).tolist(), share)),
                x,
                jnp.float32(-1) if trunk_gradient is None else trunk_gradient,
                ordered=True,
            )
        return Outputs(logits=x @ params, loss_score=x[:, 0] * params[0, 0]), state

    return init, apply


def numbered(n, labeled):
    data = Data(jnp.arange(n, dtype=jnp.float32)[:, None], jnp.arange(n) % 2)
    state = pool.add(pool.create(n, len(labeled) + 2), jnp.asarray(labeled))
    return data, state


def test_an_epoch_shows_every_item_once():
    seen, labeled = [], [3, 5, 7, 8, 11, 12, 13]
    data, state = numbered(20, labeled)
    model = learners.by_epochs(*recording(seen), optax.sgd(0.1), epochs=3, batch_size=3)
    model.fit(jax.random.key(0), model.init(jax.random.key(0)), data, state)
    jax.effects_barrier()
    batches = [items for items, _ in seen]
    assert [len(items) for items in batches] == [3] * 9
    orders = [sum(batches[start : start + 3], []) for start in (0, 3, 6)]
    for order in orders:
        assert sorted(order[:7]) == labeled
        assert order[7:] == order[:2]  # the last batch is filled up
    assert len({tuple(order) for order in orders}) == 3


def test_fewer_items_than_a_batch():
    seen = []
    data, state = numbered(9, [4, 6])
    model = learners.by_epochs(*recording(seen), optax.sgd(0.1), epochs=2, batch_size=5)
    model.fit(jax.random.key(0), model.init(jax.random.key(0)), data, state)
    jax.effects_barrier()
    assert [sorted(set(items)) for items, _ in seen] == [[4, 6]] * 2


def test_the_number_of_labels_needs_no_compilation():
    chex.clear_trace_counter()
    data, state = numbered(20, [1, 2, 3])
    model = learners.by_epochs(*recording([]), optax.sgd(0.1), epochs=2, batch_size=2)
    fit = jax.jit(chex.assert_max_traces(model.fit, n=1))
    for _ in range(2):
        fit(jax.random.key(0), model.init(jax.random.key(0)), data, state)
        state = pool.add(state, jnp.array([7, 9]))


def test_the_ranker_is_detached_after_its_share_of_the_epochs():
    seen = []
    data, state = numbered(8, [0, 1, 2, 3])
    model = learners.with_ranker(
        *recording(seen), optax.sgd(0.01), epochs=5, batch_size=4, detach_after=0.6
    )
    model.fit(jax.random.key(0), model.init(jax.random.key(0)), data, state)
    jax.effects_barrier()
    assert [float(share) for _, share in seen] == [1, 1, 1, 0, 0]


def test_the_rate_follows_the_progress():
    """With a constant gradient the weights move by the sum of the rates."""
    init = lambda key: (jnp.zeros(()), ())
    apply = lambda w, state, x, key=None, train=False: (
        Outputs(value=x[:, 0] * w),
        state,
    )
    data, state = numbered(8, [1, 2, 3, 4])
    progress = []

    def rate(at):
        jax.debug.callback(lambda at: progress.append(float(at)), at)
        return jnp.where(at < 0.5, 1.0, 0.1)

    model = learners.by_epochs(
        init,
        apply,
        optax.sgd(1.0),
        epochs=2,
        batch_size=2,
        rate=rate,
        loss=lambda outputs, y: outputs.value,
    )
    variables, _ = model.fit(jax.random.key(0), model.init(None), data, state)
    jax.effects_barrier()
    assert progress == [0, 0.25, 0.5, 0.75]
    # The mean of x is 2.5 over an epoch of two batches.
    np.testing.assert_allclose(variables.params, -(2 * 2.5 * 1.1), rtol=1e-5)


def test_augmented_images_are_trained_on_and_the_others_predicted():
    seen = []
    data, state = numbered(8, [1, 2, 3, 4])
    model = learners.by_epochs(
        *recording(seen),
        optax.sgd(0.1),
        epochs=1,
        batch_size=4,
        augment=lambda key, x: x + 100,
    )
    variables, _ = model.fit(jax.random.key(0), model.init(None), data, state)
    jax.effects_barrier()
    assert sorted(seen[0][0]) == [101, 102, 103, 104]
    plain = data.x @ variables.params
    np.testing.assert_array_equal(model.predict(variables, data.x).logits, plain)


@pytest.mark.parametrize("ranking", [losses.hinge_ranking, losses.logistic_ranking])
def test_the_ranker_learns_an_order(ranking):
    """Items with random labels have a loss that a pixel tells, unlike their class."""
    rng = np.random.default_rng(0)
    n = 400
    hard = rng.random(n) < 0.5
    x = np.zeros((n, 8, 8, 1), np.float32)
    y = rng.integers(0, 2, n)
    x[:, :4] = (2 * y - 1)[:, None, None, None]
    y = np.where(hard, rng.integers(0, 2, n), y)  # labels that cannot be predicted
    x[:, 4:] = hard[:, None, None, None]
    x += 0.05 * rng.normal(size=x.shape)
    data = Data(jnp.asarray(x, jnp.float32), jnp.asarray(y))
    state = pool.add(pool.create(n, 200), jnp.arange(200))
    network = nn.ResNet(outputs=2, width=4, blocks=(1, 1), ranker=True)
    model = learners.with_ranker(
        *nn.from_linen(network, x[:1]),
        optax.adam(3e-3),
        epochs=12,
        batch_size=20,
        ranking=ranking,
    )
    key = jax.random.key(0)
    fit = jax.jit(model.fit, compiler_options=cpu_compiler_options())
    variables, metrics = fit(key, None, data, state)
    assert set(metrics) == {"loss", "ranking_loss"}
    scores = np.asarray(model.predict(variables, data.x[200:]).loss_score)
    hard = hard[200:]
    above = scores[hard][:, None] > scores[~hard][None]
    assert above.mean() > 0.9  # the area under the ROC curve


@pytest.mark.parametrize(
    "factory, changes, message",
    [
        ("by_epochs", dict(epochs=0), "epochs=0; it must be at least 1"),
        ("by_epochs", dict(batch_size=0), "batch_size=0; it must be at least 1"),
        ("with_ranker", dict(batch_size=3), "batch_size=3; it must be even"),
        ("with_ranker", dict(detach_after=1.2), "detach_after=1.2; it must lie"),
        ("with_ranker", dict(weight=-1), "weight=-1; it must not be negative"),
        ("with_ranker", dict(epochs=0), "epochs=0; it must be at least 1"),
    ],
)
def test_bad_training_arguments(factory, changes, message):
    arguments = dict(epochs=1, batch_size=2) | changes
    with pytest.raises(ValueError, match=message):
        getattr(learners, factory)(*recording([]), optax.sgd(0.1), **arguments)
