"""What the network endures: accuracy against rotation, shift, noise, blur and occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.look.robust import DISTURBANCES, SEED, at_strength, robustness
from vitlab.pictures import robust as pictures
from vitlab.report.gather import Subject
from vitlab.report.parts import Missing, Picture, Section, counted, listed

IMAGES = 2000  # more of them narrow the curves, but take their time
ENOUGH = 0.9

Curves = dict[str, list[tuple[float, float]]]


def section(subject: Subject, others: Sequence[Subject], number: int) -> Section:
    """One picture with all disturbances, the runs over each other; image ``number`` shows how strong they are."""
    title = "What it endures"
    if subject.part == "training":
        return Section(title, [Missing("Robustness", "there are neither test nor validation images")])
    count = min(IMAGES, len(subject.images))
    runs = {one.name: curves_of(one, count) for one in (subject, *others)}
    units = {name: unit for name, (_, _, unit) in DISTURBANCES.items()}
    versions = {name: disturbed(subject, name, number) for name in units}
    figure = pictures.robustness(runs, units, versions)
    fact = f"On the first {counted(count, f'{subject.part} image')} it keeps {limits_phrase(runs[subject.name])}."
    text = fact
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
    disturb, strengths, _ = DISTURBANCES[name]
    image = subject.images.images[number : number + 1]
    channels = image.shape[-1]
    plain = replace(subject.preprocess, mean=(0.0,) * channels, std=(1.0,) * channels, crop=None)
    shown = []
    for strength in strengths:
        generator = subject.machine.generator(SEED, name)
        change = None if strength == 0 else at_strength(disturb, strength, generator)
        shown.append(plain(image, change)[0].permute(1, 2, 0).cpu().numpy())
    return np.stack(shown)


def limits_phrase(curves: Curves) -> str:
    """Up to which strength of each disturbance it keeps nine tenths of its accuracy."""
    held = []
    for name, curve in curves.items():
        good = [strength for strength, score in curve if score >= ENOUGH * curve[0][1]]
        unit = f" {DISTURBANCES[name][2]}" if " " not in DISTURBANCES[name][2] else ""
        limit = f"up to {max(good):g}" if len(good) == len(curve) else f"below {first_loss(curve):g}"
        held.append(f"{name} {limit}{unit}")
    plain = 100 * curves["noise"][0][1]
    return f"nine tenths of its undisturbed {plain:.1f} % under {listed(held)}"


def first_loss(curve: Sequence[tuple[float, float]]) -> float:
    """The first strength at which too much is lost."""
    return next(strength for strength, score in curve if score < ENOUGH * curve[0][1])


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
        f"{better} and {worse} differ most at {kind} {strength:g}, where {better} is {100 * abs(gap):.1f} points "
        f"ahead; over all strengths {ahead} is, by {100 * abs(mean):.1f} points on average."
    )
