"""How near MCAL comes to the optimum, and to its limit, where errors are formulas."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats
from tqdm.auto import tqdm

from experiments.common import paired
from experiments.min_cost import worlds
from experiments.min_cost.protocol import PRICES
from jal.mcal import Terms, TrainingPrice

TRAINING = TrainingPrice(per_image=0.0003)
# Of the figure; what is dearer stands at the end.
EDGES = np.linspace(1, 1.5, 41)
# Errors that fall on hard items, which are bought, and errors that fall anywhere.
LIMIT_WORLDS = {
    "errors among hard items": worlds.World(4, 0.02, 0.35, 60_000),
    "errors anywhere": worlds.World(0, 1.0, 0.3, 60_000),
}


def near_optimum(number: int, seed: int) -> Iterator[tuple[str, dict, np.ndarray]]:
    """Cost of MCAL over that of the optimum, by price, slack and noise.

    Args:
      number: of worlds.
      seed: of them.

    Yields:
      The case, statistics of the ratios, and how many are in each bin of `EDGES`.
    """
    drawn = worlds.draw(number, seed)
    for service, price in PRICES.items():
        for slack in (0.02, 0.05):
            for noise in ("exact errors", "3,000 test items"):
                name = f"{service}, slack {slack:g}, {noise}"
                terms = Terms(60_000, 3000, price, slack=slack)
                bar = tqdm(drawn, desc=name, leave=False)
                ended = [
                    worlds.simulate(
                        world, terms, TRAINING, seed=place if "test" in noise else None
                    )
                    for place, world in enumerate(bar)
                ]
                best = [worlds.optimum(world, terms, TRAINING) for world in drawn]
                costs = np.array([end["cost"] for end in ended])
                ratios = costs / [optimum["cost"] for optimum in best]
                quantiles = (0.05, 0.5, 0.9, 0.97, 1)
                found = {
                    "within_3_percent": float(np.mean(ratios <= 1.03)),
                    "ratio_quantiles": {
                        str(q): float(np.quantile(ratios, q)) for q in quantiles
                    },
                    "most_of_human_cost": costs.max() / (terms.num_items * price),
                    "rounds": paired.mean_interval(len(end["rounds"]) for end in ended),
                }
                bins, _ = np.histogram(ratios.clip(1, EDGES[-1]), EDGES)
                yield name, found, bins


def within_limit(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """How often the driver itself keeps fewer than 5 % wrong.

    Args:
      number: of runs for each case.

    Yields:
      The case, and what its runs came to.
    """
    protocol: dict[str, Any] = dict(first_batch=200, grid_step=200)
    for name, world in LIMIT_WORLDS.items():
        for confidence in (None, 1.645):
            terms = Terms(20_000, 1000, 0.04, confidence=confidence, **protocol)
            wrong = [
                worlds.label_world(world, terms, TRAINING, seed=each)[1]
                for each in tqdm(range(number), desc=name, leave=False)
            ]
            held = int(np.sum(np.array(wrong) < terms.max_error))
            low = stats.binomtest(held, number, alternative="greater")
            found = {
                "runs": number,
                "held": held,
                "at_least": float(low.proportion_ci(0.95).low),
                "error": paired.mean_interval(wrong),
                "most": max(wrong),
            }
            bound = "Wilson's bound" if confidence else "no bound"
            yield f"{name}, {bound}", found


def world_text(name: str, found: dict) -> str:
    quantiles = found["ratio_quantiles"]
    return (
        f"{name}: {found['within_3_percent']:.1%} of the worlds within 3 % of their "
        f"optimum; cost / optimum {quantiles['0.5']:.3f} (median), "
        f"{quantiles['0.9']:.3f} (90 %), {quantiles['1']:.3f} (most); at most "
        f"{found['most_of_human_cost']:.1%} of people alone"
    )


def limit_text(name: str, found: dict) -> str:
    return (
        f"{name}: fewer than 5 % wrong in {found['held']} of {found['runs']} runs, "
        f"with 95 % confidence in at least {found['at_least']:.1%}; "
        f"{found['error']['mean']:.2%} wrong on average, {found['most']:.2%} at most"
    )
