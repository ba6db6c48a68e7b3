"""Copies of a run's history in the trackers that a user chose: TensorBoard, MLflow, Weights & Biases, trackio.

history.jsonl and result.json remain the record. A tracker is another program, so whatever goes wrong in it costs one
line and its copy, never the run: training does not read from it, and no digest covers what it writes. A copy holds each
epoch once, also after `--resume`, for which trackers.json in the run folder keeps the names of the copies.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vitlab import files
from vitlab.config import RunConfig
from vitlab.config.hints import did_you_mean
from vitlab.errors import ConfigError, RunError, import_optional, pip_install
from vitlab.text import listed, quoted, value

if TYPE_CHECKING:
    from vitlab.runs.folder import RunFolder

PROJECT = "vitlab"  # what groups the runs, unless the tracker's own variable names another
STATE = "trackers.json"
MOST_STATE = 100_000  # bytes
# What trackers.json says about a copy: its name in the tracker, its last epoch, whether it holds the result.
COPY: dict[str, Any] = {"id": str | None, "epoch": int, "ended": bool}
# A server that does not answer must not hold up the training for minutes; MLflow's own defaults are 120 s and 7.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
COPY_ID = re.compile(r"[\w.-]{1,200}")
MOST_REASON = 200  # characters of a tracker's own words
STATE_ADVICE = "delete it, and new copies are made"

Numbers = dict[str, float]


class Tracker(Protocol):
    """The copy of one run in one tracker. ``id`` finds it again; None if it is always written from the start."""

    id: str | None

    def log(self, numbers: Numbers, epoch: int) -> None:
        """Add numbers by their names."""

    def end(self, numbers: Numbers, epoch: int, status: str) -> None:
        """Add the result's numbers, and close the copy for now (status "interrupted") or for good."""


