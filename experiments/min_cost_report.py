"""Tables, verdicts and figures of the minimum-cost comparison.

The claims are those of Qiu, Chintalapudi and Govindan, "MCAL: minimum cost
human-machine active labeling" (2023).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import paired
from experiments.min_cost_runs import CHEAP, PRICES
from jal import mcal, plots

Record = Mapping[str, Any]
# Table 2: shares of X trained on and labelled by the model, error, USD of all.
TABLE_2 = {
    ("fashion_mnist", "Amazon"): (0.061, 0.85, 0.040, 2800, 400),
    ("fashion_mnist", "Satyam"): (0.084, 0.85, 0.040, 210, 29),
    ("cifar10", "Amazon"): (0.222, 0.65, 0.024, 2400, 792),
    ("cifar10", "Satyam"): (0.270, 0.65, 0.024, 180, 63),
}
# Savings that its rows amount to, whatever is charged for test sets.
BANDS = {"fashion_mnist": (0.80, 0.86), "cifar10": (0.55, 0.67)}


def arms_of(records: Iterable[Record]) -> dict[str, dict[int, Record]]:
    """Name -> seed -> record."""
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        found.setdefault(record["arm"], {})[record["seed"]] = record
    return found


def humans_alone(record: Record, service: str) -> float:
    """USD for labels of everything."""
    return record["num_items"] * PRICES[service]


def summarize(records: Sequence[Record], data: str) -> dict:
    """What each way of labelling came to, and what of the paper's claims holds.

    Args:
      records: of `min_cost_runs.run_arm`, of one data set.
      data: its name.

    Returns:
      arms: statistics by arm; claims: name -> verdict and numbers.
    """
    arms = arms_of(records)
    summary: dict[str, Any] = {"data": data, "arms": {}}
    for name, runs in arms.items():
        of = lambda field, runs=runs: [r[field] / r["num_items"] for r in runs.values()]
        one = next(iter(runs.values()))
        summary["arms"][name] = {
            "trained_on": paired.mean_interval(of("trained_on")),
            "human": paired.mean_interval(of("human_labels")),
            "machine": paired.mean_interval(of("machine_labels")),
            "error": paired.mean_interval(r["error"] for r in runs.values()),
            "most_error": max(r["error"] for r in runs.values()),
            "machine_error": paired.mean_interval(
                r["machine_error"] for r in runs.values() if r["machine_error"]
            ),
            "estimate": paired.mean_interval(
                r["error_estimate"] for r in runs.values()
            ),
            "training": paired.mean_interval(r["training_cost"] for r in runs.values()),
            "cost": {
                service: paired.mean_interval(r["cost"][service] for r in runs.values())
                for service in one["cost"]
            },
            "saving": {
                service: paired.mean_interval(
                    1 - r["cost"][service] / humans_alone(r, service)
                    for r in runs.values()
                )
                for service in one["cost"]
            },
            "rounds": paired.mean_interval(len(r["rounds"]) for r in runs.values()),
            "batches": {seed: _batches(r) for seed, r in runs.items()},
        }
    summary["claims"] = _claims(arms, data)
    return summary


def _batches(record: Record) -> list[int]:
    sizes = [row["size"] for row in record["rounds"]]
    return np.diff(sizes, prepend=0).tolist()


def _fixed(arms) -> dict[float, dict[int, Record]]:
    """Batch -> seed -> record, of the batches that all these seeds have."""
    seeds = {seed for runs in _mcal(arms).values() for seed in runs}
    return {
        next(iter(runs.values()))["batch"]: runs
        for name, runs in arms.items()
        if name.startswith("batch ") and seeds <= set(runs)
    }


def _mcal(arms) -> dict[str, dict[int, Record]]:
    """Service -> seed -> record of MCAL by the paper's constraint, of one network."""
    return {
        service: runs
        for service in PRICES
        for name, runs in arms.items()
        if name.partition(",")[0] == f"MCAL {service}"
    }


