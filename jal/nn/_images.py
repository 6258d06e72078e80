"""Images into networks: their range, pooling, and what is done to them in training."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


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


def standardize(
    images: jax.Array, mean: Sequence[float], sd: Sequence[float]
) -> jax.Array:
    """Images with the mean 0 and the standard deviation 1 in each channel.

    Args:
      images: as in `unit_range`.
      mean: of each channel in [0, 1], or one for all.
      sd: standard deviation of each channel, or one for all, > 0.

    Returns:
      [B, H, W, channels].

    >>> standardize(jnp.full((1, 2, 2), 255, jnp.uint8), (0.5,), (0.25,)).max().item()
    2.0
    """
    of_channels = lambda values: jnp.asarray(values)[None, None, None]
    return (unit_range(images) - of_channels(mean)) / of_channels(sd)


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


def crop_and_flip(
    key: jax.Array, images: jax.Array, *, pad: int = 4, flip: bool = True
) -> jax.Array:
    """Pads with zeros, crops to the old size at random, and mirrors every other image.

    Args:
      key: PRNG key, consumed.
      images: [B, H, W, channels] of any dtype; 0 should mean black or the mean.
      pad: pixels of zeros on each side, >= 0.
      flip: whether to mirror left and right, which digits and letters do not survive.

    Returns:
      [B, H, W, channels], each image changed on its own.

    Raises:
      ValueError: `images` is not of rank 4, or `pad` negative.

    >>> change = jax.jit(lambda key, images: crop_and_flip(key, images, pad=2))
    >>> change(jax.random.key(0), jnp.ones((3, 8, 8, 1))).shape
    (3, 8, 8, 1)

    Reference: He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
    2016, section 4.2.
    """
    if images.ndim != 4:
        raise ValueError(
            f"images has shape {images.shape}; expected [B, H, W, channels]"
        )
    if pad < 0:
        raise ValueError(f"pad={pad}; it must not be negative")
    batch, height, width, _ = images.shape
    crop_key, flip_key = jax.random.split(key)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corners = jax.random.randint(crop_key, (2, batch, 1), 0, 2 * pad + 1)
    rows = corners[0] + jnp.arange(height)[None]
    columns = corners[1] + jnp.arange(width)[None]
    if flip:
        mirrored = jax.random.bernoulli(flip_key, 0.5, (batch, 1))
        columns = jnp.where(mirrored, columns[:, ::-1], columns)
    items = jnp.arange(batch)[:, None, None]
    return padded[items, rows[:, :, None], columns[:, None, :]]
