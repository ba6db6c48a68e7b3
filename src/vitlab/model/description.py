"""What everything outside this package needs to know about a network, so that no other package checks its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

# What can be shown of a network, or done with it, beyond training and prediction.
VIEWS = ("patches", "attention", "filters", "positions", "lens", "page")


class Squares(NamedTuple):
    """Squares that tile a network's input: ``grid`` x ``grid`` of ``side`` pixels, the first one ``margin`` pixels from
    the top and the left. A ViT's patches without their overlap; for other networks, what deletion blanks."""

    grid: int
    side: int
    margin: int = 0


@dataclass(frozen=True)
class Description:
    """``name`` and ``kind`` for people ("ViT", "Vision Transformer"); ``line``: its size in one line; ``matrices``: the
    parameters that Muon may orthogonalise, with the number of matrices that each stacks; ``missing``: the views that
    it does not have, each with a sentence that says why.

    ``flops_per_image`` counts the floating-point operations of one forward pass on one image: 2 for each multiply-add
    of matrix products and convolutions; element-wise work is not counted.
    """

    name: str
    kind: str
    line: str
    squares: Squares
    flops_per_image: int
    matrices: Mapping[str, int]
    missing: Mapping[str, str]


def head_multiply_adds(head: nn.Sequential) -> int:
    """Of the dense layers of a head, for one image."""
    return sum(layer.in_features * layer.out_features for layer in head if isinstance(layer, nn.Linear))
