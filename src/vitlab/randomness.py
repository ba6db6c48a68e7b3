"""Randomness as a pure function: the same (seed, purpose, counters) always gives the same numbers.

Nothing is ever saved or restored to resume a run: step 1234 draws what it would have drawn in an
unbroken run, because its generator is derived from the step's own coordinates. The idea is that of
counter-based generators (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for ``purpose`` (such as "order") at ``counters`` (such as epoch, step)."""
    key = "/".join([str(seed), purpose, *map(str, counters)])
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A NumPy generator that depends only on its arguments."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, *counters)))
