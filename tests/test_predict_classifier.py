"""The classifier: what it is given, what it makes of it, and that batches change nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.image_zoo import Pixels, saved, seven
from tests.made_runs import DIGITS, make_run
from tests.tiny import tiny_config
from vitlab import Classifier, load_dataset, load_model, train_run
from vitlab.errors import RunError
from vitlab.predict import ImageError, center_drawing, plain_drawing

NOISE = np.random.default_rng(5).integers(0, 256, (11, 12, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A classifier of drawings."""
    return Classifier.load(make_run(tmp_path_factory.mktemp("runs") / "drawn", "mnist"))


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A classifier of colour pictures of 12 x 12."""
    path = tmp_path_factory.mktemp("runs") / "coloured"
    return Classifier.load(make_run(path, "cifar10", 3, ("cat", "dog", "newt"), image_size=12, patch_size=3))


def test_what_is_loaded(drawn: Classifier) -> None:
    assert drawn.name == "drawn"
    assert drawn.classes == DIGITS
    assert (drawn.channels, drawn.data_name, drawn.drawing) == (1, "mnist", "mnist-drawing")
    assert drawn.result["test_top1"] == 0.75
    assert not drawn.model.training


def test_only_mnist_is_a_data_set_of_drawings(coloured: Classifier, tmp_path: Path) -> None:
    """MNIST's own images were centred so; those of other sets, and of a file that is called mnist, perhaps not."""
    assert coloured.drawing is None
    assert Classifier.load(make_run(tmp_path / "own", str(tmp_path / "mnist.npz"))).drawing is None
    assert Classifier.load(str(make_run(tmp_path / "digits", "digits"))).drawing is None


def test_a_drawing_is_centred_or_squeezed(drawn: Classifier) -> None:
    data = saved(Image.fromarray(255 - seven()))
    centred, squeezed = drawn.prepare(data), drawn.prepare(data, center=False)
    assert centred.shape == squeezed.shape == (1, 28, 28, 1)
    np.testing.assert_array_equal(centred[0, ..., 0], center_drawing(seven()).placed)
    np.testing.assert_array_equal(squeezed[0, ..., 0], plain_drawing(seven()).placed)
    assert torch.equal(centred, drawn.prepare(data, center=True))


def test_other_pictures_keep_size_and_colour(coloured: Classifier) -> None:
    np.testing.assert_array_equal(coloured.prepare(NOISE)[0], NOISE)
    np.testing.assert_array_equal(coloured.prepare(saved(Image.fromarray(NOISE)), center=True)[0], NOISE)
    grey = coloured.prepare(NOISE[..., 0])
    np.testing.assert_array_equal(grey[0], np.repeat(NOISE[..., :1], 3, axis=2))


def test_a_large_picture_is_averaged_down_and_nothing_of_it_is_missed(coloured: Classifier) -> None:
    """A fine checkerboard is grey from afar; its few pixels under a coarse grid would be black or white. CIFAR-10's
    images are of 32 x 32, although this network sees 12 x 12."""
    board = (np.indices((84, 132)).sum(axis=0) % 2 * 254).astype(np.uint8)
    small = coloured.prepare(board)
    assert small.shape == (1, 32, 32, 3)
    assert float((small.float() - 127).abs().max()) <= 2
    assert coloured.prepare(board[:84, :5]).shape == (1, 32, 5, 3), "a side that fits stays"


def test_an_image_of_the_data_set_is_read_as_in_training(coloured: Classifier) -> None:
    image = np.random.default_rng(3).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(coloured.prepare(image)[0], image)


def test_transparency_is_black_but_in_a_drawing_never_hides_ink(drawn: Classifier, coloured: Classifier) -> None:
    """Dark ink on nothing: a folder's images are laid over black when they are loaded, so others are, too."""
    ink = np.zeros((29, 23, 4), np.uint8)
    ink[9:20, 7:13] = (10, 10, 10, 255)
    data = saved(Image.fromarray(ink))
    assert coloured.prepare(data).max() <= 10
    assert drawn.prepare(data).max() == 255
    assert not drawn.is_blank(drawn.prepare(data))


def test_only_a_drawing_without_ink_is_blank(drawn: Classifier, coloured: Classifier) -> None:
    black = np.zeros((29, 23), np.uint8)
    assert drawn.is_blank(drawn.prepare(black))
    assert drawn.is_blank(drawn.prepare(255 - black))
    assert not coloured.is_blank(coloured.prepare(black))


