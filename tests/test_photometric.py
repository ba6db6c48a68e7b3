"""Brightness, contrast and saturation, against Pillow's ImageEnhance; mixup and CutMix, against what the papers say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance
from torch import Tensor

from tests.test_train import equal, make_task, run
from vitlab.config import AugmentConfig
from vitlab.training import mixing, photometric
from vitlab.training.augment import augment
from vitlab.training.step import larger_part, training_loss


def of(**knobs: Any) -> AugmentConfig:
    return AugmentConfig(**knobs)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(batch: int = 5, channels: int = 3) -> Tensor:
    """Whole grey levels, [B, C, 7, 11]."""
    return torch.randint(0, 256, (batch, channels, 7, 11), generator=generator(3)) / 255


ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@pytest.mark.parametrize("knob", ENHANCERS)
def test_each_change_is_what_pillow_does_with_the_same_factor(knob: str) -> None:
    images, limit = photos(), 0.6
    changed = photometric.photometric(images, of(**{knob: limit}), generator(5))
    draws = torch.rand(3, 5, generator=generator(5))[list(ENHANCERS).index(knob)]
    for image, result, draw in zip(images, changed, draws, strict=True):
        picture = Image.fromarray((image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
        expected = np.asarray(ENHANCERS[knob](picture).enhance(1 + limit * (2 * draw.item() - 1)))
        found = (result.permute(1, 2, 0) * 255).numpy()
        assert np.abs(found - expected).max() < 2  # Pillow rounds the grey level, and the result
        assert np.abs(found - np.asarray(picture)).max() > 10


@pytest.mark.parametrize("knob", ENHANCERS)
def test_factors_differ_between_images_and_fill_their_range(knob: str) -> None:
    images = photos(1).mul(0.4).add(0.3).expand(997, -1, -1, -1)  # far from black and white: nothing is cut
    changed = photometric.photometric(images, of(**{knob: 0.2}), generator())
    reference = {
        "brightness": torch.zeros(1, 1, 7, 11),
        "contrast": photometric.grey(images[:1]).mean().expand(1, 1, 7, 11),
        "saturation": photometric.grey(images[:1]),
    }[knob]
    factors = ((changed - reference) / (images - reference))[:, 0, 3, 4]
    assert 0.8 - 1e-4 <= factors.min() < 0.81
    assert 1.19 < factors.max() <= 1.2 + 1e-4
    assert factors.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.05)


def test_grey_images_have_no_saturation_and_pixels_stay_in_range() -> None:
    grey = photos(channels=1)
    assert torch.equal(photometric.photometric(grey, AugmentConfig(saturation=0.9), generator()), grey)
    wild = AugmentConfig(brightness=0.9, contrast=0.9, saturation=0.9)
    changed = photometric.photometric(photos(53), wild, generator())
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_what_a_shift_leaves_empty_stays_black() -> None:
    config = AugmentConfig(contrast=0.9, shift=3.0)
    changed = augment(photos(197) / 2 + 0.5, config, generator())
    assert (changed.amin(dim=(1, 2, 3)) == 0).float().mean() > 0.8  # the others moved by less than a pixel


# Mixing


def numbered(batch: int, height: int = 13, width: int = 17) -> Tensor:
    """Images whose every pixel is the image's number."""
    return torch.arange(float(batch)).view(-1, 1, 1, 1).expand(batch, 2, height, width)


def test_mixup_blends_each_image_with_the_next_by_its_share() -> None:
    images = numbered(7)
    mixed, share_B = mixing.mix(images, AugmentConfig(mixup=1.0), generator())
    expected = share_B * torch.arange(7.0) + (1 - share_B) * torch.tensor([1.0, 2, 3, 4, 5, 6, 0])
    torch.testing.assert_close(mixed, expected.view(-1, 1, 1, 1).expand_as(images))
    assert len(share_B.unique()) == 7


def test_cutmix_pastes_one_rectangle_of_the_next_image_and_counts_its_pixels() -> None:
    mixed, share_B = mixing.mix(numbered(101), AugmentConfig(cutmix=1.0), generator())
    for number, (image, share) in enumerate(zip(mixed[:, 0], share_B, strict=True)):
        pasted = image == (number + 1) % 101
        assert (pasted | (image == number)).all()
        rows, columns = pasted.any(1), pasted.any(0)
        assert torch.equal(pasted, rows[:, None] & columns[None, :])
        assert share.item() == pytest.approx(1 - pasted.float().mean().item(), abs=1e-6)


def test_the_cut_has_the_drawn_area_where_it_lies_inside() -> None:
    share, centres = torch.full((1,), 0.75), torch.full((2, 1), 0.5)
    _, left = mixing.paste(numbered(1, 101, 203), numbered(1, 101, 203) + 1, share, centres)
    assert left.item() == pytest.approx(0.75, abs=0.01)  # half of each side
    _, corner = mixing.paste(numbered(1, 101, 203), numbered(1, 101, 203) + 1, share, centres * 0)
    assert corner.item() == pytest.approx(1 - 0.25 / 4, abs=0.01)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    values = mixing.shares(torch.zeros(20011, 1, 1, 1), alpha, generator())
    assert values.isfinite().all()
    assert values.mean().item() == pytest.approx(0.5, abs=0.01)
    assert values.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)


def test_with_both_on_an_image_is_mixed_by_one_of_them() -> None:
    mixed, _ = mixing.mix(numbered(1009), AugmentConfig(mixup=1.0, cutmix=1.0), generator())
    blended = (mixed.flatten(1) == mixed[:, 0, 0, :1]).all(dim=1) & (mixed[:, 0, 0, 0] % 1 > 0)
    assert 0.42 < blended.float().mean() < 0.58


def test_the_loss_counts_both_labels_by_their_shares_as_for_mixed_targets() -> None:
    """torch computes the cross-entropy of targets that are probabilities."""
    logits = torch.randn(7, 5, generator=generator())
    labels, share = torch.tensor([0, 1, 2, 3, 4, 0, 2]), torch.rand(7, generator=generator(1))
    targets = F.one_hot(labels, 5) * share[:, None] + F.one_hot(labels.roll(-1), 5) * (1 - share[:, None])
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(training_loss(logits, labels, 0.1, None, share), expected)
    weights = torch.tensor([1.0, 3, 1, 1, 1, 1, 1])
    weighed = training_loss(logits, labels, 0.1, weights, share) - training_loss(logits, labels, 0.1, None, share)
    one = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")[1]
    other = F.cross_entropy(logits[0], labels[1], label_smoothing=0.1)
    torch.testing.assert_close(weighed, 2 * (share[1] * one + (1 - share[0]) * other) / 7)


def test_the_larger_part_is_what_accuracy_counts() -> None:
    labels = torch.tensor([3, 1, 4])
    assert larger_part(labels, torch.tensor([0.9, 0.2, 0.1])).tolist() == [3, 4, 3]
    assert larger_part(labels, None).tolist() == [3, 1, 4]


def test_training_mixes_until_the_clean_tail_and_repeats_bit_for_bit() -> None:
    task = make_task(rotate=0.0, shift=0.0, mixup=0.4, cutmix=1.0, brightness=0.2)
    weights = run(task).weights
    assert equal(weights, run(task).weights)
    without = replace(task, config=task.config.with_knobs(mixup=0.0, cutmix=0.0))
    assert not equal(weights, run(without).weights)
    unmixed = [replace(task, config=task.config.with_knobs(clean_tail=1.0, **knobs)) for knobs in ({}, {"mixup": 0.0})]
    assert equal(run(unmixed[0]).weights, run(unmixed[1]).weights)
