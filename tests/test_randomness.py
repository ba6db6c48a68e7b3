"""Randomness is a pure function of seed, purpose and counters."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.randomness import derive_seed, numpy_generator

ARGUMENTS = (7, "order", 2, 3)
OTHERS = [(8, "order", 2, 3), (7, "augment", 2, 3), (7, "order", 5, 3), (7, "order", 2, 5), (7, "order", 3, 2),
          (7, "order", 2), (7, "order"), (7, "order", 23), (7, "order", 2, 3, 0), (72, "order", 3)]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_the_seed_depends_on_every_argument(other: tuple[int, str, *tuple[int, ...]]) -> None:
    assert derive_seed(*other) != derive_seed(*ARGUMENTS)
    assert numpy_generator(*other).random() != numpy_generator(*ARGUMENTS).random()


def test_the_seed_is_the_same_in_every_process() -> None:
    code = f"from vitlab.randomness import derive_seed; print(derive_seed(*{ARGUMENTS!r}))"
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert int(done.stdout) == derive_seed(*ARGUMENTS)


@given(st.integers(0, 2**70), st.text(), st.lists(st.integers(0, 10**9), max_size=3))
@settings(deadline=None)
def test_the_seed_fits_in_63_bits(seed: int, purpose: str, counters: list[int]) -> None:
    assert 0 <= derive_seed(seed, purpose, *counters) < 2**63


def test_neighbouring_counters_give_unrelated_seeds() -> None:
    seeds = [derive_seed(0, "step", step) for step in range(2003)]
    assert len(set(seeds)) == 2003
    assert max(seeds) > 0.99 * 2**63  # all bits are used
    shares = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds]).mean(axis=0)
    assert np.abs(shares - 0.5).max() < 0.06


def test_a_generator_starts_anew_each_time_and_leaves_numpys_global_state_alone() -> None:
    state = np.random.get_state()
    expected = np.random.random()
    np.random.set_state(state)
    draws = [numpy_generator(*ARGUMENTS).integers(0, 2**32, 11).tolist() for _ in range(2)]
    assert draws[0] == draws[1]
    assert np.random.random() == expected
