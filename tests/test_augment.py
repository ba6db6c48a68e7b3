"""Random changes of training images: geometry in whole pixels, ranges of the draws, and where randomness comes from."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.config import AugmentConfig
from vitlab.errors import ConfigError
from vitlab.training.augment import (
    affine,
    affine_matrix,
    augment,
    bends_of,
    check_flip,
    erase,
    flip,
    is_active,
    limits_of,
    matrices_of,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(height: int, width: int, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=generator(99)) + 0.1


def transform(
    images: Tensor,
    angle: float = 0.0,
    zoom: tuple[float, float] = (1.0, 1.0),
    shear: tuple[float, float] = (0.0, 0.0),
    shift: tuple[float, float] = (0.0, 0.0),
    fill: str = "zeros",
) -> Tensor:
    """``images`` through one and the same map."""
    pairs = [torch.tensor([pair] * len(images), dtype=torch.float32) for pair in (zoom, shear, shift)]
    return affine(images, affine_matrix(torch.full((len(images),), angle), *pairs), fill)


def close(actual: Tensor, expected: Tensor | np.ndarray) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected), atol=1e-5, rtol=0)


# Geometry


def test_nothing_on_is_the_identity() -> None:
    images = pictures(7, 11)
    assert torch.equal(augment(images, AugmentConfig(), generator()), images)
    close(transform(images), images)
    close(transform(images, fill="reflect"), images)


@pytest.mark.parametrize(("right", "down"), [(3, 2), (-3, 2), (0, -5), (4, 0), (-2, -1), (11, 0)])
def test_shift_moves_whole_pixels_right_and_down_and_leaves_black(right: int, down: int) -> None:
    images = pictures(7, 11)
    expected = torch.zeros_like(images)
    for y in range(7):
        for x in range(11):
            if 0 <= y - down < 7 and 0 <= x - right < 11:
                expected[:, :, y, x] = images[:, :, y - down, x - right]
    close(transform(images, shift=(right, down)), expected)


@pytest.mark.parametrize(("right", "down"), [(3, 2), (-3, 2), (0, -5), (-4, 0)])
def test_reflect_fills_with_the_mirror_image(right: int, down: int) -> None:
    images = pictures(7, 11)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (5, 5), (5, 5)), mode="symmetric")
    expected = padded[:, :, 5 - down : 12 - down, 5 - right : 16 - right]
    close(transform(images, shift=(right, down), fill="reflect"), expected)


@pytest.mark.parametrize(("angle", "quarters"), [(90.0, 1), (-90.0, -1), (180.0, 2)])
def test_a_positive_angle_turns_counter_clockwise(angle: float, quarters: int) -> None:
    images = pictures(7, 7)
    close(transform(images, angle=angle), torch.rot90(images, quarters, (2, 3)))


def test_rotation_does_not_distort_an_image_that_is_not_square() -> None:
    images = pictures(5, 11)
    turned = transform(images, angle=90.0)
    close(turned[:, :, :, 3:8], torch.rot90(images[:, :, :, 3:8], 1, (2, 3)))
    close(turned[:, :, :, :3], torch.zeros(2, 3, 5, 3))


@pytest.mark.parametrize(("zoom", "window"), [((2.0, 2.0), (2, 2)), ((2.0, 1.0), (1, 2)), ((1.0, 2.0), (2, 1))])
def test_zoom_above_one_shows_more_of_the_picture_smaller(zoom: tuple[float, float], window: tuple[int, int]) -> None:
    images = pictures(12, 8)
    small = F.avg_pool2d(images, window)  # each output pixel lies between the pixels it covers
    rows, columns = (12 - small.shape[2]) // 2, (8 - small.shape[3]) // 2
    close(transform(images, zoom=zoom), F.pad(small, (columns, columns, rows, rows)))


def test_zoom_below_one_enlarges_the_middle() -> None:
    ramp = torch.arange(9.0).expand(1, 1, 5, 9)
    close(transform(ramp, zoom=(0.5, 1.0)), torch.linspace(2, 6, 9).expand(1, 1, 5, 9))


@pytest.mark.parametrize("axis", [0, 1])
def test_shear_of_45_degrees_moves_each_line_by_its_distance_from_the_centre(axis: int) -> None:
    images = torch.zeros(1, 1, 7, 7)
    dims = (2, 3) if axis == 0 else (3, 2)
    images.select(dims[1], 3)[:] = torch.arange(1.0, 8)  # a line through the centre, across the slant
    slanted = transform(images, shear=(45.0, 0.0) if axis == 0 else (0.0, 45.0))[0, 0]
    slanted = slanted if axis == 0 else slanted.T
    diagonals = (torch.diag(torch.arange(1.0, 8)), torch.diag(torch.arange(1.0, 8)).flip(1))
    assert any(torch.allclose(slanted, diagonal, atol=1e-5) for diagonal in diagonals)


def test_shift_comes_last_so_that_it_stays_in_pixels_of_the_result() -> None:
    images = pictures(7, 7)
    expected = transform(torch.rot90(images, 1, (2, 3)), shift=(2, 1))
    close(transform(images, angle=90.0, shift=(2, 1)), expected)


def test_no_allowed_shear_collapses_or_mirrors_the_image() -> None:
    config = AugmentConfig(shear=44.9)  # the limit is below 45
    maps = drawn(config)[:, :, :2]
    assert torch.linalg.det(maps).min() > 0


# Draws


def drawn(config: AugmentConfig, count: int = 2003) -> Tensor:
    return matrices_of(torch.rand(count, 7, generator=generator()), limits_of(config))


def angle(maps: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))


def tangent(row: int, column: int) -> Callable[[Tensor], Tensor]:
    return lambda maps: torch.rad2deg(torch.atan(maps[:, row, column]))


RANGES: dict[str, tuple[AugmentConfig, Callable[[Tensor], Tensor], float]] = {
    "angle": (AugmentConfig(rotate=12.0), angle, 12.0),
    "zoom of the width": (AugmentConfig(zoom=0.2), lambda maps: maps[:, 0, 0] - 1, 0.2),
    "zoom of the height": (AugmentConfig(zoom=0.2), lambda maps: maps[:, 1, 1] - 1, 0.2),
    "slant of rows": (AugmentConfig(shear=8.0), tangent(0, 1), 8.0),
    "slant of columns": (AugmentConfig(shear=8.0), tangent(1, 0), 8.0),
    "shift to the side": (AugmentConfig(shift=3.0), lambda maps: maps[:, 0, 2], 3.0),
    "shift up and down": (AugmentConfig(shift=3.0), lambda maps: maps[:, 1, 2], 3.0),
}


@pytest.mark.parametrize("what", RANGES)
def test_each_image_draws_its_own_number_evenly_from_the_whole_range(what: str) -> None:
    config, measure, limit = RANGES[what]
    values = measure(drawn(config))
    assert len(values.unique()) > 1900
    assert 0.98 * limit < values.max() <= limit * 1.0001
    assert -0.98 * limit > values.min() >= -limit * 1.0001
    assert values.mean().abs().item() < 0.06 * limit
    assert values.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("pair", [(1, 2), (3, 4), (5, 6)])
def test_the_two_directions_are_drawn_apart(pair: tuple[int, int]) -> None:
    one, other = list(RANGES.values())[pair[0]], list(RANGES.values())[pair[1]]
    both = torch.stack([one[1](drawn(one[0])), other[1](drawn(other[0]))])
    assert torch.corrcoef(both)[0, 1].abs() < 0.1


EVERYTHING = AugmentConfig(rotate=30.0, zoom=0.3, shift=2.0, shear=10.0, elastic=1.5, flip=True, erase=0.5)


@pytest.mark.parametrize("fill", ["zeros", "reflect"])
def test_a_batch_is_a_function_of_the_generators_seed(fill: str) -> None:
    images, config = pictures(11, 7, batch=13), AugmentConfig(rotate=30.0, zoom=0.3, flip=True, erase=0.5, fill=fill)  # type: ignore[arg-type]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = augment(images, config, generator(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(augment(images, config, generator(5)), one)
    assert not torch.equal(augment(images, config, generator(6)), one)
    assert one.shape == images.shape


def test_equal_images_of_a_batch_become_different() -> None:
    images = pictures(11, 7, batch=1).expand(17, -1, -1, -1)
    changed = augment(images, EVERYTHING, generator()).flatten(1)
    assert len(torch.unique(changed, dim=0)) == 17


def test_pixels_stay_between_black_and_white() -> None:
    images = torch.rand(53, 3, 11, 7, generator=generator())
    changed = augment(images, EVERYTHING, generator())
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6


def test_fill_reaches_the_sampling() -> None:
    white = torch.ones(31, 1, 11, 7)
    assert augment(white, AugmentConfig(shift=3.0), generator()).min() == 0
    close(augment(white, AugmentConfig(shift=3.0, fill="reflect"), generator()), white)


# Bending


def ramps(height: int, width: int, batch: int) -> Tensor:
    """Images that say where they were sampled: a channel of columns, one of rows, in pixels."""
    x, y = torch.arange(float(width)).expand(height, width), torch.arange(float(height))[:, None].expand(height, width)
    return torch.stack([x, y]).expand(batch, 2, height, width)


def moved_by(elastic: float, height: int = 83, width: int = 97, batch: int = 211) -> Tensor:
    """How far each place was bent, in pixels (right and down), without a border where it may have left the image."""
    images, border = ramps(height, width, batch), 2 * math.ceil(elastic)
    moved = augment(images, AugmentConfig(elastic=elastic), generator()) - images
    return moved[:, :, border:-border, border:-border]


def test_a_bend_moves_places_within_its_limit_in_both_directions() -> None:
    moved = moved_by(3.0)
    # Bicubic weights are partly negative, so between the points a little more than the limit is possible.
    assert 2.7 < moved.amax() < 1.5 * 3.0
    assert -2.7 > moved.amin() > 1.5 * -3.0
    assert moved.mean().abs() < 0.1
    both = moved.permute(1, 0, 2, 3).flatten(1)
    assert both.std(dim=1).min() > 1.0
    assert torch.corrcoef(both)[0, 1].abs() < 0.05


def test_a_bend_is_smooth_and_each_image_has_its_own() -> None:
    moved = moved_by(3.0)
    slopes = torch.cat([moved.diff(dim=2).flatten(), moved.diff(dim=3).flatten()]).abs()
    assert slopes.max() < 0.8  # from one point of the grid to the next, some 20 pixels away, at most 2 x 3 pixels
    assert slopes.mean() > 0.02
    middles = moved[:, 0, 30, 30]
    assert len(middles.unique()) > 200


def test_the_points_of_the_coarse_grid_move_by_what_was_drawn() -> None:
    draws = torch.rand(7, 50, generator=generator())
    bends = bends_of(draws, 2.0, 29, 41)
    assert bends.shape == (7, 2, 29, 41)
    close(bends[:, :, ::7, ::10], (draws.view(7, 2, 5, 5) * 2 - 1) * 2.0)


# Flip


def test_flip_mirrors_the_chosen_images_left_to_right() -> None:
    images = pictures(5, 7, batch=3)
    which = torch.tensor([True, False, True])
    expected = images.clone()
    expected[[0, 2]] = torch.from_numpy(images.numpy()[[0, 2], :, :, ::-1].copy())
    assert torch.equal(flip(images, which), expected)


def test_flip_takes_about_half_of_the_images() -> None:
    images = pictures(3, 5, batch=401)
    changed = augment(images, AugmentConfig(flip=True), generator())
    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    kept = (changed == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < int(mirrored.sum()) < 250


def test_flip_is_refused_where_the_card_forbids_it() -> None:
    with pytest.raises(ConfigError, match=r"mnist must not be mirrored.*force_flip=True"):
        check_flip(AugmentConfig(flip=True), may_flip=False, data="mnist")


@pytest.mark.parametrize(
    ("config", "may_flip"),
    [
        (AugmentConfig(flip=True), True),
        (AugmentConfig(flip=True, force_flip=True), False),
        (AugmentConfig(force_flip=True), False),
        (AugmentConfig(), False),
    ],
)
def test_flip_is_permitted_otherwise(config: AugmentConfig, may_flip: bool) -> None:
    check_flip(config, may_flip, "anything")


# Erase


def holes(probability: float, count: int, height: int = 101, width: int = 73) -> Tensor:
    """Where white images with two channels were blanked, [B, H, W]."""
    erased = erase(torch.ones(count, 2, height, width), probability, generator())
    assert set(erased.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(erased[:, 0], erased[:, 1])
    return erased[:, 0] == 0


def test_erase_blanks_one_rectangle_of_2_to_20_percent() -> None:
    shares = []
    for hole in holes(1.0, 307):
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns[None, :])
        for line in (rows, columns):  # without gaps
            assert int(line.sum()) == int(line.nonzero().max() - line.nonzero().min()) + 1
        high, wide = int(rows.sum()), int(columns.sum())
        assert (high - 1) * (wide - 1) <= 0.2 * 101 * 73
        assert (high + 1) * (wide + 1) >= 0.02 * 101 * 73
        shares.append(high * wide / (101 * 73))
    assert min(shares) < 0.03
    assert max(shares) > 0.19


def test_erase_reaches_every_corner_and_differs_between_images() -> None:
    marks = holes(1.0, 997, 11, 7)
    assert marks.any(0).all()
    assert len(torch.unique(marks.flatten(1), dim=0)) > 100


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_erase_takes_the_stated_share_of_images(probability: float) -> None:
    share = holes(probability, 1009, 13, 17).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(probability, abs=0.06 if 0 < probability < 1 else 0)


@pytest.mark.parametrize(
    ("knob", "value", "active"),
    [
        ("rotate", 5.0, True), ("zoom", 0.1, True), ("shift", 1.0, True), ("shear", 3.0, True), ("flip", True, True),
        ("elastic", 1.0, True), ("erase", 0.1, True),
        ("brightness", 0.2, True), ("contrast", 0.2, True), ("saturation", 0.2, True), ("mixup", 1.0, False),
        ("fill", "reflect", False), ("force_flip", True, False), ("clean_tail", 0.5, False),
    ],
)  # fmt: skip
def test_each_knob_alone_is_active_exactly_when_it_changes_images(knob: str, value: object, active: bool) -> None:
    config = AugmentConfig(**{knob: value})  # type: ignore[arg-type]
    images = pictures(11, 7, batch=61)
    assert is_active(config) is active
    assert torch.equal(augment(images, config, generator()), images) is not active
