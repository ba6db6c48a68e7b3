"""The run folders below a folder: what each is worth, and how one is deleted without touching anything else."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitlab import files
from vitlab.config import RunConfig
from vitlab.errors import RunError, RunInUseError, VitlabError, storage_error
from vitlab.runs.folder import RunFolder
from vitlab.runs.result import Result
from vitlab.runs.zoo import why_no_run

# What makes a folder a run; config.json alone is also in the folders of other libraries. They are deleted last.
MARKS, LOCK = ("data.json", "config.json"), ".lock"
# What vitlab writes into a run folder. All else is the user's, and stays.
OWN_FILES = (
    *("environment.json", "history.jsonl", "model.safetensors", "novelty.safetensors", "result.json"),
    *("report.html", "README.md", "trackers.json"),
)
OWN_FOLDERS = {
    "checkpoints": re.compile(r".+\.safetensors"),
    "epochs": re.compile(r".+\.safetensors"),
    "pictures": re.compile(r".+\.(png|svg)"),
    "tensorboard": re.compile(r"events\.out\.tfevents\..+"),
}


@dataclass(frozen=True)
class Entry:
    """A run folder: ``state`` is the status of its result, "running" while a process writes it, "unfinished" if it was
    killed, or "damaged". ``started`` is in local time, ``size`` in bytes."""

    path: Path
    state: str
    started: datetime.datetime
    size: int
    config: RunConfig | None
    result: Result | None

    @property
    def accuracy(self) -> float | None:
        """Top-1 on test images, or on validation images where there are no test images."""
        if self.result is None:
            return None
        return self.result.val_top1 if self.result.test_top1 is None else self.result.test_top1


def is_run(path: Path) -> bool:
    """Whether ``path`` is a run folder, and no link to one."""
    return files.is_folder(path) and all(files.is_ordinary(path / name) for name in MARKS)


def is_remainder(path: Path) -> bool:
    """Whether ``path`` holds only the last file of a run whose deletion was interrupted."""
    if not files.is_folder(path) or set(files.names_in(path)) - {LOCK} != {MARKS[-1]}:
        return False
    try:
        RunFolder(path).config()
    except VitlabError:
        return False
    return True


def list_runs(folder: Path) -> list[Entry]:
    """The run folders in ``folder``, newest first."""
    paths = [folder / name for name in files.names_in(folder)]
    entries = [entry_of(path) for path in paths if is_run(path)]
    return sorted(entries, key=lambda entry: (entry.started, entry.path.name), reverse=True)


def entry_of(path: Path) -> Entry:
    """What is known about one run folder; a damaged one is no error here."""
    folder, config, result, state = RunFolder(path), None, None, "damaged"
    try:
        config, result = folder.config(), folder.result()
        state = "unfinished" if result is None else result.status
        started = started_at(folder)
    except VitlabError:
        started = datetime.datetime.fromtimestamp((path / MARKS[-1]).lstat().st_mtime)
    if state == "unfinished" and is_in_use(folder):
        state = "running"
    return Entry(path, state, started, size_of(path), config, result)


def started_at(folder: RunFolder) -> datetime.datetime:
    """When training began, in local time."""
    try:
        began = datetime.datetime.fromisoformat(folder.environment()["started_utc"])
    except ValueError:
        raise RunError(
            f"{folder.path / 'environment.json'} is damaged: started_utc is no date; {files.AGAIN}"
        ) from None
    return began.astimezone().replace(tzinfo=None)


def is_in_use(folder: RunFolder) -> bool:
    """Whether another process is writing it."""
    if not files.exists(folder.path / LOCK):  # looking must create nothing
        return False
    try:
        with folder.locked():
            return False
    except VitlabError:
        return True


def size_of(path: Path) -> int:
    """Bytes of all files below ``path``; links are not followed."""
    return sum(file.lstat().st_size for file in files_below(path))


def files_below(path: Path) -> Iterator[Path]:
    """Every file and link below ``path``."""
    for folder, folders, names in os.walk(path):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        yield from (Path(folder) / name for name in [*names, *links])


def delete_run(path: Path) -> list[str]:
    """Delete what vitlab has written into the run folder ``path``, and the folder if nothing else is in it: the names
    of what stays. RunError if it is no run folder, or a link to one; RunInUseError while a process writes it.

    MARKS go last, so that deleting can be repeated if it was interrupted.
    """
    check_is_run(path)
    inner = {path / name: own for name, own in OWN_FOLDERS.items()}
    for folder in inner:
        files.check_inner_folder(folder)
    run = RunFolder(path)
    try:
        with run.locked():
            for folder, own in inner.items():
                for name in files.names_in(folder):
                    if own.fullmatch(name) or files.TEMPORARY.fullmatch(name):
                        remove_file(folder / name)
                remove_if_empty(folder)
            for name in files.names_in(path):
                if name in OWN_FILES or files.TEMPORARY.fullmatch(name):
                    remove_file(path / name)
            for name in MARKS:
                files.remove(path / name)
    except RunInUseError:
        raise RunInUseError(f"{path} is being written by another vitlab process; stop that first, or wait") from None
    remove_file(path / LOCK)
    remove_if_empty(path)
    return files.names_in(path)


def check_is_run(path: Path) -> None:
    """RunError unless ``path`` is a run folder."""
    if path.is_symlink():
        raise RunError(f"{path} is a link, and nothing is deleted through links; name the run folder itself")
    if path.absolute().resolve() == Path.cwd().resolve():
        raise RunError(f"{path} is the current folder; change to another one to delete it")
    if not files.exists(path) or files.exists(path / "study.json"):
        raise RunError(why_no_run(path))
    if not is_run(path) and not is_remainder(path):
        raise RunError(
            f"{path} is not a run folder (no {' and '.join(MARKS)}), so it is left alone; `vitlab runs` lists them"
        )


def remove_file(path: Path) -> None:
    """Delete a file or a link, but no folder that happens to have its name."""
    if not files.is_folder(path):
        files.remove(path)


def remove_if_empty(folder: Path) -> None:
    """Delete a folder if there is nothing in it."""
    if files.is_folder(folder) and not files.names_in(folder):
        try:
            folder.rmdir()
        except OSError as error:
            raise storage_error("delete", folder, error) from error


def newest_with_model(folder: Path) -> Path | None:
    """The newest run in ``folder`` that can classify, if possible one that learned; None without one."""
    done = [(one.path, one.result) for one in list_runs(folder) if one.result and one.result.model_sha256 is not None]
    learned = [path for path, result in done if result.why_not_learned() is None]
    return next(iter(learned or [path for path, _ in done]), None)
