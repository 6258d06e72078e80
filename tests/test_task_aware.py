import json

import numpy as np
import pytest

from experiments.common import runs
from experiments.task_aware import __main__ as commands
from experiments.task_aware import protocol as experiment
from experiments.task_aware import report
from experiments.task_aware.protocol import ARMS, PROFILES, Config
from jal import loop, strategies
from jal.loop import _drive

TINY = dict(
    initial=8,
    picks=4,
    candidates=12,
    rounds=2,
    width=2,
    blocks=(1,),
    epochs=1,
    batch_size=8,
    vae_channels=(1, 1, 1, 1),
    vae_epochs=0.5,
    vae_batch_size=4,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Forty images of 28x28 pixels and four classes, as a file."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 4
    pixels = rng.integers(0, 60, (60, 28, 28)) + 40 * labels[:, None, None]
    path = tmp_path_factory.mktemp("data") / "images.npz"
    part = dict(images=pixels[:40].astype(np.uint8), labels=labels[:40])
    test = dict(test_images=pixels[40:].astype(np.uint8), test_labels=labels[40:])
    np.savez(path, **part, **test)
    return str(path)


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """A run of TA-VAAL and its record."""
    folder = tmp_path_factory.mktemp("run")
    config = experiment.protocol(images, full=False, **TINY)
    return config, folder, experiment.run_arm(config, ARMS["TA-VAAL"], 0, folder)


@pytest.mark.slow
def test_a_run_says_what_it_chose(finished):
    config, folder, record = finished
    assert json.loads((folder / "record.json").read_text()) == record
    assert record["count"] == [8, 12, 16]
    bought = record["initial"] + sum(record["indices"][:2], [])
    assert len(set(bought)) == 16 and record["indices"][2] == [-1] * 4
    labels = np.arange(60)[:40] % 4
    for stage, counts in enumerate(record["class_counts"]):
        own = labels[bought[: record["count"][stage]]]
        assert counts == np.bincount(own, minlength=4).tolist()
    histogram = np.array(record["discriminator"]["histogram"][:2])
    assert histogram.shape == (2, report.BINS)
    np.testing.assert_array_equal(histogram.sum(axis=1), [12, 12])
    assert len(record["accuracy"]) == 3 and np.isfinite(record["accuracy"]).all()


@pytest.mark.slow
def test_a_finished_run_is_not_run_again(finished, monkeypatch):
    config, folder, record = finished
    monkeypatch.setattr(
        _drive, "drive", lambda *_, **__: pytest.fail("the run is there")
    )
    place = folder.parent / "again" / "TA-VAAL-seed0"
    place.parent.mkdir()
    place.symlink_to(folder)
    arms, seeds = [ARMS["TA-VAAL"]], [0]
    records = runs.run_all(experiment.run_arm, config, arms, seeds, place.parent)
    assert records == [record]


@pytest.mark.slow
def test_a_plain_network_on_the_same_labels(finished, tmp_path):
    config, _, record = finished
    choices = ((0, tuple(record["initial"]), tuple(map(tuple, record["indices"]))),)
    replay = experiment.Replay("TA-VAAL", choices)
    again = experiment.reevaluate_arm(config, replay, 0, tmp_path)
    assert again["count"] == record["count"]
    lines = (tmp_path / loop.ROUNDS_FILE).read_text().splitlines()
    assert [json.loads(line)["indices"] for line in lines[:2]] == record["indices"][:2]
    text = report.format_reevaluation([record], [again])
    change = 100 * (again["accuracy"][-1] - record["accuracy"][-1])
    assert f"{change:+.2f}" in text


def test_initial_sets_are_shared_and_differ_by_seed(images):
    config = experiment.protocol(images, full=False, **TINY)
    data, _ = experiment.load_data(config, None)
    sets = [
        runs.random_items(seed, data, config.initial).tolist() for seed in (0, 0, 1)
    ]
    assert sets[0] == sets[1] != sets[2]
    assert len(set(sets[0])) == 8


@pytest.mark.parametrize(
    ("profile", "total", "entropy"),
    [("a", 16_550, 1.657), ("b", 19_000, 1.900), ("c", 23_000, 2.115)],
)
def test_profiles_are_those_published(profile, total, entropy):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    kept = experiment.imbalanced(labels, PROFILES[profile], 0)
    assert len(kept) == total and (np.diff(kept) > 0).all()
    counts = np.bincount(labels[kept])
    assert counts.tolist() == [round(100 * share) for share in PROFILES[profile]]
    assert report.class_entropy(counts) == pytest.approx(entropy, abs=5e-4)
    again = experiment.imbalanced(labels, PROFILES[profile], 1)
    assert not np.array_equal(kept, again)


def test_a_class_that_is_too_small_for_a_profile():
    with pytest.raises(ValueError, match="3000 images of class 0, which has 10"):
        experiment.imbalanced(np.arange(100) % 10, PROFILES["a"], 0)


def test_the_published_setting():
    config = experiment.protocol("cifar10", full=True)
    assert config == Config()
    assert (config.width, config.blocks, config.epochs) == (64, (2, 2, 2, 2), 200)
    steps = strategies.epochs_of(config.vae_epochs, batch_size=config.vae_batch_size)
    counts = np.arange(1000, 11_000, 1000)
    assert sum(int(steps(count, config.candidates)) for count in counts[:-1]) == 105_465
    # Imbalanced sets end at 5,000 labels, clothes are not mirrored.
    assert experiment.protocol("cifar10", "a", full=True).rounds == 4
    clothes = experiment.protocol("fashion_mnist", full=True)
    assert (clothes.augment, clothes.latent) == (False, 28)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "d"}, "profile='d'; allowed are a, b, c"),
        ({"profile": "a", "data": "mnist"}, "profile='a' of data='mnist'"),
        ({"picks": 20, "candidates": 10}, "picks=20 of candidates=10"),
    ],
)
def test_protocols_that_contradict_themselves(changes, message):
    with pytest.raises(ValueError, match=message):
        experiment.check(Config(**changes), None)


