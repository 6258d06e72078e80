"""The simulated month: annotators, disorder that changes nothing, the summary."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.people import __main__ as commands
from experiments.people import annotators, month, report
from experiments.people.protocol import Config
from jal import acquisition, learners, scorers, strategies
from jal._core import files
from jal.session import Recipe
from jal.types import Outputs

pytest.importorskip("orbax.checkpoint")


@pytest.fixture
def config(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 400)
    path = tmp_path / "images.npz"
    some = {"test_images": images[:20], "test_labels": labels[:20]}
    np.savez(path, images=images, labels=labels, **some)
    return Config(str(path), items=300, k=8, rounds=3, late=0.3)


def test_annotators_are_as_described(config):
    world = annotators.people(config, 0, None)
    assert world.images.shape == (300, 28, 28, 1) and world.said.shape == (2, 300)
    wrong = world.said != world.truth
    assert 0.01 < wrong.mean() < 0.12
    assert (
        world.said[wrong]
        == np.array(annotators.LIKE)[np.tile(world.truth, (2, 1))[wrong]]
    ).all()
    assert (np.array(annotators.LIKE) != np.arange(10)).all()
    assert sorted(annotators.RANKS) == list(range(10))
    # Log-normal about the median of class and outline: the two answers differ by noise.
    noise = np.diff(np.log(world.seconds), axis=0)
    assert noise.std() == pytest.approx(np.sqrt(2) * annotators.SIGMA, rel=0.15)
    by_class = [np.log(world.seconds[:, world.truth == c]).mean() for c in (1, 6)]
    assert by_class[0] < by_class[1]


@pytest.mark.slow
def test_disorder_has_no_effect(config, tmp_path, monkeypatch):
    def apply(weights, state, x, key=None, train=False):
        flat = x.reshape(len(x), -1) / 255
        return Outputs(logits=flat @ weights, value=flat @ weights[:, 0]), state

    init = lambda key: (jnp.zeros((784, 10)), ())
    options = dict(steps=5, batch_size=8)
    learner = learners.supervised(init, apply, optax.adam(0.01), **options)
    cost = learners.regressor(init, apply, optax.adam(0.01), **options)
    by_entropy = lambda beta: strategies.from_scores(
        scorers.passes(acquisition.entropy, 1), beta=beta
    )
    made = Recipe(learner, by_entropy, cost)
    monkeypatch.setattr(month, "recipe", lambda config: made)
    for name, disorder in (("calm", None), ("wild", 7)):
        (tmp_path / name).mkdir()
        month.work(tmp_path / name, config, disorder)
    calm, wild = (month.state_of(tmp_path / n, config) for n in ("calm", "wild"))
    assert all(month.is_same(calm[name], wild[name]) for name in calm)
    assert calm["status"].waiting == 0 and calm["status"].batches == 3
    said = month.answers(config, 1, np.arange(8))
    assert len(said) == 9 and 0 < sum(late for *_, late in said) < 9
    # Done means that a further life changes nothing.
    month.work(tmp_path / "wild", config, 8)
    again = month.state_of(tmp_path / "wild", config)
    assert all(month.is_same(calm[name], again[name]) for name in calm)


def test_seconds_to_an_accuracy():
    record = {"accuracy": [0.1, 0.4, 0.4, 0.7], "seconds": [10, 20, 30, 40]}
    np.testing.assert_allclose(report.smooth(record), [0.25, 0.3, 0.5, 0.55])
    assert report.seconds_to(record, 0.2) == 10
    assert report.seconds_to(record, 0.4) == pytest.approx(25)
    assert report.seconds_to(record, 0.55) == pytest.approx(40)
    with pytest.raises(ValueError, match="accuracy = 0.6 is never reached"):
        report.seconds_to(record, 0.6)


def test_time_is_compared_over_all_accuracies():
    """Twice the time to the first half of the gain, the same time to the second."""
    curve = np.linspace(0, 1, 101)
    base = {"accuracy": curve, "seconds": 1.0 + np.arange(101)}
    late = {"accuracy": curve, "seconds": base["seconds"] * np.where(curve < 0.5, 2, 1)}
    over, last = report.relative_time(late, base)
    assert last == pytest.approx(0, abs=1e-9)
    assert over == pytest.approx(np.log(2) / 2, rel=0.1)
    assert report.relative_time(base, late)[0] == pytest.approx(-over)


def test_times_of_classes():
    blank = np.zeros((10, 28, 28, 1), np.uint8)  # without an outline

    def told(times, seed):
        return annotators.median_seconds(times, seed, blank, np.arange(10))

    np.testing.assert_allclose(told("alike", 0), told("alike", 1))
    order = np.argsort(told("alike", 0))
    assert order.tolist() == np.argsort(annotators.RANKS).tolist()
    drawn = [told("unrelated", seed) for seed in range(3)]
    for seconds in drawn:
        np.testing.assert_allclose(np.sort(seconds), np.linspace(2, 20, 10), rtol=1e-6)
    assert not np.array_equal(drawn[0], drawn[1])
    with pytest.raises(ValueError, match="times = 'soon', choose one of alike"):
        told("soon", 0)


def test_dark_images_take_long():
    """Ten times as long for the darkest of a class, whatever the class."""
    bright = np.array([10, 30, 20, 200, 100])
    images = np.broadcast_to(bright[:, None, None], (5, 28, 28)).astype(np.uint8)
    classes = np.array([3, 3, 3, 7, 7])
    found = annotators.median_seconds("dark", 0, images, classes)
    np.testing.assert_allclose(found, [30, 3, 3 * np.sqrt(10), 3, 30])


def test_the_time_saved_is_found(tmp_path, invoke):
    """The same curve in 80 % of the time, and a little beyond."""
    records = []
    for seed in range(4):
        curve = np.linspace(0.3, 0.8 + 0.01 * seed, 12)
        seconds = np.arange(1, 13) * 100.0
        records += [
            {"arm": "beta 0", "seed": seed, "accuracy": curve, "seconds": seconds},
            {
                "arm": "beta 1",
                "seed": seed,
                "accuracy": curve,
                "seconds": 0.8 * seconds,
            },
        ]
    found = report.summarize(records)
    for measure in ("time", "time_to_the_last"):
        assert found["beta 0"][measure]["mean"] == 0
        saved = found["beta 1"][measure]
        np.testing.assert_allclose([saved["mean"], *saved["interval"]], -0.2, atol=1e-9)
    assert "-20.0%" in report.table(found)[-1]
    assert report.figure(records).axes
    files.write_json(tmp_path / "cost.json", {"records": files.as_json(records)})
    table = lambda *arguments: invoke(commands.program, "table", *arguments)
    shown = table(tmp_path / "cost.json")
    assert shown.output.splitlines() == ["4 seeds", *report.table(found)]
    halves = [tmp_path / "a.json", tmp_path / "b.json"]
    for place, path in enumerate(halves):
        half = files.as_json(records[4 * place : 4 * place + 4])
        files.write_json(path, {"records": half})
    assert table(*halves) == shown
    some = ["--first-seed", 2, "--seeds", 5]
    shown = table(tmp_path / "cost.json", *some)
    assert shown.output.startswith("2 seeds\n")
    for arguments in (["nowhere.json"], [tmp_path / "cost.json", *some[:1], 9]):
        assert table(*arguments).status == 2
