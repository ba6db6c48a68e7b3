"""A data set of a few hand-made images, in the formats and with the digests of a real one."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.data import Card, DataFile

Bytes = npt.NDArray[np.uint8]
HEIGHT, WIDTH, NUM_TRAIN, NUM_TEST, CLASSES = 5, 7, 13, 11, ("a", "b", "c")
NAMES = ("train-images", "train-labels", "test-images", "test-labels")


def idx(array: Bytes) -> bytes:
    """``array`` of bytes as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def toy_arrays() -> list[Bytes]:
    """Train images, train labels, test images, test labels; no two pixels of an image are equal."""
    arrays: list[Bytes] = []
    for count, start in ((NUM_TRAIN, 0), (NUM_TEST, 101)):
        numbers = np.arange(count * HEIGHT * WIDTH) + start
        arrays.append((numbers % 251).astype(np.uint8).reshape(count, HEIGHT, WIDTH))
        arrays.append((np.arange(count) % len(CLASSES)).astype(np.uint8))
    return arrays


def toy_raws() -> dict[str, bytes]:
    """The raw bytes of each file."""
    return dict(zip(NAMES, map(idx, toy_arrays()), strict=True))


def packed(raw: bytes) -> bytes:
    """``raw`` as gzip, the same at every call."""
    return gzip.compress(raw, mtime=0)


def sha(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def toy_card(mirrors: tuple[str, ...] = (), name: str = "toy", **changes: Any) -> Card:
    """A card of the toy set whose files are asked for as MIRROR/NAME.gz."""
    files = tuple(
        DataFile(
            name,
            sha(raw),
            "raw",
            len(raw) + 100,
            len(raw),
            tuple(f"{mirror}/{name}.gz" for mirror in mirrors),
        )
        for name, raw in toy_raws().items()
    )
    card = Card(
        name=name,
        title="Toy",
        height=HEIGHT,
        width=WIDTH,
        channels=1,
        classes=CLASSES,
        may_flip=False,
        licence="none",
        source="by hand",
        layout="idx",
        files=files,
    )
    return replace(card, **changes)
