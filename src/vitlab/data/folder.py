"""A folder of PNG and JPEG images as a data set: a class is a sub-folder.

    pets/cat/*.png  pets/dog/*.jpg                        all of it is for training
    pets/train/cat/*.png ...  pets/test/cat/*.png ...     train/, and if wanted val/ and test/

A file is judged by its content, never by its name, and by the size in its header before a pixel is
decoded. What cannot be used is skipped and reported with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitlab.data.cards import Dataset, own_card
from vitlab.data.pixels import decode, resize
from vitlab.data.splits import MAX_BYTES, Images, Split
from vitlab.errors import DataError
from vitlab.files import sha256

MAX_FILE_BYTES = 64 * 2**20
PARTS = ("train", "val", "test")
LEADS_OUT = "a link that leads out of the folder"


@dataclass
class Harvest:
    """What has been read so far: uint8 images [H, W, C] of any size, each with its part and label."""

    root: Path
    images: list[Images] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    num_bytes: int = 0


def load_folder(root: Path, log: Callable[[str], None]) -> Dataset:
    """Read the images below ``root``; DataError when they do not make a data set."""
    harvest = Harvest(root)
    folders = _part_folders(harvest)
    classes = _class_names(folders["train"], root)
    for part, folder in folders.items():
        _read_part(part, folder, classes, harvest)
    _report(harvest, log)
    _check_counts(folders, harvest)
    splits = _to_splits(harvest, log)
    name = root.resolve().name
    card = own_card(name, f"images of the folder {name}", splits["train"].images, classes, str(root), "folder")
    digest = sha256("\n".join(harvest.digests).encode(errors="surrogateescape"))
    unreadable = tuple(harvest.unreadable)
    return Dataset(
        card, splits["train"], splits.get("val"), splits.get("test"), digest, f"the folder {root}", unreadable
    )


def _part_folders(harvest: Harvest) -> dict[str, Path]:
    """The folder of each part: train/ with val/ and test/ if there are any, else the root as train."""
    root = harvest.root
    folders = {folder.name: folder for folder in _sub_folders(root, root)}
    if not folders:
        raise DataError(f"{root} has no sub-folders; put the images of each class into a sub-folder of its own")
    nested = {name for name in PARTS if name in folders and _sub_folders(folders[name], root)}
    if not nested:
        return {"train": root}
    if "train" not in nested:
        raise DataError(f"{root} has {min(nested)}/ but no train/ with a sub-folder for each class")
    for path in _entries(root):
        if path.is_dir() and path.name not in nested:
            reason = LEADS_OUT if path.name not in folders else "neither train, val nor test with classes in it"
            _skip(path, reason, harvest)
    return {name: folders[name] for name in PARTS if name in nested}


def _entries(folder: Path) -> list[Path]:
    """What lies in ``folder``, sorted, without hidden entries."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot list the folder {folder}: {error.strerror}") from error


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
        raise DataError(f"{folder} has the classes {list(names)}; a classifier needs two or more sub-folders")
    return names


def _read_part(part: str, folder: Path, classes: tuple[str, ...], harvest: Harvest) -> None:
    for entry in _entries(folder):
        if _leads_out(entry, harvest.root):
            _skip(entry, LEADS_OUT, harvest)
        elif not entry.is_dir():
            _skip(entry, "not in the sub-folder of a class", harvest)
        elif entry.name not in classes:
            raise DataError(f"{entry} is a class that {harvest.root / 'train'} lacks; add it there or remove it")
        else:
            _read_class(part, entry, classes.index(entry.name), harvest)


def _read_class(part: str, folder: Path, label: int, harvest: Harvest) -> None:
    for path in _entries(folder):
        if _leads_out(path, harvest.root):
            _skip(path, LEADS_OUT, harvest)
        elif not path.is_file():
            _skip(path, "not a file", harvest)
        elif path.stat().st_size > MAX_FILE_BYTES:
            _skip(path, f"larger than {MAX_FILE_BYTES // 2**20} MiB", harvest)
        else:
            _read_file(part, path, label, harvest)


def _read_file(part: str, path: Path, label: int, harvest: Harvest) -> None:
    try:
        data = path.read_bytes()
        image = decode(data)
    except OSError as error:
        _skip(path, error.strerror or "it cannot be read", harvest)
    except DataError as error:
        _skip(path, str(error), harvest)
    else:
        harvest.images.append(image)
        harvest.parts.append(part)
        harvest.labels.append(label)
        harvest.digests.append(f"{sha256(data)} {path.relative_to(harvest.root).as_posix()}")
        harvest.num_bytes += image.nbytes
        _check_memory(harvest.num_bytes, harvest.root)


def _skip(path: Path, reason: str, harvest: Harvest) -> None:
    name = path.relative_to(harvest.root).as_posix()
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    harvest.unreadable.append(f"{printable}: {reason}")


def _check_memory(num_bytes: int, root: Path) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(
            f"the images of {root} take {num_bytes / 2**30:.1f} GiB or more once decoded; vitlab holds "
            f"data in memory, at most {MAX_BYTES / 2**30:g} GiB: make them smaller or fewer"
        )


def _report(harvest: Harvest, log: Callable[[str], None]) -> None:
    num_skipped = len(harvest.unreadable)
    if num_skipped:
        more = f" and {num_skipped - 3} more" if num_skipped > 3 else ""
        log(
            f"{num_skipped} of {num_skipped + len(harvest.images)} files of {harvest.root} could not be read "
            f"and are skipped: {'; '.join(harvest.unreadable[:3])}{more}"
        )


def _check_counts(folders: dict[str, Path], harvest: Harvest) -> None:
    first = f" ({harvest.unreadable[0]})" if harvest.unreadable else ""
    for part, folder in folders.items():
        count, least = harvest.parts.count(part), 2 if part == "train" else 1
        if count < least:
            raise DataError(f"{folder} has {count} readable images{first}; {part} needs at least {least}")


def _to_splits(harvest: Harvest, log: Callable[[str], None]) -> dict[str, Split]:
    """One Split a part; all images get the most common size of training images and the same channels."""
    train_sizes = [
        image.shape[:2] for image, part in zip(harvest.images, harvest.parts, strict=True) if part == "train"
    ]
    height, width = Counter(train_sizes).most_common(1)[0][0]
    channels = max(image.shape[2] for image in harvest.images)
    _check_memory(len(harvest.images) * height * width * channels, harvest.root)
    num_resized = sum(image.shape[:2] != (height, width) for image in harvest.images)
    if num_resized:
        log(f"{num_resized} of {len(harvest.images)} images were resized to {height} x {width}, the most common size")
    splits = {}
    for part in dict.fromkeys(harvest.parts):
        chosen = [index for index, of_part in enumerate(harvest.parts) if of_part == part]
        images = np.empty((len(chosen), height, width, channels), dtype=np.uint8)
        for row, index in enumerate(chosen):
            images[row] = resize(harvest.images[index], height, width)  # grey [H, W, 1] fills all channels
        splits[part] = Split(images, np.array([harvest.labels[index] for index in chosen], dtype=np.int64))
    return splits
