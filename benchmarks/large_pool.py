"""Pools larger than memory, and several devices: the work of separate processes."""

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.timing import compiled, memory_growth, row, seconds_of
from jal import acquisition, nn, scorers, scoring

PIXELS = 784
CHUNK = 1000
PASSES = 20


def measure(
    repeats: int = 3, *, small: int = 200_000, large: int = 2_000_000, small_cnn=False
) -> list[dict]:
    """Memory of a pool on disk over its size, and its speed over one in memory."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.npy"
        for size in (small, large):
            make_pool(path, size)
            done = in_process("from_disk", str(path), small_cnn)
            name = f"pool of {size:,} x {PIXELS} uint8 on disk, S={PASSES}"
            first, second = done["anonymous"]
            rows += [
                row(f"{name}: peak RssAnon", max(first, second) / 1e6, "MB"),
                row(f"{name}: peak of the 2nd half / the 1st", second / first, "x"),
            ]
            rate = size / done["seconds"]
            note = "one run, with compilation"
            rows.append(row(f"{name}: throughput", rate, "items/s", note=note))
        make_pool(path, small)
        done = in_process("disk_and_memory", str(path), min(repeats, 3), small_cnn)
    name = f"pool of {small:,}: throughput from disk / in memory"
    ratio = done["memory"] / done["disk"]
    rows.append(row(name, ratio, "x", repeats=min(repeats, 3)))
    return rows


def measure_devices(
    repeats: int = 9, *, size: int = 10_000, counts=(1, 2, 4, 8), small_cnn=False
) -> list[dict]:
    """Forced host devices share the cores: what splitting costs, not what it gains."""
    seconds = {count: [] for count in counts}
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.npy"
        make_pool(path, size)
        for _ in range(2):  # in turns
            for count in counts:
                flag = f"--xla_force_host_platform_device_count={count}"
                done = in_process(
                    "on_devices", str(path), repeats // 2 + 1, small_cnn, flags=flag
                )
                seconds[count] += done["seconds"]
                scores[count] = np.array(done["scores"])
    medians = {count: statistics.median(values) for count, values in seconds.items()}
    first = counts[0]
    rows = []
    for count in counts[1:]:
        name = f"scoring {size:,}, S={PASSES}: {count} forced host devices"
        ratio = medians[first] / medians[count]
        worst = np.abs(scores[count] - scores[first]).max()
        rows += [
            row(
                f"{name}, throughput over {first}",
                ratio,
                "x",
                repeats=2 * (repeats // 2 + 1),
            ),
            row(f"{name}, largest difference of a score", worst, "nats"),
        ]
    return rows


def make_pool(path: Path, size: int) -> None:
    """A `.npy` file of random bytes [size, PIXELS], written in pieces."""
    rng = np.random.default_rng(0)
    pool = np.lib.format.open_memmap(path, "w+", np.uint8, (size, PIXELS))
    for start in range(0, size, 50_000):
        rows = min(50_000, size - start)
        pool[start : start + rows] = rng.integers(
            0, 256, (rows, PIXELS), dtype=np.uint8
        )
    pool.flush()


def in_process(function: str, *arguments, flags: str = "") -> dict:
    """What a function of this module returns when a process of its own calls it."""
    code = (
        "import json, sys\nfrom benchmarks import large_pool\n"
        "name, *arguments = json.loads(sys.argv[1])\n"
        "print(json.dumps(getattr(large_pool, name)(*arguments)))"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([function, *arguments])],
        env={**os.environ, "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def model(small_cnn: bool):
    """A score function of the Gal CNN, or the small one, and its weights."""
    network = nn.small_cnn() if small_cnn else nn.GalCNN()
    init, apply = nn.from_linen(network, jnp.zeros((1, 28, 28, 1), jnp.uint8))
    variables = init(jax.random.key(0))[0]

    def predict(variables, x, key):
        return apply(variables, {}, x.reshape(-1, 28, 28, 1), key, False)[0]

    predict_with = jax.tree_util.Partial(predict, variables)
    return scorers.passes(acquisition.bald, PASSES), predict_with


def from_disk(path: str, small_cnn: bool) -> dict:
    """Scores a pool from its file to another; peaks of all anonymous memory."""
    scorer, predict = model(small_cnn)
    out = Path(path).with_name("scores.npy")
    out.unlink(missing_ok=True)
    run = functools.partial(
        scoring.score_pool,
        scorer,
        predict,
        path,
        key=jax.random.key(1),
        chunk_size=CHUNK,
        out=out,
        top_k=1000,
    )
    seconds = []
    before = anonymous_memory()
    grown = memory_growth(lambda: seconds.append(seconds_of(run)))
    halves = [before + growth for growth in grown]
    return {"anonymous": halves, "seconds": seconds[0]}


def anonymous_memory() -> float:
    """RssAnon of this process in bytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(s for s in status if "RssAnon" in s).split()[1])


def disk_and_memory(path: str, repeats: int, small_cnn: bool) -> dict:
    """Median seconds from file to file, and in memory the faster of two ways."""
    scorer, predict = model(small_cnn)
    key = jax.random.key(1)
    pool = np.load(path, allow_pickle=False)
    out = Path(path).with_name("scores.npy")
    options = dict(key=key, chunk_size=CHUNK, progress=False)

    def disk():
        for name in (out, out.with_name("scores.npy.json")):
            name.unlink(missing_ok=True)
        scoring.score_pool(scorer, predict, path, out=out, **options)

    def one_program(predict, key, x, index):
        chunks = jax.tree.map(
            lambda leaf: leaf.reshape(-1, CHUNK, *leaf.shape[1:]), (x, index)
        )
        return jax.lax.map(lambda chunk: scorer(predict, key, *chunk), chunks)

    on_device = jnp.asarray(pool), jnp.arange(len(pool), dtype=jnp.int32)
    program = compiled(one_program, predict, key, *on_device).call
    ways = {
        "disk": disk,
        "array": lambda: scoring.score_pool(scorer, predict, pool, **options),
        "device": lambda: program(predict, key, *on_device),
    }
    scoring.score_pool(scorer, predict, pool[:CHUNK], **options)
    seconds = {name: [] for name in ways}
    for _ in tqdm(range(repeats), desc="disk and memory in turns", leave=False):
        for name, way in ways.items():
            seconds[name].append(seconds_of(way))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"disk": medians["disk"], "memory": min(medians["array"], medians["device"])}


def on_devices(path: str, repeats: int, small_cnn: bool) -> dict:
    """Seconds of scoring on all devices that there are, and the scores."""
    scorer, predict = model(small_cnn)
    run = functools.partial(
        scoring.score_pool,
        scorer,
        predict,
        path,
        key=jax.random.key(1),
        chunk_size=CHUNK,
        mesh=jax.make_mesh((jax.device_count(),), ("pool",)),
        progress=False,
    )
    scores = run().scores
    seconds = [seconds_of(run) for _ in range(repeats)]
    return {"seconds": seconds, "scores": scores.tolist()}
