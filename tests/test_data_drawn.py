"""Whether a data set consists of drawings, decided by its images and not by its name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from benchmarks.drawn_digits import Pen, draw
from tests.made_runs import make_run
from tests.tiny import tiny_config
from vitlab.data import load_dataset
from vitlab.data.drawn import drawing_of
from vitlab.predict import Classifier, center_drawing
from vitlab.runs.session import train_run

Pixels = npt.NDArray[np.uint8]


def digits(count: int) -> Pixels:
    """uint8 [count, 28, 28, 1]: drawn digits, normalised."""
    random = np.random.default_rng(3)
    pens = [Pen(110, 110, 0.5, 0.5, random.uniform(60, 90), random.uniform(5, 12)) for _ in range(count)]
    return np.stack([center_drawing(draw(i % 10, pen)).placed for i, pen in enumerate(pens)])[..., None]


IMAGES = digits(40)


def test_the_images_tell() -> None:
    assert drawing_of(IMAGES) == "mnist-drawing"
    assert drawing_of(255 - IMAGES) == "mnist-drawing-dark"
    assert drawing_of(np.repeat(IMAGES, 3, axis=3)) == "mnist-drawing"
    shifted = np.roll(IMAGES, 3, axis=2)  # the centre of mass is elsewhere
    assert drawing_of(shifted) is None
    assert drawing_of(IMAGES[:, 2:26, 2:26]) is None  # 24 x 24
    assert drawing_of(np.random.default_rng(0).integers(0, 256, (31, 28, 28, 1)).astype(np.uint8)) is None
    coloured = np.repeat(IMAGES, 3, axis=3)
    coloured[..., 1] //= 2
    assert drawing_of(coloured) is None
    some = np.concatenate([IMAGES[:36], shifted[:3]])  # 36 of 39: nearly all
    assert drawing_of(some) == "mnist-drawing"
    assert drawing_of(np.concatenate([IMAGES[:30], shifted[:9]])) is None
    assert drawing_of(IMAGES[:0]) is None


def test_the_user_knows_better() -> None:
    assert drawing_of(IMAGES, "no") is None
    assert drawing_of(np.roll(IMAGES, 3, axis=2), "yes") == "mnist-drawing"
    assert drawing_of(255 - np.roll(IMAGES, 3, axis=2), "yes") == "mnist-drawing-dark"


@pytest.mark.skipif(not os.environ.get("VITLAB_DATA"), reason="needs MNIST")
@pytest.mark.parametrize(("name", "expected"), [("mnist", "mnist-drawing"), ("fashion-mnist", None)])
def test_known_data_sets(name: str, expected: str | None) -> None:
    assert drawing_of(load_dataset(name).train.images) == expected


@pytest.mark.parametrize("kind", ["npz", "folder", "dark", "colour"])
def test_a_network_reads_drawings_because_of_its_data(kind: str, tmp_path: Path) -> None:
    images = 255 - IMAGES if kind == "dark" else IMAGES
    data = tmp_path / "own"
    if kind == "folder":
        for number, image in enumerate(images):
            (data / str(number % 10)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(data / str(number % 10) / f"{number}.png")
    else:
        data = tmp_path / "own.npz"
        stored = np.repeat(images, 3, axis=3) if kind == "colour" else images
        np.savez(data, x_train=stored, y_train=np.arange(len(images)) % 10)
    for limit in (None, 11):
        run = tmp_path / f"run-{limit}"
        train_run(tiny_config(str(data), limit_train=limit, epochs=1.0), run)
        record = json.loads((run / "data.json").read_text())
        assert record["drawing"] == ("mnist-drawing-dark" if kind == "dark" else "mnist-drawing")
        assert record["size"] == [28, 28]
    classifier = Classifier.load(run)
    assert classifier.stored_size == (28, 28)
    ink = draw(7, Pen(97, 89, 0.3, 0.4, 47, 6, dark=True))
    placed = center_drawing(ink).placed
    expected = 255 - placed if kind == "dark" else placed
    for channel in range(classifier.channels):
        np.testing.assert_array_equal(classifier.prepare(ink)[0, ..., channel], expected)
    assert classifier.is_blank(classifier.prepare(0 * ink))
    assert classifier.examine(0 * ink)[1] == "no ink stands out from the paper"
    assert classifier.examine(ink)[1] is None


def test_older_run_folders_tell_by_name(tmp_path: Path) -> None:
    assert Classifier.load(make_run(tmp_path / "old", "mnist")).drawing == "mnist-drawing"
    assert Classifier.load(make_run(tmp_path / "other", "digits")).drawing is None
    run = make_run(tmp_path / "new", "mnist")
    record = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(record | {"drawing": None, "size": [31, 29]}))
    assert Classifier.load(run).drawing is None
    assert Classifier.load(run).stored_size == (31, 29)
