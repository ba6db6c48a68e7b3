"""Answers as a table: read back, they are the classifier's; the file is complete or absent."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image

from tests.command import vitlab
from tests.image_zoo import saved, seven
from tests.made_runs import make_run
from tests.tiny import glyphs
from vitlab import Classifier
from vitlab.data.images import ImageError
from vitlab.errors import ConfigError
from vitlab.files import new_text
from vitlab.predict import Answer, inputs
from vitlab.predict import classifier as classifying
from vitlab.predict.table import Tally

CLASSES = ("ant", "bee, wild", "Käfer")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on glyphs of three classes; its answers are random, but always the same."""
    return make_run(tmp_path_factory.mktemp("runs") / "bars", "bars", classes=CLASSES, image_size=8, patch_size=2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png(number: int) -> bytes:
    """One of 13 different pictures."""
    return saved(Image.fromarray(glyphs(13, seed=5).images[number][..., 0]))


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of a table by the names of the columns."""
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table_holds_the_answers_of_the_classifier(run: Path, here: Path) -> None:
    """In natural order, from all folders, in batches of three, read by csv and by pandas."""
    names = ["1.png", "2.png", "10.png", "b/a b.png", "b/ä, ö.png", 'b/"q".png', "b/z.png"]
    for number, name in enumerate(names):
        (here / "in" / name).parent.mkdir(exist_ok=True, parents=True)
        (here / "in" / name).write_bytes(png(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifying, "TOGETHER", 3)
        answer = vitlab(f"predict {run} in --csv out.csv --top 2")
    assert (answer.code, answer.err) == (0, "")
    rows = rows_of((here / "out.csv").read_text())
    assert list(rows[0]) == ["file", "label", "probability", "label_2", "probability_2", "sure", "unlike", "note"]
    found = [row["file"] for row in rows]
    assert found[:3] == ["in/1.png", "in/2.png", "in/10.png"]
    assert sorted(found) == sorted(f"in/{name}" for name in names)
    predicted = Classifier.load(run).predict([Path(name) for name in found])
    for row, (best, second) in zip(rows, predicted.top(2), strict=True):
        assert (row["label"], row["label_2"]) == (best.name, second.name)
        assert float(row["probability"]) == pytest.approx(best.probability, rel=1e-5)
        assert float(row["probability_2"]) == pytest.approx(second.probability, rel=1e-5)
        assert row["sure"] == ("true" if best.probability >= 0.5 else "false")
        assert row["unlike"] == ""  # this run folder does not say
    table = pandas.read_csv(here / "out.csv")
    assert table["sure"].dtype == bool
    assert table["label"].tolist() == predicted.names
    for name in set(predicted.names):
        assert f"{name}: {predicted.names.count(name)}" in answer.out
    assert answer.out.startswith("out.csv: 7 pictures (")
    assert list(here.glob(".*")) == []


def test_one_of_ten_is_broken(run: Path, here: Path) -> None:
    for number in range(10):
        (here / f"{number}.png").write_bytes(png(number) if number != 4 else png(number)[:-9])
    answer = vitlab(f"predict {run} . --csv - --top 1")
    rows = rows_of(answer.out)
    assert answer.code == 3
    assert [row["file"] for row in rows] == [f"{number}.png" for number in range(10)]
    assert [row["label"] == "" for row in rows] == [number == 4 for number in range(10)]
    error = "4.png is damaged or incomplete; save it again as PNG or JPEG"
    assert rows[4] == {"file": "4.png", "label": "", "probability": "", "sure": "", "unlike": "", "note": error}
    first, summary = answer.err.splitlines()
    assert first == f"vitlab: {error}"
    assert summary.startswith("10 pictures (")
    assert summary.endswith("; 1 could not be read")


def test_names_of_any_kind_come_back(run: Path, here: Path) -> None:
    r"""Line breaks and quotes as they are; bytes that are no text as \udcff, so that the file is UTF-8."""
    for name in (b"a\nb.png", b"c\rd.png", "日本.png".encode(), b"=1+1.png", b"\xff.png"):
        (here / os.fsdecode(name)).write_bytes(png(0))
    assert vitlab(f"predict {run} . --csv out.csv").code == 0
    with open(here / "out.csv", encoding="utf-8", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert sorted(names) == sorted(["=1+1.png", "a\nb.png", "c\rd.png", "日本.png", r"\udcff.png"])


def test_columns_of_a_competition(run: Path, here: Path) -> None:
    """A label, or a probability for each class; a picture that cannot be read keeps its line."""
    for name, data in (("7f.png", png(0)), ("bad.png", b"no"), ("c.d.png", png(1))):
        (here / name).write_bytes(data)
    predicted = Classifier.load(run).predict([here / "7f.png", here / "c.d.png"])
    assert vitlab(f"predict {run} . --csv labels.csv --columns ImageId,Label").code == 3
    rows = rows_of((here / "labels.csv").read_text())
    assert [list(row.items()) for row in rows] == [
        [("ImageId", "7f"), ("Label", predicted.names[0])],
        [("ImageId", "bad"), ("Label", "")],
        [("ImageId", "c.d"), ("Label", predicted.names[1])],
    ]
    assert vitlab(f"predict {run} 7f.png c.d.png --csv chances.csv --columns id,probabilities").code == 0
    table = pandas.read_csv(here / "chances.csv")
    assert list(table) == ["id", *CLASSES]
    np.testing.assert_allclose(table[list(CLASSES)].to_numpy(), predicted.probabilities, rtol=1e-5)


def test_a_table_of_pixels_and_arrays_are_pictures(run: Path, here: Path) -> None:
    """Rows are numbered from 1; a label is not used; all give what the arrays themselves give."""
    images, labels = glyphs(13, seed=5).images, glyphs(13, seed=5).labels
    flat = images.reshape(13, 64)
    head = [f"pixel{number}" for number in range(64)]
    pandas.DataFrame(flat, columns=head).to_csv(here / "test.csv", index=False)
    pandas.DataFrame(flat).to_csv(here / "bare.csv", index=False, header=False)
    pandas.DataFrame({"label": labels} | dict(zip(head, flat.T, strict=True))).to_csv(here / "train.csv", index=False)
    np.savez(here / "images.npz", images=images[..., 0])
    np.savez(here / "only.npz", whatever=images)
    expected = Classifier.load(run).predict(images)
    for name in ("test.csv", "bare.csv", "train.csv", "images.npz", "only.npz"):
        answer = vitlab(f"predict {run} {name} --csv - --columns ImageId,Label")
        assert answer.code == 0, answer.err
        rows = rows_of(answer.out)
        assert [row["ImageId"] for row in rows] == [str(number) for number in range(1, 14)]
        assert [row["Label"] for row in rows] == expected.names, name
        assert ("is not used" in answer.err) == (name == "train.csv")
    assert [row["file"] for row in rows_of(vitlab(f"predict {run} test.csv --csv -").out)][:2] == [
        "test.csv#1",
        "test.csv#2",
    ]
    assert vitlab(f"predict {run} test.csv").out.splitlines()[12].startswith(f"test.csv#13  {expected.names[12]}  ")


def test_the_folder_of_a_table_is_made(run: Path, here: Path) -> None:
    (here / "a.png").write_bytes(png(0))
    assert vitlab(f"predict {run} a.png --csv new/deep/x.csv").code == 0
    assert (here / "new" / "deep" / "x.csv").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("a.png --columns a,b", 2, "--columns names the columns of --csv FILE"),
        ("a.png --csv x.csv --json", 2, "--csv and --json cannot be combined"),
        ("a.png --csv x.csv --columns a", 2, "--columns needs two different names, as in"),
        ("a.png --csv x.csv --columns a,a", 2, "--columns needs two different names, as in"),
        ("a.png --csv there.csv", 2, "there.csv already exists; choose another name, or delete it"),
        ("in --csv x.csv --columns id,label", 3, "in/a.png and in/b/a.png would both be 'a' in the first column"),
        ("there.csv --csv x.csv", 3, "there.csv is no table of pixels"),
        ("wrong.csv --csv x.csv", 3, "wrong.csv, line 3 has the pixel '256'"),
        ("labels.npz --csv x.csv", 3, "labels.npz holds p, q; call the array of images to classify images"),
        ("a.png --csv a.png/x.csv", 6, "a.png"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_file(run: Path, here: Path, line: str, code: int, words: str) -> None:
    for name in ("a.png", "in/a.png", "in/b/a.png"):
        (here / name).parent.mkdir(exist_ok=True, parents=True)
        (here / name).write_bytes(png(0))
    (here / "there.csv").write_text("kept")
    pixels = ",".join(["7"] * 63)
    (here / "wrong.csv").write_text(f"{','.join(f'p{n}' for n in range(64))}\n{pixels},7\n{pixels},256\n")
    np.savez(here / "labels.npz", p=np.zeros(3), q=np.zeros(3))
    answer = vitlab(f"predict {run} {line}")
    assert words in answer.error
    assert (answer.code, (here / "there.csv").read_text()) == (code, "kept")
    assert not (here / "x.csv").exists()
    assert list(here.glob(".*")) == []


def test_a_killed_process_leaves_nothing(run: Path, here: Path) -> None:
    """It waits for a picture on standard input when the table has begun."""
    (here / "a.png").write_bytes(png(0))
    words = [sys.executable, "-m", "vitlab", "predict", str(run), "a.png", "-", "--csv", "out.csv"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        while not any(str(here) in place for place in open_files(process.pid)):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode != 0
    assert [path.name for path in here.iterdir()] == ["a.png"]


def open_files(pid: int) -> list[str]:
    """The files that a process may write."""
    places = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            places.append(str(link.readlink()))
    return [place for place in places if not place.endswith(".png")]


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless file", "temporary name"])
def test_a_new_text_is_complete_or_absent(here: Path, nameless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not nameless:
        monkeypatch.setattr("vitlab.system._UNNAMED", None)
    path = here / "out.csv"
    with pytest.raises(TypeError), new_text(path) as file:
        file.writelines(["half", 1])  # type: ignore[list-item]
    assert list(here.iterdir()) == []
    with new_text(path) as file:
        file.write("whole")
        file.flush()
        assert not path.exists()
        assert len(list(here.iterdir())) == (0 if nameless else 1)
    assert path.read_text() == "whole"
    assert list(here.iterdir()) == [path]
    with pytest.raises(ConfigError, match="already exists"), new_text(here / "late.csv"):
        (here / "late.csv").write_text("somebody else's")
    assert (here / "late.csv").read_text() == "somebody else's"
    assert sorted(one.name for one in here.iterdir()) == ["late.csv", "out.csv"]


def test_answers_come_as_they_are_asked_for(run: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless series of pictures, some bad: no more than two batches are read before an answer."""
    monkeypatch.setattr(classifying, "TOGETHER", 5)
    (here / "a.png").write_bytes(png(3))
    asked = []

    def pictures() -> Iterator[Any]:
        for number in range(1000):
            asked.append(number)
            yield (here / "a.png", here / "none.png", glyphs(13, seed=5).images[3])[number % 3]

    answers = Classifier.load(run).answers(pictures())
    first, error, third = (next(answers) for _ in range(3))
    assert len(asked) == 10
    assert isinstance(error, ImageError)
    assert isinstance(first, Answer)
    assert isinstance(third, Answer)
    assert first.top(1) == third.top(1)
    answers.close()  # type: ignore[attr-defined]


def test_reading_ahead_keeps_the_order_and_ends_its_threads() -> None:
    read = inputs.read_ahead((str(number) for number in range(17)), int, 5)
    assert list(read) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16]]
    assert list(inputs.read_ahead([], int, 5)) == []


