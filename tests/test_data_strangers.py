"""Folders and files as they come from elsewhere: names of parts, junk, classes without images, links, pipes, order."""

from __future__ import annotations

import json
import os
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command import vitlab
from tests.image_zoo import saved
from tests.made_runs import unseal
from tests.test_data_folder import COLOUR, GREY, encoded, put
from tests.tiny import glyphs, tiny_config
from vitlab import RunFolder, evaluate_run, resume_run, train_run
from vitlab.data import check_data, inspect, load_dataset
from vitlab.data.paths import natural
from vitlab.errors import ConfigError, DataError

TWO = {"a/0.png": GREY, "a/1.png": GREY + 1, "b/0.png": GREY + 2, "b/1.png": GREY + 3}


def below(part: str, files: dict[str, Any] = TWO) -> dict[str, Any]:
    """The same files in the folder of a part."""
    return {f"{part}/{name}": content for name, content in files.items()}


def loaded(root: Path, files: dict[str, Any]) -> tuple[Any, list[str]]:
    lines: list[str] = []
    return load_dataset(put(root, files), lines.append), lines


@pytest.fixture
def soon() -> Iterator[None]:
    """Fail instead of hanging: whoever waits for a pipe is woken after ten seconds."""
    woken = threading.Event()

    def wake() -> None:
        if not woken.wait(10):
            os._exit(99)

    thread = threading.Thread(target=wake, daemon=True)
    thread.start()
    yield
    woken.set()
    thread.join()


# ---- parts ----


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training", "valid", "testing"),
        ("Train", "Validation", "Test"),
        ("TRAINING", "dev", "TEST"),
        ("seg_train/seg_train", "seg_val/seg_val", "seg_test/seg_test"),
        ("training_set", "validation_set", "test_set"),
        ("archive/x/train", "archive/x/val", "archive/x/test"),
    ],
)
def test_parts_by_their_usual_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    dataset, lines = loaded(tmp_path, below(train) | below(val, {"a/0.png": GREY, "b/0.png": GREY}) | below(test))
    assert dataset.card.classes == ("a", "b")
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (4, 2, 4)
    assert lines == []


def test_one_folder_around_the_classes(tmp_path: Path) -> None:
    assert loaded(tmp_path, below("pets-main/images"))[0].card.classes == ("a", "b")


@pytest.mark.parametrize("names", [("train", "Train"), ("train", "training")])
def test_two_folders_for_one_part_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(DataError, match=f"{min(names)}/ and {max(names)}/ for the training images"):
        loaded(tmp_path, below(names[0]) | below(names[1]))


def test_a_class_may_have_the_name_of_a_part(tmp_path: Path) -> None:
    files = {f"{name}/0.png": GREY for name in ("dev", "ops", "test")} | {
        "dev/old/1.png": GREY,
        "freight_train/x": b"x",
    }
    assert loaded(tmp_path, files)[0].card.classes == ("dev", "ops", "test")


def test_parts_without_classes_are_no_classes(tmp_path: Path) -> None:
    """As in Kaggle's cats and dogs: train/cat.0.jpg ..., test/1.jpg ..."""
    with pytest.raises(DataError, match="test/ and train/ without classes"):
        loaded(tmp_path, {"train/0.png": GREY, "test/1.png": GREY})


# ---- classes ----


def test_junk_is_no_class(tmp_path: Path) -> None:
    junk = {"__MACOSX/a/._0.png": b"\0\5\x16\7", "@eaDir/x": b"x", "$RECYCLE.BIN/x": b"", "lost+found/0.png": GREY}
    files = {"a/Thumbs.db": b"x", "a/desktop.ini": b"x", "b/._1.png": b"x", ".ipynb_checkpoints/0.png": GREY}
    dataset, lines = loaded(tmp_path, TWO | junk | files)
    assert (dataset.card.classes, len(dataset.train)) == (("a", "b"), 4)
    assert lines == ["left out: $RECYCLE.BIN, @eaDir, __MACOSX and lost+found (no readable image)"]


