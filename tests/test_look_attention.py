"""Numbers from attention weights against cases worked out by hand, and patches deleted from networks that read few."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_model_config
from vitlab.config import ModelConfig
from vitlab.look.attention import (
    attention_distance,
    black,
    patch_deletion,
    patch_numbers,
    pooled_attention,
    query_attention,
    rollout,
)
from vitlab.model import Squares, ViT, build_model
from vitlab.training.preprocess import Preprocess


def random_weights(*shape: int) -> Tensor:
    """Rows of numbers that sum to 1."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)


# Rollout


def test_rows_of_a_rollout_sum_to_1_whatever_those_of_the_weights_do() -> None:
    weights = random_weights(5, 3, 7, 7)
    for scale in (1.0, 1.7):
        reached = rollout(scale * weights)
        assert reached.shape == (7, 7)
        torch.testing.assert_close(reached.sum(dim=1), torch.ones(7))
    assert (reached.sum(dim=0) - 1).abs().max() > 1e-3


def test_rollout_of_tokens_that_look_at_themselves_is_the_identity() -> None:
    assert torch.equal(rollout(torch.eye(7).expand(5, 3, 7, 7)), torch.eye(7))


def test_rollout_of_two_blocks_by_hand() -> None:
    first = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])  # heads; their mean [[.5, .5], [0, 1]]
    second = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(2, 2, 2)
    # [[.5, .5], [.5, .5]] @ [[.75, .25], [0, 1]]; the other way round it would be [[.5, .5], [.5, .5]].
    assert rollout(torch.stack([first, second])).tolist() == [[0.375, 0.625], [0.375, 0.625]]


# What looks at what


def test_attention_of_the_class_token_is_its_row_without_itself() -> None:
    weights = random_weights(2, 3, 5, 5)
    found = pooled_attention(weights, "cls")
    assert found.shape == (2, 3, 4)
    for block, head, patch in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        assert found[block, head, patch] == weights[block, head, 0, 1 + patch]


@pytest.mark.parametrize("pool", ["mean", "flatten"])
def test_attention_of_the_other_pools_is_the_mean_over_the_tokens_that_look(pool: str) -> None:
    weights = random_weights(2, 3, 5, 5)
    found = pooled_attention(weights, pool)
    assert found.shape == (2, 3, 5)
    assert found[1, 2, 3].item() == pytest.approx(sum(weights[1, 2, query, 3].item() for query in range(5)) / 5)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 3))


@pytest.mark.parametrize("has_cls", [False, True])
def test_attention_of_a_patch_counts_patches_and_leaves_the_class_token_out(has_cls: bool) -> None:
    tokens = torch.arange(2 * 3 * 5 * 5.0).view(2, 3, 5, 5)
    found = query_attention(tokens, 2, has_cls)
    row = tokens[1, 2, 3, 1:] if has_cls else tokens[1, 2, 2]
    assert found.shape == (2, 3, 4 if has_cls else 5)
    assert torch.equal(found[1, 2], row)


# Distance


def to_the_right(grid: int) -> Tensor:
    """All weight on the right neighbour; at the right edge on the patch itself."""
    weights = torch.zeros(grid**2, grid**2)
    for patch in range(grid**2):
        weights[patch, patch + (patch % grid < grid - 1)] = 1.0
    return weights


def with_cls(weights: Tensor, share: float) -> Tensor:
    """A class token that gets ``share`` of all attention, and itself looks at the last patch."""
    count = weights.shape[-1]
    full = torch.zeros(*weights.shape[:-2], count + 1, count + 1)
    full[..., 1:, 1:], full[..., 1:, 0], full[..., 0, -1] = (1 - share) * weights, share, 1.0
    return full


@pytest.mark.parametrize("has_cls", [False, True])
def test_distance_of_the_right_neighbour_is_a_patch_except_at_the_edge(has_cls: bool) -> None:
    weights = to_the_right(3)
    weights = with_cls(weights, 0.4) if has_cls else weights
    found = attention_distance(weights.expand(2, 5, 7, -1, -1), grid=3, patch_size=5, has_cls=has_cls)
    torch.testing.assert_close(found, torch.full((2, 7), 5 * 6 / 9))  # six of nine have a right neighbour


