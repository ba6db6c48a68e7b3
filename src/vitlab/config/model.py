"""The knobs of the network, and the arithmetic that decides whether they fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vitlab.config.knobs import check_limits, knob
from vitlab.errors import ConfigError


@dataclass(frozen=True)
class ModelConfig:
    """The network. The names follow timm and the ViT paper (Dosovitskiy et al. 2021)."""

    arch: Literal["vit", "cnn"] = knob("vit", "The network: a Vision Transformer, or the small CNN of keras.io.")
    image_size: int = knob(
        28,
        "Side of the square input in pixels; images of another size are resized, which allows more patch sizes.",
        at_least=1,
        at_most=4096,
    )
    crop: int | None = knob(
        None,
        "Side in pixels of the centre square that is cut into patches, after augmentation; none: everything. Patches "
        "with overlap look beyond it. MNIST's outer pixels are almost always empty.",
        at_least=1,
        at_most=4096,
    )
    patch_size: int = knob(
        7,
        "Side of a patch in pixels. Smaller patches catch finer detail but give more tokens, and time grows "
        "with their number. What does not fill a patch at the right and bottom edge is cut off.",
        at_least=1,
        at_most=4096,
    )
    patch_overlap: int = knob(
        0,
        "Pixels by which a patch also looks into its neighbours on each side; the grid stays the same.",
        at_least=0,
        at_most=4096,
    )
    embed_dim: int = knob(
        48,
        "Length of the vector that stands for a patch: longer holds more complex features, for more time and memory.",
        at_least=1,
        at_most=65_536,
    )
    depth: int = knob(
        4,
        "Number of transformer blocks; each lets the patches exchange information once more.",
        at_least=1,
        at_most=1000,
    )
    num_heads: int = knob(
        4, "Number of attention heads: so many different ways to look at the other patches.", at_least=1, at_most=1024
    )
    head_dim: int | None = knob(
        None,
        "Width of one attention head; none means embed_dim / num_heads (Keras' key_dim is this width).",
        at_least=1,
        at_most=65_536,
    )
    attn_form: Literal["qkv", "merged", "none"] = knob(
        "qkv",
        "How attention is written: queries, keys, values and a projection; merged, where one matrix compares tokens "
        "and one carries what they say (with one head the same functions from half the numbers); or no attention.",
    )
    attn_bias: bool = knob(
        False, "Add a learned number for each pair of places to the attention scores, per head: who looks at whom."
    )
    norm: Literal["layer", "rms"] = knob(
        "layer", "Normalisation of tokens: layer norm, or root mean square only, without gain (cheaper)."
    )
    act: Literal["gelu", "relu2"] = knob("gelu", "Activation of the block's hidden layer: GELU, or ReLU squared.")
    linear_bias: bool = knob(True, "Give the block's dense layers a bias.")
    mlp_ratio: float = knob(
        2.0, "Width of the block's hidden layer as a multiple of embed_dim.", above=0.0, at_most=1000.0
    )
    mlp_last_gelu: bool = knob(
        False, "Apply GELU and dropout after the block's second dense layer too, as the Keras example does."
    )
    pool: Literal["cls", "mean", "flatten"] = knob(
        "mean",
        "How the tokens become one vector: an extra class token, their mean, or all of them side by side "
        "(which makes the head large).",
    )
    head_hidden: tuple[int, ...] = knob(
        (),
        "Widths of dense layers with GELU between the pooled vector and the answer; none is usual.",
        at_least=1,
        at_most=1_000_000,
    )
    pos_embed: Literal["learned", "sincos", "none"] = knob(
        "learned",
        "How a token knows its place: a learned vector, fixed waves of sine and cosine, or not at all.",
    )
    dropout: float = knob(
        0.0,
        "Probability of switching off a unit in the block's dense layers while training.",
        at_least=0.0,
        below=1.0,
    )
    attn_dropout: float = knob(
        0.0, "Probability of ignoring an attention weight while training.", at_least=0.0, below=1.0
    )
    head_dropout: float = knob(
        0.0, "Probability of switching off a unit in the head while training.", at_least=0.0, below=1.0
    )
    drop_path: float = knob(
        0.0,
        "Probability of skipping the last block for an image while training; earlier blocks are skipped less.",
        at_least=0.0,
        below=1.0,
    )
    init: Literal["vit", "zero", "keras"] = knob(
        "vit",
        "How weights start: as in the ViT papers; the same, but each residual branch's last layer at zero, so that "
        "blocks start as the identity; or with Keras' Glorot limits (for the seed's networks).",
    )
    cnn_channels: tuple[int, ...] = knob(
        (32, 64), "Channels of the CNN's convolutions, one number a layer.", at_least=1, at_most=100_000
    )

    def __post_init__(self) -> None:
        check_limits(self)
        if self.crop is not None and self.crop > self.image_size:
            raise ConfigError(f"crop {self.crop} is larger than image_size {self.image_size}; lower it, or use none")
        for check in CHECKS[self.arch]:
            check(self)

    def _check_layers(self) -> None:
        if not self.cnn_channels:
            raise ConfigError("cnn_channels is empty; the CNN needs at least one layer, for example 32 64")
        if cnn_side(self.input_side, len(self.cnn_channels)) < 1:
            raise ConfigError(
                f"{self._whole} is too small for {len(self.cnn_channels)} convolutions of 3 x 3, each "
                f"followed by 2 x 2 pooling; use fewer cnn_channels or a larger image_size"
            )

    def _check_patches(self) -> None:
        if self.patch_size > self.inner_side:
            side = next((p for p in (7, 4, 2) if 2 * p <= self.inner_side), 1)
            grid = self.inner_side // side
            raise ConfigError(
                f"patch_size {self.patch_size} is larger than {self._whole}; "
                f"{side} gives a {grid} x {grid} grid of {grid * grid} patches"
            )
        if self.patch_overlap > self.patch_size:
            raise ConfigError(
                f"patch_overlap {self.patch_overlap} is larger than patch_size {self.patch_size}; "
                f"a patch may look at most into its direct neighbours"
            )

    def _check_heads(self) -> None:
        if self.attn_form == "merged" and self.num_heads != 1:
            raise ConfigError(f"attn_form merged has one head, not {self.num_heads}; use --num-heads 1, or qkv")
        if self.head_dim is None and self.embed_dim % self.num_heads:
            divisors = [n for n in range(1, self.embed_dim + 1) if self.embed_dim % n == 0]
            near = sorted(divisors, key=lambda n: abs(n - self.num_heads))[:3]
            raise ConfigError(
                f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}; "
                f"use {', '.join(map(str, sorted(near)))} heads, or set head_dim"
            )

    def _check_widths(self) -> None:
        if round(self.embed_dim * self.mlp_ratio) < 1:
            raise ConfigError(f"mlp_ratio {self.mlp_ratio} leaves no hidden unit at embed_dim {self.embed_dim}")
        if self.pos_embed == "sincos" and self.embed_dim % 4:
            raise ConfigError(
                f"pos_embed sincos needs an embed_dim that 4 divides (sine and cosine of row and column), "
                f"not {self.embed_dim}"
            )

    @property
    def _whole(self) -> str:
        """The knob that says how large the cut square is, for messages."""
        return f"image_size {self.image_size}" if self.crop is None else f"crop {self.crop}"

    @property
    def inner_side(self) -> int:
        """Side in pixels of the square that is cut into patches."""
        return self.image_size if self.crop is None else self.crop

    @property
    def margin(self) -> int:
        """Pixels around that square that overlapping patches see: all that they could, or what the image has."""
        if self.crop is None or ModelConfig._check_patches not in CHECKS[self.arch]:
            return 0
        return min(self.patch_overlap, (self.image_size - self.crop) // 2)

    @property
    def input_side(self) -> int:
        """Side in pixels of what the network is given."""
        return self.inner_side + 2 * self.margin

    @property
    def grid(self) -> int:
        """Patches per side; the integer division is what cuts edges."""
        return self.inner_side // self.patch_size

    @property
    def width_per_head(self) -> int:
        """Width d of one attention head."""
        return self.head_dim or self.embed_dim // self.num_heads

    @property
    def mlp_hidden(self) -> int:
        """Width of the block's hidden layer."""
        return round(self.embed_dim * self.mlp_ratio)


# What must hold for each network; the knobs of the others mean nothing to it.
CHECKS: dict[str, tuple[Callable[[ModelConfig], None], ...]] = {
    "vit": (ModelConfig._check_patches, ModelConfig._check_heads, ModelConfig._check_widths),
    "cnn": (ModelConfig._check_layers,),
}


def cnn_side(image_size: int, layers: int) -> int:
    """Side of the CNN's last feature map: 3 x 3 convolution without padding, then 2 x 2 pooling, each layer."""
    for _ in range(layers):
        image_size = (image_size - 2) // 2
    return image_size
