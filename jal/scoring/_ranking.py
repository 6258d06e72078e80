"""Ranking scores that may be more than fit in memory, on the host."""

import numpy as np

# Scores that are ranked at a time.
BLOCK = 1 << 20


def highest(scores: np.ndarray, k: int) -> np.ndarray:
    """Indices of the K highest scores, a block at a time, on the host.

    Args:
      scores: [N], in memory or mapped.
      k: K, 0 <= K.

    Returns:
      [K] int64 indices, best first, ties to the lower index; NaN is left out, and -1
      stands beyond the scores there are.

    >>> highest(np.array([1.0, np.nan, 3.0, 3.0]), 4).tolist()
    [2, 3, 0, -1]
    """
    best = np.empty(0, np.int64)
    for start in range(0, len(scores), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(scores)))
        best = _best(scores, np.concatenate([best, block]), k)
    return np.concatenate([best, np.full(k - len(best), -1)])


def _best(scores, indices, k):
    """Those of the ascending or already ranked indices that come first, at most k."""
    values = -scores[indices]
    known = ~np.isnan(values)
    values, indices = values[known], indices[known]
    if 0 < k < len(values):
        near = values <= np.partition(values, k - 1)[k - 1]
        values, indices = values[near], indices[near]
    return indices[np.lexsort((indices, values))[:k]]
