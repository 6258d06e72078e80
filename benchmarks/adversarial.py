"""Steps of TA-VAAL's autoencoder and discriminator, beside the same in PyTorch.

A step trains the autoencoder on a labelled and an unlabelled batch, and then the
discriminator on both. Both sides start from the same weights and images.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import peers, timing
from benchmarks.timing import Program, row
from jal import nn, strategies
from jal._core.compile import cpu_compiler_options
from jal.learners import losses
from jal.nn import conv_general_dilated
from jal.strategies import _vaal

TOLERANCE = 1e-3
RATE = 5e-4


class Setting(NamedTuple):
    """Sizes of images, autoencoder and batch; steps in one call of a program."""

    name: str
    channels: tuple[int, ...]
    batch_size: int
    steps: int
    shape: tuple[int, int, int] = (32, 32, 3)
    latent: int = 32


SETTINGS = (
    Setting("published sizes, B = 128", (128, 256, 512, 1024), 128, 1),
    Setting("an eighth of the width, B = 32", (16, 32, 64, 128), 32, 20),
)


def measure(repeats: int, *, settings=SETTINGS, limit=60.0) -> list:
    """All measurements of this file, one row each."""
    rows = timing.bounds_rows()
    for setting in settings:
        rows += one_setting(setting, repeats, limit)
    return rows


def one_setting(setting: Setting, repeats, limit):
    """Steps a second, the share of the matrix product's rate, PyTorch's time."""
    vae = nn.VAE(setting.shape, setting.latent, setting.channels)
    discriminator = nn.Discriminator()
    init, step = _vaal.make_step(
        strategies.Autoencoder(*nn.from_vae(vae)),
        strategies.Adversary(*nn.from_discriminator(discriminator, vae)),
    )
    state, batch = init(jax.random.key(0)), make_batch(setting)

    def train(state, key, batch):
        keys = jax.random.split(key, setting.steps)
        return lax.scan(lambda carry, key: step(key, carry, batch), state, keys)

    call = timing.compiled(
        train, state, jax.random.key(1), batch, options=cpu_compiler_options()
    ).call
    results = {"jal": first_terms(vae, discriminator, state, batch)}
    if peers.installed("PyTorch"):
        results["PyTorch"] = Torch(setting, state, batch).first_terms()
    name = f"VAE and discriminator, {setting.name}"
    times = timing.side_by_side(
        {
            "jal": Program(functools.partial(call, state, jax.random.key(1), batch)),
            "PyTorch": peers.program(
                "PyTorch", functools.partial(torch_variants, setting, state, batch)
            ),
        },
        repeats,
        limit=limit,
    )
    rate = setting.steps / times["jal"].seconds
    share = rate * flops(setting, discriminator.hidden) / timing.bounds().matmul
    rows = timing.comparison(f"{name}: {setting.steps} steps", times)
    if len(results) > 1:
        rows.append(timing.agreement(f"{name}: losses", results, TOLERANCE, "nats"))
    return [
        *rows,
        row(f"{name}: steps", rate, "1/s", by="jal"),
        row(f"{name}: of the matrix product's rate", 100 * share, "%", by="jal"),
        *profile(setting, name, times, repeats),
    ]


class Layer(NamedTuple):
    """A convolution of the autoencoder: image and kernel, and whether transposed."""

    x: tuple[int, ...]
    kernel: tuple[int, ...]
    transposed: bool


def layers_of(setting: Setting) -> list[Layer]:
    """The convolutions that batch normalisation follows."""
    size, widths = setting.shape[0], (setting.shape[-1], *setting.channels)
    found = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        image = (setting.batch_size, size, size, before)
        found.append(Layer(image, (4, 4, before, after), False))
        size //= 2
    size, widths = 4, setting.channels[::-1]
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        image = (setting.batch_size, size, size, before)
        found.append(Layer(image, (4, 4, before, after), True))
        size *= 2
    return found


def profile(setting: Setting, name, times, repeats) -> list:
    """What the parts of a step take on their own, once for each time they are needed.

    What is left of the step is activations, copies between layouts, dense layers, the
    optimisers and random numbers.
    """
    parts = {"convolutions": convolution_parts, "batch normalisation": norm_parts}
    rows = []
    for part, make in parts.items():
        spent: dict[str, float] = {}
        for layer in layers_of(setting):
            programs = make(layer)
            # Labelled and unlabelled with gradients, and again without.
            for by, (forward, both) in programs.items():
                pair = timing.side_by_side(
                    {"jal": Program(forward), "both": Program(both)}, repeats
                )
                once = 2 * (pair["jal"].seconds + pair["both"].seconds)
                if layer.transposed:
                    once = 2 * pair["both"].seconds
                spent[by] = spent.get(by, 0) + once
        for by, seconds in spent.items():
            if np.isfinite(times[by].seconds):
                whole = times[by].seconds / setting.steps
                share = f"{seconds / whole:.0%} of its step"
                rows.append(row(f"{name}: {part}", 1e3 * seconds, "ms", by=by))
                rows[-1]["note"] = share
    return rows


def convolution_parts(layer: Layer) -> dict:
    """Forward, and forward with both gradients, of one convolution."""
    if layer.transposed:
        options = dict(padding=((2, 2),) * 2, lhs_dilation=(2, 2))
        strides = (1, 1)
    else:
        options = dict(padding=((1, 1),) * 2)
        strides = (2, 2)
    convolve = lambda x, kernel: conv_general_dilated(
        x, kernel, strides, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )

    def torch_module(nn):
        make = nn.ConvTranspose2d if layer.transposed else nn.Conv2d
        return make(*layer.kernel[2:], 4, stride=2, padding=1, bias=False)

    return _forward_and_both(convolve, (layer.x, layer.kernel), torch_module)


def norm_parts(layer: Layer) -> dict:
    """The same of the batch normalisation behind it."""
    batch, size, _, _ = layer.x
    size = 2 * size if layer.transposed else size // 2
    channels = layer.kernel[-1]
    normalize = lambda x, scale, bias: nn.normalize(x, scale, bias, jnp.asarray(1e-5))[
        0
    ]
    shapes = ((batch, size, size, channels), (channels,), (channels,))
    return _forward_and_both(normalize, shapes, lambda nn: nn.BatchNorm2d(channels))


def _forward_and_both(function, shapes, torch_module) -> dict:
    """By name: what runs the forward pass, and what runs the gradients, too."""
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    options = cpu_compiler_options()
    gradient = jax.eval_shape(function, *arrays)
    gradient = jnp.asarray(rng.normal(size=gradient.shape), jnp.float32)

    def both(gradient, *arrays):
        y, pull = jax.vjp(function, *arrays)
        return y, pull(gradient)

    forward = timing.compiled(function, *arrays, options=options).call
    together = timing.compiled(both, gradient, *arrays, options=options).call
    found = {
        "jal": (
            functools.partial(forward, *arrays),
            functools.partial(together, gradient, *arrays),
        )
    }
    if peers.installed("PyTorch"):
        import torch
        from torch import nn

        put = lambda array: torch.from_numpy(
            np.array(array).transpose(0, 3, 1, 2)
        ).contiguous(memory_format=torch.channels_last)
        module = torch_module(nn).to(memory_format=torch.channels_last)
        x, upstream = put(arrays[0]).requires_grad_(True), put(gradient)

        def run():
            with torch.no_grad():
                module(x)

        def run_both():
            x.grad = None
            module.zero_grad()
            module(x).backward(upstream)

        found["PyTorch"] = (run, run_both)
    return found


def make_batch(setting: Setting) -> _vaal.Batch:
    """Standardised images and conditions, the same in every step."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, setting.batch_size, *setting.shape))
    ranks = rng.normal(size=(2, setting.batch_size))
    return _vaal.Batch(*(jnp.asarray(part, jnp.float32) for part in (*images, *ranks)))


