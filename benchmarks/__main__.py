"""Runs the benchmarks and writes `benchmarks/results/<machine>.json`.

What is compared is measured in turns in one process, on the same inputs. Each case has
a process of its own, so that no library's threads disturb another case.
"""

import enum
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from tqdm import tqdm

from benchmarks import (
    acquisition,
    adversarial,
    batch_selection,
    error_laws,
    large_pool,
    linear_svm,
    loop,
    mc_dropout,
    peers,
)
from experiments.common.runs import commit, processor

RESULTS = Path(__file__).parent / "results"
CASES = {
    "loop": loop.measure,
    "acquisition": acquisition.measure,
    "mc-dropout": mc_dropout.measure,
    "batch-selection": batch_selection.measure,
    "adversarial": adversarial.measure,
    "error-laws": error_laws.measure,
    "linear-svm": linear_svm.measure,
    "large-pool": large_pool.measure,
    "devices": large_pool.measure_devices,
}
Case = enum.StrEnum("Case", {name.replace("-", "_"): name for name in CASES})


def machine() -> str:
    """A name for this machine that can be part of a file name."""
    device = jax.devices()[0]
    name = device.device_kind
    if device.platform == "cpu":
        name = f"{processor()} {os.cpu_count()} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main(
    cases: Annotated[
        list[Case] | None, typer.Argument(help="What to measure; all if left out.")
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Measurements of each; the median is taken.")
    ] = 9,
    full_run: Annotated[
        bool,
        typer.Option(
            help="loop: also a whole T = 48 run on MNIST (minutes; TFDS_DATA_DIR)."
        ),
    ] = False,
) -> None:
    """Measures jal on this machine, beside the libraries that are installed.

    Example: python -m benchmarks acquisition mc-dropout --repeats 9
    """
    names, failed = [str(case) for case in cases or CASES], []
    path = RESULTS / f"{machine()}.json"
    if len(names) == 1:
        measure(names[0], repeats, full_run)
    else:
        options = ["--repeats", str(repeats), *(["--full-run"] * full_run)]
        for name in tqdm(names, desc="cases", unit="case"):
            command = [sys.executable, "-m", "benchmarks", name, *options]
            if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
                failed.append(name)
    if len(failed) < len(names):
        records = json.loads(path.read_text())["cases"]
        done = [name for name in names if name not in failed]
        print(table([row for name in done for row in records[name]["rows"]]))
        print(f"wrote {path}")
    if failed:
        raise SystemExit(f"failed, and left as they were: {', '.join(failed)}")


def measure(case: str, repeats: int, full_run: bool) -> Path:
    """Measures one case and puts it into this machine's file."""
    started, start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.time()
    load, code = os.getloadavg(), commit()
    more = {"full_run": True} if full_run and case == "loop" else {}
    rows = CASES[case](repeats, **more)
    record = {
        "command": f"python -m benchmarks {shlex.join(sys.argv[1:])}".strip(),
        "commit": code,
        "started": started,
        "seconds": round(time.time() - start, 1),
        "load_average": {"start": load, "end": os.getloadavg()},
        "versions": {"jax": jax.__version__, "numpy": np.__version__}
        | peers.versions(),
        "rows": rows,
    }
    path = RESULTS / f"{machine()}.json"
    merge(path, case, record)
    return path


def merge(path: Path, case: str, record: dict) -> None:
    """Replaces what a file says of one case, and leaves the others as they are."""
    content = json.loads(path.read_text()) if path.exists() else {}
    cases = content.get("cases", {}) | {case: record}
    content = {"machine": machine(), "cases": {n: cases[n] for n in sorted(cases)}}
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


def table(rows: list[dict]) -> str:
    """One line a row: what, who, how much, its ratio to jal's, the measurements."""

    def cells(row):
        value = "" if row["value"] is None else f"{row['value']:,.5g}"
        ratio = f"{row['ratio']:.4g} x jal" if "ratio" in row else ""
        repeats = f"n={row['repeats']}" if "repeats" in row else ""
        end = "  ".join(filter(None, (repeats, row.get("note", ""))))
        return row["what"], row.get("by", ""), value, row["unit"], ratio, end

    lines = [cells(row) for row in rows]
    widths = [max(map(len, column), default=0) for column in zip(*lines, strict=True)]
    right = {2, 4}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if position in right else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    typer.run(main)
