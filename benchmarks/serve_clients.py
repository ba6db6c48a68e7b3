"""A `vitlab serve` of its own, and bounded load on it over loopback: for the benchmark and the tests of stopping."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0
PATIENCE = 20.0  # of a client, in seconds


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
        """Let the peak of memory begin anew (Linux: 5 to clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


def predict_request(port: int, body: bytes, query: str = "") -> bytes:
    """The bytes of one POST /v1/predict."""
    lines = [
        f"POST /v1/predict{query} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: image/png",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Wire:
    """One connection, opened when it is needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket: socket.socket | None = None

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """(status, body); ConnectionRefusedError when nobody listens, another OSError when no answer came."""
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.sendall(request)
            status, body, ends = self._response()
        except OSError:
            self.close()
            raise
        if ends:
            self.close()
        return status, body

    def _response(self) -> tuple[int, bytes, bool]:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        while len(body) < length:
            body += self._more()
        return int(head[9:12]), body, b"connection: close" in head.lower()

    def _more(self) -> bytes:
        assert self.socket is not None
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionResetError("closed without an answer")
        return chunk

    def close(self) -> None:
        """Close it, if it is open."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@dataclass
class Tally:
    """What happened to requests: (due, begun, answered, status) of each, in seconds; those without an answer."""

    answers: list[tuple[float, float, float, int]] = field(default_factory=list)
    refused_connections: int = 0
    unanswered: list[str] = field(default_factory=list)

    def of_status(self, status: int) -> list[tuple[float, float, float, int]]:
        """The answers of one status."""
        return [answer for answer in self.answers if answer[3] == status]


def together(count: int, work: Callable[[int], None]) -> None:
    """Do ``work`` in so many threads; wait for all."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def load(
    port: int,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    rate: float | None = None,
    check: Callable[[int, int, bytes], None] = lambda number, status, body: None,
) -> Tally:
    """``clients`` connections ask for some seconds, or until the server stops listening.

    Without ``rate`` each asks as soon as it has its answer (closed loop). With it, requests become due evenly, so many
    a second (open loop); a request that no connection has time for waits, and its wait counts.
    """
    tally, lock = Tally(), threading.Lock()
    start, numbers = time.perf_counter(), iter(range(10**9))

    def work(client: int) -> None:
        wire = Wire(port)
        while True:
            with lock:
                number = next(numbers)
            due = start + number / rate if rate else time.perf_counter()
            if due > start + seconds or time.perf_counter() > start + 2 * seconds:
                break
            time.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            try:
                status, body = wire.ask(requests[number % len(requests)])
            except ConnectionRefusedError:
                with lock:
                    tally.refused_connections += 1
                break
            except OSError as error:
                with lock:
                    tally.unanswered.append(repr(error))
                continue
            ended = time.perf_counter()
            check(number, status, body)
            with lock:
                tally.answers.append((due - start, began - start, ended - start, status))
        wire.close()

    together(clients, work)
    return tally


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
