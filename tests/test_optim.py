"""AdamW and Muon against their formulas, which weights decay, the rate at named steps, going on from a checkpoint."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.tiny import tiny_model_config
from vitlab.config import ModelConfig, OptimConfig
from vitlab.files import user_cache
from vitlab.model import build_model
from vitlab.native.build import NativeError, load
from vitlab.native.ops import Kernels
from vitlab.training.optim import (
    AdamW,
    Muon,
    Optimizer,
    build_optimizers,
    decay_groups,
    load_optimizer_tensors,
    lr_at,
    optimizer_tensors,
    orthogonalize,
    set_lr,
)

# Learning rate: 2 epochs of 5 steps warm-up, 30 steps in all, from 1.0 down to 0.1


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("linear", 0, 0.1), ("linear", 4, 0.5), ("linear", 9, 1.0), ("linear", 10, 1.0), ("linear", 20, 0.55),
        ("linear", 29, 0.145), ("linear", 30, 0.1),
        ("cosine", 0, 0.1), ("cosine", 9, 1.0), ("cosine", 10, 1.0), ("cosine", 15, 0.1 + 0.45 * (1 + math.sqrt(0.5))),
        ("cosine", 20, 0.55), ("cosine", 25, 0.1 + 0.45 * (1 - math.sqrt(0.5))), ("cosine", 30, 0.1),
        ("constant", 0, 0.1), ("constant", 9, 1.0), ("constant", 10, 1.0), ("constant", 29, 1.0),
    ],
)  # fmt: skip
def test_learning_rate_at_named_steps(schedule: Any, step: int, expected: float) -> None:
    config = OptimConfig(lr=1.0, min_lr=0.1, schedule=schedule, warmup_epochs=2.0)
    assert lr_at(step, config, total_steps=30, steps_per_epoch=5) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_without_warm_up_the_first_step_has_the_full_rate(schedule: Any) -> None:
    assert lr_at(0, OptimConfig(lr=0.3, schedule=schedule), 7, 7) == pytest.approx(0.3)


def test_a_part_of_an_epoch_can_warm_up() -> None:
    config = OptimConfig(lr=1.0, warmup_epochs=0.4, schedule="constant")
    assert [lr_at(step, config, 10, 5) for step in range(3)] == pytest.approx([0.5, 1.0, 1.0])


def test_warm_up_takes_half_of_the_training_at_most() -> None:
    """A trial of one epoch with a recipe for many still sees the rate fall."""
    config = OptimConfig(lr=1.0, warmup_epochs=2.0, schedule="linear")
    assert [lr_at(step, config, 4, 2) for step in range(4)] == pytest.approx([0.5, 1.0, 1.0, 0.5])


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.integers(1, 6),
    st.integers(1, 11),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(deadline=None, max_examples=60)
def test_the_rate_rises_to_lr_then_never_rises_again_nor_falls_below_min_lr(
    schedule: Any, epochs: int, per_epoch: int, warm_share: float, min_share: float
) -> None:
    config = OptimConfig(lr=0.7, min_lr=0.7 * min_share, schedule=schedule, warmup_epochs=warm_share * epochs)
    total = epochs * per_epoch
    rates = [lr_at(step, config, total, per_epoch) for step in range(total)]
    peak = max(min(round(warm_share * epochs * per_epoch), total // 2) - 1, 0)
    assert rates[peak] == pytest.approx(0.7)
    assert all(a < b for a, b in pairwise(rates[: peak + 1]))
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[peak:]))
    assert min(rates[peak:]) >= config.min_lr - 1e-12


# Which weights decay

MATRICES = {
    "patch_embed.weight", "head.1.weight", "head.4.weight",
    *(f"blocks.{i}.{part}.weight" for i in range(3) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")),
}  # fmt: skip


def test_matrices_decay_and_biases_norms_and_positions_do_not() -> None:
    model = build_model(tiny_model_config(pool="cls", head_hidden=(13,)), 1, 7)
    decayed, free = decay_groups(model, OptimConfig())
    assert set(decayed) == MATRICES
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.0.norm1.weight", "patch_embed.bias"} <= set(free)
    assert sorted(decayed + free) == sorted(name for name, _ in model.named_parameters())


def test_decay_all_means_all() -> None:
    model = build_model(tiny_model_config(pool="cls"), 1, 7)
    assert decay_groups(model, OptimConfig(decay_all=True)) == ([name for name, _ in model.named_parameters()], [])


def test_convolutions_decay() -> None:
    decayed, free = decay_groups(build_model(ModelConfig(arch="cnn"), 1, 7), OptimConfig())
    assert decayed == ["convs.0.weight", "convs.1.weight", "head.1.weight"]
    assert free == ["convs.0.bias", "convs.1.bias", "head.1.bias"]


# AdamW


def adamw(weight: Any, gradients: list[Any], config: OptimConfig, decay: float) -> Any:
    """Loshchilov and Hutter 2019, algorithm 2, in double precision."""
    mean, square = np.zeros_like(weight), np.zeros_like(weight)
    for step, gradient in enumerate(gradients, start=1):
        weight = weight - config.lr * decay * weight
        mean = config.beta1 * mean + (1 - config.beta1) * gradient
        square = config.beta2 * square + (1 - config.beta2) * gradient**2
        unbiased, spread = mean / (1 - config.beta1**step), np.sqrt(square / (1 - config.beta2**step))
        weight = weight - config.lr * unbiased / (spread + config.adam_eps)
    return weight


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_steps_are_those_of_the_adamw_paper(steps: int, decay_all: bool) -> None:
    draw = np.random.default_rng(0)
    config = OptimConfig(lr=0.03, weight_decay=0.7, beta1=0.8, beta2=0.95, adam_eps=1e-2, decay_all=decay_all)
    layer = nn.Linear(5, 3)
    (optimizer,) = build_optimizers(layer, config, {})
    before = {name: p.detach().numpy().astype(np.float64) for name, p in layer.named_parameters()}
    gradients = {name: [draw.normal(size=value.shape) for _ in range(steps)] for name, value in before.items()}
    for step in range(steps):
        for name, p in layer.named_parameters():
            p.grad = torch.tensor(gradients[name][step], dtype=torch.float32)
        optimizer.step()
    for name, p in layer.named_parameters():
        decay = 0.7 if decay_all or name == "weight" else 0.0
        expected = adamw(before[name], gradients[name], config, decay)
        np.testing.assert_allclose(p.detach().numpy(), expected, atol=1e-6)


def test_steps_are_bit_for_bit_those_of_torchs_own_class() -> None:
    """So checkpoints of either go on with the other: the memory has the same names and the same bits, too."""
    config = OptimConfig(lr=0.03, beta1=0.8, beta2=0.95, adam_eps=1e-3)
    ours, theirs, unused = nn.Linear(5, 3), nn.Linear(5, 3), nn.Parameter(torch.ones(7))
    theirs.load_state_dict(ours.state_dict())
    groups, others = (
        [{"params": [m.weight], "weight_decay": 0.7}, {"params": [m.bias], "weight_decay": 0.0}] for m in (ours, theirs)
    )
    own = AdamW([*groups, {"params": [unused], "weight_decay": 0.5}], config)
    other = torch.optim.AdamW(others, lr=0.03, betas=(0.8, 0.95), eps=1e-3, fused=True)
    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = b.grad = torch.randn(a.shape, generator=draw)
        own.step()
        other.step()
    assert torch.equal(unused, torch.ones(7))
    assert unused not in own.state
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
        assert own.state[a].keys() == other.state[b].keys()
        assert all(torch.equal(own.state[a][name], other.state[b][name]) for name in own.state[a])


def test_a_training_does_not_wait_for_torchs_compiler(tmp_path: Path) -> None:
    """Which takes a second to import, and which torch's optimizers and its counter of operations import."""
    words = ["train", "--data", "digits", "--epochs", "0.02", "--out", str(tmp_path / "run"), "--threads", "1"]
    script = f"import sys, vitlab.cli\nvitlab.cli.main({words})\nsys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_decay_01_at_lr_0001_is_tensorflow_addons_00001_on_every_variable() -> None:
    layer = nn.Linear(3, 2)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    (optimizer,) = build_optimizers(layer, OptimConfig(lr=1e-3, weight_decay=0.1, decay_all=True, adam_eps=1e-7), {})
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(2700):
        optimizer.step()
    for p in layer.parameters():
        torch.testing.assert_close(p.detach(), torch.full_like(p, 0.763), atol=5e-4, rtol=0)


