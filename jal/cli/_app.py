"""The command line: `jal score`, `select`, `plan`, `init`, `ask`, `tell`, ..."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
from jax.sharding import Mesh

from jal import scoring

try:
    import typer
except ImportError as missing:
    sys.exit(f"Error: the command line needs typer ({missing}): pip install 'jal[cli]'")

from jal.cli import _label
from jal.cli._hosts import (
    CHILD,
    device_errors,
    is_distributed,
    join,
    supervised,
    work_for_parent,
)
from jal.cli._output import columns, mistakes_in_one_line
from jal.cli._plan import make_plan
from jal.cli._score import TABLE, check_score, job, report_scores
from jal.cli._select import METHODS, choose_items

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SCORE_HELP = """Score a pool with a model; higher = label it.

MODEL is MODULE:FUNCTION (a module of this folder, or installed) or FILE.py:FUNCTION.
FUNCTION() returns (predict, variables), where predict(variables, x [B, ...], key=None)
returns jal.types.Outputs(logits=[B, C]); with a key, dropout is on. Predictions made
elsewhere need no model: the word logits stands for it, and POOL holds logits [S, N, C].

POOL is a .npy file [N, ...], a folder of such files (shards, in the order of the
numbers in their names), or MODULE:FUNCTION or FILE.py:FUNCTION that returns a source:
arrays, or anything with a length and integer indices (TFDS, Grain, ArrayRecord).

All devices of this machine are used. Killed at any moment, the same command with
--resume goes on, and ends with the same scores.

\b
Example, with mymodel.py in this folder:
  import numpy as np
  from flax.traverse_util import unflatten_dict
  from jal import scoring
\b
  def trained():
      example = np.zeros((1, 28, 28), np.uint8)
      _, apply = networks.from_linen(networks.small_cnn(), example)
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
      return sources.open_source(source, prepare=lambda batch: batch["image"])

\b
  jal score mymodel:trained pool.npy --acquisition bald --out scores.npy --top 1000
  jal score mymodel:trained mymodel:mnist --acquisition bald --out mnist.npy
  jal score logits logits.npy --acquisition entropy --out entropy.npy

Several hosts: the same command on each, with its own --process-id, the address of
process 0, and --out in a folder that all of them see.

\b
  jal score mymodel:trained pool.npy --acquisition bald --out shared/scores.npy \\
    --coordinator $HOST:1234 --num-processes 2 --process-id 0
"""

SELECT_HELP = """Choose which items to label, from the scores of a pool.

SCORES is a .npy file [N], higher = label it, as jal score writes it; NaN is never
chosen. With --costs items are compared by v = score^alpha / cost^beta, otherwise by
their scores. The items go to a CSV file, in the order chosen, with the columns index,
score, cost and cumulative_cost.

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
  jal select scores.npy -k 100 --method k-center --features features.npy \\
    --labeled labeled.npy --out batch.csv
"""

PLAN_HELP = """Plan the labelling of a whole pool at minimum cost, before paying for it.

From the errors of a model at a few training sizes, and the prices of labels and of
training, says how many labels to train on, which share of the pool the model then
labels, and what all of it costs: the plan of MCAL. Writes the cost curve as a plot.

--errors is a CSV file with the columns size, theta, tested and errors: trained on so
many labels, of the most confident share theta of the test set so many items were looked
at, and so many of them were wrong. Three sizes are needed for a law, and the test set
should be large enough for errors to be counted: some thousands.

\b
Example:
  size,theta,tested,errors
  600,0.25,750,12
  600,0.5,1500,90
  1200,0.25,750,5
  1200,0.5,1500,61
  1800,0.25,750,3
  1800,0.5,1500,45
\b
  jal plan --pool 60000 --price 0.04 --max-error 0.05 --errors profile.csv \\
    --training-price 0.0003 --out plan.png

With SESSION, a folder of jal init, pool and errors are those measured there on the
labels of jal ask --test:

\b
  jal plan mylab --price 0.04 --max-error 0.05
"""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"jal {sys.modules['jal'].__version__}")
        raise typer.Exit


@app.callback()
def _jal(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Deep active learning: which items of a pool to label next."""


@app.command("score", help=SCORE_HELP)
def _score(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="MODULE:FUNCTION, FILE.py:FUNCTION, or logits."
        ),
    ],
    pool: Annotated[
        str,
        typer.Argument(
            metavar="POOL", help="A .npy file, a folder of them, or a function."
        ),
    ],
    name: Annotated[
        str, typer.Option("--acquisition", help="A name of jal acquisitions.")
    ],
    out: Annotated[Path, typer.Option(help="The .npy file for the scores.")],
    passes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="S, passes with dropout; 0: one prediction without it. Default: 100.",
        ),
    ] = None,
    masks: Annotated[
        str | None,
        typer.Option(
            help="Dropout masks of a pass: shared by all items, which is fast, or "
            "independent. Default: shared."
        ),
    ] = None,
    members: Annotated[
        bool,
        typer.Option(
            "--members",
            help="The variables are those of an ensemble, members first in each leaf.",
        ),
    ] = False,
    chunk_size: Annotated[
        int, typer.Option(min=1, help="Items at a time, on all devices together.")
    ] = 1000,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Items of a chunk at a time; saves device memory."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the dropout masks.")] = 0,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Write the highest to a .top.csv beside --out."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what there is at --out.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of process 0, for several hosts.")
    ] = None,
    num_processes: Annotated[
        int | None, typer.Option(min=1, help="How many hosts there are.")
    ] = None,
    process_id: Annotated[
        int | None, typer.Option(min=0, help="Which of them this is: 0, 1, ...")
    ] = None,
    heartbeat_timeout: Annotated[
        int, typer.Option(min=10, help="Seconds until a silent host counts as lost.")
    ] = 30,
) -> None:
    with mistakes_in_one_line("; what is scored is kept, and --resume goes on"):
        distributed = is_distributed(coordinator, num_processes, process_id)
        if distributed and CHILD not in os.environ:
            raise typer.Exit(supervised([sys.executable, "-m", "jal", *sys.argv[1:]]))
        check_score(name, out, resume)
        if distributed:
            join(coordinator, num_processes, process_id, heartbeat_timeout)
        stochastic = dict(passes=passes, masks=masks, batch_size=batch_size)
        scorer, predict, source, config = job(model, pool, name, members, **stochastic)
        if top is not None and top > source.length:
            raise ValueError(f"--top {top}: the pool has only {source.length} items")
        with device_errors(distributed, chunk_size), warnings.catch_warnings():
            # The summary says it, and in a line.
            warnings.filterwarnings("ignore", ".*are NaN and never chosen")
            result = scoring.score_pool(
                scorer,
                predict,
                source,
                key=jax.random.key(seed),
                chunk_size=chunk_size,
                mesh=Mesh(np.array(jax.devices()), ("pool",)),
                out=out,
                resume=resume,
                top_k=top,
                progress=not quiet,
                config=config,
            )
        if jax.process_index() == 0:
            report_scores(result, out, name)


