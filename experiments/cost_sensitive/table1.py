"""Table 1: labels that the acquisition functions need, relative to random."""

import math
from collections.abc import Iterable, Mapping

from experiments.common import paired
from experiments.common.paired import Record
from experiments.cost_sensitive.curves import by_arm, labels_to_reach

ACQUISITIONS = "bald", "entropy", "mean_std"
PAPER = {
    "bald": (0.67, 0.75, 1.04, 0.59, 0.62),
    "entropy": (0.71, 0.85, 0.87, 0.65, 0.65),
    "mean_std": (0.57, 0.53, 0.79, 0.53, 0.59),
}
# How the labels to reach a target are read off a curve; the first is the headline.
READINGS = {
    "raw": {"interpolate": False, "smooth": 1},
    "interpolated": {"interpolate": True, "smooth": 1},
    "smoothed": {"interpolate": False, "smooth": 3},
}
_LACKS = {"censored": "never reached the target", "missing": "was not run"}
NOT_TRIED = {"verdict": "not tried"}
_ANSWERS = {"replicated": True, "opposite": False, "yes": True, "no": False}


def summarize(records: Iterable[Record], target: float = 0.9) -> dict:
    """How many labels the acquisition functions need, relative to random (claim a).

    All is done for each of `READINGS`: labels at the first round that reached the
    target ("raw"), interpolated between rounds, or after a running mean of 3 rounds.

    A seed in which a strategy or random never reached the target has no ratio and is
    left out of means and intervals. As that leaves out bad results of whichever failed,
    an interval that speaks for it is not believed: the verdict is then "not resolved".

    Args:
      records: runs of "random", "bald", "entropy" and "mean_std"; others are ignored.
      target: the accuracy.

    Returns:
      "target", "seeds" (all, ascending), "paper" (the published ratios, treated alike),
      "arms": arm -> reading -> "labels" and "ratio" (by seed, None: not reached or not
      run), "labels_mean", "labels_sd", "censored" and "missing" (seeds), "n", "mean",
      "sd" (ddof 0) and "sd_sample" (ddof 1) of the ratio, "interval" of the mean of
      ratio - 1, "ratio_of_means" over the same seeds, and "verdict", whether the labels
      are fewer than random's: "replicated", "opposite", "not resolved" or "not tried";
      "verdicts": reading -> "all beat random", "mean_std best" ("per_seed": "yes",
      "tied", "no", or None if unknown) and "mean_std - bald", "mean_std - entropy"
      (statistics of the difference of the ratios), each with a "verdict".

    Raises:
      ValueError: no runs, one run twice, or lists of different lengths.

    Example:
      >>> run = lambda arm, accuracy: {
      ...     "arm": arm, "seed": 0, "accuracy": accuracy,
      ...     "count": [20, 30, 40], "spend": [0.0, 0.0, 0.0],
      ... }  # fmt: skip
      >>> runs = [run("random", [0.1, 0.8, 0.9]), run("bald", [0.1, 0.9, 0.9])]
      >>> summarize(runs)["arms"]["bald"]["raw"]["mean"]
      0.75
    """
    arms = by_arm(records, lambda arm: arm == "random" or arm in ACQUISITIONS)
    seeds = sorted(set().union(*arms.values()))
    names = [name for name in ("random", *ACQUISITIONS) if name in arms]
    results: dict[str, dict] = {name: {} for name in names}
    verdicts = {}
    for reading, options in READINGS.items():
        labels = {
            arm: {s: labels_to_reach(r, target, **options) for s, r in runs.items()}
            for arm, runs in arms.items()
        }
        for arm in names:
            results[arm][reading] = _cell(arm, labels, seeds)
        cells = {arm: results[arm][reading] for arm in names}
        verdicts[reading] = _verdicts(labels, cells, seeds)
    return {
        "target": target,
        "seeds": seeds,
        "arms": results,
        "verdicts": verdicts,
        "paper": {
            arm: {"ratio": list(values), **_less_one(paired.mean_interval(values))}
            for arm, values in PAPER.items()
        },
    }


