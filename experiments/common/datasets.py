"""The image data sets of the experiments, checked and in memory as uint8 arrays."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TFDS_NAMES = ("mnist", "fashion_mnist", "cifar10")


class ImageData(NamedTuple):
    """A labelled image data set (N training images, n test images, C classes).

    Attributes:
      name: what it is called in tables and file names.
      images: [N, H, W, Ch] uint8 training images: the pool.
      labels: [N] int32 classes, 0 to C - 1.
      test_images: [n, H, W, Ch] uint8.
      test_labels: [n] int32.
      costs: [N] float32 annotation costs > 0 in the unit of whoever measured them, or
        None where the set has none.
      num_classes: C, one more than the greatest label.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    costs: np.ndarray | None
    num_classes: int


def load(
    name, *, data_dir=None, test_size: int = 500, seed: int = 0, progress: bool = True
) -> ImageData:
    """Load a data set by name, or from an `.npz` file.

    * `"digits"`: the 1,797 8x8 digits inside scikit-learn, 0..16 scaled to 0..255.
    * `"mnist"`, `"fashion_mnist"`, `"cifar10"`: as TensorFlow Datasets (TFDS) prepared
      them in ArrayRecord format, with their official test set and in TFDS's order (a
      fixed shuffle of the original one). Reading does not need TensorFlow.
    * a path that ends in `.npz`: the arrays `images` [N, H, W] or [N, H, W, Ch] (uint8,
      or floats within [0, 1]), `labels` [N] (integers >= 0, gaps allowed) and, where
      there are any, `costs` [N] (finite, > 0) and `test_images` with `test_labels`.
      Other arrays of the file are ignored.

    Sets without a test set of their own are split by a permutation drawn from `seed`.

    Args:
      name: one of the above.
      data_dir: TFDS sets only: the folder that holds `<name>/<version>`. Default: the
        environment variable TFDS_DATA_DIR, else `~/tensorflow_datasets`.
      test_size: number n of images to split off, 1 to N - 1; used only where the set
        has no test images.
      seed: seed >= 0 of that split.
      progress: TFDS sets only: show a bar on a terminal while images are decoded
        (6 to 10 s).

    Returns:
      The training and test images, as `ImageData`.

    Raises:
      FileNotFoundError: the file, or the prepared TFDS set, does not exist.
      ImportError: the package that holds or reads the set is not installed.
      ValueError: an argument, or the content of a file, is not as described here.

    Example:
      >>> data = load("digits", test_size=500, seed=0)
      >>> data.images.shape, data.test_images.shape, data.num_classes
      ((1297, 8, 8, 1), (500, 8, 8, 1), 10)
      >>> data.images.dtype, data.labels.dtype
      (dtype('uint8'), dtype('int32'))
    """
    text = str(name)
    if text == "digits":
        return _split_off("digits", *_digits(), None, test_size, seed)
    if text in TFDS_NAMES:
        return _load_tfds(text, data_dir, progress)
    if text.endswith(".npz"):
        return _load_npz(Path(text).expanduser(), test_size, seed)
    allowed = ", ".join(("digits", *TFDS_NAMES))
    raise ValueError(f"name must be {allowed} or a path ending in .npz, got {name!r}")


