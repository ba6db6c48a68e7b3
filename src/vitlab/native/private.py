"""Folders and files of compiled code: run only what nobody but the user, or root, can have written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vitlab.errors import StorageError, storage_error
from vitlab.system import NO_LINK, READ, user
from vitlab.text import quoted

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_private(folder: Path) -> None:
    """Create ``folder`` for this user alone, or take away the right of others to write into it.

    StorageError if it cannot be made, or if others could still replace what is in it.
    """
    try:
        for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
            missing.mkdir(0o700 if missing == folder else 0o755, exist_ok=True)
        about = folder.stat()
        if about.st_mode & OTHERS_WRITE and about.st_uid == user():
            folder.chmod(stat.S_IMODE(about.st_mode) & ~OTHERS_WRITE)
    except OSError as error:
        raise storage_error("use the folder", folder, error) from error
    check_private(folder)


def check_private(folder: Path) -> None:
    """StorageError if another user could replace a file in ``folder``, or the folder itself or one above it."""
    try:
        real = folder.resolve(strict=True)
        for one in (real, *real.parents):
            about = one.stat()
            shared = about.st_mode & OTHERS_WRITE and (one == real or not about.st_mode & stat.S_ISVTX)
            if not owned(about):
                raise StorageError(f"{one} belongs to another user; set VITLAB_CACHE to a folder of your own")
            if shared and user() is not None:
                raise StorageError(f"other users can write to {one}; if that is not wanted: chmod go-w {quoted(one)}")
    except OSError as error:
        raise storage_error("use the folder", folder, error) from error


def read_private(path: Path) -> bytes | str:
    """The bytes of a file that only the user or root can have written; a reason in words if it is another one."""
    try:
        handle = os.open(path, READ | NO_LINK)
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):  # asked before Python opens the handle, which raises for a folder
        os.close(handle)
        return "it is not a file"
    with open(handle, "rb") as file:
        if not owned(about):
            return "it belongs to another user"
        if about.st_mode & OTHERS_WRITE and user() is not None:
            return "other users can write to it"
        try:
            return file.read()
        except OSError as error:
            return f"it cannot be read: {error.strerror}"


def owned(about: os.stat_result) -> bool:
    """Whether a file belongs to this user or to root."""
    return user() is None or about.st_uid in (0, user())
