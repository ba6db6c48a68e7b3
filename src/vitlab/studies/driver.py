"""A study from its cells to its rows: which runs are still missing, in which order they run, and how each ended.

The driver is the only writer of the study folder:

    study.json     cells, seeds, configurations: what makes it this study
    rows.jsonl     one row for each cell and seed whose run has ended, successful or not
    logs/          the output of each run

Each run is an ordinary run folder named by the digest of its configuration, so no finished run is ever repeated, and
studies share the runs that they have in common. The driver does not know where runs are computed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vitlab import files
from vitlab.errors import ConfigError, DataError, DivergedError, OutOfMemoryError, RunError, RunInUseError, StorageError
from vitlab.runs.folder import RunFolder
from vitlab.runs.result import METRICS
from vitlab.runs.session import utc_now
from vitlab.studies.grid import Job, Study
from vitlab.studies.unit import Ending, Unit, tail

Row = dict[str, Any]

MOST_ATTEMPTS = 3
WAIT_SECONDS = 0.5  # between two looks at what is running
# What a row takes over from the run's result.json.
RESULTS = (
    *("test_images", "val_top1", "val_images", "train_seconds", "wall_seconds", "images_per_second"),
    *("params", "params_by_part", "flops_per_image", "epochs", "train_images", "device", "threads", "precision"),
    *(f"test_{name}" for name in METRICS),
)
# Exit codes of runs that would end the same way again.
FINAL = (0, *(error.exit_code for error in (ConfigError, DataError, DivergedError, RunError)))
STATUS = {
    DivergedError.exit_code: "diverged",
    OutOfMemoryError.exit_code: "out of memory",
    StorageError.exit_code: "disk",
}


class Executor(Protocol):
    """Computes up to ``slots`` units at a time. When it reports that one has ended, its run folder is on this disk."""

    slots: int

    def begin(self, unit: Unit) -> None:
        """Start a unit; call only while fewer than ``slots`` are running."""

    def ended(self, seconds: float) -> list[Ending]:
        """The units that have ended since the last call; waits at most ``seconds`` for the first."""

    def stop(self) -> None:
        """Make all running units save their state and end, and wait for them."""


@dataclass
class Progress:
    """How far a study is."""

    total: int
    rows: list[Row] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of each run that this driver has finished
    slots: int = 1

    @property
    def failed(self) -> int:
        """Rows that are not done."""
        return sum(row["status"] != "done" for row in self.rows)

    @property
    def seconds_left(self) -> float | None:
        """Time until the end, from the mean of the runs so far; None before the first has ended."""
        if not self.seconds:
            return None
        return (self.total - len(self.rows)) * sum(self.seconds) / len(self.seconds) / self.slots


@dataclass
class Running:
    """A run in progress, the jobs that wait for it, and when it began."""

    jobs: list[Job]
    began: float


@dataclass(frozen=True)
class Driver:
    """One study in its folder, and the folder of the runs. ``note`` receives messages, ``show`` the progress."""

    study: Study
    folder: Path
    runs: Path
    executor: Executor
    note: Callable[[str], None] = lambda line: None
    show: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False

    def run(self, retry_failed: bool = False) -> tuple[list[Row], bool]:
        """Run what is missing. All rows in the study's order, and whether the study is complete.

        It is not if ``should_stop`` ended it; runs may then still be going: stop the executor.
        """
        prepare_folder(self.study, self.folder)
        status = f"`vitlab study --status {self.folder}` shows how far it is"
        with files.locked(self.folder, f"{self.folder} is in use by another vitlab study; {status}"):
            write_study(self.study, self.folder)
            stored = {f"{row['cell']}, seed {row['seed']}": row for row in read_rows(self.folder)}
            rows = {job: self.known_row(job, stored.get(job.name), retry_failed) for job in self.study.order}
            progress = Progress(len(rows), [row for row in rows.values() if row], slots=self.executor.slots)
            files.write_json_lines(self.folder / "rows.jsonl", progress.rows)
            for job, row in self.work_off([job for job, row in rows.items() if row is None], progress):
                rows[job] = row
                progress.rows = [row for row in rows.values() if row]
                files.write_json_lines(self.folder / "rows.jsonl", progress.rows)
                self.show(progress)
        return progress.rows, len(progress.rows) == len(rows)

    def known_row(self, job: Job, stored: Row | None, retry_failed: bool) -> Row | None:
        """The row that an earlier driver has stored, or of a run that another study has finished; None to run it."""
        if stored is not None and (stored["status"] == "done" or not retry_failed):
            return stored
        row = self.row_of(job)
        return row and row | {"attempts": 1, "beside": None, "ended_utc": None}

    def work_off(self, todo: list[Job], progress: Progress) -> Iterator[tuple[Job, Row]]:
        """Rows as their runs end. A run that crashes is tried three times, one that diverges once."""
        waiting, running = deque(todo), dict[str, Running]()
        attempts = dict.fromkeys((job.digest for job in todo), 0)
        while (waiting or running) and not self.should_stop():
            self.fill_slots(waiting, running, attempts)
            progress.running = [one.jobs[0].name for one in running.values()]
            self.show(progress)
            for ending in self.executor.ended(WAIT_SECONDS):
                one, tries = running.pop(ending.unit.name), attempts[ending.unit.name]
                if ending.code == RunInUseError.exit_code:  # by a killed driver's last run, or by another study
                    attempts[ending.unit.name] -= 1
                    waiting.extend(one.jobs)
                    time.sleep(WAIT_SECONDS)
                elif ending.code in FINAL or tries >= MOST_ATTEMPTS:
                    progress.seconds.append(time.monotonic() - one.began)
                    yield from ((job, self.end_of(job, ending, tries)) for job in one.jobs)
                else:
                    self.note(f"{one.jobs[0].name} ended with exit code {ending.code}; trying again")
                    waiting.extendleft(reversed(one.jobs))

    def fill_slots(self, waiting: deque[Job], running: dict[str, Running], attempts: dict[str, int]) -> None:
        """Start jobs while there are free slots. Two cells with the same configuration share a run."""
        while waiting and (len(running) < self.executor.slots or waiting[0].digest in running):
            job = waiting.popleft()
            if job.digest in running:
                running[job.digest].jobs.append(job)
                continue
            running[job.digest] = Running([job], time.monotonic())
            attempts[job.digest] += 1
            log = self.folder / "logs" / f"{job.digest}.txt"
            self.executor.begin(Unit(job.digest, job.config.to_dict(), self.runs / job.digest, log))

    def row_of(self, job: Job) -> Row | None:
        """The row of a finished run, from its folder; None if it is not done, RunError if it is damaged."""
        result = RunFolder(self.runs / job.digest).result()
        if result is None or result["status"] != "done":
            return None
        return head_of(job) | {"status": "done"} | {name: result[name] for name in RESULTS}

    def end_of(self, job: Job, ending: Ending, attempts: int) -> Row:
        """The row of a run that has just ended, successful or not."""
        row = self.row_of(job) if ending.code == 0 else None
        if row is None:
            status = STATUS.get(ending.code, "crashed")
            failure = {"status": status, "exit_code": ending.code, "log": tail(ending.unit.log)}
            row = head_of(job) | failure | dict.fromkeys(RESULTS)
        return row | {"attempts": attempts, "beside": self.executor.slots, "ended_utc": utc_now()}


def head_of(job: Job) -> Row:
    """The start of a row: which run it is about."""
    return {"cell": job.cell.name, "varied": job.cell.varied, "seed": job.seed, "run": job.digest}


def prepare_folder(study: Study, folder: Path) -> None:
    """Make the study's folder; RunError if it holds another study or something else."""
    if (folder / "study.json").exists():
        if read_study(folder)["digest"] != study.digest():
            raise RunError(f"{folder} holds another study (other cells or seeds); choose another --out")
    elif folder.exists() and any(entry.name not in (".lock", "logs") for entry in folder.iterdir()):
        raise RunError(f"{folder} is not empty and not a study; choose another --out")
    files.make_folder(folder / "logs")


def write_study(study: Study, folder: Path) -> None:
    """Write study.json, which keeps the date of the first start."""
    files.make_folder(folder / "logs")
    begun = read_study(folder)["begun_utc"] if (folder / "study.json").exists() else utc_now()
    cells = [{"name": c.name, "varied": c.varied, "config": c.config.to_dict()} for c in study.cells]
    about = {"name": study.name, "digest": study.digest(), "seeds": list(study.seeds), "begun_utc": begun}
    files.write_json(folder / "study.json", about | {"cells": cells})


def read_study(folder: Path) -> dict[str, Any]:
    """study.json; RunError when it is missing or damaged."""
    value = files.read_json(folder / "study.json")
    if not isinstance(value, dict) or not {"name", "digest", "seeds", "cells", "begun_utc"} <= value.keys():
        raise RunError(
            f"{folder / 'study.json'} is damaged; delete {folder} and rerun the study: finished runs are kept"
        )
    return value


def read_rows(folder: Path) -> list[Row]:
    """rows.jsonl; empty before the first run has ended."""
    path = folder / "rows.jsonl"
    return files.read_json_lines(path) if path.exists() else []
