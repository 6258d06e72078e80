import json
import math

import numpy as np
import pytest

from experiments.cost_sensitive import figure1, report, table1
from experiments.cost_sensitive.curves import (
    curves,
    labels_to_reach,
    spend_to_reach,
)


def run(arm="random", seed=0, accuracy=(), count=None, spend=None, **observed):
    rounds = range(len(accuracy))
    return {
        "arm": arm,
        "seed": seed,
        "accuracy": list(accuracy),
        "count": [20 + 10 * r for r in rounds] if count is None else count,
        "spend": [7.0 + 10.0 * r for r in rounds] if spend is None else spend,
        "indices": [],
        "observed": observed,
        "seconds": 1.0,
        "cpu_seconds": 1.0,
    }


# --- labels and cost to reach a target ------------------------------------------------


@pytest.mark.parametrize(
    ("accuracy", "options", "labels"),
    [
        ([0.5, 0.8, 0.92, 0.95], {}, 40),
        ([0.95, 0.5], {}, 20),
        ([0.95, 0.5], {"interpolate": True}, 20),
        ([0.5, 0.8, 0.89], {}, None),
        ([None, None], {}, None),
        ([0.5, None, 0.95, 0.97], {}, 40),
        ([0.5, math.nan, 0.95], {}, 40),
        ([0.5, 0.9], {}, 30),
        ([0.5, float(np.float32(0.9))], {}, 30),
        ([0.5, float(np.float32(0.9))], {"interpolate": True}, 30),
        ([0.5, 0.8999], {}, None),
        # 0.9 is a quarter of the way from 0.88 to 0.96, and half of that from 0.8 to 1.
        ([0.5, 0.88, 0.96], {"interpolate": True}, 32.5),
        ([0.8, None, 1.0], {"interpolate": True}, 30),
        # Running means: 0.7, 0.7, 0.9333, 0.95; the early peak does not count.
        ([0.5, 0.9, 0.7, 1.2, 0.7], {"smooth": 3}, 40),
        ([0.5, None, 0.9, None, 0.7, 1.2, 0.7], {"smooth": 3}, 60),
        # From 0.7 to 0.9333 the line passes 0.9 at 6/7 of the step.
        ([0.5, 0.9, 0.7, 1.2, 0.7], {"smooth": 3, "interpolate": True}, 30 + 60 / 7),
        ([0.95], {"smooth": 5}, 20),
    ],
)
def test_labels_to_reach(accuracy, options, labels):
    reached = labels_to_reach(run(accuracy=accuracy), **options)
    assert reached == (None if labels is None else pytest.approx(labels))


def test_cost_to_reach_leaves_out_the_initial_labels():
    record = run(accuracy=[0.5, 0.8, 1.0], spend=[100.0, 130.0, 190.0])
    assert spend_to_reach(record) == 90
    assert spend_to_reach(record, interpolate=True) == pytest.approx(60)
    assert spend_to_reach(record, 0.8) == 30
    assert spend_to_reach(record, 1.1) is None


@pytest.mark.parametrize("smooth", [0, 2, -1])
def test_smoothing_is_centred(smooth):
    with pytest.raises(ValueError, match=f"smooth={smooth}; it must be odd"):
        labels_to_reach(run(accuracy=[1.0]), smooth=smooth)


# --- table 1 --------------------------------------------------------------------------


def reaching(arm, seed, labels, last=100):
    """A run that reaches 0.9 at exactly this number of labels, or never (None)."""
    count = list(range(20, last + 1, 10))
    accuracy = [0.95 if labels and c >= labels else 0.5 for c in count]
    return run(arm, seed, accuracy, count)


def table(**labels):
    """table1 of arms with the labels to the target by seed; "-" is a missing run."""
    return table1.summarize(
        [
            reaching(arm, seed, value)
            for arm, values in labels.items()
            for seed, value in enumerate(values)
            if value != "-"
        ]
    )


