"""The command line: `jal score`, `select`, `plan`, `init`, `ask`, `tell`, ..."""

import importlib.metadata
import inspect
import os
import sys
from typing import Annotated

try:
    import rich  # noqa: F401
    import typer
except ImportError as missing:
    sys.exit(
        f"Error: the command line needs typer and rich ({missing}): pip install "
        "'jal[cli]'"
    )

from jal.cli._acquisitions import acquisitions
from jal.cli._ask import ask
from jal.cli._export import export
from jal.cli._hosts import CHILD, work_for_parent
from jal.cli._init import init
from jal.cli._plan import plan
from jal.cli._report import report
from jal.cli._score import score
from jal.cli._select import select
from jal.cli._status import status
from jal.cli._tell import tell


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"jal {importlib.metadata.version('jal')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_show_version,
        is_eager=True,
        help="Show the version and exit.",
    ),
]


def _jal(version: Version = False) -> None:
    """Deep active learning: which items of a pool to label next."""


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.callback()(_jal)
_LABEL = (init, ask, tell, status, export, report)
for _command in (score, select, plan, *_LABEL, acquisitions):
    # Docstrings are raw, and a line of \b begins a paragraph that is not wrapped.
    _help = (inspect.getdoc(_command) or "").replace("\\b", "\b")
    app.command(_command.__name__, help=_help)(_command)


def main() -> None:
    """Runs the command line with the arguments of this process.

    Raises:
      SystemExit: at the end, with the exit code.

    >>> from typer.testing import CliRunner
    >>> CliRunner().invoke(app, ["--version"]).stdout.split()[0]
    'jal'
    """
    if CHILD in os.environ:
        work_for_parent(app)
    else:
        app()
