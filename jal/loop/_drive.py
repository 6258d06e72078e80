"""The loop in segments: progress, checkpoints, resumption after a crash.

`drive` compiles the very step that `_run.run` scans, so it ends with the same picks.
"""

import functools
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jal._core import checkpoints, files
from jal._core.checks import at_least_one
from jal._core.compile import cpu_compiler_options
from jal.loop import _run
from jal.types import Data, Learner, Strategy

ROUNDS_FILE = "rounds.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"


def drive(
    key: jax.Array,
    learner: Learner,
    strategy: Strategy,
    data: Data,
    *,
    initial: jax.Array,
    k: int,
    rounds: int,
    folder: str | Path | None = None,
    resume: bool = False,
    segment: int = 1,
    progress: bool = True,
    config: Mapping[str, Any] | None = None,
    **options,
) -> tuple[_run.State, _run.RoundInfo]:
    """Runs the loop `segment` rounds at a time, and survives being killed.

    After each segment `folder/checkpoints` receives the state and all infos so far
    (Orbax), then `folder/rounds.jsonl` a line for each of its rounds. On resumption
    the lines are rewritten from the checkpoint, so picks and figures are those of an
    uninterrupted run.

    Args:
      key: PRNG key.
      learner: what is trained in each round.
      strategy: what chooses.
      data: N items.
      initial: [n0] distinct pool indices, labelled before round 0.
      k: K, items bought a round.
      rounds: R.
      folder: where checkpoints and lines go, or None for neither.
      resume: go on from what `folder` holds; with nothing there, start.
      segment: rounds between two checkpoints.
      progress: show a progress bar with the metrics and the spend.
      config: what else identifies the run, as JSON; a run is only resumed with the
        same key, sizes, labels, costs and config.
      **options: `propose`, `cost`, `evaluate`, `evaluate_rounds` and `observe` as in
        `_run.make_step`.

    Returns:
      The last `State`, and a `RoundInfo` of NumPy arrays with a leading axis of R + 1,
      as from `_run.run`.

    Raises:
      ValueError: arguments that do not fit each other, bad data, or a folder that
        holds a different run.
      FileExistsError: the folder holds a run and `resume` is False.
      ImportError: tqdm or Orbax is needed and missing.

    >>> from jal import pool, strategies
    >>> learner = Learner(lambda key: (), lambda key, v, data, pool: ((), {}), print)
    >>> state, infos = drive(
    ...     jax.random.key(0),
    ...     learner,
    ...     strategies.random(),
    ...     Data(x=jnp.zeros((5, 1)), y=jnp.zeros(5, jnp.int32)),
    ...     initial=jnp.array([3]),
    ...     k=1,
    ...     rounds=2,
    ...     propose=pool.everything(),
    ...     progress=False,
    ... )
    >>> infos.count.tolist()
    [1, 2, 3]
    """
    at_least_one(segment=segment)
    _run.check(data, initial, k=k, rounds=rounds, cost=options.get("cost"))
    if options.get("evaluate_rounds") is not None:
        options["evaluate_rounds"] = tuple(options["evaluate_rounds"])
    init, run_segment = _compiled(
        learner, strategy, k, rounds, segment, tuple(sorted(options.items()))
    )
    state_shapes = jax.eval_shape(init, key, data, initial)
    _, info_shapes = jax.eval_shape(run_segment, key, data, state_shapes)
    infos = jax.tree.map(
        lambda shape: np.zeros((rounds + 1, *shape.shape[1:]), shape.dtype), info_shapes
    )
    state = None
    store = None
    if folder is not None:
        identity = _identity(key, data, initial, k, rounds, config)
        store = _Store(Path(folder), identity, resume)
        state, infos = store.restore(state_shapes, infos)
    if state is None:
        state = init(key, data, initial)
    with files.progress_bar(rounds + 1, int(state.round), progress, "round") as bar:
        while (done := int(state.round)) <= rounds:
            state, news = run_segment(key, data, state)
            news = jax.device_get(news)
            last = int(state.round)
            for buffer, new in zip(
                jax.tree.leaves(infos), jax.tree.leaves(news), strict=True
            ):
                buffer[done:last] = new[: last - done]
            if store is not None:
                store.save(state, infos, done, last)
            bar.update(last - done)
            bar.set_postfix(_postfix(infos, last - 1), refresh=False)
    if store is not None:
        store.close()
    return state, infos


