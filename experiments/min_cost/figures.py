"""Figures of minimum-cost labelling: schemes, batches, error laws, courses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from experiments.common.figures import GREY, drawing, note, readable_ticks
from jal.plots import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAND = {"alpha": 0.15, "lw": 0}


def schemes(costs: Mapping[str, ArrayLike], *, humans_alone, title) -> Figure:
    """Draws what each way of labelling cost: a bar each, the mean over seeds.

    The points are the seeds; the number beside a bar is its saving against people
    alone, the dashed line.

    Args:
      costs: name -> [seeds] total in USD.
      humans_alone: USD that buying all labels costs.
      title: above the axes.

    Returns:
      A figure of one panel.

    Raises:
      ValueError: no costs.

    Example:
      >>> figure = schemes({"MCAL": [4.0, 6.0]}, humans_alone=10.0, title="")
      >>> float(figure.axes[0].patches[0].get_width())
      5.0
    """
    if not costs:
        raise ValueError("costs is empty; give at least one name: [seeds]")
    with drawing(8, 1.2 + 0.42 * len(costs), title) as (figure, axes):
        for place, (name, values) in enumerate(costs.items()):
            values = np.asarray(values, float)
            mean = values.mean()
            color = COLORS[1] if name.startswith("MCAL") else COLORS[0]
            axes.barh(place, mean, 0.7, color=color)
            axes.plot(values, np.full(len(values), place), "o", color="black", ms=3)
            text = f"{mean:,.2f} USD, {1 - mean / humans_alone:.0%} less"
            end = max(values.max(), mean), place
            note(axes, text, end, (6, 0), va="center", xycoords="data")
        axes.set_yticks(range(len(costs)), list(costs))
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.axvline(humans_alone, color="black", lw=1, ls="--")
        readable_ticks(axes)
        axes.set(xlabel="total cost (USD); dashed: people alone")
        axes.set_xlim(0, 1.05 * humans_alone)
    return figure


def cost_by_batch(batches, costs, *, mcal, humans_alone, title) -> Figure:
    """Draws the total cost against the size of a fixed batch, and MCAL as a line.

    Args:
      batches: [n] share of the pool in a batch, rising.
      costs: [seeds, n] total in USD.
      mcal: [seeds] total of MCAL in USD.
      humans_alone: USD that buying all labels costs.
      title: above the axes.

    Returns:
      A figure of one panel.

    Raises:
      ValueError: shapes that do not fit.

    Example:
      >>> options = dict(mcal=[4.0], humans_alone=10.0, title="")
      >>> figure = cost_by_batch([0.1, 0.2], [[5, 6]], **options)
      >>> figure.axes[0].lines[0].get_xdata().tolist()
      [10.0, 20.0]
    """
    shares, costs, mcal = (np.asarray(v, float) for v in (batches, costs, mcal))
    if shares.ndim != 1 or costs.ndim != 2 or costs.shape[1] != len(shares):
        raise ValueError(
            f"batches has shape {shares.shape} and costs {costs.shape}; expected [n] "
            "and [seeds, n]"
        )
    with drawing(8, 5, title) as (figure, axes):
        color, x = COLORS[0], 100 * shares
        axes.plot(x, costs.mean(axis=0), "-o", color=color, label="fixed batch")
        if len(costs) > 1:
            band = costs.min(axis=0), costs.max(axis=0)
            axes.fill_between(x, *band, color=color, **_BAND)
        axes.axhline(mcal.mean(), color=COLORS[1], lw=2, label="MCAL")
        if len(mcal) > 1:
            axes.axhspan(mcal.min(), mcal.max(), color=COLORS[1], **_BAND)
        _people(axes, humans_alone)
        axes.set(xlabel="batch (% of the pool)", ylabel="total cost (USD)")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, title="mean, and range of the seeds")
    return figure


def fits(sizes, rates, laws, *, used, title) -> Figure:
    """Draws measured errors by training size, and laws fitted to the first of them.

    Args:
      sizes: [R] training sizes.
      rates: [R] errors > 0.
      laws: name -> (sizes [G], errors [G]).
      used: how many of the first points each law was fitted to, to be marked.
      title: above the axes.

    Returns:
      A figure of one panel with logarithmic axes.

    Raises:
      ValueError: shapes that differ.

    Example:
      >>> laws = {"plain": ([100, 400], [0.1, 0.05])}
      >>> figure = fits([100, 200], [0.1, 0.08], laws, used=[2], title="")
      >>> figure.axes[0].get_xscale()
      'log'
    """
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    sizes, rates = np.asarray(sizes, float), np.asarray(rates, float)
    if sizes.shape != rates.shape or sizes.ndim != 1:
        raise ValueError(
            f"sizes has shape {sizes.shape} and rates {rates.shape}; expected [R]"
        )
    with drawing(8, 5, title) as (figure, axes):
        for number, (name, (x, y)) in enumerate(laws.items()):
            color = COLORS[number % len(COLORS)]
            axes.plot(x, y, "--" if "plain" in name else "-", color=color, label=name)
        axes.plot(sizes, rates, "o", color="black", label="measured")
        for number in used:
            axes.axvline(sizes[number - 1], color=GREY, lw=0.8, ls=":")
        axes.set(xscale="log", yscale="log")
        axes.set(xlabel="labels trained on", ylabel="error of the most confident share")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:,.12g}"))
            axis.set_minor_formatter(NullFormatter())
        # Doubling, so that no number stands over another.
        doublings = np.arange(np.floor(np.log2(sizes.max() / sizes.min())) + 1)
        axes.set_xticks(sizes.min() * 2**doublings)
        axes.legend(frameon=False, fontsize=9)
    return figure


def course(rounds: Sequence[Mapping], *, humans_alone: float, title: str) -> Figure:
    """Draws how the plan changed from round to round of a campaign.

    Args:
      rounds: [R] of one candidate, each with `size`, `plan_size` and `plan_cost`, which
        are None before there was a plan.
      humans_alone: USD that buying all labels costs.
      title: above the axes.

    Returns:
      A figure of two panels.

    Raises:
      ValueError: no round has a plan.

    Example:
      >>> rounds = [{"size": 10, "plan_size": 30, "plan_cost": 5.0}]
      >>> len(course(rounds, humans_alone=10.0, title="").axes)
      2
    """
    planned = [i for i, row in enumerate(rounds) if row["plan_cost"] is not None]
    if not planned:
        raise ValueError("no round has a plan; there are plans from the third on")
    numbers = np.arange(len(rounds)) + 1
    bought = numbers, [row["size"] for row in rounds]
    targets = numbers[planned], [rounds[i]["plan_size"] for i in planned]
    costs = [rounds[i]["plan_cost"] for i in planned]
    with drawing(8, 6, title, nrows=2, sharex=True) as (figure, (top, bottom)):
        for (x, y), line, text, shift, color in (
            (bought, "-o", "bought", (-4, 12), COLORS[0]),
            (targets, "--s", "planned", (0, 8), COLORS[1]),
        ):
            top.plot(x, y, line, color=color)
            note(
                top,
                text,
                (x[0], y[0]),
                shift,
                color=color,
                xycoords="data",
                fontsize=11,
            )
        top.set(ylabel="labels to train on")
        bottom.plot(numbers[planned], costs, "-o", color=COLORS[1])
        _people(bottom, humans_alone)
        bottom.set(xlabel="round", ylabel="predicted total (USD)", xticks=numbers)
        bottom.set_ylim(bottom=0)
    return figure


def _people(axes: Axes, cost: float) -> None:
    axes.axhline(cost, color="black", lw=1, ls="--")
    note(axes, f"people alone, {cost:,.2f} USD", (0, cost), (4, 3))
