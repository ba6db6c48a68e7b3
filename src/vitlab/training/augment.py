"""Random changes of a whole batch of training images, drawn from an explicit generator.

Rotation, zoom, shear, shift and bending are one map per image, which is sampled once (bilinear): however many changes
are on, pixels are blurred only once. Pixels are in 0..1 with black at 0.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.config import AugmentConfig
from vitlab.errors import ConfigError
from vitlab.machine import constant
from vitlab.native import ops
from vitlab.native.ops import BEND_POINTS, MOST_SIDE, Kernels
from vitlab.training.part import Draws, for_each
from vitlab.training.photometric import photometric

# Range of the erased share of the image's area (Zhong et al. 2020, "Random Erasing", use 0.02 to 0.4;
# on digits, whose ink covers a fifth of the image, the upper half would erase the answer).
ERASE_AREA = (0.02, 0.2)


def augment(
    images_BCHW: Tensor, config: AugmentConfig, generator: torch.Generator | Draws, kernels: Kernels | None = None
) -> Tensor:
    """The batch after the changes in ``config``, drawn separately for each image; same shape, float, 0..1."""
    images = images_BCHW
    if config.flip:
        images = flip(images, _uniform(images, generator) < 0.5)
    if changes_light(config):  # before the map, so that what it leaves empty stays black
        images = photometric(images, config, generator)
    if any(limits_of(config)) or config.elastic:
        images = random_map(images, config, generator, kernels)
    if config.erase:
        images = erase(images, config.erase, generator)
    return images


def is_active(config: AugmentConfig) -> bool:
    """Whether `augment` would change anything."""
    return changes_light(config) or any((*limits_of(config), config.elastic, config.flip, config.erase))


def changes_light(config: AugmentConfig) -> bool:
    """Whether brightness, contrast or saturation is changed."""
    return any((config.brightness, config.contrast, config.saturation))


def check_flip(config: AugmentConfig, may_flip: bool, data: str) -> None:
    """ConfigError when flips are on for data whose meaning they would change."""
    if config.flip and not may_flip and not config.force_flip:
        raise ConfigError(
            f"flip is on, but {data} must not be mirrored, which changes its meaning; use --no-flip or --force-flip"
        )


def flip(images_BCHW: Tensor, which_B: Tensor) -> Tensor:
    """Mirror the images for which ``which_B`` is true left to right."""
    return torch.where(which_B.view(-1, 1, 1, 1), images_BCHW.flip(-1), images_BCHW)


def random_map(
    images_BCHW: Tensor, config: AugmentConfig, generator: torch.Generator | Draws, kernels: Kernels | None
) -> Tensor:
    """Each image sampled through its own map, whose parameters are uniform in their symmetric ranges."""
    limits, batch, device = limits_of(config), len(images_BCHW), images_BCHW.device
    count = len(limits) + (2 * BEND_POINTS**2 if config.elastic else 0)
    draws = for_each(generator, batch, lambda g, n: torch.rand(n, count, generator=g, device=device))
    sides = images_BCHW.shape[2:]
    if kernels is not None and max(sides) <= MOST_SIDE:
        weights = [bend_weights(side, device) for side in sides]
        return ops.affine(images_BCHW, draws, limits, config.elastic, weights, config.fill == "reflect", kernels)
    bends = bends_of(draws[:, len(limits) :], config.elastic, *sides) if config.elastic else None
    return affine(images_BCHW, matrices_of(draws[:, : len(limits)], limits), config.fill, bends)


def bends_of(draws_BG: Tensor, elastic: float, height: int, width: int) -> Tensor:
    """Shifts of sampling places in pixels, [B, 2 (x, y), H, W], from numbers in 0 to 1: elastic distortion.

    Simard, Steinkraus and Platt 2003, "Best Practices for Convolutional Neural Networks Applied to Visual Document
    Analysis", section 2, bend digits by a smoothed random field; here it is drawn on a coarse grid and interpolated
    (bicubic), as in Ronneberger et al. 2015, "U-Net", section 3.1, which has the same effect for far less work.
    """
    coarse_B2GG = (draws_BG * 2 - 1).view(-1, 2, BEND_POINTS, BEND_POINTS) * elastic
    rows_HG, columns_WG = (bend_weights(side, draws_BG.device) for side in (height, width))
    return rows_HG @ coarse_B2GG @ columns_WG.T


@cache
def bend_weights(side: int, device: torch.device) -> Tensor:
    """The weight of each coarse grid point at each pixel of a line of ``side`` pixels, [side, BEND_POINTS]: torch's
    bicubic interpolation, with the outermost points on the outermost pixels."""
    points = torch.eye(BEND_POINTS, device=device)[None, None]
    return F.interpolate(points, size=(side, BEND_POINTS), mode="bicubic", align_corners=True)[0, 0]


def limits_of(config: AugmentConfig) -> tuple[float, ...]:
    """The largest absolute value of each affine parameter: angle, zoom (x, y), shear (x, y), shift (x, y)."""
    return (config.rotate, config.zoom, config.zoom, config.shear, config.shear, config.shift, config.shift)


def matrices_of(draws_B7: Tensor, limits: tuple[float, ...]) -> Tensor:
    """Maps [B, 2, 3] for `affine` from numbers in 0..1, each scaled to plus or minus its limit."""
    chosen_B7 = (draws_B7 * 2 - 1) * constant(limits, draws_B7.device)
    return affine_matrix(chosen_B7[:, 0], 1 + chosen_B7[:, 1:3], chosen_B7[:, 3:5], chosen_B7[:, 5:7])


def affine_matrix(angle_B: Tensor, zoom_B2: Tensor, shear_B2: Tensor, shift_B2: Tensor) -> Tensor:
    """Maps [B, 2, 3] from output to input positions, (x right, y down) in pixels from the centre.

    ``angle`` in degrees turns the picture counter-clockwise; ``zoom`` (x, y) above 1 shows more of it,
    smaller; ``shear`` (x, y) in degrees slants it; ``shift`` (x, y) in pixels moves it right and down.
    The map is turn @ slant @ zoom, with turn = [[cos, -sin], [sin, cos]], slant = [[1, x], [y, 1]].
    """
    angle, slant = torch.deg2rad(angle_B), torch.tan(torch.deg2rad(shear_B2))
    cos, sin, one = torch.cos(angle), torch.sin(angle), torch.ones_like(angle)
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    slanted = turn @ torch.stack([one, slant[:, 0], slant[:, 1], one], dim=1).view(-1, 2, 2)
    linear = slanted * zoom_B2.unsqueeze(1)
    return torch.cat([linear, -(linear @ shift_B2.unsqueeze(-1))], dim=-1)


def affine(images_BCHW: Tensor, matrix_B23: Tensor, fill: str, bends_B2HW: Tensor | None = None) -> Tensor:
    """Sample each image (bilinear) through its map, at places that ``bends_B2HW`` then shifts by some pixels. Outside
    the image is black (``fill`` "zeros") or its reflection ("reflect")."""
    batch, _, height, width = images_BCHW.shape
    device = images_BCHW.device
    halves_21 = constant((width / 2, height / 2), device).view(2, 1)
    theta_B23 = matrix_B23 / halves_21
    x = torch.arange(width, device=device) + (0.5 - width / 2)
    y = torch.arange(height, device=device) + (0.5 - height / 2)
    places_3 = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones(height * width, device=device)])
    # One product for all images: on a CPU six times as fast as F.affine_grid, with its product per
    # image (docs/understand/log.md).
    grid_B2HW = (theta_B23.reshape(-1, 3) @ places_3).view(batch, 2, height, width)
    if bends_B2HW is not None:
        grid_B2HW = grid_B2HW + bends_B2HW / halves_21[:, :, None]
    padding = {"zeros": "zeros", "reflect": "reflection"}[fill]
    grid_BHW2 = grid_B2HW.permute(0, 2, 3, 1)
    return F.grid_sample(images_BCHW, grid_BHW2, mode="bilinear", padding_mode=padding, align_corners=False)


def erase(images_BCHW: Tensor, probability: float, generator: torch.Generator | Draws) -> Tensor:
    """Blank one random rectangle in each image with ``probability`` (Zhong et al. 2020)."""
    height, width = images_BCHW.shape[-2:]

    def draw(low: float, high: float) -> Tensor:
        return low + _uniform(images_BCHW, generator) * (high - low)

    side, aspect = draw(*ERASE_AREA).sqrt(), torch.exp(draw(-math.log(2), math.log(2)) / 2)
    high, wide = side * aspect * height, side / aspect * width
    top, left = draw(0, 1) * (height - high), draw(0, 1) * (width - wide)
    rows = torch.arange(height, device=images_BCHW.device) + 0.5
    columns = torch.arange(width, device=images_BCHW.device) + 0.5
    in_rows = (rows > top[:, None]) & (rows < (top + high)[:, None])
    in_columns = (columns > left[:, None]) & (columns < (left + wide)[:, None])
    chosen = _uniform(images_BCHW, generator) < probability
    hole = in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None]
    return images_BCHW.masked_fill(hole.unsqueeze(1), 0.0)


def _uniform(images_BCHW: Tensor, generator: torch.Generator | Draws) -> Tensor:
    """One number in 0..1 for each image."""
    return for_each(generator, len(images_BCHW), lambda g, n: torch.rand(n, generator=g, device=images_BCHW.device))
