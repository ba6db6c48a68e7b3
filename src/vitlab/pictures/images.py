"""A data set as pictures: examples of each class, an image cut into patches, random versions of an image.

Letters in names: N images, K classes, S side in pixels, C channels, s side of a patch with its overlap.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitlab.pictures.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    Floats,
    Pixels,
    centres,
    fill_rows,
    label_mosaic,
    mosaic,
    new_figure,
    short,
    show_pixels,
    styled,
)

ROWS = 12  # classes up to which each has a row of its own
COLUMNS = 10
TITLE = 88  # characters of a line above the random versions
LONGEST_LINE = 20  # patches
READABLE = 100  # patches up to which each bears its number


@styled
def examples(images_NSSC: Pixels, labels_N: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """The first ten images of each class, a row a class; with more than twelve classes the first image of each."""
    if len(classes) > ROWS:
        return one_each(images_NSSC, labels_N, classes)
    rows, names = [], []
    for number, name in enumerate(classes):
        own = images_NSSC[labels_N == number][:COLUMNS]
        if len(own):
            rows.append(own if len(own) == COLUMNS else fill_rows(own, COLUMNS)[0])
            names.append(f"{short(name)}  ({(labels_N == number).sum():,})")
    gap = max(1, images_NSSC.shape[1] // 12)
    whole = mosaic(np.stack(rows), gap)
    figure = new_figure(WIDTH, 0.91 * WIDTH * len(rows) / COLUMNS)
    axes = figure.add_subplot()
    show_pixels(axes, whole)
    label_mosaic(axes, names, (), images_NSSC.shape[1:3], gap)
    return figure


def one_each(images_NSSC: Pixels, labels_N: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """One image of each class, its name under it."""
    firsts = [np.flatnonzero(labels_N == number)[:1] for number in range(len(classes))]
    names = [short(name, 11) for name, first in zip(classes, firsts, strict=True) if len(first)]
    chosen = images_NSSC[np.concatenate(firsts)]
    side = images_NSSC.shape[1]
    gap = max(2, math.ceil(side * 0.35))
    grid = fill_rows(chosen, COLUMNS)
    figure = new_figure(WIDTH, WIDTH * len(grid) / COLUMNS)
    axes = figure.add_subplot()
    show_pixels(axes, mosaic(grid, gap))
    for number, name in enumerate(names):
        row, column = divmod(number, COLUMNS)
        x, y = column * (images_NSSC.shape[2] + gap) + images_NSSC.shape[2] / 2, row * (side + gap) + side
        axes.text(x, y, name, ha="center", va="top", fontsize=7)
    return figure


@styled
def patches(
    original: Pixels,
    resized: Pixels,
    tokens_NssC: Pixels,
    grid: int,
    side: int,
    first: int = 0,
    overlap: int = 0,
    inner: int | None = None,
) -> Figure:
    """An image [H, W, C], resized to [S, S, C], cut into ``grid`` x ``grid`` squares of ``side`` pixels from pixel
    ``first`` on, and the N patches in reading order, as the network receives them.

    What no patch covers is shaded: with ``inner``, the side of the square that is cut (a crop; default: all from
    ``first`` on), that which the crop leaves out in grey, and what fills no patch at right and bottom in orange.
    ``tokens_NssC`` have ``overlap`` pixels more on each side.
    """
    size, count = resized.shape[0], len(tokens_NssC)
    inner = size if inner is None else inner
    lines = math.ceil(grid / max(1, LONGEST_LINE // grid))
    columns = grid * math.ceil(grid / lines)  # whole rows of the grid
    whole = side + 2 * overlap
    gap = max(1, math.ceil(whole * (0.32 if count <= READABLE else 0.1)))
    cell = min(1.9, (WIDTH - 0.1) / columns)  # inches of a patch with its gap
    strip = 0.32 + lines * cell
    figure = new_figure(WIDTH, 3.4 + strip)
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=(3.4, strip)))
    left, right = top.subplots(1, 2)
    show_pixels(left, original)
    height, width = original.shape[:2]
    left.set_title(f"the image: {height} x {width} pixels")
    show_pixels(right, resized)
    resizing = "as it is" if (height, width) == (size, size) else f"resized to {size} x {size}"
    right.set_title(f"{resizing}, cut into {grid} x {grid} patches of {side} x {side}")
    draw_grid(right, grid, side, first)
    shade(right, size, first, inner, grid * side)
    if overlap:
        draw_window(right, grid, side, first, overlap)
    draw_tokens(bottom.add_subplot(), tokens_NssC, columns, side, overlap, gap)
    return figure


def draw_grid(axes: Axes, grid: int, side: int, first: int) -> None:
    """The lines between patches."""
    ends = (first - 0.5, first + grid * side - 0.5)
    for number in range(grid + 1):
        place = first + number * side - 0.5
        axes.plot([place, place], ends, color=BLUE, linewidth=1.1)
        axes.plot(ends, [place, place], color=BLUE, linewidth=1.1)


def shade(axes: Axes, size: int, first: int, inner: int, covered: int) -> None:
    """What is left out by a crop, grey, and cut off at right and bottom, orange."""
    low, end, last = first - 0.5, first + inner - 0.5, first + covered - 0.5
    for colour, begin, inside, outside in ((GREY, -0.5, (low, end), size - 0.5), (ORANGE, low, (low, last), end)):
        options: dict[str, Any] = {"facecolor": colour, "alpha": 0.7, "edgecolor": "none"}
        a, b = inside
        frame = [(begin, begin, outside, a), (begin, b, outside, outside), (begin, a, a, b), (b, a, outside, b)]
        for left, top, right, bottom in frame:
            if right > left and bottom > top:
                axes.add_patch(Rectangle((left, top), right - left, bottom - top, **options))
    if inner > covered:
        text = f"cut off: {inner - covered} pixels"
        axes.text(low, size - 0.2, text, color=INK, fontsize=8, va="top", ha="left")
    if size > inner:
        axes.text(size - 0.5, size - 0.2, "left out by the crop", color=INK, fontsize=8, va="top", ha="right")


def draw_window(axes: Axes, grid: int, side: int, first: int, overlap: int) -> None:
    """What the patch in the middle sees with its overlap."""
    corner = first + grid // 2 * side - overlap - 0.5
    whole = side + 2 * overlap
    box = Rectangle((corner, corner), whole, whole, fill=False, edgecolor=ORANGE, linewidth=2.0)
    axes.add_patch(box)


def draw_tokens(axes: Axes, tokens_NssC: Pixels, columns: int, side: int, overlap: int, gap: int) -> None:
    """The patches one after the other, with their numbers; framed where each patch's own pixels lie."""
    count, whole = len(tokens_NssC), side + 2 * overlap
    rows = fill_rows(tokens_NssC, columns)
    show_pixels(axes, mosaic(rows, gap))
    y, x = centres(len(rows), whole, gap), centres(columns, whole, gap)
    for number in range(count):
        row, column = divmod(number, columns)
        if count <= READABLE:
            place = (x[column], y[row] + whole / 2 + gap * 0.05)
            axes.text(*place, str(number + 1), ha="center", va="top", fontsize=7, color=INK)
        corner = (x[column] - whole / 2, y[row] - whole / 2)
        axes.add_patch(Rectangle(corner, whole, whole, fill=False, edgecolor=BLUE, linewidth=0.8))
        if overlap:
            own = (corner[0] + overlap, corner[1] + overlap)
            axes.add_patch(Rectangle(own, side, side, fill=False, edgecolor=ORANGE, linewidth=0.7))
    axes.set_ylim(y[-1] + whole / 2 + (gap if count <= READABLE else 0), -0.5 - gap * 0.1)
    seen = f"{whole} x {whole} pixels each, {overlap} of them shared on every side" if overlap else "in reading order"
    axes.set_title(f"{count} tokens, {seen}")


@styled
def augmentation(original: Pixels, versions_NSSC: Floats, strengths: Sequence[str]) -> Figure:
    """An image [S, S, C] and random versions of it, with the strengths of the changes in words."""
    columns = 8 if len(versions_NSSC) > 8 else max(1, len(versions_NSSC))
    rows = fill_rows(versions_NSSC, columns)
    gap = max(1, original.shape[0] // 14)
    figure = new_figure(WIDTH, 0.26 + (WIDTH - 2.1) * len(rows) / columns)
    left, right = figure.subplots(1, 2, width_ratios=(2.0, WIDTH - 2.1))
    show_pixels(left, original)
    left.set_title("stored")
    show_pixels(right, mosaic(rows, gap))
    words = "as training may see it: " + ", ".join(strengths) if strengths else "training changes nothing"
    right.set_title(textwrap.fill(words, TITLE))
    return figure
