"""`vitlab study` and `vitlab compare` as a user calls them."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import Answer, finish, start, vitlab
from tests.studies import timeless
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab.files import read_json_lines, write_json

PATIENCE_SECONDS = 120.0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration that trains in a moment."""
    monkeypatch.chdir(tmp_path)
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), epochs=1, checkpoint_seconds=60.0)
    write_json(tmp_path / "tiny.json", config.to_dict())
    return tmp_path


VARY = "study --config tiny.json --vary depth=1,2 --seeds 2 --out out --workers 2"


def test_a_study_is_one_line_and_ends_in_a_table_and_a_picture(place: Path) -> None:
    answer = vitlab(VARY)
    assert answer.code == 0, answer.err
    for part in ("depth 1", "depth 2", "accuracy %", "95 % interval", "training s", "saved in out"):
        assert part in answer.out
    assert "4/4 ended" in answer.err
    table = json.loads((place / "out" / "table.json").read_text())
    assert [line["done"] for line in table["lines"]] == [2, 2]
    assert table["circumstances"]["beside"] == 2
    assert (place / "out" / "table.md").read_text().count("\n| depth") == 2
    assert (place / "out" / "table.csv").read_text().startswith("cell,params")
    assert (place / "out" / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (place / "out" / "picture.svg").read_text()
    runs = sorted((place / "runs" / "by-configuration").iterdir())
    assert len(runs) == 4
    before = [(run / "result.json").stat().st_mtime_ns for run in runs]
    again = vitlab(f"{VARY} --json --quiet")  # nothing is left to do
    assert json.loads(again.out)["lines"] == table["lines"]
    assert [(run / "result.json").stat().st_mtime_ns for run in runs] == before
    told = json.loads(vitlab("study --status out --json").out)
    assert told == {"study": "study", "runs": 4, "done": 4, "failed": 0, "left": []}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_json_lines(folder / "rows.jsonl") if (folder / "rows.jsonl").exists() else []


def test_a_driver_that_is_killed_repeats_nothing(place: Path) -> None:
    line = "study --config tiny.json --vary depth=1,2 --seeds 2 --out out --runs runs --quiet"
    with start(line) as process:
        until = time.monotonic() + PATIENCE_SECONDS
        while not rows_of(place / "out"):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    done = {
        row["run"]: (place / "runs" / row["run"] / "result.json").stat().st_mtime_ns for row in rows_of(place / "out")
    }
    assert 1 <= len(done) < 4
    answer = finish(start(line), PATIENCE_SECONDS)
    assert answer.code == 0, answer.err
    for run, written in done.items():
        assert (place / "runs" / run / "result.json").stat().st_mtime_ns == written
    whole = vitlab(line.replace("--out out --runs runs", "--out whole --runs others --workers 2"))
    assert whole.code == 0, whole.err
    assert len(rows_of(place / "out")) == 4
    assert timeless(rows_of(place / "out")) == timeless(rows_of(place / "whole"))


def test_ctrl_c_ends_a_study_that_goes_on_later(place: Path) -> None:
    line = "study --config tiny.json --vary depth=1,2 --seeds 2 --out out --epochs 100"
    process = start(line)
    until = time.monotonic() + PATIENCE_SECONDS
    while not any(place.glob("runs/by-configuration/*/checkpoints/*")) and not rows_of(place / "out"):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    answer = finish(process, PATIENCE_SECONDS)
    assert answer.code == 130
    assert "rerun the same command to continue (out)" in answer.error
    told = vitlab("study --status out").out
    assert "0 failed" in told
    assert "left    depth 2, seed 1" in told


def test_what_fails_is_a_row_with_its_reason(place: Path) -> None:
    answer = vitlab("study --config tiny.json --vary lr=0.001,1e6 --seeds 1 --out out --grad-clip none")
    assert answer.code == 0, answer.err
    good, bad = rows_of(place / "out")
    assert (good["status"], bad["status"], bad["attempts"]) == ("done", "diverged", 1)
    assert "1 diverged" in answer.out
    reason = "lr 1e+06, seed 0: diverged: the loss became infinite or NaN in step "
    assert f"failed  {reason}" in vitlab("study --status out").out
    assert reason in answer.err
    again = vitlab("study --config tiny.json --vary lr=0.001,1e6 --seeds 1 --out out --grad-clip none --retry-failed")
    assert "1 of 2 runs was done before" in again.err


def test_nothing_of_a_study_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    """Names and logs of a stranger's study, with escape sequences and marks that reverse what is read."""
    evil = "\x1b]0;PWNED\x07\x1b[2Jfine\u202e\n"
    config = tiny_config("mnist").to_dict()
    cells = [{"name": f"{one}{evil}", "varied": {}, "config": config} for one in "ab"]
    about = {"name": evil, "digest": "0" * 12, "seeds": [0], "begun_utc": "2026-01-01T00:00:00Z", "cells": cells}
    write_json(tmp_path / "study.json", about)
    row = {"cell": f"a{evil}", "varied": {}, "seed": 0, "run": "0" * 12, "status": "crashed", "log": [evil]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    answer = vitlab(f"study --status {tmp_path}")
    assert answer.code == 0, answer.err
    assert answer.out.count("\n") == 3
    assert all(line.isprintable() for line in answer.out.splitlines())
    assert answer.out.count(r"\x1b]0;PWNED\x07\x1b[2Jfine\u202e\n") == 4


@pytest.mark.parametrize("command", ["study --status out", "look out", "export tiny --to web --study out --out page"])
def test_damaged_rows_are_one_line_with_the_way_out(command: str, place: Path) -> None:
    assert vitlab("study --config tiny.json --vary depth=1 --seeds 1 --out out --quiet").code == 0
    (run,) = (place / "runs" / "by-configuration").iterdir()
    run.rename(place / "tiny")
    rows = place / "out" / "rows.jsonl"
    for text in ("{torn", rows.read_text().replace(f'"{run.name}"', '"../.."')):
        rows.write_text(text)
        answer = vitlab(command)
        assert answer.code == 8
        assert "rows.jsonl is damaged" in answer.error
        assert "run the study again with the same command: finished runs are kept" in answer.error


def test_search_prints_its_settings_by_validation_accuracy(place: Path) -> None:
    pytest.importorskip("optuna")
    answer = vitlab("study --config tiny.json --vary lr=1e-4..1e-1 --search 3 --out out --val-fraction 0.3 --quiet")
    assert answer.code == 0, answer.err
    assert "trial 0: lr 0.003" in answer.out
    table = json.loads((place / "out" / "table.json").read_text())
    assert table["accuracy_on"] == "validation"
    assert len(table["lines"]) == 3


def test_compare_prints_a_table_and_a_verdict(place: Path) -> None:
    knobs = f"--data {shlex.quote(str(place / 'glyphs.npz'))} --image-size 8 --batch-size 17 --epochs 1 --threads 1"
    line = f"compare small keras-cnn --seeds 2 --val-fraction 0.3 --patch-size 2 --cnn-channels 4 {knobs} --quiet"
    answer = vitlab(line)
    assert answer.code == 0, answer.err
    for part in ("small", "keras-cnn", "s to 98 %", "s to 99.5 %", "small against keras-cnn: faster in"):
        assert part in answer.out
    data = json.loads(vitlab(f"{line} --json").out)
    assert data["pairs"][0]["sentence"] in answer.out
    assert [contestant["cell"] for contestant in data["lines"]] == ["small", "keras-cnn"]
    assert data["pairs"][0]["pairs"] == 2
    folder = next((place / "runs" / "studies").iterdir())
    assert f"saved in {folder.relative_to(place)}: table.md" in answer.out
    assert vitlab(f"look {folder}").code == 0  # it is complete


MISTAKES: list[tuple[str, int, tuple[str, ...]]] = [
    ("study", 2, ("a study needs a name", "seed-projection", "--vary")),
    ("study seed-projecton", 2, ("no study 'seed-projecton'", "did you mean seed-projection?")),
    ("study seed-projection --vary depth=1,2", 2, ("leave out --vary",)),
    ("study --vary dept=1,2", 2, ("--vary dept=1,2: there is no knob 'dept' (did you mean depth?)",)),
    ("study --vary depth=", 2, ("axis depth has no values",)),
    ("study --vary patch_size=7,40", 2, ("cell patch_size 40", "larger than image_size 28")),
    ("study --vary depth=1,0", 2, ("cell depth 0", "depth must be at least 1")),
    ("study --vary depth=1,2 embed_dim=16,32,48 --zip", 2, ("depth has 2, embed_dim has 3",)),
    ("study --vary depth=1,2 --depth 3", 2, ("depth is varied and fixed",)),
    ("study --vary depth=1,2 --seed 3", 2, ("--seeds N instead of --seed",)),
    ("study --vary depth=1,2 --seeds 0", 2, ("--seeds", "from 1")),
    ("study --vary lr=1e-4..1e-2", 2, ("a range is for --search N",)),
    ("study --search 3", 2, ("--search needs --vary",)),
    ("study --vary lr=1e-4..1e-2 --search 3 --val-fraction 0", 2, ("needs validation images", "--val-fraction")),
    ("study --vary lr=1e-4..1e-2 --search 3 --lr 0.1", 2, ("lr is searched and fixed",)),
    ("study --vary lr=1e-4..1e-2 --search 3 --retry-failed", 2, ("leave out --retry-failed",)),
    ("study --vary preset=small,smal", 2, ("vitlab: there is no preset 'smal' (did you mean small?)",)),
    ("study --vary depth=1,2 --data nowhere", 3, ("nowhere",)),
    (
        "study --vary preset=fast,cnn-tuned --data untested.npz",
        2,
        ("untested.npz has no test images, and fast and cnn-tuned keep none for validation; add --val-fraction 0.1",),
    ),
    ("study --status nowhere", 8, ("there is no study nowhere",)),
    ("study --config tiny.json --vary depth=1,2 --out taken", 8, ("taken holds another study", "--out")),
    ("study --config tiny.json --vary depth=1,2 --executor ray --address 127.0.0.1:9", 2, ("no Ray cluster answers",)),
    ("study --vary depth=1,2 --storage shared", 2, ("--storage is for --executor ray",)),
    ("study --vary depth=1,2 --slurm time=60", 2, ("--slurm is for --executor slurm",)),
    ("study --config tiny.json --vary depth=1,2 --executor slurm --slurm gpu", 2, ("NAME=VALUE", "partition=gpu")),
    ("compare small", 2, ("two or more different presets",)),
    ("compare small small", 2, ("two or more different presets",)),
    ("compare small keras-cn", 2, ("keras-cn", "did you mean keras-cnn?")),
]


@pytest.mark.parametrize(("line", "code", "words"), MISTAKES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_mistake_is_one_line_before_anything_has_run(
    line: str, code: int, words: tuple[str, ...], place: Path
) -> None:
    (place / "taken").mkdir()
    images = glyphs(40)
    np.savez(place / "untested.npz", images=images.images, labels=images.labels)
    about = {"name": "x", "digest": "0", "seeds": [0], "cells": [], "begun_utc": "2026-01-01T00:00:00Z"}
    write_json(place / "taken" / "study.json", about)
    before = {path for path in place.rglob("*") if path.is_file()}
    answer: Answer = vitlab(line)
    assert answer.code == code, answer
    assert all(word in answer.error for word in words), answer.error
    assert {path for path in place.rglob("*") if path.is_file()} == before


def test_help_is_there_at_once_and_loads_no_torch() -> None:
    code = "import sys\nfrom vitlab.cli import main\ntry: main(['study', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'matplotlib', 'optuna', 'ray', 'scipy'} & set(sys.modules)"
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "seed-image-patch" in done.stdout
