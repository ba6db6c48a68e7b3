"""A rank's part of a batch: its images, their random numbers, and sums over all ranks.

Every rank draws the random numbers of the whole batch and uses those of the images in its share, so that any number of
ranks trains on the same augmented and mixed images. What dropout drops depends on the rank, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vitlab.ranks import Ranks


@dataclass(frozen=True)
class Part:
    """The ``rows`` of a batch of ``count`` images that a rank needs: the ``own`` ones that it learns from and, if
    images are mixed, the one after them. ``weight`` is the share of its mean loss in that of the batch.

    A rank that has no image of a small batch computes one that does not count.
    """

    rows: tuple[int, ...]
    own: int
    count: int
    weight: float


def part_of(count: int, ranks: Ranks, mixes: bool) -> Part:
    """This rank's part of a batch of ``count`` images."""
    own = ranks.part(count)
    rows = tuple(own) or (0,)
    further = ((rows[-1] + 1) % count,) if mixes else ()
    return Part((*rows, *further), len(rows), count, len(own) / count)


@dataclass(frozen=True)
class Draws:
    """Random numbers for a part of a batch."""

    generator: torch.Generator
    part: Part


def for_each(
    draws: torch.Generator | Draws, images: int, draw: Callable[[torch.Generator, int], Tensor], dim: int = 0
) -> Tensor:
    """``draw(generator, B)``, random numbers of B images along ``dim``: those of the ``images`` that are here, which
    are the whole batch or a part of it."""
    if isinstance(draws, torch.Generator):
        return draw(draws, images)
    numbers = draw(draws.generator, draws.part.count)
    return numbers.index_select(dim, torch.tensor(draws.part.rows, device=numbers.device))


def add_up_gradients(ranks: Ranks, model: nn.Module, further: Tensor) -> Tensor:
    """Replace the gradients by their sums over all ranks, and return the sums of the numbers ``further``, in float32.

    One buffer takes all of it: many small exchanges would take longer.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    gradients = [cast(Tensor, parameter.grad).reshape(-1) for parameter in parameters]
    buffer = torch.cat([*gradients, further.float()])
    ranks.add_up(buffer)
    sums = buffer.split([*map(len, gradients), len(further)])
    for parameter, found in zip(parameters, sums, strict=False):
        parameter.grad = found.view_as(parameter)
    return cast(Tensor, sums[-1])


def gathered(ranks: Ranks, own_NK: Tensor, total: int) -> Tensor:
    """The rows [total, K] of all ranks, of which this one has computed those of `Ranks.part`, [N, K]."""
    rows, whole = ranks.part(total), own_NK.new_zeros(total, own_NK.shape[1])
    whole[rows.start : rows.stop] = own_NK
    ranks.add_up(whole)  # all others add zeros
    return whole
