"""Run folders and images on their way between machines, and the lines about them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from tests.tiny import write_npz
from vitlab import progress
from vitlab.data import CATALOGUE, load_dataset
from vitlab.studies.driver import Progress
from vitlab.studies.executors import shipping
from vitlab.studies.executors.follow import changes, epochs_done, follow, newest_checkpoint
from vitlab.studies.executors.shipping import is_here, pack, shipped, unpack
from vitlab.studies.unit import Whereabouts

OLD, NEW = (f"checkpoints/step-00000000{step}-{'ab' * 16}.safetensors" for step in (3, 7))


def write(folder: Path, **content: str) -> None:
    for name, text in content.items():
        path = folder / {"old": OLD, "new": NEW, "history": "history.jsonl"}.get(name, f"{name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_copy_follows_its_run(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write(there, config="c", old="o", history="1\n", result="interrupted")
    (there / ".lock").touch()
    (there / "stranger.txt").touch()
    changed, known = changes(there, {})
    assert sorted(changed) == sorted([OLD, "config.json", "history.jsonl", "result.json"])
    follow(here, changed, known)
    write(there, new="n", history="1\n2\n")
    os.replace(there / NEW, there / "x")  # as files.py does: another file of the same name
    os.replace(there / "x", there / NEW)
    (there / OLD).unlink()
    (there / "result.json").unlink()
    changed, known = changes(there, known)
    assert changed == {NEW: b"n", "history.jsonl": b"1\n2\n"}
    follow(here, changed, known)
    assert changes(here, {})[0] == {"config.json": b"c", "history.jsonl": b"1\n2\n", NEW: b"n"}
    assert (newest_checkpoint(here), epochs_done(here)) == (Path(NEW).name, 2)
    assert (newest_checkpoint(tmp_path), epochs_done(tmp_path)) == (None, 0)


def test_at_every_moment_there_is_a_checkpoint_and_no_result_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy stops after any number of writes, as if the machine were switched off."""
    for writes in range(3):
        here = tmp_path / str(writes)
        write(here, config="c", old="o", result="interrupted")
        left = [writes]

        def write_one(path: Path, data: bytes, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            path.write_bytes(data)

        with monkeypatch.context() as patch:
            patch.setattr("vitlab.files.write_bytes", write_one)
            with pytest.raises(KeyboardInterrupt):
                follow(here, dict.fromkeys([NEW, "config.json", "history.jsonl"], b"n"), [NEW, "config.json"])
        assert newest_checkpoint(here)
        assert not (here / "result.json").exists()


@pytest.mark.parametrize(
    "name", ["../up.json", "/tmp/vitlab-up", "checkpoints/../../config.json", "model.pkl", ".lock"]
)
def test_a_file_that_no_run_has_is_not_written(name: str, tmp_path: Path) -> None:
    follow(tmp_path / "run" / "folder", {name: b"x"}, [name])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shipping, "PIECE", 131)  # so that files come in several pieces
    return tmp_path / "cache"


def test_files_folders_and_the_catalogue_arrive_as_they_were(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(14):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 7), 17 * number, np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "empty.txt").touch()
    for data in (str(tmp_path / "photos"), str(write_npz(tmp_path / "glyphs.npz"))):
        digest, pieces = load_dataset(data).digest, list(pack(data))
        assert len(pieces) > 3
        assert shipped(data, digest) is None
        unpack(data, digest, pieces)
        place = shipped(data, digest)
        assert place is not None
        assert load_dataset(place).digest == digest
        assert load_dataset(place).card.name == load_dataset(data).card.name
        unpack(data, digest, iter(lambda: pytest.fail("sent twice"), None))
    assert not is_here(str(tmp_path / "nowhere"))
    assert is_here("digits")
    assert list(pack("digits")) == []  # it comes with scikit-learn
    monkeypatch.setattr(shipping, "files_of", lambda data: {"mnist.gz": tmp_path / "glyphs.npz"})
    unpack("mnist", "0" * 64, pack("mnist"))
    sent = shipped("mnist", "0" * 64)
    assert sent is not None
    assert (Path(sent) / "mnist.gz").read_bytes() == (tmp_path / "glyphs.npz").read_bytes()
    assert "mnist" in CATALOGUE


def test_damaged_images_are_replaced_and_names_stay_inside(cache: Path, tmp_path: Path) -> None:
    unpack("x.npz", "1" * 64, [[("x.npz", b"damaged")]])
    unpack("x.npz", "1" * 64, [[("x.npz", b"ri"), ("x.npz", b"ght"), ("../../out", b"evil")]], again=True)
    assert Path(shipped("x.npz", "1" * 64) or "").read_bytes() == b"right"
    assert not list(tmp_path.rglob("out"))


def test_tables_of_labels_are_not_sent(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\na.png,cat\n")
    assert list(pack(str(tmp_path / "labels.csv"))) == []


def test_of_two_that_bring_the_same_images_the_second_waits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FileLock(cache / "shipped" / ".lock")
    (cache / "shipped").mkdir(parents=True)
    waited = list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        lock.release()

    monkeypatch.setattr(time, "sleep", wait)
    lock.acquire()
    unpack("x.npz", "2" * 64, [[("x.npz", b"images")]])
    assert len(waited) == 1
    assert shipped("x.npz", "2" * 64)


def test_lines_say_what_runs_where_and_how_far(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, now = progress.Lines(), [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def told(**places: Whereabouts) -> list[str]:
        lines.show(Progress(2, running=list(places), where=places))
        return capsys.readouterr().err.splitlines()

    assert told(a=Whereabouts("", "a node"), b=Whereabouts("n1")) == ["2 runs", "b: on n1, 0 epochs done"]
    assert told(a=Whereabouts("n2"), b=Whereabouts("n1", epochs=1)) == ["a: on n2, 0 epochs done"]
    assert told(a=Whereabouts("", "a node", 3), b=Whereabouts("n1", epochs=2)) == []
    assert told(a=Whereabouts("n\x1b2", epochs=3)) == [r"a: on n\x1b2, 3 epochs done"]
    now[0] += progress.TOLD_SECONDS
    assert told(a=Whereabouts("", "Slurm", 5), b=Whereabouts("n1", epochs=1)) == [
        "b: on n1, 1 epoch done",
        "a: waits for Slurm",
        "b: on n1, 1 epoch done",
    ]
    live = progress.live_table(Progress(1, running=["a", "here"], where={"a": Whereabouts("n1", epochs=7)}))
    assert [str(cell) for cell in live.columns[1].cells] == ["a: on n1, 7 epochs done", "here"]