def _less_one(statistics):
    interval = statistics["interval"]
    return {**statistics, "interval": interval and [end - 1 for end in interval]}


def _cell(arm, labels, seeds):
    own, random = labels[arm], labels.get("random", {})
    reached = {s: value for s, value in own.items() if value is not None}
    both = [s for s in seeds if s in reached and random.get(s) is not None]
    ratio = {s: reached[s] / random[s] for s in both}
    statistics = _less_one(paired.mean_interval(ratio.values()))
    mean_labels = paired.mean_interval(reached.values())
    total = lambda labels: sum(labels[s] for s in both)
    of_means = total(reached) / total(random) if both else None
    failed = lambda labels: {s for s in own if s in random and labels[s] is None}
    fewer = _fewer(statistics, failed(own), failed(random))
    return {
        "labels": [own.get(s) for s in seeds],
        "labels_mean": mean_labels["mean"],
        "labels_sd": mean_labels["sd"],
        "censored": [s for s in seeds if s in own and own[s] is None],
        "missing": [s for s in seeds if s not in own],
        "ratio": [ratio.get(s) for s in seeds],
        **statistics,
        "ratio_of_means": of_means,
        "verdict": fewer if arm != "random" and random else "not tried",
    }


def _fewer(statistics, failed, others_failed):
    """Verdict on an interval below 0, not believed where it leaves out own failures."""
    answer = paired.is_below(statistics)
    against = {True: failed - others_failed, False: others_failed - failed}
    if answer is not None and against[answer]:
        answer = None
    return paired.verdict(answer, no="opposite")


def _verdicts(labels, cells, seeds):
    tried = [arm for arm in ACQUISITIONS if arm in cells]
    complete = len(tried) == len(ACQUISITIONS)
    together = lambda answers: paired.verdict(paired.all_of(map(_ANSWERS.get, answers)))
    best = [_is_best("mean_std", labels, seed) for seed in seeds]
    verdicts: dict[str, dict] = {
        "all beat random": NOT_TRIED,
        "mean_std best": {
            "per_seed": best,
            "verdict": together(best) if complete else "not tried",
        },
    }
    if complete and "random" in cells:
        single = [cells[arm]["verdict"] for arm in tried]
        verdicts["all beat random"] = {"verdict": together(single)}
    for other in ("bald", "entropy"):
        verdict = NOT_TRIED
        if {"mean_std", other} <= cells.keys():
            verdict = _compare(cells["mean_std"], cells[other])
        verdicts[f"mean_std - {other}"] = verdict
    return verdicts


def _is_best(arm, labels, seed):
    """Whether an arm needed the fewest labels of all; not reached is more than any."""
    if any(seed not in runs for runs in labels.values()) or arm not in labels:
        return None
    needed = {name: runs[seed] or math.inf for name, runs in labels.items()}
    own = needed.pop(arm)
    least = min(needed.values(), default=math.inf)
    if own == least:
        return None if own == math.inf else "tied"
    return "yes" if own < least else "no"


def _compare(a, b):
    pairs = zip(a["ratio"], b["ratio"], strict=True)
    statistics = paired.mean_interval(x - y for x, y in pairs if None not in (x, y))
    failed = set(a["censored"]), set(b["censored"])
    return {**statistics, "verdict": _fewer(statistics, *failed)}


