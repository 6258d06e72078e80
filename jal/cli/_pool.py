"""What a labelling session of the command line is about: its pool and its recipe."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from jal import acquisition, learners, scorers, strategies
from jal.cli._output import kind
from jal.cli._score import call_function
from jal.session import Recipe
from jal.types import Outputs, Strategy

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
POOL_FILE, NAMES_FILE = "pool.npy", "names.json"
_PASSES = 20
_STEPS, _BATCH, _RATE = 500, 32, 1e-3

# Those of a score trade it against the cost; with features one prediction is enough.
SCORES = {
    name: getattr(acquisition, name)
    for name in ("entropy", "bald", "mean_std", "margin", "least_confidence")
}
OTHERS: dict[str, Callable[[], Strategy]] = {
    "random": strategies.random,
    "k-center": lambda: strategies.k_center(batch_size=500),
    "badge": lambda: strategies.badge(batch_size=500),
    "alamp": lambda: strategies.alamp(diversify=True, batch_size=500),
    "class-balanced": lambda: strategies.class_balanced(batch_size=500),
}
STRATEGIES = (*SCORES, *OTHERS)


class PoolFacts(NamedTuple):
    """What a session keeps of its pool, as JSON.

    Attributes:
      source: path of the folder of images or of the array that it was made of.
      features: path of the features that the model sees, or None.
      model: MODULE:FUNCTION that returns a recipe, or None.
      strategy: one of `STRATEGIES`; not used with a model.
    """

    source: str
    features: str | None
    model: str | None
    strategy: str


def image_files(folder: Path) -> list[Path]:
    """The images of a folder and of those in it, in the order of their names."""
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not found:
        raise ValueError(
            f"POOL {folder}: there is no image in it ("
            f"{', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return found


def read_images(paths: Sequence[Path], size: int, progress: bool) -> np.ndarray:
    """[N, size, size, 3] uint8; an image is cut to its middle square."""
    image_module, ops = _pillow()
    from tqdm.auto import tqdm

    images = np.empty((len(paths), size, size, 3), np.uint8)
    for place, path in enumerate(tqdm(paths, unit="image", disable=not progress)):
        try:
            with image_module.open(path) as image:
                square = ops.fit(_upright_rgb(image), (size, size))
        except (*_BROKEN, image_module.DecompressionBombError) as error:
            raise _unreadable(path, error) from error
        images[place] = np.asarray(square)
    return images


def preview(path: Path, size: int) -> np.ndarray:
    """An image file as [H, W, 3], its longer side at most `size`."""
    image_module, _ = _pillow()
    try:
        with image_module.open(path) as opened:
            image = _upright_rgb(opened)
            image.thumbnail((size, size))
            return np.asarray(image)
    except (*_BROKEN, image_module.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _upright_rgb(image):
    """As people see it: turned as the camera says, on white where it is transparent.

    Grey values of more than 8 bits are stretched from the image's lowest to its highest
    one: cameras seldom use all bits that the file has.
    """
    image_module, ops = _pillow()
    # Where the camera's notes are garbled the picture may still be whole; if it is not,
    # that comes out below.
    with contextlib.suppress(Exception):
        image = ops.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        low, high = values.min(), values.max()
        if not np.isfinite(high - low):
            raise ValueError("it has NaN or infinite values")
        scaled = (values - low) * (255 / (high - low) if high > low else 0)
        image = image_module.fromarray(np.round(scaled).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = image_module.new("RGBA", image.size, "white")
        image = image_module.alpha_composite(white, image)
    return image.convert("RGB")


# Pillow calls a broken PNG a SyntaxError.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError)


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} cannot be read as an image ({error}); remove or replace it"
    )


def _pillow():
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("images need Pillow: pip install 'jal[label]'") from error
    return Image, ImageOps


def read_array(path: Path, what: str) -> np.ndarray:
    """An .npy file [N, ...] of numbers, finite."""
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except FileNotFoundError as error:
        raise ValueError(f"{what} {path}: there is no such file") from error
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{what} {path} is not a whole .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uif":
        raise ValueError(f"{what} {path}: expected one array of numbers")
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"{what} {path} has shape {array.shape}; expected [N, D] features, or "
            "[N, H, W] or [N, H, W, C] images"
        )
    array = np.asarray(array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{what} {path} has NaN or infinite values in item {row}")
    return array


def recipe(facts: PoolFacts, x: np.ndarray, num_classes: int) -> Recipe:
    """How the session trains and chooses."""
    if facts.model is not None:
        made = call_function(facts.model, "--model")
        if not isinstance(made, Recipe):
            raise ValueError(
                f"{facts.model}() returned {kind(made)}; expected jal.session.Recipe"
            )
        return made
    is_flat = x.ndim == 2
    if facts.strategy in SCORES:
        score = SCORES[facts.strategy]
        samples = 1 if is_flat else _PASSES
        strategy: Any = lambda beta: strategies.from_scores(
            scorers.passes(score, samples, batch_size=500), beta=beta
        )
    else:
        strategy = OTHERS[facts.strategy]()
    flat = lambda x: x.reshape(len(x), -1).astype(jnp.float32)
    first = strategies.typical(features=flat)
    if is_flat:
        learner = learners.linear_svm(x.shape[1], num_classes)
        return Recipe(learner, strategy, _linear_cost(x.shape[1]), first)
    return Recipe(_network(x, num_classes), strategy, _network(x, None), first)


def _network(x: np.ndarray, outputs: int | None):
    """A small convolutional network, of classes or of the cost."""
    from jal import nn

    if min(x.shape[1:3]) < 12:
        raise ValueError(
            f"images of {x.shape[1]} x {x.shape[2]} are too small for the network that "
            "comes with jal; take --features, or --model for one of your own"
        )
    make = nn.from_linen(nn.small_cnn(outputs), x[:1])
    options: Any = dict(steps=_STEPS, batch_size=_BATCH)
    if outputs is None:
        return learners.regressor(*make, optax.adam(_RATE), log_targets=True, **options)
    return learners.supervised(*make, optax.adam(_RATE), **options)


def _linear_cost(features: int):
    init = lambda key: (jnp.zeros(features), ())

    def apply(weights, state, x, key=None, train=False):
        return Outputs(value=x @ weights), state

    return learners.regressor(
        init, apply, optax.adam(0.03), log_targets=True, steps=_STEPS, batch_size=_BATCH
    )
