"""The training loop. It touches no disk: what it finds out, it hands to the functions it is given.

On a GPU nothing waits for the device inside an epoch: losses are added up there and read when somebody looks.
All randomness of a step is derived from (seed, epoch, step), so a state between two steps consists of
weights and sums only, and training from it continues bit for bit as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vitlab.augment import augment, is_active
from vitlab.checkpoint import Checkpoint
from vitlab.config import RunConfig
from vitlab.data.batches import DeviceSplit, epoch_batches
from vitlab.evaluate import metrics, predict_logits
from vitlab.machine import Machine, Stopwatch, private_randomness, seed_torch
from vitlab.native import Library
from vitlab.optim import build_optimizers, load_optimizer_tensors, lr_at, optimizer_tensors, set_lr
from vitlab.preprocess import Preprocess

Row = dict[str, Any]


@dataclass
class Counters:
    """The numbers of a run between two steps, all of them JSON; the sums belong to the running epoch."""

    step: int = 0
    loss_sum: float = 0.0
    correct_sum: float = 0.0
    rows: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_top1: float = -1.0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """What is trained on, how, and where: all that does not change while training."""

    config: RunConfig
    train: DeviceSplit
    val: DeviceSplit | None
    preprocess: Preprocess
    machine: Machine
    library: Library | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass, a smaller last one included."""
        return math.ceil(len(self.train) / self.config.train.batch_size)

    @property
    def total_steps(self) -> int:
        """Batches in the whole training, whose last epoch may be a part of one."""
        return max(1, round(self.config.train.epochs * self.steps_per_epoch))

    def images_in(self, steps: int) -> int:
        """Training images seen in the first ``steps`` batches."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs * len(self.train) + min(rest * self.config.train.batch_size, len(self.train))


@dataclass
class State:
    """What training changes. ``clock`` counts training steps only, ``wall`` everything.

    ``sums`` are the running epoch's loss and correct answers, on the device.
    """

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    sums: Tensor
    average: AveragedModel | None
    best: dict[str, Tensor]
    counters: Counters
    clock: Stopwatch
    wall: Stopwatch

    @property
    def evaluated(self) -> nn.Module:
        """The network that is measured and kept: the running average of the weights, if there is one."""
        return self.model if self.average is None else self.average.module


@dataclass(frozen=True)
class Outcome:
    """How training ended: status "done", "diverged" or "interrupted".

    The weights are those of ``selected_epoch``; of a run that diverged they are the best epoch's, or none.
    """

    status: str
    weights: dict[str, Tensor]
    selected_epoch: int
    counters: Counters


@dataclass(frozen=True)
class Hooks:
    """What the loop tells the world. ``on_state`` may be called between any two steps."""

    on_step: Callable[[Counters, Tensor], None] = lambda counters, sums: None
    on_epoch: Callable[[Row], None] = lambda row: None
    on_state: Callable[[Checkpoint], None] = lambda checkpoint: None
    should_stop: Callable[[], bool] = lambda: False


def fit(model: nn.Module, task: Task, hooks: Hooks = Hooks(), resume: Checkpoint | None = None) -> Outcome:
    """Train ``model`` (on the machine's device) to the end, or until it diverges or is told to stop."""
    state = start(model, task, resume)
    counters, train = state.counters, task.config.train
    state.wall.start()
    saved_at = state.wall.seconds
    with private_randomness(task.machine.device):
        while len(counters.rows) < math.ceil(task.total_steps / task.steps_per_epoch):
            epoch = len(counters.rows)
            order = task.machine.generator(train.seed, "order", epoch)
            state.model.train()
            state.clock.start()
            first = epoch * task.steps_per_epoch
            batches = epoch_batches(
                task.train, train.batch_size, order, counters.step - first, task.total_steps - first
            )
            for images, labels in batches:
                if not train_step(state, task, images, labels):
                    return finish("diverged", state)
                hooks.on_step(counters, state.sums)
                stop = hooks.should_stop()
                if stop or state.wall.seconds - saved_at >= train.checkpoint_seconds:
                    state.clock.stop()
                    if not is_finite(state.model):
                        return finish("diverged", state)
                    hooks.on_state(take_checkpoint(state))
                    saved_at = state.wall.seconds
                    if stop:
                        return finish("interrupted", state)
                    state.clock.start()
            state.clock.stop()
            row = close_epoch(state, task)
            if not is_finite(state.model):
                return finish("diverged", state)
            counters.rows.append(row)
            hooks.on_epoch(row)
    hooks.on_state(take_checkpoint(state))
    return finish("done", state)


def start(model: nn.Module, task: Task, resume: Checkpoint | None) -> State:
    """A fresh State, or the one that ``resume`` holds."""
    optim = task.config.optim
    average = None
    if optim.ema_decay:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optim.ema_decay))
    machine = task.machine
    optimizers = build_optimizers(model, optim, task.library, machine.threads)
    sums = torch.zeros(2, dtype=torch.float64, device=machine.device)
    clocks = machine.stopwatch(), machine.stopwatch()
    state = State(model, optimizers, sums, average, {}, Counters(), *clocks)
    if resume is not None:
        restore(state, task, resume)
    return state


