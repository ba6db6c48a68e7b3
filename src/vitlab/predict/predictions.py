"""The answers to one or many pictures: classes, probabilities, and whether a picture is like the training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import takewhile
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from vitlab import html
from vitlab.data.images import Pixels
from vitlab.data.view import view
from vitlab.errors import ConfigError
from vitlab.text import counted, percent, printable

SHOWN = 10  # pictures that a notebook shows
UNLIKE = "unlike anything it was trained on"
NOT_SURE = 0.5  # below this probability an answer should not be trusted


@dataclass(frozen=True)
class Label:
    """A class with its probability, 0 to 1.

    >>> vitlab.Label("seven", 7, 0.93)
    Label(name='seven', index=7, probability=0.93)
    """

    name: str
    index: int
    probability: float


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network says about one picture.

    ``probabilities``: float64 [K], one for each of the ``classes``. ``reason``: why no drawing that can be read was
    found, or None; ``blank``: not even ink. ``unlike``: the picture is unlike anything that the network was trained on
    (None: the run folder does not say).
    """

    classes: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    reason: str | None = None
    blank: bool = False
    unlike: bool | None = None

    def top(self, count: int = 5) -> list[Label]:
        """The ``count`` most probable labels, the best first."""
        best = np.argsort(-self.probabilities, kind="stable")[: how_many(count)].tolist()
        return [Label(self.classes[place], place, float(self.probabilities[place])) for place in best]

    @property
    def sure(self) -> bool:
        """Whether the first label can be trusted."""
        return not self.doubt

    @property
    def doubt(self) -> str:
        """Why the first label cannot be trusted; empty if it can."""
        if self.reason is not None:
            return self.reason
        if self.unlike:
            return UNLIKE
        return "" if self.probabilities.max() >= NOT_SURE else f"its probability is below {NOT_SURE:g}"


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What a network says about n pictures, in their order.

    ``probabilities``: float64 [n, K], the softmax of the network's outputs; rows sum to 1.
    ``unlike``: bool [n], whether a picture is unlike anything the network was trained on, so that its class means
    nothing; None if the run was made by an early version of vitlab. About 1 % of pictures like the training images
    count as unlike, too (see `vitlab.training.novelty`).
    ``classes``: the names of the K classes. ``pictures``: the first few as the network received them.

    `len`, indexing and iteration give the best `Label` of each picture; a slice, a mask or a list of numbers gives the
    `Predictions` of those pictures:

    >>> run = vitlab.train("fast", data="digits", epochs=1, progress=False)
    >>> answers = run.predict(vitlab.load_dataset("digits").test.images[:3])
    >>> len(answers), answers.probabilities.shape
    (3, (3, 10))
    >>> answers[0].name == answers.names[0] == run.classes[answers.indices[0]]
    True
    >>> answers[1:].names == answers.names[1:]
    True
    """

    classes: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    unlike: npt.NDArray[np.bool_] | None
    pictures: Sequence[Pixels] = field(default=(), repr=False)

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """The number of the most probable class of each picture, int64 [n]."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def names(self) -> list[str]:
        """The name of the most probable class of each picture."""
        return [self.classes[index] for index in self.indices.tolist()]

    def top(self, count: int = 5) -> list[list[Label]]:
        """The ``count`` most probable labels of each picture, the best first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, : how_many(count)]
        return [
            [Label(self.classes[place], place, float(row[place])) for place in places]
            for row, places in zip(self.probabilities, order.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.probabilities)

    @overload
    def __getitem__(self, number: int) -> Label: ...
    @overload
    def __getitem__(self, number: slice | Sequence[int] | npt.NDArray[Any]) -> Predictions: ...
    def __getitem__(self, number: int | slice | Sequence[int] | npt.NDArray[Any]) -> Label | Predictions:
        if not isinstance(number, int | np.integer):
            chosen = np.arange(len(self))[number]
            known = takewhile(lambda place: place < len(self.pictures), chosen[:SHOWN].tolist())
            shown = [self.pictures[place] for place in known]  # up to the first that is not kept
            unlike = None if self.unlike is None else self.unlike[chosen]
            return Predictions(self.classes, self.probabilities[chosen], unlike, shown)
        index = int(self.probabilities[number].argmax())
        return Label(self.classes[index], index, float(self.probabilities[number, index]))

    def __iter__(self) -> Iterator[Label]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        few = [self._words(number) for number in range(min(len(self), 3))]
        more = ", ..." if len(self) > len(few) else ""
        if more and self.unlike is not None and (unlike := np.count_nonzero(self.unlike)):
            more += f"; {unlike:,} unlike the training images"
        listed = f": {printable(', '.join(few))}{more}" if few else ""
        return f"<Predictions of {counted(len(self), 'picture')}{listed}>"

    def _repr_html_(self) -> str:
        rows = [self._row(number) for number in range(min(len(self), SHOWN))]
        table = html.table(["", "class", "probability", "next", ""], rows, 2)
        left = len(self) - len(rows)
        return html.block(table, html.text(f"and {counted(left, 'more picture')}") if left else "")

    def _row(self, number: int) -> list[str]:
        best, *others = self._labels_of(number)
        doubts = self._doubts(number, "unlike the training images")
        after = html.text(f"{others[0].name} {percent(others[0].probability, 1)}") if others else ""
        shown = html.picture(to_png(self.pictures[number]), 40, best.name) if number < len(self.pictures) else ""
        return [shown, html.bold(best.name), percent(best.probability, 1), after, html.text(", ".join(doubts))]

    def _words(self, number: int) -> str:
        label, doubts = self[number], self._doubts(number)
        return f"{label.name} {percent(label.probability, 1)}" + (f" ({', '.join(doubts)})" if doubts else "")

    def _doubts(self, number: int, unlike: str = "unlike") -> list[str]:
        """Why the answer to a picture cannot be trusted."""
        doubts = [unlike] if self.unlike is not None and self.unlike[number] else []
        return doubts + (["not sure"] if self.probabilities[number].max() < NOT_SURE else [])

    def _labels_of(self, number: int) -> list[Label]:
        row = self.probabilities[number]
        return [Label(self.classes[place], place, float(row[place])) for place in np.argsort(-row)[:2].tolist()]


def how_many(count: int) -> int:
    """The number of labels that ``top`` asks for; ConfigError if it is none."""
    if not isinstance(count, int | np.integer) or count < 1:
        raise ConfigError(f"top is the number of labels, from 1, not {count!r}")
    return int(count)


def to_png(pixels_HWC: Pixels) -> bytes:
    """[H, W, C], uint8 or uint16, as the bytes of a PNG file of what `view` shows of it."""
    import PIL.Image

    file = BytesIO()
    shown = view(pixels_HWC)
    plain: Any = shown[..., 0] if shown.shape[2] == 1 else shown
    PIL.Image.fromarray(plain).save(file, "PNG")
    return file.getvalue()