class TensorBoard:
    """Event files in RUN/tensorboard."""

    id: str | None = None

    def __init__(self, folder: RunFolder, config: RunConfig, id: str | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = files.inner_folder(folder.path / "tensorboard")
        # After a purge TensorBoard forgets all steps from this one on, which earlier files hold.
        purge = 0 if files.names_in(path) else None
        self.writer: Any = SummaryWriter(str(path), purge_step=purge)
        self.config = config
        self.writer.add_text("config", f"```json\n{files.to_json(config.to_dict())}\n```", 0)

    def log(self, numbers: Numbers, epoch: int) -> None:
        """Scalars, which TensorBoard stores as float32."""
        for name, number in numbers.items():
            self.writer.add_scalar(name, number, epoch)
        self.writer.flush()

    def end(self, numbers: Numbers, epoch: int, status: str) -> None:
        """Knobs and result of a run that is done also go into the table that compares runs."""
        if status == "done":
            plain = {
                name: what if isinstance(what, bool | int | float) else value(what)
                for name, what in self.config.values().items()
            }
            self.writer.add_hparams(plain, numbers, run_name=".", global_step=epoch)
        self.writer.close()


class MLflow:
    """A run of the experiment MLFLOW_EXPERIMENT_NAME at MLFLOW_TRACKING_URI, or where MLflow keeps runs by default."""

    def __init__(self, folder: RunFolder, config: RunConfig, id: str | None) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        for name, limit in PATIENCE.items():
            os.environ.setdefault(name, limit)
        self.client = MlflowClient()
        if id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
            found = self.client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self.client.create_experiment(name)
            id = self.client.create_run(experiment, run_name=name_of(folder)).info.run_id
            params = [Param(name, value(what)) for name, what in config.values().items()]
            self.client.log_batch(id, params=params)
        else:
            self.client.update_run(id, status="RUNNING")
        self.id = id

    def log(self, numbers: Numbers, epoch: int) -> None:
        """Metrics whose step is the epoch."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self.client.log_batch(self.id, metrics=[Metric(name, number, now, epoch) for name, number in numbers.items()])

    def end(self, numbers: Numbers, epoch: int, status: str) -> None:
        """In MLflow's words: FINISHED, KILLED or FAILED."""
        self.log(numbers, epoch)
        self.client.set_terminated(self.id, {"done": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))


class Wandb:
    """A run of the project WANDB_PROJECT at Weights & Biases."""

    def __init__(self, folder: RunFolder, config: RunConfig, id: str | None) -> None:
        import wandb

        project = os.environ.get("WANDB_PROJECT") or PROJECT
        self.run = wandb.init(
            project=project, name=name_of(folder), id=id, resume="allow", config=config.values(), reinit="create_new"
        )
        self.id = self.run.id

    def log(self, numbers: Numbers, epoch: int) -> None:
        """A row of the run's history; numbers of the same epoch share one."""
        self.run.log(numbers, step=epoch)

    def end(self, numbers: Numbers, epoch: int, status: str) -> None:
        """Waits until everything is sent; exit code 1 marks a run that is not done."""
        self.log(numbers, epoch)
        self.run.finish(exit_code=0 if status == "done" else 1)


class Trackio:
    """A run of the project TRACKIO_PROJECT in trackio's database on this machine."""

    def __init__(self, folder: RunFolder, config: RunConfig, id: str | None) -> None:
        import trackio

        # trackio knows a run by its name only, and other run folders may be called the same.
        self.id: str | None = id or f"{name_of(folder)}-{time.time_ns() % 10**12:012d}"
        project = os.environ.get("TRACKIO_PROJECT") or PROJECT
        self.run = trackio.init(project=project, name=self.id, resume="allow", config=config.values())

    def log(self, numbers: Numbers, epoch: int) -> None:
        """A row of the run's history."""
        self.run.log(numbers, step=epoch)

    def end(self, numbers: Numbers, epoch: int, status: str) -> None:
        """Waits until everything is stored."""
        self.log(numbers, epoch)
        self.run.finish()


TRACKERS: dict[str, Callable[[RunFolder, RunConfig, str | None], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": Wandb,
    "trackio": Trackio,
}


class Tracking:
    """All trackers of one run, which may be none. No method raises what a tracker raises: ``note`` receives a line."""

    def __init__(self, folder: RunFolder, config: RunConfig, names: Iterable[str], note: Callable[[str], None]) -> None:
        self.folder, self.config, self.note = folder, config, note
        self.waiting, self.open = list(names), dict[str, Tracker]()
        self.copies: dict[str, dict[str, Any]] = {}

    def begin(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Open the copies, and add to each the ``rows`` of the history that it does not have yet."""
        for name in self.waiting:
            self.attempt(name, self._begin, name, rows)

    def _begin(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        copies = self.copies or read_copies(self.folder)
        known = copies.get(name) or {"id": None, "epoch": 0, "ended": False}
        tracker = self.open[name] = TRACKERS[name](self.folder, self.config, known["id"])
        self.copies = copies | {name: known | {"id": tracker.id, "epoch": known["epoch"] if tracker.id else 0}}
        for row in rows:
            self._log(name, row)

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row of the history to all copies."""
        for name in list(self.open):
            self.attempt(name, self._log, name, row)

    def _log(self, name: str, row: Mapping[str, Any]) -> None:
        copy = self.copies[name]
        if row["epoch"] > copy["epoch"]:  # a resumed run may repeat an epoch, with the same numbers
            self.open[name].log(numbers_in(row), row["epoch"])
            self._keep(name, epoch=row["epoch"])

    def end(self, status: str, result: Mapping[str, Any]) -> None:
        """Add the result's numbers, and close all copies."""
        for name in list(self.open):
            self.attempt(name, self._end, name, status, numbers_in(result))

    def _end(self, name: str, status: str, numbers: Numbers) -> None:
        self.open[name].end(numbers, self.copies[name]["epoch"], status)
        self._keep(name, ended=status == "done")

    def _keep(self, name: str, **facts: Any) -> None:
        self.copies[name] |= facts
        self.folder.write(STATE, self.copies)

    def attempt(self, name: str, act: Callable[..., None], *arguments: Any) -> None:
        """Call ``act``; if that fails, for whatever reason, this tracker is left out from now on."""
        try:
            # Standard output belongs to vitlab's result, and warnings are meant for whoever wrote these calls.
            with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                act(*arguments)
        except Exception as error:
            self.open.pop(name, None)
            reason = (str(error).splitlines() or [""])[0][:MOST_REASON].rstrip(". ") or type(error).__name__
            again = f"`vitlab train --resume {quoted(self.folder.path)} --log {name}`"
            self.note(f"{name} failed ({reason}); training is not affected; afterwards {again} sends the rest")


def track_finished(folder: RunFolder, names: Iterable[str], note: Callable[[str], None]) -> None:
    """Bring the copies of a run that is done up to date."""
    result = folder.result()
    missing = [name for name in names if not read_copies(folder).get(name, {}).get("ended")]
    if missing and result is not None:
        tracking = Tracking(folder, folder.config(), missing, note)
        tracking.begin(folder.history())
        tracking.end(result.status, result)


def chosen(log: str | Iterable[str]) -> tuple[str, ...]:
    """The trackers in "mlflow,wandb" or ["mlflow", "wandb"], each once; ConfigError for one that is unknown or not
    installed."""
    words = [word.strip() for text in ([log] if isinstance(log, str) else log) for word in text.split(",")]
    names = tuple(dict.fromkeys(filter(None, words)))
    for name in names:
        if name not in TRACKERS:
            hint = did_you_mean(name, TRACKERS) or f"; there are {listed(list(TRACKERS))}"
            raise ConfigError(f"there is no tracker {name!r}{hint}")
        import_optional(name, ConfigError(f"{name} is not installed: {pip_install(name)}"))
    return names


def numbers_in(values: Mapping[str, Any]) -> Numbers:
    """What a copy holds of a row of the history or of the result, by its name there: train/loss is train_loss.

    Of the result, these are the metrics on the test images.
    """
    wanted = values if "epoch" in values else {name: what for name, what in values.items() if name.startswith("test_")}
    return {
        re.sub("^(train|val|test)_", r"\1/", name): what
        for name, what in wanted.items()
        if name not in ("epoch", "test_images") and isinstance(what, int | float)
    }


def name_of(folder: RunFolder) -> str:
    """The name that people see in a tracker."""
    return folder.path.resolve().name


def read_copies(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """What trackers.json says about each copy; RunError if it is damaged."""
    path = folder.path / STATE
    if not files.exists(path):
        return {}
    table = files.check_table(path, files.read_json(path, MOST_STATE, STATE_ADVICE), {}, STATE_ADVICE)
    copies = {name: files.check_table(path, table[name], COPY, STATE_ADVICE) for name in TRACKERS if name in table}
    if any(copy["id"] is not None and not COPY_ID.fullmatch(copy["id"]) for copy in copies.values()):
        raise RunError(f"{path} is damaged: an id is not one; {STATE_ADVICE}")
    return copies
