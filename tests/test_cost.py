import functools
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jal.cost import (
    MNIST_BASE_COST,
    annotation_cost,
    class_base_cost,
    cost_ratio,
    perimeter,
)

ESTIMATORS = (
    "benkrid_crookes",
    "exposed_edges",
    "boundary_pixels",
    "marching_squares",
)
SQRT2 = 2**0.5


@pytest.fixture(autouse=True)
def no_silent_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield


def f32(*values):
    return jnp.array(values, jnp.float32)


# --- cost_ratio ----------------------------------------------------------------------

INFORMATION = (0.3, 0.2, 0.1, 0.05)
COST = (100.0, 40.0, 12.0, 7.0)


@pytest.mark.parametrize(
    ("alpha", "beta", "value", "order"),
    [
        (1, 0, (0.3, 0.2, 0.1, 0.05), (0, 1, 2, 3)),
        (1, 0.1, (0.189287, 0.138301, 0.077998, 0.041159), (0, 1, 2, 3)),
        (1, 0.2, (0.119432, 0.095635, 0.060836, 0.033881), (0, 1, 2, 3)),
        (1, 0.3, (0.075357, 0.066132, 0.047451, 0.027889), (0, 1, 2, 3)),
        (1, 0.5, (0.03, 0.031623, 0.028868, 0.018898), (1, 0, 2, 3)),
        (1, 1.0, (0.003, 0.005, 0.008333, 0.007143), (2, 3, 1, 0)),
        (2, 0.5, (0.009, 0.006325, 0.002887, 0.000945), (0, 1, 2, 3)),
    ],
)
def test_worked_value_ratios(alpha, beta, value, order):
    result = cost_ratio(f32(*INFORMATION), f32(*COST), alpha=alpha, beta=beta)
    assert result.dtype == jnp.float32
    # The values are printed to six decimals.
    np.testing.assert_allclose(result, value, atol=6e-7)
    np.testing.assert_array_equal(np.argsort(-result), order)


def exponent(low, high):
    return st.floats(low, high, width=32, allow_subnormal=False)


@jax.jit
def jitted_cost_ratio(information, cost, alpha, beta):
    return cost_ratio(information, cost, alpha=alpha, beta=beta)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    items=st.lists(
        st.tuples(exponent(0, 10), st.floats(2**-10, 1e4, width=32)),
        min_size=4,
        max_size=4,
    ),
    alpha=exponent(0, 3),
    beta=exponent(0, 3),
)
def test_agrees_with_float64_powers(items, alpha, beta):
    information, cost = np.array(items, np.float32).T
    result = jitted_cost_ratio(information, cost, alpha, beta)
    gain, price = np.float64(information) ** alpha, np.float64(cost) ** beta
    # A rounding error of the exponent is a relative error of the value.
    logarithms = np.abs(np.log(np.maximum(gain, 1e-300))) + np.abs(np.log(price))
    tolerance = 4 * np.finfo(np.float32).eps * (1 + logarithms)
    error = np.abs(result - gain / price)
    assert np.all(error <= tolerance * gain / price + np.finfo(np.float32).tiny)


@pytest.mark.parametrize("jit", [False, True])
def test_edges_of_the_ratio(jit):
    ratio = lambda i, c, alpha, beta: np.asarray(
        (jitted_cost_ratio if jit else cost_ratio_positional)(
            f32(*i), f32(*c), alpha, beta
        )
    )
    nan, inf = np.nan, np.inf
    # No information ranks last, below any positive value; 0^0 = 1.
    assert list(ratio((0, 1e-6), (1e-3, 1e4), 1.0, 2.0) > 0) == [False, True]
    np.testing.assert_array_equal(ratio((0, 0), (4, 9), 2.0, 0.5), [0, 0])
    np.testing.assert_allclose(ratio((0, 3), (4, 4), 0.0, 0.5), [0.5, 0.5], rtol=1e-6)
    # beta = 0 ignores any cost.
    every_cost = (nan, 0, -1, inf, 5)
    np.testing.assert_allclose(ratio((2,) * 5, every_cost, 1.0, 0.0), [2] * 5, 1e-6)
    np.testing.assert_array_equal(ratio((0,) * 5, every_cost, 1.0, 0.0), [0] * 5)
    np.testing.assert_array_equal(ratio((0,) * 5, every_cost, 0.0, 0.0), [1] * 5)
    # Otherwise an impossible cost is never picked, whatever the information.
    np.testing.assert_allclose(
        ratio((2,) * 5, every_cost, 0.0, 1.0), [nan, nan, nan, 0, 0.2], rtol=1e-6
    )
    np.testing.assert_array_equal(ratio((0, 0, 0), (nan, 0, -1), 1.0, 0.3), [nan] * 3)
    # Nor is impossible information, whatever the exponents.
    for alpha in (0.0, 0.5, 1.0, 2.0):
        for beta in (0.0, 1.0):
            np.testing.assert_array_equal(
                ratio((-1, nan, -inf), (1, 1, 1), alpha, beta), [nan] * 3
            )


