"""Prediction: the whole network in one call of a C kernel, from weights that were packed once (csrc/predict.c); where
the kernel cannot compute it, the network as it is.

Letters in names: B images, C channels, S side, D embed_dim, F features, K classes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import fields
from functools import cache, partial
from typing import cast

import torch
from torch import Tensor, nn

from vitlab.errors import VitlabError
from vitlab.files import user_cache
from vitlab.machine import Machine
from vitlab.model import Network, ViT
from vitlab.model.block import Block
from vitlab.native import ops
from vitlab.native.accelerate import (
    FASTER_THAN_TORCH,
    UNRELATED,
    Known,
    NativeViT,
    anything,
    block_shape,
    gain_and_offset,
    weights_of,
)
from vitlab.native.build import Library, load
from vitlab.native.ops import ATTENTION_CODES, PatchesStruct, ShapeStruct, check_tensors
from vitlab.openmp import bound_processors

LARGE_HEAD = 2**17  # numbers; more do not stay in a core's cache, and torch takes all images through them at once
POOL_CODES = {"cls": 0, "mean": 1, "flatten": 2}


# What the kernel knows; nothing is dropped when a network predicts.
NETWORK: dict[str, Known] = {
    **dict.fromkeys(("image_size", "crop", "patch_size", "patch_overlap", "pos_embed", "pool"), anything),
    **dict.fromkeys(("embed_dim", "depth", "num_heads", "head_dim", "attn_form", "attn_bias", "norm", "act"), anything),
    **dict.fromkeys(("attn_bias_shared", "linear_bias", "mlp_ratio", "mlp_last_gelu"), anything),
    **dict.fromkeys(("dropout", "attn_dropout", "head_dropout", "drop_path"), anything),
    "head_hidden": anything,  # torch computes a head of several layers
}


class NetworkStruct(ctypes.Structure):
    """``vitlab_network`` of predict.c."""

    _fields_ = [
        *(("blocks", ShapeStruct), ("patches", PatchesStruct)),
        *((name, ctypes.c_int) for name in ("pool", "classes")),
    ]


def network_struct(model: ViT) -> NetworkStruct:
    """The shape of the network, as predict.c reads it."""
    config, shape = model.config, block_shape(model.config, training=False)
    blocks = ShapeStruct(
        *(1, model.num_tokens, shape.dim, shape.depth, shape.heads, shape.head_dim, shape.hidden),
        *(ATTENTION_CODES[shape.attention], shape.rms, shape.relu2, shape.last_gelu, 1),
    )
    window = config.patch_size + 2 * config.patch_overlap
    channels = model.patch_embed.in_features // window**2
    patches = PatchesStruct(
        *(1, channels, config.input_side, config.grid, config.patch_size, config.patch_overlap, config.margin),
        *(shape.dim, 1),
    )
    dense = small_head(model)
    return NetworkStruct(blocks, patches, POOL_CODES[config.pool], dense.out_features if dense else 0)


def small_head(model: ViT) -> nn.Linear | None:
    """The only dense layer of the head, if the kernel computes it."""
    dense = cast(nn.Linear, model.head[-1])
    return None if model.config.head_hidden or dense.weight.numel() > LARGE_HEAD else dense


def weights_for(model: ViT) -> list[Tensor | None]:
    """All weights of a network in the order of predict.c, None for those that it lacks."""
    places = None if model.config.pos_embed == "none" else model.pos_embed
    ends = [model.patch_embed.weight, model.patch_embed.bias, places, model.cls_token, *gain_and_offset(model.norm)]
    dense = small_head(model)
    head = [dense.weight, dense.bias] if dense else [None, None]
    return [*ends, *head, *(weight for block in model.blocks for weight in weights_of(cast(Block, block)))]


class Packed:
    """A ViT's weights as they are now, packed for prediction; several threads may use it at the same time."""

    def __init__(self, model: ViT, library: Library) -> None:
        self.library, network = library, network_struct(model)
        self.size = torch.Size((network.patches.channels, network.patches.side, network.patches.side))
        self.width = model.config.embed_dim * (model.num_tokens if model.config.pool == "flatten" else 1)
        self.classes, self.head = network.classes, None if network.classes else model.head
        weights = [None if weight is None else weight.detach().contiguous() for weight in weights_for(model)]
        check_tensors(library.dtype, *weights)
        c, shape = library.c, ctypes.byref(network)
        packed, workspace = (
            torch.empty(size, dtype=torch.uint8) for size in (c.vitlab_packed_bytes(shape), c.vitlab_pack_bytes(shape))
        )
        c.vitlab_pack(shape, ops.argument(weights), ops.argument(packed), ops.argument(workspace))
        self.packed, self.given, self.bytes = packed, (shape, ops.argument(packed)), dict[tuple[int, int], int]()

    def __call__(self, images_BCSS: Tensor, threads: int) -> Tensor:
        """Logits [B, K] of preprocessed images, on up to ``threads`` threads; ValueError for those that do not fit."""
        if self.head is not None:
            return self.with_features(images_BCSS, threads)[0]
        return self._compute(images_BCSS, None, threads)

    def with_features(self, images_BCSS: Tensor, threads: int) -> tuple[Tensor, Tensor]:
        """The same, and the features [B, F]."""
        features_BF = torch.empty(len(images_BCSS), self.width, dtype=self.library.dtype)
        logits_BK = self._compute(images_BCSS, features_BF, threads)
        if self.head is not None:
            with torch.no_grad():
                logits_BK = self.head(features_BF)
        return logits_BK, features_BF

    def _compute(self, images_BCSS: Tensor, features_BF: Tensor | None, threads: int) -> Tensor:
        """The logits of a head that is computed here, else nothing; ``features_BF`` receives the features."""
        library, images_BCSS = self.library, images_BCSS.contiguous()
        check_tensors(library.dtype, images_BCSS)
        if images_BCSS.shape[1:] != self.size:
            raise ValueError(f"the network needs images of {' x '.join(map(str, self.size))}")
        batch, (network, packed) = len(images_BCSS), self.given
        logits_BK = torch.empty(batch, self.classes, dtype=library.dtype)
        if not batch:
            return logits_BK
        threads = max(1, min(threads, batch))
        if (size := self.bytes.get((batch, threads))) is None:
            size = self.bytes[batch, threads] = library.c.vitlab_predict_bytes(network, batch, threads)
        tensors = (images_BCSS, features_BF, logits_BK, library.workspace(size))
        library.c.vitlab_predict(network, packed, batch, threads, *map(ops.argument, tensors))
        return logits_BK


