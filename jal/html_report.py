"""A report of a labelling campaign: one HTML file that needs nothing else.

It holds no script and loads nothing, and what people typed or files are called is only
ever text in it. matplotlib and Pillow are imported inside the functions.
"""

from __future__ import annotations

import base64
import html
import io
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jal.plots import COLORS, STYLE

# Most of each that is shown; the rest is counted.
PICTURES = 60
CLASSES = 200
ROWS = 100

# Longest side of a thumbnail, in pixels, and up to which it is kept without loss.
_SIDE = 96
_SMALL = 64
# Points of a curve; more of them make the file larger and look the same.
_POINTS = 400
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_UNKNOWN = "–"


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
    title = _escape(_shown(campaign.title, 120))
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
            f"<style>{_CSS}</style>",
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
    share = f" ({_percent(labelled / campaign.pool)})" if campaign.pool else ""
    figures = [("Labelled", f"{labelled:,}", f"of {campaign.pool:,}{share}")]
    tested = _tested(campaign.rounds)
    if tested:
        last = tested[-1]
        interval = last.low is not None and last.high is not None
        figures.append(
            (
                "Accuracy",
                _percent(last.accuracy),
                f"{_interval(last)} on held-out labels"
                if interval
                else "on held-out labels",
            )
        )
    else:
        figures.append(("Accuracy", _UNKNOWN, "no held-out labels yet"))
    spend = _spend(campaign)
    total = _amount(spend[-1][1], campaign.unit) if spend else _UNKNOWN
    what = {"seconds": "Time spent", "money": "Money spent"}
    note = "" if spend else "nothing recorded"
    figures.append((what.get(campaign.unit, "Spent"), total, note))
    waiting = ""
    if campaign.next_cost is not None and campaign.waiting:
        waiting = f"about {_amount(campaign.next_cost, campaign.unit)} more"
    figures.append(("Waiting", f"{campaign.waiting:,}", waiting or "for an answer"))
    if campaign.skipped:
        figures.append(("Skipped", f"{campaign.skipped:,}", ""))
    if campaign.disputed:
        figures.append(("Disputed", f"{len(campaign.disputed):,}", ""))
    entries = (
        f"<div><dt>{name}</dt><dd>{_text(value)}"
        + (f" <small>{_text(note)}</small>" if note else "")
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
            else f"{_number(len(campaign.rounds), 'round')} of training, but no "
            "accuracy: no labels are held out to test on."
        )
        return _section("Learning curve", f"<p>{advice}</p>")
    first, last = tested[0], tested[-1]
    alt = f"Accuracy {_percent(last.accuracy)} with {_number(last.labels, 'label')}"
    if len(tested) > 1:
        alt = (
            f"Accuracy from {_percent(first.accuracy)} with "
            f"{_number(first.labels, 'label')} to {_percent(last.accuracy)} with "
            f"{_number(last.labels, 'label')}, in {_number(len(tested), 'round')}"
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
            _percent(_finite(r.accuracy)),
            _interval(r) if _finite(r.accuracy) is not None else _UNKNOWN,
        )
        for r in campaign.rounds
    ]
    heads = "Round", "Labels", "Accuracy", "Interval"
    table = _table("Accuracy after each round", heads, rows, newest=True)
    return _section(
        "Learning curve",
        _plot(_accuracy_curve(tested), alt, caption)
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
    shown = _shown(_amount(total, campaign.unit), 40)
    alt = f"{shown} for {_number(labels, 'label')}"
    caption = f"{_escape(shown)} for {_number(labels, 'label')}"
    if labels > 0:
        each = _shown(_amount(total / labels, campaign.unit), 40)
        caption += f": {_escape(each)} a label"
    return _section(
        "Spend", _plot(_spend_curve(spend, campaign.unit), alt, caption + ".")
    )


def _balance(campaign: Campaign) -> str:
    counts = [int(count) for count in campaign.counts]
    if not counts:
        return _section("Classes", "<p>There are no classes.</p>")
    order = sorted(range(len(counts)), key=lambda c: (-counts[c], c))
    least, most, empty = min(counts), max(counts), counts.count(0)
    if most:
        summary = f"{_number(len(counts), 'class', 'classes')}, with "
        summary += f"{least:,} to {_number(most, 'label')} each"
        summary += f"; {empty:,} without any." if empty else "."
    else:
        summary = f"{_number(len(counts), 'class', 'classes')}, without a label yet."
    bars = "".join(
        f"<li>{_text(campaign.classes[c], 60, 'class')}"
        f'<span class="bar" aria-hidden="true"><span style="width:'
        f'{100 * counts[c] / max(most, 1):.1f}%"></span></span>'
        f'<span class="count">{counts[c]:,}</span></li>'
        for c in order[:CLASSES]
    )
    many = " many" if len(counts) > 12 else ""
    body = f'<p>{summary}</p><ol class="bars{many}">{bars}</ol>'
    if hidden := order[CLASSES:]:
        body += f"<p>And {_number(len(hidden), 'class', 'classes')} more, with at most "
        body += f"{_number(counts[hidden[0]], 'label')} each.</p>"
    return _section("Labels of each class", body)


def _annotators(campaign: Campaign) -> str:
    if not campaign.annotators:
        return ""
    rows = [
        (
            name or "(not named)",
            f"{labels:,}",
            f"{skipped:,}",
            _duration(_finite(total)),
            _duration(_finite(median)),
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
    return _section(f"Last batch: {_number(len(pictures), 'item')}", body)


def _card(picture: Picture, with_images: bool) -> str:
    name = picture.name or f"item {picture.item}"
    image = ""
    if picture.image is not None:
        alt = f"Item {picture.item}, {_shown(name, 80)}, "
        alt += _shown(picture.label, 60) or "no label yet"
        source = _thumbnail(picture.item, picture.image)
        image = f'<img src="{source}" alt="{_escape(alt)}">'
    elif with_images:
        image = '<span class="none">no image</span>'
    score = _finite(picture.score)
    return (
        f"<li><figure>{image}<figcaption>{_text(name, 30, 'name')}"
        + (
            _text(picture.label, 60, "label")
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
    notes = "".join(f"<li>{_text(note, 1000)}</li>" for note in campaign.notes)
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
    shown = rows[-ROWS:] if newest else rows[:ROWS]
    if len(shown) < len(rows):
        which = "last" if newest else "first"
        caption += f": the {which} {len(shown):,} of {len(rows):,}"
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{_text(row[0], 80)}</th>'
        + "".join(f"<td>{_text(cell, 300)}</td>" for cell in row[1:])
        + "</tr>"
        for row in shown
    )
    kind = "numbers" if numbers else "words"
    return (
        f'<div class="wide"><table class="{kind}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


# --- text -----------------------------------------------------------------------------


def _shown(text: str, limit: int) -> str:
    """One line of visible characters, without its middle where it is too long."""
    text = " ".join(str(text).split())
    if len(text) > limit:
        end = limit // 3
        text = f"{text[: limit - end - 1]}…{text[-end:]}"
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    # Two joiners are invisible, too, but Persian and emoji are wrong without them.
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co")
    return "\ufffd" if hidden and character not in "\u200c\u200d" else character


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _text(text: str, limit: int = 80, kind: str | None = None) -> str:
    """Anybody's text as HTML, whose direction of writing ends where it ends."""
    # Where it was cut, or is cut by the style, a pointer shows more.
    more = (
        "" if kind is None else f' class="{kind}" title="{_escape(_shown(text, 200))}"'
    )
    return f"<bdi{more}>{_escape(_shown(text, limit))}</bdi>"


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _percent(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{100 * share:.1f}%"


def _interval(last: Round) -> str:
    low, high = _finite(last.low), _finite(last.high)
    if low is None or high is None:
        return _UNKNOWN
    return f"{_percent(low)} to {_percent(high)}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def _amount(value: float, unit: str) -> str:
    if unit == "seconds":
        return _duration(value)
    # Less than a tenth of a unit is a price for which two decimals are too few.
    number = f"{value:.3g}" if 0 < value < 0.1 else f"{value:,.2f}"
    if unit == "money":
        return number
    if "." in number and "e" not in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}"


# --- figures --------------------------------------------------------------------------


def _tested(rounds: Iterable[Round]) -> list[Round]:
    """The rounds with an accuracy; an interval is whole or None."""
    tested = []
    for r in rounds:
        low, high = _finite(r.low), _finite(r.high)
        if _finite(r.accuracy) is not None:
            whole = low is not None and high is not None
            tested.append(r if whole else r._replace(low=None, high=None))
    return tested


def _spend(campaign: Campaign) -> list[tuple[int, float]]:
    return [
        (labels, float(total))
        for labels, total in campaign.spend
        if _finite(total) is not None
    ]


def _accuracy_curve(tested: list[Round]) -> str:
    rounds = _thinned(tested)
    x = [r.labels for r in rounds]
    figure, axes = _axes("accuracy", x, percent=True)
    line = dict(color=COLORS[0], lw=2, markersize=4)
    axes.plot(x, [r.accuracy for r in rounds], marker=_marker(rounds), **line)
    band = [r for r in rounds if r.low is not None]
    ends = [r.labels for r in band], [r.low for r in band], [r.high for r in band]
    if len(band) == 1:
        axes.vlines(*ends, color=COLORS[0], lw=1.5)
    elif band:
        axes.fill_between(*ends, color=COLORS[0], alpha=0.2, lw=0)
    return _data_url(figure)


def _spend_curve(spend: list[tuple[int, float]], unit: str) -> str:
    """Steps of nobody's words: a unit is any text, and axes know few characters."""
    points = _thinned(spend)
    most = max(total for _, total in points)
    scale, label = {
        "seconds": next(
            found
            for found in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
            if most >= 2 * found[0] or found[0] == 1
        ),
        "money": (1, "money spent"),
    }.get(unit, (1, "spent"))
    x, y = zip(*points, strict=True)
    figure, axes = _axes(label, x)
    axes.plot(
        x,
        np.asarray(y) / scale,
        color=COLORS[1],
        lw=2,
        marker=_marker(points),
        markersize=4,
    )
    axes.set_ylim(bottom=0)
    return _data_url(figure)


def _axes(y_label: str, x: Sequence[int], *, percent: bool = False) -> tuple[Any, Any]:
    """A panel small enough that its text can be read on a phone."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import (
        FixedLocator,
        MaxNLocator,
        PercentFormatter,
        StrMethodFormatter,
    )

    # The grid is darker than in other figures: dark pages invert it.
    style: dict[Any, Any] = STYLE | {"grid.color": "#CCCCCC"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.2, 3.3), layout="constrained")
        axes = figure.add_subplot()
    axes.set(xlabel="labels", ylabel=y_label)
    thousands = StrMethodFormatter("{x:,.12g}")
    different = len(set(x)) > 1
    axes.xaxis.set_major_locator(
        MaxNLocator(5, integer=True) if different else FixedLocator(x[:1])
    )
    axes.xaxis.set_major_formatter(thousands)
    axes.yaxis.set_major_formatter(PercentFormatter(1) if percent else thousands)
    return figure, axes


def _thinned(points: Sequence[Any]) -> list[Any]:
    if len(points) <= _POINTS:
        return list(points)
    return [
        points[i] for i in np.linspace(0, len(points) - 1, _POINTS).round().astype(int)
    ]


def _marker(points: Sequence[Any]) -> str | None:
    return "o" if len(points) <= 40 else None


def _data_url(figure: Any) -> str:
    """A figure as SVG: no date, no random ids, and nothing that points elsewhere."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "jal", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.S)
    return _encoded("image/svg+xml", drawing.encode("utf-8"))


def _plot(source: str, alt: str, caption: str) -> str:
    image = f'<img src="{source}" alt="{_escape(alt)}">'
    return f'<figure class="plot">{image}<figcaption>{caption}</figcaption></figure>'


def _thumbnail(item: int, image: Any) -> str:
    """An image of at most 96 pixels a side, on white."""
    from PIL import Image

    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise ValueError(
            f"the image of item {item} has dtype {array.dtype}; give uint8 from 0 to "
            "255, such as (255 * image).round().astype('uint8') for floats from 0 to 1"
        )
    grey_or_color = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not grey_or_color or not array.size:
        raise ValueError(
            f"the image of item {item} has shape {array.shape}; give [H, W] or "
            "[H, W, channels] with 1, 3 or 4 channels, and at least one pixel"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    picture = Image.fromarray(np.ascontiguousarray(array))
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    if max(picture.size) <= _SMALL:
        picture.save(buffer, "PNG")
        return _encoded("image/png", buffer.getvalue())
    picture.save(buffer, "JPEG", quality=85)
    return _encoded("image/jpeg", buffer.getvalue())


def _encoded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


_CSS = """
:root {
  color-scheme: light dark;
  --ink: #1b1b1b; --soft: #595959; --page: #f6f6f4; --card: #fff; --line: #dcdcd8;
  --bar: #0072b2; --track: #e8eef2; --next: #e6f1f8;
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem;
  color: var(--ink); background: var(--page);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { margin: 0 0 1rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0 0 .75rem; font-size: 1.15rem; line-height: 1.3; }
h1, h2, p, li, td, th, figcaption, dd { overflow-wrap: anywhere; }
p { margin: 0 0 .75rem; }
code { font-family: ui-monospace, monospace; font-size: .92em; white-space: nowrap; }
small { display: block; color: var(--soft); font-size: .85rem; font-weight: 400; }
section, .figures > div {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
}
section { padding: 1rem 1.1rem; margin-bottom: 1rem; min-width: 0; }
section > :last-child { margin-bottom: 0; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr));
  gap: .75rem; margin: 0 0 1rem;
}
.figures > div { padding: .7rem .9rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.3; }
dd small { margin-top: .15rem; line-height: 1.35; }
.next { padding: .6rem .9rem; background: var(--next); border-radius: .5rem; }
.next { margin-bottom: 1rem; }
.pair { display: grid; gap: 0 1rem; }
@media (min-width: 50rem) { .pair { grid-template-columns: 1fr 1fr; } }
figure { margin: 0; }
.plot img { display: block; width: 100%; max-width: 36rem; height: auto; }
.plot figcaption { margin-top: .5rem; color: var(--soft); font-size: .9rem; }
details { margin-top: .5rem; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
.bars { list-style: none; margin: 0; padding: 0; font-size: .9rem; }
.bars.many { columns: 15rem; column-gap: 2rem; }
.bars.many li { grid-template-columns: minmax(0, 1fr) auto; padding: .15rem 0; gap: 0; }
.bars.many .count { order: 1; padding-left: .6em; }
.bars.many .bar { order: 2; grid-column: 1 / -1; height: .25em; }
.bars li {
  display: grid; grid-template-columns: minmax(0, 9em) minmax(0, 1fr) 4em; gap: .6em;
  align-items: center; padding: .1rem 0; break-inside: avoid;
}
.class, .name, .label {
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; overflow-wrap: anywhere;
}
.bar { height: .8em; background: var(--track); border-radius: .15em; }
.bar span {
  display: block; height: 100%; background: var(--bar); border-radius: .15em;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
.count { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td {
  padding: .35rem .6rem; border-top: 1px solid var(--line); vertical-align: top;
  text-align: left; font-weight: 400; min-width: 4.5rem;
}
thead th {
  border-top: 0; font-weight: 600; vertical-align: bottom; overflow-wrap: normal;
}
.numbers td, .numbers thead th + th {
  text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
}
th:first-child { padding-left: 0; }
.grid {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(6.75rem, 1fr));
  gap: .9rem .75rem; margin: 0 0 .75rem; padding: 0; list-style: none;
}
.grid li { min-width: 0; break-inside: avoid; }
.grid img, .none {
  display: flex; align-items: center; justify-content: center;
  width: 6rem; height: 6rem; object-fit: contain; image-rendering: pixelated;
  background: var(--track); color: var(--soft); border-radius: .25rem; font-size: .8rem;
}
.grid figcaption { margin-top: .3rem; font-size: .82rem; line-height: 1.35; }
.name { -webkit-line-clamp: 3; }
.score { display: block; }
.name, .score { color: var(--soft); }
.label { font-weight: 600; }
@media (max-width: 30rem) {
  body { padding: 1rem .6rem 2rem; }
  section { padding: .8rem; }
  .figures { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .bars.many { columns: 2; column-gap: 1rem; }
  table { font-size: .85rem; }
  th, td { padding: .3rem .25rem; min-width: 0; }
  .words th { min-width: 8rem; }
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e8e6; --soft: #a9a9a5; --page: #161616; --card: #202020; --line: #3a3a38;
    --bar: #56b4e9; --track: #303438; --next: #17303f;
  }
  .plot img { filter: invert(1) hue-rotate(180deg); }
}
@media print {
  :root { color-scheme: light; --page: #fff; }
  body { padding: 0; font-size: 10pt; }
  .pair { grid-template-columns: 1fr 1fr; }
  .plot, tr, .bars li { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
