"""`jal export`: labels, or all that was said, or the model's guesses as well."""

from pathlib import Path
from typing import Annotated

from typer import Option

from jal import session
from jal.cli._options import Folder, Json
from jal.cli._output import check_folder, mistakes_in_one_line, print_json


@mistakes_in_one_line()
def export(
    folder: Folder,
    out: Annotated[Path, Option(help="CSV file, replaced if it exists.")],
    predict: Annotated[
        bool, Option("--predict", help="The model labels what people did not.")
    ] = False,
    everything: Annotated[
        bool, Option("--annotations", help="All answers of all annotators.")
    ] = False,
    as_json: Json = False,
) -> None:
    r"""Write the labels to a CSV file: index, name, label, by, probability.

    \b
    Example:
      jal export mylab --out labels.csv
      jal export mylab --out all.csv --predict
      jal export mylab --out answers.csv --annotations
    """
    if predict and everything:
        raise ValueError("--predict and --annotations: choose one of them")
    check_folder(out)
    store = session.LabelStore(folder)
    if everything:
        said = store.answers()
        names = session.names_of(store)
        session.write_csv(out, said, names=names, classes=store.classes)
        found, text = {"answers": len(said)}, f"{len(said):,} answers"
    else:
        guessed = session.resume(store).predict() if predict else None
        people, model = session.export_labels(store, out, probabilities=guessed)
        found = {"by_people": people, "by_model": model}
        text = f"{people:,} labels of people"
        text += f", {model:,} of the model" if predict else ""
    if as_json:
        print_json(out=str(out), **found)
    else:
        print(f"wrote {out}: {text}")
