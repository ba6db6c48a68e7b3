"""The normalisation of a drawing: step by step against Pillow and against numbers worked out by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.drawn_digits import Pen, draw
from tests.image_zoo import Pixels, seven
from vitlab.data import load_dataset
from vitlab.predict import center_drawing, plain_drawing
from vitlab.predict.drawing import bright_ink, corner, resample, rounded, scaled_size


def canvas(height: int, width: int, **boxes: tuple[int, int, int, int]) -> Pixels:
    """A black canvas with white rectangles (left, top, right, bottom)."""
    image = np.zeros((height, width), np.uint8)
    for left, top, right, bottom in boxes.values():
        image[top:bottom, left:right] = 255
    return image


def mass_centre(image: Pixels) -> tuple[float, float]:
    """(x, y), pixel i counting at i + 1/2."""
    total = image.sum(dtype=float)
    places = np.arange(28) + 0.5
    return float((image.sum(axis=0) * places).sum() / total), float((image.sum(axis=1) * places).sum() / total)


def test_the_border_tells_which_is_the_ground() -> None:
    image = np.full((5, 7), 200, np.uint8)
    image[2, 3] = 40
    inverted, was = bright_ink(image)
    assert was
    assert inverted[2, 3] == 215
    assert set(inverted[0]) == {55}
    assert not bright_ink(inverted)[1]
    half = np.array([[127, 127, 128], [128, 9, 127]], np.uint8)  # median of the six outermost: 127
    assert not bright_ink(half)[1]
    assert bright_ink(np.where(half == 9, 129, half).astype(np.uint8))[1]  # now 127.5


def test_ink_begins_above_25() -> None:
    image = np.zeros((9, 11), np.uint8)
    image[1, 1], image[3, 4], image[6, 9] = INK, INK + 1, 255
    assert ink_box(image) == (4, 3, 10, 7)
    assert ink_box(np.full((3, 3), INK, np.uint8)) is None


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(20, 20, (20, 20)), (10, 40, (5, 20)), (1, 1, (20, 20)), (300, 1, (20, 1)), (16, 5, (20, 6)), (8, 41, (4, 20))],
)
def test_the_longest_side_becomes_20(width: int, height: int, expected: tuple[int, int]) -> None:
    """16 x 5: 20 * 5 / 16 = 6.25. 8 x 41: 3.9."""
    assert scaled_size(width, height) == expected


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 97), st.integers(1, 53), st.integers(1, 31), st.integers(1, 29), st.integers(0, 10**6))
def test_resampling_is_that_of_pillow(height: int, width: int, tall: int, wide: int, seed: int) -> None:
    """Pillow in floats, whose BILINEAR widens its support when it shrinks, and keeps to its box."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    reference = Image.fromarray(image).resize((wide, tall), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resample(image, tall, wide), np.asarray(reference), atol=1e-3)


def test_a_bar_by_hand() -> None:
    """A bar of 10 x 40 pixels becomes 5 x 20; its centre (2.5, 10) goes next to (14.5, 14.5), to (12, 5) rounded up
    from 4.5: floor(14.5 - 10 + 0.5) = 5."""
    steps = center_drawing(canvas(67, 83, bar=(60, 3, 70, 43)))
    assert steps.box == (60, 3, 70, 43)
    assert steps.scaled.shape == (20, 5)
    np.testing.assert_array_equal(steps.placed, canvas(28, 28, bar=(12, 5, 17, 25)))
    assert not steps.inverted


def test_dark_on_white_gives_the_same() -> None:
    image = draw(5, Pen(140, 90, 0.6, 0.5, 60, 7))
    bright, dark = center_drawing(image), center_drawing(255 - image)
    np.testing.assert_array_equal(bright.placed, dark.placed)
    assert (bright.inverted, dark.inverted) == (False, True)


def test_thin_strokes_do_not_fade() -> None:
    """A line one pixel wide in a box of 400 would be left with a twentieth of its brightness."""
    image = canvas(500, 500, down=(50, 50, 51, 450), across=(50, 449, 450, 450))
    assert resample(image[50:450, 50:450], 20, 20).max() < 30
    assert center_drawing(image).placed.max() == 255


