"""`vitlab predict` as a user types it."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.command import vitlab
from tests.image_zoo import saved, seven, zoo
from tests.made_runs import make_run
from vitlab import Classifier
from vitlab.cli import predict
from vitlab.data.paths import natural
from vitlab.predict import Answer, classifier

WHITE = saved(Image.fromarray(seven()))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on drawings; its answers are random, but always the same."""
    return make_run(tmp_path_factory.mktemp("runs") / "drawn", "mnist")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_line_for_each_image(run: Path, here: Path) -> None:
    (here / "a.png").write_bytes(WHITE)
    (here / "long-name.jpg").write_bytes(saved(Image.fromarray(255 - seven()), "JPEG", quality=95))
    answer = vitlab(f"predict {run} a.png long-name.jpg")
    assert (answer.code, answer.err) == (0, "")
    line = re.compile(r"(\S+) +(\d)  ([\d.]+) %   then (\d) [\d.]+ %, (\d) [\d.]+ %(   not sure)?")
    first, second = (line.fullmatch(text) for text in answer.out.splitlines())
    assert first is not None
    assert second is not None
    assert (first[1], second[1]) == ("a.png", "long-name.jpg")
    best = Classifier.load(run)(seven(), top=3)
    assert [first[2], first[4], first[5]] == [label.name for label in best]
    assert float(first[3]) == pytest.approx(100 * best[0].probability, abs=0.06)


def test_json_is_a_line_for_each_image(run: Path, here: Path) -> None:
    (here / "a.png").write_bytes(WHITE)
    (here / "b.png").write_bytes(WHITE)
    answer = vitlab(f"predict {run} a.png nothing.png b.png --json --top 10")
    first, missing, last = map(json.loads, answer.out.splitlines())
    drawn = Classifier.load(run)
    best = drawn(seven(), top=10)
    assert first["image"] == "a.png"
    assert first["label"] == best[0].name
    assert [(one["label"], one["index"]) for one in first["labels"]] == [(one.name, one.index) for one in best]
    assert sum(one["probability"] for one in first["labels"]) == pytest.approx(1)
    assert first["model_sha256"] == drawn.digest
    assert last == first | {"image": "b.png"}
    assert missing.keys() == {"image", "error"}
    assert "nothing.png" in missing["error"]
    assert answer.code == 3


def test_bad_images_are_reported_and_the_others_classified(run: Path, here: Path) -> None:
    """The whole zoo in a folder: a line on standard output for each that can be read, on standard error for others."""
    for case in zoo():
        (here / case.name).write_bytes(case.data)
    endings = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tiff")
    here_too = sorted((case.name for case in zoo() if case.name.endswith(endings)), key=natural)
    assert all(case.name in here_too for case in zoo() if case.data.startswith((b"\x89PNG", b"\xff\xd8\xff")) and
               case.name != "no-ending")  # fmt: skip
    here_too.insert(sum(natural(name) < natural("no-ending") for name in here_too), "no-ending")
    answer = vitlab(f"predict {run} .")
    assert answer.code == 3
    expected = {case.name: case.own_status for case in zoo()} | {"2000x2001.png": 200}  # one's own file may be larger
    skipped, *reported = answer.err.splitlines()
    assert skipped.startswith("skipped in ., because vitlab cannot read them as images: drawing.svg, ")
    assert all(line.startswith("vitlab: ") for line in reported)
    assert "Traceback" not in answer.err
    assert [line.split()[1] for line in reported] == [name for name in here_too if expected[name] != 200]
    assert [line.split()[0] for line in answer.out.splitlines()] == [name for name in here_too if expected[name] == 200]
    sevens = [case.name for case in zoo() if case.shows == "seven" and case.loss == 0]
    answers = {line.split()[0]: line.split()[1:3] for line in answer.out.splitlines()}
    assert len({tuple(answers[name]) for name in sevens if name in answers}) == 1, "the same seven, the same answer"
    assert "not sure: no ink stands out from the paper" in next(
        line for line in answer.out.splitlines() if line.startswith("blank-white.png")
    )


