"""What chooses: assemblies of scorers, acquisition functions, costs and selectors.

- `from_scores`: Scores all candidates and selects by v = I^alpha / C^beta.
- `random`: Picks uniformly among the candidates, whatever they cost.
- `learning_loss`: Picks the candidates whose loss is predicted to be the highest.
- `margin`: Picks the candidates whose two most probable classes are nearest each other.
- `rand_div`: Picks at random, one candidate of each predicted class in turn.
- `class_balanced`: Picks candidates predicted to be of the classes with the fewest
  labels.
- `alamp`: Picks what the model was sure of in the round before, and is no longer.
- `PreviousModel`: What `alamp` remembers of the model of the round before.
- `k_center`: Picks the candidates farthest from all that is labelled, in feature space.
- `typical`: Picks the most typical candidate of each of the largest clusters without
  labels.
- `badge`: Picks candidates whose gradients are large and differ from each other.
- `batch_bald`: Picks the candidates whose labels tell most about the model together.
- `vaal`: Variational adversarial active learning: picks what looks most unlabelled.
- `ta_vaal`: Task-aware VAAL: decoder and discriminator also see the predicted loss.
- `Autoencoder`: A variational autoencoder as pure functions.
- `Adversary`: A discriminator of latents as pure functions.
- `VaalOptions`: How autoencoder and discriminator are trained; the defaults are
  recommended.
- `epochs_of`: A number of steps that grows with the labelled set, for `vaal` and
  `ta_vaal`.
"""

from jal.strategies._batch_bald import batch_bald
from jal.strategies._features import badge, k_center, typical
from jal.strategies._gap import PreviousModel, alamp, class_balanced, margin, rand_div
from jal.strategies._scores import from_scores, learning_loss, random
from jal.strategies._vaal import (
    RECOMMENDED_VAAL,
    Adversary,
    Autoencoder,
    VaalOptions,
    epochs_of,
    ta_vaal,
    vaal,
)

# fmt: off
__all__ = [
    "Adversary", "alamp", "Autoencoder", "badge", "batch_bald", "class_balanced",
    "epochs_of", "from_scores", "k_center", "learning_loss", "margin", "PreviousModel",
    "rand_div", "random", "RECOMMENDED_VAAL", "ta_vaal", "typical", "vaal",
    "VaalOptions",
]
# fmt: on
