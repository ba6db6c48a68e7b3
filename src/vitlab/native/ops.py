"""The C kernels as functions of tensors, with their gradients; each names the file of csrc/ that computes it.

All of them take `Kernels`, the compiled library with its number of threads, and raise ValueError for tensors that the
C code cannot read: a wrong type or device, or memory that is not contiguous. The same number of threads gives the same
bits. Letters in names: B images, N tokens, P numbers in a patch, D embed_dim, h heads, d width of a head, K classes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitlab.native.build import Library

LANES = 16  # embedding and readout need widths that are multiples of this
MOST_CLASSES = 1024
MOST_SIDE = 128  # pixels, of the images that `affine` takes
BEND_POINTS = 5  # points per side of the coarse grid that bends an image
AFFINE_DRAWS = 7
DROPOUT_CHUNK = 32  # the kernel writes this many numbers at a time


@dataclass(frozen=True)
class Kernels:
    """A compiled library, and how many threads its kernels use."""

    library: Library
    threads: int = 1


def argument(value: Tensor | Sequence[Tensor | None] | None) -> Any:
    """What a kernel gets for a tensor: its address, NULL for None; for several tensors, a C array of addresses."""
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    return (ctypes.c_void_p * len(value))(*map(argument, value))


def call(
    library: Library, name: str, size: str, shape: ctypes.Structure, *tensors: Tensor | Sequence[Tensor | None] | None
) -> None:
    """Call the kernel ``name`` with ``shape``, ``tensors`` and as much workspace as the function ``size`` returns."""
    workspace = library.workspace(getattr(library.c, f"vitlab_{size}_bytes")(ctypes.byref(shape)))
    getattr(library.c, f"vitlab_{name}")(ctypes.byref(shape), *map(argument, (*tensors, workspace)))


def check_tensors(dtype: torch.dtype, *tensors: Tensor | None) -> None:
    """ValueError unless every tensor has this type, is on the CPU, and is contiguous."""
    for tensor in tensors:
        if tensor is not None and not (
            tensor.dtype is dtype and tensor.is_contiguous() and tensor.device.type == "cpu"
        ):
            raise ValueError(f"the kernel needs contiguous {dtype} on the CPU")


# --- The stack of blocks: blocks.c


class ShapeStruct(ctypes.Structure):
    """``vitlab_shape`` of plan.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("batch", "tokens", "dim", "depth", "heads", "head_dim", "hidden")),
        *((name, ctypes.c_int) for name in ("attention", "rms", "relu2", "last_gelu", "threads")),
        *(("seed", ctypes.c_uint), ("dropout", ctypes.c_double), ("attn_dropout", ctypes.c_double)),
    ]


# The weights of one block, in the kernel's order, with their shapes; E is 3 h d (merged: D) and V is h d (merged: D).
BLOCK_WEIGHTS = (
    *("norm1_gain_D", "norm1_offset_D", "mix_ED", "mix_bias_E", "proj_DV", "proj_bias_D", "attn_bias_hNN"),
    *("norm2_gain_D", "norm2_offset_D", "fc1_HD", "fc1_bias_H", "fc2_DH", "fc2_bias_D"),
)
ATTENTION_CODES = {"none": 0, "qkv": 1, "merged": 2}


@dataclass(frozen=True)
class BlockShape:
    """What all blocks of a stack share. merged: heads 1 and head_dim D; none: heads and head_dim are ignored, but must
    be at least 1. Dropout applies to every call: pass rates of 0 when not training."""

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


def blocks(
    x_BND: Tensor, weights: Sequence[Tensor | None], shape: BlockShape, kernels: Kernels, seed: int = 0
) -> Tensor:
    """All blocks of the stack applied to x: [B, N, D] -> [B, N, D], in the library's dtype.

    ``weights`` are those of the first block in the order of BLOCK_WEIGHTS, None for those that it lacks, then those of
    the next block. A norm has both gain and offset or neither. What dropout drops is a function of ``seed``
    (0 to 2^32 - 1) and of the position: image, block, row, column.
    """
    library = kernels.library
    if len(weights) != shape.depth * len(BLOCK_WEIGHTS):
        raise ValueError(f"{shape.depth} blocks have {shape.depth * len(BLOCK_WEIGHTS)} weights, not {len(weights)}")
    x_BND = x_BND.to(library.dtype).contiguous()
    check_tensors(library.dtype, x_BND, *weights)
    if x_BND.numel() == 0:
        return x_BND
    batch, tokens, dim = x_BND.shape
    if dim != shape.dim:
        raise ValueError(f"the blocks need tokens of {shape.dim} numbers, not {dim}")
    struct = ShapeStruct(
        *(batch, tokens, dim, shape.depth, shape.heads, shape.head_dim, shape.hidden),
        *(ATTENTION_CODES[shape.attention], shape.rms, shape.relu2, shape.last_gelu, min(kernels.threads, batch)),
        *(seed, shape.dropout, shape.attn_dropout),
    )
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x_BND, *weights)):
        out: Tensor = BlocksFunction.apply(x_BND, struct, library, *weights)  # type: ignore[no-untyped-call]
    else:
        out = torch.empty_like(x_BND)
        call(library, "forward", "workspace", struct, weights, x_BND, out, None)
    return out


