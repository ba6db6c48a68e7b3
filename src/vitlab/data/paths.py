"""Files and folders that come from outside: what is opened, listed or ignored, and in which order.

A folder of a stranger may hold pipes, devices and links that lead anywhere. Nothing here waits for a pipe or follows
links in a circle.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal

from vitlab.errors import DataError
from vitlab.system import READ

# What systems and programs leave in folders, in lower case. Names that begin with a dot are ignored too.
JUNK_FOLDERS = (
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
    "__pycache__",
)
JUNK_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
# A folder with config.json and one of these is a run folder of vitlab.
OF_A_RUN = ("data.json", "environment.json", "history.jsonl", "model.safetensors")

Kind = Literal["folder", "file", "link out", "other"]


@dataclass(frozen=True)
class Entry:
    """Something in a folder. "link out" leads out of the root; "other" is a pipe, a device, or a link to nothing."""

    path: Path
    kind: Kind

    @property
    def name(self) -> str:
        return self.path.name


def open_regular(path: str | Path) -> BufferedReader:
    """``path`` for reading; OSError for a pipe, a device or a folder, at once (opening a pipe would wait for ever)."""
    handle = os.open(path, READ)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    raise OSError(errno.EINVAL, f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file", str(path))


def contents(folder: Path, root: Path) -> list[Entry]:
    """What ``folder`` holds, sorted by name, without junk; DataError when it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            names = sorted((entry for entry in found if not is_junk(entry.name)), key=lambda entry: entry.name)
        return [Entry(folder / entry.name, _kind(entry, root)) for entry in names]
    except OSError as error:
        raise DataError(f"cannot list the folder {folder}: {error.strerror}; check its permissions") from error


def _kind(entry: os.DirEntry[str], root: Path) -> Kind:
    try:
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(os.path.realpath(root)):
            return "link out"
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except PermissionError:
        raise
    except OSError:  # links in a circle
        return "other"


def junk_folders(folder: Path) -> list[Path]:
    """The folders in ``folder`` that systems leave, without hidden ones."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower() in JUNK_FOLDERS)
    except OSError:  # `contents` says why
        return []
    return [folder / name for name in names if os.path.isdir(folder / name)]


def sub_folders(folder: Path, root: Path) -> list[Path]:
    """The folders in ``folder`` that lie inside ``root``."""
    return [entry.path for entry in contents(folder, root) if entry.kind == "folder"]


def is_junk(name: str) -> bool:
    """Whether systems and programs leave files or folders of this name; hidden ones count as junk."""
    return name.startswith(".") or name.lower() in JUNK_FOLDERS + JUNK_FILES


def is_run(folder: Path) -> bool:
    """Whether vitlab has written a run into ``folder``."""
    return os.path.isfile(folder / "config.json") and any(os.path.isfile(folder / name) for name in OF_A_RUN)


def natural(name: str) -> tuple[list[str | int], str]:
    """A sort key that puts "2" before "10"."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def one_form(name: str) -> str:
    """The composed form of a name: macOS and Linux write the same letters with different characters."""
    return unicodedata.normalize("NFC", name)


def files_below(folder: Path) -> Iterator[Entry]:
    """Everything below ``folder`` that is not a folder, in natural order, without junk. Links to files are followed
    wherever they lead, links to folders are not: they count as "other". DataError if a folder cannot be listed."""
    for entry in sorted(contents(folder, Path("/")), key=lambda entry: natural(entry.name)):
        if entry.kind != "folder":
            yield entry
        elif entry.path.is_symlink():
            yield Entry(entry.path, "other")
        else:
            yield from files_below(entry.path)
