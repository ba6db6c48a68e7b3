"""Batches of a data set that is already on the device.

The sets that vitlab is for fit into memory as uint8 (MNIST: 47 MB), so there is no loader, no worker process and no
queue: a batch is one indexed copy, and the order is a permutation drawn for each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vitlab.data.splits import Split

Batch = tuple[Tensor, ...]  # images, labels and, if there are any, weights


@dataclass(frozen=True)
class DeviceSplit:
    """images uint8 or float32 [N, H, W, C], labels int64 [N] and, perhaps, weights float32 [N] on one device."""

    images: Tensor
    labels: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


def to_device(split: Split, device: torch.device) -> DeviceSplit:
    """Move a Split to ``device``, once."""
    weights = None if split.weights is None else torch.from_numpy(split.weights).float().to(device)
    return DeviceSplit(torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device), weights)


def epoch_batches(
    split: DeviceSplit,
    batch_size: int,
    generator: torch.Generator,
    first: int = 0,
    end: int | None = None,
    sampling: str = "all",
) -> Iterator[Batch]:
    """Batches of as many images as there are, in an order drawn from ``generator``; the last one may be smaller.
    ``sampling`` "all" shows each image once, "balanced" each class equally often (`balanced_order`).

    Of these batches, those from ``first`` up to but not including ``end``.
    """
    if sampling == "balanced":
        order = balanced_order(split.labels, generator)
    else:
        order = torch.randperm(len(split), generator=generator, device=generator.device)
    for indices in order.split(batch_size)[first:end]:
        weights = () if split.weights is None else (split.weights[indices],)
        yield (split.images[indices], split.labels[indices], *weights)


def balanced_order(labels_N: Tensor, generator: torch.Generator) -> Tensor:
    """N indices, drawn from ``generator``, that show each class equally often; the classes differ by one at most.

    Of a class of n images that is due q times, each image comes q // n times, and a random part of them once more: so
    no image of a large class comes twice, and the images of a small one come equally often.
    """
    count, device = len(labels_N), labels_N.device
    shuffled = torch.randperm(count, generator=generator, device=device)
    by_class = shuffled[labels_N[shuffled].argsort(stable=True)]
    sizes_K = torch.bincount(labels_N)
    sizes_K = sizes_K[sizes_K > 0]
    classes = len(sizes_K)
    due_K = torch.full_like(sizes_K, count // classes)
    due_K[torch.randperm(classes, generator=generator, device=device)[: count % classes]] += 1
    class_N = torch.arange(classes, device=device).repeat_interleave(due_K, output_size=count)
    turn_N = torch.arange(count, device=device) - (due_K.cumsum(0) - due_K)[class_N]
    chosen_N = by_class[(sizes_K.cumsum(0) - sizes_K)[class_N] + turn_N % sizes_K[class_N]]
    return chosen_N[torch.randperm(count, generator=generator, device=device)]
