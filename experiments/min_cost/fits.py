"""How well laws of the first few rounds predict the errors of later ones."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.common import paired
from experiments.common.paired import Record
from experiments.min_cost import figures
from jal import mcal

POINTS = (3, 5, 7, 9)


def fits(record: Record, theta: float = 0.5) -> tuple[dict, Any]:
    """Fits laws to the first points of a run.

    Args:
      record: a run with many rounds, of a small fixed batch.
      theta: whose points are drawn.

    Returns:
      Root mean square errors of ln eps over all thetas and later rounds, by law and
      number of points; and () -> the figure.

    Raises:
      ValueError: the run is too short.
    """
    rounds, run = record["rounds"], f"{record['arm']} seed {record['seed']}"
    points = [number for number in POINTS if number + 2 <= len(rounds)]
    if not points:
        raise ValueError(
            f"{run} has {len(rounds)} rounds; at least {POINTS[0] + 2} are needed"
        )
    sizes, counts, errors = (
        np.array([row[name] for row in rounds]) for name in ("size", "counts", "errors")
    )
    sizes = jnp.asarray(sizes, jnp.float32)
    rate, weight = mcal.error_rates(jnp.asarray(counts), jnp.asarray(errors))
    place = mcal.THETAS.index(theta)
    later = np.arange(len(rounds)) >= max(points)
    table: dict[str, dict[int, float]] = {"plain": {}, "truncated": {}}
    lines = {}
    for number in points:
        first = sizes[:number], rate[:number], weight[:number]
        for name in table:
            law = mcal.fit_law(*first, truncated=name == "truncated")
            predicted = np.asarray(mcal.predict_errors(law, sizes))
            misses = np.log(predicted / np.asarray(rate))
            # Laws of a handful of errors say little.
            used = (errors >= 5) & later[:, None] & np.isfinite(misses)
            table[name][number] = float(np.sqrt(np.mean(misses[used] ** 2)))
            if number != 7:
                lines[f"{name}, {number} points"] = sizes, predicted[:, place]
    title = f"error of the most confident {theta:.0%}, {run.replace(' seed', ', seed')}"
    drawn = lambda: figures.fits(sizes, rate[:, place], lines, used=points, title=title)
    return {"rms": table, "later_rounds": int(later.sum())}, drawn


def format_fits(found: dict, record: Record) -> str:
    """The table as text."""
    points = list(found["rms"]["plain"])
    rows = [
        [name, *(f"{row[number]:.3f}" for number in points)]
        for name, row in found["rms"].items()
    ]
    header = ["law", *(f"{number} points" for number in points)]
    lead = (
        f"Root mean square error of ln eps in {found['later_rounds']} later rounds, "
        f"of {record['arm']}, seed {record['seed']}:"
    )
    return "\n".join([lead, *paired.table(header, rows)])
