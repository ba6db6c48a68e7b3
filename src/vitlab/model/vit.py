"""The Vision Transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"), pre-norm.

This file and block.py are the definition; vitlab.native computes the same on a CPU in fewer passes over memory.
Letters in names: B images, N tokens, P numbers of a patch, D embed_dim, h heads, K classes.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.errors import ConfigError
from vitlab.model.block import Attention, Block, make_norm
from vitlab.model.description import Description, Squares, head_multiply_adds
from vitlab.model.patches import check_preprocessed, check_sizes, patch_length, patchify
from vitlab.text import counted

# Noise and identity in the products of queries and keys, and of values and projection; the paper's values.
MIMETIC_QK = (0.7, 0.7)
MIMETIC_VO = (0.4, -0.4)


class ViT(nn.Module):
    """The Vision Transformer (Dosovitskiy et al. 2021): patches -> tokens -> blocks -> one vector -> class scores.

    >>> import torch
    >>> model = vitlab.build_model(vitlab.preset_config("small").model, in_channels=1, num_classes=10)
    >>> logits, weights = model.eval().forward_with_attention(torch.zeros(5, 1, 28, 28))
    >>> list(logits.shape), list(weights.shape)  # [B, K]; [depth, B, heads, tokens, tokens], rows sum to 1
    ([5, 10], [2, 5, 2, 49, 49])
    """

    def __init__(self, config: ModelConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        check_bias(config)
        self.config = config
        dim, num_patches = config.embed_dim, config.grid**2
        self.num_tokens = num_patches + (config.pool == "cls")
        self.patch_embed = nn.Linear(patch_length(config.patch_size, config.patch_overlap, in_channels), dim)
        self.cls_token = nn.Parameter(torch.zeros(dim)) if config.pool == "cls" else None
        if config.pos_embed == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(self.num_tokens, dim))
        elif config.pos_embed == "sincos":
            if has_only_shapes():
                positions = torch.empty(self.num_tokens, dim)
            else:
                nothing = torch.zeros(self.num_tokens - num_patches, dim)  # the class token has no place
                positions = torch.cat([nothing, sincos_positions(config.grid, dim)])
            self.register_buffer("pos_embed", positions, persistent=False)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, self.num_tokens, rate) for rate in rates)
        self.norm = make_norm(config)
        pooled = dim * (self.num_tokens if config.pool == "flatten" else 1)
        self.head = make_head(pooled, config, num_classes)
        initialize(self, config)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, C, side, side], preprocessed -> logits [B, K]."""
        logits_BK: Tensor = self.head(self.features(images_BCHW))
        return logits_BK

    def features(self, images_BCHW: Tensor) -> Tensor:
        """The pooled vector of each image: [B, D], or [B, N D] with pool "flatten"."""
        return self.pool(self.norm(self.through_blocks(self.tokens(images_BCHW))))

    def over_places(self, features_BF: Tensor) -> Tensor:
        """What `features` gives, as [B, places, numbers of a place]; with pool "cls" or "mean" there is one place."""
        return features_BF.reshape(len(features_BF), -1, self.config.embed_dim)

    def through_blocks(self, x_BND: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D], all blocks."""
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
        check_preprocessed(images_BCHW)
        check_sizes(images_BCHW, config, self.patch_embed.in_features)
        x: Tensor = self.patch_embed(patchify(images_BCHW, *cut))
        if self.cls_token is not None:
            # By shape, not by len, which would write the batch size of the example into an export.
            x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        if config.pos_embed == "none":
            return x
        return x.to(self.pos_embed.dtype) + self.pos_embed  # first cast: torch adds mixed types ten times slower

    def pool(self, x_BND: Tensor) -> Tensor:
        """One vector an image, as `pool_tokens`."""
        return pool_tokens(x_BND, self.config.pool)

    def fuse_attention(self, fused: bool) -> None:
        """Compute attention by torch's fused kernel, or as plain matrix products."""
        for block in self.blocks:
            if block.attn is not None:
                cast(Attention, block.attn).fused = fused

    def describe(self) -> Description:
        """What the rest of the program needs to know about it."""
        config, grid = self.config, self.config.grid
        attention = "no attention" if config.attn_form == "none" else counted(config.num_heads, "head")
        missing = {
            "attention": "this network has no attention (attn_form none)" if config.attn_form == "none" else "",
            "positions": "this network has no position embeddings (pos_embed none)"
            if config.pos_embed == "none"
            else "there is only one patch" * (grid == 1),
        }
        return Description(
            name="ViT",
            kind="Vision Transformer",
            line=f"{patches_phrase(config)}, {counted(config.depth, 'block')}, width {config.embed_dim}, {attention}",
            squares=Squares(grid, config.patch_size, config.margin),
            flops_per_image=2 * self.multiply_adds(),
            matrices=block_matrices(self.blocks),
            missing={view: why for view, why in missing.items() if why},
        )

    def multiply_adds(self) -> int:
        """Of one forward pass on one image: patch embedding, blocks and head."""
        config, tokens = self.config, self.num_tokens
        dim, merged = config.embed_dim, config.attn_form == "merged"
        embedding = config.grid**2 * self.patch_embed.in_features * dim
        inner = dim if merged else config.num_heads * config.width_per_head
        # Projections of each token, and two products of all pairs: scores, and weights times values.
        attention = tokens * dim * inner * (2 if merged else 4) + 2 * tokens**2 * inner
        mlp = 2 * tokens * dim * config.mlp_hidden
        block = mlp + (attention if config.attn_form != "none" else 0)
        return embedding + config.depth * block + head_multiply_adds(self.head)


