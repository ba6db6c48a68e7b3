"""Which of several equal ways computes parts of a network."""

from __future__ import annotations

from dataclasses import dataclass

from vitlab.native import Library


@dataclass(frozen=True)
class Kernels:
    """``sdpa`` is torch's attention kernel, which never holds the weights; ``native`` are vitlab's own, for the masks
    of dropout and (``blocks``) the whole stack of blocks, on a CPU, run on so many ``threads``."""

    sdpa: bool = False
    native: Library | None = None
    blocks: bool = True
    threads: int = 1


PLAIN = Kernels()