@app.command("select", help=SELECT_HELP)
def _select(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="The .npy file of the scores, [N].")
    ],
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, help="How many items; with --budget at most."),
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="Cost of each item, [N], in any unit.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Exponent of the score, >= 0. Default: 1.")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Exponent of the cost, >= 0. Default: 1.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Buy by descending value what fits, in the unit of --costs."),
    ] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "top-k",
    features: Annotated[
        Path | None, typer.Option(help="Features, [N, D]; only some rows are read.")
    ] = None,
    probabilities: Annotated[
        Path | None, typer.Option(help="Predicted probabilities, [N, C].")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="Group of each item, [N] integers.")
    ] = None,
    labeled: Annotated[
        Path | None,
        typer.Option(
            help="What is labelled and never chosen: indices, or a mask [N] of bools."
        ),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="k-center and badge choose from this many of the highest values; 0: "
            "all. Default: 10 k, at least 1000.",
        ),
    ] = None,
    exponent: Annotated[
        float | None, typer.Option(help="Of power, >= 0. Default: 1.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of power and badge.")] = 0,
    out: Annotated[
        Path, typer.Option(help="CSV file, replaced if it exists; -: standard output.")
    ] = Path("-"),
) -> None:
    with mistakes_in_one_line():
        choose_items(
            scores,
            k=k,
            costs=costs,
            alpha=alpha,
            beta=beta,
            budget=budget,
            method=method,
            features=features,
            probabilities=probabilities,
            groups=groups,
            labeled=labeled,
            candidates=candidates,
            exponent=exponent,
            seed=seed,
            out=out,
        )


@app.command("plan", help=PLAN_HELP)
def _plan(
    price: Annotated[float, typer.Option(help="Of a label, in USD.")],
    session: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SESSION]", help="Folder whose measured errors are used."
        ),
    ] = None,
    pool: Annotated[
        int | None, typer.Option(min=1, help="How many items there are.")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option(help="The CSV file of measured errors.")
    ] = None,
    max_error: Annotated[
        float, typer.Option(help="Greatest share of wrong labels.")
    ] = 0.05,
    training_price: Annotated[
        float, typer.Option(help="Of a training image, all epochs together, in USD.")
    ] = 0.0,
    test_size: Annotated[
        int | None,
        typer.Option(min=1, help="Labels of the test set. Default: the most tested."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Labels bought a round. Default: 1 % of the pool."),
    ] = None,
    constraint: Annotated[
        str,
        typer.Option(
            help="What must be below --max-error: overall, or set (the model's)."
        ),
    ] = "overall",
    theta_base: Annotated[
        str, typer.Option(help="What theta is a share of: pool, or remaining.")
    ] = "pool",
    confidence: Annotated[
        float | None,
        typer.Option(help="Use Wilson's upper bound of errors: z, such as 1.645."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Fit a power law without truncation.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The plot, a .png file.")] = Path(
        "plan.png"
    ),
    as_json: _label.Json = False,
) -> None:
    with mistakes_in_one_line():
        make_plan(
            session,
            pool,
            price,
            max_error,
            errors,
            training_price_per_image=training_price,
            test_size=test_size,
            batch=batch,
            truncated=not plain,
            out=out,
            as_json=as_json,
            constraint=constraint,
            theta_base=theta_base,
            confidence=confidence,
        )


app.add_typer(_label.app)


@app.command("acquisitions")
def _acquisitions() -> None:
    """List the acquisition functions: needs, range, formula, paper.

    Example: jal acquisitions
    """
    heads = ("name", "needs", "range", "formula", "paper")
    rows = [(name, e.needs, e.bounds, e.formula, e.paper) for name, e in TABLE.items()]
    print(columns([heads, *rows], str.ljust))
    print(
        "\nHigher = label it. S predictions of C classes: passes with dropout, members "
        "of an ensemble,\nor logits made elsewhere. p_1 >= p_2: the two highest of the "
        "mean p. H: entropy in nats.\nNot for jal score: shift, where g' and g are p_1 "
        "- p_2 of the last model and of this one."
    )


def main() -> None:
    """Runs the command line with the arguments of this process.

    Raises:
      SystemExit: at the end, with the exit code.

    >>> from typer.testing import CliRunner
    >>> CliRunner().invoke(app, ["--version"]).stdout.split()[0]
    'jal'
    """
    if CHILD in os.environ:
        work_for_parent(app)
    else:
        app()
