"""Scores of pools of any size: larger than memory, on several devices and hosts.

Chunks of the pool are read ahead while the device works, padded to one shape, split
over the devices, and their scores go to disk with a journal. What is held in memory is
a few chunks and, unless they go to a file, the scores.
"""

import collections
import concurrent.futures
import contextlib
import functools
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jal import scorers
from jal._core import files
from jal.scoring import _journal, _ranking, _sources

# Chunks that are read before the device needs them.
AHEAD = 2


class PoolScores(NamedTuple):
    """The scores of a pool, and which items have the highest.

    Attributes:
      scores: [N] float32, higher = label it; a read-only memory map if they are in a
        file. NaN where the score is NaN.
      indices: [K] int64 pool indices of the highest scores, best first, ties to the
        lower index; -1 where fewer than K scores are not NaN.
      num_nan: how many scores are NaN.
      nan_indices: the indices of the first of them, ten at most.
    """

    scores: np.ndarray
    indices: np.ndarray
    num_nan: int
    nan_indices: list[int]


def score_pool(
    scorer: Callable[..., jax.Array],
    predict: Callable | None,
    source: Any,
    *,
    key: jax.Array,
    chunk_size: int,
    mesh: Mesh | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    top_k: int | None = None,
    progress: bool = True,
    config: Mapping[str, Any] | None = None,
) -> PoolScores:
    """Scores every item of a pool, a chunk at a time.

    Neither the chunk size nor the number of devices or processes changes a score by
    more than rounding, nor does being stopped and resumed. Under `jax.distributed` each
    process reads and scores its part of the pool on its own devices, `out` is on a
    file system that all of them see, and the ranking is merged by a collective.

    Args:
      scorer: (predict, key, x [B, ...], indices [B]) -> [B] scores, as those of
        `jal.scorers`. Given an equal one again, nothing is compiled again.
      predict: `jax.tree_util.Partial(apply, variables)`, an argument of the compiled
        program and copied to the devices; None for `scorers.logits`.
      source: the pool, whatever `_sources.open_source` takes.
      key: PRNG key, the same for all chunks.
      chunk_size: B, items scored at a time, on all devices of a process together;
        rounded up to a multiple of their number.
      mesh: devices to use, of all processes, over all of whose axes a chunk is split;
        None for the default device of each process.
      out: `.npy` file for the scores, with a journal while it is being made.
      resume: go on from what is at `out`; with nothing there, start.
      top_k: K, how many of the highest scores to rank, 0 <= K <= N; None for none.
      progress: show a progress bar.
      config: what else identifies the run, as JSON: a file is only resumed with the
        same scorer (by `scorers.name_of`), variables, key, pool and config.

    Returns:
      `PoolScores` of all N items, the same in every process.

    Raises:
      ValueError: arguments that do not fit each other, a pool that is empty or cannot
        be read, scores of another shape, or `out` holds something else.
      FileExistsError: `out` exists and `resume` is False.

    Warns:
      UserWarning: scores are NaN, with the first of their indices.

    >>> scorer = lambda predict, key, x, indices: predict(x)
    >>> predict = jax.tree_util.Partial(lambda weights, x: x @ weights, jnp.ones(2))
    >>> pool = np.array([[1.0, 2.0], [4.0, 3.0], [0.0, 5.0]], np.float32)
    >>> result = score_pool(
    ...     scorer,
    ...     predict,
    ...     pool,
    ...     key=jax.random.key(0),
    ...     chunk_size=2,
    ...     top_k=2,
    ...     progress=False,
    ... )
    >>> result.scores.tolist(), result.indices.tolist()
    ([3.0, 7.0, 5.0], [1, 2])
    """
    source = _sources.open_source(source)
    length = source.length
    _check(length, chunk_size, top_k, predict)
    devices = _local_devices(mesh)
    chunk_size = -(-chunk_size // devices.size) * devices.size
    process, processes = jax.process_index(), jax.process_count()
    first, last = (length * number // processes for number in (process, process + 1))
    program = _compiled(scorer, devices)
    load = functools.partial(_load, source.read, chunk_size, devices)
    # What does not fit together fails here, before a file is made.
    jax.eval_shape(program, predict, key, *load(0, 1))

    if out is None:
        scores, gaps = np.full(last - first, np.nan, np.float32), [(first, last)]
        sink = contextlib.nullcontext(functools.partial(_write, scores, first))
    else:
        out = Path(out)
        identity = _identity(scorer, predict, key, source, config)
        gaps = _prepare(out, length, identity, resume)
        sink = _journal.writer(out, process) if gaps else contextlib.nullcontext()

    ranges = list(_chunks(gaps, first, last, chunk_size))
    done = last - first - sum(stop - start for start, stop in ranges)
    shown = progress and process == 0
    replicated = jax.device_put((predict, key), NamedSharding(devices, PartitionSpec()))
    with sink as write, files.progress_bar(last - first, done, shown, "item") as bar:
        for start, values in _scored(program, replicated, load, ranges):
            assert write is not None
            write(start, values)
            bar.update(len(values))

    if out is not None:
        _barrier("all scores are written")
        scores = _journal.read(out)[first:last]
    result = _ranked(scores, first, top_k or 0)
    if processes > 1:
        result = _merged(result, first, length, with_scores=out is None)
    if out is not None:
        if process == 0:
            summary = {**identity, **result._replace(scores=None)._asdict()}
            _journal.finish(out, length, summary)
        _barrier("the file has its name")
        result = result._replace(scores=_journal.read(out))
    if result.num_nan:
        warnings.warn(
            f"{result.num_nan} of {length} scores are NaN and never chosen, the first "
            f"of them at {result.nan_indices}",
            stacklevel=2,
        )
    return result


def _check(length, chunk_size, top_k, predict):
    if not (predict is None or isinstance(predict, jax.tree_util.Partial)):
        raise ValueError(
            f"predict is a {type(predict).__name__}; expected "
            "jax.tree_util.Partial(apply, variables), so that the variables are an "
            "argument of the compiled program"
        )
    if length >= 2**31:
        raise ValueError(f"the pool has {length} items; at most 2^31 - 1 are allowed")
    if chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size}; it must be at least 1")
    if top_k is not None and not 0 <= top_k <= length:
        raise ValueError(f"top_k={top_k}; it must be between 0 and the {length} items")


def _local_devices(mesh):
    """The part of a mesh that this process feeds."""
    if mesh is None:
        return Mesh(np.array(jax.local_devices()[:1]), ("pool",))
    if jax.process_index() not in {
        device.process_index for device in mesh.devices.flat
    }:
        raise ValueError(
            f"mesh has no device of process {jax.process_index()}; every process "
            "scores its part of the pool"
        )
    return mesh.local_mesh


@functools.lru_cache(maxsize=8)
def _compiled(scorer, devices):
    """The score function, jitted once for all pools of a shape, split over devices."""

    def checked(predict, key, x, index):
        scores = scorer(predict, key, x, index)
        if jnp.shape(scores) != index.shape:
            raise ValueError(
                f"the scorer returned shape {jnp.shape(scores)} for a chunk of "
                f"{index.shape[0]} items; expected one score for each"
            )
        return scores.astype(jnp.float32)

    whole, split = PartitionSpec(), PartitionSpec(devices.axis_names)
    split_over_devices = jax.shard_map(
        checked,
        mesh=devices,
        in_specs=(whole, whole, split, split),
        out_specs=split,
        check_vma=False,
    )
    # Without the options for training, which would turn off a fusion that helps here.
    return jax.jit(split_over_devices)


def _chunks(gaps, first, last, chunk_size):
    """Ranges of at most `chunk_size` items that cover the gaps within [first, last)."""
    for start, stop in gaps:
        start, stop = max(start, first), min(stop, last)
        for begin in range(start, stop, chunk_size):
            yield begin, min(begin + chunk_size, stop)


def _load(read, chunk_size, devices, start, stop):
    """Items [start, stop) and their indices on the devices, padded to `chunk_size`."""

    def padded(leaf):
        leaf = np.asarray(leaf)
        if leaf.ndim == 0 or leaf.shape[0] != stop - start:
            raise ValueError(
                f"the source gave an array of shape {leaf.shape} for items {start} to "
                f"{stop - 1}; expected {stop - start} rows"
            )
        if not (leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number)):
            raise ValueError(
                f"the source holds {leaf.dtype}, which is no number; leave it out with "
                '_sources.open_source(source, prepare=lambda batch: batch["image"])'
            )
        leaf = leaf.astype(leaf.dtype.newbyteorder("="), copy=False)
        rest = chunk_size - (stop - start)
        # With the last item again, so that nothing can go wrong in them alone.
        return np.concatenate([leaf, np.repeat(leaf[-1:], rest, 0)]) if rest else leaf

    index = np.arange(start, stop, dtype=np.int32)
    chunk = jax.tree.map(padded, (read(start, stop), index))
    return jax.device_put(
        chunk, NamedSharding(devices, PartitionSpec(devices.axis_names))
    )


