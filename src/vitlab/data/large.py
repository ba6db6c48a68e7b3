"""The images of a folder that do not fit into memory: decoded one by one into a temporary file (`Spill`), then written
to the cache, all of one shape.

Two steps, because only the last image tells whether all are grey, and which background shows the ink of most.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from vitlab import files
from vitlab.data import cache
from vitlab.data.images import Eight, Pixels, over
from vitlab.data.stored import PixelFile, Stored
from vitlab.errors import storage_error

TOGETHER = 256  # images that are written at once


class Place(NamedTuple):
    """Where an image begins in a Spill, its channels, and whether its transparency follows."""

    start: int
    channels: int = 1
    has_alpha: bool = False


class Spill:
    """Images of ``dtype`` in a temporary file of ``folder`` that has no name and vanishes with the process."""

    def __init__(self, folder: Path, dtype: npt.DTypeLike = np.uint8) -> None:
        files.make_folder(folder)
        self.folder, self.dtype = folder, np.dtype(dtype)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed in __exit__)
        self.end = 0

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def put(self, image: Pixels, alpha: Eight | None) -> Place:
        """Store an image [H, W, C] and its transparency [H, W]; StorageError when the disk is full."""
        place = Place(self.end, image.shape[2], alpha is not None)
        try:
            for part in (image,) if alpha is None else (image, alpha):
                self.file.write(np.ascontiguousarray(part).data)
                self.end += part.nbytes
        except OSError as error:
            raise storage_error("write to", self.folder, error) from error
        return place

    def get(self, place: Place, size: tuple[int, int], under: int) -> Pixels:
        """The image at ``place`` of ``size`` (height, width), its transparency filled with the grey ``under``."""
        pixels = size[0] * size[1]
        self.file.seek(place.start)
        data = self.file.read(pixels * place.channels * self.dtype.itemsize)
        image = np.frombuffer(data, self.dtype).reshape(*size, place.channels)
        alpha = np.frombuffer(self.file.read(pixels), np.uint8).reshape(size) if place.has_alpha else None
        return over(image, alpha, under)


def write_parts(
    name: str,
    spill: Spill,
    places: Mapping[str, Sequence[Place]],
    size: tuple[int, int],
    under: int,
    about: dict[str, Any],
    log: Callable[[str], None],
) -> None:
    """Write the images of all parts into the cache, one part after the other, with ``about``."""
    channels = max(place.channels for some in places.values() for place in some)
    shape = (*size, channels)

    def fill(file: BinaryIO) -> dict[str, Any]:
        for some in places.values():
            for block in _blocks(spill, some, shape, under):
                file.write(block.data)
        counts = {part: len(some) for part, some in places.items()}
        return about | {"counts": counts, "channels": channels, "dtype": spill.dtype.name}

    count = sum(map(len, places.values())) * size[0] * size[1] * channels
    cache.write(name, count * spill.dtype.itemsize, fill, log)


def _blocks(spill: Spill, places: Sequence[Place], shape: tuple[int, int, int], under: int) -> Iterator[Pixels]:
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        block = np.empty((len(some), *shape), spill.dtype)
        for image, place in zip(block, some, strict=True):
            image[...] = spill.get(place, shape[:2], under)  # grey [H, W, 1] fills all channels
        yield block


def open_parts(file: BufferedReader, about: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The images of each part, on the disk; they pass for arrays."""
    shape, start, found = (*size, int(about["channels"])), 0, {}
    dtype = np.dtype("uint16" if about.get("dtype") == "uint16" else "uint8")
    for part, count in about["counts"].items():
        found[part] = Stored([PixelFile(file, count, shape, dtype, start)], np.arange(count))
        start += count * size[0] * size[1] * shape[2] * dtype.itemsize
    return found
