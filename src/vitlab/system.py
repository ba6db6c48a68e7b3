"""What Linux, macOS and Windows do differently with files, folders and processes.

Linux is tested; the paths for Windows are written after its documentation and checked as far as that goes elsewhere
(docs/do/install.md says how far).
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _module(name: str) -> Any:
    """A module that only some systems have; None elsewhere."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl, resource = _module("fcntl"), _module("resource")  # not on Windows

# Flags of os.open; 0 where a system does not have them. Windows would otherwise translate line ends.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
READ = os.O_RDONLY | _PLAIN | getattr(os, "O_NONBLOCK", 0)  # opening a pipe does not wait for its other end
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN | NO_LINK
_UNNAMED = getattr(os, "O_TMPFILE", None)  # Linux
_DIRECTORY = getattr(os, "O_DIRECTORY", None)  # not on Windows, which cannot open a folder

_seeking = threading.Lock()

KILLED = -9  # what a process returns that SIGKILL has ended
# What a process returns that has crashed, where the system says so by a signal.
CRASHED = frozenset(
    -getattr(signal, name) for name in ("SIGILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE") if hasattr(signal, name)
)


def user() -> int | None:
    """This user's number; None on systems without such numbers."""
    ask = getattr(os, "geteuid", None)
    return None if ask is None else int(ask())


def open_unnamed(folder: Path) -> int | None:
    """A new file on the file system of ``folder`` that vanishes with this process unless `give_name` gives it one;
    None where the system, or the file system, has no such files."""
    if _UNNAMED is None or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, _UNNAMED | os.O_WRONLY | _PLAIN, 0o666)
    except OSError:
        return None


def give_name(file: Path | int, path: Path) -> None:
    """Give a file, or the handle of one without a name, the name ``path``, durably; FileExistsError if that is taken:
    unlike a rename, this replaces nothing."""
    source = Path(f"/proc/self/fd/{file}") if isinstance(file, int) else file
    if _DIRECTORY is None:
        os.link(source, path)
        return
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.link(source, path.name, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(folder)


def flush_folder(folder: Path) -> None:
    """Flush the names in ``folder`` to the disk. Windows does that with the file."""
    if _DIRECTORY is None:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Hold a lock on ``folder`` that leaves no file and ends with this process; OSError if another process holds it, or
    if it is no folder. False where there are no such locks, so nobody can tell whether another process is at work."""
    if fcntl is None or _DIRECTORY is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY | _DIRECTORY | NO_LINK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    finally:
        os.close(handle)


def most_open_files() -> int | None:
    """How many files this process may have open; None if the system sets no limit or does not say."""
    if resource is None:
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def read_at(handle: int, target: memoryview, place: int) -> int:
    """Read bytes of an open file from ``place`` on into ``target``; how many there were. Several threads may do so."""
    read = getattr(os, "preadv", None)
    if read is not None:
        return int(read(handle, [target], place))
    with _seeking:  # Windows, where a handle has one position for all
        os.lseek(handle, place, os.SEEK_SET)
        data = os.read(handle, len(target))
    target[: len(data)] = data
    return len(data)


def expect(handle: int, place: int, count: int) -> None:
    """Let the system begin to read ``count`` bytes of an open file; nothing where it cannot be asked."""
    advise = getattr(os, "posix_fadvise", None)  # Linux
    if advise is not None:
        advise(handle, place, count, getattr(os, "POSIX_FADV_WILLNEED", 0))


def memory() -> int | None:
    """The bytes of this machine's memory; None where the system does not say."""
    ask = getattr(os, "sysconf", None)
    try:
        return None if ask is None else int(ask("SC_PAGE_SIZE")) * int(ask("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return None
