"""What labelling everything would cost, before it is paid for.

Run `python -m experiments.examples.plan_a_budget`.
"""

# %% Real digits of 8x8 pixels: 400 of them stand for a test set that people labelled.
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from jal import min_cost
from jal.min_cost import THETAS, Terms
from jal.training_price import TrainingPrice

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
test, rest = order[:400], order[400:]

# %% Train on a few sizes, and count the errors among the most confident test items.
sizes, terms = (40, 80, 160), Terms(70_000, 400, price=0.04, max_error=0.05)
counts = np.zeros((len(sizes), len(THETAS)), int)
errors = np.zeros_like(counts)
for row, size in enumerate(sizes):
    model = LogisticRegression(max_iter=1000).fit(x[rest[:size]], y[rest[:size]])
    p = np.sort(model.predict_proba(x[test]), axis=1)
    confident = np.argsort(p[:, -2] - p[:, -1])
    wrong = (model.predict(x[test]) != y[test])[confident]
    shares = min_cost.shares_of_test(terms, size, THETAS)
    counts[row] = np.where(shares <= 1, np.round(shares * len(test)), 0)
    errors[row] = [wrong[:count].sum() for count in counts[row]]

# %% Fit how errors fall, and search for the plan of least cost for 70,000 such digits.
for price in (0.04, 0.003):
    for max_error in (0.02, 0.05):
        terms = Terms(70_000, 400, price, max_error, first_batch=100, grid_step=100)
        plan = min_cost.plan(
            terms,
            TrainingPrice(per_image=7e-5),
            jnp.asarray(sizes, jnp.float32),
            jnp.asarray(counts),
            jnp.asarray(errors),
            jnp.asarray(THETAS),
            size=jnp.asarray(sizes[-1]),
            batch=jnp.asarray(100.0),
            spend=jnp.asarray(0.0),
        )
        print(
            f"{price} USD a label, fewer than {max_error:.0%} wrong: train on "
            f"{int(plan.size):,}, let the model label {int(plan.machine):,}; "
            f"{float(plan.cost):,.2f} of {terms.num_items * price:,.2f} USD"
        )
