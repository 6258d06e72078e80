"""A convolution whose gradients are as fast inside a scan as outside.

XLA's CPU backend brings a convolution into the layout of its fast kernel only in the
entry computation of a program, not in the body of a `scan` (jax-ml/jax#12868).
Forward convolutions in channel-last layout need no change, but the two that autodiff
makes for the gradients do, and are 13 to 40 times slower in a loop. Here both are
written in channel-last layout to begin with. A convolution of a dilated input, which a
transposed one is, becomes one of the input for each phase of the output.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision=None,
    preferred_element_type=None,
    out_sharding=None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` with gradients that stay fast inside a scan.

    Takes the same arguments and returns the same values; pass it to
    `flax.linen.Conv` or `flax.nnx.Conv` as `conv_general_dilated=`. Reverse mode only.
    Convolutions that are not channel-last (as Flax's are) or use `batch_group_count`
    or `out_sharding` are handed to `jax.lax` unchanged.

    Args:
      lhs: [B, ..., D] input, spatial axes between.
      rhs: [..., D / groups, features] kernel.
      window_strides: one stride per spatial axis.
      padding: "SAME", "VALID", or a (low, high) pair per spatial axis.
      lhs_dilation: input dilation per axis (transposed convolution).
      rhs_dilation: kernel dilation per axis.
      dimension_numbers: as in `jax.lax`.
      feature_group_count: number of groups.
      batch_group_count: as in `jax.lax`.
      precision: as in `jax.lax`.
      preferred_element_type: as in `jax.lax`.
      out_sharding: as in `jax.lax`.

    Returns:
      [B, ..., features].

    Raises:
      ValueError: a named padding together with lhs_dilation.

    >>> image, kernel = jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 2))
    >>> layout = ("NHWC", "HWIO", "NHWC")
    >>> conv_general_dilated(
    ...     image, kernel, (1, 1), "VALID", dimension_numbers=layout
    ... ).shape
    (1, 3, 3, 2)
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    special = batch_group_count != 1 or out_sharding is not None
    if special or not _is_channel_last(numbers):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
            out_sharding,
        )
    spatial = lhs.ndim - 2
    ones = (1,) * spatial
    lhs_dilation = tuple(lhs_dilation or ones)
    rhs_dilation = tuple(rhs_dilation or ones)
    window_strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = _pairs(padding, lhs, rhs, window_strides, lhs_dilation, rhs_dilation)
    padding = tuple((int(low), int(high)) for low, high in padding)
    options = (feature_group_count, precision, preferred_element_type)
    if _is_product(rhs, padding, feature_group_count) and (
        window_strides == ones == lhs_dilation
    ):
        return lax.dot_general(
            lhs,
            rhs.reshape(rhs.shape[-2:]),
            (((lhs.ndim - 1,), (0,)), ((), ())),
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
    undivided = feature_group_count == 1 and window_strides == ones == rhs_dilation
    if undivided and lhs_dilation != ones:
        return _by_phases(lhs, rhs, lhs_dilation, padding, options)
    settings = (window_strides, padding, lhs_dilation, rhs_dilation, *options)
    return _convolution(settings, lhs, rhs)


def _pairs(padding: str, lhs, rhs, window_strides, lhs_dilation, rhs_dilation):
    """A named padding as (low, high) of each spatial axis."""
    if any(dilation != 1 for dilation in lhs_dilation):
        raise ValueError(
            f"padding={padding!r} with lhs_dilation={lhs_dilation}; a transposed "
            "convolution needs explicit (low, high) pairs"
        )
    reach = [
        (size - 1) * dilation + 1
        for size, dilation in zip(rhs.shape[:-2], rhs_dilation, strict=True)
    ]
    return lax.padtype_to_pads(lhs.shape[1:-1], reach, window_strides, padding)


def _is_product(rhs, padding, groups) -> bool:
    """Whether each pixel is mapped on its own: a matrix product, gradients included."""
    return math.prod(rhs.shape[:-2]) == 1 == groups and not any(map(any, padding))


def _by_phases(lhs, rhs, dilation, padding, options):
    """A convolution of a dilated input, without the zeros between its pixels.

    The outputs at dilation * g + phase see every dilation-th weight of the kernel only,
    from `first` on, and the inputs from g + `shift` on.
    """
    window, outputs = rhs.shape[:-2], []
    for size, (low, high), reach, step in zip(
        lhs.shape[1:-1], padding, window, dilation, strict=True
    ):
        outputs.append(max((size - 1) * step + 2 + low + high - reach, 0))
    groups = [-(-size // step) for size, step in zip(outputs, dilation, strict=True)]
    phases = []
    for place in itertools.product(*map(range, dilation)):
        pads, taps = [], []
        for axis, phase in enumerate(place):
            step, (low, _) = dilation[axis], padding[axis]
            first = (low - phase) % step
            shift = (phase - low + first) // step
            reach = groups[axis] + len(range(first, window[axis], step)) - 1
            pads.append((-shift, shift + reach - lhs.shape[axis + 1]))
            taps.append(slice(first, None, step))
        kernel = rhs[tuple(taps)]
        if kernel.size and min(groups) > 0:
            ones = (1,) * len(dilation)
            settings = (ones, tuple(pads), ones, ones, *options)
            phases.append(_convolution(settings, lhs, kernel))
        else:
            dtype = options[-1] or jnp.result_type(lhs, rhs)
            phases.append(jnp.zeros((lhs.shape[0], *groups, rhs.shape[-1]), dtype))
    made = _from_blocks(jnp.concatenate(phases, axis=-1), dilation)
    return lax.slice(made, (0,) * lhs.ndim, (lhs.shape[0], *outputs, rhs.shape[-1]))


def _from_blocks(blocks, sizes):
    """[B, ..., prod(sizes) * D] -> [B, ... * sizes, D]."""
    batch, *shape, depth = blocks.shape
    spatial, depth = len(sizes), depth // math.prod(sizes)
    parts = blocks.reshape(batch, *shape, *sizes, depth)
    order = [n for axis in range(spatial) for n in (1 + axis, 1 + spatial + axis)]
    parts = parts.transpose(0, *order, 2 * spatial + 1)
    whole = [size * of for size, of in zip(shape, sizes, strict=True)]
    return parts.reshape(batch, *whole, depth)


def _is_channel_last(numbers: lax.ConvDimensionNumbers) -> bool:
    rank = len(numbers.lhs_spec)
    channel_last = (0, rank - 1, *range(1, rank - 1))
    kernel_last = (rank - 1, rank - 2, *range(rank - 2))
    return (
        tuple(numbers.lhs_spec) == channel_last
        and tuple(numbers.out_spec) == channel_last
        and tuple(numbers.rhs_spec) == kernel_last
    )


def _channel_last_numbers(rank: int) -> lax.ConvDimensionNumbers:
    channel_last = (0, rank - 1, *range(1, rank - 1))
    kernel_last = (rank - 1, rank - 2, *range(rank - 2))
    return lax.ConvDimensionNumbers(channel_last, kernel_last, channel_last)


def _plain(lhs, rhs, strides, padding, lhs_dilation, rhs_dilation, groups, *options):
    if any(low < 0 or high < 0 for low, high in padding):
        # XLA's CPU backend reads beyond its input where it should leave pixels out.
        pads = [
            (*pair, step - 1) for pair, step in zip(padding, lhs_dilation, strict=True)
        ]
        none = (0, 0, 0)
        lhs = lax.pad(lhs, jnp.zeros((), lhs.dtype), [none, *pads, none])
        padding, lhs_dilation = ((0, 0),) * len(pads), (1,) * len(pads)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        _channel_last_numbers(lhs.ndim),
        groups,
        1,
        *options,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution(settings, lhs, rhs):
    return _plain(lhs, rhs, *settings)


def _forward(settings, lhs, rhs):
    return _plain(lhs, rhs, *settings), (lhs, rhs)


def _backward(settings, residuals, gradient):
    lhs, rhs = residuals
    if gradient.size == 0:  # no window fits; a convolution takes no empty kernel
        return jnp.zeros_like(lhs), jnp.zeros_like(rhs)
    gradient = gradient.astype(jnp.result_type(lhs, rhs))
    return (
        _input_gradient(settings, lhs, rhs, gradient).astype(lhs.dtype),
        _kernel_gradient(settings, lhs, rhs, gradient).astype(rhs.dtype),
    )


_convolution.defvjp(_forward, _backward)


def _input_gradient(settings, lhs, rhs, gradient):
    """The gradient, dilated by the strides, convolved with the flipped kernel."""
    strides, padding, lhs_dilation, rhs_dilation, groups, precision, _ = settings
    *window, inputs, outputs = rhs.shape
    flipped = jnp.flip(rhs, axis=tuple(range(len(window))))
    # [..., inputs, groups, outputs / groups] -> [..., outputs / groups, groups, inputs]
    flipped = flipped.reshape(*window, inputs, groups, outputs // groups)
    flipped = jnp.swapaxes(flipped, -1, -3)
    flipped = flipped.reshape(*window, outputs // groups, groups * inputs)
    pads = []
    for axis, (low, _) in enumerate(padding):
        reach = (window[axis] - 1) * rhs_dilation[axis]
        size = (lhs.shape[axis + 1] - 1) * lhs_dilation[axis] + 1
        spread = (gradient.shape[axis + 1] - 1) * strides[axis] + 1
        before = reach - low
        pads.append((before, size + reach - spread - before))
    ones = (1,) * len(window)
    if groups == 1 and strides != ones == lhs_dilation == rhs_dilation:
        return _by_phases(gradient, flipped, strides, pads, (1, precision, None))
    return _plain(
        gradient,
        flipped,
        lhs_dilation,
        tuple(pads),
        strides,
        rhs_dilation,
        groups,
        precision,
    )


def _kernel_gradient(settings, lhs, rhs, gradient):
    """The input convolved with the gradient, channels in the place of the batch."""
    strides, padding, lhs_dilation, rhs_dilation, groups, precision, _ = settings
    batch, *_, channels = lhs.shape
    *window, inputs, outputs = rhs.shape
    spatial = tuple(range(1, lhs.ndim - 1))
    # [B, ..., groups * inputs] -> [inputs, ..., groups * B]
    by_channel = lhs.reshape(*lhs.shape[:-1], groups, inputs)
    by_channel = by_channel.transpose(lhs.ndim, *spatial, lhs.ndim - 1, 0)
    by_channel = by_channel.reshape(inputs, *lhs.shape[1:-1], groups * batch)
    as_kernel = gradient.transpose(*spatial, 0, gradient.ndim - 1)
    pads = []
    for axis, (low, _) in enumerate(padding):
        size = (lhs.shape[axis + 1] - 1) * lhs_dilation[axis] + 1
        spread = (gradient.shape[axis + 1] - 1) * strides[axis] + 1
        reach = (window[axis] - 1) * rhs_dilation[axis] + 1
        pads.append((low, spread + reach - 1 - size - low))
    kernel = _plain(
        by_channel,
        as_kernel,
        rhs_dilation,
        tuple(pads),
        lhs_dilation,
        strides,
        groups,
        precision,
    )
    return kernel.transpose(*spatial, 0, lhs.ndim - 1)
