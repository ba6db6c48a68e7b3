"""For all tests: one thread each, because two that wait for each other on a busy machine take ten times as long; and
the browser for those that ask for it."""

from __future__ import annotations

import pytest
import torch

from tests.browser import chromium as chromium

# Files that take longest, to begin with: at the end, one of them would keep one process busy and the other waiting.
LONG = (
    *("study_ray", "study_slurm", "study_command", "executors", "report", "page_use", "resume", "export_files"),
    *("signals", "page"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, all others in their order."""
    rank = {f"test_{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))


def pytest_itemcollected() -> None:
    """Undo what a test file chose for the process when it was imported (`MACHINE = choose_machine(...)`): Python, which
    compiles the next file, would read 5e-324 in it as 0."""
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a test before may have chosen for the process; lines are as long as in a pipe."""
    monkeypatch.delenv("COLUMNS", raising=False)
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
