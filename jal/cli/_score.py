"""`jal score`: which function scores which pool, and what came of it."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer

from jal import acquisition, learners, scorers, scoring
from jal.cli._output import check_folder, kind, print_table, refuse, write_csv
from jal.scoring import _journal, _ranking
from jal.types import Outputs


class Entry(NamedTuple):
    """A line of `jal acquisitions`.

    Attributes:
      needs: what a model has to give.
      fewest: the fewest predictions S that tell items apart; 0 for one `Outputs` as it
        is, None where `jal score` cannot compute it.
      bounds: of the scores.
      formula: in a line.
      paper: who thought of it.
    """

    needs: str
    fewest: int | None
    bounds: str
    formula: str
    paper: str


TABLE = {
    "entropy": Entry("logits", 1, "[0, ln C]", "H[mean p]", "Gal et al. 2017"),
    "bald": Entry(
        "logits, S >= 2",
        2,
        "[0, ln C]",
        "H[mean p] - mean H[p]",
        "Houlsby et al. 2011",
    ),
    "mean_std": Entry(
        "logits, S >= 2",
        2,
        "[0, 1/2]",
        "mean over c of the std of p_c",
        "Gal et al. 2017",
    ),
    "margin": Entry("logits", 1, "[0, 1]", "1 - (p_1 - p_2)", "Scheffer et al. 2001"),
    "least_confidence": Entry(
        "logits", 1, "[0, 1 - 1/C]", "1 - p_1", "Lewis and Gale 1994"
    ),
    "variation_ratio": Entry(
        "logits, S >= 2",
        2,
        "[0, 1 - 1/C]",
        "1 - votes for the mode / S",
        "Gal et al. 2017",
    ),
    "predicted_loss": Entry(
        "loss_score", 0, "any number", "loss_score as it is", "Yoo and Kweon 2019"
    ),
    "shift": Entry(
        "two models",
        None,
        "[-1, 1]",
        "(g' - g) / (g' + g)",
        "Aggarwal et al. 2021",
    ),
}

SCORABLE = [name for name, entry in TABLE.items() if entry.fewest is not None]


def check_score(name: str, out: Path, resume: bool) -> None:
    """What can be known to be wrong before anything is loaded."""
    if name not in TABLE:
        raise ValueError(f"--acquisition {name!r}; allowed are {', '.join(SCORABLE)}")
    if name not in SCORABLE:
        raise ValueError(
            f"--acquisition {name} compares two successive models, which jal score "
            "does not have: call jal.acquisition.shift with the gaps of both"
        )
    if out.suffix != ".npy":
        raise ValueError(f"--out {out}: expected a name that ends in .npy")
    check_folder(out)
    try:
        _journal.state_of(out, {}, resume=resume)
    except FileExistsError as error:
        raise ValueError(
            f"--out {out}: there is something already; go on with it by --resume, "
            "remove it, or choose another name"
        ) from error


def job(model, pool, name, members, *, passes, masks, batch_size):
    """(scorer, predict, source, what identifies the run)."""
    config: dict[str, Any] = {"model": model, "acquisition": name}
    stochastic = dict(passes=passes, masks=masks, batch_size=batch_size)
    if model == "logits":
        refuse("the logits are predictions already", members=members, **stochastic)
        source = _open_pool(pool, items_axis=1)
        return _score_logits(name, source), None, source, config
    source = _open_pool(pool, items_axis=0)
    predict, variables = _load_model(model)
    function: Any = getattr(acquisition, name)
    if TABLE[name].fewest == 0:
        stochastic["passes"] = passes or None
        refuse(f"{name} is one prediction", members=members, **stochastic)
        scorer = scorers.output("loss_score")
    elif members:
        refuse("--members is one pass of each member", **stochastic)
        _check_number(name, _num_members(variables), "members")
        predict = learners.stacked(predict)
        scorer = scorers.members(function)
        config |= {"members": True}
    elif passes == 0:
        refuse("--passes 0 has no dropout", masks=masks, batch_size=batch_size)
        _check_number(name, 1, "prediction without dropout")
        scorer = scorers.deterministic(function)
        config |= {"passes": 0}
    else:
        passes, masks = passes or 100, masks or "shared"
        if masks not in ("shared", "independent"):
            raise ValueError(f"--masks {masks!r}; allowed are shared, independent")
        _check_number(name, passes, "passes")
        scorer = scorers.passes(function, passes, masks, batch_size)
        config |= {"passes": passes, "masks": masks}
    return scorer, jax.tree_util.Partial(predict, variables), source, config


def _check_number(name: str, number: int, what: str) -> None:
    if number < (TABLE[name].fewest or 1):
        raise ValueError(
            f"--acquisition {name} compares predictions, and with {number} {what} it "
            "is 0 for every item; use 2 or more, or entropy, margin or least_confidence"
        )


def _score_logits(name: str, source: scoring.Source) -> Callable:
    if TABLE[name].fewest == 0:
        raise ValueError(
            f"--acquisition {name} needs a model that returns Outputs(loss_score=...)"
        )
    first = source.read(0, 1)
    if np.ndim(first) != 3:
        raise ValueError(
            f"POOL has {np.ndim(first)} axes; expected logits [S, N, C] "
            "(logits[None] if there is one prediction for each item)"
        )
    _, number, classes = np.shape(first)
    if not jnp.issubdtype(first.dtype, jnp.floating):
        raise ValueError(f"POOL holds {first.dtype}; expected logits, floating point")
    _check_classes(classes, "POOL")
    _check_number(name, number, "predictions for each item")
    return scorers.logits(getattr(acquisition, name))


def _check_classes(classes: int, whose: str) -> None:
    if classes < 2:
        raise ValueError(
            f"{whose} has logits of {classes} classes; expected 2 or more (of a binary "
            "model with a logit z, the two logits 0 and z)"
        )


def _load_model(model: str) -> tuple[Callable[..., Outputs], Any]:
    """(predict, variables), with a `predict` that names its mistakes."""
    made = call_function(model, "MODEL")
    if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0])):
        raise ValueError(
            f"{model}() returned {kind(made)}; expected the pair (predict, variables)"
        )
    user_predict, variables = made
    for leaf in jax.tree.leaves(variables):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
            raise ValueError(
                f"{model}() returned variables that hold {kind(leaf)}; expected a "
                "pytree of arrays"
            )

    def predict(variables, x, key=None):
        arguments = (variables, x) if key is None else (variables, x, key)
        _check_takes(user_predict, arguments, f"{model}: predict(variables, x, key)")
        with _blamed(f"predict of {model}"):
            outputs = user_predict(*arguments)
        if not isinstance(outputs, Outputs):
            raise ValueError(
                f"predict of {model} returned {kind(outputs)}; expected "
                "jal.types.Outputs(logits=...)"
            )
        if outputs.logits is not None:
            if jnp.ndim(outputs.logits) != 2:
                raise ValueError(
                    f"predict of {model} returned logits of shape "
                    f"{jnp.shape(outputs.logits)}; expected [B, C]"
                )
            _check_classes(outputs.logits.shape[1], f"predict of {model}")
        return outputs

    return predict, variables


def _num_members(variables: Any) -> int:
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(variables)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            "--members: the leaves of the variables do not begin with one axis of the "
            f"same length, but with {sorted(sizes)}; stack the members with "
            "jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)"
        )
    return sizes.pop()[0]


def _open_pool(pool: str, *, items_axis: int) -> scoring.Source:
    if ":" not in pool or pool.endswith(".npy") or Path(pool).exists():
        return scoring.open_source(pool, items_axis=items_axis)
    made = call_function(pool, "POOL")
    try:
        source = scoring.open_source(made, items_axis=items_axis)
    except TypeError as error:
        raise ValueError(f"{pool}(): {error}") from error

    def read(start, stop):
        with _blamed(f"reading items {start} to {stop - 1} of {pool}"):
            return source.read(start, stop)

    return scoring.Source(source.length, read)


def call_function(reference: str, argument: str) -> Any:
    """What the function returns that MODULE:FUNCTION or FILE.py:FUNCTION names."""
    place, _, name = reference.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not name.isidentifier() or not (is_module or place.endswith(".py")):
        alternatives = {"MODEL": "the word logits", "POOL": "a .npy file or a folder"}
        instead = alternatives.get(argument, "leave it out")
        raise ValueError(
            f"{argument} {reference!r}; expected MODULE:FUNCTION, FILE.py:FUNCTION or "
            f"{instead}"
        )
    module = _import(place, argument)
    function = getattr(module, name, None)
    if not callable(function):
        there = [
            other
            for other, member in vars(module).items()
            if inspect.isfunction(member) and member.__module__ == module.__name__
        ]
        raise ValueError(
            f"{argument} {reference!r}: {place} has no function {name!r}, only "
            f"{', '.join(there) or 'none at all'}"
        )
    _check_takes(function, (), f"{reference}()")
    with _blamed(f"{reference}()"):
        return function()


def _check_takes(function: Callable, arguments: tuple, call: str) -> None:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise ValueError(f"{call} is how jal calls it, but: {error}") from error


def _import(place: str, argument: str) -> Any:
    """The module of that name, or of that file."""
    folders, name = [Path.cwd()], place
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise ValueError(f"{argument}: there is no file {path}")
        # Like a script, a file can import what stands beside it.
        folders, name = [path.parent, *folders], str(path)
    for folder in reversed(folders):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    if name in sys.modules:
        return sys.modules[name]
    try:
        if not place.endswith(".py"):
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, name)
        assert spec is not None and spec.loader is not None
        # Dataclasses look their module up while they are made.
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ImportError as error:
        if f"{place}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{argument}: there is no module {error.name!r}, neither in "
                f"{folders[0]} nor installed"
            ) from error
        raise ValueError(f"{argument}: importing {place}: {error}") from error


def report_scores(result: scoring.PoolScores, out: Path, name: str) -> None:
    """The closing summary; the highest also go to a CSV file."""
    scores = result.scores
    summary = f"{len(scores)} items scored by {name}"
    if result.num_nan < len(scores):
        low, mean, high = _range_of(scores)
        summary += f": min {low:.4g}, mean {mean:.4g}, max {high:.4g}"
    if result.num_nan:
        more = ", ..." if result.num_nan > len(result.nan_indices) else ""
        nan = f"{result.num_nan} NaN (items {str(result.nan_indices)[1:-1]}{more})"
        summary += f", {nan}"
        typer.echo(f"Warning: {nan}; they are never chosen", err=True)
    print(summary)
    print(f"wrote {out}")
    if len(result.indices):
        best = result.indices[result.indices >= 0]
        rows = [("index", "score"), *((index, scores[index]) for index in best)]
        path = out.with_suffix(".top.csv")
        write_csv(path, rows)
        print(f"wrote {path}")
        print_table(rows)


def _range_of(scores: np.ndarray) -> tuple[float, float, float]:
    """Minimum, mean and maximum of what is not NaN, a block at a time."""
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    for start in range(0, len(scores), _ranking.BLOCK):
        block = scores[start : start + _ranking.BLOCK]
        block = block[~np.isnan(block)]
        low, high = min(low, block.min(initial=low)), max(high, block.max(initial=high))
        total, count = total + block.sum(dtype=np.float64), count + len(block)
    return low, total / count, high


@contextlib.contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Names the user's function that failed; the traceback shows where."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{what} failed: {error}") from error
