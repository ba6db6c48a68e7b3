"""The normalisation of a free drawing, "mnist-drawing", as it was done for MNIST (LeCun et al. 1998).

Their words: "size normalized to fit in a 20x20 pixel box while preserving their aspect ratio ... centered in a 28x28
image by computing the center of mass of the pixels". In all 60,000 training images that centre lies between 14 and 15
in both directions, 14.5 on average (pixel i counts at i + 0.5): the middle of pixel 14, not the border of pixels 13 and
14. The page's drawing.js computes the same to one grey level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.data.drawn import CENTRE, LONGEST, SIDE, are_normalised
from vitlab.data.images import Pixels, to_grey
from vitlab.predict.paper import NO_INK, TINY, Box, Ink, border_of, box_around, find_ink

BRIGHT = 254  # the brightest pixel of a normalised drawing has this level at least
TIE = 1e-6  # a centre halfway between two places goes right or down, whatever the last bit of the sum

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a normalisation: whether the drawing was ``inverted``; the ``box`` around the ink (left, top, right,
    bottom; the last two exclusive), None if there is no ink; the ``scaled`` ink, uint8 [h, w]; the result, ``placed``,
    uint8 [28, 28]; and the ``reason`` in a few words why this is no drawing that can be read, else None."""

    inverted: bool
    box: Box | None
    scaled: Pixels
    placed: Pixels
    reason: str | None = None


def center_drawing(picture: Pixels) -> Steps:
    """Finds the ink in uint8 [H, W], [H, W, 1] or [H, W, 3] of any size (`paper`), scales its box to a longest side of
    20 pixels, and puts its centre of mass where MNIST's digits have it in 28 x 28: bright ink on black. Without ink the
    result is black. A picture that this step has made already, as MNIST's own are, comes back unchanged."""
    picture_HWC = picture.reshape(*picture.shape[:2], -1)
    done = already_normalised(picture_HWC)
    if done is not None:
        return done
    ink, offset = closest(picture_HWC)
    placed = np.zeros((SIDE, SIDE))
    if ink.box is None:
        return Steps(ink.darker, None, np.zeros((0, 0), np.uint8), rounded(placed), ink.reason)
    left, top, right, bottom = ink.box
    width, height = scaled_size(right - left, bottom - top)
    scaled = resample(ink.cover[top:bottom, left:right], height, width)
    scaled *= 255.0 / scaled.max()  # thin strokes fade when they shrink
    x, y = corner(scaled)
    placed[y : y + height, x : x + width] = scaled
    return Steps(ink.darker, in_picture(ink, offset, picture_HWC), rounded(scaled), rounded(placed), ink.reason)


def closest(picture_HWC: Pixels) -> tuple[Ink, tuple[int, int]]:
    """The ink, and the left and top border of the part of the picture that it was found in. A drawing that is small in
    a large picture is looked at again in a part of it, or it would lose its details."""
    ink = find_ink(picture_HWC)
    if ink.box is None or ink.reason not in (None, TINY) or ink.factor == 1:
        return ink, (0, 0)
    left, top, right, bottom = in_picture(ink, (0, 0), picture_HWC)
    margin = max(right - left, bottom - top) // 2
    left, top = max(0, left - margin), max(0, top - margin)
    part = picture_HWC[top : bottom + margin, left : right + margin]
    if 2 * max(part.shape[:2]) > max(picture_HWC.shape[:2]):
        return ink, (0, 0)
    again = find_ink(part)
    return (ink, (0, 0)) if again.reason or again.darker != ink.darker else (again, (left, top))


def in_picture(ink: Ink, offset: tuple[int, int], picture_HWC: Pixels) -> Box:
    """The box in pixels of the whole picture."""
    assert ink.box is not None
    (x, y), (height, width) = offset, picture_HWC.shape[:2]
    left, top, right, bottom = (ink.factor * side for side in ink.box)
    return x + left, y + top, min(x + right, width), min(y + bottom, height)


def already_normalised(picture_HWC: Pixels) -> Steps | None:
    """The steps of a picture that is the result of this normalisation, or its negative: 28 x 28, grey, exactly black
    around a box whose longest side is 20 (19 in 16 of MNIST's 70,000 images), with the centre of mass in pixel 14. To
    normalise twice then changes nothing."""
    if picture_HWC.shape[:2] != (SIDE, SIDE) or (picture_HWC != picture_HWC[..., :1]).any():
        return None
    for inverted in (False, True):
        grey = 255 - picture_HWC[..., 0] if inverted else picture_HWC[..., 0]
        if grey.max() >= BRIGHT and are_normalised(grey[np.newaxis], ground=0)[0]:
            left, top, right, bottom = box = box_around(grey > 0)
            return Steps(inverted, box, grey[top:bottom, left:right].copy(), grey.copy())
    return None


def plain_drawing(picture: Pixels) -> Steps:
    """Without centring: makes the ink bright and squeezes the whole image into 28 x 28."""
    picture_HWC = picture.reshape(*picture.shape[:2], -1)
    grey, inverted = bright_ink(to_grey(picture_HWC)[..., 0])
    squeezed = rounded(resample(grey, SIDE, SIDE))
    reason = None if squeezed.any() else NO_INK
    return Steps(inverted, (0, 0, grey.shape[1], grey.shape[0]), squeezed, squeezed, reason)


def bright_ink(grey_HW: Pixels) -> tuple[Pixels, bool]:
    """The drawing with bright ink on a dark background, and whether it was inverted: the border is background."""
    inverted = bool(np.median(border_of(grey_HW)) > 127)
    return (255 - grey_HW if inverted else grey_HW), inverted


def scaled_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) with the longer one LONGEST and the shorter one in proportion, at least 1."""
    longest, shortest = max(width, height), min(width, height)
    short = max(1, (2 * LONGEST * shortest + longest) // (2 * longest))  # floor(20 short / long + 1/2), exactly
    return (LONGEST, short) if width >= height else (short, LONGEST)


def resample(image_HW: npt.NDArray[Any], height: int, width: int) -> Floats:
    """[H, W] -> [height, width] with the triangle filter, widened where the image shrinks so that every pixel counts
    (Pillow's BILINEAR). Horizontal first, in float64."""
    across = image_HW.astype(np.float64) @ triangle(image_HW.shape[1], width).T
    return triangle(image_HW.shape[0], height) @ across


def triangle(length: int, out: int) -> Floats:
    """The weights [out, length] of one direction; each row sums to 1."""
    scale = length / out
    support = max(scale, 1.0)
    centres = (np.arange(out)[:, np.newaxis] + 0.5) * scale
    weights: Floats = np.maximum(0.0, 1.0 - np.abs(np.arange(length) + 0.5 - centres) / support)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def corner(scaled_HW: Floats) -> tuple[int, int]:
    """(left, top) that brings the centre of mass closest to CENTRE with everything inside SIDE x SIDE."""
    places = []
    for axis, length in ((0, scaled_HW.shape[1]), (1, scaled_HW.shape[0])):
        mass = scaled_HW.sum(axis=axis)
        middle = float((mass * (np.arange(length) + 0.5)).sum() / mass.sum())
        places.append(min(max(math.floor(CENTRE - middle + 0.5 + TIE), 0), SIDE - length))
    return places[0], places[1]


def rounded(values: Floats) -> Pixels:
    """floor(v + 0.5) as uint8."""
    return np.floor(values + 0.5).astype(np.uint8)
