"""How much of everything the server takes; tests choose smaller numbers."""

from __future__ import annotations

import resource
from dataclasses import dataclass

MIB = 1 << 20
OWN_DESCRIPTORS = 32  # files, sockets and wake-up pipes of the process itself
LARGEST_SIDE = 512  # of JSON pixels; what fits into a body of 1 MiB


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds, the rest counts."""

    body: int = MIB
    held: int = 64 * MIB  # bodies of all requests together
    header_seconds: float = 10.0  # from the first byte (or the connection) to the end of the headers
    body_seconds: float = 10.0  # from the headers to the last byte of the body
    write_seconds: float = 30.0  # in which a client must take some of its answer
    linger_seconds: float = 1.0  # for which a refused body is still read, so that the client sees the refusal
    linger: int = 16 * MIB
    keep_alive_seconds: int = 5
    connections: int = 512
    queue: int = 128  # requests of one model that are accepted and not answered yet
    batch: int = 64
    batch_seconds: float = 0.003  # for which a batch waits for images that are still being decoded
    deadline_seconds: float = 5.0  # from the body to the answer
    decoders: int = 2
    silence_seconds: float = 1.0  # after SIGTERM: how long a quiet connection may still send a request

    @property
    def stop_seconds(self) -> float:
        """After which a stop waits no longer for requests at hand."""
        return self.header_seconds + self.body_seconds + self.deadline_seconds

    def connections_here(self) -> int:
        """``connections``, or fewer where the process may not open so many files."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            self.connections
            if soft == resource.RLIM_INFINITY
            else max(8, min(self.connections, soft - OWN_DESCRIPTORS))
        )
