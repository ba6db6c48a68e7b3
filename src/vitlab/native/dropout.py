"""Masks for dropout from dropout.c."""

from __future__ import annotations

import ctypes
import math

import torch

from vitlab.native.build import Library

CHUNK = 32  # numbers that the kernel writes at a time


def dropout_mask(
    shape: torch.Size, rate: float, dtype: torch.dtype, library: Library, threads: int, seed: int
) -> torch.Tensor:
    """Zeros with probability ``rate``, else 1 / (1 - rate), of ``shape`` and ``dtype``; a function of ``seed``
    (0 to 2^32 - 1), whatever the threads. ``rate`` counts in 65536ths."""
    count = math.prod(shape)
    chunks = -(-count // CHUNK)
    mask = torch.empty(chunks * CHUNK, dtype=torch.int16)
    library.dropout_mask(
        *(ctypes.c_void_p(mask.data_ptr()), ctypes.c_ssize_t(chunks)),
        *(ctypes.c_double(rate), ctypes.c_uint(seed), ctypes.c_int(threads)),
    )
    return mask[:count].view(shape).to(dtype) / (1.0 - rate)
