"""How a network errs: confusion, confident mistakes, calibration, classes.

Letters in names: N images, K classes, S side in pixels, C channels. Probabilities are the softmax of the logits, in
float64, where two very confident answers still differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from vitlab.look import style
from vitlab.look.report import Missing, Picture, Section, chance_words
from vitlab.look.run import Subject
from vitlab.look.style import BLUE, COLUMN, GREY, INK, ORANGE, PALE, WIDTH, Pixels, short
from vitlab.text import between, counted, few, percent, with_article
from vitlab.training.evaluate import Reliability, confusion, precision, reliability, wilson_interval

DRAWS = 9999  # of the test of equal classes
NUMBERED = 12  # classes up to which a confusion matrix shows numbers
MOST_CLASSES = 30  # that are shown one by one
COLUMNS = 6  # of the gallery of mistakes
GALLERY = 24  # mistakes in it
CONFIDENT = 0.9

Score = tuple[float, tuple[float, float]]  # a class's accuracy, a fraction, and its 95 % interval


@dataclass(frozen=True)
class Mistake:
    """Image number ``index`` of class ``truth`` was classified as ``guess``, with this probability."""

    index: int
    truth: int
    guess: int
    probability: float


def per_class(counts_KK: Tensor) -> list[Score]:
    """From `confusion`: each class's accuracy and its 95 % interval (Wilson 1927); without images 0, in 0 to 1."""
    right, seen = counts_KK.diagonal().tolist(), counts_KK.sum(dim=1).tolist()
    return [
        (good / count, wilson_interval(good / count, count)) if count else (0.0, (0.0, 1.0))
        for good, count in zip(right, seen, strict=True)
    ]


def equal_classes(counts_KK: Tensor) -> float:
    """From `confusion`: how often equally hard classes come out at least as unequal as these (p-value).

    Pearson's chi-square statistic of errors by class. Its distribution is drawn, by dealing the errors to images at
    random: with few errors per class the chi-square distribution would not hold. 1 if no image or every image is wrong.
    """
    seen_K = counts_KK.sum(dim=1)
    errors_K = (seen_K - counts_KK.diagonal())[seen_K > 0]
    images_K, wrong_K = seen_K[seen_K > 0].cpu().numpy(), errors_K.cpu().numpy()
    total, errors = int(images_K.sum()), int(wrong_K.sum())
    if errors in (0, total):
        return 1.0
    expected_K = images_K * errors / total
    drawn_RK = np.random.default_rng(0).multivariate_hypergeometric(images_K, errors, DRAWS, method="marginals")
    found, chance_R = (((wrong - expected_K) ** 2 / expected_K).sum(axis=-1) for wrong in (wrong_K, drawn_RK))
    return float((1 + (chance_R >= found - 1e-9).sum()) / (DRAWS + 1))


