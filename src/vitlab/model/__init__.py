"""The networks, in pure torch. ``build_model`` is the only place that chooses between them."""

from __future__ import annotations

from torch import nn

from vitlab.config import ModelConfig
from vitlab.model.cnn import CNN
from vitlab.model.description import VIEWS, Description, Squares
from vitlab.model.mixer import Mixer
from vitlab.model.resnet import ResNet
from vitlab.model.vit import ViT

__all__ = [
    "CNN",
    "VIEWS",
    "Description",
    "Mixer",
    "Network",
    "ResNet",
    "Squares",
    "ViT",
    "build_model",
    "count_parameters",
    "parameters_by_part",
]

Network = ViT | CNN | Mixer | ResNet
NETWORKS: dict[str, type[Network]] = {"vit": ViT, "cnn": CNN, "mixer": Mixer, "resnet": ResNet}


def build_model(config: ModelConfig, in_channels: int, num_classes: int) -> Network:
    """The network of ``config``, freshly initialised from torch's global generator, on the CPU.

    >>> import torch
    >>> model = vitlab.build_model(vitlab.preset_config("small").model, in_channels=1, num_classes=10)
    >>> list(model(torch.zeros(5, 1, 28, 28)).shape)  # float [B, C, side, side] -> logits [B, K]
    [5, 10]
    """
    return NETWORKS[config.arch](config, in_channels, num_classes)


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, frozen or not."""
    return sum(p.numel() for p in model.parameters())


def parameters_by_part(model: nn.Module) -> dict[str, int]:
    """The number of parameters of each part, such as patch_embed, pos_embed, blocks, norm, head."""
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel()
    return parts
