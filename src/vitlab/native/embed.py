"""From images to tokens by embed.c.

Letters in names: B images, N tokens, P numbers of a patch, D embed_dim.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitlab.native.build import Library, address, check_tensors

LANES = 16  # of which the kernels' widths are multiples


class PatchesStruct(ctypes.Structure):
    """``vitlab_patches`` of embed.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("batch", "channels", "side", "grid", "patch", "overlap", "margin")),
        *((name, ctypes.c_int) for name in ("dim", "threads")),
    ]


def native_embed(
    images_BCHW: Tensor,
    weight_DP: Tensor,
    bias_D: Tensor,
    places_ND: Tensor | None,
    cut: tuple[int, int, int],
    library: Library,
    threads: int,
) -> Tensor:
    """``F.linear(patchify(images, *cut), weight, bias) + places``, [B, N, D]; ``cut`` is patch size, overlap, margin.

    Images are square, D is a multiple of LANES, all are of ``library.dtype`` on the CPU; else ValueError. There is no
    gradient of the images.
    """
    patch, overlap, margin = cut
    images_BCHW = images_BCHW.contiguous()
    check_tensors(library, images_BCHW, weight_DP, bias_D, places_ND)
    batch, channels, side, width = images_BCHW.shape
    grid, dim = (side - 2 * margin) // patch, len(weight_DP)
    if side != width or dim % LANES or not 0 <= margin <= overlap:
        raise ValueError(
            f"the kernel embeds square images, with a margin in the overlap, in multiples of {LANES} numbers"
        )
    shapes = {"weight": (dim, (patch + 2 * overlap) ** 2 * channels), "bias": (dim,), "places": (grid**2, dim)}
    for (name, shape), tensor in zip(shapes.items(), (weight_DP, bias_D, places_ND), strict=True):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"the kernel needs a {name} of shape {shape}, not {tuple(tensor.shape)}")
    struct = PatchesStruct(batch, channels, side, grid, patch, overlap, margin, dim, max(1, min(threads, batch)))
    out: Tensor = EmbedFunction.apply(images_BCHW, weight_DP, bias_D, places_ND, struct, library)  # type: ignore[no-untyped-call]
    return out


class EmbedFunction(torch.autograd.Function):
    """The patch embedding with its backward pass."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, places: Tensor | None, shape: Any, library: Library
    ) -> Tensor:
        """[B, C, S, S] -> [B, N, D]."""
        x_BND = images.new_empty(len(images), shape.grid**2, shape.dim)
        workspace = library.workspace(library.embed_bytes(ctypes.byref(shape)))
        tensors = (images, weight, bias, places, x_BND, workspace)
        library.embed(ctypes.byref(shape), *map(address, tensors))
        ctx.save_for_backward(images, weight, bias, places)
        ctx.shape, ctx.library = shape, library
        return x_BND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weight, the bias and the places."""
        images, weight, bias, places = ctx.saved_tensors
        grads = [torch.empty_like(weight), torch.empty_like(bias)]
        d_places = None if places is None else torch.empty_like(places)
        workspace = ctx.library.workspace(ctx.library.embed_bytes(ctypes.byref(ctx.shape)))
        tensors = (images, dys[0].contiguous(), *grads, d_places, workspace)
        ctx.library.embed_gradients(ctypes.byref(ctx.shape), *map(address, tensors))
        return None, *grads, d_places, None, None
