"""A session over files, as `jal init` makes it, and the files of its batches."""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from jal._core import files, references
from jal.session import _label_studio, _pool, _report
from jal.session._annotations import MODEL, Vocabulary, read_csv, write_batch
from jal.session._session import Batch, Recipe, Session, check_unit
from jal.session._status import said_of, spending, status_of
from jal.session._store import LabelStore, Told

POOL_FILE, NAMES_FILE, INTERFACE_FILE = "pool.npy", "names.json", "labeling.xml"
BATCHES_FOLDER = "batches"
REPORT_FILE = "report.html"
# Of tasks, and of the page: the longer side in pixels, and how many at most.
_PREVIEW = 256
_PICTURE, _PICTURES = 96, 60
# What a process that was killed leaves beside what it was writing.
_LEFT = re.compile(r"\.tmp(-journal)?$")
# Where a store keeps the facts of a pool of files: the path of what it was made of
# ("source"), and how it was begun ("features", "model", "strategy").
_FACTS = "cli"


def begin(
    folder: str | Path,
    pool: str | Path,
    *,
    classes: Sequence[str],
    features: str | Path | None = None,
    model: str | None = None,
    strategy: str | None = None,
    size: int = _pool.IMAGE_SIZE,
    labels: str | Path | None = None,
    control: str = _label_studio.CONTROL,
    unit: str = "seconds",
    seed: int = 0,
) -> Session:
    """Begins a session over files, as `jal init` does.

    Args:
      folder: a new one; receives everything, and a copy of what the model sees.
      pool: see `read_pool`.
      classes: C names.
      features: see `read_pool`.
      model: MODULE:FUNCTION or FILE.py:FUNCTION that returns a `Recipe`; by default
        `default_recipe`.
      strategy: see `default_recipe`.
      size: of the images of a folder, in pixels.
      labels: labels there are already: a file for `read_answers`.
      control: see `read_answers`.
      unit: "seconds" or "cost", what `beta` weighs.
      seed: of everything random.

    Returns:
      The session; `resume` opens it again.

    Raises:
      ValueError: an argument is not as described; then there is no session.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> np.save(place / "x.npy", np.eye(6))
    >>> mine = begin(place / "lab", place / "x.npy", classes=["cat", "dog"])
    >>> mine.status().num_items
    6
    """
    folder = Path(folder)
    # What an interrupted beginning left may be replaced: the store is made last.
    ours = (POOL_FILE, NAMES_FILE, INTERFACE_FILE)
    there = [path.name for path in folder.iterdir()] if folder.exists() else []
    others = [name for name in there if name not in ours and not _LEFT.search(name)]
    if others:
        raise ValueError(
            f"{folder} holds {sorted(others)[0]}; choose a new folder, or go on with a "
            "session that is there"
        )
    check_unit(unit)
    if strategy is not None and model is not None:
        raise ValueError("strategy has no effect with a model, which has its own")
    if len(classes) < 2:
        raise ValueError(f"classes={list(classes)}; give at least two names")
    names, x = _pool.read_pool(pool, size=size, features=features)
    facts = {
        "source": str(Path(pool).absolute()),
        "features": None if features is None else str(Path(features).absolute()),
        "model": None if model is None else references.absolute(model),
        "strategy": strategy or _pool.default_strategy(x),
    }
    Vocabulary(names, classes)
    interface = _label_studio.label_studio_config(classes) + "\n"
    recipe = _recipe(facts, x, len(classes))
    told = []
    if labels is not None:
        told = _label_studio.read_answers(
            labels, names=names, classes=classes, control=control
        )
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / NAMES_FILE, names)
    with files.writing(folder / POOL_FILE) as file:
        np.save(file, x)
    (folder / INTERFACE_FILE).write_text(interface)
    return Session.create(
        folder,
        x,
        recipe,
        classes=classes,
        seed=seed,
        unit=unit,
        facts={_FACTS: facts},
        told=told,
    )


def resume(folder: str | Path | LabelStore) -> Session:
    """Goes on with a session that `begin` or `jal init` made.

    Args:
      folder: of the session, or its store.

    Returns:
      The session.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is over arrays that only Python has (`Session.open` takes them), or
        damaged.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> np.save(place / "x.npy", np.eye(6))
    >>> _ = begin(place / "lab", place / "x.npy", classes=["cat", "dog"])
    >>> resume(place / "lab").store.classes
    ('cat', 'dog')
    """
    store = folder if isinstance(folder, LabelStore) else LabelStore(folder)
    if _FACTS not in store.facts:
        raise ValueError(
            f"{store.folder} was made from Python; open it there, with Session.open"
        )
    x = _pool.read_array(store.folder / POOL_FILE)
    return Session.open(store, x, _recipe(store.facts[_FACTS], x, len(store.classes)))


def names_of(store: LabelStore) -> list[str]:
    """How people call the items of a session.

    Args:
      store: of the session.

    Returns:
      [N] names: of image files, or numbers.

    >>> import tempfile
    >>> names_of(LabelStore.create(tempfile.mkdtemp(), num_items=2, classes="ab"))
    ['0', '1']
    """
    if _FACTS not in store.facts:
        return [str(number) for number in range(store.num_items)]
    return json.loads((store.folder / NAMES_FILE).read_text())


