"""`jal init`: begins to label a pool with people."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from jal import session
from jal.cli._options import SIZE, Control, Json, by_its_name
from jal.cli._output import mistakes_in_one_line, print_json


@mistakes_in_one_line("; begin again")
def init(
    folder: Annotated[
        Path, Argument(metavar="SESSION", help="A new folder for the session.")
    ],
    pool: Annotated[
        Path, Argument(metavar="POOL", help="A folder of images, or a .npy file.")
    ],
    classes: Annotated[
        str, Option(help="Names, separated by commas; or a .txt file, one a line.")
    ],
    features: Annotated[
        Path | None, Option(help="Features of the items, a .npy file [N, D].")
    ] = None,
    model: Annotated[
        str | None, Option(help="MODULE:FUNCTION or FILE.py:FUNCTION.")
    ] = None,
    strategy: Annotated[
        str | None,
        Option(
            callback=by_its_name,
            help=f"{', '.join(session.STRATEGIES)}. Default: bald of images, margin of "
            "features.",
        ),
    ] = None,
    size: Annotated[int, SIZE] = session.IMAGE_SIZE,
    labels: Annotated[
        Path | None, Option(help="Labels there are already, as jal tell takes.")
    ] = None,
    control: Control = session.CONTROL,
    unit: Annotated[
        str, Option(help="What --beta weighs: seconds, or cost.")
    ] = "seconds",
    seed: Annotated[int, Option(min=0, help="Of everything random.")] = 0,
    as_json: Json = False,
) -> None:
    r"""Begin to label a pool with people.

    POOL is a folder of images (also in folders of it), or a .npy file: images [N, H, W]
    or [N, H, W, C], or features [N, D] of a network of yours, which a linear SVM then
    sees at unit length. With --features the images are only shown to people.

    --model FILE.py:FUNCTION names a function that returns a jal.session.Recipe: your
    own learner and strategy.

    \b
    Example:
      jal init mylab photos/ --classes cat,dog,bird
      jal ask mylab --test -k 100       (labels that measure accuracy)
      jal tell mylab mylab/batches/0001/batch.csv
      jal ask mylab -k 50
      jal tell mylab export-of-label-studio.json
      jal status mylab
    """
    made = session.begin(
        folder,
        pool,
        classes=_names(classes),
        features=features,
        model=model,
        strategy=strategy,
        size=size,
        labels=labels,
        control=control,
        unit=unit,
        seed=seed,
    )
    if as_json:
        labeled = _num_told(made)
        print_json(items=len(made.x), classes=made.store.classes, labeled=labeled)
        return
    named = strategy or session.default_strategy(made.x)
    print(f"{_facts(made)}; chooses by {f'a recipe of {model}' if model else named}")
    print(f"next: jal ask {folder} -k 50")


def _facts(made: session.Session) -> str:
    x, shape = made.x, " x ".join(map(str, made.x.shape[1:3]))
    what = f"{shape} features" if x.ndim == 2 else f"images of {shape}"
    number = len(made.store.classes)
    return (
        f"{len(x):,} items ({what}), {number} classes, {_num_told(made):,} of them "
        "labelled"
    )


def _num_told(made: session.Session) -> int:
    return len({answer.item for answer in made.store.answers()})


def _names(text: str) -> list[str]:
    path = Path(text)
    if path.suffix == ".txt" and path.is_file():
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
        return [name for name in names if name]
    return [name.strip() for name in text.split(",")]
