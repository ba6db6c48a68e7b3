"""The address that the server listens at. Nothing heavy is imported here: a port that is taken is said at once."""

from __future__ import annotations

import errno
import socket

from vitlab.errors import ConfigError

BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, which takes no connections yet; ConfigError when that cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"there is no address {host!r} on this machine; choose another --host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart would wait for a minute
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise refused(host, port, error) from None
    return listener


def listen(listener: socket.socket) -> None:
    """From now on the system takes connections; ConfigError if another program was quicker."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        listener.close()
        raise refused(host, port, error) from None


def refused(host: str, port: int, error: OSError) -> ConfigError:
    """The error for an address that cannot be had."""
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"port {port} of {host} is taken by another program; choose another --port")
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{host} is no address of this machine; choose another --host")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} is reserved by the system; choose a --port from 1024")
    return ConfigError(f"cannot listen at port {port} of {host} ({error.strerror}); choose another --port or --host")


def address_of(listener: socket.socket, host: str) -> str:
    """The address to type into a browser."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{listener.getsockname()[1]}/"
