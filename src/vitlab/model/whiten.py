"""A patch embedding that starts as a whitening of training patches.

Letters in names: P numbers of a patch, D embed_dim, R the smaller of both.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.model.patches import patchify

FLOOR = 0.01  # added to each variance, as a share of their mean: the faintest components are mostly noise


@torch.no_grad()
def whiten(embed: nn.Linear, config: ModelConfig, batches: Iterable[Tensor]) -> None:
    """Let ``embed``, of P numbers to D, start such that over the patches of these images its outputs have mean 0, mean
    square 1 and no correlation, up to FLOOR and to what is lost where D is not P. The images are preprocessed, and come
    in ``batches`` of [B, C, side, side], because patches in float64 take much memory.

    W = sqrt(D / R) Q (L + floor)^-1/2 V^T with the R largest eigenvalues L and eigenvectors V of the patches'
    covariance, and Q a random matrix [D, R] with orthonormal columns, from torch's global generator. Page 2018, "How to
    Train Your ResNet 8: Bag of Tricks", starts the first convolution of a CNN like this.
    """
    cut, count = (config.patch_size, config.patch_overlap, config.margin), 0
    sum_P = torch.zeros(embed.in_features, dtype=torch.float64)
    products_PP = torch.zeros(embed.in_features, embed.in_features, dtype=torch.float64)
    for images_BCHW in batches:
        patches_MP = patchify(images_BCHW, *cut).flatten(0, 1).double()
        count += len(patches_MP)
        sum_P += patches_MP.sum(dim=0)
        products_PP += patches_MP.T @ patches_MP
    mean_P = sum_P / count
    covariance_PP = products_PP / count - torch.outer(mean_P, mean_P)
    values_P, vectors_PP = torch.linalg.eigh(covariance_PP)  # ascending
    dim, rank = embed.out_features, min(embed.weight.shape)
    floor = FLOOR * values_P.mean().clamp_min(1e-6)
    scaled_RP = ((dim / rank / (values_P[-rank:].clamp_min(0.0) + floor)).sqrt() * vectors_PP[:, -rank:]).T
    turn_DR, _ = torch.linalg.qr(torch.randn(dim, rank, dtype=torch.float64))
    weight_DP = turn_DR @ scaled_RP
    embed.weight.copy_(weight_DP)
    embed.bias.copy_(-(weight_DP @ mean_P))
