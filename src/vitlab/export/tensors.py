"""The weights of our ViT in the form that other libraries give a Vision Transformer, and what such weights compute.

timm and transformers agree on the form and differ in names: a convolution cuts and projects the patches, every layer
has its biases, positions and class token have a batch axis. `shared_form` writes it under timm's names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.model import ViT
from vitlab.model.block import NORM_EPS, Attention, Block, Mlp, relu2

Tensors = dict[str, Tensor]

# How RGB becomes grey (ITU-R BT.601), in Pillow as in `vitlab.data.images.to_grey`.
LUMA = (0.299, 0.587, 0.114)
# timm's names to those of the files on the Hugging Face hub, which every version of transformers reads.
HUB_NAMES = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
    "head": "classifier",
}
HUB_BLOCK_NAMES = {
    "norm1": ("layernorm_before",),
    "attn.qkv": tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
    "attn.proj": ("attention.output.dense",),
    "norm2": ("layernorm_after",),
    "mlp.fc1": ("intermediate.dense",),
    "mlp.fc2": ("output.dense",),
}


def shared_form(model: ViT) -> Tensors:
    """All weights under timm's names, for RGB images; ``model`` must have attention, and patches without overlap.

    A network for grey images gets three input channels: its kernel times the share of red, green and blue in grey, so
    that it computes the same from a grey image in RGB, and from a coloured one what it computes from its grey. For
    where a bias or position is missing in ours, there are zeros.
    """
    dim = model.config.embed_dim
    zeros = torch.zeros(1, model.num_tokens, dim)
    made = {
        "patch_embed.proj.weight": kernel(model.patch_embed.weight, model.config.patch_size),
        "patch_embed.proj.bias": model.patch_embed.bias,
        "pos_embed": zeros if model.config.pos_embed == "none" else model.pos_embed.reshape(1, -1, dim),
    }
    if model.cls_token is not None:
        made["cls_token"] = model.cls_token.reshape(1, 1, dim)
    for number, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        made |= {f"blocks.{number}.{name}": tensor for name, tensor in block_form(block, dim).items()}
    made |= norm_form("norm", model.norm, dim) | dense_form("head", model.head[-1])
    return {name: tensor.detach().float().contiguous() for name, tensor in made.items()}


def kernel(weight_DP: Tensor, patch_size: int) -> Tensor:
    """The patch projection as a convolution over RGB: [D, P] -> [D, 3, p, p]. Our patches are row, column, channel."""
    weight_DCpp = weight_DP.reshape(len(weight_DP), patch_size, patch_size, -1).permute(0, 3, 1, 2)
    return weight_DCpp * weight_DP.new_tensor(LUMA).view(1, 3, 1, 1) if weight_DCpp.shape[1] == 1 else weight_DCpp


def block_form(block: Block, dim: int) -> Tensors:
    """The weights of a block. Merged attention compares and passes on the tokens themselves: as qkv, its keys and
    values have the identity as matrix."""
    attn, mlp = block.attn, block.mlp
    assert isinstance(attn, Attention)
    assert isinstance(mlp, Mlp)
    if attn.merged:
        query, same, zeros = dense_form("q", attn.q), torch.eye(dim), torch.zeros(2 * dim)
        qkv = {
            "attn.qkv.weight": torch.cat([query["q.weight"], same, same]),
            "attn.qkv.bias": torch.cat([query["q.bias"], zeros]),
        }
    else:
        qkv = dense_form("attn.qkv", attn.qkv)
    dense = {"attn.proj": attn.proj, "mlp.fc1": mlp.fc1, "mlp.fc2": mlp.fc2}
    made = qkv | norm_form("norm1", block.norm1, dim) | norm_form("norm2", block.norm2, dim)
    for name, layer in dense.items():
        made |= dense_form(name, layer)
    return made


def dense_form(name: str, layer: nn.Module) -> Tensors:
    """Matrix and bias of a dense layer."""
    assert isinstance(layer, nn.Linear)
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return {f"{name}.weight": layer.weight, f"{name}.bias": bias}


def norm_form(name: str, norm: nn.Module, dim: int) -> Tensors:
    """Gain and offset of a layer norm; of our RMS norm, which has neither, a gain of 1."""
    if isinstance(norm, nn.LayerNorm):
        return {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    return {f"{name}.weight": torch.ones(dim)}


# --- transformers' names


def hub_names(name: str) -> tuple[str, ...]:
    """What transformers calls a tensor with timm's ``name``: one name, or three, as it keeps q, k and v separately."""
    stem, _, leaf = name.rpartition(".")
    inside = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if inside is not None:
        return tuple(f"vit.encoder.layer.{inside[1]}.{part}.{leaf}" for part in HUB_BLOCK_NAMES[inside[2]])
    return (HUB_NAMES[name] if name in HUB_NAMES else f"{HUB_NAMES[stem]}.{leaf}",)


def to_hub(shared: Tensors) -> Tensors:
    """The same weights under transformers' names."""
    made: Tensors = {}
    for name, tensor in shared.items():
        names = hub_names(name)
        made |= zip(names, (part.contiguous() for part in tensor.chunk(len(names))), strict=True)
    return made


def from_hub(tensors: Mapping[str, Tensor], names: Iterable[str]) -> Tensors:
    """The inverse of `to_hub`; ``names`` are timm's."""
    return {name: torch.cat([tensors[part] for part in hub_names(name)]) for name in names}


# --- what they compute


def compute(tensors: Mapping[str, Tensor], inputs_BCHW: Tensor, heads: int, act: str) -> Tensor:
    """Logits [B, K] from weights as `shared_form` names them, with torch's functions only: with a class token from
    that token, without one from the mean of all tokens."""
    patch = tensors["patch_embed.proj.weight"]
    x = F.conv2d(inputs_BCHW, patch, tensors["patch_embed.proj.bias"], stride=patch.shape[-1]).flatten(2).mT
    if "cls_token" in tensors:
        x = torch.cat([tensors["cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + tensors["pos_embed"]

    def dense(name: str, x: Tensor) -> Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        gain, offset = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
        if offset is None:
            return F.rms_norm(x, gain.shape, gain, NORM_EPS)
        return F.layer_norm(x, gain.shape, gain, offset, NORM_EPS)

    for block in sorted({name.split(".")[1] for name in tensors if name.startswith("blocks.")}, key=int):
        at = f"blocks.{block}."
        q, k, v = dense(f"{at}attn.qkv", norm(f"{at}norm1", x)).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + dense(f"{at}attn.proj", F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        hidden = dense(f"{at}mlp.fc1", norm(f"{at}norm2", x))
        x = x + dense(f"{at}mlp.fc2", relu2(hidden) if act == "relu2" else F.gelu(hidden))
    x = norm("norm", x)
    return dense("head", x[:, 0] if "cls_token" in tensors else x.mean(dim=1))