def flops(setting: Setting, hidden: int) -> float:
    """Floating-point operations of a step: two for each product of the layers.

    A gradient costs twice the forward pass, but the images themselves have none.
    Normalisation, activations and Adam are not counted.
    """
    size, (*_, depth) = setting.shape[0], setting.shape
    widths = (depth, *setting.channels)
    encoder = first = 0
    for number, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        size = (size + 1) // 2
        layer = size**2 * 16 * before * after
        first = layer if number == 0 else first
        encoder += layer
    flat = size**2 * setting.channels[-1]
    encoder += 2 * flat * setting.latent
    size, decoder = 4, (setting.latent + 1) * 16 * setting.channels[-1]
    widths = setting.channels[::-1]
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        size *= 2
        decoder += size**2 * 4 * before * after
    decoder += size**2 * widths[-1] * depth
    judge = (setting.latent + 1) * hidden + hidden**2 + hidden
    # The autoencoder's step needs the discriminator's gradient by its input only.
    vae_step = 3 * (encoder + decoder) - first + 2 * judge
    return 2 * 2 * setting.batch_size * (vae_step + encoder + 3 * judge)


def first_terms(vae, discriminator, state, batch):
    """The terms of both losses at the first step, without noise in the latents."""
    terms = []
    logits = []
    for x, rank in (
        (batch.labeled, batch.labeled_ranks),
        (batch.unlabeled, batch.unlabeled_ranks),
    ):
        (mean, log_variance), _ = vae.apply(
            {"params": state.vae, **state.averages},
            x,
            True,
            method="encode",
            mutable=["batch_stats"],
        )
        rank = jax.nn.sigmoid(rank)
        image, _ = vae.apply(
            {"params": state.vae, **state.averages},
            mean,
            rank,
            True,
            method="decode",
            mutable=["batch_stats"],
        )
        terms.append(losses.reconstruction_error(x, image))
        terms.append(losses.kl_divergence(mean, log_variance))
        logits.append(discriminator.apply(state.adversary, mean, rank))
    return np.array([*terms, losses.fooling(*logits), losses.discrimination(*logits)])