def test_the_papers_table_is_recomputed():
    paper = table(random=[50])["paper"]
    mean = {arm: round(cell["mean"], 3) for arm, cell in paper.items()}
    assert mean == {"bald": 0.734, "entropy": 0.746, "mean_std": 0.602}
    sd = {arm: round(cell["sd"], 3) for arm, cell in paper.items()}
    assert sd == {"bald": 0.162, "entropy": 0.096, "mean_std": 0.097}
    # 2.776445 is the 97.5 % quantile of t with 4 degrees of freedom.
    half = 2.776445 * np.std(paper["bald"]["ratio"], ddof=1) / 5**0.5
    assert paper["bald"]["interval"] == pytest.approx([-0.266 - half, -0.266 + half])


def test_ratios_by_hand():
    cell = table(random=[50, 40], bald=[40, 30])["arms"]["bald"]["raw"]
    assert cell["labels"] == [40, 30]
    assert cell["ratio"] == pytest.approx([0.8, 0.75])
    assert cell["mean"] == pytest.approx(0.775)
    assert cell["sd"] == pytest.approx(0.025)
    assert cell["sd_sample"] == pytest.approx(0.05 / 2**0.5)
    # t with one degree of freedom: tan(0.475 pi) = 12.7062.
    half = math.tan(0.475 * math.pi) * 0.05 / 2**0.5 / 2**0.5
    assert cell["interval"] == pytest.approx([-0.225 - half, -0.225 + half])
    assert cell["ratio_of_means"] == pytest.approx(70 / 90)
    assert (cell["labels_mean"], cell["labels_sd"], cell["n"]) == (35, 5, 2)


def test_the_three_readings():
    curve = [0.5, 0.91, 0.7, 0.88, 0.96, 0.96, 0.96]
    random = [0.5, 0.7, 0.7, 0.7, 0.8, 1.0, 1.0]
    records = [run("random", accuracy=random), run("bald", accuracy=curve)]
    arms = table1.summarize(records)["arms"]
    # Running means of 3: bald .705 .703 .83 .847 .933 .96, random 0.733 0.833 0.933.
    labels = {name: arms["bald"][name]["labels"][0] for name in table1.READINGS}
    assert labels == pytest.approx(
        {"raw": 30, "interpolated": 20 + 10 * 0.4 / 0.41, "smoothed": 60}
    )
    labels = {name: arms["random"][name]["labels"][0] for name in table1.READINGS}
    assert labels == pytest.approx({"raw": 70, "interpolated": 65, "smoothed": 70})
    assert arms["bald"]["smoothed"]["ratio"] == pytest.approx([6 / 7])


@pytest.mark.parametrize(
    ("bald", "verdict"),
    [
        ([30, 40, 30], "replicated"),
        ([70, 80, 70], "opposite"),
        ([40, 50, 60], "not resolved"),
        ([30, "-", "-"], "not resolved"),
        (["-", "-", "-"], None),
    ],
)
def test_fewer_labels_than_random(bald, verdict):
    arms = table(random=[50, 50, 50], bald=bald)["arms"]
    assert arms.get("bald", {}).get("raw", {}).get("verdict") == verdict


def test_without_random_nothing_is_tried():
    cell = table(bald=[30, 40])["arms"]["bald"]["raw"]
    assert (cell["verdict"], cell["ratio"], cell["mean"]) == (
        "not tried",
        [None, None],
        None,
    )


def test_censored_seeds_are_left_out_counted_and_not_held_in_favour():
    cell = table(random=[50, 50, 50, 50], bald=[30, 35, 30, None])["arms"]["bald"][
        "raw"
    ]
    assert cell["labels"] == [30, 40, 30, None]
    assert cell["ratio"] == pytest.approx([0.6, 0.8, 0.6, None])
    assert (cell["n"], cell["censored"]) == (3, [3])
    assert cell["mean"] == pytest.approx(2 / 3)
    assert cell["interval"][1] < 0
    assert cell["verdict"] == "not resolved"


def test_a_censored_random_leaves_no_ratio():
    cell = table(random=[30, 30, 30, None], bald=[60, 70, 60, 40])["arms"]["bald"][
        "raw"
    ]
    assert cell["ratio"][3] is None and cell["censored"] == []
    assert cell["interval"][0] > 0
    assert cell["verdict"] == "not resolved"
    # Where both fail nothing speaks for either.
    result = table(random=[50, 50, 50, None], bald=[30, 40, 30, None])
    assert result["arms"]["bald"]["raw"]["verdict"] == "replicated"


