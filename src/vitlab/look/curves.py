"""Training curves: loss, accuracy, learning rate and time, of one run or of several over each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitlab.config import RunConfig
from vitlab.look import style
from vitlab.look.report import Missing, Picture, Section
from vitlab.look.run import Subject
from vitlab.look.style import Floats
from vitlab.text import counted, duration, listed, percent
from vitlab.training.augment import is_active
from vitlab.training.mixing import mixes

Row = dict[str, Any]
FEW = 3  # epochs up to which a line has dots: a single one would not be visible
FLOOR = 0.01  # percent: an error of 0 is drawn here on a logarithmic axis


@style.applied
def draw_curves(histories: Mapping[str, Sequence[Row]], smoothed: bool = False) -> Figure:
    """Four plots of the rows of history.jsonl, by the names of the runs: loss, accuracy and learning rate against
    epochs, and accuracy against training seconds. Values that are missing or not finite leave a gap. ``smoothed``: the
    training loss is that of smoothed labels, so it does not share an axis with the validation loss."""
    figure = style.new_figure(style.WIDTH, 5.4)
    places = figure.add_gridspec(2, 2)
    if smoothed:
        halves = places[0].subgridspec(2, 1)
        loss, val_loss = (figure.add_subplot(halves[place]) for place in (0, 1))
    else:
        loss = val_loss = figure.add_subplot(places[0])
    accuracy, rate, time = (figure.add_subplot(places[place]) for place in (1, 2, 3))
    errors: list[float] = []
    for number, (run, rows) in enumerate(histories.items()):
        name, colour = style.run_name(run), style.SERIES[number % len(style.SERIES)]
        epochs, seconds = column(rows, "epoch"), column(rows, "train_seconds")
        losses = {"train": column(rows, "train_loss"), "val": column(rows, "val_loss")}
        _draw_pair((loss, val_loss), epochs, losses, colour, name)
        wrong = {part: np.maximum(100 - 100 * column(rows, f"{part}_top1"), FLOOR) for part in ("train", "val")}
        _draw_pair((accuracy, accuracy), epochs, wrong, colour, name)
        dots = "o" if len(rows) <= FEW else None
        rate.plot(epochs, column(rows, "lr"), color=colour, marker=dots)
        best = wrong["val"] if np.isfinite(wrong["val"]).any() else wrong["train"]
        time.plot(seconds, best, color=colour, marker=dots, label=name)
        errors += [error for values in wrong.values() for error in values.tolist() if math.isfinite(error)]
        mark_divergence(loss, epochs, losses["train"])
    if smoothed:
        loss.set(title="training loss, of smoothed labels")
        val_loss.set(title="validation loss, of plain labels", xlabel="epoch", ylim=(0, None))
    else:
        loss.set(title="loss", xlabel="epoch", ylim=(0, None))
    accuracy.set(title="accuracy %", xlabel="epoch")
    rate.set(title="learning rate at the end of the epoch", xlabel="epoch", ylim=(0, None))
    time.set(title="accuracy % against training time", xlabel="seconds", xlim=(0, None))
    longest = max(map(len, histories.values()))
    for axes in (loss, val_loss, accuracy, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, longest + 0.5)
    for axes in (accuracy, time):
        show_errors_as_accuracy(axes, errors)
    if len(histories) <= 3:
        (accuracy if smoothed else loss).legend()
    if len(histories) > 1:
        time.legend(loc="lower right")
    return figure


def loss_floor(smoothing: float, classes: int) -> float:
    """The lowest cross-entropy, in nats, that labels smoothed by ``smoothing`` allow: their own entropy. The predicted
    probabilities must then be 1 - smoothing + smoothing / classes, and smoothing / classes."""
    other = smoothing / classes
    right = 1 - smoothing + other
    parts = [right, *(classes - 1) * [other]]
    return -sum(part * math.log(part) for part in parts if part > 0)


def column(rows: Sequence[Row], name: str) -> Floats:
    """A column as floats, with NaN for missing values."""
    return np.array([math.nan if row.get(name) is None else float(row[name]) for row in rows], float)


def _draw_pair(axes: tuple[Axes, Axes], epochs: Floats, parts: Mapping[str, Floats], colour: str, name: str) -> None:
    dots = "o" if len(epochs) <= FEW else None
    dashed: dict[str, Any] = {"linestyle": (0, (4, 2)), "marker": dots, "markerfacecolor": "white"}
    axes[0].plot(epochs, parts["train"], color=colour, **dashed, label=f"{name}, training")
    if np.isfinite(parts["val"]).any():
        axes[1].plot(epochs, parts["val"], color=colour, marker=dots, label=f"{name}, validation")


def mark_divergence(axes: Axes, epochs: Floats, losses: Floats) -> None:
    """A cross at the last finite loss if the run diverged."""
    finite = np.isfinite(losses)
    if len(losses) and not finite[-1]:
        last = np.flatnonzero(finite)[-1:]
        x, y = (epochs[last[0]], losses[last[0]]) if len(last) else (epochs[0], 0.0)
        axes.plot([x], [y], "X", color=style.RED, markersize=10, label="diverged")


def show_errors_as_accuracy(axes: Axes, errors: Sequence[float]) -> None:
    """Turn a y axis of errors in percent into one of accuracy, with 90, 99 and 99.9 equally spaced."""
    low, high = (min(errors), max(errors)) if errors else (0.1, 10.0)
    axes.set_yscale("log")
    axes.set_ylim(min(100.0, high * 1.25), low / 1.25)
    steps = [100, 80, 60, 40, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01]
    axes.set_yticks([step for step in steps if low / 1.25 <= step <= high * 1.25])
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda error, _: f"{'≥' if error <= FLOOR else ''}{100 - error:.4g}")
    axes.grid(axis="y")


def section(subject: Subject, others: Sequence[Subject]) -> Section:
    """The curves of a run, with those of ``others``."""
    if not subject.history:
        return Section("Training", [Missing("Training curves", "the run ended before the end of its first epoch")])
    every = (subject, *others)
    smoothed = any(one.config.optim.label_smoothing for one in every)
    figure = draw_curves({one.name: one.history for one in every}, smoothed)
    text = progress_sentence(subject.history, subject.config.train.epochs) + " " + gap_sentence(subject)
    if others:
        times = [f"{one.name}, trained for {duration(one.result['train_seconds'])}" for one in others]
        text += f" For comparison: {'; '.join(times)}."
    alt = "Four plots: loss, accuracy and learning rate over the epochs, and accuracy over training time"
    return Section("Training", [Picture("training", "Training curves", figure, alt, text, vector=True)])


def progress_sentence(history: Sequence[Row], planned: float) -> str:
    """First and last accuracy, number and length of the epochs; of ``planned`` epochs the last may be a fraction."""
    blind = any(row.get("val_top1") is None for row in history)
    part, words = ("train", "training") if blind else ("val", "validation")
    first, last = (percent(history[place][f"{part}_top1"]) for place in (0, -1))
    ends = [0.0, *(row["train_seconds"] for row in history)]
    trained = min(planned, len(history))
    whole = [b - a for a, b in pairwise(ends)][: max(1, int(trained))]
    if len(history) == 1:
        only = "its only epoch" if trained == 1 else f"{trained:g} of an epoch"
        return f"In {only} ({duration(whole[0])}) the run reached a {words} accuracy of {last}."
    length = f"{counted(trained, 'epoch')} of {duration(statistics.median(whole))} each"
    if first == last:
        return f"In {length}, {words} accuracy was {first} after the first epoch and is the same at the end."
    return f"Over {length}, {words} accuracy went from {first} after the first epoch to {last}."


def gap_sentence(subject: Subject) -> str:
    """What the difference of the two losses means, and which weights were kept."""
    last, kept = subject.history[-1], subject.result["selected_epoch"]
    text = f"The weights of epoch {kept} were kept. " if kept else ""
    if subject.result["status"] == "diverged":
        return text + "Then the loss became infinite or NaN: the run diverged."
    train, val = last.get("train_loss"), last.get("val_loss")
    if train is None or val is None:
        return text + "Without validation images, the curves say nothing about unseen images."
    if smoothing := subject.config.optim.label_smoothing:
        lowest = loss_floor(smoothing, len(subject.classes))
        return (
            f"{text}At the end the training loss is {train:.3f}; with smoothed labels it cannot fall below "
            f"{lowest:.3f}. The validation loss, {val:.3f}, is that of plain labels, so the two do not compare."
        )
    text += f"At the end the training loss is {train:.3f} and the validation loss {val:.3f}"
    if val > train:
        return f"{text}: the network does better on the images it was trained on."
    harder = harder_words(subject.config, len(subject.history))
    return f"{text}, lower because training is made harder by {listed(harder)}." if harder else f"{text}, lower."


def harder_words(config: RunConfig, epochs: int) -> list[str]:
    """What makes training images harder than validation images in the last epoch."""
    changed = config.augment.clean_tail * epochs < 1
    reasons = {
        "augmentation": is_active(config.augment) and changed,
        "mixed images": mixes(config.augment) and changed,
        "dropout": any((config.model.dropout, config.model.attn_dropout, config.model.head_dropout)),
    }
    return [words for words, holds in reasons.items() if holds]
