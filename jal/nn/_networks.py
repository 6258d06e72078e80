"""Networks in Flax Linen; the only module that imports flax.

A module takes images or features `x` with `train` (batch statistics, gradients) and
`stochastic` (dropout on), and returns `Outputs`.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jal.nn import _masked_dense, _normalization
from jal.nn._convolution import conv_general_dilated
from jal.nn._images import max_pool, standardize, unit_range
from jal.types import Outputs


def from_linen(module: nn.Module, example) -> tuple[Callable, Callable]:
    """The (init, apply) pair that `jal.learners` takes, of a module of this file.

    Args:
      module: called as `module(x, train=bool, stochastic=bool)`, returning `Outputs`.
      example: pytree of [B, ...] inputs; only shapes and dtypes matter.

    Returns:
      init: (key) -> (params, state), and
      apply: (params, state, x, key, train, **options) -> (Outputs, state), with options
      of the module's own.

    >>> init, apply = from_linen(GalCNN(), jnp.zeros((1, 28, 28, 1), jnp.uint8))
    >>> params, state = jax.jit(init)(jax.random.key(0))
    >>> run = jax.jit(lambda x: apply(params, state, x, None, False)[0])
    >>> run(jnp.zeros((2, 28, 28, 1))).logits.shape
    (2, 10)
    """
    one_item = lambda leaf: jnp.zeros((1, *leaf.shape[1:]), leaf.dtype)
    example = jax.tree.map(one_item, example)

    def init(key):
        state = dict(module.init(key, example, train=False, stochastic=False))
        return state.pop("params"), state

    def apply(params, state, x, key=None, train=False, **options):
        variables = {"params": params, **state}
        rngs = None if key is None else {"dropout": key}
        modes = dict(train=train, stochastic=key is not None)
        forward = functools.partial(module.apply, variables, x, **modes, **options)
        if not train or not state:
            return forward(rngs=rngs), state
        return forward(rngs=rngs, mutable=list(state))

    return init, apply


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
        keep = jax.random.bernoulli(
            self.make_rng("dropout"), 1.0 - self.rate, (inputs,)
        )
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
            return _masked_dense.masked_dense(x, mask, kernel) + bias[None]
        return _masked_dense.needed_dense(x, mask, kernel, needed) + bias[None]


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
    >>> params, _ = jax.eval_shape(init, jax.random.key(0))
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
        hidden = DropoutDense(self.dense, self.rates[0])
        last = DropoutDense(self.outputs or 1, self.rates[1])
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


class BatchNorm(nn.Module):
    """Batch normalisation over the last axis, with `jal.nn.normalize`.

    Has the variables of Flax's, and its values but for rounding.

    Attributes:
      use_running_average: True to score, False to train; here or in the call.
      momentum: of the running averages.
      epsilon: added to the variance.

    >>> x = jnp.array([[1.0], [3.0]])
    >>> y, variables = BatchNorm(False).init_with_output(jax.random.key(0), x)
    >>> y.round(3).tolist(), sorted(variables)
    ([[-1.0], [1.0]], ['batch_stats', 'params'])

    Reference: Ioffe and Szegedy, "Batch normalization: accelerating deep network
    training by reducing internal covariate shift", 2015.
    """

    use_running_average: bool | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, use_running_average: bool | None = None):
        """Maps [..., C] to [..., C]."""
        averaged = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        channels = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        if averaged:
            row = lambda values: values.reshape((1,) * (x.ndim - 1) + channels)
            factor = jax.lax.rsqrt(variance.value + self.epsilon) * scale
            return (x - row(mean.value)) * row(factor) + row(bias)
        epsilon = jnp.asarray(self.epsilon, x.dtype)
        y, now, spread = _normalization.normalize(x, scale, bias, epsilon)
        if not self.is_initializing():
            move = lambda old, new: self.momentum * old + (1 - self.momentum) * new
            mean.value = move(mean.value, now)
            variance.value = move(variance.value, spread)
        return y


_HE = nn.initializers.he_normal()
# Published initialisation of what is not mentioned: that of PyTorch.
_TORCH = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_TORCH_TRANSPOSED = nn.initializers.variance_scaling(
    1 / 3, "fan_in", "uniform", in_axis=-1, out_axis=-2
)
_Conv = functools.partial(
    nn.Conv, use_bias=False, conv_general_dilated=conv_general_dilated
)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    With biases, as in Keras's example, a shortcut that changes shape is a convolution
    and nothing more.
    """

    channels: int
    stride: int
    skip: bool = True
    bias: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        conv = functools.partial(
            _Conv, self.channels, kernel_init=_HE, use_bias=self.bias
        )
        norm = functools.partial(BatchNorm, not train)
        # One pixel on each side, where "SAME" would pad one side of a stride.
        ends = ((1, 1), (1, 1))
        y = conv((3, 3), strides=self.stride, padding=ends)(x)
        y = nn.relu(norm()(y))
        y = norm()(conv((3, 3), padding=ends)(y))
        if not self.skip:
            return nn.relu(y)
        if x.shape != y.shape:
            x = conv((1, 1), strides=self.stride)(x)
            x = x if self.bias else norm()(x)
        return nn.relu(x + y)