@pytest.mark.parametrize(
    ("seeds", "verdict"),
    [
        (["yes", "yes"], "replicated"),
        (["yes", "tied"], "not resolved"),
        (["yes", "no"], "not replicated"),
        (["yes", None], "not resolved"),
    ],
)
def test_best_with_every_seed(seeds, verdict):
    needed = {"yes": 30, "tied": 40, "no": 50, None: None}
    others = [None if answer is None else 40 for answer in seeds]
    result = table(
        random=[None if answer is None else 60 for answer in seeds],
        bald=others,
        entropy=others,
        mean_std=[needed[answer] for answer in seeds],
    )
    best = result["verdicts"]["raw"]["mean_std best"]
    assert best == {"per_seed": seeds, "verdict": verdict}


def test_best_where_some_never_reach_the_target():
    result = table(
        random=[None, None, 50],
        bald=[None, 90, 50],
        entropy=[None, None, 50],
        mean_std=[90, None, 30],
    )
    best = result["verdicts"]["raw"]["mean_std best"]
    assert best["per_seed"] == ["yes", "no", "yes"]


def test_all_beat_random():
    less, more, same = [30, 40, 30], [80, 90, 80], [40, 50, 60]
    names = "bald", "entropy", "mean_std"
    for cells, verdict in (
        ((less, less, less), "replicated"),
        ((less, less, same), "not resolved"),
        ((less, more, same), "not replicated"),
    ):
        result = table(random=[50] * 3, **dict(zip(names, cells, strict=True)))
        assert result["verdicts"]["raw"]["all beat random"]["verdict"] == verdict
    result = table(random=[50] * 3, bald=less, mean_std=less)
    verdicts = result["verdicts"]["raw"]
    assert verdicts["all beat random"]["verdict"] == "not tried"
    assert verdicts["mean_std best"]["verdict"] == "not tried"
    assert verdicts["mean_std - entropy"] == {"verdict": "not tried"}
    assert verdicts["mean_std - bald"]["mean"] == 0


def test_strategies_are_compared_within_seeds():
    result = table(
        random=[50, 100, 50, 50],
        mean_std=[30, 60, 30, 30],
        bald=[40, 80, 40, None],
        entropy=[30, 60, 40, 50],
    )
    bald = result["verdicts"]["raw"]["mean_std - bald"]
    assert (bald["n"], bald["verdict"]) == (3, "replicated")
    assert bald["mean"] == pytest.approx(-0.2)
    entropy = result["verdicts"]["raw"]["mean_std - entropy"]
    assert (entropy["n"], entropy["verdict"]) == (4, "not resolved")
    swapped = table(
        random=[50] * 4,
        mean_std=[40, 40, 40, None],
        bald=[30, 30, 30, 30],
        entropy=[60, 60, 60, 60],
    )["verdicts"]["raw"]
    assert swapped["mean_std - bald"]["verdict"] == "opposite"
    # Better in three seeds, but it failed where entropy did not.
    assert swapped["mean_std - entropy"]["mean"] == pytest.approx(-0.4)
    assert swapped["mean_std - entropy"]["verdict"] == "not resolved"


def test_records_are_checked():
    with pytest.raises(ValueError, match="'random', seed 0 occurs twice"):
        table1.summarize([run(accuracy=[1.0]), run(accuracy=[1.0])])
    with pytest.raises(
        ValueError, match="'random', seed 0: lengths differ: .*'count': 1"
    ):
        table1.summarize([run(accuracy=[0.5, 1.0], count=[20])])
    for summarize in (table1.summarize, figure1.summarize):
        with pytest.raises(ValueError, match="no run of an arm"):
            summarize([run("margin", accuracy=[1.0])])


# --- figure 1 -------------------------------------------------------------------------

# Cost a round, and accuracy halfway and at the end, with which every claim holds.
WORLD = {
    "random": (100.0, 0.900, 0.950),
    "mean_std beta=0.0": (130.0, 0.950, 0.970),
    "mean_std beta=0.1": (115.0, 0.948, 0.969),
    "mean_std beta=0.2": (95.0, 0.946, 0.968),
    "mean_std beta=0.3": (80.0, 0.944, 0.966),
    "mean_std beta=0.4": (70.0, 0.920, 0.960),
    "mean_std beta=0.5": (60.0, 0.880, 0.940),
    "learned beta=0.3": (85.0, 0.940, 0.964),
}
# What the seeds add, so that differences between arms have an SD of a known size.
NOISE = {
    "random": (0, 0, 0),
    "mean_std beta=0.5": (0, 1, -1),
    "learned beta=0.3": (1, -1, 0),
}


