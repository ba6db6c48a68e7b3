"""What the network endures: accuracy against rotation, shift, noise, blur and occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.look.robust import DISTURBANCES, change_of, robustness
from vitlab.pictures import robust as pictures
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, counted, listed, percent

IMAGES = 2000  # more of them narrow the curves, but take their time
ENOUGH = 0.9

Curves = dict[str, list[tuple[float, float]]]


def section(subject: Subject, others: Sequence[Subject], number: int) -> Section:
    """One picture with all disturbances, the runs over each other; image ``number`` shows how strong they are."""
    title = "What it endures"
    if subject.part == "training":
        return Section(title, [Missing("Robustness", "there are neither test nor validation images")])
    total = len(subject.images)
    count = min(IMAGES, total)
    which = counted(count, f"{subject.part} image")
    images = which if count == total else f"{which}, evenly taken from {total:,},"
    runs = {one.name: curves_of(one, count) for one in (subject, *others)}
    units = {name: unit for name, (_, _, unit) in DISTURBANCES.items()}
    versions = {name: disturbed(subject, name, number) for name in units}
    figure = pictures.robustness(runs, units, versions)
    fact = limits_sentence(runs[subject.name], images)
    text = f"{fact} Pixels are those of the stored images."
    for other in others:
        text += f" {compare_sentence(subject.name, runs[subject.name], other.name, runs[other.name])}"
    alt = "A plot for each of five disturbances: accuracy against its strength, with an image at each strength"
    return Section(title, [Picture("robustness", "Robustness", figure, alt, text, True, fact)])


def curves_of(subject: Subject, count: int) -> Curves:
    """A run's curves."""
    batch_size = subject.config.train.eval_batch_size
    return robustness(subject.model, subject.images, subject.preprocess, subject.machine, batch_size, count)


def disturbed(subject: Subject, name: str, number: int) -> npt.NDArray[Any]:
    """One image at each strength of a disturbance, before the crop: [R, S, S, C]."""
    image = subject.images.images[number : number + 1]
    width, channels = image.shape[2:]
    plain = replace(subject.preprocess, mean=(0.0,) * channels, std=(1.0,) * channels, crop=None)
    shown = []
    for strength in DISTURBANCES[name][1]:
        change = change_of(name, strength, plain, width, subject.machine)
        shown.append(plain(image, change)[0].permute(1, 2, 0).cpu().numpy())
    return np.stack(shown)


def limits_sentence(curves: Curves, images: str) -> str:
    """The strongest disturbances that it was tried with before it lost a tenth of its accuracy."""
    held, lost = [], []
    for name, curve in curves.items():
        kept = [score >= ENOUGH * curve[0][1] for _, score in curve]
        good = curve[: [*kept, False].index(False)]
        if len(good) > 1:
            held.append(f"{name} {strength_words(name, good[-1][0])}")
        else:
            lost.append(f"{name} {strength_words(name, curve[1][0])}")
    plain = percent(curves["noise"][0][1], 1)
    text = f"On {images} it is right in {plain} undisturbed."
    if held:
        text += f" Of the strengths that were tried it keeps nine tenths of that up to {listed(held)}."
    return text + (
        f" Already {listed(lost)} {'costs' if len(lost) == 1 else 'cost'} more than a tenth." if lost else ""
    )


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
    better, worse = (name, other_name) if gap > 0 else (other_name, name)
    mean = sum(gap for gap, _, _ in gaps) / len(gaps)
    ahead = name if mean > 0 else other_name
    return (
        f"{better} and {worse} differ most at {kind} {strength_words(kind, strength)}, where {better} is "
        f"{100 * abs(gap):.1f} points ahead; on average over all strengths {ahead} is {100 * abs(mean):.1f} points "
        "ahead."
    )
