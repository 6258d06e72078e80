"""Linear classifiers against scikit-learn, and cross-validation against brute force."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jal import learners, loop, pool, strategies
from jal.types import Data

pytest.importorskip("sklearn")
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

KEY = jax.random.key(0)
MAKERS = {"svm": learners.linear_svm, "logistic": learners.logistic_regression}
every_kind = pytest.mark.parametrize("kind", MAKERS)


def problem(items=120, features=8, classes=4, spread=0.5, seed=0):
    """Overlapping classes in directions of unit length, some larger than others."""
    rng = np.random.default_rng(seed)
    centers = spread * rng.normal(size=(classes, features))
    shares = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()

    def draw(number):
        y = rng.choice(classes, number, p=shares)
        x = centers[y] + rng.normal(size=(number, features))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y

    return *draw(items), *draw(2000)


@functools.cache
def learner_of(kind, features, classes, **options):
    return MAKERS[kind](features, classes, **options)


@functools.cache
def fit_of(learner):
    """First weights and fit in one program."""
    return jax.jit(
        lambda key, data, labeled: learner.fit(key, learner.init(key), data, labeled)
    )


@functools.partial(jax.jit, static_argnames=("items", "capacity"))
def label(rows, items, capacity):
    return pool.add(pool.create(items, capacity), rows)


@functools.cache
def predict_of(learner):
    return jax.jit(learner.predict)


def logits_of(learner, variables, x):
    return np.asarray(predict_of(learner)(variables, x).logits)


def fit(learner, x, y, *, capacity=None, key=KEY, rows=None):
    rows = np.arange(len(y)) if rows is None else rows
    capacity = capacity or len(rows)
    more = max(0, capacity - len(y))
    x, y = np.pad(x, ((0, more), (0, 0))), np.pad(y, (0, more))
    data = Data(x, np.asarray(y, np.int32))
    return fit_of(learner)(key, data, label(rows, len(y), capacity))


def with_ones(x):
    return np.concatenate([x, np.ones_like(x[:, :1])], axis=1).astype(np.float64)


def class_weights(y, balanced):
    seen, counts = np.unique(y, return_counts=True)
    if not balanced:
        return dict.fromkeys(seen.tolist(), 1.0)
    return dict(zip(seen.tolist(), len(y) / (len(seen) * counts), strict=True))


def objective(kind, weights, x, y, strength, balanced):
    """What is minimised, in float64, of the classes that there are."""
    scores, share = with_ones(x) @ weights, class_weights(y, balanced)
    seen = sorted(share)
    size = np.sum(weights[:, seen] ** 2) / 2
    if kind == "svm":
        total = 0.0
        for c in seen:
            t = np.where(y == c, 1, -1)
            weight = np.where(y == c, share[c], 1.0)
            total += np.sum(weight * np.maximum(0, 1 - t * scores[:, c]) ** 2)
        return size + strength * total
    scores = scores[:, seen]
    top = scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
    losses -= scores[np.arange(len(y)), np.searchsorted(seen, y)]
    return size + strength * np.sum(np.vectorize(share.get)(y) * losses)


def reference(kind, x, y, strength, balanced=False):
    """scikit-learn's weights [D + 1, seen classes]."""
    weight = "balanced" if balanced else None
    if kind == "svm":
        made = LinearSVC(
            C=strength, tol=1e-8, max_iter=10**6, dual=True, class_weight=weight,
            random_state=0,
        ).fit(x.astype(np.float64), y)  # fmt: skip
        return np.concatenate([made.coef_, made.intercept_[:, None]], axis=1).T
    made = LogisticRegression(
        C=strength, tol=1e-8, max_iter=10**5, fit_intercept=False, class_weight=weight
    ).fit(with_ones(x), y)
    return made.coef_.T


PROBLEMS = {
    "few": dict(items=30, features=5, classes=3),
    "many classes": dict(items=150, features=16, classes=12, spread=0.8),
    "more features than items": dict(items=40, features=64, classes=3),
    "overlapping": dict(items=300, features=4, classes=5, spread=0.2),
}


