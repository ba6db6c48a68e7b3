"""The self-test of a device that nobody has tested, on a CPU that plays one, and training without float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny import tiny_config, write_npz
from vitlab import machine as machines
from vitlab.config import MachineConfig
from vitlab.data.batches import DeviceSplit
from vitlab.errors import ConfigError
from vitlab.machine import choose_machine
from vitlab.runs.prepare import Prepared, prepare
from vitlab.training.evaluate import predict_logits
from vitlab.training.loop import fit
from vitlab.training.selftest import check_device


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    data = write_npz(tmp_path_factory.mktemp("data") / "glyphs.npz")
    return prepare(tiny_config(data, optimizer="muon", kernels="plain", rotate=5.0, epochs=1), lambda line: None)


def from_the_second(model: Callable[..., Tensor], change: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``model`` for the first forward pass, which is the CPU's; after as many calls, ``change`` of what it gives."""
    calls: list[None] = []

    def one(*values: Any, **others: Any) -> Tensor:
        calls.append(None)
        found = model(*values, **others)
        return found if len(calls) <= 2 else change(found)  # two blocks

    return one


def test_the_same_numbers_pass_and_leave_the_network_alone(prepared: Prepared) -> None:
    said: list[str] = []
    before = {name: value.clone() for name, value in prepared.model.state_dict().items()}
    state = torch.get_rng_state()
    check_device(prepared.model, prepared.task, said.append)
    assert said == ["self-test: cpu computes what the CPU does"]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in prepared.model.state_dict().items())


def test_wrong_numbers_are_refused(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in prepared.model.blocks:  # type: ignore[union-attr]
        monkeypatch.setattr(block.mlp, "act", F.gelu)
    wrong = from_the_second(F.gelu, lambda value: value * 1.01)
    monkeypatch.setattr("vitlab.model.block.F.gelu", wrong)
    for block in prepared.model.blocks:  # type: ignore[union-attr]
        monkeypatch.setattr(block.mlp, "act", wrong)
    with pytest.raises(ConfigError, match=r"wrong numbers \(the .* is off by .* %\); use device=.cpu"):
        check_device(prepared.model, prepared.task, lambda line: None)


def test_a_step_that_changes_nothing_is_refused(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Adam's did in tensors that were not contiguous."""
    from vitlab.training import optim

    steps: list[None] = []
    step = optim.AdamW.step

    def once(self: Any) -> None:
        steps.append(None)
        if len(steps) == 1:
            step(self)

    monkeypatch.setattr(optim.AdamW, "step", once)
    with pytest.raises(ConfigError, match=r"the step of .* is off by 1e\+02 %"):
        check_device(prepared.model, prepared.task, lambda line: None)


def test_an_operation_that_is_missing_is_named(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(value: Tensor) -> Tensor:
        raise NotImplementedError("The operator 'aten::gelu' is not currently implemented for the MPS device.")

    for block in prepared.model.blocks:  # type: ignore[union-attr]
        monkeypatch.setattr(block.mlp, "act", missing)
    with pytest.raises(ConfigError, match="torch cannot compute aten::gelu there; use cpu"):
        check_device(prepared.model, prepared.task, lambda line: None)


class NoFloat64(TorchDispatchMode):
    """Refuses every tensor in float64, as Apple's GPU does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        assert not (isinstance(found, Tensor) and found.dtype is torch.float64), f"{func} gives float64"
        return found


def test_training_needs_no_float64(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "has_float64", lambda device: False)
    task = replace(prepared.task, val=None)
    with NoFloat64():  # type: ignore[no-untyped-call]
        outcome = fit(prepared.model, task)
        few = DeviceSplit(task.train.images[:5], task.train.labels[:5])
        predict_logits(prepared.model, few, task.preprocess, task.machine, 3)
    assert outcome.status == "done"
    assert outcome.counters.rows[0]["train_loss"] > 0


def test_apples_gpu_is_used_only_where_it_is_and_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, knobs, words in ((False, {}, "no Apple GPU"), (True, {"precision": "bf16"}, "bf16 is not supported")):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=there: there)
        with pytest.raises(ConfigError, match=words):
            choose_machine(MachineConfig(device="mps", **knobs))  # type: ignore[arg-type]