def cost_ratio_positional(information, cost, alpha, beta):
    return cost_ratio(information, cost, alpha=alpha, beta=beta)


def test_ratio_under_transformations():
    information, cost = f32(*INFORMATION, 0.0, 0.4), f32(*COST, 3.0, -1.0)
    betas = f32(0.0, 0.1, 0.5, 2.0)
    score = lambda beta: cost_ratio(information, cost, beta=beta)
    one_by_one = jnp.stack([score(float(beta)) for beta in betas])
    assert not np.isnan(one_by_one[0]).any() and np.isnan(one_by_one[1:, -1]).all()
    for batched in (jax.vmap(score), jax.jit(functools.partial(jax.lax.map, score))):
        np.testing.assert_allclose(batched(betas), one_by_one, rtol=1e-6)


def test_ratio_is_monotone():
    increasing = jnp.asarray(np.geomspace(1e-4, 1e4, 64), jnp.float32)
    same = jnp.full_like(increasing, 3.0)
    for exponent in (0.2, 1.0, 2.5):
        ratio = functools.partial(cost_ratio, alpha=exponent, beta=exponent)
        assert np.all(np.diff(ratio(increasing, same)) > 0)
        assert np.all(np.diff(ratio(same, increasing)) < 0)
    # The larger beta, the more an item that costs twice as much falls behind.
    behind = [cost_ratio(f32(1, 1), f32(6, 3), beta=b) for b in (0, 0.3, 1.0, 2.0)]
    np.testing.assert_allclose(
        [a / b for a, b in behind], [1, 2**-0.3, 0.5, 0.25], 1e-5
    )


def test_ratio_dtypes_and_shapes():
    integers = jnp.array([[4, 9]], jnp.int32)
    assert cost_ratio(integers, integers, beta=0.5).dtype == jnp.float32
    half = integers.astype(jnp.bfloat16)
    assert cost_ratio(half, half, beta=0.5).dtype == jnp.float32
    np.testing.assert_allclose(cost_ratio(integers, half, beta=0.5), [[2, 3]], 1e-6)
    with jax.enable_x64(True):
        single, double = np.float32([0.3, 0.7]), np.float64([2.0, 3.0])
        assert cost_ratio(single, single, alpha=np.float64(2), beta=0.5).dtype == "f4"
        result = cost_ratio(double, single, alpha=1.5, beta=0.7)
        assert result.dtype == jnp.float64
        expected = double**1.5 / np.float64(single) ** 0.7
        np.testing.assert_allclose(result, expected, rtol=1e-14)
    with pytest.raises(AssertionError, match="shape"):
        cost_ratio(f32(1, 2), f32(1, 2, 3), beta=1.0)
    with pytest.raises(AssertionError, match="rank"):
        cost_ratio(f32(1, 2), f32(1, 2), beta=f32(1, 2))


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("value", [-1, -0.5, np.nan, np.inf, np.float32(-2)])
def test_exponents_are_checked(name, value):
    message = re.escape(f"{name} = {value} must be a finite number >= 0")
    with pytest.raises(ValueError, match=message):
        cost_ratio(f32(1), f32(1), **{"alpha": 1.0, "beta": 1.0, name: value})


# --- perimeter -----------------------------------------------------------------------