def test_a_path_the_bytes_and_the_pixels_are_the_same_picture(drawn: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "seven.png"
    path.write_bytes(saved(Image.fromarray(seven())))
    answers = [drawn(image) for image in (path, str(path), path.read_bytes(), seven(), seven()[..., None])]
    assert all(answer == answers[0] for answer in answers)


def test_labels_are_the_softmax_of_the_logits_best_first(coloured: Classifier) -> None:
    model, preprocess, classes = load_model(coloured.path)
    with torch.inference_mode():
        logits = model(preprocess(torch.from_numpy(NOISE)[None]))[0].double()
    expected = sorted(zip((logits.exp() / logits.exp().sum()).tolist(), classes, strict=True), reverse=True)
    found = coloured(NOISE)
    assert [label.name for label in found] == [name for _, name in expected]
    assert [label.probability for label in found] == pytest.approx([chance for chance, _ in expected])
    assert [classes[label.index] for label in found] == [label.name for label in found]
    assert coloured(NOISE, top=1) == found[:1]


def test_pictures_of_many_sizes_go_through_the_network_together(coloured: Classifier) -> None:
    pictures = [NOISE, NOISE[:7], NOISE[:, :5], np.ascontiguousarray(NOISE.transpose(1, 0, 2))]
    prepared = [coloured.prepare(picture) for picture in pictures]
    alone = torch.cat([coloured.logits(image) for image in prepared])
    torch.testing.assert_close(coloured.logits_of(prepared), alone)
    assert alone.dtype == torch.float32
    assert float((alone[0] - alone[1]).abs().max()) > 1e-3, "they differ"


@pytest.mark.parametrize(
    "array",
    [
        np.full((3, 3), 0.5 + 3),
        np.zeros(9, np.uint8),
        np.zeros((3, 3, 5), np.uint8),
        np.zeros((0, 3), np.uint8),
        np.zeros((1, 3, 3, 1), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_that_is_no_picture_is_refused(drawn: Classifier, array: Pixels) -> None:
    with pytest.raises(ImageError, match="pixels are") as caught:
        drawn(array)
    assert caught.value.status == 422


def test_a_file_that_is_not_there(drawn: Classifier, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.png", tmp_path, "nul\0byte"):
        with pytest.raises(ImageError, match=r"cannot read|there is no file"):
            drawn(path)


def test_weights_that_give_no_number_are_a_clear_error(drawn: Classifier) -> None:
    with pytest.raises(RunError, match="not a finite number"):
        drawn.labels(torch.tensor([[1.0, float("nan")]]))


def test_damaged_runs_are_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    weights = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(weights[:-1] + b"x")
    with pytest.raises(RunError, match="SHA-256"):
        Classifier.load(path)
    (path / "model.safetensors").write_bytes(weights)
    data = json.loads((path / "data.json").read_text())
    (path / "data.json").write_text(json.dumps(data | {"channels": 2}))
    with pytest.raises(RunError):
        Classifier.load(path)
    with pytest.raises(RunError, match=r"there is no run|not a run folder"):
        Classifier.load(tmp_path)


@pytest.mark.skipif(not os.environ.get("VITLAB_DATA"), reason="needs MNIST")
def test_digits_of_mnist_are_read_as_well_when_they_are_centred_again(tmp_path: Path) -> None:
    """A short training; then the test images as they are, centred, and moved to a corner of a large white canvas."""
    knobs = dict(image_size=28, patch_size=7, embed_dim=24, limit_train=2000, epochs=2, batch_size=31, dropout=0.0)
    quick = dict(
        attn_dropout=0.0, drop_path=0.0, rotate=0.0, checkpoint_seconds=30.0, eval_batch_size=1000, val_fraction=0.01
    )
    train_run(tiny_config("mnist", **(knobs | quick)), tmp_path / "run")
    classifier = Classifier.load(tmp_path / "run")
    test = load_dataset("mnist").test
    assert test is not None
    some = test.take(range(300))
    truth = torch.from_numpy(some.labels)

    def right(images: list[torch.Tensor]) -> float:
        return float((classifier.logits_of(images).argmax(dim=1) == truth).float().mean())

    far = np.full((300, 90, 110), 255, np.uint8)
    far[:, 50:78, 70:98] -= some.images[..., 0].astype(np.uint8)
    plain = right([image[None] for image in torch.from_numpy(some.images)])
    assert plain > 0.6
    assert right([classifier.prepare(image) for image in some.images]) == pytest.approx(plain, abs=0.02)
    assert right([classifier.prepare(image) for image in far]) == pytest.approx(plain, abs=0.02)
    assert right([classifier.prepare(image, center=False) for image in far]) < plain - 0.2


def test_the_classifier_is_a_copy_that_can_be_changed(drawn: Classifier) -> None:
    """For a page or a test: the same network without the normalisation."""
    plain = replace(drawn, drawing=None)
    np.testing.assert_array_equal(plain.prepare(seven()[:23, :19])[0, ..., 0], seven()[:23, :19])
