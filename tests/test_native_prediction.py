"""Prediction in one call of a C kernel: the plain network's numbers, for every knob, from the weights as they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.test_native import library
from tests.tiny import tiny_config, write_npz
from vitlab.config import MachineConfig, ModelConfig
from vitlab.machine import choose_machine
from vitlab.model import ViT, build_model
from vitlab.native import prediction
from vitlab.native.accelerate import UNRELATED, NativeViT
from vitlab.native.build import Kind, NativeError, load
from vitlab.native.ops import Kernels
from vitlab.native.prediction import NETWORK, Packed, Predictor, forward_of, is_known
from vitlab.runs import prepare
from vitlab.training.evaluate import predict_logits

SMALL: dict[str, Any] = dict(image_size=13, patch_size=3, embed_dim=20, depth=2, num_heads=2, head_dim=7)
MERGED: dict[str, Any] = dict(attn_form="merged", num_heads=1, head_dim=None)
# Sizes that fill no vector, heads that end within one, windows over the edge, all pools, everything that trains only.
NETWORKS: list[dict[str, Any]] = [
    dict(pool="mean", attn_bias=True),
    dict(pool="cls", mlp_last_gelu=True, num_heads=3, head_dim=13),
    dict(pool="flatten", head_hidden=(11, 17)),
    MERGED | dict(pool="flatten", norm="rms", act="relu2", linear_bias=False, attn_bias=True),
    MERGED | dict(pool="cls", pos_embed="sincos", depth=1),
    dict(attn_form="none", pos_embed="none", act="relu2"),
    dict(num_heads=1, head_dim=61, norm="rms", patch_size=13),
    dict(image_size=23, crop=17, patch_size=5, patch_overlap=2, embed_dim=7, mlp_ratio=1.7),
    dict(image_size=28, crop=20, patch_size=4, patch_overlap=2, embed_dim=48, pool="flatten", dropout=0.3)
    | dict(attn_dropout=0.3, head_dropout=0.3, drop_path=0.3),
]


def network(knobs: dict[str, Any], channels: int, dtype: torch.dtype, seed: int = 0) -> ViT:
    """A plain one for evaluation, with weights that are random everywhere."""
    model = ViT(ModelConfig(**(SMALL | knobs)), channels, 7).to(dtype).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3, generator=draw).add_(1.0 if "norm" in name and "weight" in name else 0.0)
    return model


def images(batch: int, channels: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random ones."""
    draw = torch.Generator().manual_seed(batch)
    return torch.randn(batch, channels, side, side, generator=draw, dtype=torch.float64).to(dtype)


def distance(ours: Tensor, truth: Tensor) -> float:
    """As a share of the largest number."""
    return float((ours.double() - truth.double()).abs().max() / truth.abs().max())


