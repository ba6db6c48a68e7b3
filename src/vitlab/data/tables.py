"""Labels in a table, as competitions and surveys store them.

photos/labels.csv             file, label and perhaps split, with the images next to it or in folders below
photos/train.csv  test.csv    one table for each part
digits/train.csv              label, pixel0, pixel1 ...: the pixels themselves (see pixels.py)

A table needs a first line with the names of its columns. Names of files may be paths or bare names, with or without
their ending.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vitlab.data.images import SUFFIXES
from vitlab.data.layout import PARTS, TABLES, Layout, part_in, part_of, unwrapped
from vitlab.data.paths import contents, one_form, open_regular
from vitlab.errors import DataError
from vitlab.text import counted, few, listed

MAX_TABLE = 256 * 2**20  # bytes
MAX_HEADER = 2**20
FILE_COLUMNS = ("file", "filename", "filepath", "image", "imagename", "imagefile", "imagepath", "imageid", "img",
                "path", "id", "name")  # fmt: skip
LABEL_COLUMNS = ("label", "labels", "class", "classname", "classid", "category", "target", "y")
SPLIT_COLUMNS = ("split", "part", "subset", "set", "partition")
WHOLE = ("labels", "label", "annotations", "metadata")  # names of a table for everything
ENOUGH = 0.5  # share of its files that a table must find, to be one of labels


@dataclass(frozen=True)
class Table:
    """A CSV file by its first line: the names of its columns, and the places of those that matter."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    file: int | None
    label: int | None
    split: int | None
    is_guess: bool = False  # the label is the only other column, whatever it is called

    @property
    def part(self) -> str | None:
        """The part that the table's name says: train.csv, Training_set.csv."""
        return part_of(self.path.stem) or part_in(self.path.stem)

    @property
    def label_name(self) -> str | None:
        """What its column of labels is called."""
        return None if self.label is None else self.columns[self.label]

    @property
    def is_of_labels(self) -> bool:
        """Whether it says which file has which label."""
        return self.file is not None and self.label is not None


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    line: int
    file: str
    label: str
    part: str


@dataclass
class Files:
    """All files below a folder, to be found by path, by name, and by name without ending."""

    top: Path
    by_path: dict[str, Path] = field(default_factory=dict)
    by_name: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    by_stem: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def find(self, text: str, part: str) -> list[Path]:
        """The files that ``text`` may mean; of several those in the folder of the ``part``."""
        wanted = one_form(text.replace("\\", "/").removeprefix("./"))
        if wanted in self.by_path:
            return [self.by_path[wanted]]
        *folders, name = [word for word in wanted.split("/") if word not in ("", ".", "..")] or [""]
        named = self.by_name.get(name) or self.by_stem.get(name) or []
        found = [path for path in named if self._agree(path, folders)]
        own = [path for path in found if part in {part_of(one) or part_in(one) for one in path.parts[:-1]}]
        return own if len(found) > 1 and own else found

    def _agree(self, path: Path, folders: list[str]) -> bool:
        """Whether a file may be what a table calls FOLDERS/NAME: next to the table, or in a folder of the same name."""
        own = path.parent.relative_to(self.top).parts
        return not folders or not own or one_form(own[-1]) == folders[-1]


def tables_in(root: Path) -> list[Table]:
    """The tables at the top of ``root`` that have a readable first line, sorted by name."""
    top = unwrapped(root, root)
    paths = [one.path for one in contents(top, root) if one.kind == "file" and one.name.lower().endswith(TABLES)]
    return [table for path in paths if (table := table_at(path)) is not None]


def table_at(path: Path) -> Table | None:
    """The table in ``path``; None if its first line cannot be read."""
    try:
        with open_regular(path) as file:
            head = file.readline(MAX_HEADER).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    delimiter = max(",;\t", key=head.count)
    try:
        columns = tuple(name.strip() for name in next(csv.reader([head], delimiter=delimiter), []))
    except csv.Error:
        return None
    names = [re.sub(r"[\W_]+", "", name.casefold()) for name in columns]
    named, label, split = (_first(names, wanted) for wanted in (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS))
    is_guess = named is not None and label is None and len(names) == 2  # id,breed
    if is_guess and named is not None:
        label = 1 - named
    return Table(path, columns, delimiter, named, label, split, is_guess)


