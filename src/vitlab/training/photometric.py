"""Random brightness, contrast and saturation, each image by its own factors, as Pillow's ImageEnhance defines them.

Each change is a blend: pixels = reference + factor x (pixels - reference), cut to 0..1. The reference is black for
brightness, the image's mean grey level for contrast, and the grey image for saturation. Howard 2013, "Some Improvements
on Deep Convolutional Neural Network Based Image Classification", trains with these three.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitlab.config import AugmentConfig
from vitlab.machine import constant
from vitlab.training.part import Draws, for_each

# How much red, green and blue count in the grey level (ITU-R Recommendation BT.601), as in Pillow.
LUMA = (0.299, 0.587, 0.114)


def photometric(images_BCHW: Tensor, config: AugmentConfig, generator: torch.Generator | Draws) -> Tensor:
    """The images (pixels in 0..1) after the changes of ``config``, in the order brightness, contrast, saturation."""
    images, device = images_BCHW, images_BCHW.device
    ranges = (config.brightness, config.contrast, config.saturation)
    draws_3B = (
        for_each(generator, len(images), lambda g, n: torch.rand(3, n, generator=g, device=device), dim=1) * 2 - 1
    )
    factors = 1 + draws_3B * constant(ranges, device).view(3, 1)
    brightness, contrast, saturation = factors.view(3, -1, 1, 1, 1).unbind(0)
    if config.brightness:
        images = (images * brightness).clamp(0, 1)
    if config.contrast:
        mean = grey(images).mean(dim=(2, 3), keepdim=True)
        images = torch.lerp(mean, images, contrast).clamp(0, 1)
    if config.saturation and images.shape[1] > 1:
        images = torch.lerp(grey(images), images, saturation).clamp(0, 1)
    return images


def grey(images_BCHW: Tensor) -> Tensor:
    """The grey level of each pixel, [B, 1, H, W]; for another number of channels than three their mean."""
    if images_BCHW.shape[1] != len(LUMA):
        return images_BCHW.mean(dim=1, keepdim=True)
    return (images_BCHW * constant(LUMA, images_BCHW.device).view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
