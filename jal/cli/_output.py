"""What the commands print and write, and how they report mistakes."""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from jal._core import files

# Rows of the closing tables.
SHOWN = 10

STDOUT = Path("-")


def refuse(why: str, **options: Any) -> None:
    """Raises ValueError if options are given that would have no effect."""
    given = [
        option(name)
        for name, value in options.items()
        if value is not None and value is not False
    ]
    if given:
        raise ValueError(f"{' and '.join(given)}: no effect, as {why}; leave it out")


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_folder(out: Path) -> None:
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """A CSV file that is either whole or not there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def print_json(**content: Any) -> None:
    print(json.dumps(files.as_json(content)))


def print_table(rows: list[tuple]) -> None:
    """Prints the first rows in columns, below their heads."""
    shown = rows[: SHOWN + 1]
    print(columns(shown, str.rjust))
    if len(rows) > len(shown):
        print(f"... and {len(rows) - len(shown)} more")


def columns(rows: list[tuple], justify: Callable[[str, int], str]) -> str:
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(justify, row, widths)).rstrip() for row in cells)


@contextlib.contextmanager
def mistakes_in_one_line(stopped: str = "") -> Iterator[None]:
    """Says what the user can put right, and leaves tracebacks to defects."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo(f"\nStopped{stopped}.", err=True)
        raise typer.Exit(130) from error


def kind(thing: Any) -> str:
    return f"a {type(thing).__name__}"
