"""How far an image is from everything that a network was trained on, and from where on it is unlike it all.

An image's traits are its features, averaged over places, its logits, and the mean and the standard deviation of its
pixels in 4 x 4 cells. Its distance is that to the nearest class mean, in standard deviations of the spread that all
classes share (Mahalanobis distance; Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution
Samples and Adversarial Attacks"). The spread is that of training images as evaluation sees them, shrunk towards
independent traits (Ledoit and Wolf 2004), so that a few images are enough. Beyond the 99 % quantile of held-out images,
an image counts as unlike all of them. docs/log.md has what else we tried.

Letters: B, N, M images, D traits, C classes with images (of inputs: channels), F features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit
from vitlab.model import Network
from vitlab.randomness import numpy_generator
from vitlab.training.evaluate import evaluating
from vitlab.training.preprocess import Preprocess

FORMAT = 1  # raise it when the tensors or their meaning change
METHOD = "mahalanobis"
FITTED = 3000  # images at most; with the next, a tenth of the time of the shortest training
HELD_OUT = 2000  # images at most, for the threshold
GRID = 4  # cells a side
INSIDE = 0.99  # of the held-out images
# Traits that hardly vary would turn the last bits of a feature into a distance.
LEAST_SPREAD = 1e-3  # of the root mean square of all spreads
LEAST_SHRINKAGE = 1e-3


@dataclass(frozen=True, eq=False)
class Novelty:
    """A fitted distance: float32 ``mean`` [D], ``whitening`` [D, D] and ``centres`` [C, D] (class means, whitened).

    Beyond ``threshold`` an image is unlike all of them: so were at most 1 % of ``images`` images, which were
    "validation" images or, in a run without any, "training" images that only the fit did not see (``calibrated_on``).
    The network was trained on these, so more than 1 % of new images may lie beyond.
    """

    mean: Tensor
    whitening: Tensor
    centres: Tensor
    threshold: float
    calibrated_on: str
    images: int

    def __post_init__(self) -> None:
        """ValueError unless the parts fit together and are finite."""
        width = len(self.mean)
        shapes = [(width,), (width, width), (len(self.centres), width)]
        if [tuple(part.shape) for part in self.tensors().values()] != shapes or not len(self.centres):
            raise ValueError("the shapes do not fit together")
        numbers = [*self.tensors().values(), torch.tensor(self.threshold)]
        if any(part.dtype != torch.float32 or not bool(torch.isfinite(part).all()) for part in numbers):
            raise ValueError("the numbers are not finite float32 numbers")

    def tensors(self) -> dict[str, Tensor]:
        """The parts that are tensors, by name."""
        return {"mean": self.mean, "whitening": self.whitening, "centres": self.centres}

    def distance(self, traits_BD: Tensor) -> Tensor:
        """float64 [B]: each image's distance to the nearest class mean."""
        white_BD = (traits_BD.double() - self.mean.double()) @ self.whitening.double().T
        exact = "donot_use_mm_for_euclid_dist"  # the quick form loses digits
        return torch.cdist(white_BD, self.centres.double(), compute_mode=exact).amin(dim=1)

    def is_unlike(self, distance_B: Tensor) -> list[bool]:
        """Whether each distance is beyond the threshold; one that is no number is."""
        return [not distance <= self.threshold for distance in distance_B.tolist()]


def traits(model: Network, inputs_BCSS: Tensor, features_BF: Tensor, logits_BK: Tensor) -> Tensor:
    """float64 [B, D] of preprocessed inputs: the mean over places of what ``model.features`` gives, the logits, and the
    cells."""
    means = model.over_places(features_BF.double()).mean(dim=1)
    return torch.cat([means, logits_BK.double(), cells(inputs_BCSS)], dim=1)


