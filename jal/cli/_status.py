"""`jal status`: how far a session is."""

import numpy as np

from jal import session
from jal.cli._options import Folder, Json
from jal.cli._output import (
    SHOWN,
    amount,
    duration,
    mistakes_in_one_line,
    print_json,
    print_table,
)
from jal.session import Status

_CLASSES = 20


@mistakes_in_one_line()
def status(folder: Folder, as_json: Json = False) -> None:
    """Show labels, accuracy, time and money spent, and what is waiting.

    Example: jal status mylab
    """
    store = session.LabelStore(folder)
    found = session.status_of(store)
    if as_json:
        print_json(**found._asdict())
        return
    _print_overview(found)
    if found.rounds:
        heads = ("batch", "labels", "accuracy", "95 % interval", "tested")
        rows = [
            (r.batch, f"{r.labels:,}", *_accuracy(r), f"{r.tested:,}")
            for r in found.rounds[-SHOWN:]
        ]
        print()
        print_table(heads, rows)
    if found.annotators:
        heads = ("annotator", "labels", "skipped", "time", "median", "cost")
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
        print()
        print_table(heads, rows)
    counts = sorted(zip(found.counts, found.classes, strict=True), reverse=True)
    print()
    print_table(("labels", "class"), [(f"{n:,}", c) for n, c in counts[:_CLASSES]])
    if len(counts) > _CLASSES:
        print(f"... and {len(counts) - _CLASSES} classes more")
    names = session.names_of(store)
    for item, said in session.said_of(store, found.disputed[:SHOWN]).items():
        print(f"disputed: {names[item]}: {said}")
    if found.disputed:
        print("settle them with jal tell --final")


def _print_overview(found: Status) -> None:
    print(
        f"{found.labeled:,} of {found.num_items:,} items labelled to train on, "
        f"{found.tested:,} to measure accuracy; {found.waiting:,} waiting, "
        f"{found.skipped:,} skipped, {len(found.disputed):,} disputed\n"
        f"spent {duration(found.seconds)} of annotators, and {found.cost:,.2f} in money"
    )
    if np.isfinite(found.typical):
        print(f"a label takes {amount(found.typical, found.unit)} (median)")
    if found.waiting and np.isfinite(found.waiting_cost):
        total = amount(found.waiting_cost, found.unit)
        print(f"what is waiting is expected to take {total}")
    elif found.batch_size and np.isfinite(found.typical):
        total = amount(found.batch_size * found.typical, found.unit)
        print(f"{found.batch_size} more are expected to take about {total}")
    if found.rounds and np.isfinite(found.rounds[-1].accuracy):
        last = found.rounds[-1]
        share, interval = _accuracy(last)
        print(
            f"accuracy with {last.labels:,} labels: {share} ({interval}, of "
            f"{last.tested:,})"
        )
    elif not found.tested:
        print("accuracy is not measured: jal ask --test chooses items for that")


def _accuracy(measured: session.Measured) -> tuple[str, str]:
    """The accuracy and its interval."""
    if not np.isfinite(measured.accuracy):
        return "-", "-"
    return f"{measured.accuracy:.1%}", f"{measured.low:.1%} to {measured.high:.1%}"
