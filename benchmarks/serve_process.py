"""`vitlab serve` as a separate process: started, watched, stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serve_clients import PATIENCE, Tally, load

START_SECONDS = 60.0


class ServerProcess:
    """`vitlab serve` as a process; its lines on standard error are kept."""

    def __init__(self, *words: str, **environment: str) -> None:
        command = [sys.executable, "-m", "vitlab", "serve", *words, "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env=os.environ | environment)
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def port(self) -> int:
        """The port, as soon as the server says it."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in list(self.lines):
                if found := re.match(r"serving at http://[^/]*:(\d+)/", line):
                    return int(found[1])
            time.sleep(0.01)
        raise RuntimeError(f"the server did not start: {self.lines}")

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once there is one."""
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def memory(self) -> dict[str, float]:
        """Resident memory now and at its peak, in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = {name: int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) / 1024 for name in ("VmRSS", "VmHWM")}
        return {"now": found["VmRSS"], "peak": found["VmHWM"]}

    def forget_peak(self) -> None:
        """Reset the peak of memory (Linux: 5 to clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


def stop_under_load(
    port: int,
    server: ServerProcess,
    requests: Sequence[bytes],
    clients: int,
    after: float,
    signum: int = signal.SIGTERM,
) -> tuple[int, Tally, float]:
    """Load a server, stop it after some seconds; (exit code, tally, seconds from the signal to its end)."""
    found: list[tuple[int, float]] = []

    def stop() -> None:
        time.sleep(after)
        began = time.perf_counter()
        found.append((server.stop(signum), time.perf_counter() - began))

    stopper = threading.Thread(target=stop)
    stopper.start()
    tally = load(port, requests, clients, after + PATIENCE)
    stopper.join()
    code, seconds = found[0]
    return code, tally, seconds
