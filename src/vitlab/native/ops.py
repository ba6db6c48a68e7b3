"""The C kernels as functions of tensors, with their gradients; each names the file of csrc/ that computes it.

All of them take `Kernels`, the compiled library with its number of threads, and raise ValueError for tensors that the
C code cannot read: a wrong type or device, or memory that is not contiguous. The same number of threads gives the same
bits. Letters in names: B images, N tokens, P numbers of a patch, D embed_dim, h heads, d width of a head, K classes.
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

LANES = 16  # the widths of embedding and readout are multiples of it
MOST_CLASSES = 1024
MOST_SIDE = 128  # pixels, of an image that is mapped
BEND_POINTS = 5  # on each side of the coarse grid that bends an image
AFFINE_DRAWS = 7
DROPOUT_CHUNK = 32  # numbers that the kernel writes at a time


@dataclass(frozen=True)
class Kernels:
    """A compiled library, and how many threads its kernels use."""

    library: Library
    threads: int = 1


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a kernel finds the tensor's numbers; NULL for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def check_tensors(dtype: torch.dtype, *tensors: Tensor | None) -> None:
    """ValueError unless each is what a kernel reads: of that type, on the CPU, contiguous."""
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
    """What all blocks of a stack share. merged: heads 1 and head_dim D; none: heads and head_dim mean nothing, but are
    at least 1. The rates of dropout apply to every call: pass 0 when not training."""

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

    ``weights`` are those of the first block in the order of BLOCK_WEIGHTS, None where it has none, then those of the
    next block. A norm has both gain and offset or neither. What dropout drops is a function of ``seed``
    (0 to 2^32 - 1) and of the place: image, block, row, column.
    """
    library = kernels.library
    if len(weights) != shape.depth * len(BLOCK_WEIGHTS):
        raise ValueError(f"{shape.depth} blocks have {shape.depth * len(BLOCK_WEIGHTS)} weights, not {len(weights)}")
    x_BND = x_BND.to(library.dtype).contiguous()
    check_tensors(library.dtype, x_BND, *weights)
    if x_BND.numel() == 0:
        return x_BND
    struct = struct_of(x_BND, shape, kernels.threads, seed)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x_BND, *weights)):
        out: Tensor = BlocksFunction.apply(x_BND, struct, library, *weights)  # type: ignore[no-untyped-call]
        return out
    return run_forward(x_BND, weights, struct, library, None)


class BlocksFunction(torch.autograd.Function):
    """The stack of blocks with its backward pass."""

    @staticmethod
    def forward(ctx: Any, x_BND: Tensor, struct: ShapeStruct, library: Library, *weights: Any) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        kept = torch.empty(library.c.vitlab_saved_bytes(ctypes.byref(struct)), dtype=torch.uint8)
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
        library.c.vitlab_backward(
            ctypes.byref(ctx.struct),
            pointers(weights),
            *map(address, (dy_BND, ctx.kept, dx_BND)),
            pointers(grads),
            address(library.workspace(library.c.vitlab_workspace_bytes(ctypes.byref(ctx.struct)))),
        )
        return dx_BND, None, None, *grads


def run_forward(
    x_BND: Tensor, weights: Sequence[Tensor | None], struct: ShapeStruct, library: Library, kept: Tensor | None
) -> Tensor:
    """y from x; what the backward pass needs goes to ``kept``."""
    y_BND = torch.empty_like(x_BND)
    library.c.vitlab_forward(
        ctypes.byref(struct),
        pointers(weights),
        *map(address, (x_BND, y_BND, kept, library.workspace(library.c.vitlab_workspace_bytes(ctypes.byref(struct))))),
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
            f"the kernel embeds square images, with a margin in the overlap, in multiples of {LANES} numbers"
        )
    shapes = {"weight": (dim, (patch + 2 * overlap) ** 2 * channels), "bias": (dim,), "places": (grid**2, dim)}
    for (name, shape), tensor in zip(shapes.items(), (weight_DP, bias_D, places_ND), strict=True):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"the kernel needs a {name} of shape {shape}, not {tuple(tensor.shape)}")
    struct = PatchesStruct(
        batch, channels, side, grid, patch, overlap, margin, dim, max(1, min(kernels.threads, batch))
    )
    out: Tensor = EmbedFunction.apply(images_BCHW, weight_DP, bias_D, places_ND, struct, kernels.library)  # type: ignore[no-untyped-call]
    return out


