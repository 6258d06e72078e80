"""From scores, features and probabilities to positions: which K of the items.

- `top_k`: Positions of the K highest scores.
- `power`: Draws K items without replacement, with probability in proportion to a power.
- `diversify`: Sweeps over the groups, taking the best item left of each, until K are
  chosen.
- `within_budget`: Buys by descending value, skipping what no longer fits in the budget.
- `k_center`: Picks the item farthest from all that is labelled or picked, K times.
- `badge`: Draws K items whose gradients are large and differ from each other.
- `batch_bald`: Greedily picks the K items whose labels tell most about the model
  together.
- `joint_mutual_information`: What the labels of a batch tell about the model together,
  I(y_1..y_K; w).
- `typical`: Picks the most typical item of each of the K largest clusters without
  labels.
"""

from jal.selection._batch_bald import batch_bald, joint_mutual_information
from jal.selection._diversity import badge, k_center
from jal.selection._top import diversify, power, top_k, within_budget
from jal.selection._typical import typical

# fmt: off
__all__ = [
    "badge", "batch_bald", "diversify", "joint_mutual_information", "k_center", "power",
    "top_k", "typical", "within_budget",
]
# fmt: on
