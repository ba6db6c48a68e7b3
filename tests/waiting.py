"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 120.0  # on a busy machine


def wait_for(happened: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> float:
    """Return when it has happened, with the seconds that it took."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() < began + seconds, "it did not happen"
        time.sleep(0.01)
    return time.monotonic() - began