def world(*, noise=1.0, bias=-5.0, without=(), seeds=3, **changed):
    """Runs of 4 rounds like WORLD; changed: "b0.3" or "learned" -> its numbers."""
    names = {"b" + name[-3:]: name for name in WORLD if "mean" in name}
    names |= {"learned": "learned beta=0.3", "random": "random"}
    arms = WORLD | {names[name]: values for name, values in changed.items()}
    records = []
    for arm, (cost, halfway, end) in arms.items():
        for seed in range(seeds):
            sign = noise * NOISE.get(arm, (1, 0, -1))[seed]
            accuracy = [0.5, 0.6, halfway + 0.001 * sign, None, end + 0.0005 * sign]
            spend = [50 + seed + r * (cost + sign) for r in range(5)]
            observed = {}
            if arm == "learned beta=0.3":
                observed["cost_bias"] = [bias + r + sign for r in range(4)] + [None]
                observed["mean_cost"] = [50.0] * 4 + [None]
            if arm not in without:
                records.append(run(arm, seed, accuracy, None, spend, **observed))
    return records


def verdicts(records, rounds=(2, 4)):
    result = figure1.summarize(records, rounds)["verdicts"]
    return {letter: verdict["verdict"] for letter, verdict in result.items()}


def test_costs_and_accuracies_by_hand():
    moment = figure1.summarize(world(), (2, 4))["rounds"][0]
    assert (moment["requested"], moment["used"], moment["labels"]) == (2, 2, 40)
    cell = moment["arms"]["mean_std beta=0.0"]
    assert cell["seeds"] == [0, 1, 2]
    assert cell["cost"]["mean"] == pytest.approx(260)
    assert cell["cost"]["sd"] == pytest.approx((8 / 3) ** 0.5)
    assert cell["cost"]["sd_sample"] == pytest.approx(2)
    assert cell["accuracy"]["mean"] == pytest.approx(0.95)
    assert cell["accuracy"]["sd"] == pytest.approx(0.001 * (2 / 3) ** 0.5)
    # The 97.5 % quantile of t with 2 degrees of freedom is 4.302653.
    half = 4.302653 * 2 / 3**0.5
    assert cell["cost_vs_random"]["mean"] == pytest.approx(60)
    assert cell["cost_vs_random"]["interval"] == pytest.approx([60 - half, 60 + half])
    assert cell["cost_change"]["mean"] == pytest.approx(0.3)
    assert cell["cost_change"]["interval"][1] == pytest.approx((60 + half) / 200)
    assert cell["accuracy_vs_random"]["mean"] == pytest.approx(0.05)
    assert "cost_vs_random" not in moment["arms"]["random"]
    assert list(moment["arms"]) == list(WORLD)


def test_the_crossover_is_interpolated():
    # Cost differences a round: 30, 15, -5, ...; 15 / 20 of the way from 0.1 to 0.2.
    assert figure1.summarize(world(), [2])["rounds"][0]["crossover"] == pytest.approx(
        0.175
    )
    at_once = world(**{"b0.1": (100.0, 0.9, 0.9)}, noise=0)
    assert figure1.summarize(at_once, [2])["rounds"][0]["crossover"] == 0.1
    dear = [f"mean_std beta=0.{i}" for i in range(2)]
    cheap = figure1.summarize(world(without=dear), [2])
    assert cheap["rounds"][0]["crossover"] is None
    alone = figure1.summarize(world(without=["random"]), [2])
    assert alone["rounds"][0]["crossover"] is None


def test_bias_by_part_of_the_run():
    first, second = figure1.summarize(world(), (2, 4))["bias"]
    assert first["rounds"] == [0, 2] and second["rounds"] == [2, 4]
    # Rounds 0 and 1: -5 and -4; the seeds add 1, -1 and 0.
    assert first["mean"] == pytest.approx(-4.5)
    assert second["mean"] == pytest.approx(-2.5)
    half = 4.302653 / 3**0.5
    assert first["interval"] == pytest.approx([-4.5 - half, -4.5 + half])
    assert first["relative"] == pytest.approx(-0.09)
    assert figure1.summarize(world(without=["learned beta=0.3"]), (2, 4))["bias"] == []