def test_distance_of_equal_attention_over_two_by_two() -> None:
    uniform = torch.full((1, 1, 1, 4, 4), 0.25)
    assert attention_distance(uniform, 2, 7, False).item() == pytest.approx((0 + 7 + 7 + 7 * math.sqrt(2)) / 4)


def test_distance_of_patches_that_look_at_themselves_is_0_in_any_grid() -> None:
    assert attention_distance(torch.eye(49).view(1, 1, 1, 49, 49), 7, 4, False).item() == 0.0


def test_distance_is_a_mean_over_images_apart_for_each_block_and_head() -> None:
    still, right = torch.eye(9), to_the_right(3)
    weights = torch.stack([still, right, right, still, still, right]).view(1, 3, 2, 9, 9)  # [depth, B, h, ...]
    found = attention_distance(weights, 3, 5, False)
    torch.testing.assert_close(found, torch.tensor([[1 / 3, 2 / 3]]) * 5 * 6 / 9)


def test_distance_is_a_number_even_if_everything_goes_to_the_class_token() -> None:
    assert attention_distance(with_cls(torch.eye(4), 1.0).view(1, 1, 1, 5, 5), 2, 3, True).item() == 0.0


# Deleting patches


class Reader(nn.Module):
    """Class 1 is as probable as a rectangle is bright, in these channels together; nothing else is looked at."""

    def __init__(self, rows: slice, columns: slice, config: ModelConfig | None = None, first_channel: int = 0) -> None:
        super().__init__()
        self.rows, self.columns, self.config, self.first_channel = rows, columns, config, first_channel
        self.modes: list[bool] = []
        self.batches: list[int] = []

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.modes.append(self.training)
        self.batches.append(len(images_BCHW))
        score = images_BCHW[:, self.first_channel :, self.rows, self.columns].sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


# Patches of 3 in a square of 11 (two pixels are cut off) inside an input of 15: margins of 2, seen by overlap only.
CROPPED = ModelConfig(
    image_size=19, crop=11, patch_size=3, patch_overlap=2, embed_dim=8, depth=1, num_heads=2, pool="mean"
)
INPUTS = torch.rand(5, 2, 15, 15, generator=torch.Generator().manual_seed(1)) * 0.1 + 0.02
ONES = torch.ones(5, dtype=torch.int64)
SQUARES = ViT(CROPPED, 1, 2).describe().squares


def test_the_geometry_of_these_tests_is_what_they_say() -> None:
    assert (CROPPED.input_side, CROPPED.margin, CROPPED.grid) == (15, 2, 3)
    assert Squares(grid=3, side=3, margin=2) == SQUARES


def test_each_pixel_belongs_to_at_most_one_patch() -> None:
    assert patch_numbers(Squares(grid=2, side=2, margin=1), height=7, width=6).tolist() == [
        [-1, -1, -1, -1, -1, -1],
        [-1, 0, 0, 1, 1, -1],
        [-1, 0, 0, 1, 1, -1],
        [-1, 2, 2, 3, 3, -1],
        [-1, 2, 2, 3, 3, -1],
        [-1, -1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1],
    ]


@pytest.mark.parametrize(
    ("rows", "columns"), [(slice(5, 8), slice(8, 11)), (slice(5, 6), slice(8, 9)), (slice(7, 8), slice(10, 11))]
)
def test_deleting_hurts_a_reader_of_one_patch_there_and_nowhere_else(rows: slice, columns: slice) -> None:
    falls = patch_deletion(Reader(rows, columns, CROPPED), INPUTS, ONES, -0.5, SQUARES)
    scores = INPUTS[:, :, rows, columns].sum(dim=(1, 2, 3))
    empty = -0.5 * 2 * (rows.stop - rows.start) * (columns.stop - columns.start)
    expected = torch.zeros(5, 3, 3)
    expected[:, 1, 2] = scores.sigmoid() - torch.tensor(empty).sigmoid()
    torch.testing.assert_close(falls, expected)
    assert expected[:, 1, 2].min() > 0.1


