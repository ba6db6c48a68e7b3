"""Where the runs of a study are computed. An executor is given units and says how each ended; it knows no study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

STOP_SECONDS = 60.0  # that a unit has to save its state when it is told to stop


@dataclass(frozen=True)
class Unit:
    """One run: its configuration as plain values, where its run folder is to lie, and where what it says is kept."""

    name: str
    config: dict[str, Any]
    folder: Path
    log: Path


@dataclass(frozen=True)
class Ending:
    """How a unit ended: the exit code that `vitlab train` would give; negative, if a signal killed it."""

    unit: Unit
    code: int


class Executor(Protocol):
    """Runs up to ``slots`` units at a time. When it says that one has ended, its run folder lies on this disk."""

    slots: int

    def begin(self, unit: Unit) -> None:
        """Start a unit; call only while fewer than ``slots`` are running."""

    def ended(self, seconds: float) -> list[Ending]:
        """Those that have ended since the last call; waits for the first at most ``seconds``."""

    def stop(self) -> None:
        """Tell all that are running to save their state and end, and wait for them."""