def check_bias(config: ModelConfig) -> None:
    """ConfigError for knobs that shape an attention bias which is off."""
    if config.attn_form == "none" or config.attn_bias:
        return
    for name, value in (("locality", config.locality), ("attn_bias_shared", config.attn_bias_shared)):
        if value:
            raise ConfigError(f"{name} shapes attn_bias, which is off; add --attn-bias, or turn {name} off")


def block_matrices(blocks: nn.Module) -> dict[str, int]:
    """The matrices inside a stack of blocks, by their names in the whole network: three lie stacked in a qkv weight."""
    return {
        f"blocks.{name}": 3 if name.endswith("qkv.weight") else 1
        for name, parameter in blocks.named_parameters()
        if parameter.ndim == 2
    }


def patches_phrase(config: ModelConfig) -> str:
    """How many patches of which size, and what they leave out."""
    lost = config.inner_side - config.grid * config.patch_size
    edge = f", {counted(lost, 'pixel')} cut off at the right and bottom" if lost else ""
    return f"{config.grid} x {config.grid} patches of {counted(config.patch_size, 'pixel')}{edge}"


def pool_tokens(x_BND: Tensor, how: str) -> Tensor:
    """One vector an image: the class token, the mean, or all tokens side by side."""
    match how:
        case "cls":
            return x_BND[:, 0]
        case "mean":
            return x_BND.mean(dim=1)
        case _:
            return x_BND.flatten(1)


def make_head(width: int, config: ModelConfig, num_classes: int) -> nn.Sequential:
    """Dropout, then dense-GELU-dropout for each hidden width, then the class scores."""
    dropout = nn.Dropout(config.head_dropout)
    layers: list[nn.Module] = [dropout]
    for units in config.head_hidden:
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


def has_only_shapes() -> bool:
    """Whether tensors are now made on torch's meta device, for an outline. torch computes much there in Python, whose
    import takes a second or two."""
    return torch.empty(0).is_meta


# --- How weights start; draws from torch's global generator, which the caller seeds


