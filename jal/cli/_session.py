"""`jal init`, `ask`, `tell` and `export`: labelling with people."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax
import numpy as np

from jal import session
from jal._core import files
from jal.cli import _items, _pool, _status
from jal.cli._output import check_folder, print_json, write_csv
from jal.cli._pool import PoolFacts
from jal.session import UNITS, Batch, LabelStore, Session, status_of

BATCHES_FOLDER, CACHE_FOLDER = "batches", "cache"
INTERFACE_FILE = "labeling.xml"
_PREVIEW = 256
# What a process that was killed leaves beside what it was writing.
_LEFT = re.compile(r"\.tmp(-journal)?$")


def begin(
    folder: Path,
    pool: Path,
    *,
    classes: str,
    features: Path | None,
    model: str | None,
    strategy: str | None,
    size: int,
    labels: Path | None,
    control: str,
    unit: str,
    seed: int,
    as_json: bool,
) -> None:
    """`jal init`: reads the pool once, and makes the folder of a session."""
    # What an interrupted jal init left may be replaced: the store is made last.
    ours = (_pool.POOL_FILE, _pool.NAMES_FILE, INTERFACE_FILE)
    there = [path.name for path in folder.iterdir()] if folder.exists() else []
    others = [name for name in there if name not in ours and not _LEFT.search(name)]
    if others:
        raise ValueError(
            f"SESSION {folder} holds {sorted(others)[0]}; choose a new folder, or go "
            "on with a session that is there by jal ask"
        )
    if unit not in UNITS:
        raise ValueError(f"--unit {unit!r}; allowed are {' and '.join(UNITS)}")
    if strategy is not None and model is not None:
        raise ValueError("--strategy has no effect with --model, which has its own")
    names, x = _items.read_pool(pool, size, features is None)
    class_names = _read_classes(classes)
    if len(class_names) < 2:
        raise ValueError(
            f"--classes {classes!r} names {len(class_names)} class; give at least two "
            "names, separated by commas, or a .txt file with one a line"
        )
    if features is not None:
        x = _items.unit_length(_pool.read_array(features, "--features"), "--features")
        if len(x) != len(names):
            raise ValueError(
                f"--features {features} has {len(x)} rows, POOL {pool} has "
                f"{len(names)} items"
            )
    is_flat = x.ndim == 2
    if strategy is None:
        strategy = "margin" if is_flat else "bald"
    facts = PoolFacts(
        str(pool.absolute()),
        None if features is None else str(features.absolute()),
        _absolute_model(model),
        strategy,
    )
    _check_strategy(strategy, is_flat)
    session.Vocabulary(names, class_names)
    _items.check_names(names)
    interface = session.label_studio_config(class_names) + "\n"
    recipe = _pool.recipe(facts, x, len(class_names))
    told = []
    if labels is not None:
        told = session.read_answers(
            labels, names=names, classes=class_names, control=control
        )
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / _pool.NAMES_FILE, names)
    _items.save_array(folder / _pool.POOL_FILE, x)
    (folder / INTERFACE_FILE).write_text(interface)
    Session.create(
        folder,
        x,
        recipe,
        classes=class_names,
        seed=seed,
        unit=unit,
        facts={"cli": facts._asdict()},
        told=told,
    )
    if as_json:
        labeled = len({annotation.item for annotation in told})
        print_json(items=len(names), classes=class_names, labeled=labeled)
        return
    what = f"{x.shape[1]} features" if is_flat else f"images of {_shape(x)}"
    print(
        f"{len(names):,} items ({what}), {len(class_names)} classes, "
        f"{len({a.item for a in told}):,} of them labelled; chooses by "
        f"{'a recipe of ' + model if model else strategy}"
    )
    print(f"next: jal ask {folder} -k 50")


def ask(
    folder: Path,
    k: int,
    *,
    beta: float,
    test: bool,
    another: bool,
    image_url: str | None,
    guesses: bool,
    as_json: bool,
) -> None:
    """`jal ask`: chooses a batch, and writes what annotators need."""
    names = _items.names_of(folder)
    # What was compiled for the last batch is there for the next one.
    jax.config.update(
        "jax_compilation_cache_dir", str((folder / CACHE_FOLDER).absolute())
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    session = _open(folder)
    with files.progress_bar(1, 0, True, "batch") as bar:
        batch = session.ask(k, beta=beta, test=test, another=another)
        bar.update(1)
    place = _write_batch(folder, session, batch, names, image_url, guesses)
    if as_json:
        print_json(
            batch=batch.number,
            purpose=batch.purpose,
            items=batch.indices,
            expected=float(batch.costs.sum()),
            unit=session.store.facts["unit"],
            csv=str(place / "batch.csv"),
            tasks=str(place / "tasks.json"),
        )
        return
    print(
        f"batch {batch.number}: {len(batch.indices)} items"
        + (" chosen at random, to measure accuracy" if batch.purpose == "test" else "")
        + _expected(batch, session.store.facts["unit"])
    )
    print(f"wrote {place / 'batch.csv'} (fill in the column label, or skip)")
    print(f"wrote {place / 'tasks.json'} (for Label Studio, with labeling.xml)")
    print(f"next: jal tell {folder} {place / 'batch.csv'}")


def tell(
    folder: Path,
    path: Path,
    *,
    annotator: str,
    final: bool,
    control: str,
    as_json: bool,
) -> None:
    """`jal tell`: takes a filled-in batch.csv, or an export of Label Studio."""
    store, names = LabelStore(folder), _items.names_of(folder)
    said = session.read_answers(
        path, names=names, classes=store.classes, control=control, pool=_mark(store)
    )
    said = [
        each if each.annotator else each._replace(annotator=annotator) for each in said
    ]
    told = store.tell(said, final=final)
    if as_json:
        print_json(**told._asdict())
        return
    print(
        f"{told.new:,} new answers, {told.known:,} that were known"
        + (
            f"; {len(told.conflicts)} items were labelled otherwise before, and both "
            "are kept:"
            if told.conflicts
            else ""
        )
    )
    for item, said in _status.said_of(store, told.conflicts[:10]).items():
        print(f"  {names[item]}: {said}")
    if len(told.conflicts) > 10:
        print(f"  ... and {len(told.conflicts) - 10} more")
    found = status_of(store)
    print(
        f"{found.labeled + found.tested:,} of {found.num_items:,} items have a label, "
        f"{found.waiting:,} wait for one"
    )


def export(
    folder: Path, out: Path, *, predict: bool, everything: bool, as_json: bool
) -> None:
    """`jal export`: labels, or all that was said, or the model's guesses as well."""
    if predict and everything:
        raise ValueError("--predict and --annotations: choose one of them")
    check_folder(out)
    store, names = LabelStore(folder), _items.names_of(folder)
    if everything:
        said = store.answers()
        session.write_csv(out, said, names=names, classes=store.classes)
        if as_json:
            print_json(out=str(out), answers=len(said))
        else:
            print(f"wrote {out}: {len(said):,} answers")
        return
    labels = store.labels()
    rows: list[tuple] = [("index", "name", "label", "by", "probability")]
    probabilities = _open(folder).predict() if predict else None
    for item, name in enumerate(names):
        label = int(labels.label[item])
        if label >= 0:
            rows.append((item, name, store.classes[label], "people", ""))
        elif probabilities is not None:
            guess = int(probabilities[item].argmax())
            rows.append(
                (
                    item,
                    name,
                    store.classes[guess],
                    session.MODEL,
                    f"{probabilities[item, guess]:.4f}",
                )
            )
    write_csv(out, rows)
    by_people = int(np.sum(labels.label >= 0))
    if as_json:
        by_model = len(rows) - 1 - by_people
        print_json(out=str(out), by_people=by_people, by_model=by_model)
        return
    print(
        f"wrote {out}: {by_people:,} labels of people"
        + (f", {len(rows) - 1 - by_people:,} of the model" if predict else "")
    )


