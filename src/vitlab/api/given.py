"""What people pass to the functions of this package, and what the rest of vitlab takes: knobs, folders and data."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab import files
from vitlab.config import RunConfig
from vitlab.config.presets import PRESETS, preset_config
from vitlab.config.run import refuse_unknown
from vitlab.data import CATALOGUE, Dataset, Split
from vitlab.data.arrays import channels_last, is_deep, is_tensor, rows_advice, to_array, to_levels
from vitlab.data.images import ImageError
from vitlab.data.npz import KEYS, dataset_of
from vitlab.errors import ConfigError, DataError
from vitlab.runs.session import Reporter
from vitlab.text import counted

Array = npt.NDArray[Any]
Data = str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any] | Dataset
FORMS = "(images, labels), (train_images, train_labels, test_images, test_labels), or these and then validation's two"
WORDS = {"train": "training", "val": "validation", "test": "test"}


def named_config(preset: str | RunConfig | None) -> RunConfig | None:
    """The configuration of a preset, or a given one; None if none is named. ConfigError for an unknown name."""
    if isinstance(preset, os.PathLike) or (isinstance(preset, str) and is_data(preset)):
        raise ConfigError(f"{os.fspath(preset)!r} is a data set, not a preset; use data={os.fspath(preset)!r}")
    if not isinstance(preset, str | RunConfig | None):
        advice = "images go into data=(images, labels)"
        raise ConfigError(f"the preset is a name or a RunConfig, not {type(preset).__name__}; {advice}")
    return preset_config(preset) if isinstance(preset, str) else preset


def is_data(name: str) -> bool:
    """Whether this is the name or the path of a data set, and of no preset."""
    return name not in PRESETS and (name in CATALOGUE or os.path.exists(name))


def is_shown(progress: object) -> bool:
    """Whether ``progress`` asks for it; ConfigError for what is no yes or no."""
    if not isinstance(progress, bool | int | np.bool_ | Reporter | None):
        raise ConfigError(f"progress is True or False, not {progress!r}; a vitlab.Reporter has functions of your own")
    return bool(progress)


def plain(value: Any) -> Any:
    """A knob's value without NumPy: its numbers, as `numpy.arange` and pandas give them, become Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [plain(one) for one in value] if isinstance(value, list | tuple | np.ndarray) else value


def place_of(data: Data, folder: Path) -> str:
    """The name or path of a data set as a string. Arrays are stored in ``folder``/arrays first, where a resumed run,
    `vitlab look` and others find them; the file is named by its content, so that the same arrays are stored once."""
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    try:
        content = packed(arrays_in(data))
    except ImageError as error:
        raise DataError(str(error)) from None
    path = folder / "arrays" / f"arrays-{files.sha256(content)[:12]}.npz"
    if not (path.exists() and files.digest_of(path) == files.sha256(content)):
        files.make_folder(path.parent)
        files.write_bytes(path, content)
    return str(path)


def dataset_in(data: Data) -> Dataset:
    """The data set that arrays in memory are; nothing is stored. DataError for anything else."""
    if isinstance(data, Dataset):
        return data
    try:
        arrays = arrays_in(data)
    except ImageError as error:
        raise DataError(str(error)) from None
    pairs = {part: (arrays[images], arrays[labels]) for part, (images, labels) in KEYS.items() if images in arrays}
    return dataset_of(pairs, arrays.get("classes"), Path("arrays in memory"), "", lambda line: None, None)


