"""A study from its cells to its rows: which runs are still missing, in which order they run, and how each ended.

The driver is the only writer of the study folder:

    study.json     cells, seeds, configurations: what makes it this study
    rows.jsonl     one row for each cell and seed whose run has ended, successful or not
    logs/          the output of each run

Each run is an ordinary run folder named by the digest of its configuration, so no finished run is ever repeated, and
studies share the runs that they have in common. If that folder holds a run on other images (the data has changed), the
digest of the data is added to the name. The driver does not know where runs are computed.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vitlab import files
from vitlab.advice import spoken
from vitlab.data import CATALOGUE
from vitlab.errors import ConfigError, DataError, DivergedError, OutOfMemoryError, RunError, RunInUseError, StorageError
from vitlab.runs.folder import RunFolder
from vitlab.runs.result import KINDS, METRICS
from vitlab.runs.session import utc_now
from vitlab.studies.executors.follow import newest_checkpoint
from vitlab.studies.grid import Job, Study
from vitlab.studies.images import Images, digest_in
from vitlab.studies.unit import Ending, Unit, Whereabouts, tail
from vitlab.text import counted

Row = dict[str, Any]

MOST_ATTEMPTS = 3
MOST_LOSSES = 10  # of a run's place in a row, without a new checkpoint
WAIT_SECONDS = 0.5  # between two looks at what is running
# What a row takes over from the run's result.json.
RESULTS = (
    *("test_images", "val_top1", "val_images", "train_seconds", "wall_seconds", "images_per_second"),
    *("params", "params_by_part", "flops_per_image", "epochs", "train_images", "device", "threads", "precision"),
    "data_sha256",
    *(f"test_{name}" for name in METRICS),
)
# Exit codes of runs that would end the same way again.
FINAL = (0, *(error.exit_code for error in (ConfigError, DataError, DivergedError, RunError)))
STATUS = {
    DivergedError.exit_code: "diverged",
    OutOfMemoryError.exit_code: "out of memory",
    StorageError.exit_code: "disk",
}
STATUSES = ("done", "crashed", "other data", *STATUS.values())
RUN_NAME = re.compile(r"[0-9a-f]{12}(-[0-9a-f]{12})?")  # a run folder next to others, and no other path
AGAIN = "run the study again with the same command: finished runs are kept, and the file is made again"
# The types of the entries of both files.
STUDY: dict[str, Any] = {
    **dict.fromkeys(("name", "digest", "begun_utc"), str),
    "seeds": list[int],
    "cells": list[dict[str, Any]],
}
CELL: dict[str, Any] = {"name": str, "varied": dict[str, Any], "config": dict[str, Any]}
ROW: dict[str, Any] = {name: KINDS[name] for name in RESULTS} | {
    **dict.fromkeys(("cell", "status", "run"), str),
    **dict.fromkeys(("ended_utc", "validation"), str | None),
    **dict.fromkeys(("attempts", "beside"), int | None),
    "varied": dict[str, Any] | None,
    "seed": int,
    "log": list[str] | None,
}
# What is made from the rows when a study is complete.
TABLES = ("table.md", "table.csv", "table.json", "picture.png", "picture.svg")
OUTPUTS = (*TABLES, "report.html")
DATA_DIGITS = 12  # of the digest of the data, in the name of a run folder


class Executor(Protocol):
    """Computes up to ``slots`` units at a time, each from the last checkpoint in its run folder. When it reports that
    one has ended, that folder is on this disk."""

    @property
    def slots(self) -> int:
        """How many it computes at a time; on a cluster, that may change."""

    def begin(self, unit: Unit) -> None:
        """Start a unit; call only while fewer than ``slots`` are running."""

    def ended(self, seconds: float) -> list[Ending]:
        """The units that have ended since the last call; waits at most ``seconds`` for the first."""

    def where(self) -> dict[str, Whereabouts]:
        """Where the running units are, by their names, if not on this machine."""

    def stop(self) -> None:
        """Make all running units save their state and end, and wait for them."""


@dataclass
class Progress:
    """How far a study is."""

    total: int
    rows: list[Row] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    where: dict[str, Whereabouts] = field(default_factory=dict)  # those of ``running`` that are on a cluster
    seconds: list[float] = field(default_factory=list)  # of each run that this driver has finished
    slots: int = 1
    split: str = "test"  # the accuracy to show

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
    checkpoint: str | None = None  # the newest one when it began


@dataclass
class Tries:
    """How often a run has begun, and how often in a row it has lost its place without a new checkpoint."""

    attempts: int = 0
    losses: int = 0


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
    images: Images = field(default_factory=Images)

    def run(self, retry_failed: bool = False) -> tuple[list[Row], bool]:
        """Run what is missing. All rows in the study's order, and whether the study is complete.

        It is not if ``should_stop`` ended it; runs may then still be going: stop the executor.
        """
        check_folder(self.study, self.folder)
        files.inner_folder(self.folder / "logs")
        status = f"`vitlab study --status {self.folder}` shows how far it is"
        with files.locked(self.folder, f"{self.folder} is in use by another vitlab study; {status}"):
            sweep(self.folder)
            check_folder(self.study, self.folder)  # again: another process may have been faster
            write_study(self.study, self.folder)
            stored = self.stored_rows()
            rows = {job: self.known_row(job, stored.get(job.name), retry_failed) for job in self.study.order}
            self.tell_changes([job for job, row in rows.items() if row is None], stored)
            known = [row for row in rows.values() if row]
            split = "validation" if self.study.identity else "test"  # a search chooses by validation images
            progress = Progress(len(rows), known, slots=self.executor.slots, split=split)
            files.write_json_lines(self.folder / "rows.jsonl", progress.rows)
            for job, row in self.work_off([job for job, row in rows.items() if row is None], progress):
                rows[job] = row
                progress.rows = [row for row in rows.values() if row]
                files.write_json_lines(self.folder / "rows.jsonl", progress.rows)
                self.show(progress)
        return progress.rows, len(progress.rows) == len(rows)

    def known_row(self, job: Job, stored: Row | None, retry_failed: bool) -> Row | None:
        """The row that an earlier driver has stored, or of a run that another study has finished; None to run it."""
        if stored is not None and (stored["status"] == "done" or not retry_failed) and self.is_current(job, stored):
            return self.with_images(job, stored)
        row = self.row_of(job, self.runs / self.run_name(job))
        return row and row | {"attempts": 1, "beside": None, "ended_utc": None}

    def stored_rows(self) -> dict[str, Row]:
        """The rows of an earlier driver by the names of their jobs; none if the file is damaged."""
        try:
            return {f"{row['cell']}, seed {row['seed']}": row for row in read_rows(self.folder)}
        except RunError:
            self.note(f"{self.folder / 'rows.jsonl'} is damaged; it is made again from the finished runs")
            return {}

    def is_current(self, job: Job, row: Row) -> bool:
        """Whether the run of a row was trained on the images as they are now."""
        data = job.config.data.data
        own, now = row.get("data_sha256") or digest_in(self.runs / row["run"]), self.images.digest(data)
        if now is None and own is not None:  # not on this machine: the first run decides
            self.images.digests[data] = now = own
        return own == now if own else data in CATALOGUE  # rows of earlier versions have no digest

    def with_images(self, job: Job, row: Row) -> Row:
        """The row of a run on the images as they are now, with the entries that say which these are."""
        config = job.config
        return row | {
            "data_sha256": self.images.digest(config.data.data),
            "validation": self.images.validation(config),
        }

    def run_name(self, job: Job) -> str:
        """The name of the run's folder: with the digest of the images if a run on others has taken the plain one."""
        now, taken = self.images.digest(job.config.data.data), digest_in(self.runs / job.digest)
        return job.digest if None in (now, taken) or now == taken else f"{job.digest}-{str(now)[:DATA_DIGITS]}"

    def tell_changes(self, todo: list[Job], stored: dict[str, Row]) -> None:
        """A line for each data set of which there are runs on other images, and the end of what those led to."""
        for data in dict.fromkeys(job.config.data.data for job in todo):
            own = [job for job in todo if job.config.data.data == data]
            outdated = [job for job in own if job.name in stored and not self.is_current(job, stored[job.name])]
            if outdated:  # a table must not outlive its rows
                for name in OUTPUTS:
                    files.remove(self.folder / name)
            anew = [job for job in own if job in outdated or self.run_name(job) != job.digest]
            if anew:
                runs = f"{counted(len(anew), 'run')} {'is' if len(anew) == 1 else 'are'}"
                self.note(f"{data} has changed since it was last trained on: {runs} trained anew")

    def work_off(self, todo: list[Job], progress: Progress) -> Iterator[tuple[Job, Row]]:
        """Rows as their runs end. A run that crashes is tried three times, one that diverges once."""
        waiting, running = deque(todo), dict[str, Running]()
        tries = {job.digest: Tries() for job in todo}
        while (waiting or running) and not self.should_stop():
            self.fill_slots(waiting, running, tries)
            progress.running = [one.jobs[0].name for one in running.values()]
            there = self.executor.where()
            progress.where = {one.jobs[0].name: there[name] for name, one in running.items() if name in there}
            progress.slots = self.executor.slots
            self.show(progress)
            for ending in self.executor.ended(WAIT_SECONDS):
                one, tried = running.pop(ending.unit.name), tries[ending.unit.name]
                progress.running.remove(one.jobs[0].name)
                if ending.code == RunInUseError.exit_code:  # by a killed driver's last run, or by another study
                    tried.attempts -= 1
                    waiting.extend(one.jobs)
                    time.sleep(WAIT_SECONDS)
                elif ending.lost and self.may_go_on(one, ending, tried):
                    waiting.extendleft(reversed(one.jobs))
                elif ending.code in FINAL or tried.attempts >= MOST_ATTEMPTS:
                    progress.seconds.append(time.monotonic() - one.began)
                    yield from ((job, self.end_of(job, ending, tried.attempts)) for job in one.jobs)
                else:
                    self.note(f"{one.jobs[0].name} ended with exit code {ending.code}; trying again")
                    waiting.extendleft(reversed(one.jobs))

    def may_go_on(self, one: Running, ending: Ending, tried: Tries) -> bool:
        """Whether a run that has lost its place begins again without counting as an attempt; a line about it."""
        newest = newest_checkpoint(ending.unit.folder)
        tried.losses = tried.losses + 1 if newest == one.checkpoint else 1
        if tried.losses >= MOST_LOSSES:
            return False
        tried.attempts -= 1
        how = "it has no checkpoint yet and begins again"
        if newest:
            how = f"it continues from its checkpoint of step {int(newest.split('-')[1]):,}"
        self.note(f"{one.jobs[0].name}: {ending.lost}; {how}")
        return True

    def fill_slots(self, waiting: deque[Job], running: dict[str, Running], tries: dict[str, Tries]) -> None:
        """Start jobs while there are free slots. Two cells with the same configuration share a run."""
        while waiting and (len(running) < self.executor.slots or waiting[0].digest in running):
            job = waiting.popleft()
            if job.digest in running:
                running[job.digest].jobs.append(job)
                continue
            tries[job.digest].attempts += 1
            log = self.folder / "logs" / f"{job.digest}.txt"
            digest = self.images.digest(job.config.data.data)
            folder = self.runs / self.run_name(job)
            running[job.digest] = Running([job], time.monotonic(), newest_checkpoint(folder))
            self.executor.begin(Unit(job.digest, job.config.to_dict(), folder, log, digest))

    def row_of(self, job: Job, folder: Path) -> Row | None:
        """The row of a finished run in ``folder``; None if it is not done or was trained on other images, RunError if
        it is damaged."""
        result = RunFolder(folder).result()
        if result is None or result["status"] != "done":
            return None
        row = head_of(job, folder.name) | {"status": "done"} | {name: result[name] for name in RESULTS}
        row |= {"learned": result.why_not_learned() is None}
        return self.with_images(job, row) if self.is_current(job, row) else None

    def end_of(self, job: Job, ending: Ending, attempts: int) -> Row:
        """The row of a run that has just ended, successful or not; DataError if its images have changed."""
        row = self.row_of(job, ending.unit.folder) if ending.code == 0 else None
        if row is None:
            if ending.code in (0, DataError.exit_code):
                self.images.check_unchanged(job.config.data.data)
            status = STATUS.get(ending.code, "crashed" if ending.code else "other data")
            failure = {"status": status, "exit_code": ending.code, "log": tail(ending.unit.log)}
            head = head_of(job, ending.unit.folder.name)
            row = self.with_images(job, head | failure | dict.fromkeys(RESULTS))
        return row | {"attempts": attempts, "beside": self.executor.slots, "ended_utc": utc_now()}


