"""Tables, verdicts and figures of the minimum-cost comparison.

The claims are those of Qiu, Chintalapudi and Govindan, "MCAL: minimum cost
human-machine active labeling" (2023).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import paired
from experiments.common.paired import Claim, Record, Runs, mean_of, value_text
from experiments.min_cost import figures as drawn
from experiments.min_cost.protocol import CHEAP, PRICES

# Table 2: shares of X trained on and labelled by the model, error, USD of all.
TABLE_2 = {
    ("fashion_mnist", "Amazon"): (0.061, 0.85, 0.040, 2800, 400),
    ("fashion_mnist", "Satyam"): (0.084, 0.85, 0.040, 210, 29),
    ("cifar10", "Amazon"): (0.222, 0.65, 0.024, 2400, 792),
    ("cifar10", "Satyam"): (0.270, 0.65, 0.024, 180, 63),
}
# Savings that its rows amount to, whatever is charged for test sets.
BANDS = {"fashion_mnist": (0.80, 0.86), "cifar10": (0.55, 0.67)}
LIMIT = 0.05
Arms = Mapping[str, Runs]


def cost(service: str) -> Callable[[Record], float]:
    """USD of everything."""
    return lambda run: run["cost"][service]


def saving(service: str) -> Callable[[Record], float]:
    """Against labels of everything by people."""
    alone = PRICES[service]
    return lambda run: 1 - run["cost"][service] / (run["num_items"] * alone)


def summarize(records: Sequence[Record], data: str) -> dict:
    """What each way of labelling came to, and what of the paper's claims holds.

    Args:
      records: of `protocol.run_arm`, of one data set.
      data: its name.

    Returns:
      arms: statistics by arm; claims: name -> verdict and numbers.
    """
    arms = paired.by_arm(records)
    statistics = {name: _statistics(runs) for name, runs in arms.items()}
    claims = paired.claims(_claims(arms, data))
    return {"data": data, "arms": statistics, "claims": claims}


def _statistics(runs: Runs) -> dict[str, Any]:
    share = lambda field: lambda run: run[field] / run["num_items"]
    services = next(iter(runs.values()))["cost"]
    return {
        "trained_on": mean_of(runs, share("trained_on")),
        "human": mean_of(runs, share("human_labels")),
        "machine": mean_of(runs, share("machine_labels")),
        "error": mean_of(runs, "error"),
        "most_error": max(run["error"] for run in runs.values()),
        "machine_error": mean_of(runs, lambda run: run["machine_error"] or None),
        "estimate": mean_of(runs, "error_estimate"),
        "training": mean_of(runs, "training_cost"),
        "cost": {s: mean_of(runs, cost(s)) for s in services},
        "saving": {s: mean_of(runs, saving(s)) for s in services},
        "rounds": mean_of(runs, lambda run: len(run["rounds"])),
        "batches": {
            seed: np.diff([row["size"] for row in run["rounds"]], prepend=0).tolist()
            for seed, run in runs.items()
        },
    }


def _fixed(arms: Arms) -> dict[float, Runs]:
    """Batch -> seed -> record, of the batches that all seeds of MCAL have, rising."""
    seeds = {seed for runs in _mcal(arms).values() for seed in runs}
    found = {
        next(iter(runs.values()))["batch"]: runs
        for name, runs in arms.items()
        if name.startswith("batch ") and seeds <= set(runs)
    }
    return dict(sorted(found.items()))


def _mcal(arms: Arms) -> dict[str, Runs]:
    """Service -> seed -> record of MCAL by the paper's constraint, of one network."""
    return {
        service: runs
        for service in PRICES
        for name, runs in arms.items()
        if name.partition(",")[0] == f"MCAL {service}"
    }


def _claims(arms: Arms, data: str) -> Iterator[Claim]:
    errors = {
        f"{name} seed {seed}": run["error"]
        for name, runs in arms.items()
        for seed, run in runs.items()
    }
    over = [f"; {run}: {error:.2%}" for run, error in errors.items() if error >= LIMIT]
    held = f"{len(errors) - len(over)} of {len(errors)} runs"
    yield "fewer than 5 % wrong", not over, held + "".join(over)
    mcal, batches = _mcal(arms), _fixed(arms)
    for service, runs in mcal.items() if data in BANDS else ():
        saved = mean_of(runs, saving(service))
        low, high = BANDS[data]
        text = f"{value_text(saved, '.1f', 100)} %, in the paper {100 * low:.0f} to "
        answer = _inside(saved, low, high)
        yield f"saving at {service}'s price", answer, f"{text}{100 * high:.0f} %"
    for service, runs in mcal.items() if batches else ():
        yield from _claims_on_batches(service, runs, batches)
    if set(mcal) == set(PRICES):
        share = lambda run: run["trained_on"] / run["num_items"]
        more = paired.gap(mcal["Satyam"], mcal["Amazon"], share)
        text = f"{value_text(more, '+.1f', 100)} points of X"
        yield "cheaper labels -> larger B", paired.is_above(more), text
    if len(batches) > 2:
        yield training_slope(batches)


