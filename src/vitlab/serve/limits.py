"""How much of everything the server accepts; tests choose smaller numbers."""

from __future__ import annotations

from dataclasses import dataclass

from vitlab.system import most_open_files

MIB = 1 << 20
OWN_DESCRIPTORS = 32  # files, sockets and pipes of the process itself


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds, the rest counts."""

    head: int = 1 << 15  # request line and headers
    body: int = MIB
    held: int = 64 * MIB  # bodies of all requests together
    header_seconds: float = 10.0  # from the first byte (or the connection) to the end of the headers
    body_seconds: float = 10.0  # from the headers to the last byte of the body
    write_seconds: float = 30.0  # within which a client must read some of its answer
    refusal_seconds: float = 0.002  # between two refusals
    linger_seconds: float = 1.0  # for which a refused body is still read, so that the client sees the refusal
    linger: int = 16 * MIB
    keep_alive_seconds: int = 5
    connections: int = 512
    queue: int = 128  # requests per model that are accepted and not yet answered
    batch: int = 64
    batch_seconds: float = 0.003  # for which a batch waits for images that are still being decoded
    deadline_seconds: float = 5.0  # from the body to the answer
    decoders: int = 2
    silence_seconds: float = 1.0  # after SIGTERM: how long a quiet connection may still send a request

    def connections_here(self) -> int:
        """``connections``, or fewer where the process may not open that many files."""
        most = most_open_files()
        return self.connections if most is None else max(8, min(self.connections, most - OWN_DESCRIPTORS))
