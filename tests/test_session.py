"""Asking and telling: what people left open, crashes, and the costs they told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jal import acquisition, learners, loop, pool, scorers, strategies
from jal.session import Recipe, Session, _choose, spending
from jal.types import Data, Learner, Outputs

pytest.importorskip("orbax.checkpoint")

N, C, D = 60, 3, 4
RNG = np.random.default_rng(0)
CENTERS = 2 * RNG.normal(size=(C, D))
Y = RNG.integers(0, C, N)
X = (CENTERS[Y] + RNG.normal(size=(N, D))).astype(np.float32)
# Twice as long for class 2, so that there is something to learn of the cost.
SECONDS = np.where(Y == 2, 20.0, 10.0) + RNG.random(N)
CLASSES = ("cat", "dog", "owl")


def make_learner(restart=True):
    init = lambda key: (jnp.zeros((D, C)), ())

    def apply(weights, state, x, key=None, train=False):
        return Outputs(logits=x @ weights, features=x), state

    return learners.supervised(
        init, apply, optax.adam(0.1), steps=30, batch_size=8, restart=restart
    )


def make_cost_learner():
    init = lambda key: (jnp.zeros(D), ())
    apply = lambda w, state, x, key, train: (Outputs(value=x @ w), state)
    return learners.regressor(init, apply, optax.adam(0.1), steps=60, batch_size=8)


def by_margin(beta):
    return strategies.from_scores(scorers.passes(acquisition.margin, 1), beta=beta)


LEARNER, COST = make_learner(), make_cost_learner()
RECIPE = Recipe(LEARNER, by_margin, COST, first=strategies.k_center())


def create(folder, recipe=RECIPE, **options):
    return Session.create(folder, X, recipe, classes=CLASSES, **options)


def answer(session, batch, rows=None, annotator="ann"):
    items = batch.indices if rows is None else batch.indices[rows]
    return session.tell(items, Y[items], seconds=SECONDS[items], annotator=annotator)


def state(session):
    labels = session.store.labels()
    batches = [(b.items.tolist(), b.detail) for b in session.store.batches()]
    return [np.nan_to_num(column).tolist() for column in labels], batches


def test_the_choices_are_those_of_the_strategy(tmp_path):
    """A round done by hand, with a learner that goes on from its weights."""
    learner = make_learner(restart=False)
    recipe = Recipe(learner, by_margin, first=strategies.random())
    mine = create(tmp_path, recipe, seed=5)
    answer(mine, mine.ask(5))
    fit = jax.jit(learner.fit)
    key = jax.random.key(5)
    variables = learner.init(
        loop.round_key(loop.round_key(key, 0, loop.INITIAL), 0, loop.FIT)
    )
    for number in (2, 3):
        order = mine.store.labels().order
        now = functools.partial(loop.round_key, key, number)
        labeled = pool.add(pool.create(N, N), jnp.asarray(order))
        variables, _ = fit(
            now(loop.FIT), variables, Data(jnp.asarray(X), jnp.asarray(Y)), labeled
        )
        p = np.sort(jax.nn.softmax(learner.predict(variables, X).logits), axis=1)
        score = np.where(labeled.labeled, -1, 1 - (p[:, -1] - p[:, -2]))
        batch = mine.ask(5)
        assert batch.indices.tolist() == np.argsort(-score, kind="stable")[:5].tolist()
        np.testing.assert_allclose(batch.scores, score[batch.indices], atol=1e-5)
        np.testing.assert_allclose(batch.confidence, p[batch.indices, -1], atol=1e-5)
        answer(mine, batch)
        # The next one trains on from here, also after opening it anew.
        mine = Session.open(tmp_path, X, recipe)
    status = mine.status()
    assert status.labeled == 15 and status.batches == 3
    assert [r.labels for r in status.rounds] == [5, 10]


def test_the_cost_of_the_pool_is_predicted_some_at_a_time(tmp_path, monkeypatch):
    """A pool whose activations do not fit into memory at once."""
    monkeypatch.setattr(_choose, "_PREDICTED_AT_ONCE", 16)
    sizes = []

    def predict(variables, x, key=None):
        sizes.append(len(x))
        return COST.predict(variables, x, key)

    mine = create(
        tmp_path, RECIPE._replace(cost_learner=COST._replace(predict=predict))
    )
    answer(mine, mine.ask(8))
    batch = mine.ask(4, beta=0.3)
    assert np.isfinite(batch.costs).all() and max(sizes) <= 16


def test_asking_again_asks_for_nothing_new(tmp_path):
    mine = create(tmp_path)
    first = mine.ask(5)
    again = Session.open(tmp_path, X, RECIPE).ask(9)
    assert again.number == 1 and again.indices.tolist() == first.indices.tolist()
    answer(mine, first, rows=[0, 2])
    left = mine.ask(5)
    assert left.indices.tolist() == first.indices[[1, 3, 4]].tolist()
    assert mine.status().waiting == 3
    mine.tell(left.indices[:1], [None])
    assert mine.ask(5).indices.tolist() == first.indices[3:].tolist()
    other = mine.ask(5, another=True)
    assert other.number == 2 and not set(other.indices) & set(first.indices)


def test_late_reordered_and_repeated_answers_end_in_the_same_state(tmp_path):
    rng = np.random.default_rng(1)
    calm, wild = create(tmp_path / "calm"), create(tmp_path / "wild")
    for _ in range(3):
        batch = calm.ask(5)
        answer(calm, batch)
        again = wild.ask(5)
        for rows in np.array_split(rng.permutation(5), 3):
            answer(wild, again, rows=rows)
            answer(wild, again, rows=rows[:1])
            wild = Session.open(tmp_path / "wild", X, RECIPE)
    assert state(calm) == state(wild)
    np.testing.assert_array_equal(calm.predict(), wild.predict())


def test_a_process_that_died_between_weights_and_batch(tmp_path, monkeypatch):
    calm, mine = create(tmp_path / "calm"), create(tmp_path / "mine")
    for each in (calm, mine):
        answer(each, each.ask(5))
        answer(each, each.ask(5))

    class Killed(BaseException):
        pass

    saved = mine._save

    def dies(*arguments):
        saved(*arguments)
        raise Killed

    monkeypatch.setattr(mine, "_save", dies)
    with pytest.raises(Killed):
        mine.ask(5)
    again = Session.open(tmp_path / "mine", X, RECIPE)
    assert len(again.store.batches()) == 2
    assert again.ask(5).indices.tolist() == calm.ask(5).indices.tolist()
    for each in (calm, again):
        answer(each, each.ask(5))
        each.ask(5)
    assert state(calm) == state(again)


def test_somebody_asks_at_the_same_time(tmp_path, monkeypatch):
    mine, other = create(tmp_path), Session.open(tmp_path, X, RECIPE)
    answer(mine, mine.ask(5))
    add, first = mine.store.add_batch, []

    def slow(*arguments, **options):
        if not first:
            first.append(other.ask(5))
        return add(*arguments, **options)

    monkeypatch.setattr(mine.store, "add_batch", slow)
    assert mine.ask(5).indices.tolist() == first[0].indices.tolist()
    assert len(mine.store.batches()) == 2


def test_items_that_measure_do_not_train(tmp_path):
    mine = create(tmp_path)
    test = mine.ask(20, test=True)
    assert test.purpose == "test" and np.isnan(test.scores).all()
    answer(mine, test)
    answer(mine, mine.ask(5))
    batch = mine.ask(5)
    assert not set(batch.indices) & set(test.indices)
    status = mine.status()
    assert status.tested == 20 and status.labeled == 5
    (measured,) = status.rounds
    variables, _ = jax.jit(LEARNER.fit)(
        loop.round_key(jax.random.key(0), 3, loop.FIT),
        None,
        Data(jnp.asarray(X), jnp.asarray(Y)),
        pool.add(pool.create(N, N), jnp.asarray(mine.store.labels().order)),
    )
    right = np.argmax(LEARNER.predict(variables, X[test.indices]).logits, 1)
    assert measured.right == np.sum(right == Y[test.indices]) and measured.tested == 20
    assert measured.low < measured.accuracy < measured.high
    detail = mine.store.batches()[-1].detail
    assert len(detail["margins"]) == len(detail["right"]) == 20


def test_told_costs_are_learned_and_weighed(tmp_path):
    mine = create(tmp_path)
    first = mine.ask(5)
    answer(mine, first)
    more = np.setdiff1d(np.arange(N), first.indices)[:25]
    mine.tell(more, Y[more], seconds=SECONDS[more])
    cheap = mine.ask(5, beta=20.0)
    # Almost by the cost alone, whatever they tell; class 2 takes twice as long.
    assert not (Y[cheap.indices] == 2).any()
    assert (np.diff(cheap.scores) <= 0).all()
    assert mine.status().waiting_cost == pytest.approx(cheap.costs.sum())
    free = mine.ask(25, another=True)
    slow = Y[free.indices] == 2
    assert free.costs[slow].mean() > 1.2 * free.costs[~slow].mean()
    assert free.costs[~slow].mean() > 0.5 * SECONDS.min()


def test_beta_needs_costs_and_a_strategy_of_beta(tmp_path):
    mine = create(tmp_path)
    batch = mine.ask(5)
    mine.tell(batch.indices, Y[batch.indices])
    with pytest.raises(ValueError, match="beta=0.3 weighs the seconds.*fewer than two"):
        mine.ask(5, beta=0.3)
    plain = Session.open(tmp_path, X, Recipe(LEARNER, by_margin(0.0), COST))
    with pytest.raises(ValueError, match="not a function of beta"):
        plain.ask(5, beta=0.3)
    bare = Session.open(tmp_path, X, Recipe(LEARNER, by_margin))
    with pytest.raises(ValueError, match="no cost_learner"):
        bare.ask(5, beta=0.3)
    assert len(mine.store.batches()) == 1


def test_to_the_last_item(tmp_path):
    mine = create(tmp_path)
    answer(mine, mine.ask(55))
    batch = mine.ask(50)
    assert sorted(batch.indices) == sorted(
        set(range(N)) - set(mine.store.labels().order)
    )
    answer(mine, batch)
    with pytest.raises(ValueError, match="nothing is left to ask"):
        mine.ask(1)
    assert mine.status().labeled == N
    assert (mine.predict().argmax(axis=1) == Y).mean() > 0.8


def test_labels_told_without_being_asked(tmp_path):
    mine = create(tmp_path)
    mine.tell([7, 3, 11], Y[[7, 3, 11]])
    assert mine.store.labels().order.tolist() == [3, 7, 11]
    batch = mine.ask(5)
    assert not set(batch.indices) & {3, 7, 11}
    assert (batch.predicted >= 0).all()  # there is a model already


@pytest.mark.parametrize(
    "k, beta, text",
    [(0, 0, "k=0"), (2, -1, "beta=-1"), (2, float("nan"), "beta=nan")],
)
def test_bad_questions(tmp_path, k, beta, text):
    with pytest.raises(ValueError, match=text):
        create(tmp_path).ask(k, beta=beta)


def test_bad_answers(tmp_path):
    mine = create(tmp_path)
    with pytest.raises(ValueError, match="all must have the same length"):
        mine.tell([1, 2], [0])
    with pytest.raises(ValueError, match="label"):
        mine.tell([1], [C])
    with pytest.raises(ValueError, match="label"):
        mine.tell([1], [0.5])
    with pytest.raises(ValueError, match="seconds"):
        mine.tell([1], [0], seconds=[-1])
    with pytest.raises(ValueError, match="no label to train on"):
        mine.predict()
    assert mine.store.answers() == []
    # NaN is unknown, -1 and None are skipped.
    mine.tell([1, 2, 3], np.array([0.0, -1, 1]), costs=np.array([np.nan, 2, 3]))
    assert [a.label for a in mine.store.answers()] == [0, None, 1]
    assert [a.cost for a in mine.store.answers()] == [None, 2, 3]


def test_another_pool_or_recipe_is_named(tmp_path):
    mine = create(tmp_path)
    with pytest.raises(ValueError, match="x is not the pool"):
        Session.open(tmp_path, X[:-1], RECIPE)
    with pytest.raises(ValueError, match="x is not the pool"):
        Session.open(tmp_path, X + 1, RECIPE)
    with pytest.raises(ValueError, match="NaN or infinite"):
        Session.create(tmp_path / "b", X * np.nan, RECIPE, classes=CLASSES)
    with pytest.raises(ValueError, match="of one N"):
        Session.create(tmp_path / "b", (X, X[:3]), RECIPE, classes=CLASSES)
    with pytest.raises(ValueError, match="unit='hours'"):
        create(tmp_path / "b", unit="hours")
    answer(mine, mine.ask(5))
    answer(mine, mine.ask(5))
    bigger = Learner(lambda key: jnp.zeros((9, 9)), LEARNER.fit, LEARNER.predict)
    with pytest.raises(ValueError, match="do not fit the recipe"):
        Session.open(tmp_path, X, Recipe(bigger, by_margin, COST)).ask(5)


def test_few_compilations(tmp_path):
    """Labels that fit into the same power of four share one."""
    mine = create(tmp_path)
    answer(mine, mine.ask(5))
    answer(mine, mine.ask(5))
    before = _choose.choose.compiled()._cache_size()
    for _ in range(3):
        answer(mine, mine.ask(5))
    assert _choose.choose.compiled()._cache_size() == before


def test_strategies_see_what_trains_and_nothing_else(tmp_path):
    """Neither test labels, nor disputed ones, nor costs of other items."""
    seen = []

    def select(key, state, view, k):
        jax.debug.callback(lambda *a: seen.append(a), view.data.y, view.data.cost)
        return strategies.random().select(key, state, view, k)

    spy = strategies.random()._replace(select=select)
    mine = create(tmp_path, Recipe(LEARNER, lambda beta: spy, COST))
    test = mine.ask(5, test=True)
    answer(mine, test)
    answer(mine, mine.ask(5))
    mine.tell([50, 51], Y[[50, 51]])
    mine.tell([52, 53], [0, 0], annotator="ann", seconds=[1, 1])
    mine.tell([52], [1], annotator="bob")
    mine.tell([54], [None], seconds=[3.0])
    order = mine.store.labels().order
    assert {50, 51, 53} < set(order) and not {52, 54} & set(order)
    mine.ask(5, beta=1.0)
    jax.effects_barrier()
    ((y, cost),) = seen
    assert np.flatnonzero(np.asarray(y) >= 0).tolist() == sorted(order)
    told = mine.store.labels().seconds
    expected = [i for i in sorted(order) if np.isfinite(told[i])]
    assert np.flatnonzero(np.isfinite(cost)).tolist() == expected


def test_leftover_weights_do_not_push_out_those_in_use(tmp_path, monkeypatch):
    mine = create(tmp_path)
    answer(mine, mine.ask(5))
    answer(mine, mine.ask(5))
    add = mine.store.add_batch

    def dies(*arguments, before=None, **options):
        before()
        raise KeyboardInterrupt

    for _ in range(3):
        monkeypatch.setattr(mine.store, "add_batch", dies)
        with pytest.raises(KeyboardInterrupt):
            mine.ask(5)
        # A batch without weights takes the number of the one that died.
        monkeypatch.setattr(mine.store, "add_batch", add)
        answer(mine, mine.ask(1, test=True))
    answer(mine, mine.ask(5))
    assert len(mine.store.batches()) == 6


def test_a_round_without_a_score_is_refused(tmp_path):
    nothing = lambda beta: strategies.from_scores(
        scorers.passes(
            lambda predictive: jnp.full(predictive.mean.shape[:-1], jnp.nan), 1
        )
    )
    mine = create(tmp_path, Recipe(LEARNER, nothing))
    answer(mine, mine.ask(5))
    with pytest.raises(ValueError, match="all of its scores are NaN"):
        mine.ask(5)
    assert len(mine.store.batches()) == 1


def test_a_corrected_answer_takes_its_time_once(tmp_path):
    mine = create(tmp_path)
    mine.tell([1, 2], [0, 1], seconds=[4.0, 6.0], annotator="ann")
    mine.tell([1], [2], seconds=[5.0], annotator="ann")
    mine.tell([1], [2], seconds=[5.0], annotator="ann", final=True)
    (ann,) = mine.status().annotators
    assert (ann.labels, ann.seconds, ann.median_seconds) == (2, 11.0, 5.5)


def test_spending_counts_what_everybody_took(tmp_path):
    mine = create(tmp_path)
    assert spending(mine.store, "seconds") == []
    mine.tell([7, 3], [0, None], seconds=[4.0, 2.0], annotator="ann")
    batch = mine.ask(2, test=True)
    mine.tell(batch.indices, [1, 1], seconds=[8.0, 16.0], annotator="ann")
    mine.tell(batch.indices[:1], [1], seconds=[32.0], annotator="bob")
    # Items told unasked come first, and a label that is disputed is none.
    mine.tell([7], [1], seconds=[64.0], annotator="bob")
    assert spending(mine.store, "seconds") == [(0, 2), (0, 70), (1, 110), (2, 126)]
    assert mine.status().seconds == 126


@pytest.mark.parametrize(
    "number, size",
    [(0, 64), (64, 64), (65, 256), (256, 256), (257, 1024), (1024, 1024), (1025, 4096)],
)
def test_sizes_of_buffers(number, size):
    assert len(_choose.padded(np.zeros(number, np.int64))) == size
    excluded = np.zeros(5000, bool)
    pool = _choose.pool_of(np.arange(number), excluded)
    assert pool.order.shape == (size,) and int(pool.count) == number
