"""Images as a screen shows them: grey, or red, green and blue, of 8 bits.

Only pictures and reports come here; networks always see the numbers as they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Range = tuple[Array, Array]  # of each channel, what becomes black and what becomes white, in 0 to 1

TAILS = (0.5, 99.5)  # percent: what lies outside is as black or as white as what lies there
LOOKED_AT = 256  # images, evenly spaced, that say what the range is
WHITE = 65535


def range_of(images: Any) -> Range | None:
    """The range of images [N, H, W, C] of 16 bits; None for others, which are shown as they are. Red, green and blue
    have one range, so that colours stay; of other channels each has one."""
    if images.dtype != np.uint16 or not len(images):
        return None
    some = np.asarray(images[:: math.ceil(len(images) / LOOKED_AT)])
    axes = (0, 1, 2) if some.shape[3] not in (1, 3) else None
    low, high = np.percentile(some, TAILS, axis=axes) / WHITE
    return np.atleast_1d(low), np.atleast_1d(high)


def view(images: Array, shown: Range | None = None) -> Array:
    """[..., C] of any type -> [..., 1 or 3]: two channels become their mean, of more than three the first three are
    red, green and blue. 16 bits are stretched from the range ``shown``, or their own, to uint8; floats from ``shown``
    to 0..1. Grey and colours of 8 bits are returned unchanged.

    >>> import numpy as np
    >>> from vitlab.data.view import view
    >>> view(np.array([[[30000], [30001], [30002]]], np.uint16))[0, :, 0].tolist()
    [0, 128, 255]
    """
    if images.dtype == np.uint16:
        low, high = shown or _own_range(images)
        stretched = np.rint(255 * _between(images / np.float64(WHITE), low, high))
        return _colours(stretched).round().astype(np.uint8)
    if shown is not None:
        return _colours(_between(images, *shown).astype(images.dtype))
    colours = _colours(images)
    return colours.round().astype(images.dtype) if colours.dtype != images.dtype else colours


def words(channels: int, bits: int) -> str:
    """A sentence about what a view shows of images, or nothing if it is all of them."""
    what = {1: "", 2: "The mean of both channels is shown", 3: ""}.get(
        channels, "The first three channels are shown as red, green and blue"
    )
    if bits != 16:
        return f" {what}." if what else ""
    stretched = "from black to white, the range that the images use"
    return f" {what}, {stretched}." if what else f" They are shown {stretched}."


def _own_range(images: Array) -> Range:
    found = range_of(images.reshape(1, -1, 1, images.shape[-1]))
    return found if found is not None else (np.zeros(1), np.ones(1))


def _between(values: Array, low: Array, high: Array) -> Array:
    between: Array = np.clip((values - low) / np.maximum(high - low, 1e-9), 0, 1)
    return between


def _colours(images: Array) -> Array:
    channels = images.shape[-1]
    if channels in (1, 3):
        return images
    return images.mean(axis=-1, keepdims=True) if channels == 2 else images[..., :3]