# --- the command line -----------------------------------------------------------------


def test_every_command_shows_an_example(invoke):
    for command in ("figure2", "figure3", "ablation", "analysis", "smoke"):
        result = invoke(commands.program, command, "--help")
        assert "python -m experiments.task_aware " + command in result.output


def test_bad_arguments_are_named_before_anything_runs(tmp_path, images, invoke):
    for arguments, message in (
        (("figure2", "--methods", "vaal"), "there is no 'vaal'; allowed are random"),
        (("figure2", "--methods", "VAAL, VAAL"), "each only once"),
        (("figure3", "--profile", "z"), "profile='z'"),
        (("figure2", "--data", images), "lower them"),
        (("analysis", tmp_path / "none.json"), "No such file"),
    ):
        out = () if arguments[0] == "analysis" else ("--out", tmp_path / "out")
        result = invoke(commands.program, *arguments, *out)
        assert result.status == 2 and message in result.output
    assert not (tmp_path / "out").exists()


def test_images_of_another_size(tmp_path, invoke):
    part = np.zeros((4, 8, 8), np.uint8), np.arange(4)
    names = "images", "labels", "test_images", "test_labels"
    path = tmp_path / "small.npz"
    np.savez(path, **dict(zip(names, part * 2, strict=True)))
    result = invoke(
        commands.program, "figure2", "--data", path, "--out", tmp_path / "out"
    )
    assert result.status == 2 and "8x8 pixels; 28x28 or 32x32" in result.output


def test_other_files_are_not_results(tmp_path, invoke):
    path = tmp_path / "x.json"
    for text in ("{", "[]", "{}", '{"config": {"color": 1}, "records": []}'):
        path.write_text(text)
        result = invoke(commands.program, "analysis", path)
        assert result.status == 2
        assert "is not a results file of experiments.task_aware" in result.output


@pytest.mark.slow
def test_a_comparison_and_its_analysis(finished, tmp_path, monkeypatch, invoke):
    config, _, record = finished
    records = [
        {**record, "seed": seed, "arm": arm, "accuracy": [0.1, 0.2, value]}
        for seed in (0, 1)
        for arm, value in (("random", 0.3 + seed / 100), ("TA-VAAL", 0.5))
    ]
    monkeypatch.setattr(runs, "run_all", lambda *_, **__: records)
    monkeypatch.setattr(experiment, "protocol", lambda *_, **__: config)
    methods = "--methods", "random,TA-VAAL"
    result = invoke(commands.program, "figure2", *methods, "--out", tmp_path)
    assert result.status == 0, result.output
    path = tmp_path / "figure2-images.json"
    content = json.loads(path.read_text())
    assert content["records"] == records and "commit" in content
    figures = {"accuracy", "class-entropy", "discriminator"}
    made = {file.name for file in tmp_path.glob("*.png")}
    assert made == {f"figure2-images-{name}.png" for name in figures}
    shown = invoke(commands.program, "analysis", path, "--out", tmp_path / "again")
    assert shown.status == 0, shown.output
    assert shown.output.split("\nwrote")[0] in result.output
    assert len(list((tmp_path / "again").glob("*.png"))) == 3


# --- the report -----------------------------------------------------------------------


