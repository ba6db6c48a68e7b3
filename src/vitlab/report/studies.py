"""The report of a study: its table, the picture of accuracy against time, and where its runs lie."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vitlab import files
from vitlab.errors import RunError
from vitlab.report.answer import Answer
from vitlab.report.damage import LINE, ROW, check_table
from vitlab.report.page import Table
from vitlab.report.parts import Picture, Section, duration, listed
from vitlab.studies import picture, table
from vitlab.studies.driver import read_rows, read_study
from vitlab.studies.summary import Line, accuracy_of

AGAIN = "run the study again: its runs are kept"


def read_lines(folder: Path) -> tuple[dict[str, Any], list[Line]]:
    """table.json, and its lines; RunError before the study has ended."""
    if not (folder / "table.json").exists():
        raise RunError(f"{folder} is a study without a table yet; the line that began it goes on, and ends with one")
    about = files.read_json(folder / "table.json")
    try:
        names = {field.name for field in fields(Line)}
        lines = [
            Line(**{name: untuple(value) for name, value in row.items() if name in names}) for row in about["lines"]
        ]
        told = {name: about[name] for name in ("study", "accuracy_on", "circumstances")}
    except (KeyError, TypeError, AttributeError):
        raise RunError(f"{folder / 'table.json'} is damaged; {AGAIN}") from None
    if not lines or not isinstance(told["circumstances"], dict):
        raise RunError(f"{folder / 'table.json'} is damaged: it holds no cells or no circumstances; {AGAIN}")
    for number, line in enumerate(lines, start=1):
        check_table(folder / "table.json", f"line {number}: ", vars(line), LINE, AGAIN)
    return told, lines


def checked_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a study; RunError for one that says no cell, status or run."""
    rows = read_rows(folder)
    for number, row in enumerate(rows, start=1):
        check_table(folder / "rows.jsonl", f"row {number}: ", row, ROW, AGAIN)
    return rows


def untuple(value: Any) -> Any:
    """JSON knows lists only."""
    return tuple(value) if isinstance(value, list) else value


def answer_of(about: dict[str, Any], lines: list[Line]) -> Answer:
    """The most accurate cell, what else cannot be told from it, and the best for their time."""
    order = sorted((line for line in lines if line.accuracy is not None), key=lambda line: line.rank or 0)
    if not order:
        return Answer("no run", "of this study has ended well.", [], [])
    best = order[0]
    interval = f" (95 % interval {table.interval_text(best.interval)} %)" if best.interval else ""
    sentence = (
        f"of {about['accuracy_on']} images are recognised by {best.cell}{interval}, the best of {len(lines)} cells."
    )
    alike = [line.cell for line in order[1:] if line.distinguishable is False]
    front = sorted((line for line in lines if line.on_front), key=lambda line: line.seconds or 0.0)
    failed = sum(sum(line.failed.values()) for line in lines)
    facts = [
        ("Training of the best", duration(best.seconds) if best.seconds is not None else "unknown"),
        ("Parameters of the best", table.number(best.params) or "unknown"),
        ("Runs", f"{sum(line.done for line in lines)} done, {failed} failed"),
    ]
    said = [f"Not distinguishable from it: {listed(alike)}." if alike else "Every other cell is worse, beyond chance."]
    if len(order) == 1:
        said = []
    named = [f"{line.cell} ({line.accuracy:.2f} % in {duration(line.seconds or 0.0)})" for line in front]
    said.append(f"Best for their time: {listed(named)}.")
    return Answer(f"{best.accuracy:.2f} %", sentence, facts, said)


def sections_of(about: dict[str, Any], lines: list[Line]) -> list[Section]:
    """The picture of accuracy against time."""
    points = picture.points(lines)
    if not points:
        return []
    figure = picture.accuracy_against_time(lines, "")
    fast, slow = min(points, key=lambda point: point.seconds), max(points, key=lambda point: point.seconds)
    text = (
        f"Up and to the left is better; the grey steps join those that no other cell beats in both. From {fast.name} "
        f"to {slow.name} the time grows {slow.seconds / max(fast.seconds, 1e-9):.1f} times, and the accuracy changes "
        f"by {slow.accuracy - fast.accuracy:+.2f} points."
    )
    alt = f"Accuracy against training time of {len(points)} cells, with intervals"
    return [Section("Accuracy against time", [Picture("picture", "", figure, alt, text, vector=True)])]


def tables_of(folder: Path, runs: Path, about: dict[str, Any], lines: list[Line]) -> dict[str, list[Table]]:
    """All cells, and all runs with links to their reports or folders."""
    cells = table.grid_of(lines)
    place = list(cells[0]).index("accuracy %")
    best = frozenset((number, place) for number, line in enumerate(lines) if line.on_front)
    title = "Bold: no other cell is both faster and more accurate"
    made = {"All cells": [Table(title, list(cells[0]), [list(row.values()) for row in cells], best)]}
    rows, links = [], {}
    for number, row in enumerate(checked_rows(folder)):
        score, run = (
            (accuracy_of({"val_top1": None, "test_top1": None} | row) if row["status"] == "done" else None),
            runs / row["run"],
        )
        accuracy = "" if score is None else f"{100 * score:.2f}"
        seconds = "" if row.get("train_seconds") is None else f"{row['train_seconds']:,.1f}"
        rows.append([row["cell"], str(row["seed"]), row["status"], accuracy, seconds, row["run"]])
        if run.is_dir():
            report = run / "report.html" if (run / "report.html").exists() else run
            links[number, 5] = quote(os.path.relpath(report, folder).replace(os.sep, "/"))
    head = ["cell", "seed", "status", "accuracy %", "training s", "run"]
    return made | {"All runs": [Table("", head, rows, links=links)]}


def notes_of(about: dict[str, Any], lines: list[Line]) -> str:
    """Under which circumstances, in the words of the table."""
    return " ".join(table.notes(lines, about["circumstances"], about["accuracy_on"]))


def title_of(folder: Path) -> str:
    """The study's name."""
    return f"Study {read_study(folder)['name']}"
