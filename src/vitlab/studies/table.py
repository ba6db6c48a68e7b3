"""The table of a study: its columns, and how to write them as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from vitlab.runs.result import METRICS
from vitlab.studies.summary import USUAL, Line, groups
from vitlab.text import capitalised, counted, listed, percent, printable

TEXTS = ("cell", "verdict", "failed")  # the columns that hold no numbers


@dataclass(frozen=True)
class Column:
    """A column: its heading and text for people, and the values behind it by their names in CSV."""

    heading: str
    text: Callable[[Line], str]
    values: dict[str, Callable[[Line], Any]] = field(default_factory=dict)
    optional: bool = False  # left out where no line has a text


def own(*names: str) -> dict[str, Callable[[Line], Any]]:
    """Values that are fields of a line."""
    return {name: attrgetter(name) for name in names}


def number(value: float | None, digits: int = 0) -> str:
    """With thousands separators; empty for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def accuracy_text(line: Line) -> str:
    """Mean and standard deviation."""
    return number(line.accuracy, 2) + (f" ± {line.sd:.2f}" if line.sd is not None else "")


def interval_text(interval: tuple[float, float] | None) -> str:
    """Both ends of the interval."""
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def rank_text(line: Line) -> str:
    """The rank, with a mark if it cannot be told from the best."""
    if line.rank is None:
        return ""
    return f"{line.rank} =" if line.distinguishable is False and line.rank > 1 else str(line.rank)


def part(pair: tuple[float, float] | None, index: int) -> float | None:
    """An entry of an interval or of what has been published."""
    return pair[index] if pair else None


def head_params(line: Line) -> int | None:
    """Parameters of the head."""
    return (line.params_by_part or {}).get("head")


def metric_column(name: str) -> Column:
    """A further metric of `Result`, as the mean over seeds."""
    entry = METRICS[name].metadata
    scale = 100 if entry["unit"] == "%" else 1

    def text(line: Line) -> str:
        value = line.metrics.get(name)
        return "" if value is None else number(scale * value, 2)

    values = {name: lambda line: line.metrics.get(name)}
    return Column(f"{entry['label']} {entry['unit']}", text, values, optional=True)


FURTHER = tuple(metric_column(name) for name in METRICS if name not in USUAL)  # left out where a terminal is too narrow
# Every column, declared once; a new one belongs here.
COLUMNS = (
    Column("cell", lambda line: line.cell, own("cell")),
    Column("parameters", lambda line: number(line.params), own("params")),
    Column(
        "in the head",
        lambda line: percent((head_params(line) or 0) / line.params, 1) if line.params else "",
        {"head_params": head_params},
    ),
    Column("MFLOP", lambda line: number(line.flops / 1e6, 1) if line.flops else "", own("flops")),
    Column("seeds", lambda line: str(line.done), own("done")),
    Column("accuracy %", accuracy_text, own("accuracy", "sd")),
    Column(
        "95 % interval",
        lambda line: interval_text(line.interval),
        {"low": lambda line: part(line.interval, 0), "high": lambda line: part(line.interval, 1)},
    ),
    Column("rank", rank_text, own("rank", "distinguishable")),
    *FURTHER,
    Column("training s", lambda line: number(line.seconds, 1), own("seconds")),
    Column("images/s", lambda line: number(line.images_per_second), own("images_per_second")),
    Column(
        "page: accuracy %",
        lambda line: number(part(line.published, 0), 2),
        {"published_accuracy": lambda line: part(line.published, 0)},
        optional=True,
    ),
    Column(
        "page: s",
        lambda line: number(part(line.published, 1)),
        {"published_seconds": lambda line: part(line.published, 1)},
        optional=True,
    ),
    Column("verdict", lambda line: line.verdict or "", own("verdict"), optional=True),
    Column(
        "did not learn",
        lambda line: f"{line.not_learned} of {line.done}" if line.not_learned else "",
        own("not_learned"),
        optional=True,
    ),
    Column("failed", lambda line: ", ".join(f"{n} {status}" for status, n in line.failed.items()), optional=True),
)
# What a terminal that is too narrow leaves out, the first one first.
LESS = (
    *(column.heading for column in FURTHER),
    *("MFLOP", "in the head", "images/s", "parameters", "page: s", "seeds", "rank", "page: accuracy %"),
    "95 % interval",
)
CSV_ONLY = own("on_front", "data", "split", "validation", "data_sha256")
CIRCUMSTANCES = (
    *("threads", "epochs", "device_name", "device", "precision", "train_images", "torch", "beside", "date"),
)


