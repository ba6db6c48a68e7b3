"""What reaches the routes and what does not: hosts, origins, tokens; bodies that lie, drip or never end."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.serving import PNG, Running, ask, pictures, read_all, running, tiny_classifier, wait_for
from vitlab.errors import ConfigError
from vitlab.predict import Classifier
from vitlab.web.access import allowed_hosts, checked_token, is_loopback
from vitlab.web.limits import Limits
from vitlab.web.pages import File

TOKEN = "correct-horse-battery"
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


@pytest.fixture(scope="module")
def closed(tiny: Classifier) -> Iterator[Running]:
    """A server that asks for a token."""
    with running({"tiny": tiny}, token=TOKEN) as made:
        yield made


def head(server: Running, *lines: str, start: str = "POST /v1/predict HTTP/1.1") -> bytes:
    """The headers of a request."""
    return "\r\n".join([start, f"Host: 127.0.0.1:{server.port}", *lines, "", ""]).encode()


def status(answer: bytes) -> int:
    """The status of the first response in what was read from a socket."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:99]
    return int(answer.split()[1])


# ---------------------------------------------------------------- who may ask


GOOD_HOSTS = ("127.0.0.1:{}", "localhost:{}", "LOCALHOST:{}", "[::1]:{}", "vitlab.example", "vitlab.example:1")
BAD_HOSTS = ("evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "localhost", "localhost.evil.example:{}",
             "127.0.0.1:{}.evil.example", "", "127.0.0.2:{}", "evil@localhost:{}", "localhost:{}/x")  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_methods_hosts_and_origins(server: Running, method: str) -> None:
    """Every combination; only those that should pass do."""
    own = "http://127.0.0.1:{}"
    origins = (None, own, "https://127.0.0.1:{}", "null", "http://evil.example", "http://127.0.0.1:1",
               "http://127.0.0.1:{}.evil.example", "http://127.0.0.1", "file://", "")  # fmt: skip
    passed, wrong = 0, []
    body = pictures(1)[0] if method == "POST" else None
    with closing(server.connect()) as connection:
        for host, origin in itertools.product(GOOD_HOSTS + BAD_HOSTS, origins):
            headers = {"Host": host.format(server.port)} | (PNG if body else {})
            if origin is not None:
                headers["Origin"] = origin.format(server.port)
            path = "/v1/predict" if method in ("POST", "OPTIONS", "PUT", "DELETE") else "/livez"
            reply = ask(connection, method, path, body, headers)
            same = origin is not None and headers["Origin"].split("//")[-1] == headers["Host"].lower()
            allowed = host in GOOD_HOSTS and (origin is None or same or method in ("GET", "HEAD"))
            passed += allowed
            if (reply.status != 403) != allowed:
                wrong.append((host, origin, reply.status))
    assert wrong == []
    assert passed >= 6


