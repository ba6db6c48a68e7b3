"""What a body costs: bytes are counted before anything parses them, and a refused request is parsed no further."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import h11
import pytest

from tests.serving import PNG, Running, pictures, read_all, running, status, tiny_classifier, wait_for
from vitlab.predict import Classifier
from vitlab.serve.answers import Refusal
from vitlab.serve.body import Body, framing

MIB = 1 << 20
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """A classifier of 8 x 8 bars."""
    return tiny_classifier()


@pytest.fixture(scope="module")
def server(tiny: Classifier) -> Iterator[Running]:
    """A server whose patience is short."""
    limits: dict[str, Any] = dict(header_seconds=1.0, body_seconds=1.0, linger_seconds=0.3, linger=2 * MIB)
    with running({"tiny": tiny}, **limits) as made:
        yield made
        assert made.notes == []
        assert made.server.guard.held == 0


@pytest.fixture(scope="module")
def closed(tiny: Classifier) -> Iterator[Running]:
    """A server that asks for a token."""
    with running({"tiny": tiny}, token=TOKEN, linger_seconds=0.3) as made:
        yield made


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of everything that h11 parses, in any connection."""
    sizes: list[int] = []
    receive = h11.Connection.receive_data

    def counting(self: h11.Connection, data: bytes) -> None:
        sizes.append(len(data))
        receive(self, data)

    monkeypatch.setattr(h11.Connection, "receive_data", counting)
    return sizes


