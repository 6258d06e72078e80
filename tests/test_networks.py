"""Networks: their sizes, when they are stochastic, and dropout folded into weights."""

import functools
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import lax

from jal import nn
from jal.nn import (
    DropoutDense,
    GalCNN,
    _masked_dense,
    _networks,
    from_linen,
    max_pool,
    small_cnn,
    unit_range,
)
from jal.types import Outputs

KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parameters(module, x):
    """Parameters of a module as shapes, without computing any."""
    params, _ = jax.eval_shape(from_linen(module, x)[0], KEY)
    return params


def count(module, side=28):
    x = jax.ShapeDtypeStruct((1, side, side, 1), jnp.uint8)
    return sum(math.prod(v.shape) for v in jax.tree.leaves(parameters(module, x)))


# Convolutional networks


def test_parameter_counts():
    head = lambda units, outputs: units * outputs + outputs
    # Kernel side, channels in and out; sides 28 -> 25 -> 22 -> 11 after pooling.
    convolutions = (4 * 4 * 1 + 1) * 32 + (4 * 4 * 32 + 1) * 32
    trunk = convolutions + head(11 * 11 * 32, 128)
    assert count(GalCNN()) == trunk + head(128, 10) == 513_994
    assert count(GalCNN(None)) == trunk + head(128, 1) == 512_833
    # Sides 28 -> 13 with stride 2 -> 10 -> 5.
    convolutions = (4 * 4 * 1 + 1) * 16 + (4 * 4 * 16 + 1) * 32
    trunk = convolutions + head(5 * 5 * 32, 128)
    assert count(small_cnn()) == trunk + head(128, 10) == 112_314
    assert count(small_cnn(None)) == trunk + head(128, 1) == 111_153
    assert count(small_cnn(3), side=12) == convolutions + head(32, 128) + head(128, 3)


@functools.cache
def small(outputs):
    """(params, apply) of a small network on 12x12 images, apply compiled."""
    init, apply = from_linen(small_cnn(outputs), jnp.zeros((1, 12, 12, 1)))
    params, state = jax.jit(init)(KEY)
    assert state == {}
    run = lambda params, x, key=None, train=False: apply(params, {}, x, key, train)[0]
    return params, jax.jit(run, static_argnames="train")


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 1), np.uint8)


def test_outputs_of_a_classifier():
    params, apply = small(10)
    outputs = apply(params, IMAGES)
    chex.assert_shape(outputs.logits, (6, 10))
    chex.assert_shape(outputs.features, (6, 128))
    assert outputs.value is None and outputs.loss_score is None
    assert np.all(outputs.features >= 0) and np.ptp(outputs.logits) > 0


def test_outputs_of_a_regression():
    params, apply = small(None)
    outputs = apply(params, IMAGES)
    chex.assert_shape(outputs.value, (6,))
    chex.assert_shape(outputs.features, (6, 128))
    assert outputs.logits is None


def test_outputs_of_the_published_network():
    for outputs, field, shape in ((10, "logits", (3, 10)), (None, "value", (3,))):
        init, apply = from_linen(GalCNN(outputs), jnp.zeros((1, 28, 28)))
        for images in ((3, 28, 28), (3, 28, 28, 1)):
            x = jax.ShapeDtypeStruct(images, jnp.float32)
            made = lambda key, x: apply(*init(key), x, None, False)[0]  # noqa: B023
            made = jax.eval_shape(made, KEY, x)
            assert getattr(made, field).shape == shape
            assert made.features.shape == (3, 128)


def test_images_with_and_without_a_channel_axis_of_bytes_and_of_floats():
    params, apply = small(10)
    expected = apply(params, IMAGES)
    floats = jnp.asarray(IMAGES, jnp.float32) / 255
    for same in (IMAGES[..., 0], floats, floats[..., 0]):
        chex.assert_trees_all_close(apply(params, same), expected, atol=1e-5)


