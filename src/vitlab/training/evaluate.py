"""How good a model is: its logits for a split, and numbers computed from (logits, labels) alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit
from vitlab.machine import Machine, where_float64
from vitlab.native.prediction import forward_of
from vitlab.training.preprocess import Preprocess

View = Callable[[Tensor], Tensor]

INPUT_BYTES = 16 * 2**20  # of float32 pixels: 1,365 images of 32 x 32 x 3, 341 of 64 x 64 x 3


class Reliability(NamedTuple):
    """Accuracy at each level of confidence. Bin i holds confidences above edges[i] up to edges[i + 1]: how many, their
    mean, and the fraction that was right (0 and 0 in an empty bin); ``ece`` is between 0 and 1."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    ece: float


def predict_logits(
    model: nn.Module,
    split: DeviceSplit,
    preprocess: Preprocess,
    machine: Machine,
    batch_size: int,
    shifts: int = 0,
    flips: bool = False,
) -> Tensor:
    """Logits [N, K] in float32 of all images, in their order, without augmentation or dropout.

    Test-time augmentation gives the logarithm of the mean probability over several views: with ``shifts`` the image and
    its four copies shifted by that many pixels (black moves in), with ``flips`` each of them and its mirror image.
    ``batch_size`` images at once, or fewer large ones (`at_once`).
    """
    views = views_of(shifts, flips)
    forward = forward_of(model, machine)
    with evaluating(model), machine.autocast():
        # The logits go into one tensor: kept between the batches, many small ones would break up the freed memory, and
        # each batch would take more from the system.
        found, done = torch.empty(0, 0), 0
        for images in split.images.split(at_once(batch_size, split.images, preprocess)):
            logits_BK = mean_prediction([forward(preprocess(images, view)).float() for view in views])
            if not done:
                found = logits_BK.new_empty(len(split), logits_BK.shape[1])
            found[done : done + len(images)] = logits_BK
            done += len(images)
    return found.clone()  # outside inference mode: an ordinary tensor


def views_of(shifts: int, flips: bool) -> list[View | None]:
    """The changes of an image over which test-time augmentation averages; None is the image as it is."""
    sides = ((1, 0), (-1, 0), (0, 1), (0, -1)) if shifts else ()
    views: list[View | None] = [None, *(partial(move, x=shifts * x, y=shifts * y) for x, y in sides)]
    return views + [partial(mirrored, view=view) for view in views] if flips else views


def mirrored(images_BCHW: Tensor, view: View | None) -> Tensor:
    """The images after ``view``, left to right."""
    return (images_BCHW if view is None else view(images_BCHW)).flip(-1)


def at_once(batch_size: int, images_NHWC: Tensor, preprocess: Preprocess) -> int:
    """How many images go through a network at once without gradients: ``batch_size``, or fewer if their pixels would
    take more than INPUT_BYTES. What a network makes of them in between takes several times that."""
    height, width, channels = images_NHWC.shape[1:]
    numbers = channels * max(height * width, preprocess.image_size**2)
    return max(1, min(batch_size, INPUT_BYTES // (4 * numbers)))


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


def confusion(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
    """How many images of each class (row) were classified as each class (column): int64 [K, K], on the CPU."""
    classes = logits_NK.shape[1]
    pairs_N = (labels_N * classes + logits_NK.argmax(dim=1)).cpu()
    return torch.bincount(pairs_N, minlength=classes**2).view(classes, classes)


def images_by_class(counts_KK: Tensor) -> Tensor:
    """From `confusion`: the number of images of each class, int64 [K]."""
    return counts_KK.sum(dim=1)


def recall(counts_KK: Tensor) -> Tensor:
    """From `confusion`: the share of the images of each class that was recognised, float64 [K]; NaN without images."""
    return counts_KK.diagonal().double() / counts_KK.sum(dim=1)


def precision(counts_KK: Tensor) -> Tensor:
    """From `confusion`: the share of right ones among the answers that name each class, float64 [K]; NaN for a class
    that no answer names, where scikit-learn gives 0 and a warning."""
    return counts_KK.diagonal().double() / counts_KK.sum(dim=0)


def balanced_accuracy(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Mean over the classes of the share of their images that was recognised; classes without images do not count."""
    return recall(confusion(logits_NK, labels_N)).nanmean().item()


def macro_f1(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Mean over the classes of F1 = 2 TP / (2 TP + FP + FN); classes neither seen nor guessed do not count."""
    counts_KK = confusion(logits_NK, labels_N).double()
    both_K = counts_KK.sum(dim=0) + counts_KK.sum(dim=1)  # TP + FP and TP + FN
    return (2 * counts_KK.diagonal() / both_K)[both_K > 0].mean().item()


def calibration_error(logits_NK: Tensor, labels_N: Tensor) -> float:
    """Expected calibration error with 15 bins, as `reliability` computes it."""
    return reliability(logits_NK, labels_N).ece


def reliability(logits_NK: Tensor, labels_N: Tensor, bins: int = 15) -> Reliability:
    """Confidence against accuracy in ``bins`` equal bins, and the expected calibration error.

    ece = sum over bins of (images in it / images) |accuracy - confidence|, confidence being the highest probability
    (Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning"; Guo et al. 2017, "On
    Calibration of Modern Neural Networks", eq. 3).
    """
    logits_NK, labels_N = where_float64(logits_NK), where_float64(labels_N)
    confidence_N, guesses_N = logits_NK.double().softmax(dim=1).max(dim=1)
    right_N = (guesses_N == labels_N).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits_NK.device)
    bin_N = torch.bucketize(confidence_N, edges[1:-1])
    counts = torch.bincount(bin_N, minlength=bins)
    some = counts.clamp_min(1)  # an empty bin's sums are 0
    confidence = torch.bincount(bin_N, weights=confidence_N, minlength=bins) / some
    accuracy = torch.bincount(bin_N, weights=right_N, minlength=bins) / some
    ece = ((accuracy - confidence).abs() * counts).sum() / len(labels_N)
    edges_B, counts_B, confidence_B, accuracy_B = (tuple(x.tolist()) for x in (edges, counts, confidence, accuracy))
    return Reliability(edges_B, counts_B, confidence_B, accuracy_B, ece.item())


def guess_top1(labels_N: Tensor) -> float:
    """The accuracy of always guessing the most common class, which needs no network."""
    return int(torch.bincount(labels_N).max()) / len(labels_N)


def guess_loss(labels_N: Tensor) -> float:
    """The mean cross-entropy in nats of always answering with the classes' shares: the entropy of the labels."""
    shares_K = torch.bincount(labels_N).cpu().double() / len(labels_N)
    return float(torch.special.entr(shares_K).sum())


def wilson_interval(fraction: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a fraction seen in ``count`` trials (Wilson 1927): where the true accuracy may lie."""
    centre = (fraction + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(fraction * (1 - fraction) / count + z * z / (4 * count * count))
    # Rounded, so that the upper end for a perfect score is 1 and not the float below it.
    return max(0.0, round(centre - half, 12)), min(1.0, round(centre + half, 12))
