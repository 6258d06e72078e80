"""Measuring in turns in one process: times, memory, the bounds of this machine."""

import ctypes
import functools
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jal._core.compile import cpu_compiler_options

# Seconds before each measurement, in which the threads of the program measured before
# go to sleep: those of OpenMP and OpenBLAS spin on, and slow down whoever comes next.
PAUSE = 0.1
# A program shorter than this runs once more after the pause before it is timed.
SHORT = 0.1


class Program(NamedTuple):
    """Something to measure.

    Attributes:
      run: the work, a function without arguments; None where there is none.
      scale: the time is multiplied by this (part of the work was measured).
      note: how it was run, or why it was not.
    """

    run: Callable | None
    scale: float = 1.0
    note: str = ""


class Timing(NamedTuple):
    """What came out: a median and the fastest, NaN where there was nothing to run."""

    seconds: float
    fastest: float
    repeats: int
    note: str


class Compiled(NamedTuple):
    """A compiled function, how long that took, and its temporary memory in bytes."""

    call: Callable
    seconds: float
    temporary: int


def row(what, value, unit, **more) -> dict:
    """One line of the table; see `comparison` for `more`."""
    value = None if value is None else float(f"{float(value):.5g}")
    return {"what": what, "value": value, "unit": unit} | more


def compiled(function, *args, options=None) -> Compiled:
    """Compiles `function` for these arguments, as `jax.jit` does, and warms it up."""
    start = time.perf_counter()
    call = jax.jit(function, compiler_options=options).lower(*args).compile()
    seconds = time.perf_counter() - start
    jax.block_until_ready(call(*args))
    analysis = call.memory_analysis()
    return Compiled(call, seconds, getattr(analysis, "temp_size_in_bytes", 0))


def calling(function, *args) -> Program:
    """A compiled function and its arguments as a program."""
    return Program(functools.partial(function, *args))