# Rows are separated by "/"; then the estimators in the order of ESTIMATORS.
GRIDS = {
    "square3": (
        "......./......./..###../..###../..###../......./.......",
        (8, 12, 8, 10.828427),
    ),
    "square5": (
        "......./.#####./.#####./.#####./.#####./.#####./.......",
        (16, 20, 16, 18.828427),
    ),
    "square5_with_1px_hole": (
        "......./.#####./.#####./.##.##./.#####./.#####./.......",
        (16, 24, 20, 21.656854),
    ),
    "plus5": (
        "......./...#.../...#.../.#####./...#.../...#.../.......",
        (4.828427, 20, 8, 16.485281),
    ),
    "vertical_bar5": (
        "......./...#.../...#.../...#.../...#.../...#.../.......",
        (3, 12, 5, 10.828427),
    ),
    "diagonal5": (
        "......./.#...../..#..../...#.../....#../.....#./.......",
        (4.242641, 20, 5, 14.142136),
    ),
    "two_squares2": (
        "......./.##..../.##..../......./....##./....##./.......",
        (8, 16, 8, 13.656854),
    ),
    "square3_touching_corner": (
        "###..../###..../###..../......./......./......./.......",
        (8, 12, 8, 10.828427),
    ),
}


jitted_perimeter = jax.jit(perimeter, static_argnames="estimator")


def parse(grid):
    return np.array([[cell == "#" for cell in row] for row in grid.split("/")])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_worked_perimeters(estimator):
    masks = np.stack([parse(grid) for grid, _ in GRIDS.values()])
    expected = [values[ESTIMATORS.index(estimator)] for _, values in GRIDS.values()]
    result = perimeter(np.uint8(255 * masks), estimator=estimator)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def reference_perimeter(mask, estimator):
    """One image, pixel by pixel, in float64."""
    padded = np.pad(mask.astype(int), 2)
    height, width = padded.shape
    inner = [(r, c) for r in range(1, height - 1) for c in range(1, width - 1)]
    sides = lambda a, r, c: [a[r - 1, c], a[r + 1, c], a[r, c - 1], a[r, c + 1]]
    border = np.zeros_like(padded)
    for r, c in inner:
        border[r, c] = padded[r, c] and min(sides(padded, r, c)) == 0
    if estimator == "boundary_pixels":
        return border.sum()
    if estimator == "exposed_edges":
        return sum(4 - sum(sides(padded, r, c)) for r, c in inner if padded[r, c])
    if estimator == "marching_squares":
        # Indexed by the bits of the cell, row by row.
        by_cell = [0, 1, 1, 2, 1, 2, 3, 1, 1, 3, 2, 1, 2, 1, 1, 0]
        length = [0, SQRT2 / 2, 1, SQRT2]
        cells = [
            padded[r : r + 2, c : c + 2].ravel() @ [8, 4, 2, 1]
            for r in range(height - 1)
            for c in range(width - 1)
        ]
        return sum(length[by_cell[cell]] for cell in cells)
    weights = dict.fromkeys((5, 7, 15, 17, 25, 27), 1.0)
    weights |= {21: SQRT2, 33: SQRT2, 13: (1 + SQRT2) / 2, 23: (1 + SQRT2) / 2}
    kernel = np.array([[10, 2, 10], [2, 1, 2], [10, 2, 10]])
    codes = [(border[r - 1 : r + 2, c - 1 : c + 2] * kernel).sum() for r, c in inner]
    return sum(weights.get(int(code), 0.0) for code in codes)


def random_masks(shape, seed=0):
    rng = np.random.default_rng(seed)
    density = rng.uniform(0.2, 0.8, (shape[0], 1, 1))
    return rng.random(shape) < density


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_agrees_with_a_loop_over_pixels(estimator):
    for shape in ((40, 6, 9), (4, 1, 5)):
        masks = random_masks(shape)
        expected = [reference_perimeter(mask, estimator) for mask in masks]
        result = jitted_perimeter(masks, threshold=0.5, estimator=estimator)
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_perimeter_invariances(estimator):
    measure = functools.partial(jitted_perimeter, threshold=0.5, estimator=estimator)
    masks = random_masks((20, 6, 6), seed=1)
    images = np.pad(masks, ((0, 0), (4, 4), (4, 4)))
    result = measure(images)
    assert np.all(result > 0)
    # A background frame changes nothing: beyond the image all is background.
    np.testing.assert_allclose(measure(masks), result, rtol=1e-6)
    for shift in ((4, 0), (-4, 3), (1, -2)):
        np.testing.assert_array_equal(measure(np.roll(images, shift, (1, 2))), result)
    for turns in (1, 2, 3):
        np.testing.assert_array_equal(measure(np.rot90(images, turns, (1, 2))), result)
    np.testing.assert_array_equal(measure(images[:, :, ::-1]), result)
    order = np.random.default_rng(2).permutation(20)
    np.testing.assert_array_equal(measure(images[order]), result[order])
    one_by_one = jnp.concatenate([measure(image[None]) for image in images])
    np.testing.assert_allclose(one_by_one, result, rtol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "full"),
    list(zip(ESTIMATORS, (20, 24, 20, 20 + 2 * SQRT2), strict=True)),
)
def test_empty_and_full_images(estimator, full):
    empty = np.zeros((2, 5, 7), np.uint8)
    measure = functools.partial(jitted_perimeter, estimator=estimator)
    np.testing.assert_array_equal(measure(empty), [0, 0])
    np.testing.assert_allclose(measure(empty + 255), [full, full], rtol=1e-6)
    assert measure(empty[:0]).shape == (0,)


