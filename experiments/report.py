"""Tables and verdicts of the cost-sensitive experiments as text and Markdown."""

from collections.abc import Iterable, Mapping

import numpy as np

from experiments import paired
from experiments.analysis import (
    READINGS,
    Record,
    by_arm,
    evaluated_rounds,
    labels_to_reach,
    spend_to_reach,
    when_text,
)
from experiments.paired import seeds_text, value_text

_FEWER = {"replicated": "yes", "opposite": "no, more"}


def format_table1(summary: Mapping) -> str:
    """Table 1 as text, also valid Markdown.

    Args:
      summary: what `table1` returned.

    Returns:
      Several lines: the ratios beside the paper's, how they depend on the reading, and
      the verdicts.

    Example:
      >>> from experiments.analysis import table1
      >>> run = {"arm": "random", "seed": 0, "accuracy": [0.1, 0.95],
      ...     "count": [20, 30], "spend": [0.0, 0.0]}  # fmt: skip
      >>> print(format_table1(table1([run])).splitlines()[5][:26])
      | random (labels) |     30
    """
    seeds, arms, target = summary["seeds"], summary["arms"], summary["target"]
    others = [arm for arm in arms if arm != "random"]
    header = [
        "strategy",
        *(f"seed {s}" for s in seeds),
        "mean ± SD",
        "95 % interval",
        "beats random?",
        "paper",
    ]
    rows = []
    for arm, readings in arms.items():
        cell = readings["raw"]
        if arm == "random":
            labels = _by_seed(cell, "labels", seeds, "{:.0f}")
            rows.append(["random (labels)", *labels, _labels_text(cell, seeds)])
            rows[-1] += ["", "", ""]
            continue
        interval = cell["interval"] and [end + 1 for end in cell["interval"]]
        paper = summary["paper"][arm]
        rows.append(
            [
                arm,
                *_by_seed(cell, "ratio", seeds, "{:.2f}"),
                _ratio_text(cell, seeds),
                "-" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]",
                _FEWER.get(cell["verdict"], cell["verdict"]),
                f"{paper['mean']:.2f} ± {paper['sd']:.2f}",
            ]
        )
    lines = [
        paired.wrap(
            f"Labels needed for {_percent(target)} test accuracy (the initial ones "
            "included), divided by those that random needs with the same seed: below 1 "
            "is better."
        ),
        "",
        *paired.table(header, rows),
    ]
    if others:
        lines += [
            "",
            "The same, by how the crossing of the target is read off the curves:",
        ]
        header = ["strategy", "labels", "first round", "interpolated"]
        header += ["running mean of 3", "ratio of mean labels"]
        rows = []
        for arm in others:
            of_means = arms[arm]["raw"]["ratio_of_means"]
            rows.append(
                [
                    arm,
                    _labels_text(arms[arm]["raw"], seeds),
                    *(_ratio_text(arms[arm][reading], seeds) for reading in READINGS),
                    "-" if of_means is None else f"{of_means:.2f}",
                ]
            )
        lines += ["", *paired.table(header, rows)]
    lines += ["", *_table1_lines(summary), ""]
    lines.append(
        paired.wrap(
            "± is the SD over seeds (ddof 0, as in the paper), [ ] the 95 % t interval "
            "of the mean over seeds; n seeds reached the target, where not all did; "
            "the paper's column is computed from its five ratios."
        )
    )
    return "\n".join(lines)


def _table1_lines(summary):
    lines = []
    for arm, readings in summary["arms"].items():
        for what, seeds in (
            ("never reached the target", readings["raw"]["censored"]),
            ("was not run", readings["raw"]["missing"]),
        ):
            if seeds:
                lines.append(f"- {arm} {what} with seed {', '.join(map(str, seeds))}.")
    verdicts = summary["verdicts"]["raw"]
    everyone, best = verdicts["all beat random"], verdicts["mean_std best"]
    lines.append(
        f"- Every strategy needs fewer labels than random: {everyone['verdict']}."
    )
    per_seed = ", ".join(str(answer or "unknown") for answer in best["per_seed"])
    lines.append(
        f"- mean_std needs the fewest labels with every seed: {best['verdict']}"
        + ("." if best["verdict"] == "not tried" else f" (by seed: {per_seed}).")
    )
    for other in ("bald", "entropy"):
        verdict = verdicts[f"mean_std - {other}"]
        if verdict["verdict"] != "not tried":
            fewer = _FEWER.get(verdict["verdict"], verdict["verdict"])
            lines.append(
                f"- mean_std against {other}: ratio {value_text(verdict, '+.2f')} "
                f"({seeds_text(verdict)}; fewer labels: {fewer})."
            )
    return lines


def _by_seed(cell, kind, seeds, form):
    texts = []
    for seed, value in zip(seeds, cell[kind], strict=True):
        if value is not None:
            texts.append(form.format(value))
        elif seed in cell["censored"]:
            texts.append("not reached")
        else:
            texts.append("not run" if seed in cell["missing"] else "-")
    return texts


def _ratio_text(cell, seeds):
    return _mean_sd(cell, "", ".2f") + _counted(cell["n"], seeds)


def _labels_text(cell, seeds):
    reached = len(seeds) - cell["labels"].count(None)
    return _mean_sd(cell, "labels_", ".0f") + _counted(reached, seeds)


def _counted(n, seeds):
    return "" if n == len(seeds) else f" (n = {n})"


