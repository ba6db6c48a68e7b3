"""Units as processes: how they end, what they leave, and that none survives its driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.killing import trace
from tests.tiny import tiny_config, write_npz
from tests.waiting import PATIENCE_SECONDS, wait_for
from vitlab import RunConfig, RunFolder, train_run
from vitlab.files import sha256
from vitlab.studies.executors.local import LocalExecutor
from vitlab.studies.unit import Ending, Unit, share, tail


def unit(path: Path, name: str, config: RunConfig) -> Unit:
    return Unit(name, config.to_dict(), path / name, path / f"{name}.log")


def all_ended(executor: LocalExecutor, count: int) -> dict[str, int]:
    """The exit codes of the next ``count`` endings."""
    endings: list[Ending] = []
    until = time.monotonic() + PATIENCE_SECONDS
    while len(endings) < count and time.monotonic() < until:
        endings += executor.ended(1.0)
    return {ending.unit.name: ending.code for ending in endings}


def trained(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("step-*.safetensors"))


def test_a_unit_takes_no_module_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be a shared one, such as /tmp. The unit ends by itself, because its configuration is wrong."""
    monkeypatch.chdir(tmp_path)
    for name in ("vitlab.py", "json.py"):
        Path(name).write_text("open('marker', 'w')\nraise SystemExit(77)\n")
    executor = LocalExecutor(slots=1, cores=1)
    wrong = {"machine": {"threads": 1}, "no such section": {}}
    executor.begin(Unit("wrong", wrong, tmp_path / "wrong", tmp_path / "wrong.log"))
    assert all_ended(executor, 1) == {"wrong": 2}
    assert not Path("marker").exists()


def test_units_end_as_train_would_and_leave_run_folders(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), epochs=1)
    units = [
        unit(tmp_path, "good", config),
        unit(tmp_path, "nodata", config.with_knobs(data=str(tmp_path / "missing.npz"))),
        unit(tmp_path, "diverges", config.with_knobs(lr=1e6, grad_clip=None, schedule="constant", weight_decay=0.5)),
    ]
    executor = LocalExecutor(slots=3, cores=3)
    for one in units:
        executor.begin(one)
    assert all_ended(executor, 3) == {"good": 0, "nodata": 3, "diverges": 4}
    assert RunFolder(tmp_path / "good").config() == config
    assert trace(tmp_path / "good").model_sha256
    assert "missing.npz" in tail(units[1].log)[-1]
    assert not (tmp_path / "nodata").exists()
    executor.begin(units[0])  # once more: it is done, and stays as it is
    before = (tmp_path / "good" / "model.safetensors").stat().st_mtime_ns
    assert all_ended(executor, 1) == {"good": 0}
    assert (tmp_path / "good" / "model.safetensors").stat().st_mtime_ns == before


def test_stopped_units_save_and_continue_bit_for_bit(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), epochs=60)
    executor, one = LocalExecutor(slots=1, cores=1), unit(tmp_path, "run", config)
    executor.begin(one)
    wait_for(lambda: trained(one.folder))
    executor.stop()
    assert RunFolder(one.folder).result()["status"] == "interrupted"  # type: ignore[index]
    assert executor.ended(0.0) == []
    executor.begin(one)
    assert all_ended(executor, 1) == {"run": 0}
    train_run(config, tmp_path / "whole")
    assert trace(one.folder) == trace(tmp_path / "whole")


DRIVER = """
import json, sys, time
from pathlib import Path
from vitlab.studies.executors.local import LocalExecutor
from vitlab.studies.unit import Unit
folder = Path(sys.argv[1])
executor = LocalExecutor(1, 1)
executor.begin(Unit("run", json.loads((folder / "config.json").read_text()), folder / "run", folder / "log"))
print(executor.running[0][1].pid, flush=True)
time.sleep(600)
"""


def test_a_unit_does_not_survive_its_driver(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), epochs=100_000)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    words = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        wait_for(lambda: trained(tmp_path / "run"))
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(child))
    assert RunFolder(tmp_path / "run").result()["status"] == "interrupted"  # type: ignore[index]


def alive(pid: int) -> bool:
    """Whether the process still runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("slots", "cores", "threads"), [(1, 4, 4), (2, 4, 2), (3, 4, 1), (8, 4, 1)])
def test_the_cores_are_shared_out(slots: int, cores: int, threads: int) -> None:
    executor = LocalExecutor(slots, cores)
    assert executor.threads == threads
    asked = RunConfig().to_dict()
    assert share(asked, executor.threads)["machine"]["threads"] == threads
    assert asked["machine"]["threads"] is None
    assert share(RunConfig().with_knobs(threads=7).to_dict(), threads)["machine"]["threads"] == 7


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == []
    log.write_bytes(b"one\n\n  \ntwo\nthree\xff\n")
    assert tail(log, 2) == ["two", "three\ufffd"]


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), epochs=1)
    train_run(config, tmp_path / "run")
    executor, other = LocalExecutor(1, 1), unit(tmp_path, "run", config.with_knobs(depth=1))
    executor.begin(other)
    assert all_ended(executor, 1) == {"run": 8}
    assert "holds another run" in tail(other.log)[-1]
    assert os.path.exists(tmp_path / "run" / "model.safetensors")


def test_a_run_is_trained_on_the_images_that_the_study_means(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "glyphs.npz")
    config, executor = tiny_config(data, epochs=1), LocalExecutor(2, 2)
    right, wrong = sha256(data.read_bytes()), "0" * 64
    for name, digest in (("right", right), ("wrong", wrong)):
        executor.begin(replace(unit(tmp_path, name, config), data_sha256=digest))
    assert all_ended(executor, 2) == {"right": 0, "wrong": 3}
    assert "glyphs.npz has changed since the study began" in tail(tmp_path / "wrong.log")[-1]
    assert not (tmp_path / "wrong").exists()
    executor.begin(replace(unit(tmp_path, "right", config), data_sha256=wrong))  # the folder is taken
    assert all_ended(executor, 1) == {"right": 3}


def test_a_run_with_data_on_a_relative_path_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own configuration names an absolute path, and the study's a relative one."""
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "glyphs.npz")
    config = tiny_config("glyphs.npz", epochs=40)
    executor, one = LocalExecutor(1, 1), unit(tmp_path, "run", config)
    executor.begin(one)
    wait_for(lambda: trained(one.folder))
    executor.stop()
    executor.begin(one)
    assert all_ended(executor, 1) == {"run": 0}, tail(one.log)
