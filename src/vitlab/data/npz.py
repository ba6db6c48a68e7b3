"""A NumPy .npz file as a data set. Nothing is unpickled, so opening an untrusted file is safe."""

from __future__ import annotations

import hashlib
import math
import os
import re
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vitlab.data.arrays import refuse_channels_first, rows_advice
from vitlab.data.cache import kept
from vitlab.data.cards import Dataset, Reading, own_card
from vitlab.data.images import ImageError, with_bits
from vitlab.data.paths import open_regular
from vitlab.data.splits import MOST_CHANNELS, Split
from vitlab.data.stored import PixelFile, Stored, blocks, most_in_memory
from vitlab.errors import DataError, VitlabError
from vitlab.text import counted, listed

KEYS = {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")}
ONLY_IMAGES = ("images", "x_test", "x")
SHORT_KEYS = {"train": ("images", "labels")}
KNOWN = ("classes", *(key for keys in (*KEYS.values(), *SHORT_KEYS.values()) for key in keys))
MAX_CLASSES = 10_000
BLOCK = 1 << 20  # bytes that are copied at once

Array = npt.NDArray[Any]


def load_npz(path: Path, log: Callable[[str], None] = lambda line: None, reading: Reading | None = None) -> Dataset:
    """Read the arrays in ``path``; DataError when they do not make a data set.

    Keys are x_train, y_train and, optionally, x_val, y_val, x_test, y_test; or images, labels. Images are uint8 (or
    other whole numbers from 0 to 255) or uint16 [N, H, W] or [N, H, W, C], labels integers [N]. With an array of
    strings ``classes``, labels are places in it; without it, the classes are the training labels that occur.
    ``reading``: as the run read them that they are loaded for.
    """
    try:
        with open_regular(path) as file:
            _check_archive(file, path)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            found, arrays = _read_arrays(file, path, KNOWN, (digest, log))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; choose an .npz file that exists") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot read {str(path)!r}: {reason}; choose an .npz file that exists and can be read"
        ) from error
    keys = SHORT_KEYS if "images" in arrays and "x_train" not in arrays else KEYS
    bits = bits_of([arrays[images] for images, _ in keys.values() if images in arrays], reading)
    pairs: dict[str, tuple[Array, Array]] = {}
    for part, (images, labels) in keys.items():
        if images in arrays and labels in arrays:
            pairs[part] = _pixels(arrays[images], path, bits), _labels(arrays[labels], path)
        elif part == "train":
            raise DataError(f"{path} must hold x_train and y_train, or images and labels; it holds {found}")
        elif images in arrays or labels in arrays:
            raise DataError(f"{path} must hold both {images} and {labels}, or neither; it holds {found}")
    return dataset_of(pairs, arrays.get("classes"), path, digest, log, reading)


def bits_of(images: list[Any], reading: Reading | None) -> int:
    """8 or 16, as the run read its images; for a new one 16 if a part is uint16 and not all of it fits into 8."""
    if reading is not None:
        return reading.depth.bits if reading.depth else 8
    deep = [one for one in images if one.dtype == np.uint16 and one.ndim > 0]
    return 16 if any((some > 255).any() for one in deep for some in blocks(one)) else 8


def read_images(path: Path, bits: int | None = None) -> Array:
    """The images of a file that needs no labels, uint8 or uint16 [N, H, W] or [N, H, W, C], with so many ``bits``:
    those called images, x_test or x, or else its only array. DataError for anything else."""
    try:
        with open_regular(path) as file:
            found, arrays = _read_arrays(file, path, None)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; choose an .npz file that exists") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check it") from error
    named = [name for name in ONLY_IMAGES if name in arrays] or list(arrays)
    if not named or (len(arrays) > 1 and named[0] not in ONLY_IMAGES):
        raise DataError(f"{path} holds {found}; call the array of images to classify images")
    images: Array = _pixels(arrays[named[0]], path, bits or bits_of([arrays[named[0]]], None))
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] > MOST_CHANNELS):
        wanted = f"they must be [N, H, W] or [N, H, W, C]{rows_advice(images.shape)}"
        raise DataError(f"{path} contains images of shape {list(images.shape)}; {wanted}")
    return images[..., np.newaxis] if images.ndim == 3 else images


