"""One training in several processes, its ranks: which one this is, and what they exchange.

torchrun, or `vitlab train --ranks` (cli/launch.py), starts the same command several times and tells each process its
number. They divide every batch, add up their gradients, and so all hold the same weights, bit for bit. The exchange is
torch.distributed's: gloo between CPUs, nccl between GPUs. Importing this file imports no torch.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitlab.errors import ConfigError, RankError

if TYPE_CHECKING:
    from torch import Tensor, device

STORE = "VITLAB_STORE"  # environment variable: the file in which the ranks of `vitlab train --ranks` find each other
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # environment variables that torchrun sets
RESTARTS, MOST_RESTARTS = "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"
PARENT_SECONDS = 0.5  # between two looks for the parent
LAST_SECONDS = 5.0  # for a rank to save its state after the death of its parent


@dataclass(frozen=True)
class Ranks:
    """This process is number ``rank`` of ``count``, and number ``local`` of the ``here`` ranks on this machine."""

    rank: int = 0
    count: int = 1
    local: int = 0
    here: int = 1

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def part(self, total: int) -> range:
        """Which of ``total`` things are this rank's: consecutive ones, and as many as others have, or one less."""
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def add_up(self, tensor: Tensor) -> None:
        """Replace ``tensor`` by the sum over all ranks: the same bits in each, and the same bits each time."""
        import torch.distributed as dist

        with others_alive():
            dist.all_reduce(tensor)

    def exchange(self, parts: Sequence[Sequence[Tensor]]) -> None:
        """Fill the tensors of the others: ``parts[r]`` are right on rank r, and afterwards on every rank."""
        import torch
        import torch.distributed as dist

        sizes = [[one.numel() for one in part] for part in parts]
        first = next(part[0] for part in parts if part)
        everything = first.new_empty(self.count, max(map(sum, sizes)))  # all parts as long as the longest
        own = first.new_zeros(everything.shape[1])
        if parts[self.rank]:
            torch.cat([one.reshape(-1) for one in parts[self.rank]], out=own[: sum(sizes[self.rank])])
        with others_alive():
            dist.all_gather(list(everything), own)
        for rank, part in enumerate(parts):
            if part and rank != self.rank:
                found = everything[rank, : sum(sizes[rank])].split(sizes[rank])
                torch._foreach_copy_(list(part), [new.view_as(one) for new, one in zip(found, part, strict=True)])


ALONE = Ranks()


def from_environment(environment: Mapping[str, str] = os.environ) -> Ranks:
    """What torchrun, or `vitlab train --ranks`, has told this process; ALONE if neither has started it."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return ALONE
    found = {name: environment.get(name, environment[other]) for name, other in zip(NAMES, NAMES[:2] * 2, strict=True)}
    try:
        rank, count, local, here = map(int, found.values())
    except ValueError:
        rank, count, local, here = -1, 0, -1, 0
    if not (0 <= rank < count and 0 <= local < here <= count):
        shown = ", ".join(f"{name}={value}" for name, value in found.items())
        raise ConfigError(f"{shown} cannot be; start several ranks with torchrun or --ranks, or unset these variables")
    return Ranks(rank, count, local, here)


def check_count(asked: int | None, ranks: Ranks) -> None:
    """ConfigError if the knob ``ranks`` asks for another number than there are."""
    if asked in (None, ranks.count):
        return
    if ranks.several:
        raise ConfigError(f"ranks is {asked}, but {ranks.count} were started (WORLD_SIZE); leave out --ranks")
    raise ConfigError(
        f"ranks {asked} needs {asked} processes, and this is only one; `vitlab train --ranks {asked}` starts them"
    )


@contextmanager
def joined(ranks: Ranks, place: device) -> Iterator[None]:
    """Begin when all ranks have come this far, and let them exchange what is on devices of this kind."""
    if not ranks.several:
        yield
        return
    import torch.distributed as dist

    place_to_meet, store = os.environ.get(STORE), None
    if place_to_meet is not None:
        store = dist.FileStore(place_to_meet, ranks.count)  # type: ignore[attr-defined]
    backend = "gloo" if place.type == "cpu" else "nccl"
    with others_alive():
        dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.count)
    yield
    dist.destroy_process_group()  # not after an error: it could wait for ranks that have died


@contextmanager
def others_alive() -> Iterator[None]:
    """Turn what torch.distributed raises when a rank does not answer into RankError."""
    try:
        yield
    except RuntimeError as error:
        raise RankError("another rank has ended, and the rest cannot go on without it") from error


def end_with_parent() -> None:
    """From now on, when the process that started this one is gone, save the state and end."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:  # on Windows it never changes
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_SECONDS)
    os._exit(128 + signal.SIGTERM)
