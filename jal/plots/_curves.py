"""Figures of active-learning runs: learning curves, bars, histograms, cost.

matplotlib is imported inside the functions and no pyplot state is touched, so the
figures can be made on machines without a display, and from several threads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow
# that is hard to see on white. Random selection is the grey that the others are held
# against.
COLORS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
_LINES = "-", "--", ":"
_RANDOM = "#555555"
_MARKERS = "D", "^", "v", "P", "X"
_BETA = re.compile(r"(?P<family>.*\S)\s+beta=(?P<beta>[0-9.eE+-]+)")
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


def learning_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str = "test accuracy",
    title: str | None = None,
    target: float | None = None,
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
      A `matplotlib.figure.Figure` of one panel, for `save`.

    Raises:
      ValueError: no curves, shapes that do not fit, or a curve without a finite value.
      ImportError: matplotlib is missing.

    Example:
      >>> curves = {"random": ([20, 30], [[0.5, 0.6], [0.4, 0.7]])}
      >>> figure = learning_curves(curves, x_label="labels", target=0.6)
      >>> figure.axes[0].lines[0].get_ydata().round(3).tolist()
      [0.45, 0.65]
    """
    import matplotlib
    from matplotlib.figure import Figure

    summaries = {name: _summarize(name, *curve) for name, curve in curves.items()}
    if not summaries:
        raise ValueError("curves is empty; give at least one name: (x, y)")
    styles = _line_styles(summaries)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        for name, (x, mean, spread) in summaries.items():
            color, line = styles[name]
            alone = "o" if len(x) == 1 else None
            axes.plot(
                x, mean, line, color=color, lw=2, marker=alone, label=_shown(name)
            )
            if spread is not None:
                band = mean - spread, mean + spread
                axes.fill_between(x, *band, color=color, alpha=0.15, lw=0)
        axes.margins(x=0.02)
        axes.set(xlabel=x_label, ylabel=y_label)
        _readable_ticks(axes)
        if target is not None:
            axes.axhline(target, color="black", lw=1, ls="--", zorder=1)
            axes.annotate(
                f"target {target:g}",
                (0, target),
                (4, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                fontsize=10,
            )
        if title is not None:
            axes.set_title(title, loc="left")
        ends = {name: (x[-1], mean[-1]) for name, (x, mean, _) in summaries.items()}
        seeds = {len(np.asarray(y)) for _, y in curves.values()}
        note = f"mean ± SD of {_seeds(seeds)}" if max(seeds) > 1 else None
        _name_lines(axes, ends, {name: styles[name][0] for name in ends}, note)
    return figure


def cost_accuracy(
    points: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    *,
    title: str | None = None,
) -> Figure:
    """Draws accuracy against annotation cost, a panel for each moment of the runs.

    A strategy is a point at the means over seeds of (cost, accuracy), with bars of +- 1
    SD (ddof 0) both ways. Strategies whose names differ only in their beta, the
    exponent of v = I^alpha / C^beta ("mean_std beta=0.1", "mean_std beta=0.3"), are
    joined by a line in the order of beta and labelled with it; all others have a marker
    of their own. Where there is a "random", dotted lines through it split the panel:
    left of it is cheaper, above it more accurate. Each panel has its own scales.

    Args:
      points: title of a panel -> name -> (cost [seeds], accuracy [seeds]), the cost in
        arbitrary cost units, the accuracy in [0, 1], finite.
      title: above all panels, or None.

    Returns:
      A `matplotlib.figure.Figure` of as many panels as `points` has, for `save`.

    Raises:
      ValueError: nothing to draw, shapes that do not fit, or values that are not
        finite.
      ImportError: matplotlib is missing.

    Example:
      >>> arms = {
      ...     "random": ([90.0, 110.0], [0.8, 0.9]),
      ...     "bald beta=0.0": ([120.0, 130.0], [0.9, 0.95]),
      ...     "bald beta=0.5": ([60.0, 70.0], [0.8, 0.85]),
      ... }
      >>> figure = cost_accuracy({"after 50 rounds": arms})
      >>> [text.get_text() for text in figure.legends[0].get_texts()]
      ['random', 'bald, β as labelled']

    Reference:
      Bernatchez, Durand and Lavoie-Cardinal (2022), "Annotation Cost-Sensitive Deep
      Active Learning with Limited Data", figure 1.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if not points or not all(points.values()):
        raise ValueError("points must hold at least one panel, and each panel a name")
    names = list(dict.fromkeys(name for panel in points.values() for name in panel))
    groups = _families(names)
    styles = _marker_styles(groups)
    drawn = [cost for panel in points.values() for cost, _ in panel.values()]
    seeds = {np.size(np.asarray(cost)) for cost in drawn}
    with matplotlib.rc_context(STYLE):
        size = (1 + 4.7 * len(points), 5.2)
        figure = Figure(figsize=size, layout="constrained")
        handles = {}
        for position, (panel_title, panel) in enumerate(points.items(), start=1):
            axes = figure.add_subplot(1, len(points), position)
            axes.margins(0.18, 0.12)
            axes.set_title(panel_title, loc="left")
            axes.set_xlabel("annotation cost (arbitrary cost units)")
            _readable_ticks(axes)
            if position == 1:
                axes.set_ylabel("test accuracy")
            for group, members in groups.items():
                here = {b: panel[n] for b, n in members.items() if n in panel}
                if here:
                    handle = _draw_group(axes, group, here, styles[group])
                    handles.setdefault(group, handle)
            if "random" in panel:
                _divide(axes, *(np.asarray(v, float).mean() for v in panel["random"]))
        figure.legend(
            [handles[group] for group in groups],
            [_legend_text(group, members) for group, members in groups.items()],
            loc="outside lower center",
            ncols=3,
            frameon=False,
            title=f"mean ± SD of {_seeds(seeds)}" if max(seeds) > 1 else None,
        )
        if title is not None:
            figure.suptitle(title, x=0.01, ha="left")
    return figure


def stage_bars(
    values: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    reference: tuple[str, float] | None = None,
) -> Figure:
    """Draws a quantity by stage: a group of bars a stage, a bar for each strategy.

    The height is the mean over seeds, the whisker +- 1 SD (ddof 0). Colours are those
    of `learning_curves`. The axis begins below the smallest value and not at 0, so that
    what differs can be seen.

    Args:
      values: name -> (x [R], y [seeds, R]); x names the stages and is the same for all.
      x_label: what x is, with its unit.
      y_label: what y is, with its unit.
      title: above the axes, or None.
      reference: (what it is, value of y) to mark by a dashed line, or None.

    Returns:
      A `matplotlib.figure.Figure` of one panel, for `save`.

    Raises:
      ValueError: no values, stages that differ, or a stage without a finite value.
      ImportError: matplotlib is missing.

    Example:
      >>> values = {"random": ([20, 30], [[2.1, 2.2], [2.0, 2.2]])}
      >>> figure = stage_bars(values, x_label="labels", y_label="entropy (nats)")
      >>> [round(float(bar.get_height()), 2) for bar in figure.axes[0].patches]
      [2.05, 2.2]
    """
    import matplotlib
    from matplotlib.figure import Figure

    summaries = {name: _summarize(name, *value) for name, value in values.items()}
    if not summaries:
        raise ValueError("values is empty; give at least one name: (x, y)")
    stages = next(iter(summaries.values()))[0]
    for name, (x, mean, _) in summaries.items():
        if not np.array_equal(x, stages) or len(mean) != len(stages):
            raise ValueError(
                f"values[{name!r}] has stages {x.tolist()}, others {stages.tolist()}"
            )
    styles = _line_styles(summaries)
    width = 0.8 / len(summaries)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, (_, mean, spread)) in enumerate(summaries.items()):
            places = (
                np.arange(len(stages)) + (number - (len(summaries) - 1) / 2) * width
            )
            axes.bar(
                places,
                mean,
                0.92 * width,
                yerr=spread,
                color=styles[name][0],
                error_kw={"lw": 1, "capsize": 2},
                label=_shown(name),
            )
        ends = [
            mean + sign * (0 if spread is None else spread)
            for _, mean, spread in summaries.values()
            for sign in (-1, 1)
        ]
        if reference is not None:
            ends.append(np.array([reference[1]]))
            axes.axhline(reference[1], color="black", lw=1, ls="--", zorder=1)
            axes.annotate(
                reference[0],
                (1, reference[1]),
                (-4, 3),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                fontsize=10,
            )
        low, high = np.min(np.concatenate(ends)), np.max(np.concatenate(ends))
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + 1.5 * margin)
        axes.set_xticks(range(len(stages)), [f"{stage:,.12g}" for stage in stages])
        axes.grid(False, axis="x")
        axes.set(xlabel=x_label, ylabel=y_label)
        seeds = {len(np.asarray(y)) for _, y in values.values()}
        note = f"mean ± SD of {_seeds(seeds)}" if max(seeds) > 1 else None
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title=note, frameon=False)
        if title is not None:
            axes.set_title(title, loc="left")
    return figure


def histograms(
    counts: Mapping[str, ArrayLike],
    edges: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    names: Iterable[str] = (),
) -> Figure:
    """Draws distributions one below the other, on the same axes.

    Args:
      counts: name -> [bins] numbers of items, whatever their total.
      edges: [bins + 1] rising borders of the bins.
      x_label: what is distributed, with its unit.
      y_label: whose distribution it is; shares of the total are drawn.
      title: above the panels, or None.
      names: of all that is compared, also without counts, in the order of the other
        figures, so that the colours are theirs.

    Returns:
      A `matplotlib.figure.Figure` of one panel a name, for `save`.

    Raises:
      ValueError: no counts, or not one for each bin, or all 0.
      ImportError: matplotlib is missing.

    Example:
      >>> figure = histograms({"VAAL": [1, 3]}, [0, 0.5, 1], x_label="D", y_label="")
      >>> figure.axes[0].patches[0].get_data().values.tolist()
      [0.25, 0.75]
    """
    import matplotlib
    from matplotlib.figure import Figure

    edges = np.asarray(edges, float)
    shares = {}
    for name, values in counts.items():
        values = np.asarray(values, float)
        if values.shape != (len(edges) - 1,) or not values.sum() > 0:
            raise ValueError(
                f"counts[{name!r}] has shape {values.shape} and the sum {values.sum()};"
                f" expected [{len(edges) - 1}], not all 0"
            )
        shares[name] = values / values.sum()
    if not shares:
        raise ValueError("counts is empty; give at least one name: [bins]")
    styles = _line_styles(dict.fromkeys([*names, *shares]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.9 + 1.5 * len(shares)), layout="constrained")
        panels = figure.subplots(len(shares), sharex=True, sharey=True, squeeze=False)
        for axes, (name, share) in zip(panels[:, 0], shares.items(), strict=True):
            color = styles[name][0]
            axes.stairs(share, edges, fill=True, color=color, alpha=0.8)
            axes.set_title(_shown(name), loc="left", color=color)
        panels[-1, 0].set_xlim(edges[0], edges[-1])
        panels[-1, 0].set_xlabel(x_label)
        figure.supylabel(y_label, fontsize=11)
        if title is not None:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as PNG at 150 dpi, cut to what is drawn; whole or not at all.

    The image goes to a temporary name in the same folder, which is then renamed, so
    nobody ever finds half a file and a failure leaves the old one as it was.

    Args:
      figure: of one or several panels; [height, width] inches become
        about [150 height, 150 width] pixels.
      path: where to, ending in ".png"; missing folders are made.

    Raises:
      ValueError: the path does not end in ".png".

    Example:
      >>> import tempfile
      >>> figure = learning_curves({"random": ([20], [[0.5]])}, x_label="labels")
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save(figure, folder + "/new/curve.png")
      ...     [file.name for file in Path(folder, "new").iterdir()]
      ['curve.png']
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path = {str(path)!r} must end in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(
            temporary, format="png", dpi=150, bbox_inches="tight", facecolor="white"
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _summarize(name, x, y):
    """(x [r], mean [r], SD [r] or None for one seed) of the rounds with a value."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x):
        raise ValueError(
            f"curves[{name!r}] has x of shape {x.shape} and y of shape {y.shape}; "
            "expected [R] and [seeds, R]"
        )
    known = np.isfinite(y)
    count = known.sum(axis=0)
    used = np.flatnonzero((count > 0) & np.isfinite(x))
    if not used.size:
        raise ValueError(f"curves[{name!r}] has no finite value")
    x, y, known, count = x[used], y[:, used], known[:, used], count[used]
    mean = np.where(known, y, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (y - mean) ** 2, 0).sum(axis=0) / count)
    return x, mean, spread if len(y) > 1 else None


