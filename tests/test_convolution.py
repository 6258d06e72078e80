"""The convolution equals that of `jax.lax`, values and gradients, wherever it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

from jal._core import compile
from jal._core.compile import cpu_compiler_options
from jal.nn import conv_general_dilated

LAYOUTS = {
    1: ("NWC", "WIO", "NWC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
}


def arrays(*shapes, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def values_and_gradients(convolve, lhs, rhs):
    """The output and both gradients, for a cotangent that is not constant."""
    out, pull = jax.vjp(convolve, lhs, rhs)
    cotangent = jnp.sin(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)
    return out, *pull(cotangent.astype(out.dtype))


def assert_equals_lax(lhs, rhs, strides, padding, tolerance=1e-5, **options):
    """Both in one program, which compiles once."""
    options.setdefault("dimension_numbers", LAYOUTS[lhs.ndim - 2])

    @jax.jit
    def both(lhs, rhs):
        call = lambda f: lambda lhs, rhs: f(lhs, rhs, strides, padding, **options)
        return [
            values_and_gradients(call(f), lhs, rhs)
            for f in (conv_general_dilated, lax.conv_general_dilated)
        ]

    own, stock = both(lhs, rhs)
    for one, two in zip(own, stock, strict=True):
        assert one.dtype == two.dtype and one.shape == two.shape
        one, two = (np.asarray(v, np.float32) for v in (one, two))
        scale = tolerance * max(1, np.abs(two).max(initial=0))
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=scale)
    return own


# lhs, rhs, strides, padding, options
CASES = {
    "valid": ((3, 7, 7, 2), (3, 3, 2, 5), (1, 1), "VALID", {}),
    "same": ((3, 7, 7, 2), (3, 3, 2, 5), (1, 1), "SAME", {}),
    "same, even kernel": ((2, 7, 6, 2), (4, 2, 2, 3), (1, 1), "SAME", {}),
    "same, strides": ((2, 7, 6, 2), (3, 3, 2, 3), (2, 2), "SAME", {}),
    "same lower": ((2, 7, 6, 2), (4, 2, 2, 3), (2, 1), "SAME_LOWER", {}),
    "rows left over": ((2, 8, 9, 2), (3, 2, 2, 3), (3, 4), "VALID", {}),
    "stride above kernel": ((2, 9, 9, 2), (1, 2, 2, 3), (3, 4), "VALID", {}),
    "one by one": ((2, 5, 5, 4), (1, 1, 4, 3), (1, 1), "SAME", {}),
    "whole image": ((2, 5, 6, 2), (5, 6, 2, 3), (1, 1), "VALID", {}),
    "asymmetric": ((2, 6, 7, 2), (3, 2, 2, 3), (2, 1), ((0, 3), (2, 0)), {}),
    "wide padding": ((2, 4, 4, 2), (2, 2, 2, 3), (1, 1), ((4, 3), (2, 5)), {}),
    "negative padding": ((2, 8, 9, 2), (3, 3, 2, 3), (1, 2), ((-1, -2), (-2, 1)), {}),
    "large kernel": ((2, 4, 3, 2), (6, 5, 2, 3), (1, 1), ((3, 2), (2, 2)), {}),
    "kernel dilation": (
        (2, 9, 8, 2),
        (3, 2, 2, 3),
        (1, 2),
        "SAME",
        {"rhs_dilation": (2, 3)},
    ),
    "input dilation": (
        (2, 4, 5, 2),
        (3, 4, 2, 3),
        (1, 1),
        ((2, 1), (1, 3)),
        {"lhs_dilation": (2, 3)},
    ),
    "everything dilated": (
        (2, 5, 4, 2),
        (2, 3, 2, 3),
        (3, 2),
        ((1, -1), (0, 4)),
        {"lhs_dilation": (2, 3), "rhs_dilation": (3, 2)},
    ),
    "groups": ((2, 6, 6, 4), (3, 3, 2, 6), (1, 1), "SAME", {"feature_group_count": 2}),
    "depthwise": (
        (2, 6, 7, 3),
        (3, 2, 1, 6),
        (2, 1),
        "SAME",
        {"feature_group_count": 3},
    ),
    "groups, all dilated": (
        (2, 5, 5, 6),
        (2, 2, 2, 9),
        (2, 1),
        ((1, 2), (2, 0)),
        {"feature_group_count": 3, "lhs_dilation": (2, 1), "rhs_dilation": (1, 3)},
    ),
    "1-d": ((3, 9, 2), (4, 2, 3), (2,), "SAME", {}),
    "1-d, groups": (
        (3, 9, 4),
        (2, 1, 4),
        (1,),
        "VALID",
        {"feature_group_count": 4, "rhs_dilation": (3,)},
    ),
    "3-d": ((2, 4, 5, 3, 2), (2, 3, 2, 2, 3), (1, 2, 1), "SAME", {}),
    "3-d, dilated": (
        (1, 3, 4, 3, 2),
        (2, 1, 2, 1, 4),
        (1, 1, 2),
        ((1, 0), (0, 1), (2, 1)),
        {
            "lhs_dilation": (1, 2, 2),
            "rhs_dilation": (2, 1, 1),
            "feature_group_count": 2,
        },
    ),
    "no rows": ((2, 2, 6, 2), (3, 3, 2, 3), (1, 1), "VALID", {}),
    "no items": ((0, 6, 6, 2), (3, 3, 2, 3), (1, 1), "VALID", {}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_equal_those_of_lax(case):
    lhs, rhs, strides, padding, options = case
    own = assert_equals_lax(*arrays(lhs, rhs), strides, padding, **options)
    assert own[1].shape == lhs and own[2].shape == rhs


def plain_sum(lhs, rhs, strides, padding, dilation):
    """The same in float64 NumPy, window by window, by the definition."""
    _, *shape, _ = lhs.shape
    *window, _, _ = rhs.shape
    spread = [(size - 1) * step + 1 for size, step in zip(shape, dilation, strict=True)]
    # Wide margins, so that negative padding is a matter of where to begin.
    canvas = np.zeros((len(lhs), *(size + 20 for size in spread), lhs.shape[-1]))
    places = tuple(
        slice(10, 10 + size, step) for size, step in zip(spread, dilation, strict=True)
    )
    canvas[:, *places] = lhs
    outputs = [
        max((size + low + high - reach) // stride + 1, 0)
        for size, (low, high), reach, stride in zip(
            spread, padding, window, strides, strict=True
        )
    ]
    # [B, every place of a window, channels, window], of which the strides leave some.
    axes = tuple(range(1, 1 + len(shape)))
    windows = np.lib.stride_tricks.sliding_window_view(canvas, window, axes)
    used = tuple(
        slice(10 - low, 10 - low + count * stride, stride)
        for (low, _), count, stride in zip(padding, outputs, strides, strict=True)
    )
    return np.tensordot(windows[:, *used], np.moveaxis(rhs, -2, 0), 1 + len(shape))


@pytest.mark.parametrize("seed", range(12))
def test_strides_dilations_and_paddings_against_a_plain_sum(seed):
    rng = np.random.default_rng(seed)
    spatial = 1 + seed % 3
    size = lambda low, high: rng.integers(low, high, spatial).tolist()
    lhs = rng.normal(size=(2, *size(2, 7), 3))
    rhs = rng.normal(size=(*size(1, 5), 3, 2))
    transposed = seed % 2 == 0
    strides = [1] * spatial if transposed else size(1, 4)
    dilation = size(1, 4) if transposed else [1] * spatial
    padding = [tuple(rng.integers(-1, 4, 2).tolist()) for _ in range(spatial)]
    want = plain_sum(lhs, rhs, strides, padding, dilation)

    def convolve(lhs, rhs):
        numbers = LAYOUTS[spatial]
        return conv_general_dilated(
            lhs, rhs, strides, padding, dilation, dimension_numbers=numbers
        )

    run = jax.jit(functools.partial(values_and_gradients, convolve))
    own = run(np.float32(lhs), np.float32(rhs))
    assert own[0].shape == want.shape
    np.testing.assert_allclose(own[0], want, atol=1e-4)
    # It is linear in both: the gradients give the same sum for any change of one.
    cotangent = np.sin(np.arange(want.size)).reshape(want.shape)
    for place, gradient in enumerate(own[1:]):
        changed = [lhs, rhs]
        changed[place] = rng.normal(size=changed[place].shape)
        total = np.sum(cotangent * plain_sum(*changed, strides, padding, dilation))
        np.testing.assert_allclose(np.sum(gradient * changed[place]), total, atol=1e-3)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_the_transposed_convolution_of_lax(padding):
    # What `lax.conv_transpose` asks for, of which it makes pads and a dilation.
    lhs, rhs = arrays((2, 5, 4, 3), (3, 4, 3, 2))
    strides = (2, 3)
    expected = lax.conv_transpose(lhs, rhs, strides, padding)
    pads = []
    for kernel, stride in zip(rhs.shape[:2], strides, strict=True):
        if padding == "SAME":
            low = kernel - 1 if stride > kernel - 1 else -(-(kernel + stride - 2) // 2)
            pads.append((low, kernel + stride - 2 - low))
        else:
            pads.append((kernel - 1, kernel - 1 + max(stride - kernel, 0)))
    out, *_ = assert_equals_lax(lhs, rhs, (1, 1), pads, lhs_dilation=strides)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "lhs, rhs, numbers, options",
    [
        ((2, 3, 7, 6), (4, 3, 3, 2), None, {}),
        ((2, 3, 7, 6), (4, 3, 3, 2), ("NCHW", "OIHW", "NCHW"), {}),
        ((2, 7, 6, 3), (4, 3, 3, 2), ("NHWC", "OIHW", "NHWC"), {}),
        ((2, 7, 6, 3), (3, 2, 3, 4), ("NHWC", "HWIO", "NCHW"), {}),
        ((7, 6, 2, 3), (3, 2, 3, 4), ("HWNC", "HWIO", "HWNC"), {}),
        ((4, 7, 6, 3), (3, 2, 3, 4), LAYOUTS[2], {"batch_group_count": 2}),
    ],
)
def test_other_layouts_are_those_of_lax(lhs, rhs, numbers, options):
    lhs, rhs = arrays(lhs, rhs)
    options = {"dimension_numbers": numbers, "rhs_dilation": (2, 1)} | options
    assert_equals_lax(lhs, rhs, (1, 2), "SAME", **options)
    call = lambda *xs: conv_general_dilated(*xs, (1, 2), "SAME", **options)
    assert "custom_vjp" not in str(jax.make_jaxpr(call)(lhs, rhs))


def test_the_own_layout_in_any_notation():
    lhs, rhs = arrays((2, 7, 6, 3), (3, 2, 3, 4))
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUTS[2])
    for layout in (LAYOUTS[2], numbers):
        call = lambda *xs, layout=layout: conv_general_dilated(
            *xs, (1, 1), "SAME", dimension_numbers=layout
        )
        assert "custom_vjp" in str(jax.make_jaxpr(call)(lhs, rhs))


# Inside other transformations


def same_padded(function, strides=(1, 1)):
    return functools.partial(
        function, window_strides=strides, padding="SAME", dimension_numbers=LAYOUTS[2]
    )


OWN, STOCK = same_padded(conv_general_dilated), same_padded(lax.conv_general_dilated)


def test_gradients_inside_a_scan():
    images, kernel = arrays((4, 2, 6, 6, 3), (3, 3, 3, 3))

    def train(convolve):
        def step(kernel, image):
            loss = lambda k: jnp.sum(
                jnp.tanh(convolve(jnp.tanh(convolve(image, k)), k))
            )
            value, gradient = jax.value_and_grad(loss)(kernel)
            return kernel - 0.01 * gradient, (value, gradient)

        return jax.jit(lambda k, x: lax.scan(step, k, x))(kernel, images)

    for own, stock in zip(
        *map(jax.tree.leaves, (train(OWN), train(STOCK))), strict=True
    ):
        np.testing.assert_allclose(own, stock, rtol=1e-4, atol=1e-4)


def test_gradients_through_a_scan():
    image, kernel = arrays((2, 6, 6, 3), (3, 3, 3, 3))

    def loss(convolve, image, kernel):
        step = lambda x, _: (jnp.tanh(convolve(x, kernel)), None)
        return jnp.sum(lax.scan(step, image, None, 3)[0] ** 2)

    for argument in (1, 2):
        gradient = jax.jit(jax.grad(loss, argument), static_argnums=0)
        own, stock = (gradient(f, image, kernel) for f in (OWN, STOCK))
        np.testing.assert_allclose(own, stock, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_values_and_gradients_under_vmap(axes):
    images, kernels = arrays((4, 2, 6, 5, 3), (4, 3, 2, 3, 2))
    inputs = [
        v if a == 0 else v[0] for v, a in zip((images, kernels), axes, strict=True)
    ]
    strided = [same_padded(f, (2, 1)) for f in (OWN.func, STOCK.func)]
    own, stock = (
        jax.jit(jax.vmap(functools.partial(values_and_gradients, f), axes))(*inputs)
        for f in strided
    )
    for one, two in zip(own, stock, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-4)


def test_second_derivatives():
    image, kernel = arrays((2, 5, 5, 2), (3, 3, 2, 2))

    def penalty(convolve, kernel):
        loss = lambda x: jnp.sum(jnp.tanh(convolve(x, kernel)))
        return jnp.sum(jax.grad(loss)(image) ** 2)

    second = jax.jit(jax.grad(penalty, 1), static_argnums=0)
    np.testing.assert_allclose(
        second(OWN, kernel), second(STOCK, kernel), rtol=1e-4, atol=1e-4
    )


def test_a_sharded_output_is_left_to_lax():
    lhs, rhs = arrays((2, 7, 6, 3), (3, 2, 3, 4))
    mesh = jax.make_mesh((1,), ("items",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        where = jax.sharding.PartitionSpec("items", None, None, None)
        out = jax.jit(functools.partial(OWN, out_sharding=where))(lhs, rhs)
    assert out.sharding.spec == where


# In flax

LAYERS = [
    {},
    {"strides": 2, "padding": "VALID", "kernel_dilation": 2},
    {"padding": "CIRCULAR", "feature_group_count": 2, "use_bias": False},
    {"strides": (2, 1), "padding": ((0, 2), (1, 0)), "input_dilation": (1, 2)},
    {"dtype": jnp.bfloat16, "padding": 1},
]


def assert_same_loss_and_gradients(loss, own, stock, *inputs, tolerance=1e-4):
    """`loss(layer, *inputs)`, differentiated in the inputs, for two layers."""
    argnums = tuple(range(1, 1 + len(inputs)))
    run = jax.value_and_grad(loss, argnums)
    both = jax.jit(lambda *inputs: [run(layer, *inputs) for layer in (own, stock)])
    for one, two in zip(*map(jax.tree.leaves, both(*inputs)), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", LAYERS)
def test_in_the_convolution_of_linen(options):
    (x,) = arrays((2, 9, 8, 4))
    own, stock = (
        linen.Conv(6, (3, 2), **options, **mine)
        for mine in ({"conv_general_dilated": conv_general_dilated}, {})
    )
    shapes = jax.eval_shape(stock.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: arrays(leaf.shape)[0], shapes)
    loss = lambda layer, variables, x: jnp.sum(
        jnp.tanh(layer.apply(variables, x).astype(jnp.float32))
    )
    tolerance = 1e-2 if "dtype" in options else 1e-4
    assert_same_loss_and_gradients(loss, own, stock, variables, x, tolerance=tolerance)


@pytest.mark.parametrize("options", [{}, {"preferred_element_type": jnp.float32}])
def test_in_the_convolution_of_nnx(options):
    (x,) = arrays((2, 9, 8, 4))
    options = {"strides": 2, "feature_group_count": 2, **options}
    (own, weights), (stock, same_weights) = (
        nnx.split(nnx.Conv(4, 6, (3, 2), rngs=nnx.Rngs(0), **options, **mine))
        for mine in ({"conv_general_dilated": conv_general_dilated}, {})
    )
    for one, two in zip(*map(jax.tree.leaves, (weights, same_weights)), strict=True):
        assert np.array_equal(one, two)
    loss = lambda layer, weights, x: jnp.sum(jnp.tanh(nnx.merge(layer, weights)(x)))
    assert_same_loss_and_gradients(loss, own, stock, weights, x)


# Types and precision


@pytest.mark.parametrize("preferred", [None, jnp.float32])
def test_bfloat16_is_kept(preferred):
    lhs, rhs = arrays((2, 6, 5, 3), (3, 2, 3, 4), dtype=jnp.bfloat16)
    out, *gradients = assert_equals_lax(
        lhs, rhs, (1, 2), "SAME", tolerance=2e-2, preferred_element_type=preferred
    )
    assert out.dtype == (preferred or jnp.bfloat16)
    assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2


def convolutions(jaxpr):
    """All convolution equations of a jaxpr and of those in it."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from convolutions(inner)


