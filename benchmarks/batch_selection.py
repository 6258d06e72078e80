"""Batches chosen together: k-centre, BADGE and BatchBALD, beside peers.

What was chosen is compared too: the covering radius, the potential that k-means++
lowers, the joint mutual information. A faster choice of a worse batch is no gain.
"""

import contextlib
import gc
import io

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers, timing
from benchmarks.timing import Program, row
from jal import selection

POOL = 10_000
DIMENSIONS = 512
LABELED = 1000
PICKS = (100, 1000)
BATCHBALD_POOLS = (1000, 10_000)
CONFIGURATIONS = 1000
PASSES = 100
CLASSES = 10
# Draws of BADGE over which its potential is averaged.
DRAWS = 5
# Picks of a scikit-activeml CoreSet are measured up to here: each takes as long.
FEW_PICKS = 100
# Pools up to here are given to scikit-activeml's BatchBALD, which holds
# N * configurations * C numbers.
FEW_ITEMS = 2000


def measure(
    repeats: int,
    *,
    kinds=("random", "clustered"),
    pool=POOL,
    dimensions=DIMENSIONS,
    labeled=LABELED,
    picks=PICKS,
    batchbald_pools=BATCHBALD_POOLS,
    configurations=CONFIGURATIONS,
    passes=PASSES,
    limit=60.0,
) -> list[dict]:
    """All measurements of this file, one row each."""
    rows = timing.bounds_rows()
    for kind in kinds:
        features = make_features(kind, pool, dimensions)
        for k in picks:
            rows += k_center(kind, features, labeled, k, repeats, limit)
        rows += badge(kind, features, picks[0], repeats, limit)
    for size in batchbald_pools:
        log_probs = make_log_probs(size, passes)
        rows += batch_bald(log_probs, configurations, repeats, limit)
    return rows


def make_features(kind, pool, dimensions):
    """[N, D] features: independent ones, or a hundred clusters of unequal sizes."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((pool, dimensions), np.float32)
    if kind == "random":
        return features
    centers = 3 * rng.standard_normal((100, dimensions), np.float32)
    shares = rng.dirichlet(np.ones(100))
    return centers[rng.choice(100, pool, p=shares)] + features


def make_log_probs(pool, passes):
    """[S, N, C] log-probabilities of a linear model with uncertain weights."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((pool, 16), np.float32)
    weights = rng.standard_normal((16, CLASSES), np.float32)
    noise = rng.standard_normal((passes, 16, CLASSES), np.float32)
    logits = jnp.asarray(0.5 * features @ (weights + 0.3 * noise))
    return np.asarray(jax.nn.log_softmax(logits, axis=-1))


def k_center(kind, features, labeled, k, repeats, limit):
    """Greedy k-centre: k picks beside those that are labelled."""
    n = len(features)
    is_center = np.arange(n) < labeled
    what = f"k-centre, {n:,} x {features.shape[1]} {kind}, {labeled:,} + {k:,}"
    arguments = jnp.asarray(features), jnp.asarray(is_center)
    ours = timing.compiled(
        lambda features, centers: selection.k_center(features, k, centers=centers),
        *arguments,
    )
    programs = {
        "jal": timing.calling(ours.call, *arguments),
        "NumPy": Program(lambda: numpy_k_center(features, is_center, k)),
        "PyTorch": torch_k_center(features, is_center, k),
        "scikit-activeml": scikit_k_center(features, is_center, k),
    }
    timings = timing.side_by_side(programs, repeats, limit=limit)
    rows = timing.comparison(what, timings)
    radii = {}
    for name, program in programs.items():
        # One that was not run to the end, or takes long, is not asked again.
        if program.run is not None and name != "scikit-activeml":
            picks = np.asarray(program.run())
            radii[name] = covering_radius(features, is_center, picks)
    tolerance = 1e-3 * radii["jal"]
    return [
        *rows,
        row(f"{what}: covering radius", radii["jal"], "", by="jal"),
        timing.agreement(f"{what}: covering radius", radii, tolerance, ""),
        row(f"{what}: compilation", ours.seconds, "s", by="jal"),
        row(f"{what}: temporary memory", ours.temporary / 1e6, "MB", by="jal"),
    ]


