"""`jal ask`: the next items to label, and the files for annotators."""

from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from typer import Option

from jal import session
from jal._core import files
from jal.cli import _mcal
from jal.cli._options import Folder, Json
from jal.cli._output import amount, mistakes_in_one_line, print_json, refuse
from jal.cli._plan import Confidence, MaxError, PriceOfTraining
from jal.mcal import Result

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
    everything: Annotated[
        bool,
        Option("--mcal", help="Until a model may label the rest, at minimum cost."),
    ] = False,
    price: Annotated[
        float | None, Option(help="With --mcal: of a label, in USD.")
    ] = None,
    max_error: MaxError = 0.05,
    training_price: PriceOfTraining = 0.0,
    test_size: Annotated[
        int | None, Option(min=1, help="Labels of its test set. Default: 5 %.")
    ] = None,
    confidence: Confidence = None,
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

    With --mcal all of the pool is labelled at minimum cost: a test set, batches that a
    model learns from, and at last what the model is not sure of. The same command goes
    on day by day, and writes the labels of all items when they are there.

    \b
      jal ask mylab --mcal --price 0.04 --training-price 0.0003 --max-error 0.05
    """
    options: dict[str, Any] = dict(price=price, confidence=confidence)
    if everything:
        why = "--mcal chooses by itself"
        refuse(why, beta=beta or None, test=test, another=another, guesses=guesses)
        options |= dict(max_error=max_error, training_price=training_price)
    else:
        refuse("it is of --mcal", test_size=test_size, **options)
    mine = session.resume(folder)
    # What was compiled for the last batch is there for the next one.
    cache = (folder / CACHE_FOLDER).absolute()
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    with files.progress_bar(1, 0, True, "batch") as bar:
        if everything:
            batch = _mcal.next_items(mine, k, num_test=test_size, **options)
        else:
            batch = mine.ask(k, beta=beta, test=test, another=another)
        bar.update(1)
    if isinstance(batch, Result):
        _mcal.show(mine, batch, as_json=as_json)
        return
    place = session.write_batch_files(mine, batch, image_url=image_url, guesses=guesses)
    _show(mine, batch, place, as_json)


def _show(mine: session.Session, batch: session.Batch, place: Path, as_json: bool):
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
        f"next: jal tell {mine.store.folder} {place / 'batch.csv'}"
    )