def test_unit_range():
    scaled = unit_range(jnp.array([[[0, 51, 255]]], jnp.uint8))
    chex.assert_shape(scaled, (1, 1, 3, 1))
    np.testing.assert_allclose(scaled.ravel(), [0, 0.2, 1], rtol=1e-6)
    for dtype in (jnp.float32, jnp.bfloat16):
        images = jnp.full((1, 2, 2, 3), 7, dtype)
        chex.assert_trees_all_equal(unit_range(images), images)
    assert unit_range(jnp.ones((1, 2, 2), int)).dtype == jnp.float32


@pytest.mark.parametrize("train", [False, True])
def test_only_a_key_makes_predictions_stochastic(train):
    params, apply = small(10)
    run = functools.partial(apply, params, IMAGES, train=train)
    chex.assert_trees_all_equal(run(), run())
    one, same, other = (run(jax.random.key(i)).logits for i in (1, 1, 2))
    assert np.array_equal(one, same)
    for different in (other, run().logits):
        assert np.all(np.abs(one - different).max(-1) > 1e-3)


def test_identical_items_share_a_mask_in_scoring_and_not_in_training():
    params, apply = small(10)
    same = jnp.asarray(np.repeat(IMAGES[:1], 6, axis=0))
    scored, trained = (apply(params, same, KEY, train=t).logits for t in (False, True))
    np.testing.assert_allclose(scored, scored[:1].repeat(6, 0), atol=1e-6)
    assert all(
        np.abs(a - b).max() > 1e-3 for a, b in itertools.combinations(trained, 2)
    )


def test_any_convolution_may_be_put_in():
    params, apply = small(10)
    stock = GalCNN(10, (16, 32), strides=(2, 1), convolution=lax.conv_general_dilated)
    expected = jax.jit(stock.apply)({"params": params}, IMAGES)
    chex.assert_trees_all_close(apply(params, IMAGES), expected, atol=1e-5)


# from_linen


class Normed(linen.Module):
    """Batch normalisation with running averages, and dropout."""

    @linen.compact
    def __call__(self, x, *, train=False, stochastic=False):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return Outputs(
            logits=DropoutDense(3, 0.5)(x, train=train, stochastic=stochastic)
        )


def normed(example):
    """(params, state, apply) of it, apply compiled."""
    init, apply = from_linen(Normed(), example)
    return *jax.jit(init)(KEY), jax.jit(apply, static_argnames="train")


def test_only_the_shape_of_the_example_matters():
    one, two = jnp.full((2, 4), 7.0), jax.ShapeDtypeStruct((99, 4), jnp.float32)
    chex.assert_trees_all_equal(normed(one)[:2], normed(two)[:2])


