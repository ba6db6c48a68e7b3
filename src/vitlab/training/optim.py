"""AdamW, Muon, which weights they decay, and the learning rate as a pure function of the step.

Weight decay has two meanings in use. torch and Keras 3 multiply a weight by 1 - lr x weight_decay at each step
(Loshchilov and Hutter 2019); TensorFlow Addons, which the seed used, subtracts weight_decay x weight without lr, on
every variable. `weight_decay` here is torch's; the seed's 1e-4 at lr 1e-3 is 0.1 with `decay_all`. Adam's epsilon is
added after bias correction here and before it in Keras; at 1e-7 the difference is far below rounding after the first
steps.

We do not use torch's optimizer classes: creating one imports torch's compiler, which adds a second to the start of
every process (docs/understand/log.md).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from vitlab.config import OptimConfig
from vitlab.machine import constant
from vitlab.native.ops import Kernels, Stack, muon_step
from vitlab.ranks import ALONE, Ranks

UNDECAYED_MATRICES = ("pos_embed", "cls_token", "bias")  # positions and biases, not maps from features to features

# Coefficients of the quintic a x + b x^3 + c x^5 that pushes any singular values to about 0.7 to 1.2 in five rounds
# (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5

Memory = defaultdict[Tensor, dict[str, Tensor]]


def decay_groups(model: nn.Module, config: OptimConfig, others: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Names of AdamW's parameters that decay and of those that do not; ``others`` are not AdamW's."""
    decayed: list[str] = []
    free: list[str] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and name.split(".")[-1] not in UNDECAYED_MATRICES
        if name not in others:
            (decayed if is_matrix or config.decay_all else free).append(name)
    return decayed, free


def build_optimizers(
    model: nn.Module,
    config: OptimConfig,
    matrices: Mapping[str, int],
    kernels: Kernels | None = None,
    old: Collection[str] = (),
    ranks: Ranks = ALONE,
) -> list[Optimizer]:
    """AdamW, preceded by Muon if ``config`` asks for it. Parameters that need no gradient are frozen: they belong to
    neither, so they do not decay.

    ``matrices``: the parameters that Muon may train, with the number of matrices stacked in each (see
    `vitlab.model.Description`). Like its authors we leave the first layer, positions and the head to AdamW: they are
    not maps from features to features. ``old``: the names of those that were trained before, with `init_lr_scale`.
    ``ranks`` divide Muon's work; AdamW's, a pass over the other weights, each of them does.
    """
    parameters = dict(model.named_parameters())
    frozen = {name for name, parameter in parameters.items() if not parameter.requires_grad}
    muon = {name: n for name, n in matrices.items() if name not in frozen} if config.optimizer == "muon" else {}
    scales = {name: config.init_lr_scale if name in old else 1.0 for name in parameters}
    decayed, free = decay_groups(model, config, frozen.union(muon))
    groups = [
        {"params": [parameters[name] for name in names if scales[name] == scale], "weight_decay": decay}
        | {"lr_ratio": scale}
        for names, decay in ((decayed, config.weight_decay), (free, 0.0))
        for scale in sorted({scales[name] for name in names})
    ]
    optimizers: list[Optimizer] = [AdamW(groups, config)]
    if muon:
        stacked = {parameters[name]: (count, scales[name]) for name, count in muon.items()}
        optimizers.insert(0, Muon(stacked, config, kernels, ranks))
    return optimizers


