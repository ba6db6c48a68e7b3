"""The state of a training run between two steps: the type that the loop and the run folder share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """Everything from which training continues exactly: named tensors, and the loop's counters as JSON values."""

    tensors: dict[str, Tensor]
    counters: dict[str, Any]