def test_folders_without_images_and_runs_are_left_out(tmp_path: Path) -> None:
    run = {"config.json": b"{}", "data.json": b"{}", "loss.png": GREY}
    files = TWO | {"runs/first/config.json": b"{}", "notes/x.txt": b"x"} | below("mine", run)
    (tmp_path / "empty").mkdir()
    dataset, lines = loaded(tmp_path, files)
    assert dataset.card.classes == ("a", "b")
    assert lines == ["left out: empty, notes and runs (no readable image), mine (a run of vitlab)"]


@pytest.mark.parametrize("part", ["", "train/"])
def test_a_class_without_readable_image_is_refused(tmp_path: Path, part: str) -> None:
    heic = b"\0\0\0\x18ftypheic" + bytes(99)
    files = TWO | {"c/0.heic": heic, "c/1.heic": heic}
    with pytest.raises(DataError, match=rf"class 'c' can be read \({part}c/0.heic is a HEIC, .* save it as PNG"):
        loaded(tmp_path, {part + name: content for name, content in files.items()})


def test_a_class_that_is_damaged_as_a_whole_is_refused(tmp_path: Path) -> None:
    """Its header is in order, so this shows only when the pixels are read."""
    with pytest.raises(DataError, match=r"class 'c' can be read \(c/0.png is damaged"):
        loaded(tmp_path, TWO | {"c/0.png": encoded(GREY)[:45]})


def test_parts_that_show_only_some_classes_are_told(tmp_path: Path) -> None:
    files = {f"{name}/{i}.png": GREY + i for name in "abc" for i in range(9)}
    put(tmp_path / "d", below("train", files) | below("val", {"a/0.png": GREY}) | below("test", {"c/0.png": GREY}))
    lines: list[str] = []
    from vitlab.runs.prepare import prepare

    prepare(tiny_config(tmp_path / "d"), lines.append)
    told = [line for line in lines if "show only 1 of 3 classes" in line]
    assert len(told) == 2
    assert told[0].startswith("the validation images show only 1 of 3 classes, without 'b' and 'c'")
    assert told[1].startswith("the test images show only 1 of 3 classes, without 'a' and 'b'")


def test_a_limit_that_loses_a_class_is_told(tmp_path: Path) -> None:
    from vitlab.runs.prepare import prepare

    files = {f"{name}/{i}.png": GREY + i for name in "abcdefg" for i in range(5)}
    lines: list[str] = []
    prepare(tiny_config(put(tmp_path, files), limit_train=3, val_fraction=0.2), lines.append)
    assert any(line.startswith("the training images show only ") and "of 7 classes" in line for line in lines)


# ---- order and names ----


def test_numbers_in_names_are_ordered_as_numbers(tmp_path: Path) -> None:
    assert sorted(["10", "2", "1", "x10", "x9", "x09", "a"], key=natural) == ["1", "2", "10", "a", "x09", "x9", "x10"]
    files = {f"{name}/{i}.png": GREY + int(name) for name in ("1", "2", "10") for i in "01"}
    dataset, _ = loaded(tmp_path, files)
    assert dataset.card.classes == ("1", "2", "10")
    pairs = zip(dataset.train.images, dataset.train.labels, strict=True)
    brightest = {int(image[0, 0, 0]): int(label) for image, label in pairs}
    assert brightest == {1: 0, 2: 1, 10: 2}  # GREY begins with 0


def test_two_forms_of_a_name_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    files = {f"train/{composed}/0.png": GREY, f"train/{decomposed}/1.png": GREY, "train/b/0.png": GREY}
    dataset, _ = loaded(tmp_path, files | {f"test/{decomposed}/0.png": GREY, "test/b/0.png": GREY})
    assert dataset.card.classes == ("b", composed)
    assert sorted(dataset.train.labels.tolist()) == [0, 1, 1]
    assert sorted(dataset.test.labels.tolist()) == [0, 1]


def as_an_older_version_wrote_it(run: Path) -> None:
    """data.json as before sizes and backgrounds were recorded, and no digests."""
    unseal(run)
    record = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({k: v for k, v in record.items() if k not in ("size", "background")}))


