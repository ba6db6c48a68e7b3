"""How weights start, all in one place. Draws from torch's global generator, which the caller seeds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitlab.config import ModelConfig

if TYPE_CHECKING:
    from vitlab.model.block import Attention
    from vitlab.model.vit import ViT


def initialize(model: ViT, config: ModelConfig) -> None:
    """Fill all parameters of a ViT as ``config.init`` says; biases start at 0, norms at the identity."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in model.blocks:
        if block.attn is not None:
            _initialize_attention(block.attn, config)  # type: ignore[arg-type]
        if config.init == "zero":
            nn.init.zeros_(block.mlp.fc2.weight)  # type: ignore[union-attr, arg-type]
    _initialize_positions(model, config)
    if config.init != "keras":
        nn.init.zeros_(model.head[-1].weight)  # type: ignore[arg-type]  # the ViT paper's code starts undecided


def _initialize_attention(attn: Attention, config: ModelConfig) -> None:
    """q, k and v are three matrices that happen to lie in one: each has its own fans."""
    heads, width, dim = config.num_heads, attn.head_dim, config.embed_dim
    keras = config.init == "keras"
    if attn.merged:
        nn.init.normal_(attn.q.weight, std=dim**-0.5)  # the product of two matrices of variance 1 / D
    else:
        # Keras takes the fans of a [D, h, d] kernel as h D and d D, and of [h, d, D] as h d and h D.
        glorot_uniform(attn.qkv.weight, *((heads * dim, width * dim) if keras else (dim, heads * width)))
    glorot_uniform(attn.proj.weight, heads * width, heads * dim if keras else dim)
    if config.init == "zero":
        nn.init.zeros_(attn.proj.weight)


def _initialize_positions(model: ViT, config: ModelConfig) -> None:
    """Keras embeddings are uniform in +-0.05; the ViT paper's positions are normal with 0.02."""
    if config.pos_embed == "learned":
        with torch.no_grad():
            if config.init == "keras":
                model.pos_embed.uniform_(-0.05, 0.05)
            else:
                model.pos_embed.normal_(std=0.02)
    if model.cls_token is not None:
        nn.init.normal_(model.cls_token, std=0.02)


def glorot_uniform(weight: Tensor, fan_in: int, fan_out: int) -> None:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)."""
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    nn.init.uniform_(weight, -limit, limit)
