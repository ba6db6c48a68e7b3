"""Answers as a table (CSV), for spreadsheets, pandas and competitions."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitlab.data.images import ImageError
from vitlab.errors import ConfigError, DataError
from vitlab.predict.predictions import UNLIKE, Answer
from vitlab.text import counted, few, printable

PROBABILITIES = "probabilities"  # in place of a name for the label: a column for each class
MOST_CLASSES = 12  # that the summary counts one by one


@dataclass(frozen=True)
class Layout:
    """The columns of a table: everything about the ``top`` most probable of the ``classes`` or, with ``columns``, only
    the identifier and the label under these names, or the identifier and a probability for each class."""

    classes: tuple[str, ...]
    top: int
    columns: tuple[str, str] | None = None

    @property
    def head(self) -> list[str]:
        """The names of the columns."""
        if self.columns is not None:
            identifier, label = self.columns
            return [identifier, *(self.classes if label == PROBABILITIES else [label])]
        places = range(2, min(self.top, len(self.classes)) + 1)
        others = [name for place in places for name in (f"label_{place}", f"probability_{place}")]
        return ["file", "label", "probability", *others, "sure", "unlike", "note"]

    def row(self, name: str, identifier: str, answer: Answer | ImageError) -> list[str]:
        """The cells of a picture. Without an answer they are empty, and the note says why."""
        empty = [""] * (len(self.head) - 1)
        if self.columns is not None:
            if isinstance(answer, ImageError):
                return [identifier, *empty]
            if self.columns[1] == PROBABILITIES:
                return [identifier, *map(number, answer.probabilities.tolist())]
            return [identifier, answer.top(1)[0].name]
        if isinstance(answer, ImageError):
            return [name, *empty[:-1], str(answer)]
        cells = [cell for label in answer.top(self.top) for cell in (label.name, number(label.probability))]
        return [name, *cells, yes_or_no(answer.sure), yes_or_no(answer.unlike), answer.doubt]


def as_csv(cells: Sequence[str]) -> str:
    r"""A line of the table. Bytes of a file's name that are no text become \udcff and the like: the table is UTF-8."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)  # with "\n" alone, csv would not quote a \r in a cell
    text = line.getvalue().removesuffix("\r\n") + "\n"
    return text.encode(errors="backslashreplace").decode()


def number(probability: float) -> str:
    """With six significant digits."""
    return f"{probability:.6g}"


def yes_or_no(value: bool | None) -> str:
    """true, false, or nothing if it is not known; pandas reads these as bool."""
    return "" if value is None else str(value).lower()


def read_columns(text: str) -> tuple[str, str]:
    """Two different names that a comma separates; ConfigError for anything else."""
    names = tuple(name.strip() for name in text.split(","))
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise ConfigError(f"--columns needs two different names, as in --columns ImageId,Label, not {text!r}")
    return names[0], names[1]


def check_identifiers(files: Sequence[str]) -> None:
    """DataError if two files would have the same identifier."""
    first: dict[str, str] = {}
    for file in files:
        identifier = Path(file).stem
        if (other := first.setdefault(identifier, file)) != file:
            raise DataError(
                f"{printable(other)} and {printable(file)} would both be {printable(identifier)!r} in the first "
                "column; rename one, or leave out --columns"
            )


@dataclass
class Tally:
    """How many pictures got which label, and how many answers cannot be trusted."""

    labels: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    unlike: int = 0
    unreadable: int = 0

    def add(self, answer: Answer | ImageError) -> None:
        """Count a picture."""
        if isinstance(answer, ImageError):
            self.unreadable += 1
            return
        self.labels[answer.top(1)[0].name] += 1
        self.unlike += bool(answer.unlike)
        self.unsure += not answer.sure and not answer.unlike

    def line(self, classes: tuple[str, ...]) -> str:
        """All of that in one line, the classes in their order, or the most common of many."""
        shown = [name for name in classes if self.labels[name]]
        if len(shown) > MOST_CLASSES:
            shown = [name for name, _ in self.labels.most_common()]
        words = few([f"{name}: {self.labels[name]:,}" for name in shown], MOST_CLASSES)
        total = self.labels.total() + self.unreadable
        parts = [f"{counted(total, 'picture')} ({words})" if words else counted(total, "picture")]
        named = {"not sure": self.unsure, UNLIKE: self.unlike, "could not be read": self.unreadable}
        return "; ".join(parts + [f"{count:,} {name}" for name, count in named.items() if count])
