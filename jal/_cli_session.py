"""`jal init`, `ask`, `tell`, `status`, `export` and `report`: labelling with people."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jal import _cli_pool, annotations, files, label_studio
from jal._cli_output import check_folder, columns, write_csv
from jal._cli_pool import PoolFacts
from jal.label_store import Answer, LabelStore
from jal.session import UNITS, Batch, Session
from jal.status import Status, status_of

BATCHES_FOLDER, CACHE_FOLDER = "batches", "cache"
INTERFACE_FILE = "labeling.xml"
_PREVIEW = 256


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
    unit: str,
    seed: int,
) -> None:
    """`jal init`: reads the pool once, and makes the folder of a session."""
    # What an interrupted jal init left may be replaced: the store is made last.
    ours = (_cli_pool.POOL_FILE, _cli_pool.NAMES_FILE, INTERFACE_FILE)
    there = [path.name for path in folder.iterdir()] if folder.exists() else []
    if any(name not in ours and not name.endswith(".tmp") for name in there):
        raise ValueError(
            f"SESSION {folder} holds {sorted(there)[0]}; choose a new folder, or go on "
            "with a session that is there by jal ask"
        )
    if unit not in UNITS:
        raise ValueError(f"--unit {unit!r}; allowed are {' and '.join(UNITS)}")
    if strategy is not None and model is not None:
        raise ValueError("--strategy has no effect with --model, which has its own")
    names, x = _read_pool(pool, size, features is None)
    class_names = _read_classes(classes)
    if len(class_names) < 2:
        raise ValueError(
            f"--classes {classes!r} names {len(class_names)} class; give at least two "
            "names, separated by commas, or a .txt file with one a line"
        )
    if features is not None:
        x = _unit_length(_cli_pool.read_array(features, "--features"), "--features")
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
    annotations.Vocabulary(names, class_names)
    _check_names(names)
    interface = label_studio.config(class_names) + "\n"
    recipe = _cli_pool.recipe(facts, x, len(class_names))
    told = []
    if labels is not None:
        told = label_studio.read_any(labels, names=names, classes=class_names)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / _cli_pool.NAMES_FILE, names)
    _save_array(folder / _cli_pool.POOL_FILE, x)
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
) -> None:
    """`jal ask`: chooses a batch, and writes what annotators need."""
    names = _names(folder)
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
    print(
        f"batch {batch.number}: {len(batch.indices)} items"
        + (" chosen at random, to measure accuracy" if batch.purpose == "test" else "")
        + _expected(batch, session.store.facts["unit"])
    )
    print(f"wrote {place / 'batch.csv'} (fill in the column label, or skip)")
    print(f"wrote {place / 'tasks.json'} (for Label Studio, with labeling.xml)")
    print(f"next: jal tell {folder} {place / 'batch.csv'}")


def tell(folder: Path, path: Path, *, annotator: str, final: bool) -> None:
    """`jal tell`: takes a filled-in batch.csv, or an export of Label Studio."""
    store, names = LabelStore(folder), _names(folder)
    said = label_studio.read_any(path, names=names, classes=store.classes)
    said = [
        each if each.annotator else each._replace(annotator=annotator) for each in said
    ]
    told = store.tell(said, final=final)
    print(
        f"{told.new:,} new answers, {told.known:,} that were known"
        + (
            f"; {len(told.conflicts)} items were labelled otherwise before, and both "
            "are kept:"
            if told.conflicts
            else ""
        )
    )
    for item, said in _said(store, told.conflicts[:10]).items():
        print(f"  {names[item]}: {said}")
    if len(told.conflicts) > 10:
        print(f"  ... and {len(told.conflicts) - 10} more")
    found = status_of(store)
    print(
        f"{found.labeled + found.tested:,} of {found.num_items:,} items have a label, "
        f"{found.waiting:,} wait for one"
    )


def show_status(folder: Path, *, as_json: bool) -> None:
    """`jal status`."""
    store = LabelStore(folder)
    found = status_of(store)
    if as_json:
        print(json.dumps(files.as_json(found)))
        return
    names = _names(folder)
    print(_overview(found))
    if found.rounds:
        head = ("batch", "labels", "accuracy", "95 % interval", "tested")
        rows = [
            (
                r.batch,
                f"{r.labels:,}",
                _percent(r.accuracy),
                _interval(r),
                f"{r.tested:,}",
            )
            for r in found.rounds[-10:]
        ]
        print("\n" + columns([head, *rows], str.rjust))
    if found.annotators:
        head = ("annotator", "labels", "skipped", "time", "median", "cost")
        rows = [
            (
                a.who or "(nobody)",
                f"{a.labels:,}",
                f"{a.skipped:,}",
                _time(a.seconds),
                _time(a.median_seconds),
                f"{a.cost:,.2f}",
            )
            for a in found.annotators
        ]
        print("\n" + columns([head, *rows], str.rjust))
    counts = sorted(zip(found.counts, found.classes, strict=True), reverse=True)
    shown = [(f"{number:,}", name) for number, name in counts[:20]]
    print("\n" + columns([("labels", "class"), *shown], str.rjust))
    if len(counts) > 20:
        print(f"... and {len(counts) - 20} classes more")
    for item, said in _said(store, found.disputed[:10]).items():
        print(f"disputed: {names[item]}: {said}")
    if found.disputed:
        print("settle them with jal tell --final, by somebody who told no final answer")


def export(folder: Path, out: Path, *, predict: bool, everything: bool) -> None:
    """`jal export`: labels, or all that was said, or the model's guesses as well."""
    if predict and everything:
        raise ValueError("--predict and --annotations: choose one of them")
    check_folder(out)
    store, names = LabelStore(folder), _names(folder)
    if everything:
        said = [answer.annotation for answer in store.answers()]
        annotations.write_csv(out, said, names=names, classes=store.classes)
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
                    "model",
                    f"{probabilities[item, guess]:.4f}",
                )
            )
    write_csv(out, rows)
    by_people = int(np.sum(labels.label >= 0))
    print(
        f"wrote {out}: {by_people:,} labels of people"
        + (f", {len(rows) - 1 - by_people:,} of the model" if predict else "")
    )


