"""`jal select`: from files of scores, costs and features to a batch."""

import csv
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
from typer import Argument, Option

from jal import cost, selection
from jal._core import files
from jal.cli._options import by_its_name
from jal.cli._output import (
    SHOWN,
    STDOUT,
    check_folder,
    mistakes_in_one_line,
    option,
    print_table,
    refuse,
)

# The options that each method of `jal select` needs, and those that it may have.
METHODS: dict[str, tuple[set[str], set[str]]] = {
    "top-k": (set(), set()),
    "power": (set(), {"exponent"}),
    "diversify": ({"groups"}, set()),
    "k-center": ({"features"}, {"candidates"}),
    "badge": ({"features", "probabilities"}, {"candidates"}),
}

Scores = Annotated[
    Path, Argument(metavar="SCORES", help="The .npy file of the scores, [N].")
]
Number = Annotated[
    int | None, Option("-k", min=1, help="How many items; with --budget at most.")
]
Costs = Annotated[Path | None, Option(help="Cost of each item, [N], in any unit.")]
Alpha = Annotated[float | None, Option(help="Exponent of the score, >= 0. Default: 1.")]
Beta = Annotated[float | None, Option(help="Exponent of the cost, >= 0. Default: 1.")]
Budget = Annotated[
    float | None,
    Option(help="Buy by descending value what fits, in the unit of --costs."),
]
Method = Annotated[str, Option(callback=by_its_name, help=f"{', '.join(METHODS)}.")]
Features = Annotated[
    Path | None, Option(help="Features, [N, D]; only some rows are read.")
]
Probabilities = Annotated[Path | None, Option(help="Predicted probabilities, [N, C].")]
Groups = Annotated[Path | None, Option(help="Group of each item, [N] integers.")]
Labeled = Annotated[
    Path | None,
    Option(help="What is labelled and never chosen: indices, or a mask [N] of bools."),
]
Candidates = Annotated[
    int | None,
    Option(
        min=0,
        help="k-center and badge choose from this many of the highest values; 0: all. "
        "Default: 10 k, at least 1000.",
    ),
]
Exponent = Annotated[float | None, Option(help="Of power, >= 0. Default: 1.")]
Seed = Annotated[int, Option(min=0, help="Of power and badge.")]
Out = Annotated[
    Path, Option(help="CSV file, replaced if it exists; -: standard output.")
]


class _Items(NamedTuple):
    """What files say of the pool; None where there is no file."""

    score: np.ndarray
    cost: np.ndarray | None
    group: np.ndarray | None
    features: np.ndarray | None
    probabilities: np.ndarray | None
    is_labeled: np.ndarray

    @property
    def available(self) -> np.ndarray:
        return ~np.isnan(self.score) & ~self.is_labeled

    def describe(self) -> str:
        num_nan = (np.isnan(self.score) & ~self.is_labeled).sum()
        return (
            f"{self.available.sum()} items ({len(self.score)} in all, "
            f"{self.is_labeled.sum()} of them labelled, {num_nan} with the score NaN)"
        )


def _check_method(method: str, **options: Any) -> None:
    """Raises ValueError for an option that is missing, or that has no effect."""
    if method not in METHODS:
        raise ValueError(f"--method {method!r}; allowed are {', '.join(METHODS)}")
    needed, allowed = METHODS[method]
    for name, value in options.items():
        if name in needed and value is None:
            raise ValueError(f"--method {method} needs {option(name)}")
        if name not in needed | allowed and value is not None:
            raise ValueError(
                f"{option(name)}: no effect with --method {method}; leave it out"
            )


def _check_number(k, budget, candidates, method) -> None:
    """Raises ValueError where it is not said how many items to choose, or twice."""
    if budget is not None and method != "top-k":
        raise ValueError(
            f"--budget buys by descending value, and cannot do so with --method "
            f"{method}; leave one of the two out"
        )
    if budget is None and k is None:
        raise ValueError("-k or --budget is needed: how many items to choose")
    if candidates and k and candidates < k:
        raise ValueError(f"--candidates {candidates} are fewer than -k {k}")


def _read_items(scores, costs, groups, features, probabilities, labeled) -> _Items:
    score = _load("SCORES", scores, "[N]")
    assert score is not None
    n = len(score)
    return _Items(
        score=score,
        cost=_load("--costs", costs, "[N]", n),
        group=_load("--groups", groups, "[N]", n, kinds="iu"),
        features=_load("--features", features, "[N, D]", n),
        probabilities=_load("--probabilities", probabilities, "[N, C]", n),
        is_labeled=_load_labeled(labeled, n),
    )