def test_every_claim_holds_in_a_world_made_for_it():
    assert set(verdicts(world()).values()) == {"replicated"}
    assert list(verdicts(world())) == list("bcdefgh")


FLAT = {f"b0.{i}": (WORLD[f"mean_std beta=0.{i}"][0], 0.95, 0.97) for i in range(6)}
RISING = {
    f"b0.{i}": (WORLD[f"mean_std beta=0.{i}"][0], 0.93 + 0.01 * i, 0.95 + 0.005 * i)
    for i in range(6)
}
ALL_DEAR = {f"b0.{i}": (120.0 - i, 0.95, 0.97) for i in range(6)}


@pytest.mark.parametrize(
    ("letter", "verdict", "changes"),
    [
        ("b", "not resolved", FLAT),
        ("b", "not replicated", RISING),
        ("c", "not replicated", ALL_DEAR),
        ("c", "not resolved", {**ALL_DEAR, "b0.5": (99.9, 0.95, 0.97)}),
        ("c", "replicated", {**ALL_DEAR, "b0.5": (90.0, 0.90, 0.95)}),
        ("c", "not replicated", {**ALL_DEAR, "b0.5": (60.0, 0.88, 0.94)}),
        ("c", "not resolved", {**ALL_DEAR, "b0.5": (60.0, 0.8999, 0.9499)}),
        ("d", "not resolved", {"b0.1": (100.5, 0.948, 0.969)}),
        ("d", "not replicated", {"b0.1": (90.0, 0.948, 0.969)}),
        ("e", "not resolved", {"b0.5": (60.0, 0.9, 0.9201)}),
        ("e", "not replicated", {"b0.5": (60.0, 0.94, 0.93)}),
        ("f", "not replicated", {"b0.3": (110.0, 0.944, 0.966)}),
        ("f", "not replicated", {"b0.3": (80.0, 0.92, 0.966)}),
        ("f", "not resolved", {"b0.3": (100.0, 0.944, 0.966)}),
        ("g", "not replicated", {"learned": (110.0, 0.94, 0.96)}),
        ("g", "not replicated", {"b0.0": (70.0, 0.94, 0.96)}),
        ("g", "not resolved", {"learned": (99.9, 0.94, 0.96)}),
        ("h", "not replicated", {"bias": 5.0}),
        ("h", "not resolved", {"bias": -1.0}),
        ("h", "not replicated", {"learned": (70.0, 0.94, 0.96)}),
        ("h", "not resolved", {"learned": (80.5, 0.94, 0.96)}),
    ],
)
def test_claims_both_ways(letter, verdict, changes):
    assert verdicts(world(**changes))[letter] == verdict


def test_a_loss_of_about_one_point_is_not_resolved():
    # Seeds 0 to 2 lose 1.1 points each, plus -0.2, 0 and 0.2.
    records = world(**{"b0.3": (80.0, 0.939, 0.966)})
    for record in records:
        if record["arm"] == "mean_std beta=0.0":
            record["accuracy"][2] -= 0.002 * (1 - record["seed"])
    assert verdicts(records)["f"] == "not resolved"


@pytest.mark.parametrize(
    ("without", "letters"),
    [
        (["random"], "cdfg"),
        (["learned beta=0.3"], "gh"),
        (["mean_std beta=0.0"], "efg"),
        (["mean_std beta=0.3"], "fh"),
        (["mean_std beta=0.5"], "e"),
        (["mean_std beta=0.0", "mean_std beta=0.1"], "defg"),
        ([name for name in WORLD if "mean" in name], "bcdefgh"),
        ([name for name in WORLD if name != "mean_std beta=0.2"], "bcdefgh"),
    ],
)
def test_claims_without_their_arms_are_not_tried(without, letters):
    records = world(without=without)
    judged = verdicts(records)
    assert {letter for letter in judged if judged[letter] == "not tried"} == set(
        letters
    )
    assert figure1.format_summary(figure1.summarize(records, (2, 4)))