class BlocksFunction(torch.autograd.Function):
    """The stack of blocks with its backward pass."""

    @staticmethod
    def forward(ctx: Any, x_BND: Tensor, struct: ShapeStruct, library: Library, *weights: Any) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        saved = torch.empty(library.c.vitlab_saved_bytes(ctypes.byref(struct)), dtype=torch.uint8)
        y_BND = torch.empty_like(x_BND)
        call(library, "forward", "workspace", struct, weights, x_BND, y_BND, saved)
        ctx.save_for_backward(*weights)
        ctx.saved, ctx.struct, ctx.library = saved, struct, library
        return y_BND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dys: Tensor) -> tuple[Any, ...]:
        """Gradients of x and of all weights."""
        dy_BND, weights = dys[0].contiguous(), ctx.saved_tensors
        dx_BND = torch.empty_like(dy_BND)
        grads = [None if weight is None else torch.empty_like(weight) for weight in weights]
        call(ctx.library, "backward", "workspace", ctx.struct, weights, dy_BND, ctx.saved, dx_BND, grads)
        return dx_BND, None, None, *grads


# --- Patch embedding: embed.c


class PatchesStruct(ctypes.Structure):
    """``vitlab_patches`` of embed.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("batch", "channels", "side", "grid", "patch", "overlap", "margin")),
        *((name, ctypes.c_int) for name in ("dim", "threads")),
    ]


def embed(
    images_BCHW: Tensor,
    weight_DP: Tensor,
    bias_D: Tensor,
    places_ND: Tensor | None,
    cut: tuple[int, int, int],
    kernels: Kernels,
) -> Tensor:
    """``F.linear(patchify(images, *cut), weight, bias) + places``, [B, N, D]; ``cut`` is patch size, overlap, margin.

    Images are square, and D is a multiple of LANES. There is no gradient of the images.
    """
    patch, overlap, margin = cut
    images_BCHW = images_BCHW.contiguous()
    check_tensors(kernels.library.dtype, images_BCHW, weight_DP, bias_D, places_ND)
    batch, channels, side, width = images_BCHW.shape
    grid, dim = (side - 2 * margin) // patch, len(weight_DP)
    if side != width or dim % LANES or not 0 <= margin <= overlap:
        raise ValueError(
            f"the kernel needs square images, a margin within the overlap, and a multiple of {LANES} numbers"
        )
    shapes = {"weight": (dim, (patch + 2 * overlap) ** 2 * channels), "bias": (dim,), "places": (grid**2, dim)}
    for (name, shape), tensor in zip(shapes.items(), (weight_DP, bias_D, places_ND), strict=True):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"the kernel needs a {name} of shape {shape}, not {tuple(tensor.shape)}")
    threads = max(1, min(kernels.threads, batch))
    struct = PatchesStruct(batch, channels, side, grid, patch, overlap, margin, dim, threads)
    tensors = (images_BCHW, weight_DP, bias_D, places_ND)
    out: Tensor = EmbedFunction.apply(struct, kernels.library, *tensors)  # type: ignore[no-untyped-call]
    return out


class EmbedFunction(torch.autograd.Function):
    """The patch embedding with its backward pass."""

    @staticmethod
    def forward(ctx: Any, shape: PatchesStruct, library: Library, images: Tensor, *weights: Any) -> Tensor:
        """[B, C, S, S] -> [B, N, D]."""
        x_BND = images.new_empty(len(images), shape.grid**2, shape.dim)
        call(library, "embed", "embed", shape, images, *weights, x_BND)
        ctx.save_for_backward(images, *weights)
        ctx.shape, ctx.library = shape, library
        return x_BND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weight, the bias and the places."""
        images, *weights = ctx.saved_tensors
        grads = [None if weight is None else torch.empty_like(weight) for weight in weights]
        call(ctx.library, "embed_gradients", "embed", ctx.shape, images, dys[0].contiguous(), *grads)
        return None, None, None, *grads


