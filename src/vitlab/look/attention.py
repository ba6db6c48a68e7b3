"""Where a ViT looks, from its attention weights, and which patches an answer hangs on.

`ViT.forward_with_attention` gives the weights: [depth, B, h, N, N], row i what token i takes from each. A class token
comes first. A network without attention has h = 0, of which nothing can be said here.
Letters in names: L blocks, B images, h heads, N tokens, p patches; a grid is square, its patches counted row by row.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.look.inside import evaluating
from vitlab.machine import Machine
from vitlab.model import ViT
from vitlab.training.preprocess import Preprocess

IMAGES_AT_ONCE = 1024  # that patch_deletion hands to the network


def rollout(weights_LhNN: Tensor) -> Tensor:
    """How much of each input token (column) has reached each output token (row): [N, N], rows sum to 1.

    Attention rollout (Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3): the mean over
    heads, mixed half and half with the identity for the residual line, multiplied from the first block on.
    """
    weights_LNN = weights_LhNN.float().mean(dim=1)
    identity = torch.eye(weights_LNN.shape[-1], device=weights_LNN.device)
    reached = identity
    for weights_NN in 0.5 * (weights_LNN + identity):
        reached = (weights_NN / weights_NN.sum(dim=-1, keepdim=True)) @ reached
    return reached


def pooled_attention(weights_LhNN: Tensor, pool: str) -> Tensor:
    """How much the pooled vector looks at each patch, in each block and head: [depth, h, patches].

    With ``pool`` "cls" the class token's row without itself, which need not sum to 1 any more (Caron et al. 2021,
    "DINO", figure 1); with every other one the mean over the tokens that look.
    """
    return weights_LhNN[:, :, 0, 1:] if pool == "cls" else weights_LhNN.mean(dim=2)


def query_attention(weights_LhNN: Tensor, query: int, has_cls: bool) -> Tensor:
    """How much patch number ``query`` looks at each patch, in each block and head: [depth, h, patches].

    With ``has_cls`` the first token is the class token; what goes to it is left out.
    """
    first = int(has_cls)
    return weights_LhNN[:, :, first + query, first:]


def attention_distance(weights_LBhNN: Tensor, grid: int, patch_size: int, has_cls: bool) -> Tensor:
    """How far each head looks, in pixels: [depth, h] (Dosovitskiy et al. 2021, figure 7 right).

    The distance from centre to centre of two patches, weighted by attention, then the mean over looking patches and
    images. The class token is left out and rows made to sum to 1 without it.
    """
    first = int(has_cls)
    weights_LBhpp = weights_LBhNN[..., first:, first:].float()
    # A row that gives everything to the class token would be 0 / 0; so it counts as distance 0.
    totals_LBhp = weights_LBhpp.sum(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    distances_LBhp = (weights_LBhpp * patch_distances(grid, patch_size).to(weights_LBhpp.device)).sum(dim=-1)
    return (distances_LBhp / totals_LBhp).mean(dim=(1, 3))


def patch_distances(grid: int, patch_size: int) -> Tensor:
    """Distance in pixels between the centres of each two patches, [grid^2, grid^2]."""
    steps = torch.arange(grid) * float(patch_size)
    places_p2 = torch.cartesian_prod(steps, steps)
    return torch.cdist(places_p2, places_p2)


class Squares(NamedTuple):
    """Where the patches lie in a network's input: ``grid`` x ``grid`` squares of ``side`` pixels without their overlap,
    the first ``margin`` pixels from the top and the left."""

    grid: int
    side: int
    margin: int = 0


def patch_squares(config: ModelConfig) -> Squares:
    """The patches' own pixels in inputs of ``config.input_side``: the margin that only overlap sees lies outside, as
    does what is cut off at the right and bottom."""
    return Squares(config.grid, config.patch_size, config.margin)


def patch_numbers(squares: Squares, height: int, width: int) -> Tensor:
    """Which patch each pixel belongs to, int64 [height, width]; -1 where none."""
    rows_H1 = (torch.arange(height)[:, None] - squares.margin).div(squares.side, rounding_mode="floor")
    columns_W = (torch.arange(width) - squares.margin).div(squares.side, rounding_mode="floor")
    inside = (rows_H1 >= 0) & (rows_H1 < squares.grid) & (columns_W >= 0) & (columns_W < squares.grid)
    return torch.where(inside, rows_H1 * squares.grid + columns_W, -1)


def black(preprocess: Preprocess) -> Tensor:
    """What a black pixel is in the network's input, one number a channel, [C]."""
    return preprocess.normalize(torch.zeros(1, len(preprocess.mean), 1, 1)).flatten()


def patch_deletion(
    model: nn.Module,
    inputs_BCHW: Tensor,
    labels_B: Tensor,
    blank: float | Tensor,
    machine: Machine | None = None,
    squares: Squares | None = None,
) -> Tensor:
    """By how much the probability of its label falls when a patch is blanked, [B, grid, grid]; negative: it rises.

    Occlusion (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2), patch by
    patch. The patch's own pixels become ``blank`` (one number, or one a channel: ``black``), for its neighbours, too,
    which may see them through their overlap. ``inputs_BCHW`` are preprocessed. ``squares`` are those of the ViT; for
    a CNN they have to be given. Takes grid^2 + 1 forward passes of B images.
    """
    if squares is None:
        squares = patch_squares(cast(ViT, model).config)
    device = inputs_BCHW.device
    numbers_HW = patch_numbers(squares, *inputs_BCHW.shape[-2:]).to(device)
    blank_C11 = torch.as_tensor(blank, dtype=inputs_BCHW.dtype, device=device).view(-1, 1, 1)
    patches = torch.arange(squares.grid**2, device=device)
    with evaluating(model, machine):
        before_1B = label_probability(model, inputs_BCHW[None], labels_B)
        falls = []
        for some_p in patches.split(max(1, IMAGES_AT_ONCE // len(inputs_BCHW))):
            holes_pHW = numbers_HW == some_p[:, None, None]
            after_pB = label_probability(model, blanked(inputs_BCHW, holes_pHW, blank_C11), labels_B)
            falls.append(before_1B - after_pB)
    return torch.cat(falls).T.reshape(-1, squares.grid, squares.grid)


def blanked(inputs_BCHW: Tensor, holes_pHW: Tensor, blank_C11: Tensor) -> Tensor:
    """All images with each of the holes, [p, B, C, H, W]."""
    return torch.where(holes_pHW[:, None, None], blank_C11, inputs_BCHW)


def label_probability(model: nn.Module, inputs_pBCHW: Tensor, labels_B: Tensor) -> Tensor:
    """The probability of each image's label in each of its versions, [p, B]."""
    logits_pBK = model(inputs_pBCHW.flatten(0, 1)).float().unflatten(0, inputs_pBCHW.shape[:2])
    chosen_pB1 = labels_B.view(1, -1, 1).expand(len(inputs_pBCHW), -1, 1)
    probabilities: Tensor = logits_pBK.softmax(dim=-1).gather(-1, chosen_pB1).squeeze(-1)
    return probabilities
