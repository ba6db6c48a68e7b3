"""Drawn digits on paper as it is outside: grey, yellow, dark, unevenly lit, ruled, squared, noisy, as a large photo.

Each picture is made from its seed alone. Sizes, places, levels, colours, directions of the light and distances of the
lines are drawn anew for each, so no two sheets are alike.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

SIDE = 280
TURNED = 6  # EXIF: the camera was held so that the picture must be turned to the right
PRINT = ((170, 200, 235), (190, 190, 190), (120, 160, 220), (225, 150, 150), (150, 150, 150), (160, 205, 165))
BLUE, BLACK, RED, GREEN = (35, 45, 140), (25, 25, 30), (150, 25, 30), (20, 90, 50)


def inked(digit: Pixels, random: Random, side: int = SIDE) -> Floats:
    """[side, side, 1], the share of ink: MNIST's digit, uint8 [28, 28], enlarged to about half the side and put
    anywhere, with soft edges as a pen makes them."""
    size = int(side * random.uniform(0.36, 0.72))
    picture = PIL.Image.fromarray(digit).resize((size, size), PIL.Image.Resampling.BICUBIC)
    share = np.zeros((side, side, 1))
    x, y = random.integers(0, side - size + 1, 2)
    share[y : y + size, x : x + size, 0] = np.clip((np.asarray(picture) / 255 - 0.3) / 0.4, 0, 1)
    return share


def mixed(share: Floats, ink: Any, paper: Any) -> Floats:
    """[side, side, 3], ink over paper; each is a level, a colour, or a picture of that size."""
    return np.asarray(share * np.asarray(ink, float) + (1 - share) * np.asarray(paper, float) + np.zeros(3))


def even(levels: Callable[[Random], tuple[Any, Any]]) -> Callable[[Floats, Random], Floats]:
    """Paper and ink of one level or colour each."""

    def lay(share: Floats, random: Random) -> Floats:
        paper, ink = levels(random)
        return mixed(share, ink, paper)

    return lay


def grey_levels(random: Random) -> tuple[int, int]:
    """Any two levels that differ by 60 or more."""
    while True:
        paper, ink = random.integers(0, 256, 2).tolist()
        if abs(paper - ink) >= 60:
            return paper, ink


def colours(random: Random) -> tuple[Any, Any]:
    """Any two colours that differ by 100 levels or more of red, green or blue: perhaps not at all in grey."""
    while True:
        paper, ink = random.integers(0, 256, (2, 3))
        if np.abs(paper - ink).max() >= 100:
            return paper, ink


def places(side: int) -> tuple[Floats, Floats]:
    """Rows and columns from -0.5 to 0.5."""
    rows, columns = np.mgrid[:side, :side] + 0.5
    return rows / side - 0.5, columns / side - 0.5


def shaded(share: Floats, random: Random) -> Floats:
    """Light that falls off in one direction, on paper and ink."""
    rows, columns = places(len(share))
    angle = random.uniform(0, 2 * np.pi)
    light = 0.78 + random.uniform(0.2, 0.3) * (np.cos(angle) * columns + np.sin(angle) * rows) / 0.7
    sheet_of_one_level = mixed(share, random.uniform(20, 60), random.uniform(200, 255))
    return np.asarray(light[..., None] * sheet_of_one_level)


def lamp(share: Floats, random: Random) -> Floats:
    """The light of a lamp somewhere over the sheet."""
    rows, columns = places(len(share))
    y, x = random.uniform(-0.5, 0.5, 2)
    light = 0.55 + 0.45 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / random.uniform(0.2, 0.5))
    paper = light[..., None] * np.array([255.0, 245, 225]) * random.uniform(0.8, 1)
    return mixed(share, BLACK, paper)


def lines(side: int, random: Random, both: bool) -> Floats:
    """[side, side, 1], the share of a printed line: one to three pixels wide, up to one degree askew."""
    rows, columns = (place * side for place in places(side))
    apart, wide, askew = random.uniform(14, 48), random.uniform(1, 3), random.uniform(-0.017, 0.017)
    share = np.zeros((side, side))
    for across in (rows + askew * columns, columns - askew * rows)[: 1 + both]:
        from_line = np.abs((across + random.uniform(0, apart)) % apart - apart / 2)
        share = np.maximum(share, np.clip(wide / 2 - from_line + 0.5, 0, 1))
    return share[..., None]


def lined(both: bool) -> Callable[[Floats, Random], Floats]:
    """Ruled or squared paper; the ink lies over its lines."""

    def lay(share: Floats, random: Random) -> Floats:
        line, ink = np.array(PRINT[random.integers(len(PRINT))]), np.array((BLACK, BLUE)[random.integers(2)])
        printed = lines(len(share), random, both)
        paper = printed * line + (1 - printed) * random.uniform(215, 255)
        return mixed(share, ink, paper)

    return lay


def noisy(share: Floats, random: Random) -> Floats:
    """The noise of a sensor in the dark, the same in all colours or not."""
    picture = even(lambda draw: ((190, 60), (60, 200))[draw.integers(2)])(share, random)
    return picture + random.normal(0, random.uniform(8, 28), (*share.shape[:2], random.choice((1, 3))))


def yellow(random: Random) -> tuple[Any, Any]:
    """A sticky note."""
    paper = (random.integers(225, 256), random.integers(205, 245), random.integers(80, 170))
    return paper, (BLACK, BLUE, RED, GREEN)[random.integers(4)]


PAPERS: dict[str, Callable[[Floats, Random], Floats]] = {
    "white": even(lambda random: (random.integers(240, 256), random.integers(0, 60))),
    "grey": even(grey_levels),
    "yellow": even(yellow),
    "dark": even(lambda random: (random.integers(0, 60), random.integers(140, 256))),
    "colours": even(colours),
    "shaded": shaded,
    "lamp": lamp,
    "ruled": lined(False),
    "squared": lined(True),
    "noisy": noisy,
    "photo": shaded,
    "turned": lined(False),
}


def sheet(kind: str, share: Floats, seed: int) -> Pixels | bytes:
    """The ink, [280, 280, 1], on paper, as `Classifier` takes it: uint8 [280, 280, 3]; a "photo" has 12 million pixels,
    and what was "turned" is a JPEG file whose EXIF says so."""
    random = np.random.default_rng([seed, list(PAPERS).index(kind)])
    picture = rounded(PAPERS[kind](share, random))
    if kind == "photo":
        large = np.asarray(PIL.Image.fromarray(picture).resize((3464, 3464), PIL.Image.Resampling.BICUBIC))
        grain = random.integers(-9, 10, (866, 866, 1), dtype=np.int16).repeat(4, axis=0).repeat(4, axis=1)
        return np.clip(large + grain, 0, 255).astype(np.uint8)
    if kind == "turned":
        exif, file = PIL.Image.Exif(), io.BytesIO()
        exif[0x0112] = TURNED
        PIL.Image.fromarray(np.rot90(picture)).save(file, "JPEG", quality=85, exif=exif)
        return file.getvalue()
    return picture


def rounded(values: Floats) -> Pixels:
    """To the nearest level of 0 to 255."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
