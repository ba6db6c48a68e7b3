"""What a user's own folder or .npz file holds, and what may be wrong with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from vitlab.data.cards import Dataset
from vitlab.data.load import load_dataset
from vitlab.data.splits import Split, count_constant
from vitlab.errors import DataError
from vitlab.text import counted, few, listed


@dataclass(frozen=True)
class Inspection:
    """``classes``: for each class its number of images in each part. ``unreadable``: files that are skipped, with the
    reason. ``constant``: images of one colour in each part. ``duplicates``: for each pair of parts, how many images of
    the second are also in the first, pixel by pixel. ``notes``: what was said while the images were read."""

    classes: dict[str, dict[str, int]]
    unreadable: tuple[str, ...]
    constant: dict[str, int]
    duplicates: dict[tuple[str, str], int]
    notes: tuple[str, ...]

    def problems(self) -> list[str]:
        """A line for each thing that may be wrong."""
        found = list(self.notes)
        parts = list(next(iter(self.classes.values())))
        for part in parts[1:]:
            absent = [repr(name) for name, counts in self.classes.items() if not counts[part]]
            if absent:
                found.append(f"no {part} image shows {few(absent)}")
            if self.constant[part]:
                found.append(f"{counted(self.constant[part], f'{part} image')} of one colour all over")
        for (first, second), count in self.duplicates.items():
            if count:
                found.append(f"{counted(count, f'{second} image')} can also be found among the {first} images")
        return found


def inspect(place: str) -> Inspection:
    """Read the folder or .npz file ``place`` completely; DataError when it is no data set."""
    notes: list[str] = []
    dataset = load_dataset(place, notes.append)
    parts = parts_of(dataset)
    counts = {part: np.bincount(split.labels, minlength=len(dataset.card.classes)) for part, split in parts.items()}
    contents = {part: _contents(split) for part, split in parts.items()}
    known = {part: frozenset(digests) for part, digests in contents.items()}
    names = list(parts)
    return Inspection(
        classes={
            name: {part: int(counts[part][number]) for part in names}
            for number, name in enumerate(dataset.card.classes)
        },
        unreadable=dataset.unreadable,
        constant={part: count_constant(split.images) for part, split in parts.items()},
        duplicates={
            (first, second): sum(one in known[first] for one in contents[second])
            for number, first in enumerate(names)
            for second in names[number + 1 :]
        },
        notes=tuple(notes),
    )


def check_data(place: str) -> list[str]:
    """A line for each thing that may be wrong with the folder or .npz file ``place``; none if all is well."""
    try:
        return inspect(place).problems()
    except DataError as error:
        return [str(error)]


def parts_of(dataset: Dataset) -> dict[str, Split]:
    """The parts that there are, by name."""
    parts = {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    return {name: split for name, split in parts.items() if split is not None}


def _contents(split: Split) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in split.images]


def summary(inspection: Inspection) -> str:
    """One line: how many images of how many classes in each part."""
    parts = next(iter(inspection.classes.values()))
    total = {part: sum(counts[part] for counts in inspection.classes.values()) for part in parts}
    sizes = listed([f"{count:,} {part}" for part, count in total.items()])
    return f"{sizes} images, {counted(len(inspection.classes), 'class')}"
