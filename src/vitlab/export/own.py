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

PHOTOGRAPHERS = "The photographs to try are by danielbuechele and vultilion (CC BY 2.0); they come with scikit-learn."


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


def others(classifier: Classifier) -> tuple[Split, bool, str | None]:
    """What a page shows when the run's own images are not here: images, whether their labels are the network's classes,
    and whom to credit. They come with scikit-learn: digits, or, for a network that sees colour, photographs."""
    if classifier.channels == 3 and classifier.drawing is None:
        return photographs(classifier.preprocess.image_size), False, PHOTOGRAPHERS
    return load_dataset("digits").train, list(classifier.classes) == [str(digit) for digit in range(10)], None


def photographs(side: int) -> Split:
    """Squares of scikit-learn's two photographs, a flower and a temple, uint8 [18, side, side, 3]: three as high as the
    photograph, and six half as high. The labels mean nothing."""
    from sklearn.datasets import load_sample_images

    squares = []
    for photo in load_sample_images().images[::-1]:
        high, half, slack = photo.shape[0], photo.shape[0] // 2, photo.shape[1] - photo.shape[0]
        squares += [photo[:, left : left + high] for left in (slack // 2, 0, slack)]
        corners = [(top, left) for top in (0, half) for left in range(0, photo.shape[1] - half, half)]
        squares += [photo[top : top + half, left : left + half] for top, left in corners]
    return Split(np.stack([resize(square, side, side) for square in squares]), np.zeros(len(squares), np.int64))


def stored_images(classifier: Classifier, split: Split) -> Pixels:
    """Images as the page carries them, uint8 [N, side, side, C]: with their own side if they are square and fit the
    network's channels, else with the network's."""
    channels, image_size = classifier.channels, classifier.preprocess.image_size
    _, height, width, own_channels = split.images.shape
    fits = height == width and own_channels == channels and height >= image_size // 2
    side = height if fits else image_size
    resized = [resize(with_bits(image, 8), side, side) for image in split.images]
    return np.stack([to_grey(one) if channels == 1 else np.broadcast_to(one, (side, side, 3)) for one in resized])
