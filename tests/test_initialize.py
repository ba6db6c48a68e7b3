"""How the weights of a ViT start: Keras' limits, the ViT paper's, and what both share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model_config
from vitlab.errors import ConfigError
from vitlab.model import ViT

D, HEADS, WIDTH, HIDDEN = 44, 3, 17, 66


def vit(seed: int = 0, **knobs: object) -> Any:
    torch.manual_seed(seed)
    shape: dict[str, object] = dict(embed_dim=D, num_heads=HEADS, head_dim=WIDTH, mlp_ratio=1.5, head_hidden=(29,))
    return ViT(tiny_model_config(**(shape | knobs)), in_channels=3, num_classes=13)


def keras_limit(*shape: int) -> float:
    """Glorot's limit with the fans that Keras takes from a kernel's shape (keras `compute_fans`)."""
    field = math.prod(shape[:-2])
    return math.sqrt(6 / (shape[-2] * field + shape[-1] * field))


def assert_uniform(weight: Tensor, limit: float) -> None:
    assert 0.95 * limit < weight.max() <= limit
    assert -0.95 * limit > weight.min() >= -limit
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.08)


def test_keras_limits_take_the_fans_of_kernels_split_by_head() -> None:
    for block in vit(init="keras").blocks:
        for matrix in block.attn.qkv.weight.chunk(3):
            assert_uniform(matrix, keras_limit(D, HEADS, WIDTH))
        assert_uniform(block.attn.proj.weight, keras_limit(HEADS, WIDTH, D))


def test_keras_limit_of_the_seed_is_a_third_of_the_plain_one() -> None:
    model = vit(init="keras", embed_dim=48, num_heads=4, head_dim=48)
    limit = math.sqrt(6 / (4 * 48 + 48**2))
    assert limit == pytest.approx(0.049, abs=5e-4)
    for block in model.blocks:
        for matrix in block.attn.qkv.weight.chunk(3):
            assert_uniform(matrix, limit)


def test_vit_limits_treat_q_k_v_as_three_matrices() -> None:
    for block in vit(init="vit").blocks:
        for matrix in block.attn.qkv.weight.chunk(3):
            assert_uniform(matrix, keras_limit(D, HEADS * WIDTH))
        assert_uniform(block.attn.proj.weight, keras_limit(HEADS * WIDTH, D))


@pytest.mark.parametrize("init", ["vit", "keras"])
def test_dense_layers_start_in_their_glorot_limits(init: str) -> None:
    model = vit(init=init)
    assert_uniform(model.patch_embed.weight, keras_limit(75, D))
    assert_uniform(model.head[1].weight, keras_limit(D, 29))
    for block in model.blocks:
        assert_uniform(block.mlp.fc1.weight, keras_limit(D, HIDDEN))
        assert_uniform(block.mlp.fc2.weight, keras_limit(HIDDEN, D))


@pytest.mark.parametrize("init", ["vit", "keras"])
def test_biases_start_at_zero_and_norms_at_the_identity(init: str) -> None:
    state = vit(init=init).state_dict()
    biases = [value for name, value in state.items() if name.endswith("bias")]
    norms = [value for name, value in state.items() if "norm" in name and name.endswith("weight")]
    assert (len(biases), len(norms)) == (1 + 3 * 6 + 1 + 2, 3 * 2 + 1)
    assert not any(bias.any() for bias in biases)
    assert all((norm == 1).all() for norm in norms)


def test_vit_starts_undecided_and_keras_does_not() -> None:
    images = torch.rand(2, 3, 15, 15)
    assert not vit(init="vit").eval()(images).any()
    keras = vit(init="keras")
    assert_uniform(keras.head[-1].weight, keras_limit(29, 13))
    assert keras.eval()(images).abs().min() > 0


def test_positions_are_uniform_for_keras_and_normal_for_vit() -> None:
    keras, paper = vit(init="keras", image_size=35).pos_embed, vit(init="vit", image_size=35).pos_embed
    assert keras.shape == paper.shape == (49, D)
    assert_uniform(keras, 0.05)
    assert paper.std().item() == pytest.approx(0.02, rel=0.08)
    assert paper.abs().max() > 0.05  # a normal's tail


@pytest.mark.parametrize("init", ["vit", "keras"])
def test_class_token_does_not_start_at_zero(init: str) -> None:
    token = vit(init=init, pool="cls", embed_dim=1009).cls_token
    assert token.std().item() == pytest.approx(0.02, rel=0.08)


@pytest.mark.parametrize("init", ["vit", "keras"])
def test_weights_are_a_function_of_the_global_seed(init: str) -> None:
    one, same, other = (vit(seed, init=init).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["patch_embed.weight"], other["patch_embed.weight"])


def test_mimetic_heads_compare_tokens_with_themselves_and_pass_on_their_opposite() -> None:
    """Trockman and Kolter 2023, figure 1: queries x keys show a positive diagonal, values x projection a negative."""
    for block in vit(init="mimetic", embed_dim=44, num_heads=2, head_dim=22).blocks:
        q, k, v = block.attn.qkv.weight.view(3, 2, 22, 44).unbind(0)
        for query, key in zip(q, k, strict=True):
            product = query.T @ key
            off = product - product.diag().diag()
            assert product.diag().mean() > 0.15  # the half of the matrix that a head of half the width can hold
            assert off.mean().abs() < 0.02
        product = block.attn.proj.weight @ v.reshape(44, 44)  # all heads together hold the whole matrix
        assert product.diag().mean().item() == pytest.approx(-0.4, abs=0.05)
        assert (product - product.diag().diag()).std().item() == pytest.approx(0.4 * 44**-0.5, rel=0.1)
        assert not block.mlp.fc2.weight.any()


def test_mimetic_merged_attention_is_the_two_products_themselves() -> None:
    for block in vit(init="mimetic", attn_form="merged", num_heads=1, head_dim=None).blocks:
        assert block.attn.q.weight.diag().mean().item() == pytest.approx(0.7, abs=0.06)
        assert block.attn.proj.weight.diag().mean().item() == pytest.approx(-0.4, abs=0.05)


def test_mimetic_weights_also_fit_heads_that_are_wider_together_than_the_network() -> None:
    model = vit(init="mimetic")  # 3 heads of 17 in 44
    product = model.blocks[0].attn.proj.weight @ model.blocks[0].attn.qkv.weight[-51:]
    assert product.diag().mean().item() == pytest.approx(-0.4, abs=0.06)


def test_local_heads_average_around_a_neighbour_as_a_convolution_does() -> None:
    """Four heads on 7 x 7 patches: right, below, left and above in the first block, the diagonals in the second. With
    equal queries and keys, the attention of the middle token is a Gaussian around that place, whose mean it must be."""
    model = vit(init="zero", image_size=35, embed_dim=44, num_heads=4, head_dim=11, attn_bias=True, locality=2.0)
    weights_h77 = [block.attn.bias.softmax(dim=-1)[:, 24].view(4, 7, 7) for block in list(model.blocks)[:2]]
    rows, columns = torch.meshgrid(torch.arange(7) - 3, torch.arange(7) - 3, indexing="ij")
    first, second = (
        [((w * rows).sum().item(), (w * columns).sum().item()) for w in weights_h77[block]] for block in (0, 1)
    )
    half = 0.5**0.5
    expected = [[(0, 1), (1, 0), (0, -1), (-1, 0)], [(half, half), (half, -half), (-half, -half), (-half, half)]]
    for means, places in zip((first, second), expected, strict=True):
        for mean, place in zip(means, places, strict=True):
            assert mean == pytest.approx(place, abs=0.03)


def test_locality_leaves_the_class_token_alone_and_needs_a_bias() -> None:
    model = vit(pool="cls", attn_bias=True, locality=1.0)
    for block in model.blocks:
        assert not block.attn.bias[:, 0].any()
        assert not block.attn.bias[:, :, 0].any()
        assert block.attn.bias[:, 1:, 1:].any()
    with pytest.raises(ConfigError, match="attn_bias"):
        vit(locality=1.0)
    with pytest.raises(ConfigError, match="attn_bias_shared shapes attn_bias, which is off"):
        vit(attn_bias_shared=True)
    vit(locality=1.0, attn_form="none")  # has no scores to add anything to
