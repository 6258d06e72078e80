"""The items of a session as the command line knows them: names, arrays, pictures."""

import json
import os
from pathlib import Path

import numpy as np

from jal.cli import _pool
from jal.cli._pool import PoolFacts
from jal.session import LabelStore


def names_of(folder: Path) -> list[str]:
    LabelStore(folder)  # says if there is no session
    return json.loads((folder / _pool.NAMES_FILE).read_text())


def read_pool(pool: Path, size: int, decode: bool) -> tuple[list[str], np.ndarray]:
    if pool.is_dir():
        paths = _pool.image_files(pool)
        names = [path.relative_to(pool).as_posix() for path in paths]
        if not decode:
            return names, np.zeros((len(names), 1))
        return names, _pool.read_images(paths, size, True)
    if not pool.exists():
        raise ValueError(f"POOL {pool}: there is no such file or folder")
    x = _pool.read_array(pool, "POOL")
    if x.ndim == 2:
        x = unit_length(x, "POOL")
    elif x.ndim in (3, 4):
        x = x if x.dtype == np.uint8 else x.astype(np.float32)
        x = x[..., None] if x.ndim == 3 else x
    else:
        raise ValueError(
            f"POOL {pool} has shape {x.shape}; expected [N, D] features, or [N, H, W] "
            "or [N, H, W, C] images"
        )
    return [str(number) for number in range(len(x))], x


def unit_length(x: np.ndarray, what: str) -> np.ndarray:
    if x.ndim != 2:
        raise ValueError(f"{what} has shape {x.shape}; expected features [N, D]")
    x = x.astype(np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def save_array(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def check_names(names: list[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"POOL has a file whose name is not UTF-8 ({name!r}); rename it"
            ) from error


def previews(folder, store: LabelStore, names, items, size: int) -> list | None:
    """[H, W, ...] uint8 images of some items; None where they are no images."""
    facts = PoolFacts(**store.facts["cli"])
    source = Path(facts.source)
    items = [int(item) for item in items]
    if source.suffix != ".npy":
        if not source.is_dir():
            raise ValueError(
                f"{source}, the folder of the images, is not there any more; put it "
                "back, or say where Label Studio finds them by --image-url"
            )
        return [_pool.preview(source / names[item], size) for item in items]
    # The session's own copy, unless that holds features.
    own = folder / _pool.POOL_FILE
    images = _pool.read_array(own if facts.features is None else source, "images")
    if len(images) != len(names):
        raise ValueError(f"{source} has {len(images)} items now, not {len(names)}")
    if images.ndim < 3 or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        return None
    images = [images[item] for item in items]
    if images and images[0].dtype != np.uint8:
        low, high = min(i.min() for i in images), max(i.max() for i in images)
        scale = 255 / (high - low) if high > low else 0
        images = [((i - low) * scale).astype(np.uint8) for i in images]
    times = max(1, size // max(images[0].shape[:2])) if images else 1
    return [np.repeat(np.repeat(i, times, axis=0), times, axis=1) for i in images]
