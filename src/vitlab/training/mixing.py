"""Mixing each training image with another one of its batch: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019).

The other image is the next one of the batch; an epoch's order is random, so this is a random pair. The loss counts both
labels by the images' shares. Every image has its own share, drawn from Beta(alpha, alpha) as in both papers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitlab.config import AugmentConfig
from vitlab.training.part import Draws, for_each

TINY = 1e-30  # keeps 0 / 0 out when both gamma draws of a small alpha underflow


def mixes(config: AugmentConfig) -> bool:
    """Whether `mix` would change anything."""
    return bool(config.mixup or config.cutmix)


def mix(images_BCHW: Tensor, config: AugmentConfig, generator: torch.Generator | Draws) -> tuple[Tensor, Tensor]:
    """The mixed images, and the share [B] of each image itself; the rest is the next image of the batch.

    With both mixup and cutmix on, each image is mixed by one of them, either with probability 1/2. Of a part of a batch
    the last image is mixed wrongly, because the next one is not there.
    """
    others, count, device = images_BCHW.roll(-1, dims=0), len(images_BCHW), images_BCHW.device
    if not config.cutmix:
        return blend(images_BCHW, others, shares(images_BCHW, config.mixup, generator))
    share_B = shares(images_BCHW, config.cutmix, generator)
    centres_2B = for_each(generator, count, lambda g, n: torch.rand(2, n, generator=g, device=device), dim=1)
    cut, cut_share_B = paste(images_BCHW, others, share_B, centres_2B)
    if not config.mixup:
        return cut, cut_share_B
    blended, share_B = blend(images_BCHW, others, shares(images_BCHW, config.mixup, generator))
    cuts_B = for_each(generator, count, lambda g, n: torch.rand(n, generator=g, device=device)) < 0.5
    return torch.where(cuts_B.view(-1, 1, 1, 1), cut, blended), torch.where(cuts_B, cut_share_B, share_B)


def shares(images_BCHW: Tensor, alpha: float, generator: torch.Generator | Draws) -> Tensor:
    """One draw [B] from Beta(alpha, alpha) for each image: x / (x + y) with x and y from Gamma(alpha)."""
    # torch.distributions draws from the global generator only; this is the function that it calls.
    gammas_2B = for_each(
        generator,
        len(images_BCHW),
        lambda g, n: torch._standard_gamma(images_BCHW.new_full((2, n), alpha), generator=g),
        dim=1,
    )
    return gammas_2B[0] / gammas_2B.sum(dim=0).clamp_min(TINY)


def blend(images_BCHW: Tensor, others_BCHW: Tensor, share_B: Tensor) -> tuple[Tensor, Tensor]:
    """mixup: share x image + (1 - share) x other."""
    return torch.lerp(others_BCHW, images_BCHW, share_B.view(-1, 1, 1, 1)), share_B


def paste(images_BCHW: Tensor, others_BCHW: Tensor, share_B: Tensor, centres_2B: Tensor) -> tuple[Tensor, Tensor]:
    """CutMix: a rectangle of 1 - share of the area, of the image's proportions, is the other image's.

    The centre of the rectangle is anywhere in the image (``centres_2B``, down and right in 0..1), and what lies outside
    is cut off; the share returned is that of the pixels which are left of the image.
    """
    height, width = images_BCHW.shape[-2:]
    side_B = (1 - share_B).clamp_min(0).sqrt()
    rows_BH, columns_BW = within(height, centres_2B[0], side_B), within(width, centres_2B[1], side_B)
    pasted_BHW = rows_BH[:, :, None] & columns_BW[:, None, :]
    left_B = 1 - pasted_BHW.flatten(1).float().mean(dim=1)
    return torch.where(pasted_BHW.unsqueeze(1), others_BCHW, images_BCHW), left_B


def within(length: int, centre_B: Tensor, side_B: Tensor) -> Tensor:
    """Which of ``length`` pixels lie in the stretch around ``centre_B`` of ``side_B`` (both in 0..1), [B, length]."""
    places = (torch.arange(length, device=centre_B.device) + 0.5) / length
    return (places - centre_B[:, None]).abs() < side_B[:, None] / 2