def test_a_folder_is_read_in_order_and_without_what_is_no_picture(run: Path, here: Path) -> None:
    """As image folders are: by content, or by a name that claims it; what systems leave behind is not mentioned."""
    pictures = ("10.png", "9.PNG", "a.jpeg", "b/deep/er/2.jfif", "b/deep/er/10.jfif", "no-ending", "really.txt")
    for name in (*pictures, ".hidden.png", "b/._2.jfif", "@eaDir/1.png"):
        (here / "in" / name).parent.mkdir(exist_ok=True, parents=True)
        (here / "in" / name).write_bytes(WHITE)
    (here / "in" / "notes.txt").write_text("notes")
    (here / "in" / "Thumbs.db").write_text("x")
    (here / "in" / "folder.png").mkdir()
    (here / "in" / "b" / "up").symlink_to("..")
    os.mkfifo(here / "in" / "pipe.png")
    answer = vitlab(f"predict {run} in")
    assert [line.split()[0] for line in answer.out.splitlines()] == [
        f"in/{name}"
        for name in ("9.PNG", "10.png", "a.jpeg", "b/deep/er/2.jfif", "b/deep/er/10.jfif", "no-ending", "really.txt")
    ]
    skipped = "in/b/up, in/notes.txt and in/pipe.png"
    assert (answer.code, answer.err) == (0, f"skipped in in, because vitlab cannot read them as images: {skipped}\n")
    (here / "empty").mkdir()
    answer = vitlab(f"predict {run} empty")
    assert answer.error == "vitlab: empty is a folder without an image that can be read; name another one"
    assert answer.code == 3


def test_standard_input(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(WHITE)))
    answer = vitlab(f"predict {run} - --top 1")
    assert re.fullmatch(r"standard input  \d  [\d.]+ %(   not sure)?\n", answer.out)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    answer = vitlab(f"predict {run} -")
    assert (answer.code, answer.error) == (3, "vitlab: standard input is empty; choose a PNG or JPEG image")
    assert vitlab(f"predict {run} - -").error.startswith("vitlab: standard input (-) can be read only once")


def test_many_pictures_take_few_passes(run: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven pictures of which one is bad, three at a time: two of the first three, then three, then one."""
    for number in range(7):
        (here / f"{number}.png").write_bytes(WHITE if number != 1 else b"")
    batches: list[int] = []
    network = Classifier.outputs_of

    def counted(self: Classifier, images: list[torch.Tensor]) -> Any:
        batches.append(len(images))
        return network(self, images)

    monkeypatch.setattr(Classifier, "outputs_of", counted)
    monkeypatch.setattr(classifier, "TOGETHER", 3)
    answer = vitlab(f"predict {run} .")
    assert batches == [2, 3, 1]
    assert [line.split()[0] for line in answer.out.splitlines()] == [f"{number}.png" for number in (0, 2, 3, 4, 5, 6)]


def test_without_centring_the_answer_is_that_of_the_squeezed_image(run: Path, here: Path) -> None:
    (here / "a.png").write_bytes(WHITE)
    rows = [json.loads(vitlab(f"predict {run} a.png --json {flag}").out) for flag in ("", "--no-center")]
    drawn = Classifier.load(run)
    for row, center in zip(rows, (True, False), strict=True):
        assert row["labels"][0]["probability"] == pytest.approx(drawn(seven(), center)[0].probability)
    assert rows[0]["labels"] != rows[1]["labels"]


def test_a_name_of_many_lines_is_one_line(run: Path, here: Path) -> None:
    for name, data in (("a\nb.png", WHITE), ("c\nd.png", b"")):
        (here / name).write_bytes(data)
    answer = vitlab(f"predict {run} .")
    assert answer.out.startswith(r"'a\nb.png'  ")
    assert len(answer.out.splitlines()) == 1
    assert answer.error == r"vitlab: 'c\nd.png' is empty; choose a PNG or JPEG image"


def test_an_unsure_answer_says_so() -> None:
    def line(probability: float, reason: str | None = None) -> str:
        return predict.as_line("x", Answer(("7", "1"), np.array([probability, 1 - probability]), reason), top=1)

    assert line(0.5) == "x  7  50.0 %"
    spread = np.array([0.499, 0.2505, 0.2505])
    assert predict.as_line("x", Answer(("7", "1", "2"), spread), top=1) == "x  7  49.9 %   not sure"
    assert line(0.9, "the ink is only a speck") == "x  7  90.0 %   not sure: the ink is only a speck"


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("predict", 2, "RUN, IMAGE"),
        ("predict {run}", 2, "IMAGE"),
        ("predict {run} a.png --top 0", 2, "--top"),
        ("predict {run} a.png --topp 3", 2, "did you mean --top"),
        ("predict nowhere a.png", 8, "there is no run nowhere"),
        ("predict {run} nowhere", 3, "no file 'nowhere'"),
    ],
)
def test_mistakes_are_one_line(run: Path, here: Path, line: str, code: int, words: str) -> None:
    answer = vitlab(line.format(run=run))
    assert answer.code == code
    assert words in answer.error
    assert answer.out == ""
