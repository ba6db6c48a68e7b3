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
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import uuid4

from vitlab.errors import ConfigError, RankError

if TYPE_CHECKING:
    from torch import Tensor, device
    from torch.distributed import Store  # type: ignore[attr-defined]

STORE = "VITLAB_STORE"  # environment variable: the file in which the ranks of `vitlab train --ranks` find each other
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # environment variables that torchrun sets
RESTARTS, MOST_RESTARTS = "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"
PARENT_SECONDS = 0.5  # between two looks for the parent
POLL_SECONDS = 0.02  # between two looks for the others
MEETING_SECONDS = 1800.0  # for all ranks to come: torch's own limit
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
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo" if place.type == "cpu" else "nccl"
    with others_alive():
        if (file := os.environ.get(STORE)) is not None:
            store: Store = dist.FileStore(file, ranks.count)  # type: ignore[attr-defined]
        else:
            torchruns = next(rendezvous("env://", ranks.rank, ranks.count))[0]
            store = dist.PrefixStore(meeting(torchruns, ranks), torchruns)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.count)
    yield
    dist.destroy_process_group()  # not after an error: it could wait for ranks that have died


def meeting(store: Store, ranks: Ranks) -> str:
    """A name that only the processes of this start share, agreed on in torchrun's ``store``.

    When torchrun starts the ranks again, the store still holds what those before them left: where to reach processes
    that have died, for example, where a rank would wait in vain (torch 2.13). So each process names itself, the first
    rank proposes the list of names, and all go on when everyone has agreed to a list that holds their own name. What is
    left of an earlier start never holds it. RankError if that takes too long.
    """
    own, until = uuid4().hex, time.monotonic() + MEETING_SECONDS
    everyone = range(ranks.count)
    store.set(f"name/{ranks.rank}", own)
    while time.monotonic() < until:
        if not ranks.rank:
            store.set("proposal", ",".join(store.get(f"name/{rank}").decode() for rank in everyone))
        proposal = store.get("proposal").decode()
        if proposal.split(",")[ranks.rank] == own:
            store.set(f"agreed/{ranks.rank}", proposal)
            keys = [f"agreed/{rank}" for rank in everyone]
            if store.check(keys) and all(store.get(key).decode() == proposal for key in keys):
                return sha256(proposal.encode()).hexdigest()
        time.sleep(POLL_SECONDS)
    raise RankError(f"the other ranks did not come within {MEETING_SECONDS:.0f} seconds; see what they said")


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