def _claims(arms, data) -> dict[str, dict]:
    claims = {}
    mcal = _mcal(arms)
    limit = 0.05
    over = [
        f"{name} seed {seed}: {record['error']:.2%}"
        for name, runs in arms.items()
        for seed, record in runs.items()
        if record["error"] >= limit
    ]
    total = sum(map(len, arms.values()))
    claims["fewer than 5 % wrong"] = {
        "verdict": paired.verdict(not over),
        "text": f"{total - len(over)} of {total} runs"
        + "".join(f"; {o}" for o in over),
    }
    for service, runs in mcal.items():
        savings = paired.mean_interval(
            1 - r["cost"][service] / humans_alone(r, service) for r in runs.values()
        )
        if data in BANDS:
            low, high = BANDS[data]
            claims[f"saving at {service}'s price"] = {
                "verdict": paired.verdict(_inside(savings, low, high)),
                "text": f"{paired.value_text(savings, '.1f', 100)} %, in the paper "
                f"{100 * low:.0f} to {100 * high:.0f} %",
            }
    batches = _fixed(arms)
    for service, runs in mcal.items():
        if not batches:
            continue
        best = {
            seed: min(fixed[seed]["cost"][service] for fixed in batches.values())
            for seed in runs
        }
        gain = paired.difference(
            {seed: r["cost"][service] for seed, r in runs.items()}, best
        )
        claims[f"cheaper than the best fixed batch, {service}"] = {
            "verdict": paired.verdict(paired.is_below(gain)),
            "text": f"{paired.value_text(gain, '+.2f')} USD, the best of "
            f"{len(batches)} batches chosen afterwards for each seed",
        }
        means = {
            batch: np.mean([r["cost"][service] for r in fixed.values()])
            for batch, fixed in sorted(batches.items())
        }
        cheapest = min(means, key=lambda batch: means[batch])
        ends = {min(means), max(means)}
        claims[f"cost against batch is U-shaped, {service}"] = {
            "verdict": paired.verdict(cheapest not in ends),
            "text": f"cheapest at {cheapest:.1%}; "
            + ", ".join(f"{batch:.1%} {cost:,.2f}" for batch, cost in means.items())
            + " USD",
        }
    if set(mcal) == set(PRICES):
        more = paired.difference(
            *(
                {s: r["trained_on"] / r["num_items"] for s, r in mcal[service].items()}
                for service in ("Satyam", "Amazon")
            )
        )
        claims["cheaper labels -> larger B"] = {
            "verdict": paired.verdict(paired.is_above(more)),
            "text": f"{paired.value_text(more, '+.1f', 100)} points of X",
        }
    if len(batches) > 2:
        claims["training cost falls as 1 / batch"] = _training_slope(batches)
    return claims


def _inside(statistics, low: float, high: float) -> bool | None:
    """Whether the interval lies in the band (True) or beside it (False)."""
    if statistics["interval"] is None:
        return None
    first, last = statistics["interval"]
    if low <= first and last <= high:
        return True
    return False if last < low or first > high else None


def _training_slope(batches) -> dict:
    """How training up to one size depends on the batch, from what was paid."""
    rows = []
    for batch, runs in sorted(batches.items()):
        for record in runs.values():
            sizes = np.array([row["size"] for row in record["rounds"]], float)
            paid = CHEAP * sizes.sum()
            rows.append((np.log(batch), np.log(paid / sizes[-1] ** 2)))
    x, y = np.array(rows).T
    slope = float(np.polyfit(x, y, 1)[0])
    return {
        "verdict": paired.verdict(abs(slope + 1) < abs(slope + 2)),
        "text": f"cost / B^2 goes with batch^{slope:.2f}; the paper's text says "
        "1 / batch^2, its equation 3 1 / batch",
    }


def format_summary(summary: Mapping) -> str:
    """The tables and verdicts as text."""
    data = summary["data"]
    rows = []
    for name, arm in summary["arms"].items():
        percent = lambda field, form=".1f", a=arm: paired.value_text(
            a[field] | {"interval": None}, form, 100
        )
        for service, cost in arm["cost"].items():
            rows.append(
                [
                    name if name.startswith("MCAL") else f"{name}, {service}",
                    percent("trained_on"),
                    percent("machine"),
                    percent("error", ".2f"),
                    f"{100 * arm['most_error']:.2f}",
                    format(arm["training"]["mean"], ".2f"),
                    format(cost["mean"], ",.2f"),
                    paired.value_text(arm["saving"][service], ".1f", 100),
                    paired.seeds_text(cost),
                ]
            )
    header = [
        data,
        "B/X %",
        "S/X %",
        "error %",
        "worst",
        "training USD",
        "total USD",
        "saving % [95 %]",
        "",
    ]
    lines = paired.table(header, rows)
    paper = [
        f"{service}: B/X {100 * b:.1f} %, S/X {100 * s:.0f} %, error {100 * e:.1f} %, "
        f"{alone} USD for people alone, {cost} USD for MCAL"
        for (name, service), (b, s, e, alone, cost) in TABLE_2.items()
        if name == data
    ]
    if paper:
        lines += ["", "In the paper (ResNet-18; what is charged differs, see README):"]
        lines += paper
    lines += [""]
    for name, claim in summary["claims"].items():
        lines.append(paired.wrap(f"{name}: {claim['verdict']} ({claim['text']})", "  "))
    return "\n".join(lines)