def test_batch_statistics_are_updated_in_training_and_used_elsewhere():
    x = 3 + 2 * normal(50, 4)
    params, state, apply = normed(x)
    assert set(state) == {"batch_stats"}
    outputs, trained = apply(params, state, x, None, train=True)
    averages = trained["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(averages["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(averages["var"], 0.9 + 0.1 * x.var(0), rtol=1e-4)

    kernel = params["DropoutDense_0"]["kernel"]
    by_hand = lambda mean, var: (x - mean[None]) / np.sqrt(var + 1e-5)[None] @ kernel
    expected = by_hand(x.mean(0), x.var(0))
    np.testing.assert_allclose(outputs.logits, expected, atol=1e-4)

    # Running averages: the state stays, and an item does not see its batch.
    for key in (None, jax.random.key(1)):
        outputs, same = apply(params, trained, x, key)
        chex.assert_trees_all_equal(same, trained)
        alone, _ = apply(params, trained, x[:1], key)
        np.testing.assert_allclose(alone.logits, outputs.logits[:1], atol=1e-5)
        if key is None:
            expected = by_hand(averages["mean"], averages["var"])
            np.testing.assert_allclose(outputs.logits, expected, atol=1e-4)


def test_training_with_a_key_and_state():
    x = normal(8, 4)
    params, state, apply = normed(x)
    dropped, with_key = apply(params, state, x, KEY, train=True)
    plain, without = apply(params, state, x, None, train=True)
    chex.assert_trees_all_close(with_key, without)
    assert np.abs(dropped.logits - plain.logits).max() > 1e-3


# Dropout before a dense layer


def layer(features, rate, kernel=None, bias=None):
    """`(x, key, train=False) -> y` of a layer with the given weights."""
    module = DropoutDense(features, rate)

    def apply(x, key=None, train=False):
        weights = {
            "kernel": jnp.eye(x.shape[-1]) if kernel is None else kernel,
            "bias": jnp.zeros(features) if bias is None else bias,
        }
        rngs = None if key is None else {"dropout": key}
        stochastic = key is not None
        return module.apply(
            {"params": weights}, x, train=train, stochastic=stochastic, rngs=rngs
        )

    return apply


def masks(rate, size, rows, key=KEY, train=False):
    """The masks themselves: what the layer with the identity makes of ones."""
    return layer(size, rate)(jnp.ones((rows, size)), key, train)


@pytest.mark.parametrize("train", [False, True])
def test_masks_keep_the_expectation(train):
    rate = 0.25
    mask = masks(rate, 400, 50, train=train)
    kept = mask > 0
    np.testing.assert_allclose(mask, kept / (1 - rate), rtol=1e-6)
    draws = kept.size if train else kept.shape[1]
    assert abs(kept.mean() - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / draws)
    if train:  # every row has its own
        assert len(np.unique(kept, axis=0)) == 50
    else:
        assert np.array_equal(mask, mask[:1].repeat(50, 0))


@pytest.mark.parametrize("train", [False, True])
def test_the_layer_is_the_product_with_its_mask(train):
    x, kernel, bias = normal(5, 7), normal(7, 3), normal(3)
    mask = masks(0.4, 7, 5, train=train)
    assert 0 < (mask == 0).mean() < 1
    y = layer(3, 0.4, kernel, bias)(x, KEY, train)
    np.testing.assert_allclose(y, (x * mask) @ kernel + bias[None], atol=1e-5)


def test_without_a_key_or_a_rate_nothing_is_dropped():
    x, kernel, bias = normal(5, 7), normal(7, 3), normal(3)
    plain = x @ kernel + bias[None]
    for train in (False, True):
        for rate, key in ((0.4, None), (0.0, None), (0.0, KEY)):
            y = layer(3, rate, kernel, bias)(x, key, train)
            np.testing.assert_allclose(y, plain, atol=1e-5)


def test_scoring_is_the_same_under_vmap_and_in_a_loop():
    x, kernel = normal(5, 7), normal(7, 3)
    keys = jax.random.split(KEY, 6)
    grid = jax.vmap(lambda key: jax.random.split(key, 5))(keys)
    run = layer(3, 0.4, kernel)
    alone = lambda item, key: run(item[None], key)[0]
    one = jax.jit(alone)
    # A mask for each key, shared by the items; keys outside or items outside.
    loop = np.stack([[one(item, key) for item in x] for key in keys])
    for together in (
        jax.vmap(run, (None, 0)),
        jax.vmap(jax.vmap(alone, (0, None)), (None, 0)),
        jax.vmap(jax.vmap(alone, (None, 0)), (0, None), out_axes=1),
    ):
        np.testing.assert_allclose(jax.jit(together)(x, keys), loop, atol=1e-5)
    # A mask of its own for every key and item.
    loop = [[one(x[i], grid[s, i]) for i in range(5)] for s in range(6)]
    own = jax.jit(jax.vmap(jax.vmap(alone), (None, 0)))(x, grid)
    np.testing.assert_allclose(own, np.stack(loop), atol=1e-5)
    assert np.ptp(own[:, 0], axis=0).max() > 1e-3


def test_many_masks_average_to_the_deterministic_layer():
    rate, passes = 0.5, 4000
    x, kernel, bias = normal(3, 8), normal(8, 4), normal(4)
    run = layer(4, rate, kernel, bias)
    y = jax.jit(jax.vmap(lambda key: run(x, key)))(jax.random.split(KEY, passes))
    # Var of sum_d m_d x_d w_d, with Var m = rate / (1 - rate).
    variance = np.square(x) @ np.square(kernel) * rate / (1 - rate)
    error = np.abs(y.mean(0) - run(x))
    assert np.all(error < 5 * np.sqrt(variance / passes))
    np.testing.assert_allclose(y.var(0), variance, rtol=0.2)


def test_gradients_flow_in_training_through_what_is_kept():
    x, kernel, cotangent = normal(5, 7), normal(7, 3), normal(5, 3, seed=1)
    mask = masks(0.4, 7, 5, train=True)

    def loss(x, kernel):
        return jnp.sum(layer(3, 0.4, kernel)(x, KEY, train=True) * cotangent)

    of_x, of_kernel = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    np.testing.assert_allclose(of_kernel, (x * mask).T @ cotangent, atol=1e-5)
    np.testing.assert_allclose(of_x, cotangent @ kernel.T * mask, atol=1e-5)


BATCHED = list(itertools.product([False, True], repeat=3))


def product_of(x, mask, kernel):
    """The folded layer in float64, over any leading axes."""
    args = (np.asarray(v, np.float64) for v in (x, mask, kernel))
    return np.einsum("...bd,...d,...dh->...bh", *args)


@pytest.mark.parametrize("batched", BATCHED[1:])
def test_the_rule_of_the_folded_layer(batched):
    shapes = ((5, 7), (7,), (7, 3))
    x, mask, kernel = (
        normal(*((4,) if over else ()), *shape)
        for shape, over in zip(shapes, batched, strict=True)
    )
    axes = tuple(0 if over else None for over in batched)
    y = jax.jit(jax.vmap(nn.masked_dense, axes))(x, mask, kernel)
    expected = product_of(x, mask, kernel)
    chex.assert_shape(y, (4, 5, 3))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "batched", list(itertools.product([False, True], repeat=4))[1:]
)
@pytest.mark.parametrize("columns", [4, 128])
def test_the_rule_of_needed_columns(monkeypatch, batched, columns):
    monkeypatch.setattr(_masked_dense, "COLUMNS", columns)
    shapes = ((5, 7), (7,), (7, 3), (3,))
    values = [
        normal(*((4,) if over else ()), *shape)
        for shape, over in zip(shapes, batched, strict=True)
    ]
    x, mask, kernel, chance = values
    axes = tuple(0 if over else None for over in batched)
    for level in (-9, 0, 9):  # all, some and none of them
        needed = chance > level
        y = jax.jit(jax.vmap(nn.needed_dense, axes))(x, mask, kernel, needed)
        expected = product_of(x, mask, kernel) * np.expand_dims(needed, -2)
        np.testing.assert_allclose(y, np.broadcast_to(expected, y.shape), atol=1e-5)
        assert not np.any(np.where(np.expand_dims(needed, -2), 0, y))


