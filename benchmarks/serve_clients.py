"""Many connections to a server on loopback, from one thread; used by the benchmark and the tests of stopping."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Check = Callable[[int, int, bytes], None]  # number of the request, status, body

PATIENCE = 20.0  # of a client, in seconds


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

    def connect(self) -> None:
        """Open it, if it is not open; ConnectionRefusedError when nobody listens."""
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Of the socket."""
        assert self.socket is not None
        return self.socket.fileno()

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """(status, body); an OSError when no answer came."""
        self.connect()
        assert self.socket is not None
        self.socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.more()
        head, _, body = received.partition(b"\r\n\r\n")
        while len(body) < length_of(head):
            body += self.more()
        return int(head[9:12]), body

    def more(self) -> bytes:
        """Some bytes; ConnectionResetError at the end of the connection."""
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


def length_of(head: bytes) -> int:
    """The content length that the head of a response names."""
    return int(re.findall(rb"(?i)content-length: (\d+)", head)[0])


@dataclass
class Tally:
    """What happened to requests: (due, begun, answered, status) of each, in seconds; those without an answer."""

    start: float = 0.0
    answers: list[tuple[float, float, float, int]] = field(default_factory=list)
    refused_connections: int = 0
    unanswered: list[str] = field(default_factory=list)

    def of_status(self, status: int) -> list[tuple[float, float, float, int]]:
        """The answers of one status."""
        return [answer for answer in self.answers if answer[3] == status]


class Client(Wire):
    """A connection that does not wait: `send`, then `receive` whenever bytes have come, until there is a response."""

    def send(self, request: bytes, number: int, due: float) -> None:
        """Begin request ``number``; ConnectionRefusedError when nobody listens."""
        self.connect()
        self.number, self.due, self.began = number, due, time.perf_counter()
        self.unsent, self.received = memoryview(request), b""
        self.push()

    def push(self) -> None:
        """Write what the connection takes now."""
        assert self.socket is not None
        self.socket.setblocking(False)
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # the other side has closed; its answer may have come before
            self.unsent = self.unsent[:0]

    def receive(self) -> tuple[int, bytes] | None:
        """(status, body), or None if more has to come; an OSError when the connection ends before."""
        self.received += self.more()
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < length_of(head):
            return None
        if b"connection: close" in head.lower():
            self.close()
        return int(head[9:12]), body


class Load:
    """See `load`."""

    def __init__(self, port: int, requests: Sequence[bytes], clients: int, check: Check) -> None:
        self.requests, self.check = requests, check
        self.idle = [Client(port) for _ in range(clients)]
        self.selector = selectors.DefaultSelector()
        self.busy: set[Client] = set()
        self.tally = Tally()

    def run(self, seconds: float, rate: float | None, most: int) -> Tally:
        """Ask until time, requests or clients are used up, and all answers are there."""
        start, number = time.perf_counter(), 0
        while True:
            now = time.perf_counter()
            due = start + number / rate if rate else now
            over = due > start + seconds or now > start + 2 * seconds or number >= most
            if not over and self.idle and due <= now:
                self.begin(self.idle.pop(), number, due)
                number += 1
                continue
            if not self.busy and (over or not self.idle):
                break
            self.wait(max(0.0, due - now) if self.idle and not over else PATIENCE)
        for client in self.idle:
            client.close()
        self.tally.start = start
        return self.tally

    def begin(self, client: Client, number: int, due: float) -> None:
        """Send a request; a client that finds nobody to connect to has done its work."""
        try:
            client.send(self.requests[number % len(self.requests)], number, due)
        except ConnectionRefusedError:
            self.tally.refused_connections += 1
            return
        self.busy.add(client)
        writing = selectors.EVENT_WRITE if client.unsent else 0
        self.selector.register(client, selectors.EVENT_READ | writing, client)

    def wait(self, seconds: float) -> None:
        """Deal with what comes in so many seconds at most; if nothing does in all its patience, nothing will."""
        events = self.selector.select(seconds)
        for key, _ in events:
            self.go_on(key.data)
        if not events and seconds == PATIENCE:
            for client in list(self.busy):
                self.end(client, "no answer in time")

    def go_on(self, client: Client) -> None:
        """Write and read what is possible."""
        descriptor = client.fileno()
        if client.unsent:
            client.push()
            if not client.unsent:
                self.selector.modify(client, selectors.EVENT_READ, client)
        try:
            response = client.receive()
        except BlockingIOError:
            return
        except OSError as error:
            self.end(client, repr(error))
            return
        if response is not None:
            ended = time.perf_counter()
            self.selector.unregister(descriptor)
            self.busy.discard(client)
            self.idle.append(client)
            self.check(client.number, *response)
            self.tally.answers.append((client.due, client.began, ended, response[0]))

    def end(self, client: Client, reason: str) -> None:
        """A request that was sent has no answer."""
        self.selector.unregister(client)
        self.busy.discard(client)
        client.close()
        self.idle.append(client)
        self.tally.unanswered.append(reason)


def load(
    port: int,
    requests: Sequence[bytes],
    clients: int,
    seconds: float,
    rate: float | None = None,
    check: Check = lambda number, status, body: None,
    most: int = 10**9,
) -> Tally:
    """``clients`` connections ask for some seconds, for ``most`` requests, or until the server stops listening.

    Without ``rate`` each asks as soon as it has its answer (closed loop). With it, requests become due evenly, so many
    a second (open loop); a request that no connection has time for waits, and its wait counts.
    """
    return Load(port, requests, clients, check).run(seconds, rate, most)
