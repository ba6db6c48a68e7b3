"""Robustness: accuracy against the strength of a disturbance such as rotation, noise or blur.

Disturbances are changes of float images [B, C, H, W] in 0..1, black at 0; strength 0 changes nothing. They follow
Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions", each with one number
that has a unit. The functions count in pixels of the images that they get; the strengths of DISTURBANCES are in pixels
of the stored image, along its width, so they mean the same for networks that resize it differently (`change_of`).
Images are disturbed after resizing and before a crop.
Letters in names: R strengths, B images, S side in pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit
from vitlab.look import style
from vitlab.look.report import Missing, Picture, Section
from vitlab.look.run import Subject, evenly, visible
from vitlab.look.style import Pixels
from vitlab.machine import Machine
from vitlab.text import listed, percent
from vitlab.training.augment import affine, affine_matrix
from vitlab.training.evaluate import at_once, evaluating, top_k
from vitlab.training.preprocess import Preprocess

PIXELS = "pixels"  # of the stored image
SEED = 0  # of noise and places, which are the same for every network
IMAGES = 2000  # more of them narrow the curves, but take longer
ENOUGH = 0.9  # of the undisturbed accuracy
PANELS = 3  # next to each other

Disturbance = Callable[[Tensor, float, torch.Generator], Tensor]
Curves = Mapping[str, Sequence[tuple[float, float]]]  # by disturbance: strengths with accuracies, fractions


def mapped(images_BCHW: Tensor, degrees: float, right: float) -> Tensor:
    """Rotated counter-clockwise around the centre and moved ``right`` by pixels; bilinear, filled with black."""
    angle_1, shift_12 = images_BCHW.new_tensor([degrees]), images_BCHW.new_tensor([[right, 0.0]])
    matrix_123 = affine_matrix(angle_1, torch.ones_like(shift_12), torch.zeros_like(shift_12), shift_12)
    return affine(images_BCHW, matrix_123.expand(len(images_BCHW), 2, 3), fill="zeros")


def noisy(images_BCHW: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """With normal noise of this standard deviation on each pixel and channel, clipped to 0..1."""
    noise = torch.randn(images_BCHW.shape, generator=generator, device=images_BCHW.device)
    return (images_BCHW + sd * noise).clamp(0.0, 1.0)


def blurred(images_BCHW: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of standard deviation ``sigma`` pixels, cut at 3 sigma, its weights summing to 1. The
    outermost pixels are repeated beyond the edge, so a uniform area does not change."""
    if sigma == 0.0:
        return images_BCHW
    reach = math.ceil(3.0 * sigma)
    steps = torch.arange(-reach, reach + 1, device=images_BCHW.device)
    bell = torch.exp(-0.5 * (steps / sigma).square())
    bell = bell / bell.sum()
    planes = F.pad(images_BCHW, (reach,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    across = F.conv2d(planes, bell.view(1, 1, 1, -1))
    return F.conv2d(across, bell.view(1, 1, -1, 1)).view_as(images_BCHW)


def occluded(images_BCHW: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """With a black square of ``side`` (whole) pixels at a random place inside each image."""
    draws_2B = torch.rand(2, len(images_BCHW), generator=generator, device=images_BCHW.device)
    covered = []
    for draw_B, length in zip(draws_2B, images_BCHW.shape[-2:], strict=True):
        first_B1 = (draw_B * max(1, length - round(side) + 1)).floor()[:, None]
        places = torch.arange(length, device=images_BCHW.device)
        covered.append((places >= first_B1) & (places < first_B1 + round(side)))
    hole_BHW = covered[0][:, :, None] & covered[1][:, None, :]
    return images_BCHW.masked_fill(hole_BHW[:, None], 0.0)


# Name -> function, strengths, and their unit.
DISTURBANCES: dict[str, tuple[Disturbance, tuple[float, ...], str]] = {
    "rotation": (lambda images, degrees, _: mapped(images, degrees, 0.0), (0, 10, 20, 30, 45, 60, 90), "degrees"),
    "shift": (lambda images, pixels, _: mapped(images, 0.0, pixels), (0, 1, 2, 3, 4, 6, 8), PIXELS),
    "noise": (noisy, (0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), "standard deviation (white is 1)"),
    "blur": (lambda images, sigma, _: blurred(images, sigma), (0, 0.5, 1, 1.5, 2, 3, 4), PIXELS),
    "occlusion": (occluded, (0, 4, 6, 8, 10, 12, 16), PIXELS),
}


def change_of(
    name: str, strength: float, preprocess: Preprocess, width: int, machine: Machine
) -> Callable[[Tensor], Tensor] | None:
    """The disturbance as a change of images of ``preprocess.image_size`` that are stored ``width`` pixels wide; None at
    strength 0. It draws the same numbers at every strength, so only that varies. An occlusion's side is rounded to
    whole resized pixels."""
    disturb, _, unit = DISTURBANCES[name]
    if strength == 0:
        return None
    here = strength * preprocess.image_size / width if unit == PIXELS else strength
    generator = machine.generator(SEED, name)
    return lambda images_BCHW: disturb(images_BCHW, here, generator)


def robustness(
    model: nn.Module, split: DeviceSplit, preprocess: Preprocess, machine: Machine, batch_size: int, count: int
) -> dict[str, list[tuple[float, float]]]:
    """For each of DISTURBANCES its strengths with top-1 accuracy (a fraction) on ``count`` `evenly` spaced images."""
    numbers = evenly(len(split), count).to(split.labels.device)
    some, width = DeviceSplit(split.images[numbers], split.labels[numbers]), split.images.shape[2]

    def accuracy(change: Callable[[Tensor], Tensor] | None) -> float:
        logits = []
        for images_BHWC in some.images.split(at_once(batch_size, some.images, preprocess)):
            inputs_BCHW = preprocess(images_BHWC, change)  # not under autocast: half precision moves pixels
            with machine.autocast():
                logits.append(model(inputs_BCHW).float())
        return top_k(torch.cat(logits), some.labels, 1)

    curves = {}
    with evaluating(model):
        plain = accuracy(None)
        for name, (_, strengths, _) in DISTURBANCES.items():
            changes = [change_of(name, strength, preprocess, width, machine) for strength in strengths[1:]]
            scores = [plain, *map(accuracy, changes)]
            curves[name] = [(float(strength), score) for strength, score in zip(strengths, scores, strict=True)]
    return curves


def disturbed_versions(subject: Subject, name: str, number: int) -> Pixels:
    """Image ``number`` at each strength of a disturbance, before the crop: [R, S, S, C]."""
    image, whole = subject.images.images[number : number + 1], replace(subject.preprocess, crop=None)
    strengths, width = DISTURBANCES[name][1], image.shape[2]
    changes = [change_of(name, strength, whole, width, subject.machine) for strength in strengths]
    return np.concatenate([visible(image, whole, change) for change in changes])


@style.applied
def draw_robustness(
    runs: Mapping[str, Curves], units: Mapping[str, str], versions: Mapping[str, Pixels], chance: float
) -> Figure:
    """One plot per disturbance, the runs over each other: accuracy at each strength, and below it one image at that
    strength ([R, S, S, C], by the disturbance's name); ``chance``, a fraction, is what guessing reaches."""
    rows = math.ceil(len(units) / PANELS)
    figure = style.new_figure(style.WIDTH, 2.75 * rows)
    places = np.ravel(np.asarray(figure.subfigures(rows, PANELS)))
    for place, (name, unit) in zip(places, units.items(), strict=False):
        upper, lower = place.subplots(2, 1, height_ratios=(4.2, 1), sharex=True, gridspec_kw={"hspace": 0.0})
        _draw_curves(upper, {run: curves[name] for run, curves in runs.items()}, f"{name}: {unit}", chance)
        _draw_versions(lower, versions[name], [strength for strength, _ in next(iter(runs.values()))[name]])
        if place in places[::PANELS]:
            upper.set_ylabel("accuracy %")
    spare = places[len(units) :]
    if len(spare) and len(runs) > 1:
        handles, names = upper.get_legend_handles_labels()
        spare[0].legend(handles, names, loc="center", fontsize=9)
    return figure


def _draw_curves(axes: Axes, runs: Mapping[str, Sequence[tuple[float, float]]], title: str, chance: float) -> None:
    for number, (name, curve) in enumerate(runs.items()):
        colour, marker = style.SERIES[number % len(style.SERIES)], style.MARKERS[number % len(style.MARKERS)]
        strengths, scores = [strength for strength, _ in curve], [100 * score for _, score in curve]
        axes.plot(strengths, scores, marker=marker, markersize=4, color=colour, label=style.run_name(name))
    axes.axhline(100 * chance, color=style.GREY, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate("guessing", (strengths[0], 100 * chance), (0, 2), textcoords="offset points", fontsize=7)
    axes.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    axes.tick_params(axis="x", labelbottom=True, length=0)
    axes.set(ylim=(0, 103))
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_title(title, fontsize=8.5)
    axes.grid(axis="y")


def _draw_versions(axes: Axes, versions_RSSC: Pixels, strengths: Sequence[float]) -> None:
    """Each version under its strength, as large as the closest two allow."""
    half = 0.47 * min(b - a for a, b in pairwise(strengths))
    for strength, version in zip(strengths, style.as_colour(versions_RSSC), strict=True):
        extent = (strength - half, strength + half, -half, half)
        axes.imshow(version, extent=extent, interpolation="nearest", aspect="equal")
    axes.set(xlim=(strengths[0] - half, strengths[-1] + half), ylim=(-half, half))
    axes.set_axis_off()


def section(subject: Subject, others: Sequence[Subject], number: int) -> Section:
    """All disturbances in one picture, the runs over each other; image ``number`` shows how strong they are."""
    if subject.part == "training":
        return Section("Robustness", [Missing("Robustness", "there are no test or validation images")])
    count = min(IMAGES, len(subject.images))
    runs = {
        one.name: robustness(
            one.model, one.images, one.preprocess, one.machine, one.config.train.eval_batch_size, count
        )
        for one in (subject, *others)
    }
    units = {name: unit for name, (_, _, unit) in DISTURBANCES.items()}
    versions = {name: disturbed_versions(subject, name, number) for name in units}
    figure = draw_robustness(runs, units, versions, 1 / len(subject.classes))
    fact = limits_sentence(runs[subject.name], subject.counted_images(count))
    compared = [compare_sentence(subject.name, runs[subject.name], other.name, runs[other.name]) for other in others]
    text = " ".join([fact, "Pixels are those of the stored images.", *compared])
    alt = "A plot for each of five disturbances: accuracy against its strength, with an image at each strength"
    return Section("Robustness", [Picture("robustness", "Accuracy under disturbances", figure, alt, text, True, fact)])


def limits_sentence(curves: Curves, images: str) -> str:
    """The strongest disturbances tested that leave nine tenths of the accuracy on ``images``."""
    held, lost = [], []
    for name, curve in curves.items():
        kept = [score >= ENOUGH * curve[0][1] for _, score in curve]
        good = curve[: [*kept, False].index(False)]
        if len(good) > 1:
            held.append(f"{name} {strength_words(name, good[-1][0])}")
        else:
            lost.append(f"{name} {strength_words(name, curve[1][0])}")
    text = f"On {images}, accuracy without disturbance is {percent(curves['noise'][0][1], 1)}."
    if held:
        text += f" At least {percent(ENOUGH, 0)} of that remains up to {listed(held)}."
    return f"{text} Accuracy is already below that at {listed(lost)}." if lost else text


def strength_words(name: str, strength: float) -> str:
    """30 degrees, 1 pixel, 0.2."""
    unit = DISTURBANCES[name][2]
    if " " in unit:
        return f"{strength:g}"
    return f"{strength:g} {unit.removesuffix('s') if strength == 1 else unit}"


def compare_sentence(name: str, own: Curves, other_name: str, other: Curves) -> str:
    """Where the two differ most."""
    gaps = [
        (score - theirs, kind, strength)
        for kind, curve in own.items()
        for (strength, score), (_, theirs) in zip(curve, other[kind], strict=True)
    ]
    gap, kind, strength = max(gaps, key=lambda one: abs(one[0]))
    mean = sum(gap for gap, _, _ in gaps) / len(gaps)
    better, worse = (name, other_name) if gap > 0 else (other_name, name)
    return (
        f"{better} and {worse} differ most at {kind} {strength_words(kind, strength)}, where {better} is "
        f"{100 * abs(gap):.1f} points better; on average over all strengths, {name if mean > 0 else other_name} is "
        f"{100 * abs(mean):.1f} points better."
    )
