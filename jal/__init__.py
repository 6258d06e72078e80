"""Deep active learning as pure JAX functions.

`jal.networks`, the only module that needs flax, is imported explicitly.
"""

from jal import (
    acquisition,
    convolution,
    cost,
    driver,
    learners,
    loop,
    numerics,
    plots,
    pool,
    predictive,
    selection,
    strategies,
    types,
)

__version__ = "0.1.0"

__all__ = [
    "acquisition",
    "convolution",
    "cost",
    "driver",
    "learners",
    "loop",
    "numerics",
    "plots",
    "pool",
    "predictive",
    "selection",
    "strategies",
    "types",
]
