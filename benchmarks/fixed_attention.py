"""What is left of a trained network if its attention no longer depends on the image.

Each head's weights are replaced by their mean over some images, one matrix [N, N] for all. What the network then still
knows, it knows from fixed averages of neighbours, as a convolution or an MLP-Mixer would.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitlab.data.batches import DeviceSplit
from vitlab.machine import Machine
from vitlab.model import ViT
from vitlab.model.block import Block
from vitlab.training.evaluate import at_once, evaluating, top_k
from vitlab.training.preprocess import Preprocess

IMAGES = 2000  # over which weights are averaged; their mean hardly changes with more


def mean_weights(model: ViT, images: DeviceSplit, preprocess: Preprocess, machine: Machine, size: int) -> Tensor:
    """The mean attention weights over the first IMAGES images: [L, h, N, N], float32. L is the number of blocks."""
    some = images.images[:IMAGES]
    total = torch.zeros(())
    with evaluating(model), machine.autocast():
        for part in some.split(at_once(size, some, preprocess)):
            total = total + model.forward_with_attention(preprocess(part))[1].float().sum(dim=1)
    return (total / len(some)).clone()


def logits_with(model: ViT, inputs_BCHW: Tensor, weights_LhNN: Tensor) -> Tensor:
    """Logits [B, K] with these attention weights in place of those that each image would have."""
    x = model.tokens(inputs_BCHW)
    for block, weights_hNN in zip(model.blocks, weights_LhNN, strict=True):
        assert isinstance(block, Block)
        assert block.attn is not None
        values_BhNd = block.attn.heads(block.norm1(x))[2]
        x = x + block.attn.merge(weights_hNN.to(values_BhNd.dtype) @ values_BhNd)
        x = x + block.mlp(block.norm2(x))
    logits_BK: Tensor = model.head(model.pool(model.norm(x)))
    return logits_BK


def top1_with_mean(
    model: ViT, train: DeviceSplit, test: DeviceSplit, preprocess: Preprocess, machine: Machine, size: int
) -> float:
    """Accuracy on ``test`` with the mean attention over images of ``train``."""
    weights_LhNN = mean_weights(model, train, preprocess, machine, size)
    with evaluating(model), machine.autocast():
        parts = test.images.split(at_once(size, test.images, preprocess))
        logits = torch.cat([logits_with(model, preprocess(part), weights_LhNN).float() for part in parts])
    return top_k(logits, test.labels, 1)
