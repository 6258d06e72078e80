"""Worlds in which the error of a model is a formula, to try MCAL in.

The error of the most confident share theta of the pool after training on B items is
eps = (a theta^3 + c) B^-gamma exp(-B / k).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal import mcal
from jal.mcal import THETAS, Course, Terms, TrainingPrice

MOST_ROUNDS = 128


class World(NamedTuple):
    """The constants of the formula.

    Attributes:
      a: of theta^3.
      c: at theta = 0.
      gamma: exponent of B.
      k: size at which the errors begin to fall exponentially.
    """

    a: float
    c: float
    gamma: float
    k: float


def draw(number: int, seed: int) -> list[World]:
    """Random worlds: a in [2, 10], c in [0, .1], gamma in [.2, .6], k in [2e4, 2e5]."""
    draws = np.random.default_rng(seed)
    low, high = (2, 0, 0.2, 2e4), (10, 0.1, 0.6, 2e5)
    return [World(*draws.uniform(low, high)) for _ in range(number)]


def errors(world: World, sizes, thetas=THETAS) -> np.ndarray:
    """[G, Q] errors of the shares thetas [Q] after training on sizes [G]."""
    sizes = np.asarray(sizes, float)[:, None]
    falling = sizes**-world.gamma * np.exp(-sizes / world.k)
    return np.minimum((world.a * np.asarray(thetas) ** 3 + world.c) * falling, 1)


def machine_items(terms: Terms, sizes, rates: np.ndarray) -> np.ndarray:
    """[G] items that the model may label after training on sizes [G], rates [G, Q]."""
    sizes, thetas = map(jnp.asarray, (sizes, THETAS))
    errors = jnp.asarray(rates, jnp.float32)
    _, machine = mcal.machine_share(terms, sizes, errors, thetas)
    return np.asarray(machine)


def optimum(world: World, terms: Terms, price: TrainingPrice) -> dict:
    """The cheapest (B, theta, number of equal rounds), all of them tried."""
    sizes = np.arange(
        terms.first_batch, terms.num_items - terms.num_test + 1, terms.grid_step
    )
    machine = machine_items(terms, sizes, errors(world, sizes))
    rounds = np.arange(1, MOST_ROUNDS + 1)[:, None]
    training = mcal.price_of_rounds(price, 0.0, sizes[None].astype(float), rounds)
    costs = (terms.num_items - machine)[None] * terms.price + training
    best = np.unravel_index(np.argmin(costs), costs.shape)
    return {
        "cost": float(costs[best]),
        "size": int(sizes[best[1]]),
        "machine": int(machine[best[1]]),
        "rounds": int(rounds[best[0], 0]),
    }


@functools.partial(jax.jit, static_argnames=("terms", "truncated"))
def _plan(terms, price, rates, weights, sizes, size, batch, spend, truncated=True):
    law = mcal.fit_law(sizes, rates, weights, truncated=truncated)
    predicted = mcal.predict_errors(law, mcal.grid(terms, size).astype(jnp.float32))
    predicted = mcal.rising(predicted)
    thetas = jnp.asarray(THETAS)
    return mcal.search(terms, price, size, predicted, thetas, batch=batch, spend=spend)


def simulate(world: World, terms: Terms, price: TrainingPrice, seed=None) -> dict:
    """Runs MCAL in a world: the rounds, and what it came to cost.

    Args:
      world: the formula.
      terms: what is to be labelled.
      price: of training.
      seed: of the numbers of errors on the test set, binomial; None gives the laws the
        formula's own errors.

    Returns:
      `rounds`, why they ended (`stop`), and the last of them: `size`, `machine`, `cost`
      in USD and more.
    """
    draws = None if seed is None else np.random.default_rng(seed)
    course, size, spend, rows = Course(), terms.first_batch, 0.0, []
    sizes = np.ones(MOST_ROUNDS, np.float32)
    rates = np.full((MOST_ROUNDS, len(THETAS)), np.nan, np.float32)
    weights = np.zeros_like(rates)
    batch = terms.first_batch
    for number in range(MOST_ROUNDS):
        spend += float(mcal.price_of_training(price, size))
        rate, weight = _measure(world, terms, size, draws)
        sizes[number], rates[number], weights[number] = size, rate, weight
        machine = int(machine_items(terms, [size], rate[None])[0])
        plan = None
        if number >= 2:
            plan = _plan(terms, price, rates, weights, sizes, size, batch, spend)
        course = mcal.advance(
            terms, course, price, size=size, spend=spend, machine=machine, plan=plan
        )
        rows.append(
            {
                "size": size,
                "batch": batch,
                "spend": spend,
                "machine": machine,
                "cost": (terms.num_items - machine) * terms.price + spend,
                "predicted": None if plan is None else float(plan.cost),
                "target": None if plan is None else int(plan.size),
                "cap": course.cap,
                "batches": course.rounds,
                "stable": course.stable,
                "next": course.batch,
            }
        )
        if course.stop:
            break
        batch = course.batch
        size += batch
    return {"rounds": rows, "stop": course.stop, **rows[-1]}


def _measure(world: World, terms: Terms, size: int, draws) -> tuple:
    """[Q] errors after training on some items, and their weights in a fit."""
    true = errors(world, [size])[0]
    shares = mcal.shares_of_test(terms, size, THETAS)
    if draws is None:
        return np.where(shares > 1, np.nan, true), 1.0 * (shares <= 1)
    counts = np.where(shares > 1, 0, np.round(shares * terms.num_test)).astype(int)
    # Errors among the first n items: each share adds its own to those before.
    found = np.diff(counts * true, prepend=0).clip(0)
    items = np.diff(counts, prepend=0).clip(1)
    found = np.cumsum(draws.binomial(items, np.minimum(found / items, 1)))
    measured = mcal.error_rates(jnp.asarray(counts), jnp.asarray(found))
    return tuple(map(np.asarray, measured))


def classifier(world: World, labels: np.ndarray, seed: int):
    """A model whose errors follow the formula: the `train` of a `mcal.Model`.

    Every item has a hardness, its quantile in the pool. The model is the surer the
    easier an item is, and wrong with the probability that makes the errors of the most
    confident share theta those of the formula; an item that one model gets wrong, a
    weaker one does, too.

    Args:
      world: the formula.
      labels: [N] the true classes, two or more.
      seed: of hardness and luck.
    """
    draws = np.random.default_rng(seed)
    hardness = draws.permutation(len(labels)) / len(labels)
    luck = draws.uniform(size=len(labels))
    num_classes = int(labels.max()) + 1

    def train(indices, bought):
        del bought
        size = len(indices)
        falling = size**-world.gamma * np.exp(-size / world.k)
        # The derivative of theta eps by theta.
        chance = (4 * world.a * hardness**3 + world.c) * falling
        wrong = luck < chance
        predicted = np.where(wrong, (labels + 1) % num_classes, labels)
        return mcal.Predictions(predicted, 1 - hardness, seconds=1e-6 * size)

    return train


def label_world(world: World, terms: Terms, price: TrainingPrice, seed: int):
    """Labels a pool of two classes by the driver itself, with a model by formula.

    Returns:
      The result, and the share of labels that are wrong.
    """
    truth = np.random.default_rng(seed).integers(0, 2, terms.num_items)
    candidate = mcal.Model(classifier(world, truth, seed), price)
    result = mcal.label(
        jax.random.key(seed),
        {"formula": candidate},
        lambda indices: truth[indices],
        terms,
        num_classes=2,
        progress=False,
        ask_at_most=terms.num_items,
    )
    return result, float(np.mean(result.labels != truth))