# --- Who predicts by the kernel


def is_known(model: nn.Module) -> bool:
    """Whether the kernel can compute a network."""
    if not isinstance(model, ViT):
        return False
    values = {field.name: getattr(model.config, field.name) for field in fields(model.config)}
    return all(name in UNRELATED or (name in NETWORK and NETWORK[name](value)) for name, value in values.items())


def forward_of(model: nn.Module, machine: Machine) -> Callable[[Tensor], Tensor]:
    """``model``, with the weights that it has now, as a function from preprocessed images to logits for as long as
    they do not change: packed where kernels compute it in fp32, else ``model`` itself."""
    if machine.precision != "fp32" or not isinstance(model, NativeViT) or not is_known(model):
        return model
    return partial(Packed(model, model.kernels.library), threads=model.kernels.threads)


class Predictor:
    """A plain network in evaluation mode on the CPU, for classifiers: in fp32, with as many threads as torch has where
    it is called.

    Computed by the kernel where that was measured to be faster than torch, if it has been compiled and ``by_kernel``
    allows it, else by torch. Weights that were changed in place are packed again.
    """

    def __init__(self, model: Network, by_kernel: bool = True) -> None:
        self.model = model
        self.library = library_for_predictions(compiles=False) if by_kernel and is_known(model) else None
        self.weights = [] if self.library is None else [w for w in weights_for(cast(ViT, model)) if w is not None]
        self.packed: tuple[list[tuple[int, int]], Packed] | None = None

    def __call__(self, images_BCSS: Tensor) -> Tensor:
        """Preprocessed images -> logits [B, K] in float32."""
        if self.library is None:
            logits_BK: Tensor = self.model(images_BCSS).float()
            return logits_BK
        return self._packed(self.library)(images_BCSS, torch.get_num_threads())

    def with_features(self, images_BCSS: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and what ``features`` of the network gives, [B, F]."""
        if self.library is None:
            features_BF = self.model.features(images_BCSS)
            return self.model.head(features_BF).float(), features_BF
        return self._packed(self.library).with_features(images_BCSS, torch.get_num_threads())

    def _packed(self, library: Library) -> Packed:
        state = [(one.data_ptr(), 0 if one.is_inference() else one._version) for one in self.weights]
        if self.packed is None or self.packed[0] != state:  # several threads may do this, each the same
            self.packed = state, Packed(cast(ViT, self.model), library)
        return self.packed[1]


@cache
def library_for_predictions(compiles: bool) -> Library | None:
    """Kernels for networks that predict in fp32, where they were measured to be faster than torch; None elsewhere, and
    where they have not been compiled, unless this ``compiles`` them."""
    try:
        found = load("float", user_cache() / "native", compiles)
    except VitlabError:  # torch computes the same
        return None
    if found.instructions not in FASTER_THAN_TORCH:
        return None
    found.use_processors(bound_processors())
    return found
