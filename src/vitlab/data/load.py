"""From a name to a data set in memory or, if it does not fit there, on the disk."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitlab.data import cache
from vitlab.data.cards import CATALOGUE, Card, Dataset, Reading
from vitlab.data.folder import load_folder
from vitlab.data.formats import SPLITTERS, read_parts
from vitlab.data.images import DECODING
from vitlab.data.instead import of_a_file, refuse_others
from vitlab.data.layout import TABLES
from vitlab.data.memory import IN_MEMORY
from vitlab.data.npz import load_npz
from vitlab.data.pixels import load_pixels, pixel_columns, pixel_tables
from vitlab.data.sources import Log, cache_folder, local_paths, obtain
from vitlab.data.splits import Split, count_constant, pixel_statistics
from vitlab.data.stored import Stored
from vitlab.data.tables import table_at
from vitlab.errors import DataError, OutOfMemoryError, import_optional, is_out_of_memory
from vitlab.files import sha256
from vitlab.text import counted, few, ignore

OWN = ("folder", "npz", "csv")  # layouts of a user's own data
NUM_DIGITS_TRAIN = 1437  # of scikit-learn's 1,797 digits; the last fifth is for testing


def load_dataset(
    name: str | os.PathLike[str],
    log: Log = ignore,
    *,
    side: int | None = None,
    reading: Reading | None = None,
    decoding: int = DECODING,
) -> Dataset:
    """The data set ``name``: a name of `CATALOGUE`, a folder of images, or a path that ends in .npz or .csv.

    ``log`` receives notes of one line each. Catalogue sets are downloaded when they are nowhere on this machine.
    ``side``: of the squares that the network sees; a folder's images that are larger are reduced to it.
    ``reading``: how the run read the images that they are loaded for; classes then keep their numbers. ``decoding``:
    that of a run which these images are not from.
    DataError when there is no such set, or its bytes cannot be obtained or are not the expected ones.

    >>> digits = vitlab.load_dataset("digits")  # comes with scikit-learn, so it works offline
    >>> digits.train.images.shape, digits.train.images.dtype.name
    ((1437, 8, 8, 1), 'uint8')
    """
    try:
        decoding = reading.decoding if reading else decoding
        dataset = replace(_load(os.fspath(name), log, side, reading, decoding), decoding=decoding)
        images: Any = dataset.train.images
        if isinstance(images, Stored):
            _remember(images, dataset)
        if dataset.card.layout in OWN:
            _check_own(dataset, log, is_new=reading is None)
    except (MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"out of memory while reading {name}; free some, or use fewer images") from error
    if dataset.card.mean is not None and dataset.card.std is not None:
        return dataset
    mean, std = pixel_statistics(dataset.train.images)
    return replace(dataset, card=replace(dataset.card, mean=mean, std=std))


def _remember(images: Stored, dataset: Dataset) -> None:
    """Find what is asked of all training images, which are on the disk, or take it from the cache."""

    def find() -> list[Any]:
        return [*pixel_statistics(dataset.train.images), count_constant(dataset.train.images)]

    how = f" {dataset.decoding}" if dataset.card.layout == "folder" else ""
    how += " uint16" if images.dtype == np.uint16 else ""
    what = f"{dataset.digest} {images.shape} {dataset.background}{how}"
    mean, std, images.constant = cache.remembered(f"{sha256(what.encode())}-statistics", find)
    images.mean, images.std = tuple(mean), tuple(std)


def _load(name: str, log: Log, side: int | None, reading: Reading | None, decoding: int) -> Dataset:
    if name in CATALOGUE:
        return _load_card(CATALOGUE[name], log)
    path = os.path.expanduser(name)
    refuse_others(name, path)
    if path.endswith(".npz"):
        return load_npz(Path(path), log, reading)
    if path.lower().endswith(TABLES):
        return load_table(Path(path), log, side, reading, decoding)
    if os.path.isdir(path):  # os.path, since Path raises for names that no file can have
        if own := pixel_tables(Path(path), reading):
            return load_pixels(own, Path(path), log, reading)
        return load_folder(Path(path), log, side, reading, decoding=decoding)
    if os.path.isfile(path):
        raise DataError(of_a_file(name))
    if name == IN_MEMORY:
        raise DataError("the run's images were arrays in memory and were not stored; it can only classify other images")
    raise DataError(_unknown(name))


def load_table(path: Path, log: Log, side: int | None, reading: Reading | None, decoding: int = DECODING) -> Dataset:
    """The data set of one CSV file: a line of pixels for each image, or names of files with their labels."""
    table = table_at(path)
    pixels = None if table is None else pixel_columns(table)
    if table is not None and pixels is not None and pixels.label is not None:
        return load_pixels([table], path, log, reading)
    if table is not None and table.is_of_labels:
        return load_folder(path.parent, log, side, reading, (path.name,), decoding)
    if not os.path.exists(path):
        raise DataError(f"there is no file {path}; name a CSV file that exists")
    needs = "its first line must name the columns: file and label, or label and one column for each pixel"
    if pixels is not None or (table is not None and table.file is not None):
        raise DataError(f"{path} has no column called label; {needs}")
    raise DataError(f"{path} is no table that vitlab can use; {needs}")


def _check_own(dataset: Dataset, log: Log, is_new: bool) -> None:
    """Say what is odd about a user's own images. DataError, unless a run began with them, for a class that is only in
    validation or test images."""
    classes, shown = dataset.card.classes, np.unique(dataset.train.labels)
    for part, split in (("validation", dataset.val), ("test", dataset.test)):
        only = [] if split is None else np.setdiff1d(split.labels, shown).tolist()
        if only and is_new:
            names = few([repr(classes[label]) for label in only])
            raise DataError(
                f"{dataset.origin}: there are {part} images of {names}, but no training images; add some, "
                f"or remove those {part} images"
            )
    absent = [repr(name) for label, name in enumerate(classes) if label not in shown]
    if absent:
        log(f"no training image shows {few(absent)}: the network cannot learn {'it' if len(absent) == 1 else 'them'}")
    constant = count_constant(dataset.train.images)
    if constant:
        verb = "is" if constant == 1 else "are"
        log(f"{constant:,} of {counted(len(dataset.train), 'training image')} {verb} of one colour all over")


def _unknown(name: str) -> str:
    if "," in name and all(one in CATALOGUE for one in name.split(",")):
        return f"name one data set, not {name}; `vitlab study --vary data={name}` compares several"
    if os.sep in name or name.startswith(("~", ".")):  # a path: no name is meant
        return f"there is no folder or file {name!r}; name a folder of images, an .npz or a .csv file that exists"
    if name.lower() in CATALOGUE:
        return f"there is no data set or folder {name!r} (did you mean {name.lower()}?)"
    close = difflib.get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.5)
    hint = f" (did you mean {' or '.join(close)}?)" if close else f"; known names: {', '.join(CATALOGUE)}"
    return (
        f"there is no data set or folder {name!r}{hint}; you can also name a folder of images, an .npz or a .csv file"
    )


def catalogue_digest(name: str) -> str:
    """The digest of a data set of the catalogue, which is known without its files."""
    # A name for the verified bytes: several cards share an archive, so the members count too.
    lines = [" ".join((file.digest, *file.members)) for file in CATALOGUE[name].files]
    return sha256("\n".join(lines).encode())


def _load_card(card: Card, log: Log) -> Dataset:
    digest = catalogue_digest(card.name)
    if card.layout == "sklearn":
        train, test = _read_sklearn_digits(card)
        return Dataset(card, train, None, test, digest, "scikit-learn")
    found = obtain(card, log)
    parts = [part for one in found for part in one.parts]
    train, val, test = SPLITTERS[card.layout](card, parts)
    origin = " and ".join(dict.fromkeys(one.origin for one in found))
    return Dataset(card, train, val, test, digest, origin)


def _read_sklearn_digits(card: Card) -> tuple[Split, Split]:
    """The 1,797 digits that come with scikit-learn: 8 x 8 pixels, values 0 to 16 scaled to 0 to 255."""
    missing = DataError(f"{card.name} comes with scikit-learn, which is missing: pip install scikit-learn")
    bunch = import_optional("sklearn.datasets", missing).load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    if sha256(images.tobytes() + labels.astype(np.uint8).tobytes()) != card.files[0].sha256:
        raise DataError(f"scikit-learn's {card.name} are not those that vitlab expects; reinstall scikit-learn")
    both = Split(images[..., np.newaxis], labels)
    return both.take(range(NUM_DIGITS_TRAIN)), both.take(range(NUM_DIGITS_TRAIN, len(both)))


def fetch(name: str, log: Log = lambda line: None) -> list[tuple[str, str]]:
    """Make sure that all files of a catalogue set are on this machine: (file, where it is) for each."""
    card = _catalogue_card(name)
    if card.layout == "sklearn":
        _read_sklearn_digits(card)
        return [(card.files[0].name, "scikit-learn")]
    return [(file.name, str(found.path)) for file, found in zip(card.files, obtain(card, log), strict=True)]


def check(name: str) -> list[tuple[str, str, str]]:
    """Rows (file, path, "ok" or what is wrong) for every copy of a catalogue set's files on this machine."""
    card = _catalogue_card(name)
    if card.layout == "sklearn":
        return [(card.files[0].name, "scikit-learn", _verdict(_read_sklearn_digits, card))]
    rows = []
    for file in card.files:
        copies = [(file.name, str(path), _verdict(read_parts, path, file)) for path, _ in local_paths(card, file)]
        rows += copies or [(file.name, str(cache_folder(card) / file.name), "missing")]
    return rows


def _verdict(attempt: Callable[..., object], *arguments: object) -> str:
    try:
        attempt(*arguments)
    except DataError as error:
        return str(error)
    return "ok"


def _catalogue_card(name: str) -> Card:
    if name not in CATALOGUE and os.path.exists(os.path.expanduser(name)):
        raise DataError(f"{name} is your own data; only sets of the catalogue have files to fetch or check")
    if name not in CATALOGUE:
        raise DataError(_unknown(name))
    return CATALOGUE[name]
