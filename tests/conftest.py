"""For all tests: one thread each, because two that wait for each other on a busy machine take ten times as long; and
the browser for those that ask for it."""

from __future__ import annotations

import pytest
import torch

from tests.browser import chromium as chromium


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Undo what a test before may have chosen for the process."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
