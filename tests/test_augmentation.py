"""Random crops and mirror images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jal import nn

KEY = jax.random.key(0)
crop_and_flip = jax.jit(nn.crop_and_flip, static_argnames=("pad", "flip"))
IMAGES = np.arange(1, 1 + 200 * 5 * 4 * 2).reshape(200, 5, 4, 2).astype(np.int32)


def test_every_image_is_a_crop_of_its_own_padded_self():
    changed = np.asarray(crop_and_flip(KEY, IMAGES, pad=2))
    assert changed.shape == IMAGES.shape and changed.dtype == IMAGES.dtype
    padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
    found = set()
    for image, of in zip(changed, padded, strict=True):
        matches = [
            (row, column, flip)
            for row in range(5)
            for column in range(5)
            for flip in (1, -1)
            if np.array_equal(image, of[row : row + 5, column : column + 4][:, ::flip])
        ]
        assert len(matches) == 1
        found.update(matches)
    # 200 images take nearly all of the 50 crops, and each of their parts.
    assert len(found) > 40
    assert {m[0] for m in found} == {m[1] for m in found} == set(range(5))


def test_without_padding_only_mirrored_and_without_both_unchanged():
    images = IMAGES
    mirrored = np.asarray(crop_and_flip(KEY, images, pad=0))
    is_flipped = np.all(mirrored == images[:, :, ::-1], axis=(1, 2, 3))
    is_same = np.all(mirrored == images, axis=(1, 2, 3))
    assert np.all(is_flipped ^ is_same) and 60 < is_flipped.sum() < 140
    same = crop_and_flip(KEY, images, pad=0, flip=False)
    np.testing.assert_array_equal(same, images)


def test_no_flip_never_mirrors():
    image = np.arange(5.0, dtype=np.float32)[None, None, :, None] + np.ones(
        (50, 5, 1, 1), np.float32
    )
    changed = crop_and_flip(KEY, image, pad=1, flip=False)
    steps = np.diff(np.asarray(changed)[:, 2, :, 0], axis=1)[:, 1:-1]
    assert np.all(steps == 1)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"images has shape \(2, 3, 4\); expected"):
        nn.crop_and_flip(KEY, jnp.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="pad=-1; it must not be negative"):
        nn.crop_and_flip(KEY, jnp.zeros((2, 3, 4, 1)), pad=-1)
