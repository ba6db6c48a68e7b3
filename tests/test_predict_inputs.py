"""What people hand to a classifier: each kind of picture gives the pixels of the same file, or is refused."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from tests.image_zoo import saved, zoo
from tests.made_runs import make_run
from tests.tiny import tiny_config, write_npz
from vitlab import Classifier, RunFolder, evaluate_run, load_dataset, load_model, resume_run, train_run
from vitlab.data.images import ImageError, Pixels, decode
from vitlab.predict.inputs import to_pixels
from vitlab.runs.finished import open_run

DRAWING, PHOTO = partial(decode, drawing=True), partial(decode, drawing=False)


def draw(*shape: int, seed: int = 0) -> Pixels:
    """uint8 pixels, always the same."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def same(value: Any, expected: Pixels) -> None:
    """It becomes these pixels; a picture that is grey everywhere may have one channel."""
    found = to_pixels(value, PHOTO)
    assert found.dtype == np.uint8
    assert np.array_equal(np.broadcast_to(found, expected.shape), expected)


GREY, COLOUR = draw(5, 7, 1), draw(5, 7, 3)


def test_arrays_and_tensors_of_every_order() -> None:
    for grey in (GREY, GREY[..., 0], torch.from_numpy(GREY), torch.from_numpy(GREY[..., 0]),
                 torch.from_numpy(GREY).permute(2, 0, 1), PIL.Image.fromarray(GREY[..., 0])):  # fmt: skip
        same(grey, GREY)
    for colour in (COLOUR, COLOUR[::1], torch.from_numpy(COLOUR), torch.from_numpy(COLOUR).permute(2, 0, 1),
                   PIL.Image.fromarray(COLOUR), np.asfortranarray(COLOUR)):  # fmt: skip
        same(colour, COLOUR)


def test_a_tensor_whose_order_is_not_clear_is_read_as_torch_orders_them() -> None:
    both = draw(3, 5, 3)
    same(torch.from_numpy(both), both.transpose(1, 2, 0))
    same(both, both)
    same(torch.from_numpy(draw(1, 7, 1)), draw(1, 7, 1).transpose(1, 2, 0))
    same(torch.from_numpy(draw(5, 3, 3)), draw(5, 3, 3))
    clear = draw(5, 7, 4)
    clear[..., 3] = 255
    same(torch.from_numpy(clear), clear[..., :3])
    same(torch.from_numpy(clear).permute(2, 0, 1), clear[..., :3])


@pytest.mark.parametrize("read", [DRAWING, PHOTO], ids=["drawing", "photo"])
@pytest.mark.parametrize("ink", [0, 255])
def test_transparency_is_that_of_files(read: Any, ink: int) -> None:
    """Gradio's sketchpad: strokes of one colour, transparent around them."""
    pixels = np.full((11, 13, 4), ink, np.uint8)
    pixels[..., 3] = draw(11, 13)
    expected = decode(saved(PIL.Image.fromarray(pixels)), "x", drawing=read is DRAWING)
    for value in (pixels, torch.from_numpy(pixels), PIL.Image.fromarray(pixels)):
        assert np.array_equal(to_pixels(value, read), expected)
    assert np.ptp(expected) > 100 or (read is PHOTO and ink == 0)


OPENED = [
    case
    for case in zoo()
    if case.status == 200
    and case.name
    not in (
        "huge-text.png",  # which Pillow does not open
        "12-megapixels.jpg",  # which a path decodes at half its size
    )
]


@pytest.mark.parametrize("case", OPENED, ids=lambda case: case.name)
def test_an_opened_file_is_the_picture_that_its_path_is(case: Any) -> None:
    """Every mode, palette, transparency and orientation."""
    with PIL.Image.open(io.BytesIO(case.data)) as picture:
        found = to_pixels(picture, DRAWING)
    assert np.array_equal(found, decode(case.data, "x", drawing=True))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "LA", "PA", "La", "RGBa",
                                  "RGBX", "I;16"])  # fmt: skip
def test_pil_images_of_every_mode(mode: str) -> None:
    base = PIL.Image.fromarray(COLOUR)
    path = {"LAB": ["RGB"], "I;16": ["L"], "PA": ["P"], "La": ["LA"], "RGBa": ["RGBA"]}.get(mode, [])
    if mode == "LAB":
        picture = PIL.Image.merge("LAB", base.split())
    elif mode == "I;16":
        picture = PIL.Image.fromarray(GREY[..., 0].astype(np.uint16) * 257)
    else:
        for step in [*path, mode]:
            base = base.convert(step)
        picture = base
    assert picture.mode == mode
    found = to_pixels(picture, PHOTO)
    if mode == "I;16":
        assert np.array_equal(found, GREY)
    else:
        plain = picture.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))
        expected = np.array(plain.convert("RGB"))
        assert np.array_equal(np.broadcast_to(found, expected.shape), expected)


def test_bytes_and_paths(tmp_path: Path) -> None:
    data = saved(PIL.Image.fromarray(COLOUR))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for value in (data, bytearray(data), memoryview(data), path, str(path)):
        same(value, COLOUR)


