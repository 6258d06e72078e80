"""Features for small budgets: a network trained on some classes, used on others.

No network trained on ImageNet comes with the experiments. Instead a residual network
is trained on half of the classes of one data set, and what its last layer sees of the
other half, or of another data set, is written to `.npy` files.
"""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from experiments.common import datasets, runs
from jal import nn
from jal._core import files
from jal._core.compile import cpu_compiler_options

MANIFEST = "manifest.json"
ARRAYS = ("train_features", "train_labels", "test_features", "test_labels")
_STEPS = 50  # in one call


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """What determines the source network, together with the code.

    Attributes:
      data: name of the data set whose classes are split, or path of an `.npz` file.
      class_seed: of the split of the classes into source and target halves.
      width: of the residual network; 64 is that of ResNet-18.
      blocks: of each of its stages; two each are those of ResNet-18.
      epochs: over the source images.
      batch_size: of each step.
      learning_rate: at first; it falls to 0 along a cosine.
      weight_decay: of all weights.
      seed: of the weights, the order of the images, and their crops.
    """

    data: str
    class_seed: int = 0
    width: int = 32
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    epochs: int = 25
    batch_size: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    seed: int = 0


class Features(NamedTuple):
    """A target: what the source network sees of other classes, or their images.

    Attributes:
      train_features: [N, D] float32.
      train_labels: [N] int32 from 0.
      test_features: [n, D] float32.
      test_labels: [n] int32.
      manifest: how they were made.
    """

    train_features: np.ndarray
    train_labels: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray
    manifest: dict


