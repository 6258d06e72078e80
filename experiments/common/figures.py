"""Figures of comparisons: learning curves, bars by stage, histograms.

matplotlib is imported inside the functions and no pyplot state is touched.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from jal.plots import COLORS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What the others are held against is grey.
GREY = "#555555"
_LINES = "-", "--", ":"
_BETA = re.compile(r"(?P<family>.*\S)\s+beta=(?P<beta>[0-9.eE+-]+)")
Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]


@contextlib.contextmanager
def drawing(width, height, title: Any = None, **panels: Any) -> Iterator[tuple]:
    """A figure of one or several panels in the style of all, and its axes.

    Args:
      width: inches.
      height: inches.
      title: above the first panel, or None.
      **panels: as `Figure.subplots` takes them.

    Raises:
      ImportError: matplotlib is missing.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(**panels)
        figure.axes[0].set_title(title or "", loc="left")
        yield figure, axes


def learning_curves(
    curves: Curves, *, x_label, y_label="test accuracy", title=None, target=None
) -> Figure:
    """Draws how well each strategy does as labels are bought: a line and a band each.

    The line is the mean over seeds m_r = (1/n_r) sum_s y_sr, the band m_r +- d_r with
    d_r^2 = (1/n_r) sum_s (y_sr - m_r)^2 (ddof 0), over the n_r seeds in which y_sr is
    not NaN. Rounds without any are left out, and the line joins their neighbours. Names
    stand at the ends of the lines, or, where these end at different x, in a legend in
    the order of the ends. "random" is grey, names that differ only in their "beta="
    have shades of one scale.

    Args:
      curves: name -> (x [R], y [seeds, R]); x is what was spent when round r's model
        was trained (labels, or cost in a unit that `x_label` names), y how good it was.
      x_label: what x is, with its unit.
      y_label: what y is.
      title: above the axes, or None.
      target: a value of y to mark by a dashed line, or None.

    Returns:
      A figure of one panel.

    Raises:
      ValueError: no curves, shapes that do not fit, or a curve without a finite value.

    Example:
      >>> curves = {"random": ([20, 30], [[0.5, 0.6], [0.4, 0.7]])}
      >>> figure = learning_curves(curves, x_label="labels", target=0.6)
      >>> figure.axes[0].lines[0].get_ydata().round(3).tolist()
      [0.45, 0.65]
    """
    summaries = _summarize(curves)
    styles = _line_styles(summaries)
    with drawing(8, 5, title) as (figure, axes):
        for name, (x, mean, spread) in summaries.items():
            color, line = styles[name]
            alone = "o" if len(x) == 1 else None
            axes.plot(x, mean, line, color=color, lw=2, marker=alone, label=shown(name))
            if spread is not None:
                band = mean - spread, mean + spread
                axes.fill_between(x, *band, color=color, alpha=0.15, lw=0)
        axes.margins(x=0.02)
        axes.set(xlabel=x_label, ylabel=y_label)
        readable_ticks(axes)
        if target is not None:
            axes.axhline(target, color="black", lw=1, ls="--", zorder=1)
            note(axes, f"target {target:g}", (0, target), (4, 3))
        ends = {name: (x[-1], mean[-1]) for name, (x, mean, _) in summaries.items()}
        colors = {name: styles[name][0] for name in ends}
        _name_lines(axes, ends, colors, seeds_note(y for _, y in curves.values()))
    return figure


