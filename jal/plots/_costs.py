"""Figures of minimum-cost labelling: plans, batches, schemes and error laws.

As in `jal.plots`, matplotlib is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jal.plots._curves import COLORS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#555555"


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
      A `matplotlib.figure.Figure` of two panels, for `save`.

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


def schemes(
    costs: Mapping[str, ArrayLike],
    *,
    humans_alone: float,
    title: str | None = None,
) -> Figure:
    """Draws what each way of labelling cost: a bar each, the mean over seeds.

    The points are the seeds; the number beside a bar is its saving against people
    alone, the dashed line.

    Args:
      costs: name -> [seeds] total in USD.
      humans_alone: USD that buying all labels costs.
      title: above the axes, or None.

    Returns:
      A `matplotlib.figure.Figure` of one panel, for `save`.

    Raises:
      ValueError: no costs.
      ImportError: matplotlib is missing.

    Example:
      >>> figure = schemes({"MCAL": [4.0, 6.0]}, humans_alone=10.0)
      >>> float(figure.axes[0].patches[0].get_width())
      5.0
    """
    import matplotlib
    from matplotlib.figure import Figure

    if not costs:
        raise ValueError("costs is empty; give at least one name: [seeds]")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.42 * len(costs)), layout="constrained")
        axes = figure.add_subplot()
        for place, (name, values) in enumerate(costs.items()):
            values = np.asarray(values, float)
            mean = values.mean()
            color = COLORS[1] if name.startswith("MCAL") else COLORS[0]
            axes.barh(place, mean, 0.7, color=color)
            axes.plot(values, np.full(len(values), place), "o", color="black", ms=3)
            axes.annotate(
                f"{mean:,.2f} USD, {1 - mean / humans_alone:.0%} less",
                (max(values.max(), mean), place),
                (6, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
            )
        axes.set_yticks(range(len(costs)), list(costs))
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.axvline(humans_alone, color="black", lw=1, ls="--")
        axes.set(xlabel="total cost (USD); dashed: people alone")
        axes.set_xlim(0, 1.05 * humans_alone)
        if title is not None:
            axes.set_title(title, loc="left")
    return figure


def cost_by_batch(
    batches: ArrayLike,
    costs: ArrayLike,
    *,
    mcal: ArrayLike,
    humans_alone: float,
    title: str | None = None,
) -> Figure:
    """Draws the total cost against the size of a fixed batch, and MCAL as a line.

    Args:
      batches: [n] share of the pool in a batch, rising.
      costs: [seeds, n] total in USD.
      mcal: [seeds] total of MCAL in USD.
      humans_alone: USD that buying all labels costs.
      title: above the axes, or None.

    Returns:
      A `matplotlib.figure.Figure` of one panel, for `save`.

    Raises:
      ValueError: shapes that do not fit.
      ImportError: matplotlib is missing.

    Example:
      >>> figure = cost_by_batch([0.1, 0.2], [[5, 6]], mcal=[4.0], humans_alone=10.0)
      >>> figure.axes[0].lines[0].get_xdata().tolist()
      [10.0, 20.0]
    """
    import matplotlib
    from matplotlib.figure import Figure

    shares, costs, mcal = (np.asarray(v, float) for v in (batches, costs, mcal))
    if shares.ndim != 1 or costs.ndim != 2 or costs.shape[1] != len(shares):
        raise ValueError(
            f"batches has shape {shares.shape} and costs {costs.shape}; expected [n] "
            "and [seeds, n]"
        )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(
            100 * shares, costs.mean(axis=0), "-o", color=COLORS[0], label="fixed batch"
        )
        if len(costs) > 1:
            low, high = costs.min(axis=0), costs.max(axis=0)
            axes.fill_between(
                100 * shares, low, high, color=COLORS[0], alpha=0.15, lw=0
            )
        axes.axhline(mcal.mean(), color=COLORS[1], lw=2, label="MCAL")
        if len(mcal) > 1:
            axes.axhspan(mcal.min(), mcal.max(), color=COLORS[1], alpha=0.15, lw=0)
        _people(axes, humans_alone)
        axes.set(xlabel="batch (% of the pool)", ylabel="total cost (USD)")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, title="mean, and range of the seeds")
        if title is not None:
            axes.set_title(title, loc="left")
    return figure


def fits(
    sizes: ArrayLike,
    rates: ArrayLike,
    laws: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    used: Sequence[int] = (),
    title: str | None = None,
) -> Figure:
    """Draws measured errors by training size, and laws fitted to the first of them.

    Args:
      sizes: [R] training sizes.
      rates: [R] errors > 0.
      laws: name -> (sizes [G], errors [G]).
      used: how many of the first points each law was fitted to, to be marked.
      title: above the axes, or None.

    Returns:
      A `matplotlib.figure.Figure` of one panel with logarithmic axes, for `save`.

    Raises:
      ValueError: shapes that differ.
      ImportError: matplotlib is missing.

    Example:
      >>> line = ([100, 400], [0.1, 0.05])
      >>> figure = fits([100, 200], [0.1, 0.08], {"plain": line}, used=[2])
      >>> figure.axes[0].get_xscale()
      'log'
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    sizes, rates = np.asarray(sizes, float), np.asarray(rates, float)
    if sizes.shape != rates.shape or sizes.ndim != 1:
        raise ValueError(
            f"sizes has shape {sizes.shape} and rates {rates.shape}; expected [R]"
        )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, (x, y)) in enumerate(laws.items()):
            color = COLORS[number % len(COLORS)]
            axes.plot(x, y, "--" if "plain" in name else "-", color=color, label=name)
        axes.plot(sizes, rates, "o", color="black", label="measured")
        for number in used:
            axes.axvline(sizes[number - 1], color=_GREY, lw=0.8, ls=":")
        axes.set(xscale="log", yscale="log")
        axes.set(xlabel="labels trained on", ylabel="error of the most confident share")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))
            axis.set_minor_formatter(NullFormatter())
        # Doubling, so that no number stands over another.
        doublings = np.arange(np.floor(np.log2(sizes.max() / sizes.min())) + 1)
        axes.set_xticks(sizes.min() * 2**doublings)
        axes.legend(frameon=False, fontsize=9)
        if title is not None:
            axes.set_title(title, loc="left")
    return figure


