"""uvicorn's HTTP/1.1 connection, extended with protection against slow clients and too many of them.

This relies on names that uvicorn does not document; tests/test_serve_private.py lists them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from vitlab.serve.answers import Refusal
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics

SPARE = 16  # connections beyond the limit that are refused with an answer
PREDICT = b"POST /v1/predict"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})(?=\r\n)", re.IGNORECASE)


def canned(status: int, close: bool) -> bytes:
    """A refusal as sent over the wire; it has no request id, since the request was not parsed."""
    headers, body = Refusal(status).answer("")
    headers += [(b"x-content-type-options", b"nosniff"), *([(b"connection", b"close")] if close else [])]
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(), *(b": ".join(header) for header in headers)]
    return b"\r\n".join([*lines, b"", body])


BUSY = canned(503, close=False)


def is_whole_picture(data: bytes) -> bool:
    """Whether these bytes are one POST /v1/predict with its complete body, no more and no less."""
    end = data.find(b"\r\n\r\n") + 4
    if not data.startswith(PREDICT) or end < 4:
        return False
    lengths = LENGTH.findall(data, 0, end)
    return len(lengths) == 1 and len(data) == end + int(lengths[0]) and b"\r\ntransfer-encoding" not in data.lower()


class Connection(H11Protocol):
    """A connection with deadlines for headers and for reading answers; connections above the limit are refused.

    ``is_full`` says whether no model would accept a picture.
    """

    def __init__(self, limits: Limits, metrics: Metrics, is_full: Callable[[], bool], **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.limits, self.metrics, self.is_full = limits, metrics, is_full
        self.refused = False
        self.header_timer: asyncio.TimerHandle | None = None
        self.write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_header_timer()
        if len(self.connections) > self.limits.connections:
            self.metrics.refused.labels("connections").inc()
            self._refuse(503)

    def data_received(self, data: bytes) -> None:
        if self.refused or self.transport.is_closing():
            return
        if self.is_full() and self._is_idle() and is_whole_picture(data):
            self._turn_away()
            return
        if self.timeout_keep_alive_task is not None:  # the first bytes of another request
            self._start_header_timer()
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:  # the headers are complete
            self._stop_header_timer()

    def _is_idle(self) -> bool:
        """Whether the next byte begins a request."""
        done = self.cycle is None or self.cycle.response_complete
        return done and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _turn_away(self) -> None:
        """Refuse a picture without parsing it: unless that costs far less than an answer, refusing is the overload."""
        began = time.monotonic()
        self._stop_header_timer()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self.transport.write(BUSY)
        self.metrics.refused.labels("queue").inc()
        self.metrics.answered("/v1/predict", 503, time.monotonic() - began)

    def _start_header_timer(self) -> None:
        if self.header_timer is None:
            self.header_timer = self.loop.call_later(self.limits.header_seconds, self._give_up)

    def _stop_header_timer(self) -> None:
        if self.header_timer is not None:
            self.header_timer.cancel()
            self.header_timer = None

    def _give_up(self) -> None:
        if not self.refused and not self.transport.is_closing():
            self.metrics.refused.labels("headers").inc()
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Answer without looking at the request, then end the connection."""
        self.transport.write(canned(status, close=True))
        self.refused = True
        if len(self.connections) > self.limits.connections + SPARE:
            self.transport.close()
            return
        self.transport.write_eof()  # not yet closed: unread bytes would reset the connection before the answer is read
        self.loop.call_later(self.limits.linger_seconds, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets our own form of refusal, unless an answer has begun, which cannot be taken back."""
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(400)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self.header_timer, self.write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None
