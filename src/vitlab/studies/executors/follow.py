"""A copy of a run folder that follows the original on another machine, file by file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from vitlab import files
from vitlab.errors import RunError

# All that a run leaves, and nothing else: a name from another machine must not lead out of the folder.
TRAVELS = re.compile(
    r"(config|data|environment|result)\.json|history\.jsonl|(start|model|novelty)\.safetensors"
    r"|checkpoints/step-\d{9}-[0-9a-f]{32}\.safetensors|epochs/epoch-\d{6}\.safetensors"
)
INNER = ("checkpoints", "epochs")
LAST = ("config.json", "result.json")  # with the one a folder is a run, with the other it has ended
MOST_BYTES = 1 << 40

Marks = dict[str, tuple[int, int, int]]  # which content a file had: inode, size and time of the last change


def marks(folder: Path) -> Marks:
    """The files of the run in ``folder``, by relative names."""
    names = [
        *files.names_in(folder),
        *(f"{inner}/{name}" for inner in INNER for name in files.names_in(folder / inner)),
    ]
    found = {}
    for name in filter(TRAVELS.fullmatch, names):
        with suppress(FileNotFoundError):
            about = os.stat(folder / name, follow_symlinks=False)
            found[name] = (about.st_ino, about.st_size, about.st_mtime_ns)
    return found


def changes(folder: Path, known: Marks) -> tuple[dict[str, bytes], Marks]:
    """The files that are new or other than in ``known``, by name, and the marks of all. A file that vanishes meanwhile,
    such as an old checkpoint, is left out."""
    found, changed = marks(folder), {}
    for name in [name for name, mark in found.items() if known.get(name) != mark]:
        try:
            changed[name] = files.read_bytes(folder / name, MOST_BYTES)
        except RunError:
            del found[name]
    return changed, found


def follow(folder: Path, changed: Mapping[str, bytes], names: Iterable[str]) -> None:
    """Make ``folder`` hold the files ``names``, of which ``changed`` are new. At every moment it is a run that can be
    continued: what is obsolete goes last, except for a result, which is void as soon as the run goes on."""
    kept = set(filter(TRAVELS.fullmatch, names))
    files.make_folder(folder)
    if "result.json" not in kept:
        files.remove(folder / "result.json")
    for name in sorted(filter(TRAVELS.fullmatch, changed), key=lambda name: (name in LAST, name)):
        if "/" in name:
            files.inner_folder((folder / name).parent)
        files.write_bytes(folder / name, changed[name])
    for name in marks(folder).keys() - kept:
        files.remove(folder / name)


def newest_checkpoint(folder: Path) -> str | None:
    """The name of the newest checkpoint in a run folder, which says its step; None if there is none."""
    names = [name for name in files.names_in(folder / "checkpoints") if TRAVELS.fullmatch(f"checkpoints/{name}")]
    return max(names, default=None)


def epochs_done(folder: Path) -> int:
    """How many epochs of the run in ``folder`` are done."""
    try:
        return files.read_bytes(folder / "history.jsonl", MOST_BYTES).count(b"\n")
    except RunError:  # it has not begun
        return 0
