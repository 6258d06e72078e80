"""Scores of pools of any size: larger than memory, on several devices and hosts.

- `score_pool`: Scores every item of a pool, a chunk at a time.
- `PoolScores`: The scores of a pool, and which items have the highest.
- `open_source`: Whatever holds a pool, as a `Source`; nothing is read but headers.
- `Source`: A pool of any size, in memory, on disk or made as it is read.
- `map_file`: Maps a `.npy` file of numbers; nothing is read but its header.
- `state_of`: Says what there is at `path`, without changing anything.
- `highest`: Indices of the K highest scores, a block at a time, on the host.
"""

from jal.scoring._journal import state_of
from jal.scoring._ranking import highest
from jal.scoring._score_pool import PoolScores, score_pool
from jal.scoring._sources import Source, map_file, open_source

# fmt: off
__all__ = [
    "highest", "map_file", "open_source", "PoolScores", "score_pool", "Source",
    "state_of",
]
# fmt: on