def write_batch_files(
    session: Session,
    batch: Batch,
    *,
    image_url: str | None = None,
    guesses: bool = False,
) -> Path:
    """Writes what annotators need: batch.csv, and tasks.json for Label Studio.

    Args:
      session: that asked.
      batch: what it asked.
      image_url: where Label Studio finds the images, such as
        "/data/local-files/?d=photos"; by default small copies stand in the file.
      guesses: show what the model expects.

    Returns:
      The folder of both files, in that of the session.

    Raises:
      ValueError: a file is there already and holds answers that were not told.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> np.save(place / "x.npy", np.eye(6))
    >>> mine = begin(place / "lab", place / "x.npy", classes=["cat", "dog"])
    >>> written = write_batch_files(mine, mine.ask(2))
    >>> written.name, (written / "batch.csv").read_text()[:16]
    ('0001', 'index,name,label')
    """
    store, names = session.store, names_of(session.store)
    place = store.folder / BATCHES_FOLDER / f"{batch.number:04d}"
    place.mkdir(parents=True, exist_ok=True)
    classes, items = store.classes, batch.indices.tolist()
    extra: dict[str, Any] = {"score": _rounded(batch.scores)}
    if np.isfinite(batch.costs).any():
        extra[f"expected_{store.facts['unit']}"] = _rounded(batch.costs)
    probabilities = None
    if guesses and (batch.predicted >= 0).all() and batch.purpose == "train":
        extra["guess"] = [classes[c] for c in batch.predicted]
        probabilities = np.zeros((len(items), len(classes)))
        probabilities[np.arange(len(items)), batch.predicted] = batch.confidence
    _check_told(place / "batch.csv", store, names)
    mark = _mark(store)
    write_batch(place / "batch.csv", items, names=names, columns=extra, pool=mark)
    if image_url is None:
        shown = previews(store, items, size=_PREVIEW)
        images = shown and [
            _label_studio.thumbnail(i, size=max(i.shape[:2])) for i in shown
        ]
    else:
        # The names of objects in a store are no URLs.
        is_store = re.match(r"(?!https?:)[a-z][-+.a-z0-9]*:", image_url)
        paths = [names[item] if is_store else quote(names[item]) for item in items]
        images = [f"{image_url.rstrip('/')}/{path}" for path in paths]
    tasks = _label_studio.label_studio_tasks(
        items,
        names,
        classes,
        images=images or None,
        probabilities=probabilities,
        pool=mark,
    )
    files.write_json(place / "tasks.json", tasks)
    return place


def tell_file(
    store: LabelStore,
    path: str | Path,
    *,
    annotator: str = "",
    final: bool = False,
    control: str = _label_studio.CONTROL,
) -> Told:
    r"""Takes labels from a filled-in batch.csv, or from an export of Label Studio.

    Args:
      store: of the session.
      path: the file.
      annotator: who said it, where the file does not say.
      final: settle what people said differently.
      control: see `read_answers`.

    Returns:
      `Told`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: something in it is wrong; then nothing was taken.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = LabelStore.create(
    ...     folder, num_items=3, classes=("cat", "dog"), facts={"x_crc32": 7}
    ... )
    >>> _ = (folder / "batch.csv").write_text("index,label\n2,dog\n")
    >>> tell_file(store, folder / "batch.csv", annotator="ann")
    Told(new=1, known=0, conflicts=())
    """
    said = _label_studio.read_answers(
        path,
        names=names_of(store),
        classes=store.classes,
        control=control,
        pool=_mark(store),
    )
    named = (a if a.annotator else a._replace(annotator=annotator) for a in said)
    return store.tell(named, final=final)


def export_labels(
    store: LabelStore, out: str | Path, *, probabilities: np.ndarray | None = None
) -> tuple[int, int]:
    """Writes the labels that hold to a CSV file: index, name, label, by, probability.

    Args:
      store: of the session.
      out: the file, replaced if it is there.
      probabilities: [N, C] of `Session.predict`: the model labels what people did not.

    Returns:
      How many labels are by people, and how many by the model.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = LabelStore.create(folder, num_items=3, classes=("cat", "dog"))
    >>> export_labels(store, folder / "labels.csv")
    (0, 0)
    """
    label = store.labels().label
    rows: list[tuple] = []
    for item, name in enumerate(names_of(store)):
        if label[item] >= 0:
            rows.append((item, name, store.classes[label[item]], "people", ""))
        elif probabilities is not None:
            guess = int(probabilities[item].argmax())
            share = f"{probabilities[item, guess]:.4f}"
            rows.append((item, name, store.classes[guess], MODEL, share))
    head = ("index", "name", "label", "by", "probability")
    files.write_table(Path(out), [head, *rows])
    by_people = int(np.sum(label >= 0))
    return by_people, len(rows) - by_people


