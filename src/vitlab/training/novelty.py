"""How far an image is from everything that a network was trained on, and from where on it is unlike it all.

An image's traits are its features, averaged over places, its logits, and the mean and the standard deviation of its
pixels in 4 x 4 cells. Its statistics are six numbers of its pixels alone. The distance of either is that to the nearest
class mean, in standard deviations of the spread that all classes share (Mahalanobis distance; Lee et al. 2018, "A
Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks"). The spread is that of
training images as evaluation sees them, shrunk towards independent traits (Ledoit and Wolf 2004), so that a few images
are enough. Each distance is divided by its 99 % quantile of held-out images. The larger one counts, since a common
distance would drown the six numbers among the traits. Beyond the 99 % quantile of held-out images, an image counts as
unlike all of them. docs/understand/log.md has what else we tried.

Letters: B, N, M images, D traits and statistics, T traits or statistics, C classes with images (of inputs: channels),
F features.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit
from vitlab.machine import where_float64
from vitlab.model import Network
from vitlab.randomness import numpy_generator
from vitlab.training.evaluate import at_once, evaluating
from vitlab.training.preprocess import Preprocess

FORMAT = 2  # raise it when the tensors or their meaning change
METHOD = "mahalanobis"
FITTED = 3000  # images at most; with the next, a tenth of the time of the shortest training
HELD_OUT = 2000  # images at most, for the threshold
GRID = 4  # cells a side
INSIDE = 0.99  # of the held-out images
# Traits that hardly vary would turn the last bits of a feature into a distance.
LEAST_SPREAD = 1e-3  # of the root mean square of all spreads
LEAST_SHRINKAGE = 1e-3
LEAST_SCALE = 1e-3  # standard deviations; less is rounding
STATISTICS = 6
# Of pixels in 0 to 1: just inside 0.1 and 0.9, which enlarged 8-bit images can hit exactly.
DARK_LEVEL, LIGHT_LEVEL = 0.1001, 0.8999


@dataclass(frozen=True, eq=False)
class Distance:
    """A fitted distance: float32 ``mean`` [T], ``whitening`` [T, T] and ``centres`` [C, T] (class means, whitened)."""

    mean: Tensor
    whitening: Tensor
    centres: Tensor

    def __call__(self, values_BT: Tensor) -> Tensor:
        """float64 [B]: each image's distance to the nearest class mean."""
        white_BT = (values_BT.double() - self.mean.double()) @ self.whitening.double().T
        exact = "donot_use_mm_for_euclid_dist"  # the quick form loses digits
        return torch.cdist(white_BT, self.centres.double(), compute_mode=exact).amin(dim=1)


@dataclass(frozen=True, eq=False)
class Novelty:
    """The distances of ``traits`` and of ``statistics``, each divided by its entry in ``scales`` (float32 [2]).

    Beyond ``threshold`` an image is unlike all of them: so were at most 1 % of ``images`` images, which were
    "validation" images or, in a run without any, "training" images that only the fit did not see (``calibrated_on``).
    The network was trained on these, so more than 1 % of new images may lie beyond.
    """

    traits: Distance
    statistics: Distance
    scales: Tensor
    threshold: float
    calibrated_on: str
    images: int

    def __post_init__(self) -> None:
        """ValueError unless the parts fit together and are finite."""
        shapes = []
        for part in (self.traits, self.statistics):
            width = len(part.mean)
            shapes += [(width,), (width, width), (len(part.centres), width)]
        classes = len(self.traits.centres)
        fits = [tuple(part.shape) for part in self.tensors().values()] == [*shapes, (2,)]
        if not fits or not classes or len(self.statistics.mean) != STATISTICS:
            raise ValueError("the shapes do not fit together")
        numbers = [*self.tensors().values(), torch.tensor(self.threshold)]
        if any(part.dtype != torch.float32 or not bool(torch.isfinite(part).all()) for part in numbers):
            raise ValueError("the numbers are not finite float32 numbers")
        if not bool((self.scales > 0).all()) or len(self.statistics.centres) != classes:
            raise ValueError("the parts do not fit together")

    def tensors(self) -> dict[str, Tensor]:
        """The parts that are tensors, by name."""
        statistics = {f"statistics_{name}": part for name, part in vars(self.statistics).items()}
        return {**vars(self.traits), **statistics, "scales": self.scales}

    def both(self, traits_BD: Tensor) -> Tensor:
        """float64 [B, 2]: the distance of the traits and that of the statistics, which are the last columns."""
        traits_BT, statistics_BT = traits_BD[:, :-STATISTICS], traits_BD[:, -STATISTICS:]
        return torch.stack([self.traits(traits_BT), self.statistics(statistics_BT)], dim=1)

    def distance(self, traits_BD: Tensor) -> Tensor:
        """float64 [B]: the larger of each image's distances, in units of ``scales``; nan if one is nan."""
        return (self.both(traits_BD) / self.scales.double()).amax(dim=1)

    def is_unlike(self, distance_B: Tensor) -> list[bool]:
        """Whether each distance is beyond the threshold; one that is no number is."""
        return [not distance <= self.threshold for distance in distance_B.tolist()]


