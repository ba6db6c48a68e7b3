"""The Vision Transformer against torch's own layers, and the promises of its knobs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import tiny_model_config
from vitlab.config import ModelConfig
from vitlab.config.presets import PRESETS, preset_config
from vitlab.model import ViT, build_model, count_parameters, parameters_by_part
from vitlab.model.block import Attention, Block, DropPath, Mlp, RmsNorm, attention_weights, shared_by_offset

CLASSES = 7
POOLS = ("cls", "mean", "flatten")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def shaken(module: nn.Module) -> Any:
    """``module`` in eval mode with all parameters random, so that nothing hides behind a zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module.eval()


def vit(in_channels: int = 3, *, fused: bool = False, **knobs: object) -> Any:
    model = ViT(tiny_model_config(**knobs), in_channels, CLASSES)
    model.fuse_attention(fused)
    return shaken(model)


def attention(dim: int, heads: int, width: int | None = None, *, fused: bool = False, **knobs: Any) -> Attention:
    config = ModelConfig(embed_dim=dim, num_heads=heads, head_dim=width, **knobs)
    module = Attention(config, config.grid**2)
    module.fused = fused
    return shaken(module)  # type: ignore[no-any-return]


def pictures(batch: int = 5, channels: int = 3, size: int = 15) -> Tensor:
    return torch.rand(batch, channels, size, size)


# Attention and block


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 7])
def test_attention_is_torchs_multihead_attention(heads: int, fused: bool) -> None:
    ours: Any = attention(14, heads, fused=fused)
    theirs = nn.MultiheadAttention(14, heads, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    x = torch.randn(3, 5, 14)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.forward_with_weights(x)[0], expected)
    torch.testing.assert_close(ours.forward_with_weights(x)[1], weights)


@pytest.mark.parametrize("first", [0, 1], ids=["patches", "class token"])
def test_a_shared_bias_is_one_parameter_for_each_offset(first: int) -> None:
    """Against a table looked up by offset, as in Swin: the sum of the gradients of all pairs that share a number is the
    gradient of that number, and the mean makes steps of all of them equal."""
    grid, tokens = 3, 9 + first
    config = ModelConfig(embed_dim=14, num_heads=2, image_size=21, attn_bias=True, attn_bias_shared=True)
    ours: Any = shaken(Attention(config, tokens)).train()
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))
    offsets = places[None] - places[:, None] + grid - 1
    numbers = torch.randn(2, 2 * grid - 1, 2 * grid - 1, requires_grad=True)
    looked_up = numbers[:, offsets[..., 0], offsets[..., 1]]
    expected = F.pad(looked_up, (first, 0, first, 0))
    with torch.no_grad():
        ours.bias.copy_(expected)
    x = torch.randn(5, tokens, 14)
    q, k, v = ours.heads(x)
    torch.testing.assert_close(ours(x), ours.merge(attention_weights(q, k, expected) @ v))
    down = torch.randn(5, tokens, 14)
    (gradient,) = torch.autograd.grad((ours(x) * down).sum(), ours.bias)
    (summed,) = torch.autograd.grad((ours.merge(attention_weights(q, k, expected) @ v) * down).sum(), numbers)
    pairs = torch.tensor([float(grid - abs(step)) for step in range(1 - grid, grid)])
    means = summed / (pairs[:, None] * pairs)
    torch.testing.assert_close(gradient[:, first:, first:], means[:, offsets[..., 0], offsets[..., 1]])
    if first:
        assert gradient[:, 0].abs().min() > 0
        assert not torch.equal(gradient[:, 0, 1], gradient[:, 0, 2])


