"""MLP-Mixer (Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision"): patches exchange information
through dense layers across places instead of attention.

Letters in names: B images, N tokens, D embed_dim, K classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.model.block import Mlp, make_norm, relu2
from vitlab.model.description import Description, Squares, head_multiply_adds
from vitlab.model.patches import check_preprocessed, check_sizes, patch_length, patchify
from vitlab.model.vit import block_matrices, make_head, patches_phrase, pool_tokens
from vitlab.text import counted


class TokenMixing(nn.Module):
    """Dense, activation, dense along the tokens, the same for every channel: token i receives from all tokens."""

    def __init__(self, config: ModelConfig, num_tokens: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(num_tokens, config.token_hidden)
        self.fc2 = nn.Linear(config.token_hidden, num_tokens)
        self.dropout = nn.Dropout(config.dropout)
        self.act = relu2 if config.act == "relu2" else F.gelu

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        y_BDN = self.fc2(self.dropout(self.act(self.fc1(x_BND.transpose(1, 2)))))
        out: Tensor = self.dropout(y_BDN).transpose(1, 2)
        return out


class MixerBlock(nn.Module):
    """Two residual steps (figure 1 of the paper): token mixing, then the MLP of each token alone (channel mixing)."""

    def __init__(self, config: ModelConfig, num_tokens: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = make_norm(config), make_norm(config)
        self.tokens, self.mlp = TokenMixing(config, num_tokens), Mlp(config)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x = x_BND + self.tokens(self.norm1(x_BND))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Mixer(nn.Module):
    """Patches -> tokens -> mixer blocks -> one vector -> class scores. There are no position embeddings: the dense
    layers along the tokens have their own weights for each place."""

    def __init__(self, config: ModelConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config, self.num_tokens = config, config.grid**2
        dim = config.embed_dim
        self.patch_embed = nn.Linear(patch_length(config.patch_size, config.patch_overlap, in_channels), dim)
        self.blocks = nn.ModuleList(MixerBlock(config, self.num_tokens) for _ in range(config.depth))
        self.norm = make_norm(config)
        self.head = make_head(dim * (self.num_tokens if config.pool == "flatten" else 1), config, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks if config.init in ("zero", "mimetic") else ():
            nn.init.zeros_(block.tokens.fc2.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(block.mlp.fc2.weight)  # type: ignore[union-attr, arg-type]
        if config.init != "keras":
            nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]  # as in the paper's code

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, C, side, side], preprocessed -> logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(images_BCHW))
        return logits_BK

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The pooled vector of each image: [B, D], or [B, N D] with pool "flatten"."""
        x_BND = self.tokens(images_BCHW)
        for block in self.blocks:
            x_BND = block(x_BND)
        return self.pool(self.norm(x_BND))

    def over_places(self, features_BF: Tensor) -> Tensor:
        """What `features` gives, as [B, places, numbers of a place]; with pool "mean" there is one place."""
        return features_BF.reshape(len(features_BF), -1, self.config.embed_dim)

    def tokens(self, images_BCHW: Tensor) -> Tensor:
        """Projected patches, [B, N, D]."""
        config = self.config
        check_preprocessed(images_BCHW)
        check_sizes(images_BCHW, config, self.patch_embed.in_features)
        x_BND: Tensor = self.patch_embed(patchify(images_BCHW, config.patch_size, config.patch_overlap, config.margin))
        return x_BND

    def pool(self, x_BND: Tensor) -> Tensor:
        """One vector an image: the mean of the tokens, or all of them side by side."""
        return pool_tokens(x_BND, self.config.pool)

    def describe(self) -> Description:
        """What the rest of the program needs to know about it."""
        config, tokens, dim = self.config, self.num_tokens, self.config.embed_dim
        mixing = 2 * dim * tokens * config.token_hidden
        block = mixing + 2 * tokens * dim * config.mlp_hidden
        embedding = tokens * self.patch_embed.in_features * dim
        return Description(
            name="Mixer",
            kind="MLP-Mixer",
            line=f"{patches_phrase(config)}, {counted(config.depth, 'block')}, width {dim}",
            squares=Squares(config.grid, config.patch_size, config.margin),
            flops_per_image=2 * (embedding + config.depth * block + head_multiply_adds(self.head)),
            matrices=block_matrices(self.blocks),
            missing={
                "attention": "an MLP-Mixer has no attention",
                "positions": "an MLP-Mixer has no position embeddings",
            },
        )
