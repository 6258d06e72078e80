"""Score a pool with dropout, and look at what comes first.

Run `python -m experiments.examples.score_a_pool`.
"""

# %% Real digits of 8x8 pixels: 100 have labels, the other 1,697 are the pool.
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from jal import acquisition, learners, scorers, scoring
from jal import pool as pools
from jal.types import Data, Outputs

images, digits = load_digits(return_X_y=True)
x, y = jnp.asarray(images / 16, jnp.float32), jnp.asarray(digits, jnp.int32)
labeled = jax.random.permutation(jax.random.key(0), len(y))[:100]
state = pools.add(pools.create(len(y), capacity=100), labeled)


# %% A network is two functions; a key means dropout.
def init(key):
    first, second = jax.random.split(key)
    weights = jax.random.normal(first, (64, 128)) / 8
    return (weights, jax.random.normal(second, (128, 10)) / 11), ()


def apply(params, state, x, key=None, train=False):
    hidden = jax.nn.relu(x @ params[0])
    if key is not None:
        hidden *= 2 * jax.random.bernoulli(key, 0.5, hidden.shape[-1:])[None]
    return Outputs(logits=hidden @ params[1]), state


# %% Train it on the 100 labels; `fit` looks at nothing else.
learner = learners.supervised(init, apply, optax.adam(3e-3), steps=300, batch_size=32)
start = learner.init(jax.random.key(1))
variables, _ = jax.jit(learner.fit)(jax.random.key(2), start, Data(x, y), state)

# %% Score everything, a chunk at a time: x may as well be a file larger than memory.
predict = jax.tree_util.Partial(learner.predict, variables)
result = scoring.score_pool(
    scorers.passes(acquisition.bald, 50),
    predict,
    x,
    key=jax.random.key(3),
    chunk_size=500,
    progress=False,
)
scores = jnp.where(state.labeled, -jnp.inf, jnp.asarray(result.scores))

# %% Are the digits with high scores those that the model gets wrong?
guess = jnp.argmax(learner.predict(variables, x).need("logits"), axis=-1)
order = jnp.argsort(-scores)[: len(y) - 100]
for name, items in (("highest", order[:100]), ("lowest", order[-100:])):
    wrong = float(jnp.mean(guess[items] != y[items]))
    print(f"the 100 {name} scores by BALD: {wrong:.0%} of the digits read wrongly")
print(f"all {len(order):,}: {float(jnp.mean(guess[order] != y[order])):.0%}")
