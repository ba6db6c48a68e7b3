"""How good a model is: logits of a split, then numbers that are functions of (logits, labels) alone."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit, plain_batches
from vitlab.machine import Machine
from vitlab.preprocess import Preprocess


def predict_logits(
    model: nn.Module, split: DeviceSplit, preprocess: Preprocess, machine: Machine, batch_size: int
) -> Tensor:
    """Logits [N, K] in float32 of all images, in their order, without augmentation or dropout."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), machine.autocast():
            logits = [model(preprocess(images)).float() for images in plain_batches(split, batch_size)]
    finally:
        model.train(was_training)
    return torch.cat(logits)


def metrics(logits_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    """top1, top5 (as fractions) and the mean cross-entropy in nats."""
    return {
        "top1": top_k(logits_NK, labels_N, 1),
        "top5": top_k(logits_NK, labels_N, 5),
        "loss": F.cross_entropy(logits_NK, labels_N).item(),
    }


def top_k(logits_NK: Tensor, labels_N: Tensor, k: int) -> float:
    """Fraction of images whose label is among the k highest logits (all of them, with fewer than k classes)."""
    guesses = logits_NK.topk(min(k, logits_NK.shape[1]), dim=1).indices
    return int((guesses == labels_N[:, None]).any(dim=1).sum()) / len(labels_N)


def wilson_interval(fraction: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a fraction seen in ``count`` trials (Wilson 1927): where the true accuracy may lie."""
    centre = (fraction + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    # Rounding, so that the ends of a perfect score are 1 and not the float below it.
    return max(0.0, round(centre - half, 12)), min(1.0, round(centre + half, 12))
