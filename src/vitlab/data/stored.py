"""Images that stay on the disk: they are indexed like an array, and only what is asked for is read.

The files are read, not mapped: the pages of a mapping count as this process's memory, so a data set that is larger than
the memory would seem to fill it. Both ways use the system's cache of files, so what was read lately is read fast.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab import system
from vitlab.errors import DataError

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Shape = tuple[int, int, int]

TOGETHER = 256  # images that are read at once where all are wanted
IN_MEMORY = "VITLAB_IN_MEMORY"  # environment variable: the most bytes of pixels that are kept in memory
MOST = 4 * 2**30  # without it, unless a quarter of the machine's memory is less


def most_in_memory() -> int:
    """The most bytes of pixels of a data set that are kept in memory; those of a larger one stay on the disk."""
    given = os.environ.get(IN_MEMORY, "")
    if given:
        if not given.isdecimal():
            raise DataError(f"{IN_MEMORY} is {given!r}; it must be a number of bytes")
        return int(given)
    memory = system.memory()
    return MOST if memory is None else min(MOST, memory // 4)


class PixelFile:
    """Images [N, H, W, C] in an open file, one after the other from the byte ``start`` on. You may close the file."""

    def __init__(self, file: BufferedReader, count: int, shape: Shape, dtype: npt.DTypeLike, start: int = 0) -> None:
        self.name, self.count, self.shape, self.dtype, self.start = file.name, count, shape, np.dtype(dtype), start
        self.handle = os.dup(file.fileno())  # the file stays open as long as this is used
        weakref.finalize(self, os.close, self.handle)
        self.size = int(np.prod(shape)) * self.dtype.itemsize  # bytes of one image

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Rows) -> Array:
        """The images at ``rows``, in their order; DataError if the file has become shorter."""
        images = np.empty((len(rows), *self.shape), self.dtype)
        target = images.reshape(-1).view(np.uint8).data
        for first, end in _stretches(rows):
            self._fill(target[first * self.size : end * self.size], self.start + int(rows[first]) * self.size)
        return images

    def _fill(self, target: memoryview, place: int) -> None:
        while target:
            try:
                count = system.read_at(self.handle, target, place)
            except OSError as error:
                raise DataError(f"cannot read {self.name}: {error.strerror}; check the disk") from error
            if not count:
                raise DataError(f"{self.name} has become shorter; run the same command again")
            target, place = target[count:], place + count

    def expect(self, rows: Rows) -> None:
        """Let the system begin to read the images at ``rows``, which are sorted."""
        for first, end in _stretches(rows):
            place, count = self.start + int(rows[first]) * self.size, (end - first) * self.size
            system.expect(self.handle, place, count)


def _stretches(rows: Rows) -> Iterator[tuple[int, int]]:
    """(start, end) of the places in ``rows`` where consecutive numbers stand."""
    ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)] if len(rows) else []
    return zip([0, *ends[:-1]], ends, strict=True) if ends else iter(())


class Stored:
    """Images [N, H, W, C] of which most are on the disk. They pass for an array as far as `Split` needs one: ``shape``,
    ``dtype``, and indexing by a number, a slice, or an array of numbers, which reads and copies.

    ``mean`` and ``std`` of the channels and the number of images of one colour, ``constant``, are known where the
    images are all those of a part of a data set.
    """

    ndim = 4

    def __init__(
        self,
        sources: Sequence[PixelFile | Array],
        rows: Rows,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        constant: int | None = None,
    ) -> None:
        self.sources, self.rows = tuple(sources), rows  # rows of all sources, one after the other
        self.starts = np.cumsum([0, *map(len, self.sources)])
        self.mean, self.std, self.constant = mean, std, constant
        self.dtype = self.sources[0].dtype

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        first = self.sources[0]
        height, width, channels = first.shape if isinstance(first, PixelFile) else first.shape[1:]
        return len(self.rows), height, width, channels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Array:
        rows = self.rows[key]
        return self._read(rows) if isinstance(rows, np.ndarray) else self._read(np.array([rows]))[0]

    def __iter__(self) -> Iterator[Array]:
        for start in range(0, len(self), TOGETHER):
            yield from self[start : start + TOGETHER]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, indices: Rows) -> Stored:
        """The images at ``indices``, still on the disk."""
        return Stored(self.sources, self.rows[indices])

    def expect(self, key: Any) -> None:
        """Let the system begin to read the images at ``key``, an array of numbers or a slice."""
        for source, rows, _ in self._by_source(np.sort(self.rows[key])):
            if isinstance(source, PixelFile):
                source.expect(rows)

    def _read(self, rows: Rows) -> Array:
        if len(self.sources) == 1:
            return self.sources[0][rows]
        images = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for source, inside, places in self._by_source(rows):
            images[places] = source[inside]
        return images

    def _by_source(self, rows: Rows) -> Iterator[tuple[PixelFile | Array, Rows, npt.NDArray[np.intp]]]:
        """Each source with the numbers that ``rows`` have in it, and their places in ``rows``."""
        of_row = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(of_row).tolist():
            places = np.flatnonzero(of_row == number)
            yield self.sources[number], rows[places] - self.starts[number], places


def joined(images: Sequence[Any]) -> Any:
    """Images of one shape after each other: on the disk if some are there, else a new array."""
    if not any(isinstance(some, Stored) for some in images):
        return np.concatenate([some for some in images if isinstance(some, np.ndarray)])
    sources: list[PixelFile | Array] = []
    rows, count = [], 0
    for some in images:
        parts = some.sources if isinstance(some, Stored) else (some,)
        rows.append(count + (some.rows if isinstance(some, Stored) else np.arange(len(some))))
        sources.extend(parts)
        count += sum(map(len, parts))
    return Stored(sources, np.concatenate(rows))


def blocks(images: Any, count: int = 1024) -> Iterator[Array]:
    """The images in their order, ``count`` at a time."""
    for start in range(0, len(images), count):
        yield images[start : start + count]
