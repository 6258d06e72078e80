"""BatchBALD against brute force over all configurations, exact and drawn."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jal import acquisition, predictive, selection
from jal.selection import _batch_bald

NAN, INF = math.nan, math.inf
KEY = jax.random.key(0)

static = ("k", "num_configurations")
batch_bald = jax.jit(selection.batch_bald, static_argnames=static)
joint = jax.jit(
    selection.joint_mutual_information, static_argnames="num_configurations"
)


def passes(seed=0, shape=(6, 8, 3), zeros=0.1):
    """[S, N, C] logits of which some are -inf, each row with at least one that is not.

    Items differ in how certain they are, and passes about them.
    """
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(1, *shape[1:])) + rng.normal(size=shape)
    logits *= rng.uniform(0.3, 2, (1, shape[1], 1))
    logits[..., 1:][rng.random((*shape[:-1], shape[-1] - 1)) < zeros] = -INF
    return logits.astype(np.float32)


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def entropy(p):
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), -1)


def information(p):
    """I(y_1..y_K; w) of probabilities [S, K, C], from the whole joint distribution."""
    of_configurations = np.ones((len(p), 1))
    for item in np.moveaxis(p, 1, 0):
        of_configurations = of_configurations[:, :, None] * item[:, None]
        of_configurations = of_configurations.reshape(len(p), -1)
    return entropy(of_configurations.mean(0)) - entropy(of_configurations).mean()


def greedy(p, k, available=None):
    """The algorithm as it is described, by brute force in float64."""
    left = list(range(p.shape[1])) if available is None else list(available)
    picks, scores = [], []
    for _ in range(min(k, len(left))):
        values = [information(p[:, [*picks, i]]) for i in left]
        picks.append(left[int(np.argmax(values))])
        scores.append(max(values))
        left.remove(picks[-1])
    return picks, scores


@jax.jit
def bald(logits):
    return acquisition.bald(predictive.summarize(logits))


def test_it_is_a_selector():
    assert selection.batch_bald is selection.batch_bald


# While all configurations are looked at.


@pytest.mark.parametrize(
    ("shape", "k"), [((6, 8, 3), 4), ((20, 9, 2), 5), ((3, 4, 7), 3), ((1, 4, 3), 4)]
)
def test_all_configurations_equal_brute_force(shape, k):
    for seed in range(3):
        logits = passes(seed, shape)
        positions, scores = batch_bald(KEY, logits, k, num_configurations=400)
        expected, values = greedy(softmax(logits), k)
        np.testing.assert_allclose(scores, values, atol=1e-5)
        if shape[0] > 1:  # a single pass leaves nothing to learn, and all is a tie
            assert positions.tolist() == expected


def test_a_single_pass_leaves_nothing_to_learn():
    for num_configurations in (1, 1000):
        positions, scores = batch_bald(
            KEY, passes(0, (1, 5, 3)), 5, num_configurations=num_configurations
        )
        np.testing.assert_allclose(scores, 0, atol=1e-6)
        assert sorted(positions.tolist()) == list(range(5))


def test_the_first_pick_has_the_highest_bald_score():
    for seed in range(5):
        logits = passes(seed, (10, 50, 4))
        positions, scores = batch_bald(KEY, logits, 1, num_configurations=1)
        assert positions[0] == jnp.argmax(bald(logits))
        np.testing.assert_allclose(scores[0], bald(logits).max(), atol=1e-6)


def test_by_hand():
    """Four passes that differ in two bits: items 0 and 1 tell one, item 2 the other."""
    bits = jnp.array([[0, 0, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]])
    logits = jnp.log(jax.nn.one_hot(bits, 2))
    positions, scores = batch_bald(KEY, logits, 3, num_configurations=10)
    assert positions.tolist() == [0, 2, 1]
    ln2 = math.log(2)
    np.testing.assert_allclose(scores, [ln2, 2 * ln2, 2 * ln2], atol=1e-6)


@pytest.mark.parametrize("num_configurations", [1000, 50])
def test_copies_wait_for_what_is_still_informative(num_configurations):
    """Plain BALD would take the copies of the best item first."""
    # Each pass is nearly certain, so that a copy of an item hardly tells anything more.
    logits = 5 * passes(3, (12, 6, 3), zeros=0)
    best = int(jnp.argmax(bald(logits)))
    pool = np.concatenate([logits[:, [best] * 4], logits], axis=1)
    positions, _ = batch_bald(KEY, pool, 3, num_configurations=num_configurations)
    chosen = [best if i < 4 else i - 4 for i in positions.tolist()]
    assert chosen[0] == best and len(set(chosen)) == 3
    plain = selection.top_k(bald(pool), 3).tolist()
    assert len({best if i < 4 else i - 4 for i in plain}) == 1


def test_zero_probabilities_are_exact():
    """One-hot passes, for which the logarithm of everything is 0 or -inf."""
    labels = np.random.default_rng(0).integers(0, 2, (12, 7))
    p = np.eye(8)[labels]
    with np.errstate(divide="ignore"):
        logits = np.log(p).astype(np.float32)
    _, values = greedy(p, 4)
    assert np.all(np.diff(values) > 0.1)
    # From the third pick on twelve are drawn, one from each pass: all of this joint.
    for num_configurations in (600, 12):
        positions, scores = batch_bald(
            KEY, logits, 4, num_configurations=num_configurations
        )
        assert len(set(positions.tolist())) == 4
        np.testing.assert_allclose(scores, values, atol=1e-5)
        estimate, _ = joint(KEY, logits[:, :3], num_configurations=num_configurations)
        np.testing.assert_allclose(estimate, information(p[:, :3]), atol=1e-5)


def test_logits_are_normalised():
    logits = passes()
    shifted = logits + np.random.default_rng(0).uniform(-9, 9, (6, 8, 1)).astype("f")
    one = batch_bald(KEY, logits, 4, num_configurations=30)
    two = batch_bald(KEY, shifted, 4, num_configurations=30)
    assert one[0].tolist() == two[0].tolist()
    np.testing.assert_allclose(one[1], two[1], atol=1e-5)
    three = batch_bald(
        KEY, jax.nn.log_softmax(jnp.asarray(logits)), 4, num_configurations=30
    )
    assert one[0].tolist() == three[0].tolist()


# Where configurations are drawn.


def test_drawn_configurations_agree_with_brute_force():
    """From the third pick on there are more configurations than are looked at."""
    logits = passes(1, (8, 10, 3))
    p = softmax(logits)
    keys = jax.random.split(KEY, 400)
    run = lambda key: selection.batch_bald(key, logits, 4, num_configurations=20)
    positions, scores = jax.jit(jax.vmap(run))(keys)
    exact_picks, exact = greedy(p, 2)
    np.testing.assert_allclose(scores[:, :2], [exact] * 400, atol=1e-5)
    assert positions[:, :2].tolist() == [exact_picks] * 400
    truth = {}
    for batch in map(tuple, np.asarray(positions).tolist()):
        truth.setdefault(batch, [information(p[:, batch[:b]]) for b in (3, 4)])
    errors = scores[:, 2:] - np.array([truth[tuple(b)] for b in positions.tolist()])
    # Chosen because they looked good, so a little too high, but not by much.
    assert np.all(errors.mean(0) > -3 * errors.std(0) / 20)
    assert np.all(np.abs(errors.mean(0)) < 0.02)
    best = greedy(p, 4)[1][-1]
    found = np.array([truth[tuple(b)][1] for b in positions.tolist()])
    assert found.mean() > 0.98 * best


def test_drawn_configurations_are_unbiased():
    """Three exact steps, of up to 16 configurations, and one item left for the last."""
    logits = passes(2, (7, 4, 4))
    run = lambda key: selection.batch_bald(key, logits, 4, num_configurations=17)
    positions, scores = jax.jit(jax.vmap(run))(jax.random.split(KEY, 2000))
    picks, exact = greedy(softmax(logits), 4)
    assert np.all(positions == np.array([picks]))
    np.testing.assert_allclose(scores[:, :3], [exact[:3]] * 2000, atol=1e-5)
    last = np.asarray(scores[:, 3], np.float64)
    assert 0 < last.std() < 0.1
    assert abs(last.mean() - exact[3]) < 4 * last.std() / math.sqrt(2000)


def test_more_configurations_give_better_batches():
    logits = passes(5, (30, 20, 3), zeros=0)
    keys = jax.random.split(KEY, 40)

    def spread(num_configurations):
        run = lambda key: selection.batch_bald(
            key, logits, 6, num_configurations=num_configurations
        )[1][-1]
        return np.std(jax.jit(jax.vmap(run))(keys))

    assert spread(300) < 0.5 * spread(20)


def test_scores_never_fall_and_stay_within_what_can_be_known():
    for seed in range(3):
        logits = passes(seed, (6, 30, 3))
        _, scores = batch_bald(KEY, logits, 30, num_configurations=40)
        assert np.all(np.diff(scores) >= 0) and scores[0] > 0
        assert scores[-1] < math.log(6) + 0.3


def test_many_items_do_not_underflow():
    """The likelihood of 200 labels is 1e-100 and less."""
    logits = passes(0, (5, 200, 4), zeros=0)
    _, scores = batch_bald(KEY, logits, 200, num_configurations=20)
    assert np.all(np.isfinite(scores))
    np.testing.assert_allclose(scores[-1], math.log(5), atol=0.3)
    estimate, error = joint(KEY, logits, num_configurations=100)
    np.testing.assert_allclose(estimate, math.log(5), atol=1e-4)
    assert error < 1e-4


def test_it_depends_on_the_key_only_where_it_draws():
    logits = passes(0, (10, 12, 3))
    one = batch_bald(KEY, logits, 6, num_configurations=30)
    again = batch_bald(KEY, logits, 6, num_configurations=30)
    other = batch_bald(jax.random.key(1), logits, 6, num_configurations=30)
    chex.assert_trees_all_equal(one, again)
    np.testing.assert_allclose(one[1][:4], other[1][:4], atol=1e-6)
    assert np.all(one[1][4:] != other[1][4:])


# What it has in common with other selectors.


def test_positions_are_distinct_available_and_int32():
    logits = passes(0, (6, 12, 3))
    for seed in range(3):
        available = jnp.asarray(np.random.default_rng(seed).random(12) < 0.6)
        number = int(available.sum())
        positions, scores = batch_bald(
            KEY, logits, 12, num_configurations=20, available=available
        )
        chex.assert_type([positions, scores], [jnp.int32, jnp.float32])
        chosen = positions.tolist()[:number]
        assert sorted(chosen) == np.flatnonzero(available).tolist()
        assert positions.tolist()[number:] == [-1] * (12 - number)
        assert np.isnan(scores).tolist() == [False] * number + [True] * (12 - number)
        assert chosen[:2] == greedy(softmax(logits), 2, np.flatnonzero(available))[0]


def test_none_some_and_all_of_no_items():
    logits = passes()
    positions, scores = batch_bald(KEY, logits, 0, num_configurations=5)
    assert positions.shape == scores.shape == (0,)
    assert positions.dtype == jnp.int32 and scores.dtype == jnp.float32
    positions, _ = batch_bald(KEY, logits, 8, num_configurations=5)
    assert sorted(positions.tolist()) == list(range(8))
    none = jnp.zeros(8, bool)
    positions, scores = batch_bald(KEY, logits, 8, num_configurations=5, available=none)
    assert positions.tolist() == [-1] * 8 and np.isnan(scores).all()


def test_nan_in_any_pass_makes_an_item_unavailable():
    logits = passes()
    broken = logits.copy()
    broken[2, 1, 0], broken[0, 4] = NAN, -INF
    rest = np.array([0, 2, 3, 5, 6, 7])
    positions, scores = batch_bald(KEY, broken, 8, num_configurations=20)
    assert sorted(positions.tolist()) == [-1, -1, *rest]
    available = np.isin(np.arange(8), rest)
    expected = batch_bald(
        KEY, logits, 8, num_configurations=20, available=jnp.asarray(available)
    )
    assert positions.tolist() == expected[0].tolist()
    np.testing.assert_allclose(scores, expected[1], atol=1e-6)


def test_jit_and_vmap_give_what_eager_gives():
    batch = [(jax.random.key(seed), jnp.asarray(passes(seed))) for seed in range(3)]
    run = lambda x: selection.batch_bald(*x, 5, num_configurations=30)
    eager = [run(x) for x in batch]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch)
    mapped = jax.jit(jax.vmap(run))(stacked)
    for number, (positions, scores) in enumerate(eager):
        jitted = batch_bald(*batch[number], 5, num_configurations=30)
        for other in (jitted, (mapped[0][number], mapped[1][number])):
            assert other[0].tolist() == positions.tolist()
            np.testing.assert_allclose(other[1], scores, atol=1e-5)


def test_one_trace_serves_all_pools():
    chex.clear_trace_counter()
    run = lambda key, x, available: selection.batch_bald(
        key, x, 4, num_configurations=30, available=available
    )
    counted = jax.jit(chex.assert_max_traces(run, n=1))
    for seed in range(3):
        counted(jax.random.key(seed), passes(seed), jnp.arange(8) > seed)


def test_it_does_not_depend_on_the_order_of_the_items():
    logits = passes(0, (6, 20, 3))
    expected = batch_bald(KEY, logits, 6, num_configurations=40)
    order = np.random.default_rng(0).permutation(20)
    positions, scores = batch_bald(KEY, logits[:, order], 6, num_configurations=40)
    assert order[positions].tolist() == expected[0].tolist()
    np.testing.assert_allclose(scores, expected[1], atol=1e-5)


def test_results_do_not_depend_on_what_is_computed_at_a_time(monkeypatch):
    logits, results = passes(0, (6, 20, 3)), []
    # Parts that divide 20 items and 40 configurations, and parts that do not.
    for sizes in [(128, 4096, 2**20), (1, 3, 1), (7, 21, 500), (40, 60, 10**4)]:
        monkeypatch.setattr(_batch_bald, "BLOCKS", _batch_bald.Blocks(*sizes))
        run = lambda: (
            selection.batch_bald(KEY, logits, 6, num_configurations=40),
            selection.joint_mutual_information(KEY, logits, num_configurations=40),
        )
        (positions, scores), estimate = jax.jit(run)()
        results.append((positions.tolist(), scores, *estimate))
    for positions, *numbers in results[1:]:
        assert positions == results[0][0]
        for one, other in zip(numbers, results[0][1:], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("k", [-1, 9, 2.0, None])
def test_number_of_picks_is_checked(k):
    with pytest.raises(ValueError, match=f"k must be .* number of items 8, got {k}"):
        batch_bald(KEY, passes(), k, num_configurations=10)


@pytest.mark.parametrize("number", [0, -1, 2.0, None])
def test_number_of_configurations_is_checked(number):
    message = f"num_configurations must be an integer >= 1, got {number}"
    with pytest.raises(ValueError, match=message):
        batch_bald(KEY, passes(), 2, num_configurations=number)
    with pytest.raises(ValueError, match=message):
        joint(KEY, passes(), num_configurations=number)


def test_shapes_and_types_are_checked():
    with pytest.raises(AssertionError):
        selection.batch_bald(KEY, jnp.ones((8, 3)), 2, num_configurations=5)
    with pytest.raises(AssertionError):
        selection.joint_mutual_information(KEY, jnp.ones(3), num_configurations=5)
    for available in (jnp.ones(7, bool), jnp.ones(8)):
        with pytest.raises(AssertionError):
            selection.batch_bald(
                KEY, passes(), 2, num_configurations=5, available=available
            )


# joint_mutual_information


def test_the_information_of_one_item_is_its_bald_score():
    logits = passes(0, (20, 5, 10))
    scores = bald(logits)
    for number in range(5):
        estimate, error = joint(KEY, logits[:, [number]], num_configurations=10)
        np.testing.assert_allclose(estimate, scores[number], atol=1e-6)
        assert error == 0


def test_all_configurations_of_a_batch_equal_brute_force():
    for shape in [(6, 4, 3), (3, 7, 2), (1, 3, 3), (5, 1, 4), (4, 0, 3)]:
        logits = passes(1, shape)
        estimate, error = joint(KEY, logits, num_configurations=200)
        np.testing.assert_allclose(estimate, information(softmax(logits)), atol=1e-5)
        assert error == 0


@pytest.mark.parametrize("num_configurations", [20, 80])
def test_estimates_lie_within_their_standard_error(num_configurations):
    logits = passes(1, (8, 4, 3))
    truth = information(softmax(logits))
    run = lambda key: selection.joint_mutual_information(
        key, logits, num_configurations=num_configurations
    )
    estimates, errors = jax.jit(jax.vmap(run))(jax.random.split(KEY, 1000))
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / math.sqrt(1000)
    # Passes in equal numbers make estimates better than the error says.
    assert 0.7 * errors.mean() < estimates.std() < 1.05 * errors.mean()
    assert np.all(estimates >= 0) and np.all(estimates <= math.log(8) + 1e-6)


def test_passes_are_drawn_in_equal_numbers():
    """Each pass is sure of its labels, and some say the same: the pass tells all."""
    labels = jnp.array([[0, 0, 0], [0, 0, 0], [0, 1, 1], [1, 0, 1]])
    logits = jnp.log(jax.nn.one_hot(labels, 2))
    truth = 1.5 * math.log(2)
    estimate, error = joint(KEY, logits, num_configurations=4)
    np.testing.assert_allclose(estimate, truth, atol=1e-6)
    assert error > 0.1
    # Not in equal numbers with five, but in equal numbers on average.
    run = lambda key: selection.joint_mutual_information(
        key, logits, num_configurations=5
    )
    estimates, _ = jax.jit(jax.vmap(run))(jax.random.split(KEY, 2000))
    assert 0.01 < estimates.std() < 0.1
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / math.sqrt(2000)


def test_estimates_follow_batch_bald():
    logits = passes(4, (15, 10, 3))
    positions, scores = batch_bald(KEY, logits, 6, num_configurations=4000)
    estimate, error = joint(KEY, logits[:, positions], num_configurations=700)
    assert abs(estimate - scores[-1]) < 4 * error


def test_a_single_configuration_has_no_standard_error():
    estimate, error = joint(KEY, passes(), num_configurations=1)
    assert np.isfinite(estimate) and np.isnan(error)


@pytest.mark.parametrize("num_configurations", [20, 10_000])
def test_nan_makes_the_information_nan(num_configurations):
    logits = passes()
    logits[2, 1, 0] = NAN
    estimate, error = joint(KEY, logits, num_configurations=num_configurations)
    assert np.isnan(estimate) and np.isnan(error)


# Precision


def test_low_precision_is_promoted():
    logits = jnp.asarray(passes(), jnp.bfloat16)
    positions, scores = batch_bald(KEY, logits, 4, num_configurations=30)
    same = batch_bald(KEY, logits.astype(jnp.float32), 4, num_configurations=30)
    chex.assert_trees_all_equal((positions, scores), same)


def test_in_double_precision():
    logits = passes().astype(np.float64)
    with jax.enable_x64(True):
        positions, scores = batch_bald(KEY, logits, 4, num_configurations=100)
        estimate, error = joint(KEY, logits[:, :4], num_configurations=100)
        single, _ = batch_bald(KEY, passes(), 6, num_configurations=10)
    chex.assert_type(
        [positions, scores, estimate, error, single],
        [jnp.int32, jnp.float64, jnp.float64, jnp.float64, jnp.int32],
    )
    p = softmax(logits)
    assert positions.tolist() == greedy(p, 4)[0]
    np.testing.assert_allclose(scores, greedy(p, 4)[1], rtol=1e-12)
    np.testing.assert_allclose(estimate, information(p[:, :4]), rtol=1e-12)
    assert (
        single.tolist()
        == batch_bald(KEY, passes(), 6, num_configurations=10)[0].tolist()
    )
