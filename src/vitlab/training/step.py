"""One training step: what it works on, what it changes, and its recording as a CUDA graph on a GPU.

All randomness of a step is derived from (seed, epoch, step), so the state between two steps is only weights and sums.
On a GPU no step waits for the device: losses are added up there, and read when they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import RunConfig
from vitlab.data.batches import Batch, DeviceSplit
from vitlab.machine import Machine, Stopwatch, reseed, seed_torch
from vitlab.native.ops import Kernels
from vitlab.training.augment import augment, is_active
from vitlab.training.mixing import mix, mixes
from vitlab.training.optim import Optimizer, lr_at, optimizer_tensors, set_lr
from vitlab.training.part import Draws, Part, add_up_gradients, part_of
from vitlab.training.preprocess import Preprocess

Row = dict[str, Any]
RecordedStep = Callable[..., None]  # takes the tensors of a batch

# On a GPU, steps between two looks at what the ranks want: a look waits for the device.
LOOK_STEPS = 16
# Steps before a recording, in which torch's libraries choose and load their kernels.
WARM_UP_STEPS = 3


@dataclass
class Counters:
    """The numbers of a run between two steps, ready for JSON; the sums belong to the current epoch."""

    step: int = 0
    loss_sum: float = 0.0
    correct_sum: float = 0.0
    rows: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_top1: float = -1.0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """The state between two steps, from which training continues exactly: named tensors, and `Counters` as JSON."""

    tensors: dict[str, Tensor]
    counters: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What training does not change: configuration, data, preprocessing, machine and kernels, and the names of the
    parameters that were trained before (``old``)."""

    config: RunConfig
    train: DeviceSplit
    val: DeviceSplit | None
    preprocess: Preprocess
    machine: Machine
    kernels: Kernels | None = None
    old: frozenset[str] = frozenset()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch, including a smaller last one."""
        return math.ceil(len(self.train) / self.config.train.batch_size)

    @property
    def total_steps(self) -> int:
        """Batches in the whole training; its last epoch may be partial."""
        return max(1, round(self.config.train.epochs * self.steps_per_epoch))

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole training, including a partial last one."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def images_in(self, steps: int) -> int:
        """Training images seen in the first ``steps`` batches."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs * len(self.train) + min(rest * self.config.train.batch_size, len(self.train))

    def augments(self, step: int) -> bool:
        """Whether ``step`` augments or mixes its images: if any of that is on, and the clean tail has not begun."""
        changes = self.config.augment
        return (is_active(changes) or mixes(changes)) and step < self.total_steps * (1.0 - changes.clean_tail)

    def kind_of(self, step: int) -> tuple[bool, int]:
        """Whether ``step`` augments its images, and how many it has."""
        return self.augments(step), self.images_in(step + 1) - self.images_in(step)

    def part_of(self, count: int) -> Part:
        """This rank's part of a batch of ``count`` images."""
        return part_of(count, self.machine.ranks, mixes(self.config.augment))

    def looks_after(self, step: int) -> bool:
        """Whether ``step`` reads what all ranks have found and want."""
        return self.machine.reads_are_synchronous or step % LOOK_STEPS == 0


@dataclass
class State:
    """What training changes. ``clock`` counts only training steps, ``wall`` everything.

    ``average`` is a network with the running average of the weights, if there is one. ``sums`` are the current epoch's
    loss and correct answers, on the device. ``draws`` provides the random numbers for augmentation. ``recorded`` holds,
    on a GPU, whole steps by augmentation (on or off) and number of images. Of several ranks, ``wishes`` says whether
    this one wants to stop and whether it wants a checkpoint, ``heard`` whether any did when the last step began.
    """

    model: nn.Module
    optimizers: list[Optimizer]
    sums: Tensor
    draws: torch.Generator
    average: nn.Module | None
    best: dict[str, Tensor]
    counters: Counters
    clock: Stopwatch
    wall: Stopwatch
    recorded: dict[tuple[bool, int], RecordedStep] = field(default_factory=dict)
    wishes: tuple[bool, bool] = (False, False)
    heard: tuple[bool, bool] = (False, False)

    @property
    def evaluated(self) -> nn.Module:
        """The network to evaluate and keep: the one with the average of the weights, if there is one."""
        return self.model if self.average is None else self.average