def test_the_summary_counts_what_cannot_be_trusted() -> None:
    tally = Tally()
    sure = np.array([0.75, 0.125, 0.125])
    unsure = np.array([0.25, 0.375, 0.375])
    for answer in (
        Answer(CLASSES, sure),
        Answer(CLASSES, sure, unlike=True),
        Answer(CLASSES, unsure, unlike=True, reason="no ink stands out from the paper"),
        Answer(CLASSES, unsure),
        Answer(CLASSES, sure, reason="the ink is only a speck"),
        ImageError("x"),
    ):
        tally.add(answer)
    assert tally.line(CLASSES) == (
        "6 pictures (ant: 3 and bee, wild: 2); 2 not sure; 2 unlike anything it was trained on; 1 could not be read"
    )
    many = Tally()
    for number, count in enumerate([1, 3, 2] + [1] * 17):
        many.labels[f"c{number}"] = count
    words = many.line(tuple(f"c{number}" for number in range(20)))
    assert words.startswith("23 pictures (c1: 3, c2: 2, c0: 1, c3: 1,")
    assert words.endswith(" and 8 more)")


def test_standard_output_that_is_closed(run: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitlab.cli import predict

    monkeypatch.setattr(predict, "sys", SimpleNamespace(stdout=None))
    with pytest.raises(ConfigError, match="standard output is closed"), predict.opened("-"):
        pass


def test_drawings_take_the_same_way_as_one_by_one(tmp_path: Path) -> None:
    """For a network that reads drawings, with the reason in the note."""
    run = make_run(tmp_path / "drawn", "mnist")
    (tmp_path / "7.png").write_bytes(saved(Image.fromarray(seven())))
    (tmp_path / "blank.png").write_bytes(saved(Image.new("L", (40, 40), 255)))
    rows = rows_of(vitlab(f"predict {run} {tmp_path}/7.png {tmp_path}/blank.png --csv -").out)
    assert rows[0]["label"] == Classifier.load(run)(seven(), top=1)[0].name
    assert (rows[1]["sure"], rows[1]["note"]) == ("false", "no ink stands out from the paper")
