"""Scores of pools: the same however they are cut, stopped, resumed, or stored."""

import functools
import gc
import json
import tracemalloc

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jal import acquisition, learners, nn, predictive, scorers, scoring
from jal.scoring import _journal, _ranking, _score_pool
from jal.types import Outputs

KEY = jax.random.key(7)
POOL = np.random.default_rng(0).integers(0, 256, (203, 12, 12), dtype=np.uint8)
INIT, APPLY = nn.from_linen(nn.small_cnn(), POOL[:1])
VARIABLES = INIT(jax.random.key(0))[0]


def predict(variables, x, key=None):
    return APPLY(variables, {}, x, key, False)[0]


SHARED = scorers.passes(acquisition.bald, 8)
INDEPENDENT = scorers.passes(acquisition.bald, 8, masks="independent")
masks = pytest.mark.parametrize("scorer", [SHARED, INDEPENDENT])


def score(scorer=SHARED, variables=VARIABLES, source=POOL, **options):
    options = {"key": KEY, "chunk_size": 50, "progress": False, **options}
    predict_with = jax.tree_util.Partial(predict, variables)
    return scoring.score_pool(scorer, predict_with, source, **options)


def total(predict, key, x, index):
    """A score that costs nothing to compile."""
    return jnp.sum(x, axis=-1) * predict.args[0]


def by_mean(predict, key, x, index):
    return jnp.mean(x, axis=-1)


def numbers(n=10):
    return np.random.default_rng(1).permutation(3 * n).reshape(n, 3).astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    """Scores of the whole pool at once."""
    results = {}
    for scorer, kind in ((SHARED, "shared"), (INDEPENDENT, "independent")):
        passes = predictive.predict_passes(
            functools.partial(predict, VARIABLES),
            KEY,
            jnp.asarray(POOL),
            8,
            masks=kind,
            indices=jnp.arange(len(POOL)),
        )
        results[scorer] = np.asarray(acquisition.bald(passes))
    return results


@masks
@pytest.mark.parametrize("chunk_size", [1, 50, 64, 203, 500])
def test_scores_do_not_depend_on_the_chunks(scorer, chunk_size, reference):
    result = score(scorer, chunk_size=chunk_size, top_k=20)
    np.testing.assert_allclose(result.scores, reference[scorer], atol=2e-6)
    assert result.scores.dtype == np.float32
    best = np.argsort(-reference[scorer], kind="stable")[:20]
    assert result.indices.tolist() == best.tolist()
    assert (result.num_nan, result.nan_indices) == (0, [])


def test_passes_in_batches_within_a_chunk(reference):
    by_batches = scorers.passes(acquisition.bald, 8, batch_size=16)
    result = score(by_batches)
    np.testing.assert_allclose(result.scores, reference[SHARED], atol=2e-6)


def test_all_chunks_use_one_compilation():
    traced = jax.jit(chex.assert_max_traces(total, n=2))  # eval_shape, then the program
    for pool in (numbers(10), numbers(23)):
        for _ in range(2):
            score(traced, 1.0, pool, chunk_size=4)
    assert _score_pool._compiled(
        total, _score_pool._local_devices(None)
    ) is _score_pool._compiled(total, _score_pool._local_devices(None))


def test_ensemble():
    keys = jax.random.split(jax.random.key(3), 5)
    stacked = jax.vmap(lambda key: INIT(key)[0])(keys)
    predict_all = jax.tree_util.Partial(learners.stacked(predict), stacked)
    result = scoring.score_pool(
        scorers.members(acquisition.bald),
        predict_all,
        POOL,
        key=KEY,
        chunk_size=50,
        progress=False,
    )
    members = jnp.stack([predict(INIT(key)[0], POOL).logits for key in keys])
    expected = acquisition.bald(predictive.summarize(members))
    np.testing.assert_allclose(result.scores, expected, atol=2e-6)