def train_step(state: State, task: Task, images: Tensor, labels: Tensor) -> bool:
    """One batch forward, backward and into the weights; False, and nothing changed, if its loss is not finite.

    On a GPU, where looking means waiting, a bad loss is found by its weights: at the end of the epoch at the latest.
    """
    config, step = task.config, state.counters.step
    seed_torch(config.train.seed, "dropout", step)
    inputs = training_inputs(task, images, step)  # in float32: half precision would move pixels
    with task.machine.autocast():
        logits = state.model(inputs).float()
    loss = F.cross_entropy(logits, labels, label_smoothing=config.optim.label_smoothing)
    if task.machine.looks_are_free and not math.isfinite(loss.item()):
        return False
    for parameter in state.model.parameters():
        parameter.grad = None
    loss.backward()
    if config.optim.grad_clip is not None:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.grad_clip)
    set_lr(state.optimizers, lr_at(step, config.optim, task.total_steps, task.steps_per_epoch))
    for optimizer in state.optimizers:
        optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.model)
    state.counters.step += 1
    correct = (logits.detach().argmax(dim=1) == labels).sum()
    state.sums += torch.stack([loss.detach().double() * len(labels), correct.double()])
    return True


def training_inputs(task: Task, images: Tensor, step: int) -> Tensor:
    """The network's input in step ``step``: preprocessed, and augmented unless the clean tail has begun."""
    changes = task.config.augment
    if not is_active(changes) or step >= task.total_steps * (1.0 - changes.clean_tail):
        return task.preprocess(images)
    generator = task.machine.generator(task.config.train.seed, "augment", step)
    return task.preprocess(images, lambda x: augment(x, changes, generator))


def close_epoch(state: State, task: Task) -> Row:
    """The history row of a finished epoch; remembers the weights if they are the best so far."""
    counters, config = state.counters, task.config
    last_step = counters.step - 1
    seen = task.images_in(counters.step) - len(counters.rows) * len(task.train)
    loss_sum, correct_sum = state.sums.tolist()
    row: Row = {
        "epoch": len(counters.rows) + 1,
        "step": counters.step,
        "lr": lr_at(last_step, config.optim, task.total_steps, task.steps_per_epoch),
        "train_loss": loss_sum / seen,
        "train_top1": correct_sum / seen,
        "val_loss": None,
        "val_top1": None,
    }
    state.sums.zero_()
    if task.val is not None:
        logits = predict_logits(state.evaluated, task.val, task.preprocess, task.machine, config.train.eval_batch_size)
        numbers = metrics(logits, task.val.labels)
        # JSON has no NaN; a network that is about to be stopped as diverged has no loss.
        row |= {
            "val_loss": numbers["loss"] if math.isfinite(numbers["loss"]) else None,
            "val_top1": numbers["top1"],
        }
        if row["val_loss"] is not None and numbers["top1"] > counters.best_top1:
            counters.best_epoch, counters.best_top1 = row["epoch"], numbers["top1"]
            if config.train.select == "best":
                state.best = clone(state.evaluated.state_dict())
    return row | {"train_seconds": state.clock.seconds, "wall_seconds": state.wall.seconds}


def finish(status: str, state: State) -> Outcome:
    """Stop the clocks and choose the weights: the best epoch's if any were kept, else the last."""
    counters = state.counters
    counters.train_seconds, counters.wall_seconds = state.clock.stop(), state.wall.stop()
    if state.best:
        return Outcome(status, state.best, counters.best_epoch, counters)
    if status == "diverged":
        return Outcome(status, {}, 0, counters)
    return Outcome(status, clone(state.evaluated.state_dict()), len(counters.rows), counters)


def take_checkpoint(state: State) -> Checkpoint:
    """The State as named tensors and numbers; the tensors are not copies."""
    counters = state.counters
    counters.train_seconds, counters.wall_seconds = state.clock.seconds, state.wall.seconds
    counters.loss_sum, counters.correct_sum = state.sums.tolist()
    parts = {
        "model": state.model.state_dict(),
        "optim": optimizer_tensors(state.optimizers, state.model),
        "average": {} if state.average is None else state.average.state_dict(),
        "best": state.best,
    }
    tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    return Checkpoint(tensors, dict(vars(counters)))


def restore(state: State, task: Task, checkpoint: Checkpoint) -> None:
    """The inverse of ``take_checkpoint``, into a State of the same configuration."""
    device = next(state.model.parameters()).device
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optim": {}, "average": {}, "best": {}}
    for key, value in checkpoint.tensors.items():
        part, name = key.split("/", 1)
        parts[part][name] = value.to(device)
    state.model.load_state_dict(parts["model"])
    load_optimizer_tensors(state.optimizers, state.model, parts["optim"])
    if state.average is not None:
        state.average.load_state_dict(parts["average"])
    state.best = parts["best"]
    state.counters = Counters(**checkpoint.counters)
    state.sums.copy_(torch.tensor([state.counters.loss_sum, state.counters.correct_sum], dtype=torch.float64))
    state.clock = task.machine.stopwatch(state.counters.train_seconds)
    state.wall = task.machine.stopwatch(state.counters.wall_seconds)


def is_finite(model: nn.Module) -> bool:
    """Whether no weight is infinite or not a number."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


def clone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that later steps do not change."""
    return {name: value.detach().clone() for name, value in tensors.items()}
