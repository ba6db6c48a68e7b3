"""How a network errs: confusion, confident mistakes, calibration. Functions of (logits, labels) and numbers alone.

Letters in names: N images, K classes. Probabilities are the softmax of the logits, in float64, where two very confident
answers still differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitlab.training.evaluate import wilson_interval

DRAWS = 9999  # of the test of equal classes


@dataclass(frozen=True)
class Mistake:
    """Image number ``index`` of class ``truth`` was taken for a ``guess``, with this probability."""

    index: int
    truth: int
    guess: int
    probability: float


@dataclass(frozen=True)
class Reliability:
    """How often the network is right when it is so sure. Bin i holds confidences above edges[i] up to edges[i + 1]:
    how many, their mean, and the fraction that was right (0 and 0 in an empty bin); ``ece`` is between 0 and 1."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    ece: float


def confusion(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
    """How many images of each class (row) were taken for each class (column): int64 [K, K]."""
    classes = logits_NK.shape[1]
    pairs_N = labels_N * classes + logits_NK.argmax(dim=1)
    return torch.bincount(pairs_N, minlength=classes**2).view(classes, classes)


def per_class(counts_KK: Tensor) -> list[tuple[float, tuple[float, float]]]:
    """From `confusion`: for each class the fraction that was recognised, and its 95 % interval (Wilson 1927).

    Of a class without images nothing is known: 0, between 0 and 1.
    """
    right, seen = counts_KK.diagonal().tolist(), counts_KK.sum(dim=1).tolist()
    return [
        (good / count, wilson_interval(good / count, count)) if count else (0.0, (0.0, 1.0))
        for good, count in zip(right, seen, strict=True)
    ]


def equal_classes(counts_KK: Tensor) -> float:
    """From `confusion`: how often classes that are equally hard come out at least as unequal as these do (p-value).

    Pearson's chi-square statistic of errors by class. Its distribution is drawn, errors dealt to images at random: with
    few errors a class the chi-square distribution would not hold. 1 where no class or every image is wrong.
    """
    seen_K = counts_KK.sum(dim=1)
    errors_K = (seen_K - counts_KK.diagonal())[seen_K > 0]
    images_K, wrong_K = seen_K[seen_K > 0].cpu().numpy(), errors_K.cpu().numpy()
    total, errors = int(images_K.sum()), int(wrong_K.sum())
    if errors in (0, total):
        return 1.0
    expected_K = images_K * errors / total
    drawn_RK = np.random.default_rng(0).multivariate_hypergeometric(images_K, errors, DRAWS, method="marginals")
    found, chance_R = (((wrong - expected_K) ** 2 / expected_K).sum(axis=-1) for wrong in (wrong_K, drawn_RK))
    return float((1 + (chance_R >= found - 1e-9).sum()) / (DRAWS + 1))


def mistakes(logits_NK: Tensor, labels_N: Tensor, count: int) -> list[Mistake]:
    """The ``count`` wrong answers of which the network was surest, surest first; fewer if there are no more."""
    probabilities_N, guesses_N = logits_NK.double().softmax(dim=1).max(dim=1)
    wrong = (guesses_N != labels_N).nonzero().flatten()
    surest = wrong[probabilities_N[wrong].argsort(descending=True, stable=True)][:count]
    columns = (surest, labels_N[surest], guesses_N[surest], probabilities_N[surest])
    return [Mistake(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def reliability(logits_NK: Tensor, labels_N: Tensor, bins: int = 15) -> Reliability:
    """Confidence against accuracy in ``bins`` equal bins, and the expected calibration error.

    ece = sum over bins of (images in it / images) |accuracy - confidence|, confidence being the highest probability
    (Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017, "On
    Calibration of Modern Neural Networks", eq. 3).
    """
    confidence_N, guesses_N = logits_NK.double().softmax(dim=1).max(dim=1)
    right_N = (guesses_N == labels_N).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits_NK.device)
    bin_N = torch.bucketize(confidence_N, edges[1:-1])
    counts = torch.bincount(bin_N, minlength=bins)
    some = counts.clamp_min(1)  # an empty bin's sums are 0
    confidence = torch.bincount(bin_N, weights=confidence_N, minlength=bins) / some
    accuracy = torch.bincount(bin_N, weights=right_N, minlength=bins) / some
    ece = ((accuracy - confidence).abs() * counts).sum() / len(labels_N)
    return Reliability(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        confidence=tuple(confidence.tolist()),
        accuracy=tuple(accuracy.tolist()),
        ece=ece.item(),
    )