def traits(
    model: Network, preprocess: Preprocess, inputs_BCSS: Tensor, features_BF: Tensor, logits_BK: Tensor
) -> Tensor:
    """float64 [B, D] of preprocessed inputs: the mean over places of what ``model.features`` gives, the logits, the
    cells, and the statistics."""
    means = model.over_places(features_BF.double()).mean(dim=1)
    numbers = statistics(preprocess.denormalize(inputs_BCSS))
    return torch.cat([means, logits_BK.double(), cells(inputs_BCSS), numbers], dim=1)


def statistics(images_BCSS: Tensor) -> Tensor:
    """float64 [B, STATISTICS] of images with pixels in 0 to 1, with x the mean over channels and |d| the differences
    of neighbours in rows and columns: mean x, share of x > LIGHT_LEVEL, share between DARK_LEVEL and that, sum |d| per
    pixel, sum |d| / (1 + sum x), root mean square of x."""
    x = images_BCSS.double().mean(dim=1)
    pixels, ink = x[0].numel(), x.sum(dim=(1, 2))
    light, middle = x > LIGHT_LEVEL, (x > DARK_LEVEL) & (x < LIGHT_LEVEL)
    edges = x.diff(dim=1).abs().sum(dim=(1, 2)) + x.diff(dim=2).abs().sum(dim=(1, 2))
    shares = [ink, light.sum(dim=(1, 2)), middle.sum(dim=(1, 2)), edges]
    found = [share / pixels for share in shares] + [edges / (1 + ink), x.square().mean(dim=(1, 2)).sqrt()]
    return torch.stack([one.double() for one in found], dim=1)


