"""Runs as array jobs of Slurm, through submitit. All nodes share the files of this machine, as clusters with Slurm do.

The only file that imports submitit, but for what that calls on a node. It keeps the call of a function with plain
arguments, and what that returns, in pickles in its folder, which it alone writes and reads. Slurm's queue outlives the
study: jobs that a killed study has left are taken over by the next one.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.errors import (
    ConfigError,
    OutOfMemoryError,
    RunError,
    RunInUseError,
    VitlabError,
    import_optional,
    pip_install,
)
from vitlab.studies.executors.follow import epochs_done
from vitlab.studies.executors.node import News, node_file, train_there, versions, with_absolute_paths
from vitlab.studies.unit import Ending, Unit, Whereabouts, tail

POLL_SECONDS = 0.5
SAVE_SECONDS = 60.0
IN_QUEUE = 64  # runs at a time, if --workers does not say
MINUTES = 60  # of a job, if --slurm names no time: a run that needs longer continues in another one
SIGNAL_SECONDS = 90  # before the end of a job's time, it has to save
MOST_TIMEOUTS = 10_000  # each job brings its run further, however short its time is
OPTION = re.compile(r"([a-z][a-z-]*)=([^\x00-\x1f\x7f]+)")
# What the executor itself tells sbatch.
OURS = (
    *("array", "chdir", "cpus-per-task", "error", "job-name", "nodes", "ntasks", "ntasks-per-node", "open-mode"),
    *("output", "requeue", "no-requeue", "signal", "wait", "wrap"),
)
ALIVE = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED", "PREEMPTED", "RESIZING")
# How Slurm ends a job without a fault of the run.
LOST = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "TIMEOUT", "REVOKED", "REQUEUE")


@dataclass
class Queued:
    """A unit, and its job once it is submitted."""

    unit: Unit
    job: Any = None


class SlurmExecutor:
    """Up to ``slots`` runs in Slurm's queue at a time, in array jobs with ``cpus`` cores and ``gpus`` GPUs each.

    ``options`` are further ones of sbatch; "time" is in minutes. ``folder`` is for submitit's files. With the option
    "cluster" "local", submitit starts the jobs as processes of this machine.
    """

    def __init__(self, options: Mapping[str, str], cpus: int, gpus: int, slots: int, folder: Path) -> None:
        missing = ConfigError(f"--executor slurm needs submitit, which is not installed: {pip_install('slurm')}")
        self.submitit: Any = import_optional("submitit", missing)
        logging.getLogger("submitit").setLevel(logging.CRITICAL)  # it would write to standard output
        self.slots, self.cpus, self.folder = slots, cpus, folder.absolute()
        self.is_local = options.get("cluster") == "local"
        self.engine = self.make_engine({name: value for name, value in options.items() if name != "cluster"}, gpus)
        self.here = versions()
        self.queued: list[Queued] = []

    def make_engine(self, options: Mapping[str, str], gpus: int) -> Any:
        """submitit's executor; ConfigError if this machine has no Slurm."""
        minutes = int(options.get("time", MINUTES))
        if self.is_local:
            engine = self.submitit.LocalExecutor(self.folder, max_num_timeout=MOST_TIMEOUTS)
            engine.update_parameters(timeout_min=minutes, signal_delay_s=SIGNAL_SECONDS, stderr_to_stdout=True)
            return engine
        try:
            engine = self.submitit.SlurmExecutor(self.folder, max_num_timeout=MOST_TIMEOUTS)
        except RuntimeError:
            raise ConfigError("--executor slurm needs Slurm's commands (sbatch, srun), which are not here") from None
        further = {name: value for name, value in options.items() if name != "time"}
        engine.update_parameters(
            job_name="vitlab",
            time=minutes,
            cpus_per_task=self.cpus,
            signal_delay_s=SIGNAL_SECONDS,
            array_parallelism=self.slots,
            stderr_to_stdout=True,
            wckey=None,
            **({"gpus_per_node": gpus} if gpus and "gres" not in further else {}),
            additional_parameters={"requeue": True} | further,
        )
        return engine

    def begin(self, unit: Unit) -> None:
        """Queue the unit; `ended` submits all that were queued since, as one array."""
        self.queued.append(Queued(unit, self.left_behind(unit)))

    def left_behind(self, unit: Unit) -> Any:
        """The job with which a killed study has left this run in Slurm's queue; None if there is none."""
        known = self.known_jobs().get(key_of(unit))
        if known is None or self.is_local:
            return None
        job = self.submitit.SlurmJob(self.folder, known)
        return job if job.watcher.get_state(known, mode="force") in ALIVE else None

    def known_jobs(self) -> dict[str, str]:
        """The jobs of the runs that were submitted, by `key_of`."""
        try:
            return dict(files.read_json(self.folder / "jobs.json"))
        except (RunError, TypeError, ValueError):
            return {}

    def submit(self) -> None:
        """Submit what waits, and note its jobs; ConfigError if Slurm refuses."""
        new = [one for one in self.queued if one.job is None]
        if not new:
            return
        files.make_folder(self.folder)
        try:
            with self.engine.batch():
                made = [self.engine.submit(train_there, *self.arguments(one.unit)) for one in new]
        except (OSError, RuntimeError) as error:  # submitit's own errors are RuntimeErrors
            why = [line.strip() for line in str(error).splitlines() if line.strip()][-1:] or [type(error).__name__]
            raise ConfigError(f"Slurm refuses the jobs ({why[0]}); check --slurm") from None
        for one, job in zip(new, made, strict=True):
            files.remove(node_file(one.unit.log))
            one.job = job
        files.write_json(self.folder / "jobs.json", {key_of(one.unit): one.job.job_id for one in self.queued})

    def arguments(self, unit: Unit) -> tuple[Any, ...]:
        """What `train_there` takes: paths that are valid in any working folder."""
        folder, log = str(unit.folder.absolute()), str(unit.log.absolute())
        return with_absolute_paths(unit.config), folder, log, self.cpus, unit.data_sha256, self.here

    def ended(self, seconds: float) -> list[Ending]:
        """The units that have ended since the last call; waits at most ``seconds`` for the first. ConfigError if one
        has come to a node with other versions."""
        self.submit()
        until = time.monotonic() + seconds
        while True:
            found = [one for one in self.queued if one.job.done()]
            if found or time.monotonic() >= until:
                self.queued = [one for one in self.queued if one not in found]
                return [self.ending(one) for one in found]
            time.sleep(POLL_SECONDS)

    def ending(self, one: Queued) -> Ending:
        """How a unit has ended, by what the job has returned or, if it has not, by Slurm's word for its end."""
        if not one.job.paths.result_pickle.exists():
            state = str(one.job.state).split()[0]
            if state == "OUT_OF_MEMORY":
                return Ending(one.unit, OutOfMemoryError.exit_code)
            if not tail(one.unit.log):
                files.write_bytes(one.unit.log, f"{one.job.stdout() or ''}\nthe job has ended as {state}".encode())
            return Ending(one.unit, VitlabError.exit_code, f"its job has ended as {state}" if state in LOST else "")
        try:
            news: News = one.job.result()
        except self.submitit.core.utils.UncompletedJobError as error:
            files.write_bytes(one.unit.log, str(error).encode())
            return Ending(one.unit, VitlabError.exit_code)
        if "refused" in news:
            raise ConfigError(news["refused"])
        if "output" in news:
            files.write_bytes(one.unit.log, news["output"].encode())
        stopped = news["code"] in (130, 143)
        return Ending(one.unit, news["code"], f"its job {one.job.job_id} was stopped" if stopped else "")

    def where(self) -> dict[str, Whereabouts]:
        """Where each unit is."""
        return {one.unit.name: whereabouts(one) for one in self.queued}

    def stop(self) -> None:
        """Cancel all jobs, and wait until their runs have saved their states."""
        submitted = [one for one in self.queued if one.job is not None]
        for one in submitted:
            one.job.cancel(check=False)
        until = time.monotonic() + SAVE_SECONDS
        for one in submitted:
            while is_written(one.unit.folder) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
        self.queued = []


