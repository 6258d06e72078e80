"""Deep active learning as pure JAX functions.

`jal.networks`, the only module that needs flax, is imported explicitly.
"""

from jal import (
    acquisition,
    augmentation,
    batchbald,
    convolution,
    cost,
    diversity,
    driver,
    files,
    learners,
    loop,
    losses,
    masked_dense,
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
    vaal,
)

__version__ = "0.1.0"

__all__ = [
    "acquisition",
    "augmentation",
    "batchbald",
    "convolution",
    "cost",
    "diversity",
    "driver",
    "files",
    "learners",
    "loop",
    "losses",
    "masked_dense",
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
    "vaal",
]
