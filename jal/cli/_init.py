"""`jal init`: begins to label a pool with people."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from jal import session
from jal.cli._options import SIZE, Control, Json, by_its_name
from jal.cli._output import mistakes_in_one_line, print_json

NewFolder = Annotated[
    Path, Argument(metavar="SESSION", help="A new folder for the session.")
]
PoolPath = Annotated[
    Path, Argument(metavar="POOL", help="A folder of images, or a .npy file.")
]
Classes = Annotated[
    str, Option(help="Names, separated by commas; or a .txt file, one a line.")
]
Features = Annotated[
    Path | None, Option(help="Features of the items, a .npy file [N, D].")
]
Model = Annotated[str | None, Option(help="MODULE:FUNCTION or FILE.py:FUNCTION.")]
StrategyName = Annotated[
    str | None,
    Option(
        callback=by_its_name,
        help=f"{', '.join(session.STRATEGIES)}. Default: bald of images, margin of "
        "features.",
    ),
]
Known = Annotated[
    Path | None, Option(help="Labels there are already, as jal tell takes.")
]
Unit = Annotated[str, Option(help="What --beta weighs: seconds, or cost.")]
Seed = Annotated[int, Option(min=0, help="Of everything random.")]


@mistakes_in_one_line("; begin again")
def init(
    folder: NewFolder,
    pool: PoolPath,
    classes: Classes,
    features: Features = None,
    model: Model = None,
    strategy: StrategyName = None,
    size: Annotated[int, SIZE] = session.IMAGE_SIZE,
    labels: Known = None,
    control: Control = session.CONTROL,
    unit: Unit = "seconds",
    seed: Seed = 0,
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
    x, store = made.x, made.store
    labeled = len({answer.item for answer in store.answers()})
    if as_json:
        print_json(items=len(x), classes=store.classes, labeled=labeled)
        return
    shape = " x ".join(map(str, x.shape[1:3]))
    what = f"{shape} features" if x.ndim == 2 else f"images of {shape}"
    named = strategy or session.default_strategy(x)
    chooses = f"a recipe of {model}" if model else named
    print(
        f"{len(x):,} items ({what}), {len(store.classes)} classes, {labeled:,} of them "
        f"labelled; chooses by {chooses}\nnext: jal ask {folder} -k 50"
    )


def _names(text: str) -> list[str]:
    path = Path(text)
    if path.suffix == ".txt" and path.is_file():
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
        return [name for name in names if name]
    return [name.strip() for name in text.split(",")]
