"""Comparisons of methods that share seeds: statistics, verdicts, and them as text."""

import math
import operator
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Record = Mapping[str, Any]
Runs = Mapping[int, Record]  # by seed
Claim = tuple[str, bool | None, str]  # what, whether it holds, the numbers
Measure = str | Callable[[Record], Any]  # a field, or a function of the record


# --- records --------------------------------------------------------------------------


def by_arm(records: Iterable[Record]) -> dict[str, dict[int, Record]]:
    """Arm -> seed -> record, in the order of the records.

    Raises:
      ValueError: one run twice.
    """
    arms: dict[str, dict[int, Record]] = {}
    for record in records:
        arm, seed = record["arm"], record["seed"]
        if seed in arms.setdefault(arm, {}):
            raise ValueError(f"{arm!r}, seed {seed} occurs twice in records")
        arms[arm][seed] = record
    return arms


def each(runs: Runs, measure: Measure) -> dict[int, Any]:
    """Seed -> what is measured of its run, without those where that is None."""
    of = operator.itemgetter(measure) if isinstance(measure, str) else measure
    found = {seed: of(run) for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def mean_of(runs: Runs, measure: Measure) -> dict:
    """Statistics of what is measured of runs."""
    return mean_interval(each(runs, measure).values())


def gap(runs: Runs, others: Runs, measure: Measure) -> dict:
    """Statistics of how much more is measured of runs than of others."""
    return difference(each(runs, measure), each(others, measure))


def running_mean(values: Sequence[float], width: int) -> np.ndarray:
    """Means of `width` neighbours, an odd number, and of fewer at the ends."""
    half, array = width // 2, np.asarray(values, float)
    windows = (array[max(0, i - half) : i + half + 1] for i in range(len(array)))
    return np.array([np.nanmean(window) for window in windows])


def first_reach(
    accuracy, paid, target: float, *, interpolate: bool = False, tolerance: float = 0.0
) -> float | None:
    """What was paid when an accuracy was first reached.

    Args:
      accuracy: [R] by round.
      paid: [R] up to it: labels, money, time.
      target: the accuracy.
      interpolate: reads the crossing off the straight line between the round before and
        the first that reached the target, instead of taking the latter.
      tolerance: how much less is accepted.

    Returns:
      What was paid, or None if the target was never reached.
    """
    reached = np.flatnonzero(np.asarray(accuracy, float) >= target - tolerance)
    if not reached.size:
        return None
    first = reached[0]
    if not interpolate or first == 0:
        return float(paid[first])
    before, low = paid[first - 1], accuracy[first - 1]
    share = min((target - low) / (accuracy[first] - low), 1.0)
    return float(before + share * (paid[first] - before))


# --- statistics -----------------------------------------------------------------------


def mean_interval(values: Iterable[float]) -> dict:
    """Mean, and with two or more values SDs (ddof 0, 1) and the mean's t interval."""
    array = np.array(list(values), float)
    n = array.size
    result: dict[str, Any] = {"n": n} | dict.fromkeys(
        ("mean", "sd", "sd_sample", "interval")
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


def claims(found: Iterable[Claim]) -> dict[str, dict[str, str]]:
    """Claim -> its verdict and text."""
    return {
        name: {"verdict": verdict(answer), "text": text} for name, answer, text in found
    }


# --- texts ----------------------------------------------------------------------------


def seeds_text(statistics: Mapping) -> str:
    n = statistics["n"]
    return f"{n} seed{'' if n == 1 else 's'}"


def value_text(statistics: Mapping, form: str, scale: float = 1.0) -> str:
    """Mean and interval; without one nothing can be said of how sure the mean is."""
    if statistics["mean"] is None:
        return "-"
    text = format(scale * statistics["mean"], form)
    if statistics["interval"] is None:
        return text
    low, high = (format(scale * end, form) for end in statistics["interval"])
    return f"{text} [{low}, {high}]"


def spread_text(statistics: Mapping, form: str, scale: float = 1.0) -> str:
    """Mean ± SD (ddof 0)."""
    mean, sd = statistics["mean"], statistics["sd"]
    if mean is None:
        return "-"
    text = format(scale * mean, form)
    return text if sd is None else f"{text} ± {format(scale * sd, form)}"


def wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 100, subsequent_indent=indent, break_on_hyphens=False)


def page(*blocks: Any) -> str:
    """One below the other: paragraphs, which are wrapped, and lines as they are."""
    texts = [wrap(b) if isinstance(b, str) else "\n".join(b) for b in blocks if b]
    return "\n\n".join(texts)


def claim_lines(claims: Mapping[str, Mapping]) -> list[str]:
    """A line or more for each claim: its verdict and its numbers."""
    return [
        wrap(f"{name}: {found['verdict']} ({found['text']})", "  ")
        for name, found in claims.items()
    ]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of an aligned table with pipes; the first column to the left."""
    cells = [header, *rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row):
        texts = [row[0].ljust(widths[0])]
        texts += [t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join(texts)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(header), line(rule), *map(line, cells[1:])]


def columns(cells: Mapping[str, Callable[..., str]], items: Iterable) -> list[str]:
    """`table` of items, tuples each, with a function of them for each column."""
    rows = [[cell(*item) for cell in cells.values()] for item in items]
    return table(list(cells), rows)