def why_failed(row: Row) -> str:
    """Why a run has no result: its status, and the last line of its log or the signal that ended it."""
    code, log = row.get("exit_code") or 0, row.get("log")
    if code < 0:
        return f"{row['status']}: ended by signal {-code}"
    return f"{row['status']}: {spoken(log[-1].removeprefix('vitlab: '))}" if log else str(row["status"])


def head_of(job: Job, run: str) -> Row:
    """The start of a row: which run it is about, and the name of its folder."""
    return {"cell": job.cell.name, "varied": job.cell.varied, "seed": job.seed, "run": run}


def check_folder(study: Study, folder: Path) -> None:
    """RunError if the folder holds another study or something else; what a killed driver leaves is no obstacle."""
    files.refuse_file(folder)
    if (folder / "study.json").exists():
        if read_study(folder)["digest"] != study.digest():
            raise RunError(f"{folder} holds another study (other cells or seeds); choose another --out")
    elif any(not is_ours(name) for name in files.names_in(folder)):
        raise RunError(f"{folder} is not empty and not a study; choose another --out")


def is_ours(name: str) -> bool:
    """Whether a driver that is killed before study.json is there may leave an entry of this name."""
    return name in (".lock", "logs") or (name.startswith(".") and name.endswith(".tmp"))