# --- Last norm and head: readout.c


class ReadoutStruct(ctypes.Structure):
    """``vitlab_readout_shape`` of readout.c."""

    _fields_ = [(name, ctypes.c_int) for name in ("batch", "tokens", "dim", "classes", "rms", "threads")]


def readout(
    x_BND: Tensor,
    gain_D: Tensor | None,
    offset_D: Tensor | None,
    weight_KW: Tensor,
    bias_K: Tensor,
    rms: bool,
    kernels: Kernels,
) -> Tensor:
    """``F.linear(norm(x).flatten(1), weight, bias)``, [B, K]; W is N D. The norm is layer norm, or ``rms``.

    Gain and offset are both given or both None. D is a multiple of LANES, K at most MOST_CLASSES.
    """
    x_BND = x_BND.contiguous()
    check_tensors(kernels.library.dtype, x_BND, gain_D, offset_D, weight_KW, bias_K)
    batch, tokens, dim = x_BND.shape
    classes = len(weight_KW)
    if dim % LANES or classes > MOST_CLASSES or (gain_D is None) != (offset_D is None):
        raise ValueError(
            f"the kernel needs tokens of a multiple of {LANES} numbers, and at most {MOST_CLASSES} classes"
        )
    norm = () if gain_D is None or offset_D is None else (gain_D.shape, offset_D.shape)
    if weight_KW.shape[1] != tokens * dim or bias_K.shape != (classes,) or any(shape != (dim,) for shape in norm):
        raise ValueError(f"the kernel needs weights for {tokens} tokens of {dim} numbers and {classes} classes")
    shape = ReadoutStruct(batch, tokens, dim, classes, rms, max(1, min(kernels.threads, batch)))
    tensors = (x_BND, gain_D, offset_D, weight_KW, bias_K)
    out: Tensor = ReadoutFunction.apply(shape, kernels.library, *tensors)  # type: ignore[no-untyped-call]
    return out


class ReadoutFunction(torch.autograd.Function):
    """The last norm and the dense layer with their backward pass."""

    @staticmethod
    def forward(ctx: Any, shape: ReadoutStruct, library: Library, x_BND: Tensor, *weights: Any) -> Tensor:
        """[B, N, D] -> [B, K]."""
        logits_BK = x_BND.new_empty(shape.batch, shape.classes)
        call(library, "readout", "readout", shape, x_BND, *weights, logits_BK)
        ctx.save_for_backward(x_BND, *weights)
        ctx.shape, ctx.library = shape, library
        return logits_BK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *dys: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of all weights."""
        inputs = ctx.saved_tensors
        grads = [None if tensor is None else torch.empty_like(tensor) for tensor in inputs]
        call(ctx.library, "readout_gradients", "readout", ctx.shape, *inputs[:-1], dys[0].contiguous(), *grads)
        return None, None, *grads


# --- Masks of dropout: dropout.c


def dropout_mask(shape: torch.Size, rate: float, dtype: torch.dtype, kernels: Kernels, seed: int) -> torch.Tensor:
    """Zeros with probability ``rate``, else 1 / (1 - rate), of ``shape`` and ``dtype``; they depend on ``seed``
    (0 to 2^32 - 1), not on the number of threads. ``rate`` is rounded to 65536ths."""
    count = math.prod(shape)
    chunks = -(-count // DROPOUT_CHUNK)
    mask = torch.empty(chunks * DROPOUT_CHUNK, dtype=torch.int16)
    kernels.library.c.vitlab_dropout_mask(
        *(ctypes.c_void_p(mask.data_ptr()), ctypes.c_ssize_t(chunks)),
        *(ctypes.c_double(rate), ctypes.c_uint(seed), ctypes.c_int(kernels.threads)),
    )
    return mask[:count].view(shape).to(dtype) / (1.0 - rate)


# --- A step of Muon: muon.c


class MatrixStruct(ctypes.Structure):
    """``vitlab_matrix`` of muon.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("rows", "columns")),
        *((name, ctypes.c_void_p) for name in ("weight", "momentum", "grad")),
        ("step", ctypes.c_float),
    ]


