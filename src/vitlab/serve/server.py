"""`vitlab serve`: load, say what is served, answer, and stop without losing an accepted request."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from types import FrameType

from uvicorn import Config, Server

from vitlab.predict import Classifier
from vitlab.serve.access import Access
from vitlab.serve.app import make_app
from vitlab.serve.guard import Guard
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics
from vitlab.serve.models import Models
from vitlab.serve.pages import File, route_of
from vitlab.serve.protocol import adopt, connections

LOOK_SECONDS = 0.02  # between two looks whether all connections have ended


class VitlabServer(Server):
    """uvicorn's server with our way of stopping: nothing that was accepted stays unanswered."""

    def __init__(self, config: Config, guard: Guard, models: Models, limits: Limits, listener: socket.socket) -> None:
        super().__init__(config)
        self.guard, self.models, self.limits, self.listener = guard, models, limits, listener
        self.on_stop: Callable[[], None] = lambda: None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGINT or SIGTERM asks for the end; a second one is the end."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True

    def answer_until_stopped(self) -> int:
        """Serve until SIGINT or SIGTERM; how many accepted requests stayed without an answer."""
        self.run(sockets=[self.listener])
        self.models.stop()
        return self.guard.cut

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, answer everything on those that exist, then close them.

        From here on every answer says `connection: close`. A quiet connection has `silence_seconds`, because a
        request may be under way on it; to close it at once would lose that request.
        """
        self.guard.draining = True
        self.on_stop()
        await self._empty_backlog()
        for _ in range(round(self.limits.silence_seconds / LOOK_SECONDS)):
            if not self.server_state.connections:
                break
            await asyncio.sleep(LOOK_SECONDS)
        await super().shutdown(sockets)

    async def _empty_backlog(self) -> None:
        """Stop listening, but first accept the connections that the system has accepted for us already."""
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
        for connection in accepted:
            connection.setblocking(False)
            await loop.connect_accepted_socket(lambda: adopt(self.config, self.server_state), connection)


def make_server(
    classifiers: dict[str, Classifier],
    files: dict[str, File],
    listener: socket.socket,
    access: Access,
    limits: Limits,
    threads: int = 1,
) -> VitlabServer:
    """A server of the models (by id; the first is the default) and the files, on a socket that listens."""
    metrics = Metrics()
    models = Models(classifiers, limits, metrics, threads)
    app = make_app(models, files, metrics, lambda: (guard.draining, len(server.server_state.connections)))
    guard = Guard(app, access, limits, metrics, lambda path: route_of(path, files))
    config = Config(
        guard,
        http=connections(limits, metrics, lambda: models.all_full and not guard.draining),
        ws="none",
        lifespan="off",
        loop="asyncio",
        interface="asgi3",
        log_config=None,
        log_level="critical",  # what goes wrong in a request is said by the guard
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=round(limits.stop_seconds),
    )
    server = VitlabServer(config, guard, models, limits, listener)
    return server
