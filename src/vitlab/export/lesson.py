"""The images that the page's own training learns from: one PNG sprite and a JSON file, which the page loads only when a
visitor starts to train.

They are training images of the data set of the page's first network, and validation images to measure with; if the run
has none, training images that the page does not train on. Test images are never among them.
When the data set is not here, scikit-learn's digits are used, scaled and centred as MNIST's are.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vitlab import files
from vitlab.data import Split, load_dataset
from vitlab.data.images import resize
from vitlab.export.own import own_data
from vitlab.predict import Classifier
from vitlab.predict.drawing import corner
from vitlab.randomness import numpy_generator
from vitlab.runs.prepare import cut

LESSON = ("lesson.json", "lesson.png")
MOST_PIXELS = 5_000 * 28 * 28  # numbers in the sprite: five thousand digits, or thirteen hundred small photos
HELD_SHARE = 0.2  # of the images, to measure with
COLUMNS = 64  # of the sprite
MOST_SIDE = 64  # larger images take too long to train on in a page
LONGEST, SIDE = 20, 28


@dataclass(frozen=True, eq=False)
class Lesson:
    """Images to train on and to measure with, their classes, and how drawings become such images."""

    data: str
    classes: tuple[str, ...]
    drawing: str | None
    background: int
    train: Split
    held: Split


def lesson_files(classifier: Classifier | None) -> dict[str, bytes]:
    """lesson.json and lesson.png for a page whose first network is ``classifier``; None: no images of its data set."""
    own = None if classifier is None else own_lesson(classifier)
    lesson = own or digits_lesson()
    images = np.concatenate([lesson.train.images, lesson.held.images])
    labels = np.concatenate([lesson.train.labels, lesson.held.labels])
    mean = lesson.train.images.mean(axis=(0, 1, 2)) / 255
    std = np.maximum(lesson.train.images.std(axis=(0, 1, 2)) / 255, 1e-3)
    facts: dict[str, Any] = {
        "format": 1,
        "data": lesson.data,
        "classes": list(lesson.classes),
        "drawing": lesson.drawing,
        "background": lesson.background,
        "side": images.shape[1],
        "channels": images.shape[3],
        "columns": COLUMNS,
        "train": len(lesson.train),
        "held": len(lesson.held),
        "mean": [round(float(value), 4) for value in mean],
        "std": [round(float(value), 4) for value in std],
        "labels": base64.b64encode(labels.astype(np.uint8).tobytes()).decode(),
    }
    return dict(zip(LESSON, ((files.to_json(facts, indent=None) + "\n").encode(), sprite(images)), strict=True))


def own_lesson(classifier: Classifier) -> Lesson | None:
    """Images of the run's own data set; None if it is not on this machine, has changed, or does not suit a page."""
    dataset = None if classifier.config.data.data == "digits" else own_data(classifier)
    if dataset is None:
        return None
    parts = cut(dataset, classifier.config)
    _, height, width, channels = parts.train.images.shape
    if parts.train.images.dtype != np.uint8 or height != width or height > MOST_SIDE or len(dataset.card.classes) > 255:
        return None
    most = MOST_PIXELS // (height * width * channels)
    train, held = divided(parts.train, parts.val, most)
    return Lesson(classifier.data_name, dataset.card.classes, classifier.drawing, classifier.background, train, held)


def divided(train: Split, val: Split | None, most: int) -> tuple[Split, Split]:
    """Images to train on and images to measure with, at most ``most`` together, drawn at random but always the same."""
    wanted = round(HELD_SHARE * min(most, len(train)))
    order = numpy_generator(0, "lesson").permutation(len(train))
    if val is not None:
        held = val.take(numpy_generator(1, "lesson").permutation(len(val))[:wanted])
        return train.take(order[: most - len(held)]), held
    return train.take(order[wanted:most]), train.take(order[:wanted])


@cache
def digits_lesson() -> Lesson:
    """scikit-learn's digits as MNIST's authors would have prepared them; its test images are not used."""
    digits = load_dataset("digits").train
    images = np.stack([placed(image[..., 0]) for image in digits.images])[..., np.newaxis]
    train, held = divided(Split(images, digits.labels), None, len(digits))
    return Lesson("scikit-learn's digits", tuple(map(str, range(10))), "mnist-drawing", 0, train, held)


def placed(small: Any) -> Any:
    """An 8 x 8 digit, scaled to a longest side of 20 and placed with its centre of mass in the middle of 28 x 28."""
    rows, columns = (np.flatnonzero(small.max(axis=axis)) for axis in (1, 0))
    ink = small[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = LONGEST / max(ink.shape)
    height, width = (max(1, round(scale * length)) for length in ink.shape)
    scaled = np.asarray(resize(np.ascontiguousarray(ink[..., np.newaxis]), height, width), float).reshape(height, width)
    x, y = corner(scaled)
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[y : y + height, x : x + width] = np.rint(scaled * (255 / scaled.max()))
    return image


def sprite(images: Any) -> bytes:
    """Images [N, side, side, 1 or 3] as one PNG, COLUMNS in a row."""
    count, side, _, channels = images.shape
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, side, side, channels), np.uint8)
    sheet[:count] = images
    laid = sheet.reshape(rows, COLUMNS, side, side, channels).swapaxes(1, 2)
    pixels = laid.reshape(rows * side, COLUMNS * side, channels)
    file = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    picture.save(file, "PNG", compress_level=7)  # 9 takes eight times as long and saves 1 %
    return file.getvalue()