@pytest.mark.parametrize("rows", [slice(0, 2), slice(11, 15)])  # the margin; what is cut off, and the margin behind it
def test_deleting_does_not_touch_what_belongs_to_no_patch(rows: slice) -> None:
    for reader in (Reader(rows, slice(0, 15), CROPPED), Reader(slice(0, 15), rows, CROPPED)):
        falls = patch_deletion(reader, INPUTS, ONES, -0.5, SQUARES)
        torch.testing.assert_close(falls, torch.zeros(5, 3, 3), atol=1e-6, rtol=0)


def test_deletion_is_about_the_probability_of_each_images_own_label() -> None:
    reader = Reader(slice(5, 8), slice(8, 11), CROPPED)
    labels = torch.tensor([1, 0, 1, 0, 0])
    falls = patch_deletion(reader, INPUTS, labels, -0.5, SQUARES)[:, 1, 2]
    assert (falls > 0).tolist() == [True, False, True, False, False]  # what one class of two loses, the other gains


def test_squares_can_be_given_for_a_network_without_patches() -> None:
    falls = patch_deletion(Reader(slice(7, 14), slice(0, 7)), INPUTS, ONES, -0.5, squares=Squares(grid=2, side=7))
    assert (falls > 0.1).tolist() == [[[False, False], [True, False]]] * 5
    assert falls[:, 0].abs().max() < 1e-6


def test_black_can_differ_between_channels() -> None:
    blank = black(Preprocess(15, mean=(0.2, 0.3), std=(0.5, 0.1)))
    torch.testing.assert_close(blank, torch.tensor([-0.4, -3.0]))
    falls = patch_deletion(Reader(slice(2, 3), slice(2, 3), CROPPED, first_channel=1), INPUTS, ONES, blank, SQUARES)
    expected = INPUTS[:, 1, 2, 2].sigmoid() - torch.tensor(-3.0).sigmoid()
    torch.testing.assert_close(falls[:, 0, 0], expected)


@pytest.mark.parametrize(("at_once", "batches"), [(1, [5] * 10), (23, [5, 20, 20, 5]), (1024, [5, 45])])
def test_deletion_does_not_depend_on_how_many_go_at_once(
    at_once: int, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = patch_deletion(Reader(slice(0, 15), slice(0, 7), CROPPED), INPUTS, ONES, -0.5, SQUARES)
    monkeypatch.setattr("vitlab.look.attention.IMAGES_AT_ONCE", at_once)
    reader = Reader(slice(0, 15), slice(0, 7), CROPPED)
    torch.testing.assert_close(patch_deletion(reader, INPUTS, ONES, -0.5, SQUARES), expected)
    assert reader.batches == batches


@pytest.mark.parametrize("training", [True, False])
def test_deletion_evaluates_and_restores_the_mode(training: bool) -> None:
    reader = Reader(slice(5, 8), slice(8, 11), CROPPED).train(training)
    patch_deletion(reader, INPUTS, ONES, -0.5, SQUARES)
    assert not any(reader.modes)
    assert reader.training == training


@pytest.mark.parametrize("knobs", [dict(), dict(crop=11, patch_size=3, patch_overlap=2), dict(patch_overlap=1)])
def test_deletion_in_a_vit_is_what_happens_when_its_pixels_are_painted_over(knobs: dict[str, object]) -> None:
    config = tiny_model_config(**knobs)
    torch.manual_seed(0)
    model = build_model(config, 2, 3).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    inputs = torch.rand(5, 2, config.input_side, config.input_side)
    labels = torch.tensor([0, 1, 2, 1, 0])
    falls = patch_deletion(model, inputs, labels, -0.5, model.describe().squares)
    for row, column in ((0, 0), (1, 2), (2, 1)):
        top, left = (config.margin + place * config.patch_size for place in (row, column))
        painted = inputs.clone()
        painted[:, :, top : top + config.patch_size, left : left + config.patch_size] = -0.5
        with torch.no_grad():
            before, after = (model(images).softmax(1)[torch.arange(5), labels] for images in (inputs, painted))
        torch.testing.assert_close(falls[:, row, column], before - after, atol=1e-5, rtol=1e-4)
        assert (before - after).abs().max() > 1e-3
