"""Photos: many pixels in little memory, every way to hold a camera, one sensible size; and transparency."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.image_zoo import Pixels, png, saved
from tests.made_runs import make_run
from tests.test_data_folder import encoded, put
from tests.tiny import tiny_config
from vitlab import Classifier, train_run
from vitlab.data import Reading, images, load_dataset
from vitlab.data.folder import choose_size
from vitlab.data.images import ImageError, held_coefficients, over

ORIENTATION = 0x0112


def blocks(height: int, width: int) -> Pixels:
    """Four quarters of even colour: red, green, blue, white."""
    small = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST))


def photo(height: int, width: int, kind: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(blocks(height, width)).save(stream, kind, **options)
    return stream.getvalue()


def quarters(pixels: Pixels) -> list[list[int]]:
    """The colours in the middle of the four quarters, rounded to 0 or 255."""
    height, width = pixels.shape[:2]
    middles = [(height // 4, width // 4), (height // 4, -width // 4), (-height // 4, width // 4)]
    return [(pixels[place] > 127).astype(int).tolist() for place in [*middles, (-height // 4, -width // 4)]]


RED, GREEN, BLUE, WHITE = [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]
UPRIGHT = [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    ("height", "width", "half", "options"),
    [
        (3024, 4032, 2, {}),
        (3024, 4032, 2, {"progressive": True}),
        (4000, 6000, 4, {"subsampling": 0}),
        (1733, 2251, 1, {}),
        (2251, 1733, 1, {"progressive": True}),
    ],
)
def test_a_photo_is_decoded_at_a_fraction_of_its_size(height: int, width: int, half: int, options: Any) -> None:
    """12 million pixels at 1/2, 24 at 1/4; what has 4 million or fewer stays as it is."""
    pixels = images.decode(photo(height, width, **options), "photo.jpg", drawing=False)
    assert pixels.shape == (-(-height // half), -(-width // half), 3)
    assert quarters(pixels) == UPRIGHT


def test_both_sides_stay_at_what_is_needed_or_twice_that() -> None:
    data, small = photo(2400, 4000), photo(375, 500)
    for decoding, least, height in (
        *((1, None, 1200), (1, 300, 300), (1, 301, 600), (1, 1200, 1200), (1, 2000, 1200)),
        *((2, None, 1200), (2, 150, 300), (2, 151, 600), (2, 600, 1200), (2, 2000, 1200)),
    ):
        found = images.decode(data, "photo.jpg", False, least=least, decoding=decoding)
        assert found.shape == (height, height * 5 // 3, 3)
    for decoding, least, size in (
        *((1, 5, (375, 500)), (2, None, (375, 500)), (2, 94, (375, 500)), (2, 93, (188, 250))),
        *((2, 47, (188, 250)), (2, 46, (94, 125)), (2, 23, (47, 63)), (2, 1, (47, 63))),
    ):
        found = images.decode(small, "photo.jpg", False, least=least, decoding=decoding)
        assert found.shape[:2] == size, (decoding, least)
        assert quarters(found) == UPRIGHT


def pillow_at(data: bytes, fraction: int, side: int) -> Pixels:
    """A JPEG as Pillow decodes it at a fraction and resizes it."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft(None, (picture.width // fraction, picture.height // fraction))
        return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def test_a_run_reads_photos_as_it_began(tmp_path: Path) -> None:
    """A run of an earlier version, whose data.json has no `decoding`, keeps its pixels; a new one says how it reads."""
    noise = np.random.default_rng(0).integers(0, 256, (190, 250, 3), dtype=np.uint8)
    shot = saved(Image.fromarray(noise), "JPEG", quality=90)
    data = put(tmp_path / "photos", {f"{name}/{number}.jpg": shot for name in "ab" for number in "01"})
    train_run(tiny_config(data, image_size=32, patch_size=8, val_fraction=0.0, epochs=1), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "data.json").read_text())
    classifier = Classifier.load(tmp_path / "run")
    assert (record["decoding"], record["size"], classifier.decoding) == (2, [32, 32], 2)
    del record["decoding"]
    for decoding, fraction, reading in ((2, 2, None), (1, 1, Reading.of(record))):
        expected = pillow_at(shot, fraction, 32)
        found = load_dataset(data, side=32, reading=reading)
        np.testing.assert_array_equal(found.train.images[3], expected)
        assert found.decoding == decoding
        reader = replace(classifier, decoding=decoding)
        for picture in (tmp_path / "photos" / "a" / "0.jpg", shot):
            np.testing.assert_array_equal(reader.prepare(picture)[0].numpy(), expected)
    assert np.abs(pillow_at(shot, 1, 32).astype(int) - pillow_at(shot, 2, 32)).max() > 0


