"""Processes on this machine, one for each unit, with the cores shared out between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitlab.errors import storage_error
from vitlab.studies.executors import STOP_SECONDS, Ending, Unit

POLL_SECONDS = 0.05


class LocalExecutor:
    """``slots`` processes at a time; what a unit's configuration leaves open of threads is its share of the cores."""

    def __init__(self, slots: int, cores: int) -> None:
        self.slots, self.threads = slots, max(1, cores // slots)
        self.running: list[tuple[Unit, subprocess.Popen[bytes]]] = []

    def begin(self, unit: Unit) -> None:
        """Start the unit's process; it ends by itself when this one does, since it listens to its standard input."""
        config = share(unit.config, self.threads)
        try:
            with open(unit.log, "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "vitlab.studies.unit", str(unit.folder)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches the driver, which tells the units
                    env=os.environ | {"OMP_NUM_THREADS": str(config["machine"]["threads"])},
                )
        except OSError as error:
            raise storage_error("start a run with the log", unit.log, error) from error
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has died already: its ending says so
            process.stdin.write(json.dumps(config).encode() + b"\n")
            process.stdin.flush()
        self.running.append((unit, process))

    def ended(self, seconds: float) -> list[Ending]:
        """Those that have ended; looks again and again for at most ``seconds``."""
        until = time.monotonic() + seconds
        while True:
            found = [(unit, process) for unit, process in self.running if process.poll() is not None]
            if found or time.monotonic() >= until:
                self.running = [pair for pair in self.running if pair not in found]
                return [Ending(unit, close(process)) for unit, process in found]
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """SIGTERM to all, which makes them save; SIGKILL to those that have not ended a minute later."""
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


def share(config: dict[str, Any], threads: int) -> dict[str, Any]:
    """The configuration with its share of the cores, unless it names a number of threads."""
    machine = config["machine"]
    return config | {"machine": machine | {"threads": machine["threads"] or threads}}


def close(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that has ended."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    return process.wait()


def tail(log: Path, lines: int = 5) -> list[str]:
    """The last lines of a unit's log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