class EmbedFunction(torch.autograd.Function):
    """The patch embedding with its backward pass."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, places: Tensor | None, shape: Any, library: Library
    ) -> Tensor:
        """[B, C, S, S] -> [B, N, D]."""
        x_BND = images.new_empty(len(images), shape.grid**2, shape.dim)
        workspace = library.workspace(library.c.vitlab_embed_bytes(ctypes.byref(shape)))
        tensors = (images, weight, bias, places, x_BND, workspace)
        library.c.vitlab_embed(ctypes.byref(shape), *map(address, tensors))
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
        workspace = ctx.library.workspace(ctx.library.c.vitlab_embed_bytes(ctypes.byref(ctx.shape)))
        tensors = (images, dys[0].contiguous(), *grads, d_places, workspace)
        ctx.library.c.vitlab_embed_gradients(ctypes.byref(ctx.shape), *map(address, tensors))
        return None, *grads, d_places, None, None


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
        raise ValueError(f"the kernel reads multiples of {LANES} numbers into at most {MOST_CLASSES} classes")
    norm = () if gain_D is None or offset_D is None else (gain_D.shape, offset_D.shape)
    if weight_KW.shape[1] != tokens * dim or bias_K.shape != (classes,) or any(shape != (dim,) for shape in norm):
        raise ValueError(f"the kernel needs weights for {tokens} tokens of {dim} numbers and {classes} classes")
    shape = ReadoutStruct(batch, tokens, dim, classes, rms, max(1, min(kernels.threads, batch)))
    out: Tensor = ReadoutFunction.apply(x_BND, gain_D, offset_D, weight_KW, bias_K, shape, kernels.library)  # type: ignore[no-untyped-call]
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
        workspace = library.workspace(library.c.vitlab_readout_bytes(ctypes.byref(shape)))
        tensors = (x, gain, offset, weight, bias, logits_BK, workspace)
        library.c.vitlab_readout(ctypes.byref(shape), *map(address, tensors))
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
        workspace = ctx.library.workspace(ctx.library.c.vitlab_readout_bytes(ctypes.byref(ctx.shape)))
        tensors = (x, gain, offset, weight, dys[0].contiguous(), dx, d_gain, d_offset, d_weight, d_bias, workspace)
        ctx.library.c.vitlab_readout_gradients(ctypes.byref(ctx.shape), *map(address, tensors))
        return dx, d_gain, d_offset, d_weight, d_bias, None, None


# --- Masks of dropout: dropout.c


def dropout_mask(shape: torch.Size, rate: float, dtype: torch.dtype, kernels: Kernels, seed: int) -> torch.Tensor:
    """Zeros with probability ``rate``, else 1 / (1 - rate), of ``shape`` and ``dtype``; a function of ``seed``
    (0 to 2^32 - 1), whatever the threads. ``rate`` counts in 65536ths."""
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
    """``count`` matrices of rows x columns that lie above each other in one weight, with their momentum and gradient.

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
        """How much longer a tall matrix's step is, so that its outputs change as much as those of others."""
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
    """Each image through the map that its numbers, in 0 to 1, choose: seven within ``limits``, to both sides: angle,
    zoom (x, y), shear (x, y) in degrees, shift (x, y) in pixels; and, unless ``elastic`` is 0, a shift within that many
    pixels for each point of a coarse grid, first all x, then all y, row by row. ``weights`` are how much each of the
    grid's rows counts in each row of pixels, [H, BEND_POINTS], and the same for columns.

    Float32 [B, C, H, W] on the CPU, sides up to MOST_SIDE; ValueError for others.
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
    kernels.library.c.vitlab_affine(ctypes.byref(settings), *map(address, tensors))
    return moved_BCHW
