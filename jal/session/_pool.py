"""What a session is about where nothing else is said: a pool of files, and a recipe."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from jal import acquisition, learners, scorers, strategies
from jal._core import files
from jal.session._session import Recipe
from jal.session._tables import located
from jal.types import Learner, Outputs, Strategy

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
IMAGE_SIZE = 32
_PASSES = 20
_STEPS: Any = dict(steps=500, batch_size=32)
_AT_ONCE = 500

# Those of a score trade it against the cost; with features one prediction is enough.
_SCORES = ("entropy", "bald", "mean_std", "margin", "least_confidence")
_OTHERS: dict[str, Callable[[], Strategy]] = {
    "random": strategies.random,
    "k-center": lambda: strategies.k_center(batch_size=_AT_ONCE),
    "badge": lambda: strategies.badge(batch_size=_AT_ONCE),
    "alamp": lambda: strategies.alamp(diversify=True, batch_size=_AT_ONCE),
    "class-balanced": lambda: strategies.class_balanced(batch_size=_AT_ONCE),
}
STRATEGIES = (*_SCORES, *_OTHERS)


def read_pool(
    path: str | Path, *, size: int = IMAGE_SIZE, features: str | Path | None = None
) -> tuple[list[str], np.ndarray]:
    """Reads what is to be labelled: how people call it, and what a model sees of it.

    Args:
      path: a folder of images (also in folders of it), or a .npy file of images
        [N, H, W] or [N, H, W, C], or of features [N, D].
      size: images of a folder become so many pixels square.
      features: a .npy file [N, D] of a network of yours: the model sees these instead
        of the images, which are only shown to people.

    Returns:
      Names [N], of the image files in their folder or the numbers of the items, and the
      pool: [N, size, size, 3] uint8, [N, H, W, C] uint8 or float32, or features [N, D]
      float32 of unit length.

    Raises:
      FileNotFoundError: there is no such file or folder.
      ValueError: it holds something else, or NaN, or other than N features.
      ImportError: it is a folder, and Pillow is missing.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/x.npy"
    >>> np.save(path, [[3, 4], [0, 2]])
    >>> names, x = read_pool(path)
    >>> names, x.tolist()
    (['0', '1'], [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]])
    """
    path = Path(path)
    if path.is_dir():
        paths = image_files(path)
        names = [image.relative_to(path).as_posix() for image in paths]
        for name in names:
            with located(f"pool {path}: rename {name!r}, which is not UTF-8"):
                name.encode()
        x = read_images(paths, size, progress=True) if features is None else None
    else:
        x = _array_of(path)
        names = [str(number) for number in range(len(x))]
    if features is None:
        assert x is not None
        return names, x
    found = _unit_length(read_array(features), Path(features))
    if len(found) != len(names):
        raise ValueError(
            f"features {features} has {len(found)} rows, pool {path} has {len(names)} "
            "items"
        )
    return names, found


def image_files(folder: str | Path) -> list[Path]:
    """Lists the images of a folder and of those in it, in the order of their names.

    Args:
      folder: where to look.

    Returns:
      Paths, at least one.

    Raises:
      ValueError: there is no image.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "a.png").touch()
    >>> [path.name for path in image_files(folder)]
    ['a.png']
    """
    found = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not found:
        raise ValueError(
            f"pool {folder}: there is no image in it ("
            f"{', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return found


def read_images(
    paths: Sequence[Path], size: int = IMAGE_SIZE, *, progress: bool = False
) -> np.ndarray:
    """Reads image files as people see them, cut to their middle squares.

    Turned as the camera says, on white where they are transparent, grey values of more
    than 8 bits stretched.

    Args:
      paths: N files.
      size: of the squares, in pixels.
      progress: whether to show a bar.

    Returns:
      [N, size, size, 3] uint8.

    Raises:
      ValueError: a file cannot be read; it is named.
      ImportError: Pillow is missing.

    >>> read_images([], 8).shape
    (0, 8, 8, 3)
    """
    _, ops = pillow()
    from tqdm.auto import tqdm

    images = np.empty((len(paths), size, size, 3), np.uint8)
    for place, path in enumerate(tqdm(paths, unit="image", disable=not progress)):
        with _opened(path) as image:
            images[place] = np.asarray(ops.fit(image, (size, size)))
    return images


def preview(path: Path, size: int) -> np.ndarray:
    """An image file as [H, W, 3], its longer side at most `size`."""
    with _opened(path) as image:
        image.thumbnail((size, size))
        return np.asarray(image)


def read_array(path: str | Path) -> np.ndarray:
    """An .npy file [N, ...] of numbers, finite."""
    array = np.asarray(files.map_file(Path(path)))
    if array.dtype.kind not in "uif":
        raise ValueError(f"{path} holds {array.dtype}; expected numbers")
    if not 2 <= array.ndim <= 4 or not array.size:
        raise ValueError(
            f"{path} has shape {array.shape}; expected [N, D] features, or [N, H, W] "
            "or [N, H, W, C] images"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{path} has NaN or infinite values in item {row}")
    return array


def _array_of(path: Path) -> np.ndarray:
    """Images or features of a file, as a model sees them."""
    x = read_array(path)
    if x.ndim == 2:
        return _unit_length(x, path)
    x = x if x.dtype == np.uint8 else x.astype(np.float32)
    return x[..., None] if x.ndim == 3 else x


def _unit_length(x: np.ndarray, path: Path) -> np.ndarray:
    if x.ndim != 2:
        raise ValueError(f"{path} has shape {x.shape}; expected features [N, D]")
    x = x.astype(np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


@contextlib.contextmanager
def _opened(path: Path):
    """An image in RGB; whatever is wrong with the file is a ValueError."""
    image_module, _ = pillow()
    try:
        with image_module.open(path) as image:
            yield _upright_rgb(image)
    # Pillow calls a broken PNG a SyntaxError.
    except (
        *(OSError, ValueError, SyntaxError, EOFError),
        image_module.DecompressionBombError,
    ) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); remove or replace it"
        ) from error


def _upright_rgb(image):
    """As people see it: turned as the camera says, on white where it is transparent.

    Grey values of more than 8 bits are stretched from the image's lowest to its highest
    one: cameras seldom use all bits that the file has.
    """
    image_module, ops = pillow()
    # Where the camera's notes are garbled the picture may still be whole; if it is not,
    # that comes out below.
    with contextlib.suppress(Exception):
        image = ops.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        low, high = values.min(), values.max()
        if not np.isfinite(high - low):
            raise ValueError("it has NaN or infinite values")
        image = image_module.fromarray(
            np.round(stretched(values, low, high)).astype(np.uint8)
        )
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = image_module.new("RGBA", image.size, "white")
        image = image_module.alpha_composite(white, image)
    return image.convert("RGB")


def stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values in [low, high] from 0 to 255."""
    return (values - low) * (255 / (high - low) if high > low else 0)