def covering_radius(features, is_center, picks):
    """Largest distance of an item to the nearest centre."""
    x = features.astype(np.float64)
    norms = np.square(x).sum(1)
    nearest = np.full(len(x), np.inf)
    centers = np.concatenate([np.flatnonzero(is_center), picks])
    for rows in np.array_split(centers, -(-len(centers) // 500)):
        squares = norms[:, None] + norms[rows] - 2 * x @ x[rows].T
        nearest = np.minimum(nearest, squares.min(1))
    return float(np.sqrt(nearest.max()))


def numpy_k_center(features, is_center, k):
    """A running minimum, and a matrix-vector product a pick."""
    norms = np.einsum("nd,nd->n", features, features)
    nearest = np.full(len(features), np.inf, np.float32)
    for rows in np.array_split(np.flatnonzero(is_center), -(-is_center.sum() // 500)):
        products = features @ features[rows].T
        nearest = np.minimum(nearest, (norms[rows] - 2 * products).min(1) + norms)
    nearest[is_center] = -1
    picks = np.empty(k, np.int64)
    for position in range(k):
        pick = picks[position] = nearest.argmax()
        distances = norms + norms[pick] - 2 * (features @ features[pick])
        np.minimum(nearest, distances, out=nearest)
        nearest[pick] = -1
    return picks


def torch_k_center(features, is_center, k) -> Program:
    """The same in PyTorch."""

    def variants():
        import torch

        x, taken = torch.from_numpy(features), torch.from_numpy(is_center)

        def run():
            norms = (x * x).sum(1)
            nearest = torch.full((len(x),), float("inf"))
            for rows in torch.nonzero(taken)[:, 0].split(500):
                values = norms[rows] - 2 * x @ x[rows].T
                nearest = torch.minimum(nearest, values.amin(1) + norms)
            nearest[taken] = -1
            picks = torch.empty(k, dtype=torch.int64)
            for position in range(k):
                pick = nearest.argmax()
                picks[position] = pick
                values = torch.addmv(norms + norms[pick], x, x[pick], alpha=-2)
                torch.minimum(nearest, values, out=nearest)
                nearest[pick] = -1
            return picks

        return peers.with_threads(run)

    return peers.program("PyTorch", variants)


def scikit_k_center(features, is_center, k) -> Program:
    """`CoreSet`, for at most `FEW_PICKS` picks."""
    few = min(k, FEW_PICKS)

    def variants():
        from skactiveml.pool import CoreSet

        labels = np.where(is_center, 0.0, np.nan)
        run = lambda: CoreSet(random_state=0).query(features, labels, batch_size=few)
        note = "" if few == k else f"{few:,} picks, times {k / few:g}"
        return {note: run}

    program = peers.program("scikit-activeml", variants)
    return program._replace(scale=k / few)


def badge(kind, features, k, repeats, limit):
    """BADGE, from probabilities and features to picks."""
    probabilities = np.exp(make_log_probs(len(features), 1)[0])
    n, d = features.shape
    what = f"BADGE, {n:,} x {d} {kind} x {CLASSES}, {k:,} picks"
    key, p, h = jax.random.key(0), jnp.asarray(probabilities), jnp.asarray(features)
    ours = timing.compiled(lambda key, p, h: selection.badge(key, p, h, k), key, p, h)
    programs = {
        "jal": timing.calling(ours.call, key, p, h),
        "NumPy, factorised": Program(lambda: numpy_badge(probabilities, features, k)),
        "scikit-activeml": scikit_badge(probabilities, features, k),
    }
    timings = timing.side_by_side(programs, repeats, limit=limit)
    rows = timing.comparison(what, timings)
    # Both draw at random: the mean potential of a few draws is compared.
    draws = {
        "jal": lambda seed: ours.call(jax.random.key(seed), p, h),
        "NumPy, factorised": lambda seed: numpy_badge(probabilities, features, k, seed),
    }
    left = {
        name: [potential(probabilities, features, draw(i)) for i in range(DRAWS)]
        for name, draw in draws.items()
    }
    variance = sum(np.var(values, ddof=1) / DRAWS for values in left.values())
    left = {name: np.mean(values) for name, values in left.items()}
    name = f"{what}: sum of squared distances to the nearest pick"
    tolerance = 5 * np.sqrt(variance)
    return [
        *rows,
        row(name, left["jal"], "", by="jal"),
        timing.agreement(name, left, tolerance, ""),
        row(f"{what}: compilation", ours.seconds, "s", by="jal"),
        row(f"{what}: temporary memory", ours.temporary / 1e6, "MB", by="jal"),
    ]


def residuals(probabilities):
    """p - onehot(argmax p), the part of the gradient that depends on the class."""
    return probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(1)]


def potential(probabilities, features, picks):
    """Sum over items of the squared distance of gradients to the nearest pick."""
    a, h = residuals(probabilities).astype(np.float64), features.astype(np.float64)
    norms = np.square(a).sum(1) * np.square(h).sum(1)
    picks = np.asarray(picks)
    products = (a @ a[picks].T) * (h @ h[picks].T)
    squares = norms[:, None] + norms[picks] - 2 * products
    return float(np.maximum(squares.min(1), 0).sum())


def numpy_badge(probabilities, features, k, seed=0):
    """k-means++ on gradients that are never formed."""
    rng = np.random.default_rng(seed)
    a = residuals(probabilities).astype(np.float32)
    norms = np.square(a).sum(1) * np.einsum("nd,nd->n", features, features)
    picks = [int(norms.argmax())]
    nearest = np.full(len(a), np.inf, np.float32)
    while len(picks) < k:
        last = picks[-1]
        products = (a @ a[last]) * (features @ features[last])
        squares = np.maximum(norms + norms[last] - 2 * products, 0)
        nearest = np.minimum(nearest, squares)
        nearest[picks] = 0
        chances = nearest.astype(np.float64)
        picks.append(int(rng.choice(len(a), p=chances / chances.sum())))
    return np.array(picks)


def scikit_badge(probabilities, features, k) -> Program:
    """`Badge` with a classifier that knows the probabilities."""

    def variants():
        from skactiveml.base import SkactivemlClassifier
        from skactiveml.pool import Badge

        class Known(SkactivemlClassifier):
            def fit(self, X, y, sample_weight=None):  # noqa: N803
                return self

            def predict_proba(self, X):  # noqa: N803
                return probabilities

        labels = np.full(len(features), np.nan)
        classifier = Known(classes=list(range(CLASSES)))
        query = Badge(random_state=0).query
        run = lambda: np.array(
            query(features, labels, classifier, fit_clf=False, batch_size=k)
        )
        return {"": run}

    return peers.program("scikit-activeml", variants)


def batch_bald(log_probs, configurations, repeats, limit, k=10):
    """BatchBALD, with as many joint label configurations for everyone."""
    passes, n, _ = log_probs.shape
    what = f"BatchBALD, {n:,} items, S={passes}, {configurations:,} configurations"
    key, held = jax.random.key(0), jnp.asarray(log_probs)
    ours = timing.compiled(
        lambda key, log_probs: selection.batch_bald(
            key, log_probs, k, num_configurations=configurations
        )[0],
        key,
        held,
    )
    programs = {
        "jal": timing.calling(ours.call, key, held),
        "batchbald_redux": redux_batch_bald(log_probs, configurations, k),
        "scikit-activeml": scikit_batch_bald(log_probs, configurations, k),
    }
    picks = {}

    def kept(name, run):
        def call():
            picks[name] = np.asarray(run())
            return picks[name]

        return call

    programs = {
        name: program._replace(run=program.run and kept(name, program.run))
        for name, program in programs.items()
    }
    timings = timing.side_by_side(programs, repeats, limit=limit)
    rows = timing.comparison(what, timings)
    for name, chosen in picks.items():
        information, error = selection.joint_mutual_information(
            jax.random.key(1), held[:, chosen], num_configurations=100 * configurations
        )
        note = f"standard error {float(error):.4f}"
        line = f"{what}: joint mutual information"
        rows.append(row(line, information, "nats", by=name, note=note))
    rows += [
        row(f"{what}: compilation", ours.seconds, "s", by="jal"),
        row(f"{what}: temporary memory", ours.temporary / 1e6, "MB", by="jal"),
    ]
    return rows


def redux_batch_bald(log_probs, configurations, k) -> Program:
    """`get_batchbald_batch` on [N, S, C], in the double precision of its examples."""

    def variants():
        import torch
        from batchbald_redux.batchbald import get_batchbald_batch

        by_item = torch.from_numpy(np.ascontiguousarray(log_probs.transpose(1, 0, 2)))
        # It collects garbage for each chunk; what is frozen need not be searched.
        gc.freeze()

        def run():
            # Its progress bars would interrupt ours.
            with contextlib.redirect_stderr(io.StringIO()):
                batch = get_batchbald_batch(
                    by_item, k, configurations, dtype=torch.double
                )
            return batch.indices

        return peers.with_threads(run)

    return peers.program("batchbald_redux", variants)


def scikit_batch_bald(log_probs, configurations, k) -> Program:
    """`batch_bald`, on pools that its memory allows."""
    if log_probs.shape[1] > FEW_ITEMS:
        return Program(None, note="needs too much memory")

    def variants():
        from skactiveml.pool import batch_bald

        def run():
            # It clips the probabilities it is given in place.
            scores = batch_bald(
                np.exp(log_probs, dtype=np.float64),
                batch_size=k,
                n_MC_samples=configurations,
                random_state=0,
            )
            return np.nanargmax(scores, axis=1)

        return {"": run}

    return peers.program("scikit-activeml", variants)