def test_a_shared_bias_stays_shared_and_predicts_as_it_was_trained() -> None:
    model = vit(image_size=20, patch_size=5, attn_bias=True, attn_bias_shared=True, locality=1.0)
    for block in model.blocks:
        with torch.no_grad():
            block.attn.bias.copy_(shared_by_offset(block.attn.bias, 4))
    x = pictures(size=20)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        F.cross_entropy(model.train()(x), torch.arange(5)).backward()
        optimizer.step()
    bias = model.blocks[1].attn.bias.detach()
    torch.testing.assert_close(bias[:, 0, 5], bias[:, 10, 15])
    assert not torch.allclose(bias[:, 0, 5], bias[:, 5, 0], atol=1e-4)
    torch.testing.assert_close(model.train()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("batch", "tokens", "dim", "heads", "width"),
    [(2, 3, 5, 1, 7), (3, 7, 11, 2, 5), (2, 13, 5, 3, 2), (1, 17, 7, 4, 3)],
)
def test_any_head_width_gives_the_same_explicit_fused_and_head_by_head(
    batch: int, tokens: int, dim: int, heads: int, width: int
) -> None:
    explicit: Any = attention(dim, heads, width)
    fused = attention(dim, heads, width, fused=True)
    fused.load_state_dict(explicit.state_dict())
    x = torch.randn(batch, tokens, dim)
    q, k, v = (x @ w.T + b for w, b in zip(explicit.qkv.weight.chunk(3), explicit.qkv.bias.chunk(3), strict=True))
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    each = [F.scaled_dot_product_attention(q[..., s], k[..., s], v[..., s]) for s in parts]
    expected = torch.cat(each, dim=-1) @ explicit.proj.weight.T + explicit.proj.bias
    torch.testing.assert_close(explicit(x), expected)
    torch.testing.assert_close(fused(x), expected)
    torch.testing.assert_close(explicit.forward_with_weights(x)[0], expected)


def test_attention_weights_are_shares_of_each_token() -> None:
    weights = attention_weights(torch.randn(2, 3, 11, 5) * 9, torch.randn(2, 3, 11, 5))
    assert weights.shape == (2, 3, 11, 11)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 11))


