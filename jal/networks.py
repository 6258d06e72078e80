"""Networks in Flax Linen; the only module that imports flax.

A module takes images or features `x` with `train` (batch statistics, gradients) and
`stochastic` (dropout on), and returns `Outputs`.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jal.convolution import conv_general_dilated
from jal.types import Outputs


def from_linen(module: nn.Module, example) -> tuple[Callable, Callable]:
    """The (init, apply) pair that `jal.learners` takes, of a module of this file.

    Args:
      module: called as `module(x, train=bool, stochastic=bool)`, returning `Outputs`.
      example: pytree of [B, ...] inputs; only shapes and dtypes matter.

    Returns:
      init: (key) -> (params, state), and
      apply: (params, state, x, key, train) -> (Outputs, state).

    >>> init, apply = from_linen(GalCNN(), jnp.zeros((1, 28, 28, 1), jnp.uint8))
    >>> params, state = init(jax.random.key(0))
    >>> outputs, _ = apply(params, state, jnp.zeros((2, 28, 28, 1)), None, False)
    >>> outputs.logits.shape
    (2, 10)
    """
    one_item = lambda leaf: jnp.zeros((1, *leaf.shape[1:]), leaf.dtype)
    example = jax.tree.map(one_item, example)

    def init(key):
        state = dict(module.init(key, example, train=False, stochastic=False))
        return state.pop("params"), state

    def apply(params, state, x, key=None, train=False):
        variables = {"params": params, **state}
        rngs = None if key is None else {"dropout": key}
        forward = functools.partial(
            module.apply, variables, x, train=train, stochastic=key is not None
        )
        if not train or not state:
            return forward(rngs=rngs), state
        return forward(rngs=rngs, mutable=list(state))

    return init, apply


def unit_range(images: jax.Array) -> jax.Array:
    """uint8 images scaled to [0, 1]; floating ones are taken as they are.

    Args:
      images: [B, H, W] or [B, H, W, channels].

    Returns:
      [B, H, W, channels] float32 unless the input is floating.

    >>> unit_range(jnp.full((1, 2, 2), 255, jnp.uint8)).shape
    (1, 2, 2, 1)
    """
    if images.ndim == 3:
        images = images[..., None]
    if jnp.issubdtype(images.dtype, jnp.integer):
        return images.astype(jnp.float32) / 255.0
    return images


def max_pool(x: jax.Array, window: int) -> jax.Array:
    """Non-overlapping max pooling by reshape, whose gradient is fast on CPU.

    Args:
      x: [B, H, W, channels]; rows and columns that do not fill a window are dropped.
      window: side of the square window.

    Returns:
      [B, H // window, W // window, channels].

    >>> float(max_pool(jnp.arange(4.0).reshape(1, 2, 2, 1), 2)[0, 0, 0, 0])
    3.0
    """
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(batch, rows, window, columns, window, channels).max(axis=(2, 4))


@jax.custom_batching.custom_vmap
def _masked_dense(x, mask, kernel):
    """(x * mask) @ kernel for x [B, D], mask [D], kernel [D, H]."""
    return (x * mask[None]) @ kernel


@_masked_dense.def_vmap
def _masked_dense_vmap(axis_size, in_batched, x, mask, kernel):
    """Keeps items in one matrix and folds masks into the weights.

    Over items: [A, B, D] becomes [A * B, D]. Over masks: one product with the A masked
    kernels side by side, so that no masked copy of x is ever made.
    """
    over_x, over_mask, over_kernel = in_batched
    if not over_kernel and over_x and not over_mask:
        rows = _masked_dense(x.reshape(-1, x.shape[-1]), mask, kernel)
        return rows.reshape(axis_size, -1, kernel.shape[-1]), True
    if not over_kernel and over_mask and not over_x:
        masked = mask.T[:, :, None] * kernel[:, None, :]
        rows = x @ masked.reshape(kernel.shape[0], -1)
        rows = rows.reshape(x.shape[0], axis_size, kernel.shape[-1])
        return jnp.swapaxes(rows, 0, 1), True
    axes = tuple(0 if batched else None for batched in in_batched)
    plain = lambda x, mask, kernel: (x * mask[None]) @ kernel
    return jax.vmap(plain, in_axes=axes)(x, mask, kernel), True


# Columns that are multiplied at a time where only some of them are needed.
COLUMNS = 128


@jax.custom_batching.custom_vmap
def _needed_dense(x, mask, kernel, needed):
    """(x * mask) @ kernel where needed [H], 0 elsewhere."""
    return jnp.where(needed[None], _masked_dense(x, mask, kernel), 0)


@_needed_dense.def_vmap
def _needed_dense_vmap(axis_size, in_batched, x, mask, kernel, needed):
    """Over items as above; over masks, no column is computed that is not needed.

    The masked kernels stand side by side, those columns first that are needed, and are
    multiplied a block at a time until none is left. The values are those of
    `_masked_dense`; what is saved is the share that the next layer drops.
    """
    over_x, over_mask, over_kernel, over_needed = in_batched
    if not over_kernel and over_x and not over_mask and not over_needed:
        rows = _needed_dense(x.reshape(-1, x.shape[-1]), mask, kernel, needed)
        return rows.reshape(axis_size, -1, kernel.shape[-1]), True
    if over_kernel or over_x or not (over_mask and over_needed):
        axes = tuple(0 if batched else None for batched in in_batched[:3])
        y = jax.vmap(_masked_dense, in_axes=axes, axis_size=axis_size)(x, mask, kernel)
        return jnp.where(jnp.expand_dims(needed, -2), y, 0), True
    width = kernel.shape[-1]
    total = axis_size * width
    size = min(COLUMNS, total)
    blocks = -(-total // size)
    order = jnp.argsort(~needed.reshape(-1), stable=True).astype(jnp.int32)
    filled = jnp.pad(order, (0, blocks * size - total))

    def multiply(block, products):
        columns = jax.lax.dynamic_slice(filled, (block * size,), (size,))
        masked = mask[columns // width] * kernel.T[columns % width]
        return products.at[block].set(x @ masked.T)

    used = -(-jnp.sum(needed, dtype=jnp.int32) // size)
    products = jnp.zeros((blocks, x.shape[0], size), x.dtype)
    products = jax.lax.fori_loop(0, used, multiply, products)
    place = jnp.argsort(order)
    rows = jnp.swapaxes(products, 0, 1).reshape(x.shape[0], -1)[:, place]
    rows = jnp.swapaxes(rows.reshape(-1, axis_size, width), 0, 1)
    return jnp.where(needed[:, None], rows, 0), True


class DropoutDense(nn.Module):
    """Dropout on the input of a dense layer, with masks that fold into the weights.

    (x * mask / (1 - rate)) @ kernel + bias. In training every row of a batch has a
    mask of its own. In scoring all rows share one, drawn from the key alone; `vmap`
    over keys then multiplies x once with all masked kernels side by side, and `vmap`
    over rows with a key each gives independent masks. Where the next layer drops some
    of the outputs again, its mask, drawn before, says which need not be computed.

    Attributes:
      features: H, the number of outputs.
      rate: share of the inputs that is dropped.

    >>> layer = DropoutDense(3, rate=0.5)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 4)))
    >>> rngs = {"dropout": jax.random.key(1)}
    >>> layer.apply(variables, jnp.ones((2, 4)), stochastic=True, rngs=rngs).shape
    (2, 3)
    """

    features: int
    rate: float

    def draw_mask(self, inputs: int) -> jax.Array:
        """[D] mask of one pass, scaled by 1 / (1 - rate), for D inputs."""
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, (inputs,))
        return keep.astype(jnp.float32) / (1 - self.rate)

    @nn.compact
    def __call__(
        self,
        x,
        *,
        train: bool = False,
        stochastic: bool = False,
        mask: jax.Array | None = None,
        needed: jax.Array | None = None,
    ):
        """Maps [B, D] to [B, H].

        Args:
          x: [B, D].
          train: a mask for each row.
          stochastic: dropout on.
          mask: [D] of `draw_mask`; None draws it. Not for training.
          needed: [H] bool, outputs the caller goes on to use; the others are the bias.
        """
        kernel = self.param(
            "kernel", nn.initializers.xavier_uniform(), (x.shape[-1], self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if not stochastic or self.rate == 0:
            return x @ kernel + bias[None]
        if train:
            # The folded form has no gradient rule, and training has no use for it.
            keep = jax.random.bernoulli(
                self.make_rng("dropout"), 1 - self.rate, x.shape
            )
            return (x * (keep.astype(x.dtype) / (1 - self.rate))) @ kernel + bias[None]
        mask = (self.draw_mask(x.shape[-1]) if mask is None else mask).astype(x.dtype)
        if needed is None:
            return _masked_dense(x, mask, kernel) + bias[None]
        return _needed_dense(x, mask, kernel, needed) + bias[None]


class GalCNN(nn.Module):
    """The small convolutional network of Bayesian active learning on MNIST.

    Two valid convolutions with ReLU, 2x2 max pooling, dropout, dense with ReLU,
    dropout, dense. The defaults are the published ones: 32 and 32 kernels of 4x4,
    dropout .25 and .5, 128 units. `outputs=None` gives one regression output instead
    of class logits (the cost network).

    Attributes:
      outputs: C, or None for a regression.
      channels: kernels of the two convolutions.
      kernel: side of the square kernels.
      strides: strides of the two convolutions.
      dense: D, units of the hidden dense layer.
      rates: dropout rates before the two dense layers.
      convolution: what computes the convolutions, with the arguments of
        `jax.lax.conv_general_dilated`.

    >>> init, _ = from_linen(GalCNN(), jnp.zeros((1, 28, 28, 1), jnp.uint8))
    >>> params, _ = init(jax.random.key(0))
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    513994

    Reference: Gal, Islam and Ghahramani, "Deep Bayesian active learning with image
    data", 2017, section 5.
    """

    outputs: int | None = 10
    channels: Sequence[int] = (32, 32)
    kernel: int = 4
    strides: Sequence[int] = (1, 1)
    dense: int = 128
    rates: Sequence[float] = (0.25, 0.5)
    convolution: Callable = conv_general_dilated

    @nn.compact
    def __call__(self, x, *, train: bool = False, stochastic: bool = False) -> Outputs:
        """Maps images [B, H, W] or [B, H, W, channels] to `Outputs`."""
        x = unit_range(x)
        for channels, stride in zip(self.channels, self.strides, strict=True):
            x = nn.Conv(
                channels,
                (self.kernel, self.kernel),
                strides=stride,
                padding="VALID",
                kernel_init=nn.initializers.xavier_uniform(),
                conv_general_dilated=self.convolution,
            )(x)
            x = nn.relu(x)
        x = max_pool(x, 2)
        x = x.reshape(x.shape[0], -1)
        first, second = self.rates
        hidden, last = (
            DropoutDense(self.dense, first),
            DropoutDense(self.outputs or 1, second),
        )
        if train or not stochastic:
            features = nn.relu(hidden(x, train=train, stochastic=stochastic))
            y = last(features, train=train, stochastic=stochastic)
        else:
            mask, next_mask = hidden.draw_mask(x.shape[-1]), last.draw_mask(self.dense)
            features = nn.relu(hidden(x, stochastic=True, mask=mask))
            # What the last layer drops is computed only for those who ask for features.
            kept = hidden(x, stochastic=True, mask=mask, needed=next_mask > 0)
            y = last(nn.relu(kept), stochastic=True, mask=next_mask)
        if self.outputs is None:
            return Outputs(features=features, value=y[:, 0])
        return Outputs(features=features, logits=y)


def small_cnn(outputs: int | None = 10) -> GalCNN:
    """A tenth of the work of `GalCNN`: 16 kernels with stride 2, then 32.

    Args:
      outputs: C, or None for a regression.

    Returns:
      The module, for images of at least 12x12.

    >>> small_cnn().channels
    (16, 32)
    """
    return GalCNN(outputs, channels=(16, 32), strides=(2, 1))
