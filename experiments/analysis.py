"""What the runs of the cost-sensitive experiments show: statistics and verdicts.

A record is a dict, as JSON gives it, of one run: "arm" (what chose), "seed", and lists
of T + 1 entries, one for each round: "accuracy" of the round's model on the test set
(None where it was not evaluated), "count" of the labels and "spend", the cost of the
labels it was trained on. Arms with the same seed share the initial labels and the
candidates, so everything is compared seed by seed. What the functions return can be
written as JSON.

Costs are in arbitrary units, accuracies in [0, 1]. "Interval" is a 95 % t interval of a
mean over seeds, or None with fewer than two. Arms that the tables do not know are
ignored.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import paired
from experiments.paired import seeds_text, value_text

ACQUISITIONS = "bald", "entropy", "mean_std"
LEARNED = "learned beta=0.3"
PAPER_TABLE1 = {
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
CLAIMS = {
    "b": "accuracy falls as beta grows",
    "c": "some beta is at least as accurate as random at a considerably lower cost",
    "d": "beta < 0.2 costs more than random at the same number of labels",
    "e": "beta trades less accuracy for cost at the end than halfway",
    "f": "beta = 0.3 costs less than random with a minimal loss of accuracy",
    "g": "a learned cost (beta = 0.3) is cheaper than random and than beta = 0",
    "h": "the predicted cost is too low, and a learned cost dearer than a known one",
}
# Accuracies come from float32: 0.9 may be stored as 0.8999999762.
_TOLERANCE = 1e-6
_KNOWN = re.compile(r"mean_std beta=([0-9.]+)")

Record = Mapping[str, Any]


# --- what a run needed ----------------------------------------------------------------


def labels_to_reach(
    record: Record, target: float = 0.9, *, interpolate: bool = False, smooth: int = 1
) -> float | None:
    """Labels, the initial ones included, with which a run first reached an accuracy.

    Args:
      record: a run.
      target: the accuracy; 1e-6 less is accepted, for accuracies computed in float32.
      interpolate: read the crossing off the straight line between the round before and
        the first that reached the target, instead of taking the latter.
      smooth: odd number of evaluated rounds over which the accuracies are averaged
        first, centred; fewer at either end.

    Returns:
      The number of labels, or None if the target was never reached (censored).

    Raises:
      ValueError: `smooth` is not odd and positive.

    Example:
      >>> run = {"accuracy": [0.5, None, 0.8, 1.0], "count": [20, 30, 40, 50]}
      >>> labels_to_reach(run), labels_to_reach(run, interpolate=True)
      (50.0, 45.0)
    """
    return _reach(record, record["count"], target, interpolate, smooth)


def spend_to_reach(
    record: Record, target: float = 0.9, *, interpolate: bool = False, smooth: int = 1
) -> float | None:
    """Annotation cost, that of the initial labels excluded, to first reach an accuracy.

    Args:
      record: a run.
      target: as in `labels_to_reach`, as are the others.
      interpolate: between evaluated rounds.
      smooth: odd number of evaluated rounds averaged first.

    Returns:
      The cost, or None if the target was never reached (censored).

    Raises:
      ValueError: `smooth` is not odd and positive.

    Example:
      >>> run = {"accuracy": [0.5, 0.8, 1.0], "spend": [7.0, 9.0, 12.0]}
      >>> spend_to_reach(run), spend_to_reach(run, interpolate=True)
      (5.0, 3.5)
    """
    spend = record["spend"]
    return _reach(record, [s - spend[0] for s in spend], target, interpolate, smooth)


def _reach(record, paid, target, interpolate, smooth):
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError(f"smooth={smooth}; it must be odd and positive")
    rounds = evaluated_rounds(record)
    raw = [record["accuracy"][r] for r in rounds]
    half = smooth // 2
    accuracy = [
        float(np.mean(raw[max(0, i - half) : i + half + 1])) for i in range(len(raw))
    ]
    for i, value in enumerate(accuracy):
        if value >= target - _TOLERANCE:
            after = paid[rounds[i]]
            if not interpolate or i == 0:
                return float(after)
            before, rise = paid[rounds[i - 1]], value - accuracy[i - 1]
            share = min((target - accuracy[i - 1]) / rise, 1.0)
            return float(before + share * (after - before))
    return None


def evaluated_rounds(record) -> list[int]:
    return [r for r, value in enumerate(record["accuracy"]) if _is_number(value)]


def _is_number(value) -> bool:
    return value is not None and not math.isnan(value)


# --- statistics over seeds ------------------------------------------------------------


def by_arm(records: Iterable[Record], wanted: Callable[[str], Any]) -> dict:
    """Arm -> seed -> record, of the arms wanted, in the order of the records."""
    arms: dict[str, dict[int, Record]] = {}
    for record in records:
        arm, seed = record["arm"], record["seed"]
        if not wanted(arm):
            continue
        lengths = {name: len(record[name]) for name in ("accuracy", "count", "spend")}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{arm!r}, seed {seed}: lengths differ: {lengths}")
        if seed in arms.setdefault(arm, {}):
            raise ValueError(f"{arm!r}, seed {seed} occurs twice in records")
        arms[arm][seed] = record
    if not arms:
        raise ValueError("records holds no run of an arm that this table is about")
    return arms


# --- table 1 --------------------------------------------------------------------------


def table1(records: Iterable[Record], target: float = 0.9) -> dict:
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
      >>> table1(runs)["arms"]["bald"]["raw"]["mean"]
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
            results[arm][reading] = _table1_cell(arm, labels, seeds)
        verdicts[reading] = _table1_verdicts(labels, results, reading, seeds)
    return {
        "target": target,
        "seeds": seeds,
        "arms": results,
        "verdicts": verdicts,
        "paper": {arm: _paper_cell(values) for arm, values in PAPER_TABLE1.items()},
    }


def _table1_cell(arm, labels, seeds):
    own, random = labels[arm], labels.get("random", {})
    reached = {s: value for s, value in own.items() if value is not None}
    both = [s for s in seeds if s in reached and random.get(s) is not None]
    ratio = {s: reached[s] / random[s] for s in both}
    statistics = paired.mean_interval(ratio.values())
    mean_labels = paired.mean_interval(reached.values())
    if statistics["interval"] is not None:
        statistics["interval"] = [end - 1 for end in statistics["interval"]]
    answer = paired.is_below(statistics)
    known = [s for s in own if s in random]
    if answer is True and any(own[s] is None and random[s] is not None for s in known):
        answer = None
    if answer is False and any(own[s] is not None and random[s] is None for s in known):
        answer = None
    tried = arm != "random" and bool(random)
    return {
        "labels": [own.get(s) for s in seeds],
        "labels_mean": mean_labels["mean"],
        "labels_sd": mean_labels["sd"],
        "censored": [s for s in seeds if s in own and own[s] is None],
        "missing": [s for s in seeds if s not in own],
        "ratio": [ratio.get(s) for s in seeds],
        **statistics,
        "ratio_of_means": (
            sum(reached[s] for s in both) / sum(random[s] for s in both)
            if both
            else None
        ),
        "verdict": paired.verdict(answer, no="opposite") if tried else "not tried",
    }


def _table1_verdicts(labels, results, reading, seeds):
    tried = [arm for arm in ACQUISITIONS if arm in results]
    verdicts: dict[str, dict] = {"all beat random": {"verdict": "not tried"}}
    if "random" in results and len(tried) == len(ACQUISITIONS):
        single = [results[arm][reading]["verdict"] for arm in tried]
        known = {"replicated": True, "opposite": False}
        verdicts["all beat random"] = {
            "verdict": paired.verdict(paired.all_of(map(known.get, single)))
        }

    best = [_is_best("mean_std", labels, seed) for seed in seeds]
    answer = paired.all_of({"yes": True, "no": False}.get(b or "") for b in best)
    complete = len(tried) == len(ACQUISITIONS)
    verdicts["mean_std best"] = {
        "per_seed": best,
        "verdict": paired.verdict(answer) if complete else "not tried",
    }
    for other in ("bald", "entropy"):
        verdict = {"verdict": "not tried"}
        if "mean_std" in results and other in results:
            verdict = _compare_ratios(
                results["mean_std"][reading], results[other][reading], seeds
            )
        verdicts[f"mean_std - {other}"] = verdict
    return verdicts


def _is_best(arm, labels, seed):
    """Whether an arm needed the fewest labels of all; not reached is more than any."""
    if any(seed not in runs for runs in labels.values()) or arm not in labels:
        return None
    needed = {
        name: math.inf if runs[seed] is None else runs[seed]
        for name, runs in labels.items()
    }
    own = needed.pop(arm)
    least = min(needed.values(), default=math.inf)
    if own == least:
        return None if own == math.inf else "tied"
    return "yes" if own < least else "no"


def _compare_ratios(a, b, seeds):
    ratios = [
        {s: r for s, r in zip(seeds, cell["ratio"], strict=True) if r is not None}
        for cell in (a, b)
    ]
    statistics = paired.difference(*ratios)
    answer = paired.is_below(statistics)
    # The seeds left out are those in which the one that failed was worse.
    failed_a, failed_b = set(a["censored"]), set(b["censored"])
    if (answer is True and failed_a - failed_b) or (
        answer is False and failed_b - failed_a
    ):
        answer = None
    return {**statistics, "verdict": paired.verdict(answer, no="opposite")}


def _paper_cell(values):
    statistics = paired.mean_interval(values)
    low, high = statistics["interval"]
    return {"ratio": list(values), **statistics, "interval": [low - 1, high - 1]}


# --- figure 1 -------------------------------------------------------------------------


def figure1(records: Iterable[Record], rounds: Sequence[int] = (50, 98)) -> dict:
    """What the weight beta of the cost, and a learned cost, do to cost and accuracy.

    The cost is that of all labels bought up to a round, the initial ones excluded. All
    arms are compared at the same rounds: the last one, up to each of those asked for,
    in which every run was evaluated.

    A claim that speaks of several things (both rounds, several betas) is "replicated"
    if all hold, "not replicated" if the opposite of one is shown, else "not resolved";
    "not tried" where arms that it needs are missing. A thing holds, or its opposite is
    shown, if the interval over seeds of the paired difference excludes 0, but:
    (b) the slope of accuracy over beta is that of a least-squares line in each seed;
    (c) of some beta, the mean accuracy is not below random's and the interval of the
    cost is (the best of several betas: no allowance is made for the choice);
    (e) the accuracy range is that of beta = 0 minus that of 0.5, per seed;
    (f) "minimal" is a mean loss to beta = 0 below 1 point, whatever its interval;
    (h) the bias is the mean of predicted minus true cost over all candidates offered
    before the last of the rounds.

    Args:
      records: runs of "random", "mean_std beta=0.0" and so on, "learned beta=0.3";
        others are ignored, and any may be missing.
      rounds: after how many rounds; the same number twice counts once.

    Returns:
      "rounds": a dict for each: "requested", "used", "labels", "crossover" (the beta at
      which the mean cost is random's, interpolated, or None), "arms": arm -> "seeds",
      "cost", "accuracy" (statistics over seeds: "n", "mean", "sd" (ddof 0), "sd_sample"
      (ddof 1), "interval" of the mean), "cost_vs_random", "accuracy_vs_random" (the
      same of the paired differences) and "cost_change", the difference of cost over the
      mean cost of random in the same seeds;
      "bias": a dict for each part of the runs: "rounds" [first, last + 1], the
      statistics over seeds of the mean bias, and "relative", the mean bias over the
      mean true cost;
      "points": what `jal.plots.cost_accuracy` draws: title of a panel -> name -> [costs
      by seed, accuracies by seed];
      "verdicts": letter -> "claim", "verdict" and "evidence".

    Raises:
      ValueError: no runs, one run twice, lists of different lengths, or no round that
        was evaluated in every run.

    Example:
      >>> run = lambda arm, spend: {
      ...     "arm": arm, "seed": 0, "accuracy": [0.1, 0.9],
      ...     "count": [20, 30], "spend": [1.0, spend],
      ... }  # fmt: skip
      >>> runs = [run("random", 3.0), run("mean_std beta=0.0", 4.0)]
      >>> result = figure1(runs)["rounds"][0]
      >>> result["used"], result["arms"]["mean_std beta=0.0"]["cost_vs_random"]["mean"]
      (1, 1.0)
    """
    if not rounds:
        raise ValueError("rounds is empty; give at least one")
    arms = by_arm(records, _in_figure1)
    order = ["random", *_betas(arms).values(), LEARNED]
    arms = {arm: arms[arm] for arm in order if arm in arms}
    moments = [_Moment(arms, requested) for requested in sorted(set(rounds))]
    bias = _bias(arms.get(LEARNED, {}), [0, *(moment.used for moment in moments)])
    return {
        "rounds": [moment.summary() for moment in moments],
        "bias": bias["parts"],
        "points": {when_text(m.used, m.labels): m.points() for m in moments},
        "verdicts": _figure1_verdicts(moments, bias["whole"]),
    }


def _in_figure1(arm: str) -> bool:
    return arm in ("random", LEARNED) or _KNOWN.fullmatch(arm) is not None


def _betas(arms: Iterable[str]) -> dict[float, str]:
    """Beta -> name of the arm with known cost, ascending."""
    matches = [match for match in map(_KNOWN.fullmatch, arms) if match]
    return dict(sorted((float(match[1]), match[0]) for match in matches))


class _Moment:
    """Cost and accuracy of every arm and seed after one number of rounds."""

    def __init__(self, arms, requested):
        self.requested = requested
        self.used = _last_common_round(arms, requested)
        self.betas = _betas(arms)
        self.cost: dict[str, dict[int, float]] = {}
        self.accuracy: dict[str, dict[int, float]] = {}
        for arm, runs in arms.items():
            self.cost[arm] = {
                s: r["spend"][self.used] - r["spend"][0] for s, r in runs.items()
            }
            self.accuracy[arm] = {s: r["accuracy"][self.used] for s, r in runs.items()}
        counts = {
            r["count"][self.used] for runs in arms.values() for r in runs.values()
        }
        self.labels = counts.pop() if len(counts) == 1 else None

    def cost_difference(self, arm, other="random"):
        return paired.difference(self.cost[arm], self.cost.get(other, {}))

    def accuracy_difference(self, arm, other="random"):
        return paired.difference(self.accuracy[arm], self.accuracy.get(other, {}))

    def cost_change(self, arm, other="random"):
        """Difference of the costs over the other's mean in the seeds of both."""
        base = self.cost.get(other, {})
        total = [base[s] for s in self.cost[arm].keys() & base.keys()]
        if not sum(total):
            return paired.mean_interval([])
        return paired.scaled(self.cost_difference(arm, other), len(total) / sum(total))

    def crossover(self):
        points = [
            (beta, self.cost_difference(arm)["mean"])
            for beta, arm in self.betas.items()
        ]
        points = [(beta, gap) for beta, gap in points if gap is not None]
        for i, (beta, gap) in enumerate(points):
            if gap == 0:
                return beta
            if i and gap * points[i - 1][1] < 0:
                before, gap_before = points[i - 1]
                return before + (beta - before) * gap_before / (gap_before - gap)
        return None

    def points(self):
        return {
            _figure_name(arm): [list(costs.values()), list(self.accuracy[arm].values())]
            for arm, costs in self.cost.items()
        }

    def summary(self):
        arms = {}
        for arm in self.cost:
            arms[arm] = {
                "seeds": sorted(self.cost[arm]),
                "cost": paired.mean_interval(self.cost[arm].values()),
                "accuracy": paired.mean_interval(self.accuracy[arm].values()),
            }
            if arm != "random":
                arms[arm] |= {
                    "cost_vs_random": self.cost_difference(arm),
                    "accuracy_vs_random": self.accuracy_difference(arm),
                    "cost_change": self.cost_change(arm),
                }
        return {
            "requested": self.requested,
            "used": self.used,
            "labels": self.labels,
            "crossover": self.crossover(),
            "arms": arms,
        }


def _last_common_round(arms, requested):
    evaluated = [
        set(evaluated_rounds(r)) for runs in arms.values() for r in runs.values()
    ]
    common = [r for r in set.intersection(*evaluated) if r <= requested]
    if not common:
        raise ValueError(f"no round up to {requested} was evaluated in every run")
    return max(common)


def _bias(runs, edges):
    """Bias of the predicted cost in parts of the runs, and from first to last edge."""

    def part(first, end):
        biases, costs = {}, []
        for seed, record in runs.items():
            observed = record.get("observed") or {}
            values = (observed.get("cost_bias") or [])[first:end]
            values = [value for value in values if _is_number(value)]
            if values:
                biases[seed] = float(np.mean(values))
                true = (observed.get("mean_cost") or [])[first:end]
                costs.extend(value for value in true if _is_number(value))
        statistics = paired.mean_interval(biases.values())
        known = bool(biases) and bool(costs)
        relative = statistics["mean"] / float(np.mean(costs)) if known else None
        return {"rounds": [first, end], **statistics, "relative": relative}

    edges = sorted(set(edges))
    parts = [part(*pair) for pair in zip(edges, edges[1:], strict=False)]
    return {
        "parts": [p for p in parts if p["n"]],
        "whole": part(edges[0], edges[-1]),
    }


# --- the claims about figure 1 --------------------------------------------------------


def _figure1_verdicts(moments, bias):
    verdicts = {}
    judges = {
        "b": _accuracy_falls,
        "c": _cheaper_and_as_good,
        "d": _small_beta_is_dear,
        "e": _weaker_at_the_end,
        "f": _minimal_loss,
        "g": _learning_pays,
        "h": lambda moments: _bias_costs(moments, bias),
    }
    for letter, judge in judges.items():
        answer, evidence = judge(moments)
        verdict = "not tried" if answer == "not tried" else paired.verdict(answer)
        verdicts[letter] = {
            "claim": CLAIMS[letter],
            "verdict": verdict,
            "evidence": evidence,
        }
    return verdicts


def _needs(moment, *arms):
    """What to answer when there are no seeds with all of these arms, or None."""
    missing = [arm for arm in arms if arm not in moment.cost]
    if missing:
        return "not tried", f"No runs of {', '.join(missing)}."
    if not set.intersection(*(set(moment.cost[arm]) for arm in arms)):
        return "not tried", f"No seed was run with all of {', '.join(arms)}."
    return None


def _accuracy_falls(moments):
    arms = list(moments[0].betas.values())
    if len(arms) < 2:
        return "not tried", "A slope needs at least two values of beta with known cost."
    if missing := _needs(moments[0], *arms):
        return missing
    betas = list(moments[0].betas)
    answers, evidence = [], []
    for moment in moments:
        seeds = set.intersection(*(set(moment.accuracy[arm]) for arm in arms))
        slopes = [
            np.polyfit(betas, [100 * moment.accuracy[arm][s] for arm in arms], 1)[0]
            for s in sorted(seeds)
        ]
        slope = paired.mean_interval(slopes)
        answers.append(paired.is_below(slope))
        evidence.append(f"{value_text(slope, '+.2f')} ({seeds_text(slope)})")
    span = f"beta = {betas[0]:g} to {betas[-1]:g}"
    lead = f"Slope of accuracy over {span}, in points per unit"
    return paired.all_of(answers), _sentence(lead, moments, evidence)


def _cheaper_and_as_good(moments):
    arms = moments[0].betas
    usable = [arm for arm in arms.values() if not _needs(moments[0], "random", arm)]
    if not usable:
        return (
            "not tried",
            "It needs random and a beta with known cost in the same seed.",
        )
    answers, evidence = [], []
    for moment in moments:
        cost = {arm: moment.cost_difference(arm) for arm in usable}
        gain = {arm: moment.accuracy_difference(arm) for arm in usable}
        cheap = [arm for arm in usable if paired.is_below(cost[arm])]
        good = [arm for arm in cheap if gain[arm]["mean"] >= 0]
        excluded = [
            arm
            for arm in usable
            if paired.is_above(cost[arm]) or paired.is_below(gain[arm])
        ]
        answers.append(
            True if good else False if len(excluded) == len(usable) else None
        )
        if good:
            shown = min(good, key=lambda arm: cost[arm]["mean"])
            lead = "the cheapest such is"
        elif cheap:
            shown = max(cheap, key=lambda arm: gain[arm]["mean"])
            lead = "of those clearly cheaper the most accurate is"
        else:
            shown = min(usable, key=lambda arm: cost[arm]["mean"])
            lead = "none is clearly cheaper, the cheapest is"
        evidence.append(
            f"{lead} {_short(shown)}, cost {_cost_text(moment, shown)}, accuracy "
            f"{value_text(gain[shown], '+.2f', 100)} points ({seeds_text(gain[shown])})"
        )
    lead = f"Of {len(usable)} values of beta, against random"
    return paired.all_of(answers), _sentence(lead, moments, evidence)


def _small_beta_is_dear(moments):
    arms = [arm for beta, arm in moments[0].betas.items() if beta < 0.2]
    if not arms:
        return "not tried", "No runs of a beta below 0.2 with known cost."
    if missing := _needs(moments[0], "random", *arms):
        return missing
    answers, evidence = [], []
    for moment in moments:
        answers += [paired.is_above(moment.cost_difference(arm)) for arm in arms]
        costs = " and ".join(
            f"{_cost_text(moment, arm)} at {_short(arm)}" for arm in arms
        )
        crossover = moment.crossover()
        crossing = "at no beta" if crossover is None else f"at beta = {crossover:.2f}"
        evidence.append(f"{costs} (equal {crossing})")
    seeds = seeds_text(moments[0].cost_difference(arms[0]))
    return paired.all_of(answers), _sentence(
        f"Cost against random ({seeds})", moments, evidence
    )


def _weaker_at_the_end(moments):
    low, high = (moments[0].betas.get(beta) for beta in (0.0, 0.5))
    if low is None or high is None:
        return "not tried", "It needs runs of beta = 0 and beta = 0.5 with known cost."
    if missing := _needs(moments[0], low, high):
        return missing
    first, last = moments[0], moments[-1]
    if first.used == last.used:
        return "not tried", f"Only one moment is at hand, after {first.used} rounds."
    ranges = [
        {
            s: value - moment.accuracy[high][s]
            for s, value in moment.accuracy[low].items()
            if s in moment.accuracy[high]
        }
        for moment in (first, last)
    ]
    change = paired.difference(ranges[1], ranges[0])
    before, after = (paired.mean_interval(values.values())["mean"] for values in ranges)
    return paired.is_below(change), (
        f"From beta = 0 to 0.5 the accuracy falls by {100 * before:.2f} points after "
        f"{first.used} rounds and by {100 * after:.2f} after {last.used}, a change of "
        f"{value_text(change, '+.2f', 100)} points ({seeds_text(change)})."
    )


def _minimal_loss(moments):
    arm, base = (moments[0].betas.get(beta) for beta in (0.3, 0.0))
    if arm is None or base is None:
        return "not tried", "It needs runs of beta = 0 and beta = 0.3 with known cost."
    if missing := _needs(moments[0], "random", arm, base):
        return missing
    answers, evidence = [], []
    for moment in moments:
        loss = moment.accuracy_difference(base, arm)
        answers.append(paired.is_below(moment.cost_difference(arm)))
        minimal = loss["mean"] < 0.01
        answers.append(
            True if minimal else False if paired.is_above(loss, 0.01) else None
        )
        evidence.append(
            f"cost {_cost_text(moment, arm)} against random, loss of accuracy against "
            f"beta = 0 {value_text(loss, '.2f', 100)} points ({seeds_text(loss)})"
        )
    return paired.all_of(answers), _sentence("At beta = 0.3", moments, evidence)


def _learning_pays(moments):
    base = moments[0].betas.get(0.0)
    if base is None:
        return "not tried", "It needs runs of beta = 0."
    if missing := _needs(moments[0], LEARNED, "random", base):
        return missing
    answers, evidence = [], []
    for moment in moments:
        costs = [moment.cost_difference(LEARNED, other) for other in ("random", base)]
        answers += [paired.is_below(cost) for cost in costs]
        evidence.append(
            f"{_cost_text(moment, LEARNED)} against random and "
            f"{_cost_text(moment, LEARNED, base)} against beta = 0 "
            f"({seeds_text(costs[0])})"
        )
    return paired.all_of(answers), _sentence(
        "Cost with a learned cost", moments, evidence
    )


def _bias_costs(moments, bias):
    known = moments[0].betas.get(0.3)
    if known is None:
        return "not tried", "It needs runs of beta = 0.3 with known cost."
    if missing := _needs(moments[0], LEARNED, known):
        return missing
    if not bias["n"]:
        return "not tried", "The runs with a learned cost did not record its bias."
    answers = [paired.is_below(bias)]
    relative = "" if bias["relative"] is None else f", {100 * bias['relative']:+.1f} %"
    evidence = []
    for moment in moments:
        answers.append(paired.is_above(moment.cost_difference(LEARNED, known)))
        evidence.append(_cost_text(moment, LEARNED, known))
    lead = (
        f"Predicted minus true cost is {value_text(bias, '+,.2f')} units on average"
        f"{relative} ({seeds_text(bias)}); cost of the labels against a known cost"
    )
    return paired.all_of(answers), _sentence(lead, moments, evidence)


def _sentence(lead, moments, parts):
    after = {}
    for moment, part in zip(moments, parts, strict=True):
        after[f"after {_rounds(moment.used)} {part}"] = None
    return f"{lead}: {'; '.join(after)}."


def _rounds(number):
    return f"{number} round{'' if number == 1 else 's'}"


def _short(arm):
    return f"beta = {float(_KNOWN.fullmatch(arm)[1]):g}"  # type: ignore[index]


def _cost_text(moment, arm, other="random"):
    """Difference of the costs in per cent of the other's mean."""
    return f"{value_text(moment.cost_change(arm, other), '+.1f', 100)} %"


# --- what the figures are made of -----------------------------------------------------


def curves(records: Iterable[Record], against: str = "count") -> dict:
    """What `jal.plots.learning_curves` draws: accuracy against labels or cost.

    Args:
      records: runs of any arms; those of an arm have the same number T of rounds.
      against: "count", labels, the initial ones included, or "spend", their cost, that
        of the initial ones excluded; averaged over seeds round by round.

    Returns:
      arm -> (x [T + 1], accuracy [seeds, T + 1], NaN where not evaluated).

    Raises:
      ValueError: `against` is neither, runs of different lengths, or one run twice.

    Example:
      >>> run = {"arm": "random", "seed": 0, "accuracy": [0.5, None],
      ...     "count": [20, 30], "spend": [7.0, 9.0]}  # fmt: skip
      >>> curves([run], "spend")
      {'random': (array([0., 2.]), array([[0.5, nan]]))}
    """
    if against not in ("count", "spend"):
        raise ValueError(f'against={against!r}; allowed are "count" and "spend"')
    result = {}
    for arm, runs in by_arm(records, lambda arm: True).items():
        runs = [runs[seed] for seed in sorted(runs)]
        if len({len(run["accuracy"]) for run in runs}) > 1:
            raise ValueError(f"the runs of {arm!r} have different numbers of rounds")
        x = np.array([run[against] for run in runs], float)
        if against == "spend":
            x -= x[:, :1]
        y = np.array([run["accuracy"] for run in runs], float)
        result[arm] = x.mean(axis=0), y
    return result


def _figure_name(arm):
    name = arm.replace("learned beta", "mean_std, learned cost, beta")
    return name.replace("mean_std beta", "mean_std, known cost, beta")


def when_text(used: int, labels: int | None) -> str:
    text = f"after {_rounds(used)}"
    return text if labels is None else f"{text} ({labels} labels)"
