"""Runs as processes on this machine, which share its cores."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress

from vitlab import files
from vitlab.errors import storage_error
from vitlab.studies.unit import Ending, Unit, Whereabouts, start

POLL_SECONDS = 0.05
STOP_SECONDS = 60.0  # for a unit to save its state after SIGTERM


class LocalExecutor:
    """Up to ``slots`` processes at a time, each with its share of ``cores`` as threads."""

    def __init__(self, slots: int, cores: int) -> None:
        self.slots, self.threads = slots, max(1, cores // slots)
        self.running: list[tuple[Unit, subprocess.Popen[bytes]]] = []

    def begin(self, unit: Unit) -> None:
        """Start the unit's process, which appends its output to the unit's log."""
        try:
            with files.open_log(unit.log) as log:
                self.running.append((unit, start(unit.config, unit.folder, self.threads, log, unit.data_sha256)))
        except OSError as error:
            raise storage_error("start a run with the log", unit.log, error) from error

    def ended(self, seconds: float) -> list[Ending]:
        """The units that have ended since the last call; waits at most ``seconds`` for the first."""
        until = time.monotonic() + seconds
        while True:
            found = [(unit, process) for unit, process in self.running if process.poll() is not None]
            if found or time.monotonic() >= until:
                self.running = [pair for pair in self.running if pair not in found]
                return [Ending(unit, close(process)) for unit, process in found]
            time.sleep(POLL_SECONDS)

    def where(self) -> dict[str, Whereabouts]:
        """Nothing: all units are here."""
        return {}

    def stop(self) -> None:
        """Send SIGTERM to all, so that they save their state, and SIGKILL to those still running a minute later."""
        for _, process in self.running:
            process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for _, process in self.running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            close(process)
        self.running = []


def close(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process and close the pipe to it; its exit code."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    return process.wait()
