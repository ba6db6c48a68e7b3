"""The picture of a study: from its lines to the points that `vitlab.pictures.study` draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitlab.files import write_bytes
from vitlab.pictures import study as pictures
from vitlab.pictures.style import Figure, to_bytes
from vitlab.studies.summary import Line


def accuracy_against_time(lines: Sequence[Line], title: str) -> Figure:
    """A matplotlib Figure of the lines that have both; ValueError when none has."""
    return pictures.accuracy_against_time(points(lines), title)


def points(lines: Sequence[Line]) -> list[pictures.Point]:
    """A point for each line with an accuracy and a time."""
    return [
        pictures.Point(line.cell, line.seconds, line.accuracy, line.interval, line.on_front, line.published)
        for line in lines
        if line.seconds is not None and line.accuracy is not None
    ]


def save(figure: Figure, folder: Path) -> list[Path]:
    """picture.png and picture.svg, each whole."""
    made = []
    for kind in ("png", "svg"):
        write_bytes(folder / f"picture.{kind}", to_bytes(figure, "svg" if kind == "svg" else "png"))
        made.append(folder / f"picture.{kind}")
    return made
