"""Whether everything in a run folder is whole: what `vitlab check` says about it. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitlab import files
from vitlab.errors import VitlabError
from vitlab.runs.finished import open_run
from vitlab.runs.folder import KEPT_EPOCH, RunFolder
from vitlab.runs.session import shapes_in_checkpoint
from vitlab.text import counted, quoted

FILES = ("result.json", "config.json", "environment.json", "data.json", "history.jsonl")
NO_DIGEST = "there is no digest to check it by: an earlier version made it, or the run has not ended"
MOST_LEFTOVERS = 10  # that are listed


@dataclass(frozen=True)
class Finding:
    """What was found about one file: ``state`` is "ok", "note" (nothing is wrong), "damaged" or "missing"."""

    name: str
    state: str
    text: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether something must be done."""
        return self.state in ("damaged", "missing")


def check_run(path: Path) -> list[Finding]:
    """A finding for each file of a run, and for whatever else is wrong with its folder."""
    folder = RunFolder(path)
    readers: tuple[Callable[[], Any], ...] = (
        folder.result,
        folder.config,
        folder.environment,
        folder.data,
        folder.history,
    )
    found = [check_file(folder, name, read) for name, read in zip(FILES, readers, strict=True)]
    if not any(one.is_bad for one in found):
        found += [*check_weights(folder), *check_further(folder), *check_checkpoints(folder)]
    return [*found, *check_things(folder)]


def check_file(folder: RunFolder, name: str, read: Callable[[], Any]) -> Finding:
    """One of FILES, as ``read`` reads it."""
    path = folder.path / name
    if not files.exists(path):
        if name == "result.json":
            return Finding(
                name, "note", f"the run has not ended; `vitlab train --resume {quoted(folder.path)}` continues it"
            )
        return Finding(name, "missing", "restore it from a backup, or train again")
    try:
        read()
        sealed = name in ("result.json", "environment.json") and read().get("sha256") is not None
        vouched = sealed or name in (folder.digests() or {})
        return Finding(name, "ok") if vouched else Finding(name, "note", NO_DIGEST)
    except VitlabError as error:
        own = str(error).startswith(str(path))
        return Finding(name, "damaged", str(error)) if own else Finding(name, "note", f"not checked: {error}")


def check_weights(folder: RunFolder) -> list[Finding]:
    """The selected weights: digest, names, shapes, types, finite numbers. None are due before the run ends."""
    result, name = folder.result(), folder.model_path.name
    if result is None or result.model_sha256 is None:
        return []
    if not files.exists(folder.model_path):
        advice = f"delete result.json, and `vitlab train --resume {quoted(folder.path)}` makes them again"
        return [Finding(name, "missing", advice)]
    return [attempt(name, lambda: open_run(folder.path))]


def check_further(folder: RunFolder) -> list[Finding]:
    """Files that only result.json names."""
    found = []
    for name, digest in sorted((folder.digests() or {}).items()):
        path = folder.path / name
        if name in (*FILES, folder.model_path.name):
            continue
        if name != path.name and not KEPT_EPOCH.fullmatch(name):
            found.append(Finding("result.json", "damaged", f"{name!r} is not a file of the run"))
        elif not files.exists(path):
            found.append(Finding(name, "missing", files.AGAIN))
        elif not files.is_ordinary(path) or files.digest_of(path) != digest:
            found.append(Finding(name, "damaged", f"its SHA-256 has changed; {files.AGAIN}"))
        else:
            found.append(Finding(name, "ok"))
    return found


def check_checkpoints(folder: RunFolder) -> list[Finding]:
    """Each resumable state: digest, tensors, counters."""
    found = []
    try:
        paths, config = folder.checkpoints(), folder.config()
    except VitlabError as error:
        return [Finding("checkpoints", "damaged", str(error))]
    shapes = shapes_in_checkpoint(folder, config)
    for path in paths:
        name = f"checkpoints/{path.name}"
        try:
            whole = folder.read_checkpoint(path, config.digest(), *shapes) is not None
            bad = "its SHA-256 is not the one in its name; resuming deletes it and uses an older one"
            found.append(Finding(name, "ok") if whole else Finding(name, "damaged", bad))
        except VitlabError as error:
            found.append(Finding(name, "damaged", str(error)))
    return found


def check_things(folder: RunFolder) -> list[Finding]:
    """Links and devices, which vitlab refuses or replaces, and what killed processes have left."""
    found, left = [], []
    for name in files.names_in(folder.path):
        if name.startswith(".") and files.TEMPORARY.fullmatch(name):
            left.append(name)
        elif not files.is_ordinary(folder.path / name) and not files.is_folder(folder.path / name):
            found.append(Finding(name, "damaged", "it is a link, a pipe or a device; delete it"))
    if left:
        more = f"{', '.join(left[:MOST_LEFTOVERS])}{' …' if len(left) > MOST_LEFTOVERS else ''}"
        text = f"left by a process that was killed: {more}; delete them, or resume the run"
        found.append(Finding(counted(len(left), "temporary file"), "note", text))
    return found


def attempt(name: str, read: Callable[[], Any]) -> Finding:
    """ "ok" if ``read`` succeeds, else its error."""
    try:
        read()
    except VitlabError as error:
        return Finding(name, "damaged", str(error))
    return Finding(name, "ok")