def test_threshold_and_pixel_types():
    grey = np.random.default_rng(3).integers(0, 256, (4, 8, 8)).astype(np.uint8)
    result = jitted_perimeter(grey)
    for images in (grey.astype(np.float32), grey[..., None]):
        np.testing.assert_array_equal(jitted_perimeter(images), result)
    np.testing.assert_array_equal(
        jitted_perimeter(grey / np.float32(255), threshold=0.5), result
    )
    np.testing.assert_array_equal(jitted_perimeter(grey, threshold=127.5), result)
    # A pixel at the threshold is background.
    np.testing.assert_array_equal(
        jitted_perimeter(np.full((1, 3, 3), 127, np.uint8)), [0]
    )
    np.testing.assert_array_equal(jitted_perimeter(grey, threshold=300), [0] * 4)
    np.testing.assert_array_equal(jitted_perimeter(grey, threshold=-1), [28] * 4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_perimeter_is_the_same_jitted_and_mapped(estimator):
    images = jnp.asarray(255 * random_masks((6, 8, 8), seed=4), jnp.uint8)
    measure = functools.partial(perimeter, estimator=estimator)
    eager = measure(images)
    chex.assert_trees_all_close(jax.jit(measure)(images), eager, rtol=1e-6)
    stacked = images.reshape(2, 3, 8, 8)
    chex.assert_trees_all_close(
        jax.jit(jax.vmap(measure))(stacked), eager.reshape(2, 3), rtol=1e-6
    )


def test_perimeter_arguments_are_checked():
    with pytest.raises(
        ValueError, match="'skimage' must be in .*" + ".*".join(ESTIMATORS)
    ):
        perimeter(np.zeros((1, 4, 4)), estimator="skimage")
    with pytest.raises(AssertionError, match="rank"):
        perimeter(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="size not equal to one"):
        perimeter(np.zeros((1, 4, 4, 3)))


# --- costs of MNIST ------------------------------------------------------------------

# The first six training and the first six test images of MNIST (LeCun, Cortes and
# Burges, CC BY-SA 3.0): label, sum of the pixels, area, exposed edges, boundary pixels
# and Benkrid-Crookes perimeter of the mask pixel > 127.
DIGITS = (
    (5, 27525, 111, 116, 78, 86.148),
    (0, 31095, 125, 124, 85, 78.113),
    (4, 19443, 81, 104, 75, 68.864),
    (1, 17135, 66, 64, 41, 46.042),
    (9, 23214, 91, 104, 72, 65.420),
    (2, 29601, 113, 128, 89, 90.077),
    (7, 18454, 71, 88, 62, 62.349),
    (2, 28850, 115, 110, 80, 84.113),
    (1, 9871, 39, 54, 37, 32.828),
    (0, 37014, 146, 110, 75, 86.255),
    (4, 19237, 76, 102, 66, 63.935),
    (1, 13855, 56, 56, 38, 43.385),
)


@pytest.fixture(scope="module")
def digits():
    path = pathlib.Path(__file__).with_name("mnist_digits.npz")
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]


