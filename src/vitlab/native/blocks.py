"""The kernel as a function of tensors, with its gradients.

Letters in names: B images, N tokens, D embed_dim, H hidden units, h heads, d width of a head.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitlab.native.build import Library, ShapeStruct, address, check_tensors

# The weights of one block, in the kernel's order, with their shapes; E is 3 h d (merged: D) and V is h d (merged: D).
BLOCK_WEIGHTS = (
    *("norm1_gain_D", "norm1_offset_D", "mix_ED", "mix_bias_E", "proj_DV", "proj_bias_D", "attn_bias_hNN"),
    *("norm2_gain_D", "norm2_offset_D", "fc1_HD", "fc1_bias_H", "fc2_DH", "fc2_bias_D"),
)
ATTENTION_CODES = {"none": 0, "qkv": 1, "merged": 2}


@dataclass(frozen=True)
class BlockShape:
    """What all blocks of a stack have in common. merged: heads 1 and head_dim D; none: heads and head_dim count for
    nothing, but must be at least 1. The rates of dropout are applied in every call: 0 when not training."""

    dim: int
    depth: int
    heads: int
    head_dim: int
    hidden: int
    attention: Literal["none", "qkv", "merged"]
    rms: bool
    relu2: bool
    last_gelu: bool = False
    dropout: float = 0.0
    attn_dropout: float = 0.0


def native_blocks(
    x_BND: Tensor,
    weights: Sequence[Tensor | None],
    shape: BlockShape,
    library: Library,
    threads: int = 1,
    seed: int = 0,
) -> Tensor:
    """All blocks of the stack applied to x: [B, N, D] -> [B, N, D], in ``library.dtype``.

    ``weights`` are those of the first block in the order of BLOCK_WEIGHTS, None where it has none, then those of the
    next block. They must be contiguous, on the CPU, of ``library.dtype``; else ValueError. A norm has both gain and
    offset or neither. The result is the same, bit for bit, for the same number of threads. What dropout drops is a
    function of ``seed`` (0 to 2^32 - 1) and of the place: image, block, row, column.
    """
    if len(weights) != shape.depth * len(BLOCK_WEIGHTS):
        raise ValueError(f"{shape.depth} blocks have {shape.depth * len(BLOCK_WEIGHTS)} weights, not {len(weights)}")
    x_BND = x_BND.to(library.dtype).contiguous()
    check_tensors(library, x_BND, *weights)
    if x_BND.numel() == 0:
        return x_BND
    struct = struct_of(x_BND, shape, threads, seed)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x_BND, *weights)):
        out: Tensor = BlocksFunction.apply(x_BND, struct, library, *weights)  # type: ignore[no-untyped-call]
        return out
    return run_forward(x_BND, weights, struct, library, None)


class BlocksFunction(torch.autograd.Function):
    """The stack of blocks with its backward pass."""

    @staticmethod
    def forward(ctx: Any, x_BND: Tensor, struct: ShapeStruct, library: Library, *weights: Any) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        kept = torch.empty(library.saved_bytes(struct), dtype=torch.uint8)
        y_BND = run_forward(x_BND, weights, struct, library, kept)
        ctx.save_for_backward(*weights)
        ctx.kept, ctx.struct, ctx.library = kept, struct, library
        return y_BND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dys: Tensor) -> tuple[Any, ...]:
        """Gradients of x and of all weights."""
        dy_BND, library, weights = dys[0].contiguous(), ctx.library, ctx.saved_tensors
        dx_BND = torch.empty_like(dy_BND)
        grads = [None if weight is None else torch.empty_like(weight) for weight in weights]
        library.backward(
            ctypes.byref(ctx.struct),
            pointers(weights),
            *map(address, (dy_BND, ctx.kept, dx_BND)),
            pointers(grads),
            address(library.workspace(library.workspace_bytes(ctx.struct))),
        )
        return dx_BND, None, None, *grads


def run_forward(
    x_BND: Tensor, weights: Sequence[Tensor | None], struct: ShapeStruct, library: Library, kept: Tensor | None
) -> Tensor:
    """y from x; what the backward pass needs goes to ``kept``."""
    y_BND = torch.empty_like(x_BND)
    library.forward(
        ctypes.byref(struct),
        pointers(weights),
        *map(address, (x_BND, y_BND, kept, library.workspace(library.workspace_bytes(struct)))),
    )
    return y_BND


def struct_of(x_BND: Tensor, shape: BlockShape, threads: int, seed: int) -> ShapeStruct:
    """The kernel's description of a call."""
    batch, tokens, dim = x_BND.shape
    if dim != shape.dim:
        raise ValueError(f"tokens of {dim} numbers for blocks of {shape.dim}")
    return ShapeStruct(
        *(batch, tokens, dim, shape.depth, shape.heads, shape.head_dim, shape.hidden),
        *(ATTENTION_CODES[shape.attention], shape.rms, shape.relu2, shape.last_gelu, min(threads, batch)),
        *(seed, shape.dropout, shape.attn_dropout),
    )


def pointers(tensors: Sequence[Tensor | None]) -> Any:
    """Their addresses as a C array, NULL for None."""
    return (ctypes.c_void_p * len(tensors))(*[None if t is None else t.data_ptr() for t in tensors])
