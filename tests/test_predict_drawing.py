"""The normalisation of a drawing: step by step against Pillow and against numbers worked out by hand."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from benchmarks.drawn_digits import Pen, draw
from tests.image_zoo import Pixels, saved, seven
from tests.papers import PAPERS, on_paper
from vitlab.data import load_dataset
from vitlab.data.images import decode, to_grey
from vitlab.predict import center_drawing, plain_drawing
from vitlab.predict.drawing import bright_ink, corner, resample, rounded, scaled_size
from vitlab.predict.paper import FILLED, NO_INK, SCATTERED, TINY, find_ink, pieces_of, widened, without_hairs


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


def test_a_contrast_of_less_than_20_levels_is_no_ink() -> None:
    for paper, ink in ((100, 80), (100, 120)):
        steps = center_drawing(np.where(canvas(47, 53, bar=(11, 13, 17, 29)) > 0, ink, paper).astype(np.uint8))
        assert (steps.box, steps.reason, steps.inverted) == ((11, 13, 17, 29), None, ink < paper)
        fainter = np.where(canvas(47, 53, bar=(11, 13, 17, 29)) > 0, (9 * ink + paper) // 10, paper).astype(np.uint8)
        assert center_drawing(fainter).reason == NO_INK


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
def test_mnist_itself_comes_back_unchanged() -> None:
    """It was made by this normalisation, so there is nothing left to do; a network is as good with it as without."""
    mnist = load_dataset("mnist")
    assert mnist.test is not None
    images = np.concatenate([mnist.test.images[::3, ..., 0], mnist.train.images[:211, ..., 0]])
    again = np.stack([center_drawing(image).placed for image in images])
    np.testing.assert_array_equal(again, images)
    np.testing.assert_array_equal(np.stack([center_drawing(255 - image).placed for image in images]), images)


INK = draw(5, Pen(140, 120, 0.55, 0.5, 71, 9))
PLAIN = center_drawing(INK).placed.astype(int)


def mixed(paper: Any, ink: Any, cover: Any = INK) -> Pixels:
    """Ink over paper, each a level, a colour [3] or a picture."""
    share = np.asarray(cover, float)[..., None] / 255
    return np.round(np.asarray(paper, float) * (1 - share) + np.asarray(ink, float) * share).astype(np.uint8)


def test_levels_of_paper_and_ink_make_no_difference() -> None:
    """The share of ink is (paper - pixel) / (paper - ink), whatever the two are."""
    for paper, ink in itertools.product(range(0, 256, 17), repeat=2):
        if abs(paper - ink) >= 51:
            steps = center_drawing(mixed([paper], [ink])[..., 0])
            assert np.abs(steps.placed - PLAIN).max() <= 6, (paper, ink)  # 1 level of 51 is 5 of 255
            assert steps.inverted == (ink < paper)
            assert steps.reason is None


def test_colours_that_are_alike_in_grey_differ() -> None:
    """Red and green of the same brightness; blue ink on yellow paper; light ink."""
    for paper, ink in (
        ((200, 60, 60), (40, 129, 60)),
        ((250, 230, 90), (30, 40, 200)),
        ((20, 30, 60), (240, 220, 120)),
    ):
        steps = center_drawing(mixed(paper, ink))
        assert np.abs(steps.placed - PLAIN).max() <= 4
    assert int(to_grey(np.array([[[200, 60, 60]]], np.uint8))[0, 0, 0]) == 102
    assert int(to_grey(np.array([[[40, 129, 60]]], np.uint8))[0, 0, 0]) == 95  # so grey would see nothing


@pytest.mark.parametrize("paper", PAPERS)
def test_paper_is_not_ink(paper: str) -> None:
    """Nearly the same digit as on clean paper, on each of several sheets of each kind."""
    for seed in range(5):
        clean, found = center_drawing(on_paper(None, seed)), center_drawing(on_paper(paper, seed))
        assert found.reason is None
        assert unlikeness(clean.placed, found.placed) < 7, (seed, "of 255")


def test_lines_alone_are_no_drawing() -> None:
    sheet = np.full((149, 131), 240, np.uint8)
    sheet[7::19] = 130
    assert center_drawing(sheet).reason == NO_INK
    sheet[:, 5::17] = 130
    assert center_drawing(sheet).reason == NO_INK


def test_a_picture_without_a_drawing_gets_a_reason() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:97, :89]
    assert center_drawing(np.full((31, 29, 3), (90, 90, 91), np.uint8)).reason == NO_INK
    for spread in (3, 20, 60):
        noise = np.clip(random.normal(128, spread, (97, 89)), 0, 255).astype(np.uint8)
        assert center_drawing(noise).reason == NO_INK
    assert center_drawing((rows + columns).astype(np.uint8)).reason == NO_INK, "light that falls off"
    assert center_drawing(canvas(97, 89, dot=(40, 41, 44, 45))).reason == TINY
    dots = {
        f"dot{number}": (12 * number + 2, 30 * (number % 3) + 4, 12 * number + 9, 30 * (number % 3) + 11)
        for number in range(7)
    }
    assert center_drawing(canvas(97, 89, **dots)).reason == SCATTERED
    frame = 255 - canvas(97, 89, hole=(9, 9, 80, 88))
    frame[0, 0] = 30  # so the border is not one level
    assert center_drawing(np.where(rows % 2, frame, 255 - frame).astype(np.uint8)).reason is not None
    assert find_ink(np.where((rows // 3 + columns // 3) % 2, 0, 255).astype(np.uint8)[..., None]).reason is not None
    assert FILLED  # as a word: reached by pictures that are ink on most of their border


def test_a_small_drawing_in_a_large_picture_keeps_its_details() -> None:
    """A digit of 71 pixels in 2,203 x 1,999: shrunk to 280 it would be 9 pixels long."""
    large = np.full((1999, 2203), 214, np.uint8)
    large[1501:1621, 307:447] = mixed([214], [31])[..., 0]
    steps = center_drawing(large)
    assert np.abs(steps.placed - PLAIN).max() <= 4
    small = center_drawing(INK).box
    assert steps.box is not None
    assert small is not None
    np.testing.assert_array_equal(np.array(steps.box) - (307, 1501, 307, 1501), small)


def test_how_a_photo_was_held_makes_no_difference() -> None:
    photo = Image.fromarray(mixed((220, 210, 190), (40, 40, 90))).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees to the right
    found = center_drawing(decode(saved(photo, "PNG", exif=exif), "photo"))
    assert np.abs(found.placed - PLAIN).max() <= 4


def test_what_is_normalised_stays_as_it_is() -> None:
    for digit, pen in itertools.product(range(10), (Pen(130, 110, 0.5, 0.5, 91, 11), Pen(101, 103, 0.5, 0.5, 83, 5))):
        placed = center_drawing(draw(digit, pen)).placed
        for again in (placed, 255 - placed, np.repeat(placed[..., None], 3, axis=2)):
            np.testing.assert_array_equal(center_drawing(again).placed, placed)


def test_drawn_digits_are_read_with_centring_as_well_as_test_digits_are() -> None:
    """By the committed measurement."""
    root = Path(__file__).parents[1]
    measured = json.loads((root / "benchmarks" / "results" / "drawn-digits-epyc.json").read_text())
    for run in measured["runs"].values():
        drawn, test = run["drawn"]["centred"], run["test"]["centred"]
        assert drawn["right"] / drawn["of"] >= test["interval"][0]
        assert run["drawn"]["uncentred"]["right"] < 20
        assert abs(test["right"] - run["test"]["as they are"]["right"]) <= 2


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.3, 0.45, 0.6, 0.9]),
    st.sampled_from([(1, 1), (2, 31), (29, 37)]),
)
def test_pieces_of_ink_are_those_of_scipy(seed: int, share: float, size: tuple[int, int]) -> None:
    """Connected pieces, what is around them, and what is two pixels thick."""
    draw = np.random.default_rng(seed)
    ink, ruled = draw.random(size) < share, draw.random(size) < 0.1
    square = np.ones((3, 3), bool)
    np.testing.assert_array_equal(pieces_of(ink), ndimage.label(ink, square)[0])
    np.testing.assert_array_equal(widened(ink, 2), ndimage.binary_dilation(ink, square, iterations=2))
    thick = ndimage.binary_opening(np.pad(ink, 1, mode="edge"), np.ones((2, 2), bool))[1:-1, 1:-1]
    near = ndimage.binary_dilation(ruled, square)
    np.testing.assert_array_equal(without_hairs(ink, ruled), ink & (thick | ~near) if ruled.any() else ink)


def test_a_spiral_is_one_piece() -> None:
    """The longest way from one end of a piece to the other."""
    ink = np.zeros((61, 61), bool)
    row, column, down, right = 0, 0, 0, 1
    for length in [60, *(n for n in range(60, 1, -2) for _ in range(2))]:
        for _ in range(length):
            ink[row, column] = True
            row, column = row + down, column + right
        down, right = right, -down
    pieces = pieces_of(ink)
    assert ndimage.label(ink, np.ones((3, 3)))[1] == 1
    assert (pieces == ink).all()


def test_a_prediction_does_not_wait_for_scipy(tmp_path: Path) -> None:
    """Whose import takes a tenth of the time. Garbage is looked for again when torch has been imported."""
    Image.fromarray(canvas(280, 280, bar=(120, 40, 150, 240))).save(tmp_path / "one.png")
    words = ["predict", "mnist-fast", str(tmp_path / "one.png")]
    script = f"import gc, sys, vitlab.cli\nvitlab.cli.main({words})\nprint('scipy' in sys.modules, gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    answer, state = done.stdout.splitlines()
    assert answer.split()[1] == "1"
    assert state == "False True"