def _claims_on_batches(service, runs, batches) -> Iterator[Claim]:
    paid = cost(service)
    best = {seed: min(paid(each[seed]) for each in batches.values()) for seed in runs}
    gain = paired.difference(paired.each(runs, paid), best)
    yield (
        f"cheaper than the best fixed batch, {service}",
        paired.is_below(gain),
        f"{value_text(gain, '+.2f')} USD, the best of {len(batches)} batches chosen "
        "afterwards for each seed",
    )
    means = {b: np.mean(list(map(paid, runs.values()))) for b, runs in batches.items()}
    cheapest = min(means, key=lambda batch: means[batch])
    costs = ", ".join(f"{batch:.1%} {mean:,.2f}" for batch, mean in means.items())
    yield (
        f"cost against batch is U-shaped, {service}",
        cheapest not in {min(means), max(means)},
        f"cheapest at {cheapest:.1%}; {costs} USD",
    )


def _inside(statistics: Mapping, low: float, high: float) -> bool | None:
    """Whether the interval lies in the band (True) or beside it (False)."""
    if statistics["interval"] is None:
        return None
    first, last = statistics["interval"]
    if low <= first and last <= high:
        return True
    return False if last < low or first > high else None


def training_slope(batches: Mapping[float, Runs]) -> Claim:
    """How training up to one size depends on the batch, from what was paid."""
    rows = []
    for batch, runs in batches.items():
        for run in runs.values():
            sizes = np.array([row["size"] for row in run["rounds"]], float)
            paid = CHEAP * sizes.sum()
            rows.append((np.log(batch), np.log(paid / sizes[-1] ** 2)))
    x, y = np.array(rows).T
    slope = float(np.polyfit(x, y, 1)[0])
    return (
        "training cost falls as 1 / batch",
        abs(slope + 1) < abs(slope + 2),
        f"cost / B^2 goes with batch^{slope:.2f}; the paper's text says "
        "1 / batch^2, its equation 3 1 / batch",
    )


def format_summary(summary: Mapping) -> str:
    """The tables and verdicts as text."""
    data = summary["data"]
    mean = lambda field, form, scale=100: (
        lambda _, arm, s: format(scale * arm[field]["mean"], form)
    )
    columns = {
        data: lambda name, _, s: name if name.startswith("MCAL") else f"{name}, {s}",
        "B/X %": mean("trained_on", ".1f"),
        "S/X %": mean("machine", ".1f"),
        "error %": mean("error", ".2f"),
        "worst": lambda _, arm, s: f"{100 * arm['most_error']:.2f}",
        "training USD": mean("training", ".2f", 1),
        "total USD": lambda _, arm, s: f"{arm['cost'][s]['mean']:,.2f}",
        "saving % [95 %]": lambda _, arm, s: value_text(arm["saving"][s], ".1f", 100),
        "": lambda _, arm, s: paired.seeds_text(arm["cost"][s]),
    }
    arms = summary["arms"].items()
    items = [(name, arm, service) for name, arm in arms for service in arm["cost"]]
    paper = [
        f"{service}: B/X {100 * b:.1f} %, S/X {100 * s:.0f} %, error {100 * e:.1f} %, "
        f"{alone} USD for people alone, {paid} USD for MCAL"
        for (name, service), (b, s, e, alone, paid) in TABLE_2.items()
        if name == data
    ]
    lead = "In the paper (ResNet-18; what is charged differs, see README):"
    table, claims = paired.columns(columns, items), summary["claims"]
    return paired.page(table, paper and [lead, *paper], paired.claim_lines(claims))


def figures(records: Sequence[Record], data: str) -> dict:
    """Kind -> figure: costs by scheme, against the batch, and the plan over rounds."""
    arms, found = paired.by_arm(records), {}
    batches, num_items = _fixed(arms), records[0]["num_items"]
    for service, price in PRICES.items():
        costs = {
            name: [run["cost"][service] for run in runs.values()]
            for name, runs in arms.items()
            if service in next(iter(runs.values()))["cost"]
        }
        if not costs:
            continue
        title = f"{data}: {num_items:,} images at {price:g} USD"
        alone = dict(humans_alone=num_items * price)
        found[f"schemes-{service}"] = drawn.schemes(costs, title=title, **alone)
        mcal = dict(sorted(_mcal(arms).get(service, {}).items()))
        if len(batches) > 1 and mcal:
            found[f"batches-{service}"] = drawn.cost_by_batch(
                list(batches),
                [[batches[b][s]["cost"][service] for b in batches] for s in mcal],
                mcal=[run["cost"][service] for run in mcal.values()],
                title=title,
                **alone,
            )
        first = mcal.get(0)
        if first and len(first["rounds"]) > 2:
            name = first.get("candidate")
            rounds = first["rounds"]
            chosen = [r for r in rounds if r.get("model", r.get("candidate")) == name]
            course = drawn.course(chosen, title=f"{title}, seed 0", **alone)
            found[f"course-{service}"] = course
    return found
