"""Pictures of every kind: those that can be read are read rightly, the others refused in one line, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.image_zoo import Case, Pixels, chunk, png, rows, saved, see_through, seven, zoo
from vitlab.data.images import to_grey
from vitlab.predict import ImageError, center_drawing, decode

READABLE = [case for case in zoo() if case.status == 200]
REFUSED = [case for case in zoo() if case.status != 200]


def name(case: Case) -> str:
    """For the test's name."""
    return case.name


def grey_of(data: bytes) -> Pixels:
    """Decoded, as one channel [H, W]."""
    return to_grey(decode(data, "picture"))[..., 0]


def test_the_zoo_is_large_and_its_names_differ() -> None:
    assert len(READABLE) >= 40
    assert len(REFUSED) >= 40
    assert len({case.name for case in zoo()}) == len(zoo())


@pytest.mark.parametrize("case", [case for case in READABLE if case.shows == "seven"], ids=name)
def test_a_seven_is_the_same_seven_in_every_mode(case: Case) -> None:
    """Pixel by pixel on its own canvas, whatever the polarity, and after centring on any canvas."""
    grey = grey_of(case.data)
    if grey.shape == seven().shape:
        ink = 255 - grey if grey[0, 0] > 127 else grey
        assert np.abs(ink.astype(int) - seven()).max() <= case.loss
    placed = center_drawing(grey).placed
    assert np.abs(placed.astype(int) - center_drawing(seven()).placed).max() <= case.loss // 4


@pytest.mark.parametrize("case", [case for case in READABLE if case.shows == "blank"], ids=name)
def test_nothing_drawn_is_a_black_image(case: Case) -> None:
    assert not center_drawing(grey_of(case.data)).placed.any()


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_what_cannot_be_read_is_refused_in_one_line(case: Case) -> None:
    with pytest.raises(ImageError) as caught:
        decode(case.data, case.name)
    message = str(caught.value)
    assert caught.value.status == case.status
    assert message.startswith(case.name + " ")
    assert message.isprintable(), "one line"
    assert not any(word in message for word in ("PIL", "BytesIO", "0x7f", "Error")), "nothing internal"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (saved(Image.new("L", (3, 2)), "GIF"), "a GIF image"),
        (saved(Image.new("L", (3, 2)), "WEBP"), "a WebP image"),
        (b"\xef\xbb\xbf\n <svg></svg>", "an SVG drawing"),
        (b"<!doctype html>", "a web page"),
        (b"\0nothing known", "of an unknown kind"),
        ("nothing but wörds\n".encode(), "text, .*choose an image"),
        (b"\0\0\0\x18ftypmp42", "a video, .*save one frame"),
    ],
)
def test_a_refusal_says_what_the_file_is(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=kind):
        decode(data, "picture.png")


def test_colours_and_grey_by_hand() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [255, 255, 255], [0, 0, 0]]], np.uint8)
    found = decode(saved(Image.fromarray(pixels)), "picture")
    np.testing.assert_array_equal(found, pixels)
    # 0.299, 0.587 and 0.114 of 255; 10 * 0.299 + 20 * 0.587 + 30 * 0.114 = 18.15
    np.testing.assert_array_equal(to_grey(found)[..., 0], [[76, 150, 29], [18, 255, 0]])
    np.testing.assert_array_equal(to_grey(found)[..., 0], np.asarray(Image.fromarray(pixels).convert("L")))


def test_half_transparent_ink_is_mixed_with_its_opposite() -> None:
    """White with alpha 128 over black is 128; black with alpha 128 over white is 255 * 127 / 255 = 127."""
    for ink, mixed, under in ((255, 128, 0), (0, 127, 255)):
        pixels = np.full((1, 3, 4), ink, np.uint8)
        pixels[0, :, 3] = (255, 128, 0)
        np.testing.assert_array_equal(grey_of(saved(Image.fromarray(pixels))), [[ink, mixed, under]])


def test_sixteen_bits_are_scaled_not_cut() -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)  # / 257 = 0, 0.498, 0.502, 1, 127.5, 255
    np.testing.assert_array_equal(grey_of(saved(Image.fromarray(values))), [[0, 0, 1, 1, 128, 255]])


def test_a_turned_picture_is_turned_back() -> None:
    """Orientation 6: the top of the picture is at the right of what the camera stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    np.testing.assert_array_equal(grey_of(saved(Image.fromarray(stored), exif=exif)), [[4, 1], [5, 2], [6, 3]])


def test_strokes_never_vanish_on_transparency() -> None:
    for ink in ((255, 255, 255), (0, 0, 0), (255, 230, 0), (90, 0, 120)):
        for hidden in ((0, 0, 0), (255, 255, 255)):
            grey = grey_of(saved(see_through(ink, hidden)))
            assert np.ptp(grey.astype(int)) > 127, (ink, hidden)


def test_only_chunks_that_pixels_come_from_are_unpacked() -> None:
    """A damaged text does not matter; a damaged palette does."""
    text = b"\0\0\0\4tEXtabcd\0\0\0\0"  # with a wrong checksum
    assert grey_of(png(2, 1, rows(np.array([[7, 9]], np.uint8)), before=text)).tolist() == [[7, 9]]
    palette = chunk(b"PLTE", bytes(6))[:-1] + b"\0"
    with pytest.raises(ImageError, match="damaged"):
        decode(png(1, 1, b"\0\0", depth=1, colour=3, before=palette), "picture")


def test_an_unprintable_name_stays_one_line() -> None:
    with pytest.raises(ImageError) as caught:
        decode(b"", "a\nb\x1b[31m.png")
    assert str(caught.value) == r"'a\nb\x1b[31m.png' is empty; choose a PNG or JPEG image"


def test_warnings_of_the_whole_process_are_left_alone(recwarn: pytest.WarningsRecorder) -> None:
    for case in READABLE[:9]:
        decode(case.data, case.name)
    assert not recwarn.list


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process its peak")
def test_the_whole_zoo_takes_little_memory(tmp_path: Path) -> None:
    """The peak of a separate process, above that of the imports; 4 million pixels in float64 alone are 32 MB."""
    for case in zoo():
        (tmp_path / f"{case.status} {case.name}").write_bytes(case.data)
    program = """
import sys
from pathlib import Path
import PIL.Image, PIL.ImageOps, PIL.PngImagePlugin, PIL.JpegImagePlugin, PIL.MpoImagePlugin
from vitlab.predict import ImageError, center_drawing, decode
from vitlab.data.images import to_grey
def peak():  # of this process alone: what getrusage says begins with the memory of the process that started it
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
Path("/proc/self/clear_refs").write_text("5")  # the peak begins with what is in use now
before = peak()
for wanted in ("4", "2"):
    for path in sorted(Path(sys.argv[1]).glob(wanted + "*")):
        try: center_drawing(to_grey(decode(path.read_bytes(), path.name))[..., 0])
        except ImageError: assert wanted == "4"
    print(peak() - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
    refused, read = map(int, done.stdout.split())
    assert refused < 32, f"refusing takes {refused} MiB"
    assert read < 160, f"reading takes {read} MiB"