def test_set_lr_is_used_for_all_groups() -> None:
    layer = nn.Linear(3, 2)
    (optimizer,) = build_optimizers(layer, OptimConfig(lr=1.0, weight_decay=0.5), {})
    set_lr([optimizer], 0.0)
    before = [p.detach().clone() for p in layer.parameters()]
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert len(optimizer.param_groups) == 2
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))


# Going on from a checkpoint


def train(model: nn.Module, optimizers: list[Optimizer], steps: range) -> None:
    for step in steps:
        images = torch.rand(5, 3, 15, 15, generator=torch.Generator().manual_seed(step))
        model.zero_grad()
        model(images).pow(2).sum().backward()
        for optimizer in optimizers:
            optimizer.step()


def network() -> Any:
    torch.manual_seed(0)
    return build_model(tiny_model_config(), 3, 5)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Own memory: ``optimizer_tensors`` gives the optimizers' live tensors."""
    return {name: value.clone() for name, value in tensors.items()}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_optimizers_loaded_from_their_tensors_go_on_bit_for_bit(optimizer: Any) -> None:
    config = OptimConfig(optimizer=optimizer, lr=0.01, weight_decay=0.1)
    unbroken = network()
    optimizers = build_optimizers(unbroken, config, unbroken.describe().matrices)
    train(unbroken, optimizers, range(3))
    weights, memory = copied(unbroken.state_dict()), copied(optimizer_tensors(optimizers, unbroken))
    train(unbroken, optimizers, range(3, 7))

    resumed = network()
    resumed.load_state_dict(weights)
    fresh = build_optimizers(resumed, config, resumed.describe().matrices)
    load_optimizer_tensors(fresh, resumed, memory)
    train(resumed, fresh, range(3, 7))
    assert all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True))


