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

from vitlab.data.images import Pixels

NAME = "mnist-drawing"
SIDE = 28  # of the result, in pixels
LONGEST = 20  # of the drawing inside it
CENTRE = 14.5  # of mass of MNIST's digits
TIE = 1e-6  # a centre halfway between two places goes right or down, whatever the last bit of the sum
INK = 25  # anything darker is background

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a normalisation: whether the drawing was ``inverted``; the ``box`` around the ink (left, top, right,
    bottom; the last two exclusive), None if there is no ink; the ``scaled`` ink, uint8 [h, w]; the result, ``placed``,
    uint8 [28, 28]."""

    inverted: bool
    box: tuple[int, int, int, int] | None
    scaled: Pixels
    placed: Pixels


def center_drawing(grey_HW: Pixels) -> Steps:
    """Makes the ink bright, scales its box to a longest side of 20 pixels, and puts its centre of mass where MNIST's
    digits have it in 28 x 28. uint8 [H, W] of any size; without ink the result is black."""
    grey, inverted = bright_ink(grey_HW)
    placed = np.zeros((SIDE, SIDE))
    box = ink_box(grey)
    if box is None:
        return Steps(inverted, None, np.zeros((0, 0), np.uint8), rounded(placed))
    left, top, right, bottom = box
    width, height = scaled_size(right - left, bottom - top)
    scaled = resample(grey[top:bottom, left:right], height, width)
    scaled *= 255.0 / scaled.max()  # thin strokes fade when they shrink
    x, y = corner(scaled)
    placed[y : y + height, x : x + width] = scaled
    return Steps(inverted, box, rounded(scaled), rounded(placed))


def plain_drawing(grey_HW: Pixels) -> Steps:
    """Without centring: makes the ink bright and squeezes the whole image into 28 x 28."""
    grey, inverted = bright_ink(grey_HW)
    squeezed = rounded(resample(grey, SIDE, SIDE))
    return Steps(inverted, (0, 0, grey.shape[1], grey.shape[0]), squeezed, squeezed)


def bright_ink(grey_HW: Pixels) -> tuple[Pixels, bool]:
    """The drawing with bright ink on a dark background, and whether it was inverted: the border is background."""
    edge = np.concatenate([grey_HW[0], grey_HW[-1], grey_HW[1:-1, 0], grey_HW[1:-1, -1]])
    inverted = bool(np.median(edge) > 127)
    return (255 - grey_HW if inverted else grey_HW), inverted


def ink_box(grey_HW: Pixels) -> tuple[int, int, int, int] | None:
    """The bounding box (left, top, right, bottom) of the pixels above INK; None if there are none."""
    ink = grey_HW > INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


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
