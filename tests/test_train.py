"""The training loop: it learns, repeats itself bit for bit, selects, averages and stops as it promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.tiny import glyphs, on_cpu, tiny_config
from vitlab import Preprocess, build_model
from vitlab.config import MachineConfig
from vitlab.machine import choose_machine, seed_torch
from vitlab.model import Network
from vitlab.training.loop import Hooks, Outcome, clone, fit, start
from vitlab.training.step import Checkpoint, Task, training_inputs

MACHINE = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))


def make_task(val: int = 29, train: int = 71, **knobs: object) -> Task:
    config = tiny_config("none", **knobs)
    preprocess = Preprocess(8, (0.3,), (0.4,))
    return Task(
        config, on_cpu(glyphs(train, seed=3)), on_cpu(glyphs(val, seed=4)) if val else None, preprocess, MACHINE
    )


def make_model(task: Task) -> Network:
    seed_torch(task.config.train.seed, "init")
    return build_model(task.config.model, 1, 3)


def run(task: Task, hooks: Hooks = Hooks(), resume: Checkpoint | None = None) -> Outcome:
    return fit(make_model(task), task, hooks, resume)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(outcome: Outcome) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in outcome.counters.rows]


def copy(checkpoint: Checkpoint) -> Checkpoint:
    counters = checkpoint.counters | {"rows": list(checkpoint.counters["rows"])}
    return Checkpoint({name: value.clone() for name, value in checkpoint.tensors.items()}, counters)


def test_eight_images_are_memorised() -> None:
    task = make_task(
        val=0, train=8, batch_size=8, epochs=60, dropout=0.0, attn_dropout=0.0, drop_path=0.0, rotate=0.0, shift=0.0,
        label_smoothing=0.0, lr=1e-2,
    )  # fmt: skip
    outcome = run(task)
    assert outcome.counters.rows[-1]["train_top1"] == 1.0
    assert outcome.counters.rows[-1]["train_loss"] < 0.02


def test_the_loop_is_the_textbook_loop() -> None:
    """Against a loop written out here: order, loss, clipping, AdamW, learning rate."""
    task = make_task(
        dropout=0.0, attn_dropout=0.0, drop_path=0.0, rotate=0.0, shift=0.0, grad_clip=0.5, weight_decay=0.3,
        decay_all=True, schedule="linear", lr=1e-2, adam_eps=1e-3, epochs=2, select="last",
    )  # fmt: skip
    model = make_model(task)
    # A large epsilon, because key biases have no gradient but rounding, which Adam would blow up.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.3, eps=1e-3)
    total, step = 2 * math.ceil(71 / 17), 0
    for epoch in range(2):
        order = torch.randperm(71, generator=MACHINE.generator(0, "order", epoch))
        for indices in order.split(17):
            pixels = task.train.images[indices].permute(0, 3, 1, 2) / 255.0
            loss = F.cross_entropy(model((pixels - 0.3) / 0.4), task.train.labels[indices], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / total)
            optimizer.step()
            step += 1
    outcome = run(task)
    assert outcome.counters.step == step
    for name, value in model.state_dict().items():
        torch.testing.assert_close(outcome.weights[name], value, rtol=1e-4, atol=1e-6)


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    first, second, other = run(make_task()), run(make_task()), run(make_task(seed=1))
    assert equal(first.weights, second.weights)
    assert timeless(first) == timeless(second)
    assert not equal(first.weights, other.weights)


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(build_model(make_task().config.model, 1, 3), make_task(epochs=1))
    torch.manual_seed(5)
    run(make_task(epochs=1))
    assert not torch.equal(torch.rand(3), expected)  # make_model seeds it ...
    model = make_model(make_task())
    torch.manual_seed(5)
    fit(model, make_task(epochs=1))
    assert torch.equal(torch.rand(3), expected)  # ... fit does not


@pytest.mark.parametrize("knobs", [{}, {"ema_decay": 0.8}, {"select": "last", "val": 0}], ids=str)
def test_every_moment_between_two_steps_can_be_resumed_exactly(knobs: dict[str, object]) -> None:
    states: list[Checkpoint] = []
    task = make_task(**knobs)  # type: ignore[arg-type]
    whole = run(task, Hooks(on_state=lambda checkpoint: states.append(copy(checkpoint))))
    assert [state.counters["step"] for state in states] == [*range(1, 16), 15]  # 5 steps an epoch, 3 epochs
    for state in states:
        resumed = run(task, resume=state)
        assert equal(resumed.weights, whole.weights), state.counters["step"]
        assert timeless(resumed) == timeless(whole)
        assert resumed.selected_epoch == whole.selected_epoch


def test_a_request_to_stop_ends_after_the_step_with_a_checkpoint() -> None:
    states: list[Checkpoint] = []
    steps: list[int] = []
    hooks = Hooks(
        on_step=lambda counters, sums: steps.append(counters.step),
        on_state=lambda checkpoint: states.append(copy(checkpoint)),
        should_stop=lambda: len(steps) == 7,
    )
    outcome = run(make_task(checkpoint_seconds=1e9), hooks)
    assert outcome.status == "interrupted"
    assert steps[-1] == 7
    assert [state.counters["step"] for state in states] == [7]


def test_checkpoints_come_no_more_often_than_asked() -> None:
    states: list[int] = []
    run(
        make_task(checkpoint_seconds=1e9), Hooks(on_state=lambda checkpoint: states.append(checkpoint.counters["step"]))
    )
    assert states == [15]  # the one at the end


def test_an_absurd_learning_rate_is_diverged_at_once_and_never_best() -> None:
    outcome = run(make_task(lr=1e30))
    assert outcome.status == "diverged"
    assert outcome.counters.step <= 2


@pytest.mark.parametrize("step", [1, 5, 8])
def test_a_loss_that_is_not_finite_stops_that_very_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task()
    model = make_model(task)
    forward, calls = model.forward, iter(range(1, 1000))

    def poisoned(images: Tensor) -> Tensor:
        logits: Tensor = forward(images)
        return logits * (math.nan if model.training and next(calls) == step else 1.0)

    monkeypatch.setattr(model, "forward", poisoned)
    seen: list[int] = []
    outcome = fit(model, task, Hooks(on_step=lambda counters, sums: seen.append(counters.step)))
    assert outcome.status == "diverged"
    assert seen == list(range(1, step))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_weights_that_are_not_finite_are_never_checkpointed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient can overflow in a step whose loss was still finite."""
    task = make_task()
    model = make_model(task)
    states: list[Checkpoint] = []

    def spoil(counters: object, sums: Tensor) -> None:
        if len(states) == 3:
            nn.init.constant_(next(model.parameters()), math.inf)

    hooks = Hooks(on_step=spoil, on_state=lambda checkpoint: states.append(copy(checkpoint)))
    assert fit(model, task, hooks).status == "diverged"
    assert len(states) == 3


