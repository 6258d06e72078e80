"""Curves and small images of an HTML page, as URLs that hold them."""

import base64
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jal.plots import COLORS, STYLE
from jal.session._report_words import escape

# Longest side of a thumbnail, in pixels, and up to which it is kept without loss.
_SIDE = 96
_SMALL = 64
# Points of a curve; more of them make the file larger and look the same.
_POINTS = 400


def accuracy_curve(tested: Sequence[Any]) -> str:
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


def spend_curve(spend: list[tuple[int, float]], unit: str) -> str:
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


def plot(source: str, alt: str, caption: str) -> str:
    image = f'<img src="{source}" alt="{escape(alt)}">'
    return f'<figure class="plot">{image}<figcaption>{caption}</figcaption></figure>'


def thumbnail(item: int, image: Any) -> str:
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