@pytest.mark.parametrize("kind", ["double", "float", "pairs"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("knobs", NETWORKS, ids=str)
def test_the_network_is_the_plain_one(knobs: dict[str, Any], kind: Kind, threads: int) -> None:
    kernel, bound = library(kind), 5e-6 if kind == "float" else 1e-12
    for channels, batch in ((1, 1), (3, 23)):
        model = network(knobs, channels, kernel.dtype)
        x = images(batch, channels, model.config.input_side, kernel.dtype)
        kernel.workspace(2**21).fill_(255)  # not a number: what others have left must not count
        packed = Packed(model, kernel)
        kernel.workspace(2**21).fill_(255)
        logits, features = packed.with_features(x, threads)
        with torch.no_grad():
            assert distance(logits, model(x)) < bound
            assert distance(features, model.features(x)) < bound
        assert torch.equal(packed(x, threads), logits)


@pytest.mark.parametrize("knobs", [NETWORKS[3], NETWORKS[-1]], ids=str)
def test_an_image_does_not_depend_on_those_beside_it(knobs: dict[str, Any]) -> None:
    model = network(knobs, 1, torch.float32)
    packed, x = Packed(model, library("float")), images(29, 1, model.config.input_side)
    together = packed(x, 2)
    assert packed(x[:0], 2).shape == (0, 7)
    assert all(torch.equal(packed(x[i : i + 1], 1)[0], together[i]) for i in range(29))
    x[5] = float("nan")
    assert packed(x, 2).isnan().any(dim=1).nonzero().flatten().tolist() == [5]


def test_calls_from_several_threads_do_not_meet() -> None:
    model = network(NETWORKS[0], 1, torch.float32)
    packed = Packed(model, library("float"))
    asked = [images(batch, 1, model.config.input_side) for batch in range(1, 17)]
    expected = [packed(x, 1) for x in asked]
    with ThreadPoolExecutor(4) as pool:
        for result, logits in zip(pool.map(lambda x: packed(x, 2), 4 * asked), 4 * expected, strict=True):
            assert torch.equal(result, logits)


def test_images_that_do_not_fit_are_refused() -> None:
    packed = Packed(network({}, 3, torch.float32), library("float"))
    for wrong in (images(2, 1, 13), images(2, 3, 14), images(2, 3, 13)[..., :12], images(2, 3, 13)[0]):
        with pytest.raises(ValueError, match="needs images of 3 x 13 x 13"):
            packed(wrong, 1)
    with pytest.raises(ValueError, match="contiguous"):
        packed(images(2, 3, 13).double(), 1)


def test_a_head_that_is_large_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(dict(pool="flatten"), 1, torch.float32), images(5, 1, 13)
    logits, features = Packed(model, library("float")).with_features(x, 2)
    monkeypatch.setattr(prediction, "LARGE_HEAD", 3)
    packed = Packed(model, library("float"))
    assert packed.head is model.head
    assert distance(packed(x, 2), logits) < 5e-6
    assert torch.equal(packed.with_features(x, 1)[1], features)


def test_every_field_of_the_configuration_is_listed() -> None:
    assert {field.name for field in fields(ModelConfig)} == UNRELATED | set(NETWORK)


def test_what_the_kernel_does_not_know_is_left_to_torch() -> None:
    machine = replace(choose_machine(MachineConfig(device="cpu", threads=1)), precision="fp32")
    model = build_model(ModelConfig(arch="cnn"), 1, 7).eval()
    assert not is_known(model)
    assert forward_of(model, machine) is model
    assert Predictor(model).library is None
    x = images(5, 1, model.config.input_side)
    with torch.no_grad():
        assert torch.equal(Predictor(model)(x), model(x))
        assert torch.equal(Predictor(model).with_features(x)[1], model.features(x))
    native = NativeViT(network({}, 1, torch.float32), Kernels(library("float"), 1))
    assert forward_of(native, replace(machine, precision="bf16")) is native
    assert forward_of(native, machine) is not native


def test_where_no_kernel_has_been_compiled_torch_predicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NativeError, match=r"compiled|compiler"):
        load("float", tmp_path / "cache", compiles=False)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(prediction, "library_for_predictions", lambda compiles: None)
    model = network({}, 1, torch.float32)
    with torch.no_grad():
        assert torch.equal(Predictor(model)(images(3, 1, 13)), model(images(3, 1, 13)))


def test_weights_that_change_are_packed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = library("float")
    monkeypatch.setattr(prediction, "library_for_predictions", lambda compiles: kernel)
    model, other, x = network({}, 1, torch.float32), network({}, 1, torch.float32, seed=1), images(5, 1, 13)
    predictor, head = Predictor(model), cast(Any, model.head)
    with torch.no_grad():
        for change in (
            lambda: None,
            lambda: model.load_state_dict(other.state_dict()),
            lambda: head[-1].bias.add_(1.0),
        ):
            change()
            assert distance(predictor(x), model(x)) < 5e-6
    assert Predictor(model, by_kernel=False).library is None


def test_an_evaluation_sees_the_weights_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library("float")  # or skip
    config = tiny_config(write_npz(tmp_path / "glyphs.npz"), precision="fp32", kernels="native", embed_dim=48)
    prepared = prepare.prepare(config, lambda line: None)
    task, packs = prepared.task, count()
    monkeypatch.setattr(prediction.Packed, "_compute", counting(prediction.Packed._compute, packs))
    assert task.val is not None
    for step in range(2):
        with torch.no_grad():
            for parameter in prepared.model.parameters():
                parameter.add_(0.1 * (step + 1))
        logits = predict_logits(prepared.model, task.val, task.preprocess, task.machine, 7, shifts=1)
        plain = build_model(config.model, 1, logits.shape[1]).eval()
        plain.load_state_dict(prepared.model.state_dict())
        truth = predict_logits(plain, task.val, task.preprocess, task.machine, 7, shifts=1)
        assert distance(logits, truth) < 1e-5
    assert next(packs) > 2


def counting(function: Any, calls: Any) -> Any:
    def call(*arguments: Any) -> Any:
        next(calls)
        return function(*arguments)

    return call