def validation_script(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    """Let the validation accuracy of epoch i be what is written here."""
    script = iter(accuracies)
    monkeypatch.setattr("vitlab.training.loop.top_k", lambda logits, labels, k: next(script))
    monkeypatch.setattr("vitlab.training.loop.mean_loss", lambda logits, labels: 1.0)


@pytest.mark.parametrize(("select", "kept"), [("best", 2), ("last", 4)])
def test_selection(select: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    after: list[dict[str, Tensor]] = []
    task = make_task(select=select, epochs=4)
    model = make_model(task)

    def remember(row: object) -> None:
        after.append({name: value.clone() for name, value in model.state_dict().items()})

    validation_script(monkeypatch, [0.5, 0.9, 0.9, 0.7])  # of equals, the first
    outcome = fit(model, task, Hooks(on_epoch=remember))
    assert outcome.selected_epoch == kept
    assert outcome.counters.best_epoch == 2
    assert equal(outcome.weights, after[kept - 1])


def test_without_validation_the_last_weights_are_kept() -> None:
    outcome = run(make_task(val=0, select="best"))
    assert outcome.selected_epoch == 3
    assert outcome.counters.rows[0]["val_top1"] is None


def test_the_average_is_what_is_evaluated_and_kept() -> None:
    """Against the recursion written out: a <- d a + (1 - d) w, starting at the weights after the first step."""
    task = make_task(ema_decay=0.7, val=0, epochs=1)
    model, history = make_model(task), []
    outcome = fit(model, task, Hooks(on_step=lambda counters, sums: history.append(clone(model.state_dict()))))
    assert len(history) > 2
    for name, kept in outcome.weights.items():
        average = history[0][name]
        for weights in history[1:]:
            average = 0.7 * average + 0.3 * weights[name]
        torch.testing.assert_close(kept, average)


def test_the_clean_tail_sees_plain_images_and_the_steps_before_do_not() -> None:
    seen: list[bool] = []

    def watch(images: Tensor, augment: object = None) -> Tensor:
        seen.append(augment is None)
        return preprocess(images, augment)  # type: ignore[arg-type]

    task = make_task(val=0, clean_tail=0.4)  # 15 steps: the last 6 are clean
    preprocess = task.preprocess
    run(replace(task, preprocess=watch))  # type: ignore[arg-type]
    assert seen == [False] * 9 + [True] * 6
    images, draws = task.train.images[:5], torch.Generator().manual_seed(0)
    assert not torch.equal(training_inputs(task, images, draws), preprocess(images))
    assert torch.equal(training_inputs(task, images, None), preprocess(images))


def test_augmentation_never_touches_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original: Callable[..., Tensor] = Preprocess.__call__

    def watch(self: Preprocess, images: Tensor, augment: object = None) -> Tensor:
        if len(images) in (13, 3):  # evaluation batches of 29 images; training has 17 and 3
            seen.append(augment is None)
        return original(self, images, augment)

    monkeypatch.setattr(Preprocess, "__call__", watch)
    run(make_task(batch_size=18, epochs=1))
    assert seen == [True, True, True]


def test_augmentation_does_not_depend_on_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """In half precision the affine maps would move pixels by a tenth."""
    seen: dict[str, Tensor] = {}
    for precision in ("fp32", "bf16"):
        task = make_task(epochs=1, rotate=12.0)
        machine = choose_machine(MachineConfig(device="cpu", threads=1, precision=precision))
        task = replace(task, machine=machine)
        model = make_model(task)
        forward = model.forward

        def watch(images: Tensor, forward: Callable[[Tensor], Tensor] = forward, name: str = precision) -> Tensor:
            seen.setdefault(name, images)
            return forward(images)

        monkeypatch.setattr(model, "forward", watch)
        fit(model, task)
    assert torch.equal(seen["fp32"], seen["bf16"])


def test_a_smaller_last_batch_counts_by_its_size() -> None:
    """The epoch's loss is the mean over images, not over batches."""
    task = make_task(epochs=1)
    model = make_model(task)
    losses: list[float] = []
    labels = iter(list(epoch_labels(task)))
    model.register_forward_hook(lambda module, inputs, logits: losses.append(total_loss(logits, next(labels))))
    outcome = fit(model, replace(task, val=None))
    assert len(losses) == 5
    assert outcome.counters.rows[0]["train_loss"] == pytest.approx(sum(losses) / 71)


def epoch_labels(task: Task) -> Iterator[Tensor]:
    order = torch.randperm(71, generator=task.machine.generator(task.config.train.seed, "order", 0))
    return iter(task.train.labels[order].split(17))


def total_loss(logits: Tensor, labels: Tensor) -> float:
    return F.cross_entropy(logits.float(), labels, label_smoothing=0.1, reduction="sum").item()


@pytest.mark.parametrize(("epochs", "steps"), [(0.2, [1]), (1.0, [5]), (1.4, [5, 7]), (2.6, [5, 10, 13]), (1e-9, [1])])
def test_the_last_epoch_may_be_a_part_of_one(epochs: float, steps: list[int]) -> None:
    task = make_task(epochs=epochs)
    outcome = run(task)
    assert [row["step"] for row in outcome.counters.rows] == steps
    assert outcome.counters.step == task.total_steps == steps[-1]
    assert 0 <= outcome.counters.rows[-1]["train_top1"] <= 1


def test_a_run_of_a_part_of_an_epoch_resumes_in_it() -> None:
    states: list[Checkpoint] = []
    task = make_task(epochs=1.4)
    whole = run(task, Hooks(on_state=lambda checkpoint: states.append(copy(checkpoint))))
    for state in states:
        resumed = run(task, resume=state)
        assert equal(resumed.weights, whole.weights)
        assert timeless(resumed) == timeless(whole)


def test_images_seen_are_counted_with_smaller_last_batches() -> None:
    task = make_task()
    assert [task.images_in(steps) for steps in (0, 1, 4, 5, 6, 10, 12)] == [0, 17, 68, 71, 88, 142, 176]


def test_a_fresh_state_has_no_memory() -> None:
    state = start(make_model(make_task()), make_task(), None)
    assert state.counters.step == 0
    assert not any(optimizer.state for optimizer in state.optimizers)
