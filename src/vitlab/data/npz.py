"""A NumPy .npz file as a data set. Nothing is unpickled, so opening an untrusted file is safe."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vitlab.data.cards import Dataset, own_card
from vitlab.data.splits import MAX_BYTES, Split
from vitlab.errors import DataError

KEYS = {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")}
SHORT_KEYS = {"train": ("images", "labels")}
MAX_CLASSES = 10_000

Array = npt.NDArray[Any]


def load_npz(path: Path) -> Dataset:
    """Read the arrays in ``path``; DataError when they do not make a data set.

    Keys are x_train, y_train and, optionally, x_val, y_val, x_test, y_test; or images, labels. Images are uint8
    [N, H, W] or [N, H, W, C], labels integers [N]. Class names come from an array of strings ``classes`` if there is
    one, else they are the numbers 0 to the highest training label.
    """
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            found, arrays = _read_arrays(file, path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot read {str(path)!r}: {reason}; choose an .npz file that exists and can be read"
        ) from error
    keys = SHORT_KEYS if "images" in arrays and "x_train" not in arrays else KEYS
    splits: dict[str, Split] = {}
    for part, (images, labels) in keys.items():
        if images in arrays and labels in arrays:
            splits[part] = _split(arrays[images], arrays[labels], path)
        elif part == "train":
            raise DataError(f"{path} must hold x_train and y_train, or images and labels; it holds {found}")
        elif images in arrays or labels in arrays:
            raise DataError(f"{path} must hold both {images} and {labels}, or neither; it holds {found}")
    train = splits["train"]
    classes = _class_names(arrays.get("classes"), train, path)
    card = own_card(path.stem, f"arrays of {path.name}", train.images, classes, str(path), "npz")
    return Dataset(card, train, splits.get("val"), splits.get("test"), digest, f"the file {path}")


def _read_arrays(file: IO[bytes], path: Path) -> tuple[str, dict[str, Array]]:
    """The names of everything in the file, for a message, and the arrays with a known key."""
    known = {"classes", *(key for keys in (*KEYS.values(), *SHORT_KEYS.values()) for key in keys)}
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise DataError(
                f"{path} unpacks to {size / 2**30:.1f} GiB; vitlab keeps data in memory, at most 4 GiB: make it smaller"
            )
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files if key in known}
            return ", ".join(sorted(archive.files)) or "nothing", {
                key: array for key, array in arrays.items() if isinstance(array, np.ndarray)
            }
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile have a dozen types for damage
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "allow_pickle" in reason:
            reason = "it contains Python objects, which could run code"
        advice = "use numpy.savez(path, x_train=images, y_train=labels) to write one"
        raise DataError(f"{path} is not a readable .npz file ({reason}); {advice}") from error


def _split(images: Array, labels: Array, path: Path) -> Split:
    if images.dtype != np.uint8:
        raise DataError(
            f"{path} contains images of {images.dtype}; they must be uint8 from 0 to 255 "
            "(pixels from 0 to 1: np.round(x * 255).astype(np.uint8))"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{path} contains labels of {labels.dtype} {list(labels.shape)}; they must be integers [N] "
            "(a column: y.ravel(); one-hot: y.argmax(1))"
        )
    try:
        return Split(images[..., np.newaxis] if images.ndim == 3 else images, labels.astype(np.int64))
    except DataError as error:
        raise DataError(f"{path}: {error}; correct the arrays and save them again") from error


def _class_names(names: Array | None, train: Split, path: Path) -> tuple[str, ...]:
    if len(train) == 0:
        raise DataError(f"{path} has no training images")
    if names is None:
        highest = int(train.labels.max())
        if highest >= MAX_CLASSES:
            raise DataError(f"{path} has the label {highest}; number the classes from 0, up to {MAX_CLASSES:,}")
        return tuple(str(label) for label in range(highest + 1))
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DataError(f"{path}: classes must be an array of strings [K], not {names.dtype} {list(names.shape)}")
    return tuple(str(name) for name in names)