def train_step(state: State, task: Task, *batch: Tensor) -> bool:
    """Train on one batch (images, labels and perhaps weights); False, with nothing changed, if its loss is not finite.

    On a GPU, reading the loss would mean waiting; there `fit` checks the weights at the end of the epoch instead.
    """
    step, seed = state.counters.step, task.config.train.seed
    ranks = task.machine.ranks
    seed_torch(seed, "dropout", step, *([ranks.rank] if ranks.several else []))
    reseed(state.draws, seed, "augment", step)
    set_lr(state.optimizers, lr_at(step, task.config.optim, task.total_steps, task.steps_per_epoch))
    augmented = task.augments(step)
    kind = augmented, len(batch[0])
    if kind in state.recorded:
        state.recorded[kind](*batch)
    elif not forward_backward_step(state, task, batch, augmented):
        return False
    update_ema(state, task.config.optim.ema_decay)
    state.counters.step += 1
    return True


@torch.no_grad()
def update_ema(state: State, decay: float) -> None:
    """Move the exponential moving average of the weights, if there is one, towards the latest; step 0 copies them.

    torch's AveragedModel counts its updates in a way that makes a GPU wait at each step.
    """
    if state.average is not None:
        weights: list[Tensor] = list(state.average.parameters())
        share = 1.0 - decay if state.counters.step else 1.0
        torch._foreach_lerp_(weights, list(state.model.parameters()), share)
        for own, latest in zip(state.average.buffers(), state.model.buffers(), strict=True):
            own.copy_(latest)  # batch norm's, which are averages already


def forward_backward_step(state: State, task: Task, batch: Batch, augmented: bool) -> bool:
    """All that the device computes in a step but the average of the weights; False if the loss is not finite."""
    config, (images, labels, *rest) = task.config.optim, batch
    part = task.part_of(task.kind_of(state.counters.step)[1]) if task.machine.ranks.several else None
    draws = state.draws if part is None else Draws(state.draws, part)
    # in fp32: half precision would move pixels
    inputs, share_B = training_inputs(task, images, draws if augmented else None), None
    if augmented and mixes(task.config.augment):
        inputs, share_B = mix(inputs, task.config.augment, draws)
    if part is not None:  # without the image that was needed only for mixing
        inputs = inputs[: part.own]
        if share_B is None:
            labels, rest = labels[: part.own], [weights[: part.own] for weights in rest]
        else:
            share_B = share_B[: part.own]
    with task.machine.autocast():
        logits = state.model(inputs).float()
    loss = training_loss(logits, labels, config.label_smoothing, rest[0] if rest else None, share_B)
    if part is None and task.machine.reads_are_synchronous and not math.isfinite(loss.item()):
        return False
    for parameter in state.model.parameters():
        parameter.grad = None
    (loss if part is None else loss * part.weight).backward()
    correct = (logits.detach().argmax(dim=1) == larger_part(labels, share_B)).sum()
    sums = torch.stack([loss.detach().to(state.sums) * len(logits), correct.to(state.sums)])
    if part is not None:
        sums, is_finite = add_up(state, task, part, sums)
        if not is_finite:
            return False
    if config.grad_clip is not None:
        nn.utils.clip_grad_norm_(state.model.parameters(), config.grad_clip)
    for optimizer in state.optimizers:
        optimizer.step()
    state.sums += sums
    return True


def add_up(state: State, task: Task, part: Part, sums: Tensor) -> tuple[Tensor, bool]:
    """Sum gradients, loss and correct answers over the ranks, and hear their wishes: the sums, and whether the loss is
    finite, as far as that is read."""
    own = sums if part.weight else torch.zeros_like(sums)
    found = add_up_gradients(task.machine.ranks, state.model, torch.cat([own, own.new_tensor(state.wishes)]))
    sums, state.heard = found[:2].to(state.sums), (False, False)
    if not task.looks_after(state.counters.step):
        return sums, True
    loss, _, stop, due = found.tolist()
    state.heard = stop > 0, due > 0
    return sums, math.isfinite(loss) or not task.machine.reads_are_synchronous


