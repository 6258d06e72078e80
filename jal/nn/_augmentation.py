"""Random changes of training images that leave their class as it is."""

import jax
import jax.numpy as jnp


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

    >>> images = jnp.ones((3, 8, 8, 1))
    >>> crop_and_flip(jax.random.key(0), images, pad=2).shape
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
