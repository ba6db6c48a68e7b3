"""A study: accuracy against training time, one point per cell, and the report with its table and links to its runs.

Cells whose accuracies are on different images (`summary.groups`) share neither a plot nor a table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from vitlab import files
from vitlab.config import RunConfig
from vitlab.errors import ConfigError, RunError
from vitlab.look import style
from vitlab.look.report import Answer, Picture, Section, Table
from vitlab.look.style import BLUE, GREY, RED, run_name
from vitlab.studies import table
from vitlab.studies.driver import AGAIN, Row, read_rows, read_study
from vitlab.studies.grid import Cell, Study
from vitlab.studies.summary import Line, accuracy_of, circumstances, groups, ranked, summarize, with_digests
from vitlab.text import capitalised, duration, listed

LETTER, LINE_HEIGHT = 4.8, 8.5  # points: about the width of a letter and the height of a name

Point = tuple[float, float, Line]  # training seconds, accuracy in percent


def points(lines: Sequence[Line]) -> list[Point]:
    """The lines with an accuracy and a time."""
    found = [(line.seconds, line.accuracy, line) for line in lines]
    return [(seconds, score, line) for seconds, score, line in found if seconds is not None and score is not None]


def read_lines(folder: Path, runs: Path) -> tuple[dict[str, Any], list[Line], list[Row]]:
    """What table.json says about the study, its lines, and its rows; RunError if it is damaged or not there yet."""
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
        searched = facts["accuracy_on"] == "validation"
    except (KeyError, TypeError, AttributeError):
        raise RunError(f"{path} is damaged; {AGAIN}") from None
    if not lines or not isinstance(facts["circumstances"], dict):
        raise RunError(f"{path} is damaged: it holds no cells or no circumstances; {AGAIN}")
    for number, line in enumerate(lines, start=1):
        files.check_table(path, vars(line), get_type_hints(Line), AGAIN, f"line {number}: ")
    rows = with_digests(read_rows(folder), runs)
    return facts, checked_lines(folder, lines, rows, "validation" if searched else "test"), rows


def checked_lines(folder: Path, lines: list[Line], rows: list[Row], split: str) -> list[Line]:
    """The lines of a table with what the rows say about their images, which tables of earlier versions do not; RunError
    if the rows are of several versions of a data set, or not those that the table was made from."""
    path = folder / "study.json"
    try:
        stored = read_study(folder)["cells"]
        cells = [Cell(cell["name"], cell["varied"], RunConfig.from_dict(cell["config"])) for cell in stored]
    except ConfigError as error:
        raise RunError(f"{path} is damaged: {error}; delete it and {AGAIN}") from None
    made = {line.cell: line for line in summarize(cells, rows, split)}
    if {line.cell for line in lines} != made.keys():
        raise RunError(f"{folder / 'table.json'} does not fit {path.name}; {AGAIN}")
    found = []
    for line in lines:
        own = made[line.cell]
        same = line.accuracy is None or own.accuracy is None or abs(line.accuracy - own.accuracy) < 1e-6
        if line.done != own.done or not same:
            raise RunError(f"{folder / 'table.json'} does not fit rows.jsonl; {AGAIN}")
        published = line.published if own.split in ("test", None) else None
        verdict = line.verdict if published and line.done > 1 else None  # earlier versions gave one for a single run
        names = ("data", "data_sha256", "split", "validation", "metrics", "scores")
        facts = {name: getattr(own, name) for name in names}
        found.append(replace(line, **facts, published=published, verdict=verdict))
    return ranked(found)


@dataclass(frozen=True)
class Tables:
    """What a study found: a line for each cell, notes on how to read them, and table.json."""

    lines: list[Line]
    notes: list[str]
    facts: dict[str, Any]


def write_tables(chosen: Study, folder: Path, rows: Sequence[Row], runs: Path) -> Tables:
    """Summarise a study's rows, and write table.json, table.md, table.csv and the picture into its folder."""
    lines = summarize(chosen.cells, rows, "validation" if chosen.identity else "test")
    where = circumstances(rows, runs)
    notes = table.notes(lines, where)
    split = listed(sorted({line.split for line in lines if line.split})) or "no"
    facts = {
        "study": chosen.name,
        "digest": chosen.digest(),
        "seeds": list(chosen.seeds),
        "accuracy_on": split,
        "circumstances": where,
        "lines": [line.to_dict() for line in lines],
    }
    files.write_json(folder / "table.json", facts)
    files.write_bytes(folder / "table.md", table.markdown(lines, notes).encode())
    files.write_bytes(folder / "table.csv", table.comma_separated(lines).encode())
    draw(chosen.name, lines, folder)
    return Tables(lines, notes, facts)


