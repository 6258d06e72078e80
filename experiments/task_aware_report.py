"""What the runs of the task-aware comparison show: statistics, verdicts, figures.

A record is a dict, as JSON gives it, of one run: "arm", "seed", and lists with an entry
a stage: "accuracy" on the test set, "count" of the labels, and "class_counts" [C] of
them; "discriminator" is None or holds "sd", "iqr" and "histogram" of D over the
candidates of each stage. Arms with the same seed share initial labels, so everything is
compared seed by seed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments import paired
from experiments.task_aware_runs import ARMS, BINS
from jal import plots

Record = Mapping[str, Any]

TASK_AWARE = "TA-VAAL"
AWARE = "learning loss", "learning loss v2", TASK_AWARE
AGNOSTIC = "random", "VAAL"
IMBALANCED = "imbalanced CIFAR-10"


def class_entropy(counts) -> float:
    """Entropy in nats of class counts: ln C where all are alike, 0 for one class."""
    shares = np.asarray(counts, np.float64) / np.sum(counts)
    return float(-np.sum(shares * np.log(np.where(shares > 0, shares, 1))))


class Runs:
    """Quantities of all runs, by arm and seed.

    Attributes:
      counts: [stages] labels.
      accuracy: arm -> seed -> [stages].
      entropy: arm -> seed -> [stages], of the classes of the labelled set, in nats.
      spread: arm -> seed -> (SD, interquartile range) of D at the last stage in which
        something was chosen, of arms with a discriminator.
      histogram: arm -> [BINS] of D in that stage, summed over seeds.
      ranker_for_all: whether every arm trained with a ranker.
    """

    def __init__(self, records: Iterable[Record], *, ranker_for_all: bool = False):
        self.ranker_for_all = ranker_for_all
        self.counts: list[int] = []
        self.accuracy: dict[str, dict[int, np.ndarray]] = {}
        self.entropy: dict[str, dict[int, np.ndarray]] = {}
        self.spread: dict[str, dict[int, tuple[float, float]]] = {}
        self.histogram: dict[str, np.ndarray] = {}
        for record in records:
            arm, seed = record["arm"], record["seed"]
            if seed in self.accuracy.get(arm, {}):
                raise ValueError(f"{arm!r}, seed {seed} occurs twice in records")
            self.counts = self.counts or list(record["count"])
            if list(record["count"]) != self.counts:
                raise ValueError(
                    f"{arm!r}, seed {seed} has stages {record['count']}, others "
                    f"{self.counts}"
                )
            entropy = [class_entropy(counts) for counts in record["class_counts"]]
            self.accuracy.setdefault(arm, {})[seed] = np.array(record["accuracy"])
            self.entropy.setdefault(arm, {})[seed] = np.array(entropy)
            if record["discriminator"] is not None and len(self.counts) > 1:
                last = {
                    name: values[len(self.counts) - 2]
                    for name, values in record["discriminator"].items()
                }
                if last["sd"] is None or last["iqr"] is None:
                    continue  # the autoencoder diverged: D is not a number
                self.spread.setdefault(arm, {})[seed] = last["sd"], last["iqr"]
                self.histogram[arm] = self.histogram.get(arm, 0) + np.array(
                    last["histogram"]
                )
        if not self.accuracy:
            raise ValueError("records is empty; nothing was run")

    def train_alike(self, one: str, other: str) -> bool:
        """Whether both train the same network on the same labels in stage 1."""
        default = "logistic" if self.ranker_for_all else None
        first, second = (ARMS[name].ranking or default for name in (one, other))
        return first == second

    def difference(self, one: str, other: str, stages: Sequence[int]) -> dict:
        """Accuracy of one arm minus that of another, averaged over stages."""
        mean = lambda arm: {
            seed: float(np.mean(values[list(stages)]))
            for seed, values in self.accuracy[arm].items()
        }
        return paired.difference(mean(one), mean(other))


def summarize(
    records: Iterable[Record],
    *,
    data: str,
    profile: str | None = None,
    ranker_for_all: bool = False,
) -> dict:
    """Means over seeds, and verdicts on the claims that these arms can speak to.

    A claim on several stages or several other arms is replicated if every paired
    difference has a 95 % interval above its bound (0, if nothing else is said), not
    replicated if one lies below, and not resolved otherwise. A single stage's interval
    is not corrected for their number. Two arms whose networks train alike are the same
    in stage 1, which is then left out.

    Args:
      records: of one data set and protocol.
      data: whose images they are, "fashion_mnist" or another one.
      profile: of the imbalance, or None.
      ranker_for_all: whether every arm trained with a ranker.

    Returns:
      A dict for JSON: "counts" [stages], "accuracy" and "entropy", arm -> statistics of
      each stage, "spread", arm -> statistics of SD and interquartile range,
      "differences", TA-VAAL against each other arm over all stages, and "claims", each
      with the setting "of" which the paper says it.

    Raises:
      ValueError: no records, one run twice, or stages that differ.
    """
    results = Runs(records, ranker_for_all=ranker_for_all)
    stages = range(len(results.counts))
    by_stage = lambda values: {
        arm: [paired.mean_interval(run[s] for run in runs.values()) for s in stages]
        for arm, runs in values.items()
    }
    others = [arm for arm in results.accuracy if arm != TASK_AWARE]
    return {
        "counts": results.counts,
        "seeds": sorted({seed for runs in results.accuracy.values() for seed in runs}),
        "accuracy": by_stage(results.accuracy),
        "entropy": by_stage(results.entropy),
        "spread": {
            arm: {
                "sd": paired.mean_interval(sd for sd, _ in runs.values()),
                "iqr": paired.mean_interval(iqr for _, iqr in runs.values()),
            }
            for arm, runs in results.spread.items()
        },
        "differences": {
            arm: results.difference(TASK_AWARE, arm, stages)
            for arm in others
            if TASK_AWARE in results.accuracy
        },
        "claims": [
            *_claims_on_accuracy(results, data, profile),
            *_other_claims(results),
        ],
    }


def _claims_on_accuracy(results: Runs, data, profile):
    """What the paper says of arms that were run, in the order of its figures."""
    stages = range(len(results.counts))
    later, last = stages[1:], stages[-1:]
    against = lambda one, others: [(one, other) for other in others if other != one]
    everyone = against(TASK_AWARE, results.accuracy)
    clothes = data == "fashion_mnist"
    where = f"CIFAR-10 profile {profile}" if profile else "balanced sets"
    claims = [
        ("TA-VAAL is the best at every stage", where, everyone, stages, 0.0),
        (
            "loss-based methods are above task-agnostic ones once they choose",
            IMBALANCED,
            [pair for one in AWARE for pair in against(one, AGNOSTIC)],
            later,
            0.0,
        ),
        (
            "learning loss v2 is better than learning loss at the last stage",
            IMBALANCED,
            [("learning loss v2", "learning loss")],
            last,
            0.0,
        ),
        (
            "VAAL + learning loss is better than VAAL at every stage",
            IMBALANCED,
            [("VAAL + learning loss", "VAAL")],
            stages,
            0.0,
        ),
        (
            "learning loss is better than VAAL + learning loss at the last stage",
            IMBALANCED,
            [("learning loss", "VAAL + learning loss")],
            last,
            0.0,
        ),
    ]
    if clothes:
        claims[:1] = [
            (
                "TA-VAAL is the best at every stage but the first",
                "Fashion-MNIST",
                everyone,
                later,
                0.0,
            ),
            (
                "TA-VAAL is more than 5 points ahead of all at the third stage",
                "Fashion-MNIST",
                everyone,
                stages[2:3],
                0.05,
            ),
        ]
    for claim, of, pairs, when, bound in claims:
        pairs = [pair for pair in pairs if set(pair) <= results.accuracy.keys()]
        if pairs and when:
            yield {"claim": claim, "of": of, **_ahead(results, pairs, when, bound)}


def _other_claims(results: Runs):
    rankers = [
        arm
        for arm in ("learning loss", "learning loss v2")
        if {arm, "random"} <= results.accuracy.keys()
    ]
    if rankers and not results.ranker_for_all:
        changes = {arm: results.difference(arm, "random", [0]) for arm in rankers}
        differ = any(paired.is_above(change) is not None for change in changes.values())
        yield {
            "claim": "a ranker changes the accuracy of stage 1 on the same labels",
            "of": "all sets",
            "verdict": paired.verdict(True if differ else None),
            "evidence": "; ".join(
                f"{arm} against random {_points(change)}"
                for arm, change in changes.items()
            ),
        }
    later = range(1, len(results.counts))
    others = [arm for arm in results.accuracy if arm != TASK_AWARE]
    if TASK_AWARE in results.accuracy and others and later:
        mean = lambda arm: {
            seed: float(np.mean(run[list(later)]))
            for seed, run in results.entropy[arm].items()
        }
        changes = {
            arm: paired.difference(mean(TASK_AWARE), mean(arm)) for arm in others
        }
        yield {
            "claim": "the classes of what TA-VAAL labels have the highest entropy",
            "of": "CIFAR-10 profiles a and c",
            "verdict": paired.verdict(
                paired.all_of(map(paired.is_above, changes.values()))
            ),
            "evidence": "; ".join(
                f"against {arm} {paired.value_text(change, '+.3f')} nats"
                for arm, change in changes.items()
            ),
        }
    if {TASK_AWARE, "VAAL"} <= results.spread.keys():
        part = lambda arm, n: {seed: v[n] for seed, v in results.spread[arm].items()}
        for number, name in enumerate(("SD", "interquartile range")):
            change = paired.difference(part(TASK_AWARE, number), part("VAAL", number))
            yield {
                "claim": f"D spreads wider under TA-VAAL than under VAAL ({name})",
                "of": "CIFAR-10 profile a",
                "verdict": paired.verdict(paired.is_above(change)),
                "evidence": f"difference {paired.value_text(change, '+.3f')}",
            }


def _ahead(results: Runs, pairs, stages, bound):
    """Verdict and evidence on the first of each pair being above the second."""
    answers, evidence = [], []
    for one, other in pairs:
        own = [s for s in stages if s > 0 or not results.train_alike(one, other)]
        if not own:
            continue
        of_stage = [
            paired.is_above(results.difference(one, other, [s]), bound) for s in own
        ]
        answers += of_stage
        text = f"{one} against {other} {_points(results.difference(one, other, own))}"
        if len(own) > 1:
            text += (
                f" on average, ahead at {of_stage.count(True)} and behind at "
                f"{of_stage.count(False)} of {len(own)}"
            )
        if len(own) < len(stages):
            text += ", which are the same in stage 1"
        evidence.append(text)
    return {
        "verdict": paired.verdict(paired.all_of(answers) if answers else None),
        "evidence": "; ".join(evidence),
    }


def _points(statistics) -> str:
    return f"{paired.value_text(statistics, '+.1f', 100)} points"


def format_summary(summary: Mapping) -> str:
    """Tables and verdicts as text, also valid Markdown.

    Args:
      summary: what `summarize` returned.

    Returns:
      Several lines: accuracy and class entropy by stage, the spread of D, the verdicts.
    """
    counts = [f"{count:,}" for count in summary["counts"]]
    lines = [
        paired.wrap(
            f"Test accuracy in per cent by number of labels, mean ± SD of "
            f"{len(summary['seeds'])} seeds (ddof 0)."
        ),
        "",
        *paired.table(["method", *counts], _by_stage(summary["accuracy"], ".1f", 100)),
        "",
        "Entropy in nats of the classes of what is labelled.",
        "",
        *paired.table(["method", *counts], _by_stage(summary["entropy"], ".3f", 1)),
    ]
    if summary["spread"]:
        rows = [
            [arm, *(_mean_sd(part[name], ".4f", 1) for name in ("sd", "iqr"))]
            for arm, part in summary["spread"].items()
        ]
        header = ["method", "SD of D", "interquartile range"]
        lines += ["", "D over the candidates of the last choice.", ""]
        lines += paired.table(header, rows)
    if summary["differences"]:
        rows = [
            [arm, paired.value_text(difference, "+.2f", 100)]
            for arm, difference in summary["differences"].items()
        ]
        lines += ["", "TA-VAAL's accuracy minus the other's, points, all stages.", ""]
        lines += paired.table(["against", "mean [95 % interval]"], rows)
    lines += ["", "What the paper says, and what was found:", ""]
    for claim in summary["claims"]:
        text = (
            f"- {claim['claim']} (the paper, of {claim['of']}): "
            f"{claim['verdict'].upper()}. {claim['evidence']}."
        )
        lines.append(paired.wrap(text, "  "))
    return "\n".join(lines)


def format_reevaluation(records: Iterable[Record], again: Iterable[Record]) -> str:
    """What a plain network makes of the same labels, beside the runs themselves.

    Args:
      records: the runs.
      again: of plain networks on what the runs had chosen, by stage.

    Returns:
      Several lines: its accuracy by stage, and how much is due to the ranker.
    """
    accuracy = lambda records: {
        (record["arm"], record["seed"]): np.array(record["accuracy"])
        for record in records
    }
    records, again = list(records), list(again)
    before, after = accuracy(records), accuracy(again)
    arms = list(dict.fromkeys(record["arm"] for record in again))
    rows, changes = [], []
    for arm in arms:
        own = {seed: run for (name, seed), run in after.items() if name == arm}
        stages = np.array([own[seed] for seed in sorted(own)]).T
        rows.append(
            [
                arm,
                *(
                    _mean_sd(paired.mean_interval(stage), ".1f", 100)
                    for stage in stages
                ),
            ]
        )
        change = paired.mean_interval(
            float(run[-1] - before[arm, seed][-1]) for seed, run in own.items()
        )
        changes.append([arm, paired.value_text(change, "+.2f", 100)])
    counts = [f"{count:,}" for count in again[0]["count"]]
    return "\n".join(
        [
            "Test accuracy in per cent of a network without a ranker, trained on what "
            "was chosen.",
            "",
            *paired.table(["chosen by", *counts], rows),
            "",
            "Its accuracy minus that of the run itself at the last stage, points.",
            "",
            *paired.table(["chosen by", "mean [95 % interval]"], changes),
            *_ahead_again(after, arms),
        ]
    )


def _ahead_again(after, arms) -> list[str]:
    """Lines on TA-VAAL's lead where no network has a ranker."""
    last = lambda arm: {
        seed: float(run[-1]) for (name, seed), run in after.items() if name == arm
    }
    rows = [
        [
            arm,
            paired.value_text(
                paired.difference(last(TASK_AWARE), last(arm)), "+.2f", 100
            ),
        ]
        for arm in arms
        if arm != TASK_AWARE
    ]
    if TASK_AWARE not in arms or not rows:
        return []
    return [
        "",
        "What TA-VAAL chose against what others chose, last stage, points.",
        "",
        *paired.table(["against", "mean [95 % interval]"], rows),
    ]


