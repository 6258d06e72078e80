"""The driver: the loop of `loop.run` in segments, killed and resumed at any moment."""

import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import acquisition, learners, loop, nn, pool, scorers, strategies
from jal._core.compile import cpu_compiler_options
from jal.loop import _drive
from jal.types import Data, Learner, Outputs

KEY = jax.random.key(5)
ROUNDS = 12
RESTART = """
import sys
sys.path.insert(0, sys.argv[1])
import test_driver
test_driver.drive_network(sys.argv[2])
"""


# --- problems ------------------------------------------------------------------------


def mean_cost() -> Learner:
    """Predicts the mean cost of the labelled items."""

    def fit(key, variables, data, pool):
        total = jnp.sum(jnp.where(pool.labeled, data.y, 0))
        return total / pool.count, {}

    def predict(variables, x, key=None):
        return Outputs(value=jnp.full(x.shape[0], variables))

    return Learner(lambda key: jnp.ones(()), fit, predict)


@functools.cache
def network_problem():
    """A small convolutional network on random images; every kind of state is in use."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    images = rng.integers(0, 100, (60, 8, 8, 1))
    images[np.arange(60), 2 * labels] += 100
    images = jnp.asarray(images, jnp.uint8)
    labels = jnp.asarray(labels, jnp.int32)
    data = Data(
        x=images,
        y=labels,
        cost=jnp.asarray(rng.uniform(1, 2, 60), jnp.float32),
        test=(images[:20], labels[:20]),
    )
    module = nn.GalCNN(3, channels=(4,), strides=(1,), kernel=3, dense=8)
    learner = learners.supervised(
        *nn.from_linen(module, images),
        optax.adam(1e-2),
        steps=50,
        batch_size=8,
        restart=False,
    )
    strategy = strategies.from_scores(scorers.passes(acquisition.bald, 4), beta=0.5)
    options = dict(
        initial=jnp.arange(4),
        k=2,
        rounds=ROUNDS,
        propose=pool.stream(20),
        cost=mean_cost(),
        evaluate=learners.accuracy(learner),
        evaluate_rounds=(0, 5, ROUNDS),
    )
    return learner, strategy, data, options


def drive_network(folder=None, **options):
    learner, strategy, data, own = network_problem()
    return loop.drive(
        KEY,
        learner,
        strategy,
        data,
        folder=folder,
        resume=True,
        progress=False,
        **{**own, **options},
    )


@functools.cache
def tiny_problem(num_items: int = 12):
    """A nearest-class-mean classifier, which has a closed form and compiles fast."""

    def fit(key, variables, data, pool):
        rows = pool.labeled[:, None]
        belongs = jnp.where(rows, jax.nn.one_hot(data.y, 2), 0)
        return belongs.T @ jnp.where(rows, data.x, 0), {"labels": pool.count}

    def predict(variables, x, key=None):
        return Outputs(logits=x @ variables.T)

    learner = Learner(lambda key: jnp.zeros((2, 2)), fit, predict)
    x = jnp.arange(2.0 * num_items).reshape(num_items, 2)
    y = jnp.arange(num_items) % 2
    data = Data(x=x, y=y, cost=x[:, 0] + 1, test=(x, y))
    options = dict(initial=jnp.array([3, 4]), k=2, rounds=3, propose=pool.everything())
    return learner, strategies.random(), data, options


def drive_tiny(problem, folder=None, key=KEY, **options):
    learner, strategy, data, own = problem
    options = {"progress": False, **own, **options}
    data = options.pop("data", data)
    return loop.drive(key, learner, strategy, data, folder=folder, **options)


def lines(folder: Path) -> list[str]:
    path = folder / loop.ROUNDS_FILE
    return path.read_text().splitlines() if path.exists() else []


def steps(folder: Path) -> list[int]:
    """Rounds after which there is a whole checkpoint."""
    names = [path.name for path in (folder / _drive.CHECKPOINTS_FOLDER).glob("*")]
    return sorted(int(name) for name in names if name.isdigit())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Folder, state and infos of a run with a checkpoint after each round."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return folder, *drive_network(folder)


# --- the same as the scan ------------------------------------------------------------


def test_drive_is_run(uninterrupted):
    _, state, infos = uninterrupted
    learner, strategy, data, options = network_problem()
    scanned = jax.jit(
        lambda key, data: loop.run(key, learner, strategy, data, **options),
        compiler_options=cpu_compiler_options(),
    )(KEY, data)
    chex.assert_trees_all_equal((state, infos), scanned)
    assert infos.metrics["accuracy"][ROUNDS] > 1 / 3
    assert np.isnan(infos.metrics["accuracy"][1])


@pytest.mark.parametrize("segment", [3, 4, 5])
def test_segments_need_not_divide_the_number_of_rounds(segment, tmp_path):
    problem = tiny_problem()
    whole = drive_tiny(problem)
    assert whole[1].count.tolist() == [2, 4, 6, 8]
    parts = drive_tiny(problem, tmp_path, segment=segment)
    chex.assert_trees_all_equal(parts, whole)
    assert int(parts[0].round) == 4
    assert len(lines(tmp_path)) == 4


def test_infos_are_writable_numpy_arrays(uninterrupted):
    _, _, infos = uninterrupted
    for leaf in jax.tree.leaves(infos):
        assert isinstance(leaf, np.ndarray)
        assert leaf.shape[0] == ROUNDS + 1
        assert leaf.flags.writeable


def test_one_compilation_for_all_seeds_and_data():
    learner, *rest = tiny_problem()
    traces = []
    counted = learner._replace(fit=lambda *args: traces.append(1) or learner.fit(*args))
    problem = (counted, *rest)
    drive_tiny(problem, rounds=2)
    first = len(traces)
    data = rest[1]
    for seed in range(3):
        other = data._replace(cost=data.cost + seed)
        drive_tiny(problem, rounds=2, key=jax.random.key(seed), data=other)
    assert len(traces) == first
    drive_tiny(problem, rounds=4)
    assert len(traces) == 2 * first  # however many rounds there are


# --- lines and progress --------------------------------------------------------------


def test_a_line_for_each_round(uninterrupted):
    folder, _, infos = uninterrupted
    rows = [json.loads(line) for line in lines(folder)]
    assert [row["round"] for row in rows] == list(range(ROUNDS + 1))
    for number, row in enumerate(rows):
        assert set(row) == set(loop.RoundInfo._fields)
        assert row["count"] == infos.count[number]
        assert row["indices"] == infos.indices[number].tolist()
        for got, array in (
            (row["spend"], infos.spend),
            (row["cost"], infos.cost),
            (row["fit"]["loss"], infos.fit["loss"]),
            (row["metrics"]["accuracy"], infos.metrics["accuracy"]),
        ):
            want = float(array[number])
            assert got == (None if np.isnan(want) else want)
    assert rows[1]["metrics"]["accuracy"] is None  # not evaluated: NaN is not JSON


def test_progress_bar_shows_metrics_and_spend(capsys):
    learner, strategy, data, options = tiny_problem()
    infos = loop.drive(
        KEY,
        learner,
        strategy,
        data,
        evaluate=learners.accuracy(learner),
        segment=2,
        **options,
    )[1]
    text = capsys.readouterr().err
    assert "4/4" in text
    assert f"accuracy={infos.metrics['accuracy'][-1]:.4g}" in text
    assert f"spend={infos.spend[-1]:.4g}" in text
    assert f"labels={infos.count[-1]}" in text


def test_no_progress_bar(capsys):
    drive_tiny(tiny_problem())
    assert capsys.readouterr() == ("", "")


def test_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    problem = tiny_problem()
    assert drive_tiny(problem)[1].count.tolist() == [2, 4, 6, 8]
    with pytest.raises(ImportError, match="pip install tqdm, or progress=False"):
        drive_tiny(problem, progress=True)


def test_without_orbax(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    problem = tiny_problem()
    drive_tiny(problem)
    with pytest.raises(ImportError, match="folder=None.*jal\\[checkpoint\\]"):
        drive_tiny(problem, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_a_folder_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    drive_tiny(tiny_problem())
    assert not any(tmp_path.iterdir())


# --- which folders are taken ---------------------------------------------------------


def test_a_folder_with_a_run_needs_resume(tmp_path):
    problem = tiny_problem()
    drive_tiny(problem, tmp_path / "a" / "b")
    before = lines(tmp_path / "a" / "b")
    with pytest.raises(FileExistsError, match="holds a run; pass resume=True"):
        drive_tiny(problem, tmp_path / "a" / "b")
    assert lines(tmp_path / "a" / "b") == before


def test_resuming_a_finished_run_returns_it(uninterrupted):
    folder, state, infos = uninterrupted
    before = lines(folder)
    again = drive_network(folder)
    chex.assert_trees_all_equal(again, (state, infos))
    assert lines(folder) == before
    assert all(leaf.flags.writeable for leaf in jax.tree.leaves(again[1]))


def test_resuming_nothing_starts(tmp_path):
    problem = tiny_problem()
    state, infos = drive_tiny(problem, tmp_path, resume=True)
    chex.assert_trees_all_equal((state, infos), drive_tiny(problem))


def test_a_different_run_is_refused_with_what_differs(tmp_path):
    problem = tiny_problem()
    _, _, data, _ = problem
    config = {"steps": (1, 2), "rate": 0.1}
    drive_tiny(problem, tmp_path, config=config)
    drive_tiny(problem, tmp_path, config=config, resume=True)
    changes = {
        "key": dict(key=jax.random.key(6)),
        "labels_crc32": dict(data=data._replace(y=1 - data.y)),
        "cost_crc32": dict(data=data._replace(cost=data.cost + 1)),
        "initial": dict(initial=jnp.array([4, 3])),
        "k": dict(k=1),
        "rounds": dict(rounds=2),
        "config": dict(config={"steps": (1, 2), "rate": 0.2}),
    }
    for name, change in changes.items():
        change = {"config": config, **change}
        with pytest.raises(ValueError, match=rf"different run \({name} was .* and is "):
            drive_tiny(problem, tmp_path, resume=True, **change)
    with pytest.raises(ValueError, match="k was 2 and is 1; rounds was 3 and is 2"):
        drive_tiny(problem, tmp_path, resume=True, config=config, k=1, rounds=2)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_broken_run_file_is_refused(content, tmp_path):
    (tmp_path / loop.RUN_FILE).write_text(content)
    with pytest.raises(ValueError, match="run.json is not a JSON object; remove"):
        drive_tiny(tiny_problem(), tmp_path, resume=True)


def test_checkpoints_of_an_unknown_run_are_refused(tmp_path):
    problem = tiny_problem()
    drive_tiny(problem, tmp_path)
    (tmp_path / loop.RUN_FILE).unlink()
    for resume in (False, True):
        with pytest.raises(ValueError, match="checkpoints of a run, but run.json"):
            drive_tiny(problem, tmp_path, resume=resume)


def test_arguments_are_checked_before_anything_is_written(tmp_path):
    problem = tiny_problem()
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="segment=0; it must be at least 1"):
        drive_tiny(problem, folder, segment=0)
    with pytest.raises(ValueError, match="initial contains 99"):
        drive_tiny(problem, folder, initial=jnp.array([99]))
    with pytest.raises(ValueError, match="lower rounds or k"):
        drive_tiny(problem, folder, rounds=100)
    assert not folder.exists()


# --- killed at any moment ------------------------------------------------------------


def damaged(lines_left):
    """A last line of `rounds.jsonl` that was being written, or was not, or too many."""
    whole, half = lines_left[:-2], lines_left[-2][:15]
    return {
        "a line missing": "\n".join(whole) + "\n",
        "half a line": "\n".join([*whole, half]),
        "ahead": "\n".join(lines_left) + "\n",
        "empty": "",
        "no file": None,
    }


@pytest.mark.parametrize("case", damaged(["", ""]))
def test_lines_are_rewritten_from_the_checkpoint(case, uninterrupted, tmp_path):
    source, state, infos = uninterrupted
    folder = tmp_path / "run"
    shutil.copytree(source, folder)
    # As it was after the last round but one, or while its lines were written.
    shutil.rmtree(folder / _drive.CHECKPOINTS_FOLDER / str(ROUNDS + 1))
    assert steps(folder) == [ROUNDS]
    text = damaged(lines(source))[case]
    if text is None:
        (folder / loop.ROUNDS_FILE).unlink()
    else:
        (folder / loop.ROUNDS_FILE).write_text(text)
    chex.assert_trees_all_equal(drive_network(folder), (state, infos))
    assert lines(folder) == lines(source)


def test_half_a_checkpoint_is_no_checkpoint(uninterrupted, tmp_path):
    source, state, infos = uninterrupted
    folder = tmp_path / "run"
    shutil.copytree(source, folder)
    checkpoints = folder / _drive.CHECKPOINTS_FOLDER
    last = checkpoints / str(ROUNDS + 1)
    unfinished = checkpoints / f"{ROUNDS + 1}.orbax-checkpoint-tmp"
    last.rename(unfinished)
    for path in sorted(unfinished.rglob("*"))[::2]:
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    chex.assert_trees_all_equal(drive_network(folder), (state, infos))
    assert lines(folder) == lines(source)
    assert steps(folder) == [ROUNDS, ROUNDS + 1]


def test_killed_before_the_first_checkpoint(uninterrupted, tmp_path):
    source, state, infos = uninterrupted
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(source / loop.RUN_FILE, folder)
    (folder / loop.ROUNDS_FILE).write_text("not a round\n")
    chex.assert_trees_all_equal(drive_network(folder), (state, infos))
    assert lines(folder) == lines(source)


def kill_at_a_random_moment(command, folder) -> list[int]:
    """Runs until some checkpoint is there and a little longer; what is left, or []."""
    target, pause = random.randint(1, ROUNDS // 2), random.uniform(0, 0.1)
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 300
            while not any(step >= target for step in steps(folder)):
                assert process.poll() is None, "the run ended before it was killed"
                assert time.monotonic() < deadline, "no checkpoint"
                time.sleep(0.002)
            time.sleep(pause)
        finally:
            process.send_signal(signal.SIGKILL)
    left = steps(folder)
    print(f"killed {pause:.3f} s after checkpoint {target}; left: {left}")
    return left if ROUNDS + 1 not in left else []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_and_started_again(uninterrupted, tmp_path):
    source, state, infos = uninterrupted
    script = tmp_path / "restart.py"
    script.write_text(RESTART)
    here = os.fspath(Path(__file__).parent)
    left = []
    for attempt in range(3):  # the run may be over before the signal arrives
        folder = tmp_path / f"run{attempt}"
        command = [sys.executable, script, here, folder]
        left = kill_at_a_random_moment(command, folder)
        if left:
            break
    assert left and max(left) <= ROUNDS, "never killed between two checkpoints"
    assert len(lines(folder)) <= max(left)
    subprocess.run(command, check=True)
    assert steps(folder)[-1] == ROUNDS + 1
    assert lines(folder) == lines(source)
    chex.assert_trees_all_equal(drive_network(folder), (state, infos))
