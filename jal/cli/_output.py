"""What the commands print, and how they report mistakes."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from jal._core import files

# Rows of the closing tables.
SHOWN = 10

STDOUT = Path("-")
_WIDEST = 10_000


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


def print_json(**content: Any) -> None:
    print(json.dumps(files.as_json(content)))


def print_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    justify: Literal["left", "right"] = "right",
    shown: int | None = None,
) -> None:
    """Prints rows below their heads: plain text of any width where nobody looks."""
    rows = list(rows)
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDEST
    table = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for head in heads:
        table.add_column(head, justify=justify)
    for row in rows[:shown]:
        table.add_row(*map(str, row))
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
    if shown is not None and len(rows) > shown:
        print(f"... and {len(rows) - shown} more")


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


def amount(value: float, unit: str) -> str:
    """Time or money, as a person would write it."""
    if unit == "seconds":
        return duration(value)
    # A label may cost less than a cent.
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"


def duration(seconds: float) -> str:
    if seconds != seconds:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
