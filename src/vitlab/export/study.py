"""The points of a study for the page's menu, and the models behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlab.config import RunConfig
from vitlab.errors import ConfigError, RunError
from vitlab.predict import Classifier
from vitlab.studies.driver import Row, read_rows, read_study
from vitlab.studies.grid import Cell
from vitlab.studies.summary import Line, summarize

MOST_MODELS = 24  # that come with a page; the best trades of accuracy for time first


@dataclass(frozen=True, eq=False)
class Point:
    """A cell of the study, with the model of its first seed if it can be had."""

    line: Line
    classifier: Classifier | None

    def to_dict(self, model_id: str | None) -> dict[str, Any]:
        """As in models.json: accuracy and interval as fractions, where ``Line`` has percent; seconds of training."""
        line = self.line
        return {
            "id": model_id,
            "cell": line.cell,
            "seconds": line.seconds,
            "accuracy": None if line.accuracy is None else line.accuracy / 100,
            "interval": None if line.interval is None else [bound / 100 for bound in line.interval],
            "on_front": line.on_front,
        }


def study_points(folder: Path, runs: Path, note: Callable[[str], None] = lambda line: None) -> list[Point]:
    """A point for each cell that has an accuracy and a time; RunError if ``folder`` is no study or none has."""
    if not (folder / "study.json").is_file():
        raise RunError(f"{folder} is no study: it has no study.json; `vitlab study` names its folder at the end")
    rows = read_rows(folder)
    try:
        stored = read_study(folder)["cells"]
        cells = [Cell(cell["name"], cell["varied"], RunConfig.from_dict(cell["config"])) for cell in stored]
        lines = [line for line in summarize(cells, rows) if line.accuracy is not None and line.seconds is not None]
    except (KeyError, TypeError, ConfigError):
        raise RunError(f"{folder} is damaged; run the study again: finished runs are kept") from None
    if not lines:
        raise RunError(f"{folder} has no finished run yet; `vitlab study --status {folder}` shows how far it is")
    chosen = sorted(lines, key=lambda line: (not line.on_front, line.rank or 0))[:MOST_MODELS]
    models = {line.cell: model_of(line.cell, rows, runs, note) for line in chosen}
    return [Point(line, models.get(line.cell)) for line in lines]


def model_of(cell: str, rows: list[Row], runs: Path, note: Callable[[str], None]) -> Classifier | None:
    """The model of a cell's first finished seed; None, and a note, if its run is not there."""
    done = [row for row in rows if row["cell"] == cell and row["status"] == "done"]
    try:
        return Classifier.load(runs / str(done[0]["run"]))
    except RunError as error:
        note(f"{cell} comes without its model: {error}")
        return None
