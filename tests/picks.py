"""What jal picks, run by run: `python tests/picks.py FILE.json [PART ...]` records it.

`picks.json` was recorded before the modules became packages, with the version of jax
that it names. `test_picks.py` makes the quick parts again; `strategies`, `demo` and
`stream` (for which TFDS_DATA_DIR must hold MNIST) take minutes and are made by hand.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jal import (
    acquisition,
    learners,
    loop,
    mcal,
    pool,
    scorers,
    selection,
    session,
    strategies,
)
from jal.mcal import Terms, TrainingPrice
from jal.types import Data, Outputs

ROOT = Path(__file__).parent.parent
N, K, ROUNDS, CLASSES = 300, 4, 3, 10
FEW = jnp.arange(0, N, 30)


def images():
    """[N, 64] pixels in [0, 1] and labels of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data[:N].astype(np.float32) / 16, digits.target[:N].astype(np.int32)


def apply(weights, state, x, key=None, train=False, trunk_gradient=1.0):
    """A linear model with dropout on its inputs, and a ranker of sorts."""
    mask = 1.0
    if key is not None:
        mask = 2.0 * jax.random.bernoulli(key, 0.5, (x.shape[-1],))[None]
    outputs = Outputs(
        logits=(x * mask) @ weights, features=x, loss_score=x @ weights[:, 0]
    )
    return outputs, state


def learner():
    start = lambda key: (0.1 * jax.random.normal(key, (64, CLASSES)), ())
    return learners.supervised(start, apply, optax.adam(0.02), steps=60, batch_size=16)


def adversarial(assemble):
    encode = lambda params, state, x, train: (x @ params, jnp.zeros((len(x), 2)))

    def autoencode(params, state, x, condition, key):
        mean, log_variance = encode(params, state, x, True)
        z = mean + jax.random.normal(key, mean.shape)
        shift = 0.0 if condition is None else condition[:, None]
        return (mean, log_variance, z @ params.T + shift), state

    def discriminate(params, z, condition):
        return z @ params + (0.0 if condition is None else condition)

    return assemble(
        strategies.Autoencoder(
            lambda key: (0.1 * jax.random.normal(key, (64, 2)), ()), encode, autoencode
        ),
        strategies.Adversary(lambda key: jax.random.normal(key, (2,)), discriminate),
        steps=20,
        batch_size=16,
        prepare=lambda x: x,
    )


def every_strategy():
    names = ("entropy", "bald", "mean_std", "margin", "least_confidence")
    scores = {name: getattr(acquisition, name) for name in names}
    scores["variation_ratio"] = acquisition.variation_ratio
    by_power = lambda key, scores, k, available: selection.power(
        key, scores, k, available=available
    )
    of = strategies.from_scores
    return {
        **{name: of(scorers.passes(score, 10)) for name, score in scores.items()},
        "bald independent": of(
            scorers.passes(acquisition.bald, 10, masks="independent", batch_size=70)
        ),
        "bald beta=0.5": of(scorers.passes(acquisition.bald, 10), beta=0.5),
        "bald power": of(scorers.passes(acquisition.bald, 10), select=by_power),
        "random": strategies.random(),
        "learning_loss": strategies.learning_loss(),
        "gap": strategies.margin(batch_size=70),
        "marg_div": strategies.margin(diversify=True),
        "rand_div": strategies.rand_div(),
        "class_balanced": strategies.class_balanced(),
        "alamp": strategies.alamp(),
        "alamp_div": strategies.alamp(diversify=True),
        "k_center": strategies.k_center(batch_size=70),
        "typical": strategies.typical(),
        "badge": strategies.badge(),
        "batch_bald": strategies.batch_bald(num_samples=10, num_configurations=200),
        "vaal": adversarial(strategies.vaal),
        "ta_vaal": adversarial(strategies.ta_vaal),
    }


