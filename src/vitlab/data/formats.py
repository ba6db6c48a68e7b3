"""Strict readers of the catalogue's formats: bytes -> Splits. Whatever does not fit is a DataError.

Nothing here trusts a length that a file states about itself.
"""

from __future__ import annotations

import gzip
import math
import zlib
from io import BytesIO
from typing import IO

import numpy as np
import numpy.typing as npt

from vitlab.data.cards import Card
from vitlab.data.splits import Images, Split
from vitlab.errors import DataError

IDX_UINT8 = 0x08
CIFAR_SHAPE = (3, 32, 32)  # channels first


def gunzip(data: bytes | IO[bytes], most: int) -> bytes:
    """Unpack gzip ``data``; DataError when it is damaged or unpacks to more than ``most`` bytes."""
    stream = BytesIO(data) if isinstance(data, bytes) else data
    try:
        with gzip.GzipFile(fileobj=stream) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"it is not a whole gzip file ({error})") from error
    if len(unpacked) > most:
        raise DataError(f"it unpacks to more than {most:,} bytes")
    return unpacked


def read_idx(data: bytes, dimensions: int, what: str) -> npt.NDArray[np.uint8]:
    """The uint8 array in IDX ``data`` (big-endian: 0, 0, type, number of dimensions, sizes, values)."""
    header = 4 + 4 * dimensions
    if len(data) < header or data[:2] != b"\0\0":
        raise DataError(f"{what} is not an IDX file")
    if data[2] != IDX_UINT8:
        raise DataError(f"{what} holds IDX values of type 0x{data[2]:02x}, not bytes (0x08)")
    if data[3] != dimensions:
        raise DataError(f"{what} has {data[3]} dimensions, not {dimensions}")
    shape = [int.from_bytes(data[start : start + 4], "big") for start in range(4, header, 4)]
    if math.prod(shape) != len(data) - header:
        raise DataError(f"{what} states the shape {shape} but holds {len(data) - header:,} values")
    # A copy, because an array over bytes is read-only and PyTorch wants to own what it shares.
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()


def splits_from_idx(card: Card, parts: list[bytes]) -> tuple[Split, Split]:
    """Training and test Split from IDX train images, train labels, test images, test labels."""
    names = ("train images", "train labels", "test images", "test labels")
    arrays = [
        read_idx(part, dimensions, f"{card.name} {name}")
        for part, name, dimensions in zip(parts, names, (3, 1, 3, 1), strict=True)
    ]
    return _split_of(card, arrays[0], arrays[1]), _split_of(card, arrays[2], arrays[3])


def _split_of(card: Card, images: Images, labels: npt.NDArray[np.uint8]) -> Split:
    if card.transposed:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    if len(labels) and labels.min() < card.first_label:
        raise DataError(f"{card.name} has the label {labels.min()}, but its lowest is {card.first_label}")
    return Split(images[..., np.newaxis], labels.astype(np.int64) - card.first_label)


def splits_from_cifar(card: Card, parts: list[bytes]) -> tuple[Split, Split]:
    """Training Split from all ``parts`` but the last, test Split from the last."""
    return read_cifar(b"".join(parts[:-1]), card.name), read_cifar(parts[-1], card.name)


def read_cifar(data: bytes, what: str) -> Split:
    """Rows of one label byte and 3,072 pixels (all red, all green, all blue), as a Split."""
    width = 1 + math.prod(CIFAR_SHAPE)
    if len(data) % width:
        raise DataError(f"{what}: {len(data):,} bytes are not whole rows of {width:,} bytes")
    rows = np.frombuffer(data, np.uint8).reshape(-1, width)
    images = rows[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), rows[:, 0].astype(np.int64))