def measured_errors(folder: Path) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Of each measured model its labels, margins [n] and whether right [n]."""
    store = LabelStore(folder)
    found = {}
    for batch in store.batches():
        if batch.detail.get("right"):
            margins, right = (np.array(batch.detail[n]) for n in ("margins", "right"))
            found[batch.detail["labels"]] = (batch.detail["labels"], margins, right)
    if not found:
        raise ValueError(
            f"SESSION {folder}: no model was measured yet; ask for a test batch (jal "
            f"ask {folder} --test -k 200), tell its labels, and ask for the next batch"
        )
    return [found[size] for size in sorted(found)]


def report(folder: Path, out: Path | None) -> None:
    """`jal report`: a page of HTML."""
    from jal import html_report

    store, names = LabelStore(folder), _names(folder)
    out = folder / "report.html" if out is None else out
    check_folder(out)
    html_report.write(out, _campaign(folder, store, names))
    print(f"wrote {out}")


def _campaign(folder: Path, store: LabelStore, names: list[str]):
    from jal.html_report import Campaign, Picture, Round

    found, labels, batches = status_of(store), store.labels(), store.batches()
    told = labels.seconds if found.unit == "seconds" else labels.cost
    amounts = np.nan_to_num(told[labels.order])
    spend = np.cumsum(amounts).tolist()
    pictures = []
    if batches:
        last = batches[-1]
        try:
            images = _previews(folder, store, names, last.items[:60], 96)
        except ValueError:
            images = None  # a page without pictures is better than none
        for place, item in enumerate(last.items.tolist()):
            label = int(labels.label[item])
            pictures.append(
                Picture(
                    item,
                    names[item],
                    store.classes[label] if label >= 0 else "",
                    _finite(last.scores[place]),
                    images[place] if images and place < len(images) else None,
                )
            )
    return Campaign(
        folder.absolute().name,
        found.num_items,
        found.classes,
        found.counts,
        rounds=[
            Round(r.batch, r.labels, *map(_finite, (r.accuracy, r.low, r.high)))
            for r in found.rounds
        ],
        spend=[(n + 1, total) for n, total in enumerate(spend)],
        unit="money" if found.unit == "cost" else found.unit,
        annotators=[
            (a.who, a.labels, a.skipped, a.seconds, _finite(a.median_seconds))
            for a in found.annotators
        ],
        waiting=found.waiting,
        skipped=found.skipped,
        disputed=[(names[i], s) for i, s in _said(store, found.disputed).items()],
        last_batch=pictures,
        next_cost=_finite(found.waiting_cost) if found.waiting else None,
    )


def _open(folder: Path) -> Session:
    store = LabelStore(folder)
    facts = PoolFacts(**store.facts["cli"])
    x = _cli_pool.read_array(folder / _cli_pool.POOL_FILE, "pool of the session")
    return Session.open(folder, x, _cli_pool.recipe(facts, x, len(store.classes)))


def _names(folder: Path) -> list[str]:
    LabelStore(folder)  # says if there is no session
    return json.loads((folder / _cli_pool.NAMES_FILE).read_text())


def _read_pool(pool: Path, size: int, decode: bool) -> tuple[list[str], np.ndarray]:
    if pool.is_dir():
        paths = _cli_pool.image_files(pool)
        names = [path.relative_to(pool).as_posix() for path in paths]
        if not decode:
            return names, np.zeros((len(names), 1))
        return names, _cli_pool.read_images(paths, size, True)
    if not pool.exists():
        raise ValueError(f"POOL {pool}: there is no such file or folder")
    x = _cli_pool.read_array(pool, "POOL")
    if x.ndim == 2:
        x = _unit_length(x, "POOL")
    elif x.ndim in (3, 4):
        x = x if x.dtype == np.uint8 else x.astype(np.float32)
        x = x[..., None] if x.ndim == 3 else x
    else:
        raise ValueError(
            f"POOL {pool} has shape {x.shape}; expected [N, D] features, or [N, H, W] "
            "or [N, H, W, C] images"
        )
    return [str(number) for number in range(len(x))], x


def _unit_length(x: np.ndarray, what: str) -> np.ndarray:
    if x.ndim != 2:
        raise ValueError(f"{what} has shape {x.shape}; expected features [N, D]")
    x = x.astype(np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _read_classes(text: str) -> list[str]:
    path = Path(text)
    if path.suffix == ".txt" and path.is_file():
        names = [line.strip() for line in path.read_text().splitlines()]
        return [name for name in names if name]
    return [name.strip() for name in text.split(",")]


def _absolute_model(model: str | None) -> str | None:
    if model is None or not model.rpartition(":")[0].endswith(".py"):
        return model
    place, _, name = model.rpartition(":")
    return f"{Path(place).absolute()}:{name}"


def _check_strategy(strategy: str, is_flat: bool) -> None:
    if strategy not in _cli_pool.STRATEGIES:
        raise ValueError(
            f"--strategy {strategy!r}; allowed are {', '.join(_cli_pool.STRATEGIES)}"
        )
    if is_flat and strategy in ("bald", "mean_std"):
        raise ValueError(
            f"--strategy {strategy} compares passes with dropout, and the linear model "
            "of features has none; take margin, entropy or alamp"
        )


def _save_array(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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
    annotations.write_batch(place / "batch.csv", items, names=names, columns=extra)
    if image_url is not None:
        images = [image_url.rstrip("/") + "/" + names[item] for item in items]
    else:
        arrays = _previews(folder, session.store, names, items, _PREVIEW)
        images = arrays and [
            label_studio.thumbnail(a, size=max(a.shape[:2])) for a in arrays
        ]
    tasks = label_studio.tasks(
        items, names, classes, images=images or None, probabilities=probabilities
    )
    files.write_json(place / "tasks.json", tasks)
    return place


def _check_told(folder: Path, path: Path, store: LabelStore, names: list[str]) -> None:
    """Somebody may have filled in the file that is to be written again."""
    if not path.exists():
        return
    typed = annotations.read_csv(path, names=names, classes=store.classes)
    known = {(a.annotation.item, a.annotation.label) for a in store.answers()}
    missing = sum((each.item, each.label) not in known for each in typed)
    if missing:
        raise ValueError(
            f"{path} holds {missing} answers that were not told, and would be written "
            f"anew; first: jal tell {folder} {path}"
        )


def _check_names(names: list[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"POOL has a file whose name is not UTF-8 ({name!r}); rename it"
            ) from error


def _previews(folder, store: LabelStore, names, items, size: int) -> list | None:
    """[H, W, ...] uint8 images of some items; None where they are no images."""
    facts = PoolFacts(**store.facts["cli"])
    source = Path(facts.source)
    items = [int(item) for item in items]
    if source.suffix != ".npy":
        if not source.is_dir():
            raise ValueError(
                f"{source}, the folder of the images, is not there any more; put it "
                "back, or say where Label Studio finds them by --image-url"
            )
        return [_cli_pool.preview(source / names[item], size) for item in items]
    # The session's own copy, unless that holds features.
    own = folder / _cli_pool.POOL_FILE
    images = _cli_pool.read_array(own if facts.features is None else source, "images")
    if len(images) != len(names):
        raise ValueError(f"{source} has {len(images)} items now, not {len(names)}")
    if images.ndim < 3 or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        return None
    images = [images[item] for item in items]
    if images and images[0].dtype != np.uint8:
        low, high = min(i.min() for i in images), max(i.max() for i in images)
        scale = 255 / (high - low) if high > low else 0
        images = [((i - low) * scale).astype(np.uint8) for i in images]
    times = max(1, size // max(images[0].shape[:2])) if images else 1
    return [np.repeat(np.repeat(i, times, axis=0), times, axis=1) for i in images]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(values: np.ndarray) -> list:
    return [f"{value:.6g}" if np.isfinite(value) else "" for value in values]


def _said(store: LabelStore, items: Iterable[int]) -> dict[int, str]:
    """What was said of some items, in a line each."""
    said: dict[int, list[Answer]] = {int(item): [] for item in items}
    for answer in store.answers():
        if answer.annotation.item in said:
            said[answer.annotation.item].append(answer)
    return {item: _line(store, each) for item, each in said.items()}


def _line(store: LabelStore, said: list[Answer]) -> str:
    return "; ".join(
        f"{a.annotation.annotator or '(nobody)'}: "
        + ("skip" if a.annotation.label is None else store.classes[a.annotation.label])
        + (" (final)" if a.final else "")
        for a in said
    )


def _expected(batch: Batch, unit: str) -> str:
    if not np.isfinite(batch.costs).all():
        return ""
    total = float(batch.costs.sum())
    amount = _time(total) if unit == "seconds" else f"{total:,.2f}"
    return f", expected to take {amount}" if unit == "seconds" else f", for {amount}"


def _overview(found: Status) -> str:
    lines = [
        f"{found.labeled:,} of {found.num_items:,} items labelled to train on, "
        f"{found.tested:,} to measure accuracy; {found.waiting:,} waiting, "
        f"{found.skipped:,} skipped, {len(found.disputed):,} disputed",
        f"spent {_time(found.seconds)} of annotators, and {found.cost:,.2f} in money",
    ]
    if np.isfinite(found.typical):
        each = (
            _time(found.typical) if found.unit == "seconds" else f"{found.typical:,.4g}"
        )
        lines.append(f"a label takes {each} (median)")
    if found.waiting and np.isfinite(found.waiting_cost):
        total = found.waiting_cost
        amount = _time(total) if found.unit == "seconds" else f"{total:,.2f}"
        lines.append(f"what is waiting is expected to take {amount}")
    if found.rounds and np.isfinite(found.rounds[-1].accuracy):
        last = found.rounds[-1]
        lines.append(
            f"accuracy with {last.labels:,} labels: {_percent(last.accuracy)} "
            f"({_interval(last)}, of {last.tested:,})"
        )
    elif not found.tested:
        lines.append("accuracy is not measured: jal ask --test chooses items for that")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{share:.1%}" if np.isfinite(share) else "-"


def _interval(measured) -> str:
    if not np.isfinite(measured.low):
        return "-"
    return f"{measured.low:.1%} to {measured.high:.1%}"


def _time(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _shape(x: np.ndarray) -> str:
    return " x ".join(map(str, x.shape[1:3]))
