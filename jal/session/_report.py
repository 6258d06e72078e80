"""A report of a labelling campaign: one HTML file that needs nothing else.

It holds no script and loads nothing, and what people typed or files are called is only
ever text in it. matplotlib and Pillow are imported inside the functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jal.session import _report_pictures as pictures
from jal.session._report_style import CSS
from jal.session._report_words import (
    UNKNOWN,
    amount,
    duration,
    escape,
    finite,
    interval,
    number,
    percent,
    shown,
    text,
)

# Most of each that is shown; the rest is counted.
PICTURES = 60
CLASSES = 200
ROWS = 100

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


class Round(NamedTuple):
    """What a model was worth, and how many labels it had learned from.

    Attributes:
      number: of the round, from 0.
      labels: how many labels the model was trained on.
      accuracy: on held-out labels, in [0, 1], or None where unknown.
      low: lower end of an interval of the accuracy, or None.
      high: upper end, or None.
    """

    number: int
    labels: int
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None


class Picture(NamedTuple):
    """An item of a batch; its `name` is a file name, or whatever else it is known by.

    Attributes:
      item: its pool index.
      label: name of its class, or "" while it has none.
      score: what it was chosen by, or None.
      image: [H, W] or [H, W, channels] uint8 of 1, 3 (RGB) or 4 (RGBA) channels, or
        None.
    """

    item: int
    name: str
    label: str = ""
    score: float | None = None
    image: Any = None


class Campaign(NamedTuple):
    """What a report tells, as plain data.

    Attributes:
      title: of the report.
      pool: N, the number of items.
      classes: [C] names.
      counts: [C] labels of each class.
      rounds: in their order.
      spend: (labels told so far, what they cost in all), in `unit`, in their order.
      unit: "seconds", "money" or any other word.
      annotators: (name, labels, items skipped, seconds in all or None, median seconds
        of a label or None) each.
      waiting: number of items asked for and not answered yet.
      skipped: number of items that were skipped.
      disputed: (name of the item, what was said of it) each.
      last_batch: the newest items asked for.
      next_cost: what the open batch is predicted to cost, in `unit`, or None.
      notes: sentences to end with.
    """

    title: str
    pool: int
    classes: Sequence[str]
    counts: Sequence[int]
    rounds: Sequence[Round] = ()
    spend: Sequence[tuple[int, float]] = ()
    unit: str = "seconds"
    annotators: Sequence[tuple[str, int, int, float | None, float | None]] = ()
    waiting: int = 0
    skipped: int = 0
    disputed: Sequence[tuple[str, str]] = ()
    last_batch: Sequence[Picture] = ()
    next_cost: float | None = None
    notes: Sequence[str] = ()


def render(campaign: Campaign) -> str:
    """Makes the report: the same campaign gives the same text.

    It reads well on a phone, on paper, and in light and dark. Long names are cut, and
    characters that are invisible or turn the direction of writing are shown as U+FFFD.

    Args:
      campaign: what to tell. Of a batch the first 60 items are shown, of the classes
        the 200 with the most labels, of tables 100 rows.

    Returns:
      An HTML document, to be stored as UTF-8.

    Raises:
      ValueError: classes and counts of different lengths, or an image of another shape
        or dtype than `Picture` allows.
      ImportError: there is something to draw and matplotlib is missing, or an image
        and Pillow is missing.

    Example:
      >>> page = render(Campaign("Birds <1>", 5_000, ["owl", "wren"], [7, 5]))
      >>> "<h1><bdi>Birds &lt;1&gt;</bdi></h1>" in page, "of 5,000 (0.2%)" in page
      (True, True)
    """
    if len(campaign.classes) != len(campaign.counts):
        raise ValueError(
            f"campaign.counts has {len(campaign.counts)} entries for "
            f"{len(campaign.classes)} classes; give one a class"
        )
    parts = (
        _figures(campaign),
        _next_step(campaign),
        '<div class="pair">',
        _learning(campaign),
        _spending(campaign),
        "</div>",
        _balance(campaign),
        _annotators(campaign),
        _disputed(campaign),
        _last_batch(campaign),
        _notes(campaign),
    )
    title = escape(shown(campaign.title, 120))
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{title}</title>",
            f"<style>{CSS}</style>",
            "</head>",
            "<body>",
            f"<header><h1><bdi>{title}</bdi></h1></header>",
            "<main>",
            *(part for part in parts if part),
            "</main>",
            "</body>",
            "</html>\n",
        )
    )


def write(path: str | os.PathLike, campaign: Campaign) -> None:
    """Writes the report; the file is either whole or not there.

    Args:
      path: where to; missing folders are made. It is written under a temporary name
        first, and renamed.
      campaign: what to tell.

    Raises:
      ValueError: as `render` does; a report that was there is left as it is.

    Example:
      >>> import tempfile
      >>> path = Path(tempfile.mkdtemp(), "report.html")
      >>> write(path, Campaign("Birds", 5_000, ["owl", "wren"], [0, 0]))
      >>> path.read_text(encoding="utf-8")[:15]
      '<!DOCTYPE html>'
    """
    page = render(campaign).encode("utf-8")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# --- sections -------------------------------------------------------------------------


def _figures(campaign: Campaign) -> str:
    """The head line: the few numbers that people look for first."""
    labelled = sum(campaign.counts)
    share = f" ({percent(labelled / campaign.pool)})" if campaign.pool else ""
    figures = [("Labelled", f"{labelled:,}", f"of {campaign.pool:,}{share}")]
    tested = _tested(campaign.rounds)
    if tested:
        last = tested[-1]
        is_known = last.low is not None and last.high is not None
        figures.append(
            (
                "Accuracy",
                percent(last.accuracy),
                f"{interval(last.low, last.high)} on held-out labels"
                if is_known
                else "on held-out labels",
            )
        )
    else:
        figures.append(("Accuracy", UNKNOWN, "no held-out labels yet"))
    spend = _spend(campaign)
    total = amount(spend[-1][1], campaign.unit) if spend else UNKNOWN
    what = {"seconds": "Time spent", "money": "Money spent"}
    note = "" if spend else "nothing recorded"
    figures.append((what.get(campaign.unit, "Spent"), total, note))
    waiting = ""
    if campaign.next_cost is not None and campaign.waiting:
        waiting = f"about {amount(campaign.next_cost, campaign.unit)} more"
    figures.append(("Waiting", f"{campaign.waiting:,}", waiting or "for an answer"))
    if campaign.skipped:
        figures.append(("Skipped", f"{campaign.skipped:,}", ""))
    if campaign.disputed:
        figures.append(("Disputed", f"{len(campaign.disputed):,}", ""))
    entries = (
        f"<div><dt>{name}</dt><dd>{text(value)}"
        + (f" <small>{text(note)}</small>" if note else "")
        + "</dd></div>"
        for name, value, note in figures
    )
    return f'<dl class="figures">{"".join(entries)}</dl>'


def _next_step(campaign: Campaign) -> str:
    if campaign.waiting:
        items = "item waits" if campaign.waiting == 1 else "items wait"
        step = f"{campaign.waiting:,} {items} for an answer."
        step += " The next batch is chosen once they are labelled."
    elif not sum(campaign.counts):
        step = "Nothing is labelled yet. <code>jal ask</code> chooses the first batch."
    elif sum(campaign.counts) < campaign.pool:
        step = "Everything asked for is answered. <code>jal ask</code> chooses the "
        step += "next batch."
    else:
        step = "Every item has a label."
    return f'<p class="next"><strong>Next:</strong> {step}</p>'


def _learning(campaign: Campaign) -> str:
    tested = _tested(campaign.rounds)
    if not tested:
        advice = (
            "No model was tested yet: that takes labels to train on, and others that "
            "are held out. <code>jal ask</code> chooses what to label."
            if not campaign.rounds
            else f"{number(len(campaign.rounds), 'round')} of training, but no "
            "accuracy: no labels are held out to test on."
        )
        return _section("Learning curve", f"<p>{advice}</p>")
    first, last = tested[0], tested[-1]
    alt = f"Accuracy {percent(last.accuracy)} with {number(last.labels, 'label')}"
    if len(tested) > 1:
        alt = (
            f"Accuracy from {percent(first.accuracy)} with "
            f"{number(first.labels, 'label')} to {percent(last.accuracy)} with "
            f"{number(last.labels, 'label')}, in {number(len(tested), 'round')}"
        )
    with_interval = any(r.low is not None and r.high is not None for r in tested)
    caption = "Accuracy on held-out labels, by the number of labels to train on"
    caption += (
        ("; the band is its interval." if len(tested) > 1 else ", with its interval.")
        if with_interval
        else "."
    )
    rows = [
        (
            f"{r.number:,}",
            f"{r.labels:,}",
            percent(finite(r.accuracy)),
            interval(r.low, r.high) if finite(r.accuracy) is not None else UNKNOWN,
        )
        for r in campaign.rounds
    ]
    heads = "Round", "Labels", "Accuracy", "Interval"
    table = _table("Accuracy after each round", heads, rows, newest=True)
    return _section(
        "Learning curve",
        pictures.plot(pictures.accuracy_curve(tested), alt, caption)
        + f"<details><summary>The numbers</summary>{table}</details>",
    )


def _spending(campaign: Campaign) -> str:
    spend = _spend(campaign)
    if not spend:
        return _section(
            "Spend",
            "<p>Nothing was spent yet, or nobody said what the labels cost.</p>",
        )
    labels, total = spend[-1]
    spent = shown(amount(total, campaign.unit), 40)
    alt = f"{spent} for {number(labels, 'label')}"
    caption = f"{escape(spent)} for {number(labels, 'label')}"
    if labels > 0:
        each = shown(amount(total / labels, campaign.unit), 40)
        caption += f": {escape(each)} a label"
    return _section(
        "Spend",
        pictures.plot(pictures.spend_curve(spend, campaign.unit), alt, caption + "."),
    )


def _balance(campaign: Campaign) -> str:
    counts = [int(count) for count in campaign.counts]
    if not counts:
        return _section("Classes", "<p>There are no classes.</p>")
    order = sorted(range(len(counts)), key=lambda c: (-counts[c], c))
    least, most, empty = min(counts), max(counts), counts.count(0)
    if most:
        summary = f"{number(len(counts), 'class', 'classes')}, with "
        summary += f"{least:,} to {number(most, 'label')} each"
        summary += f"; {empty:,} without any." if empty else "."
    else:
        summary = f"{number(len(counts), 'class', 'classes')}, without a label yet."
    bars = "".join(
        f"<li>{text(campaign.classes[c], 60, 'class')}"
        f'<span class="bar" aria-hidden="true"><span style="width:'
        f'{100 * counts[c] / max(most, 1):.1f}%"></span></span>'
        f'<span class="count">{counts[c]:,}</span></li>'
        for c in order[:CLASSES]
    )
    many = " many" if len(counts) > 12 else ""
    body = f'<p>{summary}</p><ol class="bars{many}">{bars}</ol>'
    if hidden := order[CLASSES:]:
        body += f"<p>And {number(len(hidden), 'class', 'classes')} more, with at most "
        body += f"{number(counts[hidden[0]], 'label')} each.</p>"
    return _section("Labels of each class", body)


def _annotators(campaign: Campaign) -> str:
    if not campaign.annotators:
        return ""
    rows = [
        (
            name or "(not named)",
            f"{labels:,}",
            f"{skipped:,}",
            duration(finite(total)),
            duration(finite(median)),
        )
        for name, labels, skipped, total, median in campaign.annotators
    ]
    heads = "Annotator", "Labels", "Skipped", "Time", "Median"
    caption = "Who labelled how much, and the median time of a label"
    return _section("Annotators", _table(caption, heads, rows))


def _disputed(campaign: Campaign) -> str:
    if not campaign.disputed:
        return ""
    heads = "Item", "What was said"
    caption = "Items that annotators disagree about"
    table = _table(caption, heads, campaign.disputed, numbers=False)
    return _section("Disputed", table)


def _last_batch(campaign: Campaign) -> str:
    pictures = campaign.last_batch
    if not pictures:
        return _section(
            "Last batch",
            "<p>No batch was asked for yet. <code>jal ask</code> chooses one.</p>",
        )
    with_images = any(picture.image is not None for picture in pictures)
    cards = "".join(_card(picture, with_images) for picture in pictures[:PICTURES])
    body = f'<ul class="grid">{cards}</ul>'
    if len(pictures) > PICTURES:
        body += f"<p>And {len(pictures) - PICTURES:,} more.</p>"
    return _section(f"Last batch: {number(len(pictures), 'item')}", body)


def _card(picture: Picture, with_images: bool) -> str:
    name = picture.name or f"item {picture.item}"
    image = ""
    if picture.image is not None:
        alt = f"Item {picture.item}, {shown(name, 80)}, "
        alt += shown(picture.label, 60) or "no label yet"
        source = pictures.thumbnail(picture.item, picture.image)
        image = f'<img src="{source}" alt="{escape(alt)}">'
    elif with_images:
        image = '<span class="none">no image</span>'
    score = finite(picture.score)
    return (
        f"<li><figure>{image}<figcaption>{text(name, 30, 'name')}"
        + (
            text(picture.label, 60, "label")
            if picture.label
            else '<span class="score">no label yet</span>'
        )
        + (
            f'<span class="score">score {score:,.4g}</span>'
            if score is not None
            else ""
        )
        + "</figcaption></figure></li>"
    )


def _notes(campaign: Campaign) -> str:
    notes = "".join(f"<li>{text(note, 1000)}</li>" for note in campaign.notes)
    return _section("Notes", f"<ul>{notes}</ul>") if notes else ""


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: bool = True,
    newest: bool = False,
) -> str:
    """A table of text, whose first column names the row."""
    some = rows[-ROWS:] if newest else rows[:ROWS]
    if len(some) < len(rows):
        which = "last" if newest else "first"
        caption += f": the {which} {len(some):,} of {len(rows):,}"
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{text(row[0], 80)}</th>'
        + "".join(f"<td>{text(cell, 300)}</td>" for cell in row[1:])
        + "</tr>"
        for row in some
    )
    kind = "numbers" if numbers else "words"
    return (
        f'<div class="wide"><table class="{kind}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _tested(rounds: Iterable[Round]) -> list[Round]:
    """The rounds with an accuracy; an interval is whole or None."""
    tested = []
    for r in rounds:
        low, high = finite(r.low), finite(r.high)
        if finite(r.accuracy) is not None:
            whole = low is not None and high is not None
            tested.append(r if whole else r._replace(low=None, high=None))
    return tested


def _spend(campaign: Campaign) -> list[tuple[int, float]]:
    return [
        (labels, float(total))
        for labels, total in campaign.spend
        if finite(total) is not None
    ]
