"""The residual CNN against the same network built from torch's modules, and what batch norm asks of the rest."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.command import vitlab
from tests.tiny import tiny_config, write_npz
from vitlab import Classifier, Reporter, evaluate_run, resume_run, train_run
from vitlab.config import ModelConfig
from vitlab.errors import ConfigError, RunError
from vitlab.export.c import export_c
from vitlab.export.web import export_web
from vitlab.export.whole import ExportError
from vitlab.model import VIEWS, ResNet, build_model, count_parameters
from vitlab.model.resnet import BatchNorm

CONFIG = ModelConfig(arch="resnet", image_size=23, cnn_channels=(3, 5, 7, 11))


def resnet(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = build_model(CONFIG, 2, 13)
    assert isinstance(model, ResNet)
    return model


class ByHand(nn.Module):
    """Page's ResNet-9 in torch's modules: a pair after the first and the third stage."""

    def __init__(self) -> None:
        super().__init__()
        self.prepare, self.one, self.two, self.three = (
            self.layer(*sizes) for sizes in ((2, 3), (3, 5), (5, 7), (7, 11))
        )
        self.pair_one = nn.Sequential(self.layer(5, 5), self.layer(5, 5))
        self.pair_three = nn.Sequential(self.layer(11, 11), self.layer(11, 11))
        self.dense = nn.Linear(11, 13)

    @staticmethod
    def layer(channels: int, wider: int) -> nn.Sequential:
        norm = nn.BatchNorm2d(wider)
        return nn.Sequential(nn.Conv2d(channels, wider, 3, padding=1, bias=False), nn.Identity(), norm, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.prepare(x)
        x = self.pooled(self.one, x)
        x = x + self.pair_one(x)
        x = self.pooled(self.two, x)
        x = self.pooled(self.three, x)
        x = x + self.pair_three(x)
        out: Tensor = self.dense(F.adaptive_max_pool2d(x, 1).flatten(1) / 8)
        return out

    def pooled(self, layer: nn.Sequential, x: Tensor) -> Tensor:
        layer[1] = nn.MaxPool2d(2)
        out: Tensor = layer(x)
        return out


def modules_of(model: ResNet, kind: type) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def in_order(by_hand: ByHand) -> list[nn.Sequential]:
    return [by_hand.prepare, by_hand.one, *by_hand.pair_one, by_hand.two, by_hand.three, *by_hand.pair_three]


def test_it_computes_what_torchs_modules_do_in_training_and_after_it() -> None:
    model, by_hand = resnet(), ByHand()
    layers = in_order(by_hand)
    for layer, conv, norm in zip(layers, modules_of(model, nn.Conv2d), modules_of(model, BatchNorm), strict=True):
        layer[0].load_state_dict(conv.state_dict())
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        layer[2].load_state_dict(norm.state_dict(), strict=False)
    by_hand.dense.load_state_dict(model.head[1].state_dict())
    for _ in range(2):
        images = torch.randn(17, 2, 23, 23)
        torch.testing.assert_close(model.train()(images), by_hand.train()(images))
    for layer, norm in zip(layers, modules_of(model, BatchNorm), strict=True):
        torch.testing.assert_close(norm.running_mean, layer[2].running_mean)
        torch.testing.assert_close(norm.running_var, layer[2].running_var)
    torch.testing.assert_close(model.eval()(images), by_hand.eval()(images))
    assert torch.equal(model(images), model.head(model.features(images)))


def test_its_cost_and_its_description() -> None:
    model = resnet().eval()
    convolutions = 2 * 3 + 3 * 5 + 2 * 5 * 5 + 5 * 7 + 7 * 11 + 2 * 11 * 11
    assert count_parameters(model) == 9 * convolutions + 2 * (3 + 3 * 5 + 7 + 3 * 11) + 11 * 13 + 13
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 2, 23, 23))
    network = model.describe()
    assert network.flops_per_image == counter.get_total_flops()
    assert network.line == "3, 5, 7 and 11 channels"
    assert network.missing.keys() <= set(VIEWS)
    sizes = {name: dict(model.named_parameters())[name].shape for name in network.matrices}
    assert [tuple(shape) for shape in sizes.values()] == [
        *((b, a, 3, 3) for a, b in ((3, 5), (5, 5), (5, 5), (5, 7), (7, 11), (11, 11), (11, 11))),
    ]


@pytest.mark.parametrize(
    ("knobs", "said"), [(dict(cnn_channels=()), "empty"), (dict(image_size=3, cnn_channels=(3, 5, 7)), "2 stages")]
)
def test_configurations_that_cannot_work(knobs: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ModelConfig(arch="resnet", **knobs)


def test_it_trains_with_an_average_resumes_and_evaluates(tmp_path: Path) -> None:
    """The average of the weights is of use only with the running values of batch norm."""
    data = write_npz(tmp_path / "glyphs.npz")
    sizes: dict[str, Any] = dict(arch="resnet", cnn_channels=(5, 11), optimizer="muon", ema_decay=0.8, epochs=5)
    config = tiny_config(data, **sizes)
    whole = train_run(config, tmp_path / "whole")
    assert whole["test_top1"] > 0.9

    def press(task: object, counters: Any, sums: object) -> None:
        if counters.step == 17:
            signal.raise_signal(signal.SIGINT)

    assert train_run(config, tmp_path / "broken", Reporter(step=press))["status"] == "interrupted"
    assert resume_run(tmp_path / "broken")["model_sha256"] == whole["model_sha256"]
    assert evaluate_run(tmp_path / "whole")["top1"] == whole["test_top1"]


def test_what_is_frozen_keeps_its_running_values() -> None:
    model = resnet().train()
    for parameter in model.stages[0].parameters():
        parameter.requires_grad_(False)
    before = [module.running_mean.clone() for module in modules_of(model, BatchNorm)]
    model(torch.randn(5, 2, 23, 23))
    changed = [not torch.equal(a, b.running_mean) for a, b in zip(before, modules_of(model, BatchNorm), strict=True)]
    assert changed == [False, *[True] * 7]


def test_it_predicts_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sizes: dict[str, Any] = dict(arch="resnet", cnn_channels=(5, 7), epochs=1)
    train_run(tiny_config(write_npz(Path("glyphs.npz")), **sizes), Path("run"))
    network = Classifier.load("run")
    assert network(np.zeros((8, 8), np.uint8))[0].probability > 0
    told = vitlab("look run --json")
    assert told.code == 0, told.err
    assert "a convolutional network has no attention" in json.loads(told.out)["left_out"].values()
    answer = vitlab("export run --to onnx")
    assert answer.code == 0, answer.err
    with pytest.raises(RunError, match="batch norm"):
        export_web([network], tmp_path / "page")
    with pytest.raises(ExportError, match="arch resnet cannot be written as C"):
        export_c(network, tmp_path / "c")
