"""Whether clients that send requests made to cost much slow the answers of others, over loopback only.

    python -m benchmarks.serve_chunks runs/NAME --out FILE

One client asks for predictions again and again, before and while 1, 4 and 16 processes attack in the ways named by
--attack (see ATTACKS), without pausing, each on one connection at a time. The figure is p99 of the answers before and
during the attack. Since all share the cores, their work slows the answers too, not only what the server does for them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve_clients import Wire
from benchmarks.serve_process import ServerProcess
from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.machine import choose_machine, environment
from vitlab.runs.session import origin

ATTACKERS = (1, 4, 16)
PIXELS = b'{"pixels": [[0,255],[0,255]]}'
POST, GET = "POST /v1/predict HTTP/1.1", "GET /nonsense HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


def head(port: int, start: str, *lines: str, host: str = "") -> bytes:
    """A request line and headers."""
    return "\r\n".join([start, f"Host: {host or f'127.0.0.1:{port}'}", *lines, "", ""]).encode()


def chunks(piece: bytes, *lines: str, host: str = "") -> Callable[[int], Iterator[bytes]]:
    """A body of a million bytes or more in copies of ``piece``."""

    def attack(port: int) -> Iterator[bytes]:
        yield head(port, POST, CHUNKED, *lines, host=host)
        for _ in range(200):
            yield piece * max(1, 30_000 // len(piece))

    return attack


def dripping(port: int) -> Iterator[bytes]:
    """A body of announced length, byte by byte."""
    yield head(port, POST, "Content-Length: 1000000")
    for _ in range(20_000):
        yield b"x"


def dripping_head(port: int) -> Iterator[bytes]:
    """Headers byte by byte."""
    for byte in head(port, POST, *["a: b"] * 90):
        yield bytes([byte])


def many(port: int) -> Iterator[bytes]:
    """Thousands of tiny requests without waiting for answers."""
    for _ in range(200):
        yield head(port, GET) * 50


def headers(port: int) -> Iterator[bytes]:
    """Thousands of headers."""
    yield head(port, POST, *["a: b"] * 5000)


ATTACKS: dict[str, Callable[[int], Iterator[bytes]]] = {
    "1-byte chunks": chunks(b"1\r\na\r\n"),
    "2-byte chunks": chunks(b"2\r\nab\r\n"),
    "extensions": chunks(b"1;" + b"x" * 4000 + b"\r\na\r\n"),
    "wrong host": chunks(b"1\r\na\r\n", host="evil.example"),
    "trailers": chunks(b"0\r\n" + b"a: b\r\n" * 5000),
    "byte by byte": dripping,
    "headers byte by byte": dripping_head,
    "pipelined 404": many,
    "thousands of headers": headers,
}


def attack(port: int, name: str, stop: Event) -> None:
    """Attack again and again, on one connection at a time: a new one when the server has closed the one before."""
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as wire:
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in ATTACKS[name](port):
                    wire.sendall(piece)
                    if stop.is_set():
                        return
                while wire.recv(65536):
                    pass
        except OSError:
            time.sleep(0.05)


@contextmanager
def attackers(port: int, name: str, count: int) -> Iterator[None]:
    """So many processes, each one attacker."""
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    processes = [context.Process(target=attack, args=(port, name, stop), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        stop.set()
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.terminate()
                process.join()


def answers(port: int, seconds: float) -> dict[str, float]:
    """p50 and p99 in milliseconds of the answers to one client that asks every 10 ms, and how many there were."""
    request = head(port, POST, "Content-Type: application/json", f"Content-Length: {len(PIXELS)}") + PIXELS
    wire, took, statuses = Wire(port), [], set()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        status, _ = wire.ask(request)
        took.append(time.perf_counter() - began)
        statuses.add(status)
        time.sleep(0.01)
    wire.close()
    if statuses != {200}:
        raise RuntimeError(f"answers were {sorted(statuses)}")
    middle, high = np.percentile(np.array(took) * 1e3, [50, 99])
    return {"p50": round(float(middle), 2), "p99": round(float(high), 2), "answers": len(took)}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    machine = choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32"))
    seconds = 1.0 if arguments.quick else arguments.seconds
    found: dict[str, Any] = {}
    with ServerProcess(str(arguments.run)) as server:
        port = server.port()
        answers(port, 0.5)  # warm
        for name in arguments.attack:
            for count in ATTACKERS:
                before = answers(port, seconds)
                with attackers(port, name, count):
                    during = answers(port, seconds)
                found[f"{name}, {count}"] = {"attack": name, "attackers": count, "before": before, "during": during}
                print(f"{name}, {count}: {before} {during}", file=sys.stderr, flush=True)
        code = server.stop()
    return {
        "environment": environment(machine) | origin(),
        "settings": {"seconds": seconds, "quick": arguments.quick},
        "note": "attackers, client and server shared the machine's cores with each other and with other work",
        "attacks": found,
        "exit_code": code,
    }


def report(measured: dict[str, Any]) -> str:
    """A table."""
    rows: Sequence[list[str]] = [
        [
            one["attack"],
            str(one["attackers"]),
            *(f"{one[when][name]:.1f}" for when in ("before", "during") for name in ("p50", "p99")),
            f"{one['during']['p99'] / one['before']['p99']:.1f}",
        ]
        for one in measured["attacks"].values()
    ]
    columns = [
        "attack",
        "attackers",
        "p50 ms before",
        "p99 ms before",
        "p50 ms during",
        "p99 ms during",
        "ratio of p99",
    ]
    device, day = measured["environment"]["device_name"], measured["environment"]["started_utc"][:10]
    return f"{markdown(columns, rows)}\n\n{device}, {day}; {measured['note']}."


def main() -> int:
    """Measure and keep, or show what was kept."""
    parser = options(__doc__)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement [6]")
    parser.add_argument("--attack", nargs="+", choices=list(ATTACKS), default=["1-byte chunks"], help="[1-byte chunks]")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
