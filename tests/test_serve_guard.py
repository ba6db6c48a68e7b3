"""Bodies that lie, drip or never end, headers that never come, connections that are too many."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.serving import PNG, Running, ask, pictures, read_all, running, status, tiny_classifier, wait_for
from vitlab.predict import Classifier
from vitlab.serve.content import File
from vitlab.serve.limits import Limits
from vitlab.serve.server import is_whole_picture

MIB = 1 << 20


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """A classifier of 8 x 8 bars."""
    return tiny_classifier()


@pytest.fixture(scope="module")
def server(tiny: Classifier) -> Iterator[Running]:
    """A server whose patience is short."""
    limits: dict[str, Any] = dict(
        connections=31, header_seconds=0.5, body_seconds=0.4, linger_seconds=0.3, keep_alive_seconds=1
    )
    with running({"tiny": tiny}, **limits) as made:
        yield made
        assert made.notes == []


def head(server: Running, *lines: str, start: str = "POST /v1/predict HTTP/1.1") -> bytes:
    """The headers of a request."""
    return "\r\n".join([start, f"Host: 127.0.0.1:{server.port}", *lines, "", ""]).encode()


def test_a_body_that_claims_too_much_is_refused_before_it_is_read(server: Running) -> None:
    for length in (MIB + 1, 10**12, 10**19):
        answer = server.raw(head(server, f"Content-Length: {length}"))
        assert status(answer) == 413
        assert b"connection: close" in answer


def test_a_body_in_chunks_is_counted_as_it_comes(server: Running) -> None:
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    answer = server.raw(head(server, "Transfer-Encoding: chunked"), *[chunk] * 100)
    assert status(answer) == 413
    assert b"connection: close" in answer
    small = [b"1\r\nx\r\n" * 20] * 3 + [b"0\r\n\r\n"]
    answer = server.raw(head(server, "Transfer-Encoding: chunked", "Connection: close"), *small)
    assert status(answer) == 415
    assert server.server.guard.held == 0


def test_a_client_that_only_writes_still_sees_why_it_was_refused(server: Running) -> None:
    """Two mebibytes are written before anything is read; to close at once would reset the connection."""
    reply = server.ask("POST", "/v1/predict", bytes(2 * MIB), PNG)
    assert (reply.status, reply.headers["connection"]) == (413, "close")


def test_a_body_that_is_shorter_than_it_claims_ends_at_the_deadline(server: Running) -> None:
    began = time.monotonic()
    answer = server.raw(head(server, "Content-Length: 1000"), b"x" * 10)
    assert status(answer) == 408
    assert 0.3 < time.monotonic() - began < 3


def test_a_body_that_drips_ends_at_the_deadline_however_long_it_goes_on(server: Running) -> None:
    began = time.monotonic()
    answer = server.raw(head(server, "Content-Length: 1000"), *[b"x"] * 100, pause=0.02)
    assert status(answer) == 408
    assert time.monotonic() - began < 4
    answer = server.raw(head(server, "Transfer-Encoding: chunked"), *[b"1\r\nx\r\n"] * 60, pause=0.02)
    assert status(answer) == 408


def test_a_body_that_is_longer_than_it_claims_is_not_taken_for_a_request(server: Running) -> None:
    hidden = head(server, start="GET /v1/model HTTP/1.1")
    answer = server.raw(head(server, "Content-Length: 4"), b"4444" + b"garbage" + hidden)
    assert status(answer) == 415
    assert answer.split(b"HTTP/1.1 ")[2].startswith(b"4"), "garbageGET is not a method"
    assert b"models" not in answer


def test_length_and_chunks_together_cannot_hide_a_request(server: Running) -> None:
    both = head(server, "Content-Length: 5", "Transfer-Encoding: chunked")
    answer = server.raw(both, b"0\r\n\r\n" + head(server, "Connection: close", start="GET /livez HTTP/1.1"))
    assert answer.count(b"HTTP/1.1 ") <= 2
    assert b"HTTP/1.1 4" in answer


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 50, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00" * 9, b"GET /\xff HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1" + b"0" * 40 + b"\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 99_999 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_http_is_400(server: Running, garbage: bytes) -> None:
    answer = server.raw(garbage, b"\r\n\r\n")
    assert status(answer) == 400
    assert b'"error"' in answer
    assert server.ask("GET", "/livez").status == 200


def test_headers_that_drip_end_at_the_deadline(server: Running) -> None:
    began = time.monotonic()
    answer = server.raw(*[bytes([byte]) for byte in head(server)[:90]], pause=0.02)
    assert status(answer) == 408
    assert status(server.raw()) == 408, "a connection on which nothing comes"
    assert time.monotonic() - began < 6
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(head(server, start="GET /livez HTTP/1.1"))
        received = b""
        while not received.endswith(b'{"status":"alive"}'):
            received += wire.recv(65536)
        wire.sendall(b"GET /liv")
        assert status(read_all(wire)) == 408, "on a connection that has been used"


def test_two_requests_in_one_piece_are_both_answered(server: Running) -> None:
    first, last = head(server, start="GET /livez HTTP/1.1"), head(server, "Connection: close", start="GET /x HTTP/1.1")
    answer = server.raw(first + last)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404"]


def test_a_client_may_ask_whether_to_go_on(server: Running) -> None:
    (data,) = pictures(1)
    lines = (f"Content-Length: {len(data)}", "Content-Type: image/png", "Expect: 100-continue", "Connection: close")
    answer = server.raw(head(server, *lines), data)
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200 " in answer
    refused = server.raw(head(server, "Content-Length: 9999999", "Expect: 100-continue"))
    assert status(refused) == 413, "no invitation to send it"


def test_a_body_on_a_reading_request_is_counted_too(server: Running) -> None:
    start = "GET /livez HTTP/1.1"
    assert status(server.raw(head(server, "Content-Length: 3", "Connection: close", start=start), b"abc")) == 200
    assert status(server.raw(head(server, "Content-Length: 9999999", start=start))) == 413


def test_connections_beyond_the_limit_are_refused_at_once(server: Running) -> None:
    wires = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(31)]
    try:
        wait_for(lambda: len(server.server.server_state.connections) >= 31)
        answer = server.raw()
        assert status(answer) == 503
        assert b"retry-after: 1" in answer
    finally:
        for wire in wires:
            wire.close()
    wait_for(lambda: not server.server.server_state.connections)
    assert server.ask("GET", "/livez").status == 200


def test_all_bodies_together_have_a_limit(tiny: Classifier) -> None:
    with running({"tiny": tiny}, held=100_000, body_seconds=3.0) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
            wire.sendall(head(server, "Content-Length: 90000") + bytes(80_000))
            wait_for(lambda: server.server.guard.held >= 80_000)
            assert server.predict(bytes(50_000)).status == 503
        wait_for(lambda: server.server.guard.held == 0)
        assert server.predict(bytes(50_000)).status == 415


def test_a_client_that_does_not_read_is_left(tiny: Classifier) -> None:
    large = File.of("large.json", bytes(30 * MIB))
    with running({"tiny": tiny}, {"/large.json": large}, write_seconds=0.3) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
            wire.sendall(head(server, start="GET /large.json HTTP/1.1"))
            wait_for(lambda: len(server.server.server_state.connections) == 1)
            wait_for(lambda: not server.server.server_state.connections)
        assert server.ask("GET", "/large.json").body == large.data


def test_limits_follow_what_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (100, 4096))
    assert [Limits(connections=n).connections_here() for n in (17, 512)] == [17, 68]


def test_a_full_server_refuses_a_whole_picture_without_parsing_it_and_goes_on(tiny: Classifier) -> None:
    (data,) = pictures(1)
    with running({"tiny": tiny}, queue=1) as server, server.server.models.served["tiny"].batcher.place():
        length = f"Content-Length: {len(data)}"
        whole = head(server, length, "Content-Type: image/png") + data
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
            for _ in range(3):  # on one connection
                wire.sendall(whole)
                answer = wire.recv(65536)
                assert status(answer) == 503
                assert b"retry-after: 1" in answer
                assert b"connection: close" not in answer
            assert b"x-request-id" not in answer, "it was not parsed"
            wire.sendall(head(server, "Connection: close", start="GET /livez HTTP/1.1"))
            assert status(read_all(wire)) == 200
        assert b"x-request-id" in server.raw(whole[:-1], whole[-1:] + b"", pause=0.1), "in two pieces it is"
        assert server.server.models.served["tiny"].batcher.pending == 1


@pytest.mark.parametrize(
    ("data", "whole"),
    [(b"POST /v1/predict HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", True),
     (b"POST /v1/predict?top=1 HTTP/1.1\r\ncontent-length:2\r\nHost: x\r\n\r\nab", True),
     (b"POST /v1/predict HTTP/1.1\r\nContent-Length: 2\r\n\r\na", False),
     (b"POST /v1/predict HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET /", False),
     (b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n\r\n", False),
     (b"POST /v1/predict HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", False),
     (b"POST /v1/predict HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab", False),
     (b"POST /v1/predict HTTP/1.1\r\n\r\nContent-Length: 0\r\n\r\n", False),
     (b"GET /v1/predict HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", False),
     (b"POST /v1/predict", False), (b"", False)],
)  # fmt: skip
def test_only_one_whole_request_is_refused_unparsed(data: bytes, whole: bool) -> None:
    assert is_whole_picture(data) == whole


def test_a_request_that_is_under_way_when_the_stop_comes_is_answered(tiny: Classifier) -> None:
    with running({"tiny": tiny}, silence_seconds=2.0) as server, closing(server.connect()) as connection:
        assert ask(connection, "GET", "/livez").status == 200
        server.server.should_exit = True
        wait_for(lambda: server.server.guard.draining)
        time.sleep(0.2)
        reply = ask(connection, "POST", "/v1/predict", pictures(1)[0], PNG)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
