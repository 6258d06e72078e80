"""BALD inside a training loop of your own, in Flax NNX: jal only says what to label.

Run `python -m experiments.examples.bald_in_nnx`.
"""

# %% Real digits of 8x8 pixels; the last 500 are the test set.
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from jal import acquisition, predictive, selection

images, digits = load_digits(return_X_y=True)
x, y = jnp.asarray(images / 16, jnp.float32), jnp.asarray(digits, jnp.int32)
x, y, test_x, test_y = x[:-500], y[:-500], x[-500:], y[-500:]


# %% Your model, your training step, your test: nothing here knows of jal.
class Network(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(64, 128, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(nnx.relu(self.first(x))))


def loss(model, x, y):
    losses = optax.softmax_cross_entropy_with_integer_labels(model(x), y)
    return jnp.mean(losses)


@nnx.jit
def train(model, optimizer, x, y, items):
    optimizer.update(model, nnx.grad(loss)(model, x[items], y[items]))


@nnx.jit
def accuracy(model, x, y):
    return jnp.mean(jnp.argmax(nnx.view(model, deterministic=True)(x), -1) == y)


# %% S = 20 passes with dropout make logits [S, N, C]; that is all BALD needs.
@nnx.jit
def bald(model, x):
    logits = model(jnp.repeat(x[None], 20, axis=0))
    return acquisition.bald(predictive.summarize(logits))


# %% Train, score, label the ten best, and again. A random choice is the baseline.
for name in ("BALD", "random"):
    model, draws = Network(nnx.Rngs(0)), np.random.default_rng(0)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    labeled = list(range(20))
    step = nnx.cached_partial(train, model, optimizer)
    for _ in range(6):
        for _ in range(40):
            step(x, y, draws.choice(labeled, 64))
        right = float(accuracy(model, test_x, test_y))
        print(f"{name}: {len(labeled)} labels, {right:.1%} right")
        scores = bald(model, x) if name == "BALD" else jnp.asarray(draws.random(len(y)))
        is_open = jnp.ones(len(y), bool).at[jnp.array(labeled)].set(False)
        labeled += selection.top_k(scores, 10, available=is_open).tolist()