def _line_styles(names):
    """Name -> (colour, line), all different for up to 18 names besides random."""
    from matplotlib import colormaps

    groups = _families(names)
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
    return styles | {"random": (_RANDOM, "-")}


def _shown(name):
    return re.sub(r"\bbeta=", "β = ", name)


def _readable_ticks(axes: Axes):
    """Few ticks on x, with thousands set apart."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))


def _seeds(numbers):
    """Such as "3 seeds", or "2 to 3 seeds" where they differ."""
    span = dict.fromkeys((min(numbers), max(numbers)))
    return f"{' to '.join(map(str, span))} seed{'' if max(numbers) == 1 else 's'}"


def _name_lines(axes: Axes, ends, colors, note):
    """Names the lines where they end, none over another, or in an ordered legend."""
    names = sorted(ends, key=lambda name: ends[name][1])
    if len({x for x, _ in ends.values()}) > 1:
        handles = {line.get_label(): line for line in axes.lines}
        shown = [_shown(name) for name in reversed(names)]
        handles = [handles[name] for name in shown]
        axes.legend(handles, shown, loc="lower right", title=note)
        return
    if note is not None:
        axes.text(0.99, 0.02, note, transform=axes.transAxes, ha="right", fontsize=10)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = np.array([(ends[name][1] - low) / (high - low) for name in names])
    for name, height in zip(names, _spread_out(heights, gap=0.055), strict=True):
        axes.annotate(
            _shown(name),
            ends[name],
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            color=colors[name],
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": colors[name],
                "lw": 0.8,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 1,
            },
        )


def _spread_out(heights, *, gap):
    """Ascending heights moved apart to at least `gap`, within [0, 1] where they fit."""
    placed = np.array(heights, float)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    if placed[-1] > 1:
        placed[-1] = 1
        for i in range(len(placed) - 2, -1, -1):
            placed[i] = min(placed[i], placed[i + 1] - gap)
    return placed


def _families(names):
    """Group -> {beta or None: name}: names that differ only in beta are one group."""
    families = {}
    for name in names:
        if match := _BETA.fullmatch(name):
            beta = float(match["beta"])
            families.setdefault(match["family"], {})[beta] = name
    groups = {}
    for name in names:
        match = _BETA.fullmatch(name)
        if match and len(families[match["family"]]) > 1:
            groups[match["family"]] = dict(sorted(families[match["family"]].items()))
        else:
            groups[name] = {None: name}
    return groups


def _marker_styles(groups):
    """Group -> (colour, marker)."""
    others = [group for group in groups if group != "random"]
    lines = [group for group in others if len(groups[group]) > 1]
    single = [group for group in others if len(groups[group]) == 1]
    styles = {
        group: (COLORS[i % len(COLORS)], "o" if group in lines else None)
        for i, group in enumerate(lines + single)
    }
    for i, group in enumerate(single):
        styles[group] = styles[group][0], _MARKERS[i % len(_MARKERS)]
    return styles | {"random": (_RANDOM, "s")}


def _legend_text(group, members):
    return _shown(group) if None in members else f"{group.rstrip(',')}, β as labelled"


def _divide(axes: Axes, cost, accuracy):
    """Lines through random selection, and what lies beyond them."""
    axes.axvline(cost, color=_RANDOM, lw=1, ls=":", zorder=1)
    axes.axhline(accuracy, color=_RANDOM, lw=1, ls=":", zorder=1)
    text = {"textcoords": "offset points", "color": _RANDOM, "fontsize": 9}
    axes.annotate(
        "← cheaper than random",
        (cost, 0),
        (-4, 4),
        xycoords=("data", "axes fraction"),
        ha="right",
        **text,
    )
    axes.annotate(
        "↑ more accurate",
        (1, accuracy),
        (0, 3),
        xycoords=("axes fraction", "data"),
        ha="right",
        **text,
    )


def _draw_group(axes: Axes, group, members, style):
    """One marker, or the joined and labelled markers of several betas."""
    from matplotlib.patheffects import withStroke

    color, marker = style
    costs, accuracies = [], []
    for cost, accuracy in members.values():
        cost, accuracy = np.asarray(cost, float), np.asarray(accuracy, float)
        if cost.ndim != 1 or cost.shape != accuracy.shape or not cost.size:
            raise ValueError(
                f"{group!r} has costs of shape {cost.shape} and accuracies of shape "
                f"{accuracy.shape}; expected [seeds] twice"
            )
        if not (np.isfinite(cost).all() and np.isfinite(accuracy).all()):
            raise ValueError(f"{group!r} has values that are not finite")
        costs.append(cost)
        accuracies.append(accuracy)
    x, y = np.array([c.mean() for c in costs]), np.array([a.mean() for a in accuracies])
    handle = axes.errorbar(
        x,
        y,
        xerr=[c.std() for c in costs],
        yerr=[a.std() for a in accuracies],
        color=color,
        marker=marker,
        markersize=6 if marker == "o" else 9,
        markeredgecolor="white",
        lw=1.8,
        elinewidth=1,
        capsize=2,
        zorder=3 if marker == "o" else 4,
    )
    for beta, at in zip(members, zip(x, y, strict=True), strict=True):
        if beta is not None:
            # Ends stand outside and are spelled out, or texts of close points overlap.
            first, last = beta == min(members), beta == max(members)
            axes.annotate(
                f"β = {beta:g}" if first or last else f"{beta:g}",
                at,
                (6 if first else -6, 6),
                textcoords="offset points",
                ha="left" if first else "right",
                color=color,
                fontsize=10,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
    return handle