def cells(inputs_BCSS: Tensor) -> Tensor:
    """float64 [B, 2 C GRID^2]: mean and standard deviation in GRID x GRID cells, by channel, row, column."""
    side = inputs_BCSS.shape[-1]
    if side % GRID == 0:  # all cells at once: a single picture waits for each operation
        cut = inputs_BCSS.double().unflatten(3, (GRID, -1)).unflatten(2, (GRID, -1))
        spreads, means = torch.std_mean(cut, dim=(3, 5), unbiased=False)
        return torch.stack([means, spreads], dim=4).flatten(1)
    edges = [number * side // GRID for number in range(GRID + 1)]
    spans = [slice(first, max(end, first + 1)) for first, end in pairwise(edges)]  # less than GRID pixels: some twice
    found = []
    for rows, columns in product(spans, spans):
        cell = inputs_BCSS[:, :, rows, columns].double().flatten(2)
        found.append(torch.stack([cell.mean(dim=2), cell.std(dim=2, unbiased=False)], dim=2))
    return torch.stack(found, dim=2).flatten(1)


def trait_count(model: Network, channels: int) -> int:
    """D of a network for images of so many channels, with the statistics."""
    layers = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    features_1F = torch.zeros(1, layers[0].in_features)
    return model.over_places(features_1F).shape[2] + layers[-1].out_features + 2 * channels * GRID**2 + STATISTICS


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
        others, outside, calibrated_on = order[held:], train.at(order[:held]), "training"
    else:
        few = numpy_generator(seed, "novelty-validation").permutation(len(val))[:HELD_OUT]
        others, outside, calibrated_on = order, val.at(torch.from_numpy(few).to(order.device)), "validation"
    fitted = others[:FITTED]
    if not len(fitted) or not len(outside):
        return None
    traits_ND = traits_of(model, train.at(fitted), preprocess, batch_size)
    traits_MD = traits_of(model, outside, preprocess, batch_size)
    if not bool(torch.isfinite(traits_ND).all() and torch.isfinite(traits_MD).all()):
        return None
    try:
        return calibrated(traits_ND, train.labels[fitted].cpu(), traits_MD, calibrated_on)
    except ValueError:  # numbers beyond float32
        return None


def traits_of(model: Network, images_NHWC: Tensor, preprocess: Preprocess, batch_size: int) -> Tensor:
    """float64 [N, D] on the CPU, of stored images, without augmentation."""
    found = []
    with evaluating(model):
        for images in images_NHWC.split(at_once(batch_size, images_NHWC, preprocess)):
            inputs_BCSS = preprocess(images)
            features_BF = model.features(inputs_BCSS)
            parts = map(where_float64, (inputs_BCSS, features_BF, model.head(features_BF)))
            found.append(traits(model, preprocess, *parts).cpu())
    return torch.cat(found)


def fit(traits_ND: Tensor, labels_N: Tensor) -> Distance:
    """The distance for float64 traits or statistics: after whitening, the shared spread is the identity."""
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
    # From the rounded numbers, as `Distance` uses them.
    centres_CD = (means_CD - mean_D.double()) @ whitening_DD.double().T
    return Distance(mean_D, whitening_DD, centres_CD.float())


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


def calibrated(traits_ND: Tensor, labels_N: Tensor, traits_MD: Tensor, calibrated_on: str) -> Novelty:
    """Both distances, fitted on N images, each scaled by its INSIDE quantile of M others, and with the smallest
    threshold beyond which at most 1 - INSIDE of these lie."""
    two = fit(traits_ND[:, :-STATISTICS], labels_N), fit(traits_ND[:, -STATISTICS:], labels_N)
    plain = Novelty(*two, torch.ones(2), 0.0, calibrated_on, len(traits_MD))
    scales = inside(plain.both(traits_MD)).clamp_min(LEAST_SCALE).float()
    scaled = replace(plain, scales=scales)
    return replace(scaled, threshold=inside(scaled.distance(traits_MD)).item())


def inside(distances_M: Tensor) -> Tensor:
    """The smallest of the distances, for each column, beyond which at most 1 - INSIDE of them lie."""
    return torch.quantile(distances_M, INSIDE, dim=0, interpolation="higher")


def to_facts(novelty: Novelty) -> dict[str, Any]:
    """All but the tensors, as JSON for novelty.safetensors."""
    facts = {"format": FORMAT, "method": METHOD, "inside": INSIDE, "threshold": novelty.threshold}
    return facts | {"calibrated_on": novelty.calibrated_on, "images": novelty.images}


def from_parts(tensors: dict[str, Tensor], facts: dict[str, Any], width: int) -> Novelty:
    """The inverse of `tensors` and `to_facts` for a network with ``width`` traits; ValueError if they are damaged."""
    parts = [field.name for field in fields(Distance)]
    names = [*parts, *(f"statistics_{name}" for name in parts), "scales"]
    if set(tensors) != set(names) or tensors["mean"].shape != (width - STATISTICS,):
        raise ValueError("the tensors do not fit the network")
    known = {name: facts.get(name) for name in ("threshold", "calibrated_on", "images")}
    if not all(isinstance(value, kind) for value, kind in zip(known.values(), (float, str, int), strict=True)):
        raise ValueError("its metadata are missing or wrong")
    first, second = (Distance(*(tensors[prefix + name] for name in parts)) for prefix in ("", "statistics_"))
    return Novelty(first, second, tensors["scales"], **known)  # type: ignore[arg-type]
