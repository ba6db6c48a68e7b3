"""What a user's own folder or .npz file holds, and what may be wrong with it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vitlab.config import RunConfig
from vitlab.data.cards import Dataset
from vitlab.data.drawn import drawing_of
from vitlab.data.load import load_dataset
from vitlab.data.splits import Split, count_constant
from vitlab.errors import DataError
from vitlab.text import counted, few, listed, percent, printable

UNEQUAL = 3.0  # times as many images in the largest class as in the smallest: accuracy hides that
SHOWN_CLASSES = 20
BAR = 24  # characters


@dataclass(frozen=True)
class Inspection:
    """``classes``: for each class its number of images in each part. ``unreadable``: files that are skipped, with the
    reason. ``constant``: images of one colour in each part. ``duplicates``: for each pair of parts, how many images of
    the second are also in the first, pixel by pixel; for a part with itself, how many repeat another one. ``notes``:
    what was said while the images were read. ``shape``: [H, W, C] of the images as they are kept; ``sizes`` counts the
    (height, width) of the files. ``tables``: the names of those that hold the labels. ``are_drawings``: whether they
    are normalised as MNIST's digits are. ``bits``: of each number, 8 or 16."""

    classes: dict[str, dict[str, int]]
    unreadable: tuple[str, ...]
    constant: dict[str, int]
    duplicates: dict[tuple[str, str], int]
    notes: tuple[str, ...]
    shape: tuple[int, int, int]
    sizes: Mapping[tuple[int, int], int]
    tables: tuple[str, ...]
    are_drawings: bool
    bits: int = 8

    @property
    def parts(self) -> dict[str, int]:
        """The number of images in each part."""
        names = next(iter(self.classes.values()))
        return {part: sum(counts[part] for counts in self.classes.values()) for part in names}

    @property
    def imbalance(self) -> float:
        """How many times as many training images the largest class has as the smallest; infinite if that has none."""
        counts = [counts["training"] for counts in self.classes.values()]
        return max(counts) / min(counts) if min(counts) else math.inf

    def problems(self) -> list[str]:
        """A line for each thing that may be wrong."""
        found = list(self.notes)
        for part in list(self.parts)[1:]:
            absent = [repr(name) for name, counts in self.classes.items() if not counts[part]]
            if absent:
                found.append(f"no {part} image shows {few(absent)}")
            if self.constant[part]:
                found.append(f"{counted(self.constant[part], f'{part} image')} of one colour all over")
        for (first, second), count in self.duplicates.items():
            if count and first == second:
                found.append(f"{counted(count, f'{first} image')} repeat{'s' if count == 1 else ''} another one")
            elif count:
                found.append(f"{counted(count, f'{second} image')} can also be found among the {first} images")
        if UNEQUAL <= self.imbalance < math.inf:
            found.append(
                f"the largest class has {self.imbalance:.3g} times as many training images as the smallest: accuracy "
                f"hides that; consider --class-weight balanced or --sampling balanced"
            )
        return found


def inspect(place: str) -> Inspection:
    """Read the data set ``place`` completely: a folder, a file, or a name of the catalogue; DataError if it is none."""
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
            (first, second): _repeated(contents[first])
            if first == second
            else sum(one in known[first] for one in contents[second])
            for number, first in enumerate(names)
            for second in names[number:]
        },
        notes=tuple(notes),
        shape=(dataset.card.height, dataset.card.width, dataset.card.channels),
        sizes=dataset.sizes,
        tables=dataset.tables,
        are_drawings=drawing_of(dataset.train.images) is not None,
        bits=dataset.bits,
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


def _repeated(contents: list[bytes]) -> int:
    return len(contents) - len(set(contents))


def summary(inspection: Inspection) -> str:
    """One line: how many images of how many classes in each part."""
    sizes = listed([f"{count:,} {part}" for part, count in inspection.parts.items()])
    return f"{sizes} images, {counted(len(inspection.classes), 'class')}"


def description(inspection: Inspection, config: RunConfig) -> list[str]:
    """Half a screen: what is there, what may be wrong, and what a run with ``config`` would do with it."""
    notes = inspection.problems()
    lines = [summary(inspection), *_about_files(inspection), "", *_table(inspection)]
    if notes:
        lines += ["", "worth knowing:", *(f"  {note}" for note in notes)]
    return [*lines, "", "what vitlab would do:", *(f"  {line}" for line in _plan(inspection, config))]


def _about_files(inspection: Inspection) -> list[str]:
    height, width, channels = inspection.shape
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    kept = f"{height} x {width} pixels, {colours}{' of 16 bits' if inspection.bits == 16 else ''}"
    sizes = Counter(inspection.sizes)
    if len(sizes) < 2:
        return [kept]
    (usual, count), *_ = sizes.most_common(1)
    areas = sorted(sizes, key=lambda size: size[0] * size[1])
    span = f"{_times(areas[0])} to {_times(areas[-1])}"
    share = percent(count / sizes.total(), 0)
    return [f"files of {span}, most often {_times(usual)} ({share}); kept as {kept}"]


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"


def _table(inspection: Inspection) -> list[str]:
    """A line for each class, largest first, with a bar for its training images."""
    parts = list(inspection.parts)
    rows = sorted(inspection.classes.items(), key=lambda row: -row[1]["training"])
    if len(rows) > SHOWN_CLASSES:
        left_out, rows = rows[SHOWN_CLASSES:], rows[:SHOWN_CLASSES]
        rest = [f"and {counted(len(left_out), 'class')} with fewer"]
    else:
        rest = []
        rows = list(inspection.classes.items())
    most = max(1, *(counts["training"] for _, counts in rows))
    width = max(len("class"), *(len(printable(name)) for name, _ in rows))
    head = "class".ljust(width) + "".join(part.rjust(12) for part in parts)
    lines = [
        printable(name).ljust(width)
        + "".join(f"{counts[part]:>12,}" for part in parts)
        + "  "
        + "#" * math.ceil(BAR * counts["training"] / most)
        for name, counts in rows
    ]
    return [head, *lines, *rest]


def _plan(inspection: Inspection, config: RunConfig) -> list[str]:
    lines = [f"take the labels from {listed(list(inspection.tables))}"] if inspection.tables else []
    height, width, _ = inspection.shape
    side, grid = config.model.image_size, config.model.grid
    seen = f"{side} x {side}"
    if (height, width) == (side, side):
        lines.append(f"show the network the images as they are, {seen}; --image-size N changes that")
    else:
        lines.append(f"show the network {seen} pixels; --image-size N changes that")
    lines.append(f"use the preset {config.preset}, with {grid} x {grid} patches; --preset NAME changes that")
    if config.augment.flip:
        lines.append("mirror half of the training images at random; --no-flip if left and right matter")
    epochs = counted(config.train.epochs, "epoch")
    lines.append(f"train for {epochs} in batches of {config.train.batch_size}; --epochs N changes that")
    if inspection.are_drawings:
        lines.append("take them for drawings like MNIST's, and prepare each picture to classify like them")
    if "validation" not in inspection.parts:
        lines.append(f"keep {percent(config.data.val_fraction, 0)} of the training images of each class for validation")
    if "test" not in inspection.parts:
        lines.append("report no test accuracy, since there are no test images")
    return lines