class _Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, the last with four times the channels."""

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x, train: bool):
        conv = functools.partial(_Conv, kernel_init=_HE)
        norm = functools.partial(BatchNorm, not train)
        y = nn.relu(norm()(conv(self.channels, (1, 1))(x)))
        ends = ((1, 1), (1, 1))
        y = conv(self.channels, (3, 3), strides=self.stride, padding=ends)(y)
        y = norm()(conv(4 * self.channels, (1, 1))(nn.relu(norm()(y))))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.channels, (1, 1), strides=self.stride)(x))
        return nn.relu(x + y)


class Ranker(nn.Module):
    """Predicts the loss of a network from its feature maps.

    Each map is averaged over its pixels, whatever their number, and goes through a
    dense layer with ReLU; a linear unit sees all of them. 123,905 parameters for the
    maps of ResNet-18.

    Attributes:
      hidden: units for each map.

    >>> maps = [jnp.ones((2, 8, 8, 3)), jnp.ones((2, 4, 4, 5))]
    >>> variables = jax.jit(Ranker().init)(jax.random.key(0), maps)
    >>> jax.jit(Ranker().apply)(variables, maps).shape
    (2,)

    Reference: Yoo and Kweon, "Learning loss for active learning", 2019, section 3.2.
    """

    hidden: int = 128

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> jax.Array:
        """Maps [B, H, W, channels] each, to [B]."""
        dense = functools.partial(nn.Dense, kernel_init=_TORCH)
        branches = [
            nn.relu(dense(self.hidden)(jnp.mean(features, axis=(1, 2))))
            for features in maps
        ]
        return dense(1)(jnp.concatenate(branches, axis=-1))[:, 0]


class ResNet(nn.Module):
    """Residual network for small images: a 3x3 stem without pooling, then blocks.

    The defaults are the ResNet-18 of CIFAR-10, 11,173,962 parameters without a ranker.
    `resnet50`, `cnn18`, `resnet20` and `resnet56` are others of the family.

    Attributes:
      outputs: C.
      width: channels of the stem and of the first stage; each stage doubles them.
      blocks: basic blocks of each stage; every stage but the first halves the image.
      ranker: whether `loss_score` is predicted too, from the maps of all stages.
      bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions with four times the channels.
      skip: whether blocks have shortcuts.
      bias: convolutions with biases, and shortcuts without normalisation.
      mean: of each channel of the images in [0, 1], subtracted before all else.
      sd: of each channel, divided by.

    >>> network = ResNet(width=4, blocks=(1, 1), ranker=True)
    >>> x = jnp.zeros((2, 8, 8, 1), jnp.uint8)
    >>> outputs, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), x)
    >>> outputs.logits.shape, outputs.features.shape, outputs.loss_score.shape
    ((2, 10), (2, 8), (2,))

    Reference: He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
    2016, section 4.2; the ranker: Yoo and Kweon, "Learning loss for active learning",
    2019.
    """

    outputs: int = 10
    width: int = 64
    blocks: Sequence[int] = (2, 2, 2, 2)
    ranker: bool = False
    bottleneck: bool = False
    skip: bool = True
    bias: bool = False
    mean: Sequence[float] = (0.0,)
    sd: Sequence[float] = (1.0,)

    @nn.compact
    def __call__(
        self,
        x,
        *,
        train: bool = False,
        stochastic: bool = False,
        trunk_gradient: jax.Array | float = 1.0,
    ) -> Outputs:
        """Maps images [B, H, W] or [B, H, W, channels] to `Outputs`.

        Args:
          x: uint8, or floating in [0, 1].
          train: batch statistics.
          stochastic: no effect: there is no dropout.
          trunk_gradient: [] share of the ranker's gradient that reaches the trunk.
        """
        del stochastic
        x = standardize(x, self.mean, self.sd)
        stem = functools.partial(_Conv, padding="SAME", use_bias=self.bias)
        x = stem(self.width, (3, 3), kernel_init=_HE)(x)
        x = nn.relu(BatchNorm(not train)(x))
        block_of = functools.partial(_BasicBlock, skip=self.skip, bias=self.bias)
        if self.bottleneck:
            if self.bias or not self.skip:
                raise ValueError("bottleneck blocks have shortcuts and no biases")
            block_of = _Bottleneck
        maps = []
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = block_of(self.width * 2**stage, stride)(x, train)
            maps.append(x)
        features = jnp.mean(x, axis=(1, 2))
        logits = nn.Dense(self.outputs, kernel_init=_TORCH)(features)
        if not self.ranker:
            return Outputs(logits=logits, features=features)
        stop = jax.lax.stop_gradient
        scaled = [
            trunk_gradient * each + (1 - trunk_gradient) * stop(each) for each in maps
        ]
        return Outputs(logits=logits, features=features, loss_score=Ranker()(scaled))


def resnet50(outputs: int = 10, **options) -> ResNet:
    """ResNet-50 for small images: bottleneck blocks, 23,520,842 parameters.

    Args:
      outputs: C.
      **options: of `ResNet`.

    Returns:
      The module.

    >>> resnet50(100).blocks
    (3, 4, 6, 3)

    Reference: He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
    2016, table 1.
    """
    return ResNet(outputs, blocks=(3, 4, 6, 3), bottleneck=True, **options)


def cnn18(outputs: int = 10, **options) -> ResNet:
    """ResNet-18 without its shortcuts, 11,000,138 parameters.

    Args:
      outputs: C.
      **options: of `ResNet`.

    Returns:
      The module.

    >>> cnn18().skip
    False

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, section 5 (CNN18).
    """
    return ResNet(outputs, skip=False, **options)


def resnet20(outputs: int = 10, **options) -> ResNet:
    """ResNet-20: three stages of three blocks, 16 to 64 channels, 273,066 parameters.

    Args:
      outputs: C.
      **options: of `ResNet`.

    Returns:
      The module.

    >>> resnet20().width
    16

    Reference: He, Zhang, Ren and Sun, "Deep residual learning for image recognition",
    2016, section 4.2, with the biases of Keras's example.
    """
    return ResNet(outputs, width=16, blocks=(3, 3, 3), bias=True, **options)


def resnet56(outputs: int = 10, **options) -> ResNet:
    """ResNet-56: three stages of nine blocks, 16 to 64 channels, 857,706 parameters.

    Args:
      outputs: C.
      **options: of `ResNet`.

    Returns:
      The module.

    >>> resnet56().blocks
    (9, 9, 9)

    Reference: as `resnet20`, 2016.
    """
    return ResNet(outputs, width=16, blocks=(9, 9, 9), bias=True, **options)


class PlainCNN(nn.Module):
    """Three stages of three 3x3 convolutions, each with max pooling and dropout.

    Attributes:
      outputs: C.
      width: channels of the first stage; the next two double them.
      rate: of the dropout after each stage.
      mean: of each channel of the images in [0, 1], subtracted before all else.
      sd: of each channel, divided by.

    >>> x = jnp.zeros((2, 32, 32, 3), jnp.uint8)
    >>> outputs, _ = jax.eval_shape(PlainCNN().init_with_output, jax.random.key(0), x)
    >>> outputs.logits.shape, outputs.features.shape
    ((2, 10), (2, 64))

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, the release's CNN18.
    """

    outputs: int = 10
    width: int = 16
    rate: float = 0.25
    mean: Sequence[float] = (0.0,)
    sd: Sequence[float] = (1.0,)

    @nn.compact
    def __call__(self, x, *, train: bool = False, stochastic: bool = False) -> Outputs:
        """Maps images [B, H, W] or [B, H, W, channels] to `Outputs`."""
        del train
        x = standardize(x, self.mean, self.sd)
        for stage in range(3):
            for _ in range(3):
                channels = self.width * 2**stage
                conv = _Conv(channels, (3, 3), use_bias=True, kernel_init=_HE)
                x = nn.relu(conv(x))
            x = max_pool(x, 2)
            x = nn.Dropout(self.rate, deterministic=not stochastic)(x)
        features = jnp.mean(x, axis=(1, 2))
        logits = nn.Dense(self.outputs, kernel_init=_TORCH)(features)
        return Outputs(logits=logits, features=features)


class VAE(nn.Module):
    """Convolutional autoencoder whose decoder may see a condition.

    Four 4x4 convolutions with stride 2 and batch normalisation, mean and log-variance;
    a dense layer to 4x4 maps and three transposed convolutions back. For images of
    32x32; those of 28x28 have a last convolution, and a first transposed one, of 3x3.
    The defaults have 22,851,523 parameters with a condition, 22,835,139 without.

    Attributes:
      shape: (H, W, channels) of the images, H = W = 32 or 28.
      latent: D, latent dimensions.
      channels: of the four convolutions.
      conditioned: whether the decoder sees one number an item beside the latents.

    >>> vae = VAE((28, 28, 1), latent=4, channels=(2, 2, 4, 4))
    >>> x, condition = jnp.zeros((2, 28, 28, 1)), jnp.zeros(2)
    >>> keys = {"params": jax.random.key(0), "latent": jax.random.key(1)}
    >>> run = vae.init_with_output
    >>> (mean, _, image), _ = jax.eval_shape(run, keys, x, condition)
    >>> mean.shape, image.shape
    ((2, 4), (2, 28, 28, 1))

    Reference: Sinha, Ebrahimi and Darrell, "Variational adversarial active learning",
    2019, and its release; the condition: Kim, Park, Kim and Chun, "Task-aware
    variational adversarial active learning", 2020.
    """

    shape: Sequence[int] = (32, 32, 3)
    latent: int = 32
    channels: Sequence[int] = (128, 256, 512, 1024)
    conditioned: bool = True

    def setup(self):
        """Makes the layers; flax calls it."""
        if tuple(self.shape[:2]) not in ((32, 32), (28, 28)):
            raise ValueError(
                f"shape={tuple(self.shape)}; images must be of 32x32 or 28x28 pixels: "
                "resize or pad them"
            )
        if self.latent < 1:
            raise ValueError(f"latent={self.latent}; at least one dimension is needed")
        if len(self.channels) != 4:
            raise ValueError(f"channels={tuple(self.channels)}; four are needed")
        odd = 3 if self.shape[0] == 28 else 4  # 7x7 maps do not halve
        convolution = functools.partial(_Conv, strides=2, padding=((1, 1), (1, 1)))
        self.convolutions = [
            convolution(channels, (size, size), kernel_init=_HE)
            for channels, size in zip(self.channels, (4, 4, 4, odd), strict=True)
        ]
        self.to_mean = nn.Dense(self.latent, kernel_init=_TORCH)
        self.to_log_variance = nn.Dense(self.latent, kernel_init=_TORCH)
        self.to_maps = nn.Dense(16 * self.channels[-1], kernel_init=_HE)
        # Written as convolutions of dilated input: those have fast gradients.
        self.transposed = [
            _Conv(
                channels,
                (size, size),
                input_dilation=2,
                padding=((size - 2, size - 2),) * 2,
                kernel_init=_TORCH_TRANSPOSED,
            )
            for channels, size in zip(self.channels[-2::-1], (odd, 4, 4), strict=True)
        ]
        self.to_image = nn.Conv(
            self.shape[-1],
            (1, 1),
            kernel_init=_TORCH_TRANSPOSED,
            conv_general_dilated=conv_general_dilated,
        )
        self.norms = [BatchNorm() for _ in range(7)]

    def encode(self, x, train: bool = False):
        """Maps images [B, H, W, channels] to mean and log-variance, [B, D] each."""
        if x.shape[1:] != tuple(self.shape):
            raise ValueError(f"x has shape {x.shape}; expected [B, *{self.shape}]")
        for convolve, norm in zip(self.convolutions, self.norms[:4], strict=True):
            x = nn.relu(norm(convolve(x), use_running_average=not train))
        x = x.reshape(x.shape[0], -1)
        return self.to_mean(x), self.to_log_variance(x)

    def decode(self, z, condition=None, train: bool = False):
        """Maps latents [B, D] and conditions [B] to images."""
        if self.conditioned:
            if condition is None:
                raise ValueError(
                    "condition=None; this decoder needs one number an item"
                )
            z = jnp.concatenate([z, condition[:, None]], axis=-1)
        x = self.to_maps(z).reshape(-1, 4, 4, self.channels[-1])
        for convolve, norm in zip(self.transposed, self.norms[4:], strict=True):
            x = nn.relu(norm(convolve(x), use_running_average=not train))
        return self.to_image(x)

    def __call__(self, x, condition=None, train: bool = False):
        """(mean, log-variance, reconstruction from a random latent)."""
        mean, log_variance = self.encode(x, train)
        noise = jax.random.normal(self.make_rng("latent"), mean.shape, mean.dtype)
        z = mean + jnp.exp(log_variance / 2) * noise
        return mean, log_variance, self.decode(z, condition, train)


class Discriminator(nn.Module):
    """Tells latents of labelled items from those of unlabelled ones.

    Two hidden layers with ReLU, 280,577 parameters for 32 latents and a condition.

    Attributes:
      hidden: units of each hidden layer.

    >>> z, condition = jnp.zeros((5, 32)), jnp.zeros(5)
    >>> variables = jax.jit(Discriminator().init)(jax.random.key(0), z, condition)
    >>> jax.jit(Discriminator().apply)(variables, z, condition).shape
    (5,)

    Reference: Sinha, Ebrahimi and Darrell, "Variational adversarial active learning",
    2019, and its release.
    """

    hidden: int = 512

    @nn.compact
    def __call__(self, z, condition=None):
        """Maps latents [B, D] and conditions [B] to logits [B] of "labelled"."""
        dense = functools.partial(nn.Dense, kernel_init=_HE)
        if condition is not None:
            z = jnp.concatenate([z, condition[:, None]], axis=-1)
        for _ in range(2):
            z = nn.relu(dense(self.hidden)(z))
        return dense(1)(z)[:, 0]


def from_vae(module: VAE) -> tuple[Callable, Callable, Callable]:
    """The functions of `strategies.Autoencoder`, of an autoencoder of this file.

    Args:
      module: the autoencoder.

    Returns:
      init: (key) -> (params, state),
      encode: (params, state, x, train) -> (mean [B, D], log-variance [B, D]), and
      apply: (params, state, x, condition, key) -> ((mean, log-variance,
      reconstruction), state), in training mode.

    >>> init, encode, apply = from_vae(VAE((28, 28, 1), 2, (1, 1, 1, 1), False))
    >>> params, state = jax.jit(init)(jax.random.key(0))
    >>> run = jax.jit(lambda x: encode(params, state, x, False)[0])
    >>> run(jnp.zeros((3, 28, 28, 1))).shape
    (3, 2)
    """

    def init(key):
        params_key, latent_key = jax.random.split(key)
        keys: dict[str, jax.Array] = {"params": params_key, "latent": latent_key}
        variables = module.init(keys, jnp.zeros((1, *module.shape)), jnp.zeros(1))
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def encode(params, state, x, train):
        encoded = module.apply(
            {"params": params, **state},
            x,
            train,
            method="encode",
            mutable=["batch_stats"] if train else False,
        )
        # Averages of the batch, but no new running averages.
        return encoded[0] if train else encoded

    def apply(params, state, x, condition, key):
        return module.apply(
            {"params": params, **state},
            x,
            condition,
            True,
            rngs={"latent": key},
            mutable=["batch_stats"],
        )

    return init, encode, apply


def from_discriminator(module: Discriminator, vae: VAE) -> tuple[Callable, Callable]:
    """The functions of `strategies.Adversary`, of a discriminator of this file.

    Args:
      module: the discriminator.
      vae: the autoencoder whose latents it sees; it sees a condition if the decoder
        does.

    Returns:
      init: (key) -> params, and apply: (params, z [B, D], condition) -> logits [B].

    >>> init, apply = from_discriminator(Discriminator(8), VAE(latent=2))
    >>> apply(init(jax.random.key(0)), jnp.zeros((3, 2)), jnp.zeros(3)).shape
    (3,)
    """
    condition = jnp.zeros(1) if vae.conditioned else None
    init = lambda key: module.init(key, jnp.zeros((1, vae.latent)), condition)
    return init, module.apply
