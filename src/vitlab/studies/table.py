"""The table of a study for people and programs: Markdown, CSV, JSON, and a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from vitlab.studies.summary import Line

# Columns that stand only where some line has something to say in them.
OPTIONAL = ("page: accuracy %", "page: s", "verdict", "failed")


def columns(line: Line) -> dict[str, str]:
    """A line's cells by the column's name, as text."""
    parts = line.params_by_part or {}
    head = 100 * parts.get("head", 0) / line.params if line.params else 0.0
    return {
        "cell": line.cell,
        "parameters": number(line.params),
        "in the head": f"{head:.1f} %" if line.params else "",
        "MFLOP": f"{line.flops / 1e6:,.1f}" if line.flops else "",
        "seeds": str(line.done),
        "accuracy %": accuracy_text(line),
        "95 % interval": interval_text(line.interval),
        "rank": rank_text(line),
        "training s": f"{line.seconds:,.1f}" if line.seconds is not None else "",
        "images/s": number(line.images_per_second),
        "page: accuracy %": f"{line.published[0]:.2f}" if line.published else "",
        "page: s": number(line.published[1]) if line.published else "",
        "verdict": line.verdict or "",
        "failed": ", ".join(f"{count} {status}" for status, count in line.failed.items()),
    }


def accuracy_text(line: Line) -> str:
    """Mean and standard deviation."""
    if line.accuracy is None:
        return ""
    return f"{line.accuracy:.2f}" + (f" ± {line.sd:.2f}" if line.sd is not None else "")


def interval_text(interval: tuple[float, float] | None) -> str:
    """From where to where."""
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def rank_text(line: Line) -> str:
    """The rank, with a mark if the interval overlaps that of the best."""
    if line.rank is None:
        return ""
    return str(line.rank) + (" =" if line.distinguishable is False and line.rank > 1 else "")


def number(value: float | None) -> str:
    """With commas; nothing for none."""
    return "" if value is None else f"{value:,.0f}"


def grid_of(lines: Sequence[Line], bars: Sequence[dict[str, float | None]] | None = None) -> list[dict[str, str]]:
    """All lines, without the columns in which none says anything; ``bars``: further columns, seconds to accuracies."""
    rows = [columns(line) for line in lines]
    for row, bar in zip(rows, bars or (), strict=bars is not None):
        row |= {f"s to {name}": "" if seconds is None else f"{seconds:,.1f}" for name, seconds in bar.items()}
    empty = {name for name in OPTIONAL if not any(row[name] for row in rows)}
    return [{name: text for name, text in row.items() if name not in empty} for row in rows]


def markdown(lines: Sequence[Line], notes: Sequence[str]) -> str:
    """A Markdown table with its notes under it."""
    rows = grid_of(lines)
    made = ["| " + " | ".join(rows[0]) + " |", "| --- " * len(rows[0]) + "|"]
    made += ["| " + " | ".join(text.replace("|", "\\|") for text in row.values()) + " |" for row in rows]
    return "\n".join([*made, "", *notes]) + "\n"


def comma_separated(lines: Sequence[Line]) -> str:
    """Numbers as numbers, one line a cell."""
    out = io.StringIO()
    names = [
        "cell",
        "params",
        "head_params",
        "flops",
        "done",
        "accuracy",
        "sd",
        "low",
        "high",
        "rank",
        "distinguishable",
    ]
    names += ["seconds", "images_per_second", "published_accuracy", "published_seconds", "verdict", "on_front"]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        low, high = line.interval or (None, None)
        accuracy, seconds = line.published or (None, None)
        own: dict[str, Any] = {name: getattr(line, name) for name in names if hasattr(line, name)}
        own |= {"head_params": (line.params_by_part or {}).get("head"), "low": low, "high": high}
        writer.writerow(own | {"published_accuracy": accuracy, "published_seconds": seconds})
    return out.getvalue()


def terminal(
    lines: Sequence[Line],
    title: str,
    notes: Sequence[str],
    bars: Sequence[dict[str, float | None]] | None = None,
) -> Table:
    """For rich."""
    rows = grid_of(lines, bars)
    table = Table(title=title, caption="\n".join(notes), caption_justify="left", title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("cell", "verdict", "failed") else "right")
    for row in rows:
        table.add_row(*row.values())
    return table


def notes(lines: Sequence[Line], where: dict[str, Any], split: str) -> list[str]:
    """How to read the table, and under which circumstances it was made."""
    made = [f"Accuracy on {split} images: mean ± sd over seeds; the interval holds the true mean with 95 %."]
    if any(line.distinguishable is False and (line.rank or 0) > 1 for line in lines):
        made.append("A rank with = is not distinguishable from the best: the intervals overlap.")
    if any(line.published for line in lines):
        made.append("Page: one run each; the verdict says whether it could be one more of ours.")
    if any(line.published and line.done == 1 for line in lines):
        made.append(
            "With one seed, verdict and interval know the chance of the test images only, not that of the seed."
        )
    facts = [f"{plain(value)} {name}" for name, value in where.items() if name in ("epochs", "threads")]
    facts += [plain(where[name]) for name in ("device_name", "device", "precision") if name in where]
    if "train_images" in where:
        facts.append(f"{plain(where['train_images'])} training images")
    if "torch" in where:
        facts.append(f"torch {plain(where['torch'])}")
    if "beside" in where:
        facts.append(f"{plain(where['beside'])} at a time")
    if "date" in where:
        facts.append(plain(where["date"]))
    return [*made, "Training seconds are medians, of training steps alone. " + ", ".join(facts) + "."]


def plain(value: Any) -> str:
    """A value, or several."""
    if isinstance(value, list):
        return " or ".join(map(plain, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
