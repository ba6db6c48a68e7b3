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
    """Makes tensors on torch's meta device, where they have a shape only, and fills none of them.

    torch computes some functions there in Python, whose import takes a second: filling in place, `arange` and division,
    which fixed positions use. None of them matters for shapes.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        fills = name.endswith("_") and not name.endswith("__")
        if args and isinstance(args[0], Tensor) and (fills or name in ("div", "true_divide", "__truediv__")):
            return args[0]
        if func is torch.arange:
            return torch.empty(*args, device="meta")
        return func(*args, **(kwargs or {}))


def outline(config: ModelConfig, in_channels: int, num_classes: int) -> Network:
    """The network of ``config`` with tensors on the meta device: it has shapes, but can compute nothing."""
    with torch.device("meta"), _Outline():
        return build_model(config, in_channels, num_classes)