def draw(name: str, lines: Sequence[Line], folder: Path) -> None:
    """Write picture.png and picture.svg into ``folder``, unless no line has both an accuracy and a time."""
    if points(lines):
        title = f"{name}: {table.heading(lines)}" if len(groups(lines)) == 1 else f"{name}: accuracy against time"
        figure = accuracy_against_time(lines, title)
        for kind in ("png", "svg"):
            files.write_bytes(folder / f"picture.{kind}", style.to_bytes(figure, kind))


@style.applied
def accuracy_against_time(lines: Sequence[Line], title: str) -> Figure:
    """The `points` of a study with their intervals, and the Pareto front: those that no other one beats in both; one
    plot for each of `groups`. Published values are crosses. ValueError without points."""
    drawn = [group for group in groups(lines) if points(group)]
    if not drawn:
        raise ValueError("no cell has both an accuracy and a time")
    figure, plots = style.subplots(style.WIDTH, 5 * len(drawn), rows=len(drawn), squeeze=False)
    for group, axes in zip(drawn, plots[:, 0], strict=True):
        plot_group(axes, group)
        name_points(axes, points(group))
        if len(drawn) > 1:
            axes.set_title(run_name(capitalised(table.heading(group)), 100))
    if len(drawn) == 1:
        plots[0, 0].set_title(run_name(title, 100))
    else:
        figure.suptitle(run_name(title, 100))
    return figure


def plot_group(axes: Axes, lines: Sequence[Line]) -> None:
    """The plot of the lines of one group."""
    drawn = points(lines)
    front = sorted((seconds, score) for seconds, score, line in drawn if line.on_front)
    if front:
        steps: dict[str, Any] = {"where": "post", "color": GREY, "linewidth": 1.2, "zorder": 1}
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
    accuracy = f"accuracy on {lines[0].split} images in percent (95 % interval)"
    axes.set(xlabel="training time in seconds (median)", ylabel=accuracy)
    axes.grid(which="both")
    axes.legend(loc="lower right")


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


def answer(lines: list[Line]) -> Answer:
    """The most accurate cell of each group, the cells that cannot be distinguished from it, and the Pareto front."""
    measured = [group for group in groups(lines) if any(line.accuracy is not None for line in group)]
    if not measured:
        return Answer("no result", "No run of this study has finished.", [], [])
    runs = f"{sum(line.done for line in lines)} done, {sum(sum(line.failed.values()) for line in lines)} failed"
    if len(measured) > 1:
        best = [by_rank(group)[0] for group in measured]
        sentence = "on different images, so cells of different tables are not ranked against each other."
        said = [f"Best on {line.images}: {line.cell} ({line.accuracy:.2f} %)." for line in best]
        return Answer(f"{len(measured)} tables", sentence, [("Runs", runs)], said)
    (group,) = measured
    best_line, *others = by_rank(group)
    interval = f" (95 % interval {table.interval_text(best_line.interval)} %)" if best_line.interval else ""
    sentence = (
        f"of {best_line.images} are classified correctly by {best_line.cell}{interval}, the best of {len(group)} cells."
    )
    facts = [
        ("Training of the best", "unknown" if best_line.seconds is None else duration(best_line.seconds)),
        ("Parameters of the best", table.number(best_line.params) or "unknown"),
        ("Runs", runs),
    ]
    alike = [line.cell for line in others if line.distinguishable is False]
    said = []
    if alike:
        said.append(f"Not distinguishable from it: {listed(alike)}.")
    elif others and all(line.distinguishable for line in others):
        said.append("It is better than every other cell by more than chance.")
    elif others:
        said.append("Seeds are too few to tell how much of that is chance.")
    front = sorted((line for line in group if line.on_front), key=lambda line: line.seconds or 0.0)
    named = [f"{line.cell} ({line.accuracy:.2f} % in {duration(line.seconds or 0.0)})" for line in front]
    text = [*said, f"Best accuracy for their time: {listed(named)}."]
    return Answer(f"{best_line.accuracy:.2f} %", sentence, facts, text)


