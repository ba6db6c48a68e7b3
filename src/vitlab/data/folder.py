"""A folder of PNG and JPEG images as a data set: each class is a sub-folder.

    pets/cat/*.png  pets/dog/*.jpg                        everything is for training
    pets/train/cat/*.png ...  pets/test/cat/*.png ...     train/, optionally val/ and test/

A file is recognised by its content, never by its name. Files that cannot be used are skipped and reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitlab.data.cards import Dataset, own_card
from vitlab.data.images import ImageError, Pixels, decode, printable, read_file, resize
from vitlab.data.splits import MAX_BYTES, Split
from vitlab.errors import DataError
from vitlab.files import sha256
from vitlab.text import counted

PARTS = ("train", "val", "test")
LEADS_OUT = "is a link that leads out of the folder"


@dataclass
class Harvest:
    """What has been read so far: for each part its uint8 images [H, W, C] of any size with their labels; the digest of
    every image file; why other files were skipped."""

    root: Path
    images: dict[str, list[tuple[Pixels, int]]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    num_bytes: int = 0

    def name(self, path: Path) -> str:
        """The path within the folder, on one line."""
        return printable(path.relative_to(self.root).as_posix())

    def skip(self, path: Path, reason: str) -> None:
        self.skipped.append(f"{self.name(path)} {reason}")

    def inside(self, folder: Path) -> Iterator[Path]:
        """The contents of ``folder``, without links that lead out of the root."""
        for path in _entries(folder):
            if _leads_out(path, self.root):
                self.skip(path, LEADS_OUT)
            else:
                yield path


def load_folder(root: Path, log: Callable[[str], None]) -> Dataset:
    """Read the images below ``root``; DataError when they do not make a data set."""
    harvest = Harvest(root)
    folders = _part_folders(harvest)
    classes = _class_names(folders["train"], root)
    for part, folder in folders.items():
        _read_part(part, folder, classes, harvest)
    _check_counts(folders, harvest, log)
    splits = _to_splits(harvest, log)
    name = root.resolve().name
    card = own_card(name, f"images of the folder {name}", splits["train"].images, classes, str(root), "folder")
    digest = sha256("\n".join(harvest.digests).encode(errors="surrogateescape"))
    origin, skipped = f"the folder {root}", tuple(harvest.skipped)
    return Dataset(card, splits["train"], splits.get("val"), splits.get("test"), digest, origin, skipped)


def _part_folders(harvest: Harvest) -> dict[str, Path]:
    """The folder of each part: train/ with val/ and test/ if they exist, else the root as train."""
    root = harvest.root
    folders = {folder.name: folder for folder in _sub_folders(root, root)}
    if not folders:
        raise DataError(f"{root} has no sub-folders; put the images of each class into a sub-folder")
    nested = {name for name in PARTS if name in folders and _sub_folders(folders[name], root)}
    if not nested:
        return {"train": root}
    if "train" not in nested:
        raise DataError(f"{root} has {min(nested)}/ but no train/ with a sub-folder for each class; add it")
    for path in _entries(root):
        if path.is_dir() and path.name not in nested:
            harvest.skip(path, "is not train, val or test with classes in it" if path.name in folders else LEADS_OUT)
    return {name: folders[name] for name in PARTS if name in nested}


def _entries(folder: Path) -> list[Path]:
    """The contents of ``folder``, sorted, without hidden entries."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot list the folder {folder}: {error.strerror}; check its permissions") from error


def _sub_folders(folder: Path, root: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir() and not _leads_out(path, root)]


def _leads_out(path: Path, root: Path) -> bool:
    return path.is_symlink() and not path.resolve().is_relative_to(root.resolve())


def _class_names(folder: Path, root: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _sub_folders(folder, root))
    for name in names:
        if not name.isprintable():
            raise DataError(f"{folder} has a class {name!a} whose name cannot be printed; rename it")
    if len(names) < 2:
        raise DataError(f"{folder} has only one class, {names[0]!r}; a classifier needs two or more sub-folders")
    return names


def _read_part(part: str, folder: Path, classes: tuple[str, ...], harvest: Harvest) -> None:
    harvest.images[part] = []
    for entry in harvest.inside(folder):
        if not entry.is_dir():
            harvest.skip(entry, "is not in the sub-folder of a class")
            continue
        if entry.name not in classes:
            raise DataError(f"{entry} is a class that {harvest.root / 'train'} lacks; add it there or remove it")
        for path in harvest.inside(entry):
            if path.is_file():
                _read_image(part, path, classes.index(entry.name), harvest)
            else:
                harvest.skip(path, "is not a file")


def _read_image(part: str, path: Path, label: int, harvest: Harvest) -> None:
    try:
        data = read_file(path)
        image = decode(data, harvest.name(path), drawing=False, strict=False)
    except ImageError as error:
        harvest.skipped.append(str(error))
        return
    harvest.images[part].append((image, label))
    harvest.digests.append(f"{sha256(data)} {path.relative_to(harvest.root).as_posix()}")
    harvest.num_bytes += image.nbytes
    _check_memory(harvest.num_bytes, harvest.root)


def _check_memory(num_bytes: int, root: Path) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(
            f"the images of {root} take {num_bytes / 2**30:.1f} GiB or more once decoded; vitlab keeps data in memory, "
            f"at most {MAX_BYTES / 2**30:g} GiB: use fewer or smaller images"
        )


def _check_counts(folders: dict[str, Path], harvest: Harvest, log: Callable[[str], None]) -> None:
    """Report what was skipped; DataError when a part has too few images."""
    skipped = harvest.skipped
    if skipped:
        more = f". And {len(skipped) - 3:,} more" if len(skipped) > 3 else ""
        total = counted(len(skipped) + len(harvest.digests), "file")
        log(f"skipped {len(skipped):,} of {total} in {harvest.root}: {'. '.join(skipped[:3])}{more}")
    first = f" ({skipped[0]})" if skipped else ""
    for part, folder in folders.items():
        count, least = len(harvest.images[part]), 2 if part == "train" else 1
        if count < least:
            raise DataError(f"{folder} has {counted(count, 'readable image')}{first}; {part} needs at least {least}")


def _to_splits(harvest: Harvest, log: Callable[[str], None]) -> dict[str, Split]:
    """One Split for each part; all images get the most common size of training images and the same channels."""
    height, width = Counter(image.shape[:2] for image, _ in harvest.images["train"]).most_common(1)[0][0]
    shapes = [image.shape for pairs in harvest.images.values() for image, _ in pairs]
    channels = max(shape[2] for shape in shapes)
    _check_memory(len(shapes) * height * width * channels, harvest.root)
    num_resized = sum(shape[:2] != (height, width) for shape in shapes)
    if num_resized:
        total = counted(len(shapes), "image")
        log(f"resized {num_resized:,} of {total} to {height} x {width}, the most common size")
    splits = {}
    for part, pairs in harvest.images.items():
        images = np.empty((len(pairs), height, width, channels), dtype=np.uint8)
        for row, (image, _) in enumerate(pairs):
            images[row] = resize(image, height, width)  # grey [H, W, 1] fills all channels
        splits[part] = Split(images, np.array([label for _, label in pairs], dtype=np.int64))
    return splits
