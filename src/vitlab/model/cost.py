"""What a network's forward pass costs in arithmetic, from its configuration alone."""

from __future__ import annotations

from itertools import pairwise

from vitlab.config import ModelConfig, cnn_side
from vitlab.model.patches import patch_length


def flops_per_image(config: ModelConfig, in_channels: int, num_classes: int) -> int:
    """Floating-point operations of one forward pass on one image: 2 for each multiply-add of matrix
    products and convolutions; element-wise work is not counted."""
    count = cnn_multiply_adds if config.arch == "cnn" else vit_multiply_adds
    return 2 * count(config, in_channels, num_classes)


def vit_multiply_adds(config: ModelConfig, in_channels: int, num_classes: int) -> int:
    """Patch embedding, blocks and head."""
    patches, dim = config.grid**2, config.embed_dim
    tokens = patches + (config.pool == "cls")
    embedding = patches * patch_length(config.patch_size, config.patch_overlap, in_channels) * dim
    mlp = 2 * tokens * dim * config.mlp_hidden
    pooled = dim * (tokens if config.pool == "flatten" else 1)
    head = dense(pooled, *config.head_hidden, num_classes)
    return embedding + config.depth * (attention(config, tokens) + mlp) + head


def attention(config: ModelConfig, tokens: int) -> int:
    """Projections of each token, and two products of all pairs: scores, and weights times values."""
    if config.attn_form == "none":
        return 0
    merged, dim = config.attn_form == "merged", config.embed_dim
    inner = dim if merged else config.num_heads * config.width_per_head
    return tokens * dim * inner * (2 if merged else 4) + 2 * tokens**2 * inner


def cnn_multiply_adds(config: ModelConfig, in_channels: int, num_classes: int) -> int:
    """3 x 3 convolutions without padding, each before its pooling, and the dense layer."""
    channels = (in_channels, *config.cnn_channels)
    sides = [cnn_side(config.input_side, layer) for layer in range(len(channels))]
    convolutions = sum((side - 2) ** 2 * 9 * a * b for side, (a, b) in zip(sides, pairwise(channels), strict=False))
    return convolutions + dense(channels[-1] * sides[-1] ** 2, num_classes)


def dense(*widths: int) -> int:
    """Layers of one vector, from each width to the next."""
    return sum(a * b for a, b in pairwise(widths))
