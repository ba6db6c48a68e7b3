"""Clients that drip, that send tiny chunks, that send too much, that are too many: normal ones must hardly notice."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.proof.context import Context, Figures, figures
from benchmarks.proof.serving import TOKEN, exchange, is_well, request, served, statuses
from benchmarks.serve_clients import load

# A p99 is good below the one, or below that many times the p99 before; attackers, clients and server share the cores.
GOOD_MS, TIMES_SLOWER = 250.0, 5.0
CHUNKS = b"1\r\na\r\n" * 5000


def percentile_ms(port: int, seconds: float, rate: float = 20.0) -> float:
    """The 99th percentile in ms of normal answers at a steady rate; infinite if one is missing."""
    tally = load(port, [request(port, Connection="keep-alive", Authorization=f"Bearer {TOKEN}")], 8, seconds, rate)
    times = [answered - due for due, _, answered, status in tally.answers if status == 200]
    if tally.unanswered or len(times) < len(tally.answers) or not times:
        return float("inf")
    return round(1000 * float(np.percentile(times, 99)), 1)


@contextmanager
def dripping(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that each send a byte of a request now and then, and open again when they are closed."""
    data = request(port)[:60] + b"X-Slow: " + b"a" * 9000
    stop, sockets = threading.Event(), list[socket.socket]()

    def drip() -> None:
        position = dict[int, int]()
        while not stop.is_set():
            for number in range(count):
                if stop.is_set():
                    break
                if len(sockets) <= number:
                    sockets.append(socket.create_connection(("127.0.0.1", port), timeout=5))
                try:
                    at = position.get(number, 0)
                    sockets[number].send(data[at : at + 1])
                    position[number] = at + 1
                except OSError:
                    sockets[number].close()
                    with contextlib.suppress(OSError):
                        sockets[number] = socket.create_connection(("127.0.0.1", port), timeout=5)
                    position[number] = 0
            stop.wait(0.5)

    with running(drip, 1):
        try:
            time.sleep(1.5)
            yield sockets
        finally:
            stop.set()
    for one in sockets:
        one.close()


@contextmanager
def chunking(port: int, clients: int) -> Iterator[None]:
    """Clients that send bodies as chunks of one byte, without a pause."""
    stop = threading.Event()
    head = request(port, body=b"", Transfer_Encoding="chunked", Content_Length="")

    def send() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    connection.sendall(head)
                    for _ in range(200):
                        if stop.is_set():
                            break
                        connection.sendall(CHUNKS)
            except OSError:
                stop.wait(0.05)

    with running(send, clients):
        try:
            time.sleep(1.0)
            yield
        finally:
            stop.set()


@contextmanager
def running(work: object, count: int) -> Iterator[None]:
    """``count`` threads that do something while the body runs; they end by themselves after it."""
    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        pass
    for thread in threads:
        thread.join(10)


def too_much(port: int) -> list[str]:
    """Bodies beyond the limit, announced, chunked or simply sent; what is wrong with their answers."""
    large = bytes((1 << 20) + 1)
    chunked = b"".join(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(40)) + b"0\r\n\r\n"
    cases = {
        "a body of 1 MiB and a byte": request(port, body=large, Content_Type="image/png"),
        "an announced body of 1 TB": request(port, body=b"", Content_Length=str(10**12)),
        "2.5 MiB in chunks": request(port, body=b"", Transfer_Encoding="chunked", Content_Length="") + chunked,
    }
    wrong = []
    for name, data in cases.items():
        codes = statuses(exchange(port, data) or b"")
        wrong.append("" if codes[:1] in ([413], [411], [400]) else f"body limit: {name} got {codes[:1] or 'no answer'}")
    return wrong


def too_many(port: int, clients: int) -> tuple[str, Counter[int]]:
    """More pictures at once than the queue takes: some are refused, none is lost."""
    tally = load(port, [request(port, Connection="keep-alive")], clients, 2.0)
    codes = Counter(status for *_, status in tally.answers)
    if tally.unanswered or set(codes) - {200, 503}:
        return f"overload: {len(tally.unanswered)} unanswered, statuses {dict(codes)}", codes
    if not codes[503] or not codes[200]:
        return f"overload: a queue of 2 took {clients} clients with {dict(codes)}", codes
    return "", codes


def attack(context: Context) -> Figures:
    """Each kind of client beside normal ones."""
    seconds, failures, p99 = context.size(8, 2), [], dict[str, float]()

    def judge(name: str) -> None:
        good = p99[name] <= max(GOOD_MS, TIMES_SLOWER * p99["alone"])
        failures.append("" if good else f"slowed: p99 {p99['alone']} ms alone, {p99[name]} ms beside {name}")

    with served(context, VITLAB_TOKEN=TOKEN) as (server, port):
        percentile_ms(port, 1)
        p99["alone"] = percentile_ms(port, seconds)
        with dripping(port, 400):
            p99["400 dripping clients"] = percentile_ms(port, seconds)
        judge("400 dripping clients")
        for clients in () if context.quick else (1, 4, 16):
            name = f"{clients} with tiny chunks"
            with chunking(port, clients):
                p99[name] = percentile_ms(port, seconds)
            judge(name)
        failures.append(f"exit {code}: of the server" if (code := server.stop()) else "")
    with served(context, "--queue", "2") as (server, port):
        before = server.memory()["now"]
        failures += too_much(port)
        wrong, codes = too_many(port, 64)
        grown = round(server.memory()["peak"] - before, 1)
        failures += [wrong, is_well(port), f"memory: {grown} MiB more" if grown > 200 else ""]
    overload = {str(status): count for status, count in codes.items()}
    return figures(failures, len(failures), p99_ms=p99, overload=overload, grown_mib=grown)
