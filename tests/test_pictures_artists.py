"""What pictures draw, artist by artist: lines, steps, orders, numbers and names."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from tests.test_pictures import calibration, draw, histories, line, pixels, words
from vitlab.look import attention, curves, mistakes, robustness, study, style
from vitlab.model import Squares


def test_reliability_has_its_diagonal_and_its_points_at_confidence_and_accuracy() -> None:
    upper = calibration().axes[0]
    dashed = next(line for line in upper.lines if line.get_label() == "perfect calibration")
    assert np.asarray(dashed.get_xdata()).tolist() == [0, 1]
    assert np.asarray(dashed.get_ydata()).tolist() == [0, 1]
    points = next(line for line in upper.lines if line.get_marker() == "o")
    assert np.asarray(points.get_xdata()).tolist() == [0.3, 0.5, 0.7, 0.9]  # the empty bin has none
    assert np.asarray(points.get_ydata()).tolist() == [0.33, 0.7, 0.8, 0.95]
    assert upper.get_xlabel() == ""
    assert upper.get_ylabel() == "accuracy"
    assert [round(bar.get_height(), 2) for bar in upper.patches if isinstance(bar, Rectangle)] == [0.33, 0.7, 0.8, 0.95]


def test_the_front_rises_only_where_a_better_cell_stands() -> None:
    """Steps that hold their height until the next point, in the order of time, through points on the front alone."""
    some = [
        line("slow", 30, 95, None, True), line("beaten", 20, 80), line("quick", 3, 90, None, True),
        line("middle", 11, 93, None, True),
    ]  # fmt: skip
    axes = study.accuracy_against_time(some, "").axes[0]
    front = next(line for line in axes.lines if line.get_label() == "best for its time")
    assert front.get_drawstyle() == "steps-post"
    assert np.asarray(front.get_xdata()).tolist() == [3, 11, 30]
    assert np.asarray(front.get_ydata()).tolist() == [90, 93, 95]


def test_the_worst_class_stands_lowest_and_each_point_on_its_own_bar() -> None:
    scores = [(0.8, (0.7, 0.9)), (0.5, (0.3, 0.6)), (0.95, (0.9, 0.99))]
    axes = mistakes.draw_classes(scores, ("a", "b", "c")).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "a", "c"]
    assert axes.get_ylim()[0] < axes.get_ylim()[1]
    points = next(line for line in axes.lines if line.get_marker() == "o")
    assert np.asarray(points.get_xdata()).tolist() == [50.0, 80.0, 95.0]
    assert np.asarray(points.get_ydata()).tolist() == [0, 1, 2]
    bars = [segment.tolist() for segment in axes.collections[0].get_segments()]  # type: ignore[attr-defined]
    assert bars == [[[30.0, 0.0], [60.0, 0.0]], [[70.0, 1.0], [90.0, 1.0]], [[90.0, 2.0], [99.0, 2.0]]]
    mean = next(line for line in axes.lines if line.get_marker() != "o")
    assert np.asarray(mean.get_xdata()).tolist() == pytest.approx([75.0, 75.0])


def test_long_names_are_cut_in_the_middle_and_leave_the_plots_their_room() -> None:
    names = [f"{letter * 150}-{number}" for number, letter in enumerate("ab")]
    run = {kind: [(0.0, 1.0), (1.0, 0.5)] for kind in "vwxyz"}
    made = [
        curves.draw_curves({name: histories()["a"] for name in names}),
        robustness.draw_robustness(
            dict.fromkeys(names, run), dict.fromkeys("vwxyz", "pixels"), dict.fromkeys("vwxyz", draw(2, 5, 5, 1)), 0.1
        ),
        study.accuracy_against_time([line(names[0], 3, 90, None, True)], names[1]),
    ]
    for figure in made:
        style.to_bytes(figure)  # a warning of the layout would be an error
        assert max(map(len, words(figure).split("\n"))) <= 100
        assert min(axes.get_position().width * figure.get_figwidth() for axes in figure.axes) > 1.5
    assert "a…" + 14 * "a" + "-0" in words(made[0])


def test_letters_that_no_font_has_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert style.families(("x", "y", "z"), ("z", "w", "x")) == ["DejaVu Sans", "x", "z"]
    monkeypatch.setattr(style, "FAMILIES", ["DejaVu Sans"])
    assert style.undrawable(("cat", "Äpfel, naïve", "кот", "→…≥")) == ""
    assert style.undrawable(("猫", "a 犬", "猫")) == "犬猫"
    monkeypatch.setattr(style, "FAMILIES", ["DejaVu Sans", "STIXGeneral"])  # which comes with matplotlib, too
    assert style.undrawable(("猫",)) == "猫"


def test_an_accuracy_of_a_hundred_percent_is_no_99_99() -> None:
    figure = curves.draw_curves({"x": [histories()["a"][0] | {"val_top1": 1.0}]})
    assert figure.axes[1].yaxis.get_major_formatter()(0.01, 0) == "≥99.99"
    assert figure.axes[1].yaxis.get_major_formatter()(0.02, 0) == "99.98"


def test_of_a_class_without_images_the_confusion_says_none() -> None:
    figure = mistakes.draw_confusion(np.array([[0, 0], [1, 3]]), ("a", "b"))
    assert [text.get_text() for text in figure.axes[1].texts] == ["none", "25.0", "75.0"]
    style.to_bytes(figure)


def test_the_number_under_an_image_is_its_largest_fall_and_colours_compare_across_images() -> None:
    falls = np.full((3, 2, 2), -0.5)
    falls[:, 1, 0] = (0.237, 0.002, -0.041)
    figure = attention.draw_deletion(pixels(3, 6, 6, 1), ("a", "b", "c"), {}, falls, Squares(2, 3))
    assert [text.get_text() for text in figure.axes[0].texts] == ["23.7", "0.2", "-4.1"]
    shown = np.asarray(figure.axes[0].images[0].get_array())  # the image, a gap, the falls
    strong, slight, rise = (shown[7 + 3, column * 7] for column in range(3))
    assert strong[0] - strong[1] > slight[0] - slight[1] + 0.2
    assert rise[2] > rise[0], "the answer is surer without it"
