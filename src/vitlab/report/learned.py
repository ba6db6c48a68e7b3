"""How the network learned: its training curves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from vitlab.config import RunConfig
from vitlab.pictures.training import training_curves
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, duration, listed, percent
from vitlab.training.augment import is_active

Row = dict[str, Any]


def section(subject: Subject, others: Sequence[Subject]) -> Section:
    """The curves, with those of other runs."""
    return Section("How it learned", [curves(subject, others)])


def curves(subject: Subject, others: Sequence[Subject]) -> Picture | Missing:
    """Loss, accuracy, rate and time."""
    if not subject.history:
        return Missing("Training curves", "the run ended before its first epoch did")
    figure = training_curves({one.name: one.history for one in (subject, *others)})
    text = progress_sentence(subject.history, subject.config.train.epochs) + " " + gap_sentence(subject)
    if others:
        beside = [f"{one.name}, {duration(one.result['train_seconds'])} in all" for one in others]
        text += f" Drawn beside it: {'; '.join(beside)}."
    alt = "Four plots: loss, accuracy and learning rate over the epochs, and accuracy over training time"
    return Picture("training", "Training curves", figure, alt, text, vector=True)


def progress_sentence(history: Sequence[Row], planned: float) -> str:
    """From where to where, in how many epochs of which length; of ``planned`` epochs the last may be a part of one."""
    part = "train" if any(row.get("val_top1") is None for row in history) else "val"
    words = {"val": "validation", "train": "training"}[part]
    first, last = history[0], history[-1]
    ends = [0.0, *(row["train_seconds"] for row in history)]
    trained = min(planned, len(history))
    whole = [b - a for a, b in pairwise(ends)][: max(1, int(trained))]
    if len(history) == 1:
        only = "its only epoch" if trained == 1 else f"{trained:g} of an epoch"
        return f"In {only}, {duration(whole[0])}, it reached a {words} accuracy of {percent(last[f'{part}_top1'])}."
    length = f"{trained:g} epochs of {duration(statistics.median(whole))}"
    rise = f"from {percent(first[f'{part}_top1'])} after the first epoch to {percent(last[f'{part}_top1'])}"
    return f"Over {length} its {words} accuracy went {rise}."


def gap_sentence(subject: Subject) -> str:
    """What the distance between the two losses says, and which weights were kept."""
    last = subject.history[-1]
    kept = subject.result["selected_epoch"]
    text = f"The weights of epoch {kept} were kept. " if kept else ""
    if subject.result["status"] == "diverged":
        return text + "Then the loss stopped being a number: the run diverged."
    train, val = last.get("train_loss"), last.get("val_loss")
    if train is None or val is None:
        return text + "There are no validation images: the curves cannot show how it does on images it has not seen."
    said = f"At the end the training loss is {train:.3f} and the validation loss {val:.3f}"
    harder = harder_words(subject.config, len(subject.history))
    if val > train:
        return text + f"{said}: it does better on the images that it was trained on."
    reason = f"; training is made harder by {listed(harder)}" if harder else ""
    return text + f"{said}, the lower one{reason}."


def harder_words(config: RunConfig, epochs: int) -> list[str]:
    """What makes the training images of the last epoch harder than the others."""
    augmented = is_active(config.augment) and config.augment.clean_tail * epochs < 1
    reasons = {
        "smoothed labels": config.optim.label_smoothing > 0,
        "augmented images": augmented,
        "dropout": any((config.model.dropout, config.model.attn_dropout, config.model.head_dropout)),
    }
    return [words for words, holds in reasons.items() if holds]
