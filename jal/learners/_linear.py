"""Linear classifiers over frozen features, solved to their optimum.

For a few hundred labels a linear classifier over features of a pretrained network beats
training the network, and trains in milliseconds. All folds of the cross-validation and
all classes are solved at once, from the weakest to the strongest fit, each from the
solution before it; the result is a function of the labels, not of an optimiser's luck.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal import pool as pools
from jal._core.checks import at_least_one
from jal.types import Learner, Outputs

# Of the fit to the data against the size of the weights, as scikit-learn's C.
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
_MOST_STEPS = 300
_LINE_STEPS = 4


class LinearVariables(NamedTuple):
    """What a linear classifier has learned.

    Attributes:
      weights: [D + 1, C], the biases last.
      seen: [C] bool, classes that were among the labels.
      strength: [] the strength that cross-validation chose.
    """

    weights: jax.Array
    seen: jax.Array
    strength: jax.Array


class _Loss(NamedTuple):
    """Of scores z [B, P, Q], problem by problem: P problems of Q scores an item.

    Attributes:
      value: (z, targets) -> [B, P].
      slope: (z, targets) -> d value / d z, [B, P, Q].
      curvature: (z, direction, targets) -> second derivative along it, [B, P].
      typical: what curvature is about, for the preconditioner.
    """

    value: Callable
    slope: Callable
    curvature: Callable
    typical: float


def _hinge_value(z, targets):
    return jnp.sum(jnp.square(jnp.maximum(1 - targets * z, 0)), axis=-1)


def _hinge_slope(z, targets):
    return -2 * targets * jnp.maximum(1 - targets * z, 0)


def _hinge_curvature(z, direction, targets):
    inside = targets * z < 1
    return 2 * jnp.sum(jnp.where(inside, jnp.square(direction), 0), axis=-1)


# Targets are -1 and 1: each class against the rest.
_SQUARED_HINGE = _Loss(_hinge_value, _hinge_slope, _hinge_curvature, 2.0)


# Targets are one-hot, together with which classes there are.
def _softmax_value(z, targets):
    classes, seen = targets
    highest = jnp.max(z, axis=-1, keepdims=True, where=seen, initial=-jnp.inf)
    highest = jnp.where(jnp.isfinite(highest), highest, 0)
    total = jnp.sum(jnp.exp(z - highest), axis=-1, where=seen)
    own = jnp.sum(classes * z, axis=-1)
    return jnp.log(jnp.where(total > 0, total, 1)) + highest[..., 0] - own


def _softmax(z, targets):
    return jax.nn.softmax(z, axis=-1, where=targets[1])


def _softmax_slope(z, targets):
    return jnp.where(targets[1], _softmax(z, targets), 0) - targets[0]


def _softmax_curvature(z, direction, targets):
    p = jnp.where(targets[1], _softmax(z, targets), 0)
    mean = jnp.sum(p * direction, axis=-1, keepdims=True)
    return jnp.sum(p * jnp.square(direction - mean), axis=-1)


def _sum_of_rows(table: jax.Array) -> jax.Array:
    """[B, P] -> [P]."""
    # As a product, because a fused sum over rows takes ten times as long on CPU.
    ones = jnp.ones(table.shape[0], table.dtype)
    return jnp.matmul(ones, table, precision=jax.lax.Precision.HIGHEST)


def _inner(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of each problem the sum of products: [D, P, Q] twice -> [P]."""
    return _sum_of_rows(jnp.sum(a * b, axis=2))


def _wide(values: jax.Array) -> jax.Array:
    return values[None, :, None]


def _best_step(loss: _Loss, targets, weights, w, z, direction, along) -> jax.Array:
    """[P] Newton's method on a line, kept between steps too short and too long."""
    squared, mixed = _inner(direction, direction), _inner(w, direction)

    def improve(carry, _):
        step, short, long = carry
        now = z + _wide(step) * along
        slope = jnp.sum(loss.slope(now, targets) * along, axis=-1)
        curvature = loss.curvature(now, along, targets)
        first = mixed + step * squared + _sum_of_rows(weights * slope)
        second = squared + _sum_of_rows(weights * curvature)
        short = jnp.where(first < 0, step, short)
        long = jnp.where(first > 0, step, long)
        # Where a problem is solved exactly, there is no direction any more.
        newton = step - first / jnp.where(second > 0, second, 1)
        # From where the loss is straight Newton's step goes far too far.
        middle = jnp.where(jnp.isinf(long), newton, (short + long) / 2)
        inside = (newton >= short) & (newton <= long)
        return (jnp.where(inside, newton, middle), short, long), None

    zero = jnp.zeros_like(mixed)
    carry = (zero, zero, jnp.full_like(zero, jnp.inf))
    return jax.lax.scan(improve, carry, None, length=_LINE_STEPS)[0][0]


