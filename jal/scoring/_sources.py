"""Pools as something with a length whose items are read a slice at a time."""

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jal._core.files import map_file


class Source(NamedTuple):
    """A pool of any size, in memory, on disk or made as it is read.

    Attributes:
      length: N.
      read: (start, stop) -> pytree of NumPy arrays [stop - start, ...], for
        0 <= start < stop <= N; always the same for the same items, from any thread.

    >>> squares = Source(5, lambda start, stop: np.arange(start, stop) ** 2)
    >>> squares.read(2, 4).tolist()
    [4, 9]
    """

    length: int
    read: Callable[[int, int], Any]


def open_source(
    source: Any,
    *,
    prepare: Callable[[Any], Any] | None = None,
    items_axis: int = 0,
) -> Source:
    """Whatever holds a pool, as a `Source`; nothing is read but headers.

    Args:
      source: a `Source`; an array or memory map [N, ...]; a pytree of them, all of
        length N; the path of a `.npy` file, which is mapped and not loaded, or of a
        folder of `.npy` shards, in the order of the numbers in their names; or anything
        with a length whose items are got by `source[i]`, as TFDS, ArrayRecord and Grain
        sources have them (a whole batch by `__getitems__` where there is one).
      prepare: what is done to each slice as it is read, on the host and ahead of the
        device, e.g. `lambda batch: batch["image"]`; None for nothing.
      items_axis: the axis of arrays and files that counts items. It is moved to the
        front, so that logits [S, N, C] with `items_axis=1` are read as [B, S, C].

    Returns:
      `Source` of the same N items.

    Raises:
      FileNotFoundError: there is no such file, or the folder has no `.npy` file.
      ValueError: a file is truncated, or of another format or dtype; lengths or shapes
        do not match; the pool is empty.
      TypeError: `source` is none of these.

    >>> pool = np.arange(12).reshape(6, 2)
    >>> open_source({"x": pool}).read(1, 2)["x"].tolist()
    [[2, 3]]
    """
    if not isinstance(source, Source):
        source = _opened(source, items_axis)
    if source.length < 1:
        raise ValueError("the source is empty; there is nothing to score")
    if prepare is None:
        return source
    return Source(source.length, lambda start, stop: prepare(source.read(start, stop)))


def fingerprint(source: Source) -> int:
    """A checksum of the first, the middle and the last item, to recognise a pool by.

    Args:
      source: N items, three of which are read.

    Returns:
      CRC-32 of their bytes, shapes and dtypes, and of N.

    >>> fingerprint(open_source(np.zeros(3))) == fingerprint(open_source(np.zeros(4)))
    False
    """
    checksum = source.length
    for index in (0, source.length // 2, source.length - 1):
        for leaf in jax.tree.leaves(source.read(index, index + 1)):
            leaf = np.asarray(leaf)
            described = f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes()
            checksum = zlib.crc32(described, checksum)
    return checksum


def _opened(source, items_axis):
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return _shards(path, items_axis)
        return _arrays(map_file(path), items_axis, f"{path}")
    leaves = jax.tree.leaves(source)
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
        return _arrays(source, items_axis, "source")
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        if not isinstance(source, list | tuple | dict | set):
            return _random_access(source)
    raise TypeError(
        f"source is a {type(source).__name__}; expected arrays, the path of a .npy "
        "file or of a folder of them, or a data source with a length and integer "
        "indices (np.asarray(source) makes an array of a list)"
    )


def _arrays(tree, axis, name):
    """Slices of arrays that are all there, mapped or in memory."""
    leaves = jax.tree.leaves(tree)
    for leaf in leaves:
        if not -leaf.ndim <= axis < leaf.ndim:
            raise ValueError(
                f"{name} has shape {leaf.shape}, and no axis {axis} that counts items"
            )
        if leaf.dtype == object:
            raise ValueError(f"{name} holds Python objects; expected numbers")
    lengths = {leaf.shape[axis] for leaf in leaves}
    if len(lengths) > 1:
        raise ValueError(f"{name} has arrays of different lengths {sorted(lengths)}")

    # A jax array would compile each slice anew; others are sliced before they are read.
    tree = jax.tree.map(
        lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )

    def read(start, stop):
        def sliced(leaf):
            rows = (slice(None),) * (axis % leaf.ndim) + (slice(start, stop),)
            return np.moveaxis(np.asarray(leaf[rows]), axis, 0)

        return jax.tree.map(sliced, tree)

    return Source(lengths.pop(), read)


def _shards(folder, axis):
    """The `.npy` files of a folder, one after the other."""
    numbered = lambda path: [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
    ]
    paths = sorted(folder.glob("*.npy"), key=numbered)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no .npy file")
    parts = [_arrays(map_file(path), axis, f"{path}") for path in paths]
    shapes = [_item_type(path, axis) for path in paths]
    for path, shape in zip(paths, shapes, strict=True):
        if shape != shapes[0]:
            raise ValueError(
                f"{path} has items of (shape, dtype) {shape}, {paths[0].name} of "
                f"{shapes[0]}; shards must agree"
            )
    ends = np.cumsum([part.length for part in parts])

    def read(start, stop):
        pieces = []
        for number in range(np.searchsorted(ends, start, side="right"), len(parts)):
            first = int(ends[number]) - parts[number].length
            if first >= stop:
                break
            end = min(stop, int(ends[number])) - first
            pieces.append(parts[number].read(max(start - first, 0), end))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    return Source(int(ends[-1]), read)


def _item_type(path, axis):
    array = map_file(path)
    return tuple(np.delete(array.shape, axis).tolist()), str(array.dtype)


def _random_access(source):
    """Items that are got one by one, or by `__getitems__` a list at a time."""

    def read(start, stop):
        indices = range(start, stop)
        if hasattr(source, "__getitems__"):
            items = source.__getitems__(list(indices))
        else:
            items = [source[index] for index in indices]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *items)

    return Source(len(source), read)
