"""What people pass to the functions of this package, and what the rest of vitlab takes: knobs, folders and data."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab import files
from vitlab.config import RunConfig
from vitlab.config.presets import preset_config
from vitlab.data import Dataset, Split
from vitlab.data.arrays import channels_last, is_tensor, to_array, to_levels
from vitlab.data.images import ImageError
from vitlab.data.npz import KEYS, dataset_of
from vitlab.errors import ConfigError, DataError
from vitlab.text import counted

Array = npt.NDArray[Any]
Data = str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any] | Dataset
FORMS = "(images, labels), (train_images, train_labels, test_images, test_labels), or these and then validation's two"


def chosen_config(preset: str | RunConfig, knobs: Mapping[str, Any]) -> RunConfig:
    """The configuration of a preset, or a given one, with ``knobs`` changed; ConfigError for unknown names."""
    if not isinstance(preset, str | RunConfig):
        raise ConfigError(f"the preset is a name or a RunConfig, not {type(preset).__name__}")
    base = preset_config(preset) if isinstance(preset, str) else preset
    return base.with_knobs(**{name: plain(value) for name, value in knobs.items()})


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
        return named(parts) | {"classes": np.array(data.card.classes)}
    if isinstance(data, Split):
        return named({"train": (data.images, data.labels)})
    if isinstance(data, Mapping):
        pairs = {part: keys for part, keys in KEYS.items() if keys[0] in data and keys[1] in data}
        known = {*(key for keys in KEYS.values() for key in keys), "classes"}
        if "train" not in pairs or not data.keys() <= known:
            wanted = ", ".join(sorted(known))
            raise DataError(f"a mapping of arrays needs x_train and y_train, and may have only {wanted}")
        given = named({part: (data[images], data[labels]) for part, (images, labels) in pairs.items()})
        return given | ({"classes": np.array(data["classes"])} if "classes" in data else {})
    if not isinstance(data, list | tuple) or len(data) not in (2, 4, 6):
        size = f" of {len(data)}" if isinstance(data, list | tuple) else ""
        raise DataError(f"data is a name, a path, or arrays: {FORMS}; not {type(data).__name__}{size}")
    names = ("train", "test", "val")
    return named({name: (data[2 * n], data[2 * n + 1]) for n, name in enumerate(names[: len(data) // 2])})


def named(parts: Mapping[str, tuple[Any, Any]]) -> dict[str, Array]:
    """uint8 images and whole-numbered labels by their keys in an .npz file, and the names of the classes if the labels
    are names."""
    made: dict[str, Array] = {}
    labels = {part: to_array(values) for part, (_, values) in parts.items()}
    kinds = {values.dtype.kind for values in labels.values()}
    if kinds & set("UO"):
        texts = {part: values.astype(str) for part, values in labels.items()}
        classes = np.unique(texts["train"])
        unknown = sorted({str(name) for values in texts.values() for name in values.ravel()} - set(classes.tolist()))
        if unknown:
            raise DataError(f"no training image is labelled {unknown[0]!r}; add some, or leave such images out")
        labels = {part: np.searchsorted(classes, values) for part, values in texts.items()}
        made["classes"] = classes
    for part, (images, _) in parts.items():
        keys, values = KEYS[part], labels[part]
        made[keys[0]] = to_levels(channels_last(to_array(images), first=is_tensor(images)))
        if values.ndim != 1 or len(values) != len(made[keys[0]]):
            pictures = counted(len(made[keys[0]]), "image")
            raise DataError(f"{part} labels are one number or name for each of {pictures}, not {list(values.shape)}")
        made[keys[1]] = values
    return made


def packed(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of an .npz file: always the same for the same arrays, which `numpy.savez` does not promise."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in sorted(arrays.items()):
            member = zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def with_data(config: RunConfig, data: Data | None, folder: Path) -> RunConfig:
    """The configuration with another data set, unless that is None."""
    return config if data is None else replace(config, data=replace(config.data, data=place_of(data, folder)))


def as_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame if pandas is installed, otherwise as a list of dicts."""
    try:
        import pandas
    except ImportError:
        return [dict(row) for row in rows]
    return pandas.DataFrame(list(rows))