def test_optimizer_tensors_are_named_by_parameter_and_empty_before_the_first_step() -> None:
    model, config = network(), OptimConfig(optimizer="muon")
    optimizers = build_optimizers(model, config, model.describe().matrices)
    assert optimizer_tensors(optimizers, model) == {}
    train(model, optimizers, range(1))
    matrices = set(model.describe().matrices)
    others = {name for name, _ in model.named_parameters()} - matrices
    assert set(optimizer_tensors(optimizers, model)) == {f"{name}/momentum" for name in matrices} | {
        f"{name}/{entry}" for name in others for entry in ("step", "exp_avg", "exp_avg_sq")
    }


# Muon


def test_muon_trains_the_matrices_inside_the_network_and_adamw_all_else() -> None:
    model, config = network(), OptimConfig(optimizer="muon")
    inside = {f"blocks.{i}.{part}.weight" for i in range(3) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert set(model.describe().matrices) == inside
    names = {id(p): name for name, p in model.named_parameters()}
    muon, adamw_ = build_optimizers(model, config, model.describe().matrices)
    assert isinstance(muon, Muon)
    owned = [{names[id(p)] for group in o.param_groups for p in group["params"]} for o in (muon, adamw_)]
    assert owned[0] == inside
    assert owned[1] == set(names.values()) - inside


@pytest.mark.parametrize(("rows", "columns"), [(5, 11), (7, 7)])
def test_orthogonalize_keeps_the_singular_vectors_and_makes_the_values_about_one(rows: int, columns: int) -> None:
    matrices = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(1))
    for before, after in zip(matrices, orthogonalize(matrices), strict=True):
        u, _, v = np.linalg.svd(before.numpy(), full_matrices=False)
        rotated = u.T @ after.numpy() @ v.T
        assert np.abs(rotated - np.diag(np.diag(rotated))).max() < 0.02
        # The polynomial's own bounds (Jordan et al. 2024), but for a value that was tiny before.
        assert 0.3 < np.diag(rotated).min() <= np.diag(rotated).max() < 1.3


class OneMatrix(nn.Module):
    """A module whose single weight Muon takes."""

    def __init__(self, rows: int, columns: int, name: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleDict({name: nn.Linear(columns, rows, bias=False)})])
        self.other = nn.Parameter(torch.ones(2))

    @property
    def weight(self) -> nn.Parameter:
        return next(self.blocks.parameters())


