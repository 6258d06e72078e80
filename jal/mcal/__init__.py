"""Label a whole set at minimum cost: people some of it, a model the rest.

- `from_learner`: Makes the `train` of a `Model` from a learner.
- `adaptive`: The policy of MCAL: fit error laws, search, and decide by the plan.
- `fixed_batch`: The policy of plain active learning: one batch after another.
- `label`: Labels a whole pool: some items by people, the others by a model.
- `ask`: Labels a whole pool with people, over days: says which items wait for an
  answer.
- `ask_session`: Labels the whole pool of a session: `ask` with its learner, trained
  from scratch.
- `read_profile`: Reads measured errors from a CSV file.
- `session_profile`: The errors of the models that chose the batches of a session.
- `plan_profile`: Fits the laws to a profile and searches with what they predict:
  compiled `plan`.
- `outlook`: What labelling a pool is going to cost, by errors that were measured.
- `Profile`: Errors of the most confident items of a test set, at some training sizes.
- `Outlook`: What labelling all of a pool is going to cost.
- `usual_terms`: Terms with the sizes that the paper takes: 5 % test, batches and steps
  of 1 %.
- `Predictions`: What a trained model says of the whole pool.
- `Round`: One training, what was measured after it, and what was decided.
- `Result`: All labels, where they come from, and what they cost.
- `Model`: A model that may do the labelling, and what training it costs.
- `Terms`: What is to be labelled, at what price, and how wrong it may be.
- `Plan`: The training size of least total cost, and the costs of all others.
- `Course`: What `advance` remembers from one round to the next.
- `shares_of_test`: Which share of the test set stands for each theta.
- `grid`: The training sizes that are compared, in an array of one shape for all rounds.
- `machine_share`: How much the model may label at each training size.
- `search`: Finds the training size, and the share for the model, of least total cost.
- `plan`: Fits the laws to what was measured and searches with what they predict.
- `spread_rounds`: In how many equal batches to buy what is missing.
- `advance`: Decides, after a round, how many labels to buy next or why to stop.
- `ErrorLaw`: Truncated power laws eps(B) = alpha B^-gamma exp(-kappa B), one for each
  theta.
- `rising`: The nearest errors that do not fall as theta grows: isotonic regression.
- `upper_bound`: Upper end of Wilson's interval of a binomial rate.
- `error_profile`: Counts the errors among the most confident items of a test set.
- `error_rates`: Error error_rates, positive ones so that they have logarithms, and
  their weights.
- `fit_law`: Fits the law of each theta, by weighted non-negative least squares of
  logarithms.
- `predict_errors`: The errors that the laws predict.
- `TrainingPrice`: What one training from scratch on b items costs, in USD.
- `price_of_training`: What one training costs.
- `price_of_rounds`: What training costs in N equal rounds from one size to another.
- `price_of_batches`: What training costs from one size to another in batches of a fixed
  size.
- `price_from_seconds`: The price of training, from how long trainings took.
"""

from jal.mcal._campaign import Model, Policy, Predictions, Result, Round
from jal.mcal._label import (
    CSV_FILE,
    FOLDER,
    adaptive,
    ask,
    ask_session,
    fixed_batch,
    from_learner,
    label,
)
from jal.mcal._laws import (
    ErrorLaw,
    error_profile,
    error_rates,
    fit_law,
    predict_errors,
    rising,
    upper_bound,
)
from jal.mcal._plan import (
    THETAS,
    Course,
    Plan,
    Terms,
    advance,
    grid,
    machine_share,
    plan,
    search,
    shares_of_test,
    spread_rounds,
    usual_terms,
)
from jal.mcal._prices import (
    TrainingPrice,
    price_from_seconds,
    price_of_batches,
    price_of_rounds,
    price_of_training,
)
from jal.mcal._profile import (
    Outlook,
    Profile,
    outlook,
    plan_profile,
    read_profile,
    session_profile,
)

# fmt: off
__all__ = [
    "adaptive", "advance", "ask", "ask_session", "Course", "CSV_FILE", "error_profile",
    "error_rates", "ErrorLaw", "fit_law", "fixed_batch", "FOLDER", "from_learner",
    "grid", "label", "machine_share", "Model", "Outlook", "outlook", "Plan", "plan",
    "plan_profile", "Policy", "predict_errors", "Predictions", "price_from_seconds",
    "price_of_batches", "price_of_rounds", "price_of_training", "Profile",
    "read_profile", "Result", "rising", "Round", "search", "session_profile",
    "shares_of_test", "spread_rounds", "Terms", "THETAS", "TrainingPrice",
    "upper_bound", "usual_terms",
]
# fmt: on