def pillow():
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("images need Pillow: pip install 'jal[label]'") from error
    return Image, ImageOps


def default_strategy(x: Any) -> str:
    """What `jal init` chooses by: BALD needs dropout, which no linear model has.

    Args:
      x: [N, H, W, C] images, or features [N, D].

    Returns:
      One of `STRATEGIES`.

    >>> default_strategy(jnp.zeros((9, 4)))
    'margin'
    """
    return "margin" if x.ndim == 2 else "bald"


def default_recipe(x: Any, num_classes: int, strategy: str | None = None) -> Recipe:
    """How `jal init` trains and chooses: a small CNN of images, an SVM of features.

    Args:
      x: [N, H, W, C] images of 12 pixels or more, or features [N, D], best of unit
        length.
      num_classes: C.
      strategy: one of `STRATEGIES`; by default "bald" of images, "margin" of features.

    Returns:
      `Recipe`; before there are labels it chooses typical items.

    Raises:
      ValueError: no such strategy, one that needs dropout with features, or images that
        are too small.

    >>> recipe = default_recipe(jnp.zeros((9, 4)), num_classes=3)
    >>> recipe.learner.init(None).weights.shape
    (5, 3)
    """
    is_flat = x.ndim == 2
    strategy = default_strategy(x) if strategy is None else strategy
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy!r}; allowed are {', '.join(STRATEGIES)}")
    if is_flat and strategy in ("bald", "mean_std"):
        raise ValueError(
            f"strategy {strategy} compares passes with dropout, and the linear model "
            "of features has none; take margin, entropy or alamp"
        )
    if strategy in _SCORES:
        score = getattr(acquisition, strategy)
        passes = 1 if is_flat else _PASSES
        scorer = scorers.passes(score, passes, batch_size=_AT_ONCE)
        chooses: Any = lambda beta: strategies.from_scores(scorer, beta=beta)
    else:
        chooses = _OTHERS[strategy]()
    flat = lambda x: x.reshape(len(x), -1).astype(jnp.float32)
    first = strategies.typical(features=flat)
    if is_flat:
        learner = learners.linear_svm(x.shape[1], num_classes)
        return Recipe(learner, chooses, _linear_cost(x.shape[1]), first)
    return Recipe(_network(x, num_classes), chooses, _network(x, None), first)


def _network(x: Any, outputs: int | None) -> Learner:
    """A small convolutional network, of classes or of the cost."""
    from jal import nn

    if min(x.shape[1:3]) < 12:
        raise ValueError(
            f"images of {x.shape[1]} x {x.shape[2]} are too small for the network that "
            "comes with jal; take features, or a model of your own"
        )
    make, optimizer = nn.from_linen(nn.small_cnn(outputs), x[:1]), optax.adam(1e-3)
    if outputs is None:
        return learners.regressor(*make, optimizer, log_targets=True, **_STEPS)
    return learners.supervised(*make, optimizer, **_STEPS)


def _linear_cost(features: int) -> Learner:
    init = lambda key: (jnp.zeros(features), ())

    def apply(weights, state, x, key=None, train=False):
        return Outputs(value=x @ weights), state

    return learners.regressor(init, apply, optax.adam(0.03), log_targets=True, **_STEPS)