def test_perimeters_of_mnist_digits(digits):
    images, labels = digits
    assert images.shape == (12, 28, 28) and images.dtype == np.uint8
    label, pixel_sum, area, edges, boundary, benkrid = zip(*DIGITS, strict=True)
    np.testing.assert_array_equal(labels, label)
    np.testing.assert_array_equal(images.sum((1, 2), dtype=int), pixel_sum)
    np.testing.assert_array_equal((images > 127).sum((1, 2)), area)
    np.testing.assert_array_equal(
        jitted_perimeter(images, estimator="exposed_edges"), edges
    )
    np.testing.assert_array_equal(
        jitted_perimeter(images, estimator="boundary_pixels"), boundary
    )
    np.testing.assert_allclose(jitted_perimeter(images), benkrid, rtol=0, atol=1e-3)
    contour = jitted_perimeter(images, estimator="marching_squares")
    expected = [
        reference_perimeter(image > 127, "marching_squares") for image in images
    ]
    np.testing.assert_allclose(contour, expected, rtol=1e-6)


def test_annotation_cost_of_mnist_digits(digits):
    images, labels = digits
    cost = annotation_cost(images, labels, base=MNIST_BASE_COST)
    assert cost.shape == (12,) and cost.dtype == jnp.float32
    np.testing.assert_allclose(cost[:2], [115.592, 90.891], rtol=0, atol=1e-3)
    expected = MNIST_BASE_COST[labels] + 2.5 * perimeter(
        images, threshold=60, estimator="exposed_edges"
    )
    settings = dict(threshold=60, estimator="exposed_edges", base=MNIST_BASE_COST)
    result = annotation_cost(images[..., None], labels, slope=2.5, **settings)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    jitted = jax.jit(lambda *a: annotation_cost(*a[:2], slope=a[2], **settings))
    np.testing.assert_allclose(jitted(images, labels, 2.5), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_labels_out_of_range_cost_nan(dtype):
    price = jax.jit(lambda *arrays, base: annotation_cost(*arrays, base=base))
    images = np.zeros((6, 3, 3), np.uint8)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    # 300 classes are more than the small label types can count.
    for base in (np.arange(100.0), np.arange(300.0)):
        labels = np.array([0, 99, 100, max(low, -1), low, high], dtype)
        expected = [base[i] if 0 <= i < len(base) else np.nan for i in labels]
        np.testing.assert_array_equal(price(images, labels, base=base), expected)


def test_annotation_cost_arguments_are_checked():
    images, labels, base = np.zeros((3, 4, 4)), np.zeros(3, int), np.ones(10)
    with pytest.raises(AssertionError, match="shape"):
        annotation_cost(images, labels[:2], base=base)
    with pytest.raises(AssertionError, match="rank"):
        annotation_cost(images, np.zeros((3, 10), int), base=base)
    with pytest.raises(AssertionError, match="rank"):
        annotation_cost(images, labels, base=np.float32(10))
    with pytest.raises(ValueError, match="slope = -1 must be a finite number >= 0"):
        annotation_cost(images, labels, base=base, slope=-1)
    with pytest.raises(ValueError, match="'area' must be in"):
        annotation_cost(images, labels, base=base, estimator="area")


def test_default_base_costs():
    expected = (12.78, 10.0, 21.11, 23.89, 26.67, 29.44, 18.33, 15.56, 32.22, 35.0)
    assert MNIST_BASE_COST.dtype == np.float32 and not MNIST_BASE_COST.flags.writeable
    np.testing.assert_allclose(MNIST_BASE_COST, expected, rtol=0, atol=0.00501)
    ranks = jnp.array([1, 0, 4, 5, 6, 7, 3, 2, 8, 9])
    by_rank = class_base_cost(ranks, low=10, high=35)
    np.testing.assert_array_equal(by_rank, MNIST_BASE_COST)
    np.testing.assert_allclose(
        by_rank[np.argsort(ranks)], np.linspace(10, 35, 10), 1e-6
    )


def test_base_costs():
    np.testing.assert_array_equal(class_base_cost([1, 0], low=2, high=5), [5, 2])
    np.testing.assert_array_equal(class_base_cost([0, 2, 1], low=4, high=4), [4, 4, 4])
    np.testing.assert_array_equal(
        class_base_cost([0, 1.5, 1.5, 3], low=3, high=0)[1], 1.5
    )
    for ranks in ([0], [1, 2], [-1, 1], [np.nan, 0]):
        with pytest.raises(ValueError, match=r"ranks = \[.* must lie in 0\.\.C - 1"):
            class_base_cost(ranks, low=1, high=2)
    with pytest.raises(ValueError, match="low = -1 must be"):
        class_base_cost([0, 1], low=-1, high=2)
    with pytest.raises(ValueError, match="high = inf must be"):
        class_base_cost([0, 1], low=1, high=np.inf)
