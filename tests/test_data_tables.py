"""Folders as people have them: labels in tables, pixels in tables, and parts by any usual name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.command import vitlab
from vitlab.data import Dataset, Reading, load_dataset
from vitlab.errors import DataError

Pixels = npt.NDArray[np.uint8]
SIDE = 5


def picture(number: int) -> Pixels:
    """uint8 [5, 5], different for each number."""
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)


def draw(root: Path, *names: str) -> None:
    """Write ``picture(n)`` for the n-th name, in the format that its ending says; of other names as PNG."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".gif": "GIF"}.get(path.suffix.lower(), "PNG")
        Image.fromarray(picture(number)).save(path, kind)


def table(path: Path, *lines: str) -> Path:
    """Write a text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def content(dataset: Dataset) -> dict[str, set[tuple[int, str]]]:
    """For each part the numbers of its pictures with the names of their classes."""
    known = {picture(number).tobytes(): number for number in range(40)}
    parts = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    return {
        part: {
            (known[image.tobytes()], dataset.card.classes[label])
            for image, label in zip(split.images, split.labels, strict=True)
        }
        for part, split in parts.items()
        if split is not None
    }


# What people have: a function that makes it below a folder; what --data names; the pictures of each part.


def torchvision(root: Path) -> Path:
    """Class folders below train/ and val/."""
    draw(root, "train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png")
    return root


def roboflow(root: Path) -> Path:
    """train, valid, test with a _classes.csv-free folder export, and its README files."""
    draw(root, "train/cat/1.bmp", "train/dog/2.tif", "valid/cat/3.gif", "test/dog/4.TIFF")
    table(root / "README.roboflow.txt", "text")
    return root


def intel(root: Path) -> Path:
    """seg_train/seg_train, seg_test/seg_test and pictures without classes, as on Kaggle."""
    draw(root, "seg_train/seg_train/cat/1.png", "seg_train/seg_train/dog/2.png", "seg_test/seg_test/cat/3.png")
    draw(root / "seg_pred" / "seg_pred", "9.png")
    return root


def labels_csv(root: Path) -> Path:
    """labels.csv next to the images, with splits, a byte-order mark and quotes."""
    draw(root, "a.png", "b.png", "c.png", "d.png")
    lines = ("\ufefffile,label,split", "a.png,cat,train", '"b.png","dog",Training', "c.png,cat,valid", "d.png,dog,TEST")
    table(root / "labels.csv", *lines)
    return root


def in_a_folder(root: Path) -> Path:
    """labels.csv above images/, semicolons, names without ending."""
    draw(root, "images/a.png", "images/b.png")
    table(root / "labels.csv", "image_id;class", "a;cat", "b;dog")
    return root


def dog_breeds(root: Path) -> Path:
    """id,breed for the pictures of train/; test/ has none, and there is a sample of what to hand in."""
    draw(root, "train/a.png", "train/b.png", "test/c.png")
    table(root / "labels.csv", "id,breed", "a,cat", "b,dog")
    table(root / "sample_submission.csv", "id,cat,dog", "c,0.5,0.5")
    return root


def butterflies(root: Path) -> Path:
    """Training_set.csv and Testing_set.csv, the second without labels."""
    draw(root, "train/a.jpg.png", "train/b.png", "test/a.png")
    table(root / "Training_set.csv", "filename,label", "a.jpg.png,cat", "b.png,dog")
    table(root / "Testing_set.csv", "filename", "a.png")
    return root


def traffic_signs(root: Path) -> Path:
    """Train.csv and Test.csv with paths and many columns, as GTSRB on Kaggle."""
    draw(root, "Train/7/a.png", "Train/10/b.png", "Test/0.png", "Test/1.png")
    head = "Width,Height,ClassId,Path"
    table(root / "Train.csv", head, "5,5,7,Train/7/a.png", "5,5,10,Train/10/b.png")
    table(root / "Test.csv", head, "5,5,7,Test/0.png", "5,5,10,Test/1.png")
    table(root / "Meta.csv", "Path,ClassId,ShapeId", "Meta/0.png,0,1")
    return root


def digit_recognizer(root: Path) -> Path:
    """train.csv with pixels; test.csv without labels."""
    head = ",".join(f"pixel{number}" for number in range(SIDE**2))
    rows = [",".join(map(str, picture(number).ravel())) for number in range(3)]
    table(root / "train.csv", f"label,{head}", f"3,{rows[0]}", f"1,{rows[1]}")
    table(root / "test.csv", head, rows[2])
    return root


def headless(root: Path) -> Path:
    """A file of pixels without names, the label first."""
    rows = [",".join(map(str, picture(number).ravel())) for number in range(2)]
    return table(root / "mnist_train.csv", f"3,{rows[0]}", f"1,{rows[1]}")


CAT_DOG = {(0, "cat"), (1, "dog")}
LAYOUTS = [
    (torchvision, {"train": CAT_DOG, "val": {(2, "cat"), (3, "dog")}}),
    (roboflow, {"train": CAT_DOG, "val": {(2, "cat")}, "test": {(3, "dog")}}),
    (intel, {"train": CAT_DOG, "test": {(2, "cat")}}),
    (labels_csv, {"train": CAT_DOG, "val": {(2, "cat")}, "test": {(3, "dog")}}),
    (in_a_folder, {"train": CAT_DOG}),
    (dog_breeds, {"train": CAT_DOG}),
    (butterflies, {"train": CAT_DOG}),
    (traffic_signs, {"train": {(0, "7"), (1, "10")}, "test": {(2, "7"), (3, "10")}}),
    (digit_recognizer, {"train": {(0, "3"), (1, "1")}}),
    (headless, {"train": {(0, "3"), (1, "1")}}),
]


@pytest.mark.parametrize(("make", "parts"), LAYOUTS, ids=[make.__name__ for make, _ in LAYOUTS])
def test_folders_as_people_have_them(
    make: Callable[[Path], Path], parts: dict[str, set[tuple[int, str]]], tmp_path: Path
) -> None:
    place = make(tmp_path)
    dataset = load_dataset(place)
    assert content(dataset) == parts
    reading = Reading.of({"classes": list(dataset.card.classes), "size": [SIDE, SIDE], "background": 0,
                          "formats": list(dataset.formats), "tables": list(dataset.tables)})  # fmt: skip
    again = load_dataset(place, reading=reading)
    assert (content(again), again.digest) == (parts, dataset.digest)


def test_a_run_of_an_earlier_version_reads_what_it_read(tmp_path: Path) -> None:
    """It knew PNG and JPEG, and no tables."""
    draw(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    reading = Reading.of({"classes": ["cat", "dog"], "size": [SIDE, SIDE], "background": 0})
    before = load_dataset(tmp_path, reading=reading)
    draw(tmp_path, "cat/5.bmp")
    table(tmp_path / "labels.csv", "file,label", "cat/1.png,dog", "dog/3.png,cat")
    after = load_dataset(tmp_path, reading=reading)
    assert (after.digest, content(after)) == (before.digest, content(before))
    assert load_dataset(tmp_path).digest != before.digest


def test_other_labels_are_other_data(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    table(tmp_path / "labels.csv", "file,label", "a.png,cat", "b.png,dog")
    before = load_dataset(tmp_path).digest
    table(tmp_path / "labels.csv", "file,label", "a.png,dog", "b.png,cat")
    assert load_dataset(tmp_path).digest != before


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ("file,label", "a.png,cat", "b.png,dog", "a.png,dog"),
            "line 4: 'a.png' has another label in labels.csv, line 2",
        ),
        (("file,label,split", "a.png,cat,train", "b.png,dog,holdout"), "line 3: the split 'holdout' is none of"),
        (("file,label", "a.png,cat", "b.png"), "line 3 has 1 cell, but the first line 2 columns"),
        (("file,label", "a.png,cat", "b.png,cat"), "only one class, 'cat'.*needs two or more$"),
        (("file,label", "a.png,cat", "b.png,dog", "same.png,cat"), "'same.png' could be x/same.png and y/same.png"),
    ],
)
def test_a_line_that_cannot_be_right_is_named(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    draw(tmp_path, "a.png", "b.png", "x/same.png", "y/same.png")
    table(tmp_path / "labels.csv", *lines)
    with pytest.raises(DataError, match=words):
        load_dataset(tmp_path)


def test_what_a_table_names_in_vain_is_counted(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png", "c.png")
    table(tmp_path / "labels.csv", "file,label", "a.png,cat", "b.png,dog", "gone.png,dog", "c.png,")
    lines: list[str] = []
    assert len(load_dataset(tmp_path, lines.append).train) == 2
    assert lines[:3] == [
        "labels come from labels.csv",
        "1 file named there cannot be found: gone.png",
        "1 line there without a label",
    ]


def test_a_table_of_something_else_changes_nothing(tmp_path: Path) -> None:
    draw(tmp_path, "cat/1.png", "dog/2.png")
    table(tmp_path / "prices.csv", "name,class", "fish,1", "bread,2")
    assert content(load_dataset(tmp_path)) == {"train": CAT_DOG}


def test_a_table_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    draw(tmp_path / "outside", "secret.png")
    draw(tmp_path / "data", "a.png", "b.png")
    table(tmp_path / "data" / "labels.csv", "file,label", "a.png,cat", "b.png,dog", "../outside/secret.png,cat")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "outside" / "secret.png")
    assert content(load_dataset(tmp_path / "data")) == {"train": CAT_DOG}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("3,1,2", "line 3 has 3 cells, not 26"),
        ("3," + "256," * 24 + "0", "line 3 has the pixel '256'; pixels must be whole numbers from 0 to 255"),
        ("3," + "0.5," * 24 + "0", "line 3 has the pixel '0.5'"),
        ("x," + "0," * 24 + "0", "line 3 has the label 'x'"),
        ("-1," + "0," * 24 + "0", "line 3 has the label '-1'"),
    ],
)
def test_a_line_of_pixels_that_cannot_be_right_is_named(tmp_path: Path, line: str, words: str) -> None:
    head = "label," + ",".join(f"pixel{number}" for number in range(25))
    path = table(tmp_path / "train.csv", head, "1," + "7," * 24 + "9", line)
    with pytest.raises(DataError, match=words):
        load_dataset(path)


def test_pixels_in_colour(tmp_path: Path) -> None:
    """n x n x 3 columns: red, green and blue of each pixel in turn."""
    image = np.random.default_rng(0).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    head = ",".join(f"pixel{number:04}" for number in range(27))
    rows = (",".join(map(str, (image // part).ravel())) for part in (1, 2))
    path = table(tmp_path / "hmnist.csv", f"{head},label", *(f"{row},{label}" for label, row in enumerate(rows)))
    np.testing.assert_array_equal(load_dataset(path).train.images, np.stack([image, image // 2]))


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", "\0\0\0", "label,pixel0\n"])
def test_a_csv_file_of_something_else_is_explained(tmp_path: Path, text: str) -> None:
    path = table(tmp_path / "x.csv", text)
    with pytest.raises(DataError, match="is no table that vitlab can use"):
        load_dataset(path)


# ---- vitlab data describe ----


@pytest.mark.parametrize(("make", "parts"), LAYOUTS, ids=[make.__name__ for make, _ in LAYOUTS])
def test_describe_every_folder(
    make: Callable[[Path], Path], parts: dict[str, set[tuple[int, str]]], tmp_path: Path
) -> None:
    lines = vitlab(f"data describe {make(tmp_path)}").out.splitlines()
    counted = dict(training=len(parts["train"]), validation=len(parts.get("val", ())), test=len(parts.get("test", ())))
    for part, count in counted.items():
        assert (f"{count} {part}" in lines[0]) == (count > 0)
    assert "2 classes" in lines[0]
    assert lines[1].startswith("5 x 5 pixels, grey")
    assert "  show the network 28 x 28 pixels; --image-size N changes that" in lines
    assert len(lines) <= 20


def test_describe_finds_what_is_wrong(tmp_path: Path) -> None:
    draw(tmp_path, *(f"train/cat/{number}.png" for number in range(7)), "train/dog/1.png", "test/cat/8.png")
    copy = (tmp_path / "train/cat/3.png").read_bytes()
    (tmp_path / "train/cat/copy.png").write_bytes(copy)
    (tmp_path / "test/cat/leak.png").write_bytes(copy)
    Image.fromarray(np.zeros((SIDE, 2 * SIDE), np.uint8)).save(tmp_path / "test/cat/black.png")
    lines = [line.strip() for line in vitlab(f"data describe {tmp_path}").out.splitlines()]
    assert lines[1] == "files of 5 x 5 to 5 x 10, most often 5 x 5 (92 %); kept as 5 x 5 pixels, grey"
    assert next(line for line in lines if line.startswith("cat")).split()[:3] == ["cat", "8", "3"]
    assert next(line for line in lines if line.startswith("dog")).split() == ["dog", "1", "0", "#" * 3]
    for line in (
        "no test image shows 'dog'",
        "1 test image of one colour all over",
        "1 training image repeats another one",
        "1 test image can also be found among the training images",
    ):
        assert line in lines
    assert any(line.startswith("the largest class has 8 times as many training images as the") for line in lines)
    as_json = json.loads(vitlab(f"data describe {tmp_path} --json").out)
    assert as_json["classes"] == {"cat": {"training": 8, "test": 3}, "dog": {"training": 1, "test": 0}}
    assert as_json["sizes"] == [{"size": [5, 5], "files": 11}, {"size": [5, 10], "files": 1}]


def test_a_table_of_something_else_does_not_replace_the_folders(tmp_path: Path) -> None:
    draw(tmp_path, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    table(tmp_path / "sizes.csv", "id,width", "1,5", "2,5", "3,6", "4,6")
    notes: list[str] = []
    assert load_dataset(str(tmp_path), log=notes.append).card.classes == ("cat", "dog")
    assert "sizes.csv has no column called label" in notes[0]
    table(tmp_path / "labels.csv", "id,breed", "1,pug", "2,pug", "3,lab", "4,lab")  # its name says what it is
    assert load_dataset(str(tmp_path)).card.classes == ("lab", "pug")


def test_a_test_table_without_labels_is_none_of_labels(tmp_path: Path) -> None:
    draw(tmp_path, "1.png", "2.png", "3.png", "4.png")
    table(tmp_path / "train.csv", "file,label", "1.png,a", "2.png,b")
    table(tmp_path / "test.csv", "file,width", "3.png,5", "4.png,5")
    assert content(load_dataset(str(tmp_path))) == {"train": {(0, "a"), (1, "b")}}
    table(tmp_path / "train.csv", "id,breed", "1,a", "2,b")
    table(tmp_path / "test.csv", "breed,id", "a,3", "b,4")
    assert content(load_dataset(str(tmp_path)))["test"] == {(2, "a"), (3, "b")}


def test_a_file_of_the_same_name_in_another_folder_is_another_file(tmp_path: Path) -> None:
    draw(tmp_path, "dog/1.png", "dog/2.png", "cat/3.png")
    table(tmp_path / "labels.csv", "file,label", "cat/1.png,cat", "dog/2.png,dog", "cat/3.png,cat")
    notes: list[str] = []
    assert content(load_dataset(str(tmp_path), log=notes.append)) == {"train": {(1, "dog"), (2, "cat")}}
    assert "1 file named there cannot be found: cat/1.png" in notes
    table(
        tmp_path / "labels.csv", "file,label", "C:\\pets\\dog\\1.png,dog", "/home/me/dog/2.png,dog", "old/cat/3.png,cat"
    )
    assert content(load_dataset(str(tmp_path))) == {"train": {(0, "dog"), (1, "dog"), (2, "cat")}}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("id,label", "1,a", "2,b"), "names files that are not below .*, such as '1'; .*zeros"),
        (("file,label", "A.PNG,a", "B.PNG,b"), "such as 'A.PNG'; correct their names"),
        (("file,label", "0001.png,", "0002.png,"), "no line with a label; fill its column 'label'"),
    ],
)
def test_a_table_that_finds_nothing_is_named(lines: tuple[str, ...], words: str, tmp_path: Path) -> None:
    draw(tmp_path, "0001.png", "0002.png")
    table(tmp_path / "labels.csv", *lines)
    with pytest.raises(DataError, match=words):
        load_dataset(str(tmp_path))


def test_a_label_that_only_a_test_image_has(tmp_path: Path) -> None:
    draw(tmp_path, "1.png", "2.png", "3.png")
    table(tmp_path / "labels.csv", "file,label,split", "1.png,a,train", "2.png,b,train", "3.png,newt,test")
    with pytest.raises(DataError, match=r"no training image is labelled 'newt', as 3.png is"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("length", "words"), [(200_000, "line 3: field larger"), (3_000_000, "line 3 is far too long")]
)
def test_a_line_of_pixels_without_end(length: int, words: str, tmp_path: Path) -> None:
    names = ",".join(["label", *(f"pixel{place}" for place in range(25))])
    path = table(tmp_path / "train.csv", names, ",".join(["1"] * 26), "1" * length)
    with pytest.raises(DataError, match=words):
        load_dataset(str(path))


def test_a_table_without_names_of_columns_is_named(tmp_path: Path) -> None:
    draw(tmp_path, "1.png", "2.png")
    table(tmp_path / "who.csv", "1.png,a", "2.png,b")
    with pytest.raises(DataError, match=r"no sub-folders; .*, or begin who.csv with the names of columns"):
        load_dataset(str(tmp_path))
