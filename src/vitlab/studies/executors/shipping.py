"""Images on their way to a node that has none: sent once to each node, and kept in its cache by their digest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePath

from vitlab import files
from vitlab.data import CATALOGUE
from vitlab.data.pixels import pixel_columns
from vitlab.data.sources import local_paths, obtain
from vitlab.data.tables import table_at
from vitlab.errors import RunInUseError

PIECE = 1 << 26  # bytes that travel at a time
WAIT_SECONDS = 0.5

Piece = list[tuple[str, bytes]]  # names of files relative to the data set, each with more of its bytes


def is_here(data: str) -> bool:
    """Whether this machine has images of this name; whether they are the right ones, the run checks."""
    if data in CATALOGUE:
        card = CATALOGUE[data]
        return card.layout == "sklearn" or all(local_paths(card, file) for file in card.files)
    return os.path.exists(os.path.expanduser(data))


def files_of(data: str) -> dict[str, Path]:
    """The files of a data set on this machine, by the names that they have in it; none if it cannot be sent (a table
    of labels names images anywhere) or need not be. DataError if one of the catalogue cannot be obtained."""
    if data in CATALOGUE and CATALOGUE[data].layout == "sklearn":
        return {}
    if data in CATALOGUE:
        return {found.path.name: found.path for found in obtain(CATALOGUE[data], lambda line: None)}
    path = Path(os.path.expanduser(data))
    if path.is_dir():
        inside = [Path(folder) / name for folder, _, names in os.walk(path, followlinks=True) for name in names]
        return {one.relative_to(path).as_posix(): one for one in sorted(inside) if one.is_file()}
    return {path.name: path} if path.is_file() and (path.suffix == ".npz" or is_pixel_table(path)) else {}


def is_pixel_table(path: Path) -> bool:
    """Whether a CSV file holds the images themselves."""
    table = table_at(path)
    return table is not None and bool(pixel_columns(table))


def pack(data: str) -> Iterator[Piece]:
    """The files of a data set in pieces of about 64 MiB."""
    piece, room = Piece(), PIECE
    for name, path in files_of(data).items():
        piece.append((name, b""))  # an empty file is a file too
        with open(path, "rb") as file:
            while more := file.read(room):
                piece.append((name, more))
                room -= len(more)
                if not room:
                    yield piece
                    piece, room = [], PIECE
    if piece:
        yield piece


def shipped_to(data: str, digest: str) -> Path:
    """Where a node keeps the images of this digest that were sent to it: a folder or a file, called as on the machine
    that sent it, or a folder with the files of the catalogue."""
    folder = files.user_cache() / "shipped" / digest[:32]
    return folder if data in CATALOGUE else folder / PurePath(data).name


def shipped(data: str, digest: str | None) -> str | None:
    """Where the images with this digest are if they were sent to this node; else None."""
    place = digest and shipped_to(data, digest)
    return str(place) if place and place.exists() else None


def unpack(data: str, digest: str, pieces: Iterable[Piece], again: bool = False) -> None:
    """Keep images that were sent. If another run of this node does so, wait for it, and take no piece; ``again``:
    those that are there are damaged."""
    place, is_file = shipped_to(data, digest), PurePath(data).suffix.lower() in (".npz", ".csv")
    folder = place.parent if is_file else place
    files.make_folder(folder.parent)
    while True:
        try:
            with files.locked(folder.parent, "images are arriving"):
                if again or not place.exists():
                    with files.new_folder(folder) as half_made:
                        write(half_made, pieces)
            return
        except RunInUseError:
            time.sleep(WAIT_SECONDS)


def write(folder: Path, pieces: Iterable[Piece]) -> None:
    """Write the files in ``pieces``, whose parts follow each other, below ``folder``."""
    for name, parts in groupby((part for piece in pieces for part in piece), key=itemgetter(0)):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            continue
        files.make_folder(path.parent)
        with files.new_binary(path) as file:
            for _, more in parts:
                file.write(more)
