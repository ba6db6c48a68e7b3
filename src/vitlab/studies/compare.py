"""Two or more presets side by side on one machine, seed by seed, and the sentence that says which is better."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from vitlab.runs.folder import RunFolder
from vitlab.studies.driver import Row
from vitlab.studies.summary import Line, accuracy_of, finished, half_interval
from vitlab.text import counted

BARS = (0.98, 0.99, 0.995)
MOST_WAIT = 120.0  # seconds between the end of a run and the start of the next one of the same study


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
        "pairs": [pair(first, other, own[first.cell], own[other.cell], timed_apart(rows)) for other in others],
    }


def timed_apart(rows: Sequence[Row]) -> bool:
    """Whether some of the runs are from another moment than the others, when the machine may have been busier."""
    done = finished(rows)
    times = [(row["ended_utc"], row["wall_seconds"] or 0.0) for row in done if row.get("ended_utc")]
    ends = sorted((datetime.fromisoformat(end), took) for end, took in times)
    waits = [(later - end).total_seconds() - took for (end, _), (later, took) in pairwise(ends)]
    return 0 < len(ends) < len(done) or max(waits, default=0) > MOST_WAIT


def pair(
    ours: Line, theirs: Line, our_rows: Sequence[Row], their_rows: Sequence[Row], apart: bool = False
) -> dict[str, Any]:
    """Differences seed by seed, and the sentence that they support. Times are compared on the same data only, and
    accuracies on the same images only. ``apart``: see `timed_apart`."""
    mine, other = (
        {row["seed"]: row for row in finished(rows) if not line.split or accuracy_of(row, line.split) is not None}
        for line, rows in ((ours, our_rows), (theirs, their_rows))
    )
    same_data = (ours.data_sha256 or ours.data) == (theirs.data_sha256 or theirs.data)
    pairs = [(mine[seed], other[seed]) for seed in sorted(mine.keys() & other.keys()) if same_data]
    ratios = [b["train_seconds"] / a["train_seconds"] for a, b in pairs]
    comparable = pairs if ours.split and ours.group == theirs.group else []
    gains = [100 * ((accuracy_of(a, ours.split) or 0.0) - (accuracy_of(b, ours.split) or 0.0)) for a, b in comparable]
    facts: dict[str, Any] = {
        "ours": ours.cell,
        "theirs": theirs.cell,
        "our_images": ours.images if ours.split else None,
        "their_images": theirs.images if theirs.split else None,
        "pairs": len(pairs),
        "faster_in": sum(ratio > 1 for ratio in ratios),
        "timed_apart": apart,
        "times_faster": statistics.median(ratios) if ratios else None,
        "accuracy_gain": statistics.mean(gains) if gains else None,
        "accuracy_gain_half_interval": half_interval(gains) if len(gains) > 1 else None,
    }
    return facts | {"sentence": sentence(facts)}


def sentence(facts: dict[str, Any]) -> str:
    """The conclusion with its evidence."""
    ours, theirs, pairs = facts["ours"], facts["theirs"], counted(facts["pairs"], "pair")
    images, others = facts["our_images"], facts["their_images"]
    differ = f"{ours} was measured on {images}, {theirs} on {others}" if images != others else ""
    if not (images and others):
        differ = "there are no images to measure it on"
    if not facts["pairs"]:
        why = differ if images and others and differ else "no seed is done for both"
        return f"{ours} and {theirs} cannot be compared: {why}."
    ratio, gain, half = facts["times_faster"], facts["accuracy_gain"], facts["accuracy_gain_half_interval"]
    when = "; with care: not all were timed at the same moment" if facts["timed_apart"] else ""
    speed = f"{ours} against {theirs}: faster in {facts['faster_in']} of {pairs} ({ratio:.2f} times, median{when})"
    if gain is None:
        return f"{speed}; accuracy cannot be compared: {differ}."
    accuracy = f"accuracy on {images} {gain:+.2f}"
    if half is None:
        return f"{speed}; {accuracy} points in a single pair, which proves nothing."
    evidence = f"{accuracy} ± {half:.2f} points (95 % interval of the mean of {pairs})"
    verdict = "not distinguishable" if abs(gain) <= half else "more accurate" if gain > 0 else "less accurate"
    return f"{speed}; {evidence}: {verdict}."