@pytest.fixture
def old_order(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Classes sorted as text, as older versions numbered them; call it to return to today's order."""
    monkeypatch.setattr("vitlab.data.folder.natural", lambda name: name)
    return monkeypatch.undo


def bars(root: Path) -> str:
    """Three classes whose order as numbers is not that as text, with a part for testing."""
    for part, count, seed in (("train", 60, 1), ("test", 21, 2)):
        split = glyphs(count, seed=seed)
        names = ("10", "2", "1")
        put(root / part, {f"{names[label]}/{n}.png": split.images[n, ..., 0] for n, label in enumerate(split.labels)})
    return str(root)


def test_an_old_run_keeps_the_numbers_of_its_classes(tmp_path: Path, old_order: Callable[[], None]) -> None:
    """Evaluation and resuming give the same bits although new runs number the classes in another order."""
    config = tiny_config(bars(tmp_path / "data"), epochs=2, val_fraction=0.2)
    before = train_run(config, tmp_path / "old")
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "old", stopped)
    (stopped / "result.json").unlink()
    first = min((stopped / "checkpoints").iterdir())
    for path in (stopped / "checkpoints").iterdir():
        if path != first:
            path.unlink()
    numbers = evaluate_run(tmp_path / "old")
    for run in (tmp_path / "old", stopped):
        as_an_older_version_wrote_it(run)
        assert RunFolder(run).data()["classes"] == ["1", "10", "2"]
    old_order()
    assert load_dataset(str(tmp_path / "data")).card.classes == ("1", "2", "10")
    assert evaluate_run(tmp_path / "old") == numbers
    assert resume_run(stopped).model_sha256 == before.model_sha256
    moved = tmp_path / "moved"
    (tmp_path / "data").rename(moved)
    assert evaluate_run(tmp_path / "old", asked={"data": str(moved)}) == numbers


def test_classes_that_are_not_those_of_the_data_are_refused(tmp_path: Path) -> None:
    train_run(tiny_config(bars(tmp_path / "data"), epochs=1), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "data.json").read_text())
    record["classes"] = ["x", "y", "z"]
    (unseal(tmp_path / "run") / "data.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="does not name the classes"):
        evaluate_run(tmp_path / "run")


def test_an_old_run_on_sizes_and_labels_as_they_were_read(tmp_path: Path) -> None:
    """The most common size where today the median counts; labels as places up to the highest, with a class 0 that
    no image shows."""
    from vitlab.data import Reading

    sizes = {f"a/{n}.png": np.full((n, n + 2), 7 * n, np.uint8) for n in range(3, 9)} | {"b/0.png": GREY[:3, :5]}
    root = put(tmp_path / "d", sizes)
    assert load_dataset(root).train.images.shape[1:3] == (5, 7)
    assert load_dataset(root, reading=Reading(("a", "b"))).train.images.shape[1:3] == (3, 5)
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 3, 5), np.uint8), labels=np.array([1, 2, 1]))
    old = load_dataset(str(tmp_path / "x.npz"), reading=Reading(("0", "1", "2")))
    assert (old.card.classes, old.train.labels.tolist()) == (("0", "1", "2"), [1, 2, 1])
    new = load_dataset(str(tmp_path / "x.npz"))
    assert (new.card.classes, new.train.labels.tolist()) == (("1", "2"), [0, 1, 0])


def test_an_old_run_sees_the_files_that_it_saw(tmp_path: Path) -> None:
    """Without valid/ and without photos of more than 4 million pixels; its digest stays the same."""
    from vitlab.data import Reading

    root = put(tmp_path, below("train"))
    digest = load_dataset(root).digest
    photo = saved(Image.new("L", (2001, 2000), 7), "JPEG")
    put(tmp_path, below("valid") | {"train/a/photo.jpg": photo})
    (old, new) = (load_dataset(root, reading=reading) for reading in (Reading(("a", "b")), None))
    assert (old.digest, old.val, len(old.train)) == (digest, None, 4)
    assert new.val is not None
    assert (len(new.val), len(new.train)) == (4, 5)
    assert new.digest != digest


