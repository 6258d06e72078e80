"""The convolution equals that of `jax.lax`, values and gradients, wherever it is put."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jal import convolution
from jal.convolution import conv_general_dilated, cpu_compiler_options

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
        {"lhs_dilation": (1, 2, 2), "rhs_dilation": (2, 1, 1), "feature_group_count": 2},
    ),
    "no rows": ((2, 2, 6, 2), (3, 3, 2, 3), (1, 1), "VALID", {}),
    "no items": ((0, 6, 6, 2), (3, 3, 2, 3), (1, 1), "VALID", {}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_equal_those_of_lax(case):
    lhs, rhs, strides, padding, options = case
    own = assert_equals_lax(*arrays(lhs, rhs), strides, padding, **options)
    assert own[1].shape == lhs and own[2].shape == rhs
