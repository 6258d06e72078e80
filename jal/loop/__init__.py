"""The active-learning loop: one round, the scan that runs it, the same in segments.

- `run`: Runs the whole loop as one `lax.scan` of rounds + 1 steps.
- `make_step`: Builds the two pure functions of the loop.
- `check`: Checks the shapes, and the values of arrays that are not traced, of a run.
- `State`: All that one round hands to the next.
- `RoundInfo`: What happened in one round; `run` stacks R + 1 of them.
- `drive`: Runs the loop `segment` rounds at a time, and survives being killed.
- `start`: What the first round begins with.
- `fit`: Trains on the labelled items.
- `price`: Learns what a label costs from those bought, and predicts it for candidates.
- `choose`: Lets a strategy pick, and counts what it had to pick from.
- `Carried`: What one round hands to the next, beside the labelled set.
- `round_key`: The key of one purpose in one round.
"""

from jal._core.files import RUN_FILE
from jal.loop._drive import ROUNDS_FILE, drive
from jal.loop._round import (
    COST,
    FIT,
    INITIAL,
    PROPOSAL,
    STRATEGY,
    Carried,
    choose,
    fit,
    price,
    round_key,
    start,
)
from jal.loop._run import RoundInfo, State, check, make_step, run

# fmt: off
__all__ = [
    "Carried", "check", "choose", "COST", "drive", "fit", "FIT", "INITIAL", "make_step",
    "price", "PROPOSAL", "round_key", "RoundInfo", "ROUNDS_FILE", "run", "RUN_FILE",
    "start", "State", "STRATEGY",
]
# fmt: on