def format_figure1(summary: Mapping) -> str:
    """Cost and accuracy by beta, and the verdicts, as text that is also valid Markdown.

    Args:
      summary: what `figure1` returned.

    Returns:
      Several lines: a table for each of the rounds, then bias and claims.

    Example:
      >>> from experiments.analysis import figure1
      >>> run = {"arm": "random", "seed": 0, "accuracy": [0.5, 0.6],
      ...     "count": [20, 30], "spend": [7.0, 9.0]}  # fmt: skip
      >>> print(format_figure1(figure1([run])).splitlines()[0])
      After 1 round (30 labels); 50 rounds were asked for:
    """
    header = [
        "strategy",
        "seeds",
        "cost, units",
        "vs random, %",
        "accuracy, %",
        "vs random, points",
    ]
    lines = []
    for moment in summary["rounds"]:
        when = when_text(moment["used"], moment["labels"])
        when = when[0].upper() + when[1:]
        if moment["used"] != moment["requested"]:
            when += f"; {moment['requested']} rounds were asked for"
        rows = []
        for arm, cell in moment["arms"].items():
            cost, gain = cell.get("cost_change"), cell.get("accuracy_vs_random")
            rows.append(
                [
                    arm,
                    str(cell["cost"]["n"]),
                    _mean_sd(cell["cost"], "", ",.0f"),
                    value_text(cost, "+.1f", 100) if cost else "",
                    _mean_sd(cell["accuracy"], "", ".2f", 100),
                    value_text(gain, "+.2f", 100) if gain else "",
                ]
            )
        crossover = moment["crossover"]
        crossing = "none in the range" if crossover is None else f"{crossover:.2f}"
        lines += [f"{when}:", "", *paired.table(header, rows), ""]
        lines += [f"Beta at which the cost is that of random: {crossing}.", ""]
    for part in summary["bias"]:
        first, end = part["rounds"]
        relative = ""
        if part["relative"] is not None:
            relative = f", {100 * part['relative']:+.1f} % of the true cost"
        lines.append(
            f"Predicted minus true cost, rounds {first} to {end - 1}: "
            f"{value_text(part, '+,.2f')} units{relative} ({seeds_text(part)})."
        )
    if summary["bias"]:
        lines.append("")
    for letter, verdict in summary["verdicts"].items():
        claim = verdict["claim"]
        claim = f"({letter}) {claim[0].upper() + claim[1:]}: {verdict['verdict']}."
        lines.append(paired.wrap(f"- {claim} {verdict['evidence']}", "  "))
    lines += [
        "",
        paired.wrap(
            "Cost in arbitrary units, that of the initial labels excluded. ± is the SD "
            "over seeds (ddof 0), [ ] the 95 % t interval of the mean over seeds; "
            "differences are taken within seeds."
        ),
    ]
    return "\n".join(lines)


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
    names = sorted(arms, key=lambda arm: arm != "random")
    goal = _percent(target)
    header = [
        "strategy",
        f"labels to {goal}",
        "of random's",
        f"cost to {goal}",
        "of random's",
        "final accuracy",
    ]
    rows = []
    for arm in names:
        row = [arm]
        for needed, form in ((labels_to_reach, ".0f"), (spend_to_reach, ",.0f")):
            own, base = (
                {s: needed(run, target) for s, run in arms.get(name, {}).items()}
                for name in (arm, "random")
            )
            row.append(_needed_text(own, form))
            ratios = [
                value / least
                for s, value in own.items()
                if value is not None and (least := base.get(s))
            ]
            text = _spread_text(ratios, ".0f", 100, " %")
            if ratios:
                text += _counted(len(ratios), own)
            row.append("" if arm == "random" else text)
        final = [
            run["accuracy"][max(evaluated_rounds(run))]
            for run in arms[arm].values()
            if evaluated_rounds(run)
        ]
        row.append(_spread_text(final, ".1f", 100, " %"))
        rows.append(row)
    ends = sorted({run["count"][-1] for runs in arms.values() for run in runs.values()})
    bought = " to ".join(str(end) for end in dict.fromkeys((ends[0], ends[-1])))
    number = len({seed for runs in arms.values() for seed in runs})
    lines = [
        paired.wrap(
            f"Labels and annotation cost until the test accuracy first was {goal}, and "
            f"the accuracy with {bought} labels:"
        ),
        "",
        *paired.table(header, rows),
        "",
        "Labels include the initial ones; cost is in arbitrary units, that of the "
        "initial labels excluded. Less is better.",
    ]
    if number > 1:
        lines[-1] += (
            f" ± is the SD over {number} seeds (ddof 0); n seeds reached {goal} both "
            "with random and with the strategy, where not all did."
        )
    lines[-1] = paired.wrap(lines[-1])
    return "\n".join(lines)


def _needed_text(needed, form):
    reached = [value for value in needed.values() if value is not None]
    missed = len(needed) - len(reached)
    failure = f"not reached ({missed} of {len(needed)} seeds)"
    if not reached:
        return failure
    text = _spread_text(reached, form)
    return f"{text}, {failure}" if missed else text


def _spread_text(values, form, scale=1.0, unit=""):
    if not values:
        return "-"
    text = format(scale * float(np.mean(values)), form)
    if len(values) > 1:
        text += f" ± {format(scale * float(np.std(values)), form)}"
    return text + unit


def _mean_sd(statistics, prefix, form, scale=1.0):
    mean, sd = statistics[f"{prefix}mean"], statistics[f"{prefix}sd"]
    if mean is None:
        return "-"
    text = format(scale * mean, form)
    return text if sd is None else f"{text} ± {format(scale * sd, form)}"


def _percent(share):
    return f"{100 * share:.12g} %"