def split_classes(num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random half of the classes as source, the rest as target; each in order."""
    order = np.random.default_rng(seed).permutation(num_classes)
    half = num_classes // 2
    return np.sort(order[:half]), np.sort(order[half:])


def of_classes(images, labels, classes) -> tuple[np.ndarray, np.ndarray]:
    """The images of some classes, which are counted from 0 in their order."""
    number = np.full(max(int(labels.max()), int(classes.max())) + 1, -1, np.int32)
    number[classes] = np.arange(len(classes))
    kept = number[labels] >= 0
    return images[kept], number[labels[kept]]


@functools.cache
def source_part(config: SourceConfig, data_dir: str | None, progress: bool = False):
    """(images, labels) to train on and to test with, and the number of classes."""
    data = datasets.load(config.data, data_dir=data_dir, progress=progress)
    classes, _ = split_classes(data.num_classes, config.class_seed)
    return (
        of_classes(data.images, data.labels, classes),
        of_classes(data.test_images, data.test_labels, classes),
        len(classes),
    )


def target_part(config: SourceConfig, target: str, data_dir: str | None):
    """(images, labels) of the pool and of the test set, and which classes they are.

    Of the source's data set those that are not the source's, of another one all.
    """
    data = datasets.load(target, data_dir=data_dir, progress=False)
    parts = [(data.images, data.labels), (data.test_images, data.test_labels)]
    if target != config.data:
        return *parts, np.unique(data.labels)
    _, classes = split_classes(data.num_classes, config.class_seed)
    return *(of_classes(*part, classes) for part in parts), classes


def network_of(config: SourceConfig, num_classes: int, images: np.ndarray):
    """The network's (init, apply), with the moments of these images."""
    mean, sd = datasets.moments(images)
    sizes = num_classes, config.width, config.blocks
    module = nn.ResNet(*sizes, mean=mean, sd=sd)
    return nn.from_linen(module, images[:1])


def train(config: SourceConfig, folder: Path, *, data_dir=None, progress=True):
    """Trains the source network, or goes on, or reads it if it is trained.

    Args:
      config: what is trained on what.
      folder: receives checkpoints after every epoch, and `manifest.json` at last.
      data_dir: TFDS directory, or None for `TFDS_DATA_DIR`.
      progress: shows a bar.

    Returns:
      (params, state) of the network, and the manifest.

    Raises:
      ValueError: the folder holds another network.
    """
    named = dataclasses.replace(config, data=Path(config.data).stem)
    asked = json.loads(json.dumps(dataclasses.asdict(named)))
    run_file, path = folder / "run.json", folder / MANIFEST
    if run_file.exists():
        files.check_identity(run_file, {"config": asked})
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(run_file, {"config": asked})
    training, test, num_classes = source_part(config, data_dir, progress)
    network = network_of(config, num_classes, training[0])
    params, state = _train(config, network, *training, folder / "checkpoints", progress)
    if path.exists():
        return (params, state), json.loads(path.read_text())
    logits = _apply(network[1], params, state, test[0], "logits")
    manifest = {
        **runs.provenance(named, [config.seed]),
        "source_classes": num_classes,
        "source_images": len(training[1]),
        "source_accuracy": float(np.mean(logits.argmax(axis=1) == test[1])),
        "weights_sha256": _digest(*jax.tree.leaves((params, state))),
    }
    files.write_json(path, manifest)
    return (params, state), manifest


def _train(config: SourceConfig, network, images, labels, folder: Path, progress: bool):
    """(params, state) after all epochs, from the last checkpoint on."""
    import orbax.checkpoint as ocp

    per_epoch = -(-len(labels) // config.batch_size)
    steps = config.epochs * per_epoch
    init, apply = network
    optimizer = optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(
            optax.cosine_decay_schedule(config.learning_rate, steps),
            momentum=0.9,
            nesterov=True,
        ),
    )
    run = _stepper(apply, optimizer)
    start_key, train_key = jax.random.split(jax.random.key(config.seed))
    params, state = init(start_key)
    carry = (params, state, optimizer.init(params))
    on_device = jnp.asarray(images), jnp.asarray(labels)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=False
    )
    with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        done = manager.latest_step() or 0
        if done:
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            leaf = functools.partial(jax.ShapeDtypeStruct, sharding=device)
            template = jax.tree.map(lambda array: leaf(array.shape, array.dtype), carry)
            carry = manager.restore(done, args=ocp.args.StandardRestore(template))
        bar = tqdm(
            total=steps, initial=done * per_epoch, unit="step", disable=not progress
        )
        for epoch in range(done, config.epochs):
            keys = jax.random.split(jax.random.fold_in(train_key, epoch), per_epoch)
            shuffled = np.random.default_rng([config.seed, epoch])
            order = shuffled.permutation(len(labels))
            rows = np.resize(order, (per_epoch, config.batch_size))
            for first in range(0, per_epoch, _STEPS):
                part = slice(first, first + _STEPS)
                carry, losses = run(tuple(carry), *on_device, rows[part], keys[part])
                bar.update(len(losses))
                bar.set_postfix(epoch=epoch + 1, loss=f"{float(losses.mean()):.3f}")
            manager.save(epoch + 1, args=ocp.args.StandardSave(carry))
        bar.close()
    params, state, _ = carry
    return params, state


def _stepper(apply, optimizer):
    """Several steps in one compiled call."""

    @functools.partial(
        jax.jit, compiler_options=cpu_compiler_options(), donate_argnums=0
    )
    def run(carry, images, labels, rows, keys):
        def step(carry, now):
            (params, state, optimizer_state), (rows, key) = carry, now
            x = nn.crop_and_flip(key, images[rows])

            def objective(params):
                outputs, after = apply(params, state, x, key=None, train=True)
                losses = optax.softmax_cross_entropy_with_integer_labels(
                    outputs.logits, labels[rows]
                )
                return jnp.mean(losses), after

            differentiate = jax.value_and_grad(objective, has_aux=True)
            (loss, state), gradient = differentiate(params)
            updates, after = optimizer.update(gradient, optimizer_state, params)
            return (optax.apply_updates(params, updates), state, after), loss

        return jax.lax.scan(step, carry, (rows, keys))

    return run


def config_of(data: str, folder: Path) -> SourceConfig:
    """The source that a folder holds.

    Raises:
      FileNotFoundError: it holds none.
      ValueError: it was trained on another data set.
    """
    path = folder / "run.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there; python -m experiments.low_budget source makes it"
        )
    stored = json.loads(path.read_text())["config"]
    if stored["data"] != Path(data).stem:
        raise ValueError(f"{folder} holds a source trained on {stored['data']}")
    stored |= {"data": data, "blocks": tuple(stored["blocks"])}
    return SourceConfig(**stored)


