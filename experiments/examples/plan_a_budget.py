"""What labelling everything would cost, before it is paid for.

Run `python -m experiments.examples.plan_a_budget`.
"""

# %% Real digits of 8x8 pixels: 400 of them stand for a test set that people labelled.
import jax
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from jal import mcal
from jal.mcal import THETAS, Terms, TrainingPrice

x, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
test, rest = order[:400], order[400:]


# %% Of a model trained on so many digits: which test items are wrong, surest first.
def wrong_by_confidence(size):
    model = LogisticRegression(max_iter=1000).fit(x[rest[:size]], y[rest[:size]])
    p = np.sort(model.predict_proba(x[test]), axis=1)
    return (model.predict(x[test]) != y[test])[np.argsort(p[:, -2] - p[:, -1])]


# %% Three sizes, and the errors among the most confident 5, 10, ... % of the pool.
sizes, terms = (100, 200, 400), Terms(70_000, 400, price=0.04)
shares = [mcal.shares_of_test(terms, size, THETAS) for size in sizes]
counts = np.round(400 * np.where(np.array(shares) <= 1, shares, 0)).astype(int)
errors = np.zeros_like(counts)
for row, size in enumerate(sizes):
    wrong = wrong_by_confidence(size)
    errors[row] = [wrong[:count].sum() for count in counts[row]]

# %% Fit how errors fall, find the cheapest plan for 70,000 digits, and try it.
# Smaller sizes promise too much: see what becomes of (20, 40, 80).
search = jax.jit(mcal.plan, static_argnames="terms")
for max_error in (0.01, 0.03):
    terms = Terms(70_000, 400, 0.04, max_error, first_batch=20, grid_step=20)
    plan = search(
        terms,
        TrainingPrice(per_image=7e-5),
        np.array(sizes, np.float32),
        counts,
        errors,
        np.array(THETAS, np.float32),
        size=sizes[-1],
        batch=20.0,
        spend=0.0,
    )
    size, machine = int(plan.size), int(plan.machine)
    wrong = wrong_by_confidence(size)[: round(400 * machine / (70_000 - 400 - size))]
    print(
        f"fewer than {max_error:.0%} wrong: train on {size}, let the model label "
        f"{machine:,}; {float(plan.cost):,.2f} of {70_000 * terms.price:,.2f} USD. "
        f"Tried: {wrong.mean() * machine / 70_000:.1%} wrong"
    )
