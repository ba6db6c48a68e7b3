"""Accuracy against the strength of a disturbance: how far digits may be turned, moved, blurred before they are lost.

The disturbances are changes of float images [B, C, H, W] in 0..1, black at 0; strength 0 leaves them as they are. They
are after Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions", each with one
number that has a unit. The functions count in pixels of the images that they are given; the strengths of DISTURBANCES
are in pixels of the stored image, along its width, so that they mean the same for networks that resize it to different
sides (`change_of`). Images are disturbed once resized, before a crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit
from vitlab.look.inside import evaluating
from vitlab.machine import Machine
from vitlab.training.augment import affine, affine_matrix
from vitlab.training.evaluate import top_k
from vitlab.training.preprocess import Preprocess

Disturbance = Callable[[Tensor, float, torch.Generator], Tensor]

PIXELS = "pixels"  # of the stored image
SEED = 0  # of noise and places; they are the same for every network


def rotated(images_BCHW: Tensor, degrees: float) -> Tensor:
    """Turned counter-clockwise around the centre (bilinear); black turns in."""
    return mapped(images_BCHW, degrees, right=0.0)


def shifted(images_BCHW: Tensor, pixels: float) -> Tensor:
    """Moved to the right (bilinear between whole pixels); black moves in."""
    return mapped(images_BCHW, 0.0, right=pixels)


def mapped(images_BCHW: Tensor, degrees: float, right: float) -> Tensor:
    """All images through the same affine map."""
    count, device = len(images_BCHW), images_BCHW.device
    zoom_B2, shear_B2 = torch.ones(count, 2, device=device), torch.zeros(count, 2, device=device)
    shift_B2 = torch.tensor([[right, 0.0]], device=device).expand(count, 2)
    matrix_B23 = affine_matrix(torch.full((count,), float(degrees), device=device), zoom_B2, shear_B2, shift_B2)
    return affine(images_BCHW, matrix_B23, fill="zeros")


def noisy(images_BCHW: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """With normal noise of this standard deviation added to each pixel and channel, then clipped to 0..1."""
    noise = torch.randn(images_BCHW.shape, generator=generator, device=images_BCHW.device)
    return (images_BCHW + sd * noise).clamp(0.0, 1.0)


def blurred(images_BCHW: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of standard deviation ``sigma`` pixels, cut at 3 sigma, its weights summing to 1.

    Beyond the edge the image goes on with its outermost pixels: a plain area stays as it is.
    """
    if sigma == 0.0:
        return images_BCHW
    reach = math.ceil(3.0 * sigma)
    steps = torch.arange(-reach, reach + 1, device=images_BCHW.device)
    bell = torch.exp(-0.5 * (steps / sigma).square())
    bell = bell / bell.sum()
    planes = F.pad(images_BCHW, (reach,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
    across = F.conv2d(planes, bell.view(1, 1, 1, -1))
    return F.conv2d(across, bell.view(1, 1, -1, 1)).view_as(images_BCHW)


def occluded(images_BCHW: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """With a black square of ``side`` (whole) pixels in each image, anywhere inside it."""
    draws_2B = torch.rand(2, len(images_BCHW), generator=generator, device=images_BCHW.device)
    covered = []
    for draw_B, length in zip(draws_2B, images_BCHW.shape[-2:], strict=True):
        first_B1 = (draw_B * max(1, length - round(side) + 1)).floor()[:, None]
        places = torch.arange(length, device=images_BCHW.device)
        covered.append((places >= first_B1) & (places < first_B1 + round(side)))
    hole_BHW = covered[0][:, :, None] & covered[1][:, None, :]
    return images_BCHW.masked_fill(hole_BHW[:, None], 0.0)


def without_chance(change: Callable[[Tensor, float], Tensor]) -> Disturbance:
    """A change that draws nothing, as a Disturbance."""
    return lambda images_BCHW, strength, generator: change(images_BCHW, strength)


# Name -> what it does, how strongly, and the unit of that.
DISTURBANCES: dict[str, tuple[Disturbance, tuple[float, ...], str]] = {
    "rotation": (without_chance(rotated), (0, 10, 20, 30, 45, 60, 90), "degrees"),
    "shift": (without_chance(shifted), (0, 1, 2, 3, 4, 6, 8), PIXELS),
    "noise": (noisy, (0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), "standard deviation (white is 1)"),
    "blur": (without_chance(blurred), (0, 0.5, 1, 1.5, 2, 3, 4), PIXELS),
    "occlusion": (occluded, (0, 4, 6, 8, 10, 12, 16), PIXELS),
}


def change_of(
    name: str, strength: float, preprocess: Preprocess, width: int, machine: Machine
) -> Callable[[Tensor], Tensor] | None:
    """The disturbance as a change of images of ``preprocess.image_size`` that are stored ``width`` pixels wide; none at
    strength 0. It draws the same numbers at every strength. An occlusion's side is rounded to whole resized pixels."""
    disturb, _, unit = DISTURBANCES[name]
    if strength == 0:
        return None
    here = strength * preprocess.image_size / width if unit == PIXELS else strength
    generator = machine.generator(SEED, name)
    return lambda images_BCHW: disturb(images_BCHW, here, generator)


def evenly(total: int, most: int) -> Tensor:
    """Numbers of at most ``most`` of ``total`` images, evenly spread: files are often sorted, by class or by writer."""
    count = min(total, most)
    return torch.arange(count) * total // max(count, 1)


def robustness(
    model: nn.Module, split: DeviceSplit, preprocess: Preprocess, machine: Machine, batch_size: int, count: int
) -> dict[str, list[tuple[float, float]]]:
    """For each of DISTURBANCES its strengths with top-1 accuracy (a fraction) on ``count`` `evenly` spread images.

    A disturbance draws the same numbers at every strength, so that a curve shows the strength alone.
    """
    numbers = evenly(len(split), count).to(split.labels.device)
    some, width = DeviceSplit(split.images[numbers], split.labels[numbers]), split.images.shape[2]
    plain = accuracy(model, some, preprocess, machine, batch_size)
    curves = {}
    for name, (_, strengths, _) in DISTURBANCES.items():
        curves[name] = [(0.0, plain)]
        for strength in strengths[1:]:
            change = change_of(name, strength, preprocess, width, machine)
            curves[name].append((float(strength), accuracy(model, some, preprocess, machine, batch_size, change)))
    return curves


def accuracy(
    model: nn.Module,
    split: DeviceSplit,
    preprocess: Preprocess,
    machine: Machine,
    batch_size: int,
    change: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Top-1 accuracy, a fraction, on images that ``change`` has disturbed between scaling and normalisation."""
    logits = []
    with evaluating(model):
        for images_BHWC in split.images.split(batch_size):
            inputs_BCHW = preprocess(images_BHWC, change)  # not under autocast: half precision moves pixels
            with machine.autocast():
                logits.append(model(inputs_BCHW).float())
    return top_k(torch.cat(logits), split.labels, 1)
