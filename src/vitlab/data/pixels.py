"""Pixels in a table: one line for each image, its label and its pixels, as in Kaggle's "Digit Recognizer".

label,pixel0,pixel1,...   square images: n x n columns of grey, or 3 x n x n of red, green and blue for each pixel
5,0,0,255,...             without a first line of names, the label comes first
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.data.cards import Dataset, Reading
from vitlab.data.npz import dataset_of
from vitlab.data.paths import open_regular, sub_folders
from vitlab.data.tables import MAX_HEADER, Table, tables_in
from vitlab.errors import DataError
from vitlab.text import counted, listed

LEAST_PIXELS = 16
LINES = 4096  # that are read at once
MOST_TEXT = 4 * 2**30  # bytes of a table: pixels take a quarter of that or less
LONGEST_CELL = 32  # characters


@dataclass(frozen=True)
class Columns:
    """Where a table of pixels has its label (None: it has none); the side and the channels of its images."""

    label: int | None
    side: int
    channels: int
    has_names: bool

    @property
    def count(self) -> int:
        """How many there are."""
        return self.side**2 * self.channels + (self.label is not None)


def pixel_columns(table: Table) -> Columns | None:
    """The columns of a table of pixels; None if it is none."""
    has_names = not all(name.isdecimal() for name in table.columns)
    for label in (table.label,) if has_names else (0, None):
        count = len(table.columns) - (label is not None)
        for channels in (1, 3):
            side = math.isqrt(max(0, count // channels))
            if count >= LEAST_PIXELS and side**2 * channels == count:
                return Columns(label, side, channels, has_names)
    return None


def pixel_tables(root: Path, reading: Reading | None) -> list[Table]:
    """The tables of pixels in a folder without sub-folders, or those that a run read; none if no image has a label."""
    if (reading is not None and not reading.tables) or sub_folders(root, root):
        return []
    there = [table for table in tables_in(root) if pixel_columns(table)]
    if reading is not None:
        there = [table for table in there if table.path.name in reading.tables]
    has_labels = any(columns.label is not None for table in there if (columns := pixel_columns(table)))
    return there if has_labels else []


def load_pixels(tables: list[Table], place: Path, log: Callable[[str], None], reading: Reading | None) -> Dataset:
    """The data set of tables of pixels, one for each part. DataError for a line that does not fit."""
    parts = _by_part(tables, place, log)
    read = {part: read_pixels(table) for part, table in parts.items()}
    if len({images.shape[1:] for images, _ in read.values()}) > 1:
        raise DataError(f"{place}: the tables have images of different sizes; use those of one size")
    digests = {part: _digest(table.path) for part, table in parts.items()}
    lines = "\n".join(f"{digest} {part}" for part, digest in digests.items())
    digest = digests["train"] if len(parts) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    names = tuple(table.path.name for table in parts.values())
    return dataset_of(read, None, place, digest, log, reading, names)


def _by_part(tables: list[Table], place: Path, log: Callable[[str], None]) -> dict[str, Table]:
    """The table of each part, in the order train, val, test; of those without labels a note."""
    named: dict[str, Table] = {}
    for table in tables:
        columns = pixel_columns(table)
        part = table.part or "train" if len(tables) > 1 else "train"
        if columns is None or columns.label is None:
            log(f"{table.path.name} has no column called label, so it is not used")
        elif part in named:
            names = listed([one.path.name for one in tables])
            raise DataError(f"{place} has {names}; name one of them as --data, or call them train.csv and test.csv")
        else:
            named[part] = table
    if "train" not in named:
        raise DataError(f"{place} has no table of training images with labels; call it train.csv")
    return {part: named[part] for part in ("train", "val", "test") if part in named}


def read_pixels(table: Table) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """uint8 [N, side, side, channels] and int64 [N] of a table; DataError names the line that is wrong."""
    if table.path.stat().st_size > MOST_TEXT:
        raise DataError(
            f"{table.path} has more than {MOST_TEXT >> 30} GiB of text; save its images as .npz or PNG files"
        )
    images, labels = zip(*pixel_blocks(table), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def pixel_blocks(table: Table) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """The same a few thousand lines at a time, so that memory stays small; labels are [N, 0] if the table has none."""
    columns, path, found = pixel_columns(table), table.path, 0
    assert columns is not None
    try:
        with open_regular(path) as file:
            text, line = io.TextIOWrapper(file, "utf-8-sig"), 1 + columns.has_names
            lines = islice(_lines(text, table, columns), int(columns.has_names), None)
            while some := list(islice(lines, LINES)):
                values = _values(some, table, columns, line)
                pixels = _pixels_in(values, columns).astype(np.uint8)
                labels = values[:, :0] if columns.label is None else values[:, columns.label]
                yield pixels.reshape(-1, columns.side, columns.side, columns.channels), labels
                found, line = found + len(pixels), line + len(some)
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV with UTF-8") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check it") from None
    if not found:
        raise DataError(f"{path} has no images")


def _pixels_in(values: npt.NDArray[np.int64], columns: Columns) -> npt.NDArray[np.int64]:
    return values if columns.label is None else np.delete(values, columns.label, axis=1)


def _lines(text: io.TextIOWrapper, table: Table, columns: Columns) -> Iterator[str]:
    """The lines of a table; DataError for one that is much longer than its pixels need, before it fills the memory."""
    most = max(LONGEST_CELL * columns.count, MAX_HEADER)
    for number, line in enumerate(iter(lambda: text.readline(most), ""), 1):
        if len(line) == most:
            raise DataError(f"{table.path}, line {number} is far too long for {columns.count} columns; correct it")
        yield line


def _values(lines: list[str], table: Table, columns: Columns, first: int) -> npt.NDArray[np.int64]:
    """Whole numbers [lines, columns], of which the pixels are 0 to 255."""
    filled = [line for line in lines if line.strip()]
    if not filled:
        return np.empty((0, columns.count), np.int64)
    try:
        values = np.loadtxt(filled, np.int64, delimiter=table.delimiter, comments=None, quotechar='"', ndmin=2)
    except (ValueError, OverflowError):
        raise _wrong(lines, table, columns, first) from None
    pixels = _pixels_in(values, columns)
    if values.shape[1] != columns.count or values.min() < 0 or pixels.max() > 255:
        raise _wrong(lines, table, columns, first)
    return values


def _wrong(lines: list[str], table: Table, columns: Columns, first: int) -> DataError:
    """Which line is wrong, and why."""
    for number, line in enumerate(lines, first):
        where = f"{table.path}, line {number}"
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=table.delimiter), [])]
        except csv.Error as error:
            return DataError(f"{where}: {error}; correct it")
        if cells and len(cells) != columns.count:
            return DataError(f"{where} has {counted(len(cells), 'cell')}, not {columns.count}; correct it")
        for place, cell in enumerate(cells):
            if place == columns.label and not (cell.isdecimal() and len(cell) < 10):
                return DataError(f"{where} has the label {cell!r}; labels must be whole numbers from 0")
            if place != columns.label and not (cell.isdecimal() and len(cell) < 4 and int(cell) <= 255):
                return DataError(f"{where} has the pixel {cell!r}; pixels must be whole numbers from 0 to 255")
    return DataError(f"{table.path} cannot be read after line {first}; save it again as CSV")


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
