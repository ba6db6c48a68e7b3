"""What vitlab chooses by itself for a data set: looking at it without reading it, the choice, and where it applies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitlab
from tests.test_data_folder import encoded, put
from tests.tiny import tiny_config
from vitlab.cli.main import main
from vitlab.config import RunConfig
from vitlab.config.fitting import Shape, fitted, input_side
from vitlab.config.presets import PRESETS, preset_config
from vitlab.data.glance import fitted_to_data, glance
from vitlab.errors import ConfigError

# Of the presets as they were before vitlab chose anything: whatever is named keeps its configuration.
DIGESTS = {
    "small": "48d3bf5be252",
    "fast": "a2a58e372c20",
    "accurate": "8165436ff600",
    "fashion": "84d7091fbfee",
    "textbook": "25dcb35399ad",
    "cnn-tuned": "76e2ad19d29f",
    "keras-cnn": "d159debd2f8d",
    "seed-best": "bf30900d64eb",
    "seed-48x6": "4a7ccb86fc61",
    "seed-56x7": "0da5a8d372bf",
    "seed-32x6": "a9c01168f097",
    "seed-64x12": "dd4fb4d56370",
    "seed-32x8": "ff8da585be48",
    "seed-28x7": "e11bb9ed2492",
    "seed-21x7": "624d9452c88d",
    "seed-28x4": "1640356074e6",
    "seed-dim64": "1a7411577d33",
    "seed-dim48": "e11bb9ed2492",
    "seed-dim32": "c5796eab2e12",
    "seed-dim16": "0049603beebb",
}


def colours(count: int, height: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write_colour(path: Path, side: int = 32) -> Path:
    labels = np.arange(23) % 2
    np.savez(path, x_train=colours(23, side, side), y_train=labels, x_test=colours(5, side, side), y_test=labels[:5])
    return path


# --- the choice


@pytest.mark.parametrize(
    ("shape", "side"),
    [((8, 8), 28), ((28, 28), 28), ((28, 29), 32), ((32, 32), 32), ((40, 23), 32), ((41, 23), 64), ((96, 96), 64),
     ((3024, 4032), 64)],
)  # fmt: skip
def test_the_input_follows_the_longer_side(shape: tuple[int, int], side: int) -> None:
    assert input_side(Shape(*shape, 3)) == input_side(Shape(*shape, 1)) == side


@pytest.mark.parametrize("side", [20, 28, 32, 36, 47, 64, 96, 224])
def test_there_are_about_as_many_patches_whatever_the_size(side: int) -> None:
    config, _ = fitted(None, {"image_size": side}, Shape(500, 375, 3))
    assert config.model.image_size == side
    assert 6 <= config.model.grid <= 9
    assert config.model.grid * config.model.patch_size > 0.8 * side  # hardly anything is cut off


def test_grey_images_like_mnists_get_the_default_preset_as_it_is() -> None:
    for shape in (Shape(28, 28, 1), Shape(8, 8, 1), Shape(28, 20, 1, may_flip=False)):
        for knobs in ({}, {"image_size": 8}, {"image_size": 56, "depth": 3}):
            assert fitted(None, knobs, shape)[0] == preset_config("small").with_knobs(**knobs)


def test_colour_images_are_mirrored_where_nothing_forbids_it() -> None:
    config, line = fitted(None, {}, Shape(32, 32, 3))
    assert (config.preset, config.model.image_size, config.augment.flip) == ("colour", 32, True)
    assert line == (
        "the images are 32 x 32 in colour: the network sees 32 x 32 (--image-size N changes it); preset colour "
        "(--preset NAME); training images are mirrored (--no-flip)"
    )
    assert not fitted(None, {}, Shape(32, 32, 3, may_flip=False))[0].augment.flip
    assert not fitted(None, {"flip": False}, Shape(32, 32, 3))[0].augment.flip
    large_grey, line = fitted(None, {}, Shape(96, 64, 1))
    assert (large_grey.preset, large_grey.model.image_size, large_grey.augment.flip) == ("small", 64, False)
    assert line.endswith("training images are not mirrored (--flip)")


@pytest.mark.parametrize(
    ("images", "batch", "epochs"),
    [(None, 256, 14), (60_000, 256, 14), (21_000, 256, 14), (18_000, 128, 14), (8000, 64, 14), (3000, 64, 24),
     (300, 64, 200), (3, 64, 200)],
)  # fmt: skip
def test_few_images_get_smaller_batches_then_more_epochs(images: int | None, batch: int, epochs: float) -> None:
    """Of 3,000 images a tenth is for validation: 43 batches of 64 in an epoch, so 24 epochs make 1,032 steps."""
    config, line = fitted(None, {}, Shape(28, 28, 1, images=images))
    assert (config.train.batch_size, config.train.epochs) == (batch, epochs)
    assert config.optim.warmup_epochs == pytest.approx(epochs / 14, abs=0.01)
    if batch == 256:
        assert "few" not in line
    elif epochs == 14:
        assert line.endswith(f"{images:,} images are few, so batches have {batch} (--batch-size)")
    else:
        assert line.endswith(f"so it learns for {epochs} epochs in batches of {batch} (--epochs, --batch-size)")
    for name in ("small", "fast"):  # a preset that you name stays as it is
        assert fitted(preset_config(name), {}, Shape(28, 28, 1, images=images))[0] == preset_config(name)


def test_many_images_are_not_few_because_you_train_for_a_short_time() -> None:
    config, line = fitted(None, {"epochs": 0.5}, Shape(32, 32, 3, images=50_000))
    assert config == preset_config("colour").with_knobs(epochs=0.5)
    assert "few" not in line


def test_few_images_change_no_knob_that_you_set() -> None:
    few = Shape(28, 28, 1, images=300)
    config, line = fitted(None, {"epochs": 3.0}, few)
    assert (config.train.batch_size, config.train.epochs, config.optim.warmup_epochs) == (64, 3, 1)
    assert "300 images are few, so batches have 64 (--batch-size)" in line
    config, _ = fitted(None, {"batch_size": 31, "warmup_epochs": 0.5}, few)
    assert (config.train.batch_size, config.train.epochs, config.optim.warmup_epochs) == (31, 112, 0.5)
    config, line = fitted(None, {"batch_size": 31, "epochs": 2.0}, few)
    assert config == preset_config("small").with_knobs(batch_size=31, epochs=2.0)
    assert "few" not in line


def test_what_you_set_is_never_changed() -> None:
    knobs = {"image_size": 48, "patch_size": 3, "patch_overlap": 0, "shift": 7.0, "crop": 47, "flip": False}
    config, line = fitted(None, knobs, Shape(500, 375, 3))
    assert config.values() | knobs == config.values()
    assert "sees only the middle 47 x 47 of 48 x 48" in line


def test_auto_fits_the_size_of_a_preset_and_nothing_else() -> None:
    fast = preset_config("fast")
    config, line = fitted(fast, {"image_size": "auto"}, Shape(375, 500, 3))
    assert config.changed_knobs(fast) == {
        "image_size": 64, "patch_size": 8, "patch_overlap": 4, "crop": None, "shift": 4.57,
    }  # fmt: skip
    assert line == "the images are 375 x 500 in colour: the network sees 64 x 64 (--image-size N changes it)"
    same, _ = fitted(fast, {"image_size": "auto"}, Shape(28, 28, 1))
    assert same == fast


def test_a_preset_that_loses_detail_says_so_and_keeps_its_size() -> None:
    fast = preset_config("fast")
    assert fitted(fast, {}, Shape(8, 8, 1)) == (fast, "")
    config, line = fitted(fast, {}, Shape(32, 32, 3))
    assert config == fast  # it cuts its 28 x 28 pixels to 20 x 20, and its patches see 2 more on each side
    only = "the network sees only the middle 24 x 24 of"
    assert line == f"the images are 32 x 32 in colour: {only} 28 x 28 (--crop none shows it everything)"
    assert f"{only} 224 x 224" in fitted(fast, {"image_size": 224}, Shape(28, 28, 1))[1]
    small = preset_config("small")
    assert fitted(small, {}, Shape(32, 32, 3))[1].endswith("sees 28 x 28 (--image-size N changes it)")


@pytest.mark.parametrize("name", DIGESTS)
def test_presets_keep_their_digests(name: str) -> None:
    assert preset_config(name).digest() == DIGESTS[name]
    assert set(PRESETS) - set(DIGESTS) == {"cifar", "colour", "fashion-10min"}


# --- looking at data


def test_a_look_at_a_set_of_the_catalogue_reads_nothing() -> None:
    assert glance("mnist") == Shape(28, 28, 1, may_flip=False)
    assert glance("cifar10") == Shape(32, 32, 3, may_flip=True)
    assert glance("digits") == Shape(8, 8, 1, may_flip=False, images=len(vitlab.load_dataset("digits").train))


def test_a_look_at_a_table_of_pixels_counts_its_lines(tmp_path: Path) -> None:
    lines = [",".join(["3"] + ["7"] * 49)] * 11
    (tmp_path / "pixels.csv").write_text("\n".join([",".join(["label", *map(str, range(49))]), *lines, ""]))
    assert glance(tmp_path / "pixels.csv") == Shape(7, 7, 1, images=11)


def test_a_look_at_an_npz_file_sees_size_and_colour(tmp_path: Path) -> None:
    assert glance(write_colour(tmp_path / "a.npz", 31)) == Shape(31, 31, 3, images=23)
    grey = np.repeat(colours(7, 11, 13)[..., :1], 3, axis=3)
    np.savez(tmp_path / "grey.npz", images=grey, labels=np.zeros(7, int))
    assert glance(tmp_path / "grey.npz") == Shape(11, 13, 1, images=7)  # grey that is stored as colour
    np.savez_compressed(tmp_path / "flat.npz", x_train=grey[..., 0], y_train=np.zeros(7, int))
    assert glance(tmp_path / "flat.npz") == Shape(11, 13, 1, images=7)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 nonsense"])
def test_what_cannot_be_read_is_left_to_the_reader(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    np.savez(tmp_path / "odd.npz", x_train=np.zeros(5), y_train=np.zeros(5, int))
    np.savez(tmp_path / "other.npz", z=np.zeros(5))
    for name in ("bad.npz", "odd.npz", "other.npz", "none.npz", "none", "none.csv"):
        assert glance(tmp_path / name) is None


def test_a_look_at_a_folder_takes_the_usual_size_and_any_colour(tmp_path: Path) -> None:
    for number in range(7):
        side = (70, 50) if number < 4 else (30, 20)
        pixels = colours(1, *side)[0] if number == 2 else np.full((*side, 3), 40 * number, np.uint8)
        put(tmp_path, {f"{'ab'[number % 2]}/{number}.png": encoded(pixels)})
    assert glance(tmp_path) == Shape(70, 50, 3, images=7)


# --- where it applies


def test_a_run_stores_what_was_chosen_and_is_resumed_with_it(tmp_path: Path) -> None:
    notes: list[str] = []
    data = write_colour(tmp_path / "birds.npz")
    knobs: dict[str, Any] = dict(epochs=1, depth=1, embed_dim=8, num_heads=1, batch_size=7)
    run = vitlab.train(data=data, out=tmp_path / "run", progress=vitlab.Reporter(note=notes.append), threads=1, **knobs)
    assert notes[0].startswith("the images are 32 x 32 in colour: the network sees 32 x 32 (image_size=N changes it)")
    config = vitlab.load(tmp_path / "run").config
    assert (config.preset, config.model.image_size, config.augment.flip) == ("colour", 32, True)
    assert run.evaluate("test", threads=1)["images"] == 5
    assert vitlab.load(run.path).resume(progress=False).result == run.result


def test_a_configuration_of_your_own_is_trained_as_it_is(tmp_path: Path) -> None:
    config = tiny_config(str(write_colour(tmp_path / "birds.npz")), epochs=1)
    said: list[str] = []
    made = fitted_to_data(config, {"data": config.data.data}, said.append)
    assert made == config
    assert len(said) == (config.model.image_size < 32)


def test_without_data_nothing_is_looked_at() -> None:
    said: list[str] = []
    assert fitted_to_data(None, {"depth": 3}, said.append) == preset_config("small").with_knobs(depth=3)
    assert fitted_to_data(RunConfig(), {}, said.append) == RunConfig()
    assert not said


def test_the_command_line_chooses_and_prints_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(write_colour(tmp_path / "birds.npz"))
    assert main(["train", "--data", data, "--print-config"]) == 0
    shown = capsys.readouterr()
    assert '"image_size": 32' in shown.out
    assert "preset colour" in shown.err
    assert main(["train", "--preset", "fast", "--data", data, "--image-size", "auto", "--print-config", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert '"image_size": 32' in shown.out
    assert not shown.err


def test_auto_in_a_comparison_of_presets_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size must be a whole number, not 'auto'"):
        vitlab.compare("fast", "small", data="digits", image_size="auto", progress=False)


@pytest.mark.filterwarnings("ignore:it did not learn")  # noise, for one epoch
def test_a_classifier_fits_its_images() -> None:
    images, labels = colours(11, 32, 32), np.arange(11) % 2
    classifier = vitlab.ViTClassifier(epochs=1, depth=1, embed_dim=8, num_heads=1, batch_size=5, random_state=0)
    assert classifier.fit(images, labels).config_.model.image_size == 32
    assert classifier.config_.preset == "colour"
    grey = vitlab.ViTClassifier(epochs=1, depth=1, embed_dim=8, num_heads=1, random_state=0)
    assert grey.fit(images[..., 0][:, :8, :8], labels).config_.preset == "small"
