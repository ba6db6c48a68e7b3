"""Images on their way into a network: whether they may enter, and how they are cut into patches."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitlab.config import ModelConfig


def check_preprocessed(images_BCHW: Tensor) -> None:
    """TypeError for images as they are stored, which a network cannot read."""
    if not isinstance(images_BCHW, Tensor) or images_BCHW.dim() != 4:
        own = list(images_BCHW.shape) if isinstance(images_BCHW, Tensor) else type(images_BCHW).__name__
        raise TypeError(
            f"a network takes preprocessed images, a float tensor [B, C, side, side], not {own}: "
            "call model(preprocess(images))"
        )
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


def check_sizes(images_BCHW: Tensor, config: ModelConfig, length: int) -> None:
    """TypeError for images of another size or other channels than a network's, whose patches have P = ``length``."""
    _, channels, *sides = images_BCHW.shape
    own = length // patch_length(config.patch_size, config.patch_overlap, 1)
    grids = [(side - 2 * config.margin) // config.patch_size for side in sides]
    if channels != own or grids != [config.grid, config.grid]:
        side = config.input_side
        raise TypeError(
            f"this network takes [B, {own}, {side}, {side}], not {list(images_BCHW.shape)}: "
            "call model(preprocess(images))"
        )


def patch_length(patch_size: int, overlap: int, channels: int) -> int:
    """P, the numbers in one patch."""
    return (patch_size + 2 * overlap) ** 2 * channels
