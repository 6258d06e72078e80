"""Figures of the experiments: what is drawn, wrong shapes, no global state."""

import ast
import doctest
import inspect

import numpy as np
import pytest

from experiments.common import figures
from experiments.cost_sensitive import curves, figure1, report, table1
from experiments.min_cost import figures as mcal
from jal import plots

matplotlib = pytest.importorskip("matplotlib")


def texts(axes):
    return [text.get_text() for text in axes.texts]


# --- learning curves ------------------------------------------------------------------


def test_lines_and_bands_are_mean_and_sd():
    y = [[0.2, 0.6, 0.8], [0.4, 0.8, 0.8]]
    figure = figures.learning_curves({"bald": ([20, 30, 40], y)}, x_label="labels")
    (axes,) = figure.axes
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [[20, 0.3], [30, 0.7], [40, 0.8]])
    (band,) = axes.collections
    vertices = band.get_paths()[0].vertices
    assert {tuple(v) for v in np.round(vertices, 6)} == {
        (20.0, 0.2),
        (30.0, 0.6),
        (40.0, 0.8),
        (20.0, 0.4),
        (30.0, 0.8),
    }
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("labels", "test accuracy")


def test_rounds_without_values_are_left_out():
    nan = float("nan")
    y = [[0.2, nan, 0.8, nan], [0.4, nan, nan, nan]]
    figure = figures.learning_curves({"bald": ([20, 30, 40, 50], y)}, x_label="labels")
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[20, 0.3], [40, 0.8]])


def test_every_curve_is_named_at_its_end():
    x = [20, 30]
    curves = {
        "random": (x, [[0.5, 0.7], [0.5, 0.72]]),
        "bald": (x, [[0.5, 0.71], [0.5, 0.73]]),
        "entropy": (x, [[0.5, 0.72]]),
    }
    figure = figures.learning_curves(curves, x_label="labels", title="T", target=0.6)
    (axes,) = figure.axes
    assert len(axes.lines) == 4, "three curves and the target"
    assert len(axes.collections) == 2, "one seed has no band"
    assert sorted(texts(axes)) == [
        "bald",
        "entropy",
        "mean ± SD of 1 to 2 seeds",
        "random",
        "target 0.6",
    ]
    assert axes.get_title(loc="left") == "T"
    assert axes.get_legend() is None
    heights = sorted(t.xyann[1] for t in axes.texts if t.get_text() in curves)
    assert min(np.diff(heights)) >= 0.05, "names overlap"
    assert len({line.get_color() for line in axes.lines}) == 4


def test_curves_that_end_apart_have_a_legend_in_the_order_of_their_ends():
    curves = {
        "random": ([0, 50], [[0.5, 0.7]]),
        "bald beta=0.0": ([0, 70], [[0.5, 0.9]]),
        "bald beta=0.5": ([0, 40], [[0.5, 0.8]]),
    }
    figure = figures.learning_curves(curves, x_label="cost")
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "bald β = 0.0",
        "bald β = 0.5",
        "random",
    ]
    assert legend.get_title().get_text() == "", "one seed has no SD"
    shown = [line.get_color() for line in legend.get_lines()]
    drawn = [figure.axes[0].lines[i].get_color() for i in (1, 2, 0)]
    assert shown == drawn


def test_a_single_round_is_visible():
    figure = figures.learning_curves({"bald": ([20], [[0.5]])}, x_label="labels")
    assert figure.axes[0].lines[0].get_marker() == "o"


def test_many_curves_have_styles_of_their_own():
    curves = {f"arm {i}": ([0, 1], [[0, i]]) for i in range(18)}
    lines = figures.learning_curves(curves, x_label="labels").axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 18


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "values is empty"),
        ({"bald": ([20, 30], [0.5, 0.6])}, r"'bald'.*shape \(2,\); expected"),
        ({"bald": ([20, 30], [[0.5]])}, r"expected \[R\] and \[seeds, R\]"),
        ({"bald": ([20], [[float("nan")]])}, "no finite value"),
    ],
)
def test_curves_are_checked(curves, message):
    with pytest.raises(ValueError, match=message):
        figures.learning_curves(curves, x_label="labels")


@pytest.mark.parametrize(
    ("heights", "placed"),
    [
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5, 0.55], [0.5, 0.6, 0.7]),
        ([0.9, 0.98, 0.99], [0.8, 0.9, 1.0]),
    ],
)
def test_names_are_moved_apart(heights, placed):
    np.testing.assert_allclose(figures.spread_out(np.array(heights), gap=0.1), placed)


# --- cost against accuracy ------------------------------------------------------------

PANEL = {
    "random": ([90.0, 110.0], [0.8, 0.9]),
    "mean_std beta=0.1": ([110.0, 130.0], [0.9, 0.94]),
    "mean_std beta=0.0": ([120.0, 140.0], [0.9, 0.96]),
    "mean_std beta=0.5": ([60.0, 80.0], [0.8, 0.84]),
    "learned beta=0.3": ([80.0, 90.0], [0.8, 0.9]),
}


