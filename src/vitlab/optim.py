"""AdamW, which weights it decays, and the learning rate as a pure function of the step.

Two meanings of weight decay are about. torch and Keras 3 multiply a weight by 1 - lr x weight_decay at
each step (Loshchilov and Hutter 2019); TensorFlow Addons, which the seed used, subtracts weight_decay x
weight without lr, on every variable. `weight_decay` here is torch's; the seed's 1e-4 at lr 1e-3 is 0.1
with `decay_all`. Adam's epsilon is added after bias correction here and before it in Keras, which at
1e-7 is a difference far below rounding after the first steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vitlab.config import OptimConfig

UNDECAYED_MATRICES = ("pos_embed", "cls_token")  # they are positions, not maps from features to features


def decay_groups(model: nn.Module, config: OptimConfig) -> tuple[list[str], list[str]]:
    """Names of the parameters that are decayed and of those that are not."""
    decayed: list[str] = []
    free: list[str] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and name not in UNDECAYED_MATRICES
        (decayed if is_matrix or config.decay_all else free).append(name)
    return decayed, free


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over all parameters, in torch's fused form: one pass over the weights a step."""
    parameters = dict(model.named_parameters())
    decayed, free = decay_groups(model, config)
    groups = [
        {"params": [parameters[name] for name in names], "weight_decay": decay}
        for names, decay in ((decayed, config.weight_decay), (free, 0.0))
        if names
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.adam_eps, fused=True)


def lr_at(step: int, config: OptimConfig, total_steps: int, steps_per_epoch: int) -> float:
    """Learning rate of step 0 .. total_steps - 1: a rise over the warm-up, then the schedule.

    The first step of a warm-up of w steps has lr / w, the last has lr; the step after the last one
    would have min_lr. A warm-up ends with the first half of the training, so that a trial of one epoch
    still sees the rate fall.
    """
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total_steps // 2)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(total_steps - warmup, 1)
    match config.schedule:
        case "constant":
            share = 1.0
        case "linear":
            share = 1.0 - progress
        case _:
            share = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.min_lr + (config.lr - config.min_lr) * share


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use ``lr`` for all groups from here on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's memory as "name/entry" -> tensor, for a checkpoint; empty before the first step."""
    return {
        f"{name}/{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][entry] = value.to(parameter.device)
