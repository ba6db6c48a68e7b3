"""Accuracy against time, one point a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitlab.study.summary import Line


def accuracy_against_time(lines: Sequence[Line], title: str) -> Any:
    """A matplotlib Figure: one point a cell with the interval of its accuracy, and the front of those that no other
    one beats in both. Published values, if any, as crosses. ValueError when there is no point."""
    from matplotlib.figure import Figure

    points = [(line, line.seconds, line.accuracy) for line in lines]
    known = [(line, s, a) for line, s, a in points if s is not None and a is not None]
    if not known:
        raise ValueError("no cell has both an accuracy and a time")
    figure = Figure(figsize=(8, 5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    front = sorted(((s, a) for line, s, a in known if line.on_front))
    axes.step(*zip(*front, strict=True), where="post", color="0.6", linewidth=1.2, zorder=1, label="best for its time")
    times = [seconds for _, seconds, _ in known] + [line.published[1] for line in lines if line.published]
    middle = math.sqrt(min(times) * max(times)) if len(times) > 1 else math.inf
    for line, seconds, accuracy in known:
        low, high = line.interval or (accuracy, accuracy)
        color = "tab:blue" if line.on_front else "tab:gray"
        bars = [[accuracy - low], [high - accuracy]]
        axes.errorbar(seconds, accuracy, yerr=bars, fmt="o", color=color, capsize=3, markersize=5, zorder=2)
        side = ("right", -6) if seconds > middle else ("left", 6)  # names stay within the picture
        place = (side[1], 4)
        axes.annotate(line.cell, (seconds, accuracy), place, textcoords="offset points", ha=side[0], fontsize=8)
    published = [line.published[::-1] for line in lines if line.published]
    if published:
        axes.plot(
            *zip(*published, strict=True), "x", color="tab:red", markersize=6, label="the seed page, one run each"
        )
    axes.set(xscale="log", xlabel="training time in seconds (median)", ylabel="accuracy in percent (95 % interval)")
    axes.set_title(title, loc="left", fontsize=11)
    digits = "125" if max(times) > 10 * min(times) else "123456789"
    for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else "")
    axes.grid(alpha=0.25, which="both")
    axes.legend(loc="lower right", fontsize=8)
    return figure


def save(figure: Any, folder: Path) -> list[Path]:
    """picture.png and picture.svg, each whole."""
    import io

    from vitlab.files import write_bytes

    made = []
    for kind in ("png", "svg"):
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
        write_bytes(folder / f"picture.{kind}", out.getvalue())
        made.append(folder / f"picture.{kind}")
    return made
