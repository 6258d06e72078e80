"""Layers and networks that train fast inside a scan on CPU.

- `from_linen`: The (init, apply) pair that `jal.learners` takes, of a module of this
  file.
- `unit_range`: uint8 images scaled to [0, 1]; floating ones are taken as they are.
- `standardize`: Images with the mean 0 and the standard deviation 1 in each channel.
- `max_pool`: Non-overlapping max pooling by reshape, whose gradient is fast on CPU.
- `DropoutDense`: Dropout on the input of a dense layer, with masks that fold into the
  weights.
- `GalCNN`: The small convolutional network of Bayesian active learning on MNIST.
- `small_cnn`: A tenth of the work of `GalCNN`: 16 kernels with stride 2, then 32.
- `BatchNorm`: Batch normalisation over the last axis, with `jal.normalization`.
- `Ranker`: Predicts the loss of a network from its feature maps.
- `ResNet`: Residual network for small images: a 3x3 stem without pooling, then blocks.
- `resnet50`: ResNet-50 for small images: bottleneck blocks, 23,520,842 parameters.
- `cnn18`: ResNet-18 without its shortcuts, 11,000,138 parameters.
- `resnet20`: ResNet-20: three stages of three blocks, 16 to 64 channels, 273,066
  parameters.
- `resnet56`: ResNet-56: three stages of nine blocks, 16 to 64 channels, 857,706
  parameters.
- `PlainCNN`: Three stages of three 3x3 convolutions, each with max pooling and dropout.
- `VAE`: Convolutional autoencoder whose decoder may see a condition.
- `Discriminator`: Tells latents of labelled items from those of unlabelled ones.
- `from_vae`: The functions of `strategies.Autoencoder`, of an autoencoder of this file.
- `from_discriminator`: The functions of `strategies.Adversary`, of a discriminator of
  this file.
- `conv_general_dilated`: `jax.lax.conv_general_dilated` with gradients that stay fast
  inside a scan.
- `column_sums`: Sums over all axes but the last.
- `normalize`: Normalises each channel by the mean and variance of the batch.
- `masked_dense`: (x * mask) @ kernel for x [B, D], mask [D], kernel [D, H].
- `needed_dense`: (x * mask) @ kernel where needed [H], 0 elsewhere.
- `crop_and_flip`: Pads with zeros, crops to the old size at random, and mirrors every
  other image.
"""

from typing import TYPE_CHECKING

from jal.nn._convolution import conv_general_dilated
from jal.nn._images import crop_and_flip, max_pool, standardize, unit_range
from jal.nn._masked_dense import masked_dense, needed_dense
from jal.nn._normalization import column_sums, normalize

if TYPE_CHECKING:
    from jal.nn._networks import (
        VAE,
        BatchNorm,
        Discriminator,
        DropoutDense,
        GalCNN,
        PlainCNN,
        Ranker,
        ResNet,
        cnn18,
        from_discriminator,
        from_linen,
        from_vae,
        resnet20,
        resnet50,
        resnet56,
        small_cnn,
    )

# fmt: off
__all__ = [
    "BatchNorm", "cnn18", "column_sums", "conv_general_dilated",
    "crop_and_flip", "Discriminator", "DropoutDense", "from_discriminator",
    "from_linen", "from_vae", "GalCNN", "masked_dense", "max_pool", "needed_dense",
    "normalize", "PlainCNN", "Ranker", "ResNet", "resnet20", "resnet50", "resnet56",
    "small_cnn", "standardize", "unit_range", "VAE",
]
# fmt: on

if not TYPE_CHECKING:  # flax is loaded with the first network

    def __getattr__(name):
        if name in __all__:
            from jal.nn import _networks

            return getattr(_networks, name)
        raise AttributeError(f"module 'jal.nn' has no attribute {name!r}")
