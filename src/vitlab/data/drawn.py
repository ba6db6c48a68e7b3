"""Whether a data set consists of drawings that were all normalised as MNIST's digits were, decided by its pixels.

LeCun et al. (1998): "size normalized to fit in a 20x20 pixel box while preserving their aspect ratio ... centered in a
28x28 image by computing the center of mass of the pixels". A network that was trained on such images reads others
badly, so every picture must be normalised in the same way first (vitlab/predict/drawing.py). What the data set is
called, and in which kind of file it is stored, does not matter.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vitlab.data.images import with_bits

LIGHT = "mnist-drawing"  # bright ink on black, as in MNIST
DARK = "mnist-drawing-dark"  # the same, dark ink on white
SIDE = 28  # of an image, in pixels
LONGEST = 20  # of the drawing inside it
CENTRE = 14.5  # of mass of MNIST's digits, pixel i counting at i + 0.5; all 70,000 lie between 13.98 and 15
NEAR = 0.6  # pixels that a centre of mass may be away from it
LOOKED_AT = 5000  # images, evenly spaced: neither the seed nor a limit on the training images changes them
NEARLY_ALL = 0.9  # of them must be normalised
GROUND = 25  # levels of 255: a JPEG of black is not quite black
NOT_BLACK = 0.02  # of the border: 1 % of MNIST's digits touch it, with a few pixels

Pixels = npt.NDArray[np.uint8]


def drawing_of(images_NHWC: npt.NDArray[Any], wanted: Literal["auto", "yes", "no"] = "auto") -> str | None:
    """The normalisation that pictures need before a network that is trained on these images: LIGHT, DARK or None.

    ``wanted`` "auto" looks at the images, [N, H, W, C], uint8, uint16 or float32 with 1 for white; "yes" and "no" are
    the user's word, so only the ground's brightness is looked at.
    """
    if wanted == "no" or not len(images_NHWC):
        return None
    some = images_NHWC[:: -(-len(images_NHWC) // LOOKED_AT)]
    if some.dtype == np.uint16:
        some = with_bits(some, 8)
    elif some.dtype != np.uint8:
        some = (some.clip(0, 1) * 255).round().astype(np.uint8)
    border = np.concatenate([some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]], axis=1)
    name = DARK if np.median(border) > 127 else LIGHT
    if wanted == "yes":
        return name
    if some.shape[1:3] != (SIDE, SIDE) or (some != some[..., :1]).any():
        return None
    grey = 255 - some[..., 0] if name == DARK else some[..., 0]
    black = (border[..., 0] > 255 - GROUND if name == DARK else border[..., 0] <= GROUND).mean()
    return name if black >= 1 - NOT_BLACK and are_normalised(grey).mean() >= NEARLY_ALL else None


def are_normalised(grey_NHW: Pixels, ground: int = GROUND) -> npt.NDArray[np.bool_]:
    """[N], whether the pixels above ``ground`` have a longest side of 18 to 20 (faint edges do not count), and their
    centre of mass in the middle. Images of SIDE x SIDE with bright ink."""
    ink = grey_NHW > ground
    longest = np.maximum(extent(np.any(ink, axis=1)), extent(np.any(ink, axis=2)))
    values = np.where(ink, grey_NHW, 0).astype(np.int64)
    mass = np.maximum(values.sum(axis=(1, 2)), 1)
    middles = [values.sum(axis=axis) @ (np.arange(SIDE) + 0.5) / mass for axis in (1, 2)]
    centred = np.maximum(*(np.abs(middle - CENTRE) for middle in middles)) <= NEAR
    return np.asarray((longest >= LONGEST - 2) & (longest <= LONGEST) & centred)


def extent(ink_NL: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[N], from the first to the last that is set, 0 if none is."""
    length = ink_NL.shape[1]
    return np.where(ink_NL.any(axis=1), length - ink_NL.argmax(axis=1) - ink_NL[:, ::-1].argmax(axis=1), 0)
