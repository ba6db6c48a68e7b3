"""Random affine maps of images by affine.c."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from vitlab.native.build import Library

DRAWS = 7
MOST_SIDE = 128


class SettingsStruct(ctypes.Structure):
    """``vitlab_affine_settings`` of affine.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("batch", "channels", "height", "width", "reflect", "threads")),
        ("limits", ctypes.c_float * DRAWS),
    ]


def native_affine(
    images_BCHW: Tensor, draws_B7: Tensor, limits: tuple[float, ...], reflect: bool, library: Library, threads: int
) -> Tensor:
    """Each image through the affine map that its seven numbers, in 0 to 1, choose within ``limits``: angle, zoom (x,
    y), shear (x, y) in degrees, shift (x, y) in pixels, each to both sides. Float32 [B, C, H, W] on the CPU, sides up
    to MOST_SIDE; ValueError for others."""
    batch, channels, height, width = images_BCHW.shape
    if images_BCHW.dtype is not torch.float32 or images_BCHW.device.type != "cpu" or max(height, width) > MOST_SIDE:
        raise ValueError(f"the kernel needs float32 on the CPU, of at most {MOST_SIDE} x {MOST_SIDE} pixels")
    images_BCHW, draws_B7 = images_BCHW.contiguous(), draws_B7.contiguous()
    moved_BCHW = torch.empty_like(images_BCHW)
    settings = SettingsStruct(*(batch, channels, height, width, reflect, threads), (ctypes.c_float * DRAWS)(*limits))
    library.affine(
        ctypes.byref(settings), *(ctypes.c_void_p(t.data_ptr()) for t in (draws_B7, images_BCHW, moved_BCHW))
    )
    return moved_BCHW
