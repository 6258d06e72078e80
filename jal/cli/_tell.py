"""`jal tell`: takes labels."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from jal import session
from jal.cli._options import Control, Folder, Json
from jal.cli._output import SHOWN, mistakes_in_one_line, print_json


@mistakes_in_one_line()
def tell(
    folder: Folder,
    path: Annotated[Path, Argument(metavar="FILE", help="CSV or JSON.")],
    annotator: Annotated[
        str, Option(help="Who said it, where the file does not say.")
    ] = "",
    final: Annotated[
        bool, Option("--final", help="Settle what people said differently.")
    ] = False,
    control: Control = session.CONTROL,
    as_json: Json = False,
) -> None:
    r"""Take labels: a filled-in batch.csv, or an export of Label Studio.

    Telling the same twice changes nothing. A label that differs from an earlier one is
    kept beside it; what most people said holds, and where that is undecided --final
    settles it. Everybody has one vote: of what one person said differently the newest
    counts, as Label Studio dates it. The word skip as label says that it could not be
    answered.

    \b
    Example:
      jal tell mylab mylab/batches/0002/batch.csv --annotator ann
      jal tell mylab project-1-at-2026-11-27.json
    """
    store = session.LabelStore(folder)
    told = session.tell_file(
        store, path, annotator=annotator, final=final, control=control
    )
    if as_json:
        print_json(**told._asdict())
        return
    text = f"{told.new:,} new answers, {told.known:,} that were known"
    if told.conflicts:
        text += (
            f"; {len(told.conflicts)} items were labelled otherwise before, and both "
            "are kept:"
        )
    print(text)
    if told.conflicts:
        names, some = session.names_of(store), told.conflicts[:SHOWN]
        for item, said in session.said_of(store, some).items():
            print(f"  {names[item]}: {said}")
    if len(told.conflicts) > SHOWN:
        print(f"  ... and {len(told.conflicts) - SHOWN} more")
    labels = store.labels()
    print(
        f"{(labels.label >= 0).sum():,} of {store.num_items:,} items have a label, "
        f"{labels.is_waiting.sum():,} wait for one"
    )