def test_one_seed_resolves_nothing():
    judged = verdicts(world(seeds=1))
    assert set(judged.values()) == {"not resolved"}
    cell = figure1.summarize(world(seeds=1), [4])["rounds"][0]["arms"]["random"]["cost"]
    assert cell["sd"] is None and cell["interval"] is None


def test_a_bias_that_was_not_recorded():
    records = world()
    for record in records:
        record["observed"] = {}
    assert verdicts(records)["h"] == "not tried"


def test_differences_use_the_seeds_of_both():
    records = [r for r in world() if r["arm"] != "random" or r["seed"] < 2]
    cell = figure1.summarize(records, [4])["rounds"][0]["arms"]["mean_std beta=0.0"]
    assert cell["cost"]["n"] == 3 and cell["cost_vs_random"]["n"] == 2
    apart = [r for r in world() if (r["arm"] == "random") == (r["seed"] == 0)]
    assert verdicts(apart)["d"] == "not tried"


def test_rounds_that_are_not_in_the_data():
    summary = figure1.summarize(world())
    assert [moment["used"] for moment in summary["rounds"]] == [4, 4]
    assert summary["verdicts"]["e"]["verdict"] == "not tried"
    text = figure1.format_summary(summary)
    assert "After 4 rounds (60 labels); 98 rounds were asked for:" in text
    # Round 3 was not evaluated; round 4 not in one of the runs.
    assert figure1.summarize(world(), [3])["rounds"][0]["used"] == 2
    records = world()
    records[0]["accuracy"][4] = None
    assert figure1.summarize(records, [4])["rounds"][0]["used"] == 2
    with pytest.raises(ValueError, match="no round up to 0 was evaluated"):
        records[0]["accuracy"][0] = None
        figure1.summarize(records, [0])
    with pytest.raises(ValueError, match="rounds is empty"):
        figure1.summarize(records, [])
    assert len(figure1.summarize(world(), (4, 4))["rounds"]) == 1


def test_evidence_holds_the_numbers():
    found = figure1.summarize(world(), (2, 4))["verdicts"]
    assert "after 2 rounds +30.0 [" in found["d"]["evidence"]
    assert "beta = 0.17" in found["d"]["evidence"]
    assert "cheapest such is beta = 0.4, cost -30.0 [" in found["c"]["evidence"]
    # From 7.0 points (0.95 - 0.88) to 3.0 (0.97 - 0.94).
    assert "7.00 points after 2 rounds and by 3.00" in found["e"]["evidence"]
    assert "a change of -4.00 [" in found["e"]["evidence"]
    assert "points (3 seeds)" in found["f"]["evidence"]
    assert "-3.50 [" in found["h"]["evidence"] and "-7.0 %" in found["h"]["evidence"]
    assert all(v["evidence"].endswith(".") for v in found.values())


def test_summaries_are_json():
    for summary in (
        figure1.summarize(world(), (2, 4)),
        table(random=[50, None], bald=[30, None], mean_std=["-", 40]),
    ):
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary


# --- texts ----------------------------------------------------------------------------


def tables(text):
    """The tables of a text as lists of rows of stripped cells; checks the alignment."""
    found, before = [], None
    for line in text.splitlines():
        if line.startswith("|"):
            if before is None:
                found.append([])
            else:
                assert len(line) == len(before), "columns are not aligned"
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
            before = line
        else:
            before = None
    return found


def test_table1_as_text():
    text = table1.format_summary(
        table(
            random=[50, 40, None],
            bald=[40, 30, 60],
            entropy=[40, None, "-"],
            mean_std=[30, 30, 50],
        )
    )
    ratios, readings = tables(text)
    assert ratios[2][:5] == ["random (labels)", "50", "40", "not reached"] + [
        "45 ± 5 (n = 2)"
    ]
    assert ratios[3] == [
        "bald",
        "0.80",
        "0.75",
        "-",
        "0.78 ± 0.03 (n = 2)",
        "[0.46, 1.09]",
        "not resolved",
        "0.73 ± 0.16",
    ]
    assert ratios[4][1:5] == ["0.80", "not reached", "not run", "0.80 (n = 1)"]
    assert readings[2][1] == "43 ± 12" and readings[2][-1] == "0.78"
    assert "entropy never reached the target with seed 1." in text
    assert "entropy was not run with seed 2." in text
    assert "(by seed: yes, tied, unknown)" in text
    assert "Labels needed for 90 % test accuracy" in text
    assert max(map(len, text.splitlines())) <= 140