def by_rank(lines: Sequence[Line]) -> list[Line]:
    """The lines with an accuracy, the best first."""
    return sorted((line for line in lines if line.accuracy is not None), key=lambda line: line.rank or 0)


def sections(lines: list[Line]) -> list[Section]:
    """The picture of accuracy against time, if any line has both."""
    drawn = [points(group) for group in groups(lines) if points(group)]
    if not drawn:
        return []
    said = ["Up and to the left is better; grey steps join the cells that no other cell beats in both."]
    for group in drawn:
        (short, low, fast), (long, high, slow) = (choose(group, key=lambda point: point[0]) for choose in (min, max))
        start = f"On {fast.images}, from" if len(drawn) > 1 else "From"
        said.append(
            f"{start} {fast.cell} to {slow.cell}, training time grows by a factor of "
            f"{long / max(short, 1e-9):.1f} and accuracy changes by {high - low:+.2f} points."
        )
    alt = f"Accuracy against training time of {sum(map(len, drawn))} cells, with intervals"
    picture = Picture("picture", "", accuracy_against_time(lines, ""), alt, " ".join(said), vector=True)
    return [Section("Accuracy against time", [picture])]


def tables(folder: Path, runs: Path, lines: list[Line], rows: list[Row]) -> dict[str, list[Table]]:
    """For each group, a table of its cells and one of its runs."""
    measured = groups(lines)
    cells = [table_of_cells(group) for group in measured]
    return {"All cells": cells, "All runs": [table_of_runs(folder, runs, group, rows) for group in measured]}


def table_of_runs(folder: Path, runs: Path, group: Sequence[Line], rows: list[Row]) -> Table:
    """The runs of a group, with links to their reports or folders."""
    splits = {line.cell: line.split for line in group}
    texts, links = [], {}
    for number, row in enumerate(row for row in rows if row["cell"] in splits):
        score = accuracy_of(row, splits[row["cell"]]) if row["status"] == "done" else None
        seconds = row.get("train_seconds")
        measured = ["" if score is None else f"{100 * score:.2f}", "" if seconds is None else f"{seconds:,.1f}"]
        texts.append([row["cell"], str(row["seed"]), row["status"], *measured, row["run"]])
        run = runs / row["run"]
        if run.is_dir():
            report = run / "report.html" if (run / "report.html").exists() else run
            links[number, 5] = quote(os.path.relpath(report, folder).replace(os.sep, "/"))
    head = ["cell", "seed", "status", "accuracy %", "training s", "run"]
    return Table(capitalised(table.heading(group)), head, texts, links=links)


def table_of_cells(group: Sequence[Line]) -> Table:
    """The table of one group."""
    cells = table.grid_of(group)
    place = list(cells[0]).index("accuracy %")
    best = frozenset((number, place) for number, line in enumerate(group) if line.on_front)
    title = f"{capitalised(table.heading(group))}. Bold: no other cell is both faster and more accurate"
    return Table(title, list(cells[0]), [list(row.values()) for row in cells], best)
