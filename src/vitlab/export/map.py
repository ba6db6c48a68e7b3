"""A map of images for the page: where a thousand of them lie in the plane, as the network sees them.

Each image is placed by the network's features, averaged over places (as novelty.py does), on the two principal axes of
these images: the plane in which they differ most. The page computes the features of a drawing itself and places it by
the same mean and axes. map.json and the sprite are loaded only when a visitor opens the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vitlab import files
from vitlab.data import Split
from vitlab.export.lesson import COLUMNS, digits_lesson, sprite
from vitlab.export.own import stored_images
from vitlab.predict import Classifier
from vitlab.randomness import numpy_generator
from vitlab.training.evaluate import evaluating

MOST_IMAGES = 1_000
MOST_NUMBERS = 4_000_000  # of all images together: 325 of 64 x 64 pixels in colour
LEAST_IMAGES = 20
TOGETHER = 250  # images that are computed at a time

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """Where features [F] lie: ``axes`` [2, F] times (features - ``mean``). The farthest image of the map is at distance
    1; ``explained`` are the axes' shares of the variance."""

    mean: Array
    axes: Array
    explained: Array

    def __call__(self, features_NF: Array) -> Array:
        """[N, 2]."""
        return (features_NF - self.mean) @ self.axes.T


def map_files(classifier: Classifier, examples: Split | None, sprite_at: str | None = None) -> dict[str, bytes]:
    """map.json, and the sprite by its address in the page, which is ``sprite_at`` or follows from its content; {} if
    there is none.

    ``examples`` are images of the run's own data set; None: scikit-learn's digits are used for a network that reads
    drawings of digits.
    """
    shown = images_for(classifier, examples)
    if shown is None:
        return {}
    examples, data = shown
    order = numpy_generator(0, "map").permutation(len(examples))
    first = stored_images(classifier, examples.take(order[:1].tolist()))
    chosen = examples.take(order[: min(MOST_IMAGES, MOST_NUMBERS // first.size)].tolist())
    images = stored_images(classifier, chosen)
    features, logits = features_of(classifier, images)
    if not np.isfinite(features).all():
        return {}
    plane = principal_plane(features)
    png = sprite(images)
    address = sprite_at or f"maps/{files.sha256(png)[:16]}.png"  # shared by the networks of one data set
    facts: dict[str, Any] = {
        "format": 1,
        "data": data,
        "side": images.shape[1],
        "channels": images.shape[3],
        "columns": COLUMNS,
        "sprite": address,
        "labels": chosen.labels.tolist(),
        "answers": logits.argmax(axis=1).tolist(),
        "points": plane(features).round(5).tolist(),
        "mean": plane.mean.astype(np.float32).tolist(),
        "axes": plane.axes.astype(np.float32).tolist(),
        "explained": plane.explained.round(4).tolist(),
    }
    return {"map.json": (files.to_json(facts, indent=None) + "\n").encode(), address: png}


def images_for(classifier: Classifier, examples: Split | None) -> tuple[Split, str] | None:
    """The images of a map and what their data set is called; None if there are too few."""
    if examples is not None:
        return (examples, classifier.data_name) if len(examples) >= LEAST_IMAGES else None
    lesson = digits_lesson()
    fits = classifier.drawing == lesson.drawing and classifier.classes == lesson.classes
    return (lesson.train, lesson.data) if fits else None


def features_of(classifier: Classifier, images: npt.NDArray[np.uint8]) -> tuple[Array, Array]:
    """The features of images, averaged over places [N, F], and their logits [N, K]."""
    found, model = list[tuple[Array, Array]](), classifier.model
    with evaluating(model):
        for part in torch.from_numpy(images).split(TOGETHER):
            features = model.features(classifier.preprocess(part))
            means = model.over_places(features.double()).mean(dim=1)
            found.append((means.numpy(), model.head(features).double().numpy()))
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def principal_plane(features_NF: Array) -> Plane:
    """The plane of the two directions of largest variance. Of each axis and its negative, the one whose largest entry
    is positive, so that the map is always the same way up."""
    mean = features_NF.mean(axis=0)
    centred = features_NF - mean
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, [-1, -2]].T
    axes = axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, np.newaxis]
    farthest = np.linalg.norm(centred @ axes.T, axis=1).max()
    total = max(values.sum(), 1e-12)
    return Plane(mean, axes / max(farthest, 1e-12), values[[-1, -2]] / total)
