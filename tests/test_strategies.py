"""The strategies that look at more than scores, run by the loop and done by hand."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import learners, loop, pool, predictive, selection, strategies
from jal.types import Data, Learner, Outputs, Picks, Strategy, View

KEY = jax.random.key(0)
N, PIXELS, HIDDEN, CLASSES = 40, 5, 6, 3
INITIAL, K, ROUNDS, CANDIDATES = jnp.array([3, 17, 29]), 4, 3, 25
SAMPLES, CONFIGURATIONS = 7, 12


def make_data() -> Data:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, N)
    x = rng.normal(size=(CLASSES, PIXELS))[y] + rng.normal(size=(N, PIXELS))
    return Data(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32))


def away(features, covered):
    """[N] how far each item is from the mean of what is covered."""
    share = covered / jnp.maximum(covered.sum(), 1)
    return jnp.sum(jnp.abs(features - (share @ features)[None]), axis=1)


@pytest.fixture
def quick(monkeypatch):
    """Selectors that compile at once and depend on all that they are given.

    What the real ones choose has tests of its own: here it is what strategies ask.
    """

    def k_center(features, k, *, centers, available):
        return selection.top_k(away(features, centers), k, available=available)

    def typical(key, features, k, *, covered, available, max_clusters=500):
        scores = away(features, covered) + jax.random.uniform(key, len(features))
        scores *= jnp.cos(max_clusters * scores)
        return selection.top_k(scores, k, available=available)

    def badge(key, probabilities, features, k, *, available):
        scores = jnp.abs(features).sum(axis=1) + probabilities.max(axis=1)
        scores += jax.random.uniform(key, len(features))
        return selection.top_k(scores, k, available=available)

    def batch_bald(key, log_probs, k, *, num_configurations, available):
        scores = jnp.cos(num_configurations * log_probs.std(axis=0).sum(axis=1))
        scores += jax.random.uniform(key, log_probs.shape[1])
        return selection.top_k(scores, k, available=available), scores

    for stand_in in (k_center, typical, badge, batch_bald):
        monkeypatch.setattr(selection, stand_in.__name__, stand_in)


def network():
    """Two layers with dropout between them, plain functions."""

    def init(key):
        first, second = jax.random.split(key)
        params = {
            "first": jax.random.normal(first, (PIXELS, HIDDEN)),
            "second": jax.random.normal(second, (HIDDEN, CLASSES)),
        }
        return params, ()

    def apply(params, state, x, key=None, train=False):
        features = jax.nn.tanh(x @ params["first"])
        hidden = features
        if key is not None:
            hidden *= 2 * jax.random.bernoulli(key, 0.5, features.shape)
        return Outputs(logits=hidden @ params["second"], features=features), state

    return init, apply


def learner() -> Learner:
    return learners.supervised(*network(), optax.adam(0.05), steps=5, batch_size=8)


def observe(data, view, acquisition):
    return view.predict.args[0], view.candidates, view.available


def run(strategy: Strategy, propose, model=None):
    """(state, infos) of a run that is traced once and compiled once."""
    chex.clear_trace_counter()

    def select(key, state, view, k):
        return strategy.select(key, state, view, k)

    # Once for the rounds, and once for the shapes of the last one, which buys nothing.
    counted = strategy._replace(select=chex.assert_max_traces(select, n=2))
    parts = dict(initial=INITIAL, k=K, rounds=ROUNDS, propose=propose, observe=observe)
    return jax.jit(
        lambda key, data: loop.run(key, model or learner(), counted, data, **parts)
    )(KEY, make_data())


def rounds(infos):
    """(round, variables, candidates, available, labelled) of each buying round."""
    indices = np.asarray(infos.indices)
    for number in range(ROUNDS):
        labeled = np.isin(np.arange(N), [*INITIAL, *indices[:number].ravel()])
        record = jax.tree.map(
            lambda leaf, r=number: np.asarray(leaf)[r], infos.observed
        )
        yield number, *record, labeled


def by_hand_coreset(key, variables, x, candidates, available, labeled):
    # All of the pool, where the strategy sees the candidates and the labelled items.
    offered = jnp.zeros(N, bool).at[candidates].set(available)
    features = learner().predict(variables, x).features
    return selection.k_center(features, K, centers=labeled, available=offered)


def by_hand_badge(key, variables, x, candidates, available, labeled):
    outputs = learner().predict(variables, x[candidates])
    p = jax.nn.softmax(outputs.logits)
    return candidates[selection.badge(key, p, outputs.features, K, available=available)]


def by_hand_batch_bald(key, variables, x, candidates, available, labeled):
    passes_key, select_key = jax.random.split(key)
    predict = functools.partial(learner().predict, variables)
    log_probs = predictive.log_prob_passes(predict, passes_key, x[candidates], SAMPLES)
    positions, _ = selection.batch_bald(
        select_key,
        log_probs,
        K,
        num_configurations=CONFIGURATIONS,
        available=available,
    )
    return candidates[positions]


STRATEGIES = {
    "coreset": (strategies.k_center, by_hand_coreset),
    "badge": (strategies.badge, by_hand_badge),
    "batch_bald": (
        functools.partial(
            strategies.batch_bald,
            num_samples=SAMPLES,
            num_configurations=CONFIGURATIONS,
        ),
        by_hand_batch_bald,
    ),
}
each = pytest.mark.parametrize(("make", "by_hand"), STRATEGIES.values(), ids=STRATEGIES)


@each
@pytest.mark.parametrize(
    "propose", [pool.everything(), pool.random_subset(CANDIDATES)], ids=["all", "part"]
)
def test_the_loop_buys_what_the_selector_picks(quick, make, by_hand, propose):
    by_hand = jax.jit(lambda *args, again=by_hand: again(*args))
    state, infos = run(make(), propose)
    x, bought = make_data().x, np.asarray(infos.indices)
    for number, variables, candidates, available, labeled in rounds(infos):
        key = loop.round_key(KEY, number, loop.STRATEGY)
        expected = by_hand(key, variables, x, candidates, available, labeled)
        assert bought[number].tolist() == expected.tolist()
    order = state.pool.order.tolist()
    assert order == [*INITIAL.tolist(), *bought[:ROUNDS].ravel().tolist()]
    assert len(set(order)) == len(order)
    assert bought.dtype == np.int32 and bought[ROUNDS].tolist() == [-1] * K
    assert infos.num_nan.tolist() == [0] * (ROUNDS + 1)


@each
def test_fewer_candidates_than_k(make, by_hand):
    few = pool.everything()

    def propose(key, state, labeled):
        candidates, available, state = few.propose(key, state, labeled)
        return candidates, available & (candidates >= N - 3), state

    _, infos = run(make(), few._replace(propose=propose))
    bought = infos.indices.tolist()
    assert sorted(bought[0]) == [-1, N - 3, N - 2, N - 1]
    assert bought[1:] == [[-1] * K] * ROUNDS
    # Positions beyond what is available come last.
    assert bought[0][-1] == -1


def make_view() -> View:
    model, labeled = learner(), pool.add(pool.create(N, 15), INITIAL)
    return View(
        jax.tree_util.Partial(model.predict, model.init(KEY)),
        pool.hide(make_data(), labeled),
        labeled,
        jnp.arange(N, dtype=jnp.int32),
        pool.open_items(labeled),
    )


@pytest.mark.parametrize("name", ["coreset", "badge"])
def test_prediction_in_batches_changes_nothing(quick, name):
    make, _ = STRATEGIES[name]
    bought = []
    for batch_size in (None, 1, 7, 100):
        select = make(batch_size=batch_size).select
        acquisition, _ = jax.jit(select, static_argnums=3)(KEY, (), make_view(), K)
        bought.append(acquisition.indices.tolist())
    assert bought[1:] == bought[:1] * 3 and min(bought[0]) >= 0


@pytest.mark.parametrize("name", ["coreset", "badge"])
@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_is_checked(name, batch_size):
    make, _ = STRATEGIES[name]
    with pytest.raises(ValueError, match=f"batch_size={batch_size}; .* at least 1"):
        make(batch_size=batch_size)


@pytest.mark.parametrize("name", ["coreset", "badge"])
def test_a_model_without_features_is_told_so(name):
    make, _ = STRATEGIES[name]
    model = learner()

    def predict(variables, x, key=None):
        return model.predict(variables, x, key)._replace(features=None)

    with pytest.raises(ValueError, match="the model returned no features"):
        run(make(), pool.everything(), model._replace(predict=predict))


@each
def test_strategies_have_neither_state_nor_scores(make, by_hand):
    strategy, view = make(), make_view()
    state = strategy.init(KEY, view.data, view.pool)
    acquisition, state = jax.jit(strategy.select, static_argnums=3)(KEY, state, view, K)
    assert isinstance(acquisition, Picks) and acquisition.scores is None
    assert state == ()
    chex.assert_type(acquisition.indices, jnp.int32)
    assert not set(acquisition.indices.tolist()) & set(INITIAL.tolist())


def test_coreset_covers_what_is_labelled():
    """It does not buy next to a labelled item that is no candidate any more."""
    x = jnp.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
    model = Learner(
        lambda key: (),
        lambda key, variables, data, labeled: (variables, {}),
        lambda variables, x, key=None: Outputs(features=x),
    )
    data = Data(x, jnp.zeros(5, jnp.int32))
    parts = dict(k=1, rounds=3, propose=pool.everything())
    state, _ = jax.jit(
        lambda key, data: loop.run(
            key, model, strategies.k_center(), data, initial=jnp.array([4]), **parts
        )
    )(KEY, data)
    assert state.pool.order.tolist() == [4, 0, 2, 1]


# margin, rand-div, alamp: what models of successive rounds predict is given.


def scripted(probabilities):
    """A learner whose r-th model predicts probabilities[r - 1] of items by index."""
    table = jnp.log(jnp.asarray(probabilities, jnp.float32))

    def predict(variables, x, key=None):
        return Outputs(logits=table[variables - 1][x[:, 0].astype(int)])

    return Learner(
        lambda key: jnp.zeros((), jnp.int32),
        lambda key, variables, data, labeled: (variables + 1, {}),
        predict,
    )


def buy(strategy, probabilities, *, initial, k, propose=None):
    """Indices bought in each round, and the last state of the strategy."""
    _, number, _ = np.shape(probabilities)
    data = Data(jnp.arange(number)[:, None], jnp.zeros(number, jnp.int32))
    state, infos = jax.jit(
        lambda key, data: loop.run(
            key,
            scripted(probabilities),
            strategy,
            data,
            initial=jnp.asarray(initial),
            k=k,
            rounds=len(probabilities) - 1,
            propose=propose or pool.everything(),
        )
    )(KEY, data)
    return infos.indices[:-1].tolist(), state.strategy


def of_gaps(*gaps):
    """[R, N, 2] probabilities with these gaps, all of class 0."""
    gaps = np.array(gaps)
    return np.stack([(1 + gaps) / 2, (1 - gaps) / 2], axis=-1)


PREVIOUS, CURRENT = [0.9, 0.3, 0, 0.5, 0], [0.1, 0.2, 0, 0.5, 0.4]


def select_after(strategy, before, now, k):
    """What is picked when a model predicts `now` after another one's `before`."""
    items = np.shape(now)[0]
    data = Data(jnp.arange(items)[:, None], jnp.zeros(items, jnp.int32))
    labeled = pool.create(items, 1)
    learner = scripted([before, now])
    state = strategy.init(KEY, data, labeled)
    for number in (1, 2):
        view = View(
            jax.tree_util.Partial(learner.predict, jnp.int32(number)),
            data,
            labeled,
            jnp.arange(items, dtype=jnp.int32),
            jnp.ones(items, bool),
        )
        picks, state = jax.jit(strategy.select, static_argnums=3)(KEY, state, view, k)
    return picks