def test_a_panel_a_moment():
    figure = report.cost_accuracy({"halfway": PANEL, "end": PANEL})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["halfway", "end"]
    for axes in figure.axes:
        assert len(axes.containers) == 3, "random, known cost and learned cost"
        assert axes.get_xlabel() == "annotation cost (arbitrary cost units)"
        assert texts(axes) == [
            "β = 0",
            "0.1",
            "β = 0.5",
            "← cheaper than random",
            "↑ more accurate",
        ]
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "mean ± SD of 2 seeds"
    assert [text.get_text() for text in legend.get_texts()] == [
        "random",
        "mean_std, β as labelled",
        "learned β = 0.3",
    ]


def test_points_are_means_with_sds_both_ways():
    (axes,) = report.cost_accuracy({"end": PANEL}).axes
    _, known, _ = axes.containers
    line, _, bars = known.lines
    np.testing.assert_allclose(
        line.get_xydata(),
        [[130, 0.93], [120, 0.92], [70, 0.82]],
        err_msg="order of beta",
    )
    horizontal, vertical = (np.array(bar.get_segments()) for bar in bars)
    np.testing.assert_allclose(horizontal[0], [[120, 0.93], [140, 0.93]])
    np.testing.assert_allclose(vertical[0], [[130, 0.9], [130, 0.96]])
    markers = {container.lines[0].get_marker() for container in axes.containers}
    assert len(markers) == 3


def test_random_divides_the_panel():
    (axes,) = report.cost_accuracy({"end": PANEL}).axes
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_xdata()[0] == pytest.approx(100)
    assert dotted[1].get_ydata()[0] == pytest.approx(0.85)
    alone = {"bald": ([1.0], [0.5])}
    (axes,) = report.cost_accuracy({"end": alone}).axes
    assert texts(axes) == [] and len(axes.containers) == 1


def test_a_beta_alone_is_a_marker_with_its_name():
    panel = {name: PANEL[name] for name in ("random", "mean_std beta=0.1")}
    figure = report.cost_accuracy({"end": panel})
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["random", "mean_std β = 0.1"]


def test_arms_may_be_missing_in_a_panel():
    figure = report.cost_accuracy({"a": PANEL, "b": {"random": PANEL["random"]}})
    assert [len(axes.containers) for axes in figure.axes] == [3, 1]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, "at least one panel"),
        ({"end": {}}, "at least one panel"),
        ({"end": {"bald": ([1.0], [0.5, 0.6])}}, r"'bald'.*expected \[seeds\] twice"),
        ({"end": {"bald": ([], [])}}, r"expected \[seeds\] twice"),
        ({"end": {"bald": ([1.0], [float("nan")])}}, "'bald'.*not finite"),
    ],
)
def test_points_are_checked(points, message):
    with pytest.raises(ValueError, match=message):
        report.cost_accuracy(points)


# --- files ----------------------------------------------------------------------------


def make():
    return figures.learning_curves({"bald": ([20, 30], [[0.5, 0.6]])}, x_label="labels")


def test_panels_can_be_drawn(tmp_path):
    plots.save(report.cost_accuracy({"a": PANEL, "b": PANEL}), tmp_path / "figure.png")
    width, height = matplotlib.image.imread(tmp_path / "figure.png").shape[1::-1]
    assert 1300 < width < 1700 and 600 < height < 900


def test_no_global_state_is_touched():
    before = dict(matplotlib.rcParams)
    report.cost_accuracy({"end": PANEL})
    make()
    assert dict(matplotlib.rcParams) == before
    for module in (plots, figures, report, mcal):
        nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
        imports = [n for n in nodes if isinstance(n, ast.Import)]
        names = [alias.name for n in imports for alias in n.names]
        names += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        assert not any("pyplot" in name for name in names)


@pytest.mark.parametrize(
    "module",
    [figures, report, mcal, table1, figure1, curves],
    ids=lambda m: m.__name__,
)
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


# --- bars by stage, histograms --------------------------------------------------------


def test_bars_are_means_with_whiskers():
    values = {
        "random": ([20, 30], [[1.0, 2.0], [3.0, 2.0]]),
        "TA-VAAL": ([20, 30], [[2.0, 2.2], [2.0, 2.6]]),
    }
    figure = figures.stage_bars(
        values,
        x_label="labels",
        y_label="entropy (nats)",
        title="T",
    )
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [2.0, 2.0, 2.0, 2.4])
    lefts = [bar.get_x() for bar in axes.patches]
    assert lefts[0] < lefts[2] < lefts[1] < lefts[3], "side by side, stage by stage"
    whiskers = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(whiskers[0][:, 1], [1, 3])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["20", "30"]
    assert axes.get_ylim()[0] < 1 and axes.get_ylim()[1] > 3
    assert axes.get_title(loc="left") == "T"
    assert axes.get_legend().get_title().get_text() == "mean ± SD of 2 seeds"