def _first(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def chosen(tables: list[Table]) -> list[Table]:
    """Of several tables of labels the one for everything, else one for each part; DataError if that is not clear."""
    tables = [table for table in tables if table.is_of_labels and "submission" not in table.path.stem.casefold()]
    whole = [table for table in tables if table.path.stem.casefold() in WHOLE]
    if whole or len(tables) < 2:
        return (whole or tables)[:1]
    named = [table for table in tables if table.part]
    parts = [table.part for table in named]
    if not named or len(set(parts)) < len(parts) or "train" not in parts:
        names = listed([table.path.name for table in tables])
        raise DataError(
            f"{tables[0].path.parent} has several tables of labels ({names}); name the one to use as --data, "
            f"or call them train.csv and test.csv"
        )
    train = next(table for table in named if table.part == "train")
    return [table for table in named if not table.is_guess or table.label_name == train.label_name]


def files_below(layout: Layout) -> Files:
    """All files below the layout's root."""
    top = unwrapped(layout.root, layout.root)
    found = Files(top)
    for path in _walk(top, layout):
        found.by_path[one_form(path.relative_to(top).as_posix())] = path
        if path.name.lower().endswith(SUFFIXES):
            found.by_name[one_form(path.name)].append(path)
            found.by_stem[one_form(path.stem)].append(path)
    return found


def _walk(folder: Path, layout: Layout) -> Iterator[Path]:
    for entry in contents(folder, layout.root):
        if entry.kind == "file":
            yield entry.path
        elif entry.kind == "folder" and not entry.path.is_symlink():
            yield from _walk(entry.path, layout)
        elif entry.kind == "link out":
            layout.skip(entry.path, "is a link that leads out of the folder")


def rows_of(table: Table) -> Iterator[Row]:
    """The lines of a table; those without a label have an empty one. DataError for a line that cannot be read."""
    assert table.file is not None
    assert table.label is not None
    for line, cells in cells_of(table):
        if len(cells) < len(table.columns):
            here, columns = counted(len(cells), "cell"), counted(len(table.columns), "column")
            raise DataError(f"{table.path}, line {line} has {here}, but the first line {columns}; correct it")
        split = cells[table.split].strip() if table.split is not None else ""
        part = (part_of(split) or part_in(split)) if split else table.part or "train"
        if part is None:
            known = ", ".join(PARTS)
            raise DataError(f"{table.path}, line {line}: the split {split!r} is none of {known}; correct it")
        yield Row(line, cells[table.file].strip(), one_form(cells[table.label].strip()), part)


def cells_of(table: Table) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each line after the first that is not empty."""
    try:
        with open_regular(table.path) as file:
            if os.fstat(file.fileno()).st_size > MAX_TABLE:
                raise DataError(f"{table.path} has more than {MAX_TABLE // 2**20} MiB; split it")
            reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=table.delimiter)
            next(reader, None)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError:
        raise DataError(f"{table.path} is not UTF-8 text; save it as CSV with UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{table.path}, line {reader.line_num}: {error}; correct it") from None
    except OSError as error:
        raise DataError(f"cannot read {table.path}: {error.strerror or error}; check it") from None


@dataclass
class Labelled:
    """What tables say: the files of each part with their labels; what they name in vain, for a note."""

    files: dict[str, dict[Path, str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unlabelled: int = 0

    def notes(self, tables: list[Table]) -> list[str]:
        """What to tell the user."""
        lines = [f"labels come from {listed([table.path.name for table in tables])}"]
        if self.missing:
            lines.append(f"{counted(len(self.missing), 'file')} named there cannot be found: {few(self.missing)}")
        if self.unlabelled:
            lines.append(f"{counted(self.unlabelled, 'line')} there without a label")
        return lines


def read_labels(tables: list[Table], layout: Layout) -> Labelled | None:
    """The labels of the files below the layout's root; None if the tables' files are not there, so that they are
    tables of something else. DataError for a line that contradicts another or could mean two files."""
    known, found = files_below(layout), Labelled()
    owners: dict[Path, tuple[str, Row]] = {}
    for table in tables:
        for row in rows_of(table):
            place = f"{table.path.name}, line {row.line}"
            if not row.label:
                found.unlabelled += 1
                continue
            paths = known.find(row.file, row.part)
            if len(paths) > 1:
                names = listed([layout.name(path) for path in paths[:2]])
                raise DataError(f"{place}: {row.file!r} could be {names}; write the path")
            if not paths:
                found.missing.append(row.file)
                continue
            before = owners.setdefault(paths[0], (place, row))
            if (before[1].label, before[1].part) != (row.label, row.part):
                what = "label" if before[1].label != row.label else "split"
                raise DataError(f"{place}: {row.file!r} has another {what} in {before[0]}; keep one of the two")
            found.files.setdefault(row.part, {})[paths[0]] = row.label
    count = sum(map(len, found.files.values()))
    return found if count and count >= ENOUGH * (count + len(found.missing)) else None


def in_vain(tables: list[Table], root: Path, found: Labelled | None) -> DataError:
    """For tables of labels that name (almost) no file that is there, or none to train on."""
    first = next((row.file for table in tables for row in rows_of(table) if row.label), None)
    where = listed([str(table.path) for table in tables])
    if first is None:
        return DataError(f"{where} has no line with a label; fill its column {tables[0].label_name!r}")
    if found is not None:
        return DataError(f"{where} names no training images; add some, or correct the column of splits")
    return DataError(
        f"{where} names files that are not below {root}, such as {first!r}; correct their names (letters, zeros in "
        "front and folders count), or put the images there"
    )