def test_alamp_on_the_worked_example():
    now, before = of_gaps(CURRENT, PREVIOUS)
    picks = select_after(strategies.alamp(), before, now, 5)
    assert picks.indices.tolist() == [0, 1, 2, 3, 4]
    assert picks.scores.tolist() == [0, -1, -2, -3, -4]
    picks = select_after(strategies.margin(), before, now, 5)
    assert picks.indices.tolist() == [2, 0, 1, 4, 3]


def test_of_those_with_no_gap_left_alamp_takes_the_surest_before():
    now, before = of_gaps([0, 0, 0, 0.1], [0.2, 0.9, 0.2, 0.9])
    assert select_after(strategies.alamp(), before, now, 4).indices.tolist() == [
        1,
        0,
        2,
        3,
    ]


def random_models(rounds, items, classes, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), size=(rounds, items)).astype(np.float32)


def gaps_and_classes(p):
    high = np.sort(p.astype(np.float64), axis=-1)
    return high[..., -1] - high[..., -2], p.argmax(axis=-1)


def in_turn(order, groups, k):
    """One item of each group a sweep, best first, as the paper words it."""
    chosen = []
    while len(chosen) < min(k, len(order)):
        seen = set()
        for item in order:
            if item not in chosen and groups[item] not in seen:
                chosen.append(item)
                seen.add(groups[item])
    return chosen[:k]