def moments(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and SDs of the channels, in [0, 1], of some 5,000 images."""
    channels = (0, 1, 2)
    scaled = images[:: max(1, len(images) // 5000)] / 255
    return tuple(scaled.mean(channels).tolist()), tuple(scaled.std(channels).tolist())


def _split_off(name, images, labels, costs, test_size, seed) -> ImageData:
    """Part a random test set from [N, ...] images; the rest is the pool."""
    size = len(images)
    if not isinstance(test_size, int | np.integer) or not 0 < test_size < size:
        raise ValueError(
            f"test_size must be an integer from 1 to {size - 1}, because {name} has "
            f"{size} images and no test set of its own; got {test_size!r}"
        )
    order = np.random.default_rng(seed).permutation(size)
    test, train = order[:test_size], order[test_size:]
    pool, tests = (images[train], labels[train]), (images[test], labels[test])
    costs = None if costs is None else costs[train]
    return ImageData(name, *pool, *tests, costs, int(labels.max()) + 1)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images [1797, 8, 8, 1] and labels [1797] of scikit-learn's digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as e:
        raise ImportError(
            "'digits' comes with scikit-learn: pip install 'jal[experiments]'"
        ) from e
    digits: Any = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return images[..., None], digits.target.astype(np.int32)


# TensorFlow Datasets


def _load_tfds(name: str, data_dir, progress: bool) -> ImageData:
    """Decode both splits of a prepared TFDS set."""
    try:
        import array_record  # noqa: F401 (TFDS would miss it only halfway)
        import tensorflow_datasets as tfds
        from tqdm import tqdm
    except ImportError as e:
        raise ImportError(
            f"{name!r} is read with tensorflow-datasets: pip install 'jal[data]'"
        ) from e
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    root = Path(root).expanduser()
    # Opened by folder: `tfds.builder` asks a server about sets that it does not find.
    found = root.glob(f"{name}/[0-9]*/dataset_info.json")
    folder = max((info.parent for info in found), default=None)
    remedy = (
        "Point data_dir (--data-dir) or the environment variable TFDS_DATA_DIR to a "
        "prepared TFDS directory, or let TFDS download and prepare it once: python -c "
        f'"import tensorflow_datasets as tfds; tfds.builder({name!r}, '
        "file_format='array_record').download_and_prepare()\", which needs TensorFlow "
        "installed that one time"
    )
    if folder is None:
        raise FileNotFoundError(f"{name} is not prepared in {root}. {remedy}")
    builder: Any = tfds.builder_from_directory(folder)
    try:
        sources = [builder.as_data_source(split) for split in ("test", "train")]
    except NotImplementedError as e:  # TFRecord, which TFDS writes by default
        raise FileNotFoundError(
            f"{name} is prepared in {folder}, but not as ArrayRecord. Remove that "
            f"folder, or choose another one. {remedy}"
        ) from e
    total, off = sum(map(len, sources)), None if progress else True  # None: a terminal
    try:
        with tqdm(total=total, desc=name, unit=" images", disable=off) as bar:
            test, (images, labels) = [_decode(source, bar) for source in sources]
    except RuntimeError as e:  # ArrayRecord: a file is missing, cut short or damaged
        raise ValueError(
            f"{name} in {folder} is damaged ({e}). Remove that folder. {remedy}"
        ) from e
    return ImageData(name, images, labels, *test, None, int(labels.max()) + 1)


def _decode(source, bar) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W, Ch] and labels [N] of a TFDS data source.

    In batches, so that the bar moves and TFDS's dicts are soon freed. Decoding holds
    the GIL for most of its time: threads make it slower.
    """
    images, labels = [], []
    for start in range(0, len(source), 1000):
        rows = range(start, min(start + 1000, len(source)))
        batch = source.__getitems__(list(rows))
        images.append(np.stack([example["image"] for example in batch]))
        labels += [example["label"] for example in batch]
        bar.update(len(batch))
    return np.concatenate(images), np.array(labels, np.int32)


# .npz files


def _load_npz(path: Path, test_size: int, seed: int) -> ImageData:
    """Read and check a file of the user's own."""
    arrays = _read_npz(path)
    images = _check_images(arrays, "images", path)
    labels = _check_labels(arrays, "labels", len(images), path)
    costs = _check_costs(arrays, len(images), path) if "costs" in arrays else None
    if np.unique(labels).size < 2:
        raise ValueError(f"{path}: labels must hold 2 classes, all are {labels[0]}")
    if "test_images" not in arrays:
        return _split_off(path.stem, images, labels, costs, test_size, seed)
    tests = _check_images(arrays, "test_images", path)
    test_labels = _check_labels(arrays, "test_labels", len(tests), path)
    if tests.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"{path}: test_images must have the [H, W, Ch] of images, "
            f"{images.shape[1:]}, got {tests.shape[1:]}"
        )
    num_classes = int(max(labels.max(), test_labels.max())) + 1
    return ImageData(path.stem, images, labels, tests, test_labels, costs, num_classes)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file that `load` knows."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file")
    known = ("images", "labels", "costs", "test_images", "test_labels")
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array, as .npy files do")
            there = archive.files
            arrays = {key: np.asarray(archive[key]) for key in known if key in there}
        except MemoryError:
            raise
        except Exception as e:  # of many types: it depends on where the damage is
            raise ValueError(
                f"{path} cannot be read as an .npz file ({e}): it is damaged, has "
                "another format, or holds Python objects. Write plain arrays with "
                "np.savez(path, images=..., labels=...)"
            ) from e
    tests = {"test_images", "test_labels"}
    needed = {"images", "labels"} | (tests if tests & arrays.keys() else set())
    if missing := needed - arrays.keys():
        raise ValueError(
            f"{path} lacks {', '.join(sorted(missing))}; it holds "
            f"{', '.join(there) or 'no arrays'}. Needed are images and labels; "
            "test_images and test_labels go together"
        )
    return arrays


def _check_images(arrays, key: str, path: Path) -> np.ndarray:
    """The images as [N, H, W, Ch] uint8."""
    images = arrays[key]
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            f"{path}: {key} must be [N, H, W] or [N, H, W, Ch] and not empty, got "
            f"shape {images.shape}"
        )
    if images.dtype.kind == "f":
        low, high = images.min(), images.max()  # NaN where there is one
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{path}: {key} given as floats must lie within [0, 1] without NaN, "
                f"got {low} to {high}. Scale them, or store uint8"
            )
        images = np.rint(images * 255).astype(np.uint8)
    elif images.dtype != np.uint8:
        raise ValueError(
            f"{path}: {key} must be uint8 or floats within [0, 1], got "
            f"{images.dtype}. Convert with .astype(np.uint8) where 0 to 255 is meant"
        )
    return images if images.ndim == 4 else images[..., None]


def _check_labels(arrays, key: str, size: int, path: Path) -> np.ndarray:
    """The labels as [size] int32."""
    labels = arrays[key]
    if labels.shape != (size,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: {key} must be {size} integers, one an image, got shape "
            f"{labels.shape} of {labels.dtype}. Turn one-hot labels into integers with "
            ".argmax(1), names with np.unique(names, return_inverse=True)[1]"
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise ValueError(
            f"{path}: {key} must be classes counted from 0, got {low} to {high}. "
            "Leave out images without a label"
        )
    return labels.astype(np.int32)


def _check_costs(arrays, size: int, path: Path) -> np.ndarray:
    """The costs as [size] float32."""
    costs = arrays["costs"]
    if costs.shape != (size,) or costs.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: costs must be {size} numbers, one an image of `images`, got "
            f"shape {costs.shape} of {costs.dtype}"
        )
    with np.errstate(over="ignore", under="ignore"):  # reported just below
        single = costs.astype(np.float32)
    bad = np.flatnonzero(~(np.isfinite(single) & (single > 0)))
    if bad.size:
        raise ValueError(
            f"{path}: costs must be finite and > 0 (as float32), got {costs[bad[0]]} "
            f"at index {bad[0]} ({bad.size} such)"
        )
    return single