def _scored(program, arguments, load, ranges):
    """(start, scores) of each range, while the device works at the next one."""
    awaited = collections.deque()
    for (start, stop), chunk in _read_ahead(load, ranges):
        awaited.append((start, stop, program(*arguments, *chunk)))
        if len(awaited) > 1:
            start, stop, scores = awaited.popleft()
            yield start, np.asarray(scores)[: stop - start]
    while awaited:
        start, stop, scores = awaited.popleft()
        yield start, np.asarray(scores)[: stop - start]


def _read_ahead(load, ranges):
    """(range, chunk) of each range; a thread has the next ones ready."""
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        waiting = collections.deque()
        try:
            for start, stop in ranges:
                waiting.append(((start, stop), reader.submit(load, start, stop)))
                if len(waiting) > AHEAD:
                    chunk_range, chunk = waiting.popleft()
                    yield chunk_range, chunk.result()
            while waiting:
                chunk_range, chunk = waiting.popleft()
                yield chunk_range, chunk.result()
        finally:
            for _, chunk in waiting:
                chunk.cancel()


def _identity(scorer, predict, key, source, config):
    """What makes two runs the same, as JSON."""
    checksum = 0
    for leaf in jax.tree.leaves(predict):
        if jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    return files.as_json(
        {
            "scorer": scorers.name_of(scorer),
            "key": jax.random.key_data(key),
            "num_items": source.length,
            "pool_crc32": _sources.fingerprint(source),
            "variables_crc32": checksum,
            "config": dict(config or {}),
        }
    )


