"""Training steps of a preset for repeated timing: the whole step, the step without augmentation, and its pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitlab import RunConfig
from vitlab.data.batches import Batch, epoch_batches
from vitlab.errors import DivergedError
from vitlab.machine import Machine, reseed, seed_torch
from vitlab.runs.prepare import Prepared, prepare
from vitlab.training.loop import start
from vitlab.training.optim import lr_at, set_lr
from vitlab.training.preprocess import Preprocess
from vitlab.training.step import State, Task, train_step, training_inputs, update_ema


@dataclass
class Bench:
    """A preset that can take any number of steps."""

    prepared: Prepared
    state: State
    batches: Iterator[Batch]

    @property
    def task(self) -> Task:
        """Data, configuration and machine of the training."""
        return self.prepared.task

    def rewind(self) -> None:
        """Restart the schedule before its end and before its clean tail, so all steps augment if any does; torch's
        threads become those of this bench, if another one had its turn."""
        threads = self.task.machine.torch_threads or self.task.machine.threads
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        step = self.state.counters.step
        if step >= self.task.total_steps or self.task.augments(0) > self.task.augments(step):
            self.state.counters.step = 0

    def draws(self, step: int) -> torch.Generator | None:
        """The random generator for this step's augmentation; None if the step does not augment."""
        if not self.task.augments(step):
            return None
        reseed(self.state.draws, self.task.config.train.seed, "augment", step)
        return self.state.draws


def set_up(config: RunConfig) -> Bench:
    """Data, machine, network and optimizers of ``config``, as in a run."""
    prepared = prepare(config, lambda line: None)
    state = start(prepared.model, prepared.task, None)
    state.model.train()
    return Bench(prepared, state, full_batches(prepared.task))


def full_batches(task: Task) -> Iterator[Batch]:
    """The batches of endless epochs, without the smaller last batch of each."""
    size = min(task.config.train.batch_size, len(task.train))
    for epoch in count():
        order = task.machine.generator(task.config.train.seed, "order", epoch)
        for images, labels, *_ in epoch_batches(task.train, size, order):
            if len(labels) == size:
                yield images, labels


def whole_step(bench: Bench) -> None:
    """Gather a batch and take a training step on it."""
    bench.rewind()
    if not train_step(bench.state, bench.task, *next(bench.batches)):
        raise DivergedError("the loss is not finite, so timing this step is meaningless")


@dataclass
class ReadyStep:
    """`train_step` on one batch with ready input: forward, loss, backward, optimizers, bookkeeping."""

    bench: Bench
    inputs: Tensor
    labels: Tensor

    def __call__(self) -> None:
        """One step."""
        self.bench.rewind()
        preprocess = cast(Preprocess, lambda images, augment=None: images)
        task = replace(self.bench.task, preprocess=preprocess)
        if not train_step(self.bench.state, task, self.inputs, self.labels):
            raise DivergedError("the loss is not finite, so timing this step is meaningless")


def ready_step(bench: Bench) -> ReadyStep:
    """A step of ``bench`` on a batch that is already augmented."""
    images, labels = next(bench.batches)
    return ReadyStep(bench, training_inputs(bench.task, images, bench.draws(0)), labels)


class Laps:
    """A stopwatch with laps: seconds between calls of ``lap``, by name."""

    def __init__(self, machine: Machine) -> None:
        self.watch, self.before = machine.stopwatch(), 0.0
        self.seconds: dict[str, list[float]] = {}

    def begin(self) -> None:
        """Start a new round."""
        self.round: dict[str, float] = {}
        self.watch.start()

    def lap(self, name: str) -> None:
        """End a lap; laps with the same name in one round add up."""
        now = self.watch.stop()
        self.round[name] = self.round.get(name, 0.0) + now - self.before
        self.before = now
        self.watch.start()

    def end(self) -> None:
        """Store the laps of this round."""
        for name, seconds in self.round.items():
            self.seconds.setdefault(name, []).append(seconds)


def step_in_pieces(bench: Bench, laps: Laps) -> None:
    """What `whole_step` does, statement by statement; a test checks that both do the same."""
    bench.rewind()
    state, task = bench.state, bench.task
    config, step = task.config, state.counters.step
    laps.begin()
    images, labels = next(bench.batches)
    laps.lap("gather")
    seed_torch(config.train.seed, "dropout", step)
    draws = bench.draws(step)
    set_lr(state.optimizers, lr_at(step, config.optim, task.total_steps, task.steps_per_epoch))
    laps.lap("bookkeeping")
    inputs = training_inputs(task, images, draws)
    laps.lap("preprocess and augment")
    with task.machine.autocast():
        logits = state.model(inputs).float()
    laps.lap("forward")
    loss = F.cross_entropy(logits, labels, label_smoothing=config.optim.label_smoothing)
    if task.machine.reads_are_synchronous and not math.isfinite(loss.item()):
        raise DivergedError("the loss is not finite, so timing this step is meaningless")
    laps.lap("loss")
    for parameter in state.model.parameters():
        parameter.grad = None
    laps.lap("bookkeeping")
    loss.backward()
    laps.lap("backward")
    if config.optim.grad_clip is not None:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.grad_clip)
    for optimizer in state.optimizers:
        optimizer.step()
    laps.lap("optimizers")
    keep_count(state, config.optim.ema_decay, logits, loss, labels)
    laps.lap("bookkeeping")
    laps.end()


def keep_count(state: State, decay: float, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
    """The end of `train_step`: weight average, step counter, sums."""
    update_ema(state, decay)
    state.counters.step += 1
    correct = (logits.detach().argmax(dim=1) == labels).sum()
    state.sums += torch.stack([loss.detach().double() * len(labels), correct.double()])


class OperatorTimer(TorchDispatchMode):
    """Times and counts every torch operator, forward and backward, including what it calls inside.

    Each time includes a few microseconds of Python overhead, which makes small operators look slower than they are.
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watch = machine.stopwatch()
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Time the call of ``func``."""
        before = self.watch.seconds
        self.watch.start()
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.seconds[name] = self.seconds.get(name, 0.0) + self.watch.stop() - before
        self.calls[name] = self.calls.get(name, 0) + 1
        return result


def operators_of(machine: Machine, call: Any) -> OperatorTimer:
    """Times and counts of the operators in one call."""
    timer = OperatorTimer(machine)
    with timer:
        call()
    return timer
