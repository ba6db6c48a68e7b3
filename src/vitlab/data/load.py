"""From a name to a data set in memory."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vitlab.data.cards import Card, Dataset, own_card
from vitlab.data.catalogue import CATALOGUE
from vitlab.data.folder import load_folder
from vitlab.data.formats import splits_from_cifar, splits_from_idx
from vitlab.data.npz import read_npz
from vitlab.data.sources import Log, cache_folder, local_paths, obtain
from vitlab.data.splits import Split, pixel_statistics
from vitlab.data.verify import digest_of, read_parts
from vitlab.errors import DataError
from vitlab.files import sha256

NUM_DIGITS_TRAIN = 1437  # of the 1,797 digits of scikit-learn; the last fifth is for testing


def _silent(line: str) -> None:
    """The default log: says nothing."""


def load_dataset(name: str, log: Log = _silent) -> Dataset:
    """The data set ``name``: a name of the catalogue, a folder of images, or a path that ends in .npz.

    ``log`` receives notes of one line each. Catalogue sets are downloaded when they are nowhere on
    this machine. DataError when there is no such set, or its bytes cannot be had or do not fit.
    """
    if name in CATALOGUE:
        return _with_statistics(_load_card(CATALOGUE[name], log))
    path = os.path.expanduser(name)
    if path.endswith(".npz"):
        return _with_statistics(_load_npz(Path(path)))
    if os.path.isdir(path):  # of os.path, since those of Path raise for names that no file can have
        return _with_statistics(load_folder(Path(path), log))
    raise DataError(_unknown(name))


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.5)
    hint = f" (did you mean {' or '.join(close)}?)" if close else f"; known names: {', '.join(CATALOGUE)}"
    return f"there is no data set or folder {name!r}{hint}; a folder of images or a .npz file may be named too"


def _load_card(card: Card, log: Log) -> Dataset:
    if card.layout == "sklearn":
        train, test = _read_sklearn_digits(card)
        return Dataset(card, train, None, test, _joint_digest(card), "scikit-learn")
    found = obtain(card, log)
    parts = [part for one in found for part in one.parts]
    train, test = (splits_from_cifar if card.layout == "cifar" else splits_from_idx)(card, parts)
    origin = " and ".join(dict.fromkeys(one.origin for one in found))
    return Dataset(card, train, None, test, _joint_digest(card), origin)


def _joint_digest(card: Card) -> str:
    """A name for the verified bytes: archives are shared between cards, so members count too."""
    lines = [" ".join((file.sha256, *file.members)) for file in card.files]
    return sha256("\n".join(lines).encode())


def _with_statistics(dataset: Dataset) -> Dataset:
    """The same, with mean and std on its card, computed from the training images where there were none."""
    if dataset.card.mean is not None and dataset.card.std is not None:
        return dataset
    mean, std = pixel_statistics(dataset.train.images)
    return replace(dataset, card=replace(dataset.card, mean=mean, std=std))


def _read_sklearn_digits(card: Card) -> tuple[Split, Split]:
    """The 1,797 digits that ship with scikit-learn: 8 x 8 pixels, values 0 to 16 made 0 to 255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"{card.name} is a part of scikit-learn: pip install scikit-learn") from error
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    if sha256(images.tobytes() + labels.astype(np.uint8).tobytes()) != card.files[0].sha256:
        raise DataError(f"the {card.name} of this scikit-learn differ from those that vitlab knows; reinstall it")
    every = Split(images[..., np.newaxis], labels)
    return every.take(range(NUM_DIGITS_TRAIN)), every.take(range(NUM_DIGITS_TRAIN, len(every)))


def _load_npz(path: Path) -> Dataset:
    try:
        with open(path, "rb") as file:
            digest = digest_of(file)
            file.seek(0)
            splits, classes = read_npz(file, path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {str(path)!r}: {reason}; name an .npz file that exists") from error
    train = splits["train"]
    card = own_card(path.stem, f"arrays of {path.name}", train.images, classes, str(path), "npz")
    return Dataset(card, train, splits.get("val"), splits.get("test"), digest, f"the file {path}")


def fetch(name: str, log: Log = _silent) -> list[tuple[str, str]]:
    """Make sure that all files of a catalogue set are on this machine: (file, where it is) for each."""
    card = _catalogue_card(name)
    if card.layout == "sklearn":
        _read_sklearn_digits(card)
        return [(card.files[0].name, "scikit-learn")]
    return [(one.file.name, str(one.path)) for one in obtain(card, log)]


def check(name: str) -> list[tuple[str, str, str]]:
    """Rows (file, path, "ok" or what is wrong) of every copy on this machine of a catalogue set's files."""
    card = _catalogue_card(name)
    rows = []
    for file in card.files:
        if card.layout == "sklearn":
            rows.append((file.name, "scikit-learn", _verdict(partial(_read_sklearn_digits, card))))
            continue
        paths = [path for path, _ in local_paths(card, file)]
        rows += [(file.name, str(path), _verdict(partial(read_parts, path, file))) for path in paths]
        if not paths:
            rows.append((file.name, str(cache_folder(card) / file.name), "missing"))
    return rows


def _verdict(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except DataError as error:
        return str(error)
    return "ok"


def _catalogue_card(name: str) -> Card:
    if name not in CATALOGUE and os.path.exists(os.path.expanduser(name)):
        raise DataError(f"{name} is your own; only sets of the catalogue have files to fetch or check")
    if name not in CATALOGUE:
        raise DataError(_unknown(name))
    return CATALOGUE[name]
