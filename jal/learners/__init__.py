"""What is trained: networks, linear classifiers, ensembles, cost models.

- `supervised`: Trains a network by a fixed number of mini-batch steps in every round.
- `by_epochs`: Trains a network from scratch in every round, for a number of epochs.
- `with_ranker`: Trains a network together with a ranker, which predicts the loss of
  each item.
- `fine_tune`: Trains all layers from the weights of a source network, anew in every
  round.
- `from_source`: An `init` that takes a source network's weights, all but those of its
  last layer.
- `counted`: Counts the classes of the labels beside what a learner does, for
  `thresholded`.
- `thresholded`: Divides probabilities by how frequent a class is among the labels.
- `regressor`: Learns a positive quantity, such as the annotation cost, from labelled
  items.
- `accuracy`: An `evaluate` function for `loop.run`: accuracy and loss on test data.
- `cross_entropy`: Softmax cross-entropy per item, -ln p_y.
- `squared_error`: Squared error per item, (value - y)^2.
- `Variables`: What a supervised learner has learned.
- `RegressorVariables`: What a regressor has learned.
- `CountedVariables`: What a learner has learned, and from how many items of each class.
- `linear_svm`: A linear support vector machine of each class against the rest.
- `logistic_regression`: Multinomial logistic regression.
- `LinearVariables`: What a linear classifier has learned.
- `ensemble`: Trains S members of a learner on the same items, each from its own start.
- `stacked`: The predictions of an ensemble, from those of one member.
"""

from jal.learners import losses
from jal.learners._ensemble import ensemble, stacked
from jal.learners._linear import (
    STRENGTHS,
    LinearVariables,
    linear_svm,
    logistic_regression,
)
from jal.learners._network import (
    CountedVariables,
    RegressorVariables,
    Variables,
    accuracy,
    by_epochs,
    counted,
    cross_entropy,
    fine_tune,
    from_source,
    regressor,
    squared_error,
    supervised,
    thresholded,
    with_ranker,
)

# fmt: off
__all__ = [
    "accuracy", "by_epochs", "counted", "CountedVariables", "cross_entropy", "ensemble",
    "fine_tune", "from_source", "linear_svm", "LinearVariables", "logistic_regression",
    "losses",
    "regressor", "RegressorVariables", "squared_error", "stacked", "STRENGTHS",
    "supervised", "thresholded", "Variables", "with_ranker",
]
# fmt: on