def test_what_is_slightly_too_large_is_averaged_too(tmp_path: Path) -> None:
    """Stripes of one pixel are grey from afar; sampling four pixels of each square would keep them."""
    stripes = np.zeros((100, 100), np.uint8)
    stripes[:, ::2] = 255
    data = put(tmp_path, {f"{name}/{number}.png": stripes for name in "ab" for number in "01"})
    found = load_dataset(data, side=33).train.images
    assert found.shape == (4, 33, 33, 1)
    assert np.abs(found[:, :, 1:-1].astype(int) - 127).max() < 20
    assert load_dataset(data, side=33, decoding=1).train.images.shape == (4, 100, 100, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(2016, 3024), (50, 70)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_way_to_hold_a_camera(orientation: int, size: tuple[int, int], kind: str, tmp_path: Path) -> None:
    """By the table of the EXIF standard: where row 0 and column 0 of the file belong in the upright picture."""
    top, left = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left", 5: "left top", 6: "right top",
                 7: "right bottom", 8: "left bottom"}[orientation].split()  # fmt: skip
    if kind == "PNG" and size[0] > 50 and orientation not in (1, 6):
        pytest.skip("slow, and no other code than for the smaller one")
    upright = {"top": [RED, GREEN], "left": [RED, BLUE], "right": [GREEN, WHITE], "bottom": [BLUE, WHITE]}
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = photo(*size, kind, exif=exif)
    found = quarters(images.decode(data, "photo", drawing=False, local=True))
    across = dict(zip(("top left", "top right", "bottom left", "bottom right"), found, strict=True))
    first_row = [across[f"{top} left"], across[f"{top} right"]] if top in ("top", "bottom") else (
        [across[f"top {top}"], across[f"bottom {top}"]]
    )  # fmt: skip
    first_column = [across[f"top {left}"], across[f"bottom {left}"]] if left in ("left", "right") else (
        [across[f"{left} left"], across[f"{left} right"]]
    )  # fmt: skip
    assert sorted(first_row) == sorted(upright["top"])
    assert sorted(first_column) == sorted(upright["left"])
    (tmp_path / "x").write_bytes(data)
    turned = orientation >= 5
    assert images.size_of(data[:4096], tmp_path / "x") == (size[::-1] if turned else size)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "1", "I;16"])
def test_a_large_png_of_any_mode_is_read_from_the_disk_only(mode: str, tmp_path: Path) -> None:
    grey = np.zeros((2000, 2200), np.uint8)
    grey[:, 1100:] = 255
    made = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    data = saved(made, compress_level=1)
    found = images.decode(data, "large.png", drawing=False, local=True)
    assert found.shape == (1000, 1100, 1)
    assert (found[:, :549] == 0).all()
    assert (found[:, 551:] == 255).all()
    with pytest.raises(ImageError, match="more than 4 million") as caught:
        images.decode(data, "large.png", drawing=False)
    assert caught.value.status == 413