def heading(group: Sequence[Line]) -> str:
    """Which images the accuracies of a table are on."""
    line = group[0]
    return f"accuracy on {line.images}" if line.split else f"no accuracy on {line.data}"


def grid_of(lines: Sequence[Line]) -> list[dict[str, str]]:
    """Texts by heading, one row for each line of a table."""
    shown = [column for column in COLUMNS if not column.optional or any(map(column.text, lines))]
    return [{column.heading: column.text(line) for column in shown} for line in lines]


def without_empty(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The texts without the optional columns that are empty in these rows."""
    empty = {
        column.heading for column in COLUMNS if column.optional and not any(row.get(column.heading) for row in rows)
    }
    return [{heading: text for heading, text in row.items() if heading not in empty} for row in rows]


def markdown(lines: Sequence[Line], notes: Sequence[str]) -> str:
    """A Markdown table for each of `groups`, with a heading if there are several, and the notes below."""
    tables = groups(lines)
    made: list[str] = []
    for group in tables:
        rows = grid_of(group)
        if len(tables) > 1:
            made += [f"### {capitalised(heading(group))}", ""]
        made += ["| " + " | ".join(rows[0]) + " |", "| --- " * len(rows[0]) + "|"]
        made += ["| " + " | ".join(printable(text).replace("|", "\\|") for text in row.values()) + " |" for row in rows]
        made.append("")
    return "\n".join([*made, *notes]) + "\n"


def values_of(line: Line) -> dict[str, Any]:
    """The plain values of a line by their names in CSV."""
    values = {name: value for column in COLUMNS for name, value in column.values.items()} | CSV_ONLY
    return {name: value(line) for name, value in values.items()}


def comma_separated(lines: Sequence[Line]) -> str:
    """CSV with plain numbers, one row for each line."""
    rows = [values_of(line) for line in lines]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def notes(lines: Sequence[Line], where: dict[str, Any]) -> list[str]:
    """How to read the table, and how its rows were made: ``where`` holds their `summary.circumstances`."""
    measured = [group[0] for group in groups(lines) if group[0].split]
    spread = "mean ± standard deviation over seeds, and 95 % interval of the mean."
    one = len(measured) == 1
    made = [f"Accuracy on {measured[0].images}: {spread}" if one else f"Accuracy: {spread}"]
    if len(measured) > 1:
        images = listed([line.images for line in measured])
        made.append(f"Cells are ranked only against those on the same images: {images}.")
    if any(line.split == "validation" for line in measured):
        made.append("Validation images are not a test: training may have chosen its best epoch by them.")
    if any(line.distinguishable is False and (line.rank or 0) > 1 for line in lines):
        made.append("A rank with = is not distinguishable from the best (paired t-test over seeds, 5 % level).")
    if any(line.done == 1 and line.rank for line in lines):
        made.append("A rank from a single seed may be chance; train three or more seeds.")
    if any(line.verdict for line in lines):
        made.append("Page: a single run each; the verdict says whether it could be one more of our runs.")
    if any(line.published and line.done == 1 for line in lines):
        made.append("One seed allows no verdict on the page: its interval reflects the choice of test images only.")
    if any(line.not_learned for line in lines):
        made.append("Did not learn: no better than always guessing the most common class, or the loss blew up.")
    facts = [circumstance(name, where[name]) for name in CIRCUMSTANCES if name in where]
    return [*made, f"Training seconds are medians and count training steps only. {', '.join(facts)}."]


def circumstance(name: str, value: Any) -> str:
    """1 epoch; 1 thread or 2 threads; torch 2.13."""
    word = {"threads": "thread", "epochs": "epoch", "train_images": "training image"}.get(name)
    frame = {"torch": "torch {}", "beside": "{} at a time"}.get(name, "{}")
    values = value if isinstance(value, list) else [value]
    return frame.format(listed([counted(one, word) if word else str(one) for one in values], "or"))
