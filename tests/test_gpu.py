"""On a CUDA GPU: recorded steps are the steps, training repeats and resumes bit for bit, nothing waits in between.

Skipped where there is no GPU; tests/test_step.py tries the recording on a CPU.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_train import copy, equal, timeless
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab import Preprocess, build_model
from vitlab.config import MachineConfig
from vitlab.data.batches import epoch_batches, to_device
from vitlab.files import read_json
from vitlab.machine import Machine, choose_machine, seed_torch
from vitlab.native.accelerate import accelerate
from vitlab.training.evaluate import predict_logits
from vitlab.training.loop import Hooks, Outcome, fit, start
from vitlab.training.step import Checkpoint, Task, record_steps, train_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")

KNOBS: list[dict[str, Any]] = [
    dict(optimizer="muon", clean_tail=0.4, ema_decay=0.9, elastic=1.0, num_heads=2, attn_bias=True),
    dict(optimizer="muon", num_heads=1, attn_form="merged", norm="rms", act="relu2", drop_path=0.0, crop=6),
    dict(grad_clip=0.5, erase=0.3, pool="cls", attn_dropout=0.3),
]
each_recipe = pytest.mark.parametrize("knobs", KNOBS, ids=["muon", "merged", "adamw"])


def task_of(precision: str, **knobs: Any) -> Task:
    machine = choose_machine(MachineConfig(device="cuda", threads=1, precision=precision))  # type: ignore[arg-type]
    config = tiny_config("none", **({"epochs": 4} | knobs))
    train, val = (to_device(glyphs(count, seed=seed), machine.device) for count, seed in ((71, 3), (29, 4)))
    return Task(config, train, val, Preprocess(8, (0.3,), (0.4,), config.model.input_side), machine)


def run(task: Task, hooks: Hooks = Hooks(), resume: Checkpoint | None = None) -> Outcome:
    return fit(model_of(task), task, hooks, resume)


def model_of(task: Task) -> torch.nn.Module:
    seed_torch(task.config.train.seed, "init")
    model, _, _ = accelerate(build_model(task.config.model, 1, 3), task.machine, print)
    return model.to(task.machine.device)


@each_recipe
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_recorded_training_is_the_training(
    knobs: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(precision, **knobs)
    recorded, again = run(task), run(task)
    assert equal(recorded.weights, again.weights)
    monkeypatch.setattr(Machine, "records", property(lambda self: False))
    plain = run(task)
    assert equal(recorded.weights, plain.weights)
    assert timeless(recorded) == timeless(plain)
    assert plain.status == "done"


@each_recipe
def test_a_training_resumes_bit_for_bit(knobs: dict[str, Any]) -> None:
    task, kept = task_of("bf16", **knobs), []
    whole = run(task, Hooks(on_state=lambda checkpoint: kept.append(copy(checkpoint))))
    resumed = run(task, resume=kept[7])
    assert kept[7].counters["step"] == 8
    assert equal(whole.weights, resumed.weights)
    assert timeless(whole) == timeless(resumed)


@each_recipe
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nothing_in_an_epoch_waits_for_the_device(knobs: dict[str, Any]) -> None:
    task = task_of("bf16", **knobs)
    state = start(model_of(task), task, None)
    record_steps(state, task)
    order = task.machine.generator(0, "order", 0)
    batches = list(epoch_batches(task.train, task.config.train.batch_size, order))
    assert len(batches[-1][1]) < len(batches[0][1])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for images, labels in batches:
            assert train_step(state, task, images, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@each_recipe
def test_a_network_answers_as_on_the_cpu(knobs: dict[str, Any]) -> None:
    task = task_of("fp32", **knobs)
    model = model_of(task)
    model.load_state_dict(run(task).weights)
    assert task.val is not None
    on_gpu = predict_logits(model, task.val, task.preprocess, task.machine, 13, shifts=1)
    cpu = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    val = to_device(glyphs(29, seed=4), cpu.device)
    on_cpu = predict_logits(model.cpu(), val, task.preprocess, cpu, 13, shifts=1)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-4, atol=1e-4)


def test_the_commands_take_a_gpu(tmp_path: Path) -> None:
    data, out = write_npz(tmp_path / "glyphs.npz"), str(tmp_path / "run")
    sizes = {"image-size": 8, "patch-size": 2, "patch-overlap": 1, "embed-dim": 8, "epochs": 3, "batch-size": 17}
    knobs = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    vitlab("train", "--data", str(data), "--device", "cuda", "--out", out, *knobs)
    result = read_json(tmp_path / "run" / "result.json")
    assert (result["status"], result["device"]) == ("done", "cuda")
    for device in ("cuda", "cpu"):
        vitlab("evaluate", out, "--device", device)
        vitlab("look", out, "--device", device)


def vitlab(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "vitlab", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
