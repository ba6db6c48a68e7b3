"""Rehearsal: images of another data set among the training images, so that a network that knows them does not forget
them (Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal")."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vitlab.data.cards import Dataset
from vitlab.data.images import resize, to_grey
from vitlab.data.splits import Split
from vitlab.data.stored import joined
from vitlab.errors import ConfigError
from vitlab.randomness import numpy_generator


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What was mixed in: the data set's name and digest, the number of images, the classes of the run's own data in
    their order, and the images that show whether something was forgotten."""

    name: str
    digest: str
    images: int
    own_classes: tuple[str, ...]
    test: Split | None


def rehearse(dataset: Dataset, other: Dataset, share: float, seed: int) -> tuple[Dataset, Rehearsal]:
    """``dataset`` with training images of ``other``, drawn by ``seed``: a ``share`` of all training images, or as many
    as there are. Its classes are those of ``other``, by name, and then its own.

    >>> digits = vitlab.load_dataset("digits")
    >>> mixed, rehearsal = rehearse(digits, digits, 0.25, seed=0)
    >>> len(mixed.train), rehearsal.images  # 1,437 of the run, and a third as many
    (1916, 479)
    """
    own, card = dataset.card.classes, dataset.card
    classes = own if set(other.card.classes) <= set(own) else tuple(dict.fromkeys((*other.card.classes, *own)))
    wanted = round(len(dataset.train) * share / (1 - share))
    count = min(max(wanted, 1), len(other.train))
    chosen = numpy_generator(seed, "rehearsal").permutation(len(other.train))[:count]
    extra = fitted(other.train.take(chosen), other, dataset, classes)
    parts = {
        name: None if part is None else renumbered(part, own, classes)
        for name, part in (("train", dataset.train), ("val", dataset.val), ("test", dataset.test))
    }
    train = parts["train"]
    assert train is not None
    both = Split(joined([train.images, extra.images]), np.concatenate([train.labels, extra.labels]))
    mixed = replace(dataset, card=replace(card, classes=classes), train=both, val=parts["val"], test=parts["test"])
    unseen = other.test if other.test is not None else other.val
    test = None if unseen is None else fitted(unseen, other, dataset, classes)
    return mixed, Rehearsal(other.card.name, other.digest, count, own, test)


def renumbered(split: Split, old: tuple[str, ...], new: tuple[str, ...]) -> Split:
    """The same images, with the numbers that their classes have in ``new``."""
    numbers = np.array([new.index(name) for name in old], np.int64)
    return replace(split, labels=numbers[split.labels])


def fitted(split: Split, other: Dataset, dataset: Dataset, classes: tuple[str, ...]) -> Split:
    """Images of ``other`` in the size and the channels of ``dataset``."""
    height, width, channels = dataset.card.height, dataset.card.width, dataset.card.channels
    images = split.images
    names = f"rehearse: {other.card.name} and {dataset.card.name}"
    if images.dtype != dataset.train.images.dtype or images.dtype not in (np.uint8, np.uint16):
        raise ConfigError(f"{names} need images of the same bits, 8 or 16; use other data")
    if channels != images.shape[3] and not {channels, images.shape[3]} <= {1, 3}:
        raise ConfigError(f"{names} have {images.shape[3]} and {channels} channels; use other data")
    if images.shape[1:3] != (height, width):
        images = np.stack([resize(image, height, width).reshape(height, width, -1) for image in images])
    if channels == 1 and images.shape[3] != 1:
        images = np.stack([to_grey(image).reshape(height, width, 1) for image in images])
    elif channels != images.shape[3]:
        images = np.ascontiguousarray(np.broadcast_to(images[..., :1], (*images.shape[:3], channels)))
    return renumbered(replace(split, images=images, weights=None), other.card.classes, classes)