def cells(inputs_BCSS: Tensor) -> Tensor:
    """float64 [B, 2 C GRID^2]: mean and standard deviation in GRID x GRID cells, by channel, row, column."""
    side = inputs_BCSS.shape[-1]
    edges = [number * side // GRID for number in range(GRID + 1)]
    spans = [slice(first, max(end, first + 1)) for first, end in pairwise(edges)]  # less than GRID pixels: some twice
    found = []
    for rows, columns in product(spans, spans):
        cell = inputs_BCSS[:, :, rows, columns].double().flatten(2)
        found.append(torch.stack([cell.mean(dim=2), cell.std(dim=2, unbiased=False)], dim=2))
    return torch.stack(found, dim=2).flatten(1)


def trait_count(model: Network, channels: int) -> int:
    """D of a network for images of so many channels."""
    layers = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    features_1F = torch.zeros(1, layers[0].in_features)
    return model.over_places(features_1F).shape[2] + layers[-1].out_features + 2 * channels * GRID**2


def fit_novelty(
    model: Network, train: DeviceSplit, val: DeviceSplit | None, preprocess: Preprocess, seed: int, batch_size: int
) -> Novelty | None:
    """The distance for a trained plain ``model`` on the splits' device, from up to FITTED training images, and its
    threshold from up to HELD_OUT validation images (without any, from a tenth of the training images).

    None where there is no such distance: for a single image, or for a network whose answers are not finite.
    """
    order = torch.from_numpy(numpy_generator(seed, "novelty").permutation(len(train))).to(train.labels.device)
    if val is None:
        held = min(HELD_OUT, max(1, len(train) // 10))
        others, outside, calibrated_on = order[held:], train.images[order[:held]], "training"
    else:
        few = numpy_generator(seed, "novelty-validation").permutation(len(val))[:HELD_OUT]
        others, outside, calibrated_on = order, val.images[torch.from_numpy(few).to(order.device)], "validation"
    fitted = others[:FITTED]
    if not len(fitted) or not len(outside):
        return None
    traits_ND = traits_of(model, train.images[fitted], preprocess, batch_size)
    traits_MD = traits_of(model, outside, preprocess, batch_size)
    if not bool(torch.isfinite(traits_ND).all() and torch.isfinite(traits_MD).all()):
        return None
    try:
        found = Novelty(*fit(traits_ND, train.labels[fitted].cpu()), 0.0, calibrated_on, len(outside))
        return calibrated(found, traits_MD)
    except ValueError:  # numbers beyond float32
        return None


def traits_of(model: Network, images_NHWC: Tensor, preprocess: Preprocess, batch_size: int) -> Tensor:
    """float64 [N, D] on the CPU, of stored images, without augmentation."""
    found = []
    with evaluating(model):
        for images in images_NHWC.split(batch_size):
            inputs_BCSS = preprocess(images)
            features_BF = model.features(inputs_BCSS)
            found.append(traits(model, inputs_BCSS, features_BF, model.head(features_BF)).cpu())
    return torch.cat(found)


def fit(traits_ND: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, whitening, centres), float32, of float64 traits: after whitening, the shared spread is the identity."""
    classes, numbers_N = labels_N.unique(return_inverse=True)
    means_CD = torch.stack([traits_ND[numbers_N == number].mean(dim=0) for number in range(len(classes))])
    rests_ND = traits_ND - means_CD[numbers_N]
    spread_D = rests_ND.square().mean(dim=0).sqrt()
    usual = spread_D.square().mean().sqrt().item()
    spread_D = spread_D.clamp_min(LEAST_SPREAD * usual) if usual > 0 else torch.ones_like(spread_D)
    factor_DD = torch.linalg.cholesky(shrunk_covariance(rests_ND / spread_D))
    identity_DD = torch.eye(len(spread_D), dtype=torch.float64)
    whitening_DD = torch.linalg.solve_triangular(factor_DD, identity_DD, upper=False) / spread_D
    mean_D, whitening_DD = means_CD.mean(dim=0).float(), whitening_DD.float()
    # From the rounded numbers, as `distance` uses them.
    centres_CD = (means_CD - mean_D.double()) @ whitening_DD.double().T
    return mean_D, whitening_DD, centres_CD.float()


def shrunk_covariance(rests_ND: Tensor) -> Tensor:
    """The covariance [D, D] of centred rows, mixed with a multiple of the identity: Ledoit and Wolf (2004), "A
    well-conditioned estimator for large-dimensional covariance matrices", lemma 3.2 to 3.4; at least LEAST_SHRINKAGE of
    the latter. scikit-learn has the same, but takes half a second to import."""
    count, width = rests_ND.shape
    plain_DD = rests_ND.T @ rests_ND / count
    variance = plain_DD.diagonal().mean()
    identity_DD = torch.eye(width, dtype=rests_ND.dtype)
    if variance == 0:
        return identity_DD
    from_identity = (plain_DD - variance * identity_DD).square().sum()
    squares_ND = rests_ND.square()
    error = ((squares_ND.sum(dim=1).square().sum() / count) - plain_DD.square().sum()) / count
    share = (error / from_identity).item() if from_identity > 0 else 1.0
    share = min(max(share, LEAST_SHRINKAGE), 1.0)
    return (1 - share) * plain_DD + share * variance * identity_DD


def calibrated(novelty: Novelty, traits_MD: Tensor) -> Novelty:
    """With the smallest distance as threshold beyond which at most 1 - INSIDE of these images lie."""
    distances_M = novelty.distance(traits_MD)
    threshold = torch.quantile(distances_M, INSIDE, interpolation="higher").item()
    return replace(novelty, threshold=threshold)


def to_facts(novelty: Novelty) -> dict[str, Any]:
    """All but the tensors, as JSON for novelty.safetensors."""
    facts = {"format": FORMAT, "method": METHOD, "inside": INSIDE, "threshold": novelty.threshold}
    return facts | {"calibrated_on": novelty.calibrated_on, "images": novelty.images}


def from_parts(tensors: dict[str, Tensor], facts: dict[str, Any], width: int) -> Novelty:
    """The inverse of `tensors` and `to_facts` for a network with ``width`` traits; ValueError if they are damaged."""
    if set(tensors) != {"mean", "whitening", "centres"} or tensors["mean"].shape != (width,):
        raise ValueError("the tensors do not fit the network")
    known = {name: facts.get(name) for name in ("threshold", "calibrated_on", "images")}
    if not all(isinstance(value, kind) for value, kind in zip(known.values(), (float, str, int), strict=True)):
        raise ValueError("its metadata are missing or wrong")
    return Novelty(**tensors, **known)  # type: ignore[arg-type]