@pytest.mark.parametrize(
    ("rows", "columns", "name", "parts"), [(10, 5, "fc1", 1), (5, 10, "fc2", 1), (15, 7, "qkv", 3)]
)
def test_muon_steps_are_momentum_made_orthogonal(rows: int, columns: int, name: str, parts: int) -> None:
    config = OptimConfig(
        optimizer="muon", lr=0.5, muon_lr=0.1, muon_momentum=0.8, muon_weight_decay=0.3, weight_decay=0.0
    )
    model = OneMatrix(rows, columns, name)
    muon, _ = optimizers = build_optimizers(model, config, {f"blocks.0.{name}.weight": parts})
    draw = np.random.default_rng(0)
    weight, memory = model.weight.detach().numpy().astype(np.float64), np.zeros((rows, columns))
    for step in range(3):
        gradient = draw.normal(size=(rows, columns))
        model.weight.grad = torch.tensor(gradient, dtype=torch.float32)
        set_lr(optimizers, 0.5 / (step + 1))  # Muon's rate falls in the same proportion
        muon.step()
        memory = 0.8 * memory + 0.2 * gradient
        ahead = 0.2 * gradient + 0.8 * memory
        each = torch.tensor(ahead, dtype=torch.float32).chunk(parts)
        tall = rows // parts > columns
        direction = torch.cat(
            [orthogonalize(part.mT[None])[0].mT if tall else orthogonalize(part[None])[0] for part in each]
        )
        lr = 0.1 / (step + 1)
        weight = weight * (1 - lr * 0.3) - lr * max(1, rows / parts / columns) ** 0.5 * direction.numpy()
    np.testing.assert_allclose(model.weight.detach().numpy(), weight, atol=1e-5)


def test_matrices_in_one_batch_filled_up_with_zeros_are_as_each_alone() -> None:
    config = OptimConfig(optimizer="muon")
    together, alone = network(), network()
    train(together, build_optimizers(together, config, together.describe().matrices), range(2))
    optimizers = build_optimizers(alone, config, alone.describe().matrices)
    muon = optimizers[0]
    longest = [{max(rows, columns) for _, rows, columns in group["shapes"]} for group in muon.param_groups]
    assert any(len(lengths) > 1 for lengths in longest)
    muon.param_groups = [
        group | {"params": [p], "shapes": [shape]}
        for group in muon.param_groups
        for p, shape in zip(group["params"], group["shapes"], strict=True)
    ]
    assert len(muon.param_groups) == 12
    train(alone, optimizers, range(2))
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_native_step_is_the_same_up_to_rounding(threads: int) -> None:
    """Over all shapes of a network, a qkv weight of three matrices, tall and wide ones, through several steps."""
    try:
        library = load("float", user_cache() / "native")
    except NativeError as error:
        pytest.skip(str(error))
    config = OptimConfig(optimizer="muon", muon_momentum=0.8, muon_weight_decay=0.3)
    plain, native = network(), network()
    optimizers = build_optimizers(plain, config, plain.describe().matrices)
    own, adamw_ = build_optimizers(native, config, native.describe().matrices, Kernels(library, threads))
    assert isinstance(own, Muon)
    for step in range(3):
        for a, b in zip(plain.parameters(), native.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step + a.numel()))
            b.grad = a.grad.clone()
        for optimizer in (*optimizers, own, adamw_):
            optimizer.step()
    for a, b in zip(plain.parameters(), native.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    memory = [optimizer_tensors(o, m) for o, m in ((optimizers, plain), ([own, adamw_], native))]
    assert memory[0].keys() == memory[1].keys()
    for name in memory[0]:
        torch.testing.assert_close(memory[0][name], memory[1][name])


def test_the_native_step_does_not_depend_on_the_number_of_threads() -> None:
    try:
        library = load("float", user_cache() / "native")
    except NativeError as error:
        pytest.skip(str(error))
    config, networks = OptimConfig(optimizer="muon"), [network() for _ in range(2)]
    for threads, model in zip((1, 2), networks, strict=True):
        train(model, build_optimizers(model, config, model.describe().matrices, Kernels(library, threads)), range(3))
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in networks), strict=True))