def head(server: Running, *lines: str, start: str = "POST /v1/predict HTTP/1.1", host: str | None = None) -> bytes:
    """A request line and headers."""
    return "\r\n".join([start, f"Host: {host or f'127.0.0.1:{server.port}'}", *lines, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"
TINY = {
    "1 byte": b"1\r\na\r\n",
    "2 bytes": b"2\r\nab\r\n",
    "17 bytes": b"11\r\n" + b"a" * 17 + b"\r\n",
    "extension": b"1;a=b\r\na\r\n",
    "leading zeros": b"0000001\r\na\r\n",
}


@pytest.mark.parametrize("chunk", TINY.values(), ids=TINY)
def test_a_body_in_tiny_chunks_is_refused_at_once_and_h11_sees_none_of_them(
    server: Running, parsed: list[int], chunk: bytes
) -> None:
    start = head(server, CHUNKED)
    answer = server.raw(start, chunk * 20_000)
    assert status(answer) == 413
    assert b"Content-Length" in answer, "the way out"
    assert b"connection: close" in answer
    assert parsed == [len(start)]


REFUSED = {
    "token": (["X: y"], "POST /v1/predict HTTP/1.1", None, 401),
    "host": (["X: y"], "POST /v1/predict HTTP/1.1", "evil.example", 403),
    "origin": (["Origin: http://evil.example"], "POST /v1/predict HTTP/1.1", None, 403),
}


@pytest.mark.parametrize(("lines", "start", "host", "expected"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("framed", [CHUNKED, "Content-Length: 1000000"])
def test_nothing_of_the_body_of_a_refused_request_is_parsed(
    closed: Running, parsed: list[int], lines: list[str], start: str, host: str | None, expected: int, framed: str
) -> None:
    request = head(closed, framed, *lines, start=start, host=host)
    answer = closed.raw(request + b"1\r\na\r\n" * 10_000, b"1\r\na\r\n" * 10_000)
    assert status(answer) == expected
    assert parsed == [len(request)]


@pytest.mark.parametrize("path", ["/v1/predict", "/nonsense", "/livez"])
def test_tiny_chunks_are_refused_whatever_the_answer_would_be(server: Running, parsed: list[int], path: str) -> None:
    request = head(server, CHUNKED, "Content-Type: text/html", start=f"PUT {path} HTTP/1.1")
    assert status(server.raw(request, TINY["1 byte"] * 9_000)) == 413
    assert parsed == [len(request)]


@pytest.mark.parametrize("size", ["100001", "ffffffffff", "F" * 40])
def test_a_huge_chunk_is_refused_when_it_is_announced(server: Running, size: str) -> None:
    assert status(server.raw(head(server, CHUNKED), f"{size}\r\n".encode())) == 413


@pytest.mark.parametrize(
    "body",
    [b"-1\r\n", b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b" 5\r\nhello\r\n", b"5\nhello\n0\n\n", b"5\r\nhelloXX",
     b"\r\n", b"g\r\n", b"1;" + b"x" * 3000 + b"\r\na\r\n", b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"],
    ids=range(10),
)  # fmt: skip
def test_what_is_not_chunks_is_400_and_closed(server: Running, body: bytes) -> None:
    answer = server.raw(head(server, CHUNKED), body)
    assert status(answer) == 400
    assert b"connection: close" in answer


SMUGGLING = {
    "length and chunks": ["Content-Length: 5", CHUNKED],
    "chunks and length": [CHUNKED, "content-length: 0"],
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "one length twice": ["Content-Length: 5", "Content-Length: 5"],
    "a list of lengths": ["Content-Length: 5, 5"],
    "plus": ["Content-Length: +5"],
    "hexadecimal": ["Content-Length: 0x5"],
    "no length": ["Content-Length:"],
    "folded": ["Content-Length:\r\n 5"],
    "folded other": ["X: y\r\n z", "Content-Length: 5"],
    "chunks twice": [CHUNKED, CHUNKED],
    "other coding": ["Transfer-Encoding: gzip, chunked"],
    "identity": ["Transfer-Encoding: identity"],
    "vertical tab": ["Transfer-Encoding: \x0bchunked"],
    "bare line feed": ["X: y\nContent-Length: 5"],
    "bare carriage return": ["X: y\rContent-Length: 5"],
    "space before the colon": ["Content-Length : 5"],
}


@pytest.mark.parametrize("lines", SMUGGLING.values(), ids=SMUGGLING)
def test_a_head_that_another_program_may_read_differently_is_400_and_closed(server: Running, lines: list[str]) -> None:
    hidden = head(server, start="GET /v1/model HTTP/1.1")
    answer = server.raw(head(server, *lines) + b"0\r\n\r\n" + hidden)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


def test_chunks_in_http_1_0_are_400(server: Running) -> None:
    request = head(server, CHUNKED, start="POST /v1/predict HTTP/1.0")
    assert status(server.raw(request, b"0\r\n\r\n")) == 400


def test_a_body_in_chunks_of_a_sensible_size_is_answered_however_it_is_cut(server: Running, parsed: list[int]) -> None:
    (data,) = pictures(1)
    whole = b"".join(b"%X ; x=y\r\n%b\r\n" % (len(data[i : i + 31]), data[i : i + 31]) for i in range(0, len(data), 31))
    request = head(server, CHUNKED, "Content-Type: image/png", "Connection: close") + whole + b"0\r\n\r\n"
    for step in (len(request), 1, 7):
        answer = server.raw(*[request[i : i + step] for i in range(0, len(request), step)])
        assert status(answer) == 200, answer
    assert len(parsed) == 6, "each time the head and the whole body"


def test_a_body_in_tiny_segments_reaches_h11_in_one_piece(server: Running, parsed: list[int]) -> None:
    (data,) = pictures(1)
    start = head(server, f"Content-Length: {len(data)}", "Content-Type: image/png", "Connection: close")
    answer = server.raw(*[bytes([byte]) for byte in start + data])
    assert status(answer) == 200
    assert parsed == [len(start), len(data)]


def test_requests_sent_without_waiting_are_answered_in_their_order(server: Running) -> None:
    (data,) = pictures(1)
    chunked = head(server, CHUNKED, "Content-Type: image/png") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    sized = head(server, f"Content-Length: {len(data)}", "Content-Type: image/png") + data
    get, last = (head(server, *more, start="GET /livez HTTP/1.1") for more in ([], ["Connection: close"]))
    answer = server.raw(chunked + get + sized + get * 5 + last)
    assert answer.count(b"HTTP/1.1 200") == 9
    assert answer.count(b'"labels"') == 2
    assert answer.index(b"alive") > answer.index(b'"labels"')


def test_a_client_that_never_waits_for_answers_is_refused(server: Running, parsed: list[int]) -> None:
    get = head(server, start="GET /livez HTTP/1.1")
    answer = server.raw(get * 100)
    assert answer.count(b"HTTP/1.1 200") == len(parsed) == 17
    assert b"HTTP/1.1 429 " in answer
    assert server.raw(get * 10_000).count(b"HTTP/1.1 ") <= 1, "so much ahead of the answer ends the connection"


@pytest.mark.parametrize(("lines", "expected"), [([], 404), (["a: b"] * 200, 400)])
def test_refusals_take_turns_and_answers_do_not(tiny: Classifier, lines: list[str], expected: int) -> None:
    """A turn of a second: the first refusal comes at once, the next one waits, and meanwhile pictures are answered.
    A head that is refused unparsed waits, too."""
    with running({"tiny": tiny}, refusal_seconds=1.0) as server:
        request = head(server, *lines, "Connection: close", start="GET /nonsense HTTP/1.1")
        assert server.ask("GET", "/nonsense").status == 404
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
            wire.sendall(request)
            for data in pictures(7):
                assert server.predict(data).status == 200
            wire.setblocking(False)
            with pytest.raises(BlockingIOError):
                wire.recv(1)
            wire.setblocking(True)
            assert status(read_all(wire)) == expected


def test_a_refused_client_that_goes_on_sending_is_cut_off(server: Running) -> None:
    """Two mebibytes are thrown away; then the connection ends, although the client has sent no end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(head(server, CHUNKED, host="evil.example"))
        sent = sum(1 for _ in range(100) if sends(wire, bytes(MIB)))
    assert sent < 50


def sends(wire: socket.socket, data: bytes) -> bool:
    """Whether the other side still takes them."""
    try:
        wire.sendall(data)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("count", [101, 5000])
def test_too_many_headers_are_400_before_they_are_parsed(server: Running, parsed: list[int], count: int) -> None:
    answer = server.raw(head(server, *["a: b"] * count, start="GET /livez HTTP/1.1"))
    assert status(answer) == 400
    assert parsed == []
    assert status(server.raw(head(server, *["a: b"] * 50, "Connection: close", start="GET /livez HTTP/1.1"))) == 200


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(server: Running) -> None:
    (data,) = pictures(1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        lines = [f"Content-Length: {len(data)}", "Content-Type: image/png", "Expect: 100-continue", "Connection: close"]
        wire.sendall(head(server, *lines))
        assert wire.recv(100).startswith(b"HTTP/1.1 100 ")
        wire.sendall(data)
        assert status(read_all(wire)) == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(head(server, f"Content-Length: {2 * MIB}", "Expect: 100-continue"))
        assert status(read_all(wire)) == 413, "without having been told to go on"


@pytest.mark.parametrize("framed", [[], ["Content-Length: 0"], [CHUNKED]])
def test_a_picture_of_no_bytes_is_422(server: Running, framed: list[str]) -> None:
    body = b"0\r\n\r\n" if framed == [CHUNKED] else b""
    assert status(server.raw(head(server, *framed, "Connection: close") + body)) == 422


def test_a_client_that_leaves_in_the_middle_of_its_body_is_forgotten(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(head(server, "Content-Length: 1000") + b"x" * 500)
        wait_for(lambda: server.server.guard.held == 500)
    wait_for(lambda: server.server.guard.held == 0)
    assert server.ask("POST", "/v1/predict", pictures(1)[0], PNG).status == 200


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(b"", (False, 0)), (b"Content-Length: 0\r\n", (False, 0)), (b"content-LENGTH:7 \r\n", (True, 7)),
     (b"Transfer-Encoding: Chunked\r\n", (True, None)), (b"X-Content-Length: 7\r\n", (False, 0))],
)  # fmt: skip
def test_how_a_body_is_framed(lines: bytes, expected: tuple[bool, int | None]) -> None:
    assert framing(b"POST / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n") == expected


def test_chunks_cost_their_number() -> None:
    """64 chunks of any size, then one for each 256 bytes."""

    def read(chunks: bytes) -> Body:
        async def run() -> Body:
            body = Body(None, MIB, lambda: body.take(received))
            await body.read(MIB, lambda size: None)
            return body

        received = bytearray(chunks)
        return asyncio.run(run())

    assert read(TINY["1 byte"] * 63 + b"0\r\n\r\n").data == b"a" * 63
    with pytest.raises(Refusal, match="413"):
        read(TINY["1 byte"] * 64 + b"0\r\n\r\n")
    large = b"100\r\n" + b"b" * 256 + b"\r\n"
    assert read(large * 1000 + b"0\r\n\r\n").data == b"b" * 256_000