def test_figure1_as_text():
    text = figure1.format_summary(figure1.summarize(world(), (2, 4)))
    halfway, end = tables(text)
    assert halfway[2] == ["random", "3", "200 ± 0", "", "90.00 ± 0.00", ""]
    assert halfway[3][:4] == [
        "mean_std beta=0.0",
        "3",
        "260 ± 2",
        "+30.0 [+27.5, +32.5]",
    ]
    assert halfway[3][4:] == ["95.00 ± 0.08", "+5.00 [+4.75, +5.25]"]
    assert end[2][4] == "95.00 ± 0.00"
    assert "Beta at which the cost is that of random: 0.17." in text
    assert "rounds 0 to 1: -4.50 [-6.98, -2.02] units, -9.0 % of the true cost" in text
    assert "- (b) Accuracy falls as beta grows: replicated." in text
    assert max(map(len, text.splitlines())) <= 120


def test_demo_as_text():
    spend = [100.0, 150.0, 200.0, 300.0]
    records = [
        run("bald", 0, [0.5, 0.95, 0.96, 0.96], spend=spend),
        run("bald", 1, [0.5, 0.8, 0.8, None], spend=spend),
        run("random", 0, [0.5, 0.8, 0.8, 0.91], spend=spend),
        run("random", 1, [0.5, 0.8, 0.8, 0.93], spend=spend),
    ]
    text = report.format_demo(records)
    (rows,) = tables(text)
    assert rows[2] == ["random", "50 ± 0", "", "200 ± 0", "", "92.0 ± 1.0 %"]
    assert rows[3] == [
        "bald",
        "30, not reached (1 of 2 seeds)",
        "60 % (n = 1)",
        "50, not reached (1 of 2 seeds)",
        "25 % (n = 1)",
        "88.0 ± 8.0 %",
    ]
    assert "the accuracy with 50 labels:" in text and "± is the SD over 2 seeds" in text
    text = report.format_demo(records, target=0.99)
    assert tables(text)[0][2][1] == "not reached (2 of 2 seeds)"
    assert "labels to 99 %" in text
    # One seed has no SD; without costs there is no ratio of costs.
    free = [run("random", 0, [0.5, 0.95], spend=[0.0, 0.0])]
    free.append(run("bald", 0, [0.5, 0.95], spend=[0.0, 0.0]))
    text = report.format_demo(free)
    assert tables(text)[0][3] == ["bald", "30", "100 %", "0", "-", "95.0 %"]
    assert "±" not in text


# --- what the figures are made of -----------------------------------------------------


def test_curves_average_what_was_spent():
    records = [
        run("bald", 1, [0.5, None, 0.9], spend=[1.0, 3.0, 5.0]),
        run("bald", 0, [0.4, 0.6, 0.8], spend=[2.0, 3.0, 10.0]),
    ]
    x, y = curves(records)["bald"]
    np.testing.assert_array_equal(x, [20, 30, 40])
    np.testing.assert_array_equal(y, [[0.4, 0.6, 0.8], [0.5, np.nan, 0.9]])
    x, _ = curves(records, "spend")["bald"]
    np.testing.assert_array_equal(x, [0, 1.5, 6])
    with pytest.raises(ValueError, match="against='time'"):
        curves(records, "time")
    with pytest.raises(ValueError, match="different numbers of rounds"):
        curves([*records, run("bald", 2, [0.5])])


def test_points_of_figure_1():
    panels = figure1.summarize(world(), (2, 4))["points"]
    assert list(panels) == ["after 2 rounds (40 labels)", "after 4 rounds (60 labels)"]
    cost, accuracy = panels["after 4 rounds (60 labels)"][
        "mean_std, known cost, beta=0.5"
    ]
    assert cost == pytest.approx([240, 244, 236])
    assert accuracy == pytest.approx([0.94, 0.9405, 0.9395])
    assert "mean_std, learned cost, beta=0.3" in panels["after 2 rounds (40 labels)"]
    figure = report.cost_accuracy(panels)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "random",
        "mean_std, known cost, β as labelled",
        "mean_std, learned cost, β = 0.3",
    ]
