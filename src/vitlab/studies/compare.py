"""Two or more presets side by side on one machine, seed by seed, and the sentence that says which is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitlab.runs.folder import RunFolder
from vitlab.studies.driver import Row
from vitlab.studies.summary import Line, accuracy_of, student

BARS = (0.98, 0.99, 0.995)


def seconds_to_bars(row: Row, runs: Path) -> dict[str, float | None]:
    """Training seconds of a finished run to the end of its first epoch whose validation accuracy reaches each bar."""
    history = RunFolder(runs / row["run"]).history()
    return {
        f"{100 * bar:g} %": next((e["train_seconds"] for e in history if (e["val_top1"] or 0.0) >= bar), None)
        for bar in BARS
    }


def bars_of(rows: Sequence[Row], runs: Path) -> dict[str, float | None]:
    """The medians over seeds; None for a bar that more than half of the runs did not reach."""
    each = [seconds_to_bars(row, runs) for row in rows if row["status"] == "done"]
    made: dict[str, float | None] = {}
    for name in each[0] if each else ():
        reached = [times[name] for times in each]
        middle = statistics.median(math.inf if seconds is None else seconds for seconds in reached)
        made[name] = None if math.isinf(middle) else middle
    return made


def compare(lines: Sequence[Line], rows: Sequence[Row], runs: Path) -> dict[str, Any]:
    """Everything that `vitlab compare --json` prints: a table and, for each further preset, pairs with the first."""
    own = {line.cell: [row for row in rows if row["cell"] == line.cell] for line in lines}
    first, *others = lines
    return {
        "lines": [line.to_dict() | {"seconds_to": bars_of(own[line.cell], runs)} for line in lines],
        "pairs": [pair(first.cell, other.cell, own[first.cell], own[other.cell]) for other in others],
    }


def pair(ours: str, theirs: str, our_rows: Sequence[Row], their_rows: Sequence[Row]) -> dict[str, Any]:
    """Differences seed by seed, and the sentence that they allow."""
    mine, other = (
        {row["seed"]: row for row in rows if row["status"] == "done" and accuracy_of(row) is not None}
        for rows in (our_rows, their_rows)
    )
    seeds = sorted(mine.keys() & other.keys())
    gains = [100 * ((accuracy_of(mine[s]) or 0.0) - (accuracy_of(other[s]) or 0.0)) for s in seeds]
    ratios = [other[s]["train_seconds"] / mine[s]["train_seconds"] for s in seeds]
    half = student(len(gains) - 1) * statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
    facts: dict[str, Any] = {
        "ours": ours,
        "theirs": theirs,
        "pairs": len(seeds),
        "faster_in": sum(ratio > 1 for ratio in ratios),
        "times_faster": statistics.median(ratios) if ratios else None,
        "accuracy_gain": statistics.mean(gains) if gains else None,
        "accuracy_gain_half_interval": half,
    }
    return facts | {"sentence": sentence(facts)}


def sentence(facts: dict[str, Any]) -> str:
    """The verdict with its evidence."""
    ours, theirs, count = facts["ours"], facts["theirs"], facts["pairs"]
    if not count:
        return f"{ours} and {theirs} cannot be compared: no seed of both was done."
    ratio, gain, half = facts["times_faster"], facts["accuracy_gain"], facts["accuracy_gain_half_interval"]
    speed = f"faster in {facts['faster_in']} of {count} pairs ({ratio:.2f} times, median)"
    if half is None:
        return f"{ours} against {theirs}: {speed}; accuracy {gain:+.2f} points in one pair, which proves nothing."
    evidence = f"accuracy {gain:+.2f} ± {half:.2f} points (95 % interval of the mean of {count} pairs)"
    if abs(gain) <= half:
        return f"{ours} against {theirs}: {speed}; {evidence}: not distinguishable."
    return f"{ours} against {theirs}: {speed}; {evidence}: {'more' if gain > 0 else 'less'} accurate."
