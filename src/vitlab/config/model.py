"""The knobs of the network, and the checks that they fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vitlab.config.knobs import check_limits, count, fraction, knob
from vitlab.errors import ConfigError
from vitlab.text import listed


@dataclass(frozen=True)
class ModelConfig:
    """The network. Names follow timm and the ViT paper (Dosovitskiy et al. 2021)."""

    arch: Literal["vit", "cnn", "mixer", "resnet"] = knob(
        "vit",
        "Kind of network: a Vision Transformer, the small CNN of keras.io, an MLP-Mixer, or a small residual CNN for "
        "colour images.",
    )
    image_size: int = count(
        28,
        "Side of the square input in pixels. Images of another size are resized to it, which allows other patch sizes. "
        "auto, before a run begins: 28, 32 or 64, whichever fits the images, with patches to match.",
        4096,
    )
    crop: int | None = count(
        None,
        "Cut only the centre square with this side, in pixels, into patches (after augmentation); none uses the whole "
        "image. Overlapping patches still see beyond the square. MNIST's outer pixels are almost always empty.",
        4096,
    )
    patch_size: int = count(
        7,
        "Side of a patch in pixels. Smaller patches show finer detail but make more tokens, and more tokens take more "
        "time. Pixels at the right and bottom edge that do not fill a patch are cut off.",
        4096,
        essential=True,
    )
    patch_overlap: int = knob(
        0,
        "Pixels by which a patch extends into its neighbours on each side. The number of patches stays the same.",
        at_least=0,
        at_most=4096,
    )
    embed_dim: int = count(
        48,
        "Width: length of the vector for each patch. Longer vectors hold more complex features, but cost more.",
        65_536,
        essential=True,
    )
    depth: int = count(
        4,
        "Number of transformer blocks. Each one lets the patches exchange information once more.",
        1000,
        essential=True,
    )
    num_heads: int = count(
        4, "Number of attention heads; each learns its own way to look at other patches.", 1024, essential=True
    )
    head_dim: int | None = count(
        None, "Width of one attention head; none means embed_dim / num_heads. Keras calls it key_dim.", 65_536
    )
    attn_form: Literal["qkv", "merged", "none"] = knob(
        "qkv",
        "Form of attention. qkv: the usual queries, keys, values and projection. merged: one head, with one matrix to "
        "compare tokens and one to mix them (the same functions with half the parameters). none: no attention.",
    )
    attn_bias: bool = knob(
        False, "Add a learned number to the attention score of each pair of positions, separately for each head."
    )
    attn_bias_shared: bool = knob(
        False,
        "Use the same number for all pairs of positions that lie at the same distance in the same direction (needs "
        "attn_bias), so that what is learned in one corner holds everywhere.",
        inert=False,
    )
    locality: float = knob(
        0.0,
        "How strongly each head looks at a neighbouring patch when training starts (needs attn_bias): head 1 of 4 to "
        "the right, head 2 below, and so on. 0: at all patches equally.",
        at_least=0.0,
        at_most=100.0,
        inert=0.0,
    )
    norm: Literal["layer", "rms"] = knob(
        "layer",
        "Normalisation of tokens: layer norm, or RMS norm (divides by the root mean square), which is cheaper.",
    )
    act: Literal["gelu", "relu2"] = knob("gelu", "Activation of the block's hidden layer: GELU, or squared ReLU.")
    linear_bias: bool = knob(True, "Give the dense layers of a block a bias.")
    mlp_ratio: float = knob(
        2.0, "Width of a block's hidden layer, as a multiple of embed_dim.", above=0.0, at_most=1000.0
    )
    mlp_last_gelu: bool = knob(
        False, "Also apply GELU and dropout after a block's second dense layer, as the Keras example does."
    )
    pool: Literal["cls", "mean", "flatten"] = knob(
        "mean",
        "How the tokens become the one vector that is classified: cls adds a class token and takes that, mean averages "
        "all tokens, flatten puts them side by side (which makes the head large).",
    )
    head_hidden: tuple[int, ...] = knob(
        (),
        "Widths of extra dense layers with GELU between the pooled vector and the logits; usually there are none.",
        at_least=1,
        at_most=1_000_000,
    )
    pos_embed: Literal["learned", "sincos", "none"] = knob(
        "learned",
        "How a token knows its position: from a learned vector, from fixed sine and cosine waves, or not at all.",
    )
    dropout: float = fraction(0.0, "Probability of switching off each unit of a block's dense layers during training.")
    attn_dropout: float = fraction(0.0, "Probability of ignoring each attention weight during training.")
    head_dropout: float = fraction(0.0, "Probability of switching off each unit of the head during training.")
    drop_path: float = fraction(
        0.0,
        "Probability of skipping the last block for an image during training. Earlier blocks are skipped less often.",
    )
    init: Literal["vit", "zero", "mimetic", "keras"] = knob(
        "vit",
        "How weights are initialised. vit: as in the ViT papers. zero: the same, but the last layer of each residual "
        "branch starts at zero, so that blocks start as the identity. mimetic: as zero for MLPs, while attention "
        "starts as it ends in trained networks: each token looks at tokens like itself. keras: with Keras' Glorot "
        "limits, which the seed presets need.",
    )
    patch_init: Literal["random", "white"] = knob(
        "random",
        "How the patch embedding starts. random: as init says. white: from the training images, so that the numbers of "
        "a token are uncorrelated and equally large; faint details of a patch are then learned as fast as its colour.",
        inert="random",
    )
    cnn_channels: tuple[int, ...] = knob(
        (32, 64),
        "Channels of a CNN: one number per convolution; for resnet, of the first convolution and then per stage.",
        at_least=1,
        at_most=100_000,
    )
    token_mlp_ratio: float = knob(
        0.5,
        "Width of the MLP-Mixer's hidden layer across patches, as a multiple of embed_dim.",
        above=0.0,
        at_most=1000.0,
        inert=0.5,
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

    def _check_stages(self) -> None:
        if not self.cnn_channels:
            raise ConfigError("cnn_channels is empty; a resnet needs at least one number, for example 16 32 64 128")
        if self.input_side >> (len(self.cnn_channels) - 1) < 1:
            raise ConfigError(
                f"{self._whole} is too small for {len(self.cnn_channels) - 1} stages, each of which halves its side; "
                f"use fewer cnn_channels or a larger image_size"
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
                f"lower it, as a patch can overlap only its direct neighbours"
            )

    def _check_heads(self) -> None:
        if self.attn_form == "merged" and self.num_heads != 1:
            raise ConfigError(f"attn_form merged has one head, not {self.num_heads}; use --num-heads 1, or qkv")
        if self.head_dim is None and self.embed_dim % self.num_heads:
            divisors = [n for n in range(1, self.embed_dim + 1) if self.embed_dim % n == 0]
            near = sorted(divisors, key=lambda n: abs(n - self.num_heads))[:3]
            raise ConfigError(
                f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}; "
                f"use {listed(list(map(str, sorted(near))), 'or')} heads, or set head_dim"
            )

    def _check_widths(self) -> None:
        if round(self.embed_dim * self.mlp_ratio) < 1:
            raise ConfigError(f"mlp_ratio {self.mlp_ratio} is too small for embed_dim {self.embed_dim}; raise it")

    def _check_places(self) -> None:
        if self.pos_embed == "sincos" and self.embed_dim % 4:
            raise ConfigError(
                f"pos_embed sincos needs an embed_dim divisible by 4 (sine and cosine of row and column), "
                f"not {self.embed_dim}"
            )

    def _check_mixing(self) -> None:
        if self.pool == "cls":
            raise ConfigError("pool cls needs a class token, which an MLP-Mixer does not have; use mean or flatten")
        if self.token_hidden < 1:
            raise ConfigError(
                f"token_mlp_ratio {self.token_mlp_ratio} is too small for embed_dim {self.embed_dim}; raise it"
            )

    @property
    def _whole(self) -> str:
        """Name and value of the knob that sets the side of the square cut into patches, for error messages."""
        return f"image_size {self.image_size}" if self.crop is None else f"crop {self.crop}"

    @property
    def inner_side(self) -> int:
        """Side in pixels of the square cut into patches."""
        return self.image_size if self.crop is None else self.crop

    @property
    def margin(self) -> int:
        """Pixels around that square that overlapping patches see: patch_overlap, or fewer where the image ends."""
        if self.crop is None or ModelConfig._check_patches not in CHECKS[self.arch]:
            return 0
        return min(self.patch_overlap, (self.image_size - self.crop) // 2)

    @property
    def input_side(self) -> int:
        """Side in pixels of the network's input."""
        return self.inner_side + 2 * self.margin

    @property
    def grid(self) -> int:
        """Patches per side; the integer division drops pixels that do not fill a patch."""
        return self.inner_side // self.patch_size

    @property
    def width_per_head(self) -> int:
        """Width d of one attention head."""
        return self.head_dim or self.embed_dim // self.num_heads

    @property
    def mlp_hidden(self) -> int:
        """Width of a block's hidden layer."""
        return round(self.embed_dim * self.mlp_ratio)

    @property
    def token_hidden(self) -> int:
        """Width of an MLP-Mixer's hidden layer across patches."""
        return round(self.embed_dim * self.token_mlp_ratio)


# What must hold for each network; the knobs of the others mean nothing to it.
CHECKS: dict[str, tuple[Callable[[ModelConfig], None], ...]] = {
    "vit": (ModelConfig._check_patches, ModelConfig._check_heads, ModelConfig._check_widths, ModelConfig._check_places),
    "cnn": (ModelConfig._check_layers,),
    "mixer": (ModelConfig._check_patches, ModelConfig._check_widths, ModelConfig._check_mixing),
    "resnet": (ModelConfig._check_stages,),
}


def cnn_side(image_size: int, layers: int) -> int:
    """Side of the CNN's last feature map; each layer is a 3 x 3 convolution without padding and 2 x 2 pooling."""
    for _ in range(layers):
        image_size = (image_size - 2) // 2
    return image_size
