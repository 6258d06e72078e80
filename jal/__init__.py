"""Deep active learning as pure JAX functions.

The parts are loaded when they are first used: `jal.loop` (research), `jal.scoring`
(large pools), `jal.session` (people), `jal.mcal` (everything at least cost), and what
they share: `predictive`, `acquisition`, `cost`, `pool`, `selection`, `strategies`,
`learners`, `nn`, `plots`. The contracts are here: `jal.Data`, `jal.Outputs`, ...
"""

import importlib
from typing import TYPE_CHECKING

from jal import types
from jal._core.compile import jit
from jal.types import (
    Data,
    Learner,
    Outputs,
    Picks,
    Pool,
    Predictive,
    Proposal,
    Strategy,
    View,
)

if TYPE_CHECKING:
    from jal import (
        acquisition,
        cost,
        learners,
        loop,
        mcal,
        nn,
        plots,
        pool,
        predictive,
        scorers,
        scoring,
        selection,
        session,
        strategies,
    )

__version__ = "0.1.0"

# fmt: off
__all__ = [
    "Data", "Learner", "Outputs", "Picks", "Pool", "Predictive", "Proposal", "Strategy",
    "View", "acquisition", "cost", "jit", "learners", "loop", "mcal", "nn", "plots",
    "pool", "predictive", "scorers", "scoring", "selection", "session", "strategies",
    "types",
]
# fmt: on

if not TYPE_CHECKING:  # else no name would be unknown to a type checker

    def __getattr__(name):
        if name in __all__:
            return importlib.import_module(f"jal.{name}")
        raise AttributeError(f"module 'jal' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
