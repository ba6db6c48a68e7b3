"""Cutting images into patches and putting them together again, against loops over single pixels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitlab.model.patches import patch_length, patchify


def numbered(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Images in which no two numbers are equal and none is 0."""
    count = batch * channels * height * width
    return torch.arange(1.0, count + 1).view(batch, channels, height, width)


def by_hand(images: Tensor, side: int, overlap: int = 0) -> list[list[list[float]]]:
    """Patches row by row, inside a patch row, column, channel; one number at a time."""
    batch, channels, height, width = images.shape

    def pixel(image: int, channel: int, y: int, x: int) -> float:
        return images[image, channel, y, x].item() if 0 <= y < height and 0 <= x < width else 0.0

    return [
        [
            [
                pixel(image, channel, y, x)
                for y in range(top - overlap, top + side + overlap)
                for x in range(left - overlap, left + side + overlap)
                for channel in range(channels)
            ]
            for top in range(0, height - side + 1, side)
            for left in range(0, width - side + 1, side)
        ]
        for image in range(batch)
    ]


@pytest.mark.parametrize(("height", "width", "side"), [(6, 15, 3), (7, 11, 3), (5, 5, 5), (2, 3, 1), (13, 8, 5)])
def test_patches_go_row_by_row_and_inside_by_row_column_channel(height: int, width: int, side: int) -> None:
    images = numbered(2, 3, height, width)
    assert patchify(images, side).tolist() == by_hand(images, side)


@pytest.mark.parametrize(("side", "overlap"), [(3, 1), (3, 2), (3, 3), (5, 2)])
def test_overlap_sees_that_many_pixels_more_and_black_beyond_the_image(side: int, overlap: int) -> None:
    images = numbered(2, 3, 2 * side, 3 * side)
    assert patchify(images, side, overlap).tolist() == by_hand(images, side, overlap)


def test_what_does_not_fill_a_patch_is_cut_at_the_right_and_the_bottom() -> None:
    images = numbered(1, 1, 32, 32)
    patches = patchify(images, 6)
    assert patches.shape == (1, 25, 36)
    assert torch.equal(patches, patchify(images[:, :, :30, :30], 6))
    assert patches[0, 0, 0] == images[0, 0, 0, 0]
    assert patches[0, -1, -1] == images[0, 0, 29, 29]


def test_cut_edges_are_not_seen_through_the_overlap_either() -> None:
    # The docstring is silent here ("beyond the image they are 0"): the code crops first, so cut pixels count as beyond.
    images = numbered(1, 2, 8, 11)
    assert torch.equal(patchify(images, 3, 1), patchify(images[:, :, :6, :9], 3, 1))


@pytest.mark.parametrize(("overlap", "margin"), [(2, 2), (2, 1), (1, 1), (3, 1)])
def test_with_a_margin_the_grid_lies_inside_and_overlap_sees_the_margin(overlap: int, margin: int) -> None:
    """As patches of the whole image shifted by the margin; what even that does not reach is 0."""
    images = numbered(2, 3, 6 + 2 * margin, 9 + 2 * margin)
    inner = by_hand(images[:, :, margin:-margin, margin:-margin], 3)
    patches = patchify(images, 3, overlap, margin)
    side = 3 + 2 * overlap
    squares = patches.view(2, 6, side, side, 3)
    centre = squares[:, :, overlap : side - overlap, overlap : side - overlap].reshape(2, 6, -1)
    assert centre.tolist() == inner
    last = F.pad(images, (overlap - margin,) * 4)[:, :, -side:, -side:]
    assert torch.equal(squares[:, -1], last.permute(0, 2, 3, 1))


shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(0, 5))


@given(shapes, st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_overlapping_windows_are_torchs_unfold(shape: tuple[int, int, int, int, int], rows: int) -> None:
    batch, channels, side, columns, extra = shape
    overlap = extra % (side + 1)
    images = numbered(batch, channels, rows * side, columns * side)
    window = side + 2 * overlap
    columns_of = F.unfold(images, window, padding=overlap, stride=side).view(batch, channels, window**2, -1)
    expected = columns_of.permute(0, 3, 2, 1).flatten(2)
    patches = patchify(images, side, overlap)
    assert patches.shape[-1] == patch_length(side, overlap, channels)
    assert torch.equal(patches, expected)
