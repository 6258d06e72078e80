"""The linear SVM of `jal.learners` beside scikit-learn's: the optimum, and the time."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.svm import LinearSVC
from tqdm import tqdm

from benchmarks import timing
from benchmarks.timing import Program, row
from jal import learners, pool
from jal.learners import STRENGTHS
from jal.types import Data

FOLDS, WORKERS = 3, 2
# (labels, features, classes, how far apart classes are, strength)
PROBLEMS = [
    (200, 512, 100, 0.3, 1.0),
    (800, 512, 100, 0.3, 1.0),
    (3200, 512, 100, 0.3, 1.0),
    (3200, 512, 100, 0.15, 0.1),
    (1600, 512, 100, 0.15, 10.0),
    (200, 512, 10, 0.1, 0.1),
    (800, 128, 10, 0.2, 10.0),
    (400, 64, 20, 0.5, 1.0),
    (2000, 32, 5, 0.2, 0.01),
    (100, 20, 3, 1.0, 1.0),
]
TIMED = [(800, 512, 100, 0.15), (3200, 512, 100, 0.15)]


def measure(repeats: int, problems=PROBLEMS, timed=TIMED, workers=WORKERS) -> list:
    """All measurements of this file, one row each."""
    rows = parity(problems)
    for sizes in timed:
        rows += search(*sizes, repeats, workers)
    return rows


def parity(problems) -> list:
    """How far jal's objective is from scikit-learn's, and how often they disagree."""
    excess, agreement = [], []
    for number, features, classes, spread, strength in tqdm(
        problems, desc="parity", leave=False
    ):
        x, y, test_x = draw(number, features, classes, spread)
        weights = fitted(classes, x, y, strengths=(strength,))[0]
        theirs = LinearSVC(C=strength, tol=1e-6, max_iter=10**5, dual="auto")
        theirs.fit(x.astype(np.float64), y)
        expected = np.zeros_like(weights, np.float64)
        expected[:, theirs.classes_] = np.concatenate(
            [np.asarray(theirs.coef_), np.asarray(theirs.intercept_)[:, None]], axis=1
        ).T
        ours, best = (
            objective(w[:, theirs.classes_], x, y, theirs.classes_, strength)
            for w in (weights.astype(np.float64), expected)
        )
        excess.append(abs(ours / best - 1))
        scores = with_ones(test_x) @ np.where(
            np.isin(np.arange(classes), theirs.classes_)[None], weights, np.nan
        )
        agreement.append(np.mean(np.nanargmax(scores, 1) == theirs.predict(test_x)))
    what = f"linear SVM, {len(problems)} problems"
    return [
        row(f"{what}: most that its objective differs", max(excess), "share"),
        row(f"{what}: least agreement", min(agreement), "share"),
    ]


def search(number, features, classes, spread, repeats, workers) -> list:
    """Choosing among five strengths by three folds, and the last fit."""
    x, y, _ = draw(number, features, classes, spread)
    learner, data, labeled = problem(classes, x, y)
    start, key = learner.init(jax.random.key(0)), jax.random.key(0)
    ours = timing.compiled(learner.fit, key, start, data, labeled)
    found: dict[str, float] = {}

    def scikit_learn():
        grid = GridSearchCV(
            LinearSVC(),
            {"C": list(STRENGTHS)},
            cv=KFold(FOLDS, shuffle=True, random_state=0),
            n_jobs=workers,
        ).fit(x, y)
        found["accuracy"] = grid.best_score_
        return grid.best_estimator_.coef_

    programs = {
        "jal": timing.calling(ours.call, key, start, data, labeled),
        f"GridSearchCV, {workers} workers": Program(scikit_learn),
    }
    what = (
        f"SVM of {number:,} x {features}, {classes} classes, {len(STRENGTHS)} "
        f"strengths x {FOLDS} folds"
    )
    _, metrics = ours.call(key, start, data, labeled)
    results = timing.side_by_side(programs, min(repeats, 3))
    return [
        row(f"{what}: accuracy", float(metrics["cross_validated"]), "share", by="jal"),
        row(f"{what}: accuracy", found["accuracy"], "share", by="GridSearchCV"),
        row(f"{what}: compilation", ours.seconds, "s", by="jal"),
        *timing.comparison(what, results),
    ]


def problem(classes, x, y, **options):
    """Learner, data and a pool of which all is labelled."""
    learner = learners.linear_svm(x.shape[1], classes, **options)
    labeled = pool.add(pool.create(len(y), len(y)), jnp.arange(len(y)))
    return learner, Data(jnp.asarray(x), jnp.asarray(y)), labeled


def fitted(classes, x, y, **options) -> tuple[np.ndarray, dict]:
    """Weights [D + 1, C], and the metrics."""
    learner, data, labeled = problem(classes, x, y, **options)
    key = jax.random.key(0)
    variables, metrics = jax.jit(learner.fit)(key, learner.init(key), data, labeled)
    return np.asarray(variables.weights), metrics


def draw(number, features, classes, spread):
    """Gaussian classes of unit length, as many test items as there are labels."""
    rng = np.random.default_rng(0)
    centers = spread * rng.normal(size=(classes, features))
    y = rng.integers(0, classes, 2 * number)
    x = centers[y] + rng.normal(size=(2 * number, features))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return x[:number], y[:number].astype(np.int32), x[number:]


def with_ones(x) -> np.ndarray:
    return np.concatenate([x, np.ones_like(x[:, :1])], axis=1).astype(np.float64)


def objective(weights, x, y, classes, strength) -> float:
    """Of all classes together, in float64."""
    targets = np.where(y[:, None] == classes[None], 1, -1)
    slack = np.maximum(0, 1 - targets * (with_ones(x) @ weights))
    return float(np.sum(weights**2) / 2 + strength * np.sum(slack**2))