@functools.lru_cache(maxsize=8)
def _compiled(learner, strategy, k, rounds, segment, options):
    """The loop's functions, jitted once for all keys and data of a set of arguments."""
    init, step = _run.make_step(learner, strategy, k=k, rounds=rounds, **dict(options))
    nothing = lambda shape: jnp.zeros(shape.shape, shape.dtype)

    def run_segment(key, data, state):
        _, shapes = jax.eval_shape(step, key, data, state)
        # Steps past the last round are skipped, so every segment has one length.
        guarded = lambda state, _: jax.lax.cond(
            state.round <= rounds,
            lambda: step(key, data, state),
            lambda: (state, jax.tree.map(nothing, shapes)),
        )
        return jax.lax.scan(guarded, state, None, length=segment)

    jit = functools.partial(jax.jit, compiler_options=cpu_compiler_options())
    return jit(init), jit(run_segment)


class _Store:
    """A folder with the run's identity, its checkpoints and its lines."""

    def __init__(self, folder: Path, identity: dict, resume: bool):
        checkpoints.require("a folder of checkpoints, unless folder=None,")
        self._folder = folder
        files.open_run(folder, identity, resume=resume, traces=(CHECKPOINTS_FOLDER,))
        self._manager = checkpoints.open_manager(folder / CHECKPOINTS_FOLDER)

    def restore(self, state_shapes, infos):
        """The last checkpoint, or (None, infos) where there is none."""
        latest = self._manager.latest_step()
        if latest is None:
            (self._folder / ROUNDS_FILE).unlink(missing_ok=True)
            return None, infos
        template = {"state": state_shapes, "infos": infos}
        saved = checkpoints.restore(self._manager, latest, template)
        infos = jax.tree.map(np.array, saved["infos"])  # Orbax's are read-only
        self._write_lines(infos, 0, latest, mode="w")
        return saved["state"], infos

    def save(self, state, infos, done, last):
        """A checkpoint first, then the lines of the rounds in [done, last)."""
        content = {"state": state, "infos": infos}
        checkpoints.save(self._manager, last, content)
        self._write_lines(infos, done, last, mode="a")

    def close(self):
        self._manager.close()

    def _write_lines(self, infos, first, last, mode):
        path = self._folder / ROUNDS_FILE
        with files.writing(path, "w") if mode == "w" else open(path, mode) as file:
            for number in range(first, last):
                file.write(json.dumps(files.as_json(_row(infos, number))) + "\n")


def _identity(key, data, initial, k, rounds, config) -> dict:
    checksum = lambda array: zlib.crc32(np.ascontiguousarray(array).tobytes())
    return files.as_json(
        {
            "key": jax.random.key_data(key),
            "num_items": data.y.shape[0],
            "labels_crc32": checksum(data.y),
            "cost_crc32": None if data.cost is None else checksum(data.cost),
            "initial": initial,
            "k": k,
            "rounds": rounds,
            "config": dict(config or {}),
        }
    )


def _row(infos: _run.RoundInfo, number: int) -> _run.RoundInfo:
    return jax.tree.map(lambda buffer: buffer[number], infos)


def _postfix(infos: _run.RoundInfo, number: int) -> dict[str, str]:
    row = _row(infos, number)
    named = {**row.metrics, "labels": row.count, "spend": row.spend}
    return {name: f"{float(value):.4g}" for name, value in named.items()}