def test_fused_calls_torchs_kernel_and_explicit_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = F.scaled_dot_product_attention

    def spy(*args: Any, **options: Any) -> Tensor:
        calls.append(args)
        return kernel(*args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    explicit = vit(depth=3)
    fused: Any = build_model(explicit.config, 3, CLASSES).eval()
    fused.fuse_attention(True)
    fused.load_state_dict(explicit.state_dict())
    images = pictures()
    logits = explicit(images)
    assert len(calls) == 0
    torch.testing.assert_close(fused(images), logits)
    assert len(calls) == 3


def torch_layer(block: Any, heads: int) -> nn.TransformerEncoderLayer:
    """torch's encoder layer with the weights of ``block``."""
    hidden, dim = block.mlp.fc1.weight.shape
    layer = nn.TransformerEncoderLayer(
        dim, heads, hidden, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "norm1.": "norm1.", "norm2.": "norm2.",
        "linear1.": "mlp.fc1.", "linear2.": "mlp.fc2.",
    }  # fmt: skip
    state = block.state_dict()
    layer.load_state_dict({a + kind: state[b + kind] for a, b in names.items() for kind in ("weight", "bias")})
    return layer


def test_block_is_torchs_pre_norm_encoder_layer() -> None:
    block = shaken(Block(ModelConfig(embed_dim=14, num_heads=2, mlp_ratio=1.5), 11, 0.0))
    x = torch.randn(3, 11, 14)
    expected = torch_layer(block, heads=2)(x)
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(block.forward_with_weights(x)[0], expected)


# Other forms of the block


@pytest.mark.parametrize("fused", [False, True])
def test_merged_attention_is_one_head_whose_keys_and_values_are_the_tokens(fused: bool) -> None:
    merged: Any = attention(7, 1, attn_form="merged", fused=fused, linear_bias=False)
    whole: Any = attention(7, 1, linear_bias=False)
    with torch.no_grad():
        whole.qkv.weight.copy_(torch.cat([merged.q.weight, torch.eye(7), torch.eye(7)]))
        whole.proj.weight.copy_(merged.proj.weight)
    x = torch.randn(3, 11, 7)
    torch.testing.assert_close(merged(x), whole(x))
    torch.testing.assert_close(merged.forward_with_weights(x)[1], whole.forward_with_weights(x)[1])


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_bias_is_the_float_mask_of_torchs_attention(heads: int) -> None:
    """Batch 1, since torch's layer takes a mask for each head only together with the batch."""
    ours: Any = attention(6, heads, attn_bias=True, image_size=14)  # 2 x 2 patches
    theirs = nn.MultiheadAttention(6, heads, batch_first=True)
    parts = {"in_proj_": ours.qkv, "out_proj.": ours.proj}
    theirs.load_state_dict({a + kind: getattr(b, kind) for a, b in parts.items() for kind in ("weight", "bias")})
    x = torch.randn(1, 4, 6)
    expected, weights = theirs(x, x, x, attn_mask=ours.bias, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.forward_with_weights(x)[1], weights)
    ours.fused = True
    torch.testing.assert_close(ours(x), expected)


def test_attention_bias_starts_as_if_it_were_not_there() -> None:
    model = ViT(tiny_model_config(attn_bias=True, head_dim=None), 3, CLASSES)
    assert all(block.attn.bias.shape == (2, 9, 9) for block in model.blocks)  # type: ignore[union-attr]
    assert not any(block.attn.bias.any() for block in model.blocks)  # type: ignore[union-attr, operator]


def test_rms_norm_is_torchs() -> None:
    x = torch.randn(3, 5, 7) * 3
    torch.testing.assert_close(RmsNorm()(x), F.rms_norm(x, [7], eps=1e-6))


def test_relu2_is_the_square_of_the_positive_part() -> None:
    mlp: Any = shaken(Mlp(ModelConfig(embed_dim=5, num_heads=1, mlp_ratio=2.2, act="relu2")))
    x = torch.randn(2, 3, 5)
    hidden = torch.clamp(x @ mlp.fc1.weight.T + mlp.fc1.bias, min=0)
    torch.testing.assert_close(mlp(x), (hidden * hidden) @ mlp.fc2.weight.T + mlp.fc2.bias)


def test_without_attention_no_patch_knows_of_another() -> None:
    model = vit(attn_form="none", pool="mean", depth=3)
    images = pictures(1)
    changed = images.clone()
    changed[:, :, :5, :5] += 1  # the first patch
    tokens, others = model.tokens(images), model.tokens(changed)
    for block in model.blocks:
        tokens, others = block(tokens), block(others)
    assert not torch.allclose(tokens[:, 0], others[:, 0])
    assert torch.equal(tokens[:, 1:], others[:, 1:])
    logits, weights = model.forward_with_attention(images)
    assert torch.equal(logits, model(images))
    assert weights.shape == (3, 1, 0, 9, 9)


def test_linear_bias_off_leaves_biases_to_the_first_and_last_layer() -> None:
    model = vit(linear_bias=False, norm="rms")
    biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    assert biases == {"patch_embed.bias", "head.1.bias"}


@pytest.mark.parametrize("form", ["qkv", "merged"])
def test_with_init_zero_blocks_start_as_the_identity(form: str) -> None:
    config = tiny_model_config(init="zero", attn_form=form, num_heads=1, head_dim=None)
    model: Any = ViT(config, 3, CLASSES)
    x = torch.randn(2, 9, 14)
    for block in model.blocks:
        assert torch.equal(block(x), x)
    assert model.blocks[0].mlp.fc1.weight.std() > 0.1


# The whole network


def reference(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits computed with torch's convolution, encoder layers and norm."""
    config: ModelConfig = model.config
    kernel = model.patch_embed.weight.view(config.embed_dim, config.patch_size, config.patch_size, -1)
    tokens = F.conv2d(images, kernel.permute(0, 3, 1, 2), model.patch_embed.bias, stride=config.patch_size)
    x = tokens.flatten(2).transpose(1, 2)
    if config.pool == "cls":
        x = torch.cat([model.cls_token.expand(len(x), 1, -1), x], dim=1)
    x = x + model.pos_embed
    for block in model.blocks:
        x = torch_layer(block, config.num_heads)(x)
    x = F.layer_norm(x, [config.embed_dim], model.norm.weight, model.norm.bias, eps=1e-6)
    features = {"cls": x[:, 0], "mean": x.mean(1), "flatten": x.reshape(len(x), -1)}[config.pool]
    return features, features @ model.head[-1].weight.T + model.head[-1].bias


@pytest.mark.parametrize("pos_embed", ["learned", "sincos"])
@pytest.mark.parametrize("pool", POOLS)
def test_network_is_torchs_convolution_encoder_and_norm(pool: str, pos_embed: str) -> None:
    model = vit(pool=pool, pos_embed=pos_embed, embed_dim=28, num_heads=7, head_dim=None, image_size=17)
    images = pictures(size=17)
    features, logits = reference(model, images)
    torch.testing.assert_close(model.features(images), features)
    torch.testing.assert_close(model(images), logits)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_asking_for_attention_changes_no_logit(pool: str, fused: bool) -> None:
    model = vit(pool=pool, fused=fused, head_hidden=(13,))
    images = pictures()
    logits, weights = model.forward_with_attention(images)
    torch.testing.assert_close(logits, model(images))
    tokens = 9 + (pool == "cls")
    assert weights.shape == (3, 5, 2, tokens, tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 5, 2, tokens))
    blocks = [hash(layer.numpy().tobytes()) for layer in weights.detach()]
    assert len(set(blocks)) == 3  # each block's own


@pytest.mark.parametrize("pool", POOLS)
def test_forward_is_the_head_of_the_features(pool: str) -> None:
    model = vit(pool=pool)
    images = pictures()
    features = model.features(images)
    assert features.shape == (5, 9 * 14 if pool == "flatten" else 14)
    assert model(images).shape == (5, CLASSES)
    assert torch.equal(model(images), model.head(features))


@pytest.mark.parametrize(("pool", "tokens", "pooled"), [("cls", 10, 14), ("mean", 9, 14), ("flatten", 9, 126)])
def test_parameters_are_what_the_shapes_say(pool: str, tokens: int, pooled: int) -> None:
    parts = parameters_by_part(vit(pool=pool, in_channels=3, mlp_ratio=1.5))
    qkv, proj, mlp = 14 * 66 + 66, 22 * 14 + 14, 14 * 21 + 21 + 21 * 14 + 14
    expected = {
        "patch_embed": 75 * 14 + 14,
        "pos_embed": tokens * 14,
        "blocks": 3 * (4 * 14 + qkv + proj + mlp),
        "norm": 28,
        "head": pooled * CLASSES + CLASSES,
    }
    assert parts == (expected | {"cls_token": 14} if pool == "cls" else expected)


@pytest.mark.parametrize("pool", POOLS)
def test_parts_add_up_to_the_count_of_parameters(pool: str) -> None:
    model = vit(pool=pool, head_hidden=(13, 11), pos_embed="none")
    assert sum(parameters_by_part(model).values()) == count_parameters(model)
    assert count_parameters(model) == sum(p.numel() for p in model.parameters())


def test_parts_add_up_when_a_part_is_frozen() -> None:
    model = vit()
    model.patch_embed.requires_grad_(False)
    assert sum(parameters_by_part(model).values()) == count_parameters(model)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("overlap", [0, 2])
def test_any_number_of_channels_and_overlap(channels: int, overlap: int) -> None:
    model = vit(channels, patch_overlap=overlap)
    assert model.patch_embed.in_features == (5 + 2 * overlap) ** 2 * channels
    assert model(pictures(channels=channels)).shape == (5, CLASSES)


@pytest.mark.parametrize(
    "knobs", [{}, {"head_hidden": (13,)}, {"mlp_last_gelu": True}, {"fused": True}, {"in_channels": 1}]
)
@pytest.mark.parametrize("pool", POOLS)
def test_every_parameter_gets_a_gradient(pool: str, knobs: dict[str, Any]) -> None:
    model = vit(pool=pool, **knobs)
    images = pictures(channels=model.patch_embed.in_features // 25)
    F.cross_entropy(model(images), torch.arange(5)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9]
    assert without == []
    assert (model.pos_embed.grad.abs().amax(dim=1) > 1e-9).all()  # each place learns


@pytest.mark.parametrize("init", ["vit", "keras"])
def test_no_two_blocks_start_equal(init: str) -> None:
    model: Any = ViT(tiny_model_config(init=init, depth=4), 1, CLASSES)
    for one, other in combinations(model.blocks, 2):
        for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
            assert a.ndim == 1 or not torch.isclose(a, b).any(dim=1).all(), name


# Positions


def moved(images: Tensor) -> Tensor:
    """Patches in other places: the image shifted by whole patches, round the edge."""
    return images.roll((5, 10), dims=(2, 3))


def test_without_positions_moved_patches_leave_the_mean_as_it_was() -> None:
    model, images = vit(pool="mean", pos_embed="none"), pictures()
    torch.testing.assert_close(model.features(moved(images)), model.features(images))


def test_without_positions_moved_patches_move_their_tokens() -> None:
    model, images = vit(pool="flatten", pos_embed="none"), pictures()
    before, after = (model.features(x).view(5, 3, 3, 14) for x in (images, moved(images)))
    torch.testing.assert_close(after, before.roll((1, 2), dims=(1, 2)))
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("pos_embed", ["learned", "sincos"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_with_positions_moved_patches_change_the_features(pool: str, pos_embed: str) -> None:
    model, images = vit(pool=pool, pos_embed=pos_embed, embed_dim=12), pictures()
    assert (model.features(moved(images)) - model.features(images)).abs().max() > 1e-3  # without positions: 1e-7


@pytest.mark.parametrize("pool", POOLS)
def test_sincos_positions_are_fixed_waves_of_row_and_column(pool: str) -> None:
    model = vit(pool=pool, pos_embed="sincos", embed_dim=12)
    first = int(pool == "cls")
    assert not model.pos_embed[:first].any()
    for place, position in enumerate(model.pos_embed[first:]):
        angles = [[at * 10000 ** (-i / 3) for i in range(3)] for at in divmod(place, 3)]
        expected = [wave(angle) for axis in angles for wave in (np.sin, np.cos) for angle in axis]
        np.testing.assert_allclose(position, expected, atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
def test_sincos_positions_differ_between_all_places_and_do_not_learn(pool: str) -> None:
    model = vit(pool=pool, pos_embed="sincos", embed_dim=4, image_size=55)
    gaps = torch.cdist(model.pos_embed, model.pos_embed) + torch.eye(len(model.pos_embed))
    assert gaps.min() > 0.01
    assert "pos_embed" not in dict(model.named_parameters())
    assert "pos_embed" not in model.state_dict()


# Dropout, drop path, GELU, head


@pytest.mark.parametrize("knob", ["dropout", "attn_dropout", "head_dropout", "drop_path"])
@pytest.mark.parametrize("fused", [False, True])
def test_dropouts_act_in_training_only(knob: str, fused: bool) -> None:
    knobs: dict[str, Any] = {knob: 0.4}
    model, plain = vit(fused=fused, **knobs), vit(fused=fused)
    plain.load_state_dict(model.state_dict())
    images = pictures()
    assert torch.equal(model(images), plain(images))
    assert torch.equal(plain.train()(images), plain(images))
    model.train()
    assert not torch.allclose(model(images), model(images))


def test_dropout_of_an_mlp_acts_on_both_layers() -> None:
    mlp = Mlp(ModelConfig(embed_dim=5, num_heads=1, mlp_ratio=1.0, dropout=0.5)).train()
    for layer in (mlp.fc1, mlp.fc2):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    survivors = (mlp(torch.ones(1, 2003, 5)) != 0).float().mean().item()
    assert survivors == pytest.approx(0.5 * 0.5, abs=0.03)


def test_dropout_of_the_head_acts_before_every_dense_layer() -> None:
    head = vit(head_hidden=(13, 11), head_dropout=0.3).head
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Dropout", "Linear", "GELU", "Dropout", "Linear", "GELU", "Dropout", "Linear"]
    assert {layer.p for layer in head if isinstance(layer, nn.Dropout)} == {0.3}


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_drop_path_rises_linearly_to_its_rate(depth: int) -> None:
    rates = [block.drop_path.rate for block in vit(depth=depth, drop_path=0.3).blocks]
    assert rates == pytest.approx(np.linspace(0.0, 0.3, depth).tolist())


def test_drop_path_skips_whole_images_and_keeps_the_mean() -> None:
    layer = DropPath(0.3).train()
    out = layer(torch.ones(10007, 2, 3))
    values = out.flatten(1)
    assert (values == values[:, :1]).all()
    assert values.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert values[:, 0].mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(layer.eval()(torch.ones(11, 2, 3)), torch.ones(11, 2, 3))


def test_drop_path_skips_the_branch_not_the_residual_line() -> None:
    block = shaken(Block(tiny_model_config(), 9, 0.999999)).train()
    x = torch.randn(7, 9, 14)
    assert torch.equal(block(x), x)
    assert torch.equal(block.forward_with_weights(x)[0], x)


def test_last_gelu_is_one_more_gelu() -> None:
    config = ModelConfig(embed_dim=5, num_heads=1, mlp_ratio=2.2)
    with_gelu, without = shaken(Mlp(replace(config, mlp_last_gelu=True))), Mlp(config).eval()
    without.load_state_dict(with_gelu.state_dict())
    x = torch.randn(2, 3, 5) * 5
    y = without(x)
    assert y.min() < -0.17  # a GELU is never below
    torch.testing.assert_close(with_gelu(x), y * 0.5 * (1 + torch.erf(y / 2**0.5)))  # exact, not the tanh formula


def test_mlp_last_gelu_reaches_every_block() -> None:
    assert [block.mlp.last_gelu for block in vit(mlp_last_gelu=True).blocks] == [True] * 3
    assert [block.mlp.last_gelu for block in vit().blocks] == [False] * 3


def test_hidden_head_layers_are_dense_and_gelu() -> None:
    model = vit(head_hidden=(13, 11), pool="flatten")
    x = torch.randn(5, 126)
    layers = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(126, 13), (13, 11), (11, CLASSES)]
    expected = layers[2](F.gelu(layers[1](F.gelu(layers[0](x)))))
    torch.testing.assert_close(model.head(x), expected)


# Arithmetic


@pytest.mark.parametrize("pool", POOLS)
def test_flops_are_two_for_each_multiply_add(pool: str) -> None:
    config = tiny_model_config(pool=pool, head_hidden=(13,), mlp_ratio=1.5)
    tokens, pooled = 9 + (pool == "cls"), 14 * (9 if pool == "flatten" else 1)
    block = tokens * (14 * 66 + 22 * 14 + 2 * 14 * 21) + 2 * 2 * tokens * tokens * 11
    expected = 9 * 75 * 14 + 3 * block + pooled * 13 + 13 * CLASSES
    assert ViT(config, 3, CLASSES).describe().flops_per_image == 2 * expected


COUNTED: list[ModelConfig] = [
    *(preset_config(name).model for name in PRESETS),
    *(tiny_model_config(pool=pool, head_dim=11, patch_overlap=2) for pool in POOLS),
    *(tiny_model_config(attn_form=form, attn_bias=form != "none", num_heads=1) for form in ("merged", "none")),
    ModelConfig(arch="cnn", cnn_channels=(5, 7, 3)),
]


@pytest.mark.parametrize("config", COUNTED, ids=lambda config: f"{config.arch} {config.attn_form} {config.pool}")
def test_flops_are_those_that_torch_counts(config: ModelConfig) -> None:
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        model = build_model(config, 3, 10).eval()
        model(torch.empty(1, 3, config.input_side, config.input_side))
    assert model.describe().flops_per_image == counter.get_total_flops()


def test_an_outline_of_any_network_does_not_wait_for_torchs_compiler() -> None:
    """Its import takes a second or two, and some of torch's functions on the meta device need it. Every network is
    outlined before its weights are read, so each `predict`, `train` and `look` would wait."""
    script = """
import sys
from dataclasses import replace
from vitlab import preset_config
from vitlab.config.presets import PRESETS
from vitlab.model.outline import outline

small = preset_config("small").model
changed = [{"init": init} for init in ("keras", "zero", "mimetic")] + [{"pos_embed": "sincos"}, {"pool": "cls"}]
changed += [{"attn_form": "none"}, {"locality": 1.0, "attn_bias_shared": True}, {"locality": 1.0, "init": "mimetic"}]
for config in [preset_config(name).model for name in PRESETS] + [replace(small, **one) for one in changed]:
    outline(config, 3, 7)
    if "torch._dynamo" in sys.modules:
        sys.exit(f"{config}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