def format_summary(summary: Mapping) -> str:
    """Table 1 as text, also valid Markdown.

    Args:
      summary: what `summarize` returned.

    Returns:
      Several lines: the ratios beside the paper's, how they depend on the reading, and
      the verdicts.

    Example:
      >>> run = {"arm": "random", "seed": 0, "accuracy": [0.1, 0.95],
      ...     "count": [20, 30], "spend": [0.0, 0.0]}  # fmt: skip
      >>> print(format_summary(summarize([run])).splitlines()[5][:26])
      | random (labels) |     30
    """
    seeds, arms = summary["seeds"], summary["arms"]
    others = {arm: readings for arm, readings in arms.items() if arm != "random"}
    header = ["strategy", *(f"seed {s}" for s in seeds), "mean ± SD"]
    header += ["95 % interval", "beats random?", "paper"]
    rows = []
    if "random" in arms:
        cell = arms["random"]["raw"]
        labels = _by_seed(cell, "labels", seeds, ".0f")
        rows.append(["random (labels)", *labels, _labels(cell, seeds), "", "", ""])
    for arm, readings in others.items():
        cell, interval = readings["raw"], "-"
        if cell["interval"]:
            interval = "[{:.2f}, {:.2f}]".format(*(end + 1 for end in cell["interval"]))
        ratios = [*_by_seed(cell, "ratio", seeds, ".2f"), _ratio(cell, seeds)]
        paper = paired.spread_text(summary["paper"][arm], ".2f")
        rows.append([arm, *ratios, interval, _fewer_text(cell), paper])
    readings = "The same, by how the crossing of the target is read off the curves:"
    return paired.page(
        f"Labels needed for {100 * summary['target']:.12g} % test accuracy (the "
        "initial ones included), divided by those that random needs with the same "
        "seed: below 1 is better.",
        paired.table(header, rows),
        readings if others else "",
        _readings_table(others, seeds) if others else "",
        _verdict_lines(summary),
        "± is the SD over seeds (ddof 0, as in the paper), [ ] the 95 % t interval of "
        "the mean over seeds; n seeds reached the target, where not all did; the "
        "paper's column is computed from its five ratios.",
    )


def _fewer_text(cell):
    return {"replicated": "yes", "opposite": "no, more"}.get(cell["verdict"]) or (
        cell["verdict"]
    )


def _readings_table(arms, seeds):
    header = ["strategy", "labels", "first round", "interpolated"]
    header += ["running mean of 3", "ratio of mean labels"]
    rows = []
    for arm, readings in arms.items():
        raw, ratios = readings["raw"], [_ratio(readings[r], seeds) for r in READINGS]
        of_means = raw["ratio_of_means"]
        of_means = "-" if of_means is None else f"{of_means:.2f}"
        rows.append([arm, _labels(raw, seeds), *ratios, of_means])
    return paired.table(header, rows)


def _verdict_lines(summary):
    lines = []
    for arm, readings in summary["arms"].items():
        for field, what in _LACKS.items():
            seeds = ", ".join(map(str, readings["raw"][field]))
            lines += [f"- {arm} {what} with seed {seeds}."] if seeds else []
    verdicts = summary["verdicts"]["raw"]
    everyone, best = verdicts["all beat random"], verdicts["mean_std best"]
    lead = "- Every strategy needs fewer labels than random: "
    lines.append(f"{lead}{everyone['verdict']}.")
    per_seed = ", ".join(str(answer or "unknown") for answer in best["per_seed"])
    tried = "" if best["verdict"] == "not tried" else f" (by seed: {per_seed})"
    lead = "- mean_std needs the fewest labels with every seed: "
    lines.append(f"{lead}{best['verdict']}{tried}.")
    for other in ("bald", "entropy"):
        found = verdicts[f"mean_std - {other}"]
        if found != NOT_TRIED:
            text = f"{paired.seeds_text(found)}; fewer labels: {_fewer_text(found)}"
            ratio = paired.value_text(found, "+.2f")
            lines.append(f"- mean_std against {other}: ratio {ratio} ({text}).")
    return lines


def _by_seed(cell, kind, seeds, form):
    for seed, value in zip(seeds, cell[kind], strict=True):
        if value is not None:
            yield format(value, form)
        elif seed in cell["censored"]:
            yield "not reached"
        else:
            yield "not run" if seed in cell["missing"] else "-"


def _ratio(cell, seeds):
    return paired.spread_text(cell, ".2f") + counted(cell["n"], seeds)


def _labels(cell, seeds):
    reached = len(seeds) - cell["labels"].count(None)
    labels = {"mean": cell["labels_mean"], "sd": cell["labels_sd"]}
    return paired.spread_text(labels, ".0f") + counted(reached, seeds)


def counted(n: int, seeds) -> str:
    return "" if n == len(seeds) else f" (n = {n})"
