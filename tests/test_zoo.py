"""The networks that come with vitlab: they open, are whole, are as accurate as they claim, and have names that work."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import vitlab
from benchmarks.drawn_digits import PENS, draw
from docs import make_zoo
from tests.command import vitlab as command
from vitlab.cli import serve
from vitlab.errors import DataError, RunError
from vitlab.runs import zoo
from vitlab.runs.check import check_run
from vitlab.training.evaluate import wilson_interval

ROOT = Path(__file__).parents[1]
NAMES = ("mnist", "cifar", "fashion", "mnist-fast")
SOME = 1000  # test images
DATA_SETS = {"mnist": "mnist", "cifar": "cifar10", "mnist-fast": "mnist", "fashion": "fashion-mnist"}
AT_LEAST = {"mnist": 0.99, "cifar": 0.87, "fashion": 0.92, "mnist-fast": 0.99}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the picture of a drawn seven."""
    monkeypatch.chdir(tmp_path)
    PIL.Image.fromarray(draw(7, PENS[1])).save("seven.png")
    return tmp_path


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What every file of the package's networks is, before and after; and nothing may appear next to them."""
    before = listing()
    yield
    assert listing() == before


def listing() -> dict[str, tuple[int, int]]:
    """Size and time of every file below the folder of the networks."""
    paths = sorted(path for path in zoo.ZOO.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def test_there_are_these_networks() -> None:
    assert tuple(zoo.names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_whole_small_and_says_nothing_about_where_it_was_made(name: str) -> None:
    folder = zoo.ZOO / name
    assert {path.name for path in folder.iterdir()} - {"epochs"} == {*zoo.FILES, "README.md"}
    assert [one for one in check_run(folder) if one.state != "ok"] == []
    assert 100_000 < sum(path.stat().st_size for path in folder.rglob("*")) < 4_500_000
    text = "".join((folder / file).read_text() for file in [*zoo.FILES[:5], "README.md"])
    assert not any(word in text for word in ("/home", "/tmp", "/work", "/root", os.uname().nodename))
    commit = json.loads((folder / "environment.json").read_text())["git_commit"]
    assert len(commit) == 12, "made from a checkout with uncommitted changes"
    assert commit.isalnum()


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_as_accurate_as_it_claims(name: str) -> None:
    try:
        test = vitlab.load_dataset(place_of(DATA_SETS[name])).test
    except DataError as error:
        pytest.skip(str(error))
    assert test is not None
    answers = vitlab.load(name).predict(test.images[:SOME])
    right = float((answers.indices == test.labels[:SOME]).mean())
    low, high = wilson_interval(right, SOME)
    stated = vitlab.load(name).result.test_top1
    assert stated is not None
    assert low <= stated <= high
    assert stated > AT_LEAST[name]


def place_of(data: str) -> str:
    """The data set's name, or the file that holds CIFAR-10 where the tests' data lie."""
    file = Path(os.environ.get("VITLAB_DATA", "")) / "cifar-10" / "cifar10.npz"
    return str(file) if data == "cifar10" and file.exists() else data


@pytest.mark.parametrize("name", ["mnist", "mnist-fast"])
def test_digits_that_are_drawn_are_read(name: str) -> None:
    truth = [digit for digit in range(10) for _ in PENS]
    answers = vitlab.load(name).predict([draw(digit, pen) for digit in range(10) for pen in PENS])
    assert (answers.indices == np.array(truth)).sum() >= 28
    assert answers.unlike is not None
    assert answers.unlike.sum() <= 3


def test_commands_take_a_name_and_write_nothing_into_the_package(work: Path, sealed: None) -> None:
    line = command("predict mnist seven.png")
    assert line.code == 0
    assert line.out.startswith("seven.png  7  ")
    assert "unlike" not in line.out
    shown = command("show mnist").out
    assert shown.startswith("mnist: done")
    assert "vitlab look mnist" in shown
    checked = command("check mnist")
    assert checked.code == 0
    assert "`vitlab data check mnist` checks the data set" in checked.err
    listed = command("zoo").out
    assert all(f"\n{name} " in listed for name in NAMES)
    assert [row["name"] for row in json.loads(command("zoo --json").out)] == list(NAMES)
    assert command("export mnist-fast --to torch").code == 0
    assert {path.name for path in work.iterdir()} == {"seven.png", "mnist-fast.pt2"}


def test_python_takes_a_name() -> None:
    run = vitlab.load("mnist")
    assert repr(run).startswith("<Run mnist: small on mnist")
    assert vitlab.load_model("mnist")[2] == tuple("0123456789")
    assert vitlab.Classifier.load("mnist").name == "mnist"


def test_without_a_run_of_your_own_the_page_shows_one_of_these(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.newest_run() == zoo.ZOO / "mnist"
    said = capsys.readouterr().err
    assert "no trained network in runs yet" in said
    assert "vitlab train" in said
    own = shutil.copytree(zoo.ZOO / "mnist-fast", work / "runs" / "mine")
    assert serve.newest_run().absolute() == own


def test_your_own_run_of_that_name_wins_and_a_line_says_so(work: Path) -> None:
    shutil.copytree(zoo.ZOO / "mnist-fast", work / "runs" / "mnist")
    said: list[str] = []
    assert zoo.place("mnist", said.append) == Path("runs/mnist")
    shutil.copytree(zoo.ZOO / "mnist-fast", work / "mnist")
    assert zoo.place("mnist", said.append) == Path("mnist")
    answer = command("show mnist")
    assert "preset    fast" in answer.out
    assert "using your own run mnist, not the network mnist that comes with vitlab" in answer.err
    assert len(said) == 2
    assert zoo.place("mnist/", said.append) == Path("mnist")
    assert zoo.place("./fashion") == zoo.ZOO / "fashion"


def test_a_folder_of_that_name_that_is_no_run_hides_nothing(work: Path) -> None:
    (work / "mnist").mkdir()
    (work / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"data")
    answer = command("predict mnist seven.png")
    assert answer.out.startswith("seven.png  7")
    assert "is no run folder" in answer.err


def test_the_name_of_a_run_in_runs_is_enough(work: Path) -> None:
    shutil.copytree(zoo.ZOO / "mnist-fast", work / "runs" / "mine")
    assert command("predict mine seven.png").out.startswith("seven.png  7")


def test_an_unknown_name_suggests_a_known_one(work: Path) -> None:
    answer = command("predict minst seven.png")
    assert answer.code == RunError.exit_code
    assert "did you mean mnist?" in answer.error
    assert all("did you mean mnist?" in command(f"show {name}").error for name in ("minst", "runs/minst"))
    assert zoo.place("fashion-mnist") == Path("fashion-mnist")  # a data set, for `vitlab check`
    assert "there is no run something-else" in command("predict something-else seven.png").error
    assert "vitlab zoo" in command("pretrained").error


@pytest.mark.parametrize("file", zoo.FILES)
def test_a_damaged_network_is_refused_in_one_line(file: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(zoo.ZOO, work / "zoo")
    monkeypatch.setattr(zoo, "ZOO", work / "zoo")
    damaged = work / "zoo" / "mnist-fast" / file
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    opened = file not in ("environment.json", "history.jsonl")  # a prediction needs neither
    answer = command("predict mnist-fast seven.png") if opened else command("check mnist-fast")
    assert answer.code == RunError.exit_code
    assert "install vitlab again" in (answer.error if opened else answer.out)
    assert "--resume" not in answer.error


def test_what_must_be_written_goes_into_a_copy(work: Path, sealed: None) -> None:
    said: list[str] = []
    copy = zoo.writable(zoo.ZOO / "mnist-fast", said.append)
    assert copy == Path("runs/zoo/mnist-fast")
    assert len(said) == 1
    assert [one for one in check_run(copy) if one.state != "ok"] == []
    assert zoo.writable(zoo.ZOO / "mnist-fast") == copy
    assert vitlab.load("mnist-fast").resume(progress=False).path == copy
    shutil.rmtree(copy)
    shutil.copytree(zoo.ZOO / "mnist", copy)
    with pytest.raises(RunError, match="holds another run than the network mnist-fast; delete or rename"):
        zoo.writable(zoo.ZOO / "mnist-fast")
    assert zoo.writable(work) == work


def test_the_epochs_that_a_network_kept_are_copied_with_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(zoo.ZOO, work / "zoo")
    monkeypatch.setattr(zoo, "ZOO", work / "zoo")
    kept = Path("epochs", "epoch-000003.safetensors")
    (work / "zoo" / "mnist" / kept).parent.mkdir(exist_ok=True)
    (work / "zoo" / "mnist" / kept).write_bytes(b"weights")
    assert (zoo.writable(work / "zoo" / "mnist") / kept).read_bytes() == b"weights"


def test_the_cards_are_up_to_date() -> None:
    """If not: python -m docs.make_zoo."""
    assert make_zoo.PAGE.read_text() == make_zoo.page()
    for name in NAMES:
        text = (zoo.ZOO / name / "README.md").read_text()
        assert text == make_zoo.card(name)
        digest = vitlab.load(name).result.model_sha256
        assert digest is not None
        assert digest in text
