"""Figure 1: what beta, and a learned cost, do to cost and accuracy."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import paired
from experiments.common.paired import Record, seeds_text, spread_text, value_text
from experiments.cost_sensitive import claims
from experiments.cost_sensitive.curves import (
    bought,
    by_arm,
    evaluated_rounds,
    is_number,
)

LEARNED = "learned beta=0.3"
_KNOWN = re.compile(r"mean_std beta=([0-9.]+)")


def summarize(records: Iterable[Record], rounds: Sequence[int] = (50, 98)) -> dict:
    """What the weight beta of the cost, and a learned cost, do to cost and accuracy.

    The cost is that of all labels bought up to a round, the initial ones excluded. All
    arms are compared at the same rounds: the last one, up to each of those asked for,
    in which every run was evaluated. `experiments.cost_sensitive.claims` says when a
    claim holds.

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
      "points": what `cost_accuracy` draws: title of a panel -> name -> [costs by seed,
      accuracies by seed];
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
      >>> result = summarize(runs)["rounds"][0]
      >>> result["used"], result["arms"]["mean_std beta=0.0"]["cost_vs_random"]["mean"]
      (1, 1.0)
    """
    if not rounds:
        raise ValueError("rounds is empty; give at least one")
    known = lambda arm: arm in ("random", LEARNED) or bool(_KNOWN.fullmatch(arm))
    arms = by_arm(records, known)
    order = ["random", *_betas(arms).values(), LEARNED]
    arms = {arm: arms[arm] for arm in order if arm in arms}
    moments = [Moment(arms, requested) for requested in sorted(set(rounds))]
    edges = sorted({0, *(moment.used for moment in moments)})
    learned = arms.get(LEARNED, {})
    parts = [_bias(learned, *part) for part in zip(edges, edges[1:], strict=False)]
    whole = _bias(learned, edges[0], edges[-1])
    return {
        "rounds": [moment.summary() for moment in moments],
        "bias": [part for part in parts if part["n"]],
        "points": {when_text(m.used, m.labels): m.points() for m in moments},
        "verdicts": claims.judge(moments, whole),
    }


def _betas(arms: Iterable[str]) -> dict[float, str]:
    """Beta -> name of the arm with known cost, ascending."""
    matches = [match for match in map(_KNOWN.fullmatch, arms) if match]
    return dict(sorted((float(match[1]), match[0]) for match in matches))


class Moment:
    """Cost and accuracy of every arm and seed after one number of rounds."""

    def __init__(self, arms: Mapping[str, Mapping[int, Record]], requested: int):
        runs = [run for by_seed in arms.values() for run in by_seed.values()]
        common = set.intersection(*(set(evaluated_rounds(run)) for run in runs))
        self.requested = requested
        self.used = used = max((r for r in common if r <= requested), default=-1)
        if used < 0:
            raise ValueError(f"no round up to {requested} was evaluated in every run")
        self.betas = _betas(arms)
        of_all = lambda measure: {
            arm: paired.each(by_seed, measure) for arm, by_seed in arms.items()
        }
        self.cost = of_all(lambda run: bought(run)[used])
        self.accuracy = of_all(lambda run: run["accuracy"][used])
        counts = {run["count"][used] for run in runs}
        self.labels = counts.pop() if len(counts) == 1 else None

    def cost_difference(self, arm: str, other: str = "random") -> dict:
        return paired.difference(self.cost[arm], self.cost.get(other, {}))

    def accuracy_difference(self, arm: str, other: str = "random") -> dict:
        return paired.difference(self.accuracy[arm], self.accuracy.get(other, {}))

    def cost_change(self, arm: str, other: str = "random") -> dict:
        """Difference of the costs over the other's mean in the seeds of both."""
        own, base = self.cost[arm], self.cost.get(other, {})
        both = sorted(own.keys() & base.keys())
        mean = sum(base[seed] for seed in both) / max(1, len(both))
        both = both if mean else []
        return paired.mean_interval((own[s] - base[s]) / mean for s in both)

    def crossover(self) -> float | None:
        gaps = {b: self.cost_difference(arm)["mean"] for b, arm in self.betas.items()}
        points = [(beta, gap) for beta, gap in gaps.items() if gap is not None]
        for i, (beta, gap) in enumerate(points):
            if gap == 0:
                return beta
            if i and gap * points[i - 1][1] < 0:
                before, gap_before = points[i - 1]
                return before + (beta - before) * gap_before / (gap_before - gap)
        return None

    def points(self) -> dict[str, list]:
        kinds = {"learned beta": "learned", "mean_std beta": "known"}
        found = {}
        for arm, costs in self.cost.items():
            kind, _, beta = arm.partition("=")
            name = f"mean_std, {kinds[kind]} cost, beta={beta}" if beta else arm
            found[name] = [list(costs.values()), list(self.accuracy[arm].values())]
        return found

    def summary(self) -> dict[str, Any]:
        arms = {
            arm: {
                "seeds": sorted(costs),
                "cost": paired.mean_interval(costs.values()),
                "accuracy": paired.mean_interval(self.accuracy[arm].values()),
                "cost_vs_random": self.cost_difference(arm),
                "accuracy_vs_random": self.accuracy_difference(arm),
                "cost_change": self.cost_change(arm),
            }
            for arm, costs in self.cost.items()
        }
        for name in ("cost_vs_random", "accuracy_vs_random", "cost_change"):
            arms.get("random", {}).pop(name, None)
        return {
            "requested": self.requested,
            "used": self.used,
            "labels": self.labels,
            "crossover": self.crossover(),
            "arms": arms,
        }


