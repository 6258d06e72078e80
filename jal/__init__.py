"""Deep active learning as pure JAX functions.

`jal.networks`, the only module that needs flax, is imported explicitly.
"""

from jal import (
    acquisition,
    batchbald,
    convolution,
    cost,
    diversity,
    driver,
    files,
    learners,
    loop,
    numerics,
    plots,
    pool,
    predictive,
    ranking,
    score_files,
    scoring,
    selection,
    sources,
    strategies,
    types,
)

__version__ = "0.1.0"

__all__ = [
    "acquisition",
    "batchbald",
    "convolution",
    "cost",
    "diversity",
    "driver",
    "files",
    "learners",
    "loop",
    "numerics",
    "plots",
    "pool",
    "predictive",
    "ranking",
    "score_files",
    "scoring",
    "selection",
    "sources",
    "strategies",
    "types",
]
