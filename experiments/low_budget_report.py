"""Tables, verdicts and figures of the low-budget comparison.

The claims are those of Aggarwal, Popescu and Hudelot, "Optimizing active learning for
low annotation budgets" (2022), whose source is a network trained on ImageNet.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import paired
from jal import plots

Record = Mapping[str, Any]
SOURCE = "substitute source"
# Labels with which random choice reaches the paper's thresholds, such as 50 % on
# CIFAR-100.
RANDOM_LABELS = 1800
# What the paper gained on random, in points: alamp on its three data sets.
PAPER = {
    "balanced": "2.4, 1.3 and 1.3",
    "imbalanced": "1.99, .9 and 1.49",
}


def arms_of(records: Iterable[Record]) -> dict[str, dict[int, Record]]:
    """Name -> seed -> record."""
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        found.setdefault(record["arm"], {})[record["seed"]] = record
    return found


def gain(runs: Mapping[int, Record], other: Mapping[int, Record]) -> dict:
    """Accuracy above another method's in points, mean of all rounds but the first."""
    mean = lambda record: 100 * float(np.mean(record["accuracy"][1:]))
    return paired.difference(
        {seed: mean(record) for seed, record in runs.items()},
        {seed: mean(record) for seed, record in other.items()},
    )


def gain_at(runs, other, number: int) -> dict:
    """The same of one round."""
    at = lambda record: 100 * record["accuracy"][number]
    return paired.difference(
        {seed: at(record) for seed, record in runs.items()},
        {seed: at(record) for seed, record in other.items()},
    )


def labels_to(record: Record, threshold: float) -> int | None:
    """Labels of the first round at or above an accuracy, or None."""
    for count, accuracy in zip(record["count"], record["accuracy"], strict=True):
        if accuracy >= threshold:
            return count
    return None


