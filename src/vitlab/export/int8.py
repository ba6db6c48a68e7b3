"""Weights as int8: each row of a matrix as whole numbers from -127 to 127 times a scale.

Only matrices are rounded, and only weights: biases, norms and all sums stay float32. (Jacob et al. 2018, "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 2, with zero point 0.)
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from vitlab.model import Network, ViT

MOST = 127


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix [rows, ...] as int8 of the same shape, and the scale [rows] of each row."""
    rows = weight.detach().flatten(1)
    scales = rows.abs().amax(dim=1) / MOST
    whole = (rows / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round().to(torch.int8)
    return whole.view(weight.shape), scales


def with_int8(model: Network) -> Network:
    """A copy of the network that computes with the rounded matrices, in float32."""
    copy = deepcopy(model)
    with torch.no_grad():
        for matrix in matrices(copy):
            whole, scales = rounded(by_rows(matrix))
            matrix.copy_((whole * scales.view(-1, *[1] * (whole.dim() - 1))).view(matrix.shape))
    return copy


def matrices(model: nn.Module) -> list[Tensor]:
    """The weights that are rounded: everything with two dimensions or more, also fixed positions."""
    found: list[Tensor] = [weight for weight in model.parameters() if weight.dim() > 1]
    if isinstance(model, ViT) and model.config.pos_embed == "sincos":
        found.append(model.pos_embed)
    return found


def by_rows(weight: Tensor) -> Tensor:
    """The weight as the matrix whose rows are scaled: for pairs of tokens, a row is that of a head and a token."""
    return weight.flatten(0, 1) if weight.dim() == 3 else weight
