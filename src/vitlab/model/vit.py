"""The Vision Transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"), pre-norm.

Letters in names: B images, N tokens, P numbers of a patch, D embed_dim, h heads, K classes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.model.block import Block, affine, make_norm
from vitlab.model.dropout import Dropout
from vitlab.model.initialize import initialize
from vitlab.model.kernels import PLAIN, Kernels
from vitlab.model.patches import patch_length, patchify
from vitlab.native import LANES, MOST_CLASSES, BlockShape, native_blocks, native_embed, native_readout


class ViT(nn.Module):
    """Patches -> tokens -> blocks -> one vector -> class scores."""

    def __init__(self, config: ModelConfig, in_channels: int, num_classes: int, kernels: Kernels = PLAIN) -> None:
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
        self.kernels = kernels
        self.blocks = nn.ModuleList(Block(config, self.num_tokens, rate, kernels.sdpa) for rate in rates)
        self.norm = make_norm(config)
        pooled = dim * (self.num_tokens if config.pool == "flatten" else 1)
        self.head = make_head(pooled, config.head_hidden, num_classes, Dropout(config.head_dropout, kernels))
        initialize(self, config)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, C, side, side], preprocessed -> logits [B, K]."""
        x_BND = self.through_blocks(self.tokens(images_BCHW))
        library, dense = self.kernels.native, cast(nn.Linear, self.head[-1])
        if library is None or not self.reads_natively(dense.out_features):
            logits_BK: Tensor = self.head(self.pool(self.norm(x_BND)))
            return logits_BK
        weights = *affine(self.norm), dense.weight, dense.bias
        return native_readout(
            x_BND.to(library.dtype), *weights, self.config.norm == "rms", library, self.kernels.threads
        )

    def reads_natively(self, num_classes: int) -> bool:
        """Whether the kernel knows what comes after the blocks: all tokens side by side into one dense layer."""
        config, drops = self.config, self.training and self.config.head_dropout > 0
        fits = config.embed_dim % LANES == 0 and num_classes <= MOST_CLASSES
        return fits and config.pool == "flatten" and not config.head_hidden and not drops

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The pooled vector of each image: [B, D], or [B, N D] with pool "flatten"."""
        return self.pool(self.norm(self.through_blocks(self.tokens(images_BCHW))))

    def through_blocks(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D], all blocks."""
        if self.kernels.native is not None and self.kernels.blocks:
            weights = [weight for block in self.blocks for weight in cast(Block, block).kernel_weights()]
            shape = kernel_shape(self.config, self.training)
            seed = int(torch.randint(2**32, ())) if shape.dropout or shape.attn_dropout else 0
            return native_blocks(x_BND, weights, shape, self.kernels.native, self.kernels.threads, seed)
        for block in self.blocks:
            x_BND = block(x_BND)
        return x_BND

    def forward_with_attention(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K] and the attention weights of all blocks and heads, [depth, B, h, N, N]."""
        x, weights = self.tokens(images_BCHW), []
        for block in self.blocks:
            x, weights_BhNN = cast(Block, block).forward_with_weights(x)
            weights.append(weights_BhNN)
        return self.head(self.pool(self.norm(x))), torch.stack(weights)

    def tokens(self, images_BCHW: Tensor) -> Tensor:
        """Projected patches with their positions, [B, N, D]; the class token, if any, comes first."""
        config = self.config
        cut = config.patch_size, config.patch_overlap, config.margin
        library, fits = self.kernels.native, config.pool != "cls" and config.embed_dim % LANES == 0
        if library is not None and fits and not images_BCHW.requires_grad:
            weights = self.patch_embed.weight, self.patch_embed.bias
            places = None if config.pos_embed == "none" else self.pos_embed
            return native_embed(images_BCHW.to(library.dtype), *weights, places, cut, library, self.kernels.threads)
        x: Tensor = self.patch_embed(patchify(images_BCHW, *cut))
        if self.cls_token is not None:
            # By shape, not by len, which would write the batch size of the example into an export.
            x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        if config.pos_embed == "none":
            return x
        return x.to(self.pos_embed.dtype) + self.pos_embed  # first cast: torch adds mixed types ten times slower

    def pool(self, x_BND: Tensor) -> Tensor:
        """One vector an image: the class token, the mean, or all tokens side by side."""
        match self.config.pool:
            case "cls":
                return x_BND[:, 0]
            case "mean":
                return x_BND.mean(dim=1)
            case _:
                return x_BND.flatten(1)


def kernel_shape(config: ModelConfig, training: bool) -> BlockShape:
    """The blocks of ``config`` as the native kernel is told of them; ``training`` decides on dropout."""
    return BlockShape(
        dim=config.embed_dim,
        depth=config.depth,
        heads=config.num_heads,
        head_dim=config.embed_dim if config.attn_form == "merged" else config.width_per_head,
        hidden=config.mlp_hidden,
        attention=config.attn_form,
        rms=config.norm == "rms",
        relu2=config.act == "relu2",
        last_gelu=config.mlp_last_gelu,
        dropout=config.dropout if training else 0.0,
        attn_dropout=config.attn_dropout if training else 0.0,
    )


def make_head(width: int, hidden: tuple[int, ...], num_classes: int, dropout: Dropout) -> nn.Sequential:
    """Dropout, then dense-GELU-dropout for each hidden width, then the class scores."""
    layers: list[nn.Module] = [dropout]
    for units in hidden:
        layers += [nn.Linear(width, units), nn.GELU(), dropout]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def sincos_positions(grid: int, dim: int) -> Tensor:
    """Fixed two-dimensional positions [grid^2, dim]: half for the row, half for the column (Beyer et al. 2022)."""
    frequencies = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angles = torch.arange(grid)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves.repeat_interleave(grid, dim=0), waves.repeat(grid, 1)
    return torch.cat([rows, columns], dim=1)
