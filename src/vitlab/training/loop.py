"""The training loop. It does not touch the disk: it reports to the functions that it is given.

Training resumes bit for bit from the state between two steps, as if it had never stopped (step.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vitlab.config import OptimConfig, TrainConfig
from vitlab.data.batches import DeviceSplit, epoch_batches
from vitlab.machine import private_randomness
from vitlab.model import Network
from vitlab.model.transfer import frozen_parameters
from vitlab.training.evaluate import balanced_accuracy, macro_f1, mean_loss, predict_logits, top_k
from vitlab.training.optim import build_optimizers, load_optimizer_tensors, lr_at, optimizer_tensors
from vitlab.training.part import gathered
from vitlab.training.step import Checkpoint, Counters, Row, State, Task, record_steps, train_step

# Values that a row of the history holds only if they are monitored.
FURTHER = {"val_balanced_accuracy": balanced_accuracy, "val_macro_f1": macro_f1}


@dataclass(frozen=True)
class Outcome:
    """How training ended: status "done", "diverged" or "interrupted".

    The weights are those of ``selected_epoch``; if the run diverged, those of the best epoch, or none.
    """

    status: str
    weights: dict[str, Tensor]
    selected_epoch: int
    counters: Counters


@dataclass(frozen=True)
class Hooks:
    """Functions that the loop calls; ``on_state`` and ``should_stop`` between two steps, ``on_weights`` with the
    network that evaluation uses before the first step and after each epoch, earlier than ``on_epoch``."""

    on_step: Callable[[Counters, Tensor], None] = lambda counters, sums: None
    on_epoch: Callable[[Row], None] = lambda row: None
    on_weights: Callable[[Counters, nn.Module], None] = lambda counters, model: None
    on_state: Callable[[Checkpoint], None] = lambda checkpoint: None
    should_stop: Callable[[], bool] = lambda: False


def fit(model: nn.Module, task: Task, hooks: Hooks = Hooks(), resume: Checkpoint | None = None) -> Outcome:
    """Train ``model`` (on the machine's device) to the end, or until it diverges or ``hooks.should_stop``."""
    state = start(model, task, resume)
    counters, train = state.counters, task.config.train
    state.wall.start()
    saved_at = state.wall.seconds
    with private_randomness(task.machine.device), task.machine.computing():
        if not counters.step:
            hooks.on_weights(counters, state.evaluated)
        record_steps(state, task)
        while len(counters.rows) < task.total_epochs and not has_stalled(counters, train):
            epoch = len(counters.rows)
            order = task.machine.generator(train.seed, "order", epoch)
            state.model.train()
            state.clock.start()
            first = epoch * task.steps_per_epoch
            rows = (lambda count: task.part_of(count).rows) if task.machine.ranks.several else None
            steps = counters.step - first, task.total_steps - first
            batches = epoch_batches(task.train, train.batch_size, order, *steps, train.sampling, rows)
            for batch in batches:
                if not train_step(state, task, *batch):
                    return finish("diverged", state)
                hooks.on_step(counters, state.sums)
                stop, due = hooks.should_stop(), state.wall.seconds - saved_at >= train.checkpoint_seconds
                if task.machine.ranks.several:
                    stop, due = agreed(state, stop, due)
                if stop or due:
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
            hooks.on_weights(counters, state.evaluated)
            hooks.on_epoch(row)
    hooks.on_state(take_checkpoint(state))
    return finish("done", state)


def agreed(state: State, stop: bool, due: bool) -> tuple[bool, bool]:
    """Whether any rank wanted to stop, and whether any wanted a checkpoint, before the last step: the same answer for
    all. What this one wants now travels with the gradients of the next step."""
    state.wishes = stop, due and not state.heard[1]  # a checkpoint that is being taken is not due again
    return state.heard


def start(model: nn.Module, task: Task, resume: Checkpoint | None) -> State:
    """A new State, or the one in ``resume``."""
    optim, machine = task.config.optim, task.machine
    frozen = frozen_parameters(model, optim.freeze)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    average = deepcopy(model) if optim.ema_decay else None
    matrices = cast(Network, model).describe().matrices
    optimizers = build_optimizers(model, optim, matrices, task.kernels, task.old, machine.ranks)
    sums = torch.zeros(2, dtype=machine.sums, device=machine.device)
    clocks = machine.stopwatch(), machine.stopwatch()
    draws = machine.generator(task.config.train.seed, "augment", 0)
    state = State(model, optimizers, sums, draws, average, {}, Counters(), *clocks)
    if resume is not None:
        restore(state, task, resume)
    return state


def close_epoch(state: State, task: Task) -> Row:
    """The history row of a finished epoch; keeps the weights if they are the best so far."""
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
    if task.train.weights is not None:
        row["train_loss_weighted"] = True
    state.sums.zero_()
    if task.val is not None:
        logits = validation_logits(state.evaluated, task, task.val)
        loss, top1 = mean_loss(logits, task.val.labels), top_k(logits, task.val.labels, 1)
        # JSON has no NaN, so the loss of a network that has diverged is None.
        row |= {"val_loss": loss if math.isfinite(loss) else None, "val_top1": top1}
        if (compute := FURTHER.get(config.train.monitor)) is not None:
            row[config.train.monitor] = compute(logits, task.val.labels)
        if row["val_loss"] is not None and is_better(row, counters, config.train.monitor):
            counters.best_epoch, counters.best_top1 = row["epoch"], top1
            if config.train.select == "best":
                state.best = clone(state.evaluated.state_dict())
    return row | {"train_seconds": state.clock.seconds, "wall_seconds": state.wall.seconds}


def validation_logits(model: nn.Module, task: Task, val: DeviceSplit) -> Tensor:
    """The logits [N, K] of the validation images, which the ranks divide."""
    ranks, size = task.machine.ranks, task.config.train.eval_batch_size
    if not ranks.several:
        return predict_logits(model, val, task.preprocess, task.machine, size)
    own = ranks.part(len(val)) or range(1)  # as for a batch
    logits = predict_logits(model, val.part(own), task.preprocess, task.machine, size)
    return gathered(ranks, logits[: len(ranks.part(len(val)))], len(val))


def is_better(row: Row, counters: Counters, monitor: str) -> bool:
    """Whether the monitored value of ``row`` is better than that of every earlier epoch."""
    if not counters.best_epoch:
        return True
    now, best = row[monitor], counters.rows[counters.best_epoch - 1][monitor]
    return bool(now < best if monitor == "val_loss" else now > best)


def has_stalled(counters: Counters, train: TrainConfig) -> bool:
    """Whether the monitored value has not become better for as many epochs as patience allows."""
    return bool(train.patience) and len(counters.rows) - counters.best_epoch >= train.patience


def finish(status: str, state: State) -> Outcome:
    """Stop the clocks and choose the weights: those of the best epoch if they were kept, else the last."""
    counters = state.counters
    counters.train_seconds, counters.wall_seconds = state.clock.stop(), state.wall.stop()
    if state.best:
        return Outcome(status, state.best, counters.best_epoch, counters)
    if status == "diverged":
        return Outcome(status, {}, 0, counters)
    return Outcome(status, clone(state.evaluated.state_dict()), len(counters.rows), counters)


def take_checkpoint(state: State) -> Checkpoint:
    """The State as named tensors, not copied, and numbers. All ranks take it together."""
    counters = state.counters
    counters.train_seconds, counters.wall_seconds = state.clock.seconds, state.wall.seconds
    counters.loss_sum, counters.correct_sum = state.sums.tolist()
    for optimizer in state.optimizers:
        optimizer.complete()
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
    state.sums.copy_(torch.tensor([state.counters.loss_sum, state.counters.correct_sum], dtype=task.machine.sums))
    state.clock = task.machine.stopwatch(state.counters.train_seconds)
    state.wall = task.machine.stopwatch(state.counters.wall_seconds)


def checkpoint_shapes(outline: Network, config: OptimConfig) -> dict[str, Tensor]:
    """The tensors of a checkpoint of a network with these shapes, but for the best epoch's weights. Only their names,
    shapes and types matter."""
    weights = outline.state_dict()
    muon = outline.describe().matrices if config.optimizer == "muon" else {}
    frozen = frozen_parameters(outline, config.freeze)
    shapes = {f"{part}/{name}": one for part in parts_of(config) for name, one in weights.items()}
    for name, parameter in outline.named_parameters():
        if name in frozen:
            continue
        names = ("momentum",) if name in muon else ("exp_avg", "exp_avg_sq")
        shapes |= {f"optim/{name}/{entry}": parameter for entry in names}
        if name not in muon:
            shapes[f"optim/{name}/step"] = torch.empty(())
    return shapes


def parts_of(config: OptimConfig) -> tuple[str, ...]:
    """The parts of a checkpoint that hold a network's weights and are always there."""
    return ("model", "average") if config.ema_decay else ("model",)


def is_finite(model: nn.Module) -> bool:
    """Whether every weight is a finite number."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


def clone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that later steps do not change."""
    return {name: value.detach().clone() for name, value in tensors.items()}
