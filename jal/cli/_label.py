"""The commands of a labelling session, with their options and help."""

from pathlib import Path
from typing import Annotated

import typer

from jal.cli import _session as session
from jal.cli import _status as status
from jal.cli._output import mistakes_in_one_line
from jal.cli._pool import STRATEGIES
from jal.session import CONTROL

app = typer.Typer(rich_markup_mode=None)

Folder = Annotated[
    Path, typer.Argument(metavar="SESSION", help="The folder of the session.")
]
Control = Annotated[
    str,
    typer.Option(help="Name of the Choices tag, of a Label Studio interface of yours."),
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]

INIT_HELP = f"""Begin to label a pool with people.

POOL is a folder of images (also in folders of it), or a .npy file: images [N, H, W] or
[N, H, W, C], or features [N, D] of a network of yours, which a linear SVM then sees at
unit length. With --features the images are only shown to people.

Without --model the strategies are: {", ".join(STRATEGIES)}. --model FILE.py:FUNCTION
names a function that returns a jal.session.Recipe: your own learner and strategy.

\b
Example:
  jal init mylab photos/ --classes cat,dog,bird
  jal ask mylab --test -k 100       (labels that measure accuracy)
  jal tell mylab mylab/batches/0001/batch.csv
  jal ask mylab -k 50
  jal tell mylab export-of-label-studio.json
  jal status mylab
"""

ASK_HELP = """Choose the next items to label, and write the files for annotators.

Trains on all labels told so far. Writes batch.csv, whose column label is to be filled
in, and tasks.json for Label Studio. A batch that is not fully answered is written
again, without what was answered; --another opens a further one.

\b
Example:
  jal ask mylab -k 50
  jal ask mylab -k 50 --beta 0.3    (information against annotation time)
  jal ask mylab --test -k 100
"""

TELL_HELP = """Take labels: a filled-in batch.csv, or an export of Label Studio.

Telling the same twice changes nothing. A label that differs from an earlier one is kept
beside it; what most people said holds, and where that is undecided --final settles it.
Everybody has one vote: of what one person said differently the newest counts, as
Label Studio dates it. The word skip as label says that it could not be answered.

\b
Example:
  jal tell mylab mylab/batches/0002/batch.csv --annotator ann
  jal tell mylab project-1-at-2026-11-27.json
"""

EXPORT_HELP = """Write the labels to a CSV file: index, name, label, by, probability.

\b
Example:
  jal export mylab --out labels.csv
  jal export mylab --out all.csv --predict
  jal export mylab --out answers.csv --annotations
"""


@app.command("init", help=INIT_HELP)
def _init(
    folder: Annotated[
        Path, typer.Argument(metavar="SESSION", help="A new folder for the session.")
    ],
    pool: Annotated[
        Path, typer.Argument(metavar="POOL", help="A folder of images, or a .npy file.")
    ],
    classes: Annotated[
        str,
        typer.Option(help="Names, separated by commas; or a .txt file, one a line."),
    ],
    features: Annotated[
        Path | None, typer.Option(help="Features of the items, a .npy file [N, D].")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="MODULE:FUNCTION or FILE.py:FUNCTION.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Default: bald of images, margin of features.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=12, help="Images are made this many pixels square.")
    ] = 32,
    labels: Annotated[
        Path | None, typer.Option(help="Labels there are already, as jal tell takes.")
    ] = None,
    control: Control = CONTROL,
    unit: Annotated[
        str, typer.Option(help="What --beta weighs: seconds, or cost.")
    ] = "seconds",
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    as_json: Json = False,
) -> None:
    with mistakes_in_one_line("; begin again"):
        session.begin(
            folder,
            pool,
            classes=classes,
            features=features,
            model=model,
            strategy=strategy,
            size=size,
            labels=labels,
            control=control,
            unit=unit,
            seed=seed,
            as_json=as_json,
        )


@app.command("ask", help=ASK_HELP)
def _ask(
    folder: Folder,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 50,
    beta: Annotated[
        float, typer.Option(help="Exponent of the cost in v = score / cost^beta, >= 0.")
    ] = 0.0,
    test: Annotated[
        bool,
        typer.Option(
            "--test", help="At random, to measure accuracy; never trained on."
        ),
    ] = False,
    another: Annotated[
        bool, typer.Option("--another", help="Beside a batch that is still open.")
    ] = False,
    image_url: Annotated[
        str | None,
        typer.Option(
            help="Where Label Studio finds the images, such as "
            "/data/local-files/?d=photos; default: small copies in tasks.json."
        ),
    ] = None,
    guesses: Annotated[
        bool, typer.Option("--guesses", help="Show annotators what the model expects.")
    ] = False,
    as_json: Json = False,
) -> None:
    with mistakes_in_one_line("; nothing was chosen, ask again"):
        session.ask(
            folder,
            k,
            beta=beta,
            test=test,
            another=another,
            image_url=image_url,
            guesses=guesses,
            as_json=as_json,
        )


@app.command("tell", help=TELL_HELP)
def _tell(
    folder: Folder,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or JSON.")],
    annotator: Annotated[
        str, typer.Option(help="Who said it, where the file does not say.")
    ] = "",
    final: Annotated[
        bool, typer.Option("--final", help="Settle what people said differently.")
    ] = False,
    control: Control = CONTROL,
    as_json: Json = False,
) -> None:
    with mistakes_in_one_line():
        session.tell(
            folder,
            path,
            annotator=annotator,
            final=final,
            control=control,
            as_json=as_json,
        )


@app.command("status")
def _status(
    folder: Folder,
    as_json: Json = False,
) -> None:
    """Show labels, accuracy, time and money spent, and what is waiting.

    Example: jal status mylab
    """
    with mistakes_in_one_line():
        status.show_status(folder, as_json=as_json)


@app.command("export", help=EXPORT_HELP)
def _export(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="CSV file, replaced if it exists.")],
    predict: Annotated[
        bool, typer.Option("--predict", help="The model labels what people did not.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--annotations", help="All answers of all annotators.")
    ] = False,
    as_json: Json = False,
) -> None:
    with mistakes_in_one_line():
        session.export(
            folder, out, predict=predict, everything=everything, as_json=as_json
        )


@app.command("report")
def _report(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="Default: report.html in the session.")
    ] = None,
) -> None:
    """Write a page of HTML: learning curve, spend, classes, the last batch's images.

    Example: jal report mylab
    """
    with mistakes_in_one_line():
        status.report(folder, out)
