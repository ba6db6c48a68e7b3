"""Disturbances against torch, SciPy and slices, and accuracy under them for a network whose answer can be foretold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from tests.tiny import glyphs, on_cpu
from vitlab.config import MachineConfig
from vitlab.data.batches import DeviceSplit
from vitlab.look.robustness import (
    DISTURBANCES,
    SEED,
    blurred,
    change_of,
    mapped,
    noisy,
    occluded,
    robustness,
)
from vitlab.look.run import evenly
from vitlab.machine import Machine, choose_machine
from vitlab.training.evaluate import predict_logits, top_k
from vitlab.training.preprocess import Preprocess


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(height: int = 11, width: int = 17) -> Tensor:
    """[5, 3, height, width], nowhere black or white."""
    return torch.rand(5, 3, height, width, generator=generator(7)) * 0.8 + 0.1


# Disturbances


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (-90, -1), (180, 2)])
def test_a_quarter_turn_is_torchs(degrees: float, quarters: int) -> None:
    images = pictures(7, 7)
    torch.testing.assert_close(mapped(images, degrees, 0.0), torch.rot90(images, quarters, (2, 3)), atol=1e-5, rtol=0)


def test_a_turn_around_the_centre_pixel_leaves_it_and_brings_black_into_the_corners() -> None:
    images = torch.ones(2, 3, 7, 7)
    turned = mapped(images, 45.0, 0.0)
    assert turned[:, :, 3, 3].min() == pytest.approx(1.0)
    assert turned[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].max() == 0.0


@pytest.mark.parametrize("pixels", [0, 3, -2])
def test_a_shift_is_to_the_right_and_brings_black_in(pixels: int) -> None:
    images = pictures()
    expected = torch.zeros_like(images)
    for x in range(17):
        if 0 <= x - pixels < 17:
            expected[:, :, :, x] = images[:, :, :, x - pixels]
    torch.testing.assert_close(mapped(images, 0.0, pixels), expected, atol=1e-5, rtol=0)


def test_noise_has_its_standard_deviation_in_each_pixel_and_channel_apart() -> None:
    images = torch.full((53, 3, 11, 17), 0.5)
    noise = noisy(images, 0.07, generator()) - images
    assert noise.std().item() == pytest.approx(0.07, rel=0.03)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.002)
    for dim in range(4):
        assert noise.std(dim=dim).mean() > 0.05  # it differs along each axis


def test_noise_stays_between_black_and_white_and_is_that_of_its_generator() -> None:
    images = pictures()
    found = noisy(images, 3.0, generator(1))
    assert found.min() == 0.0
    assert found.max() == 1.0
    assert torch.equal(found, noisy(images, 3.0, generator(1)))
    assert not torch.equal(found, noisy(images, 3.0, generator(2)))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0])
def test_blur_is_scipys_gaussian_filter(sigma: float) -> None:
    images = pictures()
    expected = gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=3.0)
    torch.testing.assert_close(blurred(images, sigma), torch.from_numpy(expected), atol=1e-5, rtol=0)
    assert np.abs(expected - images.numpy()).max() > 0.05


def test_blur_keeps_the_sum_of_what_lies_inside() -> None:
    images = nn.functional.pad(pictures(), (6, 6, 6, 6))
    found = blurred(images, 2.0)
    torch.testing.assert_close(found.sum(dim=(2, 3)), images.sum(dim=(2, 3)))
    assert found.amax(dim=(2, 3)).max() < images.amax(dim=(2, 3)).min()


@pytest.mark.parametrize("sigma", [0.3, 1.0, 9.0])
def test_blur_leaves_a_plain_image_alone(sigma: float) -> None:
    plain = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1).expand(2, 3, 11, 17)
    torch.testing.assert_close(blurred(plain, sigma), plain)


@pytest.mark.parametrize("side", [1, 4, 11])
def test_a_black_square_of_that_side_covers_each_image(side: int) -> None:
    found = occluded(torch.ones(2003, 2, 11, 17), side, generator())
    black = found == 0.0
    assert torch.equal(black, black[:, :1].expand_as(black))  # all channels
    assert set(black[:, 0].any(dim=2).sum(dim=1).tolist()) == {side}
    assert set(black[:, 0].any(dim=1).sum(dim=1).tolist()) == {side}
    assert set(black[:, 0].sum(dim=(1, 2)).tolist()) == {side**2}
    assert found.max() == 1.0
    assert len(black[:, 0].flatten(1).unique(dim=0)) == (11 - side + 1) * (17 - side + 1)  # wherever it fits


def test_a_square_is_where_its_generator_wants_it_and_may_be_larger_than_the_image() -> None:
    images = pictures()
    assert torch.equal(occluded(images, 4, generator(1)), occluded(images, 4, generator(1)))
    assert not torch.equal(occluded(images, 4, generator(1)), occluded(images, 4, generator(2)))
    assert occluded(images, 23, generator()).max() == 0.0


@pytest.mark.parametrize("name", DISTURBANCES)
def test_strength_0_changes_nothing_and_strengths_rise(name: str) -> None:
    disturb, strengths, unit = DISTURBANCES[name]
    images = pictures()
    assert strengths[0] == 0
    assert list(strengths) == sorted(set(strengths))
    assert unit
    torch.testing.assert_close(disturb(images, 0.0, generator()), images, atol=1e-5, rtol=0)
    for strength in strengths[1:]:
        changed = disturb(images, strength, generator())
        assert changed.shape == images.shape
        assert not torch.allclose(changed, images, atol=0.01)


# Accuracy


class BarReader(nn.Module):
    """The class of a glyph: which two rows are the brightest."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.seen.append(images_BCHW)
        self.modes.append(self.training)
        logits_BK: Tensor = images_BCHW[:, 0, :6].mean(dim=-1).unflatten(1, (3, 2)).mean(dim=-1)
        return logits_BK


