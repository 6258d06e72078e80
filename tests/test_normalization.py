"""Batch normalisation: values and gradients of Flax's, in any shape and mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jal import nn

KEY = jax.random.key(0)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def arrays(shape, seed=0):
    draws = np.random.default_rng(seed)
    x = draws.normal(2.0, 3.0, shape)
    channels = shape[-1:]
    return x, draws.normal(1, 0.3, channels), draws.normal(size=channels)


def reference(x, scale, bias, epsilon):
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    return (x - mean) / np.sqrt(variance + epsilon) * scale + bias, mean, variance


@pytest.mark.parametrize("shape", [(5, 4, 4, 3), (2, 1, 1, 17), (64, 8), (1, 1)])
def test_values_are_those_of_float64(shape):
    x, scale, bias = arrays(shape)
    inputs = (np.asarray(a, np.float32) for a in (x, scale, bias, 1e-3))
    found = jax.jit(nn.normalize)(*inputs)
    for ours, theirs in zip(found, reference(x, scale, bias, 1e-3), strict=True):
        # E[x^2] - mean^2 loses digits where the mean is large.
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3, 16, 130])
def test_gradients_are_those_of_autodiff(channels):
    with jax.enable_x64(True):
        inputs = arrays((3, 4, 2, channels))
        weight = np.random.default_rng(1).normal(size=inputs[0].shape)

        def plain(x, scale, bias):
            axes = (0, 1, 2)
            mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
            row = lambda v: v[None, None, None]
            y = (x - mean) / jnp.sqrt(variance + 1e-5) * row(scale) + row(bias)
            return jnp.sum(weight * y**2)

        def ours(x, scale, bias):
            y = nn.normalize(x, scale, bias, jnp.asarray(1e-5))[0]
            return jnp.sum(weight * y**2)

        expected = jax.jit(jax.grad(plain, (0, 1, 2)))(*inputs)
        own = jax.grad(ours, (0, 1, 2))
        # What is not compiled runs the same rule, once is enough.
        for run in (jax.jit(own), own) if channels == 3 else (jax.jit(own),):
            for a, b in zip(run(*inputs), expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_other_backends_sum_as_usual(monkeypatch):
    x = normal(7, 3, 5)
    ours = nn.column_sums(x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(ours, nn.column_sums(x), rtol=1e-5, atol=1e-6)


def test_the_layer_is_that_of_flax():
    x, y = normal(2, 6, 5, 5, 4)
    theirs = linen.BatchNorm(use_running_average=None, momentum=0.9)
    ours = nn.BatchNorm()
    train = [
        jax.jit(
            lambda v, x, module=m: module.apply(v, x, False, mutable=["batch_stats"])
        )
        for m in (theirs, ours)
    ]
    variables, mine = (
        jax.jit(lambda x, module=m: module.init(KEY, x, False))(x)
        for m in (theirs, ours)
    )
    assert jax.tree.structure(variables) == jax.tree.structure(mine)
    for image in (x, y):
        expected, new = train[0](variables, image)
        found, moved = train[1](mine, image)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        variables, mine = {**variables, **new}, {**mine, **moved}
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), variables, mine
        )
    expected = theirs.apply(variables, x, use_running_average=True)
    np.testing.assert_allclose(
        ours.apply(mine, x, True), expected, rtol=1e-5, atol=1e-5
    )


def test_many_batches_at_once():
    x, one = normal(3, 6, 4), np.ones(4, np.float32)
    run = jax.jit(lambda x: nn.normalize(x, one, 0 * one, jnp.asarray(1e-5))[0])
    together = jax.jit(jax.vmap(run))(x)
    for place in range(3):
        np.testing.assert_allclose(together[place], run(x[place]), rtol=1e-4, atol=1e-6)
