"""The transformer block, pre-norm: attention, MLP, their norms, and the residual line (Vaswani et al. 2017).

Letters in names: B images, N tokens, D embed_dim, h heads, d width of a head.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig

NORM_EPS = 1e-6  # as in the ViT paper's code and in the Keras example


def attention_weights(q_BhNd: Tensor, k_BhNd: Tensor, bias_hNN: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias), [B, h, N, N]: row i is how much token i attends to each (Vaswani et al. 2017,
    eq. 1; the bias as in Liu et al. 2021, "Swin Transformer", eq. 4, but one number for each pair of tokens)."""
    scores = (q_BhNd @ k_BhNd.transpose(-2, -1)) * q_BhNd.shape[-1] ** -0.5
    return torch.softmax(scores if bias_hNN is None else scores + bias_hNN, dim=-1)


def shared_by_offset(bias_hNN: Tensor, grid: int) -> Tensor:
    """Each number replaced by the mean over all pairs of patches at the same distance in the same direction, as they
    share it in Swin (Liu et al. 2021, eq. 4); a class token, which comes first, has no place and keeps its numbers.

    Its gradient is the same mean of gradients, so a table that starts shared stays shared.
    """
    diagonals, heads = _diagonals(grid, bias_hNN.device), len(bias_hNN)  # [g g, 2 g - 1]
    patches = bias_hNN[:, -(grid**2) :, -(grid**2) :]
    rows_columns = patches.reshape(heads, grid, grid, grid, grid).transpose(2, 3).reshape(heads, grid**2, grid**2)
    with torch.autocast(bias_hNN.device.type, enabled=False):  # products rather than sums by index: a GPU repeats them
        means = (diagonals / diagonals.sum(dim=0)).T @ rows_columns @ (diagonals / diagonals.sum(dim=0))
        spread = diagonals @ means @ diagonals.T
    shared = spread.view(heads, grid, grid, grid, grid).transpose(2, 3).reshape(patches.shape)
    if patches.shape == bias_hNN.shape:
        return shared
    below = torch.cat([bias_hNN[:, 1:, :1], shared], dim=2)
    return torch.cat([bias_hNN[:, :1], below], dim=1)


@cache
def _diagonals(grid: int, device: torch.device) -> Tensor:
    """[g g, 2 g - 1]: 1 where a pair of places on a line of ``grid`` has this offset."""
    places = torch.arange(grid, device=device)
    offsets = (places[None] - places[:, None]).flatten() + grid - 1
    return F.one_hot(offsets, 2 * grid - 1).float()


class Attention(nn.Module):
    """Multi-head self-attention; with ``fused`` by torch's kernel, which never stores the weights.

    ``attn_form`` "merged" has a single head that compares and passes on the tokens themselves: the product of the
    query and key matrices is one matrix, q, and so is the product of value and projection, proj.
    """

    def __init__(self, config: ModelConfig, num_tokens: int) -> None:
        super().__init__()
        dim, self.num_heads, self.head_dim = config.embed_dim, config.num_heads, config.width_per_head
        self.merged, self.fused = config.attn_form == "merged", False
        if self.merged:
            self.head_dim = dim
            self.q = nn.Linear(dim, dim, bias=config.linear_bias)
        else:
            self.qkv = nn.Linear(dim, 3 * self.num_heads * self.head_dim, bias=config.linear_bias)
        self.proj = nn.Linear(self.num_heads * self.head_dim, dim, bias=config.linear_bias)
        self.bias = nn.Parameter(torch.zeros(self.num_heads, num_tokens, num_tokens)) if config.attn_bias else None
        self.shares, self.grid = config.attn_bias_shared, config.grid
        self.dropout = nn.Dropout(config.attn_dropout)

    @property
    def table(self) -> Tensor | None:
        """What is added to the scores, [h, N, N]. Only while training must `shared_by_offset` say what is shared."""
        if self.bias is None or not (self.shares and self.training):
            return self.bias
        return shared_by_offset(self.bias, self.grid)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        q, k, v = self.heads(x_BND)
        if self.fused:
            rate = self.dropout.p if self.training else 0.0
            table = self.table
            mask = None if table is None else table.to(q.dtype)
            return self.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate))
        return self.merge(self.dropout(attention_weights(q, k, self.table)) @ v)

    def forward_with_weights(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, and the attention weights [B, h, N, N] before dropout."""
        q, k, v = self.heads(x_BND)
        weights_BhNN = attention_weights(q, k, self.table)
        return self.merge(self.dropout(weights_BhNN) @ v), weights_BhNN

    def heads(self, x_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [B, h, N, d]."""
        if self.merged:
            q_BND = self.q(x_BND)
            x_BND = x_BND.to(q_BND.dtype)
            return q_BND.unsqueeze(1), x_BND.unsqueeze(1), x_BND.unsqueeze(1)
        batch, tokens, _ = x_BND.shape
        qkv = self.qkv(x_BND).view(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def merge(self, y_BhNd: Tensor) -> Tensor:
        """Heads side by side, then the output projection."""
        out: Tensor = self.proj(y_BhNd.transpose(1, 2).flatten(2))
        return out


def relu2(x: Tensor) -> Tensor:
    """ReLU squared (So et al. 2021, "Primer")."""
    return F.relu(x).square()


class Mlp(nn.Module):
    """Dense, activation, dense; the Keras example has GELU and dropout after the second one too (``mlp_last_gelu``)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_hidden, bias=config.linear_bias)
        self.fc2 = nn.Linear(config.mlp_hidden, config.embed_dim, bias=config.linear_bias)
        self.dropout = nn.Dropout(config.dropout)
        self.act = relu2 if config.act == "relu2" else F.gelu
        self.last_gelu = config.mlp_last_gelu

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        y = self.fc2(self.dropout(self.act(self.fc1(x_BND))))
        out: Tensor = self.dropout(F.gelu(y) if self.last_gelu else y)
        return out


class RmsNorm(nn.Module):
    """x / root mean square of x, without gain (Zhang and Sennrich 2019)."""

    def forward(self, x_BND: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return x_BND * torch.rsqrt(x_BND.square().mean(dim=-1, keepdim=True) + NORM_EPS)


def make_norm(config: ModelConfig) -> nn.Module:
    """The normalisation of tokens that ``config.norm`` names."""
    return RmsNorm() if config.norm == "rms" else nn.LayerNorm(config.embed_dim, eps=NORM_EPS)


class DropPath(nn.Module):
    """Skips a residual branch for some images while training (stochastic depth, Huang et al. 2016)."""

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
    """Two residual steps: attention exchanges information between tokens, the MLP processes each token alone."""

    def __init__(self, config: ModelConfig, num_tokens: int, drop_path: float) -> None:
        super().__init__()
        self.attn = None
        if config.attn_form != "none":
            self.norm1 = make_norm(config)
            self.attn = Attention(config, num_tokens)
        self.norm2 = make_norm(config)
        self.mlp = Mlp(config)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x = x_BND if self.attn is None else x_BND + self.drop_path(self.attn(self.norm1(x_BND)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def forward_with_weights(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, and the attention weights [B, h, N, N] (h 0 without attention)."""
        if self.attn is None:
            batch, tokens, _ = x_BND.shape
            return self.forward(x_BND), x_BND.new_zeros(batch, 0, tokens, tokens)
        y, weights_BhNN = self.attn.forward_with_weights(self.norm1(x_BND))
        x = x_BND + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x))), weights_BhNN
