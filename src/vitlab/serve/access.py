"""Where the server listens and who may use it: the port, the Host header, the origin of a page, the token.

Nothing heavy is imported here, so a port that is in use is reported at once.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from vitlab.errors import ConfigError
from vitlab.serve.answers import Refusal
from vitlab.text import quoted

BACKLOG = 1024
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
HOST = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")  # no dot at the end, no user
MOST_UNKNOWN = 20  # refused host names that are reported to the operator
LONGEST_NAME = 100
WRONG_HOST = (
    "the Host header of this request names a host that this server does not know; its operator can allow it with "
    "--allow-host NAME"
)
WRONG_ORIGIN = (
    "the {} header of this request names another site than its Host header; only pages of this server may send it, "
    "and a proxy must pass the Host header on (the operator then allows that name with --allow-host NAME)"
)
COOKIE = "vitlab"
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")
READING = ("GET", "HEAD")


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, which accepts no connections yet; ConfigError when that is impossible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"this machine has no address {host!r}; choose another --host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # otherwise a restart would wait for a minute
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, error) from None
    return listener


def listen(listener: socket.socket) -> None:
    """Start accepting connections; ConfigError if another program was faster."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        listener.close()
        raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"port {port} of {host} is in use by another program; choose another --port")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{host} is not an address of this machine; choose another --host")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} is reserved by the system; choose a --port from 1024")
    return ConfigError(f"cannot listen on port {port} of {host} ({error.strerror}); choose another --port or --host")


def address_of(listener: socket.socket, host: str) -> str:
    """The address to type into a browser."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{listener.getsockname()[1]}/"


def allowed_hosts(host: str, port: int, more: list[str]) -> frozenset[str]:
    """The Host headers that a server bound to ``host`` and ``port`` accepts; ``more`` are the operator's, unchanged.

    A loopback name is accepted with any port: the port of a tunnel (`ssh -L`, `docker -p`) is not the server's, and
    another site cannot send such a name.
    """
    own = f"[{host}]" if ":" in host else host.lower()
    with_port = [f"{own}:{port}", *([own] if port == 80 else [])]
    return frozenset([*LOOPBACK_NAMES, *with_port, *(name.lower() for name in more)])


def split_host(header: str) -> tuple[str, int | None] | None:
    """Name and port of a Host header in lower case; None if it is not a name with or without a port."""
    found = HOST.fullmatch(header)
    if found is None:
        return None
    port = None if found[2] is None else int(found[2])
    return None if port is not None and not 1 <= port <= 65535 else (found[1], port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_token(token: str | None, host: str) -> str | None:
    """The token to use; ConfigError for one that is too weak, or for none where one is needed."""
    if token is None:
        if is_loopback(host):
            return None
        raise ConfigError(
            f"--host {host} lets other machines connect, which needs a token; set VITLAB_TOKEN or --token to 16 or "
            "more characters that nobody can guess"
        )
    if not TOKEN.fullmatch(token):
        raise ConfigError(
            "the token must have 16 to 256 letters, digits or characters of - . _ ~; "
            "`python -c 'import secrets; print(secrets.token_urlsafe())'` makes a good one"
        )
    return token


@dataclass(frozen=True)
class Access:
    """The host names of this server, as the Host header spells them, and the token if there is one."""

    hosts: frozenset[str]
    token: str | None = None
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))  # what a browser sends instead of the token
    unknown: set[str] = field(default_factory=set)  # refused host names reported so far
    note: Callable[[str], None] = lambda line: None  # receives a line for the operator

    def check(self, scope: MutableMapping[str, Any]) -> None:
        """Refusal with 403 or 401 for a request that is not allowed; with 303 for a browser that brings the token."""
        headers = scope["headers"]
        host = self._checked_host(values(headers, b"host"), scope["server"])
        if scope["method"] not in READING:
            check_origin(headers, host)
        if self.token is None or scope["path"] == "/livez":
            return
        if scope["path"] == "/" and scope["method"] in READING and self._brings_token(scope["query_string"]):
            cookie = f"{COOKIE}={self.cookie}; HttpOnly; SameSite=Strict; Path=/"
            raise Refusal(303, "continue at /", [(b"location", b"/"), (b"set-cookie", cookie.encode())])
        if not self._is_known(headers):
            raise Refusal(401)

    def _checked_host(self, hosts: list[bytes], server: tuple[str, int | None] | None) -> bytes:
        """The Host header; 403 unless it is a name of this server or the address that the client connected to.

        Another site can make its own name resolve to this machine (DNS rebinding), but then Host contains that name."""
        if len(hosts) == 1:
            header = hosts[0].lower().decode("latin-1")
            if parts := split_host(header):
                if header in self.hosts or parts[0] in self.hosts:
                    return hosts[0].lower()
                if server is not None and header in addresses(server[0], server[1]):
                    return hosts[0].lower()
                self._tell_operator(parts[0])
        raise Refusal(403, WRONG_HOST)

    def _tell_operator(self, name: str) -> None:
        """One line for each name, of few names: whoever sends them must not fill the terminal."""
        if name in self.unknown or len(self.unknown) >= MOST_UNKNOWN or len(name) > LONGEST_NAME:
            return
        self.unknown.add(name)
        self.note(
            f"refused a request to the host name {name}; if that is a name of this server, restart it with "
            f"--allow-host {quoted(name)}"
        )

    def _brings_token(self, query: bytes) -> bool:
        try:
            given = parse_qs(query.decode("ascii"), strict_parsing=True).get("token", [])
        except ValueError:
            return False
        return len(given) == 1 and self._is_token(given[0])

    def _is_known(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether the request carries the token, or the cookie that a browser received for it."""
        for value in values(headers, b"authorization"):
            scheme, _, given = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and self._is_token(given.strip()):
                return True
        for value in values(headers, b"cookie"):
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if morsel is not None and hmac.compare_digest(morsel.value.encode(), self.cookie.encode()):
                return True
        return False

    def _is_token(self, given: str) -> bool:
        """Whether it is the token, in a time that does not reveal how much of it is right."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """All values of a header."""
    return [value for key, value in headers if key == name]


def check_origin(headers: list[tuple[bytes, bytes]], host: bytes) -> None:
    """Refusal with 403 when a page of another site sends this; programs send neither header."""
    own = (b"http://" + host, b"https://" + host)  # https: behind a proxy
    if any(origin.lower() not in own for origin in values(headers, b"origin")):
        raise Refusal(403, WRONG_ORIGIN.format("Origin"))
    if any(site not in (b"same-origin", b"none") for site in values(headers, b"sec-fetch-site")):
        raise Refusal(403, WRONG_ORIGIN.format("Sec-Fetch-Site"))


def addresses(host: str, port: int | None) -> tuple[str, ...]:
    """How a Host header may spell an address of this machine."""
    host = host.removeprefix("::ffff:")  # IPv4 over IPv6
    name = f"[{host}]" if ":" in host else host
    return (f"{name}:{port}", name) if port == 80 else (f"{name}:{port}",)
