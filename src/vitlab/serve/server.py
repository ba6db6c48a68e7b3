"""uvicorn, extended: a connection that resists slow clients, and a server that stops without losing accepted requests.

This relies on names that uvicorn does not document; tests/test_serve_private.py lists them.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import Any

import h11
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from vitlab.predict import Classifier
from vitlab.serve.access import Access
from vitlab.serve.answers import Refusal
from vitlab.serve.app import make_app, route_of
from vitlab.serve.body import HEAD_END, Body, framing
from vitlab.serve.content import Files
from vitlab.serve.guard import Guard, Turns
from vitlab.serve.limits import MIB, Limits
from vitlab.serve.metrics import Metrics
from vitlab.serve.models import Models

POLL_SECONDS = 0.02  # between two checks whether all connections have ended
REST_SECONDS = 0.02  # between two reads from a client that was refused
LONG_REST_SECONDS = 0.2  # if it sends without an end
AHEAD_SECONDS = 0.02  # for which a request waits that did not wait for the answer before
MOST_AHEAD = 16
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

    ``is_full`` says whether no model would accept a picture. Bytes go to h11 one head and one complete body at a time,
    so nothing is parsed that belongs to a refused request.
    """

    def __init__(
        self, limits: Limits, metrics: Metrics, is_full: Callable[[], bool], turns: Turns, **uvicorn: Any
    ) -> None:
        super().__init__(**uvicorn)
        self.limits, self.metrics, self.is_full, self.turns = limits, metrics, is_full, turns
        self.refused = False
        self.discarded = 0  # bytes after the refusal
        self.received = bytearray()  # and not yet given to h11
        self.searched = 0  # bytes of it in which no head ends
        self.ahead = 0  # requests in a row that did not wait for the answer before
        self.is_resting = False  # so the next of them waits
        self.body: Body | None = None  # of the request that is being answered
        self.header_timer: asyncio.TimerHandle  # of the request that is arriving, or has arrived last
        self.write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_header_timer()
        if len(self.connections) > self.limits.connections:
            self.metrics.refused.labels("connections").inc()
            self._refuse(503)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.refused:
            self._discard(len(data))
            return
        if self.is_full() and self._is_idle() and is_whole_picture(data):
            self._turn_away()
            return
        if self.timeout_keep_alive_task is not None:  # the first bytes of another request
            self._unset_keepalive_if_required()
            self._start_header_timer()
        self.received += data
        self._advance()

    def _advance(self) -> None:
        """Do with the received bytes what can be done now."""
        while self.received and not self.refused and not self.transport.is_closing():
            if self.body is not None and not self.body.is_complete:
                if not self._take_body(self.body):
                    return
            elif self.is_resting or (self.cycle is not None and not self.cycle.response_complete):
                if len(self.received) > self.limits.head:  # requests that do not wait for the answer
                    self.transport.abort()
                return
            elif not self._take_head():
                return

    def _take_body(self, body: Body) -> bool:
        """Collect or throw away bytes of a body; whether it is complete, so that h11 has it."""
        if body.is_open or body.is_shut:
            before = len(self.received)
            body.take(self.received)
            if body.is_shut:
                is_endless = body.discarded > MIB and (body.length is None or body.length > self.limits.linger)
                self._rest(before, LONG_REST_SECONDS if is_endless else REST_SECONDS)
        elif len(self.received) > self.limits.head:
            self.flow.pause_reading()
        if body.is_complete:
            super().data_received(body.for_h11())
        return body.is_complete

    def _take_head(self) -> bool:
        """Give h11 the head of the next request, if it is complete and frames its body in one possible way."""
        end = HEAD_END.search(self.received, max(0, self.searched - 2))
        if (len(self.received) if end is None else end.end()) > self.limits.head:
            self._refuse(400)
            return False
        if end is None:
            self.searched = len(self.received)
            return False
        head = bytes(self.received[: end.end()])
        del self.received[: end.end()]
        self.searched = 0
        try:
            has_body, length = framing(head)
        except Refusal as refusal:
            self._refuse(refusal.status)
            return False
        self.body = Body(length, self.limits.linger, self._go_on) if has_body else None
        self.app_state = {"body": self.body}  # becomes scope["state"]
        self.header_timer.cancel()
        super().data_received(head)
        return True

    def _go_on(self) -> None:
        """The guard wants the body, or wants no more of it."""
        if self.cycle.waiting_for_100_continue and self.body is not None and not self.body.is_shut:
            self.cycle.waiting_for_100_continue = False
            self.transport.write(self.conn.send(h11.InformationalResponse(status_code=100, headers=[])))
        self.flow.resume_reading()
        self._advance()

    def on_response_complete(self) -> None:
        """Go on with the next request; one that did not wait for this answer, which browsers never send, waits now."""
        super().on_response_complete()
        self.ahead = self.ahead + 1 if self.received else 0
        if self.ahead > MOST_AHEAD and not self.transport.is_closing():
            self._refuse(429)
        elif self.received:
            self.is_resting = True
            self.loop.call_later(AHEAD_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        self.is_resting = False
        self._advance()

    def _discard(self, size: int) -> None:
        """Count what a refused client still sends."""
        self.discarded += size
        if self.discarded > self.limits.linger:
            self.transport.abort()
        else:
            self._rest(size)

    def _rest(self, size: int, seconds: float = REST_SECONDS) -> None:
        """Read no more from a refused client for a moment: it must not take time from others."""
        if size:
            self.flow.pause_reading()
            self.loop.call_later(seconds, self.flow.resume_reading)

    def _is_idle(self) -> bool:
        """Whether the next byte begins a request."""
        done = self.cycle is None or self.cycle.response_complete
        return done and self.conn.their_state is h11.IDLE and not self.received

    def _turn_away(self) -> None:
        """Refuse a picture without parsing it: unless that costs far less than an answer, refusing is the overload."""
        began = time.monotonic()
        self.header_timer.cancel()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self.transport.write(BUSY)
        self.metrics.refused.labels("queue").inc()
        self.metrics.answered("/v1/predict", 503, time.monotonic() - began)

    def _start_header_timer(self) -> None:
        self.header_timer = self.loop.call_later(self.limits.header_seconds, self._give_up)

    def _give_up(self) -> None:
        if not self.refused and not self.transport.is_closing():
            self.metrics.refused.labels("headers").inc()
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Answer without looking at the request, then end the connection; when it is the turn of this refusal, but of
        connections that are too many at once."""
        self.refused = True
        if status == 503:
            self._say(status)
        else:
            self.loop.call_later(self.turns.wait(), self._say, status)

    def _say(self, status: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(canned(status, close=True))
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
        self.header_timer.cancel()
        if self.body is not None:
            self.body.leave()
        if self.write_timer is not None:
            self.write_timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_timer = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.write_timer is not None:
            self.write_timer.cancel()


class VitlabServer(Server):
    """uvicorn's server with our way of stopping: nothing that was accepted stays unanswered."""

    def __init__(
        self,
        guard: Guard,
        models: Models,
        limits: Limits,
        listener: socket.socket,
        connect: Callable[..., asyncio.Protocol],
    ) -> None:
        config = Config(
            guard,
            http=connect,  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            loop="asyncio",
            interface="asgi3",
            log_config=None,
            log_level="critical",  # the guard reports failures of requests
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=round(limits.header_seconds + limits.body_seconds + limits.deadline_seconds),
        )
        super().__init__(config)
        self.guard, self.models, self.limits, self.listener, self.connect = guard, models, limits, listener, connect
        self.on_stop: Callable[[], None] = lambda: None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGINT or SIGTERM asks the server to stop; a second one ends it."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True

    def answer_until_stopped(self) -> int:
        """Serve until SIGINT or SIGTERM; returns how many accepted requests were left unanswered."""
        self.run(sockets=[self.listener])
        self.models.stop()
        return self.guard.unanswered

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no new connections, answer everything on existing ones, then close them.

        From here on every answer says `connection: close`. A quiet connection has `silence_seconds`, because a request
        may be on its way to us; closing at once would lose it.
        """
        self.guard.draining = True
        self.on_stop()
        await self._empty_backlog()
        for _ in range(round(self.limits.silence_seconds / POLL_SECONDS)):
            if not self.server_state.connections:
                break
            await asyncio.sleep(POLL_SECONDS)
        await super().shutdown(sockets)

    async def _empty_backlog(self) -> None:
        """Stop listening, but first accept the connections that the system has already accepted for us."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.listener.fileno())
        accepted = []
        while True:
            try:
                accepted.append(self.listener.accept()[0])
            except OSError:  # BlockingIOError: none is left
                break
        for server in self.servers:
            server.close()
        adopt = partial(self.connect, config=self.config, server_state=self.server_state, app_state={})
        for connection in accepted:
            connection.setblocking(False)
            await loop.connect_accepted_socket(adopt, connection)


def make_server(
    classifiers: dict[str, Classifier],
    files: Files,
    listener: socket.socket,
    access: Access,
    limits: Limits,
    threads: int = 1,
) -> VitlabServer:
    """A server for the models (by id; the first is the default) and the files, on a listening socket."""
    limits = replace(limits, connections=limits.connections_here())
    metrics = Metrics()
    models = Models(classifiers, limits, metrics, threads)
    app = make_app(models, files, metrics, lambda: guard.draining)
    guard = Guard(app, access, limits, metrics, lambda path: route_of(path, files))
    connect = partial(Connection, limits, metrics, lambda: all(models.full) and not guard.draining, guard.turns)
    server = VitlabServer(guard, models, limits, listener, connect)
    metrics.connections.set_function(lambda: len(server.server_state.connections))
    return server
