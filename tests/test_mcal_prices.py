"""What training on growing sets costs."""

import numpy as np
import pytest

from jal import mcal
from jal.mcal import TrainingPrice, _prices

PER_IMAGE = TrainingPrice(per_image=0.0003)


@pytest.mark.parametrize(
    ("size", "batch", "printed"),
    [
        (6000, 600, 19.8),
        (12000, 600, 75.6),
        (12000, 1200, 39.6),
        (12000, 3000, 18.0),
        (12000, 12000, 7.2),
    ],
)
def test_exact_sums_are_half_of_the_printed_equation(size, batch, printed):
    rounds = size // batch
    assert 0.0003 * size * (size / batch + 1) == pytest.approx(printed)
    exact = mcal.price_of_rounds(PER_IMAGE, 0, size, rounds)
    assert exact == pytest.approx(printed / 2)
    as_printed = TrainingPrice(per_image=2 * 0.0003)
    found = mcal.price_of_rounds(as_printed, 0, size, rounds)
    assert found == pytest.approx(printed)


def test_future_rounds():
    expected = [
        3.6,
        5.85,
        8.1,
        10.35,
        12.6,
        14.85,
        17.1,
        19.35,
        21.6,
        23.85,
        26.1,
        28.35,
    ]
    numbers = np.arange(1, 13)
    found = mcal.price_of_rounds(PER_IMAGE, 3000, 12_000, numbers)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("stop", [3000, 3001, 4000, 4300, 12_000])
def test_sums_are_those_of_the_rounds(stop):
    price = TrainingPrice(0.5, 0.0003, 1e-8)
    of = lambda size: 0.5 + 0.0003 * size + 1e-8 * size**2
    sizes, size = [], 3000
    while size < stop:
        size = min(size + 1000, stop)
        sizes.append(size)
    found = mcal.price_of_batches(price, 3000, stop, 1000)
    assert found == pytest.approx(sum(map(of, sizes)))
    number = 4
    equal = [3000 + (stop - 3000) * part / number for part in range(1, number + 1)]
    found = mcal.price_of_rounds(price, 3000, stop, number)
    assert found == pytest.approx(sum(map(of, equal)))
    assert mcal.price_of_rounds(price, 3000, stop, 0) == 0


def test_the_price_of_measured_trainings():
    sizes = np.array([500, 1000, 3000, 7000])
    seconds = 2 + 0.01 * sizes
    price = mcal.price_from_seconds(sizes, seconds, dollars_per_hour=3.6)
    assert price.fixed == pytest.approx(0.002)
    assert price.per_image == pytest.approx(1e-5)
    # Never negative, whatever was measured.
    falling = mcal.price_from_seconds([1, 2, 3], [9.0, 8.0, 7.0], dollars_per_hour=1)
    assert falling.fixed > 0 and falling.per_image == 0
    once = mcal.price_from_seconds([500], [5.0], dollars_per_hour=3600)
    assert once == TrainingPrice(0.0, pytest.approx(0.01))


@pytest.mark.parametrize(
    ("sizes", "seconds", "hourly", "message"),
    [
        ([1, 2], [1.0], 1.0, "expected"),
        ([], [], 1.0, "expected"),
        ([1, 2], [1.0, -1.0], 1.0, "seconds="),
        ([1, 0], [1.0, 1.0], 1.0, "sizes="),
        ([1], [1.0], 0.0, "dollars_per_hour="),
        ([1], [np.nan], 1.0, "seconds="),
    ],
)
def test_measurements_that_are_none(sizes, seconds, hourly, message):
    with pytest.raises(ValueError, match=message):
        mcal.price_from_seconds(sizes, seconds, dollars_per_hour=hourly)


@pytest.mark.parametrize(
    "price",
    [TrainingPrice(), TrainingPrice(-1.0), TrainingPrice(0.0, np.inf)],
)
def test_prices_that_are_none(price):
    with pytest.raises(ValueError, match="training"):
        _prices.check(price)
