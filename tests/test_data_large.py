"""Images that do not fit into memory: from the disk, everything is as it is from memory, bit for bit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command import vitlab
from vitlab import system
from vitlab.data import Dataset, Reading, cache, load_dataset
from vitlab.data.stored import IN_MEMORY, PixelFile, Stored, joined
from vitlab.errors import DataError
from vitlab.studies.images import Images

SHAPE = (11, 7, 3)
TRAIN = "train --epochs 3 --patch-size 4 --embed-dim 8 --depth 1 --num-heads 1 --batch-size 13 --image-size 8 --flip"


def draw(count: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is empty, and the working folder beside it."""
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "images"


def folder_of(root: Path, is_transparent: bool = False) -> Path:
    """Three classes of PNG files, one file of which is damaged; the first is grey."""
    for part, count, seed in (("train", 17, 1), ("test", 5, 2)):
        for label in ("a", "b", "c"):
            place = root / part / label
            place.mkdir(parents=True)
            for number, pixels in enumerate(draw(count, seed + ord(label))):
                picture = Image.fromarray(pixels)
                if is_transparent and number % 2:
                    picture.putalpha(Image.fromarray(draw(1, number, SHAPE[:2])[0] // 2))
                picture.save(place / f"{number}.png")
    Image.fromarray(draw(1, 0, SHAPE[:2])[0]).save(root / "train" / "a" / "0.png")
    (root / "train" / "b" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return root


def npz_of(path: Path, is_compressed: bool) -> Path:
    arrays: dict[str, Any] = {"x_train": draw(71), "y_train": np.arange(71) % 3, "x_test": draw(29, 1)}
    save = np.savez_compressed if is_compressed else np.savez
    save(path, **arrays, y_test=np.arange(29) % 3, classes=np.array(["x", "y", "z"]))
    return path


def make(kind: str, place: Path) -> Path:
    if kind.startswith("folder"):
        return folder_of(place / kind, kind == "folder-transparent")
    return npz_of(place / f"{kind}.npz", kind == "npz-compressed")


def same(some: Dataset, other: Dataset) -> None:
    assert (some.digest, some.card, some.unreadable, some.files) == (
        other.digest, other.card, other.unreadable, other.files,
    )  # fmt: skip
    assert some.background == other.background
    assert other.test is not None
    assert some.test is not None
    for one, two in ((some.train, other.train), (some.test, other.test)):
        assert np.array_equal(one.labels, two.labels)
        assert np.array_equal(np.asarray(one.images), np.asarray(two.images))


@pytest.mark.parametrize("kind", ["folder", "folder-transparent", "npz", "npz-compressed"])
def test_a_data_set_on_the_disk_is_that_in_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, notes = make(kind, tmp_path), list[str]()
    in_memory = load_dataset(str(place))
    monkeypatch.setenv(IN_MEMORY, "1000")
    first = load_dataset(str(place), notes.append)
    assert isinstance(first.train.images, Stored)
    same(first, in_memory)
    again = list[str]()
    same(load_dataset(str(place), again.append), in_memory)
    wrote = [line for line in notes if line.startswith("writing ")]
    assert bool(wrote) == (kind != "npz"), "an uncompressed file is read as it is"
    assert not any(line.startswith("writing ") for line in again)
    assert any("stay on the disk" in line for line in notes)
    others = ("writing", "the images do not fit")
    assert [line for line in notes if not line.startswith(others)] == again, "the other notes are the same"


@pytest.mark.parametrize("is_windows", [False, True])
def test_images_are_indexed_like_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_windows: bool) -> None:
    for name in ("preadv", "posix_fadvise", "sysconf") if is_windows else ():
        monkeypatch.delattr(os, name)
    assert (system.memory() is None) == is_windows
    images = draw(43)
    (tmp_path / "pixels").write_bytes(b"head" + images.tobytes())
    with (tmp_path / "pixels").open("rb") as file:
        order = np.random.default_rng(3).permutation(43)
        stored = Stored([PixelFile(file, 43, SHAPE, np.uint8, 4)], order)
        known = images[order]
        for key in (5, -1, slice(7, 23), slice(None, None, 5), np.array([3, 2, 40, 3]), [1, 2]):
            assert np.array_equal(stored[key], known[key])
        more = joined([stored, draw(5, 9), stored.take(np.array([4, 1]))])
        assert np.array_equal(np.asarray(more), np.concatenate([known, draw(5, 9), known[[4, 1]]]))
        assert np.array_equal(np.stack(list(stored)), known)
        stored.expect(slice(3, 9))
        (tmp_path / "pixels").write_bytes(b"head")
        with pytest.raises(DataError, match="has become shorter; run the same call again"):
            stored[0]


def fail_in_the_second_epoch(task: object, row: dict[str, Any]) -> str:
    if row["epoch"] == 2:
        raise KeyboardInterrupt
    return ""


@pytest.mark.parametrize("kind", ["folder", "npz-compressed"])
def test_training_from_the_disk_gives_the_same_weights_also_when_resumed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = f"{TRAIN} --data {make(kind, tmp_path)}"
    assert vitlab(f"{command} --out whole").code == 0
    monkeypatch.setenv(IN_MEMORY, "1000")
    assert vitlab(f"{command} --out disk").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("vitlab.progress.epoch_line", fail_in_the_second_epoch)
        assert vitlab(f"{command} --out broken").code != 0
    assert vitlab("train --resume broken").code == 0
    results = [json.loads((tmp_path / run / "result.json").read_text()) for run in ("whole", "disk", "broken")]
    for name in ("model_sha256", "data_sha256", "test_top1", "test_loss", "novelty_sha256"):
        assert results[0][name] == results[1][name] == results[2][name], name
    assert vitlab("evaluate disk").code == 0
    assert vitlab("look disk").code == 0


def test_a_copy_is_that_of_one_way_to_decode_and_a_study_makes_no_other(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, folder in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number, pixels in enumerate(draw(3, seed, (190, 250, 3))):
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{number}.jpg")
    place = str(tmp_path / "photos")
    old = Reading(("a", "b"), size=(32, 32), formats=("JPEG",))
    in_memory = [load_dataset(place, side=32, reading=reading) for reading in (None, old)]
    assert not np.array_equal(in_memory[0].train.images, in_memory[1].train.images)
    monkeypatch.setenv(IN_MEMORY, "1000")
    images = Images(sides={place: 32})
    assert images.digest(place) == in_memory[0].digest
    assert len([*own_cache.glob("*/pixels")]) == 1
    for reading, expected, copies in ((None, in_memory[0], 1), (old, in_memory[1], 2), (None, in_memory[0], 2)):
        same(load_dataset(place, side=32, reading=reading), expected)
        assert len([*own_cache.glob("*/pixels")]) == copies


def test_a_damaged_copy_is_noticed_and_made_again(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, notes = folder_of(tmp_path / "pets"), list[str]()
    in_memory = load_dataset(str(place))
    monkeypatch.setenv(IN_MEMORY, "1000")
    load_dataset(str(place))
    (copy,) = own_cache.glob("*/pixels")
    data = bytearray(copy.read_bytes())
    data[1000] ^= 1
    copy.write_bytes(data)
    same(load_dataset(str(place), notes.append), in_memory)
    assert any(line.startswith("writing ") for line in notes)
    (copy.parent / "about.json").unlink()  # as after a crash
    same(load_dataset(str(place)), in_memory)
    answer = vitlab("data clean")
    assert answer.out.startswith("deleted 1 file of decoded images, 0.0 GiB")
    assert list(own_cache.iterdir()) == []


def test_what_cannot_be_written_leaves_nothing_and_says_so(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder_of(tmp_path / "pets")
    monkeypatch.setenv(IN_MEMORY, "1000")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "SPARE", 2**60)
        with pytest.raises(DataError, match=r"GiB free; free some .*or set VITLAB_CACHE to a larger disk"):
            load_dataset(str(place))
    assert list(own_cache.iterdir()) == []

    def stop(*parts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vitlab.files.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            load_dataset(str(place))
    assert list(own_cache.iterdir()) == []
    monkeypatch.setenv(IN_MEMORY, "much")
    with pytest.raises(DataError, match="VITLAB_IN_MEMORY is 'much'; it must be a number of bytes"):
        load_dataset(str(place))
