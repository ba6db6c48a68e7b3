"""Two or more presets side by side on one machine, seed by seed, and the sentence that says which is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitlab.runs.folder import RunFolder
from vitlab.studies.driver import Row
from vitlab.studies.summary import Line, accuracy_of, finished, half_interval
from vitlab.text import counted

BARS = (0.98, 0.99, 0.995)


def seconds_to_bars(row: Row, runs: Path) -> dict[str, float]:
    """For each bar, the training seconds of a finished run until its validation accuracy first reached it."""
    history = RunFolder(runs / row["run"]).history()
    return {
        f"{100 * bar:g} %": next((e["train_seconds"] for e in history if (e["val_top1"] or 0.0) >= bar), math.inf)
        for bar in BARS
    }


def median_seconds_to_bars(rows: Sequence[Row], runs: Path) -> dict[str, float | None]:
    """The medians over seeds; None for a bar that more than half of the runs did not reach."""
    each = [seconds_to_bars(row, runs) for row in finished(rows)]
    medians = {bar: statistics.median(seconds[bar] for seconds in each) for bar in (each[0] if each else ())}
    return {bar: None if math.isinf(middle) else middle for bar, middle in medians.items()}


def comparison(lines: Sequence[Line], rows: Sequence[Row], runs: Path) -> dict[str, Any]:
    """What `vitlab compare --json` prints: the lines of the table, and the first preset paired with each other one."""
    own = {line.cell: [row for row in rows if row["cell"] == line.cell] for line in lines}
    first, *others = lines
    return {
        "lines": [line.to_dict() | {"seconds_to": median_seconds_to_bars(own[line.cell], runs)} for line in lines],
        "pairs": [pair(first.cell, other.cell, own[first.cell], own[other.cell]) for other in others],
    }


def pair(ours: str, theirs: str, our_rows: Sequence[Row], their_rows: Sequence[Row]) -> dict[str, Any]:
    """Differences seed by seed, and the sentence that they support."""
    mine, other = (
        {row["seed"]: row for row in finished(rows) if accuracy_of(row) is not None} for rows in (our_rows, their_rows)
    )
    pairs = [(mine[seed], other[seed]) for seed in sorted(mine.keys() & other.keys())]
    ratios = [b["train_seconds"] / a["train_seconds"] for a, b in pairs]
    gains = [100 * ((accuracy_of(a) or 0.0) - (accuracy_of(b) or 0.0)) for a, b in pairs]
    facts: dict[str, Any] = {
        "ours": ours,
        "theirs": theirs,
        "pairs": len(pairs),
        "faster_in": sum(ratio > 1 for ratio in ratios),
        "times_faster": statistics.median(ratios) if ratios else None,
        "accuracy_gain": statistics.mean(gains) if gains else None,
        "accuracy_gain_half_interval": half_interval(gains) if len(gains) > 1 else None,
    }
    return facts | {"sentence": sentence(facts)}


def sentence(facts: dict[str, Any]) -> str:
    """The conclusion with its evidence."""
    ours, theirs, pairs = facts["ours"], facts["theirs"], counted(facts["pairs"], "pair")
    if not facts["pairs"]:
        return f"{ours} and {theirs} cannot be compared: no seed is done for both."
    ratio, gain, half = facts["times_faster"], facts["accuracy_gain"], facts["accuracy_gain_half_interval"]
    speed = f"{ours} against {theirs}: faster in {facts['faster_in']} of {pairs} ({ratio:.2f} times, median)"
    if half is None:
        return f"{speed}; accuracy {gain:+.2f} points in a single pair, which proves nothing."
    evidence = f"accuracy {gain:+.2f} ± {half:.2f} points (95 % interval of the mean of {pairs})"
    verdict = "not distinguishable" if abs(gain) <= half else "more accurate" if gain > 0 else "less accurate"
    return f"{speed}; {evidence}: {verdict}."
