"""Whole sets labelled: costs, models, killed and resumed, wrong arguments."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.min_cost import worlds
from jal import learners, mcal
from jal._core import files
from jal.mcal import Model, Predictions, Result, Terms, TrainingPrice, _campaign
from jal.session import Annotation, LabelStore
from jal.types import Outputs

TERMS = Terms(1000, 100, 0.04, first_batch=20, grid_step=20)
WORLD = worlds.World(4, 0.02, 0.5, 60_000)
TRUTH = np.random.default_rng(0).integers(0, 2, 1000)
CHEAP = TrainingPrice(per_image=1e-3)


def model(price=CHEAP, world=WORLD, seed=0) -> Model:
    return Model(worlds.classifier(world, TRUTH, seed), price)


def label(models=None, oracle=lambda indices: TRUTH[indices], terms=TERMS, **options):
    options = {"num_classes": 2, "progress": False, **options}
    models = models or {"formula": model()}
    key = options.pop("key", jax.random.key(0))
    return mcal.label(key, models, oracle, terms, **options)


def same(a, b):
    assert (a.labels == b.labels).all() and (a.is_human == b.is_human).all()
    assert a._replace(labels=0, is_human=0) == b._replace(labels=0, is_human=0)


def test_everything_is_labelled_and_paid_for_once():
    asked = []

    def oracle(indices):
        asked.extend(indices.tolist())
        return TRUTH[indices]

    result = label(oracle=oracle)
    assert len(asked) == len(set(asked)) == result.is_human.sum()
    assert set(asked) == set(np.flatnonzero(result.is_human))
    assert (result.labels[result.is_human] == TRUTH[result.is_human]).all()
    wrong = np.mean(result.labels != TRUTH)
    assert 0 < wrong < TERMS.max_error
    assert result.error_estimate < TERMS.max_error
    assert result.human_cost == pytest.approx(0.04 * result.is_human.sum())
    sizes = [row.size for row in result.rounds]
    assert sizes[0] == 20 and (np.diff(sizes) > 0).all()
    assert result.training_cost == pytest.approx(1e-3 * sum(sizes))
    assert result.cost < result.humans_alone == pytest.approx(40)
    assert result.theta == pytest.approx(np.mean(~result.is_human))
    assert result.trained_on == sizes[-1] and result.stop
    # The most confident items are the model's.
    hardness = 1 - model().train(np.arange(20), None).margin
    made = ~result.is_human
    assert hardness[made].max() < np.quantile(hardness, result.theta + 0.15)


def test_the_least_sure_items_are_bought():
    bought = []

    def oracle(indices):
        bought.append(indices)
        return TRUTH[indices]

    label(oracle=oracle)
    margin = model().train(np.arange(20), None).margin
    test, first, second = bought[:3]
    assert (len(test), len(first), len(second)) == (100, 20, 20)
    left = np.setdiff1d(np.arange(1000), np.concatenate([test, first]))
    assert set(second) == set(left[np.argsort(margin[left])][:20])


def test_a_model_that_is_never_right_leaves_everything_to_people():
    wrong = lambda indices, labels: Predictions(1 - TRUTH, np.ones(1000), 1.0)
    result = label({"wrong": Model(wrong, TrainingPrice(per_image=0.01))})
    assert result.is_human.all() and (result.labels == TRUTH).all()
    assert result.theta == result.error_estimate == 0
    assert result.stop.endswith("less than 40.00 USD for humans")
    assert result.training_cost < 0.3 * result.humans_alone


def test_a_perfect_model_is_believed_as_far_as_the_test_set_goes():
    right = lambda indices, labels: Predictions(TRUTH, np.ones(1000), 1.0)
    result = label({"right": Model(right, CHEAP)})
    assert (result.labels == TRUTH).all()
    assert result.is_human.sum() < 250


def test_the_model_that_may_label_most_is_kept():
    """Also when later ones are worse, and without what was bought since."""

    def train(indices, labels):
        if len(indices) <= 60:  # right, but for two items in a hundred
            predicted = np.where(np.arange(1000) % 50, TRUTH, 1 - TRUTH)
        else:
            predicted = 1 - TRUTH
        # What is bought next is what the first models were surest of.
        margin = np.linspace(1, 0.1, 1000)
        return Predictions(predicted, margin if len(indices) <= 60 else 1 - margin, 1.0)

    result = label({"early": Model(train, CHEAP)})
    assert max(row.size for row in result.rounds) > 60
    machine = max(row.machine for row in result.rounds)
    made = np.sum(~result.is_human)
    assert 0 < made < machine  # some of its items were bought
    assert (result.labels[result.is_human] == TRUTH[result.is_human]).all()
    assert np.mean(result.labels != TRUTH) < 0.05
    assert result.theta == pytest.approx(made / 1000)


def test_margins_that_are_nan_are_bought_first_of_none_and_trusted_last():
    def train(indices, labels):
        margin = np.linspace(0.1, 1, 1000)
        margin[::7] = np.nan
        predicted = np.where(np.isnan(margin), 1 - TRUTH, TRUTH)
        return Predictions(predicted, margin, 1.0)

    result = label({"nan": Model(train, CHEAP)})
    assert (~result.is_human).sum() > 500
    assert result.is_human[::7].mean() > 0.5


def test_same_key_same_result_other_key_other_test_set():
    same(label(), label())
    other = label(key=jax.random.key(1))
    assert (other.is_human != label().is_human).any()


def test_confidence_buys_more_labels():
    sure = label(terms=TERMS._replace(confidence=1.645))
    assert sure.is_human.sum() >= label().is_human.sum()


def test_fixed_batches():
    terms = TERMS._replace(theta_base="remaining", first_batch=50)
    policy = mcal.fixed_batch(terms, 50)
    result = label(terms=terms, policy=policy)
    sizes = [row.size for row in result.rounds]
    assert sizes == list(range(50, 50 * len(sizes) + 1, 50))
    assert result.stop == "the model may label the rest"
    assert result.is_human.sum() == 100 + sizes[-1]
    for row in result.rounds[:-1]:
        left = 900 - row.size
        assert left / 1000 * row.errors[-1] / row.counts[-1] >= 0.05
    nobody = TERMS._replace(theta_base="remaining", max_error=1e-9, first_batch=400)
    result = label(terms=nobody, policy=mcal.fixed_batch(nobody, 400))
    assert result.stop == "the pool is exhausted" and result.is_human.all()
    assert [row.size for row in result.rounds] == [400, 800, 900]
    with pytest.raises(ValueError, match="batch=0"):
        mcal.fixed_batch(terms, 0)
    with pytest.raises(ValueError, match="theta_base='pool'"):
        mcal.fixed_batch(TERMS, 50)


def test_the_cheaper_architecture_is_chosen_and_all_are_paid_for():
    models = {
        "dear": model(TrainingPrice(per_image=1e-3), seed=1),
        "weak": model(world=worlds.World(10, 0.3, 0.2, 2e5), seed=2),
        "good": model(world=worlds.World(2, 0.0, 0.6, 3e4), seed=3),
    }
    asked = []

    def oracle(indices):
        asked.extend(indices.tolist())
        return TRUTH[indices]

    result = label(models, oracle)
    assert result.model == "good"
    assert {row.model for row in result.rounds} == set(models)
    sizes = [row.size for row in result.rounds]
    assert result.training_cost == pytest.approx(1e-3 * sum(sizes))
    assert len(asked) == len(set(asked)) == result.is_human.sum()
    for name in models:
        rounds = [row for row in result.rounds if row.model == name]
        assert rounds[0].size == 20  # all begin with the same labels
        if name != "good":
            assert len(rounds) <= _campaign.MOST_EXPLORING_ROUNDS
    # The winner goes on with the labels of all.
    bought_to_explore = len(set(asked)) - 100
    sizes = [row.size for row in result.rounds if row.model == "good"]
    assert max(np.diff(sizes)) > 20 and sizes[-1] <= bought_to_explore


def test_measured_seconds_cost_money():
    result = label({"formula": model(price=3600.0)})  # a dollar a second
    seconds = sum(row.seconds for row in result.rounds)
    assert result.training_cost == pytest.approx(seconds)
    assert 1e-6 * sum(row.size for row in result.rounds) == pytest.approx(seconds)


def linear_learner():
    init = lambda key: (jnp.zeros((4, 2)), ())
    apply = lambda w, state, x, key, train: (Outputs(logits=x @ w), state)
    return learners.by_epochs(init, apply, optax.adam(0.1), epochs=5, batch_size=8)


def linear_data():
    draws = np.random.default_rng(1)
    x = draws.normal(size=(1000, 4)).astype(np.float32)
    return x, (x[:, 0] + 0.1 * draws.normal(size=1000) > 0).astype(np.int32)


def test_a_learner_labels_real_numbers():
    x, y = linear_data()
    traced = chex.assert_max_traces(n=1)
    learner = linear_learner()
    learner = learner._replace(fit=traced(learner.fit))
    train = mcal.from_learner(jax.random.key(0), learner, x, batch_size=300)
    result = label({"linear": Model(train, CHEAP)}, lambda indices: y[indices])
    assert len(result.rounds) >= 3
    assert np.mean(result.labels != y) < 0.05
    assert result.is_human.sum() < 400
    chex.clear_trace_counter()


def test_a_learner_only_sees_what_was_bought():
    x, y = linear_data()
    seen = {}

    def fit(key, variables, data, pool):
        seen["y"], seen["pool"] = data.y, pool
        return variables, {}

    learner = linear_learner()._replace(fit=fit)
    train = mcal.from_learner(jax.random.key(0), learner, x)
    indices = np.array([5, 3, 8])
    predictions = train(indices, y[indices])
    assert predictions.labels.shape == predictions.margin.shape == (1000,)
    assert predictions.margin.max() == 0  # the weights are zeros


class Killed(BaseException):
    """Stands for the end of a process."""


def test_killed_at_every_step_and_resumed(tmp_path, monkeypatch):
    """Every write to the disk, every training, every question may be the last."""
    undisturbed = label(folder=tmp_path / "whole", ask_at_most=60)
    steps = {"left": 0}
    asked = []

    def step():
        steps["left"] -= 1
        if steps["left"] == 0:
            raise Killed

    def before_and_after(function):
        def wrapped(*arguments, **options):
            step()
            result = function(*arguments, **options)
            step()
            return result

        return wrapped

    def oracle(indices):
        step()
        asked.append(tuple(indices.tolist()))
        step()
        return TRUTH[indices]

    train = model().train
    for where, name in (
        (os, "fsync"),
        (os, "replace"),
        (LabelStore, "add_batch"),
        (LabelStore, "tell"),
    ):
        monkeypatch.setattr(where, name, before_and_after(getattr(where, name)))
    kills = 0
    for left in range(1, 40, 3):
        steps["left"], here = left, 0
        folder = tmp_path / str(left)
        asked.clear()
        while True:
            try:
                result = label(
                    {"formula": Model(before_and_after(train), CHEAP)},
                    oracle,
                    folder=folder,
                    resume=True,
                    ask_at_most=60,
                )
                break
            except Killed:
                kills, here = kills + 1, here + 1
                steps["left"] = left + here
        same(result, undisturbed)
        assert len(LabelStore(folder).answers()) == result.is_human.sum()
        # Only what was on its way is asked for again, and it is the same question.
        again = [question for question in set(asked) if asked.count(question) > 1]
        assert all(len(set(a) & set(b)) == 0 for a in again for b in again if a != b)
        assert sum(map(len, set(asked))) == result.is_human.sum()
        assert not list(folder.rglob("*.tmp"))
    assert kills > 100


def test_a_round_is_recorded_after_its_predictions(tmp_path, monkeypatch):
    """Else a power cut could leave a round whose predictions are an empty file."""
    events = []

    def noted(function, event):
        def wrapped(*arguments):
            events.append(event(*arguments))
            return function(*arguments)

        return wrapped

    is_folder = lambda place: stat.S_ISDIR(os.fstat(place).st_mode)
    synced = lambda place: "folder" if is_folder(place) else "file"
    renamed = lambda source, target: Path(target).name
    line = lambda path, row: f"round {row.number}"
    monkeypatch.setattr(os, "fsync", noted(os.fsync, synced))
    monkeypatch.setattr(os, "replace", noted(os.replace, renamed))
    monkeypatch.setattr(files, "append_line", noted(files.append_line, line))
    result = label(folder=tmp_path)
    for row in result.rounds:
        place = events.index(f"round {row.number}")
        before = events[place - 3 : place + 2]
        name = f"0-{row.number}.npz"
        assert before == ["file", name, "folder", f"round {row.number}", "file"]


SCRIPT = """
    import os, signal, sys
    import jax, numpy as np
    from experiments.min_cost import worlds
    from jal import mcal
    from jal.mcal import Terms, TrainingPrice
    from jal.session import LabelStore

    folder, left = sys.argv[1], int(sys.argv[2])
    truth = np.random.default_rng(0).integers(0, 2, 1000)

    def step():
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def wrapped(*arguments, **options):
            step()
            result = function(*arguments, **options)
            step()
            return result
        return wrapped

    def oracle(indices):
        # A service that keeps its answers: it is paid for the first.
        with open(folder + "/sold", "ab", 0) as file:
            file.write(b" ".join(b"%d" % i for i in indices) + b"\\n")
        step()
        return truth[indices]

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    LabelStore.add_batch = counted(LabelStore.add_batch)
    LabelStore.tell = counted(LabelStore.tell)
    world = worlds.World(4, 0.02, 0.5, 60_000)
    train = counted(worlds.classifier(world, truth, 0))
    result = mcal.label(
        jax.random.key(0),
        {"formula": mcal.Model(train, TrainingPrice(per_image=1e-3))},
        oracle,
        Terms(1000, 100, 0.04, first_batch=20, grid_step=20),
        num_classes=2, folder=folder, resume=True, progress=False, ask_at_most=60,
    )
    print("done")