def of_size(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose frame claims another size."""
    at = next(data.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in data) + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


@pytest.mark.parametrize(
    ("data", "local"),
    [
        (of_size(photo(16, 16), 12_000, 12_000), True),
        (of_size(photo(16, 16, progressive=True, subsampling=0), 5000, 5000), False),
        (of_size(photo(16, 16, progressive=True, subsampling=0), 11_000, 11_000), True),
        (png(8001, 8000, b""), True),
        (png(2001, 2000, b""), False),
    ],
)
def test_bombs_are_refused_before_a_pixel_is_decoded(data: bytes, local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("pixels were decoded"))
    with pytest.raises(ImageError) as caught:
        images.decode(data, "bomb", local=local)
    assert caught.value.status == 413
    assert "\n" not in str(caught.value)


def test_what_a_progressive_jpeg_makes_the_decoder_hold() -> None:
    """Two bytes for each sample: 3 for each pixel, or 1.5 where colour has half the width and half the height."""
    grey = io.BytesIO()
    Image.new("L", (80, 48)).save(grey, "JPEG", progressive=True)
    assert held_coefficients(photo(48, 80)) == 0
    assert held_coefficients(photo(48, 80, progressive=True, subsampling=0)) == 2 * 3 * 48 * 80
    assert held_coefficients(photo(48, 80, progressive=True, subsampling=2)) == 3 * 48 * 80
    assert held_coefficients(grey.getvalue()) == 2 * 48 * 80
    assert held_coefficients(photo(48, 80)[:60]) is None


def test_a_phone_is_read_by_training_and_prediction(tmp_path: Path) -> None:
    shot = Image.effect_noise((40, 30), 90).convert("RGB").resize((4032, 3024))
    stream = io.BytesIO()
    shot.save(stream, "JPEG", quality=60)
    files = {f"{name}/{number}.jpg": stream.getvalue() for name in "ab" for number in "01"}
    data = put(tmp_path / "phone", files)
    config = tiny_config(data, val_fraction=0.0, epochs=1)
    lines: list[str] = []
    from vitlab import Reporter

    train_run(config, tmp_path / "run", Reporter(note=lines.append))
    assert "resized 4 of 4 images to 8 x 8, the size of the network's input" in lines
    classifier = Classifier.load(tmp_path / "run")
    trained = load_dataset(data, side=8).train.images
    for picture in (tmp_path / "phone" / "a" / "0.jpg", stream.getvalue()):
        np.testing.assert_array_equal(classifier.prepare(picture)[0].numpy(), trained[0])


# ---- one size for all ----


def test_a_few_thumbnails_do_not_decide_on_the_size(tmp_path: Path) -> None:
    """24 thumbnails of one size among pictures that all differ: the most common size is noise."""
    sizes = [(3, 3)] * 24 + [(40 + number, 60 + number) for number in range(99)]
    (height, width), why = choose_size(sizes, len(sizes), None, None)
    assert ((height, width), why) == ((77, 97), "the median size")  # the 38th of 99: (123 - 1) // 2 = 61 = 24 + 37
    assert choose_size([(5, 7)] * 51 + [(3, 3)] * 49, 100, None, None)[0] == (5, 7)
    rng = np.random.default_rng(1)
    files = {f"a/{n}.png": rng.integers(0, 256, (3, 3), np.uint8) for n in range(4)}
    files |= {f"b/{n}.png": rng.integers(0, 256, (20 + n, 30 + n), np.uint8) for n in range(9)}
    lines: list[str] = []
    dataset = load_dataset(put(tmp_path, files), lines.append)
    assert dataset.train.images.shape[1:3] == (22, 32)  # (13 - 1) // 2 = 6 = 4 + 2
    assert lines == ["resized 12 of 13 images to 22 x 32, the median size"]


def test_images_of_one_size_stay_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    files = {f"{name}/{n}.png": rng.integers(0, 256, (101, 89), np.uint8) for name in "ab" for n in range(3)}
    data = put(tmp_path, files)
    for side in (None, 101):
        np.testing.assert_array_equal(load_dataset(data, side=side).train.images[4, ..., 0], files["b/1.png"])
    small = load_dataset(data, side=29).train.images
    assert small.shape == (6, 29, 29, 1)
    expected = Image.fromarray(files["b/1.png"]).resize((29, 29), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small[4, ..., 0], np.asarray(expected))


def test_too_many_for_the_memory_are_kept_as_the_network_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitlab.data.folder.MOST", 8000 * 100 * 90 * 3 - 1)
    assert choose_size([(100, 90)] * 9, 8000, 28, None, 1)[0] == (28, 28)
    assert choose_size([(100, 90)] * 9, 7999, 28, None, 1)[0] == (100, 90)
    assert choose_size([(28, 20)] * 9, 9, 14, None)[0] == (28, 20)  # drawings like MNIST's are not blurred


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process its peak")
def test_photos_take_the_memory_of_what_is_kept(tmp_path: Path) -> None:
    """200 photos of 500 x 375 are 112 MB as they are, and half of one at 28 x 28."""
    one = put(tmp_path, {"a/0.jpg": photo(375, 500), "b/0.jpg": photo(375, 500)})
    for name in "ab":
        for number in range(1, 100):
            os.link(tmp_path / name / "0.jpg", tmp_path / name / f"{number}.jpg")
    program = """
import sys
from pathlib import Path
import PIL.Image, PIL.ImageOps, PIL.PngImagePlugin, PIL.JpegImagePlugin, PIL.MpoImagePlugin
from vitlab.data import load_dataset
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
Path("/proc/self/clear_refs").write_text("5")
before = peak()
assert load_dataset(sys.argv[1], side=28).train.images.shape == (200, 28, 28, 3)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program, one], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40, f"{done.stdout.strip()} MiB"


# ---- transparency ----


def icon(ink: int, side: int = 11) -> Pixels:
    """A bar of that grey on nothing, which is stored as black: uint8 [11, 11, 4]."""
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[3:7, 2:9] = (ink, ink, ink, 255)
    return pixels


def greys(tmp_path: Path, inks: list[int], log: list[str] | None = None) -> Any:
    files = {f"{'ab'[n % 2]}/{n:03}.png": icon(ink) for n, ink in enumerate(inks)}
    return load_dataset(put(tmp_path, files), (log if log is not None else []).append)


