"""How much of the files of a folder is kept: all of them get the bits and the channels that the richest have.

A folder with any file of 16 bits is read with 16 bits. What a TIFF marks as transparency often is none: programs that
write arrays mark a fourth channel so, whatever it holds. Real transparency is clear or opaque almost everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vitlab.data import tiff
from vitlab.data.cards import Reading
from vitlab.data.images import Depth, read_file
from vitlab.errors import DataError
from vitlab.text import counted

LOOKED_AT = 32  # files, evenly spaced, that are asked what their transparency is
CLEAR = 0.5  # share of the pixels of transparency that is clear or opaque, at least


class File(Protocol):
    """What is known of a file from its header."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def bits(self) -> int:
        """8 or 16."""

    @property
    def tags(self) -> tiff.Tags | None:
        """What a TIFF states."""


def depth_of(files: Sequence[File], reading: Reading | None, log: Callable[[str], None]) -> Depth | None:
    """How to read ``files``: as the run did, or so that nothing is lost."""
    if reading is not None:
        return reading.depth
    marked = [one for one in files if one.tags is not None and one.tags.has_alpha]
    alpha = all_transparent(marked[:: math.ceil(len(marked) / LOOKED_AT)]) if marked else True
    if not alpha:
        log(
            f"the last channel of {counted(len(marked), 'TIFF file')} is marked as transparency, but is neither clear "
            "nor opaque almost everywhere, so it is taken for a channel like the others"
        )
    return Depth(max((one.bits for one in files), default=8), alpha)


def all_transparent(files: Iterable[File]) -> bool:
    """Whether what these files mark as transparency is that."""
    shares = [share for one in files if (share := share_clear(one)) is not None]
    return not shares or float(np.mean(shares)) >= CLEAR


def share_clear(file: File) -> float | None:
    """Which share of the last channel is clear or opaque; None if it cannot be read, which is reported later."""
    assert file.tags is not None
    try:
        last = tiff.pixels_of(read_file(file.path), file.tags)[..., -1]
    except MemoryError:
        raise
    except Exception:
        return None
    return float(((last == 0) | (last == np.iinfo(last.dtype).max)).mean())


def bytes_of_pixel(files: Sequence[File], depth: Depth | None) -> int:
    """The most that a pixel takes."""
    if depth is None:
        return 3
    channels = (one.tags.channels or 3 for one in files if one.tags is not None)
    return max(3, *channels, 3) * depth.bits // 8


def check_channels(channels: Mapping[str, Sequence[int]], files: Mapping[str, Sequence[str]]) -> None:
    """DataError if images cannot be shown to one network: grey and colour can, 3 and 4 channels cannot."""
    names: dict[int, str] = {}
    for part, counts in channels.items():
        for count, file in zip(counts, files[part], strict=True):
            names.setdefault(count, file)
    if len(names) > 1 and not set(names) <= {1, 3}:
        (first, file), (second, other), *_ = sorted(names.items(), reverse=True)
        these = f"{file} has {counted(first, 'channel')}, {other} only {counted(second, 'channel')}"
        raise DataError(f"{these}; all images need the same, so save them again or leave some out")


def lost_lines(lost: Mapping[str, int]) -> list[str]:
    """A line for each thing that files hold and their images do not."""
    return [f"{counted(count, 'file')}: {what} cannot be kept" for what, count in lost.items() if what]


def dtype_of(depth: Depth | None) -> Any:
    """The type of a pixel."""
    return np.uint16 if depth is not None and depth.bits == 16 else np.uint8
