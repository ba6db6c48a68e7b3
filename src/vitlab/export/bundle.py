"""The files of one model as the page reads them: its configuration, its weights byte for byte, known examples."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from vitlab import files
from vitlab.data import CATALOGUE, Split, load_dataset
from vitlab.data.images import resize, to_grey
from vitlab.data.sources import local_paths
from vitlab.errors import DataError
from vitlab.model import count_parameters
from vitlab.predict import Classifier
from vitlab.runs.folder import RunFolder
from vitlab.runs.prepare import cut

FORMAT = 1
MOST_EXAMPLES = 100


def bundle(classifier: Classifier, examples: Split | None) -> dict[str, bytes]:
    """config.json, model.safetensors and examples.json by name.

    ``examples`` are images of the run's own data set, see `own_examples`; None: scikit-learn's digits in their place.
    RunError when the weights on the disk are not those that were loaded.
    """
    weights = files.read_bytes(RunFolder(classifier.path).model_path)
    if files.sha256(weights) != classifier.digest:
        raise classifier.changed()
    return {
        "config.json": as_json(describe(classifier)),
        "model.safetensors": weights,
        "examples.json": as_json(examples_of(classifier, examples)),
    }


def as_json(value: dict[str, Any]) -> bytes:
    """One line of JSON, for a program to read."""
    return (files.to_json(value, indent=None) + "\n").encode()


def describe(classifier: Classifier) -> dict[str, Any]:
    """config.json of a bundle: what a program needs to read pictures, and what the model's card says."""
    config, result = classifier.config, classifier.result
    numbers = ("test_top1", "test_top1_interval", "test_images", "train_seconds")
    return {
        "format": FORMAT,
        "name": classifier.name,
        "arch": config.model.arch,
        "model": asdict(config.model),
        "channels": classifier.channels,
        "classes": list(classifier.classes),
        "preprocess": asdict(classifier.preprocess),
        "drawing": classifier.drawing,
        "data": classifier.data_name,
        "params": count_parameters(classifier.model),
        **{name: result[name] for name in numbers},
        "preset": config.preset,
        "sha256": classifier.digest,
    }


def own_examples(classifier: Classifier) -> Split | None:
    """The test images of the run's own data set (validation images where there are none), if they are on this machine
    and unchanged; nothing is downloaded."""
    config, name = classifier.config, classifier.config.data.data
    card = CATALOGUE.get(name)
    if card is not None and card.layout != "sklearn" and not all(local_paths(card, file) for file in card.files):
        return None
    try:
        dataset = load_dataset(name)
        if dataset.digest != RunFolder(classifier.path).data()["sha256"]:
            return None
        return dataset.test or cut(dataset, config).val
    except DataError:
        return None


def examples_of(classifier: Classifier, examples: Split | None) -> dict[str, Any]:
    """examples.json: images, labels (null where unknown) and torch's logits for them."""
    known = True
    if examples is None:
        examples = load_dataset("digits").train
        known = list(classifier.classes) == [str(digit) for digit in range(10)]
    chosen = examples.take(one_of_each_first(examples, MOST_EXAMPLES))
    side = own_side(classifier, chosen)
    images = np.stack([with_channels(resize(image, side, side), classifier.channels) for image in chosen.images])
    logits = classifier.logits(torch.from_numpy(images))
    return {
        "side": side,
        "channels": classifier.channels,
        "images": [base64.b64encode(image.tobytes()).decode() for image in images],
        "labels": chosen.labels.tolist() if known else [None] * len(chosen),
        "logits": logits.tolist(),
    }


def own_side(classifier: Classifier, split: Split) -> int:
    """The side of the examples: their own if they are square and fit the network's channels, else the network's."""
    _, height, width, channels = split.images.shape
    own = height == width and channels == classifier.channels and height >= classifier.preprocess.image_size // 2
    return height if own else classifier.preprocess.image_size


def with_channels(image_HWC: np.ndarray[Any, np.dtype[np.uint8]], channels: int) -> Any:
    """Grey as three equal channels, or colours as grey, if the network wants that."""
    return to_grey(image_HWC) if channels == 1 else np.broadcast_to(image_HWC, (*image_HWC.shape[:2], 3))


def one_of_each_first(split: Split, count: int) -> list[int]:
    """Up to ``count`` indices: the first image of each of the first ten classes, then the others in their order."""
    first: dict[int, int] = {}
    for index, label in enumerate(split.labels.tolist()):
        first.setdefault(label, index)
    chosen = [first[label] for label in sorted(first)][:10]
    taken = set(chosen)
    others = [index for index in range(len(split)) if index not in taken]
    return (chosen + others)[:count]