def test_one_prediction():
    def predicted(variables, x):
        return Outputs(loss_score=jnp.sum(x, axis=-1) * variables)

    result = scoring.score_pool(
        scorers.output("loss_score"),
        jax.tree_util.Partial(predicted, 2.0),
        numbers(),
        key=KEY,
        chunk_size=4,
        progress=False,
    )
    np.testing.assert_array_equal(result.scores, 2 * numbers().sum(-1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_made_elsewhere(dtype, tmp_path):
    logits = np.random.default_rng(2).normal(size=(6, 11, 4)).astype(dtype)
    logits[0, 0, 0] = -np.inf
    np.save(tmp_path / "1.npy", logits[:, :5])
    np.save(tmp_path / "2.npy", logits[:, 5:])
    source = scoring.open_source(tmp_path, items_axis=1)
    result = score(scorers.logits(acquisition.bald), None, source, chunk_size=3)
    summary = predictive.summarize(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(result.scores, acquisition.bald(summary), atol=1e-6)


@pytest.mark.parametrize("dtype", [">f4", "<i2", ">u8", bool, jnp.bfloat16])
def test_numbers_of_any_kind(dtype):
    pool = numbers().astype(dtype)
    mean = lambda predict, key, x, index: jnp.mean(x.astype(jnp.float32), axis=-1)
    expected = pool.astype(np.float32).mean(-1)
    got = score(mean, None, pool, chunk_size=4).scores
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_padding_never_shows():
    """Rows beyond the last item repeat it, and where they come from is not read."""
    read = []

    def watched(start, stop):
        read.append((start, stop))
        return numbers()[start:stop]

    def seen(predict, key, x, index):
        return index.astype(jnp.float32)

    source = scoring.Source(10, watched)
    assert score(seen, None, source, chunk_size=4).scores.tolist() == list(range(10))
    assert max(stop for _, stop in read) == 10
    assert set(read) == {(0, 1), (0, 4), (4, 8), (8, 10)}


# --- ranking -------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from([0.0, -0.0, 1.0, 2.0, np.nan, np.inf, -np.inf]), max_size=30
    ),
    st.integers(0, 12),
    st.sampled_from([1, 3, 1 << 20]),
)
@settings(max_examples=200, deadline=None)
def test_highest_against_a_plain_sort(values, k, block):
    known = [i for i, value in enumerate(values) if not np.isnan(value)]
    expected = sorted(known, key=lambda i: (-values[i], i))[:k]
    expected += [-1] * (k - len(expected))
    before, _ranking.BLOCK = _ranking.BLOCK, block
    try:
        got = scoring.highest(np.array(values, np.float32), k)
    finally:
        _ranking.BLOCK = before
    assert got.tolist() == expected


def test_nan_is_counted_reported_and_never_chosen():
    pool = numbers(40)
    pool[5:25:2, 1] = np.nan
    pool[30:, 0] = np.nan
    with pytest.warns(UserWarning, match=r"20 of 40 scores are NaN .* at \[5, 7, 9"):
        result = score(total, 1.0, pool, chunk_size=7, top_k=25)
    assert result.num_nan == 20
    assert result.nan_indices == list(range(5, 25, 2))
    assert np.isnan(result.scores).sum() == 20
    chosen = result.indices[result.indices >= 0]
    assert len(chosen) == 20 and (result.indices[20:] == -1).all()
    assert not np.isnan(result.scores[chosen]).any()
    assert (np.diff(result.scores[chosen]) <= 0).all()


def test_ties_go_to_the_lower_index():
    result = score(total, 0.0, numbers(9), chunk_size=2, top_k=4)
    assert result.indices.tolist() == [0, 1, 2, 3]


def test_ranking_a_part_of_the_pool():
    scores = np.array([1.0, np.nan, 3.0], np.float32)
    result = _score_pool._ranked(scores, 100, 3)
    assert result.indices.tolist() == [102, 100, -1]
    assert (result.num_nan, result.nan_indices) == (1, [101])


def test_only_what_is_missing_is_scored_again():
    chunks = _score_pool._chunks([(0, 3), (5, 9), (12, 20)], 2, 14, 3)
    assert list(chunks) == [(2, 3), (5, 8), (8, 9), (12, 14)]


# --- on disk -------------------------------------------------------------------------


def test_scores_in_a_file_are_those_in_memory(tmp_path):
    expected = score(top_k=5)
    path = tmp_path / "scores.npy"
    result = score(top_k=5, out=path)
    np.testing.assert_array_equal(result.scores, expected.scores)
    np.testing.assert_array_equal(np.load(path), expected.scores)
    assert isinstance(result.scores, np.memmap) and not result.scores.flags.writeable
    assert result.indices.tolist() == expected.indices.tolist()
    summary = json.loads((tmp_path / "scores.npy.json").read_text())
    assert summary["indices"] == expected.indices.tolist()
    assert summary["num_nan"] == 0 and summary["num_items"] == 203


class Stopped(Exception):
    pass


def failing(pool, at):
    """A source that breaks when item `at` is read, after the look at the first."""

    def read(start, stop):
        if start <= at < stop and stop - start > 1:
            raise Stopped
        return pool[start:stop]

    return scoring.Source(len(pool), read)


@pytest.mark.parametrize("at", [0, 49, 50, 120, 202])
@pytest.mark.parametrize("chunk_size", [50, 17])
def test_stopped_and_resumed_anywhere(at, chunk_size, tmp_path, reference):
    path = tmp_path / "scores.npy"
    with pytest.raises(Stopped):
        score(source=failing(POOL, at), out=path)
    assert not path.exists()
    gaps = _journal.missing(path, len(POOL))
    assert gaps[0][0] <= at  # and what lies before is not scored again
    read = []

    def watched(start, stop):
        if stop - start > 1:
            read.append(start)
        return POOL[start:stop]

    source = scoring.Source(len(POOL), watched)
    result = score(
        source=source, out=path, resume=True, chunk_size=chunk_size, top_k=10
    )
    assert min(read) == gaps[0][0]
    np.testing.assert_allclose(result.scores, reference[SHARED], atol=2e-6)
    assert result.indices.tolist() == score(top_k=10).indices.tolist()


def test_resuming_what_is_finished_reads_the_file(tmp_path):
    path = tmp_path / "scores.npy"
    first = score(total, 1.0, numbers(), out=path, top_k=3)
    again = score(total, 1.0, numbers(), out=path, top_k=5, resume=True)
    np.testing.assert_array_equal(again.scores, first.scores)
    assert again.indices[:3].tolist() == first.indices.tolist()


def test_what_is_no_partial_is_refused():
    with pytest.raises(ValueError, match=r"Partial\(apply, variables\)"):
        scoring.score_pool(
            total, lambda x: x, numbers(), key=KEY, chunk_size=4, progress=False
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scorer": by_mean}, "scorer was"),
        ({"variables": 2.0}, "variables_crc32 was"),
        ({"key": jax.random.key(1)}, "key was"),
        ({"source": numbers() + 1}, "pool_crc32 was"),
        ({"source": numbers(9)}, "num_items was 10 and is 9"),
        ({"config": {"S": 3}}, "config was"),
    ],
)
def test_another_run_is_not_resumed(change, message, tmp_path):
    path = tmp_path / "scores.npy"
    arguments = dict(scorer=total, variables=1.0, source=numbers(), config={"S": 2})
    score(**arguments, out=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        score(**{**arguments, **change}, out=path, resume=True)
    with pytest.raises(FileExistsError, match="resume to go on"):
        score(**arguments, out=path)
    assert path.read_bytes() == before


def test_keys_among_the_variables_identify_a_run(tmp_path):
    first = lambda predict, key, x, index: x[:, 0]
    path = tmp_path / "scores.npy"
    score(first, {"rng": jax.random.key(0)}, numbers(), out=path)
    with pytest.raises(ValueError, match="variables_crc32 was"):
        score(first, {"rng": jax.random.key(1)}, numbers(), out=path, resume=True)


# --- what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 0}, "chunk_size=0; it must be at least 1"),
        ({"top_k": 11}, "top_k=11; it must be between 0 and the 10 items"),
        ({"top_k": -1}, "top_k=-1; it must be between"),
        ({"source": np.zeros((0, 3))}, "the source is empty"),
        (
            {"source": scoring.Source(1 << 31, lambda start, stop: None)},
            "the pool has 2147483648 items",
        ),
        (
            {"source": scoring.Source(10, lambda start, stop: np.zeros((3, 3)))},
            r"array of shape \(3, 3\) for items 0 to 0; expected 1 rows",
        ),
        (
            {"source": scoring.Source(10, lambda start, stop: np.float32(0))},
            r"array of shape \(\) for items 0 to 0",
        ),
        ({"source": np.array(["a"] * 10)}, "the source holds <U1, which is no number"),
        ({"source": np.zeros(10, "V2")}, r"the source holds \|V2, which is no number"),
    ],
)
def test_bad_arguments(options, message, tmp_path):
    arguments = {"source": numbers(), "out": tmp_path / "scores.npy", **options}
    with pytest.raises(ValueError, match=message):
        score(total, 1.0, **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scorer", "shape"),
    [
        (lambda predict, key, x, index: x, r"\(4, 3\)"),
        (lambda predict, key, x, index: jnp.sum(x), r"\(\)"),
    ],
)
def test_scores_of_another_shape(scorer, shape, tmp_path):
    with pytest.raises(ValueError, match=f"shape {shape} for a chunk of 4 items"):
        score(scorer, 1.0, numbers(), chunk_size=4, out=tmp_path / "scores.npy")
    assert not list(tmp_path.iterdir())


