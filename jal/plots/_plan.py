"""The figure of a minimum-cost plan.

As in `jal.plots`, matplotlib is imported inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jal.plots._save import COLORS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plan(
    sizes: ArrayLike,
    costs: ArrayLike,
    machine: ArrayLike,
    *,
    humans_alone: float,
    title: str | None = None,
) -> Figure:
    """Draws what labelling everything costs, by the number of labels to train on.

    The optimum is marked, people alone are a dashed line, and below is the share of the
    pool that the model labels.

    Args:
      sizes: [G] training sizes B, rising.
      costs: [G] predicted total in USD.
      machine: [G] share of the pool that the model labels, from 0 to 1.
      humans_alone: USD that buying all labels costs.
      title: above the axes, or None.

    Returns:
      A `matplotlib.figure.Figure` of two panels, for `_save.save`.

    Raises:
      ValueError: shapes that differ, or no sizes.
      ImportError: matplotlib is missing.

    Example:
      >>> figure = plan([100, 200], [9.0, 8.0], [0.4, 0.6], humans_alone=10.0)
      >>> len(figure.axes)
      2
    """
    import matplotlib
    from matplotlib.figure import Figure

    sizes, costs, machine = (np.asarray(v, float) for v in (sizes, costs, machine))
    if sizes.ndim != 1 or not sizes.size:
        raise ValueError(f"sizes has shape {sizes.shape}; expected [G], G >= 1")
    for name, values in (("costs", costs), ("machine", machine)):
        if values.shape != sizes.shape:
            raise ValueError(
                f"{name} has shape {values.shape}; sizes has {sizes.shape}"
            )
    best = int(np.argmin(costs))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 6), layout="constrained")
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        top.plot(sizes, costs, "-o", color=COLORS[0], lw=2, ms=3)
        top.plot(sizes[best], costs[best], "o", color=COLORS[1], ms=9)
        top.annotate(
            f"{costs[best]:,.2f} USD with {sizes[best]:,.0f} labels",
            (sizes[best], costs[best]),
            (0, -16),
            textcoords="offset points",
            ha="left" if best < len(sizes) / 2 else "right",
            va="top",
            color=COLORS[1],
        )
        _people(top, humans_alone)
        top.set(ylabel="predicted total (USD)")
        top.margins(y=0.15)
        bottom.step(sizes, 100 * machine, where="post", color=COLORS[2], lw=2)
        bottom.plot(sizes[best], 100 * machine[best], "o", color=COLORS[1], ms=9)
        bottom.set(
            xlabel="labels bought for training",
            ylabel="by the model (%)",
            ylim=(0, 100),
        )
        _thousands(bottom)
        if title is not None:
            top.set_title(title, loc="left")
    return figure


def _people(axes: Axes, cost: float) -> None:
    axes.axhline(cost, color="black", lw=1, ls="--")
    axes.annotate(
        f"people alone, {cost:,.2f} USD",
        (0, cost),
        (4, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=10,
    )


def _thousands(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))