def _bias(runs: Mapping[int, Record], first: int, end: int) -> dict:
    """Bias of the predicted cost in a part of the runs."""

    def values(record, name):
        part = ((record.get("observed") or {}).get(name) or [])[first:end]
        return [value for value in part if is_number(value)]

    biases = {seed: values(record, "cost_bias") for seed, record in runs.items()}
    biases = {seed: float(np.mean(found)) for seed, found in biases.items() if found}
    costs = [cost for seed in biases for cost in values(runs[seed], "mean_cost")]
    statistics = paired.mean_interval(biases.values())
    relative = statistics["mean"] / float(np.mean(costs)) if costs else None
    return {"rounds": [first, end], **statistics, "relative": relative}


def format_summary(summary: Mapping) -> str:
    """Cost and accuracy by beta, and the verdicts, as text that is also valid Markdown.

    Args:
      summary: what `summarize` returned.

    Returns:
      Several lines: a table for each of the rounds, then bias and claims.

    Example:
      >>> run = {"arm": "random", "seed": 0, "accuracy": [0.5, 0.6],
      ...     "count": [20, 30], "spend": [7.0, 9.0]}  # fmt: skip
      >>> print(format_summary(summarize([run])).splitlines()[0])
      After 1 round (30 labels); 50 rounds were asked for:
    """
    against = lambda name, form: (
        lambda arm, cell: value_text(cell[name], form, 100) if name in cell else ""
    )
    columns: dict[str, Callable[..., str]] = {
        "strategy": lambda arm, cell: arm,
        "seeds": lambda arm, cell: str(cell["cost"]["n"]),
        "cost, units": lambda arm, cell: spread_text(cell["cost"], ",.0f"),
        "vs random, %": against("cost_change", "+.1f"),
        "accuracy, %": lambda arm, cell: spread_text(cell["accuracy"], ".2f", 100),
        "vs random, points": against("accuracy_vs_random", "+.2f"),
    }
    blocks: list[Any] = []
    for moment in summary["rounds"]:
        when = when_text(moment["used"], moment["labels"])
        when = when[0].upper() + when[1:]
        if moment["used"] != moment["requested"]:
            when += f"; {moment['requested']} rounds were asked for"
        beta = moment["crossover"]
        beta = "none in the range" if beta is None else f"{beta:.2f}"
        blocks += [f"{when}:", paired.columns(columns, moment["arms"].items())]
        blocks += [f"Beta at which the cost is that of random: {beta}."]
    verdicts = []
    for letter, verdict in summary["verdicts"].items():
        claim = verdict["claim"]
        claim = f"({letter}) {claim[0].upper() + claim[1:]}: {verdict['verdict']}."
        verdicts.append(paired.wrap(f"- {claim} {verdict['evidence']}", "  "))
    return paired.page(
        *blocks,
        [_bias_text(part) for part in summary["bias"]],
        verdicts,
        "Cost in arbitrary units, that of the initial labels excluded. ± is the SD "
        "over seeds (ddof 0), [ ] the 95 % t interval of the mean over seeds; "
        "differences are taken within seeds.",
    )


def _bias_text(part):
    (first, end), relative = part["rounds"], ""
    if part["relative"] is not None:
        relative = f", {100 * part['relative']:+.1f} % of the true cost"
    bias = f"{value_text(part, '+,.2f')} units{relative} ({seeds_text(part)})"
    return f"Predicted minus true cost, rounds {first} to {end - 1}: {bias}."


def when_text(used: int, labels: int | None) -> str:
    text = f"after {claims.rounds_text(used)}"
    return text if labels is None else f"{text} ({labels} labels)"
