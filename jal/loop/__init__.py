"""The active-learning loop: one round, the scan that runs it, the same in segments.

- `State`: All that one round hands to the next.
- `RoundInfo`: What happened in one round; `run` stacks R + 1 of them.
- `round_key`: The key of one purpose in one round.
- `make_step`: Builds the two pure functions of the loop.
- `run`: Runs the whole loop as one `lax.scan` of rounds + 1 steps.
- `check`: Checks the shapes, and the values of arrays that are not traced, of a run.
- `drive`: Runs the loop `segment` rounds at a time, and survives being killed.
"""

from jal.loop._drive import ROUNDS_FILE, RUN_FILE, drive
from jal.loop._run import (
    COST,
    FIT,
    INITIAL,
    PROPOSAL,
    STRATEGY,
    RoundInfo,
    State,
    check,
    make_step,
    round_key,
    run,
)

# fmt: off
__all__ = [
    "check", "COST", "drive", "FIT", "INITIAL", "make_step", "PROPOSAL", "round_key",
    "RoundInfo", "ROUNDS_FILE", "run", "RUN_FILE", "State", "STRATEGY",
]
# fmt: on
