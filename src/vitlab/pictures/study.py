"""Accuracy against time, one point a cell of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitlab.pictures.style import BLUE, GREY, RED, WIDTH, log_time_axis, new_figure, run_name, styled

LETTER, LINE = 4.8, 8.5  # points: about the width of a letter and the height of a name


class Point(NamedTuple):
    """A cell: accuracy in percent with its 95 % interval, seconds of training, whether no other one beats it in both,
    and what has been published for it (accuracy in percent, seconds)."""

    name: str
    seconds: float
    accuracy: float
    interval: tuple[float, float] | None = None
    on_front: bool = False
    published: tuple[float, float] | None = None


@styled
def accuracy_against_time(points: Sequence[Point], title: str) -> Figure:
    """Each point with its interval, and the front of those that no other one beats in both. Published values, if any,
    as crosses. ValueError when there is no point."""
    if not points:
        raise ValueError("no cell has both an accuracy and a time")
    figure = new_figure(WIDTH, 5)
    axes = figure.add_subplot()
    front = sorted((point.seconds, point.accuracy) for point in points if point.on_front)
    if front:
        seconds, scores = zip(*front, strict=True)
        axes.step(seconds, scores, where="post", color=GREY, linewidth=1.2, zorder=1, label="best for its time")
    published = [point.published[::-1] for point in points if point.published]
    times = [point.seconds for point in points] + [seconds for seconds, _ in published]
    for point in points:
        low, high = point.interval or (point.accuracy, point.accuracy)
        bars = [[point.accuracy - low], [high - point.accuracy]]
        color = BLUE if point.on_front else GREY
        axes.errorbar(point.seconds, point.accuracy, bars, fmt="o", color=color, capsize=3, markersize=5, zorder=2)
    if published:
        axes.plot(*zip(*published, strict=True), "x", color=RED, markersize=6, label="the seed page, one run each")
    log_time_axis(axes, times)
    axes.set(
        xlabel="training time in seconds (median)",
        ylabel="accuracy in percent (95 % interval)",
        title=run_name(title, 100),
    )
    axes.grid(which="both")
    axes.legend(loc="lower right")
    name_points(axes, points)
    return figure


def name_points(axes: Axes, points: Sequence[Point]) -> None:
    """Each name beside its point, on the side that is free and inside the picture."""
    in_points = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    left, right = axes.bbox.x0 * in_points, axes.bbox.x1 * in_points
    taken: dict[Point, tuple[float, float, float]] = {}
    for point in sorted(points, key=lambda point: -point.seconds):  # the right one of two keeps the right side
        x, y = axes.transData.transform((point.seconds, point.accuracy)) * in_points
        width = LETTER * len(run_name(point.name))
        boxes = [(x + a if a > 0 else x + a - width, y + b, width) for b in (4, -11, 12, -19, 20, -27) for a in (6, -6)]
        inside = [box for box in boxes if left <= box[0] and box[0] + width <= right] or boxes[:1]
        free = [box for box in inside if not any(meets(box, other) for other in taken.values())] or inside
        taken[point] = free[0]
    for point in points:
        where = axes.transData.transform((point.seconds, point.accuracy)) * in_points
        offset = (taken[point][0] - where[0], taken[point][1] - where[1])
        place = (point.seconds, point.accuracy)
        axes.annotate(run_name(point.name), place, offset, textcoords="offset points", fontsize=8)


def meets(box: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether a name (left, bottom, width) would lie on another one."""
    beside = box[0] + box[2] < other[0] or other[0] + other[2] < box[0]
    return not beside and abs(box[1] - other[1]) < LINE