def initialize(model: ViT, config: ModelConfig) -> None:
    """Fill all parameters of a ViT as ``config.init`` says; biases start at 0, norms at the identity."""
    if has_only_shapes():
        return
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for number, block in enumerate(model.blocks):
        if block.attn is not None:
            _initialize_attention(block.attn, config)  # type: ignore[arg-type]
            if config.locality:
                _initialize_bias(cast(Attention, block.attn), config, number)
        if config.init in ("zero", "mimetic"):
            nn.init.zeros_(block.mlp.fc2.weight)  # type: ignore[union-attr, arg-type]
    _initialize_positions(model, config)
    if config.init != "keras":
        nn.init.zeros_(model.head[-1].weight)  # type: ignore[arg-type]  # the ViT paper's code starts undecided


def _initialize_attention(attn: Attention, config: ModelConfig) -> None:
    """q, k and v are three matrices that happen to lie in one: each has its own fans."""
    if config.init == "mimetic":
        _initialize_mimetic(attn)
        return
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


@torch.no_grad()
def _initialize_mimetic(attn: Attention) -> None:
    """Queries times keys near the identity, values times projection near minus the identity, as they are in trained
    networks (Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers", section 3)."""
    heads, width, dim = attn.num_heads, attn.head_dim, attn.proj.out_features
    if attn.merged:
        attn.q.weight.copy_(near_identity(dim, *MIMETIC_QK))
        attn.proj.weight.copy_(near_identity(dim, *MIMETIC_VO))
        return
    queries, keys, values = attn.qkv.weight.view(3, heads, width, dim).unbind(0)
    for query, key in zip(queries, keys, strict=True):  # each head gets the largest parts of another random matrix
        left, right = halves(near_identity(dim, *MIMETIC_QK), width)
        query.copy_(left.T)
        key.copy_(right)
    left, right = halves(near_identity(dim, *MIMETIC_VO), heads * width)
    values.copy_(right.view(heads, width, dim))
    attn.proj.weight.copy_(left)


@torch.no_grad()
def _initialize_bias(attn: Attention, config: ModelConfig, block: int) -> None:
    """Let each head start by looking at a neighbour: bias = -locality x (squared distance from it, in patches).

    Attention that starts like this is a convolution (Cordonnier et al. 2020, "On the Relationship between
    Self-Attention and Convolutional Layers", eq. 9; d'Ascoli et al. 2021, "ConViT", eq. 7). The neighbours of the heads
    lie on a circle of one patch around the token; a single head looks at the token itself. In every second block the
    circle is turned by half the angle between two heads, so that four heads see all eight neighbours in turn.
    """
    assert attn.bias is not None, "`check_bias` refuses locality without it"
    heads, grid, bias_hNN = config.num_heads, config.grid, attn.bias
    angles_h = (torch.arange(heads) + 0.5 * (block % 2)) * (2 * math.pi / heads)
    radius = 0.0 if heads == 1 else 1.0
    steps = torch.arange(grid)
    places_N2 = torch.cartesian_prod(steps, steps).float()  # row and column
    offsets_NN2 = places_N2[None] - places_N2[:, None]  # from the token that looks to the one that is looked at
    neighbours_h2 = radius * torch.stack([angles_h.sin(), angles_h.cos()], dim=1)
    distances_hNN = (offsets_NN2 - neighbours_h2[:, None, None]).square().sum(dim=-1)
    bias_hNN[:, -(grid**2) :, -(grid**2) :] = -config.locality * distances_hNN  # a class token comes first


def near_identity(dim: int, noise: float, identity: float) -> Tensor:
    """noise x Z + identity x I, [dim, dim], with Z of variance 1 / dim."""
    return torch.randn(dim, dim).mul(noise * dim**-0.5).add(torch.eye(dim), alpha=identity)


def halves(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """[dim, rank] and [rank, dim], whose product is the closest to ``matrix`` of this rank; padded with zeros where
    ``rank`` is larger than dim."""
    left, values, right = torch.linalg.svd(matrix)
    left, right = left * values.sqrt(), values.sqrt()[:, None] * right
    missing = max(0, rank - len(values))
    return F.pad(left[:, :rank], (0, missing)), F.pad(right[:rank], (0, 0, 0, missing))


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