def test_precision_and_element_type_reach_every_convolution():
    lhs, rhs = arrays((2, 6, 5, 3), (3, 2, 3, 4))
    options = dict(precision="highest", preferred_element_type=jnp.float32)
    convolve = functools.partial(OWN, **options)
    forward = jax.make_jaxpr(convolve)(lhs, rhs)
    (equation,) = convolutions(forward.jaxpr)
    assert equation.params["preferred_element_type"] == jnp.float32
    both = jax.make_jaxpr(functools.partial(values_and_gradients, convolve))(lhs, rhs)
    used = [equation.params["precision"] for equation in convolutions(both.jaxpr)]
    assert used == [(lax.Precision.HIGHEST,) * 2] * 3


# What it does not do


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_named_padding_of_a_transposed_convolution_is_refused(padding):
    lhs, rhs = arrays((2, 6, 5, 3), (3, 2, 3, 4))
    with pytest.raises(
        ValueError, match=f"padding='{padding}' with lhs_dilation=.2, 1"
    ):
        conv_general_dilated(
            lhs, rhs, (1, 1), padding, (2, 1), dimension_numbers=LAYOUTS[2]
        )
    # A dilation of 1 is none.
    assert_equals_lax(lhs, rhs, (1, 1), padding, lhs_dilation=(1, 1))


