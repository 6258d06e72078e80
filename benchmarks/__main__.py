"""Runs the benchmarks and writes `benchmarks/results/<machine>.json`.

Every figure is a ratio of medians measured alternately in this one process, or a size
in bytes that the compiler states; absolute times only say what was compared.
"""

import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

import jax
import numpy as np
import typer

from benchmarks import loop
from experiments.cost_sensitive import commit, processor

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """A name for this machine that can be part of a file name."""
    device = jax.devices()[0]
    name = device.device_kind
    if device.platform == "cpu":
        name = f"{processor()} {os.cpu_count()} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main(
    repeats: int = typer.Option(9, help="Measurements of each; the median is taken."),
    full_run: bool = typer.Option(
        False, help="Also time a whole T = 48 run on MNIST (minutes; TFDS_DATA_DIR)."
    ),
) -> None:
    """Measures jal on this machine.

    Example: python -m benchmarks --repeats 9
    """
    started = time.time()
    rows = loop.measure(repeats, full_run=full_run)
    width = max(len(row["what"]) for row in rows)
    for row in rows:
        print(f"{row['what']:<{width}}  {row['value']:>10.3f} {row['unit']}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{machine()}.json"
    temporary = path.with_suffix(".tmp")
    content = {
        "command": f"python -m benchmarks {shlex.join(sys.argv[1:])}".strip(),
        "machine": machine(),
        "commit": commit(),
        "load_average_at_end": os.getloadavg(),
        "seconds": round(time.time() - started, 1),
        "versions": {"jax": jax.__version__, "numpy": np.__version__},
        "rows": rows,
    }
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)
    print(f"wrote {path}")


if __name__ == "__main__":
    typer.run(main)
