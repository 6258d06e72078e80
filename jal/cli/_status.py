"""`jal status` and `jal report`: how far a session is."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jal._core import files
from jal.cli import _items
from jal.cli._output import check_folder, columns
from jal.session import Annotation, LabelStore, Status, spending, status_of


def show_status(folder: Path, *, as_json: bool) -> None:
    """`jal status`."""
    store = LabelStore(folder)
    found = status_of(store)
    if as_json:
        print(json.dumps(files.as_json(found)))
        return
    names = _items.names_of(folder)
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
                duration(a.seconds),
                duration(a.median_seconds),
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
    for item, said in said_of(store, found.disputed[:10]).items():
        print(f"disputed: {names[item]}: {said}")
    if found.disputed:
        print("settle them with jal tell --final")


def report(folder: Path, out: Path | None) -> None:
    """`jal report`: a page of HTML."""
    from jal.session import _report

    store, names = LabelStore(folder), _items.names_of(folder)
    out = folder / "report.html" if out is None else out
    check_folder(out)
    _report.write(out, _campaign(folder, store, names))
    print(f"wrote {out}")


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


def said_of(store: LabelStore, items: Iterable[int]) -> dict[int, str]:
    """What was said of some items, in a line each."""
    said: dict[int, list[Annotation]] = {int(item): [] for item in items}
    for answer in store.answers():
        if answer.item in said:
            said[answer.item].append(answer)
    return {item: _line(store, each) for item, each in said.items()}


def _campaign(folder: Path, store: LabelStore, names: list[str]):
    from jal.session._report import Campaign, Picture, Round

    found, labels, batches = status_of(store), store.labels(), store.batches()
    pictures = []
    if batches:
        last = batches[-1]
        try:
            images = _items.previews(folder, store, names, last.items[:60], 96)
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
    # What beta weighs, unless only the other was told.
    spend = {"seconds": spending(store, "seconds"), "cost": spending(store, "cost")}
    told = [name for name, curve in spend.items() if curve]
    unit = told[0] if len(told) == 1 else found.unit
    return Campaign(
        folder.absolute().name,
        found.num_items,
        found.classes,
        found.counts,
        rounds=[
            Round(r.batch, r.labels, *map(_finite, (r.accuracy, r.low, r.high)))
            for r in found.rounds
        ],
        spend=spend[unit],
        unit="money" if unit == "cost" else unit,
        annotators=[
            (a.who, a.labels, a.skipped, a.seconds, _finite(a.median_seconds))
            for a in found.annotators
        ],
        waiting=found.waiting,
        skipped=found.skipped,
        disputed=[(names[i], s) for i, s in said_of(store, found.disputed).items()],
        last_batch=pictures,
        next_cost=(
            _finite(found.waiting_cost)
            if found.waiting and unit == found.unit
            else None
        ),
    )


def _overview(found: Status) -> str:
    lines = [
        f"{found.labeled:,} of {found.num_items:,} items labelled to train on, "
        f"{found.tested:,} to measure accuracy; {found.waiting:,} waiting, "
        f"{found.skipped:,} skipped, {len(found.disputed):,} disputed",
        f"spent {duration(found.seconds)} of annotators, and "
        f"{found.cost:,.2f} in money",
    ]
    if np.isfinite(found.typical):
        lines.append(f"a label takes {amount(found.typical, found.unit)} (median)")
    if found.waiting and np.isfinite(found.waiting_cost):
        total = amount(found.waiting_cost, found.unit)
        lines.append(f"what is waiting is expected to take {total}")
    elif found.batch_size and np.isfinite(found.typical):
        total = amount(found.batch_size * found.typical, found.unit)
        lines.append(f"{found.batch_size} more are expected to take about {total}")
    if found.rounds and np.isfinite(found.rounds[-1].accuracy):
        last = found.rounds[-1]
        lines.append(
            f"accuracy with {last.labels:,} labels: {_percent(last.accuracy)} "
            f"({_interval(last)}, of {last.tested:,})"
        )
    elif not found.tested:
        lines.append("accuracy is not measured: jal ask --test chooses items for that")
    return "\n".join(lines)


def _line(store: LabelStore, said: list[Annotation]) -> str:
    return "; ".join(
        f"{a.annotator or '(nobody)'}: "
        + ("skip" if a.label is None else store.classes[a.label])
        + (" (final)" if a.final else "")
        for a in said
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if np.isfinite(share) else "-"


def _interval(measured) -> str:
    if not np.isfinite(measured.low):
        return "-"
    return f"{measured.low:.1%} to {measured.high:.1%}"


def amount(value: float, unit: str) -> str:
    """Time or money, as a person would write it."""
    if unit == "seconds":
        return duration(value)
    # A label may cost less than a cent.
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"


def duration(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
