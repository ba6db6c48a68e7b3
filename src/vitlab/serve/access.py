"""Who may ask: the Host header, the Origin of a page, the token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from vitlab.errors import ConfigError
from vitlab.serve.answers import Refusal

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
COOKIE = "vitlab"
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 256
READING = ("GET", "HEAD")


@dataclass(frozen=True)
class Access:
    """The host names that lead here, as the Host header spells them, and the token if there is one."""

    hosts: frozenset[str]
    token: str | None = None
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))  # a browser's stand-in for the token

    def check(self, scope: MutableMapping[str, Any]) -> None:
        """Refusal with 403 or 401 unless the request may go on; with 303 for a browser that brings the token."""
        headers = scope["headers"]
        host = self._checked_host(values(headers, b"host"), scope["server"])
        if scope["method"] not in READING:
            check_origin(headers, host)
        if self.token is None or scope["path"] == "/livez":
            return
        if scope["path"] == "/" and scope["method"] in READING and self._brings_token(scope["query_string"]):
            cookie = f"{COOKIE}={self.cookie}; HttpOnly; SameSite=Strict; Path=/"
            raise Refusal(303, "go on at /", [(b"location", b"/"), (b"set-cookie", cookie.encode())])
        if not self._known(headers):
            raise Refusal(401)

    def _checked_host(self, hosts: list[bytes], server: tuple[str, int | None] | None) -> bytes:
        """The Host header; 403 unless it is one of ours or the very address that the client has connected to.

        A page elsewhere can make its own name point here (DNS rebinding), but then Host says that name."""
        if len(hosts) == 1:
            name = hosts[0].lower().decode("latin-1")
            if name in self.hosts or name.rpartition(":")[0] in self.hosts:
                return hosts[0].lower()
            if server is not None and name in addresses(server[0], server[1]):
                return hosts[0].lower()
        raise Refusal(403)

    def _brings_token(self, query: bytes) -> bool:
        try:
            given = parse_qs(query.decode("ascii"), strict_parsing=True).get("token", [])
        except ValueError:
            return False
        return len(given) == 1 and self.is_token(given[0])

    def _known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether the request carries the token, or the cookie that a browser got for it."""
        for value in values(headers, b"authorization"):
            scheme, _, given = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and self.is_token(given.strip()):
                return True
        for value in values(headers, b"cookie"):
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if morsel is not None and hmac.compare_digest(morsel.value.encode(), self.cookie.encode()):
                return True
        return False

    def is_token(self, given: str) -> bool:
        """Whether it is the token, in a time that does not tell how much of it is right."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """All values of a header."""
    return [value for key, value in headers if key == name]


def check_origin(headers: list[tuple[bytes, bytes]], host: bytes) -> None:
    """Refusal with 403 when another site's page sends this; programs send neither header."""
    own = (b"http://" + host, b"https://" + host)  # https: behind a proxy
    if any(origin.lower() not in own for origin in values(headers, b"origin")):
        raise Refusal(403)
    if any(site not in (b"same-origin", b"none") for site in values(headers, b"sec-fetch-site")):
        raise Refusal(403)


def allowed_hosts(host: str, port: int, more: list[str]) -> frozenset[str]:
    """The Host headers that a server bound to ``host`` and ``port`` takes; ``more`` are the operator's, as they are."""
    names = [*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host.lower()]
    with_port = [f"{name}:{port}" for name in names]
    return frozenset(with_port + (names if port == 80 else []) + [name.lower() for name in more])


def addresses(host: str, port: int | None) -> tuple[str, ...]:
    """How a Host header may spell an address of this machine."""
    host = host.removeprefix("::ffff:")  # IPv4 that came in through IPv6
    name = f"[{host}]" if ":" in host else host
    return (f"{name}:{port}", name) if port == 80 else (f"{name}:{port}",)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_token(token: str | None, host: str) -> str | None:
    """The token as it is to be used; ConfigError for one that protects nothing, or for none where one is needed."""
    if token is None:
        if is_loopback(host):
            return None
        raise ConfigError(
            f"--host {host} lets other machines in, which needs a token; "
            f"set VITLAB_TOKEN or --token to {SHORTEST_TOKEN} or more characters that nobody can guess"
        )
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN or not token.isascii() or not all(map(is_plain, token)):
        raise ConfigError(
            f"the token must have {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits or signs of - . _ ~; "
            "`python -c 'import secrets; print(secrets.token_urlsafe())'` makes a good one"
        )
    return token


def is_plain(character: str) -> bool:
    """Whether it stands for itself in headers and addresses."""
    return character.isalnum() or character in "-._~"
