"""Images in, BALD scores out: MC dropout of the Gal CNN over a pool, beside peers.

All start from the same uint8 images and weights. Peers that would need minutes score
the first images of the pool; their time, linear in the pool, is multiplied up.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from benchmarks import peers, timing
from benchmarks.timing import Program, row
from jal import acquisition, nn, scorers
from jal.types import Outputs

POOL = 10_000
NUM_SAMPLES = (20, 100)
# Images in a call of jal's compiled program, and how many of them it scores at a time:
# memory that a loop inside of a program uses again costs less than new memory.
CHUNK = 5000
BATCH = {"jal": 500, "jal, plain Linen model": 50, "jal, independent masks": 25}
# Many passes are worth larger matrices.
MANY, LARGER = 50, {"jal": 1250}
# Images that PyTorch scores at a time, and how many of the pool (None: all) the peers
# score for each S.
BATCHES = (256, 1000)
SUBSETS = {
    20: {"trunk once": 2000, "full passes": 512, "Baal": 512, "Baal cached": 1024},
    100: {"trunk once": 1000, "full passes": 256, "Baal": 256, "Baal cached": 512},
}
BAAL_BATCH = 256
# Mean BALD of the pool may differ by the noise of S passes, above all with masks that
# all images share.
TOLERANCE = 0.05


def measure(
    repeats: int, *, pool=POOL, num_samples=NUM_SAMPLES, chunk=CHUNK, limit=90.0
) -> list:
    """All measurements of this file, one row each."""
    images = np.random.default_rng(0).integers(0, 256, (pool, 28, 28), np.uint8)
    params = make_params()
    rows = timing.bounds_rows()
    for number in num_samples:
        rows += one_setting(params, images, number, chunk, repeats, limit)
    return rows


def make_params():
    """Weights whose predictions differ from image to image and from pass to pass."""
    init, _ = nn.from_linen(nn.GalCNN(), jnp.zeros((1, 28, 28), jnp.uint8))
    params, _ = init(jax.random.key(0))
    last = params["DropoutDense_1"]
    return params | {"DropoutDense_1": last | {"kernel": 4 * last["kernel"]}}


def one_setting(params, images, num_samples, chunk, repeats, limit):
    """Everyone's time for one S."""
    what = f"BALD of {len(images):,} images, S={num_samples}"
    ours, rows = {}, []
    sizes = BATCH | (LARGER if num_samples > MANY else {})
    for name, (predict, masks) in {
        "jal": (gal_predict, "shared"),
        "jal, plain Linen model": (linen_predict, "shared"),
        "jal, independent masks": (gal_predict, "independent"),
    }.items():
        score, more = compiled_scores(
            predict, masks, params, num_samples, min(chunk, len(images)), sizes[name]
        )
        ours[name] = Program(functools.partial(score, images))
        rows += [
            row(f"{what}: compilation", more.seconds, "s", by=name),
            row(f"{what}: temporary memory", more.temporary / 1e6, "MB", by=name),
        ]
    programs = ours | peer_programs(params, images, num_samples)
    means = {
        name: float(np.mean(np.asarray(program.run())))
        for name, program in programs.items()
        if program.run is not None
    }
    rows += [
        row(f"{what}: mean BALD", mean, "nats", by=name) for name, mean in means.items()
    ]
    rows.append(timing.agreement(f"{what}: mean BALD", means, TOLERANCE, "nats"))
    timings = timing.side_by_side(programs, repeats, limit=limit)
    rows += timing.comparison(what, timings, unit="s")
    for name in ours:
        # jal's layer leaves out what the next one drops, half of the units.
        units = 64 if name == "jal" else 128
        work = len(images) * flops(num_samples, units)
        share = work / timing.bounds().matmul / timings[name].seconds
        rows.append(row(f"{what}: matmul rate reached", share, "of bound", by=name))
    for name, program in programs.items():
        if program.run is not None:
            peak = timing.peak_memory(program.run) / 1e6
            rows.append(row(f"{what}: memory while scoring", peak, "MB", by=name))
    return rows