def stage_bars(values: Curves, *, x_label, y_label, title=None) -> Figure:
    """Draws a quantity by stage: a group of bars a stage, a bar for each strategy.

    The height is the mean over seeds, the whisker +- 1 SD (ddof 0). Colours are those
    of `learning_curves`. The axis begins below the smallest value and not at 0, so that
    what differs can be seen.

    Args:
      values: name -> (x [R], y [seeds, R]); x names the stages and is the same for all.
      x_label: what x is, with its unit.
      y_label: what y is, with its unit.
      title: above the axes, or None.

    Returns:
      A figure of one panel.

    Raises:
      ValueError: no values, stages that differ, or a stage without a finite value.

    Example:
      >>> values = {"random": ([20, 30], [[2.1, 2.2], [2.0, 2.2]])}
      >>> figure = stage_bars(values, x_label="labels", y_label="entropy (nats)")
      >>> [round(float(bar.get_height()), 2) for bar in figure.axes[0].patches]
      [2.05, 2.2]
    """
    summaries = _summarize(values)
    stages = next(iter(summaries.values()))[0]
    for name, (x, _, _) in summaries.items():
        if not np.array_equal(x, stages):
            raise ValueError(
                f"values[{name!r}] has stages {x.tolist()}, others {stages.tolist()}"
            )
    styles = _line_styles(summaries)
    width = 0.8 / len(summaries)
    with drawing(8, 4.5, title) as (figure, axes):
        ends = []
        for number, (name, (_, mean, spread)) in enumerate(summaries.items()):
            shift = (number - (len(summaries) - 1) / 2) * width
            axes.bar(
                np.arange(len(stages)) + shift,
                mean,
                0.92 * width,
                yerr=spread,
                color=styles[name][0],
                error_kw={"lw": 1, "capsize": 2},
                label=shown(name),
            )
            ends += [
                mean + sign * (0 if spread is None else spread) for sign in (-1, 1)
            ]
        low, high = np.min(ends), np.max(ends)
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + 1.5 * margin)
        axes.set_xticks(range(len(stages)), [f"{stage:,.12g}" for stage in stages])
        axes.grid(False, axis="x")
        axes.set(xlabel=x_label, ylabel=y_label)
        seeds = seeds_note(y for _, y in values.values())
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title=seeds, frameon=False)
    return figure


def histograms(
    counts: Mapping[str, ArrayLike], edges, *, x_label, y_label, title="", names=()
) -> Figure:
    """Draws distributions one below the other, on the same axes.

    Args:
      counts: name -> [bins] numbers of items, whatever their total.
      edges: [bins + 1] rising borders of the bins.
      x_label: what is distributed, with its unit.
      y_label: whose distribution it is; shares of the total are drawn.
      title: above the panels.
      names: of all that is compared, also without counts, in the order of the other
        figures, so that the colours are theirs.

    Returns:
      A figure of one panel a name.

    Raises:
      ValueError: no counts, or not one for each bin, or all 0.

    Example:
      >>> figure = histograms({"VAAL": [1, 3]}, [0, 0.5, 1], x_label="D", y_label="")
      >>> figure.axes[0].patches[0].get_data().values.tolist()
      [0.25, 0.75]
    """
    edges, bins = np.asarray(edges, float), np.size(edges) - 1
    arrays = {name: np.asarray(values, float) for name, values in counts.items()}
    for name, values in arrays.items():
        if values.shape != (bins,) or not values.sum() > 0:
            raise ValueError(
                f"counts[{name!r}] has shape {values.shape} and the sum {values.sum()};"
                f" expected [{bins}], not all 0"
            )
    if not arrays:
        raise ValueError("counts is empty; give at least one name: [bins]")
    styles = _line_styles(dict.fromkeys([*names, *arrays]))
    panels = dict(nrows=len(arrays), sharex=True, sharey=True, squeeze=False)
    with drawing(8, 0.9 + 1.5 * len(arrays), **panels) as (figure, axes):
        for panel, (name, values) in zip(axes[:, 0], arrays.items(), strict=True):
            color = styles[name][0]
            panel.stairs(
                values / values.sum(), edges, fill=True, color=color, alpha=0.8
            )
            panel.set_title(shown(name), loc="left", color=color)
        panel.set(xlim=(edges[0], edges[-1]), xlabel=x_label)
        figure.supylabel(y_label, fontsize=11)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


# --- what several figures need --------------------------------------------------------


def note(axes: Axes, text: str, place: tuple, shift: tuple, **options: Any) -> None:
    """A text at (share of the width, y), shifted by some points."""
    between = {"xycoords": ("axes fraction", "data"), "fontsize": 10}
    axes.annotate(text, place, shift, textcoords="offset points", **between | options)


