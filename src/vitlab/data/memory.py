"""Arrays in memory as a data set."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from vitlab.data.cards import Dataset, own_card
from vitlab.data.splits import Split, pixel_statistics
from vitlab.errors import DataError

IN_MEMORY = "arrays in memory"  # the knob `data` of a run that was trained on them


def in_memory(
    train: Split,
    classes: tuple[str, ...],
    val: Split | None = None,
    test: Split | None = None,
    name: str = IN_MEMORY,
) -> Dataset:
    """The data set of these images, of which ``classes`` names label 0, 1, ...; DataError if the parts do not fit.

    `runs.prepare.prepare` takes it as ``dataset``. Nothing is copied or written.
    """
    if not all(len(split) for split in (train, val, test) if split is not None):
        raise DataError("there are training, validation or test images without any image; leave an empty part out")
    card = own_card(name, IN_MEMORY, train.images, classes, IN_MEMORY, "arrays")
    mean, std = pixel_statistics(train.images)
    digest = hashlib.sha256()
    for split in (train, val, test):
        for array in () if split is None else (split.images, split.labels, split.weights):
            if array is not None:
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data.cast("B"))
    return Dataset(replace(card, mean=mean, std=std), train, val, test, digest.hexdigest(), IN_MEMORY)