def flops(num_samples: int, units: int) -> int:
    """Operations an image needs when what does not depend on the mask runs once."""
    convolutions = 25 * 25 * 32 * (4 * 4 * 1) + 22 * 22 * 32 * (4 * 4 * 32)
    return 2 * convolutions + num_samples * 2 * (3872 * units + units * 10)


def gal_predict(params, x, key):
    """jal's own network."""
    outputs, _ = nn.from_linen(nn.GalCNN(), x)[1](params, {}, x, key)
    return outputs


class PlainCNN(linen.Module):
    """The same network as a user writes it, with nothing of jal's."""

    @linen.compact
    def __call__(self, x, deterministic):
        """Maps images [B, 28, 28] to logits."""
        x = x[..., None].astype(jnp.float32) / 255
        x = linen.relu(linen.Conv(32, (4, 4), padding="VALID")(x))
        x = linen.relu(linen.Conv(32, (4, 4), padding="VALID")(x))
        x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.Dropout(0.25)(x.reshape(len(x), -1), deterministic)
        x = linen.Dropout(0.5)(linen.relu(linen.Dense(128)(x)), deterministic)
        return linen.Dense(10)(x)


def linen_predict(params, x, key):
    """A user's network."""
    variables = {
        name.replace("DropoutDense", "Dense"): value for name, value in params.items()
    }
    rngs = None if key is None else {"dropout": key}
    logits = PlainCNN().apply({"params": variables}, x, key is None, rngs=rngs)
    return Outputs(logits=logits)


def compiled_scores(predict, masks, params, num_samples, chunk, batch_size):
    """images -> BALD scores, a chunk at a time; and what compiling it took."""

    score = scorers.passes(acquisition.bald, num_samples, masks, batch_size)
    predict = jax.tree_util.Partial(predict, params)
    key = jax.random.key(1)
    example = jnp.zeros((chunk, 28, 28), jnp.uint8), jnp.zeros(chunk, jnp.int32)
    program = timing.compiled(score, predict, key, *example)

    def of_pool(images):
        scores = []
        for start in range(0, len(images), chunk):
            index = np.arange(start, start + chunk, dtype=np.int32)
            # The last chunk is filled up with the first images, and cut afterwards.
            x = images[index % len(images)]
            scores.append(program.call(predict, key, x, index))
        return jnp.concatenate(scores)[: len(images)]

    return of_pool, program


def peer_programs(params, images, num_samples) -> dict[str, Program]:
    """PyTorch and Baal on the first images of the pool."""
    sizes = SUBSETS.get(num_samples, SUBSETS[max(SUBSETS)])

    def part(name):
        return images[: min(sizes[name], len(images))]

    def torch_trunk():
        return torch_variants(trunk_once, params, part("trunk once"), num_samples)

    def torch_full():
        return torch_variants(full_passes, params, part("full passes"), num_samples)

    def baal():
        return baal_variants(params, part("Baal"), num_samples, cached=False)

    def baal_cached():
        return baal_variants(params, part("Baal cached"), num_samples, cached=True)

    programs = {}
    for name, size, peer, variants in (
        ("PyTorch, trunk once", "trunk once", "PyTorch", torch_trunk),
        ("PyTorch, full passes", "full passes", "PyTorch", torch_full),
        ("Baal, cached", "Baal cached", "Baal", baal_cached),
        ("Baal, default", "Baal", "Baal", baal),
    ):
        program = peers.program(peer, variants)
        used = len(part(size))
        if program.run is not None:
            note = f"{used:,} images; {program.note}"
            program = program._replace(scale=len(images) / used, note=note)
        programs[name] = program
    return programs