def test_bars_of_one_seed_have_no_whiskers():
    figure = figures.stage_bars({"a": ([1], [[0.0]])}, x_label="x", y_label="y")
    (axes,) = figure.axes
    assert axes.containers[0].errorbar is None
    assert axes.get_ylim()[0] < 0 < axes.get_ylim()[1]


def test_bars_need_the_same_stages():
    with pytest.raises(ValueError, match="values is empty"):
        figures.stage_bars({}, x_label="x", y_label="y")
    with pytest.raises(ValueError, match=r"values\['b'\] has stages \[1.0, 3.0\]"):
        values = {"a": ([1, 2], [[1, 2]]), "b": ([1, 3], [[1, 2]])}
        figures.stage_bars(values, x_label="x", y_label="y")


def test_histograms_are_shares_on_common_axes():
    counts = {"VAAL": [0, 4, 0], "TA-VAAL": [1, 2, 1]}
    figure = figures.histograms(
        counts, [0, 0.25, 0.75, 1], x_label="D", y_label="share", title="T"
    )
    shares = [axes.patches[0].get_data().values.tolist() for axes in figure.axes]
    assert shares == [[0, 1, 0], [0.25, 0.5, 0.25]]
    assert [axes.get_title("left") for axes in figure.axes] == ["VAAL", "TA-VAAL"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[1].get_xlabel() == "D"
    assert figure.axes[0].get_xlim() == (0, 1)


def test_histograms_have_the_colours_of_the_other_figures():
    x, names = [1, 2], ("random", "learning loss", "VAAL")
    curves = figures.learning_curves(dict.fromkeys(names, (x, [x])), x_label="x")
    line = next(c for c in curves.axes[0].lines if c.get_label() == "VAAL")
    panels = figures.histograms(
        {"VAAL": [1]}, [0, 1], x_label="D", y_label="share", names=names
    )
    color = panels.axes[0].patches[0].get_facecolor()
    assert color[:3] == pytest.approx(matplotlib.colors.to_rgb(line.get_color()))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "counts is empty"),
        ({"VAAL": [1, 2, 3]}, r"counts\['VAAL'\] has shape \(3,\)"),
        ({"VAAL": [0, 0]}, "the sum 0.0"),
    ],
)
def test_histograms_that_cannot_be_drawn(counts, message):
    with pytest.raises(ValueError, match=message):
        figures.histograms(counts, [0, 0.5, 1], x_label="D", y_label="share")


# --- minimum-cost labelling -----------------------------------------------------------


def test_schemes_show_means_seeds_and_savings():
    costs = {"MCAL": [4.0, 6.0], "batch 0.1": [8.0]}
    (axes,) = mcal.schemes(costs, humans_alone=10.0, title="T").axes
    assert [bar.get_width() for bar in axes.patches] == [5, 8]
    assert texts(axes) == ["5.00 USD, 50% less", "8.00 USD, 20% less"]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()


def test_cost_by_batch_has_ranges_of_seeds():
    figure = mcal.cost_by_batch(
        [0.1, 0.2], [[5, 6], [7, 8]], mcal=[4.0, 5.0], humans_alone=10.0, title="T"
    )
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[10, 6], [20, 7]])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [4.5, 4.5])
    one = mcal.cost_by_batch([0.1], [[5]], mcal=[4.0], humans_alone=10.0, title="")
    assert len(one.axes[0].collections) == 0 and len(axes.collections) == 1


def test_fits_have_logarithmic_axes():
    laws = {
        "plain, 2 points": ([100, 400], [0.1, 0.05]),
        "truncated, 2 points": ([100, 400], [0.1, 0.04]),
    }
    figure = mcal.fits([100, 200, 400], [0.1, 0.07, 0.05], laws, used=[2], title="T")
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
    top, bottom = mcal.course(rounds, humans_alone=10.0, title="T").axes
    np.testing.assert_allclose(top.lines[1].get_xydata(), [[2, 40], [3, 30]])
    np.testing.assert_allclose(bottom.lines[0].get_xydata(), [[2, 5], [3, 6]])


def test_wrong_costs():
    alone = dict(humans_alone=10.0, title="")
    with pytest.raises(ValueError, match="costs is empty"):
        mcal.schemes({}, **alone)
    with pytest.raises(ValueError, match="no round has a plan"):
        mcal.course([{"plan_cost": None}], **alone)
    with pytest.raises(ValueError, match="batches has shape"):
        mcal.cost_by_batch([0.1], [5.0], mcal=[4.0], **alone)
    with pytest.raises(ValueError, match="rates"):
        mcal.fits([1, 2], [0.1], {}, used=[], title="")