def record(arm, seed, accuracy, *, spread=None, counts=None):
    stages = len(accuracy)
    observed = None
    if spread is not None:
        observed = {
            "sd": [*[spread] * (stages - 1), None],
            "iqr": [*[2 * spread] * (stages - 1), None],
            "histogram": [[1] * report.BINS] * stages,
        }
    return {
        "arm": arm,
        "seed": seed,
        "accuracy": accuracy,
        "count": [10 * (stage + 1) for stage in range(stages)],
        "class_counts": counts or [[5, 5]] * stages,
        "discriminator": observed,
    }


def verdicts(records, **protocol):
    summary = report.summarize(records, **{"data": "cifar10"} | protocol)
    json.dumps(summary)
    assert report.format_summary(summary)
    return {claim["claim"]: claim["verdict"] for claim in summary["claims"]}


def test_class_entropy():
    assert report.class_entropy([3, 3, 3]) == pytest.approx(np.log(3))
    assert report.class_entropy([4, 0]) == 0


def test_verdicts_follow_the_paired_intervals():
    noise = (0.0, 0.1, 0.2)  # shared by the arms of a seed: differences are exact
    arms = {
        "random": (0.2, 0.3, 0.4),
        "VAAL": (0.2, 0.3, 0.4),
        "VAAL + learning loss": (0.2, 0.35, 0.45),
        "learning loss": (0.2, 0.25, 0.42),
        "learning loss v2": (0.21, 0.4, 0.44),
        "TA-VAAL": (0.21, 0.41, 0.51),
    }
    records = [
        record(
            arm,
            seed,
            [value + noise[seed] + 1e-4 * (seed - 1) * n for value in values],
            spread=(0.1 if arm == "VAAL" else 0.2) if "VAAL" in arm else None,
            counts=[[5, 5], [5, 5 if arm == "TA-VAAL" else 4], [5, 5]],
        )
        for n, (arm, values) in enumerate(arms.items())
        for seed in range(3)
    ]
    no, yes = "not replicated", "replicated"
    common = {
        "loss-based methods are above task-agnostic ones once they choose": no,
        "learning loss v2 is better than learning loss at the last stage": yes,
        "VAAL + learning loss is better than VAAL at every stage": "not resolved",
        "learning loss is better than VAAL + learning loss at the last stage": no,
        "a ranker changes the accuracy of stage 1 on the same labels": yes,
        "the classes of what TA-VAAL labels have the highest entropy": yes,
        "D spreads wider under TA-VAAL than under VAAL (SD)": yes,
        "D spreads wider under TA-VAAL than under VAAL (interquartile range)": yes,
    }
    best = "TA-VAAL is the best at every stage"
    assert verdicts(records, profile="b") == {best: yes, **common}
    assert verdicts(records, data="fashion_mnist") == {
        f"{best} but the first": yes,
        "TA-VAAL is more than 5 points ahead of all at the third stage": yes,
        **common,
    }
    # Where all have the same ranker, stage 1 is the same fit and says nothing.
    del common["a ranker changes the accuracy of stage 1 on the same labels"]
    assert verdicts(records, ranker_for_all=True) == {best: yes, **common}


def test_a_diverged_autoencoder_is_left_out():
    records = [record("VAAL", seed, [0.1, 0.2], spread=0.1) for seed in range(2)]
    records[1]["discriminator"] = {
        "sd": [None, None],
        "iqr": [None, None],
        "histogram": [[0] * report.BINS] * 2,
    }
    summary = report.summarize(records, data="cifar10")
    assert summary["spread"]["VAAL"]["sd"]["n"] == 1
    assert set(report.figures(records, "T")) == {
        "accuracy",
        "class-entropy",
        "discriminator",
    }


def test_one_seed_resolves_nothing():
    found = verdicts(
        [record("random", 0, [0.1, 0.2]), record("TA-VAAL", 0, [0.3, 0.4], spread=0.1)]
    )
    assert found and set(found.values()) == {"not resolved"}


def test_differences_are_paired():
    records = [
        record(arm, seed, [0.1 * seed + lead, 0.2 * seed + lead])
        for seed in range(3)
        for arm, lead in (("random", 0.0), ("TA-VAAL", 0.03))
    ]
    (difference,) = report.summarize(records, data="mnist")["differences"].values()
    assert difference["mean"] == pytest.approx(0.03)
    assert difference["interval"] == pytest.approx([0.03, 0.03])


def test_records_that_do_not_fit():
    run = record("random", 0, [0.1, 0.2])
    for records, message in (
        ([], "nothing was run"),
        ([run, run], "'random', seed 0 occurs twice"),
        ([run, record("VAAL", 0, [0.1])], "'VAAL', seed 0 has stages"),
    ):
        with pytest.raises(ValueError, match=message):
            report.summarize(records, data="mnist")
