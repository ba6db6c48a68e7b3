"""Batches of a data set that is already on the device, or on the disk.

Most sets that vitlab is for fit into memory as uint8 (MNIST: 47 MB), so there is no loader, no worker process and no
queue: a batch is one indexed copy, and the order is a permutation drawn for each epoch. Images on the disk
(`stored.Stored`) are read batch by batch, in the same order, and the system is asked for the next ones ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vitlab.data.splits import Split
from vitlab.data.stored import Stored

Batch = tuple[Tensor, ...]  # images, labels and, if there are any, weights
AHEAD = 8  # batches that the system is asked for before they are read


class DiskImages:
    """Images on the disk, which pass for a tensor [N, H, W, C] on ``device`` as far as batches need one: indexing by a
    number, a slice or numbers reads and copies."""

    def __init__(self, stored: Stored, device: torch.device) -> None:
        self.stored, self.device = stored, device

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def shape(self) -> torch.Size:
        """(N, H, W, C)."""
        return torch.Size(self.stored.shape)

    @property
    def dtype(self) -> torch.dtype:
        """That of the pixels."""
        return torch.from_numpy(np.empty(0, self.stored.dtype)).dtype

    def __getitem__(self, key: Any) -> Tensor:
        numbers = key.cpu().numpy() if isinstance(key, Tensor) else key
        return torch.from_numpy(np.ascontiguousarray(self.stored[numbers])).to(self.device)

    def split(self, count: int) -> Iterator[Tensor]:
        """The images in their order, ``count`` at a time."""
        for start in range(0, len(self), count):
            self.expect(slice(start + count, start + 2 * count))
            yield self[start : start + count]

    def expect(self, key: Any) -> None:
        """Let the system begin to read these images."""
        self.stored.expect(key.cpu().numpy() if isinstance(key, Tensor) else key)


def same_images(some: Tensor, other: Tensor, count: int = 1024) -> bool:
    """Whether two parts hold the same images in the same order."""
    if some.shape != other.shape:
        return False
    return all(torch.equal(some[n : n + count], other[n : n + count]) for n in range(0, len(some), count))


@dataclass(frozen=True)
class DeviceSplit:
    """images uint8, uint16 or float32 [N, H, W, C], labels int64 [N] and, perhaps, weights float32 [N] on one device.
    Images on the disk are `DiskImages`, which pass for a tensor."""

    images: Tensor
    labels: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: range) -> DeviceSplit:
        """Consecutive images; those on the disk stay there."""
        place, images = slice(rows.start, rows.stop), cast(Any, self.images)
        if isinstance(images, DiskImages):
            some = cast(Any, DiskImages(images.stored.take(np.arange(rows.start, rows.stop)), images.device))
        else:
            some = images[place]
        return DeviceSplit(some, self.labels[place], None if self.weights is None else self.weights[place])

    def at(self, numbers: Any) -> Tensor:
        """The images at ``numbers``, a list or a tensor."""
        images: Any = self.images
        if isinstance(images, DiskImages):
            on_disk: Tensor = images[numbers]
            return on_disk
        # index_select copies whole images, [] pixel by pixel. Not all devices can choose among uint16, so their bytes
        # are chosen as int16.
        indices = torch.as_tensor(numbers, device=images.device)
        if images.dtype == torch.uint16:
            return images.view(torch.int16).index_select(0, indices).view(torch.uint16)  # type: ignore[no-any-return]
        chosen: Tensor = images.index_select(0, indices)
        return chosen


def to_device(split: Split, device: torch.device) -> DeviceSplit:
    """Move a Split to ``device``, once; images on the disk stay there."""
    weights = None if split.weights is None else torch.from_numpy(split.weights).float().to(device)
    images = split.images
    moved: Any = DiskImages(images, device) if isinstance(images, Stored) else torch.from_numpy(images).to(device)
    return DeviceSplit(moved, torch.from_numpy(split.labels).to(device), weights)


def epoch_batches(
    split: DeviceSplit,
    batch_size: int,
    generator: torch.Generator,
    first: int = 0,
    end: int | None = None,
    sampling: str = "all",
    rows: Callable[[int], Sequence[int]] | None = None,
) -> Iterator[Batch]:
    """Batches of as many images as there are, in an order drawn from ``generator``; the last one may be smaller.
    ``sampling`` "all" shows each image once, "balanced" each class equally often (`balanced_order`).

    Of these batches, those from ``first`` up to but not including ``end``; and of the images of each, those at the
    places ``rows(images)``, if that is given.
    """
    if sampling == "balanced":
        order = balanced_order(split.labels, generator)
    else:
        order = torch.randperm(len(split), generator=generator, device=generator.device)
    batches = order.split(batch_size)[first:end]
    if rows is not None:
        batches = tuple(batch[torch.tensor(rows(len(batch)), device=batch.device)] for batch in batches)
    images: Any = split.images
    on_disk = images if isinstance(images, DiskImages) else None
    for indices in batches[:AHEAD]:
        if on_disk:
            on_disk.expect(indices)
    for number, indices in enumerate(batches):
        if on_disk and number + AHEAD < len(batches):
            on_disk.expect(batches[number + AHEAD])
        weights = () if split.weights is None else (split.weights[indices],)
        yield (split.at(indices), split.labels[indices], *weights)


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
