"""Work on many things in threads, in their order, while the caller works on those before them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

from vitlab.processor import available_cores

READERS = 4  # threads at most

Thing = TypeVar("Thing")
Made = TypeVar("Made")


def always(thing: object) -> bool:
    """For `ahead`: everything is worked on in threads."""
    return True


def ahead(
    things: Iterable[Thing],
    work: Callable[[Thing], Made],
    together: int,
    in_thread: Callable[[Thing], bool] = always,
) -> Iterator[list[Made]]:
    """What ``work`` makes of each thing, in their order, ``together`` at a time; no more than two such lists are held.
    Threads make it, but for things that are not to be worked on ``in_thread``."""
    waiting = iter(things)
    pool = ThreadPoolExecutor(min(READERS, available_cores()), "vitlab-read")

    def begun(some: list[Thing]) -> list[Callable[[], Made]]:
        return [pool.submit(work, one).result if in_thread(one) else partial(work, one) for one in some]

    try:
        now = begun(list(islice(waiting, together)))
        while now:
            later = begun(list(islice(waiting, together)))
            yield [one() for one in now]
            now = later
    finally:
        pool.shutdown(cancel_futures=True)