def extract(config: SourceConfig, source, target: str, folder: Path, data_dir=None):
    """Writes features and labels of a target, each to an `.npy` file.

    Args:
      config: of the source.
      source: what `train` returned.
      target: the data set of the source, of which the other classes are taken, or any
        other one.
      folder: receives the arrays, and `manifest.json` at last.
      data_dir: TFDS directory, or None for `TFDS_DATA_DIR`.

    Returns:
      The folder.
    """
    (params, state), made = source
    *parts, classes = target_part(config, target, data_dir)
    # The moments that the network was trained with are part of it.
    (images, _), _, num_classes = source_part(config, data_dir)
    _, apply = network_of(config, num_classes, images)
    arrays = []
    for images, labels in parts:
        arrays += [_apply(apply, params, state, images, "features"), labels]
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)
    manifest = {
        "target": Path(target).stem,
        "classes": classes,
        "sha256": {n: _digest(a) for n, a in zip(ARRAYS, arrays, strict=True)},
        "source": made,
    }
    files.write_json(folder / MANIFEST, manifest)
    return folder


def read(folder: Path) -> Features:
    """Features and labels of a pool and a test set, of any network.

    Args:
      folder: `train_features.npy` [N, D], `train_labels.npy` [N], `test_features.npy`
        [n, D] and `test_labels.npy` [n]; where `manifest.json` is there too, as from
        `extract`, they must be the arrays that it describes.

    Raises:
      FileNotFoundError: an array is missing.
      ValueError: an array is not what it should be.
    """
    arrays = {}
    for name in ARRAYS:
        path = folder / f"{name}.npy"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is not there; python -m experiments.low_budget source makes "
                "it, or put the features and labels of your own network there"
            )
        try:
            arrays[name] = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} is not a whole .npy file: {error}") from error
    manifest = {}
    if (folder / MANIFEST).exists():
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, array in arrays.items():
            if _digest(array) != manifest["sha256"][name]:
                raise ValueError(
                    f"{folder / name}.npy is not what {folder / MANIFEST} describes; "
                    "make both again"
                )
    for part in ("train", "test"):
        _check_part(folder, part, arrays)
    train, test = arrays["train_features"], arrays["test_features"]
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"{folder}: train_features have {train.shape[1]} features an item, "
            f"test_features {test.shape[1]}"
        )
    classes = np.unique(arrays["train_labels"])
    if len(classes) < 2:
        raise ValueError(
            f"{folder}: train_labels are all {classes[0]}; nothing to learn"
        )
    return Features(
        train.astype(np.float32),
        arrays["train_labels"].astype(np.int32),
        test.astype(np.float32),
        arrays["test_labels"].astype(np.int32),
        manifest,
    )


def _check_part(folder: Path, part: str, arrays: dict[str, np.ndarray]) -> None:
    features, labels = arrays[f"{part}_features"], arrays[f"{part}_labels"]
    place = f"{folder / part}_features.npy"
    if features.ndim != 2 or features.dtype.kind not in "fiu" or not features.size:
        raise ValueError(
            f"{place} has shape {features.shape} and dtype {features.dtype}; expected "
            "numbers [items, features]"
        )
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ValueError(f"{place} has NaN or infinite values in row {bad[0]}")
    place = f"{folder / part}_labels.npy"
    if labels.shape != features.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{place} has shape {labels.shape} and dtype {labels.dtype}; expected "
            f"{len(features)} integers, one for each row of the features"
        )
    if labels.min() < 0:
        raise ValueError(f"{place} contains {labels.min()}; classes count from 0")


def _apply(apply, params, state, images, field: str) -> np.ndarray:
    """One field of the outputs for all images, by parts of one shape."""
    size = 500

    @functools.partial(jax.jit, compiler_options=cpu_compiler_options())
    def call(params, state, x):
        return apply(params, state, x, key=None, train=False)[0].need(field)

    parts = []
    for first in tqdm(range(0, len(images), size), desc=field, unit="part"):
        part = images[first : first + size]
        filled = np.resize(part, (size, *part.shape[1:]))
        parts.append(np.asarray(call(params, state, filled))[: len(part)])
    return np.concatenate(parts)


def _digest(*arrays) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