def readable_ticks(axes: Axes) -> None:
    """Few ticks on x, with thousands set apart."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))


def seeds_note(values: Iterable[ArrayLike]) -> str | None:
    """Such as "mean ± SD of 2 to 3 seeds", of [seeds, ...] each; None for one seed."""
    numbers = {len(np.asarray(value)) for value in values}
    if max(numbers) == 1:
        return None
    span = dict.fromkeys((min(numbers), max(numbers)))
    return f"mean ± SD of {' to '.join(map(str, span))} seeds"


def shown(name: str) -> str:
    return re.sub(r"\bbeta=", "β = ", name)


def families(names: Iterable[str]) -> dict[str, dict[float | None, str]]:
    """Group -> {beta or None: name}: names that differ only in beta are one group."""
    found: dict[str, dict[float | None, str]] = {}
    matches = {name: _BETA.fullmatch(name) for name in names}
    alike = [match["family"] for match in matches.values() if match]
    for name, match in matches.items():
        if match and alike.count(match["family"]) > 1:
            found.setdefault(match["family"], {})[float(match["beta"])] = name
        else:
            found[name] = {None: name}
    return {group: dict(sorted(members.items())) for group, members in found.items()}


def _summarize(curves: Curves) -> dict[str, tuple]:
    """Name -> (x [r], mean [r], SD [r], None for one seed), of rounds with a value."""
    if not curves:
        raise ValueError("values is empty; give at least one name: (x, y)")
    found = {}
    for name, (x, y) in curves.items():
        x, y = np.asarray(x, float), np.asarray(y, float)
        if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x):
            raise ValueError(
                f"values[{name!r}] has x of shape {x.shape} and y of shape {y.shape}; "
                "expected [R] and [seeds, R]"
            )
        used = np.isfinite(y).any(axis=0) & np.isfinite(x)
        if not used.any():
            raise ValueError(f"values[{name!r}] has no finite value")
        y = np.where(np.isfinite(y), y, np.nan)[:, used]
        spread = np.nanstd(y, axis=0) if len(y) > 1 else None
        found[name] = x[used], np.nanmean(y, axis=0), spread
    return found


def _line_styles(names: Iterable[str]) -> dict[str, tuple]:
    """Name -> (colour, line), all different for up to 18 names besides random."""
    from matplotlib import colormaps

    groups = families(names)
    single = [group for group in groups if None in groups[group] and group != "random"]
    scaled = [members for members in groups.values() if None not in members]
    # Shades of a scale begin with blues: other lines then begin with the next colour.
    styles: dict[str, Any] = {
        name: (COLORS[i % len(COLORS)], _LINES[i // len(COLORS) % len(_LINES)])
        for i, name in enumerate(single, start=len(scaled) > 0)
    }
    for i, members in enumerate(scaled):
        shades = colormaps["viridis"](np.linspace(0, 0.85, len(members)))
        for name, shade in zip(members.values(), shades, strict=True):
            styles[name] = tuple(shade), _LINES[i % len(_LINES)]
    return styles | {"random": (GREY, "-")}


def _name_lines(axes: Axes, ends, colors, seeds) -> None:
    """Names the lines where they end, none over another, or in an ordered legend."""
    names = sorted(ends, key=lambda name: ends[name][1])
    if len({x for x, _ in ends.values()}) > 1:
        lines = {line.get_label(): line for line in axes.lines}
        order = [shown(name) for name in reversed(names)]
        handles = [lines[name] for name in order]
        axes.legend(handles, order, loc="lower right", title=seeds)
        return
    if seeds is not None:
        axes.text(0.99, 0.02, seeds, transform=axes.transAxes, ha="right", fontsize=10)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = np.array([(ends[name][1] - low) / (high - low) for name in names])
    arrow = {"arrowstyle": "-", "relpos": (0, 0.5), "lw": 0.8, "alpha": 0.6}
    arrow |= {"shrinkA": 1, "shrinkB": 1}
    for name, height in zip(names, spread_out(heights, gap=0.055), strict=True):
        axes.annotate(
            shown(name),
            ends[name],
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            color=colors[name],
            arrowprops={**arrow, "color": colors[name]},
        )


def spread_out(heights: np.ndarray, *, gap: float) -> np.ndarray:
    """Ascending heights moved apart to at least `gap`, within [0, 1] where they fit."""
    steps = gap * np.arange(len(heights))
    placed = np.maximum.accumulate(heights - steps) + steps
    return np.minimum(placed, 1 - steps[::-1])
