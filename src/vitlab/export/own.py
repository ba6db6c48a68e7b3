"""The data set of a run, for what an export shows of it."""

from __future__ import annotations

from vitlab import files
from vitlab.data import CATALOGUE, Dataset, Reading, load_dataset
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
