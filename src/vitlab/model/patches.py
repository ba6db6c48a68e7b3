"""Images on their way into a network: whether they may enter, and how they are cut into patches."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def check_preprocessed(images_BCHW: Tensor) -> None:
    """TypeError for images as they are stored, which a network cannot read."""
    if not images_BCHW.is_floating_point():
        kind, shape = str(images_BCHW.dtype).removeprefix("torch."), list(images_BCHW.shape)
        raise TypeError(
            f"a network takes preprocessed images, float [B, C, side, side], not {kind} {shape}: "
            "call model(preprocess(images))"
        )


def patchify(images_BCHW: Tensor, patch_size: int, overlap: int = 0, margin: int = 0) -> Tensor:
    """[B, C, H, W] -> patches [B, N, P], row by row; N = (h // p)(w // p), P = (p + 2 overlap)^2 C.

    The grid lies on the inner h x w pixels, without ``margin`` (at most ``overlap``) on each side. Inside a patch the
    order is row, column, channel, which is also that of TensorFlow's `extract_patches`. What does not fill a patch at
    the right and the bottom is cut off. With ``overlap`` each patch sees that many pixels more on all sides: those of
    the margin as far as it reaches, and 0 beyond it.
    """
    batch, channels, height, width = images_BCHW.shape
    rows, columns = (height - 2 * margin) // patch_size, (width - 2 * margin) // patch_size
    images = images_BCHW[:, :, : rows * patch_size + 2 * margin, : columns * patch_size + 2 * margin]
    if overlap == 0:
        cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
        return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)
    side = patch_size + 2 * overlap
    windows = F.pad(images, (overlap - margin,) * 4).unfold(2, side, patch_size).unfold(3, side, patch_size)
    return windows.permute(0, 2, 3, 4, 5, 1).reshape(batch, rows * columns, -1)


def patch_length(patch_size: int, overlap: int, channels: int) -> int:
    """P, the numbers in one patch."""
    return (patch_size + 2 * overlap) ** 2 * channels
