"""What `vitlab predict` is given, as pictures one after the other: files, folders, tables of pixels, arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.data.arrays import to_levels
from vitlab.data.images import MAX_BYTES, ImageError, is_picture
from vitlab.data.layout import TABLES
from vitlab.data.npz import read_images
from vitlab.data.paths import files_below
from vitlab.data.pixels import pixel_blocks, pixel_columns
from vitlab.data.tables import table_at
from vitlab.errors import DataError
from vitlab.text import few, printable

if TYPE_CHECKING:
    from vitlab.predict.classifier import Classifier

STANDARD_INPUT = "-"
Said = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Pictures with one origin. ``count`` is None where it is not known before they are read; ``pictures`` gives the
    name, the identifier (a file's name without ending; in tables and arrays the number of the row, from 1) and what
    `Classifier.answers` takes, or an ImageError. ``files``: their paths, if they are files."""

    count: int | None
    pictures: Callable[[], Iterator[tuple[str, str, Any]]]
    files: list[str] = field(default_factory=list)


def source_of(word: str, classifier: Classifier, note: Said) -> Source:
    """The pictures that a word on the command line means. Those of a folder and its sub-folders come in natural order;
    one line lists what is skipped. DataError for a table that cannot be used."""
    if word.lower().endswith(TABLES) and Path(word).is_file():
        return _table(Path(word), note)
    if word.lower().endswith(".npz") and Path(word).is_file():
        images = to_levels(read_images(Path(word), classifier.bits), classifier.bits)
        rows = ((f"{word}#{row}", str(row), image) for row, image in enumerate(images, 1))
        return Source(len(images), lambda: rows)
    if word == STANDARD_INPUT:
        return Source(1, lambda: (("standard input", "-", _standard_input(classifier)) for _ in range(1)))
    files = pictures_in(word, note)
    return Source(len(files), lambda: ((path, Path(path).stem, _file(path)) for path in files), files)


def pictures_in(word: str, note: Said) -> list[str]:
    """The pictures in a folder and its sub-folders, in natural order; a file, or a folder without any, as it is."""
    folder = Path(word)
    try:
        if not word or not folder.is_dir():
            return [word]
        entries = list(files_below(folder))
    except (OSError, ValueError):  # a name that cannot be read: reported when it is opened
        return [word]
    found, skipped = list[str](), list[str]()
    for entry in entries:
        is_one = entry.kind == "file" and is_picture(entry.path)
        (found if is_one else skipped).append(str(entry.path))
    if skipped and found:
        names = few([printable(name) for name in skipped])
        note(f"skipped in {printable(word)}, because vitlab cannot read them as images: {names}")
    return found or [word]


def _file(path: str) -> Path | ImageError:
    if not path:
        return ImageError("a picture's name is empty; name an image file")
    try:
        if Path(path).is_dir():
            return ImageError(f"{path} is a folder without an image that can be read; name another one")
    except (OSError, ValueError):  # reported when it is opened
        pass
    return Path(path)


def _standard_input(classifier: Classifier) -> Any:
    if sys.stdin is None:  # as after `<&-`
        return ImageError("standard input is closed; name an image file")
    try:
        return classifier.decode(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input", is_local=True)
    except ImageError as error:
        return error


def _table(path: Path, note: Said) -> Source:
    table = table_at(path)
    columns = None if table is None else pixel_columns(table)
    if table is None or columns is None:
        raise DataError(
            f"{path} is no table of pixels, which has a column for each pixel of a square image; "
            "to classify image files, name them or their folder"
        )
    if columns.label is not None:
        name = repr(table.columns[columns.label]) if columns.has_names else "first"
        note(f"the {name} column of {printable(str(path))} is not used; `vitlab evaluate RUN --on` compares with it")
    return Source(None, partial(_rows, table))


def _rows(table: Any) -> Iterator[tuple[str, str, Any]]:
    row = 0
    for images, _ in pixel_blocks(table):
        for image in images:
            row += 1
            yield f"{table.path}#{row}", str(row), image