def dataset_of(
    pairs: dict[str, tuple[Array, Array]],
    names: Array | None,
    path: Path,
    digest: str,
    log: Callable[[str], None],
    reading: Reading | None,
    tables: tuple[str, ...] = (),
) -> Dataset:
    """The data set of the images and integer labels of each part, which ``path`` holds; ``names`` of the classes, else
    the training labels are the classes."""
    classes, values = _classes(names, pairs["train"][1], path, log, reading)
    splits = {part: _split(images, labels, values, part, path) for part, (images, labels) in pairs.items()}
    train = splits["train"]
    card = own_card(path.stem, f"arrays of {path.name}", train.images, classes, str(path), "csv" if tables else "npz")
    return Dataset(card, train, splits.get("val"), splits.get("test"), digest, f"the file {path}", tables=tables)


def _read_arrays(
    file: IO[bytes], path: Path, known: tuple[str, ...] | None, large: tuple[str, Callable[[str], None]] | None = None
) -> tuple[str, dict[str, Any]]:
    """The names of everything in the file, for a message, and the arrays with a known key; None knows every key.

    If the arrays are more than fit into memory, images stay on the disk; ``large`` is the file's digest and where to
    say so. Without it, they are refused.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [one for one in archive.infolist() if known is None or one.filename.removesuffix(".npy") in known]
            for member in members:
                with archive.open(member) as stream:
                    _check_claim(stream, member.file_size)
            size = sum(member.file_size for member in members)
            is_large = size > most_in_memory()
            if is_large and large is None:
                raise DataError(f"{path} holds {size / 2**30:.1f} GiB of pixels, more than fit into memory; split it")
            names = ", ".join(sorted(one.removesuffix(".npy") for one in archive.namelist())) or "nothing"
            if is_large and large is not None:
                digest, log = large
                log(f"{path.name} holds {size / 2**30:.1f} GiB, so its images stay on the disk and are read in batches")
                return names, {
                    member.filename.removesuffix(".npy"): _open_member(archive, member, path, digest, log)
                    for member in members
                }
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return names, {
                key: array.astype(array.dtype.newbyteorder("="), copy=False)
                for key in arrays.files
                if (known is None or key in known) and isinstance(array := arrays[key], np.ndarray)
            }
    except (VitlabError, MemoryError):
        raise
    except Exception as error:  # NumPy and zipfile have a dozen types for damage
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "allow_pickle" in reason:
            reason = "it contains Python objects, which could run code"
        advice = "use numpy.savez(path, x_train=images, y_train=labels) to write one"
        raise DataError(f"{path} is not a readable .npz file ({reason}); {advice}") from error


def _check_archive(file: IO[bytes], path: Path) -> None:
    """DataError for a large file that is no archive, before all of it is read."""
    size = os.fstat(file.fileno()).st_size
    if size > most_in_memory() and not zipfile.is_zipfile(file):
        raise DataError(f"{path} has {size / 2**30:.1f} GiB and is not a readable .npz file; numpy.savez writes one")
    file.seek(0)


def _open_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, digest: str, log: Callable[[str], None]
) -> Any:
    """An array of the file: images of uint8 or uint16 as `Stored`, in the file itself or, if they are compressed there,
    from the cache; everything else in memory."""
    with archive.open(member) as stream:
        shape, in_columns, dtype = _header(stream)
        if len(shape) not in (3, 4) or dtype not in (np.uint8, np.uint16) or not dtype.isnative or in_columns:
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
        side = (shape[1], shape[2], shape[3] if len(shape) == 4 else 1)
        size, before = math.prod(shape) * dtype.itemsize, stream.tell()
        if member.compress_type != zipfile.ZIP_STORED:
            name = f"{digest}-{member.filename.removesuffix('.npy')}"
            with kept(name, size, partial(_copy, stream, size), log) as unpacked:
                return Stored([PixelFile(unpacked, shape[0], side, dtype)], np.arange(shape[0]))
    with open_regular(path) as file:
        file.seek(member.header_offset + 26)
        named, extra = struct.unpack("<HH", file.read(4))  # the member's own header may differ from the index's
        start = member.header_offset + 30 + named + extra + before
        return Stored([PixelFile(file, shape[0], side, dtype, start)], np.arange(shape[0]))


def _copy(stream: IO[bytes], size: int, out: IO[bytes]) -> None:
    """Write the ``size`` bytes that come next."""
    while size:
        data = stream.read(min(size, BLOCK))
        if not data:
            raise ValueError("it ends too early")
        out.write(data)
        size -= len(data)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of the array that a .npy file holds."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _check_claim(stream: IO[bytes], size: int) -> None:
    """ValueError when an array claims more values than its ``size`` in bytes can hold: memory would be asked for it."""
    shape, _, dtype = _header(stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it states the shape {shape} but holds {size:,} bytes")


def _pixels(images: Any, path: Path, bits: int) -> Any:
    """Pixels as uint8 or, of 16 ``bits``, uint16; DataError with the advice that fits their type and range."""
    if images.ndim == 2:
        shape, advice = list(images.shape), rows_advice(images.shape)
        raise DataError(f"{path} contains images of shape {shape}; they must be [N, H, W] or [N, H, W, C]{advice}")
    if images.ndim == 4:
        try:
            refuse_channels_first(images.shape)
        except ImageError as error:
            raise DataError(f"{path}: {error}") from None
    if images.dtype == (np.uint16 if bits == 16 else np.uint8):
        return images
    if isinstance(images, Stored):
        if bits == 16:
            raise DataError(f"{path} contains images of uint16 and uint8; save all as uint16 or all as uint8")
        return _pixels(images[:], path, bits)
    if images.dtype == np.uint8:
        return with_bits(images, bits)
    if bits == 16:
        raise DataError(f"{path} contains images of uint16 and {images.dtype}; save all as uint16 or all as uint8")
    kind, lowest, highest = images.dtype.kind, 0.0, 0.0
    if kind in "iuf" and images.size:
        lowest, highest = float(images.min()), float(images.max())
    if kind == "b":
        return images.astype(np.uint8) * 255
    if kind in "iu" and lowest >= 0 and highest <= 255:
        return images.astype(np.uint8)
    advice = "save them as numbers from 0 to 255"
    if kind in "iu":
        advice = f"they go from {lowest:,.0f} to {highest:,.0f}: scale them to 0 to 255, then .astype(np.uint8)"
        if lowest >= 0 and highest <= 65535 and images.dtype != np.uint16:
            advice += ", or to 0 to 65535, then .astype(np.uint16)"
    elif kind == "f" and not (math.isfinite(lowest) and math.isfinite(highest)):
        advice = "some are not finite numbers: np.nan_to_num(x) replaces them"
    elif kind == "f" and lowest >= 0 and highest <= 1:
        advice = "pixels from 0 to 1: np.round(x * 255).astype(np.uint8)"
    elif kind == "f" and lowest >= 0 and highest <= 255:
        advice = "pixels from 0 to 255: np.round(x).astype(np.uint8)"
    elif kind == "f" and lowest >= -1 and highest <= 1:
        advice = "pixels from -1 to 1: np.round((x + 1) * 127.5).astype(np.uint8)"
    elif kind == "f":
        advice = f"they go from {lowest:g} to {highest:g}: scale them to 0 to 255, then np.round(x).astype(np.uint8)"
    raise DataError(f"{path} contains images of {images.dtype}; they must be uint8 from 0 to 255 ({advice})")


def _labels(labels: Array, path: Path) -> Array:
    """Integer labels [N]; DataError with the advice that fits others."""
    if labels.dtype.kind in "iu" and labels.ndim == 1:
        return labels
    if labels.ndim == 2 and labels.shape[1] > 1:
        advice = "one-hot: y.argmax(1)"
    elif labels.ndim != 1:
        advice = "a column: y.ravel()"
    elif labels.dtype.kind == "U":
        advice = "names: classes, y = np.unique(y, return_inverse=True), and save classes too"
    elif labels.dtype.kind == "f" and (broken := labels[labels != np.floor(labels)]).size:
        advice = f"{broken[0]:g} is not a class; use whole numbers or names"
    elif labels.dtype.kind in "fb":
        advice = "whole numbers: y.astype(int)"
    else:
        advice = "number the classes from 0"
    raise DataError(
        f"{path} contains labels of {labels.dtype} {list(labels.shape)}; they must be integers [N] ({advice})"
    )


def _classes(
    names: Array | None, labels: Array, path: Path, log: Callable[[str], None], reading: Reading | None
) -> tuple[tuple[str, ...], Array]:
    """The names of the classes, and the value [K] that a label of each has in the file."""
    if len(labels) == 0:
        raise DataError(f"{path} has no training images")
    if labels.min() < 0:
        raise DataError(f"{path}: labels must not be negative, but one is {labels.min()}; number the classes from 0")
    if names is not None:
        if names.dtype.kind != "U" or names.ndim != 1:
            raise DataError(f"{path}: classes must be an array of strings [K], not {names.dtype} {list(names.shape)}")
        if len(names) < 2:
            raise DataError(f"{path} has only {counted(len(names), 'class')}; a classifier needs two or more")
        if reading is None:  # a run that began with such names keeps them
            check_names(list(map(str, names)), path)
        return tuple(map(str, names)), np.arange(len(names))
    values = np.unique(labels)
    known = reading.classes if reading else ()
    if {str(value) for value in values.tolist()} <= set(known) and all(re.fullmatch("[0-9]+", name) for name in known):
        return known, np.array([int(name) for name in known])
    if len(values) > MAX_CLASSES:
        raise DataError(f"{path} has {len(values):,} different labels; vitlab takes up to {MAX_CLASSES:,} classes")
    if values[-1] != len(values) - 1:
        log(
            f"the labels {_few(values)} are {counted(len(values), 'class')}, named after the labels; "
            "numbers that no training image has are not classes"
        )
    return tuple(map(str, values.tolist())), values


def check_names(names: list[str], path: Path) -> None:
    """DataError for a name that occurs twice or cannot be printed: no answer could be told from another."""
    for number, name in enumerate(names):
        if name in names[:number]:
            raise DataError(f"{path}: two classes are called {name!r}; give each class a different name")
        if not name.isprintable() or not name:
            raise DataError(f"{path} has a class {name!a} whose name cannot be printed; rename it")


def _few(values: Array) -> str:
    """0, 100, 200 ... 900."""
    texts = [f"{value}" for value in values.tolist()]
    return listed(texts) if len(texts) <= 4 else f"{', '.join(texts[:3])} ... {texts[-1]}"


def _split(images: Array, labels: Array, values: Array, part: str, path: Path) -> Split:
    """A part whose labels are the places of its values in ``values``, which is sorted unless a run gave it."""
    order = np.argsort(values, kind="stable")
    places = np.searchsorted(values, labels, sorter=order)
    numbers = order[np.minimum(places, len(values) - 1)].astype(np.int64)
    unknown = labels[values[numbers] != labels]
    if len(unknown):
        word = {"train": "training", "val": "validation", "test": "test"}[part]
        *others, last = np.unique(unknown)
        also = f" (others are {_few(np.array(others))})" if others else ""
        is_range = int(values[-1]) == len(values) - 1
        allowed = f"0 to {len(values) - 1}" if is_range else f"those of training, {_few(values)}"
        raise DataError(
            f"{path} has {counted(len(values), 'class')}, but a {word} label is {last}{also}; "
            f"labels must be {allowed}: correct them, or add training images"
        )
    try:
        return Split(images[..., np.newaxis] if images.ndim == 3 else images, numbers)
    except DataError as error:
        raise DataError(f"{path}: {error}; correct the arrays and save them again") from error
