"""A study: accuracy against training time, one point per cell, and the report with its table and links to its runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from vitlab import files
from vitlab.errors import RunError
from vitlab.look import style
from vitlab.look.report import Answer, Picture, Section, Table
from vitlab.look.style import BLUE, GREY, RED, run_name
from vitlab.studies import table
from vitlab.studies.driver import read_rows
from vitlab.studies.summary import Line, accuracy_of
from vitlab.text import duration, listed

LETTER, LINE_HEIGHT = 4.8, 8.5  # points: about the width of a letter and the height of a name
AGAIN = "run the study again: its runs are kept"

# The types of the entries of rows.jsonl.
ROW: dict[str, Any] = {
    **dict.fromkeys(("cell", "status", "run"), str),
    **dict.fromkeys(("train_seconds", "test_top1", "val_top1"), float | None),
    "seed": int,
}

Point = tuple[float, float, Line]  # training seconds, accuracy in percent


def points(lines: Sequence[Line]) -> list[Point]:
    """The lines with an accuracy and a time."""
    found = [(line.seconds, line.accuracy, line) for line in lines]
    return [(seconds, score, line) for seconds, score, line in found if seconds is not None and score is not None]


def read_lines(folder: Path) -> tuple[dict[str, Any], list[Line]]:
    """What table.json says about the study, and its lines; RunError if it is damaged or not there yet."""
    path = folder / "table.json"
    if not path.exists():
        raise RunError(f"{folder} is a study that has not finished; rerun the same command to complete it")
    about = files.read_json(path)
    try:
        lines = []
        for row in about["lines"]:
            values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in row.items()}
            lines.append(Line(**{field.name: values[field.name] for field in fields(Line) if field.name in values}))
        facts = {name: about[name] for name in ("study", "accuracy_on", "circumstances")}
    except (KeyError, TypeError, AttributeError):
        raise RunError(f"{path} is damaged; {AGAIN}") from None
    if not lines or not isinstance(facts["circumstances"], dict):
        raise RunError(f"{path} is damaged: it holds no cells or no circumstances; {AGAIN}")
    for number, line in enumerate(lines, start=1):
        files.check_table(path, vars(line), get_type_hints(Line), AGAIN, f"line {number}: ")
    return facts, lines


@style.applied
def accuracy_against_time(lines: Sequence[Line], title: str) -> Figure:
    """The `points` of a study with their intervals, and the Pareto front: those that no other one beats in both.
    Published values are crosses. ValueError without points."""
    drawn = points(lines)
    if not drawn:
        raise ValueError("no cell has both an accuracy and a time")
    figure, axes = style.subplots(style.WIDTH, 5)
    front = sorted((seconds, score) for seconds, score, line in drawn if line.on_front)
    if front:
        steps = {"where": "post", "color": GREY, "linewidth": 1.2, "zorder": 1}
        axes.step(*zip(*front, strict=True), **steps, label="best for its time")
    published = [line.published[::-1] for _, _, line in drawn if line.published]
    for seconds, score, line in drawn:
        low, high = line.interval or (score, score)
        dots: dict[str, Any] = {"fmt": "o", "color": BLUE if line.on_front else GREY, "capsize": 3, "markersize": 5}
        axes.errorbar(seconds, score, [[score - low], [high - score]], **dots, zorder=2)
    if published:
        axes.plot(*zip(*published, strict=True), "x", color=RED, markersize=6, label="the seed page, one run each")
    axes.set_xscale("log")
    times = [seconds for seconds, _, _ in drawn] + [seconds for seconds, _ in published]
    digits = "125" if max(times) > 10 * min(times) else "123456789"  # plain numbers, not too many of them
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else "")
    axes.set(xlabel="training time in seconds (median)", ylabel="accuracy in percent (95 % interval)")
    axes.set_title(run_name(title, 100))
    axes.grid(which="both")
    axes.legend(loc="lower right")
    name_points(axes, drawn)
    return figure


def save(figure: Figure, folder: Path) -> None:
    """Write picture.png and picture.svg into ``folder``."""
    for kind in ("png", "svg"):
        files.write_bytes(folder / f"picture.{kind}", style.to_bytes(figure, kind))


def name_points(axes: Axes, points: Sequence[Point]) -> None:
    """Each name next to its point, where it overlaps no other name and stays inside the plot."""
    in_points = 72 / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    left, right = axes.bbox.x0 * in_points, axes.bbox.x1 * in_points
    taken: list[Bbox] = []
    for seconds, score, line in sorted(points, key=lambda point: -point[0]):  # the right one of two may go right
        x, y = axes.transData.transform((seconds, score)) * in_points
        name = run_name(line.cell)
        width = LETTER * len(name)
        starts = [(x + a if a > 0 else x + a - width, y + b) for b in (4, -11, 12, -19, 20, -27) for a in (6, -6)]
        boxes = [Bbox.from_bounds(*start, width, LINE_HEIGHT) for start in starts]
        inside = [box for box in boxes if left <= box.x0 and box.x1 <= right] or boxes[:1]
        box = next((box for box in inside if not any(map(box.overlaps, taken))), inside[0])
        taken.append(box)
        axes.annotate(name, (seconds, score), (box.x0 - x, box.y0 - y), textcoords="offset points", fontsize=8)


def answer(about: dict[str, Any], lines: list[Line]) -> Answer:
    """The most accurate cell, the cells that cannot be distinguished from it, and the Pareto front."""
    order = sorted((line for line in lines if line.accuracy is not None), key=lambda line: line.rank or 0)
    if not order:
        return Answer("no result", "No run of this study has finished.", [], [])
    best = order[0]
    interval = f" (95 % interval {table.interval_text(best.interval)} %)" if best.interval else ""
    images = f"{about['accuracy_on']} images"
    sentence = f"of {images} are classified correctly by {best.cell}{interval}, the best of {len(lines)} cells."
    facts = [
        ("Training of the best", "unknown" if best.seconds is None else duration(best.seconds)),
        ("Parameters of the best", table.number(best.params) or "unknown"),
        ("Runs", f"{sum(line.done for line in lines)} done, {sum(sum(line.failed.values()) for line in lines)} failed"),
    ]
    alike = [line.cell for line in order[1:] if line.distinguishable is False]
    said = []
    if alike:
        said.append(f"Not distinguishable from it: {listed(alike)}.")
    elif len(order) > 1:
        said.append("It is better than every other cell by more than chance.")
    front = sorted((line for line in lines if line.on_front), key=lambda line: line.seconds or 0.0)
    named = [f"{line.cell} ({line.accuracy:.2f} % in {duration(line.seconds or 0.0)})" for line in front]
    return Answer(f"{best.accuracy:.2f} %", sentence, facts, [*said, f"Best accuracy for their time: {listed(named)}."])


def sections(lines: list[Line]) -> list[Section]:
    """The picture of accuracy against time, if any line has both."""
    drawn = points(lines)
    if not drawn:
        return []
    (short, low, fast), (long, high, slow) = (choose(drawn, key=lambda point: point[0]) for choose in (min, max))
    text = (
        f"Up and to the left is better; grey steps join the cells that no other cell beats in both. From {fast.cell} "
        f"to {slow.cell}, training time grows by a factor of {long / max(short, 1e-9):.1f} and accuracy changes by "
        f"{high - low:+.2f} points."
    )
    alt = f"Accuracy against training time of {len(drawn)} cells, with intervals"
    picture = Picture("picture", "", accuracy_against_time(lines, ""), alt, text, vector=True)
    return [Section("Accuracy against time", [picture])]


def tables(folder: Path, runs: Path, lines: list[Line]) -> dict[str, list[Table]]:
    """All cells, and all runs with links to their reports or folders; RunError if a row is damaged."""
    cells = table.grid_of(lines)
    place = list(cells[0]).index("accuracy %")
    best = frozenset((number, place) for number, line in enumerate(lines) if line.on_front)
    title = "Bold: no other cell is both faster and more accurate"
    texts, links = [], {}
    for number, row in enumerate(read_rows(folder)):
        files.check_table(folder / "rows.jsonl", row, ROW, AGAIN, f"row {number + 1}: ")
        score = accuracy_of({"val_top1": None, "test_top1": None} | row) if row["status"] == "done" else None
        seconds = row.get("train_seconds")
        measured = ["" if score is None else f"{100 * score:.2f}", "" if seconds is None else f"{seconds:,.1f}"]
        texts.append([row["cell"], str(row["seed"]), row["status"], *measured, row["run"]])
        run = runs / row["run"]
        if run.is_dir():
            report = run / "report.html" if (run / "report.html").exists() else run
            links[number, 5] = quote(os.path.relpath(report, folder).replace(os.sep, "/"))
    head = ["cell", "seed", "status", "accuracy %", "training s", "run"]
    return {
        "All cells": [Table(title, list(cells[0]), [list(row.values()) for row in cells], best)],
        "All runs": [Table("", head, texts, links=links)],
    }
