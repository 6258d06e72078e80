"""What labelling everything would cost, before it is paid for.

Run `python -m experiments.examples.plan_a_budget`.
"""

# %% Real digits of 8x8 pixels: 400 of them stand for a test set that people labelled.
import jax
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
sizes, terms = (30, 60, 120), Terms(70_000, 400, price=0.04, max_error=0.05)
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
search = jax.jit(min_cost.plan, static_argnames="terms")
for max_error in (0.01, 0.05):
    terms = Terms(70_000, 400, 0.04, max_error, first_batch=100, grid_step=100)
    plan = search(
        terms,
        TrainingPrice(per_image=7e-5),
        np.array(sizes, np.float32),
        counts,
        errors,
        np.array(THETAS, np.float32),
        size=sizes[-1],
        batch=100.0,
        spend=0.0,
    )
    print(
        f"fewer than {max_error:.0%} wrong: train on {int(plan.size):,}, let the "
        f"model label {int(plan.machine):,}; {float(plan.cost):,.2f} of "
        f"{terms.num_items * terms.price:,.2f} USD"
    )
