"""How good a trained network is on another data set of the same classes: other cameras, hands, hospitals."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitlab.data import Dataset, Split, load_dataset
from vitlab.data.images import FIRST_DECODING
from vitlab.data.paths import one_form
from vitlab.errors import ConfigError, DataError
from vitlab.predict.classifier import Classifier
from vitlab.runs.finished import SPLITS
from vitlab.runs.prepare import memory_errors
from vitlab.runs.result import scores
from vitlab.text import few, ignore, listed

DRAWING_SIDE = 280  # pixels that large pictures of drawings keep: as many as the search for ink looks at


def evaluate_on(
    run: str | os.PathLike[str],
    on: str | os.PathLike[str] | Dataset,
    split: str | None = None,
    note: Callable[[str], None] = ignore,
) -> dict[str, Any]:
    """Every metric of a finished run on another data set, on the CPU. Images take the way that `Classifier.predict`
    sends pictures: channels, size and, for a network that reads drawings, the normalisation of each drawing.

    ``split``: "test", "val" or "train" of that data set; by default its test images or, if it has none, all of them.
    Classes are matched by name, in any order, and some may be missing; DataError for one that the run does not know.

    Besides the metrics of `evaluate_run`: "data", its name, and "unlike", the share of its images that are unlike the
    run's training images (None: the run does not say).
    """
    classifier = Classifier.load(run)
    side, decoding = classifier.config.model.image_size, classifier.decoding
    if classifier.drawing:  # its ink is found in the picture as it is, if that is not much larger
        side, decoding = DRAWING_SIDE, FIRST_DECODING
    dataset = on if isinstance(on, Dataset) else load_dataset(on, note, side=side, decoding=decoding)
    if dataset.digest == classifier.data_digest:
        note("these are the images that the run was made with, not other ones")
    name, chosen = part_of(dataset, split)
    labels_N = labels_for(classifier, dataset, chosen)
    with memory_errors("evaluating"):
        batches = [(batch.check().logits, batch.unlike) for batch in classifier.batches(chosen)]
        logits_NK = torch.cat([logits for logits, _ in batches])
        unlike = [one for _, some in batches for one in some]
        head = {"run": os.fspath(run), "data": dataset.card.name, "split": name}
        share = None if None in unlike else sum(map(bool, unlike)) / len(unlike)
        return head | scores(logits_NK, labels_N, classifier.classes) | {"unlike": share}


def part_of(dataset: Dataset, split: str | None) -> tuple[str, Split]:
    """The name and the images of a part; "all" for the images of a data set that has no parts."""
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    parts = {"test": dataset.test, "val": dataset.val, "train": dataset.train}
    there = {name: part for name, part in parts.items() if part is not None}
    if split is None:
        return ("test", there["test"]) if "test" in there else ("all", joined(*there.values()))
    if split not in there:
        others = listed([f"--split {name}" for name in there], "or")
        raise DataError(f"{dataset.card.name} has no {split} images; use {others}")
    return split, there[split]


def joined(*parts: Split) -> Split:
    """The images of several parts as one."""
    if len(parts) == 1:
        return parts[0]
    return Split(np.concatenate([one.images for one in parts]), np.concatenate([one.labels for one in parts]))


def labels_for(classifier: Classifier, dataset: Dataset, chosen: Split) -> Tensor:
    """int64 [N], the labels as the run numbers its classes; DataError for a class that the run does not know."""
    known = {one_form(name): number for number, name in enumerate(classifier.classes)}
    names = [one_form(name) for name in dataset.card.classes]
    there = [names[label] for label in np.unique(chosen.labels).tolist()]
    unknown = [name for name in there if name not in known]
    if unknown:
        raise DataError(_why_unknown(unknown, dataset.card.name, classifier))
    numbers: npt.NDArray[np.int64] = np.array([known.get(name, -1) for name in names])
    return torch.from_numpy(numbers[chosen.labels])


def _why_unknown(unknown: list[str], data: str, classifier: Classifier) -> str:
    theirs, ours = few(unknown), few(list(classifier.classes), 6)
    if all(map(str.isdecimal, unknown)) and not any(map(str.isdecimal, classifier.classes)):
        return (
            f"{data} numbers its classes ({theirs}), but {classifier.name} knows them by name ({ours}): give it their "
            "names, as folders or, in an .npz file, as the array classes"
        )
    if all(map(str.isdecimal, classifier.classes)):
        return (
            f"{data} has images of {theirs}, but {classifier.name} knows its classes by number ({ours}): name them so, "
            "or leave such images out"
        )
    alike = {name.casefold(): name for name in classifier.classes}
    near = [f"{name!r} is {alike[name.casefold()]!r} there" for name in unknown if name.casefold() in alike]
    hint = f" ({few(near)})" if near else ""
    return (
        f"{data} has images of {theirs}, which {classifier.name} does not know{hint}; it knows {ours}: "
        "rename these classes, or leave such images out"
    )
