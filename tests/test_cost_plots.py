"""Figures of minimum-cost labelling: what is drawn, and wrong shapes."""

import numpy as np
import pytest

from jal import plots

pytest.importorskip("matplotlib")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_plan_marks_its_optimum():
    figure = plots.plan(
        [100, 200, 300], [9.0, 7.0, 8.0], [0.4, 0.6, 0.5], humans_alone=10.0, title="T"
    )
    top, bottom = figure.axes
    np.testing.assert_allclose(top.lines[0].get_ydata(), [9, 7, 8])
    np.testing.assert_allclose(top.lines[1].get_xydata(), [[200, 7]])
    assert "7.00 USD with 200 labels" in texts(top)
    assert "people alone, 10.00 USD" in texts(top)
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), [40, 60, 50])
    assert top.get_title(loc="left") == "T"


def test_schemes_show_means_seeds_and_savings():
    costs = {"MCAL": [4.0, 6.0], "batch 0.1": [8.0]}
    (axes,) = plots.schemes(costs, humans_alone=10.0, title="T").axes
    assert [bar.get_width() for bar in axes.patches] == [5, 8]
    assert texts(axes) == ["5.00 USD, 50% less", "8.00 USD, 20% less"]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()


def test_cost_by_batch_has_ranges_of_seeds():
    figure = plots.cost_by_batch(
        [0.1, 0.2], [[5, 6], [7, 8]], mcal=[4.0, 5.0], humans_alone=10.0, title="T"
    )
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[10, 6], [20, 7]])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [4.5, 4.5])
    one = plots.cost_by_batch([0.1], [[5]], mcal=[4.0], humans_alone=10.0)
    assert len(one.axes[0].collections) == 0 and len(axes.collections) == 1


def test_fits_have_logarithmic_axes():
    laws = {
        "plain, 2 points": ([100, 400], [0.1, 0.05]),
        "truncated, 2 points": ([100, 400], [0.1, 0.04]),
    }
    figure = plots.fits([100, 200, 400], [0.1, 0.07, 0.05], laws, used=[2], title="T")
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [line.get_linestyle() for line in axes.lines[:2]] == ["--", "-"]
    assert axes.get_xticks().tolist() == [100, 200, 400]


def test_the_course_of_a_campaign():
    rounds = [
        {"size": 10, "plan_size": None, "plan_cost": None},
        {"size": 20, "plan_size": 40, "plan_cost": 5.0},
        {"size": 30, "plan_size": 30, "plan_cost": 6.0},
    ]
    top, bottom = plots.course(rounds, humans_alone=10.0, title="T").axes
    np.testing.assert_allclose(top.lines[1].get_xydata(), [[2, 40], [3, 30]])
    np.testing.assert_allclose(bottom.lines[0].get_xydata(), [[2, 5], [3, 6]])


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (plots.plan, ([], [], []), "sizes"),
        (plots.plan, ([1, 2], [1.0], [0.1, 0.2]), "costs has shape"),
        (plots.plan, ([1, 2], [1.0, 2.0], [0.1]), "machine has shape"),
        (plots.schemes, ({},), "costs is empty"),
        (plots.course, ([{"plan_cost": None}],), "no round has a plan"),
    ],
)
def test_wrong_shapes(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments, humans_alone=10.0)


def test_more_wrong_shapes():
    with pytest.raises(ValueError, match="batches has shape"):
        plots.cost_by_batch([0.1], [5.0], mcal=[4.0], humans_alone=1.0)
    with pytest.raises(ValueError, match="rates"):
        plots.fits([1, 2], [0.1], {})