def test_a_browser_that_says_the_request_is_cross_site_is_believed(server: Running) -> None:
    (data,) = pictures(1)
    for site, expected in (("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)):
        assert server.ask("POST", "/v1/predict", data, PNG | {"Sec-Fetch-Site": site}).status == expected
    assert server.ask("GET", "/livez", headers={"Sec-Fetch-Site": "cross-site"}).status == 200


def test_two_hosts_or_none_are_refused(server: Running) -> None:
    good = f"Host: localhost:{server.port}"
    assert status(server.raw(b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")) in (400, 403)
    two = f"GET /livez HTTP/1.1\r\n{good}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert status(server.raw(two.encode())) in (400, 403)


def test_a_server_on_all_addresses_answers_to_the_address_that_was_called(tiny: Classifier) -> None:
    with running({"tiny": tiny}, token=TOKEN, host="0.0.0.0") as server:
        for host, expected in ((f"127.0.0.1:{server.port}", 200), (f"10.1.2.3:{server.port}", 403), ("evil", 403)):
            assert server.ask("GET", "/livez", headers={"Host": host}).status == expected


def test_with_a_token_all_but_livez_asks_for_it(closed: Running) -> None:
    (data,) = pictures(1)
    wrong = [{}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Bearer {TOKEN[:-1]}"},
             {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}, {"Authorization": "Bearer"},
             {"Authorization": "Bearer \xe9"}, {"Cookie": f"vitlab={TOKEN}"}, {"Cookie": "vitlab="},
             {"Cookie": "\x01;;=,"}]  # fmt: skip
    routes = [("GET", "/"), ("GET", "/v1/model"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json"),
              ("POST", "/v1/predict"), ("GET", "/nonsense"), ("GET", "/models.json"), ("HEAD", "/")]  # fmt: skip
    for (method, path), headers in itertools.product(routes, wrong):
        reply = closed.ask(method, path, data if method == "POST" else None, headers)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer"), (path, headers)
    assert closed.ask("GET", "/livez").status == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert closed.ask("GET", "/v1/model", headers=right).status == 200
    assert closed.ask("POST", "/v1/predict", data, PNG | right).status == 200
    assert closed.ask("GET", "/nonsense", headers={"Authorization": f"bearer {TOKEN}"}).status == 404


def test_a_browser_brings_the_token_once_and_then_has_a_cookie(closed: Running) -> None:
    assert closed.ask("GET", f"/?token={TOKEN}x").status == 401
    assert closed.ask("GET", f"/?token={TOKEN}&token={TOKEN}").status == 401
    assert closed.ask("GET", f"/v1/model?token={TOKEN}").status == 401
    assert closed.ask("POST", f"/?token={TOKEN}", b"").status == 401
    reply = closed.ask("GET", f"/?token={TOKEN}")
    assert (reply.status, reply.headers["location"]) == (303, "/")
    cookie, *attributes = reply.headers["set-cookie"].split("; ")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert TOKEN not in cookie
    assert closed.ask("GET", "/v1/model", headers={"Cookie": cookie}).status == 200
    assert closed.ask("GET", "/v1/model", headers={"Cookie": f"other=1; {cookie}"}).status == 200
    assert closed.ask("GET", "/v1/model", headers={"Cookie": cookie[:-1]}).status == 401


@pytest.mark.parametrize(
    ("host", "token", "allowed"),
    [("127.0.0.1", None, True), ("127.9.9.9", None, True), ("localhost", None, True), ("::1", None, True),
     ("127.0.0.1", TOKEN, True), ("0.0.0.0", TOKEN, True), ("0.0.0.0", None, False), ("::", None, False),
     ("192.168.1.7", None, False), ("example.org", None, False), ("", None, False), ("127.0.0.1", "", False),
     ("127.0.0.1", "short", False), ("0.0.0.0", "x" * 257, False), ("0.0.0.0", "with a space in the middle", False),
     ("0.0.0.0", "unicode-\xe9-unicode-unicode", False)],
)  # fmt: skip
def test_which_addresses_may_do_without_a_token(host: str, token: str | None, allowed: bool) -> None:
    if allowed:
        assert checked_token(token, host) == token
        assert token is not None or is_loopback(host)
    else:
        with pytest.raises(ConfigError, match="token"):
            checked_token(token, host)


def test_hosts_without_a_port_are_for_port_80() -> None:
    assert "localhost" in allowed_hosts("127.0.0.1", 80, [])
    assert "localhost" not in allowed_hosts("127.0.0.1", 8000, [])
    assert "[fe80::1]:8000" in allowed_hosts("fe80::1", 8000, [])


# ---------------------------------------------------------------- bodies


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
    small = [b"1\r\nx\r\n" * 10_000] * 3 + [b"0\r\n\r\n"]
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
    assert answer.split(b"HTTP/1.1 ")[2].startswith(b"4"), "garbageGET is no method"
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
    large = File.of("large.txt", bytes(30 * MIB))
    with running({"tiny": tiny}, {"/large.txt": large}, write_seconds=0.3) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
            wire.sendall(head(server, start="GET /large.txt HTTP/1.1"))
            wait_for(lambda: len(server.server.server_state.connections) == 1)
            wait_for(lambda: not server.server.server_state.connections)
        assert server.ask("GET", "/large.txt").body == large.data


def test_limits_follow_what_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (100, 4096))
    assert [Limits(connections=n).connections_here() for n in (17, 512)] == [17, 68]
