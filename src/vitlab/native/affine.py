"""Random maps of images, affine and elastic, by affine.c."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from vitlab.native.build import Library, address

DRAWS = 7
BEND_POINTS = 5  # on each side of the coarse grid that bends an image
MOST_SIDE = 128


class SettingsStruct(ctypes.Structure):
    """``vitlab_affine_settings`` of affine.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("batch", "channels", "height", "width", "reflect", "threads")),
        *(("limits", ctypes.c_float * DRAWS), ("elastic", ctypes.c_float)),
    ]


def native_affine(
    images_BCHW: Tensor,
    draws: Tensor,
    limits: tuple[float, ...],
    elastic: float,
    weights: Sequence[Tensor],
    reflect: bool,
    library: Library,
    threads: int,
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
    count = DRAWS + (2 * BEND_POINTS**2 if elastic else 0)
    if draws.shape != (batch, count):
        raise ValueError(f"the kernel needs {count} numbers for each of {batch} images")
    rows, columns = weights[0].contiguous(), weights[1].T.contiguous()
    images_BCHW, draws = images_BCHW.contiguous(), draws.contiguous()
    moved_BCHW = torch.empty_like(images_BCHW)
    numbers = (batch, channels, height, width, reflect, threads)
    settings = SettingsStruct(*numbers, (ctypes.c_float * DRAWS)(*limits), elastic)
    tensors = (rows, columns, draws, images_BCHW, moved_BCHW)
    library.affine(ctypes.byref(settings), *map(address, tensors))
    return moved_BCHW