def rate_on(device: torch.device, lr: float) -> float | Tensor:
    """``lr`` in a form that `set_lr` can change: on a GPU a tensor, which a recorded step reads."""
    return lr if device.type == "cpu" else torch.tensor(lr, device=device)


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), in torch's fused form: one pass over weights."""

    def __init__(self, groups: list[dict[str, Any]], config: OptimConfig) -> None:
        """``groups``: "params", their "weight_decay" and, unless it is 1, "lr_ratio", a factor on the rate."""
        self.param_groups = [group | {"lr": rate_on(group["params"][0].device, config.lr)} for group in groups]
        self.state: Memory = defaultdict(dict)
        self.settings: dict[str, Any] = dict(beta1=config.beta1, beta2=config.beta2, eps=config.adam_eps)

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            gradients = {p: p.grad for p in group["params"] if p.grad is not None}
            memories = [self.memory_of(parameter) for parameter in gradients]
            adamw(
                params=list(gradients),
                grads=list(gradients.values()),
                exp_avgs=[memory["exp_avg"] for memory in memories],
                exp_avg_sqs=[memory["exp_avg_sq"] for memory in memories],
                max_exp_avg_sqs=[],
                state_steps=[memory["step"] for memory in memories],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                amsgrad=False,
                maximize=False,
                fused=True,
                capturable=isinstance(group["lr"], Tensor),
                **self.settings,
            )

    def complete(self) -> None:
        """Every rank has the whole memory already."""

    def memory_of(self, parameter: Tensor) -> dict[str, Tensor]:
        """Running means of its gradient and squared gradient, and the steps taken; zeros before the first step."""
        memory = self.state[parameter]
        if not memory:
            memory["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            memory["exp_avg"], memory["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return memory


class Muon:
    """Momentum with an orthogonalised direction, many matrices in one batch of products.

    Jordan et al. 2024: with M the momentum's matrix, the step is lr U V^T for M = U S V^T, found by a few rounds of
    a polynomial in M (`orthogonalize`), with Nesterov momentum, times sqrt(rows / columns) for tall matrices.
    """

    def __init__(
        self,
        matrices: Mapping[nn.Parameter, tuple[int, float]],
        config: OptimConfig,
        kernels: Kernels | None,
        ranks: Ranks = ALONE,
    ) -> None:
        """``matrices``: the parameters, each with the number of matrices stacked in it and a factor on its rate. Each
        of the ``ranks`` takes the steps of a share of them, and gets the others' new weights."""
        groups: dict[tuple[float, int], dict[str, Any]] = {}
        for matrix, (count, scale) in matrices.items():
            rows, columns = len(matrix) // count, matrix[0].numel()
            new = {"params": [], "shapes": [], "lr_ratio": config.muon_lr / config.lr * scale}
            group = groups.setdefault((scale, min(rows, columns)), new)
            group["params"].append(matrix)
            group["shapes"].append((count, rows, columns))
        for group in groups.values():  # on a GPU each group needs its own tensor, which set_lr fills
            group["lr"] = rate_on(next(iter(matrices)).device, config.muon_lr)
        self.param_groups = list(groups.values())
        self.state: Memory = defaultdict(dict)
        self.momentum, self.decay = config.muon_momentum, config.muon_weight_decay
        self.kernels, self.ranks = kernels, ranks
        self.shares = shared_out({matrix: work_of(matrix, count) for matrix, (count, _) in matrices.items()}, ranks)
        self.own = frozenset(self.shares[ranks.rank])

    @torch.no_grad()
    def step(self) -> None:
        """One step of all matrices; each must have a gradient."""
        self.step_own()
        if self.ranks.several:
            self.ranks.exchange(self.shares)

    @torch.no_grad()
    def complete(self) -> None:
        """Get the momentum of the matrices whose steps other ranks have taken, for a checkpoint."""
        if self.ranks.several:
            self.ranks.exchange([[self.momentum_of(matrix) for matrix in share] for share in self.shares])

    def step_own(self) -> None:
        """One step of this rank's matrices."""
        if self.kernels is None:
            for group in self.param_groups:
                if stacks := self.stacks_of(group):
                    self.step_of(stacks, group["lr"])
            return
        settings: dict[str, Any] = dict(polynomial=NEWTON_SCHULZ, rounds=NEWTON_SCHULZ_STEPS)
        for lr in dict.fromkeys(group["lr"] for group in self.param_groups):
            stacks = [one for group in self.param_groups if group["lr"] == lr for one in self.stacks_of(group)]
            muon_step(stacks, self.kernels, memory=self.momentum, lr=lr, shrink=1.0 - lr * self.decay, **settings)

    def stacks_of(self, group: dict[str, Any]) -> list[Stack]:
        """This rank's matrices in the group, each with its momentum and its gradient."""
        return [
            Stack(matrix, self.momentum_of(matrix), cast(Tensor, matrix.grad), *shape)
            for matrix, shape in zip(group["params"], group["shapes"], strict=True)
            if matrix in self.own
        ]

    def momentum_of(self, matrix: Tensor) -> Tensor:
        """Its running mean of gradients, zero before its first step."""
        if not self.state[matrix]:
            self.state[matrix]["momentum"] = torch.zeros_like(matrix, memory_format=torch.contiguous_format)
        return self.state[matrix]["momentum"]

    def step_of(self, stacks: list[Stack], lr: float | Tensor) -> None:
        """The definition of a step, in torch, for matrices whose shorter sides are equal.

        They share one batch, padded with columns of zeros, which stay zero and add nothing to any sum: a GPU computes
        twenty products of this size in the time of one.
        """
        weights, memory, grads = ([getattr(s, name) for s in stacks] for name in ("weight", "momentum", "grad"))
        torch._foreach_lerp_(memory, grads, 1.0 - self.momentum)
        ahead = torch._foreach_lerp(grads, memory, self.momentum)
        torch._foreach_mul_(weights, 1.0 - lr * self.decay)
        short, long = min(stacks[0].rows, stacks[0].columns), max(max(s.rows, s.columns) for s in stacks)
        batch_GSL = memory[0].new_zeros(sum(s.count for s in stacks), short, long)
        for s, place, matrix in zip(stacks, places_of(batch_GSL, stacks), ahead, strict=True):
            place.copy_(matrix.view(s.count, s.rows, s.columns))
        stretches = constant(tuple(s.stretch for s in stacks for _ in range(s.count)), batch_GSL.device)
        steps_GSL = orthogonalize(batch_GSL) * (stretches * lr).view(-1, 1, 1)
        for s, place in zip(stacks, places_of(steps_GSL, stacks), strict=True):
            s.weight.view(s.count, s.rows, s.columns).sub_(place)


Optimizer = AdamW | Muon


def work_of(matrix: Tensor, count: int) -> int:
    """Multiply-adds of a round of Newton-Schulz on ``count`` matrices stacked in one, up to a factor."""
    rows, columns = len(matrix) // count, matrix[0].numel()
    return count * rows * columns * min(rows, columns)


def shared_out(work: Mapping[nn.Parameter, int], ranks: Ranks) -> list[list[nn.Parameter]]:
    """The matrices of each rank: the largest first, each to the rank that has least to do."""
    shares: list[list[nn.Parameter]] = [[] for _ in range(ranks.count)]
    load = [0] * ranks.count
    for matrix in sorted(work, key=lambda one: -work[one]):  # stable: the same on all ranks
        least = load.index(min(load))
        shares[least].append(matrix)
        load[least] += work[matrix]
    return shares


def places_of(batch_GSL: Tensor, stacks: list[Stack]) -> list[Tensor]:
    """Each stack's place in a batch of wide matrices, as views of its shape, [count, rows, columns]."""
    own = batch_GSL.split([s.count for s in stacks])
    lying = [place[..., : max(s.rows, s.columns)] for s, place in zip(stacks, own, strict=True)]
    return [place.mT if s.rows > s.columns else place for s, place in zip(stacks, lying, strict=True)]


def orthogonalize(matrices_GRC: Tensor) -> Tensor:
    """Approximately U V^T of each matrix's singular value decomposition, by Newton-Schulz rounds; rows <= columns.

    In float32: on a CPU, small bfloat16 products are slower (docs/understand/log.md).
    """
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrices_GRC / (torch.linalg.matrix_norm(matrices_GRC, keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def lr_at(step: int, config: OptimConfig, total_steps: int, steps_per_epoch: int) -> float:
    """Learning rate of step 0 .. total_steps - 1: a rise over the warm-up, then the schedule.

    The first step of a warm-up of w steps has lr / w, the last has lr; the step after the end of training would have
    min_lr. A warm-up takes at most half of the training, so the rate also falls in a trial of one epoch.
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


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    """Use ``lr`` from now on; Muon's matrices keep their ratio to it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            own = lr * group.get("lr_ratio", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)
            else:
                group["lr"] = own


def optimizer_tensors(optimizers: list[Optimizer], model: nn.Module) -> dict[str, Tensor]:
    """The optimizers' memory as "name/entry" -> tensor, for a checkpoint; empty before the first step."""
    return {
        f"{name}/{entry}": value
        for name, parameter in model.named_parameters()
        for optimizer in optimizers
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(optimizers: list[Optimizer], model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    parameters = dict(model.named_parameters())
    owners = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for key, value in tensors.items():
        name, entry = key.rsplit("/", 1)
        parameter = parameters[name]
        owners[parameter].state[parameter][entry] = value.to(parameter.device)
