"""Errors measured at some training sizes, and the plan that follows from them.

The rounds of `label`, the models of a session and a table in a file are profiles alike.
Dollars are USD; R sizes, Q thetas.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jal.mcal import _laws, _plan, _prices
from jal.mcal._plan import THETAS, Plan, Terms
from jal.mcal._prices import TrainingPrice
from jal.session import LabelStore, status_of

_compiled_plan = jax.jit(_plan.plan, static_argnames=("terms", "truncated"))
_compiled_profile = jax.jit(_laws.error_profile)
COLUMNS = ("size", "theta", "tested", "errors")


class Profile(NamedTuple):
    """Errors of the most confident items of a test set, at some training sizes.

    Attributes:
      sizes: [R] B, labels that were trained on.
      thetas: [Q] rising shares.
      counts: [R, Q] items of the test set in each share, 0 where nothing was measured.
      errors: [R, Q] of them.
      size: B of today.
      num_test: |T|, items of the largest test set.
    """

    sizes: Sequence[int] | np.ndarray
    thetas: Sequence[float] | np.ndarray
    counts: Sequence | np.ndarray
    errors: Sequence | np.ndarray
    size: int
    num_test: int


class Outlook(NamedTuple):
    """What labelling all of a pool is going to cost.

    Attributes:
      plan: the cheapest plan.
      sizes: [G] training sizes that were compared, rising.
      machine: [G] items that the model then labels.
      labels: [G] USD for labels.
      costs: [G] total in USD.
    """

    plan: Plan
    sizes: np.ndarray
    machine: np.ndarray
    labels: np.ndarray
    costs: np.ndarray


def read_profile(path: Path) -> Profile:
    r"""Reads measured errors from a CSV file.

    Args:
      path: columns size, theta, tested and errors: trained on so many labels, of the
        most confident share theta of the test set so many items were looked at, and so
        many of them were wrong.

    Returns:
      `Profile`; sizes and thetas rise, and what is not in the file has a count of 0.

    Raises:
      ValueError: the file cannot be read, or a line is none; it is named.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text("size,theta,tested,errors\n600,0.5,100,3\n300,0.5,90,7\n")
    >>> read_profile(path).errors.tolist(), read_profile(path).num_test
    ([[7], [3]], 100)
    """
    try:
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}") from error
    if not rows or tuple(cell.strip() for cell in rows[0]) != COLUMNS:
        raise ValueError(
            f"{path}: the first line must be {','.join(COLUMNS)}, and each other one a "
            "training size, a share of the most confident test items, their number, "
            "and how many of them were wrong"
        )
    found: dict[tuple[int, float], tuple[int, int]] = {}
    for number, row in enumerate(rows[1:], 2):
        if row:
            place, measured = _row(f"{path}, line {number}", row)
            if place in found:
                raise ValueError(
                    f"{path}, line {number}: size {place[0]} and theta {place[1]:g} "
                    "for the second time"
                )
            found[place] = measured
    if not found:
        raise ValueError(f"{path} has no line but the first")
    sizes, thetas = (sorted(set(values)) for values in zip(*found, strict=True))
    table = np.array([[found.get((b, t), (0, 0)) for t in thetas] for b in sizes])
    counts, errors = table[..., 0], table[..., 1]
    return Profile(sizes, thetas, counts, errors, sizes[-1], int(counts.max()))


def _row(where: str, row: list[str]) -> tuple[tuple[int, float], tuple[int, int]]:
    try:
        size, theta, tested, errors = int(row[0]), float(row[1]), *map(int, row[2:])
    except ValueError as error:
        raise ValueError(f"{where}: {row}; expected four numbers") from error
    if size < 1 or not 0 < theta <= 1 or not 0 <= errors <= tested:
        raise ValueError(
            f"{where}: {row}; a size is at least 1, a share above 0 and at most 1, and "
            "there are at most as many errors as items tested"
        )
    return (size, theta), (tested, errors)


def session_profile(store: LabelStore, terms: Terms) -> Profile:
    """The errors of the models that chose the batches of a session.

    Args:
      store: of the session; its held-out items are the test set.
      terms: what is to be labelled; `num_test` does not matter.

    Returns:
      `Profile` of the thetas that the smallest test set has items for.

    Raises:
      ValueError: no model was measured yet.

    >>> import tempfile
    >>> pool = {"num_items": 9, "classes": "ab", "facts": {"unit": "cost"}}
    >>> store = LabelStore.create(tempfile.mkdtemp(), **pool)
    >>> measured = {"labels": 2, "margins": [0.9, 0.1], "right": [True, False]}
    >>> store.add_batch(1, "train", [3], detail=measured | {"checkpoint": 1})
    True
    >>> session_profile(store, Terms(9, 1, 0.04)).errors[0, -1].item()
    0
    """
    models: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for batch in store.batches():
        if batch.detail.get("right"):
            margins, right = (np.array(batch.detail[n]) for n in ("margins", "right"))
            models[batch.detail["labels"]] = margins, right
    if not models:
        raise ValueError(
            f"{store.folder}: no model was measured yet; ask for a test batch (jal ask "
            f"{store.folder} --test -k 200), tell its labels, and ask for the next "
            "batch"
        )
    tested = [len(right) for _, right in models.values()]
    thetas = [theta for theta in THETAS if round(theta * min(tested)) >= 1]
    sizes, rows = sorted(models), []
    for size in sizes:
        margins, right = models[size]
        same = terms._replace(num_test=len(right))
        rows.append(measured_errors(same, size, thetas, margins, right))
    counts, errors = (np.array(part) for part in zip(*rows, strict=True))
    size = max(sizes[-1], status_of(store).labeled)
    return Profile(sizes, thetas, counts, errors, size, max(tested))


def measured_errors(terms: Terms, size: int, thetas, margin, right):
    """Counts and errors, [Q] each, of a model trained on `size` labels."""
    shares = _plan.shares_of_test(terms, size, thetas)
    counts, errors = _compiled_profile(
        jnp.asarray(margin), jnp.asarray(right), jnp.asarray(shares, jnp.float32)
    )
    return counts.tolist(), errors.tolist()


def plan_profile(
    terms: Terms,
    price: TrainingPrice,
    profile: Profile,
    *,
    spend: float,
    batch: float | None = None,
    truncated: bool = True,
) -> Plan:
    """Fits the laws to a profile and searches with what they predict: compiled `plan`.

    Args:
      terms: the terms.
      price: of training.
      profile: what was measured.
      spend: what training has cost so far, in USD.
      batch: delta > 0, items bought a round; None for the first batch of the terms.
      truncated: fit the truncated power law, or the plain one.

    Returns:
      `Plan`.

    >>> terms = Terms(1000, 100, 0.04, first_batch=10, grid_step=10)
    >>> profile = Profile([10, 20, 30], [0.6], [[60]] * 3, [[12], [8], [6]], 30, 100)
    >>> price = TrainingPrice(per_image=1e-3)
    >>> int(plan_profile(terms, price, profile, spend=0.06).size)
    40

    Reference: Qiu, Chintalapudi and Govindan, "MCAL: minimum cost human-machine active
    labeling", 2023, algorithm 1, lines 14 to 18.
    """
    # Filled up, so that one compilation serves many rounds.
    missing = -len(profile.sizes) % 32
    nothing = [[0] * len(profile.thetas)] * missing
    return _compiled_plan(
        terms,
        price,
        np.asarray([*map(float, profile.sizes), *[1.0] * missing]),
        np.asarray([*profile.counts, *nothing]),
        np.asarray([*profile.errors, *nothing]),
        np.asarray(profile.thetas),
        size=profile.size,
        batch=float(batch or terms.first_batch),
        spend=spend,
        truncated=truncated,
    )


def outlook(
    terms: Terms, price: TrainingPrice, profile: Profile, *, truncated: bool = True
) -> Outlook:
    """What labelling a pool is going to cost, by errors that were measured.

    Args:
      terms: the terms.
      price: of training; 0 is allowed.
      profile: what was measured; each size is taken to have been trained once.
      truncated: fit the truncated power law, or the plain one.

    Returns:
      `Outlook`.

    Raises:
      ValueError: terms out of range, or more labels than items.

    >>> terms = Terms(1000, 100, 0.04, first_batch=10, grid_step=10)
    >>> profile = Profile([10, 20, 30], [0.6], [[60]] * 3, [[12], [8], [6]], 30, 100)
    >>> found = outlook(terms, TrainingPrice(per_image=1e-3), profile)
    >>> int(found.plan.size), found.sizes[:2].tolist(), found.machine[:2].tolist()
    (40, [30, 40], [0, 600])
    """
    _plan.check(terms, tuple(float(theta) for theta in profile.thetas))
    if terms.num_test + profile.size > terms.num_items:
        raise ValueError(
            f"num_items={terms.num_items}; the test set of {terms.num_test} and "
            f"{profile.size} labels to train on are more than that"
        )
    trained = (_prices.price_of_training(price, int(each)) for each in profile.sizes)
    plan = plan_profile(
        terms, price, profile, spend=float(sum(trained)), truncated=truncated
    )
    sizes, costs, thetas = (
        np.asarray(values)[np.isfinite(plan.costs)]
        for values in (plan.sizes, plan.costs, plan.thetas)
    )
    left = terms.num_items - terms.num_test - sizes
    base = left if terms.theta_base == "remaining" else terms.num_items
    machine = np.round(thetas * base).astype(int)
    labels = (terms.num_items - machine) * terms.price
    return Outlook(plan, sizes, machine, labels, costs)