def arrays_in(data: Any) -> dict[str, Array]:
    """The arrays of a data set by their keys in an .npz file, checked; DataError for anything else."""
    if isinstance(data, Dataset):
        splits = {"train": data.train, "val": data.val, "test": data.test}
        parts = {name: (one.images, one.labels) for name, one in splits.items() if one is not None}
        return named(parts, data.card.classes)
    if isinstance(data, Split):
        return named({"train": (data.images, data.labels)})
    if isinstance(data, Mapping):
        pairs = {part: keys for part, keys in KEYS.items() if keys[0] in data and keys[1] in data}
        known = {*(key for keys in KEYS.values() for key in keys), "classes"}
        if "train" not in pairs or not data.keys() <= known:
            wanted = ", ".join(sorted(known))
            raise DataError(f"a mapping of arrays needs x_train and y_train, and may have only {wanted}")
        given = {part: (data[images], data[labels]) for part, (images, labels) in pairs.items()}
        return named(given, data.get("classes"))
    if are_pairs(data):
        data = [*data[0], *data[1]]
    if not isinstance(data, list | tuple) or len(data) not in (2, 4, 6):
        size = f" of {len(data)}" if isinstance(data, list | tuple) else ""
        raise DataError(f"data is a name, a path, or arrays: {FORMS}; not {type(data).__name__}{size}")
    if len(data) == 4 and min(map(axes, data[:2])) > 1 and axes(data[2]) == 1 and len(data[2]) == len(data[0]):
        raise DataError("this is X_train, X_test, y_train, y_test; the order is X_train, y_train, X_test, y_test")
    names = ("train", "test", "val")
    return named({name: (data[2 * n], data[2 * n + 1]) for n, name in enumerate(names[: len(data) // 2])})


def are_pairs(data: Any) -> bool:
    """Whether this is ((train_images, train_labels), (test_images, test_labels)), as Keras has it."""
    return (
        isinstance(data, list | tuple)
        and len(data) == 2
        and all(isinstance(pair, list | tuple) and len(pair) == 2 and axes(pair[0]) > 1 for pair in data)
    )


def axes(value: Any) -> int:
    """How many axes an array, a tensor, a table or a list has; 0 for anything else."""
    if not isinstance(value, list | tuple):
        return len(getattr(value, "shape", ()))
    return 1 + (axes(value[0]) if len(value) else 0)


def named(parts: Mapping[str, tuple[Any, Any]], classes: Any = None) -> dict[str, Array]:
    """uint8 or uint16 images and whole-numbered labels by their keys in an .npz file, and the names of the classes if
    the labels are names, or if ``classes`` gives them in the order of their numbers."""
    made: dict[str, Array] = {}
    labels = {part: numbers_or_names(to_array(values), WORDS[part]) for part, (_, values) in parts.items()}
    if {values.dtype.kind for values in labels.values()} & set("U"):
        texts = {part: values.astype(str) for part, values in labels.items()}
        names = np.unique(texts["train"]) if classes is None else to_array(classes).astype(str)
        unknown = sorted({str(name) for values in texts.values() for name in values} - set(names.tolist()))
        if unknown:
            raise DataError(f"{_lacks(classes)} {unknown[0]!r}; add some, or leave such images out")
        order = np.argsort(names, kind="stable")
        labels = {part: order[np.searchsorted(names, values, sorter=order)] for part, values in texts.items()}
        made["classes"] = names
    elif classes is not None:
        made["classes"] = to_array(classes)
    arrays = {part: array_of(images) for part, (images, _) in parts.items()}
    bits = 16 if any(map(is_deep, arrays.values())) else 8
    for part, array in arrays.items():
        keys, values = KEYS[part], labels[part]
        made[keys[0]] = to_levels(array, bits)
        if len(values) != len(made[keys[0]]):
            pictures = counted(len(made[keys[0]]), "image")
            raise DataError(
                f"{WORDS[part]} labels are one number or name for each of {pictures}, not {list(values.shape)}"
            )
        if not len(values):
            advice = "pass some" if part == "train" else "leave an empty part out"
            raise DataError(f"there are no {WORDS[part]} images; {advice}")
        made[keys[1]] = values
    _check_parts(made)
    return made


def _check_parts(made: Mapping[str, Array]) -> None:
    """DataError for parts that do not fit those for training."""
    train, labels = (made[key] for key in KEYS["train"])
    if "classes" not in made and len(np.unique(labels)) < 2:
        raise DataError(f"all training labels are {labels[0]}; a classifier needs two classes or more")
    for part, (images, numbers) in KEYS.items():
        if images in made and made[images].shape[1:] != train.shape[1:]:
            own, other = list(made[images].shape[1:]), list(train.shape[1:])
            raise DataError(f"{WORDS[part]} images are {own}, but training images {other}; give all of them one size")
        if images in made and "classes" not in made and len(odd := np.setdiff1d(made[numbers], labels)):
            raise DataError(
                f"no training image is labelled {odd[0]}, as {WORDS[part]} images are; leave such images out"
            )


def _lacks(classes: Any) -> str:
    return "no training image is labelled" if classes is None else "the classes lack"


def array_of(images: Any) -> Array:
    """Images [N, H, W, C] of any numbers; DataError for what are no images."""
    if not is_tensor(images) and not isinstance(images, Sequence) and not hasattr(images, "__array__"):
        raise DataError(f"images are an array or a tensor, not {type(images).__name__}")
    array = to_array(images)
    if array.dtype.kind in "OSU":
        raise DataError("images are numbers in one array, all of the same size; numpy.stack(x) makes one of a list")
    if array.ndim == 2:
        own = list(array.shape)
        advice = rows_advice(array.shape, "x.to_numpy()" if hasattr(images, "to_numpy") else "x")
        raise DataError(f"images are [N, H, W], [N, H, W, C] or, as a tensor, [N, C, H, W], not {own}{advice}")
    return channels_last(array, first=is_tensor(images))


def numbers_or_names(labels: Array, part: str) -> Array:
    """Labels [N] as whole numbers from 0, or as names; DataError, with the advice that fits, for all others."""
    if labels.ndim == 0:
        raise DataError(f"{part} labels are an array, or a list, with one number or name for each image")
    if labels.ndim != 1:
        advice = ""
        if labels.ndim == 2 and 1 not in labels.shape:
            advice = "; of one-hot labels y.argmax(1) makes numbers"
        elif labels.ndim == 2:
            advice = "; y.ravel() makes a row of a column"
        raise DataError(f"{part} labels are one number or name for each image, not {list(labels.shape)}{advice}")
    if labels.dtype.kind == "O":
        labels = _of_one_kind(labels, part)
    if labels.dtype.kind == "f" and (labels == np.floor(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise DataError(f"{part} labels are whole numbers or names, not {labels.dtype}; convert them")
    if labels.dtype.kind == "b":
        return labels.astype(str)
    if labels.dtype.kind in "iu" and labels.size and labels.min() < 0:
        advice = "y = numpy.unique(y, return_inverse=True)[1] numbers the classes from 0"
        raise DataError(f"{part} labels must not be negative, but one is {labels.min()}; {advice}")
    return labels


def _of_one_kind(labels: Array, part: str) -> Array:
    """Labels that are Python objects, as numbers or as names."""
    values = labels.tolist()
    for one in (bool, int | np.integer, str):
        if all(isinstance(value, one) for value in values):
            return np.array(values)
    if any(value is None or str(value) in ("nan", "<NA>", "NaT") for value in values):
        raise DataError(f"some {part} labels are missing; leave such images out")
    odd = next(value for value in values if not isinstance(value, str))
    what = f"{odd!r} ({type(odd).__name__})"
    raise DataError(f"{part} labels are all whole numbers or all names, but one is {what}; correct or leave it out")


def packed(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of an .npz file: always the same for the same arrays, which `numpy.savez` does not promise."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in sorted(arrays.items()):
            member = zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def given_knobs(knobs: Mapping[str, Any], data: Data | None, folder: Path) -> dict[str, Any]:
    """The knobs without NumPy's types; with the data set, unless that is None, which `place_of` may store."""
    if "verbose" in knobs:
        raise ConfigError("there is no knob 'verbose'; use progress=True or progress=False")
    refuse_unknown(knobs)  # before anything is stored
    given = {name: plain(value) for name, value in knobs.items()}
    return given if data is None else given | {"data": place_of(data, folder)}


def as_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame if pandas is installed, otherwise as a list of dicts."""
    try:
        import pandas
    except ImportError:
        return [dict(row) for row in rows]
    return pandas.DataFrame(list(rows))
