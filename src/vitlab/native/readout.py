"""From tokens to logits by readout.c.

Letters in names: B images, N tokens, D embed_dim, K classes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitlab.native.build import Library, address, check_tensors
from vitlab.native.embed import LANES

MOST_CLASSES = 1024


class ReadoutStruct(ctypes.Structure):
    """``vitlab_readout_shape`` of readout.c."""

    _fields_ = [(name, ctypes.c_int) for name in ("batch", "tokens", "dim", "classes", "rms", "threads")]


def native_readout(
    x_BND: Tensor,
    gain_D: Tensor | None,
    offset_D: Tensor | None,
    weight_KW: Tensor,
    bias_K: Tensor,
    rms: bool,
    library: Library,
    threads: int,
) -> Tensor:
    """``F.linear(norm(x).flatten(1), weight, bias)``, [B, K]; W is N D. The norm is layer norm, or ``rms``.

    Gain and offset are both there or both None. D is a multiple of LANES, K at most MOST_CLASSES, all are of
    ``library.dtype`` on the CPU; else ValueError.
    """
    x_BND = x_BND.contiguous()
    check_tensors(library, x_BND, gain_D, offset_D, weight_KW, bias_K)
    batch, tokens, dim = x_BND.shape
    classes = len(weight_KW)
    if dim % LANES or classes > MOST_CLASSES or (gain_D is None) != (offset_D is None):
        raise ValueError(f"the kernel reads multiples of {LANES} numbers into at most {MOST_CLASSES} classes")
    norm = () if gain_D is None or offset_D is None else (gain_D.shape, offset_D.shape)
    if weight_KW.shape[1] != tokens * dim or bias_K.shape != (classes,) or any(shape != (dim,) for shape in norm):
        raise ValueError(f"the kernel needs weights for {tokens} tokens of {dim} numbers and {classes} classes")
    shape = ReadoutStruct(batch, tokens, dim, classes, rms, max(1, min(threads, batch)))
    out: Tensor = ReadoutFunction.apply(x_BND, gain_D, offset_D, weight_KW, bias_K, shape, library)  # type: ignore[no-untyped-call]
    return out


class ReadoutFunction(torch.autograd.Function):
    """The last norm and the dense layer with their backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor | None, offset: Tensor | None, weight: Tensor, bias: Tensor, shape: Any,
        library: Library,
    ) -> Tensor:  # fmt: skip
        """[B, N, D] -> [B, K]."""
        logits_BK = x.new_empty(shape.batch, shape.classes)
        workspace = library.workspace(library.readout_bytes(ctypes.byref(shape)))
        tensors = (x, gain, offset, weight, bias, logits_BK, workspace)
        library.readout(ctypes.byref(shape), *map(address, tensors))
        ctx.save_for_backward(x, gain, offset, weight, bias)
        ctx.shape, ctx.library = shape, library
        return logits_BK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of all weights."""
        x, gain, offset, weight, _ = ctx.saved_tensors
        dx, d_gain, d_offset, d_weight, d_bias = (
            None if tensor is None else torch.empty_like(tensor) for tensor in ctx.saved_tensors
        )
        workspace = ctx.library.workspace(ctx.library.readout_bytes(ctypes.byref(ctx.shape)))
        tensors = (x, gain, offset, weight, dys[0].contiguous(), dx, d_gain, d_offset, d_weight, d_bias, workspace)
        ctx.library.readout_gradients(ctypes.byref(ctx.shape), *map(address, tensors))
        return dx, d_gain, d_offset, d_weight, d_bias, None, None
