"""`jal ask`: the next items to label, and the files for annotators."""

from typing import Annotated

import jax
import numpy as np
from typer import Option

from jal import session
from jal._core import files
from jal.cli._options import Folder, Json
from jal.cli._output import amount, mistakes_in_one_line, print_json

# In the folder of the session.
CACHE_FOLDER = "cache"


@mistakes_in_one_line("; nothing was chosen, ask again")
def ask(
    folder: Folder,
    k: Annotated[int, Option("-k", min=1, help="How many items.")] = 50,
    beta: Annotated[
        float, Option(help="Exponent of the cost in v = score / cost^beta, >= 0.")
    ] = 0.0,
    test: Annotated[
        bool, Option("--test", help="At random, to measure accuracy; never trained on.")
    ] = False,
    another: Annotated[
        bool, Option("--another", help="Beside a batch that is still open.")
    ] = False,
    image_url: Annotated[
        str | None,
        Option(
            help="Where Label Studio finds the images, such as "
            "/data/local-files/?d=photos; default: small copies in tasks.json."
        ),
    ] = None,
    guesses: Annotated[
        bool, Option("--guesses", help="Show annotators what the model expects.")
    ] = False,
    as_json: Json = False,
) -> None:
    r"""Choose the next items to label, and write the files for annotators.

    Trains on all labels told so far. Writes batch.csv, whose column label is to be
    filled in, and tasks.json for Label Studio. A batch that is not fully answered is
    written again, without what was answered; --another opens a further one.

    \b
    Example:
      jal ask mylab -k 50
      jal ask mylab -k 50 --beta 0.3    (information against annotation time)
      jal ask mylab --test -k 100
    """
    mine = session.resume(folder)
    # What was compiled for the last batch is there for the next one.
    cache = (folder / CACHE_FOLDER).absolute()
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    with files.progress_bar(1, 0, True, "batch") as bar:
        batch = mine.ask(k, beta=beta, test=test, another=another)
        bar.update(1)
    place = session.write_batch_files(mine, batch, image_url=image_url, guesses=guesses)
    unit, expected = mine.store.facts["unit"], float(batch.costs.sum())
    if as_json:
        print_json(
            batch=batch.number,
            purpose=batch.purpose,
            items=batch.indices,
            expected=expected,
            unit=unit,
            csv=str(place / "batch.csv"),
            tasks=str(place / "tasks.json"),
        )
        return
    text = f"batch {batch.number}: {len(batch.indices)} items"
    if batch.purpose == "test":
        text += " chosen at random, to measure accuracy"
    if np.isfinite(expected):
        text += ", expected to take " if unit == "seconds" else ", for "
        text += amount(expected, unit)
    print(
        f"{text}\n"
        f"wrote {place / 'batch.csv'} (fill in the column label, or skip)\n"
        f"wrote {place / 'tasks.json'} (for Label Studio, with labeling.xml)\n"
        f"next: jal tell {folder} {place / 'batch.csv'}"
    )
