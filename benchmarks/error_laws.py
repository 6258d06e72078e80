"""The laws of all thetas, fitted in one call, beside SciPy's `curve_fit` one by one."""

import numpy as np
from scipy.optimize import curve_fit

from benchmarks import timing
from benchmarks.timing import Program, row
from jal import mcal

THETAS = np.arange(1, 21) / 20
ROUNDS = 10


def measure(repeats: int) -> list:
    """All measurements of this file, one row each."""
    sizes, rate, weight = points()
    ours = timing.compiled(mcal.fit_law, sizes, rate, weight)

    def scipy():
        """The same problem: weighted least squares of logarithms, nothing negative."""
        line = lambda b, constant, gamma, kappa: (
            constant - gamma * np.log(b) - kappa * b / 1e4
        )
        found = []
        for column, weights in zip(np.log(rate.T), weight.T, strict=True):
            fitted, _ = curve_fit(
                line,
                sizes,
                column,
                p0=(0.0, 0.5, 0.1),
                sigma=weights**-0.5,
                bounds=([-np.inf, 0, 0], np.inf),
            )
            found.append(fitted)
        constant, gamma, kappa = np.array(found).T
        return constant, gamma, kappa / 1e4

    programs = {
        "jal": timing.calling(ours.call, sizes, rate, weight),
        "SciPy curve_fit": Program(scipy),
    }
    what = f"{len(THETAS)} laws of {ROUNDS} points"
    lost = {
        name: cost(program.run(), sizes, rate, weight)
        for name, program in programs.items()
    }
    excess = float(np.max(lost["jal"] / lost["SciPy curve_fit"] - 1))
    return [
        row(
            f"{what}: most that jal's sum of squares is above SciPy's", excess, "share"
        ),
        row(f"{what}: compilation", ours.seconds, "s", by="jal"),
        *timing.comparison(what, timing.side_by_side(programs, repeats)),
    ]


def points():
    """Sizes [R], and errors and weights [R, Q] as they are counted on 3,000 items."""
    draws = np.random.default_rng(0)
    sizes = 600.0 * np.arange(1, ROUNDS + 1)
    true = (6 * THETAS**3 + 0.05) * (sizes**-0.35 * np.exp(-sizes / 6e4))[:, None]
    counts = np.round(3000 * THETAS).astype(int)
    errors = draws.binomial(counts, true)
    rate = np.where(errors > 0, errors / counts, 0.5 / (counts + 1))
    as_32 = lambda values: np.asarray(values, np.float32)
    return as_32(sizes), as_32(rate), as_32(errors + 0.5)


def cost(law, sizes, rate, weight):
    """[Q] weighted sums of squares of a law's logarithms."""
    constant, gamma, kappa = (np.asarray(value, float)[None] for value in law)
    column = np.asarray(sizes, float)[:, None]
    rest = constant - gamma * np.log(column) - kappa * column - np.log(rate)
    return np.sum(weight * rest**2, axis=0)
