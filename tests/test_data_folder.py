"""Folders of real image files."""

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.image_zoo import seven, zoo
from tests.tiny import tiny_config
from vitlab import RunFolder, train_run
from vitlab.data import images, load_dataset
from vitlab.errors import DataError

GREY = (np.arange(5 * 7) * 7 % 251).astype(np.uint8).reshape(5, 7)
COLOUR = np.stack([GREY, GREY[::-1], GREY // 2], axis=-1)


Files = dict[str, Any]  # "class/name": array or bytes


def decode(data: bytes) -> images.Pixels:
    """As the images of a folder are read."""
    return images.decode(data, "0.png", drawing=False, strict=False)


def encoded(array: npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def put(root: Path, files: Files) -> str:
    """Write {"class/name": array or bytes} below ``root``; its path as a string."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else encoded(content))
    return str(root)


def test_a_thousand_digits_as_png_with_two_broken_files(tmp_path: Path) -> None:
    """Real MNIST if it is available, else the digits of scikit-learn: read exactly, and good for training."""
    split = load_dataset("mnist" if os.environ.get("VITLAB_DATA") else "digits").train
    for index in range(1000):
        folder = tmp_path / f"digit-{split.labels[index]}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(split.images[index, ..., 0]).save(folder / f"{index:04}.png")
    good = next((tmp_path / "digit-3").iterdir()).read_bytes()
    (tmp_path / "digit-3" / "cut.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "digit-7" / "page.png").write_text("<html>not an image</html>")
    lines: list[str] = []
    dataset = load_dataset(str(tmp_path), lines.append)
    order = np.lexsort((np.arange(1000), split.labels[:1000]))
    np.testing.assert_array_equal(dataset.train.images, split.images[:1000][order])
    np.testing.assert_array_equal(dataset.train.labels, split.labels[:1000][order])
    assert dataset.card.classes == tuple(f"digit-{digit}" for digit in range(10))
    assert dataset.unreadable == (
        "digit-3/cut.png is damaged or incomplete; save it again as PNG or JPEG",
        "digit-7/page.png is a web page or XML, not a PNG, JPEG, WebP, BMP, TIFF or GIF image; save it as PNG",
    )
    assert len(lines) == 1
    assert "skipped 2 of 1,002 files" in lines[0]
    assert (dataset.val, dataset.test) == (None, None)
    knobs = dict(image_size=14, patch_size=7, embed_dim=24, epochs=6, lr=5e-3, checkpoint_seconds=30.0)
    result = train_run(tiny_config(tmp_path, **knobs), tmp_path.with_suffix(".run"))
    assert result["val_top1"] > 0.5  # guessing gives 0.1
    assert RunFolder(tmp_path.with_suffix(".run")).data()["unreadable"] == list(dataset.unreadable)


def test_train_val_and_test_folders(tmp_path: Path) -> None:
    files = {f"{part}/{name}/{i}.png": GREY + i for part in ("train", "val", "test") for name in "ab" for i in range(3)}
    dataset = load_dataset(put(tmp_path, files | {"test/b/9.jpg": encoded(GREY, "JPEG")}))
    assert dataset.val is not None
    assert dataset.test is not None
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (6, 6, 7)
    assert dataset.test.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (dataset.card.height, dataset.card.width, dataset.card.channels) == (5, 7, 1)
    np.testing.assert_array_equal(dataset.train.images[5, ..., 0], GREY + 2)
    assert dataset.card.mean == pytest.approx(((dataset.train.images / 255).mean(),))


def test_one_coloured_image_makes_all_of_them_three_channels(tmp_path: Path) -> None:
    files = {"a/0.png": GREY, "a/1.png": GREY, "b/0.png": COLOUR}
    images = load_dataset(put(tmp_path, files)).train.images
    assert images.shape == (3, 5, 7, 3)
    np.testing.assert_array_equal(images[0], np.stack([GREY] * 3, axis=-1))
    np.testing.assert_array_equal(images[2], COLOUR)


def test_grey_pictures_stored_as_colour_are_grey(tmp_path: Path) -> None:
    images = load_dataset(put(tmp_path, {"a/0.png": np.stack([GREY] * 3, axis=-1), "b/0.png": GREY})).train.images
    assert images.shape == (2, 5, 7, 1)


def test_other_sizes_are_resized_to_the_most_common_one(tmp_path: Path) -> None:
    even = np.full((11, 13), 90, np.uint8)
    even[:, 7:] = 30
    lines: list[str] = []
    dataset = load_dataset(put(tmp_path, {"a/0.png": GREY, "a/1.png": even, "b/0.png": GREY}), lines.append)
    np.testing.assert_array_equal(dataset.train.images[1, :, :3, 0], np.full((5, 3), 90))
    np.testing.assert_array_equal(dataset.train.images[2, ..., 0], GREY)
    assert lines == ["resized 1 of 3 images to 5 x 7, the most common size"]


def test_the_digest_knows_names_and_bytes(tmp_path: Path) -> None:
    digests = set()
    for number, files in enumerate(
        [
            {"a/0.png": GREY, "b/0.png": COLOUR},
            {"a/0.png": GREY, "b/0.png": GREY},
            {"a/0.png": GREY, "b/1.png": COLOUR},
            {"a/0.png": COLOUR, "b/0.png": GREY},
        ]
    ):
        path = put(tmp_path / str(number), files)
        digests.add(load_dataset(path).digest)
        assert load_dataset(path).digest in digests
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"x.png": GREY}, "no sub-folders"),
        ({"a/0.png": GREY, "a/1.png": GREY}, r"two or more sub-folders"),
        ({"a/0.png": GREY, "b/0.png": b"broken"}, "1 readable image .*not a PNG.*needs at least 2"),
        ({"a/0.png": b"", "b/0.txt": b"hello"}, "0 readable images"),
        ({f"{one}/{two}/0.png": GREY for one in "ab" for two in ("cat", "dog")}, r"deeper; use data=.*/a"),
        ({"a/0.png": GREY, "b/c/0.png": GREY}, r"b \(their images lie in folders below\)"),
        ({"0.npz": b""}, r"name the file: data=.*0\.npz"),
        (
            {f"{name}-{kind}-ubyte": b"" for name in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")},
            "set VITLAB_DATA=.* and use data=.*mnist",
        ),
        (
            {"train/a/0.png": GREY, "train/b/0.png": GREY, "test/c/0.png": GREY},
            r"test/c is a class that .* lacks",
        ),
        ({"train/a/0.png": GREY, "train/b/0.png": GREY, "val/a/0.png": b"x"}, r"val has 0 readable"),
        ({"val/a/0.png": GREY, "test/a/0.png": GREY}, "no train/"),
        ({"a\nb/0.png": GREY, "c/0.png": GREY}, "cannot be printed"),
    ],
)
def test_a_folder_that_is_no_data_set_is_explained(tmp_path: Path, files: Files, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_dataset(put(tmp_path, files))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_told_with_close_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder or file .*absent"):
        load_dataset(str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"no data set or folder 'MNIST' \(did you mean mnist\?\)"):
        load_dataset("MNIST")


def test_what_does_not_belong_is_reported_and_hidden_files_are_not(tmp_path: Path) -> None:
    files = {
        "a/0.png": GREY,
        "b/0.png": GREY,
        "notes.txt": b"x",
        "a/deeper/0.png": GREY,
        "a/.hidden": b"x",
        ".DS/x": b"x",
    }
    dataset = load_dataset(put(tmp_path, files))
    assert dataset.unreadable == ("a/deeper is not a file", "notes.txt is not in the sub-folder of a class")
    assert dataset.card.classes == ("a", "b")


def test_links_that_lead_out_are_skipped_and_those_inside_are_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    put(outside, {"secret.png": GREY + 1, "c/0.png": GREY})
    put(root, {"a/0.png": GREY, "b/0.png": GREY})
    (root / "a" / "1.png").symlink_to(outside / "secret.png")
    (root / "a" / "2.png").symlink_to(root / "b" / "0.png")
    (root / "a" / "3.png").symlink_to(root / "nowhere.png")
    (root / "c").symlink_to(outside / "c")
    dataset = load_dataset(str(root))
    assert (len(dataset.train), dataset.card.classes) == (3, ("a", "b"))
    assert dataset.unreadable == (
        "a/1.png is a link that leads out of the folder",
        "a/3.png is not a file",
        "c is a link that leads out of the folder",
    )


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_part_that_is_a_link_out_is_not_followed(tmp_path: Path, part: str) -> None:
    put(tmp_path / "outside", {"a/0.png": GREY, "b/0.png": GREY})
    put(
        tmp_path / "root",
        {f"{name}/{c}/{i}.png": GREY for name in {"train", "val"} - {part} for c in "ab" for i in "01"},
    )
    (tmp_path / "root" / part).symlink_to(tmp_path / "outside")
    if part == "train":
        with pytest.raises(DataError, match="val/ but no train/"):
            load_dataset(str(tmp_path / "root"))
    else:
        dataset = load_dataset(str(tmp_path / "root"))
        assert dataset.val is None
        assert dataset.unreadable == ("val is a link that leads out of the folder",)


def test_other_files_next_to_the_images_do_no_harm(tmp_path: Path) -> None:
    kinds = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    others = {"more.npz": b"x", "study.json": b"{}"} | {f"{kind}-ubyte": b"x" for kind in kinds}
    assert len(load_dataset(put(tmp_path / "classes", {"a/0.png": GREY, "b/0.png": GREY} | others)).train) == 2
    table = {"labels.csv": b"file,label\n0.png,a\n1.png,b\n", "0.png": GREY, "1.png": GREY, "more.npz": b"x"}
    assert len(load_dataset(put(tmp_path / "table", table)).train) == 2


def test_a_folder_that_is_no_part_is_reported(tmp_path: Path) -> None:
    files = {f"{part}/{name}/{i}.png": GREY for part in ("train", "unseen") for name in "ab" for i in "01"}
    lines: list[str] = []
    dataset = load_dataset(
        put(tmp_path, files | {"README": b"x", "pred/0.png": GREY, "test/0.png": GREY}), lines.append
    )
    assert (len(dataset.train), dataset.val) == (4, None)
    assert lines == ["left out: pred and unseen (not called train, val or test), test (no folders of classes in it)"]
    assert dataset.unreadable == (
        "pred is left out: not called train, val or test",
        "test is left out: no folders of classes in it",
        "unseen is left out: not called train, val or test",
    )


def test_train_may_be_the_name_of_a_class(tmp_path: Path) -> None:
    assert load_dataset(put(tmp_path, {"car/0.png": GREY, "train/0.png": GREY})).card.classes == (
        "car",
        "train",
    )


# ---- single files ----


def test_transparency_is_laid_over_black() -> None:
    rgba = np.dstack([COLOUR, np.full((5, 7), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    rgba[1, 1, 3] = 128
    pixels = decode(encoded(rgba))
    assert pixels[0, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(pixels[1, 1], COLOUR[1, 1] * (128 / 255), atol=1)
    np.testing.assert_array_equal(pixels[2:], COLOUR[2:])


def test_grey_with_transparency_stays_grey() -> None:
    pixels = decode(encoded(np.dstack([GREY, np.where(GREY > 100, 255, 0).astype(np.uint8)])))
    np.testing.assert_array_equal(pixels[..., 0], np.where(GREY > 100, GREY, 0))


def test_sixteen_bits_are_scaled_to_eight() -> None:
    wide = (np.arange(35) * 1871 + 65535 - 34 * 1871).astype(np.uint16).reshape(5, 7)
    np.testing.assert_array_equal(decode(encoded(wide))[..., 0], np.round(wide / 257))


def test_one_bit_and_palette_images() -> None:
    stream = io.BytesIO()
    Image.fromarray(GREY > 100).save(stream, "PNG")
    np.testing.assert_array_equal(decode(stream.getvalue())[..., 0], np.where(GREY > 100, 255, 0))
    stream = io.BytesIO()
    Image.fromarray(COLOUR).quantize(64).save(stream, "PNG")
    assert decode(stream.getvalue()).shape == (5, 7, 3)


def test_the_turn_of_the_camera_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    np.testing.assert_array_equal(decode(encoded(GREY, exif=exif))[..., 0], np.rot90(GREY, -1))


def test_jpeg_of_ink_is_read() -> None:
    cmyk = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(cmyk, "JPEG")
    assert decode(cmyk.getvalue()).shape == (5, 7, 3)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that states a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png_of_size(60_000, 60_000), "64 million pixels"),
        (png_of_size(8001, 8000), "8001 x 8000 pixels, more than 64 million"),
        (png_of_size(20, 20), "damaged"),
        (png_of_size(0, 0), "damaged|no pixels"),
        (encoded(GREY, "ICO"), "is an icon file, not a PNG, JPEG, WebP, BMP, TIFF or GIF"),
        (encoded(GREY, "PPM"), "of an unknown kind"),
        (encoded(GREY.astype(np.float32), "TIFF"), "floating-point pixels; save it with 8 or 16 bits"),
        (encoded(COLOUR, "TIFF")[:-50], "damaged"),
        (encoded(COLOUR, "WEBP")[:-20], "damaged"),
        (b"", "empty"),
        (encoded(COLOUR, "JPEG")[:300], "damaged"),
    ],
)
def test_what_is_not_a_usable_image_is_a_data_error(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        decode(data)


def test_size_is_judged_before_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    with pytest.raises(DataError, match="64 million"):
        decode(png_of_size(9000, 9000))
    with pytest.raises(DataError, match="more than 4 million"):
        images.decode(png_of_size(2001, 2000), "0.png")


ONLY_IN_FOLDERS = ("cut-at-the-end.png", "only-the-checksum-is-wrong.png", "lying-length.png", "animated.png",
                   "4000000x1.png", "1x70000.png", "2000x2001.png")  # fmt: skip


def test_folders_read_all_that_strangers_may_send_and_some_more() -> None:
    """A training image need not be perfect: what Pillow can read counts, and the first frame of an animation."""
    accepted = set()
    for case in (case for case in zoo() if case.name != "ten-thousand-scans.jpg"):  # readable too, but slow
        with contextlib.suppress(images.ImageError):
            found = decode(case.data)
            accepted.add(case.name)
        if case.status == 200 and case.name != "huge-text.png":
            np.testing.assert_array_equal(found, images.decode(case.data, case.name, drawing=False))
    own = {case.name for case in zoo() if case.own_status == 200}
    assert accepted == (own - {"huge-text.png"}) | set(ONLY_IN_FOLDERS)  # Pillow unpacks no text of that size
    for case in (case for case in zoo() if case.own == 200):
        np.testing.assert_array_equal(decode(case.data)[..., 0], seven())
    frames = next(case.data for case in zoo() if case.name == "animated.png")
    np.testing.assert_array_equal(decode(frames)[..., 0], seven())


def test_a_file_too_large_to_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, {"a/0.png": GREY, "b/0.png": GREY, "b/1.png": encoded(GREY) + bytes(1 << 20)})
    monkeypatch.setattr("vitlab.data.images.MAX_BYTES", 1 << 20)
    assert load_dataset(path).unreadable == ("b/1.png is larger than 1 MiB; shrink it",)


def test_a_name_decides_nothing(tmp_path: Path) -> None:
    ico = encoded(GREY, "ICO")
    files = {"a/0.txt": encoded(GREY), "b/0": encoded(GREY, "JPEG"), "b/1.png": encoded(GREY, "BMP"), "b/2.png": ico}
    dataset = load_dataset(put(tmp_path, files))
    assert len(dataset.train) == 3
    assert len(dataset.unreadable) == 1
    assert dataset.unreadable[0].startswith("b/2.png is an icon file, not a PNG, JPEG, ")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_any_damage_ends_in_pixels_or_a_data_error(kind: str) -> None:
    good = encoded(COLOUR, kind)
    generator = np.random.default_rng(11)
    outcomes = set()
    for _ in range(400):
        data = bytearray(good)
        for place in generator.integers(0, len(good), 3):
            data[place] = generator.integers(0, 256)
        kept = generator.integers(1, len(good) + 1) if generator.random() < 0.3 else len(good)
        outcomes.add(outcome(bytes(data[:kept])))
    assert outcomes == {"pixels", "one line"}


def outcome(data: bytes) -> str:
    try:
        pixels = decode(data)
    except DataError as error:
        return "many lines" if "\n" in str(error) else "one line"
    return "pixels" if pixels.dtype == np.uint8 and pixels.ndim == 3 else "no pixels"
