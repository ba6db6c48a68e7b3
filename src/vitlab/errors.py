"""The errors that a user can cause, each with its exit code.

    VitlabError              1   any of those below, or one without its own class
    +-- ConfigError          2   a wrong option or value; nothing was written
    +-- DataError            3   data missing, unreadable, or different from its digest
    +-- DivergedError        4   the loss stopped being a finite number
    +-- OutOfMemoryError     5   the machine or the GPU is out of memory
    +-- StorageError         6   disk full, read-only folder, failing disk
    +-- RunInUseError        7   another process is writing this run folder
    +-- RunError             8   a run folder that is missing, damaged, or does not fit the request
    +-- RankError            9   another process of a training on several has ended
    +-- Interrupted    130/143   Ctrl-C or SIGTERM; the run can be resumed

A message says what happened, why, and what to do, in one line: it is all that the user sees. It is written for the
command line; in Python, `str(error)` says the same with Python's names (advice.py).
"""

from __future__ import annotations

import errno
import importlib
import re
from importlib import metadata
from types import ModuleType

from vitlab.advice import spoken


class VitlabError(Exception):
    """Base of all errors that a user can cause; ``exit_code`` is the process's exit status.

    >>> try:
    ...     vitlab.train("smal", data="digits")
    ... except vitlab.VitlabError as error:
    ...     print(error)
    there is no preset 'smal' (did you mean small?); `list(vitlab.PRESETS)` lists them
    """

    exit_code = 1

    def __str__(self) -> str:
        return spoken(super().__str__())


class ConfigError(VitlabError, ValueError):
    """An option or value, or a combination of them, that cannot work."""

    exit_code = 2


class DataError(VitlabError):
    """A data set that is missing, malformed, or differs from its digest."""

    exit_code = 3


class DivergedError(VitlabError):
    """Training produced a loss that is not finite."""

    exit_code = 4


class OutOfMemoryError(VitlabError):
    """An allocation failed."""

    exit_code = 5


class StorageError(VitlabError):
    """The disk refused a write."""

    exit_code = 6


class RunInUseError(VitlabError):
    """Another process is writing this folder."""

    exit_code = 7


class RunError(VitlabError):
    """A run folder is missing, incomplete, damaged, or belongs to another configuration."""

    exit_code = 8


class RankError(VitlabError):
    """Another rank of a training on several processes has ended."""

    exit_code = 9


class Interrupted(VitlabError):
    """A signal ended the run after a checkpoint; ``signum`` 2 gives exit code 130, 15 gives 143."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


MEMORY_SIGNS = ("out of memory", "allocate memory", "not enough memory", "failed to map segment", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: MemoryError, or the words of torch, of the system and its loader."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        sign in str(error).lower() for sign in MEMORY_SIGNS
    )


def import_optional(name: str, missing: VitlabError) -> ModuleType:
    """The module ``name``; ``missing`` if that is not installed, OutOfMemoryError or VitlabError if it cannot load."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise missing from error
        reason: Exception = error
    except (ImportError, MemoryError, OSError) as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"out of memory while loading {name}; free some memory and try again") from error
        reason = error
    text = (str(reason).splitlines() or [type(reason).__name__])[0]
    raise VitlabError(f"{name} is installed but cannot be loaded ({text}); reinstall it") from reason


def pip_install(extra: str) -> str:
    """The command that installs the packages of one of vitlab's extras. It names them one by one, so it is
    right however vitlab was installed: from a checkout, from a wheel or from an index."""
    try:
        lines = metadata.requires("vitlab") or []
    except metadata.PackageNotFoundError:  # it runs from a folder and is not installed
        lines = []
    wanted = re.compile(rf"([^;]+?)\s*;\s*extra == ['\"]{re.escape(extra)}['\"]")
    packages = [f"'{found[1]}'" for found in map(wanted.fullmatch, lines) if found]
    return f"pip install {' '.join(packages) or extra}"


STORAGE_HINTS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.EIO: "the disk reports an input/output error; check the disk",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.ENOENT: "a part of the path is missing and cannot be made; choose another folder",
    errno.EEXIST: "a file with that name already exists; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def storage_error(action: str, path: object, error: OSError) -> StorageError:
    """The one-line StorageError for an OSError that was raised when ``action`` was tried on ``path``."""
    hint = STORAGE_HINTS.get(error.errno or 0, error.strerror or "unknown reason")
    return StorageError(f"cannot {action} {path}: {hint}")