def parse_options(words: list[str]) -> dict[str, str]:
    """The options after --slurm; ConfigError for one that sbatch cannot take or that the executor itself gives."""
    options = {}
    for word in words:
        match = OPTION.fullmatch(word)
        if match is None:
            raise ConfigError(f"--slurm takes options of sbatch as NAME=VALUE, such as partition=gpu, not {word!r}")
        name, value = match.groups()
        if name in OURS:
            more = ": it is set by --threads" if name == "cpus-per-task" else ""
            raise ConfigError(f"--slurm {name} is vitlab's own affair{more}; leave it out")
        if name == "time" and not (value.isdecimal() and 1 <= int(value) <= 1_000_000):
            raise ConfigError(f"--slurm time is in minutes, such as time=240, not {value!r}")
        if name == "cluster" and value != "local":
            raise ConfigError("--slurm cluster=local tries the jobs on this machine; leave it out for Slurm")
        options[name] = value
    return options


def key_of(unit: Unit) -> str:
    """What a run is known by: its folder's name and the digest of its images."""
    return f"{unit.folder.name} {unit.data_sha256}"


def whereabouts(one: Queued) -> Whereabouts:
    """Where a unit is: on the node that has written its name, or in the queue."""
    try:
        node = files.read_bytes(node_file(one.unit.log)).decode(errors="replace")
    except RunError:
        node = ""
    return Whereabouts(node, "" if node else "Slurm", epochs_done(one.unit.folder))


def is_written(folder: Path) -> bool:
    """Whether a process is writing the run folder."""
    try:
        if folder.is_dir():
            with files.locked(folder, f"{folder} is in use"):
                pass
    except RunInUseError:
        return True
    return False
