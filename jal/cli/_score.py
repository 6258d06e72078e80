"""`jal score`: scores of a pool by a model, higher = label it."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jax.sharding import Mesh
from jax.tree_util import Partial
from typer import Argument, Option

from jal import acquisition, learners, scorers, scoring, session
from jal._core import files, references
from jal.cli._hosts import CHILD, device_errors, is_distributed, join, supervised
from jal.cli._options import SIZE
from jal.cli._output import (
    SHOWN,
    check_folder,
    mistakes_in_one_line,
    print_table,
    refuse,
)
from jal.types import Outputs

FACTS = {fact.function.__name__: fact for fact in acquisition.FACTS}
SCORABLE = [name for name, fact in FACTS.items() if fact.needs != "two models"]
PASSES = 100

Model = Annotated[
    str, Argument(metavar="MODEL", help="MODULE:FUNCTION, FILE.py:FUNCTION, or logits.")
]
Pool = Annotated[
    str,
    Argument(
        metavar="POOL",
        help="A .npy file, a folder of them or of images, or a function.",
    ),
]
Name = Annotated[str, Option("--acquisition", help="A name of jal acquisitions.")]
Out = Annotated[Path, Option(help="The .npy file for the scores.")]
Passes = Annotated[
    int | None,
    Option(
        min=0,
        help="S, passes with dropout; 0: one prediction without it. "
        f"Default: {PASSES}.",
    ),
]
Masks = Annotated[
    str | None,
    Option(
        help="Dropout masks of a pass: shared by all items, which is fast, or "
        "independent. Default: shared."
    ),
]
Members = Annotated[
    bool,
    Option(
        "--members",
        help="The variables are those of an ensemble, members first in each leaf.",
    ),
]
ChunkSize = Annotated[
    int, Option(min=1, help="Items at a time, on all devices together.")
]
BatchSize = Annotated[
    int | None, Option(min=1, help="Items of a chunk at a time; saves device memory.")
]
Seed = Annotated[int, Option(min=0, help="Of the dropout masks.")]
Top = Annotated[
    int | None, Option(min=1, help="Write the highest to a .top.csv beside --out.")
]
Resume = Annotated[bool, Option("--resume", help="Go on with what there is at --out.")]
Quiet = Annotated[bool, Option("--quiet", help="No progress bar.")]
Coordinator = Annotated[
    str | None, Option(help="HOST:PORT of process 0, for several hosts.")
]
Processes = Annotated[int | None, Option(min=1, help="How many hosts there are.")]
Process = Annotated[int | None, Option(min=0, help="Which of them this is: 0, 1, ...")]
Timeout = Annotated[
    int, Option(min=10, help="Seconds until a silent host counts as lost.")
]


class Job(NamedTuple):
    """What scores what.

    Attributes:
      scorer: of `jal.scorers`.
      predict: a `Partial`, or None where there are predictions already.
      source: of the items.
      config: what identifies the run.
      names: of the items of a folder of images, else None.
    """

    scorer: Callable
    predict: Callable | None
    source: scoring.Source
    config: dict[str, Any]
    names: list[str] | None = None


@mistakes_in_one_line("; what is scored is kept, and --resume goes on")
def score(
    model: Model,
    pool: Pool,
    name: Name,
    out: Out,
    size: Annotated[int | None, SIZE] = None,
    passes: Passes = None,
    masks: Masks = None,
    members: Members = False,
    chunk_size: ChunkSize = 1000,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    top: Top = None,
    resume: Resume = False,
    quiet: Quiet = False,
    coordinator: Coordinator = None,
    num_processes: Processes = None,
    process_id: Process = None,
    heartbeat_timeout: Timeout = 30,
) -> None:
    r"""Score a pool with a model; higher = label it.

    MODEL is MODULE:FUNCTION (a module of this folder, or installed) or
    FILE.py:FUNCTION. FUNCTION() returns (predict, variables), where predict(variables,
    x [B, ...], key=None) returns jal.types.Outputs(logits=[B, C]); with a key, dropout
    is on. Predictions made elsewhere need no model: the word logits stands for it, and
    POOL holds logits [S, N, C].

    POOL is a .npy file [N, ...], a folder of such files (shards, in the order of the
    numbers in their names), a folder of images, read as jal init reads it, or
    MODULE:FUNCTION or FILE.py:FUNCTION that returns a source: arrays, or anything with
    a length and integer indices (TFDS, Grain, ArrayRecord).

    All devices of this machine are used. Killed at any moment, the same command with
    --resume goes on, and ends with the same scores.

    \b
    Example, with mymodel.py in this folder:
      import numpy as np
      from flax.traverse_util import unflatten_dict
      from jal import nn, scoring
    \b
      def trained():
          example = np.zeros((1, 28, 28), np.uint8)
          _, apply = nn.from_linen(nn.small_cnn(), example)
    \b
          def predict(params, x, key=None):
              return apply(params, {}, x, key)[0]
    \b
          return predict, unflatten_dict(dict(np.load("weights.npz")), sep="/")
    \b
      def mnist():
          import tensorflow_datasets as tfds
    \b
          source = tfds.data_source("mnist", split="train")
          return scoring.open_source(source, prepare=lambda batch: batch["image"])

    \b
      jal score mymodel:trained pool.npy --acquisition bald --out scores.npy --top 1000
      jal score mymodel:trained photos/ --size 64 --acquisition bald --out photos.npy
      jal score mymodel:trained mymodel:mnist --acquisition bald --out mnist.npy
      jal score logits logits.npy --acquisition entropy --out entropy.npy

    Several hosts: the same command on each, with its own --process-id, the address of
    process 0, and --out in a folder that all of them see.

    \b
      jal score mymodel:trained pool.npy --acquisition bald --out shared/scores.npy \
        --coordinator $HOST:1234 --num-processes 2 --process-id 0
    """
    distributed = is_distributed(coordinator, num_processes, process_id)
    if distributed and CHILD not in os.environ:
        raise typer.Exit(supervised([sys.executable, "-m", "jal", *sys.argv[1:]]))
    _check(name, out, resume)
    if distributed:
        join(coordinator, num_processes, process_id, heartbeat_timeout)
    stochastic = dict(passes=passes, masks=masks, batch_size=batch_size)
    job = _job(model, pool, size, name, members, **stochastic)
    if top is not None and top > job.source.length:
        raise ValueError(f"--top {top}: the pool has only {job.source.length} items")
    with device_errors(distributed, chunk_size), warnings.catch_warnings():
        # The summary says it, and in a line.
        warnings.filterwarnings("ignore", ".*are NaN and never chosen")
        result = scoring.score_pool(
            job.scorer,
            job.predict,
            job.source,
            key=jax.random.key(seed),
            chunk_size=chunk_size,
            mesh=Mesh(np.array(jax.devices()), ("pool",)),
            out=out,
            resume=resume,
            top_k=top,
            progress=not quiet,
            config=job.config,
        )
    if jax.process_index() == 0:
        _report(result, out, name, job.names)


def _check(name: str, out: Path, resume: bool) -> None:
    """What can be known to be wrong before anything is loaded."""
    if name not in FACTS:
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
        scoring.state_of(out, {}, resume=resume)
    except FileExistsError as error:
        raise ValueError(
            f"--out {out}: there is something already; go on with it by --resume, "
            "remove it, or choose another name"
        ) from error


def _job(model, pool, size, name, members, *, passes, masks, batch_size) -> Job:
    """What the options mean, as far as they mean something together."""
    config: dict[str, Any] = {"model": model, "acquisition": name}
    stochastic = dict(passes=passes, masks=masks, batch_size=batch_size)
    if model == "logits":
        refuse("the logits are predictions already", members=members, **stochastic)
        refuse("POOL holds logits", size=size)
        source = _open_pool(pool, items_axis=1)
        return Job(_score_logits(name, source), None, source, config)
    names = None
    if Path(pool).is_dir() and not any(Path(pool).glob("*.npy")):
        config["size"] = size = size or session.IMAGE_SIZE
        source, names = _open_images(pool, size)
    else:
        refuse("POOL is no folder of images", size=size)
        source = _open_pool(pool, items_axis=0)
    predict, variables = _load_model(model)
    function: Any = getattr(acquisition, name)
    if FACTS[name].needs == "loss_score":
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
        passes, masks = passes or PASSES, masks or "shared"
        if masks not in ("shared", "independent"):
            raise ValueError(f"--masks {masks!r}; allowed are shared, independent")
        _check_number(name, passes, "passes")
        scorer = scorers.passes(function, passes, masks, batch_size)
        config |= {"passes": passes, "masks": masks}
    return Job(scorer, Partial(predict, variables), source, config, names)


def _check_number(name: str, number: int, what: str) -> None:
    if number < 2 and "S >= 2" in FACTS[name].needs:
        raise ValueError(
            f"--acquisition {name} compares predictions, and with {number} {what} it "
            "is 0 for every item; use 2 or more, or entropy, margin or least_confidence"
        )


def _score_logits(name: str, source: scoring.Source) -> Callable:
    if FACTS[name].needs == "loss_score":
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
    made = references.call(model, "MODEL", instead="the word logits")
    if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0])):
        raise ValueError(
            f"{model}() returned a {type(made).__name__}; expected the pair (predict, "
            "variables)"
        )
    user_predict, variables = made
    for leaf in jax.tree.leaves(variables):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
            raise ValueError(
                f"{model}() returned variables that hold a {type(leaf).__name__}; "
                "expected a pytree of arrays"
            )

    def predict(variables, x, key=None):
        arguments = (variables, x) if key is None else (variables, x, key)
        references.check_takes(
            user_predict, arguments, f"{model}: predict(variables, x, key)"
        )
        with references.blamed(f"predict of {model}"):
            outputs = user_predict(*arguments)
        if not isinstance(outputs, Outputs):
            raise ValueError(
                f"predict of {model} returned a {type(outputs).__name__}; expected "
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
    made = references.call(pool, "POOL", instead="a .npy file or a folder")
    try:
        source = scoring.open_source(made, items_axis=items_axis)
    except TypeError as error:
        raise ValueError(f"{pool}(): {error}") from error

    def read(start, stop):
        with references.blamed(f"reading items {start} to {stop - 1} of {pool}"):
            return source.read(start, stop)

    return scoring.Source(source.length, read)


def _open_images(folder: str, size: int) -> tuple[scoring.Source, list[str]]:
    """Images that are decoded as they are needed, and their names."""
    try:
        paths = session.image_files(folder)
    except ValueError as error:
        raise ValueError(f"{error}, nor a .npy file") from error
    read = lambda start, stop: session.read_images(paths[start:stop], size)
    names = [path.relative_to(folder).as_posix() for path in paths]
    return scoring.Source(len(paths), read), names


def _report(
    result: scoring.PoolScores, out: Path, name: str, names: list[str] | None
) -> None:
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
        heads, rows = ["index", "score"], [(index, scores[index]) for index in best]
        if names is not None:
            heads.append("name")
            rows = [(*row, names[row[0]]) for row in rows]
        path = out.with_suffix(".top.csv")
        files.write_table(path, [heads, *rows])
        print(f"wrote {path}")
        print_table(heads, rows, shown=SHOWN)


def _range_of(scores: np.ndarray) -> tuple[float, float, float]:
    """Minimum, mean and maximum of what is not NaN; the file is not copied."""
    mean = scores.mean(where=~np.isnan(scores), dtype=np.float64)
    return np.fmin.reduce(scores), mean, np.fmax.reduce(scores)