def write_report(store: LabelStore, out: str | Path | None = None) -> Path:
    """Writes a page of HTML: learning curve, spend, classes, the last batch's images.

    Args:
      store: of the session.
      out: the file, replaced if it is there; by default report.html in the session.

    Returns:
      The file.

    Raises:
      ImportError: a library for the page is missing.

    >>> import tempfile
    >>> folder, unit = Path(tempfile.mkdtemp()), {"unit": "seconds"}
    >>> store = LabelStore.create(folder, num_items=3, classes="ab", facts=unit)
    >>> write_report(store).name
    'report.html'
    """
    out = store.folder / REPORT_FILE if out is None else Path(out)
    found, names = status_of(store), names_of(store)
    # What beta weighs, unless only the other was told.
    spend = {"seconds": spending(store, "seconds"), "cost": spending(store, "cost")}
    told = [name for name, curve in spend.items() if curve]
    unit = told[0] if len(told) == 1 else found.unit
    is_next = found.waiting and unit == found.unit
    next_cost = _known(found.waiting_cost) if is_next else None
    campaign = _report.Campaign(
        store.folder.absolute().name,
        found.num_items,
        found.classes,
        found.counts,
        rounds=[
            _report.Round(r.batch, r.labels, r.accuracy, r.low, r.high)
            for r in found.rounds
        ],
        spend=spend[unit],
        unit="money" if unit == "cost" else unit,
        annotators=[a[:-1] for a in found.annotators],
        waiting=found.waiting,
        skipped=found.skipped,
        disputed=[(names[i], s) for i, s in said_of(store, found.disputed).items()],
        last_batch=_last_pictures(store, names),
        next_cost=next_cost,
    )
    _report.write(out, campaign)
    return out


def previews(store: LabelStore, items: Sequence[int], *, size: int) -> list | None:
    """Pictures of some items of a session, for people.

    Args:
      store: of the session.
      items: [K] pool indices.
      size: the longer side of a picture, in pixels; at most, of image files, and at
        least half of it, of small arrays, which are enlarged.

    Returns:
      K arrays [H, W, 3] or [H, W, 1] uint8; None where the items are no images.

    Raises:
      ValueError: the images are not there any more.

    >>> import tempfile
    >>> store = LabelStore.create(tempfile.mkdtemp(), num_items=2, classes="ab")
    >>> previews(store, [0], size=64)
    """
    facts = store.facts.get(_FACTS)
    if facts is None:
        return None
    source = Path(facts["source"])
    if source.suffix != ".npy":
        if not source.is_dir():
            raise ValueError(
                f"{source}, the folder of the images, is not there any more; put it "
                "back, or say where Label Studio finds them by --image-url"
            )
        names = names_of(store)
        return [_pool.preview(source / names[item], size) for item in items]
    # The session's own copy, unless that holds features.
    own = store.folder / POOL_FILE
    images = _pool.read_array(own if facts["features"] is None else source)
    if len(images) != store.num_items:
        raise ValueError(f"{source} has {len(images)} items now, not {store.num_items}")
    if images.ndim < 3 or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        return None
    images = [images[item] for item in items]
    if images and images[0].dtype != np.uint8:
        low, high = min(i.min() for i in images), max(i.max() for i in images)
        images = [_pool.stretched(i, low, high).astype(np.uint8) for i in images]
    times = max(1, size // max(images[0].shape[:2])) if images else 1
    return [i.repeat(times, axis=0).repeat(times, axis=1) for i in images]


def _last_pictures(store: LabelStore, names: list[str]) -> list[_report.Picture]:
    """The items of the last batch, the first of them with images if there are any."""
    if not (batches := store.batches()):
        return []
    last, label = batches[-1], store.labels().label
    try:
        images = previews(store, last.items[:_PICTURES].tolist(), size=_PICTURE)
    except ValueError:
        images = None  # a page without pictures is better than none
    return [
        _report.Picture(
            item,
            names[item],
            store.classes[label[item]] if label[item] >= 0 else "",
            _known(score),
            image,
        )
        for item, score, image in itertools.zip_longest(
            last.items.tolist(), last.scores, images or []
        )
    ]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _recipe(facts: dict, x: np.ndarray, num_classes: int) -> Recipe:
    if facts["model"] is None:
        return _pool.default_recipe(x, num_classes, facts["strategy"])
    made = references.call(facts["model"], "model")
    if not isinstance(made, Recipe):
        raise ValueError(
            f"{facts['model']}() returned a {type(made).__name__}; expected "
            "jal.session.Recipe"
        )
    return made


def _check_told(path: Path, store: LabelStore, names: list[str]) -> None:
    """Somebody may have filled in the file that is to be written again."""
    if not path.exists():
        return
    typed = read_csv(path, names=names, classes=store.classes)
    known = {(answer.item, answer.label) for answer in store.answers()}
    missing = sum((each.item, each.label) not in known for each in typed)
    if missing:
        raise ValueError(
            f"{path} holds {missing} answers that were not told, and would be written "
            f"anew; first: jal tell {store.folder} {path}"
        )


def _mark(store: LabelStore) -> str:
    """Tells the files of this pool from those of another one with the same names."""
    return f"{store.facts['x_crc32']:08x}"


def _rounded(values: np.ndarray) -> list:
    return [f"{value:.6g}" if np.isfinite(value) else "" for value in values]
