"""Training curves: loss, accuracy, learning rate and time, of one run or of several over each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlab.pictures.style import FLOOR, RED, SERIES, WIDTH, Floats, accuracy_axis, new_figure, run_name, styled

Row = dict[str, Any]
FEW = 3  # epochs


@styled
def training_curves(histories: Mapping[str, Sequence[Row]]) -> Figure:
    """Four plots of the rows of history.jsonl, by the names of the runs: loss, accuracy and learning rate against
    epochs, and accuracy against training seconds. What is missing or not finite leaves a gap."""
    figure = new_figure(WIDTH, 5.4)
    (loss, accuracy), (rate, time) = figure.subplots(2, 2)
    errors: list[float] = []
    for number, (run, rows) in enumerate(histories.items()):
        name = run_name(run)
        colour = SERIES[number % len(SERIES)]
        epochs, seconds = column(rows, "epoch"), column(rows, "train_seconds")
        both = {"train": column(rows, "train_loss"), "val": column(rows, "val_loss")}
        draw_pair(loss, epochs, both, colour, name)
        wrong = {part: percent_wrong(column(rows, f"{part}_top1")) for part in ("train", "val")}
        draw_pair(accuracy, epochs, wrong, colour, name)
        rate.plot(epochs, column(rows, "lr"), color=colour, marker=marker(rows))
        best = wrong["val"] if np.isfinite(wrong["val"]).any() else wrong["train"]
        time.plot(seconds, best, color=colour, marker=marker(rows), label=name)
        errors += [error for values in wrong.values() for error in values.tolist() if math.isfinite(error)]
        mark_end(loss, epochs, both["train"])
    several = len(histories) > 1
    loss.set(title="loss", xlabel="epoch", ylim=(0, None))
    accuracy.set(title="accuracy %", xlabel="epoch")
    rate.set(title="learning rate at the end of the epoch", xlabel="epoch", ylim=(0, None))
    time.set(title="accuracy % against training time", xlabel="seconds", xlim=(0, None))
    longest = max((len(rows) for rows in histories.values()), default=1)
    for axes in (loss, accuracy, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, longest + 0.5)
    for axes in (accuracy, time):
        accuracy_axis(axes, errors)
    if not several or len(histories) <= 3:
        loss.legend()
    if several:
        time.legend(loc="lower right")
    return figure


def column(rows: Sequence[Row], name: str) -> Floats:
    """A column as floats, with NaN for what is missing."""
    return np.array([math.nan if row.get(name) is None else float(row[name]) for row in rows], float)


def percent_wrong(fractions: Floats) -> Floats:
    """Errors in percent, never quite 0."""
    return np.maximum(100 - 100 * fractions, FLOOR)


def marker(rows: Sequence[Row]) -> str | None:
    """Dots where there are few epochs: a single one would not be seen as a line."""
    return "o" if len(rows) <= FEW else None


def draw_pair(axes: Axes, epochs: Floats, parts: Mapping[str, Floats], colour: str, name: str) -> None:
    """Training dashed, validation solid."""
    dots = "o" if len(epochs) <= FEW else None
    dashed: dict[str, Any] = {"linestyle": (0, (4, 2)), "marker": dots, "markerfacecolor": "white"}
    axes.plot(epochs, parts["train"], color=colour, **dashed, label=f"{name}, training")
    if np.isfinite(parts["val"]).any():
        axes.plot(epochs, parts["val"], color=colour, marker=dots, label=f"{name}, validation")


def mark_end(axes: Axes, epochs: Floats, losses: Floats) -> None:
    """A cross where the loss stopped being a number."""
    finite = np.isfinite(losses)
    if len(losses) and not finite[-1]:
        last = np.flatnonzero(finite)[-1:]
        x, y = (epochs[last[0]], losses[last[0]]) if len(last) else (epochs[0], 0.0)
        axes.plot([x], [y], "X", color=RED, markersize=10, label="diverged")