def test_passes_leave_out_what_the_last_layer_drops():
    """The same logits as by both layers in full, and features in full."""
    network = nn.GalCNN(channels=(2, 2), dense=24)
    x = normal(6, 12, 12)
    init, apply = nn.from_linen(network, x)
    params, _ = jax.jit(init)(KEY)
    keys = jax.random.split(KEY, 5)
    passes = jax.jit(jax.vmap(lambda key: apply(params, {}, x, key)[0]))(keys)
    last = jax.tree.map(np.float64, params["DropoutDense_1"])
    for number, key in enumerate(keys):
        features, logits = (
            np.float64(a[number]) for a in (passes.features, passes.logits)
        )
        alone = jax.jit(lambda key: apply(params, {}, x, key)[0])(key)
        np.testing.assert_allclose(logits, alone.logits, atol=1e-5)
        np.testing.assert_allclose(features, alone.features, atol=1e-5)
        # The logits are linear in the mask of the last layer, which they tell.
        terms = np.einsum("bd,dc->bcd", features, last["kernel"]).reshape(-1, 24)
        mask, *_ = np.linalg.lstsq(terms, (logits - last["bias"]).reshape(-1))
        used = np.any(features > 0, axis=0)
        np.testing.assert_allclose(mask[used], 2 * np.round(mask[used] / 2), atol=1e-3)
        assert set(np.round(mask[used])) == {0, 2}
        np.testing.assert_allclose(
            terms @ mask, (logits - last["bias"]).reshape(-1), atol=1e-4
        )


