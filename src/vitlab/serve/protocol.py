"""uvicorn's HTTP/1.1 connection with what it lacks against slow and too many clients."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from http import HTTPStatus

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from vitlab.serve.answers import Refusal
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics

SPARE = 16  # connections beyond the limit that are refused politely


PREDICT = b"POST /v1/predict"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})(?=\r\n)", re.IGNORECASE)


def connections(limits: Limits, metrics: Metrics, full: Callable[[], bool]) -> type[H11Protocol]:
    """The class of connections that keep ``limits``; ``full`` says whether no model would take a picture."""
    most = limits.connections_here()
    busy = canned(503, close=False)

    class Connection(H11Protocol):
        """A connection whose headers, and whose reader, have a deadline; one too many is refused at once."""

        refused = False
        late: asyncio.TimerHandle | None = None  # for headers
        stuck: asyncio.TimerHandle | None = None  # for a client that takes no bytes

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.alarm()
            if len(self.connections) > most:
                metrics.refuse("connections")
                self.refuse(503)

        def data_received(self, data: bytes) -> None:
            if self.refused or self.transport.is_closing():
                return
            if full() and self.is_between() and is_whole_picture(data):
                self.turn_away()
                return
            if self.timeout_keep_alive_task is not None:  # the first bytes of a further request
                self.alarm()
            asked = self.cycle
            super().data_received(data)
            if self.cycle is not asked:
                self.quiet()

        def is_between(self) -> bool:
            """Whether the next byte begins a request."""
            done = self.cycle is None or self.cycle.response_complete
            return done and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

        def turn_away(self) -> None:
            """Refuse a picture unread. That must cost far less than an answer, or refusing is what overloads."""
            began = time.monotonic()
            self.quiet()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            self.transport.write(busy)
            metrics.refuse("queue")
            metrics.answered("/v1/predict", 503, time.monotonic() - began)

        def quiet(self) -> None:
            """The headers have come."""
            if self.late is not None:
                self.late.cancel()
                self.late = None

        def alarm(self) -> None:
            """From now on there is a deadline for the end of the headers."""
            if self.late is None:
                self.late = self.loop.call_later(limits.header_seconds, self.give_up)

        def give_up(self) -> None:
            """Headers did not come in time."""
            if not self.refused and not self.transport.is_closing():
                metrics.refuse("headers")
                self.refuse(408)

        def refuse(self, status: int) -> None:
            """An answer without a look at the request, then the end of the connection."""
            self.transport.write(canned(status, close=True))
            self.refused = True
            if len(self.connections) > most + SPARE:
                self.transport.close()
                return
            self.transport.write_eof()  # and no close yet: unread bytes would reset the connection before it is read
            self.loop.call_later(limits.linger_seconds, self.transport.close)

        def send_400_response(self, msg: str) -> None:
            """What is no HTTP gets our own kind of error, unless an answer has begun, which cannot be taken back."""
            if self.cycle is None or self.cycle.response_complete:
                self.refuse(400)
            else:
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self.late, self.stuck):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.stuck = self.loop.call_later(limits.write_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.stuck is not None:
                self.stuck.cancel()
                self.stuck = None

    return Connection


def is_whole_picture(data: bytes) -> bool:
    """Whether these bytes are one POST /v1/predict with its whole body, no more and no less."""
    end = data.find(b"\r\n\r\n") + 4
    if not data.startswith(PREDICT) or end < 4:
        return False
    lengths = LENGTH.findall(data, 0, end)
    return len(lengths) == 1 and len(data) == end + int(lengths[0]) and b"\r\ntransfer-encoding" not in data.lower()


def canned(status: int, close: bool) -> bytes:
    """A refusal as it goes over the wire; its request has no id, since nobody looked at it."""
    refusal = Refusal(status)
    body = refusal.body("")
    more = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in refusal.headers)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n{more}"
    )
    return (head + ("connection: close\r\n\r\n" if close else "\r\n")).encode() + body


def adopt(config: Config, state: ServerState) -> H11Protocol:
    """A connection for a socket that was accepted by hand."""
    made = config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]
    assert isinstance(made, H11Protocol)
    return made
