"""Images with their labels (Split), and how a split is cut: validation images, a limit.

Validation images are cut here, before any augmentation, so an augmented copy of a training image can never be a
validation image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitlab.data.stored import Stored, blocks
from vitlab.errors import ConfigError, DataError
from vitlab.randomness import numpy_generator
from vitlab.text import counted

Images = npt.NDArray[np.unsignedinteger[Any]]  # uint8 or uint16
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]
MOST_CHANNELS = 16
FEW = 10  # images that may be in the order of their classes by chance
UNLIKELY = 1e-3  # chance at which images count as sorted by class


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images with their labels: ``images`` [N, H, W, C] with C 1 to 16 (1 is grey, 3 red, green, blue), uint8 from 0
    (black) to 255, uint16 from 0 to 65535, or float32 (where 0 is black and 1 is white, but other numbers are
    possible), and ``labels`` int64 [N]; DataError for anything else.
    Images that do not fit into memory are a `stored.Stored`, which passes for an array.

    >>> split = vitlab.load_dataset("digits").test
    >>> split
    <Split of 360 images, 8 x 8 x 1>
    >>> split.images.shape, split.labels[:3].tolist()
    ((360, 8, 8, 1), [2, 3, 4])

    ``weights`` float64 [N] says how much each image counts in training, above 0; None: all count once.
    """

    images: Images | Floats
    labels: Labels
    weights: Weights | None = None

    def __repr__(self) -> str:
        return f"<Split of {counted(len(self), 'image')}, {' x '.join(map(str, self.images.shape[1:]))}>"

    def __post_init__(self) -> None:
        images, labels, weights = self.images, self.labels, self.weights
        if images.dtype not in (np.uint8, np.uint16, np.float32) or images.ndim != 4:
            raise DataError(f"images must be uint8, uint16 or float32 [N, H, W, C], not {_describe(images)}")
        if images.shape[3] > MOST_CHANNELS:
            channels = f"{images.shape[3]} channels (the last size of {list(images.shape)})"
            raise DataError(f"images have {channels}, but the most is {MOST_CHANNELS}; leave some out")
        if 0 in images.shape[1:]:
            raise DataError(f"images must have at least one pixel, not {_describe(images)}")
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise DataError(f"labels must be int64 [N], not {_describe(labels)}")
        if len(images) != len(labels):
            raise DataError(f"there are {len(images)} images but {len(labels)} labels; each image needs one")
        if len(labels) and labels.min() < 0:
            raise DataError(f"labels must not be negative, but one is {labels.min()}")
        if weights is None:
            return
        if weights.dtype != np.float64 or weights.shape != labels.shape:
            raise DataError(f"weights must be float64 [N], one for each image, not {_describe(weights)}")
        if not (np.isfinite(weights) & (weights > 0)).all():
            raise DataError("weights must be finite and above 0; leave out images that should not count")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.ArrayLike) -> Split:
        """A new Split with the images at ``indices``, in their order: copies, but for those on the disk."""
        wanted = np.asarray(indices, dtype=np.int64)
        weights = None if self.weights is None else self.weights[wanted]
        images: Any = self.images
        taken: Any = images.take(wanted) if isinstance(images, Stored) else images[wanted]
        return Split(taken, self.labels[wanted], weights)