def torch_variants(setting, state, batch):
    """Layouts and numbers of threads, of which the fastest is taken."""
    import torch

    def of(threads, layout):
        trainer = Torch(setting, state, batch, layout)

        def variant():
            torch.set_num_threads(threads)
            for _ in range(setting.steps):
                trainer.step()

        return variant

    return {
        f"{threads} threads, {label}": of(threads, layout)
        for threads in peers.THREADS
        for label, layout in (
            ("channels first", torch.contiguous_format),
            ("channels last", torch.channels_last),
        )
    }


class Torch:
    """The step in plain PyTorch, from jal's weights."""

    def __init__(self, setting, state, batch, layout=None):
        import torch
        from torch import nn

        conv = functools.partial(nn.Conv2d, bias=False, stride=2, padding=1)
        back = functools.partial(nn.ConvTranspose2d, bias=False, stride=2, padding=1)
        widths = (setting.shape[-1], *setting.channels)
        down = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            down += [conv(before, after, 4), nn.BatchNorm2d(after), nn.ReLU()]
        up = [nn.Unflatten(1, (setting.channels[-1], 4, 4))]
        for before, after in zip(widths[:1:-1], widths[-2:0:-1], strict=True):
            up += [back(before, after, 4), nn.BatchNorm2d(after), nn.ReLU()]
        up.append(nn.ConvTranspose2d(widths[1], widths[0], 1))
        size = setting.shape[0] // 16
        flat = size**2 * setting.channels[-1]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.heads = nn.ModuleList(nn.Linear(flat, setting.latent) for _ in range(2))
        self.to_maps = nn.Linear(setting.latent + 1, 16 * setting.channels[-1])
        self.decoder = nn.Sequential(*up)
        judge = state.adversary["params"]
        hidden = judge["Dense_0"]["kernel"].shape[1]
        self.judge = nn.Sequential(
            nn.Linear(setting.latent + 1, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
        self._load(state, size)
        layout = layout or torch.contiguous_format
        self.images = [
            torch.from_numpy(np.array(x).transpose(0, 3, 1, 2)).contiguous(
                memory_format=layout
            )
            for x in (batch.labeled, batch.unlabeled)
        ]
        self.ranks = [
            torch.from_numpy(np.array(r)).sigmoid()[:, None]
            for r in (batch.labeled_ranks, batch.unlabeled_ranks)
        ]
        vae = nn.ModuleList([self.encoder, self.heads, self.to_maps, self.decoder])
        vae.to(memory_format=layout)
        self.vae_optimizer = torch.optim.Adam(vae.parameters(), RATE, fused=True)
        self.judge_optimizer = torch.optim.Adam(
            self.judge.parameters(), RATE, fused=True
        )

    def _load(self, state, size):
        import torch
        from torch import nn

        put = lambda target, array: target.data.copy_(torch.from_numpy(array.copy()))
        of = lambda name, part="kernel": np.array(state.vae[name][part])
        convolutions = [m for m in self.encoder if isinstance(m, nn.Conv2d)]
        for number, layer in enumerate(convolutions):
            put(layer.weight, of(f"convolutions_{number}").transpose(3, 2, 0, 1))
        # The flattened maps are [H, W, channels] in jal and [channels, H, W] here.
        channels = convolutions[-1].out_channels
        for layer, name in zip(self.heads, ("to_mean", "to_log_variance"), strict=True):
            kernel = of(name).reshape(size, size, channels, -1)
            put(
                layer.weight, kernel.transpose(3, 2, 0, 1).reshape(kernel.shape[-1], -1)
            )
            put(layer.bias, of(name, "bias"))
        kernel = of("to_maps").reshape(-1, 4, 4, channels).transpose(3, 1, 2, 0)
        put(self.to_maps.weight, kernel.reshape(-1, kernel.shape[-1]))
        bias = of("to_maps", "bias").reshape(4, 4, channels).transpose(2, 0, 1)
        put(self.to_maps.bias, bias.reshape(-1))
        transposed = [m for m in self.decoder if isinstance(m, nn.ConvTranspose2d)]
        for number, layer in enumerate(transposed[:-1]):
            # A transposed convolution turns its kernel by half a turn.
            kernel = of(f"transposed_{number}")[::-1, ::-1].transpose(2, 3, 0, 1)
            put(layer.weight, kernel)
        put(transposed[-1].weight, of("to_image").transpose(2, 3, 0, 1))
        put(transposed[-1].bias, of("to_image", "bias"))
        layers = [m for m in self.judge if isinstance(m, nn.Linear)]
        for number, layer in enumerate(layers):
            dense = state.adversary["params"][f"Dense_{number}"]
            put(layer.weight, np.array(dense["kernel"]).T)
            put(layer.bias, np.array(dense["bias"]))

    def encode(self, x):
        """Mean and log-variance of images."""
        flat = self.encoder(x)
        return self.heads[0](flat), self.heads[1](flat)

    def step(self):
        """One step of the autoencoder, one of the discriminator."""
        import torch
        from torch.nn import functional

        loss, logits = torch.zeros(()), []
        self.judge.requires_grad_(False)
        for x, rank in zip(self.images, self.ranks, strict=True):
            mean, log_variance = self.encode(x)
            z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            maps = self.to_maps(torch.cat([z, rank], 1))
            loss = loss + functional.mse_loss(self.decoder(maps), x)
            loss = loss + self.divergence(mean, log_variance)
            logits.append(self.judge(torch.cat([mean, rank], 1)))
        loss = loss + sum(self.cross_entropy(part, 1.0) for part in logits)
        self.vae_optimizer.zero_grad()
        loss.backward()
        self.vae_optimizer.step()
        self.judge.requires_grad_(True)
        with torch.no_grad():
            means = [self.encode(x)[0] for x in self.images]
        loss = sum(
            self.cross_entropy(self.judge(torch.cat([mean, rank], 1)), target)
            for mean, rank, target in zip(means, self.ranks, (1.0, 0.0), strict=True)
        )
        self.judge_optimizer.zero_grad()
        loss.backward()
        self.judge_optimizer.step()

    def first_terms(self):
        """As `first_terms` of this file."""
        import torch
        from torch.nn import functional

        with torch.no_grad():
            encoded = [self.encode(x) for x in self.images]
            logits = [
                self.judge(torch.cat([mean, rank], 1))
                for (mean, _), rank in zip(encoded, self.ranks, strict=True)
            ]
            terms = []
            for x, rank, pair in zip(self.images, self.ranks, encoded, strict=True):
                image = self.decoder(self.to_maps(torch.cat([pair[0], rank], 1)))
                terms += [functional.mse_loss(image, x), self.divergence(*pair)]
            for targets in ((1.0, 1.0), (1.0, 0.0)):
                pairs = zip(logits, targets, strict=True)
                terms.append(sum(self.cross_entropy(*pair) for pair in pairs))
        return np.array([float(term) for term in terms])

    @staticmethod
    def divergence(mean, log_variance):
        """Mean KL divergence over items and dimensions."""
        return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean()

    @staticmethod
    def cross_entropy(logits, target):
        """Binary cross-entropy with one target for all."""
        import torch
        from torch.nn import functional

        targets = torch.full_like(logits, target)
        return functional.binary_cross_entropy_with_logits(logits, targets)