def _minimize(
    loss: _Loss,
    x: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    start: jax.Array,
    *,
    eigenvalues: jax.Array,
    tolerance: float,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Minimises |w|^2 / 2 + sum_i s_i loss_i for many w, by conjugate gradients.

    Each step is one product with x and one with its transpose: along a direction the
    scores are linear, and the best step is found from them alone. As the objective is
    1-strongly convex, |gradient|^2 / 2 bounds what it is above its minimum; a problem
    is solved when that is at most `tolerance` of its value.

    Args:
      loss: of scores.
      x: [B, D] features on the principal axes of their second moments.
      targets: [B, 1 or P, Q].
      weights: [B, P] s, at least 0; 0 leaves an item out.
      start: [D, P, Q] w to begin with.
      eigenvalues: [D] of x^T x, for the preconditioner.
      tolerance: relative.

    Returns:
      w [D, P, Q], scores [B, P, Q], objectives [P] and the number of steps [].
    """
    precise = jax.lax.Precision.HIGHEST
    scores = lambda w: jnp.einsum("bd,dpq->bpq", x, w, precision=precise)
    total = jnp.mean(weights, axis=0)
    diagonal = 1 + loss.typical * eigenvalues[:, None] * total[None]
    inverse = (1 / diagonal)[:, :, None]

    def gradient(w, z):
        slope = weights[:, :, None] * loss.slope(z, targets)
        return w + jnp.einsum("bd,bpq->dpq", x, slope, precision=precise)

    def objective(w, z):
        return _inner(w, w) / 2 + _sum_of_rows(weights * loss.value(z, targets))

    def is_solved(w, z, g):
        return _inner(g, g) / 2 <= tolerance * objective(w, z)

    def go_on(carry):
        *_, solved, number = carry
        return ~jnp.all(solved) & (number < _MOST_STEPS)

    def descend(carry):
        w, z, g, direction, size, solved, number = carry
        along = scores(direction)
        step = jnp.where(
            solved, 0, _best_step(loss, targets, weights, w, z, direction, along)
        )
        w, z = w + _wide(step) * direction, z + _wide(step) * along
        after = gradient(w, z)
        scaled = inverse * after
        new_size = _inner(after, scaled)
        # Polak and Ribiere's, which starts anew where directions go astray.
        share = (new_size - _inner(g, scaled)) / jnp.where(size > 0, size, 1)
        direction = _wide(jnp.maximum(share, 0)) * direction - scaled
        astray = _inner(direction, after) >= 0
        direction = jnp.where(_wide(astray), -scaled, direction)
        solved |= is_solved(w, z, after)
        return w, z, after, direction, new_size, solved, number + 1

    z = scores(start)
    g = gradient(start, z)
    scaled = inverse * g
    carry = (start, z, g, -scaled, _inner(g, scaled), is_solved(start, z, g), 0)
    w, z, *_, number = jax.lax.while_loop(go_on, descend, carry)
    return w, z, objective(w, z), jnp.asarray(number, jnp.int32)


def linear_svm(
    num_features: int,
    num_classes: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 3,
    balanced: bool = False,
    temperature: float = 1.0,
    tolerance: float = 1e-4,
) -> Learner:
    """A linear support vector machine of each class against the rest.

    For each class |w|^2 / 2 + strength * sum_i max(0, 1 - t_i w.x_i)^2 with t = 1 for
    its items and -1 for all others, bias included in w: scikit-learn's `LinearSVC`. The
    strength is that of the most items that are right when left out, and the smallest
    of such; an item of a class without any item in the other folds counts as wrong.
    Features should be of about unit length, as `x / norm(x)` is.

    Classes without labels have logits of -inf, so their probability is 0; with items of
    a single class that class has probability 1.

    Args:
      num_features: D.
      num_classes: C.
      strengths: to choose from, in rising order; of one there is nothing to choose.
      folds: of the cross-validation, drawn anew in every round.
      balanced: the items of class c weigh B / (seen classes * B_c) against the rest,
        which weighs 1, as in scikit-learn.
      temperature: logits are scores / temperature; softmax makes probabilities of them.
      tolerance: how far the objective may be above its minimum, relative.

    Returns:
      `Learner` with `LinearVariables`, for features [N, D] as `data.x`; its outputs
      have logits and features. Fit metrics: `strength`, `cross_validated` accuracy (NaN
      where nothing was chosen) and `steps`.

    Raises:
      ValueError: an argument is out of range.

    >>> from jal.types import Data
    >>> learner = linear_svm(2, 3, strengths=(1.0,))
    >>> data = Data(x=jnp.eye(2), y=jnp.array([0, 2]))
    >>> pool = pools.add(pools.create(2, capacity=2), jnp.array([0, 1]))
    >>> key = jax.random.key(0)
    >>> variables, _ = learner.fit(key, learner.init(key), data, pool)
    >>> jax.nn.softmax(learner.predict(variables, data.x).logits[0]).tolist()[1]
    0.0

    Reference: Aggarwal, Popescu and Hudelot, "Optimizing active learning for low
    annotation budgets", 2022 (SVM scheme); Fan et al., "LIBLINEAR: a library for large
    linear classification", 2008, eq. 3.
    """

    def prepare(classes, weights, share, seen):
        """One problem a class."""
        del seen
        targets = 2 * classes - 1
        if balanced:
            weights = weights * jnp.where(classes > 0, share, 1)
        size = weights.shape[0]
        flat = lambda array: array.reshape(size, -1)
        return flat(jnp.broadcast_to(targets, weights.shape))[:, :, None], flat(weights)

    sizes = (num_features, num_classes)
    return _learner(
        _SQUARED_HINGE, prepare, sizes, strengths, folds, temperature, tolerance
    )


def logistic_regression(
    num_features: int,
    num_classes: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 3,
    balanced: bool = False,
    temperature: float = 1.0,
    tolerance: float = 1e-4,
) -> Learner:
    """Multinomial logistic regression.

    |W|^2 / 2 + strength * sum_i -ln softmax(W x_i)_{y_i}, biases included in W:
    scikit-learn's `LogisticRegression(fit_intercept=False)` with a feature that is 1.
    Everything else is as in `linear_svm`.

    Args:
      num_features: D.
      num_classes: C.
      strengths: as in `linear_svm`.
      folds: as in `linear_svm`.
      balanced: the items of class c weigh B / (seen classes * B_c).
      temperature: as in `linear_svm`.
      tolerance: as in `linear_svm`.

    Returns:
      `Learner` with `LinearVariables`, as that of `linear_svm`.

    Raises:
      ValueError: an argument is out of range.

    >>> from jal.types import Data
    >>> learner = logistic_regression(2, 2, strengths=(1.0,))
    >>> data = Data(x=jnp.eye(2), y=jnp.array([0, 1]))
    >>> pool = pools.add(pools.create(2, capacity=2), jnp.array([0, 1]))
    >>> key = jax.random.key(0)
    >>> variables, _ = learner.fit(key, learner.init(key), data, pool)
    >>> learner.predict(variables, data.x).logits.argmax(axis=1).tolist()
    [0, 1]
    """

    def prepare(classes, weights, share, seen):
        """One problem, of all classes."""
        weights = weights[..., 0]
        if balanced:
            weights = weights * jnp.sum(classes * share, axis=-1)
        return (classes, seen), weights

    # The curvature at 0, where p = 1 / C.
    typical = (1 - 1 / max(num_classes, 1)) / max(num_classes, 1)
    loss = _Loss(_softmax_value, _softmax_slope, _softmax_curvature, typical)
    sizes = (num_features, num_classes)
    return _learner(loss, prepare, sizes, strengths, folds, temperature, tolerance)


class _Problem(NamedTuple):
    """What is solved: F sets of items at once, C classes each.

    `prepare` is (classes [B, 1, C] one-hot, weights [B, F, C] of 0 and 1, share
    [1, F, C], seen [1, F, C]) -> (targets, weights [B, P]); each of P problems
    has F C / P scores.
    """

    loss: _Loss
    prepare: Callable
    num_classes: int
    grid: tuple[float, ...]
    folds: int
    tolerance: float


def _solve(problem: _Problem, x, eigenvalues, classes, used, strength, start):
    """Fits with the items of each column of `used` [B, F]; start [D, F, C]."""
    number = jnp.einsum("bf,bc->fc", used, classes)
    seen = number > 0
    share = jnp.sum(number, axis=1, keepdims=True) / jnp.maximum(
        jnp.sum(seen, axis=1, keepdims=True) * number, 1
    )
    shape = start.shape
    everywhere = jnp.broadcast_to(used[:, :, None], (len(x), *shape[1:]))
    targets, weights = problem.prepare(
        classes[:, None], everywhere, share[None], seen[None]
    )
    outputs = shape[1] * shape[2] // weights.shape[1]
    w, z, _, steps = _minimize(
        problem.loss,
        x,
        targets,
        strength * weights,
        start.reshape(shape[0], -1, outputs),
        eigenvalues=eigenvalues,
        tolerance=problem.tolerance,
    )
    return w.reshape(shape), z.reshape(len(x), *shape[1:]), seen, steps


def _fit_rows(problem: _Problem, x, y, count):
    """Labelled items first, in random order; those beyond `count` are ignored."""
    size, features = x.shape
    place = jnp.arange(size)
    valid = (place < count).astype(x.dtype)
    x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1) * valid[:, None]
    classes = jax.nn.one_hot(y, problem.num_classes, dtype=x.dtype) * valid[:, None]
    eigenvalues, axes = jnp.linalg.eigh(
        jnp.matmul(x.T, x, precision=jax.lax.Precision.HIGHEST)
    )
    eigenvalues = jnp.maximum(eigenvalues, 0)
    turned = jnp.matmul(x, axes, precision=jax.lax.Precision.HIGHEST)
    start = jnp.zeros((features + 1, 1, problem.num_classes), x.dtype)
    choices = jnp.asarray(problem.grid, x.dtype)
    best, right, path_steps = 0, jnp.full(len(choices), jnp.nan), jnp.int32(0)
    if len(choices) > 1:
        path, hits, steps = _path(problem, turned, eigenvalues, classes, y, valid)
        best = jnp.argmax(hits)
        right, path_steps = hits / jnp.maximum(count, 1), jnp.sum(steps)
        start = path[best]
    w, _, seen, steps = _solve(
        problem, turned, eigenvalues, classes, valid[:, None], choices[best], start
    )
    weights = jnp.matmul(axes, w[:, 0], precision=jax.lax.Precision.HIGHEST)
    metrics = {
        "strength": choices[best],
        "cross_validated": right[best].astype(x.dtype),
        "steps": path_steps + steps,
    }
    return LinearVariables(weights, seen[0], choices[best]), metrics


def _path(problem: _Problem, x, eigenvalues, classes, y, valid):
    """Fits each strength in turn without the items of each fold.

    Mean weights [G, D, 1, C] over the folds, items [G] that were right when left out,
    and steps [G].
    """
    place = jnp.arange(len(x))
    fold = place % problem.folds
    used = (fold[:, None] != jnp.arange(problem.folds)[None]) * valid[:, None]

    def follow(w, strength):
        w, z, seen, steps = _solve(problem, x, eigenvalues, classes, used, strength, w)
        z = jnp.where(seen[fold], z[place, fold], -jnp.inf)
        # With nothing to learn from no class is right.
        hit = (jnp.argmax(z, axis=1) == y) & jnp.any(seen[fold], axis=1)
        hits = jnp.sum(jnp.where(valid > 0, hit, False))
        return w, (jnp.mean(w, axis=1, keepdims=True), hits, steps)

    nothing = jnp.zeros((x.shape[1], problem.folds, problem.num_classes), x.dtype)
    choices = jnp.asarray(problem.grid, x.dtype)
    return jax.lax.scan(follow, nothing, choices)[1]


def _learner(loss, prepare, sizes, strengths, folds, temperature, tolerance) -> Learner:
    """Chooses the strength by cross-validation, and fits with it."""
    num_features, num_classes = sizes
    at_least_one(num_features=num_features, num_classes=num_classes)
    grid = np.asarray(strengths, np.float64)
    if grid.ndim != 1 or not grid.size or not (grid > 0).all():
        raise ValueError(f"strengths={strengths!r}; expected numbers above 0")
    if (np.diff(grid) <= 0).any() or not np.isfinite(grid).all():
        raise ValueError(f"strengths={strengths!r}; they must be finite and rise")
    if folds < 2:
        raise ValueError(f"folds={folds}; it must be at least 2")
    for name, value in (("temperature", temperature), ("tolerance", tolerance)):
        if not 0 < value < np.inf:
            raise ValueError(f"{name}={value}; it must be finite and above 0")
    problem = _Problem(
        loss, prepare, num_classes, tuple(grid.tolist()), folds, tolerance
    )

    def fit(key, variables, data, pool):
        del variables  # nothing but the labels matters
        order = pools.shuffled(key, pool)
        size = order.shape[0]
        # While few items are labelled, most of the buffer would be multiplied in vain.
        half = -(-size // 2)

        def fit_first(number):
            rows = order[:number]
            x = data.x[rows].astype(jnp.result_type(float))
            return _fit_rows(problem, x, data.y[rows], pool.count)

        return jax.lax.cond(
            pool.count <= half, lambda: fit_first(half), lambda: fit_first(size)
        )

    def predict(variables, x, key=None):
        del key
        dtype = variables.weights.dtype
        precise = jax.lax.Precision.HIGHEST
        scores = jnp.matmul(
            x.astype(dtype), variables.weights[:-1], precision=precise
        ) + jnp.expand_dims(variables.weights[-1], range(x.ndim - 1))
        logits = jnp.where(
            jnp.expand_dims(variables.seen, range(x.ndim - 1)),
            scores / temperature,
            -jnp.inf,
        )
        return Outputs(logits=logits, features=x)

    def init(key):
        del key
        return LinearVariables(
            jnp.zeros((num_features + 1, num_classes)),
            jnp.zeros(num_classes, bool),
            jnp.ones(()),
        )

    return Learner(init, fit, predict)
