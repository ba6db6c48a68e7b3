"""`vitlab serve`: answer until stopped, and stop without losing an accepted request."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType

from uvicorn import Config, Server

from vitlab.predict import Classifier
from vitlab.serve.access import Access
from vitlab.serve.app import make_app, route_of
from vitlab.serve.content import File
from vitlab.serve.guard import Guard
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics
from vitlab.serve.models import Models
from vitlab.serve.protocol import Connection

POLL_SECONDS = 0.02  # between two checks whether all connections have ended


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
            timeout_graceful_shutdown=round(limits.stop_seconds),
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
    files: dict[str, File],
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
    connect = partial(Connection, limits, metrics, lambda: models.all_full and not guard.draining)
    server = VitlabServer(guard, models, limits, listener, connect)
    metrics.connections.set_function(lambda: len(server.server_state.connections))
    return server
