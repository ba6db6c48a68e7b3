"""Ctrl-C and SIGTERM lose nothing: the run ends within a step, says how to go on, and goes on bit for bit."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import finish, lay_out, snapshot, start, vitlab

TRAIN = "train --config tiny.json --out run --epochs 20 --checkpoint-seconds 0.1 --json"
STARTED_WITHIN, ENDED_WITHIN = 60.0, 10.0  # seconds


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data and a configuration."""
    monkeypatch.chdir(lay_out(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of the same training without a signal."""
    folder = lay_out(tmp_path_factory.mktemp("unbroken"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return json.loads(vitlab(TRAIN + " --quiet").out)


def wait_until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Return when it has happened; the process must be alive until then."""
    deadline = time.monotonic() + STARTED_WITHIN
    while not happened():
        assert process.poll() is None, f"it ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def result() -> Any:
    """result.json of the run."""
    return json.loads(Path("run/result.json").read_text())


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_and_resume_finishes_it(stage: Path, unbroken: Any, signum: int, code: int) -> None:
    process = start(TRAIN)
    wait_until(lambda: list(Path("run").glob("checkpoints/step-*")), process)
    process.send_signal(signum)
    answer = finish(process, ENDED_WITHIN)
    assert answer.code == code
    assert "interrupted after step" in answer.error
    assert answer.error.endswith("`vitlab train --resume run`")
    assert json.loads(answer.out) == result()
    assert (result()["status"], result()["model_sha256"]) == ("interrupted", None)
    assert 0 < result()["steps"] < unbroken["steps"]
    assert [path for path in snapshot(stage) if path.endswith(".tmp")] == []
    done = result()["epochs_done"]
    resumed = vitlab("train --resume run")
    assert resumed.code == 0
    assert re.findall(r"^epoch +(\d+)/20 ", resumed.err, flags=re.MULTILINE)[0] == str(done + 1)
    keys = ("status", "steps", "model_sha256", "test_top1", "best_epoch")
    assert [result()[key] for key in keys] == [unbroken[key] for key in keys]


def test_ctrl_c_while_data_is_loading_writes_nothing(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(stage)
    monkeypatch.setattr("vitlab.runs.prepare.load_dataset", interrupted)
    answer = vitlab(TRAIN)
    assert (answer.code, answer.out, answer.error) == (130, "", "vitlab: interrupted")
    assert snapshot(stage) == before


def test_ctrl_c_between_the_first_files_can_be_tried_again(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vitlab.runs.session.environment", interrupted)
        assert vitlab(TRAIN).code == 130
    assert vitlab(TRAIN + " --epochs 1 --quiet").code == 0


def test_ctrl_c_that_a_library_turns_into_another_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(words: list[str]) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RecursionError from None
        return 0

    monkeypatch.setattr(sys.modules["vitlab.cli.main"], "dispatch", load)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
    answer = vitlab("presets")
    signal.signal(signal.SIGINT, before)
    assert (answer.code, answer.error) == (130, "vitlab: interrupted")
    monkeypatch.setattr(sys.modules["vitlab.cli.main"], "dispatch", lambda words: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        vitlab("presets")


def interrupted(*arguments: object, **options: object) -> None:
    """As if Ctrl-C had been pressed here."""
    raise KeyboardInterrupt


def test_signals_act_as_before_once_the_run_is_over(stage: Path) -> None:
    handlers = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    assert vitlab("train --config tiny.json --out run --epochs 1").code == 0
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == handlers