def _open(folder: Path) -> Session:
    store = LabelStore(folder)
    facts = PoolFacts(**store.facts["cli"])
    x = _pool.read_array(folder / _pool.POOL_FILE, "pool of the session")
    return Session.open(folder, x, _pool.recipe(facts, x, len(store.classes)))


def _read_classes(text: str) -> list[str]:
    path = Path(text)
    if path.suffix == ".txt" and path.is_file():
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
        return [name for name in names if name]
    return [name.strip() for name in text.split(",")]


def _absolute_model(model: str | None) -> str | None:
    if model is None or not model.rpartition(":")[0].endswith(".py"):
        return model
    place, _, name = model.rpartition(":")
    return f"{Path(place).absolute()}:{name}"


def _check_strategy(strategy: str, is_flat: bool) -> None:
    if strategy not in _pool.STRATEGIES:
        raise ValueError(
            f"--strategy {strategy!r}; allowed are {', '.join(_pool.STRATEGIES)}"
        )
    if is_flat and strategy in ("bald", "mean_std"):
        raise ValueError(
            f"--strategy {strategy} compares passes with dropout, and the linear model "
            "of features has none; take margin, entropy or alamp"
        )


def _write_batch(folder, session, batch: Batch, names, image_url, guesses) -> Path:
    place = folder / BATCHES_FOLDER / f"{batch.number:04d}"
    place.mkdir(parents=True, exist_ok=True)
    extra: dict[str, Any] = {"score": _rounded(batch.scores)}
    if np.isfinite(batch.costs).any():
        extra[f"expected_{session.store.facts['unit']}"] = _rounded(batch.costs)
    classes, items = session.store.classes, batch.indices.tolist()
    probabilities = None
    if guesses and (batch.predicted >= 0).all() and batch.purpose == "train":
        extra["guess"] = [classes[c] for c in batch.predicted]
        probabilities = np.zeros((len(items), len(classes)))
        probabilities[np.arange(len(items)), batch.predicted] = batch.confidence
    _check_told(folder, place / "batch.csv", session.store, names)
    mark = _mark(session.store)
    session.write_batch(
        place / "batch.csv", items, names=names, columns=extra, pool=mark
    )
    if image_url is not None:
        # The names of objects in a store are no URLs.
        is_store = re.match(r"(?!https?:)[a-z][-+.a-z0-9]*:", image_url)
        quoted = lambda name: name if is_store else quote(name)
        images = [image_url.rstrip("/") + "/" + quoted(names[item]) for item in items]
    else:
        arrays = _items.previews(folder, session.store, names, items, _PREVIEW)
        images = arrays and [
            session.thumbnail(a, size=max(a.shape[:2])) for a in arrays
        ]
    tasks = session.label_studio_tasks(
        items,
        names,
        classes,
        images=images or None,
        probabilities=probabilities,
        pool=mark,
    )
    files.write_json(place / "tasks.json", tasks)
    return place


def _check_told(folder: Path, path: Path, store: LabelStore, names: list[str]) -> None:
    """Somebody may have filled in the file that is to be written again."""
    if not path.exists():
        return
    typed = session.read_csv(path, names=names, classes=store.classes)
    known = {(answer.item, answer.label) for answer in store.answers()}
    missing = sum((each.item, each.label) not in known for each in typed)
    if missing:
        raise ValueError(
            f"{path} holds {missing} answers that were not told, and would be written "
            f"anew; first: jal tell {folder} {path}"
        )


def _mark(store: LabelStore) -> str:
    return f"{store.facts['x_crc32']:08x}"


def _rounded(values: np.ndarray) -> list:
    return [f"{value:.6g}" if np.isfinite(value) else "" for value in values]


def _expected(batch: Batch, unit: str) -> str:
    if not np.isfinite(batch.costs).all():
        return ""
    total = _status.amount(float(batch.costs.sum()), unit)
    return f", expected to take {total}" if unit == "seconds" else f", for {total}"


def _shape(x: np.ndarray) -> str:
    return " x ".join(map(str, x.shape[1:3]))