def test_a_cut_that_new_runs_may_not_have_stays_with_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bars(tmp_path / "data")
    config = tiny_config(data, val_split="last", val_fraction=0.2, epochs=1)
    with pytest.raises(ConfigError, match=r"sorted by class; use val_split=.stratified"):
        train_run(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with monkeypatch.context() as older:
        older.setattr("vitlab.data.splits._refuse_sorted", lambda *_: None)
        train_run(config, tmp_path / "old")
    assert evaluate_run(tmp_path / "old", "val")["images"] == 12


# ---- links, pipes, permissions ----


@pytest.mark.usefixtures("soon")
def test_links_in_circles_and_pipes_are_skipped(tmp_path: Path) -> None:
    root = Path(put(tmp_path / "d", TWO))
    (root / "a" / "loop").symlink_to("loop")
    (root / "a" / "zero.png").symlink_to("/dev/zero")
    (root / "around").symlink_to(root)
    (root / "b" / "up").symlink_to("..")
    os.mkfifo(root / "a" / "pipe.png")
    os.mkfifo(root / "pipe")
    lines: list[str] = []
    dataset = load_dataset(str(root), lines.append)
    assert (dataset.card.classes, len(dataset.train)) == (("a", "b"), 4)
    skipped = [line for line in dataset.unreadable if "left out" not in line]
    assert {line.split()[0] for line in skipped} >= {"a/loop", "a/pipe.png", "a/zero.png", "b/up"}
    assert "pipe is not in the sub-folder of a class" in skipped


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_what_is_no_file_is_no_npz(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npz"
    make = {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": os.mkdir}
    make.get(kind, lambda path: path.symlink_to(path))(path)
    with pytest.raises(DataError, match="cannot read"):
        load_dataset(str(path))


def test_a_large_file_that_is_no_archive_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.npz", "wb") as file:
        file.truncate(11 << 40)  # holes: reading them would take an hour
    with pytest.raises(DataError, match=r"has 11264\.0 GiB and is not a readable"):
        load_dataset(str(tmp_path / "x.npz"))


@pytest.mark.usefixtures("soon")
def test_a_pipe_where_a_download_is_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.toycards import toy_card
    from vitlab.data import CATALOGUE

    monkeypatch.setitem(CATALOGUE, "toy", toy_card())
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    os.mkfifo(tmp_path / toy_card().files[0].name)
    lines: list[str] = []
    with pytest.raises(DataError, match="cannot get"):
        load_dataset("toy", lines.append)
    assert any("is not a file that can be read; ignoring it" in line for line in lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else for a while")
@pytest.mark.parametrize("mode", [0o444, 0o111, 0o000])
def test_a_folder_without_permissions_is_one_line(tmp_path: Path, mode: int) -> None:
    root = Path(put(tmp_path / "d", TWO))
    for path in (root, *root.rglob("*"), *tmp_path.parents[:3], tmp_path):
        path.chmod(0o755)
    (root / "b").chmod(mode)
    os.seteuid(65534)
    try:
        with pytest.raises(DataError, match=r"[Pp]ermission denied") as caught:
            load_dataset(str(root))
    finally:
        os.seteuid(0)
        (root / "b").chmod(0o755)
    assert "\n" not in str(caught.value)


# ---- looking at one's own data ----


def test_inspect_counts_and_finds(tmp_path: Path) -> None:
    train = {f"{name}/{i}.png": GREY + 9 * i + ord(name) for name in "ab" for i in range(3)}
    files = below("train", train | {"a/black.png": GREY * 0, "b/bad.png": b"x"}) | below("test", {"a/0.png": COLOUR})
    root = put(tmp_path, files | {"test/a/copy.png": np.stack([train["b/1.png"]] * 3, axis=-1)})
    found = inspect(root)
    assert found.classes == {"a": {"training": 4, "test": 2}, "b": {"training": 3, "test": 0}}
    assert found.constant == {"training": 1, "test": 0}
    assert found.duplicates == {("training", "training"): 0, ("training", "test"): 1, ("test", "test"): 0}
    assert len(found.unreadable) == 1
    lines = check_data(root)
    assert "no test image shows 'b'" in lines
    assert "1 test image can also be found among the training images" in lines
    assert any("1 of 7 training images is of one colour" in line for line in lines)
    assert check_data(put(tmp_path / "good", TWO)) == []
    assert check_data(str(tmp_path / "no.npz"))[0].startswith("there is no file")
    answer = vitlab(f"data check {root}")
    assert (answer.code, answer.out.splitlines()[0]) == (0, f"{root}: 7 training and 2 test images, 2 classes")
    assert "  no test image shows 'b'" in answer.out.splitlines()
    assert vitlab("data check /nowhere.npz").code == 3
