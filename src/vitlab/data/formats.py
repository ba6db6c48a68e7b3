"""From a catalogue file to arrays: its digest is checked first, then it is unpacked and parsed.

Nothing here trusts a length that a file states about itself. Whatever does not fit is a DataError.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import math
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vitlab.data.cards import Card, DataFile
from vitlab.data.paths import open_regular
from vitlab.data.splits import Images, Split
from vitlab.errors import DataError
from vitlab.files import sha256

Splits = tuple[Split, Split | None, Split]  # training, validation, test

IDX_UINT8 = 0x08
CIFAR_SHAPE = (3, 32, 32)  # channels first


def read_parts(path: Path, file: DataFile) -> list[bytes]:
    """The raw parts of the file at ``path``, in the order of its members; DataError gives the reason only."""
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > file.limit:
                raise DataError(f"it has {size:,} bytes, more than {file.limit:,}")
            if file.packing == "raw":
                is_gzip = stream.peek(2)[:2] == b"\x1f\x8b"
                raw = gunzip(stream, file.part_limit) if is_gzip else stream.read(file.limit + 1)
                check_digest(sha256(raw), file)
                return [raw]
            check_digest(hashlib.file_digest(stream, "sha256" if file.sha256 else "md5").hexdigest(), file)
            stream.seek(0)
            return _unpack(stream, file)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, KeyError) as error:
        raise DataError(f"it cannot be read ({error})") from error


def check_digest(found: str, file: DataFile) -> None:
    """DataError, with the reason only, when the digest ``found`` is not that of ``file``."""
    if found != file.digest:
        kind = "SHA-256" if file.sha256 else "MD5"
        raise DataError(f"its {kind} is {found[:12]}..., not {file.digest[:12]}...")


def _unpack(stream: IO[bytes], file: DataFile) -> list[bytes]:
    if file.packing == "file":
        return [stream.read(file.limit + 1)]
    if file.packing == "gzip":
        return [gunzip(stream, file.part_limit)]
    if file.packing == "bzip2":
        with bz2.open(stream) as unpacked:
            return [_at_most(unpacked.read(file.part_limit + 1), file.part_limit)]
    found = dict(_zip_members(stream, file) if file.packing == "zip" else _tar_members(stream, file))
    for name in file.members:
        if name not in found:
            raise DataError(f"it does not contain {name}")
        if len(found[name]) > file.part_limit:
            raise DataError(f"its member {name} unpacks to more than {file.part_limit:,} bytes")
    return [gunzip(found[name], file.part_limit) if name.endswith(".gz") else found[name] for name in file.members]


def _zip_members(stream: IO[bytes], file: DataFile) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(stream) as archive:
        for name in file.members:
            with archive.open(name) as member:
                yield name, member.read(file.part_limit + 1)


def _tar_members(stream: IO[bytes], file: DataFile) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:  # one pass: seeking would unpack it twice
        for entry in archive:
            member = archive.extractfile(entry) if entry.name in file.members else None
            if member is not None:
                yield entry.name, member.read(file.part_limit + 1)


def _at_most(unpacked: bytes, most: int) -> bytes:
    if len(unpacked) > most:
        raise DataError(f"it unpacks to more than {most:,} bytes")
    return unpacked


def gunzip(data: bytes | IO[bytes], most: int) -> bytes:
    """Unpack gzip ``data``; DataError when it is damaged or unpacks to more than ``most`` bytes."""
    stream = BytesIO(data) if isinstance(data, bytes) else data
    try:
        with gzip.GzipFile(fileobj=stream) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"it is not a complete gzip file ({error})") from error
    return _at_most(unpacked, most)


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
    # A copy, because an array over bytes is read-only and PyTorch needs to own the memory it shares.
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()


def splits_from_idx(card: Card, parts: list[bytes]) -> Splits:
    """Training and test Split from IDX train images, train labels, test images, test labels."""
    names = ("train images", "train labels", "test images", "test labels")
    arrays = [
        read_idx(part, dimensions, f"{card.name} {name}")
        for part, name, dimensions in zip(parts, names, (3, 1, 3, 1), strict=True)
    ]
    return _split_of(card, arrays[0], arrays[1]), None, _split_of(card, arrays[2], arrays[3])


def _split_of(card: Card, images: Images, labels: npt.NDArray[np.uint8]) -> Split:
    if card.transposed:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    if len(labels) and labels.min() < card.first_label:
        raise DataError(f"{card.name} has the label {labels.min()}, but its lowest is {card.first_label}")
    return Split(images[..., np.newaxis], labels.astype(np.int64) - card.first_label)


def splits_from_cifar(card: Card, parts: list[bytes]) -> Splits:
    """Training Split from all ``parts`` but the last, test Split from the last."""
    return read_cifar(b"".join(parts[:-1]), card.name), None, read_cifar(parts[-1], card.name)


def splits_from_cifar100(card: Card, parts: list[bytes]) -> Splits:
    """The same for rows that begin with a coarse label, which is not used, and a fine one."""
    return read_cifar(b"".join(parts[:-1]), card.name, 2), None, read_cifar(parts[-1], card.name, 2)


def read_cifar(data: bytes, what: str, labels: int = 1) -> Split:
    """Rows of ``labels`` label bytes, of which the last counts, and 3,072 pixels (all red, all green, all blue), as a
    Split."""
    width = labels + math.prod(CIFAR_SHAPE)
    if len(data) % width:
        raise DataError(f"{what}: {len(data):,} bytes are not whole rows of {width:,} bytes")
    rows = np.frombuffer(data, np.uint8).reshape(-1, width)
    images = rows[:, labels:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), rows[:, labels - 1].astype(np.int64))


def splits_from_svhn(card: Card, parts: list[bytes]) -> Splits:
    """MATLAB files with X uint8 [32, 32, 3, N] and y [N, 1], in which 10 is the digit 0."""
    train, test = (_read_svhn(part, card.name) for part in parts)
    return train, None, test


def _read_svhn(data: bytes, what: str) -> Split:
    from scipy.io import loadmat

    found = loadmat(BytesIO(data), variable_names=("X", "y"))
    images, labels = found.get("X"), found.get("y")
    if images is None or labels is None or images.ndim != 4 or images.dtype != np.uint8:
        raise DataError(f"{what} does not hold X uint8 [32, 32, 3, N] and y")
    return Split(np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels.ravel().astype(np.int64) % 10)


def splits_from_usps(card: Card, parts: list[bytes]) -> Splits:
    """Text in the format of LIBSVM: a label from 1 to 10, which is the digit plus 1, and 256 pixels from -1 to 1."""
    train, test = (_read_usps(part, card.name) for part in parts)
    return train, None, test


def _read_usps(data: bytes, what: str) -> Split:
    from sklearn.datasets import load_svmlight_file

    try:
        pixels, labels = load_svmlight_file(BytesIO(data), n_features=256)
    except ValueError as error:
        raise DataError(f"{what} is not text in the format of LIBSVM ({error})") from error
    levels = np.round((pixels.toarray() + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return Split(levels.reshape(-1, 16, 16, 1), labels.astype(np.int64) - 1)


def splits_from_medmnist(card: Card, parts: list[bytes]) -> Splits:
    """An .npz file with train_images uint8 [N, 28, 28(, 3)], train_labels [N, 1], and the same for val and test."""
    with np.load(BytesIO(parts[0]), allow_pickle=False) as arrays:
        found: dict[str, npt.NDArray[Any]] = {name: arrays[name] for name in arrays.files}
    splits = []
    for part in ("train", "val", "test"):
        images, labels = found.get(f"{part}_images"), found.get(f"{part}_labels")
        if images is None or labels is None:
            raise DataError(f"{card.name} does not hold {part}_images and {part}_labels")
        splits.append(Split(images if images.ndim == 4 else images[..., np.newaxis], labels.ravel().astype(np.int64)))
    return splits[0], splits[1], splits[2]


# How the parts of a card's files become its training, validation and test Splits, by `Card.layout`.
SPLITTERS = {
    "idx": splits_from_idx,
    "cifar": splits_from_cifar,
    "cifar100": splits_from_cifar100,
    "svhn": splits_from_svhn,
    "usps": splits_from_usps,
    "medmnist": splits_from_medmnist,
}
