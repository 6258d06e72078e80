"""The same scores and picks on 1, 4 or 8 devices, and in one or two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
# Run with: number of processes, of this process, port, folder.
PROGRAM = """
import json, sys, warnings
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
processes, process, port = map(int, sys.argv[1:4])
folder = Path(sys.argv[4])
if processes > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
from jal import acquisition, nn, scorers
from jal import scoring

pool = np.load(folder / "pool.npy", mmap_mode="r")
init, apply = nn.from_linen(nn.small_cnn(), pool[:1])
variables = init(jax.random.key(0))[0]
predict = jax.tree_util.Partial(
    lambda variables, x, key: apply(variables, {}, x, key, False)[0], variables
)

def with_nan(score_fn):
    # Some scores are NaN, in both halves of the pool.
    return lambda predict, key, x, index: jnp.where(
        index % 9 == 4, jnp.nan, score_fn(predict, key, x, index)
    )

warnings.simplefilter("ignore")
results = {}
for masks in ("shared", "independent"):
    score_fn = with_nan(scorers.passes(acquisition.bald, 8, masks=masks))
    for size in (None, 1, 4, 8):
        if size is not None and size > jax.device_count():
            continue
        mesh = None
        if size is not None:
            of_each = max(size // processes, 1)
            devices = [
                device
                for number in range(processes)
                for device in jax.local_devices(number)[:of_each]
            ]
            mesh = jax.make_mesh((len(devices),), ("pool",), devices=devices)
        result = scoring.score_pool(
            score_fn,
            predict,
            pool,
            key=jax.random.key(1),
            chunk_size=50,
            mesh=mesh,
            out=folder / f"{processes}-{masks}-{size}.npy" if size != 1 else None,
            top_k=25,
            progress=False,
        )
        seen = folder / f"seen-{processes}-{process}-{masks}-{size}.npy"
        np.save(seen, result.scores)
        results[f"{masks}-{size}"] = [
            result.indices.tolist(), result.num_nan, result.nan_indices
        ]
(folder / f"result-{processes}-{process}.json").write_text(json.dumps(results))
"""


def start(folder, processes, process, port, devices):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",
        "JAX_PLATFORMS": "cpu",
    }
    arguments = [str(value) for value in (processes, process, port, folder)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of one process with eight devices, and of two processes with two each."""
    folder = tmp_path_factory.mktemp("devices")
    rng = np.random.default_rng(0)
    np.save(folder / "pool.npy", rng.integers(0, 256, (203, 12, 12), dtype=np.uint8))
    port = free_port()
    jobs = [start(folder, 1, 0, 0, 8)]
    jobs[0].wait(timeout=300)
    jobs += [start(folder, 2, process, port, 2) for process in (0, 1)]
    for job in jobs:
        output, _ = job.communicate(timeout=300)
        assert job.returncode == 0, output
    return folder


def results(folder, processes, process=0):
    return json.loads((folder / f"result-{processes}-{process}.json").read_text())


def scores(folder, processes, process, masks, size):
    return np.load(folder / f"seen-{processes}-{process}-{masks}-{size}.npy")


@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize(
    ("processes", "process", "size"),
    [(1, 0, 1), (1, 0, 4), (1, 0, 8)]
    + [(2, process, size) for process in (0, 1) for size in (None, 1, 4)],
)
def test_same_scores_and_picks(folder, masks, processes, process, size):
    expected = scores(folder, 1, 0, masks, None)
    got = scores(folder, processes, process, masks, size)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    alone = results(folder, 1)[f"{masks}-None"]
    assert results(folder, processes, process)[f"{masks}-{size}"] == alone
    assert len(set(alone[0])) == 25 and alone[1] == 23


@pytest.mark.parametrize("masks", ["shared", "independent"])
def test_two_processes_write_one_file(folder, masks):
    for size in (None, 4):
        written = np.load(folder / f"2-{masks}-{size}.npy", allow_pickle=False)
        np.testing.assert_array_equal(written, scores(folder, 2, 1, masks, size))
    assert not list(folder.glob("*.partial"))