def seconds_of(run) -> float:
    """Seconds of one call, to the end of all that it started."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def side_by_side(programs: dict, repeats: int, *, limit=60.0) -> dict[str, Timing]:
    """Measures the programs in turns and takes the median of each.

    A slow program takes part in fewer turns, so that it needs about `limit` seconds in
    all; where one call is longer than that, the call that warms up is the measurement.
    """
    present = {name: p for name, p in programs.items() if p.run is not None}
    seconds, turns, short = {}, {}, {}
    total = tqdm(desc=" | ".join(present), unit="call", leave=False)
    for name, program in present.items():
        first = seconds_of(program.run)
        total.update()
        seconds[name], turns[name], short[name] = [first], 0, False
        if first > limit:
            continue
        if first < limit / 10:  # much of a first call may be preparation
            first = seconds_of(program.run)
            total.update()
        seconds[name], short[name] = [], first < SHORT
        turns[name] = int(np.clip(limit / max(first, 1e-9), 1, repeats))
    for turn in range(repeats):
        for name, program in present.items():
            if turn >= turns[name]:
                continue
            time.sleep(PAUSE)
            if short[name]:
                jax.block_until_ready(program.run())
            seconds[name].append(seconds_of(program.run))
            total.update()
    total.close()
    timings = {}
    for name, program in programs.items():
        values = [program.scale * value for value in seconds.get(name, [])]
        median = statistics.median(values) if values else float("nan")
        least = min(values, default=float("nan"))
        timings[name] = Timing(median, least, len(values), program.note)
    return timings


def fastest(variants: dict[str, Callable]) -> Program:
    """The fastest of several ways to run a peer, by the better of two calls of each."""
    best, chosen = float("inf"), None
    for note, run in variants.items():
        if len(variants) == 1:
            return Program(run, note=note)
        for _ in range(2):
            time.sleep(PAUSE)
            seconds = seconds_of(run)
            if seconds < best:
                best, chosen = seconds, Program(run, note=note)
            if seconds > 2 * best:
                break  # a first call is slower, but not by that much
    return chosen


def comparison(what, timings: dict[str, Timing], *, unit="ms", ours="jal") -> list:
    """A line for each program, with its time over ours."""
    rows = []
    for name, timing in timings.items():
        if not timing.repeats:
            rows.append(row(what, None, timing.note, by=name))
            continue
        factor = {"s": 1, "ms": 1e3}[unit]
        ratio = float(f"{timing.seconds / timings[ours].seconds:.4g}")
        line = row(what, factor * timing.seconds, unit, by=name)
        line["fastest"] = float(f"{factor * timing.fastest:.5g}")
        line["repeats"] = timing.repeats
        line |= {"ratio": ratio} if name != ours else {}
        rows.append(line | ({"note": timing.note} if timing.note else {}))
    return rows


def agreement(what, results: dict, tolerance: float, unit: str, *, ours="jal") -> dict:
    """A line with the largest difference to ours.

    Raises:
      ValueError: it is above the tolerance, so that the times compare nothing.
    """
    own = np.asarray(results[ours], np.float64)
    others = {name: value for name, value in results.items() if name != ours}
    worst, by = 0.0, ours
    for name, value in others.items():
        difference = float(np.max(np.abs(np.asarray(value, np.float64) - own)))
        if not difference <= tolerance:
            raise ValueError(
                f"{what}: {name} differs from {ours} by {difference:.3g} {unit}; at "
                f"most {tolerance:g} is rounding"
            )
        worst, by = max((worst, by), (difference, name))
    return row(f"{what}: largest difference", worst, unit, by=by)


class Bounds(NamedTuple):
    """What this machine can do, measured: bytes/s moved and float32 FLOP/s."""

    bandwidth: float
    matmul: float


@functools.cache
def bounds(megabytes: int = 256, sizes=None) -> Bounds:
    """Copy bandwidth (bytes read plus written) and matmul rate, the best of several."""
    rates = []
    for m, k, n in sizes or ((2048,) * 3, (4096,) * 3, (1000, 3872, 2560)):
        a = jax.random.normal(jax.random.key(0), (m, k))
        b = jax.random.normal(jax.random.key(1), (k, n))
        for options in ({}, cpu_compiler_options()):
            product = compiled(jnp.matmul, a, b, options=options).call
            time.sleep(PAUSE)
            rates.append(2 * m * k * n / best_of(functools.partial(product, a, b)))
    return Bounds(copy_bandwidth(megabytes), max(rates))


def copy_bandwidth(megabytes: int) -> float:
    """Bytes read plus written a second, by NumPy or by JAX."""
    source = np.random.default_rng(0).random(megabytes * 250_000, np.float32)
    target = np.empty_like(source)
    seconds = best_of(lambda: np.copyto(target, source))
    # With its argument donated the sum needs no new memory, whose first use is slow.
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    held = [add(jnp.asarray(source))]

    def step():
        held.append(add(held.pop()))
        return held[0]

    return 2 * source.nbytes / min(seconds, best_of(step))


def best_of(run, repeats: int = 7) -> float:
    """Seconds of the fastest of several calls."""
    return min(seconds_of(run) for _ in range(repeats))


def bounds_rows() -> list[dict]:
    """The bounds as lines of the table."""
    measured = bounds()
    return [
        row("bound: copy bandwidth, read + written", measured.bandwidth / 1e9, "GB/s"),
        row("bound: float32 matrix product", measured.matmul / 1e9, "GFLOP/s"),
    ]


def peak_memory(run) -> float:
    """Bytes by which anonymous memory grows at most while `run` runs (NaN: unknown)."""
    return max(0.0, *memory_growth(run))


def memory_growth(run) -> tuple[float, float]:
    """The same for the first and for the second half of the time."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan"), float("nan")

    def anonymous():
        (line,) = (s for s in status.read_text().splitlines() if "RssAnon" in s)
        return int(line.split()[1]) * 1024

    done, samples = threading.Event(), []

    def watch():
        while not done.wait(0.002):
            samples.append(anonymous())

    # Memory that was freed but kept would hide the growth.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)
    trim(0)
    before = anonymous()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        jax.block_until_ready(run())
    finally:
        done.set()
        watcher.join()
    samples.append(anonymous())
    half = (len(samples) + 1) // 2
    first, second = samples[:half], samples[half:] or samples
    return max(first) - before, max(second) - before
