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
    split: DeviceSplit, batch_size: int, generator: torch.Generator, first: int = 0, end: int | None = None
) -> Iterator[Batch]:
    """Batches of all images once, in an order drawn from ``generator``; the last one may be smaller.

    Of these batches, those from ``first`` up to but not including ``end``.
    """
    order = torch.randperm(len(split), generator=generator, device=generator.device)
    for indices in order.split(batch_size)[first:end]:
        weights = () if split.weights is None else (split.weights[indices],)
        yield (split.images[indices], split.labels[indices], *weights)
