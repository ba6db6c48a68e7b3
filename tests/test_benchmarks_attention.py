"""What attention is worth: fixed weights against the network itself, and the table by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import attention_worth
from benchmarks.fixed_attention import logits_with, mean_weights, top1_with_mean
from tests.tiny import tiny_model_config
from vitlab.config import MachineConfig
from vitlab.data.batches import DeviceSplit
from vitlab.files import write_json
from vitlab.machine import Machine, choose_machine
from vitlab.model import ViT
from vitlab.training.preprocess import Preprocess

PLAIN = Preprocess(image_size=15, mean=(0.0,), std=(1.0,))


@pytest.fixture
def machine() -> Machine:
    return choose_machine(MachineConfig(precision="fp32", threads=1))


def vit(**knobs: Any) -> ViT:
    torch.manual_seed(3)
    model = ViT(tiny_model_config(pool="flatten", init="keras", attn_bias=True, **knobs), in_channels=1, num_classes=7)
    for block in model.blocks:
        attn: Any = block.attn
        torch.nn.init.normal_(attn.bias)
    return model.eval()


def split(count: int, seed: int = 0) -> DeviceSplit:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 15, 15, 1), dtype=torch.uint8, generator=draw)
    return DeviceSplit(images, torch.arange(count) % 7)


@pytest.mark.parametrize("form", [dict(), dict(attn_form="merged", num_heads=1, head_dim=None)])
def test_with_the_weights_of_one_image_its_logits_are_the_networks(form: Any, machine: Machine) -> None:
    model, images = vit(**form), split(5)
    inputs = PLAIN(images.images)
    for one in range(5):
        own = replace(images, images=images.images[one : one + 1], labels=images.labels[one : one + 1])
        weights = mean_weights(model, own, PLAIN, machine, 3)
        found = logits_with(model, inputs, weights)
        torch.testing.assert_close(found[one], model(inputs)[one])
        assert not torch.allclose(found[one - 1], model(inputs)[one - 1])


def test_the_mean_is_over_all_images_whatever_the_batches(machine: Machine) -> None:
    model, images = vit(), split(11)
    expected = model.forward_with_attention(PLAIN(images.images))[1].mean(dim=1)
    for size in (3, 11):
        torch.testing.assert_close(mean_weights(model, images, PLAIN, machine, size), expected)
    torch.testing.assert_close(expected.sum(dim=-1), torch.ones(expected.shape[:-1]))


def test_a_network_whose_attention_ignores_the_image_loses_nothing(machine: Machine) -> None:
    model, train, test = vit(), split(13), split(53, seed=1)
    for block in model.blocks:
        attn: Any = block.attn
        torch.nn.init.zeros_(attn.qkv.weight[: 2 * attn.num_heads * attn.head_dim])  # queries and keys
    right = int((model(PLAIN(test.images)).argmax(dim=1) == test.labels).sum())
    assert top1_with_mean(model, train, test, PLAIN, machine, 17) == right / 53


def test_table_and_picture_compare_runs_of_the_same_seed(tmp_path: Path) -> None:
    about = {"environment": {"device_name": "CPU", "threads": 2, "precision": "fp32", "torch": "2"}}

    def run(name: str, seed: int, top1: float, seconds: float, mean: float | None = None) -> dict[str, Any]:
        end = {} if mean is None else {"test_top1_mean_attention": mean}
        rows = [{"test_top1": top1, "train_seconds": seconds}]
        started = {"started_utc": "2026-01-31T12:00:00Z", "gemm_gflops_before": 100.0}
        return {"contestant": name, "seed": seed, "about": about, "epochs": rows, "end": end} | started

    mixer, none = ("fast" + attention_worth.VARIANTS[name] for name in ("MLP-Mixer", "none"))
    runs = [run("fast", 0, 0.99, 4.0, 0.97), run("fast", 1, 0.98, 4.0, 0.95)]
    runs += [run(mixer, 0, 0.985, 3.0), run(mixer, 1, 0.985, 3.0), run(none, 1, 0.96, 1.0)]
    lines = attention_worth.report({"runs": runs}).splitlines()
    assert lines[2:6] == [
        "| digits, 3 s | attention | 98.50 ± 0.71 |  | 4.0 |",
        "| digits, 3 s | its mean | 96.00 ± 1.41 | -2.50 ± 0.50 |  |",
        "| digits, 3 s | MLP-Mixer | 98.50 ± 0.00 | +0.00 ± 0.50 | 3.0 (75 %) |",
        "| digits, 3 s | none | 96.00 | -2.00 | 1.0 (25 %) |",
    ]
    unfinished = attention_worth.report({"runs": [one for one in runs if one["contestant"] != mixer]}).splitlines()
    assert unfinished[4] == "| digits, 3 s | MLP-Mixer |  |  |  |"
    write_json(tmp_path / "runs.json", {"runs": runs})
    attention_worth.draw({"runs": runs}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_every_recipe_fits_every_variant() -> None:
    from benchmarks.timing import contestant

    for name in attention_worth.contestants(list(attention_worth.BUDGETS)):
        contestant(name)
