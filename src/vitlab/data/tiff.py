"""TIFF files as scientists write them: 16 bits of several channels, and channels beyond red, green and blue.

tifffile says what a file holds and decodes what Pillow would cut to 8 bits or cannot read; all else that a TIFF can be
(palettes, JPEG, CMYK, one bit) is left to Pillow. Only files on the user's own disk come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitlab.data.splits import MOST_CHANNELS

if TYPE_CHECKING:
    from tifffile import TiffFile

COLOURS = {0: 1, 1: 1, 2: 3}  # photometric interpretation: white is 0, black is 0, red green blue -> channels
WHITE_IS_ZERO = 0
UNSIGNED = 1  # sample format
ALPHA = (1, 2)  # kinds of extra samples: associated, unassociated
TURNED, ACROSS, DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)  # orientations: transposed, mirrored

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tags:
    """What the first page of a file states: its size as it is seen; ``channels`` without transparency, None if they are
    no plain intensities; ``bits`` of each number and whether they ``count`` up from 0; ``pages`` of the file, and
    whether they are the channels of one picture (``stacked``)."""

    height: int
    width: int
    channels: int | None
    bits: int
    count: bool
    has_alpha: bool
    white_is_zero: bool
    orientation: int
    pages: int
    stacked: bool

    @property
    def is_deep(self) -> bool:
        """Whether its numbers have 16 bits that can be kept."""
        return self.channels is not None and self.bits == 16 and self.count

    @property
    def without_alpha(self) -> Tags:
        """The same with its transparency as a channel."""
        if not self.has_alpha or self.channels is None:
            return self
        return replace(self, channels=self.channels + 1, has_alpha=False)

    def why_not(self) -> str:
        """Why vitlab does not take such a file, and what to do; empty if it does."""
        if (self.channels or 1) > MOST_CHANNELS:
            return f"has {self.channels} channels; vitlab takes up to {MOST_CHANNELS}: leave some out"
        if self.channels is None or (self.bits <= 16 and self.count):
            return "" if self.is_for_pillow or self.bits in (8, 16) else "is not of 8 or 16 bits; save it with 8 or 16"
        kind = "numbers" if self.count else "signed or floating-point numbers"
        return (
            f"has {kind} of {self.bits} bits, which do not say what is black and white; choose a range low to high for "
            "all images, and save round((x - low) / (high - low) * 65535) as uint16"
        )

    @property
    def is_for_pillow(self) -> bool:
        """Whether Pillow decodes all that it holds."""
        is_plain = self.channels is None or (self.channels in (1, 3) and self.bits <= 8)
        return not self.stacked and (is_plain or (self.channels == 1 and self.is_deep and not self.has_alpha))


def tags_of(data: bytes | Any) -> Tags | None:
    """What a TIFF states, from its bytes or its open file; None if it is damaged."""
    try:
        with _opened(data) as file:
            return _tags(file)
    except MemoryError:
        raise
    except Exception:  # tifffile has a dozen types for damage, which Pillow's decoder then reports
        return None


def _tags(file: TiffFile) -> Tags:
    page: Any = file.pages[0]
    extra = tuple(map(int, page.extrasamples))
    colours = COLOURS.get(int(page.photometric))
    # RGB with a mask is transparency; a first extra sample of several, or of grey that has more, is a measurement.
    has_alpha = colours is not None and len(extra) == 1 and extra[0] in ALPHA
    pages = len(file.pages)
    axes, shape = file.series[0].axes, file.series[0].shape
    stacked = pages > 1 and page.samplesperpixel == 1 and axes == "CYX" and shape[0] == pages <= MOST_CHANNELS
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    orientation = page.tags.valueof("Orientation", 1)
    height, width = page.imagelength, page.imagewidth
    return Tags(
        *((width, height) if orientation in TURNED else (height, width)),
        channels=None if colours is None else pages if stacked else page.samplesperpixel - has_alpha,
        bits=bits,
        count=int(page.sampleformat) == UNSIGNED,
        has_alpha=has_alpha,
        white_is_zero=int(page.photometric) == WHITE_IS_ZERO,
        orientation=orientation,
        pages=pages,
        stacked=stacked,
    )


def pixels_of(data: bytes, tags: Tags) -> Array:
    """uint8 or uint16 [H, W, channels, and transparency if it has some], upright. The caller has checked its size.

    ValueError names the compression if tifffile lacks the package that unpacks it.
    """
    with _opened(data) as file:
        page: Any = file.pages[0]
        values, axes = (file.series[0].asarray(), "CYX") if tags.stacked else (page.asarray(), page.axes)
    order = [axes.index(axis) for axis in axes if axis in "YX"]
    rest = [place for place in range(len(axes)) if place not in order]
    pixels = values.transpose(*order, *rest).reshape(*(values.shape[place] for place in order), -1)
    if tags.white_is_zero:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if tags.orientation in TURNED:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[:: -1 if tags.orientation in DOWN else 1, :: -1 if tags.orientation in ACROSS else 1]
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))


@contextmanager
def _opened(data: bytes | Any) -> Iterator[TiffFile]:
    import logging

    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it prints about oddities that do not prevent reading
    with tifffile.TiffFile(BytesIO(data) if isinstance(data, bytes) else data, name="image.tif") as file:
        yield file
