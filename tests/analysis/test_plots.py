"""Figures: what they show is what the rows say, whatever the run has to offer."""

import re
from functools import partial
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cnn_jax.analysis import drawing, plots
from cnn_jax.analysis.calibration import calibration_error, reliability
from cnn_jax.analysis.class_scores import confusion_matrix
from tests.analysis.records import ROWS, predictions, record, row

ONE = [("made up", [record()])]
SVG = "{http://www.w3.org/2000/svg}"


def _texts(svg):
    return [each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def _line(figure, *points):
    """Whether a figure has a line through just these points."""
    wanted = np.array(points)
    lines = [np.column_stack(line.get_data()) for line in figure.axes[0].lines]
    return any(each.shape == wanted.shape and np.allclose(each, wanted) for each in lines)


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_curves_are_the_rows_and_the_best_evaluation_is_marked(metric):
    figure = plots.metric_curves(ONE, metric)
    assert _line(figure, *((each["epoch"], each[f"train_{metric}"]) for each in ROWS))
    validation = [r for r in ROWS if f"validation_{metric}" in r]
    assert _line(figure, *((each["epoch"], each[f"validation_{metric}"]) for each in validation))
    assert _line(figure, (2.0, ROWS[2][f"validation_{metric}"]))


def test_curves_of_several_runs_lie_over_each_other():
    other = record([row(10, validation_loss=0.1, validation_accuracy=0.9)])
    figure = plots.metric_curves([*ONE, ("another", [other])], "accuracy")
    assert _line(figure, *((each["epoch"], each["train_accuracy"]) for each in ROWS))
    colors = {line.get_color() for line in figure.axes[0].lines}
    assert len(colors) == 2
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["made up, best 80.0%", "another, best 90.0%"]


@pytest.mark.parametrize("draw", [plots.metric_curves, partial(plots.column_curves, title="Loss")])
def test_no_two_of_many_runs_look_alike(draw):
    """Their names are equal up to where a legend cuts them."""
    groups = [
        ("a very long name that goes on and on and on, " + f"{i}", [record()]) for i in range(30)
    ]
    figure = draw(groups, "loss" if draw is plots.metric_curves else "train_loss")
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len(looks) == 30
    legend = figure.legends[0]
    texts = [text.get_text() for text in legend.get_texts()][:30]
    assert texts[0].startswith("1: a very long") and len(set(texts)) == 30
    handles = [(line.get_color(), line.get_marker()) for line in legend.get_lines()[:30]]
    assert set(handles) == looks
    assert drawing.rendered(figure, "many")[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(10)],
        [row(10), row(20)],
        [row(10, validation_loss=0.6, validation_accuracy=0.7)],
        [{**row(10), "train_loss": np.nan}, {**row(20), "train_loss": np.inf}],
        [{**each, "train_loss": 10.0 ** -each["step"]} for each in ROWS],
    ],
    ids=["none", "one", "no validation", "one evaluation", "not finite", "over many powers"],
)
def test_any_rows_can_be_drawn(rows):
    runs = [("made up", [record(rows)])]
    for metric in ("loss", "accuracy"):
        png, svg = drawing.rendered(plots.metric_curves(runs, metric), metric)
        assert png.startswith(b"\x89PNG")
        assert any(text.startswith(metric.capitalize()) for text in _texts(svg))


def test_long_runs_are_thinned_by_means():
    rows = [row(step) for step in range(1, 20_001)]
    figure = plots.column_curves([("long", [record(rows)])], "train_loss", "Loss")
    x, y = figure.axes[0].lines[0].get_data()
    assert len(x) == plots.MOST_POINTS
    np.testing.assert_allclose(y[0], np.mean([9 / step for step in range(1, 41)]))


def test_figures_repeat_byte_for_byte_and_leave_no_trace():
    before = dict(matplotlib.rcParams)
    first, second = (drawing.rendered(plots.metric_curves(ONE, "loss"), "loss") for _ in range(2))
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_files_are_png_on_white_and_svg_in_the_colours_of_the_reader(tmp_path):
    inline = drawing.save(plots.metric_curves(ONE, "loss"), tmp_path / "loss")
    picture = np.asarray(Image.open(tmp_path / "loss.png"))
    assert picture[0, 0].tolist() == [255, 255, 255]
    file = (tmp_path / "loss.svg").read_text()
    assert "prefers-color-scheme: dark" in file and "prefers-color-scheme" not in inline
    for text in (inline, file):
        ElementTree.fromstring(text)
        colors = re.findall(r"(?:fill|stroke): ([^;\"]+)", text)
        assert {c for c in colors if c.startswith("#")} <= {drawing.ON_HEAT}
        assert "var(--series-0, #0072b2)" in colors
        links = re.findall(r"(?:href|url)[=(]\"?([^\")]*)", text)
        assert all(link.startswith(("#", "data:")) for link in links)


@pytest.mark.parametrize("classes", [2, 10, 21, 31, 1000])
@pytest.mark.parametrize("rates", [False, True])
def test_a_heat_map_is_legible_for_any_number_of_classes(classes, rates):
    said = predictions(classes)
    matrix = confusion_matrix(said.logits, said.split.labels)
    names = [f"class {i}" for i in range(classes)]
    figure = plots.confusion_heat_map(matrix, names, rates=rates)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(labels) == min(classes, plots.MOST_CLASSES)
    assert labels[-1] == ("others" if classes > plots.MOST_CLASSES else names[-1])
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert len(numbers) == (classes**2 if classes <= 20 else 0)
    if classes == 2 and not rates:
        assert [int(number or 0) for number in numbers] == matrix.ravel().tolist()
    if classes == 2 and rates:
        shares = 100 * matrix / matrix.sum(axis=1, keepdims=True)
        assert [int(number) for number in numbers] == shares.round().ravel().tolist()


@pytest.mark.parametrize("name", ["猫", "قطة", "חתול", "👩‍🚀", "", "क्षि", "e\u0301", "\n"])
def test_classes_that_cannot_be_drawn_are_numbered(name):
    figure = plots.confusion_heat_map(np.eye(2, dtype=int), ["cat", name], rates=False)
    _, svg = drawing.rendered(figure, "confusion")
    assert _texts(svg).count("1") == 4  # two labels, two cells
    assert "cat" not in _texts(svg)


def test_names_are_drawn_as_they_are_and_not_at_any_length():
    names = ["$x^2_", "<b>&amp;", "x" * 300, "Ünïcödé"]
    _, svg = drawing.rendered(
        plots.confusion_heat_map(np.eye(4, dtype=int), names, rates=True), "m"
    )
    assert {"$x^2_", "<b>&amp;", "x" * 13 + "…", "Ünïcödé"} <= set(_texts(svg))


def test_names_that_are_alike_when_cut_are_numbered():
    names = ["a very long name 1", "a very long name 2"]
    figure = plots.confusion_heat_map(np.eye(2, dtype=int), names, rates=False)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["0", "1"]


def test_the_reliability_diagram_shows_its_bins():
    said = predictions(4)
    diagram = reliability(*said.decisions())
    figure = plots.reliability_diagram(diagram, calibration_error(diagram))
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_array_equal(heights, diagram.accuracy)
    shares = [bar.get_height() for bar in figure.axes[1].patches]
    assert sum(shares) == pytest.approx(1)


def test_time_bars_are_sorted_and_say_their_share():
    figure = plots.time_bars({"train": 3.0, "compile": 1.0, "import": 0.0})
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [0, 1, 3]
    assert [text.get_text() for text in figure.axes[0].texts][-1] == "3.0 s · 75%"
    drawing.rendered(plots.time_bars({"train": 0.0}), "time")
