"""Weights for another network: interpolated tables, channels, classes, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.tiny import tiny_model_config
from vitlab.config import ModelConfig
from vitlab.errors import ConfigError
from vitlab.model import build_model
from vitlab.model.patches import patchify
from vitlab.model.transfer import (
    Shape,
    adapt_channels,
    adapt_patches,
    frozen_parameters,
    in_words,
    resize_tokens,
    resizing,
    transfer,
)

CLASSES = ("ape", "bee", "cat", "dog", "eel")


def filled(config: ModelConfig, channels: int = 1, classes: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """A state in which no number is 0, so that nothing can be mistaken for freshly initialised."""
    torch.manual_seed(seed)
    state = build_model(config, channels, classes).state_dict()
    filled = {name: torch.randn_like(value) for name, value in state.items()}
    return {name: value.abs() if name.endswith("running_var") else value for name, value in filled.items()}


@pytest.mark.parametrize("arch", ["vit", "cnn", "mixer", "resnet"])
def test_the_same_network_gives_the_same_logits(arch: str) -> None:
    config = tiny_model_config(arch=arch, cnn_channels=(5,), attn_bias=True)
    shape, weights = Shape(config, 3, CLASSES), filled(config, 3)
    fitted, done = transfer(weights, shape, shape, filled(config, 3, seed=1))
    assert (set(done.taken), done.adapted, done.partly, done.new, done.left) == (set(weights), [], [], [], [])
    a, b = build_model(config, 3, 5).eval(), build_model(config, 3, 5).eval()
    a.load_state_dict(weights)
    b.load_state_dict(fitted)
    images = torch.randn(7, 3, config.input_side, config.input_side)
    assert torch.equal(a(images), b(images))


def test_positions_of_another_grid_are_torchs_bicubic_ones_and_the_class_token_keeps_its_own() -> None:
    """From 3 x 3 to 5 x 5 and back, with a class token on both sides."""
    table = torch.randn(1 + 9, 11)
    for side, other in ((3, 5), (3, 2)):
        found = resize_tokens(table, 0, (True, side), (True, other))
        square = table[1:].T.reshape(1, 11, side, side)
        wanted = F.interpolate(square, size=(other, other), mode="bicubic", antialias=True, align_corners=False)
        assert torch.equal(found[0], table[0])
        assert torch.allclose(found[1:], wanted.reshape(11, other**2).T, atol=1e-6)
    assert torch.equal(resize_tokens(table, 0, (True, 3), (False, 3)), table[1:])
    gained = resize_tokens(table[1:], 0, (False, 3), (True, 3))
    assert torch.equal(gained, torch.cat([torch.zeros(1, 11), table[1:]]))


def test_a_ramp_over_the_places_stays_a_ramp() -> None:
    """By hand: rows 0, 1, 2, 3 at the centres of 4 cells have the values 0.25 + 0.5 i at those of 7 in the middle."""
    ramp = torch.arange(4.0).repeat_interleave(4)[:, None]
    found = resize_tokens(ramp, 0, (False, 4), (False, 8)).reshape(8, 8)
    assert torch.allclose(found[3:5, 4], torch.tensor([1.25, 1.75]), atol=1e-2)


def test_the_attention_bias_is_interpolated_over_both_tokens() -> None:
    """A product of two tables becomes the product of both for the other grid."""
    queries, keys = torch.randn(2, 9), torch.randn(2, 9)
    bias = queries[:, :, None] * keys[:, None, :]
    config, other = tiny_model_config(attn_bias=True), tiny_model_config(attn_bias=True, image_size=25)
    weights = filled(config)
    weights["blocks.1.attn.bias"] = bias
    fitted, done = transfer(weights, Shape(config, 1, CLASSES), Shape(other, 1, CLASSES), filled(other))
    a, b = (resize_tokens(table, 1, (False, 3), (False, 5)) for table in (queries, keys))
    assert torch.allclose(fitted["blocks.1.attn.bias"], a[:, :, None] * b[:, None, :], atol=1e-5)
    assert done.adapted == ["pos_embed", *(f"blocks.{n}.attn.bias" for n in range(3))]
    shares = replace(other, attn_bias_shared=True)
    fitted, _ = transfer(weights, Shape(config, 1, CLASSES), Shape(shares, 1, CLASSES), filled(shares))
    pairs = [(5 * row + column, 5 * row + column + 1) for row in range(5) for column in range(4)]  # right neighbours
    mean = torch.stack([a[:, one] * b[:, next] for one, next in pairs]).mean(dim=0)
    assert torch.allclose(fitted["blocks.1.attn.bias"][:, 7, 8], mean, atol=1e-5)


def test_a_flat_head_of_another_grid_sums_to_the_same() -> None:
    """The same vector at each place gives the same logits, however many places there are."""
    config, other = tiny_model_config(pool="flatten"), tiny_model_config(pool="flatten", image_size=25)
    weights = filled(config)
    vector = torch.randn(14)
    even = weights | {"head.1.weight": torch.randn(5, 14).repeat(1, 9)}
    fitted, _ = transfer(even, Shape(config, 1, CLASSES), Shape(other, 1, CLASSES), filled(other))
    before, after = even["head.1.weight"] @ vector.repeat(9), fitted["head.1.weight"] @ vector.repeat(25)
    assert torch.allclose(before, after, atol=1e-4)


def test_grey_images_in_colour_give_what_they_gave_and_colours_are_summed() -> None:
    config = tiny_model_config(patch_overlap=2)
    grey, colour = Shape(config, 1, CLASSES), Shape(config, 3, CLASSES)
    weight, images = torch.randn(14, 81), torch.randn(7, 1, 15, 15)
    before = patchify(images, 5, 2) @ weight.T
    after = patchify(images.expand(-1, 3, -1, -1), 5, 2) @ adapt_patches(weight, grey, colour).T
    assert torch.allclose(before, after, atol=1e-4)
    back = adapt_patches(adapt_patches(weight, grey, colour), colour, grey)
    assert torch.allclose(back, weight, atol=1e-6)
    weight = torch.randn(14, 243)
    before = patchify(images.expand(-1, 3, -1, -1), 5, 2) @ weight.T
    assert torch.allclose(before, patchify(images, 5, 2) @ adapt_patches(weight, colour, grey).T, atol=1e-4)
    kernel = torch.randn(5, 2, 3, 3)
    wanted = kernel[:, [0, 1, 0, 1, 0]] * (2 / 5)
    assert torch.equal(adapt_channels(kernel, 1, 5), wanted)


def test_a_wider_overlap_computes_the_same() -> None:
    a, b = tiny_model_config(patch_overlap=1), tiny_model_config(patch_overlap=3)
    weight, images = torch.randn(14, 49 * 3), torch.randn(7, 3, 15, 15)
    wider = adapt_patches(weight, Shape(a, 3, CLASSES), Shape(b, 3, CLASSES))
    assert torch.allclose(patchify(images, 5, 1) @ weight.T, patchify(images, 5, 3) @ wider.T, atol=1e-4)
    assert torch.equal(adapt_patches(wider, Shape(b, 3, CLASSES), Shape(a, 3, CLASSES)), weight)


def test_larger_patches_answer_to_enlarged_patches_as_the_old_ones_did() -> None:
    """FlexiViT: the product with a patch that was enlarged is exactly what it was."""
    a, b = tiny_model_config(), tiny_model_config(patch_size=7, image_size=21)
    weight, patches = torch.randn(14, 25 * 3), torch.randn(11, 25, 3)
    larger = adapt_patches(weight, Shape(a, 3, CLASSES), Shape(b, 3, CLASSES))
    enlarged = torch.einsum("ba,nac->nbc", resizing(5, 7), patches)
    assert torch.allclose(patches.flatten(1) @ weight.T, enlarged.flatten(1) @ larger.T, atol=1e-3)


def test_rows_of_the_head_follow_the_names_of_the_classes() -> None:
    config = tiny_model_config(head_hidden=(13,))
    names = ("eel", "fox", "ape")
    weights, fresh = filled(config), filled(config, classes=3, seed=1)
    fitted, done = transfer(weights, Shape(config, 1, CLASSES), Shape(config, 1, names), fresh)
    for name in ("head.4.weight", "head.4.bias"):
        assert torch.equal(fitted[name], torch.stack([weights[name][4], fresh[name][1], weights[name][0]]))
    assert (done.partly, done.new) == (["head.4.weight", "head.4.bias"], [])
    assert "head.1.weight" in done.taken
    fitted, done = transfer(weights, Shape(config, 1, CLASSES), Shape(config, 1, ("1", "2", "3")), fresh)
    assert torch.equal(fitted["head.4.weight"], fresh["head.4.weight"])
    assert done.new == ["head.4.weight", "head.4.bias"]
    _, done = transfer(weights, Shape(config, 1, CLASSES), Shape(config, 1, CLASSES[::-1]), weights)
    assert done.adapted == ["head.4.weight", "head.4.bias"]


def test_blocks_beyond_the_depth_are_new_or_without_use() -> None:
    config, deeper = tiny_model_config(), tiny_model_config(depth=5)
    shape, other = Shape(config, 1, CLASSES), Shape(deeper, 1, CLASSES)
    fresh = filled(deeper, seed=1)
    fitted, done = transfer(filled(config), shape, other, fresh)
    assert {name.split(".")[1] for name in done.new} == {"3", "4"}
    assert all(torch.equal(fitted[name], fresh[name]) for name in done.new)
    assert done.line().endswith("new: blocks 4 to 5")
    _, done = transfer(fresh, other, shape, filled(config))
    assert done.line().endswith("without use here: blocks 4 to 5")


def test_other_heads_are_new_though_the_numbers_would_fit() -> None:
    config, other = tiny_model_config(head_dim=7), tiny_model_config(num_heads=7, head_dim=2)
    _, done = transfer(filled(config), Shape(config, 1, CLASSES), Shape(other, 1, CLASSES), filled(other))
    assert {name.split(".")[2] for name in done.new} == {"attn"}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"arch": "mixer"}, "weights of arch vit cannot start a network of arch mixer"),
        ({"embed_dim": 26, "head_dim": 13}, "no weight of a block fits: embed_dim 14 became 26 and head_dim 11"),
    ],
)
def test_what_cannot_fit_is_named(knobs: dict[str, object], message: str) -> None:
    config = tiny_model_config()
    other = replace(config, **knobs)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        transfer(filled(config), Shape(config, 1, CLASSES), Shape(other, 1, CLASSES), filled(other))


def test_what_freezing_covers() -> None:
    model = build_model(tiny_model_config(pool="cls"), 1, 5)
    names = [name for name, _ in model.named_parameters()]
    assert frozen_parameters(model, "none") == frozenset()
    patches = {"pos_embed", "cls_token", "patch_embed.weight", "patch_embed.bias"}
    assert frozen_parameters(model, "patches") == patches
    assert frozen_parameters(model, "blocks:2") == patches | {n for n in names if n[:9] in ("blocks.0.", "blocks.1.")}
    assert set(names) - frozen_parameters(model, "all-but-head") == {"head.1.weight", "head.1.bias"}
    with pytest.raises(ConfigError, match="has only 3 blocks"):
        frozen_parameters(model, "blocks:4")
    cnn = build_model(tiny_model_config(arch="cnn", cnn_channels=(5,)), 1, 5)
    assert frozen_parameters(cnn, "blocks:1") == {"convs.0.weight", "convs.0.bias"}
    with pytest.raises(ConfigError, match="no patch embedding"):
        frozen_parameters(cnn, "patches")


def test_parts_in_words() -> None:
    names = ["pos_embed", "blocks.0.attn.bias", "head.1.bias", "blocks.2.norm1.bias", "blocks.4.mlp.fc1.bias"]
    assert in_words(names) == "positions, head, attention bias and blocks 3 and 5"
