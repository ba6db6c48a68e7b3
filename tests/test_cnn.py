"""The CNN baseline against the same network built by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitlab.config import ModelConfig, cnn_side
from vitlab.model import CNN, build_model, count_parameters, parameters_by_part
from vitlab.model.cnn import channels_last


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def cnn(in_channels: int = 3, num_classes: int = 7, **knobs: Any) -> Any:
    model = build_model(ModelConfig(arch="cnn", **knobs), in_channels, num_classes)
    assert isinstance(model, CNN)
    return model.eval()


@pytest.mark.parametrize(("size", "channels", "flat"), [(28, (32, 64), 1600), (23, (5,), 500), (31, (5, 11, 3), 12)])
def test_network_is_convolution_relu_pooling_and_one_dense_layer(
    size: int, channels: tuple[int, ...], flat: int
) -> None:
    model = cnn(image_size=size, cnn_channels=channels)
    layers: list[nn.Module] = []
    for before, after in zip((3, *channels), channels, strict=False):
        layers += [nn.Conv2d(before, after, 3, padding="valid"), nn.ReLU(), nn.MaxPool2d(2)]
    by_hand = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, 7))
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), model.state_dict().values(), strict=True)))
    images = torch.randn(5, 3, size, size)
    assert model.features(images).shape == (5, flat)
    torch.testing.assert_close(model(images), by_hand(images))
    assert torch.equal(model(images), model.head(model.features(images)))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_cnn_side_is_the_side_of_the_last_feature_map(layers: int) -> None:
    for size in range(22, 40):
        x = torch.zeros(1, 1, size, size)
        for _ in range(layers):
            x = F.max_pool2d(F.conv2d(x, torch.zeros(1, 1, 3, 3)), 2)
        assert cnn_side(size, layers) == x.shape[-1]


def test_parameters_and_multiply_adds_are_those_of_keras_io() -> None:
    config = ModelConfig(arch="cnn")
    model = build_model(config, 1, 10)
    assert [p.numel() for p in model.convs.parameters()] == [288, 32, 18432, 64]  # type: ignore[union-attr]
    assert parameters_by_part(model) == {"convs": 320 + 18_496, "head": 16_010}
    assert count_parameters(model) == 34_826
    by_hand = 26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 1600 * 10
    assert round(by_hand / 1e6, 2) == 2.44
    assert build_model(config, 1, 10).describe().flops_per_image == 2 * by_hand


def test_dropout_before_the_dense_layer_acts_in_training_only() -> None:
    model, plain = cnn(head_dropout=0.5), cnn()
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    images = torch.randn(5, 3, 28, 28)
    assert torch.equal(model(images), plain(images))
    assert torch.equal(model.train().features(images), plain.features(images))
    assert not torch.allclose(model(images), model(images))


def test_every_parameter_gets_a_gradient() -> None:
    model = cnn(cnn_channels=(5, 11))
    F.cross_entropy(model(torch.randn(13, 3, 28, 28)), torch.arange(13) % 7).backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().max() > 0] == []


def test_weights_start_in_keras_glorot_limits_and_biases_at_zero() -> None:
    model = cnn(cnn_channels=(32, 64))
    dense = model.head[-1]
    limits = [(6 / (9 * 3 + 9 * 32)) ** 0.5, (6 / (9 * 32 + 9 * 64)) ** 0.5, (6 / (1600 + 7)) ** 0.5]
    for layer, limit in zip([*model.convs, dense], limits, strict=True):
        assert 0.98 * limit < layer.weight.abs().max() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.06)
        assert not layer.bias.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_is_the_same_images_in_real_strides(channels: int) -> None:
    images = torch.rand(2, channels, 5, 7)
    found = channels_last(images)
    assert torch.equal(found, images)
    assert found.stride() == (5 * 7 * channels, 1, 7 * channels, channels)
