"""From stored bytes to the network's input, against bilinear resizing written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vitlab.training.preprocess import Preprocess


def stored(height: int, width: int, channels: int = 1, batch: int = 3) -> Tensor:
    draw = np.random.default_rng(0)
    return torch.from_numpy(draw.integers(0, 256, (batch, height, width, channels)).astype(np.uint8))


def weights(before: int, after: int) -> np.ndarray:
    """Matrix [after, before] of bilinear resampling: half-pixel centres, edges repeated, no anti-aliasing."""
    matrix = np.zeros((after, before))
    for i in range(after):
        at = min(max((i + 0.5) * before / after - 0.5, 0.0), before - 1.0)
        low = int(at)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, before - 1)] += at - low
    return matrix


def plain(size: int, channels: int = 1) -> Preprocess:
    return Preprocess(size, (0.0,) * channels, (1.0,) * channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_divided_by_255_and_channels_come_first(channels: int) -> None:
    images = stored(13, 13, channels)
    out = plain(13, channels)(images)
    assert out.dtype == torch.float32
    np.testing.assert_array_equal(out, np.moveaxis(images.numpy(), 3, 1).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(28, 28, 32), (28, 28, 21), (28, 28, 48), (13, 17, 11), (13, 17, 13), (17, 13, 13), (7, 31, 13), (5, 5, 1)],
)
def test_resizing_is_bilinear_with_half_pixel_centres(height: int, width: int, size: int) -> None:
    images = stored(height, width, 3)
    pixels = np.moveaxis(images.numpy(), 3, 1) / 255
    expected = weights(height, size) @ pixels @ weights(width, size).T
    np.testing.assert_allclose(plain(size, 3)(images), expected, atol=1e-5)


def test_mean_and_std_belong_to_their_channel() -> None:
    mean, std = (0.2, 0.3, 0.5), (0.7, 1.1, 1.3)
    images = stored(11, 11, 3)
    out = Preprocess(11, mean, std)(images)
    for channel in range(3):
        expected = (images[..., channel].numpy() / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(out[:, channel], expected, atol=1e-6)


def test_mean_and_std_of_the_pixels_give_mean_0_and_std_1() -> None:
    images = stored(19, 19, 1, batch=7)
    pixels = images.numpy() / 255
    out = Preprocess(19, (float(pixels.mean()),), (float(pixels.std()),))(images)
    assert out.mean().item() == pytest.approx(0, abs=1e-5)
    assert out.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_augmentation_comes_after_resizing_and_before_normalising() -> None:
    seen: list[Tensor] = []

    def blacken(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros_like(images)

    images = stored(28, 28)
    out = Preprocess(32, (0.25,), (0.5,))(images, blacken)
    torch.testing.assert_close(seen[0], plain(32)(images))
    assert len(seen) == 1
    assert torch.equal(out, torch.full((3, 1, 32, 32), -0.5))


def test_an_augmentation_that_does_nothing_changes_nothing() -> None:
    images, preprocess = stored(28, 28, 3), Preprocess(21, (0.2, 0.3, 0.5), (0.7, 1.1, 1.3))
    assert torch.equal(preprocess(images, lambda x: x), preprocess(images))


def test_stored_images_are_left_as_they_were() -> None:
    images = stored(13, 13)
    before = images.clone()
    Preprocess(13, (0.5,), (0.5,))(images, lambda x: x.mul_(0))
    assert torch.equal(images, before)
