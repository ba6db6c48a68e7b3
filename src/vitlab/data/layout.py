"""Where the images of a folder lie: which folder is for training, validation or testing, and which holds a class.

pets/cat/*.png  pets/dog/*.jpg                        everything is for training
pets/train/cat/*.png ...  pets/test/cat/*.png ...     parts, by any usual name in any case: Training, valid, dev ...
pets/archive/train/cat/*.png ...                      one folder around everything does not matter
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vitlab.data.images import SUFFIXES, printable
from vitlab.data.paths import Entry, contents, is_run, junk_folders, sub_folders
from vitlab.errors import DataError
from vitlab.text import few, listed

PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
PART_OF = {name: part for part, names in PARTS.items() for name in names}
TABLES = (".csv", ".tsv")  # endings
NO_PART = "not called train, val or test"
NO_CLASSES = "no folders of classes in it"
NO_IMAGE = "no readable image"
DEEPER = "their images lie in folders below"
LEADS_OUT = "is a link that leads out of the folder"


@dataclass
class Layout:
    """The folder of each part, in the order train, val, test; what is not used, each with the reason; the names of the
    tables that hold the labels, if they do not come from folders."""

    root: Path
    parts: dict[str, Path] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    tables: tuple[str, ...] = ()

    def name(self, path: Path) -> str:
        """The path within the folder, on one line."""
        return printable(path.relative_to(self.root).as_posix())

    def skip(self, path: Path, reason: str) -> None:
        """Note that a file is not used."""
        self.skipped.append(f"{self.name(path)} {reason}")

    def leave_out(self, path: Path, reason: str) -> None:
        """Note that a folder is not used."""
        self.left_out.append((self.name(path), reason))

    def leave_out_junk(self, folder: Path) -> None:
        """Note the folders of systems that lie where classes are expected."""
        for path in junk_folders(folder):
            self.leave_out(path, NO_IMAGE)

    def told(self) -> str:
        """What is left out, by reason: a and b (no readable image), c (a run of vitlab)."""
        reasons = dict.fromkeys(why for _, why in self.left_out)
        return ", ".join(f"{few([name for name, why in self.left_out if why == one])} ({one})" for one in reasons)

    def inside(self, folder: Path) -> Iterator[Entry]:
        """The contents of ``folder``, without links that lead out of the root."""
        for entry in contents(folder, self.root):
            if entry.kind == "link out":
                self.skip(entry.path, LEADS_OUT)
            else:
                yield entry


def find_parts(root: Path, is_old: bool = False) -> Layout:
    """The parts of the folder ``root``: train/ with val/ and test/ if they exist, else everything is for training.
    ``is_old``: as versions found them that knew no other names. DataError when there are no sub-folders, two folders
    for one part, or parts without training images."""
    layout = Layout(root)
    top = root if is_old else unwrapped(root, root)
    folders = sub_folders(top, root)
    if not folders:
        raise DataError(
            f"{top} has no sub-folders; put the images of each class into a sub-folder{_or_table(top, root)}"
        )
    named = {path: path.name for path in folders if path.name in PARTS} if is_old else _named(folders)
    nested = {path: part for path, part in named.items() if _holds_classes(path, root)}
    if not nested and not is_old:
        _refuse_parts_without_classes(top, folders)
    if not nested:
        layout.parts = {"train": top}
        return layout
    for part in PARTS:
        same = [path for path, named in nested.items() if named == part]
        if len(same) > 1:
            names = listed([f"{printable(path.name)}/" for path in same])
            what = {"train": "training", "val": "validation"}.get(part, part)
            raise DataError(f"{top} has {names} for the {what} images; merge them, or rename those that you do not use")
        if same:
            layout.parts[part] = same[0] if is_old else _unwrapped_part(same[0], root)
    if "train" not in layout.parts:
        raise DataError(f"{top} has {min(nested).name}/ but no train/ with a sub-folder for each class; add it")
    for entry in layout.inside(top):
        if entry.kind == "folder" and entry.path not in nested:
            layout.leave_out(entry.path, NO_CLASSES if part_of(entry.name) else NO_PART)
    return layout


def _or_table(top: Path, root: Path) -> str:
    """What a table lacks that could not be used."""
    unused = [one.name for one in contents(top, root) if one.kind == "file" and one.name.lower().endswith(TABLES)]
    if not unused:
        return ""
    return f", or begin {few(unused)} with the names of columns: file and label, or label and one for each pixel"


def has_classes(root: Path) -> bool:
    """Whether the folders say the classes: two or more with images in them, for training."""
    try:
        layout = find_parts(root)
    except DataError:
        return False
    folders = sub_folders(layout.parts["train"], root)
    return sum(any(is_image(one) for one in contents(folder, root)) for folder in folders) > 1


def is_image(entry: Entry) -> bool:
    """Whether the name is that of an image file."""
    return entry.kind == "file" and entry.name.lower().endswith(SUFFIXES)


def part_of(name: str) -> str | None:
    """ "train", "val" or "test" if that is what a folder's name means: Training, valid, DEV."""
    return PART_OF.get(name.casefold())


def part_in(name: str) -> str | None:
    """The same for a name with one such word among others: seg_train, test-set, images_val."""
    found = {PART_OF[word] for word in re.split(r"[\W_]+", name.casefold()) if word in PART_OF}
    return found.pop() if len(found) == 1 else None


def _named(folders: list[Path]) -> dict[Path, str]:
    """Folders whose names are those of parts; of longer names only where no plain one is there."""
    for meaning in (part_of, part_in):
        named = {path: part for path in folders if (part := meaning(path.name)) is not None}
        if "train" in named.values() or (named and meaning is part_of):
            return named
    return {}


def _holds_classes(folder: Path, root: Path) -> bool:
    """Whether ``folder`` has sub-folders; one that also holds images directly, such as dev/, may be a class."""
    found = contents(folder, root)
    has_images = any(one.kind == "file" and one.name.lower().endswith(SUFFIXES) for one in found)
    return any(one.kind == "folder" for one in found) and (folder.name in PARTS or not has_images)


def _refuse_parts_without_classes(top: Path, folders: list[Path]) -> None:
    if len(folders) > 1 and all(part_of(path.name) for path in folders):
        names = listed([f"{printable(path.name)}/" for path in folders])
        raise DataError(f"{top} has {names} without classes in them; put the images of each class into a sub-folder")


def unwrapped(folder: Path, root: Path, levels: int = 8) -> Path:
    """The folder inside of folders that hold nothing but it."""
    inner = sub_folders(folder, root)
    if len(inner) != 1 or part_of(inner[0].name) or part_in(inner[0].name) or is_run(inner[0]) or not levels:
        return folder
    deeper = unwrapped(inner[0], root, levels - 1)
    below = sub_folders(deeper, root)
    return deeper if len(below) > 1 or (below and part_of(below[0].name)) else folder


def _unwrapped_part(folder: Path, root: Path) -> Path:
    """seg_train/seg_train/buildings: the inner one."""
    inner = sub_folders(folder, root)
    same = len(inner) == 1 and part_in(inner[0].name) == part_in(folder.name) is not None
    return inner[0] if same and sub_folders(inner[0], root) else folder