@pytest.mark.parametrize("outer", BATCHED[1:])
@pytest.mark.parametrize("inner", [(False, True, False), (True, False, False)])
def test_the_rule_of_the_folded_layer_inside_itself(inner, outer):
    # E.g. seeds of everything around passes, or passes around items.
    sizes = [(4,) * one + (2,) * two for one, two in zip(outer, inner, strict=True)]
    shapes = ((5, 7), (7,), (7, 3))
    args = [normal(*a, *b) for a, b in zip(sizes, shapes, strict=True)]
    rule = nn.masked_dense
    for batched in (inner, outer):
        rule = jax.vmap(rule, tuple(0 if over else None for over in batched))
    y = jax.jit(rule)(*args)
    # Missing axes of length 1 in front, for einsum to broadcast.
    full = [
        v.reshape(4 if one else 1, 2 if two else 1, *shape)
        for v, one, two, shape in zip(args, outer, inner, shapes, strict=True)
    ]
    np.testing.assert_allclose(y, product_of(*full), rtol=1e-5, atol=1e-5)


def test_the_folded_layer_makes_no_masked_copy_of_its_input():
    # [S, B, D] would be the largest array by far; [D, S * H] is the masked kernel.
    items, units, passes = 1000, 50, 20
    x, kernel = jnp.ones((items, units)), jnp.ones((units, 3))
    run = layer(3, 0.5, kernel)
    over_items = lambda key: jax.vmap(lambda item: run(item[None], key))(x)
    traced = jax.make_jaxpr(jax.vmap(over_items))(jax.random.split(KEY, passes))

    def largest(jaxpr):
        for equation in jaxpr.eqns:
            yield max(out.aval.size for out in equation.outvars)
            if equation.primitive.name != "custom_vmap_call":
                for value in equation.params.values():
                    inner = getattr(value, "jaxpr", value)
                    if hasattr(inner, "eqns"):
                        yield from largest(inner)

    assert max(largest(traced.jaxpr)) <= items * passes * 3


# Max pooling


@pytest.mark.parametrize(
    "shape, window",
    [((2, 6, 8, 3), 2), ((2, 7, 5, 3), 2), ((2, 7, 5, 3), 1), ((1, 9, 4, 1), 3)],
)
def test_max_pool_equals_that_of_flax(shape, window):
    stock = lambda x: linen.max_pool(x, (window, window), (window, window))

    @jax.jit
    def both(x):
        result = []
        for pool in (lambda x: max_pool(x, window), stock):
            y, pull = jax.vjp(pool, x)
            result.append((y, *pull(jnp.sin(y))))
        return result

    (own, gradient), (expected, expected_gradient) = both(normal(*shape))
    np.testing.assert_array_equal(own, expected)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_max_pool_of_what_is_smaller_than_a_window_is_empty():
    assert max_pool(jnp.ones((2, 1, 5, 3)), 2).shape == (2, 0, 2, 3)


# Networks of task-aware active learning


def count_all(module, *inputs):
    """Parameters of a module, whose values are never computed."""
    keys = {"params": KEY, "latent": KEY}
    variables = jax.eval_shape(lambda: module.init(keys, *inputs))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    "module, inputs, expected",
    [
        (nn.ResNet(), [(1, 32, 32, 3)], 11_173_962),
        (nn.ResNet(ranker=True), [(1, 32, 32, 3)], 11_173_962 + 123_905),
        (nn.resnet50(), [(1, 32, 32, 3)], 23_520_842),
        (nn.cnn18(), [(1, 32, 32, 3)], 11_000_138),
        (nn.resnet20(), [(1, 32, 32, 3)], 273_066),
        (nn.resnet56(), [(1, 32, 32, 3)], 857_706),
        (nn.PlainCNN(), [(1, 32, 32, 3)], 121_226),
        (nn.VAE(), [(1, 32, 32, 3), (1,)], 22_851_523),
        (nn.VAE(conditioned=False), [(1, 32, 32, 3)], 22_835_139),
        (nn.Discriminator(), [(1, 32), (1,)], 280_577),
        (nn.Discriminator(), [(1, 32)], 280_065),
    ],
)
def test_published_numbers_of_parameters(module, inputs, expected):
    assert count_all(module, *(jnp.zeros(shape) for shape in inputs)) == expected