def mistakes(logits_NK: Tensor, labels_N: Tensor, count: int) -> list[Mistake]:
    """The ``count`` most confident wrong answers, most confident first; fewer if there are no more."""
    probabilities_N, guesses_N = logits_NK.double().softmax(dim=1).max(dim=1)
    wrong = (guesses_N != labels_N).nonzero().flatten()
    worst = wrong[probabilities_N[wrong].argsort(descending=True, stable=True)][:count]
    columns = (worst, labels_N[worst], guesses_N[worst], probabilities_N[worst])
    return [Mistake(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


@style.applied
def draw_confusion(counts_KK: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """How often each class (row) was classified as each class (column), in counts and in percent of the row. Colour
    shows the errors; the diagonal is grey."""
    seen_K1 = counts_KK.sum(axis=1, keepdims=True)
    rates_KK = np.where(seen_K1 > 0, 100 * counts_KK / np.maximum(seen_K1, 1), math.nan)  # unknown without images
    names = [short(name, 11) for name in classes]
    figure, (left, right) = style.subplots(WIDTH, 4.3, 1, 2, gridspec_kw={"wspace": 0.08})
    draw_matrix(left, counts_KK, names, "images", "{:.0f}")
    draw_matrix(right, rates_KK, names, "percent of the class", "{:.1f}")
    left.set_ylabel("true class")
    return figure


def draw_matrix(axes: Axes, values_KK: npt.NDArray[Any], names: Sequence[str], title: str, form: str) -> None:
    """One matrix; with numbers, formatted as ``form``, if there are few classes."""
    count, few = len(names), len(names) <= NUMBERED
    errors = values_KK.astype(float)
    np.fill_diagonal(errors, math.nan)
    errors[errors == 0] = math.nan
    some = errors[np.isfinite(errors)]
    norm = LogNorm(min(some.min(), some.max() / 10), some.max()) if len(some) else None
    if norm is not None:
        axes.imshow(errors, cmap="Oranges", norm=norm, interpolation="nearest")
    diagonal = np.where(np.eye(count, dtype=bool), 0.9, math.nan)
    axes.imshow(diagonal, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_color(PALE)
    axes.spines[:].set_visible(True)
    step = max(1, math.ceil(count / 25))
    turned = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(0, count, step), names[::step], rotation=turned, fontsize=8 if few else 6)
    axes.set_yticks(range(0, count, step), names[::step], fontsize=8 if few else 6)
    axes.tick_params(length=0)
    axes.set(title=title, xlabel="predicted class")
    if not few:
        return
    for place in range(1, count):
        axes.axhline(place - 0.5, color=PALE, linewidth=0.6, zorder=0)
        axes.axvline(place - 0.5, color=PALE, linewidth=0.6, zorder=0)
    for row, column in np.ndindex(count, count):
        value = values_KK[row, column]
        if row == column or value > 0:
            dark = row != column and norm is not None and norm(value) > 0.6
            number = "none" if math.isnan(value) else form.format(value)
            colour = "white" if dark else INK
            axes.text(column, row, number, fontsize=7, ha="center", va="center", color=colour)


@style.applied
def draw_mistakes(images_NSSC: Pixels, found: Sequence[Mistake], classes: Sequence[str]) -> Figure:
    """A gallery of wrong answers, one image for each of ``found``: true class, answer, probability, and number of the
    image in the split."""
    (side, width), rows = images_NSSC.shape[1:3], math.ceil(len(found) / COLUMNS)
    gap, across = math.ceil(side * 0.42), math.ceil(side * 0.14)
    figure, axes = style.subplots(WIDTH, WIDTH / COLUMNS * (side + gap) / (side + across) * rows + 0.1)
    style.show_pixels(axes, style.mosaic(style.fill_rows(images_NSSC, COLUMNS), gap, across))
    y, x = style.centres(rows, side, gap), style.centres(COLUMNS, width, across)
    for number, mistake in enumerate(found):
        row, column = divmod(number, COLUMNS)
        pair = f"{short(classes[mistake.truth], 9)} → {short(classes[mistake.guess], 9)}"
        low = y[row] + side / 2
        centred: dict[str, Any] = {"ha": "center", "va": "top"}
        axes.text(x[column], low + 0.05 * side, pair, **centred, fontsize=9 if len(pair) < 12 else 7, color=style.RED)
        detail = f"{100 * mistake.probability:.0f} %, no. {mistake.index}"
        axes.text(x[column], low + 0.23 * side, detail, **centred, fontsize=6.5, color="0.35")
    axes.set_ylim(y[-1] + side / 2 + gap, -1)
    return figure


@style.applied
def draw_reliability(found: Reliability) -> Figure:
    """Accuracy against confidence, bin by bin, with 95 % intervals; below, the number of images in each bin."""
    edges, counts = np.array(found.edges), np.array(found.counts)
    some = counts > 0
    middles, width = ((edges[:-1] + edges[1:]) / 2)[some], 0.94 * (edges[1] - edges[0])
    accuracy, confidence = np.array(found.accuracy)[some], np.array(found.confidence)[some]
    figure, (upper, lower) = style.subplots(COLUMN, 5.2, 2, 1, height_ratios=(3.2, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration")
    upper.bar(middles, accuracy, width, color=BLUE, alpha=0.3, edgecolor="none")
    intervals = [wilson_interval(a, n) for a, n in zip(accuracy.tolist(), counts[some].tolist(), strict=True)]
    low, high = np.array(intervals).T if intervals else np.zeros((2, 0))
    ends = np.maximum([accuracy - low, high - accuracy], 0)
    dots: dict[str, Any] = {"fmt": "o", "color": BLUE, "capsize": 2, "markersize": 4}
    upper.errorbar(confidence, accuracy, ends, **dots, label="measured, with 95 % interval")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03))
    upper.set_title(f"expected calibration error {100 * found.ece:.2f} %")
    upper.legend(loc="upper left")
    lower.bar(middles, counts[some], width, color=BLUE, alpha=0.3)
    lower.set(yscale="log", xlabel="confidence (highest probability)", ylabel="images", ylim=(0.6, None))
    lower.grid(axis="y")
    return figure


@style.applied
def draw_classes(scores: Sequence[Score], classes: Sequence[str]) -> Figure:
    """Accuracy of each class with its 95 % interval, from `per_class`, the worst at the bottom; of many classes the
    worst thirty."""
    order = sorted(range(len(scores)), key=lambda number: scores[number][0])[:MOST_CLASSES]
    middle = [100 * scores[number][0] for number in order]
    low, high = ([100 * scores[number][1][end] for number in order] for end in (0, 1))
    figure, axes = style.subplots(COLUMN, 0.9 + 0.24 * len(order))
    places = np.arange(len(order))
    axes.hlines(places, low, high, color=BLUE, alpha=0.35, linewidth=6)
    axes.plot(middle, places, "o", color=BLUE, markersize=5)
    mean = 100 * sum(score for score, _ in scores) / len(scores)
    axes.axvline(mean, color=ORANGE, linewidth=1.2, zorder=0)
    axes.set_yticks(places, [short(classes[number], 22) for number in order])
    axes.set(xlabel="accuracy % with 95 % interval; line: mean of all classes")
    axes.set_xlim(max(0.0, min(low) - 0.05 * (100 - min(low))), 100.0 + 0.01 * (100 - min(low)))
    if len(scores) > MOST_CLASSES:
        axes.set_title(f"the worst {MOST_CLASSES} of {len(scores)} classes")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    return figure


def section(subject: Subject) -> Section:
    """All four, from the answers to the test images."""
    if subject.part == "training":
        reason = "there are no test or validation images, and errors on training images say little"
        return Section("Errors", [Missing("Confusion, mistakes, reliability, classes", reason)])
    parts = (mistakes_picture, confusion_picture, reliability_picture, classes_picture)
    return Section("Errors", [part(subject) for part in parts])


def confusion_picture(subject: Subject) -> Picture:
    """Which classes are confused."""
    counts = confusion(subject.logits, subject.images.labels).cpu()
    errors = counts.clone().fill_diagonal_(0)
    total, most, kinds = int(errors.sum()), int(errors.max()), int((errors > 0).sum())
    row, column = divmod(int(errors.argmax()), len(counts))
    pair = f"{subject.classes[row]} classified as {subject.classes[column]}"
    share = f"{percent(most / max(int(counts[row].sum()), 1))} of that class"
    what = ". "
    if total == 1:
        what = f": {pair} ({share}). "
    elif total and most == 1:
        what = f", in {counted(kinds, 'class pair')}; one is {pair} ({share}). "
    elif total:
        what = f", in {counted(kinds, 'class pair')}. Most frequent: {pair}, {most:,} times ({share}). "
    text = f"{counted(total, 'error')} on {subject.counted_images()}{what}Rows are true classes, columns predictions."
    alt = "Two matrices of true against predicted classes, in counts and in percent"
    return Picture("confusion", "Confusion matrix", draw_confusion(counts.numpy(), subject.classes), alt, text)


def mistakes_picture(subject: Subject) -> Picture | Missing:
    """The most confident errors."""
    found = mistakes(subject.logits, subject.images.labels, len(subject.images))
    if not found:
        return Missing("Mistakes", f"there are none on {subject.counted_images()}")
    shown, confident = found[:GALLERY], sum(mistake.probability > CONFIDENT for mistake in found)
    images = subject.images.at([mistake.index for mistake in shown]).cpu().numpy()
    start = "" if len(shown) == len(found) else f"The {len(shown)} most confident of "
    truth, guess = (with_article(subject.classes[number]) for number in (shown[0].truth, shown[0].guess))
    text = (
        f"{start}{counted(len(found), 'mistake')}, most confident first: true class → answer, the answer's "
        f"probability, and the image's number in the {subject.part} split. The first is {truth} classified as {guess} "
        f"with {percent(shown[0].probability, 1)}; {confident or 'none'} had more than {percent(CONFIDENT, 0)}."
    )
    alt = f"A gallery of {counted(len(shown), 'wrongly classified image')} with true classes and answers"
    return Picture("mistakes", "Mistakes", draw_mistakes(images, shown, subject.classes), alt, text)


def reliability_picture(subject: Subject) -> Picture:
    """Whether its confidence can be trusted."""
    found = reliability(subject.logits, subject.images.labels)
    confidence = subject.logits.double().softmax(dim=1).amax(dim=1).mean().item()
    fact = (
        f"Mean confidence is {percent(confidence)}, accuracy {percent(subject.accuracy)}; the expected calibration "
        f"error is {percent(found.ece)}."
    )
    if confidence < subject.accuracy:
        smoothing = subject.config.optim.label_smoothing
        reading = "above the dashed line mean underconfidence"
        reading += f", which label smoothing of {smoothing:g} causes." if smoothing else "."
    else:
        reading = "below the dashed line mean overconfidence."
    text = f"{fact} Error bars are 95 % intervals. Points {reading}"
    alt = f"Accuracy against confidence in {len(found.counts)} bins, with the number of images in each bin"
    return Picture("reliability", "Reliability", draw_reliability(found), alt, text, True, fact)


def precision_sentence(counts_KK: Tensor, classes: Sequence[str]) -> str:
    """Which answer is right least often, and which is never given although its class has images."""
    shares, seen = precision(counts_KK), counts_KK.sum(dim=1)
    unnamed = [repr(name) for name, one, count in zip(classes, shares.tolist(), seen.tolist(), strict=True)
               if count and math.isnan(one)]  # fmt: skip
    worst = int(shares.nan_to_num(2.0).argmin())
    given = int(counts_KK[:, worst].sum())
    said = ""
    if shares[worst] < 1:
        said = f" The answer that is right least often is {classes[worst]}: in {percent(shares[worst].item())} of "
        said += f"{counted(given, 'case')} (its precision)."
    return said + (f" No answer is ever {few(unnamed)}." if unnamed else "")


def classes_picture(subject: Subject) -> Picture:
    """Which classes are hard; those without images are left out."""
    counts = confusion(subject.logits, subject.images.labels).cpu()
    scores, seen = per_class(counts), counts.sum(dim=1).tolist()
    known = [number for number, count in enumerate(seen) if count]
    worst, best = (choose(known, key=lambda number: scores[number][0]) for choose in (min, max))
    (lowest, interval), highest = scores[worst], scores[best][0]
    hardest, easiest, images = subject.classes[worst], subject.classes[best], counted(seen[worst], "image")
    if len(known) == 1:
        text = f"All {images} are of one class, {hardest}; accuracy is {percent(lowest)} (95 % interval "
        text += f"{between(interval)})."
    elif lowest == highest:
        text = f"All classes have the same accuracy: {percent(lowest)}. Bars are 95 % intervals."
    else:
        chance = equal_classes(counts)
        often = f"in {percent(chance, 0)} of cases" if chance >= 0.01 else "in less than 1 % of cases"
        text = (
            f"The hardest class is {hardest} with {percent(lowest)} (95 % interval {between(interval)}, on {images}), "
            f"the easiest {easiest} with {percent(highest)}. If all classes were equally hard, differences at least "
            f"this large would occur {often} (chi-square test): {chance_words(chance)}."
        ) + precision_sentence(counts, subject.classes)
    figure = draw_classes([scores[number] for number in known], [subject.classes[number] for number in known])
    alt = "A point for each class: its accuracy with a 95 % interval"
    return Picture("classes", "Accuracy of each class", figure, alt, text, vector=True)
