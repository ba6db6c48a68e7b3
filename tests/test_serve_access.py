"""Who may ask a server: hosts, origins, tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.serving import PNG, Running, ask, pictures, running, status, tiny_classifier
from vitlab.errors import ConfigError
from vitlab.predict import Classifier
from vitlab.serve.access import allowed_hosts, checked_token, is_loopback

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """A classifier of 8 x 8 bars."""
    return tiny_classifier()


@pytest.fixture(scope="module")
def server(tiny: Classifier) -> Iterator[Running]:
    """A server for this machine."""
    with running({"tiny": tiny}) as made:
        yield made
        assert made.notes == []


@pytest.fixture(scope="module")
def closed(tiny: Classifier) -> Iterator[Running]:
    """A server that asks for a token."""
    with running({"tiny": tiny}, token=TOKEN) as made:
        yield made


GOOD_HOSTS = ("127.0.0.1:{}", "localhost:{}", "LOCALHOST:{}", "[::1]:{}", "vitlab.example", "vitlab.example:1",
              "localhost:9000", "127.0.0.1:1", "[::1]:65535", "localhost", "127.0.0.1")  # fmt: skip
BAD_HOSTS = ("evil.example", "evil.example:{}", "EVIL.example:{}", "localhost.evil.example:{}", "127.0.0.1.nip.io:{}",
             "127.0.0.1:{}.evil.example", "", "127.0.0.2:{}", "evil@localhost:{}", "localhost:{}/x",
             "localhost:9000@evil", "localhost.:{}", "localhost:", "localhost:0", "localhost:65536", "localhost:+1",
             "vitlab.example:x",
             "[::1", "::1:{}", "localhost:{}:1", ".localhost:{}", "127.1:{}", "2130706433:{}")  # fmt: skip


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


@pytest.mark.parametrize("port", [9000, 8080])
def test_the_page_works_through_a_forwarded_port(server: Running, port: int) -> None:
    """`ssh -L 9000:localhost:8000`: Host and Origin name the port of the tunnel."""
    (data,) = pictures(1)
    host = {"Host": f"localhost:{port}", "Sec-Fetch-Site": "same-origin"} | PNG
    assert server.ask("GET", "/livez", headers=host).status == 200
    for origin, expected in ((f"http://localhost:{port}", 200), ("http://localhost:1", 403), ("http://evil", 403)):
        reply = server.ask("POST", "/v1/predict", data, host | {"Origin": origin})
        assert reply.status == expected
        assert expected == 200 or "Origin header" in reply.json["error"]


def test_a_refused_host_is_explained_to_the_client_and_once_to_the_operator(tiny: Classifier) -> None:
    with running({"tiny": tiny}) as server:
        notes: list[str] = []
        object.__setattr__(server.server.guard.access, "note", notes.append)
        for host in ("lab.example:8000", "lab.example:9", "\x1b[2Jx", "a$b", "x" * 300, "LAB.example"):
            reply = server.ask("GET", "/", headers={"Host": host})
            assert reply.status == 403
            assert "Host header" in reply.json["error"]
            assert "--allow-host" in reply.json["error"]
            assert "lab" not in reply.json["error"].replace("vitlab", "")
        assert len(notes) == 1
        assert "--allow-host lab.example" in notes[0]
        for number in range(100):
            server.ask("GET", "/", headers={"Host": f"h{number}.example"})
        assert len(notes) == 20


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


def test_a_given_host_without_a_port_is_for_port_80() -> None:
    assert "vitlab.lan" in allowed_hosts("vitlab.lan", 80, [])
    assert "vitlab.lan" not in allowed_hosts("vitlab.lan", 8000, [])
    assert "[fe80::1]:8000" in allowed_hosts("fe80::1", 8000, [])