def sweep(folder: Path) -> None:
    """Delete the temporary files of killed drivers; call only with the folder's lock."""
    files.check_inner_folder(folder / "logs")
    for path in (folder, folder / "logs"):
        files.sweep(path)


def write_study(study: Study, folder: Path) -> None:
    """Write study.json, which keeps the date of the first start."""
    files.inner_folder(folder / "logs")
    begun = read_study(folder)["begun_utc"] if (folder / "study.json").exists() else utc_now()
    cells = [{"name": c.name, "varied": c.varied, "config": c.config.to_dict()} for c in study.cells]
    about = {"name": study.name, "digest": study.digest(), "seeds": list(study.seeds), "begun_utc": begun}
    files.write_json(folder / "study.json", about | {"cells": cells})


def read_study(folder: Path) -> dict[str, Any]:
    """study.json, checked; RunError when it is missing or damaged."""
    path = folder / "study.json"
    if not folder.exists():
        raise RunError(f"there is no study {folder}; `vitlab study` names its folder at the end")
    if not path.exists():
        raise RunError(f"{folder} is not a study (study.json is missing); `vitlab study` names its folder at the end")
    advice = f"delete {folder} and rerun the study: finished runs are kept"
    try:
        value = files.read_json(path)
    except RunError:
        raise RunError(f"{path} is damaged: it cannot be read as JSON; {advice}") from None
    about = files.check_table(path, value, STUDY, advice)
    for number, cell in enumerate(about["cells"], start=1):
        files.check_table(path, cell, CELL, advice, f"cell {number}: ")
    return about


def read_rows(folder: Path) -> list[Row]:
    """The rows of rows.jsonl, checked; none before the first run has ended. RunError when it is damaged."""
    path = folder / "rows.jsonl"
    if not path.exists():
        return []
    try:
        rows = files.read_json_lines(path)
    except RunError:
        raise RunError(f"{path} is damaged: it cannot be read as JSON; {AGAIN}") from None
    seen = set()
    for number, row in enumerate(rows, start=1):
        files.check_table(path, row, ROW, AGAIN, f"row {number}: ")
        for name, fits in (("run", RUN_NAME.fullmatch(row["run"])), ("status", row["status"] in STATUSES)):
            if not fits:
                raise RunError(f"{path} is damaged: row {number}: {name!r} is {row[name][:40]!r}; {AGAIN}")
        if (row["cell"], row["seed"]) in seen:
            raise RunError(f"{path} is damaged: row {number} repeats an earlier one; {AGAIN}")
        seen.add((row["cell"], row["seed"]))
    return rows
