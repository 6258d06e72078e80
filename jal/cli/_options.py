"""Options and arguments that several commands have."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

Folder = Annotated[Path, Argument(metavar="SESSION", help="The folder of the session.")]
Control = Annotated[
    str, Option(help="Name of the Choices tag, of a Label Studio interface of yours.")
]
Json = Annotated[bool, Option("--json", help="For machines.")]
# The defaults differ: where there are no images, jal score takes none.
SIZE = Option(min=12, help="Images are made this many pixels square. Default: 32.")


def by_its_name(name: str | None) -> str | None:
    """k-center by the names that papers give it."""
    return "k-center" if name in ("core-set", "coreset") else name
