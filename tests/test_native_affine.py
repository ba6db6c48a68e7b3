"""The native kernel for maps of images against torch's grid_sample in double precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.test_native import library
from vitlab.config import AugmentConfig
from vitlab.native.ops import MOST_SIDE, Kernels, affine
from vitlab.training.augment import augment, bend_weights, limits_of, matrices_of

MILD = AugmentConfig(rotate=12.0, zoom=0.12, shear=8.0, shift=2.0)
WILD = AugmentConfig(rotate=180.0, zoom=0.9, shear=40.0, shift=13.0)
BENT = AugmentConfig(rotate=12.0, zoom=0.12, shear=8.0, shift=2.0, elastic=2.5)
TORN = AugmentConfig(elastic=37.0)


def pictures(batch: int, channels: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def draws(batch: int, elastic: float = 0.0) -> Tensor:
    return torch.rand(batch, 57 if elastic else 7, generator=torch.Generator().manual_seed(2))


def native(images: Tensor, config: AugmentConfig, reflect: bool = False, threads: int = 2) -> Tensor:
    weights = [bend_weights(side, images.device) for side in images.shape[2:]]
    chosen = draws(len(images), config.elastic)
    kernels = Kernels(library("float"), threads)
    return affine(images, chosen, limits_of(config), config.elastic, weights, reflect, kernels)


def sampled(images: Tensor, config: AugmentConfig, fill: str) -> Tensor:
    """By torch, place by place, in double precision."""
    chosen = draws(len(images), config.elastic).double()
    maps = matrices_of(chosen[:, :7], limits_of(config))
    height, width = images.shape[2:]
    y, x = (torch.arange(side).double() + 0.5 - side / 2 for side in (height, width))
    places = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)], dim=-1)
    pixels = torch.einsum("bij,hwj->bhwi", maps, places)
    if config.elastic:
        coarse = config.elastic * (2 * chosen[:, 7:].view(-1, 2, 5, 5) - 1)
        bends = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        pixels = pixels + bends.permute(0, 2, 3, 1)
    grid = pixels / torch.tensor([width / 2, height / 2]).double()
    padding = {"zeros": "zeros", "reflect": "reflection"}[fill]
    return F.grid_sample(images, grid, "bilinear", padding, align_corners=False)


@pytest.mark.parametrize("config", [MILD, WILD, BENT, TORN], ids=["mild", "wild", "bent", "torn"])
@pytest.mark.parametrize("fill", ["zeros", "reflect"])
@pytest.mark.parametrize("size", [(13, 1, 28, 28), (7, 3, 11, 17), (3, 2, 1, 5), (2, 1, 128, 127)], ids=str)
def test_it_is_the_definition(config: AugmentConfig, fill: str, size: tuple[int, int, int, int]) -> None:
    images = pictures(*size)
    moved = native(images, config, fill == "reflect")
    # In single precision a place is known to some 1e-5 pixels, and neighbours differ by up to 1.
    truth = sampled(images.double(), config, fill)
    assert float((moved - truth).abs().max()) < 2e-3
    assert float((moved - truth).abs().mean()) < 2e-5


def test_the_result_does_not_depend_on_threads() -> None:
    made = [native(pictures(13, 1, 28, 28), BENT, True, threads) for threads in (1, 2, 5)]
    assert all(torch.equal(made[0], moved) for moved in made)


def test_images_that_are_views_are_read_as_they_look() -> None:
    images = pictures(5, 7, 11, 3).permute(0, 3, 1, 2)
    assert torch.equal(native(images, MILD), native(images.contiguous(), MILD))


@pytest.mark.parametrize("config", [MILD, BENT], ids=["mild", "bent"])
def test_augment_uses_it_where_it_can(config: AugmentConfig) -> None:
    def augmented(side: int, *native: object) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return augment(pictures(2, 1, side, side), config, generator, *native)  # type: ignore[arg-type]

    for side, is_native in ((28, True), (MOST_SIDE, True), (MOST_SIDE + 1, False)):
        plain, made = augmented(side), augmented(side, Kernels(library("float"), 2))
        torch.testing.assert_close(made, plain, rtol=0, atol=2e-3)
        assert torch.equal(made, plain) is not is_native


def test_what_the_kernel_cannot_take() -> None:
    for images in (pictures(1, 1, 3, 129), pictures(1, 1, 3, 3).double()):
        with pytest.raises(ValueError, match="float32 on the CPU, of at most 128 x 128"):
            native(images, MILD)
    with pytest.raises(ValueError, match="57 numbers for each of 2 images"):
        affine(pictures(2, 1, 3, 3), draws(2), limits_of(BENT), 2.5, [], False, Kernels(library("float")))
