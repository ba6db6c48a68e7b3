"""Training images whose label looks wrong (runs/suspects.py), as a table and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from vitlab.data import Dataset
from vitlab.look import style
from vitlab.look.mistakes import Mistake, draw_mistakes
from vitlab.runs.suspects import Suspect

SHOWN = 60  # in the picture
COLUMNS = ("index", "file", "label", "likely", "probability_of_label", "probability_of_likely", "margin", "suspect")


def as_csv(found: Sequence[Suspect], classes: Sequence[str]) -> str:
    """A line for each image, in their order."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        chances = (one.probability_of_label, one.probability_of_likely, one.margin)
        names = (classes[one.label], classes[one.likely])
        writer.writerow((one.index, one.file, *names, *(f"{chance:.6f}" for chance in chances), int(one.is_suspect)))
    return out.getvalue()


def draw(found: Sequence[Suspect], dataset: Dataset) -> bytes:
    """A PNG of the first images: the given label, the likelier one with its probability, and the image's number."""
    shown = found[:SHOWN]
    rows = [Mistake(one.index, one.label, one.likely, one.probability_of_likely) for one in shown]
    images = dataset.train.images[[one.index for one in shown]]
    return style.to_bytes(draw_mistakes(images, rows, dataset.card.classes))
