"""Steps that are recorded once and replayed: the same training, bit for bit. On a CPU the recorded call is run anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.test_train import copy, equal, make_model, make_task, run, timeless
from vitlab.machine import Machine, constant
from vitlab.training.loop import Hooks, start
from vitlab.training.optim import build_optimizers, rate_on, set_lr
from vitlab.training.step import WARM_UP_STEPS, Checkpoint, record_steps


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets the CPU record: what is recorded runs when it is replayed, on the memory that was recorded. Counts replays
    of each recording."""
    replays: list[int] = []

    def record(self: Machine, call: Callable[[], Any], draws: torch.Generator) -> Callable[[], Any]:
        number = len(replays)
        replays.append(0)

        def replay() -> None:
            replays[number] += 1
            call()

        return replay

    monkeypatch.setattr(Machine, "records", property(lambda self: True))
    monkeypatch.setattr(Machine, "record", record)
    return replays


KNOBS: list[dict[str, Any]] = [
    {},
    dict(optimizer="muon", clean_tail=0.4, ema_decay=0.9),
    dict(rotate=0.0, shift=0.0, grad_clip=0.5),
]


@pytest.mark.parametrize("knobs", KNOBS, ids=lambda knobs: "-".join(knobs) or "default")
def test_a_recorded_training_is_the_training(knobs: dict[str, Any], recordings: list[int]) -> None:
    task = make_task(**knobs)
    recorded = run(task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Machine, "records", property(lambda self: False))
        plain = run(task)
    assert equal(recorded.weights, plain.weights)
    assert timeless(recorded) == timeless(plain)
    # 71 images in batches of 17: of an epoch's 5 steps the last is smaller and a recording of its own. With a clean
    # tail from step 9 of 15 on, the 9 steps before (one of them smaller) are two recordings, the 6 others two more.
    assert sorted(recordings) == ([1, 2, 4, 8] if "clean_tail" in knobs else [3, 12])


@pytest.mark.usefixtures("recordings")
def test_a_recorded_training_resumes_bit_for_bit() -> None:
    task, kept = make_task(optimizer="muon", clean_tail=0.4), []

    def keep(checkpoint: Checkpoint) -> None:
        kept.append(copy(checkpoint))

    whole = run(task, Hooks(on_state=keep))
    resumed = run(task, resume=kept[7])
    assert kept[7].counters["step"] == 8
    assert equal(whole.weights, resumed.weights)
    assert timeless(whole) == timeless(resumed)


def test_a_recording_leaves_no_trace(recordings: list[int]) -> None:
    task = make_task(optimizer="muon")
    state = start(make_model(task), task, None)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    record_steps(state, task)
    assert recordings == [0, 0]
    assert WARM_UP_STEPS >= 1
    assert equal(dict(state.model.state_dict()), before)
    memory = [value for optimizer in state.optimizers for kept in optimizer.state.values() for value in kept.values()]
    assert len(memory) > 10
    assert all(not bool(value.any()) for value in memory)
    assert not bool(state.sums.any())
    assert state.counters.step == 0


def test_only_sizes_that_occur_are_recorded(recordings: list[int]) -> None:
    run(make_task(train=11, batch_size=17))
    assert recordings == [3]
    run(make_task(train=34, batch_size=17))
    assert recordings[1:] == [6]
    run(make_task(train=35, batch_size=17, epochs=0.6))
    assert recordings[2:] == [2]


def test_a_rate_in_the_devices_memory_is_changed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(optimizer="muon", lr=0.01, muon_lr=0.02)
    results = []
    for in_memory in (False, True):
        model = make_model(task)
        if in_memory:
            monkeypatch.setattr("vitlab.training.optim.rate_on", lambda device, lr: torch.tensor(lr))
        optimizers = build_optimizers(model, task.config.optim, model.describe().matrices)
        rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        assert all(isinstance(rate, Tensor if in_memory else float) for rate in rates)
        for step in range(3):
            torch.manual_seed(step)
            model(torch.randn(5, 1, 8, 8)).square().sum().backward()
            set_lr(optimizers, 0.01 / (step + 1))
            for optimizer in optimizers:
                optimizer.step()
        after = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        assert all(a is b for a, b in zip(rates, after, strict=True)) is in_memory
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-7)


def test_rates_are_plain_numbers_on_a_cpu_and_constants_are_brought_once() -> None:
    assert rate_on(torch.device("cpu"), 0.5) == 0.5
    assert isinstance(rate_on(torch.device("meta"), 0.5), Tensor)
    with torch.inference_mode():
        first = constant((1.5, 2.5), torch.device("cpu"))
    assert not first.is_inference()
    assert first.tolist() == [1.5, 2.5]
    assert constant((1.5, 2.5), torch.device("cpu")) is first