def scan_and_drive(strategy):
    """Three rounds in one scan; the same by `drive` must pick the same."""
    x, y = images()
    data = Data(jnp.asarray(x), jnp.asarray(y), cost=1 + jnp.asarray(x).mean(axis=1))
    options = dict(initial=FEW, k=K, rounds=ROUNDS, propose=pool.random_subset(150))
    options |= dict(cost="known")
    model, key = learner(), jax.random.key(0)
    run = jax.jit(lambda key, data: loop.run(key, model, strategy, data, **options))
    scanned = run(key, data)[1].indices.tolist()
    driven = loop.drive(key, model, strategy, data, progress=False, **options)
    return {"scan": scanned, "drive": driven[1].indices.tolist()}


def strategies_part():
    return {name: scan_and_drive(each) for name, each in every_strategy().items()}


def mcal_part():
    """All of 300 digits at minimum cost: who labels what, and when it stopped."""
    x, y = images()
    bought = []

    def oracle(indices):
        bought.extend(int(index) for index in indices)
        return y[indices]

    result = mcal.label(
        jax.random.key(1),
        {"linear": mcal.Model(train_linear(x), TrainingPrice(per_image=1e-4))},
        oracle,
        Terms(N, 60, 0.04, first_batch=20, grid_step=10, max_error=0.1),
        num_classes=CLASSES,
        progress=False,
    )
    return {
        "bought": bought,
        "labels": result.labels.tolist(),
        "is_human": result.is_human.tolist(),
        "stop": result.stop,
    }


def train_linear(x):
    return mcal.from_learner(jax.random.key(2), learner(), x, batch_size=100)


def session_part():
    """Four batches of a session: the first, a test batch, and two that were chosen."""
    x, y = images()
    start = lambda key: (jnp.zeros(64), ())
    value = lambda w, state, x, key=None, train=False: (Outputs(value=x @ w), state)
    recipe = session.Recipe(
        learner(),
        lambda beta: strategies.from_scores(
            scorers.passes(acquisition.bald, 10), beta=beta
        ),
        learners.regressor(start, value, optax.adam(0.05), steps=50, batch_size=8),
        first=strategies.typical(features=lambda x: x),
    )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(map(str, range(CLASSES)))
        mine = session.Session.create(folder, x, recipe, classes=names, seed=3)
        for options in ({}, {"test": True}, {}, {"beta": 0.5}):
            items = mine.ask(12, **options).indices
            found.append(items.tolist())
            mine.tell(items, y[items], seconds=1 + x[items].mean(axis=1))
        found.append(mine.predict().argmax(axis=1).tolist())
    return found


def demo_part():
    """Picks of each run of `make demo`, by the name of its folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.cost_sensitive", "demo"]
        subprocess.run([*command, "--out", folder], cwd=ROOT, check=True)
        return {
            path.parent.name: json.loads(path.read_text())["indices"]
            for path in sorted(Path(folder).rglob("record.json"))
        }


def stream_part():
    """48 rounds of a stream, by information and cost."""
    from experiments.cost_sensitive import protocol

    options = dict(rounds=48, candidates=1000, picks=10, evaluate_rounds=(48,))
    config = protocol.Config("mnist", "small", **options)
    with tempfile.TemporaryDirectory() as folder:
        arm = protocol.BETAS[3]
        record = protocol.run_arm(config, arm, 0, Path(folder) / "run", None)
        return {arm.name: record["indices"]}


PARTS = {
    "strategies": strategies_part,
    "mcal": mcal_part,
    "session": session_part,
    "demo": demo_part,
    "stream": stream_part,
}


def main(path: str, *parts: str) -> None:
    out = Path(path)
    found = json.loads(out.read_text()) if out.exists() else {}
    found |= {"jax": jax.__version__, "python": platform.python_version()}
    for name in parts or PARTS:
        found[name] = PARTS[name]()
        temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(found) + "\n")
        os.replace(temporary, out)
        print(f"{name} recorded")


if __name__ == "__main__":
    main(*sys.argv[1:])