WRONG: dict[str, tuple[Any, str]] = {
    "float 0..255": (GREY.astype(float), r"x.round\(\).astype\('uint8'\)"),
    "normalised": (GREY / 128 - 1.0, "normalisation"),
    "nan": (np.full((5, 7), np.nan), "not finite"),
    "int64 0..1": (GREY.astype(np.int64) % 2, r"x.astype\('uint8'\)"),
    "int64 more": (GREY.astype(np.int64) * 9, "scale"),
    "uint16": (GREY.astype(np.uint16) * 257, "257"),
    "objects": (np.array([[None]]), "object"),
    "channels first": (draw(3, 5, 7), r"transpose\(1, 2, 0\)"),
    "batch": (draw(2, 5, 7, 3), "one at a time"),
    "row": (draw(7), r"\[H, W\]"),
    "no pixels": (draw(0, 7), "at least one pixel"),
    "two channels": (draw(5, 7, 2), r"\[H, W, 3\]"),
    "a little above 1": (np.float32(GREY / 255) + 0.5, "if 255 is white"),
    "sparse": (torch.eye(5).to_sparse(), "tensor"),
    "meta": (torch.empty(5, 7, device="meta"), "tensor"),
    "batch of tensors": (torch.zeros(1, 1, 5, 7, dtype=torch.uint8), "one at a time"),
    "list": (GREY[..., 0].tolist(), "list; numpy.array"),
    "tuple": (((0, 255),), "tuple"),
    "none": (None, "NoneType"),
    "number": (3, "int"),
    "dictionary": ({"image": 1}, "dict"),
    "file": (io.BytesIO(), "BytesIO"),
    "PIL of floats": (PIL.Image.fromarray(np.float32(GREY[..., 0])), "mode F"),
    "PIL of int32": (PIL.Image.fromarray(GREY[..., 0].astype(np.int32)), "mode I"),
}  # fmt: skip


RIGHT: dict[str, tuple[Any, Any]] = {
    "0..1": (GREY / 255, GREY),
    "float32 0..1": (np.float32(GREY / 255), GREY),
    "a rounding error beyond 1": (np.float32(GREY / 255).clip(0, 1) * np.float32(1.000001), GREY),
    "int64": (GREY.astype(np.int64), GREY),
    "bool": (GREY > 99, 255 * (GREY > 99)),
    "tensor 0..1": (torch.from_numpy(GREY[..., 0] / 255)[None], GREY),
    "tensor with gradients": (torch.from_numpy(GREY / 255).requires_grad_(), GREY),
    "colour": (COLOUR.astype(np.float64) / 255, COLOUR),
}


@pytest.mark.parametrize(("value", "expected"), RIGHT.values(), ids=RIGHT)
def test_numbers_with_a_clear_meaning_are_grey_levels(value: Any, expected: Any) -> None:
    found = to_pixels(value, PHOTO)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_half_floats_of_torch_keep_their_three_digits() -> None:
    values = torch.linspace(0, 1, 35).view(5, 7).bfloat16()
    assert np.array_equal(to_pixels(values, PHOTO)[..., 0], (values.float() * 255).round().numpy())


@pytest.mark.parametrize(("value", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_picture_is_refused_with_the_way_out(value: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        to_pixels(value, PHOTO)
    assert "\n" not in str(caught.value)


def test_a_pil_image_that_is_cut_off_is_refused() -> None:
    data = saved(PIL.Image.fromarray(draw(97, 89, 3)))
    with pytest.raises(ImageError, match="cannot be read"):
        to_pixels(PIL.Image.open(io.BytesIO(data[: len(data) // 2])), PHOTO)


def test_a_classifier_takes_all_of_them_and_keeps_none(tmp_path: Path) -> None:
    classifier = Classifier.load(str(make_run(tmp_path / "run", channels=3)))
    pixels = draw(28, 28, 3)
    best = [(label.name, label.probability) for label in classifier(pixels)]
    for value in (
        PIL.Image.fromarray(pixels),
        torch.from_numpy(pixels).permute(2, 0, 1),
        saved(PIL.Image.fromarray(pixels)),
    ):
        assert [(label.name, label.probability) for label in classifier(value)] == best
    tensor = torch.from_numpy(pixels.copy())
    prepared = classifier.prepare(tensor)
    tensor.zero_()
    assert prepared.any(), "a copy"


def test_every_public_function_takes_paths_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_npz(Path("glyphs.npz"))
    result = train_run(tiny_config(data, epochs=1), "run")
    assert result["status"] == "done"
    assert RunFolder("run").path == Path("run")
    assert RunFolder("run") == RunFolder(Path("run"))
    assert resume_run("run")["test_top1"] == result["test_top1"]
    assert evaluate_run("run") == evaluate_run(Path("run"))
    assert evaluate_run("run")["run"] == "run"
    assert load_model("run")[2] == open_run("run").classes == Classifier.load("run").classes
    assert load_dataset(Path("glyphs.npz")).digest == load_dataset("glyphs.npz").digest
