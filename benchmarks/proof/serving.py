"""A served model for the attacks over HTTP: raw requests, their answers, and what no answer may hold."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.proof.context import Context
from benchmarks.serve_process import ServerProcess

SECONDS = 15.0  # within which every request must be answered or its connection closed
SILENCE = 0.3
TOKEN = "correct-horse-battery-staple"
MARK = b"zqXmarkXqz"  # sent in many places; no refusal may repeat it
LEAK = re.compile(
    rb"Traceback|File \"|\.py\b|Exception|[a-z]Error\b|site-packages|0x[0-9a-f]{8}|line \d+ column|char \d+\)"
    rb"|NoneType|numpy|array element|inhomogeneous|recursion|Expecting|delimiter|digits\b"
)
PIXELS = b'{"pixels": [[0, 255, 9], [8, 7, 6], [200, 3, 99]]}'


@contextmanager
def served(context: Context, *words: str, **environment: str) -> Iterator[tuple[ServerProcess, int]]:
    """`vitlab serve` of the unbroken run, and its port."""
    with ServerProcess(str(context.unbroken), *words, OMP_WAIT_POLICY="passive", **environment) as server:
        yield server, server.port()


def request(port: int, method: str = "POST", path: str = "/v1/predict", body: bytes = PIXELS, **headers: str) -> bytes:
    """The bytes of a well-formed request that ends its connection; ``headers`` with _ for -, "" leaves one out."""
    usual = {"Host": f"127.0.0.1:{port}", "Connection": "close"}
    if method == "POST":
        usual |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    given = usual | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (body if method == "POST" else b"")


def exchange(port: int, data: bytes, half_close: bool = False, seconds: float = SECONDS) -> bytes | None:
    """Everything that comes back until the connection ends; None when it does not end in time.

    ``half_close``: after a moment of silence say that nothing more will come, so the server need not wait for the rest.
    """
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
            connection.sendall(data)
            if half_close and not select.select([connection], [], [], SILENCE)[0]:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
                if half_close and not select.select([connection], [], [], SILENCE)[0]:
                    connection.shutdown(socket.SHUT_WR)
    except TimeoutError:
        return None
    except OSError:  # reset: the server has closed while we were sending
        pass
    return received


def statuses(received: bytes) -> list[int]:
    """The statuses of all answers on a connection."""
    return [int(found) for found in re.findall(rb"(?:^|(?<=[}\n]))HTTP/1\.1 (\d{3}) ", received)]


def fault_in(received: bytes | None) -> str:
    """What is wrong with the bytes that a hostile request got back, or nothing."""
    if received is None:
        return "hang: no end within 15 s"
    codes = statuses(received)
    if bad := [code for code in codes if code >= 500 and code not in (503, 504)]:
        return f"status {bad[0]}"
    if received and not codes:
        return "no status line"
    if codes and min(codes) >= 400:
        body = received.partition(b"\r\n\r\n")[2]
        if found := LEAK.search(body):
            return f"leak: {found[0].decode('latin-1')!r} in a refusal"
        if MARK in received:
            return "echo: a refusal repeats what was sent"
    return ""


def is_well(port: int) -> str:
    """Whether the server still answers as it should; what is wrong, or nothing."""
    for data in (request(port, "GET", "/livez"), request(port)):
        answer = exchange(port, data)
        if answer is None or statuses(answer) != [200]:
            return (
                f"not well: after the attack {data.split(maxsplit=2)[1].decode()} gets {(answer or b'nothing')[:40]!r}"
            )
    return ""