"""


def test_killed_by_the_system(tmp_path):
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    folder = tmp_path / "run"
    folder.mkdir()
    codes = []
    for left in (6, 29, 10**9):
        code = textwrap.dedent(SCRIPT)
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(left)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    undisturbed = label()
    arrays = np.load(folder / "labels.npz", allow_pickle=False)
    assert (arrays["labels"] == undisturbed.labels).all()
    assert (arrays["is_human"] == undisturbed.is_human).all()
    stored = json.loads((folder / "result.json").read_text())
    assert stored["cost"] == pytest.approx(undisturbed.cost)
    sold = [line.split() for line in (folder / "sold").read_text().splitlines()]
    once = {tuple(question) for question in sold}
    items = [item for question in once for item in question]
    assert len(items) == len(set(items)) == undisturbed.is_human.sum()


def test_a_finished_run_is_read_and_not_repeated(tmp_path):
    first = label(folder=tmp_path / "run")

    def nobody(*_):
        raise AssertionError("everything is bought and trained")

    again = label(
        {"formula": Model(nobody, CHEAP)},
        nobody,
        folder=tmp_path / "run",
        resume=True,
    )
    same(again, first)
    rounds = [
        json.loads(line)
        for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()
    ]
    assert [row["size"] for row in rounds] == [row.size for row in first.rounds]


def test_folders_of_other_runs(tmp_path):
    label(folder=tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        label(folder=tmp_path)
    for change in (
        dict(terms=TERMS._replace(price=0.05)),
        dict(models={"formula": model(TrainingPrice(per_image=2e-3))}),
        dict(key=jax.random.key(7)),
        dict(config={"a": 1}),
    ):
        with pytest.raises(ValueError, match="belongs to a different run"):
            label(folder=tmp_path, resume=True, **change)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="does not say of which"):
        label(folder=tmp_path, resume=True)


def test_files_that_do_not_belong_together(tmp_path):
    label(folder=tmp_path)
    path = tmp_path / "rounds.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["size"] += 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="do not belong together"):
        label(folder=tmp_path, resume=True)


def test_missing_predictions(tmp_path):
    label(folder=tmp_path)
    for path in (tmp_path / "predictions").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="is missing, but rounds.jsonl has its round"):
        label(folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(terms=TERMS._replace(price=-0.04)), "price=-0.04"),
        (dict(terms=TERMS._replace(max_error=1.5)), "max_error=1.5"),
        (dict(terms=TERMS._replace(num_test=5)), "num_test=5 is too small"),
        (
            dict(models={"a": model(price=-1.0)}),
            r"models\['a'\].price=-1.0",
        ),
        (dict(models={"a": model(TrainingPrice())}), "price of training is 0"),
        (dict(num_classes=1), "num_classes=1"),
        (dict(thetas=[0.5, 0.2]), "thetas="),
        (dict(ask_at_most=0), "ask_at_most=0"),
        (dict(oracle=lambda indices: TRUTH[indices][1:]), "expected"),
        (dict(oracle=lambda indices: TRUTH[indices] + 5), "labels are integers"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        label(**options)


def test_no_models_and_wrong_predictions():
    with pytest.raises(ValueError, match="models is empty"):
        mcal.label(jax.random.key(0), {}, lambda i: TRUTH[i], TERMS, num_classes=2)
    short = lambda indices, labels: Predictions(TRUTH[:5], np.ones(1000), 1.0)
    with pytest.raises(ValueError, match=r"returned labels of shape \(5,\)"):
        label({"short": Model(short, CHEAP)})


def store_of(folder, told=()):
    return LabelStore.create(folder, num_items=1000, classes=("a", "b"), told=told)


def ask(folder, **options):
    """Everything opened anew, as on another day."""
    options = {"models": {"formula": model()}, "terms": TERMS, **options}
    return mcal.ask(jax.random.key(0), store=LabelStore(folder), **options)


def by_people(folder, say=lambda item: TRUTH[item], part=10**9, **options):
    """The result, and what was asked: who is asked answers so many at a time."""
    asked = []
    while not isinstance(batch := ask(folder, **options), Result):
        items = batch.indices[:part].tolist()
        asked.extend(items)
        said = [Annotation(item, say(item), "ann", 2.0) for item in items]
        LabelStore(folder).tell(said)
    return batch, asked


def test_people_are_asked_what_an_oracle_would_be(tmp_path):
    store_of(tmp_path)
    result, asked = by_people(tmp_path)
    same(result, label())
    assert len(asked) == len(set(asked)) == result.is_human.sum()
    same(ask(tmp_path), result)
    stored = json.loads((tmp_path / mcal.FOLDER / "result.json").read_text())
    assert stored["cost"] == pytest.approx(result.cost)
    batches = LabelStore(tmp_path).batches()
    assert [batch.purpose for batch in batches[:3]] == ["test", "train", "train"]
    margin = model().train(np.arange(20), None).margin
    np.testing.assert_allclose(batches[2].scores, -margin[batches[2].items])
    labels = LabelStore(tmp_path).labels()
    assert (labels.label[result.is_human] == TRUTH[result.is_human]).all()
    assert labels.is_test.sum() == TERMS.num_test


def test_a_batch_that_is_partly_answered_is_asked_for_again(tmp_path):
    store_of(tmp_path)
    trained = []

    def train(indices, labels):
        trained.append(len(indices))
        return model().train(indices, labels)

    first = ask(tmp_path, k=30)
    assert first.number == 1 and len(first.indices) == 30
    LabelStore(tmp_path).tell([Annotation(i, 0, "ann") for i in first.indices[::2]])
    second = ask(tmp_path, k=30)
    assert second.indices[:15].tolist() == first.indices[1::2].tolist()
    models = {"formula": Model(train, CHEAP)}
    result, _ = by_people(tmp_path, part=23, models=models)
    sizes = [row.size for row in result.rounds]
    assert trained == sizes  # once each, however often people are asked


def test_several_models_with_people(tmp_path):
    store_of(tmp_path)
    models = {
        "weak": model(world=worlds.World(10, 0.3, 0.2, 2e5), seed=2),
        "good": model(world=worlds.World(2, 0.0, 0.6, 3e4), seed=3),
    }
    result, asked = by_people(tmp_path, models=models)
    same(result, label(models))
    assert len(asked) == len(set(asked))


def test_labels_that_are_there_are_not_asked_for(tmp_path):
    told = [Annotation(item, int(TRUTH[item]), "bob") for item in range(0, 1000, 3)]
    store = store_of(tmp_path, told)
    store.add_batch(1, "train", np.arange(1, 1000, 3)[:150])  # asked for by others
    result, asked = by_people(tmp_path)
    assert len(asked) == len(set(asked)) and not any(item % 3 == 0 for item in asked)
    assert result.is_human[::3].all()
    assert (result.labels[result.is_human] == TRUTH[result.is_human]).all()
    assert np.mean(result.labels != TRUTH) < 0.05
    # What is now needed was partly asked for in the batch of the others.
    assert set(asked) & set(range(1, 451, 3))


def test_items_that_people_skip_or_are_divided_about(tmp_path):
    store_of(tmp_path)
    skipped = lambda item: None if item % 10 == 0 else TRUTH[item]
    result, asked = by_people(tmp_path, skipped)
    assert len(asked) == len(set(asked)) == result.is_human.sum()
    tens = np.arange(0, 1000, 10)
    left = tens[result.is_human[tens]]
    assert len(left) and (result.labels[left] == -1).all()
    others = result.is_human & (np.arange(1000) % 10 > 0)
    assert (result.labels[others] == TRUTH[others]).all()
    for row in result.rounds:
        assert row.counts[-1] <= TERMS.num_test * 0.96
    # Somebody else differs, and then it is settled.
    item = int(np.flatnonzero(others)[0])
    for who, settled in (("bob", False), ("chief", True)):
        said = Annotation(item, 1 - int(TRUTH[item]), who)
        LabelStore(tmp_path).tell([said], final=settled)
        label_of = ask(tmp_path).labels[item]
        assert label_of == (1 - TRUTH[item] if settled else -1)


def test_people_who_skip_everything(tmp_path):
    store_of(tmp_path)
    with pytest.raises(ValueError, match="none of the 20 items asked for to train on"):
        by_people(tmp_path, lambda item: None)


def test_asking_with_other_arguments(tmp_path):
    store_of(tmp_path)
    ask(tmp_path)
    with pytest.raises(ValueError, match="belongs to a different run"):
        ask(tmp_path, terms=TERMS._replace(price=0.05))
    with pytest.raises(ValueError, match="num_items=999, but .* has 1000"):
        ask(tmp_path, terms=TERMS._replace(num_items=999))
    with pytest.raises(ValueError, match="k=0"):
        ask(tmp_path, k=0)


def test_the_constraint_holds_for_most_seeds():
    """By Wilson's bound: with 40 of 40 runs the share is above .9 with 95 %."""
    terms = Terms(4000, 400, 0.04, first_batch=40, grid_step=40, confidence=1.645)
    world = worlds.World(1, 0.5, 0.3, 60_000)
    wrong = [
        worlds.label_world(world, terms, CHEAP, seed=seed)[1] for seed in range(40)
    ]
    assert np.mean(np.asarray(wrong) < 0.05) == 1
    assert max(wrong) > 0.02


def test_thetas_are_shares_of_the_pool():
    assert mcal.THETAS[0] == 0.05 and mcal.THETAS[-1] == 1
    assert len(mcal.THETAS) == 20
