"""Tables, verdicts and figures of the low-budget comparison.

The claims are those of Aggarwal, Popescu and Hudelot, "Optimizing active learning for
low annotation budgets" (2022), whose source is a network trained on ImageNet.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments.common import figures as drawn
from experiments.common import paired
from experiments.common.paired import Record, Runs, gap, is_above, mean_of, value_text

SOURCE = "substitute source"
# Labels with which random choice reaches the paper's thresholds, such as 50 % on
# CIFAR-100.
RANDOM_LABELS = 1800
# What the paper gained on random, in points: alamp on its three data sets.
PAPER = {"balanced": "2.4, 1.3 and 1.3", "imbalanced": "1.99, .9 and 1.49"}
Arms = Mapping[str, Runs]


def accuracy(record: Record) -> float:
    """In points, the mean of all rounds but the first."""
    return 100 * float(np.mean(record["accuracy"][1:]))


def accuracy_at(number: int):
    """The same of one round."""
    return lambda record: 100 * record["accuracy"][number]


def imbalance(record: Record) -> float:
    """The mean of all rounds but the first."""
    return float(np.mean(record["imbalance"][1:]))


def labels_to(threshold: float):
    """Labels of the first round at or above an accuracy."""
    return lambda record: paired.first_reach(
        record["accuracy"], record["count"], threshold
    )


def summarize(records: Sequence[Record], kind: str) -> dict:
    """What each method reached, and what of the paper's claims holds.

    Args:
      records: of `protocol.run_arm`, "rand" among them.
      kind: "balanced" or "imbalanced".

    Returns:
      threshold, arms: statistics by method; claims: name -> verdict and numbers.
    """
    arms = paired.by_arm(records)
    rand = arms["rand"]
    counts = next(iter(rand.values()))["count"]
    middle = int(np.argmin(np.abs(np.array(counts) - RANDOM_LABELS)))
    threshold = float(np.mean([r["accuracy"][middle] for r in rand.values()]))
    threshold = np.floor(100 * threshold) / 100
    found = {}
    for name, runs in arms.items():
        at = lambda number: lambda record: record["accuracy"][number]
        needed = mean_of(runs, labels_to(threshold))
        found[name] = {
            "first": mean_of(runs, at(0)),
            "middle": mean_of(runs, at(len(counts) // 2)),
            "last": mean_of(runs, at(-1)),
            "gain": gap(runs, rand, accuracy) if name != "rand" else None,
            "labels_to_threshold": needed,
            "reached": f"{needed['n']}/{len(runs)}",
            "imbalance": mean_of(runs, imbalance),
        }
    claims = paired.claims(_claims(arms, threshold, kind))
    return dict(threshold=threshold, counts=counts, arms=found, claims=claims)


def _claims(arms: Arms, threshold: float, kind: str) -> Iterator[paired.Claim]:
    pairs = [("alamp", "rand"), ("alamp-div", "rand")]
    pairs += [("alamp-div", name) for name in arms if name not in ("alamp-div", "rand")]
    pairs += [
        ("marg", "rand"),
        ("alamp", "marg"),
        ("core", "rand"),
        ("rand-div", "rand"),
    ]
    for one, other in pairs:
        if {one, other} <= arms.keys():
            found = gap(arms[one], arms[other], accuracy)
            text = f"{value_text(found, '+.2f')} points"
            if (one, other) == ("alamp", "rand"):
                text += f", in the paper {PAPER[kind]}"
            if one == "core":
                yield "core is below rand", paired.is_below(found), text
            else:
                yield f"{one} is above {other}", is_above(found), text
    if "rand-div" in arms:
        pair = arms["rand-div"], arms["rand"]
        early, late = (gap(*pair, accuracy_at(number)) for number in (1, -1))
        fall = lambda record: accuracy_at(1)(record) - accuracy_at(-1)(record)
        yield (
            "rand-div gains most at the start",
            is_above(gap(*pair, fall)),
            f"{value_text(early, '+.2f')} points at the first choice, "
            f"{value_text(late, '+.2f')} at the last",
        )
    if {"marg-div", "marg"} <= arms.keys():
        found = gap(arms["marg-div"], arms["marg"], accuracy)
        ends = found["interval"] or (-1, 1)
        near = True if max(map(abs, ends)) < 0.5 else None
        yield (
            "marg-div is as good as marg (within half a point)",
            False if min(ends) > 0.5 or max(ends) < -0.5 else near,
            f"{value_text(found, '+.2f')} points",
        )
    alamps = [name for name in ("alamp", "alamp-div") if name in arms]
    for name in alamps:
        for other in ("rand", "marg", "core"):
            if other in arms:
                found = gap(arms[name], arms[other], imbalance)
                yield (
                    f"{name} labels more evenly than {other}",
                    paired.is_below(found),
                    f"SD / mean of a class's labels {value_text(found, '+.3f')}",
                )
    for name in alamps:
        found = gap(arms[name], arms["rand"], labels_to(threshold))
        yield (
            f"{name} reaches {threshold:.0%} with fewer labels than rand",
            paired.is_below(found),
            f"{value_text(found, '+,.0f')} labels, {found['n']} seeds",
        )


def format_summary(summary: Mapping, title: str) -> str:
    """The table and the verdicts as text."""
    counts = summary["counts"]
    percent = lambda field: lambda name, arm: format(100 * arm[field]["mean"], ".1f")

    def needed(name, arm):
        mean = arm["labels_to_threshold"]["mean"]
        reached, number = arm["reached"].split("/")
        missed = "" if reached == number else f" ({arm['reached']})"
        return "-" if mean is None else f"{mean:,.0f}{missed}"

    columns = {
        title: lambda name, arm: name,
        f"{counts[0]}": percent("first"),
        f"{counts[len(counts) // 2]}": percent("middle"),
        f"{counts[-1]}": percent("last"),
        "gain over rand [95 %]": lambda name, arm: (
            value_text(arm["gain"], "+.2f") if arm["gain"] else ""
        ),
        f"labels to {summary['threshold']:.0%}": needed,
        "imbalance": lambda name, arm: format(arm["imbalance"]["mean"], ".3f"),
        "": lambda name, arm: paired.seeds_text(arm["first"]),
    }
    table = paired.columns(columns, summary["arms"].items())
    return paired.page(table, paired.claim_lines(summary["claims"]))


def figures(records: Sequence[Record], title: str) -> dict:
    """Kind -> figure: accuracy, and how even the labels are, by number of labels."""
    arms = paired.by_arm(records)
    counts = records[0]["count"]

    def curves(measure, y_label, runs_of=arms):
        values = {
            name: (counts, list(paired.each(runs, measure).values()))
            for name, runs in runs_of.items()
        }
        return drawn.learning_curves(
            values, x_label="labels", y_label=y_label, title=f"{title}, {SOURCE}"
        )

    made = {
        "accuracy": curves("accuracy", "test accuracy"),
        "imbalance": curves("imbalance", "SD / mean of a class's labels"),
    }
    rand = paired.each(arms.get("rand", {}), "accuracy")
    others = {
        name: {seed: run for seed, run in runs.items() if seed in rand}
        for name, runs in arms.items()
        if name != "rand"
    }
    if rand and others:
        above = lambda run: 100 * np.subtract(run["accuracy"], rand[run["seed"]])
        made["gain"] = curves(above, "points above rand", others)
    return made


def compare_schemes(results: Mapping[str, Sequence[Record]]) -> dict:
    """Accuracy of linear classifiers and of fine-tuning with the same labels.

    Args:
      results: scheme -> records of "rand".

    Returns:
      Number of labels -> scheme -> statistics, and the paired difference.
    """
    runs = {scheme: paired.by_arm(found)["rand"] for scheme, found in results.items()}
    counts = results["svm"][0]["count"]
    return {
        str(count): {
            **{scheme: mean_of(runs[scheme], accuracy_at(place)) for scheme in runs},
            "svm - ft": gap(runs["svm"], runs["ft"], accuracy_at(place)),
        }
        for place, count in enumerate(counts)
    }


def format_schemes(found: Mapping, title: str) -> str:
    """The table of `compare_schemes` as text."""
    text = lambda name, form: lambda count, row: value_text(row[name], form)
    columns = {
        f"labels, {title}": lambda count, row: count,
        "SVM %": text("svm", ".1f"),
        "fine-tuning %": text("ft", ".1f"),
        "difference": text("svm - ft", "+.1f"),
        "SVM is above": lambda count, row: paired.verdict(is_above(row["svm - ft"])),
    }
    return "\n".join(paired.columns(columns, found.items()))
