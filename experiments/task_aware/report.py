"""What the runs of the task-aware comparison show: statistics, verdicts, figures.

A record is a dict, as JSON gives it, of one run: "arm", "seed", and lists with an entry
a stage: "accuracy" on the test set, "count" of the labels, and "class_counts" [C] of
them; "discriminator" is None or holds "sd", "iqr" and "histogram" of D over the
candidates of each stage. Arms with the same seed share initial labels, so everything is
compared seed by seed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from experiments.common import figures as drawn
from experiments.common import paired
from experiments.common.paired import (
    Record,
    Runs,
    is_above,
    spread_text,
    value_text,
    verdict,
)
from experiments.task_aware.protocol import ARMS, BINS

TASK_AWARE = "TA-VAAL"
AWARE = "learning loss", "learning loss v2", TASK_AWARE
AGNOSTIC = "random", "VAAL"
IMBALANCED = "imbalanced CIFAR-10"
Arms = Mapping[str, Runs]


def class_entropy(counts) -> float:
    """Entropy in nats of class counts: ln C where all are alike, 0 for one class."""
    shares = np.asarray(counts, np.float64) / np.sum(counts)
    return float(-np.sum(shares * np.log(np.where(shares > 0, shares, 1))))


def accuracy(stages: Sequence[int]):
    """Mean of some stages."""
    return lambda record: float(np.mean(np.array(record["accuracy"])[list(stages)]))


def entropy(stages: Sequence[int]):
    """Of the classes of the labelled set, in nats, mean of some stages."""
    return lambda record: float(
        np.mean([class_entropy(record["class_counts"][stage]) for stage in stages])
    )


def last_choice(name: str):
    """Something of D at the last stage in which something was chosen.

    None without a discriminator, or where the autoencoder diverged: D is not a number.
    """

    def measure(record):
        found, stage = record["discriminator"], len(record["count"]) - 2
        if found is None or stage < 0:
            return None
        if found["sd"][stage] is None or found["iqr"][stage] is None:
            return None
        return found[name][stage]

    return measure


def arms_of(records: Sequence[Record]) -> Arms:
    """Arm -> seed -> record, all with the same stages."""
    if not records:
        raise ValueError("records is empty; nothing was run")
    arms = paired.by_arm(records)
    for record in records:
        if list(record["count"]) != list(records[0]["count"]):
            raise ValueError(
                f"{record['arm']!r}, seed {record['seed']} has stages "
                f"{record['count']}, others {records[0]['count']}"
            )
    return arms


def spread(arms: Arms) -> dict[str, dict]:
    """Arm -> statistics of SD and interquartile range of D, where there is one."""
    found = {
        arm: {name: paired.mean_of(runs, last_choice(name)) for name in ("sd", "iqr")}
        for arm, runs in arms.items()
    }
    return {arm: parts for arm, parts in found.items() if parts["sd"]["n"]}


def summarize(
    records: Sequence[Record], data: str, profile=None, ranker_for_all=False
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
    arms, counts = arms_of(records), list(records[0]["count"])
    stages = range(len(counts))
    by_stage = lambda measure: {
        arm: [paired.mean_of(runs, measure([stage])) for stage in stages]
        for arm, runs in arms.items()
    }
    others = [arm for arm in arms if arm != TASK_AWARE and TASK_AWARE in arms]
    return {
        "counts": counts,
        "seeds": sorted({seed for runs in arms.values() for seed in runs}),
        "accuracy": by_stage(accuracy),
        "entropy": by_stage(entropy),
        "spread": spread(arms),
        "differences": {
            arm: _gap(arms, TASK_AWARE, arm, accuracy(stages)) for arm in others
        },
        "claims": [
            dict(claim=claim, of=of, verdict=verdict(answer), evidence=evidence)
            for claim, of, answer, evidence in (
                *_ahead_claims(arms, stages, data, profile, ranker_for_all),
                *_other_claims(arms, stages, ranker_for_all),
            )
        ],
    }


def _ahead_claims(arms: Arms, stages, data, profile, ranker_for_all) -> Iterator[tuple]:
    """What the paper says of arms that were run, in the order of its figures."""
    later, last = stages[1:], stages[-1:]
    against = lambda one, others: [(one, other) for other in others if other != one]
    everyone, best = against(TASK_AWARE, arms), "TA-VAAL is the best at every "
    where = f"CIFAR-10 profile {profile}" if profile else "balanced sets"
    third = "TA-VAAL is more than 5 points ahead of all at the third stage"
    loss = "loss-based methods are above task-agnostic ones once they choose"
    pairs = [pair for one in AWARE for pair in against(one, AGNOSTIC)]
    better = lambda one, other, when: f"{one} is better than {other} at {when} stage"
    (v1, v2), vaal, both = AWARE[:2], "VAAL", "VAAL + learning loss"
    claims = [(f"{best}stage", where, everyone, stages, 0.0)]
    if data == "fashion_mnist":
        claims = [
            (f"{best}stage but the first", "Fashion-MNIST", everyone, later, 0.0),
            (third, "Fashion-MNIST", everyone, stages[2:3], 0.05),
        ]
    claims += [
        (loss, IMBALANCED, pairs, later, 0.0),
        (better(v2, v1, "the last"), IMBALANCED, [(v2, v1)], last, 0.0),
        (better(both, vaal, "every"), IMBALANCED, [(both, vaal)], stages, 0.0),
        (better(v1, both, "the last"), IMBALANCED, [(v1, both)], last, 0.0),
    ]
    for claim, of, pairs, when, bound in claims:
        pairs = [pair for pair in pairs if set(pair) <= arms.keys()]
        if pairs and when:
            yield claim, of, *_ahead(arms, pairs, when, bound, ranker_for_all)


def _ahead(arms: Arms, pairs, stages, bound, ranker_for_all) -> tuple[bool | None, str]:
    """Answer and evidence on the first of each pair being above the second."""
    answers, evidence = [], []
    ranker = lambda arm: ARMS[arm].ranking or ("logistic" if ranker_for_all else None)
    for one, other in pairs:
        # The same network on the same labels in stage 1 says nothing.
        own = [s for s in stages if s > 0 or ranker(one) != ranker(other)]
        if not own:
            continue
        gaps = [_gap(arms, one, other, accuracy([stage])) for stage in own]
        of_stage = [is_above(gap, bound) for gap in gaps]
        answers += of_stage
        lead = _points(_gap(arms, one, other, accuracy(own)))
        text = f"{one} against {other} {lead}"
        if len(own) > 1:
            text += (
                f" on average, ahead at {of_stage.count(True)} and behind at "
                f"{of_stage.count(False)} of {len(own)}"
            )
        if len(own) < len(stages):
            text += ", which are the same in stage 1"
        evidence.append(text)
    return paired.all_of(answers) if answers else None, "; ".join(evidence)


def _other_claims(arms: Arms, stages, ranker_for_all) -> Iterator[tuple]:
    rankers = [arm for arm in AWARE[:2] if {arm, "random"} <= arms.keys()]
    if rankers and not ranker_for_all:
        changes = {arm: _gap(arms, arm, "random", accuracy([0])) for arm in rankers}
        differ = any(is_above(change) is not None for change in changes.values())
        yield (
            "a ranker changes the accuracy of stage 1 on the same labels",
            "all sets",
            True if differ else None,
            "; ".join(f"{a} against random {_points(changes[a])}" for a in changes),
        )
    later = stages[1:]
    others = [arm for arm in arms if arm != TASK_AWARE and TASK_AWARE in arms]
    if others and later:
        changes = {arm: _gap(arms, TASK_AWARE, arm, entropy(later)) for arm in others}
        yield (
            "the classes of what TA-VAAL labels have the highest entropy",
            "CIFAR-10 profiles a and c",
            paired.all_of(map(is_above, changes.values())),
            "; ".join(
                f"against {arm} {value_text(change, '+.3f')} nats"
                for arm, change in changes.items()
            ),
        )
    if {TASK_AWARE, "VAAL"} <= spread(arms).keys():
        for field, name in (("sd", "SD"), ("iqr", "interquartile range")):
            change = _gap(arms, TASK_AWARE, "VAAL", last_choice(field))
            yield (
                f"D spreads wider under TA-VAAL than under VAAL ({name})",
                "CIFAR-10 profile a",
                is_above(change),
                f"difference {value_text(change, '+.3f')}",
            )


def _gap(arms: Arms, one: str, other: str, measure) -> dict:
    return paired.gap(arms[one], arms[other], measure)


def _points(statistics) -> str:
    return f"{value_text(statistics, '+.1f', 100)} points"


def format_summary(summary: Mapping) -> str:
    """Tables and verdicts as text, also valid Markdown.

    Args:
      summary: what `summarize` returned.

    Returns:
      Several lines: accuracy and class entropy by stage, the spread of D, the verdicts.
    """
    counts = [f"{count:,}" for count in summary["counts"]]
    spread = {arm: list(found.values()) for arm, found in summary["spread"].items()}
    header = ["SD of D", "interquartile range"]
    gaps = summary["differences"]
    claims = [
        paired.wrap(
            f"- {claim['claim']} (the paper, of {claim['of']}): "
            f"{claim['verdict'].upper()}. {claim['evidence']}.",
            "  ",
        )
        for claim in summary["claims"]
    ]
    return paired.page(
        "Test accuracy in per cent by number of labels, mean ± SD of "
        f"{len(summary['seeds'])} seeds (ddof 0).",
        _stages_table("method", counts, summary["accuracy"], ".1f", 100),
        "Entropy in nats of the classes of what is labelled.",
        _stages_table("method", counts, summary["entropy"], ".3f"),
        spread and "D over the candidates of the last choice.",
        spread and _stages_table("method", header, spread, ".4f"),
        gaps and "TA-VAAL's accuracy minus the other's, points, all stages.",
        gaps and _points_table("against", gaps),
        "What the paper says, and what was found:",
        claims,
    )


def _stages_table(first, header, values, form, scale=1.0):
    rows = (
        [arm, *(spread_text(stage, form, scale) for stage in stages)]
        for arm, stages in values.items()
    )
    return paired.table([first, *header], rows)


def _points_table(first, differences):
    rows = ([arm, value_text(d, "+.2f", 100)] for arm, d in differences.items())
    return paired.table([first, "mean [95 % interval]"], rows)


def different_code(records: Iterable[Record]) -> str:
    """A note on runs of several commits, or nothing."""
    commits = sorted({str(record["commit"]) for record in records})
    note = f"\n\nnote: the runs are of different code: {', '.join(commits)}"
    return note if len(commits) > 1 else ""


def format_reevaluation(records: Iterable[Record], again: Sequence[Record]) -> str:
    """What a plain network makes of the same labels, beside the runs themselves.

    Args:
      records: the runs.
      again: of plain networks on what the runs had chosen, by stage.

    Returns:
      Several lines: its accuracy by stage, and how much is due to the ranker.
    """
    before, after = paired.by_arm(records), paired.by_arm(again)
    counts, last = again[0]["count"], accuracy([-1])
    by_stage = {
        arm: [paired.mean_of(runs, accuracy([s])) for s in range(len(counts))]
        for arm, runs in after.items()
    }
    changes = {arm: paired.gap(runs, before[arm], last) for arm, runs in after.items()}
    leads = {}
    if TASK_AWARE in after:
        others = {arm: runs for arm, runs in after.items() if arm != TASK_AWARE}
        lead = after[TASK_AWARE]
        leads = {arm: paired.gap(lead, runs, last) for arm, runs in others.items()}
    header = [f"{count:,}" for count in counts]
    return paired.page(
        "Test accuracy in per cent of a network without a ranker, trained on what was "
        "chosen.",
        _stages_table("chosen by", header, by_stage, ".1f", 100),
        "Its accuracy minus that of the run itself at the last stage, points.",
        _points_table("chosen by", changes),
        leads and "What TA-VAAL chose against what others chose, last stage, points.",
        leads and _points_table("against", leads),
    )


def figures(records: Sequence[Record], title: str) -> dict:
    """Learning curves, bars of the class entropy, histograms of D.

    Args:
      records: as in `summarize`.
      title: above each of them.

    Returns:
      kind -> figure.
    """
    arms, counts = arms_of(records), list(records[0]["count"])
    stages = range(len(counts))
    stacked = lambda measure: {
        arm: (
            counts,
            [[measure([s])(run) for s in stages] for run in runs.values()],
        )
        for arm, runs in arms.items()
    }
    found = {
        arm: paired.each(runs, last_choice("histogram")).values()
        for arm, runs in arms.items()
    }
    histogram = {arm: np.sum(list(bins), 0) for arm, bins in found.items() if bins}
    made = {
        "accuracy": drawn.learning_curves(
            stacked(accuracy), x_label="labels", title=title
        ),
        "class-entropy": drawn.stage_bars(
            stacked(entropy),
            x_label="labels",
            y_label="entropy of their classes (nats)",
            title=title,
        ),
    }
    if histogram:
        made["discriminator"] = drawn.histograms(
            histogram,
            np.linspace(0, 1, BINS + 1),
            x_label="D: how labelled a candidate looks",
            y_label="share of the candidates",
            title=f"{title}: the last choice",
            names=arms,
        )
    return made