def _by_stage(values, form, scale):
    return [
        [arm, *(_mean_sd(stage, form, scale) for stage in stages)]
        for arm, stages in values.items()
    ]


def _mean_sd(statistics, form, scale):
    text = format(scale * statistics["mean"], form)
    if statistics["sd"] is None:
        return text
    return f"{text} ± {format(scale * statistics['sd'], form)}"


def figures(records: Iterable[Record], title: str) -> dict:
    """Learning curves, bars of the class entropy, histograms of D.

    Args:
      records: as in `summarize`.
      title: above each of them.

    Returns:
      name -> figure, for `jal.plots.save`.
    """
    data = Runs(records)
    stacked = lambda values: {
        arm: (data.counts, np.stack(list(runs.values())))
        for arm, runs in values.items()
    }
    made = {
        "accuracy": plots.learning_curves(
            stacked(data.accuracy), x_label="labels", title=title
        ),
        "class-entropy": plots.stage_bars(
            stacked(data.entropy),
            x_label="labels",
            y_label="entropy of their classes (nats)",
            title=title,
        ),
    }
    if data.histogram:
        made["discriminator"] = plots.histograms(
            data.histogram,
            np.linspace(0, 1, BINS + 1),
            x_label="D: how labelled a candidate looks",
            y_label="share of the candidates",
            title=f"{title}: the last choice",
            names=data.accuracy,
        )
    return made
