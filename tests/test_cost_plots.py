"""The figure of a plan: what is drawn, and wrong shapes."""

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


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (plots.plan, ([], [], []), "sizes"),
        (plots.plan, ([1, 2], [1.0], [0.1, 0.2]), "costs has shape"),
        (plots.plan, ([1, 2], [1.0, 2.0], [0.1]), "machine has shape"),
    ],
)
def test_wrong_shapes(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments, humans_alone=10.0)