def _describe(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def cut_validation(
    split: Split, fraction: float, how: str, seed: int, is_new: bool = True
) -> tuple[Split, Split | None]:
    """Cut ``split`` into training and validation images; fraction 0 gives (split, None).

    ``how`` "last" keeps the first int(N * (1 - fraction)) images for training, unshuffled, as in Keras' fit.
    "stratified" draws as many validation images, with the same share of every class, by ``seed``. ConfigError when a
    part would be empty, an argument is out of range, or "last" leaves classes out of the validation images because the
    images are sorted by class. That last reason does not hold for a run that began with such a cut (``is_new`` False).
    """
    if how not in ("last", "stratified"):
        raise ConfigError(f"val_split {how!r} is unknown; choose stratified or last")
    if not 0 <= fraction < 1:
        raise ConfigError(f"val_fraction is {fraction}; it must be at least 0 and below 1")
    if fraction == 0:
        return split, None
    num_train = int(len(split) * (1 - fraction))
    if num_train == 0 or num_train == len(split):
        empty = "training" if num_train == 0 else "validation"
        total = counted(len(split), "image")
        raise ConfigError(f"val_fraction {fraction} of {total} leaves no {empty} image; choose another fraction")
    if how == "last":
        is_val = np.arange(len(split)) >= num_train
    else:
        is_val = _draw_stratified(split.labels, len(split) - num_train, seed)
    if not is_val.any():
        raise ConfigError("no class can spare an image for validation; use --val-fraction 0, or add images")
    train, val = split.take(np.flatnonzero(~is_val)), split.take(np.flatnonzero(is_val))
    lost = np.setdiff1d(val.labels, train.labels)
    if len(lost):
        raise ConfigError(
            f"val_split {how} leaves {counted(len(lost), 'class')} without a training image, such as class {lost[0]}; "
            "use val_split stratified or val_fraction 0"
        )
    if how == "last" and is_new:
        _refuse_sorted(split.labels, train, val)
    return train, val


def _refuse_sorted(labels: Labels, train: Split, val: Split) -> None:
    """ConfigError if the validation images lack a class, and not by chance.

    That is so where the images of each class follow each other, and where a class would have been seen in random order:
    the chance that none of its n images is among the validation images is below (1 - v)^n, v being their share.
    """
    sizes = np.bincount(train.labels)
    missing = np.setdiff1d(train.labels, val.labels)
    chances = (len(train) / (len(train) + len(val))) ** sizes[missing]
    is_sorted = len(labels) >= FEW and np.count_nonzero(np.diff(labels)) == np.count_nonzero(sizes) - 1
    if len(missing) and (is_sorted or (chances * np.count_nonzero(sizes) < UNLIKELY).any()):
        shown, total = len(np.unique(val.labels)), np.count_nonzero(sizes)
        raise ConfigError(
            f"val_split last takes the last {counted(len(val), 'image')} for validation, and they show only {shown} of "
            f"{counted(int(total), 'class')}: the images are sorted by class; use --val-split stratified"
        )


def _draw_stratified(labels: Labels, num_val: int, seed: int) -> npt.NDArray[np.bool_]:
    """A mask [N] of ``num_val`` images, distributed over the classes in proportion to their sizes."""
    generator = numpy_generator(seed, "validation")
    sizes = np.bincount(labels)
    # Whole shares first, then one more for the largest remainders: small classes are not rounded away.
    quotas = sizes * num_val // len(labels)
    remainders = sizes * num_val % len(labels)
    quotas[np.argsort(-remainders, kind="stable")[: num_val - quotas.sum()]] += 1
    quotas = np.minimum(quotas, np.maximum(sizes - 1, 0))  # every class keeps one image to train on
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label, quota in enumerate(quotas):
        members = np.flatnonzero(labels == label)
        mask[generator.permutation(members)[:quota]] = True
    return mask


def limit(split: Split, count: int, seed: int) -> Split:
    """The first ``count`` images of the split shuffled by ``seed``; the split itself when it has no more."""
    if count < 1:
        raise ConfigError(f"limit_train is {count}; it must be at least 1")
    if count >= len(split):
        return split
    return split.take(numpy_generator(seed, "limit").permutation(len(split))[:count])


def weigh(split: Split, class_weight: str | Sequence[float], sampling: str = "all") -> Split:
    """The split with the weight of each image in the training loss, on average 1 over the images that an epoch shows;
    None if all count the same.

    ``class_weight`` "balanced" multiplies the weight of each image by n / (K n_c): n is the sum of all weights, n_c
    that of the image's class, K the number of classes with images (King and Zeng 2001, "Logistic Regression in Rare
    Events Data", section 4.2; scikit-learn's "balanced"). All images of a class then count as much as those of another.
    Numbers, one for each class, multiply the weights of its images.
    """
    weights, labels = split.weights, split.labels
    if class_weight != "none":
        weights = np.ones(len(split)) if weights is None else weights
        if class_weight == "balanced":
            sums = np.bincount(labels, weights)
            weights = weights * sums.sum() / (np.count_nonzero(sums) * sums[labels])
        else:
            weights = weights * np.array(class_weight, dtype=np.float64)[labels]
    if weights is None:
        return split
    mean = weights.mean()
    if sampling == "balanced":  # every class is shown equally often
        sizes = np.bincount(labels)
        mean = (np.bincount(labels, weights)[sizes > 0] / sizes[sizes > 0]).mean()
    return replace(split, weights=weights / mean)


def count_constant(images: Images | Floats) -> int:
    """How many images [N, H, W, C] have one colour all over."""
    if isinstance(images, Stored) and images.constant is not None:
        return images.constant
    return sum(int((some == some[:, :1, :1]).all(axis=(1, 2, 3)).sum()) for some in blocks(images))


def pixel_statistics(images: Images | Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels scaled to [0, 1]: uint8 by 255, uint16 by 65535, float32
    as they are.

    A channel that never changes gets the deviation 1, so normalising cannot divide by zero.
    """
    if isinstance(images, Stored):
        if images.mean is not None and images.std is not None:
            return images.mean, images.std
    elif images.dtype == np.float32:
        channels = [images[..., channel] for channel in range(images.shape[3])]
        spreads = [float(one.std(dtype=np.float64)) if one.min() < one.max() else 1.0 for one in channels]
        return tuple(float(one.mean(dtype=np.float64)) for one in channels), tuple(spreads)
    levels = 65536 if images.dtype == np.uint16 else 256
    values = np.arange(levels) / (levels - 1)
    means, deviations = [], []
    counts_CL = np.zeros((images.shape[3], levels), dtype=np.int64)
    for some in blocks(images):  # bincount needs 8 bytes per pixel: keep that small
        for channel, counts in enumerate(counts_CL):
            counts += np.bincount(some[..., channel].ravel(), minlength=levels)
    for counts in counts_CL:
        mean = float(counts @ values / counts.sum())
        variance = float(counts @ (values - mean) ** 2 / counts.sum())
        means.append(mean)
        deviations.append(variance**0.5 if np.count_nonzero(counts) > 1 else 1.0)
    return tuple(means), tuple(deviations)
