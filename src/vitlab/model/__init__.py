"""The networks. ``build_model`` is the only place that chooses between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitlab.config import ModelConfig
from vitlab.model.cnn import CNN
from vitlab.model.kernels import PLAIN, Kernels
from vitlab.model.vit import ViT

__all__ = ["CNN", "Kernels", "ViT", "build_model", "count_parameters", "flops_per_image", "parameters_by_part"]


def build_model(config: ModelConfig, in_channels: int, num_classes: int, kernels: Kernels = PLAIN) -> ViT | CNN:
    """The network of ``config``, freshly initialised from torch's global generator, on the CPU."""
    if config.arch == "cnn":
        return CNN(config, in_channels, num_classes, kernels)
    return ViT(config, in_channels, num_classes, kernels)


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in all."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """Trainable numbers of each part, such as patch_embed, pos_embed, blocks, norm, head."""
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel() * parameter.requires_grad
    return parts


def flops_per_image(config: ModelConfig, in_channels: int, num_classes: int) -> int:
    """Floating-point operations of one forward pass on one image: 2 for each multiply-add of matrix
    products and convolutions; element-wise work is not counted."""
    counter: Any = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        model = build_model(config, in_channels, num_classes).eval()
        model(torch.empty(1, in_channels, config.input_side, config.input_side))
    return int(counter.get_total_flops())