@pytest.mark.parametrize("diversify", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_alamp_against_numpy(diversify, seed):
    p = random_models(5, 30, 4, seed)
    initial, k = [4, 9], 5
    bought, state = buy(strategies.alamp(diversify=diversify), p, initial=initial, k=k)
    gap, group = gaps_and_classes(p)
    open_items = [i for i in range(30) if i not in initial]
    for number in range(4):
        before = max(number - 1, 0)
        score = -gap[0]
        if number:
            score = (gap[before] - gap[number]) / (gap[before] + gap[number])
        order = sorted(open_items, key=lambda i, score=score: (-score[i], i))
        expected = in_turn(order, group[before], k) if diversify else order[:k]
        assert bought[number] == expected
        open_items = [i for i in open_items if i not in expected]
    np.testing.assert_allclose(state.gap, gap[3], atol=1e-6)
    assert state.group.tolist() == group[3].tolist() and bool(state.exists)


def test_alamp_remembers_items_that_are_not_on_the_table():
    p = random_models(4, 30, 3)
    bought, _ = buy(
        strategies.alamp(), p, initial=[0], k=3, propose=pool.random_subset(12)
    )
    gap, _ = gaps_and_classes(p)
    score = (gap[0] - gap[1]) / (gap[0] + gap[1])
    # Whoever is chosen comes in the order of shifts between the two models.
    assert np.all(np.diff(score[bought[1]]) <= 0)


@pytest.mark.parametrize("diversify", [False, True])
def test_margin_against_numpy(diversify):
    p = random_models(3, 30, 4)
    bought, state = buy(strategies.margin(diversify=diversify), p, initial=[7], k=6)
    gap, group = gaps_and_classes(p)
    open_items = [i for i in range(30) if i != 7]
    for number in range(2):
        order = sorted(open_items, key=lambda i, gap=gap[number]: (gap[i], i))
        expected = in_turn(order, group[number], 6) if diversify else order[:6]
        assert bought[number] == expected
        open_items = [i for i in open_items if i not in expected]
    assert state == ()


def test_rand_div_takes_one_of_each_class_in_turn():
    p = random_models(2, 60, 5)
    _, group = gaps_and_classes(p)
    (bought,), _ = buy(strategies.rand_div(), p, initial=[0], k=12)
    for first in (0, 5):
        assert len(set(group[0][bought[first : first + 5]])) == 5
    counts = np.bincount(group[0][bought], minlength=5)
    assert counts.max() <= 3 and counts.min() >= 2


@pytest.mark.parametrize(
    "strategy", [strategies.alamp(), strategies.alamp(diversify=True)]
)
def test_alamp_never_picks_what_has_no_prediction(strategy):
    p = random_models(3, 20, 3)
    p[1, 5] = np.nan
    bought, _ = buy(strategy, p, initial=[0], k=9)
    assert 5 not in bought[1] and -1 not in bought[1]


@pytest.mark.parametrize(
    "make", [strategies.margin, strategies.rand_div, strategies.alamp]
)
def test_their_batch_size_is_checked(make):
    with pytest.raises(ValueError, match="batch_size=0"):
        make(batch_size=0)


# Without a model or without labels: features of one's own, and classes in balance.


def cold_view(labeled=()) -> View:
    """No model that could be asked, and as many labels as wanted."""

    def predict(x, key=None):
        raise AssertionError("there is no model yet")

    some = pool.add(pool.create(N, 4), jnp.asarray(labeled, jnp.int32))
    return View(
        jax.tree_util.Partial(predict),
        pool.hide(make_data(), some),
        some,
        jnp.arange(N - 5, dtype=jnp.int32),
        pool.open_items(some)[: N - 5],
    )


@pytest.mark.parametrize(
    ("labeled", "batch_size"), [((), None), ((3, N - 1), 7)], ids=["none", "some"]
)
def test_features_of_ones_own_need_no_model(quick, labeled, batch_size):
    view = cold_view(labeled)
    own = dict(features=lambda x: 2 * x[:, ::-1], batch_size=batch_size)
    # What is labelled stands behind the candidates, in a buffer of four.
    x = 2 * view.data.x[:, ::-1]
    behind = jnp.concatenate([x[jnp.array(labeled, int)], jnp.ones((4, PIXELS))])
    items = jnp.concatenate([x[: N - 5], behind[:4]])
    covered = jnp.arange(N - 1) >= N - 5
    covered &= jnp.arange(N - 1) < N - 5 + len(labeled)
    available = jnp.pad(view.available, (0, 4))
    expected = {
        strategies.k_center: selection.k_center(
            items, K, centers=covered, available=available
        ),
        strategies.typical: selection.typical(
            KEY,
            items,
            K,
            covered=covered,
            available=available,
            max_clusters=4 + K,  # more than the buffer and a batch cannot be
        ),
    }
    for make, picks in expected.items():
        acquisition, _ = jax.jit(make(**own).select, static_argnums=3)(KEY, (), view, K)
        assert acquisition.indices.tolist() == picks.tolist() and min(picks) >= 0


def test_typical_checks_its_numbers():
    with pytest.raises(ValueError, match="max_clusters=0; it must be at least 1"):
        strategies.typical(max_clusters=0)
    with pytest.raises(ValueError, match="batch_size=0"):
        strategies.typical(batch_size=0)


def sure_of(classes, num_classes=3):
    """[N, C] predictions of these classes, each one a little surer than the last."""
    p = 0.8 + 1e-3 * np.arange(len(classes))[:, None]
    others = (1 - p) / (num_classes - 1)
    return np.where(np.asarray(classes)[:, None] == np.arange(num_classes), p, others)


def balance(labels, p, k):
    """What class_balanced picks by predictions p when these labels are there."""
    number, items = len(labels), len(labels) + len(p)
    y = jnp.concatenate([jnp.asarray(labels, int), jnp.zeros(len(p), int)])
    # The first items have the labels, and the buffer has room for three more.
    some = pool.add(pool.create(items, number + 3), jnp.arange(number))
    table = jnp.log(jnp.asarray(p, jnp.float32))
    view = View(
        jax.tree_util.Partial(lambda x: Outputs(logits=table[x[:, 0]])),
        pool.hide(Data(jnp.arange(items)[:, None] - number, y), some),
        some,
        jnp.arange(number, items, dtype=jnp.int32),
        jnp.ones(len(p), bool),
    )
    select = jax.jit(strategies.class_balanced().select, static_argnums=3)
    picks, state = select(KEY, (), view, k)
    assert state == ()
    np.testing.assert_allclose(picks.scores, p.max(axis=1), rtol=1e-6)
    return [i - number for i in picks.indices.tolist()]


def test_class_balanced_evens_out_the_labels():
    classes = np.arange(30) % 3
    picks = balance([0] * 4 + [1], sure_of(classes), 7)
    # Class 2 alone, then with class 1, the surest first, until all have four.
    assert picks == [29, 28, 26, 25, 23, 22, 20]
    # An equal number more for each from there on.
    counts = np.bincount(classes[balance([0] * 4 + [1], sure_of(classes), 13)])
    assert (counts + [4, 1, 0]).tolist() == [6, 6, 6]


def test_class_balanced_goes_on_where_a_class_has_no_candidates_left():
    picks = balance([0, 0, 1], sure_of([2, 0, 0, 0]), 4)
    assert picks == [0, 3, 2, 1]


def test_class_balanced_without_labels_takes_one_of_each_predicted_class():
    classes = np.array([1, 1, 1, 0, 2, 0])
    p = sure_of(classes)
    expected = selection.diversify(jnp.asarray(p.max(axis=1)), jnp.asarray(classes), 6)
    assert balance([], p, 6) == expected.tolist() == [5, 4, 2, 3, 1, 0]


def test_class_balanced_does_not_count_labels_that_are_no_class():
    p = sure_of([0, 1, 2])
    assert balance([0, 0, -1, -1, -1, 9, 9, 1], p, 3) == [2, 1, 0]
    p[1] = np.nan
    assert balance([0], p, 3) == [2, 0, -2]  # -1, less the labelled item


def test_class_balanced_checks_its_batch_size():
    with pytest.raises(ValueError, match="batch_size=0"):
        strategies.class_balanced(batch_size=0)
