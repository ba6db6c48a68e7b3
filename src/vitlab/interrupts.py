"""Ctrl-C and SIGTERM end a run after the current step, not in the middle of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal has asked the run to stop: ``signum`` is 0 until then."""

    def __init__(self) -> None:
        self.signum = 0

    def __call__(self) -> bool:
        return self.signum != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a flag; a second one acts at once, as usual.

    The handler only sets the flag: saving inside a handler could interrupt anything. Outside the main thread, where
    Python allows no handlers, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def notice_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C has been pressed, for code that is interrupted and raises something else than KeyboardInterrupt.

    Where somebody else handles SIGINT, and outside the main thread, nothing changes.
    """
    request = StopRequest()
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield request
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.default_int_handler(signum, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