def test_an_error_in_the_source_ends_the_thread_that_reads():
    import threading

    with pytest.raises(Stopped):
        score(total, 1.0, failing(numbers(), 5), chunk_size=2)
    assert threading.active_count() == 1 or not any(
        "ThreadPoolExecutor" in thread.name for thread in threading.enumerate()
    )


def test_a_mesh_of_other_processes():
    class Elsewhere:
        process_index = 1

    class Foreign:
        devices = np.array([Elsewhere()])

    with pytest.raises(ValueError, match="mesh has no device of process 0"):
        _score_pool._local_devices(Foreign())


def test_progress_bar(capsys):
    score(total, 1.0, numbers(), progress=True)
    assert "10/10" in capsys.readouterr().err
    score(total, 1.0, numbers())
    assert capsys.readouterr().err == ""


def test_memory_does_not_grow_with_the_pool(tmp_path):
    """What Python and NumPy allocate; a pool of zeros takes no disk either."""
    peaks = []
    for length in (20_000, 400_000):
        path = tmp_path / f"{length}.npy"
        header = {"descr": "|u1", "fortran_order": False, "shape": (length, 784)}
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + length * 784)
        mean = lambda predict, key, x, index: x[:, 0].astype(jnp.float32)
        score(mean, 1.0, path, chunk_size=10_000, out=tmp_path / f"w{length}.npy")
        gc.collect()
        tracemalloc.start()
        score(mean, 1.0, path, chunk_size=10_000, out=tmp_path / f"s{length}.npy")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The larger pool's ranking looks at 380,000 scores more, of a few bytes each.
    assert peaks[1] - peaks[0] < 380_000 * 30
    assert peaks[1] < 60e6
