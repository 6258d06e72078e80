import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

# Compiled in less than half of the time: what is computed is tested here, not how fast.
# The caller's flags come last, and so win. A flag that XLA does not know ends the
# process, so that they are for the release they were tried with (constraints.txt).
_QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_cpu_use_fusion_emitters=false"
    if jax.__version__.startswith("0.10.")
    else ""
)
os.environ["XLA_FLAGS"] = f"{_QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()

# [N] + [N, 1] silently makes [N, N]: in jal's code that is always a mistake.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def mnist_tfds_dir(tmp_path_factory):
    """A TFDS directory that holds MNIST: the user's own, or one prepared here."""
    own = os.environ.get("TFDS_DATA_DIR")
    if own and any(Path(own).expanduser().glob("mnist/[0-9]*/*.array_record*")):
        return Path(own).expanduser()
    shared = Path(__file__).resolve().parents[2] / "shared"
    script, data = shared / "tools" / "prepare_tfds.py", shared / "data"
    if not (script.is_file() and (data / "mnist").is_dir()):
        pytest.skip("MNIST is neither in TFDS_DATA_DIR nor in shared/data")
    made = tmp_path_factory.mktemp("tfds")
    subprocess.run([sys.executable, script, "prepare", data, made, "mnist"], check=True)
    return made


class Ended(NamedTuple):
    """How a command of the experiments ended."""

    status: int
    output: str


@pytest.fixture
def invoke(capsys):
    """Runs a command: (the program, arguments...) -> status and all that it printed."""

    def run(program, *arguments):
        status = 0
        try:
            program(list(map(str, arguments)))
        except SystemExit as end:
            status = end.code or 0
        return Ended(status, "".join(capsys.readouterr()))

    return run