def test_the_centre_of_mass_goes_to_the_middle_and_nothing_leaves_the_image() -> None:
    assert corner(np.ones((20, 20))) == (5, 5)  # 14.5 - 10 = 4.5, rounded up
    heavy = np.zeros((20, 20))
    heavy[19, 0] = 1.0  # its place (0.5, 19.5) can go to (8.5, 19.5) at the most
    assert corner(heavy) == (8, 0)


def test_scaling_up_a_single_pixel() -> None:
    image = np.zeros((9, 9), np.uint8)
    image[7, 1] = 90
    steps = center_drawing(image)
    np.testing.assert_array_equal(steps.placed, canvas(28, 28, dot=(5, 5, 25, 25)))


def test_halves_are_rounded_up() -> None:
    assert rounded(np.array([0.49, 0.5, 254.5, 255.0])).tolist() == [0, 1, 255, 255]


@pytest.mark.parametrize("digit", range(10))
def test_place_and_size_hardly_matter(digit: int) -> None:
    """The same strokes elsewhere, larger, smaller, on other canvases, give nearly the same image."""
    pens = (Pen(130, 110, 0.5, 0.5, 91, 11), Pen(170, 80, 0.75, 0.5, 66, 8), Pen(100, 130, 0.4, 0.3, 74, 9))
    first, *others = [center_drawing(draw(digit, pen)).placed for pen in pens]
    for other in others:
        assert unlikeness(first, other) < 9, "of 255"
    for image in (first, *others):
        x, y = mass_centre(image)
        assert abs(x - 14.5) <= 0.51
        assert abs(y - 14.5) <= 1.51, "a long tail may have to stay inside"
    plain = [plain_drawing(draw(digit, pen)).placed for pen in pens]
    assert unlikeness(plain[0], plain[1]) > 25, "without centring place and size do matter"


def unlikeness(one: Pixels, other: Pixels) -> float:
    """Mean difference of two images, where the better place of the second may be a pixel further: a centre of mass
    half-way between two pixels goes either way."""
    shifts = [np.roll(other, (y, x), (0, 1)).astype(int) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    return float(min(np.abs(one - shifted).mean() for shifted in shifts))


def test_without_centring_the_whole_image_is_squeezed() -> None:
    steps = plain_drawing(255 - seven())
    reference = Image.fromarray(seven().astype(np.float32)).resize((28, 28), Image.Resampling.BILINEAR)
    assert np.abs(steps.placed - np.floor(np.asarray(reference) + 0.5)).max() <= 1
    assert steps.inverted
    same = np.random.default_rng(0).integers(0, 100, (28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(plain_drawing(same).placed, same)


@pytest.mark.skipif(not os.environ.get("VITLAB_DATA"), reason="needs MNIST")
def test_mnist_itself_comes_back_all_but_unchanged() -> None:
    """It was made by this normalisation: most digits come back to the grey level, the others lose a faint edge. With
    the centre of mass at 14 instead of 14.5 every digit would move, and the mean difference be 14."""
    images = load_dataset("mnist").train.images[:500, ..., 0]
    again = np.stack([center_drawing(image).placed for image in images])
    assert (again == images).all(axis=(1, 2)).mean() > 0.7
    assert np.abs(again.astype(int) - images).mean() < 0.3


def test_drawn_digits_are_read_with_centring_as_well_as_test_digits_are() -> None:
    """By the committed measurement."""
    root = Path(__file__).parents[1]
    measured = json.loads((root / "benchmarks" / "results" / "drawn-digits-epyc.json").read_text())
    for run in measured["runs"].values():
        drawn, test = run["drawn"]["centred"], run["test"]["centred"]
        assert drawn["right"] / drawn["of"] >= test["interval"][0]
        assert run["drawn"]["uncentred"]["right"] < 20
        assert abs(test["right"] - run["test"]["as they are"]["right"]) <= 2
