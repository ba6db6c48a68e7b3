"""Accuracy against time, one point a cell of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from vitlab.pictures.style import BLUE, GREY, RED, WIDTH, log_time_axis, new_figure, plain, styled


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
    middle = math.sqrt(min(times) * max(times)) if len(times) > 1 else math.inf
    for point in points:
        low, high = point.interval or (point.accuracy, point.accuracy)
        bars = [[point.accuracy - low], [high - point.accuracy]]
        color = BLUE if point.on_front else GREY
        axes.errorbar(point.seconds, point.accuracy, bars, fmt="o", color=color, capsize=3, markersize=5, zorder=2)
        side = ("right", -6) if point.seconds > middle else ("left", 6)  # names stay within the picture
        where = (point.seconds, point.accuracy)
        axes.annotate(plain(point.name), where, (side[1], 4), textcoords="offset points", ha=side[0], fontsize=8)
    if published:
        axes.plot(*zip(*published, strict=True), "x", color=RED, markersize=6, label="the seed page, one run each")
    log_time_axis(axes, times)
    axes.set(
        xlabel="training time in seconds (median)", ylabel="accuracy in percent (95 % interval)", title=plain(title)
    )
    axes.grid(which="both")
    axes.legend(loc="lower right")
    return figure
