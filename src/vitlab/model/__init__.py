"""The networks. ``build_model`` is the only place that chooses between them."""

from __future__ import annotations

from torch import nn

from vitlab.config import ModelConfig
from vitlab.model.cnn import CNN
from vitlab.model.cost import flops_per_image
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
