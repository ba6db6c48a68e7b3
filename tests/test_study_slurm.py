"""Studies by Slurm: its commands are played by toy_slurm.py, or submitit starts the jobs as processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import toy_slurm
from tests.killing import trace
from tests.tiny import tiny_config, write_npz
from tests.waiting import wait_for
from vitlab.errors import ConfigError
from vitlab.files import read_json, sha256
from vitlab.runs.session import train_run
from vitlab.studies.driver import Driver, Progress
from vitlab.studies.executors import slurm
from vitlab.studies.executors.follow import newest_checkpoint
from vitlab.studies.executors.node import train_there
from vitlab.studies.executors.slurm import SlurmExecutor, parse_options
from vitlab.studies.grid import Study, make_cells
from vitlab.studies.unit import Unit

RESULTS = ("cell", "seed", "status", "test_top1", "val_top1", "params", "run", "attempts")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the toy's state; its commands are on PATH."""
    pytest.importorskip("submitit")
    made = toy_slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{made}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "slurm" / "state"


def test_an_array_outlives_its_study_and_a_preempted_run_continues(toy: Path, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "glyphs.npz")
    base = tiny_config(data, epochs=15)
    study = Study("small", make_cells(base, [{"depth": 1}, {"depth": 2}], {}), (0,))
    jobs, digest = study.order, sha256(data.read_bytes())
    (tmp_path / "study" / "logs").mkdir(parents=True)

    def executor() -> SlurmExecutor:
        return SlurmExecutor({"partition": "toy"}, 1, 0, 5, tmp_path / "study" / "logs" / "submitit")

    first = executor()
    for job in jobs:
        log = tmp_path / "study" / "logs" / f"{job.digest}.txt"
        first.begin(Unit(job.digest, job.config.to_dict(), tmp_path / "runs" / job.digest, log, digest))
    assert first.ended(0.0) == []  # submitted; then the study is killed
    folder = tmp_path / "runs" / jobs[1].digest
    wait_for(lambda: newest_checkpoint(folder))
    subprocess.run(["scancel", "17_1", "--signal", "USR2"], check=True)
    seen = set[str]()

    def show(progress: Progress) -> None:
        seen.update(place.node for place in progress.where.values())

    rows, complete = Driver(study, tmp_path / "study", tmp_path / "runs", executor(), show=show).run()
    assert complete
    (call,) = (toy / "calls").read_text().splitlines()
    for option in ("--array=0-1%2", "--partition=toy", "--cpus-per-task=1", "--requeue", "--signal=USR2@90"):
        assert f"#SBATCH {option}\\n" in call
    assert "wckey" not in call
    assert len(read_json(folder / "environment.json")["resumed"]) == 1
    for job, row in zip(jobs, rows, strict=True):
        train_run(job.config.with_knobs(checkpoint_seconds=60.0), tmp_path / "here" / job.digest)
        assert trace(tmp_path / "runs" / job.digest) == trace(tmp_path / "here" / job.digest)
        assert (row["status"], row["attempts"]) == ("done", 1)
    assert len(seen - {""}) == 1


def test_a_study_that_is_stopped_saves_its_runs_and_leaves_the_queue(toy: Path, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "glyphs.npz")
    config = tiny_config(data, epochs=100_000)
    executor = SlurmExecutor({}, 1, 0, 1, tmp_path / "submitit")
    executor.begin(Unit("run", config.to_dict(), tmp_path / "run", tmp_path / "run.txt"))
    assert executor.ended(0.0) == []
    wait_for(lambda: newest_checkpoint(tmp_path / "run"))
    assert executor.where()["run"].node
    executor.stop()
    assert read_json(tmp_path / "run" / "result.json")["status"] == "interrupted"
    assert (toy / "17.state").read_text().startswith("CANCELLED")


def test_what_slurm_or_a_node_refuses_is_one_line(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = SlurmExecutor({}, 1, 0, 1, tmp_path / "submitit")
    unit = Unit("run", tiny_config("digits").to_dict(), tmp_path / "run", tmp_path / "run.txt")
    there = train_there(unit.config, "", "", 1, None, {"vitlab": "0.0.7", "torch": "1.2"})
    assert "torch 1.2: install the same versions on all nodes" in there["refused"]

    class Job:
        paths = type("Paths", (), {"result_pickle": tmp_path})

        def result(self) -> Any:
            return there

    with pytest.raises(ConfigError, match=r"but this machine has vitlab 0\.0\.7 and torch 1\.2"):
        executor.ending(slurm.Queued(unit, Job()))
    (toy.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: toy' >&2\nexit 1\n")
    executor.begin(unit)
    with pytest.raises(ConfigError, match=r"Slurm refuses the jobs \(.*invalid partition.*\); check .*slurm"):
        executor.ended(0.0)
    monkeypatch.setenv("PATH", os.defpath)
    with pytest.raises(ConfigError, match="needs Slurm's commands"):
        SlurmExecutor({}, 1, 0, 1, tmp_path / "submitit")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("gpu", "as NAME=VALUE"),
        ("mem=", "as NAME=VALUE"),
        ("mem=4G\n#SBATCH --uid=0", "as NAME=VALUE"),
        ("array=0-9", "vitlab's own affair"),
        ("cpus-per-task=4", "it is set by .*threads"),
        ("time=4:00:00", "in minutes"),
        ("cluster=other", "cluster=local"),
    ],
)
def test_a_wrong_option_is_one_line(word: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_options([word])
    assert parse_options(["time=240", "mail-type=END"]) == {"time": "240", "mail-type": "END"}
