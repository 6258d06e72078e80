"""What jal picks is what it picked before its modules became packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
RECORD = json.loads((ROOT / "tests" / "picks.json").read_text())


@pytest.mark.slow
@pytest.mark.skipif(
    RECORD["jax"] != jax.__version__, reason=f"recorded with jax {RECORD['jax']}"
)
@pytest.mark.parametrize("part", ["mcal", "session"])
def test_the_picks_of_the_record(part, tmp_path):
    # In a process of its own, compiled as users do and not as the other tests.
    made = tmp_path / "picks.json"
    command = [sys.executable, "tests/picks.py", str(made), part]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    assert json.loads(made.read_text())[part] == RECORD[part]