def summarize(records: Sequence[Record], kind: str) -> dict:
    """What each method reached, and what of the paper's claims holds.

    Args:
      records: of `low_budget_runs.run_arm`, "rand" among them.
      kind: "balanced" or "imbalanced".

    Returns:
      threshold, arms: statistics by method; claims: name -> verdict and numbers.
    """
    arms = arms_of(records)
    rand = arms["rand"]
    counts = next(iter(rand.values()))["count"]
    middle = int(np.argmin(np.abs(np.array(counts) - RANDOM_LABELS)))
    threshold = float(np.mean([r["accuracy"][middle] for r in rand.values()]))
    threshold = np.floor(100 * threshold) / 100
    summary: dict[str, Any] = {
        "threshold": threshold,
        "counts": counts,
        "arms": {},
        "claims": {},
    }
    for name, runs in arms.items():
        needed = {seed: labels_to(r, threshold) for seed, r in runs.items()}
        reached = {seed: n for seed, n in needed.items() if n is not None}
        accuracy = lambda number, runs=runs: paired.mean_interval(
            r["accuracy"][number] for r in runs.values()
        )
        summary["arms"][name] = {
            "first": accuracy(0),
            "middle": accuracy(len(counts) // 2),
            "last": accuracy(-1),
            "gain": gain(runs, rand) if name != "rand" else None,
            "labels_to_threshold": paired.mean_interval(reached.values()),
            "reached": f"{len(reached)}/{len(needed)}",
            "imbalance": paired.mean_interval(
                float(np.mean(r["imbalance"][1:])) for r in runs.values()
            ),
        }
    summary["claims"] = _claims(arms, threshold, kind)
    return summary


def _claims(arms, threshold, kind) -> dict:
    claims = {}

    def compare(text, first, second, *, answer=paired.is_above):
        if first in arms and second in arms:
            found = gain(arms[first], arms[second])
            claims[text] = {
                "verdict": paired.verdict(answer(found)),
                "text": f"{paired.value_text(found, '+.2f')} points",
            }

    compare("alamp is above rand", "alamp", "rand")
    if "alamp is above rand" in claims:
        claims["alamp is above rand"]["text"] += f", in the paper {PAPER[kind]}"
    compare("alamp-div is above rand", "alamp-div", "rand")
    for name in arms:
        if name not in ("alamp-div", "rand"):
            compare(f"alamp-div is above {name}", "alamp-div", name)
    compare("marg is above rand", "marg", "rand")
    compare("alamp is above marg", "alamp", "marg")
    compare(
        "core is below rand",
        "core",
        "rand",
        answer=paired.is_below,
    )
    if "rand-div" in arms:
        compare("rand-div is above rand", "rand-div", "rand")
        early = gain_at(arms["rand-div"], arms["rand"], 1)
        late = gain_at(arms["rand-div"], arms["rand"], -1)
        more = paired.mean_interval(
            100 * (arms["rand-div"][s]["accuracy"][1] - arms["rand"][s]["accuracy"][1])
            - 100
            * (arms["rand-div"][s]["accuracy"][-1] - arms["rand"][s]["accuracy"][-1])
            for s in arms["rand-div"].keys() & arms["rand"].keys()
        )
        claims["rand-div gains most at the start"] = {
            "verdict": paired.verdict(paired.is_above(more)),
            "text": f"{paired.value_text(early, '+.2f')} points at the first choice, "
            f"{paired.value_text(late, '+.2f')} at the last",
        }
    if {"marg-div", "marg"} <= set(arms):
        found = gain(arms["marg-div"], arms["marg"])
        interval = found["interval"]
        near = None if interval is None else max(map(abs, interval)) < 0.5
        far = None if interval is None else min(interval) > 0.5 or max(interval) < -0.5
        claims["marg-div is as good as marg (within half a point)"] = {
            "verdict": paired.verdict(True if near else False if far else None),
            "text": f"{paired.value_text(found, '+.2f')} points",
        }
    for name in ("alamp", "alamp-div"):
        for other in ("rand", "marg", "core"):
            if name in arms and other in arms:
                mean = lambda r: float(np.mean(r["imbalance"][1:]))
                found = paired.difference(
                    {seed: mean(r) for seed, r in arms[name].items()},
                    {seed: mean(r) for seed, r in arms[other].items()},
                )
                claims[f"{name} labels more evenly than {other}"] = {
                    "verdict": paired.verdict(paired.is_below(found)),
                    "text": f"SD / mean of a class's labels "
                    f"{paired.value_text(found, '+.3f')}",
                }
    for name in ("alamp", "alamp-div"):
        if name not in arms:
            continue
        pairs = [
            (labels_to(record, threshold), labels_to(arms["rand"][seed], threshold))
            for seed, record in sorted(arms[name].items())
            if seed in arms["rand"]
        ]
        both = [a - b for a, b in pairs if a is not None and b is not None]
        found = paired.mean_interval(both)
        claims[f"{name} reaches {threshold:.0%} with fewer labels than rand"] = {
            "verdict": paired.verdict(paired.is_below(found)),
            "text": f"{paired.value_text(found, '+,.0f')} labels, {len(both)} seeds",
        }
    return claims


def format_summary(summary: Mapping, title: str) -> str:
    """The table and the verdicts as text."""
    header = [
        title,
        f"{summary['counts'][0]}",
        f"{summary['counts'][len(summary['counts']) // 2]}",
        f"{summary['counts'][-1]}",
        "gain over rand [95 %]",
        f"labels to {summary['threshold']:.0%}",
        "imbalance",
        "",
    ]
    rows = []
    for name, arm in summary["arms"].items():
        percent = lambda field, a=arm: format(100 * a[field]["mean"], ".1f")
        needed = arm["labels_to_threshold"]["mean"]
        rows.append(
            [
                name,
                percent("first"),
                percent("middle"),
                percent("last"),
                paired.value_text(arm["gain"], "+.2f") if arm["gain"] else "",
                "-"
                if needed is None
                else f"{needed:,.0f}"
                + (
                    ""
                    if arm["reached"].split("/")[0] == arm["reached"].split("/")[1]
                    else f" ({arm['reached']})"
                ),
                format(arm["imbalance"]["mean"], ".3f"),
                paired.seeds_text(arm["first"]),
            ]
        )
    lines = paired.table(header, rows) + [""]
    for name, claim in summary["claims"].items():
        lines.append(paired.wrap(f"{name}: {claim['verdict']} ({claim['text']})", "  "))
    return "\n".join(lines)


def figures(records: Sequence[Record], title: str) -> dict:
    """Name -> figure: accuracy, and how even the labels are, by number of labels."""
    arms = arms_of(records)
    title = f"{title}, {SOURCE}"

    def stacked(field):
        return {
            name: (
                next(iter(runs.values()))["count"],
                np.array([r[field] for r in runs.values()]),
            )
            for name, runs in arms.items()
        }

    made = {
        "accuracy": plots.learning_curves(
            stacked("accuracy"), x_label="labels", title=title
        ),
        "imbalance": plots.learning_curves(
            stacked("imbalance"),
            x_label="labels",
            y_label="SD / mean of a class's labels",
            title=title,
        ),
    }
    rand = {seed: np.array(r["accuracy"]) for seed, r in arms.get("rand", {}).items()}
    if rand and len(arms) > 1:
        counts = next(iter(arms["rand"].values()))["count"]
        above = {
            name: (
                counts,
                np.array(
                    [
                        100 * (np.array(r["accuracy"]) - rand[seed])
                        for seed, r in runs.items()
                        if seed in rand
                    ]
                ),
            )
            for name, runs in arms.items()
            if name != "rand"
        }
        made["gain"] = plots.learning_curves(
            above, x_label="labels", y_label="points above rand", title=title
        )
    return made


def compare_schemes(results: Mapping[str, Sequence[Record]]) -> dict:
    """Accuracy of linear classifiers and of fine-tuning with the same labels.

    Args:
      results: scheme -> records of "rand".

    Returns:
      Number of labels -> scheme -> statistics, and the paired difference.
    """
    by_seed = {
        scheme: {record["seed"]: record for record in records}
        for scheme, records in results.items()
    }
    counts = next(iter(by_seed["svm"].values()))["count"]
    found = {}
    for place, count in enumerate(counts):
        at = {
            scheme: {seed: 100 * r["accuracy"][place] for seed, r in runs.items()}
            for scheme, runs in by_seed.items()
        }
        found[str(count)] = {
            **{name: paired.mean_interval(runs.values()) for name, runs in at.items()},
            "svm - ft": paired.difference(at["svm"], at["ft"]),
        }
    return found


def format_schemes(found: Mapping, title: str) -> str:
    """The table of `compare_schemes` as text."""
    rows = [
        [
            count,
            *(paired.value_text(row[name], ".1f") for name in ("svm", "ft")),
            paired.value_text(row["svm - ft"], "+.1f"),
            paired.verdict(paired.is_above(row["svm - ft"])),
        ]
        for count, row in found.items()
    ]
    header = [
        f"labels, {title}",
        "SVM %",
        "fine-tuning %",
        "difference",
        "SVM is above",
    ]
    return "\n".join(paired.table(header, rows))
