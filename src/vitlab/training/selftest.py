"""Does a device compute what the CPU computes? Asked of every kind of device on which nobody has tested vitlab.

torch's operations for Apple's GPU have been wrong without an error before: until torch 2.4, `addcmul_` and `addcdiv_`,
of which Adam consists, changed nothing in tensors that were not contiguous, so that layers silently did not learn.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from vitlab.data.batches import DeviceSplit
from vitlab.errors import ConfigError
from vitlab.machine import Machine, private_randomness, seed_torch
from vitlab.training.loop import start
from vitlab.training.step import State, Task, training_inputs, training_loss

IMAGES = 16
NOISE = 0.05  # standard deviation, added to all weights: many start at 0, and hide what is behind them
# Relative errors allowed, |a - b| / |b| over a whole tensor: float32 in another order; Muon magnifies what is rounded.
GRADIENT, UPDATE = 1e-3, 5e-2


def check_device(model: nn.Module, task: Task, note: Callable[[str], None]) -> None:
    """ConfigError unless logits, gradients and one step of the optimizers on the task's device are those of the CPU.

    Takes about a second. ``model`` stays as it is.
    """
    device = task.machine.device
    with private_randomness(device):
        machine = replace(task.machine, device=torch.device("cpu"))
        host = replace(task, machine=machine, train=noise(task, machine))
        there = replace(task, train=on(host.train, device))
        seed_torch(0, "self-test")
        plain = deepcopy(model).cpu()
        for parameter in plain.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=NOISE)
        try:
            expected = numbers_of(start(deepcopy(plain), host, None), host)
            found = numbers_of(start(plain.to(device), there, None), there)
            check_inputs(there)
        except NotImplementedError as error:
            missing = str(error).split("'")[1] if "'" in str(error) else "an operation"
            raise ConfigError(f"--device {device.type}: torch cannot compute {missing} there; use cpu") from None
    for name, value in expected.items():
        other = found[name].cpu()
        off = ((other - value).norm() / value.norm().clamp_min(1e-12)).item()
        if not off <= (UPDATE if name.startswith("the step") else GRADIENT):
            raise ConfigError(
                f"--device {device.type}: this GPU computes wrong numbers ({name} is off by {100 * off:.2g} %); "
                f"use --device cpu"
            )
    note(f"self-test: {device.type} computes what the CPU does")


def noise(task: Task, machine: Machine) -> DeviceSplit:
    """Random images like those of the task, on the CPU; the labels are the first ones there are."""
    draw = machine.generator(0, "self-test")
    shape = (IMAGES, *task.train.images.shape[1:])
    images = torch.randint(0, 256, shape, dtype=torch.int32, generator=draw).to(task.train.images.dtype)
    return DeviceSplit(images, task.train.labels[:IMAGES].cpu())


def on(split: DeviceSplit, device: torch.device) -> DeviceSplit:
    """The same images there."""
    return DeviceSplit(split.images.to(device), split.labels.to(device))


def numbers_of(state: State, task: Task) -> dict[str, Tensor]:
    """Logits, the gradient of each weight, and what one step of the optimizers changes in it, by name."""
    model, images = state.model.eval(), task.train.images[: len(task.train.labels)]
    logits = model(training_inputs(task, images, None)).float()
    training_loss(logits, task.train.labels, task.config.optim.label_smoothing, None, None).backward()
    trained = {name: one for name, one in model.named_parameters() if one.grad is not None}
    found = {"the output": logits.detach()}
    found |= {f"the gradient of {name}": one.grad.clone() for name, one in trained.items() if one.grad is not None}
    before = {name: one.detach().clone() for name, one in trained.items()}
    for optimizer in state.optimizers:
        optimizer.step()
    return found | {f"the step of {name}": one.detach() - before[name] for name, one in trained.items()}


def check_inputs(task: Task) -> None:
    """ConfigError if augmented images are not finite. Their random numbers differ from the CPU's."""
    images = task.train.images
    draws = task.machine.generator(0, "self-test")
    if not bool(torch.isfinite(training_inputs(task, images, draws)).all()):
        raise ConfigError(
            f"--device {task.machine.device.type}: this GPU computes wrong numbers (augmented images are not finite); "
            f"use --device cpu"
        )
