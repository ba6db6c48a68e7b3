"""The Vision Transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"), pre-norm.

Letters in names: B images, N tokens, P numbers of a patch, D embed_dim, h heads, d width of a head.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.model.initialize import initialize
from vitlab.model.patches import patch_length, patchify

NORM_EPS = 1e-6  # as in the paper's code and in the Keras example


def attention_weights(q_BhNd: Tensor, k_BhNd: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)), [B, h, N, N]: row i: how much token i takes from each (Vaswani et al. 2017, eq. 1)."""
    scores = q_BhNd @ k_BhNd.transpose(-2, -1)
    return torch.softmax(scores * q_BhNd.shape[-1] ** -0.5, dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention; ``fused`` takes torch's kernel, which never holds the weights."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, dropout: float, fused: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.fused = num_heads, head_dim, fused
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim)
        self.proj = nn.Linear(num_heads * head_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        q, k, v = self.heads(x_BND)
        if self.fused:
            rate = self.dropout.p if self.training else 0.0
            return self.merge(F.scaled_dot_product_attention(q, k, v, dropout_p=rate))
        return self.merge(self.dropout(attention_weights(q, k)) @ v)

    def forward_with_weights(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, and the attention weights [B, h, N, N] before dropout."""
        q, k, v = self.heads(x_BND)
        weights_BhNN = attention_weights(q, k)
        return self.merge(self.dropout(weights_BhNN) @ v), weights_BhNN

    def heads(self, x_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [B, h, N, d]."""
        batch, tokens, _ = x_BND.shape
        qkv = self.qkv(x_BND).view(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def merge(self, y_BhNd: Tensor) -> Tensor:
        """Heads side by side, then the output projection."""
        out: Tensor = self.proj(y_BhNd.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Dense, GELU, dense; the Keras example has GELU and dropout after the second one too (``last_gelu``)."""

    def __init__(self, dim: int, hidden: int, dropout: float, last_gelu: bool) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        self.last_gelu = last_gelu

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        y = self.fc2(self.dropout(F.gelu(self.fc1(x_BND))))
        out: Tensor = self.dropout(F.gelu(y) if self.last_gelu else y)
        return out


class DropPath(nn.Module):
    """Skip a residual branch for some images while training (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x_BND: Tensor) -> Tensor:
        """The branch, zero for a share ``rate`` of the images and scaled up for the others."""
        if not self.training or self.rate == 0.0:
            return x_BND
        keep = torch.rand(len(x_BND), 1, 1, device=x_BND.device) >= self.rate
        return x_BND * (keep / (1.0 - self.rate)).to(x_BND.dtype)


class Block(nn.Module):
    """Two residual steps: tokens talk (attention), then each thinks for itself (MLP)."""

    def __init__(self, config: ModelConfig, drop_path: float, fused: bool) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, config.num_heads, config.width_per_head, config.attn_dropout, fused)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, config.mlp_hidden, config.dropout, config.mlp_last_gelu)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x = x_BND + self.drop_path(self.attn(self.norm1(x_BND)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def forward_with_weights(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, and the attention weights [B, h, N, N]."""
        y, weights_BhNN = self.attn.forward_with_weights(self.norm1(x_BND))
        x = x_BND + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x))), weights_BhNN


class ViT(nn.Module):
    """Patches -> tokens -> blocks -> one vector -> class scores."""

    def __init__(self, config: ModelConfig, in_channels: int, num_classes: int, fused_attention: bool = False) -> None:
        super().__init__()
        self.config = config
        dim, num_patches = config.embed_dim, config.grid**2
        self.num_tokens = num_patches + (config.pool == "cls")
        self.patch_embed = nn.Linear(patch_length(config.patch_size, config.patch_overlap, in_channels), dim)
        self.cls_token = nn.Parameter(torch.zeros(dim)) if config.pool == "cls" else None
        if config.pos_embed == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(self.num_tokens, dim))
        elif config.pos_embed == "sincos":
            waves = sincos_positions(config.grid, dim)
            nothing = torch.zeros(self.num_tokens - num_patches, dim)  # the class token has no place
            self.register_buffer("pos_embed", torch.cat([nothing, waves]), persistent=False)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, rate, fused_attention) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        pooled = dim * (self.num_tokens if config.pool == "flatten" else 1)
        self.head = make_head(pooled, config.head_hidden, num_classes, config.head_dropout)
        initialize(self, config)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, C, image_size, image_size], preprocessed -> logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(images_BCHW))
        return logits_BK

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The pooled vector of each image: [B, D], or [B, N D] with pool "flatten"."""
        x = self.tokens(images_BCHW)
        for block in self.blocks:
            x = block(x)
        return self.pool(self.norm(x))

    def forward_with_attention(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K] and the attention weights of all blocks and heads, [depth, B, h, N, N]."""
        x, weights = self.tokens(images_BCHW), []
        for block in self.blocks:
            x, weights_BhNN = cast(Block, block).forward_with_weights(x)
            weights.append(weights_BhNN)
        return self.head(self.pool(self.norm(x))), torch.stack(weights)

    def tokens(self, images_BCHW: Tensor) -> Tensor:
        """Projected patches with their positions, [B, N, D]; the class token, if any, comes first."""
        x: Tensor = self.patch_embed(patchify(images_BCHW, self.config.patch_size, self.config.patch_overlap))
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        return x if self.config.pos_embed == "none" else x + self.pos_embed

    def pool(self, x_BND: Tensor) -> Tensor:
        """One vector an image: the class token, the mean, or all tokens side by side."""
        match self.config.pool:
            case "cls":
                return x_BND[:, 0]
            case "mean":
                return x_BND.mean(dim=1)
            case _:
                return x_BND.flatten(1)


def make_head(width: int, hidden: tuple[int, ...], num_classes: int, dropout: float) -> nn.Sequential:
    """Dropout, then dense-GELU-dropout for each hidden width, then the class scores."""
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    for units in hidden:
        layers += [nn.Linear(width, units), nn.GELU(), nn.Dropout(dropout)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def sincos_positions(grid: int, dim: int) -> Tensor:
    """Fixed two-dimensional positions [grid^2, dim]: half for the row, half for the column (Beyer et al. 2022)."""
    frequencies = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angles = torch.arange(grid)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves.repeat_interleave(grid, dim=0), waves.repeat(grid, 1)
    return torch.cat([rows, columns], dim=1)
