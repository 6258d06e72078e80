"""The demo's table, and accuracy against annotation cost as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.common import figures, paired
from experiments.common.figures import GREY
from experiments.common.paired import Record, mean_interval, spread_text
from experiments.cost_sensitive.curves import (
    by_arm,
    evaluated_rounds,
    labels_to_reach,
    spend_to_reach,
)
from experiments.cost_sensitive.table1 import counted
from jal.plots import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "D", "^", "v", "P", "X"


def format_demo(records: Iterable[Record], target: float = 0.9) -> str:
    """What each strategy needed for a target, beside random, as a table.

    Args:
      records: runs of any arms, also of different lengths.
      target: the accuracy.

    Returns:
      Several lines, also valid Markdown.

    Raises:
      ValueError: no runs, one run twice, or lists of different lengths.

    Example:
      >>> run = lambda arm, accuracy: {
      ...     "arm": arm, "seed": 0, "accuracy": accuracy,
      ...     "count": [20, 30], "spend": [5.0, 9.0],
      ... }  # fmt: skip
      >>> runs = [run("random", [0.1, 0.95]), run("bald", [0.1, 0.8])]
      >>> print(format_demo(runs).splitlines()[5][:39])
      | bald     | not reached (1 of 1 seeds)
    """
    arms = by_arm(records, lambda arm: True)
    goal = f"{100 * target:.12g} %"
    header = ["strategy", f"labels to {goal}", "of random's"]
    header += [f"cost to {goal}", "of random's", "final accuracy"]
    rows = []
    for arm in sorted(arms, key=lambda arm: arm != "random"):
        row = [arm]
        for needed, form in ((labels_to_reach, ".0f"), (spend_to_reach, ",.0f")):
            own, base = (
                {s: needed(run, target) for s, run in arms.get(name, {}).items()}
                for name in (arm, "random")
            )
            row += [_needed_text(own, form), _of_random(own, base)]
        final = [
            run["accuracy"][max(evaluated_rounds(run))]
            for run in arms[arm].values()
            if evaluated_rounds(run)
        ]
        row.append(_percent(final, ".1f"))
        rows.append(row)
    rows[0][2::2] = ["" if rows[0][0] == "random" else text for text in rows[0][2::2]]
    ends = sorted({run["count"][-1] for runs in arms.values() for run in runs.values()})
    bought = " to ".join(str(end) for end in dict.fromkeys((ends[0], ends[-1])))
    number = len({seed for runs in arms.values() for seed in runs})
    spread = (
        f" ± is the SD over {number} seeds (ddof 0); n seeds reached {goal} both with "
        "random and with the strategy, where not all did."
    )
    return paired.page(
        f"Labels and annotation cost until the test accuracy first was {goal}, and the "
        f"accuracy with {bought} labels:",
        paired.table(header, rows),
        "Labels include the initial ones; cost is in arbitrary units, that of the "
        f"initial labels excluded. Less is better.{spread if number > 1 else ''}",
    )


def _needed_text(needed, form):
    reached = [value for value in needed.values() if value is not None]
    missed = len(needed) - len(reached)
    failure = f"not reached ({missed} of {len(needed)} seeds)"
    if not reached:
        return failure
    text = spread_text(mean_interval(reached), form)
    return f"{text}, {failure}" if missed else text


def _of_random(own, base):
    ratios = [
        value / least
        for seed, value in own.items()
        if value is not None and (least := base.get(seed))
    ]
    return _percent(ratios, ".0f") + (counted(len(ratios), own) if ratios else "")


def _percent(values, form):
    return spread_text(mean_interval(values), form, 100) + (" %" if values else "")


def cost_accuracy(points: Mapping[str, Mapping[str, tuple]]) -> Figure:
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

    Returns:
      A figure of as many panels as `points` has.

    Raises:
      ValueError: nothing to draw, shapes that do not fit, or values that are not
        finite.

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
    if not points or not all(points.values()):
        raise ValueError("points must hold at least one panel, and each panel a name")
    groups = figures.families(name for panel in points.values() for name in panel)
    styles = _marker_styles(groups)
    handles: dict[str, Any] = {}
    panels = dict(ncols=len(points), squeeze=False)
    with figures.drawing(1 + 4.7 * len(points), 5.2, **panels) as (figure, drawn):
        for axes, (title, panel) in zip(drawn[0], points.items(), strict=True):
            axes.margins(0.18, 0.12)
            axes.set_title(title, loc="left")
            axes.set_xlabel("annotation cost (arbitrary cost units)")
            figures.readable_ticks(axes)
            for group, members in groups.items():
                here = {b: panel[n] for b, n in members.items() if n in panel}
                if here:
                    handle = _draw_group(axes, group, here, styles[group])
                    handles.setdefault(group, handle)
            if "random" in panel:
                _divide(axes, *(np.asarray(v, float).mean() for v in panel["random"]))
        drawn[0, 0].set_ylabel("test accuracy")
        costs = [cost for panel in points.values() for cost, _ in panel.values()]
        figure.legend(
            [handles[group] for group in groups],
            [_legend_text(group, members) for group, members in groups.items()],
            loc="outside lower center",
            ncols=3,
            frameon=False,
            title=figures.seeds_note(costs),
        )
    return figure


def _marker_styles(groups):
    """Group -> (colour, marker): lines first, then what has a marker of its own."""
    others = [group for group in groups if group != "random"]
    others.sort(key=lambda group: len(groups[group]) == 1)
    lines = sum(len(groups[group]) > 1 for group in others)
    markers = ["o"] * lines + [_MARKERS[i % len(_MARKERS)] for i in range(len(others))]
    styles = {
        group: (COLORS[i % len(COLORS)], markers[i]) for i, group in enumerate(others)
    }
    return styles | {"random": (GREY, "s")}


def _legend_text(group, members):
    if None in members:
        return figures.shown(group)
    return f"{group.rstrip(',')}, β as labelled"


def _divide(axes: Axes, cost, accuracy):
    """Lines through random selection, and what lies beyond them."""
    axes.axvline(cost, color=GREY, lw=1, ls=":", zorder=1)
    axes.axhline(accuracy, color=GREY, lw=1, ls=":", zorder=1)
    options = {"ha": "right", "color": GREY, "fontsize": 9}
    below = {"xycoords": ("data", "axes fraction")}
    figures.note(axes, "← cheaper than random", (cost, 0), (-4, 4), **options, **below)
    figures.note(axes, "↑ more accurate", (1, accuracy), (0, 3), **options)


def _draw_group(axes: Axes, group, members, style):
    """One marker, or the joined and labelled markers of several betas."""
    from matplotlib.patheffects import withStroke

    color, marker = style
    pairs = [[np.asarray(v, float) for v in pair] for pair in members.values()]
    for cost, accuracy in pairs:
        if cost.ndim != 1 or cost.shape != accuracy.shape or not cost.size:
            raise ValueError(
                f"{group!r} has costs of shape {cost.shape} and accuracies of shape "
                f"{accuracy.shape}; expected [seeds] twice"
            )
        if not (np.isfinite(cost).all() and np.isfinite(accuracy).all()):
            raise ValueError(f"{group!r} has values that are not finite")
    means = np.array([[values.mean() for values in pair] for pair in pairs])
    spreads = np.array([[values.std() for values in pair] for pair in pairs])
    handle = axes.errorbar(
        *means.T,
        xerr=spreads[:, 0],
        yerr=spreads[:, 1],
        color=color,
        marker=marker,
        markersize=6 if marker == "o" else 9,
        markeredgecolor="white",
        lw=1.8,
        elinewidth=1,
        capsize=2,
        zorder=3 if marker == "o" else 4,
    )
    for beta, at in zip(members, means, strict=True):
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
