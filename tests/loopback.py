"""Servers on this machine's loopback that send the right bytes, or misbehave in every way we know.

with serve({"/file": ok(body), "/other": silent}) as (base, hits):
    ...  # base is http://127.0.0.1:PORT, hits the paths that were asked for
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator

Reply = Callable[[socket.socket, threading.Event], None]


def _header(status: str, length: int | None, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def ok(body: bytes, content_type: str = "application/octet-stream", length: int | None = None) -> Reply:
    """Send ``body``, with a Content-Length of ``length`` where that is to be a lie."""
    stated = len(body) if length is None else length

    def reply(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(_header("200 OK", stated, f"Content-Type: {content_type}") + body)

    return reply


def not_found(connection: socket.socket, stop: threading.Event) -> None:
    """Answer 404, with a page."""
    connection.sendall(_header("404 Not Found", 4) + b"gone")


def silent(connection: socket.socket, stop: threading.Event) -> None:
    """Accept and send nothing."""
    stop.wait()


def drip_body(connection: socket.socket, stop: threading.Event) -> None:
    """A good header, then a byte ten times a second."""
    connection.sendall(_header("200 OK", 99))
    while not stop.wait(0.1):
        connection.sendall(b"x")


def drip_chunk_size(connection: socket.socket, stop: threading.Event) -> None:
    """A chunked answer whose first chunk size never ends: a reader of lines waits for ever."""
    connection.sendall(_header("200 OK", None, "Transfer-Encoding: chunked"))
    while not stop.wait(0.1):
        connection.sendall(b"0")


def drip_header(connection: socket.socket, stop: threading.Event) -> None:
    """A header that never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not stop.wait(0.1):
        connection.sendall(b"x")


def endless(connection: socket.socket, stop: threading.Event) -> None:
    """No length, and zeros for ever."""
    connection.sendall(_header("200 OK", None))
    while not stop.is_set():
        connection.sendall(bytes(1 << 16))


def reset(body: bytes) -> Reply:
    """Half of ``body``, then a reset instead of an end."""

    def reply(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(_header("200 OK", len(body)) + body[: len(body) // 2])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return reply


def redirect(url: str) -> Reply:
    """Send the client elsewhere."""

    def reply(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(_header("302 Found", 0, f"Location: {url}"))

    return reply


@contextlib.contextmanager
def serve(routes: dict[str, Reply]) -> Iterator[tuple[str, list[str]]]:
    """A server of ``routes`` for the time of the block: its address, and the list of paths asked for."""
    stop = threading.Event()
    hits: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request = b""
            while b"\r\n\r\n" not in request:
                received = self.request.recv(65536)
                if not received:
                    return
                request += received
            path = request.split(b" ")[1].decode()
            hits.append(path)
            with contextlib.suppress(OSError):  # the client may leave at any time
                routes.get(path, not_found)(self.request, stop)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", hits
        finally:
            stop.set()
            server.shutdown()


def closed_port() -> str:
    """The address of a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