def machine(precision: str = "fp32") -> Machine:
    return replace(choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32")), precision=precision)


PREPROCESS = Preprocess(8, (0.3,), (0.5,))


def some_wrong(count: int, wrong: int) -> DeviceSplit:
    """Glyphs of which the first ``wrong`` carry another label."""
    data = on_cpu(glyphs(count))
    data.labels[:wrong] = (data.labels[:wrong] + 1) % 3
    return data


def test_strength_0_is_the_plain_accuracy_of_every_second_image() -> None:
    data = some_wrong(46, 5)
    found = robustness(BarReader(), data, PREPROCESS, machine(), 7, 23)
    some = DeviceSplit(data.images[::2], data.labels[::2])
    plain = top_k(predict_logits(BarReader(), some, PREPROCESS, machine(), 7), some.labels, 1)
    assert plain == 20 / 23  # 0, 2 and 4 are wrong
    assert list(found) == list(DISTURBANCES)
    for name, curve in found.items():
        assert [strength for strength, _ in curve] == list(DISTURBANCES[name][1])
        assert curve[0] == (0.0, plain)


def test_what_destroys_the_bars_costs_accuracy_and_what_does_not_does_not() -> None:
    data = on_cpu(glyphs(47))
    found = {name: dict(curve) for name, curve in robustness(BarReader(), data, PREPROCESS, machine(), 13, 47).items()}
    assert {curve[0] for curve in found.values()} == {1.0}
    assert found["shift"][6] == 1.0 > 0.4 > found["shift"][8]  # along the bars, until nothing is left
    assert found["rotation"][90] < 0.8
    assert found["occlusion"][4] > 0.5 > found["occlusion"][16]
    assert found["noise"][0.1] == 1.0


def test_images_are_disturbed_before_crop_and_normalisation_and_in_full_precision() -> None:
    model, data = BarReader(), on_cpu(glyphs(5))
    robustness(model, data, replace(PREPROCESS, crop=6), machine("bf16"), 5, 5)
    turns = [strength for strength in DISTURBANCES["rotation"][1] if strength]
    scaled = data.images.permute(0, 3, 1, 2).float() / 255
    for inputs, degrees in zip(model.seen[1:], turns, strict=False):  # the first is the plain one
        expected = (mapped(scaled, degrees, 0.0)[:, :, 1:7, 1:7] - 0.3) / 0.5
        torch.testing.assert_close(inputs, expected, atol=1e-5, rtol=0)


def test_products_of_the_network_run_in_the_machines_precision() -> None:
    class Asker(nn.Module):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            flat = images_BCHW.flatten(1)
            dtypes.add((flat @ flat.T).dtype)
            return flat[:, :3]

    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        dtypes: set[torch.dtype] = set()
        robustness(Asker(), on_cpu(glyphs(5)), PREPROCESS, machine(precision), 5, 5)
        assert dtypes == {dtype}


def test_the_same_question_has_the_same_answer_and_leaves_no_trace() -> None:
    data, model = some_wrong(47, 5), BarReader().train()
    before = torch.get_rng_state()
    answers = [robustness(model, data, PREPROCESS, machine(), 13, 47) for _ in range(2)]
    assert answers[0] == answers[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert not any(model.modes)


def test_images_are_taken_evenly() -> None:
    assert evenly(10, 3).tolist() == [0, 3, 6]
    assert evenly(5, 7).tolist() == [0, 1, 2, 3, 4]
    assert len(set(evenly(10_007, 2000).tolist())) == 2000


def test_pixels_are_those_of_the_stored_image() -> None:
    """Shift, blur and occlusion do to an image of twice the side twice as much in its own pixels; noise and rotation
    have nothing to do with it."""
    small, large = (Preprocess(side, (0.0,), (1.0,)) for side in (22, 44))
    expected = {"shift": 6.0, "blur": 3.0, "occlusion": 12.0}
    for preprocess, factor in ((small, 1), (large, 2)):
        images = torch.rand(5, 1, preprocess.image_size, preprocess.image_size, generator=generator(7))
        for name, strength in expected.items():
            change = change_of(name, strength, preprocess, 22, machine())
            assert change is not None
            same = DISTURBANCES[name][0](images, factor * strength, machine().generator(SEED, name))
            assert torch.equal(change(images), same)
        for name, strength in (("rotation", 30.0), ("noise", 0.2)):
            change = change_of(name, strength, preprocess, 22, machine())
            assert change is not None
            same = DISTURBANCES[name][0](images, strength, machine().generator(SEED, name))
            assert torch.equal(change(images), same)
    assert change_of("shift", 0.0, small, 22, machine()) is None


def test_a_network_that_enlarges_its_images_is_disturbed_as_much() -> None:
    """Black and white halves, shifted by half the stored width: all black on the left half, at any image_size."""
    image = torch.full((1, 8, 8, 1), 255, dtype=torch.uint8)
    for size in (8, 16, 24):
        plain = Preprocess(size, (0.0,), (1.0,))
        shown = plain(image, change_of("shift", 4, plain, 8, machine()))
        assert shown[..., : size // 2].max() < 1e-5
        assert shown[..., size // 2 :].min() > 1 - 1e-5
