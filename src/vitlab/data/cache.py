"""Decoded images that do not fit into memory, in files of the user's cache: each written once, whole or not at all.

A file's name says what is in it: a digest of the images as they came, and how they were decoded. Its own digest lies in
a second file, so that damage is noticed. `vitlab data clean` deletes all of them; they are made again when needed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from vitlab import files
from vitlab.data.paths import open_regular
from vitlab.errors import DataError, RunError

PIXELS, ABOUT = "pixels", "about.json"
SPARE = 1 << 28  # bytes of the disk that stay free

Fill = Callable[[BinaryIO], Any]


def folder() -> Path:
    """Where the files are."""
    return files.user_cache() / "images"


def kept(name: str, size: int, fill: Fill, log: Callable[[str], None]) -> BufferedReader:
    """The file ``name`` of ``size`` bytes, open for reading. If it is not there, or damaged, ``fill`` writes it.
    DataError if the disk is too small."""
    found = opened(name)
    if found is None:
        write(name, size, fill, log)
        found = opened(name)
    if found is None:
        raise DataError(f"{folder() / name} was damaged while it was written; check the disk, and try again")
    return found[0]


def opened(name: str) -> tuple[BufferedReader, Any] | None:
    """The file and what was written about it; None if it is not there, or is not what was written."""
    place = folder() / name
    try:
        about = files.read_json(place / ABOUT)
        file = open_regular(place / PIXELS)
    except (RunError, OSError):
        return None
    if isinstance(about, dict) and hashlib.file_digest(file, "sha256").hexdigest() == about.get("sha256"):
        return file, about.get("about")
    file.close()
    return None


def write(name: str, size: int, fill: Fill, log: Callable[[str], None]) -> None:
    """Write the file ``name`` of about ``size`` bytes; what ``fill`` returns is stored with it."""
    place = folder() / name
    files.make_folder(place.parent)
    free = shutil.disk_usage(place.parent).free
    if free < size + SPARE:
        raise DataError(
            f"the images take {size / 2**30:.1f} GiB, and {place.parent} has only {free / 2**30:.1f} GiB free; free "
            "some (`vitlab data clean` deletes what is there), or set VITLAB_CACHE to a larger disk"
        )
    log(f"writing {size / 2**30:.1f} GiB of decoded images to {place}, once")
    with files.new_folder(place) as half_made:
        with files.new_binary(half_made / PIXELS) as file:
            about = fill(file)
        files.write_json(half_made / ABOUT, {"sha256": files.digest_of(half_made / PIXELS), "about": about})


def remembered(name: str, find: Callable[[], list[Any]]) -> list[Any]:
    """The numbers called ``name``, which are looked for once, because that reads gigabytes."""
    path = folder() / f"{name}.json"
    try:
        stored = files.read_json(path)
        if isinstance(stored, list):
            return stored
    except RunError:  # not there, or damaged
        pass
    found = find()
    files.make_folder(path.parent)
    files.write_json(path, found)
    return found


def clean() -> tuple[int, int]:
    """Delete all files; how many there were, and their bytes."""
    places = [folder() / name for name in files.names_in(folder())]
    sizes = [(place / PIXELS).stat().st_size for place in places if files.is_ordinary(place / PIXELS)]
    for place in places:
        if files.is_folder(place):
            shutil.rmtree(place, ignore_errors=True)
        else:
            files.remove(place)
    return len(sizes), sum(sizes)