@every_kind
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("strength, balanced", [(0.1, False), (10.0, True)])
def test_the_optimum_is_that_of_scikit_learn(kind, name, strength, balanced):
    sizes = PROBLEMS[name]
    x, y, test_x, _ = problem(**sizes)
    learner = learner_of(
        kind,
        sizes["features"],
        sizes["classes"],
        strengths=(strength,),
        balanced=balanced,
        tolerance=1e-6,
    )
    variables, metrics = fit(learner, x, y)
    weights = np.asarray(variables.weights, np.float64)
    expected = np.zeros_like(weights)
    expected[:, np.unique(y)] = reference(kind, x, y, strength, balanced)
    best = objective(kind, expected, x, y, strength, balanced)
    found = objective(kind, weights, x, y, strength, balanced)
    assert best * (1 - 1e-6) <= found <= best * (1 + 1e-5)
    logits = logits_of(learner, variables, test_x)
    theirs = np.unique(y)[(with_ones(test_x) @ expected)[:, np.unique(y)].argmax(1)]
    assert np.mean(logits.argmax(axis=1) == theirs) >= 0.995
    assert 0 < int(metrics["steps"]) < 300
    assert np.isnan(metrics["cross_validated"])


@every_kind
def test_the_strength_is_the_one_that_is_right_most_often_when_left_out(kind):
    number = 91
    x, y, *_ = problem(items=number, features=12, spread=0.6, seed=2)
    strengths = (0.01, 0.1, 1.0, 10.0)
    learner = learner_of(kind, 12, 4, strengths=strengths, tolerance=1e-6)
    variables, metrics = fit(learner, x, y)
    everything = pool.add(pool.create(number, number), jnp.arange(number))
    rows = np.asarray(pool.shuffled(KEY, everything))
    fold = np.arange(number) % 3
    hits = []
    for strength in strengths:
        right = 0
        for each in range(3):
            train, left = rows[fold != each], rows[fold == each]
            weights = reference(kind, x[train], y[train], strength)
            scores = with_ones(x[left]) @ weights
            right += np.sum(np.unique(y[train])[scores.argmax(axis=1)] == y[left])
        hits.append(right)
    # Far enough from the next one for an item on the border not to matter.
    assert np.argmax(hits) == 3 and np.diff(np.sort(hits))[-1] >= 3
    assert float(variables.strength) == 10
    assert float(metrics["cross_validated"]) == pytest.approx(max(hits) / number, 0.02)
    # The last fit is with all items.
    weights = np.asarray(variables.weights, np.float64)
    found = objective(kind, weights, x, y, 10, False)
    best = objective(kind, reference(kind, x, y, 10), x, y, 10, False)
    assert found == pytest.approx(best, rel=1e-5)


@every_kind
def test_the_buffer_may_be_larger(kind):
    """Full, and less than half full."""
    x, y, *_ = problem(items=50)
    learner = learner_of(kind, 8, 4, strengths=(1.0,), tolerance=1e-7)
    full, larger = (fit(learner, x, y, capacity=c)[0].weights for c in (50, 120))
    np.testing.assert_allclose(larger, full, atol=2e-3)


@every_kind
def test_the_order_of_the_items_does_not_matter(kind):
    x, y, *_ = problem(items=50)
    order = np.random.default_rng(0).permutation(50)
    learner = learner_of(kind, 8, 4, strengths=(1.0,), tolerance=1e-7)
    one, _ = fit(learner, x, y)
    other, _ = fit(learner, x[order], y[order], key=jax.random.key(1))
    np.testing.assert_allclose(other.weights, one.weights, atol=2e-3)


@every_kind
def test_classes_without_labels_have_no_probability(kind):
    x, y, test_x, _ = problem(items=60)
    y = np.where(y == 2, 3, y)
    learner = learner_of(kind, 8, 4, strengths=(1.0,))
    variables, _ = fit(learner, x, y)
    logits = logits_of(learner, variables, test_x)
    assert variables.seen.tolist() == [True, True, False, True]
    assert np.isneginf(logits[:, 2]).all() and np.isfinite(logits[:, [0, 1, 3]]).all()
    without = learner_of(kind, 8, 3, strengths=(1.0,))
    fewer, _ = fit(without, x, np.where(y == 3, 2, y))
    np.testing.assert_allclose(
        logits_of(without, fewer, test_x),
        logits[:, [0, 1, 3]],
        atol=5e-3,
    )


@every_kind
@pytest.mark.parametrize("labels", [[1], [0, 2], [2, 2, 2, 2, 2]])
def test_very_few_labels(kind, labels):
    """One class, fewer items than folds, folds with nothing to learn from."""
    x, _, test_x, _ = problem(items=len(labels))
    learner = learner_of(kind, 8, 4)
    variables, metrics = fit(learner, x, np.array(labels), capacity=30)
    logits = logits_of(learner, variables, test_x)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert np.isfinite(p).all()
    assert set(np.asarray(p).argmax(axis=1).tolist()) <= set(labels)
    if len(set(labels)) == 1:
        np.testing.assert_array_equal(p[:, labels[0]], 1)
        # Of equal strengths the smallest.
        assert float(metrics["strength"]) == pytest.approx(0.001)
    if len(labels) == 1:
        assert float(metrics["cross_validated"]) == 0


