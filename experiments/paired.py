"""Comparisons of methods that share seeds: statistics, verdicts, and them as text."""

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import stats


def mean_interval(values: Iterable[float]) -> dict:
    """Mean, and with two or more values SDs (ddof 0, 1) and the mean's t interval."""
    array = np.array(list(values), float)
    n = array.size
    result: dict[str, Any] = dict(
        n=n, mean=None, sd=None, sd_sample=None, interval=None
    )
    if n:
        result["mean"] = mean = float(array.mean())
    if n > 1:
        sample = float(array.std(ddof=1))
        half = float(stats.t.ppf(0.975, n - 1)) * sample / math.sqrt(n)
        result |= {"sd": float(array.std()), "sd_sample": sample}
        result["interval"] = [mean - half, mean + half]
    return result


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> dict:
    """Statistics of a - b over the seeds of both."""
    return mean_interval(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))


def scaled(statistics: Mapping, factor: float) -> dict:
    """Statistics of what was measured, times a factor > 0."""
    scale = lambda value: None if value is None else value * factor
    interval = statistics["interval"]
    return {
        "n": statistics["n"],
        **{name: scale(statistics[name]) for name in ("mean", "sd", "sd_sample")},
        "interval": interval and [scale(end) for end in interval],
    }


def is_below(statistics: Mapping, bound: float = 0.0) -> bool | None:
    """Whether the interval lies below (True) or above (False); None: neither."""
    interval = statistics["interval"]
    if interval is None or interval[0] <= bound <= interval[1]:
        return None
    return interval[1] < bound


def is_above(statistics: Mapping, bound: float = 0.0) -> bool | None:
    below = is_below(statistics, bound)
    return None if below is None else not below


def all_of(answers: Iterable[bool | None]) -> bool | None:
    """Logical and, where None is unknown."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True


def verdict(answer: bool | None, *, no: str = "not replicated") -> str:
    return {True: "replicated", False: no, None: "not resolved"}[answer]


def seeds_text(statistics):
    n = statistics["n"]
    return f"{n} seed{'' if n == 1 else 's'}"


def value_text(statistics, form, scale=1.0):
    """Mean and interval; without one nothing can be said of how sure the mean is."""
    if statistics["mean"] is None:
        return "-"
    text = format(scale * statistics["mean"], form)
    if statistics["interval"] is None:
        return text
    low, high = (format(scale * end, form) for end in statistics["interval"])
    return f"{text} [{low}, {high}]"


def wrap(text, indent=""):
    return textwrap.fill(text, 100, subsequent_indent=indent, break_on_hyphens=False)


def table(header, rows):
    """Lines of an aligned table with pipes; the first column to the left."""
    cells = [header, *rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row):
        texts = [row[0].ljust(widths[0])]
        texts += [t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join(texts)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(header), line(rule), *map(line, rows)]