class MuonStruct(ctypes.Structure):
    """``vitlab_muon_settings`` of muon.c."""

    _fields_ = [
        *((name, ctypes.c_float) for name in ("memory", "shrink", "a", "b", "c")),
        *((name, ctypes.c_int) for name in ("rounds", "threads")),
    ]


@dataclass(frozen=True)
class Stack:
    """``count`` matrices of rows x columns stacked in one weight, with their momentum and gradient.

    For the kernel ``weight``, ``momentum`` and ``grad`` are contiguous float32 on the CPU.
    """

    weight: Tensor
    momentum: Tensor
    grad: Tensor
    count: int
    rows: int
    columns: int

    @property
    def stretch(self) -> float:
        """The factor by which a tall matrix's step is longer: its outputs then change as much as those of others."""
        return math.sqrt(max(1.0, self.rows / self.columns))


def muon_step(
    stacks: Sequence[Stack],
    kernels: Kernels,
    *,
    memory: float,
    lr: float,
    shrink: float,
    polynomial: tuple[float, float, float],
    rounds: int,
) -> None:
    """Change momentum and weights in place: momentum <- lerp(momentum, grad, 1 - memory); weight <- shrink weight -
    lr stretch orthogonalised(lerp(grad, momentum, memory))."""
    library, threads = kernels.library, kernels.threads
    for stack in stacks:
        check_tensors(torch.float32, stack.weight, stack.momentum, stack.grad)
    each = [
        MatrixStruct(
            s.rows, s.columns, *(t.data_ptr() + offset for t in (s.weight, s.momentum, s.grad)), lr * s.stretch
        )
        for s in stacks
        for offset in range(0, 4 * s.count * s.rows * s.columns, 4 * s.rows * s.columns)
    ]
    matrices = (MatrixStruct * len(each))(*each)
    settings = MuonStruct(memory, shrink, *polynomial, rounds, threads)
    size = 4 * threads * library.c.vitlab_muon_floats(matrices, len(each))
    library.c.vitlab_muon(
        matrices, len(each), ctypes.byref(settings), ctypes.c_void_p(library.workspace(size).data_ptr())
    )


# --- Affine and elastic maps of images: affine.c


class AffineStruct(ctypes.Structure):
    """``vitlab_affine_settings`` of affine.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("batch", "channels", "height", "width", "reflect", "threads")),
        *(("limits", ctypes.c_float * AFFINE_DRAWS), ("elastic", ctypes.c_float)),
    ]


def affine(
    images_BCHW: Tensor,
    draws: Tensor,
    limits: tuple[float, ...],
    elastic: float,
    weights: Sequence[Tensor],
    reflect: bool,
    kernels: Kernels,
) -> Tensor:
    """Each image sampled through the map that its ``draws``, numbers in 0 to 1, choose.

    The first seven are scaled to plus or minus their ``limits``: angle, zoom (x, y), shear (x, y) in degrees, shift
    (x, y) in pixels. Unless ``elastic`` is 0, the others shift each point of a coarse grid by up to that many pixels:
    first all x, then all y, row by row. ``weights`` say how much each row of the grid counts in each row of pixels,
    [H, BEND_POINTS], and the same for columns. Float32 [B, C, H, W] on the CPU, sides up to MOST_SIDE.
    """
    batch, channels, height, width = images_BCHW.shape
    if images_BCHW.dtype is not torch.float32 or images_BCHW.device.type != "cpu" or max(height, width) > MOST_SIDE:
        raise ValueError(f"the kernel needs float32 on the CPU, of at most {MOST_SIDE} x {MOST_SIDE} pixels")
    count = AFFINE_DRAWS + (2 * BEND_POINTS**2 if elastic else 0)
    if draws.shape != (batch, count):
        raise ValueError(f"the kernel needs {count} numbers for each of {batch} images")
    rows, columns = weights[0].contiguous(), weights[1].T.contiguous()
    images_BCHW, draws = images_BCHW.contiguous(), draws.contiguous()
    moved_BCHW = torch.empty_like(images_BCHW)
    numbers = (batch, channels, height, width, reflect, kernels.threads)
    settings = AffineStruct(*numbers, (ctypes.c_float * AFFINE_DRAWS)(*limits), elastic)
    tensors = (rows, columns, draws, images_BCHW, moved_BCHW)
    kernels.library.c.vitlab_affine(ctypes.byref(settings), *map(argument, tensors))
    return moved_BCHW