def torch_network(params):
    """(trunk, head) with these weights."""
    import torch
    from torch import nn as torch_nn

    def tensor(array, *order):
        return torch.from_numpy(np.array(array.transpose(order) if order else array))

    trunk = torch_nn.Sequential(
        torch_nn.Conv2d(1, 32, 4),
        torch_nn.ReLU(),
        torch_nn.Conv2d(32, 32, 4),
        torch_nn.ReLU(),
        torch_nn.MaxPool2d(2),
    )
    head = torch_nn.Sequential(
        torch_nn.Flatten(),
        torch_nn.Dropout(0.25),
        torch_nn.Linear(3872, 128),
        torch_nn.ReLU(),
        torch_nn.Dropout(0.5),
        torch_nn.Linear(128, 10),
    )
    params = jax.tree.map(np.asarray, params)
    # Flattened from [C, H, W] here and from [H, W, C] in Flax.
    first = params["DropoutDense_0"]["kernel"].reshape(11, 11, 32, 128)
    first = first.transpose(2, 0, 1, 3).reshape(3872, 128)
    kernels = {
        trunk[0]: (tensor(params["Conv_0"]["kernel"], 3, 2, 0, 1), "Conv_0"),
        trunk[2]: (tensor(params["Conv_1"]["kernel"], 3, 2, 0, 1), "Conv_1"),
        head[2]: (tensor(first, 1, 0), "DropoutDense_0"),
        head[5]: (tensor(params["DropoutDense_1"]["kernel"], 1, 0), "DropoutDense_1"),
    }
    with torch.no_grad():
        for layer, (kernel, name) in kernels.items():
            layer.weight.copy_(kernel)
            layer.bias.copy_(tensor(params[name]["bias"]))
    return trunk.eval(), head.eval()


def torch_input(batch, memory_format):
    """uint8 images [B, 28, 28] as the network takes them."""
    x = batch[:, None].float() / 255
    return x.contiguous(memory_format=memory_format)


def torch_bald(logits):
    """BALD of logits [S, B, C]."""
    import torch

    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    mean = p.mean(0)
    return (p * log_p).sum(-1).mean(0) - torch.xlogy(mean, mean).sum(-1)


def trunk_once(trunk, head, x, num_samples):
    """What does not depend on the mask once, the rest S times."""
    import torch

    features = trunk(x).contiguous()
    return torch_bald(torch.stack([head(features) for _ in range(num_samples)]))


def full_passes(trunk, head, x, num_samples):
    """The whole network S times."""
    import torch

    passes = [head(trunk(x).contiguous()) for _ in range(num_samples)]
    return torch_bald(torch.stack(passes))


def torch_variants(method, params, images, num_samples):
    """Batch sizes, memory formats and numbers of threads."""
    import torch

    images = torch.from_numpy(images)
    formats = {
        "channels first": torch.contiguous_format,
        "channels last": torch.channels_last,
    }
    variants = {}
    for format_name, memory_format in formats.items():
        trunk, head = torch_network(params)
        trunk = trunk.to(memory_format=memory_format)
        head[1].train(), head[4].train()
        for batch in sorted({min(batch, len(images)) for batch in BATCHES}):

            def run(batch=batch, trunk=trunk, head=head, form=memory_format):
                scores = [
                    method(trunk, head, torch_input(x, form), num_samples)
                    for x in images.split(batch)
                ]
                return torch.cat(scores)

            variants |= peers.with_threads(run, f"batch {batch}, {format_name}")
    return variants


def baal_variants(params, images, num_samples, *, cached):
    """Baal's wrapper as its documentation uses it, without the data loader."""
    import torch
    from baal.active.heuristics import BALD
    from baal.bayesian.caching_utils import MCCachingModule
    from baal.bayesian.dropout import MCDropoutModule
    from baal.modelwrapper import ModelWrapper, TrainingArgs

    model = MCDropoutModule(torch.nn.Sequential(*torch_network(params)))
    if cached:
        model = MCCachingModule(model)
    wrapper = ModelWrapper(model.eval(), TrainingArgs(replicate_in_memory=not cached))
    images = torch.from_numpy(images)
    heuristic = BALD()

    def run():
        scores = []
        for batch in images.split(BAAL_BATCH):
            x = torch_input(batch, torch.contiguous_format)
            logits = wrapper.predict_on_batch(x, num_samples)
            scores.append(heuristic.get_uncertainties(logits.numpy()))
        return np.concatenate(scores)

    return peers.with_threads(run, f"batch {BAAL_BATCH}")
