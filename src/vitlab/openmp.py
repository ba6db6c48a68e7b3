"""The OpenMP runtime that torch computes with: how its threads wait, and how many of them it really starts.

`torch.set_num_threads` states a wish. OMP_THREAD_LIMIT, for example, makes the team smaller, and oneDNN, which has
divided its work by the wish, then loses the share of every missing thread.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

# The variables that make a team smaller than asked for.
LIMITS = ("OMP_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS", "KMP_DEVICE_THREAD_LIMIT", "KMP_ALL_THREADS")


def in_each_thread(threads: int, call: Callable[[], object] | None = None) -> int:
    """Run ``call``, if given, in each thread of a team for which ``threads`` were asked; return how many there are.

    Afterwards, the runtime no longer shrinks the calling thread's teams when the machine is busy (OMP_DYNAMIC). Where
    the runtime is unknown, only the calling thread runs ``call``, and the answer is ``threads``.
    """
    found: list[int] = []

    def work(unused: int | None) -> None:
        if call is not None:
            call()
        found.append(runtime.omp_get_num_threads())

    try:
        runtime = ctypes.CDLL(None)  # torch has loaded it for everyone
        runtime.omp_set_dynamic(0)
        # What a compiler makes of "#pragma omp parallel": GNU's runtime has it, and so do those of LLVM and Intel.
        parallel, function = runtime.GOMP_parallel, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work)
    except (AttributeError, OSError, TypeError):
        if call is not None:
            call()
        return threads
    parallel(function, None, threads, 0)
    return max(found, default=1)


def bound_processors() -> set[int]:
    """The processors to which a process's threads are bound (OMP_PROC_BIND); none if they are not.

    There, the affinity of the calling thread shrinks to one processor with its first team.
    """
    found = set[int]()
    try:
        runtime = ctypes.CDLL(None)
        for place in range(runtime.omp_get_num_places()):
            numbers = (ctypes.c_int * runtime.omp_get_place_num_procs(place))()
            runtime.omp_get_place_proc_ids(place, numbers)
            found.update(numbers)
    except (AttributeError, OSError, TypeError):
        return set()
    return found


def shortage(found: int, wanted: int) -> str:
    """In words: why there are fewer threads than wanted."""
    causes = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    because = f" because of {', '.join(causes)}" if causes else ""
    return f"OpenMP starts only {found} of {wanted} threads{because}"
