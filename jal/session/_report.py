"""A report of a labelling campaign: one HTML file that needs nothing else.

It holds no script and loads nothing, and what people typed or files are called is only
ever text in it. What it says and how it looks is in `templates`. Jinja2 and Pillow are
imported inside the functions.
"""

from __future__ import annotations

import base64
import io
import math
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from jal._core import files

# Longest side of a thumbnail, in pixels, and up to which it is kept without loss.
_SIDE = 96
_SMALL = 64
# Points of a curve; more of them make the file larger and look the same.
_POINTS = 400
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
      ImportError: Jinja2 is missing, or there is an image and Pillow is missing.

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
    rounds = [_settled(r) for r in campaign.rounds]
    spend = [(n, float(total)) for n, total in campaign.spend if _is_number(total)]
    pairs = zip(campaign.classes, map(int, campaign.counts), strict=True)
    bars = sorted(pairs, key=lambda pair: -pair[1])
    return _template().render(campaign=campaign, rounds=rounds, spend=spend, bars=bars)


def write(path: str | Path, campaign: Campaign) -> None:
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
    with files.writing(path) as file:
        file.write(page)


def _template() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise ImportError("a report needs Jinja2: pip install 'jal[label]'") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = _shown, _number, _percent, _interval, _duration, _amount
    pictures = _accuracy_curve, _spend_curve, _thumbnail
    environment.filters |= {f.__name__[1:]: f for f in (*words, *pictures)}
    environment.filters["thousands"] = "{:,}".format
    environment.tests["known"] = _is_number
    return environment.get_template("report.html.j2")


# --- words and numbers ----------------------------------------------------------------


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


def _number(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _percent(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{100 * share:.1f}%"


def _interval(r: Round) -> str:
    return _UNKNOWN if r.low is None else f"{_percent(r.low)} to {_percent(r.high)}"


def _duration(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
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


def _settled(r: Round) -> Round:
    """A round without NaN, whose interval is whole or None."""
    accuracy, low, high = (float(v) if _is_number(v) else None for v in r[2:])
    if accuracy is None or low is None or high is None:
        low = high = None
    return Round(r.number, r.labels, accuracy, low, high)


# --- pictures -------------------------------------------------------------------------


def _accuracy_curve(tested: Sequence[Round]) -> dict[str, Any]:
    line = [(r.labels, r.accuracy) for r in tested]
    band = [(r.labels, r.low, r.high) for r in tested if r.low is not None]
    heights = [y for _, *ends in (*line, *band) for y in ends]
    return {
        "line": _thinned(line),
        "band": _thinned(band),
        "x": _axis("labels", [r.labels for r in tested], whole=True),
        "y": _axis("accuracy", heights, lambda share: f"{100 * share:,.6g}%"),
    }


def _spend_curve(spend: Sequence[tuple[int, float]], unit: str) -> dict[str, Any]:
    """Beside its axis are words of ours: a unit is any text, and may be long."""
    scale, label = 1, "money spent" if unit == "money" else "spent"
    if unit == "seconds":
        most = max(total for _, total in spend)
        units = (3600, "hours"), (60, "minutes"), (1, "seconds")
        scale, label = next((u for u in units if most >= 2 * u[0]), units[-1])
    return {
        "line": _thinned([(labels, total / scale) for labels, total in spend]),
        "band": [],
        "x": _axis("labels", [labels for labels, _ in spend], whole=True),
        "y": _axis(label, [0.0, *(total / scale for _, total in spend)]),
    }


def _thinned(points: Sequence[Any]) -> list[Any]:
    steps = np.linspace(0, len(points) - 1, min(len(points), _POINTS))
    return [points[i] for i in steps.round().astype(int)]


def _axis(
    label: str,
    values: Sequence[Any],
    show: Callable[[float], str] = "{:,.12g}".format,
    *,
    whole: bool = False,
) -> dict[str, Any]:
    """Ends a little beyond the values, and a few round numbers between them.

    Of the numbers, `whole` ones are apart by 1 or more and there are at most six, as
    they stand side by side; others are at most nine.
    """
    low, high = min(values), max(values)
    spare = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    # Nothing counted or measured here is below zero.
    start, end = max(low - spare, min(low, 0)), high + spare
    most, factors = (5, (1, 2, 3, 4, 5)) if whole else (8, (1, 2, 2.5, 5))
    least = max((end - start) / most, 1 if whole else 0)
    power = 10.0 ** math.floor(math.log10(least))
    step = power * next((f for f in factors if f * power >= least), 10)
    ticks = step * np.arange(math.ceil(start / step), math.floor(end / step) + 1)
    if whole and low == high:
        ticks = np.array([low])
    shown = [(tick, show(tick)) for tick in ticks.tolist()]
    return {"label": label, "start": start, "end": end, "ticks": shown}


def _thumbnail(picture: Picture) -> str:
    """An image of at most 96 pixels a side, on white, as a URL that holds it."""
    from PIL import Image

    array = np.asarray(picture.image)
    if array.dtype != np.uint8:
        raise ValueError(
            f"the image of item {picture.item} has dtype {array.dtype}; give uint8 "
            "from 0 to 255, such as (255 * image).round().astype('uint8') for floats "
            "from 0 to 1"
        )
    channels = array.shape[2:]
    if array.ndim < 2 or channels not in ((), (1,), (3,), (4,)) or not array.size:
        raise ValueError(
            f"the image of item {picture.item} has shape {array.shape}; give [H, W] or "
            "[H, W, channels] with 1, 3 or 4 channels, and at least one pixel"
        )
    if channels == (1,):
        array = array[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(array))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    kind = "png" if max(image.size) <= _SMALL else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85)  # of a JPEG; a PNG has none
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{kind};base64,{content}"
