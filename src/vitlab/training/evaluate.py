"""How good a model is: its logits for a split, and numbers computed from (logits, labels) alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit
from vitlab.machine import Machine
from vitlab.training.preprocess import Preprocess


def predict_logits(
    model: nn.Module, split: DeviceSplit, preprocess: Preprocess, machine: Machine, batch_size: int, shifts: int = 0
) -> Tensor:
    """Logits [N, K] in float32 of all images, in their order, without augmentation or dropout.

    ``shifts`` (test-time augmentation): the logarithm of the mean probability over the image and its four copies
    shifted by that many pixels; black moves in.
    """
    sides = ((1, 0), (-1, 0), (0, 1), (0, -1)) if shifts else ()
    views = [None, *(partial(move, x=shifts * x, y=shifts * y) for x, y in sides)]
    with evaluating(model), machine.autocast():
        logits = [
            mean_prediction([model(preprocess(images, view)).float() for view in views])
            for images in split.images.split(batch_size)
        ]
    return torch.cat(logits)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, ``model`` runs without dropout and gradients; afterwards it is back in its former mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def mean_prediction(logits: list[Tensor]) -> Tensor:
    """The logits of a single view; for several, the logarithm of their mean softmax."""
    if len(logits) == 1:
        return logits[0]
    return torch.logsumexp(torch.stack(logits).log_softmax(dim=-1), dim=0) - math.log(len(logits))


def move(images_BCHW: Tensor, x: int, y: int) -> Tensor:
    """The images ``x`` pixels further right and ``y`` further down; zeros move in."""
    return F.pad(images_BCHW, (x, -x, y, -y))


def mean_loss(logits_NK: Tensor, labels_N: Tensor) -> float:
    """The mean cross-entropy in nats."""
    return F.cross_entropy(logits_NK, labels_N).item()


def top_k(logits_NK: Tensor, labels_N: Tensor, k: int) -> float:
    """Fraction of images whose label is among the k highest logits (all of them, with fewer than k classes)."""
    guesses = logits_NK.topk(min(k, logits_NK.shape[1]), dim=1).indices
    return int((guesses == labels_N[:, None]).any(dim=1).sum()) / len(labels_N)


def wilson_interval(fraction: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a fraction seen in ``count`` trials (Wilson 1927): where the true accuracy may lie."""
    centre = (fraction + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    # Rounded, so that the upper end for a perfect score is 1 and not the float below it.
    return max(0.0, round(centre - half, 12)), min(1.0, round(centre + half, 12))