@every_kind
def test_unlabelled_items_do_not_matter(kind):
    x, y, *_ = problem(items=40)
    learner = learner_of(kind, 8, 4)
    rows = np.arange(0, 40, 2)
    one, _ = fit(learner, x, y, rows=rows)
    changed, hidden = x.copy(), np.full_like(y, -1)
    changed[1::2], hidden[rows] = 7, y[rows]
    chex.assert_trees_all_equal(one, fit(learner, changed, hidden, rows=rows)[0])


def test_the_gradient_vanishes_at_the_optimum():
    """|gradient|^2 / 2 bounds the distance from the minimum, by a float64 reference."""
    x, y, *_ = problem(items=80)
    learner = learner_of("svm", 8, 4, strengths=(1.0,), tolerance=1e-5)
    weights = np.asarray(fit(learner, x, y)[0].weights, np.float64)
    ones = with_ones(x)
    for c in range(4):
        t, w = np.where(y == c, 1, -1), weights[:, c]
        slack = np.maximum(0, 1 - t * (ones @ w))
        gradient = w - 2 * ones.T @ (t * slack)
        assert gradient @ gradient / 2 <= 2e-5 * (w @ w / 2 + np.sum(slack**2))


def test_temperature_divides_the_logits():
    x, y, test_x, _ = problem(items=40)
    sharp, flat = (
        learner_of("svm", 8, 4, strengths=(1.0,), temperature=t) for t in (1.0, 2.0)
    )
    one, other = (
        logits_of(model, fit(model, x, y)[0], test_x) for model in (sharp, flat)
    )
    np.testing.assert_allclose(one, 2 * other, rtol=1e-6)


@every_kind
def test_seeds_side_by_side(kind):
    x, y, *_ = problem(items=30)
    learner = learner_of(kind, 8, 4, strengths=(0.1, 1.0), tolerance=1e-6)
    data, labeled = Data(x, np.asarray(y, np.int32)), label(np.arange(30), 30, 30)
    keys = jax.random.split(KEY, 2)
    train = lambda key: fit_of(learner)(key, data, labeled)[0]
    together = jax.jit(jax.vmap(train))(keys)
    for number, key in enumerate(keys):
        alone = fit(learner, x, y, key=key)[0]
        assert float(together.strength[number]) == float(alone.strength)
        np.testing.assert_allclose(together.weights[number], alone.weights, atol=2e-3)


def test_the_loop_compiles_the_fit_once():
    chex.clear_trace_counter()
    x, y, test_x, test_y = problem(items=100)
    learner = learner_of("svm", 8, 4, strengths=(0.1, 1.0))
    counted = learner._replace(fit=chex.assert_max_traces(learner.fit, n=1))
    data = Data(jnp.asarray(x), jnp.asarray(y, jnp.int32))

    def accuracy(variables, test):
        del test
        logits = learner.predict(variables, jnp.asarray(test_x)).logits
        return {"accuracy": jnp.mean(jnp.argmax(logits, axis=1) == test_y)}

    _, infos = jax.jit(
        lambda key, data: loop.run(
            key,
            counted,
            strategies.alamp(diversify=True),
            data,
            initial=jnp.arange(10),
            k=15,
            rounds=4,
            propose=pool.everything(),
            evaluate=accuracy,
        )
    )(KEY, data)
    accuracies = infos.metrics["accuracy"]
    assert float(accuracies[-1]) > float(accuracies[0])
    assert infos.count.tolist() == [10, 25, 40, 55, 70]


@every_kind
@pytest.mark.parametrize(
    "options, message",
    [
        (dict(strengths=()), "strengths"),
        (dict(strengths=(0.0, 1.0)), "numbers above 0"),
        (dict(strengths=(1.0, 0.1)), "rise"),
        (dict(strengths=(1.0, np.inf)), "finite"),
        (dict(folds=1), "folds=1"),
        (dict(temperature=0.0), "temperature=0"),
        (dict(tolerance=-1.0), "tolerance=-1"),
    ],
)
def test_mistakes(kind, options, message):
    with pytest.raises(ValueError, match=message):
        MAKERS[kind](8, 4, **options)


@every_kind
@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_sizes_below_one(kind, sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        MAKERS[kind](*sizes)
