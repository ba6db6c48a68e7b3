"""A step of Muon for many matrices in one call of muon.c."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vitlab.native.build import Library


class MatrixStruct(ctypes.Structure):
    """``vitlab_matrix`` of muon.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("rows", "columns")),
        *((name, ctypes.c_void_p) for name in ("weight", "momentum", "grad")),
        ("step", ctypes.c_float),
    ]


class SettingsStruct(ctypes.Structure):
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


def native_muon(
    stacks: Sequence[Stack],
    library: Library,
    *,
    memory: float,
    lr: float,
    shrink: float,
    polynomial: tuple[float, float, float],
    rounds: int,
    threads: int,
) -> None:
    """Change momentum and weights in place: momentum <- lerp(momentum, grad, 1 - memory); weight <- shrink weight -
    lr stretch orthogonalised(lerp(grad, momentum, memory)). ValueError for tensors that the kernel cannot take."""
    for stack in stacks:
        for tensor in (stack.weight, stack.momentum, stack.grad):
            if not (tensor.is_contiguous() and tensor.dtype is library.muon_dtype and tensor.device.type == "cpu"):
                raise ValueError(f"the kernel needs contiguous {library.muon_dtype} on the CPU")
    each = [
        MatrixStruct(
            s.rows, s.columns, *(t.data_ptr() + offset for t in (s.weight, s.momentum, s.grad)), lr * s.stretch
        )
        for s in stacks
        for offset in range(0, 4 * s.count * s.rows * s.columns, 4 * s.rows * s.columns)
    ]
    matrices = (MatrixStruct * len(each))(*each)
    settings = SettingsStruct(memory, shrink, *polynomial, rounds, threads)
    size = 4 * threads * library.muon_floats(matrices, len(each))
    library.muon(matrices, len(each), ctypes.byref(settings), ctypes.c_void_p(library.workspace(size).data_ptr()))