def larger_part(labels_B: Tensor, share_B: Tensor | None) -> Tensor:
    """The label of what fills most of each mixed image; ``labels_B`` if images are not mixed. There may be one more
    label, that of the image after the last."""
    if share_B is None:
        return labels_B
    return torch.where(share_B >= 0.5, labels_B[: len(share_B)], labels_B.roll(-1)[: len(share_B)])


def training_loss(
    logits_BK: Tensor,
    labels_B: Tensor,
    label_smoothing: float,
    weights_B: Tensor | None = None,
    share_B: Tensor | None = None,
) -> Tensor:
    """The mean of weight x cross-entropy in nats.

    It is divided by the number of images, not by the sum of the batch's weights as in torch's ``weight=``: a batch of
    images that hardly count must hardly move the network. Weights are 1 on average over the training images, so over
    all of them both are the same. A weight belongs to the image: it also multiplies the smoothed part of its label,
    whereas torch weighs that by each class's weight. Where images are mixed (mixing.py), ``share_B`` is the part of
    each image itself, and the label and weight of the next image count for the rest: there may be one more of them.
    """
    if weights_B is None and share_B is None:
        return F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)
    count = len(logits_BK)
    weights_B = torch.ones_like(labels_B, dtype=logits_BK.dtype) if weights_B is None else weights_B
    entropy = partial(F.cross_entropy, logits_BK, label_smoothing=label_smoothing, reduction="none")
    own_B = entropy(labels_B[:count]) * weights_B[:count]
    if share_B is None:
        return own_B.mean()
    next_B = entropy(labels_B.roll(-1)[:count]) * weights_B.roll(-1)[:count]
    return torch.lerp(next_B, own_B, share_B).mean()


def training_inputs(task: Task, images: Tensor, draws: torch.Generator | Draws | None) -> Tensor:
    """The network's input: preprocessed, and augmented with random numbers from ``draws`` unless it is None."""
    if draws is None:
        return task.preprocess(images)
    return task.preprocess(images, lambda x: augment(x, task.config.augment, draws, task.kernels))


def record_steps(state: State, task: Task) -> None:
    """Record the steps that the training will need, if the machine records.

    An epoch's smaller last batch gets a recording too: without one it takes ten times as long as a full batch.
    """
    if not task.machine.records:
        return
    state.model.train()
    for augmented, size in sorted({task.kind_of(step) for step in range(task.total_steps)}):
        whole = task.train.images, task.train.labels, task.train.weights
        batch = tuple(part[:size] for part in whole if part is not None)
        state.recorded[augmented, size] = record_step(state, task, batch, augmented)


def record_step(state: State, task: Task, batch: Batch, augmented: bool) -> RecordedStep:
    """A function of a batch's tensors that replays `forward_backward_step`. Recording needs a ``batch`` to train on;
    what that changes is undone."""

    def changed() -> dict[str, Tensor]:
        memory = {f"optim/{name}": value for name, value in optimizer_tensors(state.optimizers, state.model).items()}
        return memory | state.model.state_dict() | {"sums": state.sums}

    before = {name: tensor.clone() for name, tensor in changed().items()}
    with task.machine.aside():
        for _ in range(WARM_UP_STEPS):
            forward_backward_step(state, task, batch, augmented)
    for name, tensor in changed().items():
        if name in before:
            tensor.copy_(before[name])
        else:  # an optimizer's memory begins with its first step, and with zeros
            tensor.zero_()
    held = tuple(tensor.clone() for tensor in batch)
    replay = task.machine.record(lambda: forward_backward_step(state, task, held, augmented), state.draws)

    def step(*new: Tensor) -> None:
        for memory, tensor in zip(held, new, strict=True):
            memory.copy_(tensor)
        replay()

    return step