def _load(name, path, shape, length=None, kinds="iuf") -> np.ndarray | None:
    """A `.npy` file, mapped and not read; None for None."""
    if path is None:
        return None
    try:
        array = files.map_file(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{name} {error}") from error
    # Whoever has labelled nothing saves an empty list, of whatever dtype.
    if array.dtype.kind not in kinds and array.size:
        expected = "numbers" if "f" in kinds else "integers"
        raise ValueError(f"{name} {path} holds {array.dtype}; expected {expected}")
    if array.ndim != shape.count(",") + 1:
        raise ValueError(f"{name} {path} has shape {array.shape}; expected {shape}")
    if length is not None and len(array) != length:
        raise ValueError(
            f"{name} {path} is of {len(array)} items, and SCORES of {length}"
        )
    return array


def _load_labeled(path: Path | None, n: int) -> np.ndarray:
    """[N] bool, from indices or a mask."""
    labeled = _load("--labeled", path, "[n0] or [N]", kinds="biu")
    is_labeled = np.zeros(n, bool)
    if labeled is None or not labeled.size:
        return is_labeled
    if labeled.dtype == bool:
        if len(labeled) != n:
            raise ValueError(
                f"--labeled {path} is a mask of {len(labeled)} items, and SCORES of {n}"
            )
        return np.array(labeled)
    wrong = labeled[(labeled < 0) | (labeled >= n)]
    if wrong.size:
        raise ValueError(
            f"--labeled {path} holds {wrong[0]}; indices are between 0 and {n - 1}"
        )
    if len(np.unique(labeled)) < len(labeled):
        raise ValueError(
            f"--labeled {path} names items twice; a mask [N] must be saved as bool"
        )
    is_labeled[labeled] = True
    return is_labeled


def _check_items(items: _Items, method: str, beta: float) -> None:
    """Raises ValueError for scores and costs that mean nothing, where they count."""
    rules, costs = [], items.cost
    if costs is not None or method == "power":
        needed_by = "--method power" if costs is None else "--costs"
        score = items.score
        rules.append((score >= 0, "SCORES", score, f">= 0 for {needed_by}"))
    if costs is not None:
        usable = np.isfinite(costs) & (costs >= 0)
        rules.append((usable, "--costs", costs, ">= 0 and finite"))
        usable = (costs > 0) | (beta <= 0)
        rules.append((usable, "--costs", costs, "> 0, or --beta 0"))
    for usable, name, values, expected in rules:
        wrong = np.flatnonzero(items.available & ~usable)
        if len(wrong):
            value = values[wrong[0]]
            raise ValueError(
                f"{name}: item {wrong[0]} has {value}; expected {expected}"
            )


def _choose(items, value, k, method, *, exponent, candidates, seed) -> Any:
    """Pool indices by any of the methods, -1 where there are fewer than k."""
    key, available = jax.random.key(seed), jnp.asarray(items.available)
    if method == "top-k":
        return selection.top_k(value, k, available=available)
    if method == "power":
        return selection.power(key, value, k, exponent=exponent, available=available)
    if method == "diversify":
        groups = jnp.asarray(items.group, jnp.int64)
        return selection.diversify(value, groups, k, available=available)
    number = max(10 * k, 1000) if candidates is None else candidates or len(value)
    number = min(number, int(items.available.sum()))
    rows = np.sort(selection.top_k(value, number, available=available))
    if method == "badge":
        probabilities = _rows("--probabilities", items.probabilities, rows)
        off = np.abs(probabilities.sum(axis=1) - 1) > 0.01
        if off.any() or probabilities.min() < 0:
            raise ValueError(
                "--probabilities: those of an item are not >= 0 with the sum 1, e.g. "
                f"of item {rows[off.argmax()]}; apply softmax to logits first"
            )
        features = _rows("--features", items.features, rows)
        picks = selection.badge(
            key, jnp.asarray(probabilities), jnp.asarray(features), k
        )
    else:
        rows = np.union1d(rows, np.flatnonzero(items.is_labeled))
        features = _rows("--features", items.features, rows)
        centers = jnp.asarray(items.is_labeled[rows])
        picks = selection.k_center(jnp.asarray(features), k, centers=centers)
    return np.where(picks < 0, -1, rows[picks])


def _rows(name: str, array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows of a file, all that is read of it."""
    taken = np.asarray(array[rows], np.float32)
    wrong = ~np.isfinite(taken).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"{name}: item {rows[wrong.argmax()]} has values that are NaN or infinite"
        )
    return taken


def _report_choice(items, picks, requested, out) -> None:
    """The CSV file and a summary, which goes to stderr if the CSV goes to stdout."""
    heads = ("index", "score", "cost", "cumulative_cost")
    paid, costs, sums = "", [""] * len(picks), [""] * len(picks)
    if items.cost is not None:
        costs = items.cost[picks]
        # As many digits as the costs have, which are added up in float64.
        digits = 7 if costs.dtype in (np.float16, np.float32) else 15
        sums = [f"{sum:.{digits}g}" for sum in np.cumsum(costs, dtype=np.float64)]
        paid = f" at a cost of {sums[-1] if sums else 0}"
    rows = list(zip(picks, items.score[picks], costs, sums, strict=True))
    asked = f" of {requested} requested" if requested else ""
    summary = f"chose {len(picks)}{asked} from {items.describe()}{paid}"
    if out == STDOUT:
        csv.writer(sys.stdout, lineterminator="\n").writerows([heads, *rows])
        typer.echo(summary, err=True)
        return
    files.write_table(out, [heads, *rows])
    print(f"{summary}\nwrote {out}")
    shown = 4 if paid else 2
    print_table(heads[:shown], [row[:shown] for row in rows], shown=SHOWN)


@mistakes_in_one_line()
def select(
    scores: Scores,
    k: Number = None,
    costs: Costs = None,
    alpha: Alpha = None,
    beta: Beta = None,
    budget: Budget = None,
    method: Method = "top-k",
    features: Features = None,
    probabilities: Probabilities = None,
    groups: Groups = None,
    labeled: Labeled = None,
    candidates: Candidates = None,
    exponent: Exponent = None,
    seed: Seed = 0,
    out: Out = STDOUT,
) -> None:
    r"""Choose which items to label, from the scores of a pool.

    SCORES is a .npy file [N], higher = label it, as jal score writes it; NaN is never
    chosen. With --costs items are compared by v = score^alpha / cost^beta, otherwise by
    their scores. The items go to a CSV file, in the order chosen, with the columns
    index, score, cost and cumulative_cost.

    \b
    Methods:
      top-k      the highest values
      power      at random, with probability in proportion to value^exponent
      diversify  the best of each of the --groups, then the second best of each, ...
      k-center   far from each other and from --labeled in --features (core-set)
      badge      large and different gradients, by --features and --probabilities

    \b
    Example:
      jal select scores.npy -k 100 --labeled labeled.npy --out batch.csv
      jal select scores.npy --costs costs.npy --beta 0.3 --budget 5000 --out batch.csv
      jal select scores.npy -k 100 --method k-center --features features.npy \
        --labeled labeled.npy --out batch.csv
    """
    methods = dict(features=features, probabilities=probabilities, groups=groups)
    methods |= dict(candidates=candidates, exponent=exponent)
    _check_method(method, **methods)
    if costs is None:
        refuse("there are no --costs", alpha=alpha, beta=beta, budget=budget)
    _check_number(k, budget, candidates, method)
    check_folder(out)
    alpha, beta, exponent = (
        1.0 if number is None else number for number in (alpha, beta, exponent)
    )
    items = _read_items(scores, costs, groups, features, probabilities, labeled)
    _check_items(items, method, beta)
    offered = int(items.available.sum())
    if budget is None and k is not None and k > offered:
        raise ValueError(f"-k {k}: there are only {items.describe()}")
    at_most = min(k or offered, offered)
    # Files may hold float64, and a budget must hold to the last of its digits.
    with jax.enable_x64(True):
        value, price = jnp.asarray(items.score, jnp.float64), None
        if items.cost is not None:
            price = jnp.asarray(items.cost, jnp.float64)
            value = cost.cost_ratio(value, price, alpha=alpha, beta=beta)
        if budget is None:
            options = dict(exponent=exponent, candidates=candidates, seed=seed)
            picks = _choose(items, value, at_most, method, **options)
        else:
            assert price is not None
            offer = jnp.asarray(items.available)
            picks, _ = selection.within_budget(
                value, price, budget, max_k=at_most, available=offer
            )
    picks = np.asarray(picks)
    _report_choice(items, picks[picks >= 0], k, out)