def test_arguments_that_do_not_fit_are_refused_as_by_lax():
    lhs, rhs = arrays((2, 6, 5, 3), (3, 2, 2, 4))
    for function in (OWN, STOCK):
        with pytest.raises(ValueError, match="feature"):
            function(lhs, rhs)


def test_forward_mode_is_refused():
    lhs, rhs = arrays((2, 6, 5, 3), (3, 2, 3, 4))
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(OWN, (lhs, rhs), (lhs, rhs))


# Compiler options


@pytest.fixture
def forgotten():
    """Nothing remembered of the options before the test, nor after it."""
    compile._known_options.cache_clear()
    yield
    compile._known_options.cache_clear()


def test_the_options_are_accepted_and_change_no_value(forgotten):
    options = cpu_compiler_options()
    lhs, rhs = arrays((2, 6, 5, 3), (3, 2, 3, 4))
    fast = jax.jit(OWN, compiler_options=options)(lhs, rhs)
    np.testing.assert_allclose(fast, jax.jit(OWN)(lhs, rhs), rtol=1e-5, atol=1e-5)
    options["changed"] = "by the caller"
    assert "changed" not in cpu_compiler_options()


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_no_options_on_other_backends(forgotten, monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert cpu_compiler_options() == {}


def test_no_options_where_the_compiler_knows_none(forgotten, monkeypatch):
    jit = jax.jit
    unknown = {"xla_an_option_that_no_compiler_has": ""}
    with pytest.raises(Exception, match="xla_an_option_that_no_compiler_has"):
        jit(jnp.sin, compiler_options=unknown).lower(0.0).compile()
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(
        jax, "jit", lambda f, compiler_options: jit(f, compiler_options=unknown)
    )
    assert cpu_compiler_options() == {}


@pytest.mark.parametrize("shape", [(2, 5, 5, 3), (2, 7, 3)])
def test_kernels_of_one_pixel_are_products(shape):
    """Without a convolution in the program, and with the same gradients."""
    x, kernel = arrays(shape, (*(1,) * (len(shape) - 2), 3, 4))
    layout = ("NHWC", "HWIO", "NHWC") if len(shape) == 4 else ("NHC", "HIO", "NHC")
    ones = (1,) * (len(shape) - 2)

    def run(convolve, x, kernel):
        return jnp.sin(
            convolve(x, kernel, ones, "VALID", dimension_numbers=layout)
        ).sum()

    ours = jax.grad(functools.partial(run, conv_general_dilated), (0, 1))
    theirs = jax.grad(functools.partial(run, jax.lax.conv_general_dilated), (0, 1))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(ours)(x, kernel))
    pairs = zip(jax.jit(ours)(x, kernel), jax.jit(theirs)(x, kernel), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
