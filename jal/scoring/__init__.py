"""Scores of pools of any size: larger than memory, on several devices and hosts.

- `PoolScores`: The scores of a pool, and which items have the highest.
- `by_passes`: Scores by MC dropout, for `score_pool`.
- `by_members`: Scores by an ensemble, for `score_pool`.
- `by_prediction`: Scores by one deterministic prediction, for `score_pool`.
- `by_logits`: Scores of predictions made elsewhere, for `score_pool`.
- `score_pool`: Scores every item of a pool, a chunk at a time.
- `Source`: A pool of any size, in memory, on disk or made as it is read.
- `open_source`: Whatever holds a pool, as a `Source`; nothing is read but headers.
- `map_file`: Maps a `.npy` file of numbers; nothing is read but its header.
- `highest`: Indices of the K highest scores, a block at a time, on the host.
"""

from jal.scoring._ranking import highest
from jal.scoring._score_pool import (
    PoolScores,
    by_logits,
    by_members,
    by_passes,
    by_prediction,
    score_pool,
)
from jal.scoring._sources import Source, map_file, open_source

# fmt: off
__all__ = [
    "by_logits", "by_members", "by_passes", "by_prediction", "highest", "map_file",
    "open_source", "PoolScores", "score_pool", "Source",
]
# fmt: on
