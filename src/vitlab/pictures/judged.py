"""How a network errs: confusion, mistakes, reliability, classes. The numbers are those of `vitlab.look.judge`.

Letters in names: N images, K classes, S side in pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vitlab.look.judge import Mistake, Reliability
from vitlab.pictures.style import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    RED,
    WIDTH,
    Pixels,
    centres,
    fill_rows,
    mosaic,
    new_figure,
    short,
    show_pixels,
    styled,
)
from vitlab.training.evaluate import wilson_interval

NUMBERED = 12  # classes up to which a confusion matrix holds numbers
MOST_CLASSES = 30  # that are shown one by one
COLUMNS = 6


@styled
def confusion(counts_KK: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """How often each class (row) was taken for each class (column), in counts and in percent of the row. Colour shows
    the errors alone; the diagonal is grey."""
    seen_K1 = counts_KK.sum(axis=1, keepdims=True)
    rates_KK = np.where(seen_K1 > 0, 100 * counts_KK / np.maximum(seen_K1, 1), math.nan)  # nothing is known of no image
    names = [short(name, 11) for name in classes]
    figure = new_figure(WIDTH, 4.3)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.08})
    draw_matrix(left, counts_KK, names, "images", "{:.0f}")
    draw_matrix(right, rates_KK, names, "percent of the class", "{:.1f}")
    left.set_ylabel("is")
    return figure


def draw_matrix(axes: Axes, values_KK: npt.NDArray[Any], names: Sequence[str], what: str, text: str) -> None:
    """One matrix; in words where there are few classes."""
    count = len(names)
    errors = values_KK.astype(float)
    np.fill_diagonal(errors, math.nan)
    errors[errors == 0] = math.nan
    some = errors[np.isfinite(errors)]
    norm = LogNorm(min(some.min(), some.max() / 10), some.max()) if len(some) else None
    if norm is not None:
        axes.imshow(errors, cmap="Oranges", norm=norm, interpolation="nearest")
    diagonal = np.where(np.eye(count, dtype=bool), 0.9, math.nan)
    axes.imshow(diagonal, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_color(PALE)
    axes.spines[:].set_visible(True)
    if count <= NUMBERED:
        for place in range(1, count):
            axes.axhline(place - 0.5, color=PALE, linewidth=0.6, zorder=0)
            axes.axvline(place - 0.5, color=PALE, linewidth=0.6, zorder=0)
    step = max(1, math.ceil(count / 25))
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(0, count, step), names[::step], rotation=turned, fontsize=8 if count <= NUMBERED else 6)
    axes.set_yticks(range(0, count, step), names[::step], fontsize=8 if count <= NUMBERED else 6)
    axes.tick_params(length=0)
    axes.set(title=what, xlabel="was taken for")
    if count > NUMBERED:
        return
    for row in range(count):
        for column in range(count):
            value = values_KK[row, column]
            if row == column and math.isnan(value):
                axes.text(column, row, "none", fontsize=7, ha="center", va="center", color="0.15")
            elif value > 0 or row == column:
                dark = row != column and norm is not None and norm(value) > 0.6
                style: dict[str, Any] = {
                    "fontsize": 7,
                    "ha": "center",
                    "va": "center",
                    "color": "white" if dark else "0.15",
                }
                axes.text(column, row, text.format(value), **style)


@styled
def mistakes(images_NSSC: Pixels, found: Sequence[Mistake], classes: Sequence[str]) -> Figure:
    """A gallery of wrong answers, in the given order, one image for each of ``found``: its number in the split, what it
    is, what it was taken for, and how surely."""
    side, rows = images_NSSC.shape[1], math.ceil(len(found) / COLUMNS)
    gap, beside = math.ceil(side * 0.42), math.ceil(side * 0.14)
    figure = new_figure(WIDTH, WIDTH / COLUMNS * (side + gap) / (side + beside) * rows + 0.1)
    axes = figure.add_subplot()
    show_pixels(axes, mosaic(fill_rows(images_NSSC, COLUMNS), gap, beside))
    y, x = centres(rows, side, gap), centres(COLUMNS, images_NSSC.shape[2], beside)
    for number, mistake in enumerate(found):
        row, column = divmod(number, COLUMNS)
        pair = f"{short(classes[mistake.truth], 9)} → {short(classes[mistake.guess], 9)}"
        low = y[row] + side / 2
        bold: dict[str, Any] = {"ha": "center", "va": "top"}
        axes.text(x[column], low + 0.05 * side, pair, **bold, fontsize=9 if len(pair) < 12 else 7, color=RED)
        detail = f"{100 * mistake.probability:.0f} %, no. {mistake.index}"
        axes.text(x[column], low + 0.23 * side, detail, **bold, fontsize=6.5, color="0.35")
    axes.set_ylim(y[-1] + side / 2 + gap, -1)
    return figure


@styled
def reliability(found: Reliability) -> Figure:
    """Accuracy against confidence, bin by bin, with 95 % intervals; below it how many images lie in each bin."""
    middles = (np.array(found.edges[:-1]) + np.array(found.edges[1:])) / 2
    width, counts = found.edges[1] - found.edges[0], np.array(found.counts)
    some = counts > 0
    accuracy, confidence = np.array(found.accuracy), np.array(found.confidence)
    figure = new_figure(5.2, 5.2)
    upper, lower = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="sure as often as right")
    upper.bar(middles[some], accuracy[some], width * 0.94, color=BLUE, alpha=0.3, edgecolor="none")
    bars = [wilson_interval(a, n) for a, n in zip(accuracy[some].tolist(), counts[some].tolist(), strict=True)]
    low, high = np.array(bars).T if bars else np.zeros((2, 0))
    ends = np.maximum([accuracy[some] - low, high - accuracy[some]], 0)
    upper.errorbar(
        confidence[some],
        accuracy[some],
        ends,
        fmt="o",
        color=BLUE,
        capsize=2,
        markersize=4,
        label="found, with 95 % interval",
    )
    upper.set(ylabel="right", xlim=(0, 1), ylim=(0, 1.03))
    upper.set_title(f"expected calibration error {100 * found.ece:.2f} %")
    upper.legend(loc="upper left")
    lower.bar(middles[some], counts[some], width * 0.94, color=BLUE, alpha=0.3)
    lower.set(yscale="log", xlabel="sure (highest probability)", ylabel="images", ylim=(0.6, None))
    lower.grid(axis="y")
    return figure


@styled
def per_class(scores: Sequence[tuple[float, tuple[float, float]]], classes: Sequence[str]) -> Figure:
    """Accuracy of each class with its 95 % interval, from `vitlab.look.judge.per_class`, worst below; of many classes
    the worst thirty."""
    order = sorted(range(len(scores)), key=lambda number: scores[number][0])[:MOST_CLASSES]
    middle = [100 * scores[number][0] for number in order]
    low, high = ([100 * scores[number][1][end] for number in order] for end in (0, 1))
    figure = new_figure(5.2, 0.9 + 0.24 * len(order))
    axes = figure.add_subplot()
    places = np.arange(len(order))
    axes.hlines(places, low, high, color=BLUE, alpha=0.35, linewidth=6)
    axes.plot(middle, places, "o", color=BLUE, markersize=5)
    mean = 100 * sum(score for score, _ in scores) / len(scores)
    axes.axvline(mean, color=ORANGE, linewidth=1.2, zorder=0)
    axes.set_yticks(places, [short(classes[number], 22) for number in order])
    axes.set(xlabel="accuracy % with 95 % interval; line: mean of all classes")
    axes.set_xlim(max(0.0, min(low) - 0.05 * (100 - min(low))), 100.0 + 0.01 * (100 - min(low)))
    if len(scores) > MOST_CLASSES:
        axes.set_title(f"the worst {MOST_CLASSES} of {len(scores)} classes")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    return figure
