"""What a round of the loop costs: training in a scan, scoring memory, many seeds."""

import functools
import time

import jax
import jax.numpy as jnp
import optax
from jax import lax

from benchmarks.timing import calling, compiled, row, side_by_side
from jal import learners, nn, pool, predictive
from jal._core.compile import cpu_compiler_options
from jal.nn import conv_general_dilated
from jal.types import Data

STEPS = 20


def measure(repeats: int, *, full_run: bool = False) -> list[dict]:
    """All measurements of this file, one row each."""
    rows = [*training_in_a_scan(repeats), *scoring_memory(), *many_seeds(repeats)]
    return rows + (whole_run() if full_run else [])


def training_step(convolution, batch_size):
    """An Adam step of the Gal CNN, and what it starts from."""
    network = nn.GalCNN(convolution=convolution)
    x = jax.random.uniform(jax.random.key(0), (batch_size, 28, 28, 1))
    y = jnp.arange(batch_size) % 10
    init, apply = nn.from_linen(network, x)
    optimizer = optax.adam(1e-3)
    params, _ = init(jax.random.key(1))

    def step(carry, key):
        params, state = carry

        def loss(params):
            outputs, _ = apply(params, {}, x, key, True)
            return jnp.mean(learners.cross_entropy(outputs, y))

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return step, (params, optimizer.init(params))


def training_in_a_scan(repeats):
    """A training step inside a scan over the faster of two outside it."""
    key = jax.random.key(2)
    rows = []
    for batch_size in (32, 128):
        ours, start = training_step(conv_general_dilated, batch_size)
        plain, _ = training_step(lax.conv_general_dilated, batch_size)
        scan = lambda carry, keys, ours=ours: lax.scan(ours, carry, keys)
        keys = jax.random.split(key, STEPS)
        times = side_by_side(
            {
                "scan": calling(compiled(scan, start, keys).call, start, keys),
                "ours": calling(compiled(ours, start, key).call, start, key),
                "plain": calling(compiled(plain, start, key).call, start, key),
            },
            repeats,
        )
        times = {name: timing.seconds for name, timing in times.items()}
        outside = min(times["ours"], times["plain"])
        name = f"training step, B={batch_size}"
        rows += [
            row(f"{name}: in a scan / outside", times["scan"] / STEPS / outside, "x"),
            row(f"{name}: ours / plain, outside", times["ours"] / times["plain"], "x"),
            row(f"{name}: in a scan", 1e3 * times["scan"] / STEPS, "ms"),
        ]
    return rows


def scoring_memory():
    """Temporary memory of scoring 1,000 images, over the number of passes S."""
    init, apply = nn.from_linen(nn.GalCNN(), jnp.zeros((1, 28, 28, 1)))
    params, _ = init(jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (1000, 28, 28, 1))
    predict = lambda params, x, key: apply(params, {}, x, key, False)[0]
    sizes = {}
    for num_samples in (20, 100, 500):
        program = compiled(
            lambda params, x, key, num_samples=num_samples: predictive.predict_passes(
                functools.partial(predict, params), key, x, num_samples
            ),
            params,
            x,
            jax.random.key(2),
        )
        sizes[num_samples] = program.temporary / 1e6
    rows = [
        row(f"scoring 1,000 images, S={number}: memory", size, "MB")
        for number, size in sizes.items()
    ]
    ratio = max(sizes.values()) / min(sizes.values())
    return [*rows, row("scoring memory, largest / smallest over S", ratio, "x")]


def many_seeds(repeats):
    """Four seeds by `vmap` and by `lax.map`: a CNN, and a closed-form learner."""
    data = Data(
        x=jax.random.uniform(jax.random.key(0), (1000, 28, 28, 1)),
        y=jax.random.randint(jax.random.key(1), (1000,), 0, 10),
    )
    labeled = pool.add(pool.create(1000, 100), jnp.arange(100))
    model = nn.from_linen(nn.small_cnn(), data.x)
    cnn = learners.supervised(*model, optax.adam(1e-3), steps=STEPS, batch_size=32)

    def ridge(key, data):
        noise = jax.random.normal(key, (1000, 64))
        x = data.x.reshape(1000, -1)[:, :64] + 0.1 * noise
        target = jax.nn.one_hot(data.y, 10)
        return jnp.linalg.solve(x.T @ x + jnp.eye(64), x.T @ target)

    fit = lambda key, data: cnn.fit(key, cnn.init(key), data, labeled)[0]
    keys = jax.random.split(jax.random.key(2), 4)
    rows = []
    for name, function in (("CNN training", fit), ("ridge regression", ridge)):
        mapped = lambda keys, data, f=function: lax.map(lambda key: f(key, data), keys)
        batched = lambda keys, data, f=function: jax.vmap(lambda key: f(key, data))(
            keys
        )
        times = side_by_side(
            {
                "map": calling(compiled(mapped, keys, data).call, keys, data),
                "vmap": calling(compiled(batched, keys, data).call, keys, data),
            },
            repeats,
        )
        ratio = times["vmap"].seconds / times["map"].seconds
        rows.append(row(f"4 seeds of {name}: vmap / lax.map", ratio, "x"))
    return rows


def whole_run():
    """BALD on MNIST, T = 48, Gal CNN, all 10,000 test images in every round."""
    from experiments.cost_sensitive import protocol as experiment
    from jal import loop

    config = experiment.TABLE1
    arm = experiment.UNCERTAINTY[0]
    data, num_classes = experiment.load_data(config, None)
    method = experiment.build(config, arm, num_classes, (28, 28, 1))
    key = jax.random.key(0)
    initial = experiment.initial_set(config, key, data, num_classes)

    def run(key, data, initial):
        return loop.run(
            key,
            method.learner,
            method.strategy,
            data,
            initial=initial,
            k=config.picks,
            rounds=config.rounds,
            propose=method.propose,
            cost=method.cost,
            evaluate=method.evaluate,
        )

    jitted = jax.jit(run, compiler_options=cpu_compiler_options())
    start = time.perf_counter()
    program = jitted.lower(key, data, initial).compile()
    compile_seconds = time.perf_counter() - start
    start, process = time.perf_counter(), time.process_time()
    jax.block_until_ready(program(key, data, initial))
    name = "T=48, Gal CNN, 10,000 test images a round"
    return [
        row(f"{name}: compilation", compile_seconds, "s"),
        row(f"{name}: run", time.perf_counter() - start, "s"),
        row(f"{name}: processor time", time.process_time() - process, "s"),
    ]