def _prepare(out, length, identity, resume):
    """Makes the file or finds it; returns what is not scored yet."""
    state = _journal.state_of(out, identity, resume=resume)
    _barrier("all have looked at the file")
    if state == "new" and jax.process_index() == 0:
        _journal.create(out, length, identity)
    _barrier("the file is there")
    return [] if state == "finished" else _journal.missing(out, length)


def _barrier(name):
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"jal: {name}")


def _write(scores, first, start, values):
    """Puts values at [start, ...) of the scores of the part that begins at `first`."""
    scores[start - first : start - first + len(values)] = values


def _ranked(scores, first, k):
    """`PoolScores` of the part of the pool that begins at `first`."""
    nans = np.flatnonzero(np.isnan(scores))
    best = _ranking.highest(scores, k)
    indices = np.where(best < 0, -1, best + first)
    return PoolScores(scores, indices, len(nans), (nans[:10] + first).tolist())


def _merged(result, first, length, *, with_scores):
    """The ranking of all processes, and their scores if they are in no file."""
    k, count = len(result.indices), len(result.nan_indices)
    taken = result.scores[np.maximum(result.indices - first, 0)]
    local = {
        "values": np.where(result.indices < 0, np.nan, taken).astype(np.float32),
        "indices": result.indices.astype(np.int32),
        "num_nan": np.int32(result.num_nan),
        "nan_indices": np.array(result.nan_indices + [-1] * (10 - count), np.int32),
    }
    processes = jax.process_count()
    if with_scores:  # of one length, as collectives need it
        rest = -(-length // processes) - len(result.scores)
        local["scores"] = np.pad(result.scores, (0, rest))
    everyone = multihost_utils.process_allgather(local)
    values, indices = everyone["values"].ravel(), everyone["indices"].ravel()
    indices = np.where(np.isnan(values), -1, indices)[np.lexsort((indices, -values))]
    scores = result.scores
    if with_scores:
        ends = [length * (number + 1) // processes for number in range(processes)]
        sizes = np.diff([0, *ends])
        parts = zip(everyone["scores"], sizes, strict=True)
        scores = np.concatenate([part[:size] for part, size in parts])
    nans = everyone["nan_indices"].ravel()
    return PoolScores(
        scores,
        indices[:k].astype(np.int64),
        int(everyone["num_nan"].sum()),
        nans[nans >= 0][:10].tolist(),
    )