def figures(records: Sequence[Record], data: str) -> dict:
    """Name -> figure: costs by scheme, against the batch, and the plan over rounds."""
    arms = arms_of(records)
    found = {}
    for service, price in PRICES.items():
        costs = {
            name: [r["cost"][service] for r in runs.values()]
            for name, runs in arms.items()
            if service in next(iter(runs.values()))["cost"]
        }
        if not costs:
            continue
        num_items = records[0]["num_items"]
        alone = num_items * price
        title = f"{data}: {num_items:,} images at {price:g} USD"
        found[f"schemes-{service}"] = plots.schemes(
            costs, humans_alone=alone, title=title
        )
        batches = _fixed(arms)
        mcal = _mcal(arms).get(service, {})
        if len(batches) > 1 and mcal:
            order, seeds = sorted(batches), sorted(mcal)
            found[f"batches-{service}"] = plots.cost_by_batch(
                order,
                [[batches[b][s]["cost"][service] for b in order] for s in seeds],
                mcal=[mcal[s]["cost"][service] for s in seeds],
                humans_alone=alone,
                title=title,
            )
        first = mcal.get(0)
        if first and len(first["rounds"]) > 2:
            name = first.get("candidate")
            chosen = [r for r in first["rounds"] if r.get("candidate") == name]
            found[f"course-{service}"] = plots.course(
                chosen, humans_alone=alone, title=f"{title}, seed 0"
            )
    return found


POINTS = (3, 5, 7, 9)


def fits(record: Record, theta: float = 0.5) -> tuple[dict, Any]:
    """How well laws of the first few rounds predict the errors of later ones.

    Args:
      record: a run with many rounds, of a small fixed batch.
      theta: whose points are drawn.

    Returns:
      Root mean square errors of ln eps over all thetas and later rounds, by law and
      number of points; and the figure.

    Raises:
      ValueError: the run is too short.
    """
    rounds = record["rounds"]
    points = [number for number in POINTS if number + 2 <= len(rounds)]
    if not points:
        raise ValueError(
            f"{record['arm']} seed {record['seed']} has {len(rounds)} rounds; at least "
            f"{POINTS[0] + 2} are needed"
        )
    sizes = jnp.asarray([row["size"] for row in rounds], jnp.float32)
    counts = jnp.asarray([row["counts"] for row in rounds])
    errors = jnp.asarray([row["errors"] for row in rounds])
    rate, weight = mcal.error_rates(counts, errors)
    place = mcal.THETAS.index(theta)
    # Laws of a handful of errors say little.
    counted = np.asarray(errors) >= 5
    later = np.arange(len(rounds)) >= max(points)
    table: dict[str, dict[int, float]] = {"plain": {}, "truncated": {}}
    lines = {}
    for number in points:
        for name in table:
            law = mcal.fit_law(
                sizes[:number],
                rate[:number],
                weight[:number],
                truncated=name == "truncated",
            )
            predicted = np.asarray(mcal.predict_errors(law, sizes))
            misses = np.log(predicted / np.asarray(rate))
            used = counted & later[:, None] & np.isfinite(misses)
            table[name][number] = float(np.sqrt(np.mean(misses[used] ** 2)))
            lines[f"{name}, {number} points"] = (
                np.asarray(sizes),
                predicted[:, place],
            )
    figure = plots.fits(
        np.asarray(sizes),
        np.asarray(rate)[:, place],
        {name: line for name, line in lines.items() if name[-8:] != "7 points"},
        used=points,
        title=f"error of the most confident {theta:.0%}, {record['arm']}, seed "
        f"{record['seed']}",
    )
    return {"rms": table, "later_rounds": int(later.sum())}, figure