@pytest.mark.parametrize(
    "module",
    [
        nn.ResNet(4, width=2, blocks=(1,), bottleneck=True),
        nn.ResNet(4, width=2, blocks=(1,), skip=False, bias=True),
        nn.PlainCNN(4, width=2),
    ],
)
def test_the_family_predicts_and_trains(module):
    x = np.abs(normal(2, 8, 8, 1))
    init, apply = nn.from_linen(module, x)
    params, state = jax.jit(init)(KEY)

    def loss(params):
        outputs, new = apply(params, state, x, KEY, True)
        return jnp.mean(outputs.logits**2), new

    (_, new), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert all(np.any(g != 0) for g in jax.tree.leaves(gradient)[-4:])
    outputs, _ = jax.jit(apply)(params, state, x)
    assert outputs.logits.shape == (2, 4) and np.isfinite(outputs.logits).all()


def test_a_shortcut_is_what_a_block_adds():
    x = np.abs(normal(2, 6, 6, 4))
    with_skip = _networks._BasicBlock(4, 1)
    without = _networks._BasicBlock(4, 1, skip=False)
    variables = jax.jit(lambda x: with_skip.init(KEY, x, False))(x)
    # Both last layers are positive or not: relu(x + y) and relu(y).
    run = jax.jit(lambda v, x: [m.apply(v, x, False) for m in (with_skip, without)])
    added, alone = map(np.asarray, run(variables, x))
    np.testing.assert_allclose(
        np.where(alone > 0, added - x, 0), alone, rtol=1e-5, atol=1e-6
    )


def test_plain_cnn_drops_only_when_asked():
    x = np.abs(normal(1, 12, 12, 1))
    init, apply = nn.from_linen(nn.PlainCNN(3, width=4), x)
    params, state = jax.jit(init)(KEY)
    run = jax.jit(lambda key: apply(params, state, x, key, False)[0].logits)
    assert (run(KEY) != run(None)).any()
    np.testing.assert_array_equal(run(KEY), run(KEY))


def test_bottlenecks_have_no_variants():
    with pytest.raises(ValueError, match="bottleneck"):
        nn.resnet50(skip=False).init(KEY, jnp.zeros((1, 8, 8, 1)))


@pytest.mark.parametrize("side, sides", [(32, (32, 16, 8, 4)), (28, (28, 14, 7, 4))])
def test_maps_of_the_stages(side, sides):
    network = nn.ResNet(width=2)
    x = jnp.zeros((1, side, side, 1))
    _, state = jax.eval_shape(
        lambda: network.init_with_output(KEY, x, capture_intermediates=True)
    )
    blocks = [
        state["intermediates"][f"_BasicBlock_{number}"]["__call__"][0].shape
        for number in (1, 3, 5, 7)
    ]
    assert blocks == [(1, n, n, 2 * 2**i) for i, n in enumerate(sides)]


def test_ranker_takes_true_means_of_any_map():
    maps = [normal(3, 7, 7, 2), normal(3, 4, 4, 5, seed=1)]
    ranker = nn.Ranker(4)
    variables = jax.jit(ranker.init)(KEY, maps)
    params = jax.tree.map(np.float64, variables["params"])
    branches = [
        np.maximum(
            np.asarray(x, np.float64).mean((1, 2)) @ params[name]["kernel"]
            + params[name]["bias"],
            0,
        )
        for x, name in zip(maps, ("Dense_0", "Dense_1"), strict=True)
    ]
    last = params["Dense_2"]
    expected = np.concatenate(branches, 1) @ last["kernel"] + last["bias"]
    found = jax.jit(ranker.apply)(variables, maps)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-5)


