"""A network without memory: names and shapes of its tensors, to compare a file with before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vitlab.config import ModelConfig
from vitlab.model import Network, build_model


class _Outline(TorchFunctionMode):
    """Fills no tensor: on torch's meta device a tensor only has a shape, and torch fills it in Python code, which takes
    a second or two to import."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        first = args[0] if args else (kwargs or {}).get("tensor")  # `torch.nn.init` passes it by name
        if isinstance(first, Tensor) and name.endswith("_") and not name.endswith("__"):
            return first
        return func(*args, **(kwargs or {}))


def outline(config: ModelConfig, in_channels: int, num_classes: int) -> Network:
    """The network of ``config`` with tensors on the meta device: it has shapes, but can compute nothing."""
    with torch.device("meta"), _Outline():
        return build_model(config, in_channels, num_classes)
