"""A map of images for the page: where a thousand of them lie in the plane, as the network sees them.

Each image is placed by the network's features, averaged over places (as novelty.py does), on the two principal axes of
these images: the plane in which they differ most. The page computes the features of a drawing itself and places it by
the same mean and axes. map.json and the sprite are loaded only when a visitor opens the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vitlab import files
from vitlab.data import CATALOGUE, Split
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


def map_files(
    classifier: Classifier,
    examples: Split | None,
    wanted: bool | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, bytes]:
    """map.json, and the sprite by its address in the page; {} if there is none.

    ``examples`` are images of the run's own data set, None if they are not here; then scikit-learn's digits are used
    for a network that reads drawings of digits. ``wanted`` None: only images that anybody can download, with a line to
    ``note`` about others; True: any; False: no map.
    """
    name = classifier.config.data.data
    if wanted is False:
        return {}
    if examples is not None and name not in CATALOGUE:
        if wanted is None:
            note(f"the page has no map, because it would show images of {name} to everybody; --map adds it")
            return {}
        note(f"the page's map shows up to {MOST_IMAGES:,} images of {name} to everybody who opens the page")
    data = classifier.data_name
    if examples is None:
        examples, data = digits_for(classifier), digits_lesson().data
    if examples is None or len(examples) < LEAST_IMAGES:
        return {}
    order = numpy_generator(0, "map").permutation(len(examples))
    first = stored_images(classifier, examples.take(order[:1].tolist()))
    chosen = examples.take(order[: min(MOST_IMAGES, MOST_NUMBERS // first.size)].tolist())
    images = stored_images(classifier, chosen)
    features, logits = features_of(classifier, images)
    if not np.isfinite(features).all():
        return {}
    plane = principal_plane(features)
    png = sprite(images)
    address = f"maps/{files.sha256(png)[:16]}.png"  # shared by the networks of one data set
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


def digits_for(classifier: Classifier) -> Split | None:
    """Images for a network that reads bright digits, if its own are not here."""
    lesson = digits_lesson()
    fits = classifier.drawing == lesson.drawing and classifier.classes == lesson.classes
    return lesson.train if fits else None


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