def course(
    rounds: Sequence[Mapping], *, humans_alone: float, title: str | None = None
) -> Figure:
    """Draws how the plan changed from round to round of a campaign.

    Args:
      rounds: [R] of one candidate, each with `size`, `plan_size` and `plan_cost`, which
        are None before there was a plan.
      humans_alone: USD that buying all labels costs.
      title: above the axes, or None.

    Returns:
      A `matplotlib.figure.Figure` of two panels, for `save`.

    Raises:
      ValueError: no round has a plan.
      ImportError: matplotlib is missing.

    Example:
      >>> rounds = [{"size": 10, "plan_size": 30, "plan_cost": 5.0}]
      >>> len(course(rounds, humans_alone=10.0).axes)
      2
    """
    import matplotlib
    from matplotlib.figure import Figure

    planned = [i for i, row in enumerate(rounds) if row["plan_cost"] is not None]
    if not planned:
        raise ValueError("no round has a plan; there are plans from the third on")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 6), layout="constrained")
        top, bottom = figure.subplots(2, sharex=True)
        numbers = np.arange(len(rounds)) + 1
        targets = [rounds[i]["plan_size"] for i in planned]
        top.plot(numbers, [row["size"] for row in rounds], "-o", color=COLORS[0])
        top.plot(numbers[planned], targets, "--s", color=COLORS[1])
        top.annotate(
            "bought",
            (1, rounds[0]["size"]),
            (-4, 12),
            color=COLORS[0],
            textcoords="offset points",
        )
        top.annotate(
            "planned",
            (numbers[planned[0]], targets[0]),
            (0, 8),
            color=COLORS[1],
            textcoords="offset points",
        )
        top.set(ylabel="labels to train on")
        costs = [rounds[i]["plan_cost"] for i in planned]
        bottom.plot(numbers[planned], costs, "-o", color=COLORS[1])
        _people(bottom, humans_alone)
        bottom.set(xlabel="round", ylabel="predicted total (USD)")
        bottom.set_ylim(bottom=0)
        bottom.set_xticks(numbers)
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
