"""The data set of a run, for what an export shows of it."""

from __future__ import annotations

import numpy as np

from vitlab import files
from vitlab.data import CATALOGUE, Dataset, Reading, Split, load_dataset
from vitlab.data.images import Pixels, resize, to_grey, with_bits
from vitlab.data.sources import local_paths
from vitlab.errors import DataError
from vitlab.predict import Classifier
from vitlab.runs.folder import RunFolder


def own_data(classifier: Classifier) -> Dataset | None:
    """The data set that a run was trained on; None if it is not on this machine or has changed. Nothing is
    downloaded."""
    if not files.exists(classifier.path / "data.json"):
        return None  # a network from the page, which is no run
    name = classifier.config.data.data
    card = CATALOGUE.get(name)
    if card is not None and card.layout != "sklearn" and not all(local_paths(card, file) for file in card.files):
        return None
    try:
        record = RunFolder(classifier.path).data()
        dataset = load_dataset(name, side=classifier.preprocess.image_size, reading=Reading.of(record))
    except DataError:
        return None
    same = dataset.digest == record["sha256"] and list(dataset.card.classes) == record["classes"]
    return dataset if same else None


def is_public(classifier: Classifier) -> bool:
    """Whether anybody can download the data set that a run was trained on. Images of other data sets are nobody's but
    the user's."""
    return classifier.config.data.data in CATALOGUE


def stored_images(classifier: Classifier, split: Split) -> Pixels:
    """Images as the page carries them, uint8 [N, side, side, C]: with their own side if they are square and fit the
    network's channels, else with the network's."""
    channels, image_size = classifier.channels, classifier.preprocess.image_size
    _, height, width, own_channels = split.images.shape
    fits = height == width and own_channels == channels and height >= image_size // 2
    side = height if fits else image_size
    resized = [resize(with_bits(image, 8), side, side) for image in split.images]
    return np.stack([to_grey(one) if channels == 1 else np.broadcast_to(one, (side, side, 3)) for one in resized])
