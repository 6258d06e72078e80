"""`jal report`: a page of HTML."""

from pathlib import Path
from typing import Annotated

from typer import Option

from jal import session
from jal.cli._options import Folder
from jal.cli._output import check_folder, mistakes_in_one_line


@mistakes_in_one_line()
def report(
    folder: Folder,
    out: Annotated[
        Path | None, Option(help="Default: report.html in the session.")
    ] = None,
) -> None:
    """Write a page of HTML: learning curve, spend, classes, the last batch's images.

    Example: jal report mylab
    """
    store = session.LabelStore(folder)
    if out is not None:
        check_folder(out)
    print(f"wrote {session.write_report(store, out)}")