def test_the_ranker_reaches_the_trunk_only_while_it_may():
    network = nn.ResNet(width=2, blocks=(1, 1), ranker=True)
    x = normal(4, 8, 8, 1)
    init, apply = nn.from_linen(network, x)
    params, state = jax.jit(init)(KEY)

    @jax.jit
    def score(params, share):
        return jnp.sum(apply(params, state, x, trunk_gradient=share)[0].loss_score)

    slope = jax.jit(jax.grad(score))
    size = lambda tree: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
    for share in (0.0, 1.0):
        gradients = dict(slope(params, share))
        assert size(gradients.pop("Ranker_0")) > 0
        assert (size(gradients) > 0) == (share == 1)
    values = [score(params, share) for share in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(values, values[0], rtol=1e-6)


def test_images_are_standardised_by_channel():
    plain, standard = (
        nn.ResNet(width=2, blocks=(1,), mean=mean, sd=sd)
        for mean, sd in (((0.0,), (1.0,)), ((0.2, 0.3, 0.4), (0.5, 0.6, 0.7)))
    )
    x = np.abs(normal(2, 8, 8, 3))
    variables = jax.jit(plain.init)(KEY, x)
    changed = ((x - [0.2, 0.3, 0.4]) / [0.5, 0.6, 0.7]).astype(np.float32)
    np.testing.assert_allclose(
        jax.jit(standard.apply)(variables, x).logits,
        jax.jit(plain.apply)(variables, changed).logits,
        rtol=1e-4,
    )


@pytest.mark.parametrize("side, channels", [(32, 3), (28, 1)])
def test_autoencoder_shapes_and_mode(side, channels):
    vae = nn.VAE((side, side, channels), 3, (2, 2, 4, 4))
    init, encode, apply = nn.from_vae(vae)
    encode, apply = jax.jit(encode, static_argnums=3), jax.jit(apply)
    params, state = jax.jit(init)(KEY)
    x, condition = normal(5, side, side, channels), jnp.linspace(0, 1, 5)
    (mean, log_variance, back), after = apply(params, state, x, condition, KEY)
    assert mean.shape == log_variance.shape == (5, 3) and back.shape == x.shape
    # Training moves the averages, encoding with those of the batch does not.
    assert any(
        np.abs(a - b).max() > 0
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True)
    )
    np.testing.assert_allclose(encode(params, state, x, True)[0], mean, atol=1e-5)
    # With running averages an item is encoded alone as among others.
    together = encode(params, after, x, False)[0]
    np.testing.assert_allclose(
        encode(params, after, x[:1], False)[0], together[:1], atol=1e-5
    )
    other = apply(params, state, x, 1 - condition, KEY)[0]
    assert np.array_equal(other[0], mean) and np.abs(other[2] - back).max() > 1e-4


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(shape=(64, 64, 3)), r"shape=\(64, 64, 3\); images must be of 32x32 or"),
        (dict(latent=0), "latent=0; at least one dimension is needed"),
        (dict(channels=(1, 2)), r"channels=\(1, 2\); four are needed"),
    ],
)
def test_autoencoders_that_cannot_be(changes, message):
    vae = nn.VAE(**changes)
    with pytest.raises(ValueError, match=message):
        nn.from_vae(vae)[0](KEY)


def test_a_decoder_that_needs_a_condition_says_so():
    init, _, apply = nn.from_vae(nn.VAE((28, 28, 1), 2, (1, 1, 1, 1)))
    variables = jax.eval_shape(init, KEY)
    with pytest.raises(ValueError, match="condition=None; this decoder needs one"):
        jax.eval_shape(apply, *variables, jnp.zeros((2, 28, 28, 1)), None, KEY)


def test_images_of_another_size_are_refused():
    init, encode, _ = nn.from_vae(nn.VAE((28, 28, 1), 2, (1, 1, 1, 1)))
    variables = jax.eval_shape(init, KEY)
    encode = jax.jit(encode, static_argnums=3)
    with pytest.raises(ValueError, match=r"x has shape \(2, 32, 32, 1\); expected"):
        encode.eval_shape(*variables, jnp.zeros((2, 32, 32, 1)), False)
