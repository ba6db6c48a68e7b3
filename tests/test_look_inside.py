"""Filters, positions and the logit lens against small cases and against networks cut short."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.tiny import tiny_model_config
from vitlab.look.inside import embedding_filters, logit_lens, position_similarity
from vitlab.model import ViT
from vitlab.model.patches import patchify
from vitlab.training.evaluate import evaluating

# Filters


def unit(*numbers: float) -> Tensor:
    return F.normalize(torch.tensor(numbers, dtype=torch.float32), dim=0)


def test_filter_of_a_matrix_of_rank_1_is_its_pattern_upright() -> None:
    pattern = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))  # [1, C, side, side]
    pattern[0, 1, 3, 2] = -7.0
    patch = patchify(pattern, 5).flatten()
    weight = torch.outer(torch.randn(13, generator=torch.Generator().manual_seed(1)), patch)
    (found,) = embedding_filters(weight, channels=2, side=5, count=1)
    assert found.shape == (5, 5, 2)
    torch.testing.assert_close(found, -pattern[0].permute(1, 2, 0) / pattern.norm())
    assert found[3, 2, 1] == found.abs().max()


def test_filters_come_in_the_order_of_their_strength() -> None:
    strong, weak = unit(1, 2, 2, 0), unit(2, 1, -2, 0)
    weight = 2 * torch.outer(unit(1, 1, 0), weak) + 5 * torch.outer(unit(1, -1, 0), strong)
    found = embedding_filters(weight, channels=1, side=2, count=2)
    torch.testing.assert_close(found[0].flatten(), strong)
    torch.testing.assert_close(found[1].flatten().abs(), weak.abs())


def test_there_are_no_more_filters_than_the_matrix_has() -> None:
    weight = nn.Parameter(torch.randn(3, 25))
    found = embedding_filters(weight, channels=1, side=5, count=11)
    assert found.shape == (3, 5, 5, 1)
    assert not found.requires_grad
    torch.testing.assert_close(found.flatten(1) @ found.flatten(1).T, torch.eye(3))
    assert bool((found.flatten(1).max(dim=1).values == found.flatten(1).abs().max(dim=1).values).all())


# Positions


@pytest.mark.parametrize("has_cls", [False, True])
def test_positions_are_alike_as_their_directions_are(has_cls: bool) -> None:
    positions = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [5.0, 5.0], [0.0, 0.0]])
    half = 0.5**0.5
    expected = torch.tensor([
        [1.0, 0.0, -1.0, half, 0.0],
        [0.0, 1.0, 0.0, half, 0.0],
        [-1.0, 0.0, 1.0, -half, 0.0],
        [half, half, -half, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
    ])  # fmt: skip
    if has_cls:
        positions = torch.cat([torch.tensor([[7.0, -1.0]]), positions])
    torch.testing.assert_close(position_similarity(nn.Parameter(positions), has_cls), expected)


# Logit lens


def shaken_vit(**knobs: object) -> ViT:
    """A network whose every weight matters, with dropout."""
    torch.manual_seed(0)
    model = ViT(tiny_model_config(dropout=0.3, head_dropout=0.3, drop_path=0.3, **knobs), 2, 7)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


INPUTS = torch.randn(5, 2, 15, 15, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("knobs", [dict(pool="cls"), dict(pool="mean", norm="rms"), dict(pool="flatten")], ids=str)
def test_each_row_of_the_lens_is_the_network_cut_short_there(knobs: dict[str, object]) -> None:
    model = shaken_vit(head_hidden=(11,), **knobs)
    lens = logit_lens(model, INPUTS)
    assert lens.shape == (4, 5, 7)
    for blocks in range(4):
        short = copy.deepcopy(model).eval()
        short.blocks = short.blocks[:blocks]
        with torch.no_grad():
            torch.testing.assert_close(lens[blocks], short(INPUTS).softmax(dim=1))
    differences = (lens[1:] - lens[:-1]).abs().amax(dim=(1, 2))
    assert differences.min() > 0.01  # so that a row in the wrong place would have been seen


def test_the_last_row_of_the_lens_is_the_networks_answer() -> None:
    model = shaken_vit(pool="cls").eval()
    with torch.no_grad():
        torch.testing.assert_close(logit_lens(model, INPUTS)[-1], model(INPUTS).softmax(dim=1))


def test_the_lens_sees_no_difference_between_blocks_that_do_nothing() -> None:
    model = ViT(tiny_model_config(init="zero", pool="mean"), 2, 7)
    nn.init.normal_(model.head[-1].weight)  # type: ignore[arg-type]
    lens = logit_lens(model, INPUTS)
    torch.testing.assert_close(lens, lens[:1].expand_as(lens))
    assert lens.std(dim=2).min() > 0.01


# Evaluating


@pytest.mark.parametrize("training", [True, False])
def test_looking_switches_dropout_and_gradients_off_and_restores_the_mode(training: bool) -> None:
    model = shaken_vit().train(training)
    assert torch.equal(logit_lens(model, INPUTS), logit_lens(model, INPUTS))
    assert not logit_lens(model, INPUTS).requires_grad
    assert {module.training for module in model.modules()} == {training}


def test_the_mode_is_restored_after_an_error_too() -> None:
    model = shaken_vit().train()
    with pytest.raises(TypeError), evaluating(model):
        model(INPUTS[:, :, :7])
    assert model.training
    assert model(INPUTS).requires_grad