@pytest.mark.parametrize(
    ("inks", "under"),
    [
        ([0] * 6, 255),
        ([255] * 6, 0),
        ([30] * 6, 255),
        ([90, 200] * 3, 0),
        ([0, 255] * 3, 127),
        ([255] * 5 + [0], 127),
        ([255] * 150 + [0], 0),
    ],
)
def test_ink_stays_visible_on_transparency(tmp_path: Path, inks: list[int], under: int) -> None:
    """One background for all images of a data set; a single stray among many does not change it."""
    lines: list[str] = []
    dataset = greys(tmp_path, inks, lines)
    assert dataset.background == under
    assert (dataset.train.images[:, 0, 0, 0] == under).all()
    earlier = load_dataset(str(tmp_path), reading=Reading(("a", "b"))).train.images  # of a run that knew only black
    assert (earlier[:, 0, 0, 0] == 0).all()
    by_ink = {int(image[4, 4, 0]) for image in dataset.train.images}
    assert by_ink == set(inks)
    assert (under != 0) == any(line.startswith("transparency becomes ") for line in lines)


def test_photos_with_transparent_corners_keep_black_corners(tmp_path: Path) -> None:
    night = np.full((31, 31, 4), 255, np.uint8)
    night[..., :3] = np.random.default_rng(0).integers(0, 30, (31, 31, 3))
    night[:3, :3, 3] = 0
    dataset = load_dataset(put(tmp_path, {f"{name}/{n}.png": night for name in "ab" for n in "01"}))
    assert dataset.background == 0
    assert (dataset.train.images[:, :3, :3] == 0).all()


def test_half_transparent_pixels_by_hand() -> None:
    """Black with alpha 51 is 80 % of the background; white with alpha 51 over grey 127: 51 + 127 * 0.8 = 152.6."""
    alpha = np.array([[51, 255, 0]], np.uint8)
    black, white = np.zeros((1, 3, 1), np.uint8), np.array([[[51], [255], [0]]], np.uint8)
    assert over(black, alpha, 255)[0, :, 0].tolist() == [204, 0, 255]
    assert over(white, alpha, 127)[0, :, 0].tolist() == [153, 255, 127]
    assert over(white, alpha, 0) is white


def test_prediction_fills_transparency_as_training_did(tmp_path: Path) -> None:
    data = put(tmp_path / "icons", {f"{n % 2}/{n}.png": icon(0) for n in range(8)})
    train_run(tiny_config(data, val_fraction=0.0, epochs=1), tmp_path / "run")
    classifier = Classifier.load(tmp_path / "run")
    prepared = classifier.prepare(encoded(icon(0)))
    assert prepared.max() == 255
    np.testing.assert_array_equal(classifier.pixels(encoded(icon(0))), load_dataset(data).train.images[0])
    assert Classifier.load(make_run(tmp_path / "old", "x")).prepare(encoded(icon(0))).max() == 0


def test_images_of_one_colour_are_told(tmp_path: Path) -> None:
    files = {"a/0.png": np.full((5, 7), 9, np.uint8), "a/1.png": np.full((5, 7), 200, np.uint8), "b/0.png": icon(7)}
    lines: list[str] = []
    load_dataset(put(tmp_path, files), lines.append)
    assert "2 of 3 training images are of one colour all over" in lines


# ---- memory ----


def test_memory_that_runs_out_while_reading_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitlab.errors import OutOfMemoryError

    def short(*_: object, **__: object) -> None:
        raise MemoryError

    data = put(tmp_path, {"a/0.png": blocks(6, 10), "b/0.png": blocks(6, 10)})
    np.savez(tmp_path / "x.npz", images=blocks(6, 10), labels=np.zeros(6, int))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", short)
    monkeypatch.setattr("numpy.lib.npyio.NpzFile.__getitem__", short)
    for place in (data, str(tmp_path / "x.npz")):
        with pytest.raises(OutOfMemoryError, match="out of memory while reading") as caught:
            load_dataset(place)
        assert caught.value.exit_code == 5


def test_scikit_learn_that_cannot_be_mapped_is_not_missing() -> None:
    """As under `ulimit -v`, where the loader has no room for a shared library."""
    program = """
import builtins, importlib, sys
real = importlib.import_module
def fail(name, *rest):
    if name.startswith("sklearn"):
        raise ImportError("libopenblas.so: failed to map segment from shared object")
    return real(name, *rest)
importlib.import_module = fail
from vitlab.cli.main import main
sys.exit(main(["data", "fetch", "digits"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "vitlab: out of memory while loading sklearn.datasets; free some memory and try again\n"
    gone = program.replace('ImportError("libopenblas.so: failed to map segment from shared object")',
                           'ModuleNotFoundError("No module", name="sklearn")')  # fmt: skip
    done = subprocess.run([sys.executable, "-c", gone], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "pip install scikit-learn" in done.stderr
