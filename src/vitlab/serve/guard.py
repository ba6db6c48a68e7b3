"""Between the HTTP server and the routes: access, the size and speed of bodies, and the headers of every answer."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
import traceback
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Send

from vitlab.serve.access import Access
from vitlab.serve.answers import Gone, Headers, Refusal
from vitlab.serve.body import Body
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY: Headers = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
MOST_PATIENCE = 1.0  # seconds that a refusal may wait
REASONS = {401: "token", 403: "origin", 408: "slow", 413: "large"}  # 503 and 504 are counted where they arise


class Guard:
    """The ASGI application that `serve` runs; ``app`` sees only allowed requests, with their complete body."""

    note: Callable[[str], None] = staticmethod(lambda line: None)  # receives failures of the server

    def __init__(
        self, app: ASGIApp, access: Access, limits: Limits, metrics: Metrics, route: Callable[[str], str]
    ) -> None:
        self.app, self.access, self.limits, self.metrics, self.route = app, access, limits, metrics, route
        self.draining = False
        self.unanswered = 0  # requests that were cut off when the server stopped
        self.held = 0  # bytes of bodies in memory
        self.turns = Turns(limits.refusal_seconds)
        self.ids = map(f"{secrets.token_hex(4)}-{{:x}}".format, itertools.count(1))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(self, scope, receive, send)
        try:
            self.access.check(scope)
            await request.read_body()
            method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the HTTP server omits the body
            inner = {**scope, "method": method, "vitlab.request": request.id}
            await self.app(inner, request.replay, request.send)
        except Refusal as refusal:
            await request.refuse(refusal)
        except Gone:
            self.metrics.left.inc()
        except asyncio.CancelledError:
            self.unanswered += 1
            raise
        except Exception:
            self.note(f"request {request.id} failed:\n{traceback.format_exc()}")
            if not request.status:  # otherwise the HTTP server closes the connection in the middle of the answer
                await request.refuse(Refusal(500))
        finally:
            self.held -= request.held


class Turns:
    """Refusals take turns: clients that cause nothing else must not use the time of others."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.next = seconds, 0.0

    def wait(self) -> float:
        """Take a turn; the seconds until then."""
        now = time.monotonic()
        turn = max(now, self.next)
        self.next = min(turn, now + MOST_PATIENCE) + self.seconds
        return min(turn - now, MOST_PATIENCE)


class Request:
    """One request and its answer on their way through the guard."""

    def __init__(self, guard: Guard, scope: Message, receive: Receive, send: Send) -> None:
        self.guard, self.outer, self.receive, self.to_client = guard, scope, receive, send
        self.id = next(guard.ids)
        self.began = time.monotonic()
        self.arriving: Body | None = scope["state"]["body"]
        self.body = b""
        self.held = 0  # bytes of it that count in guard.held
        self.is_read = self.arriving is None  # the body, to its end
        self.replayed = False
        self.status = 0

    async def read_body(self) -> None:
        """The complete body, counted as it comes; Refusal when it is too large or too slow."""
        limits = self.guard.limits
        if self.arriving is not None:
            if (self.arriving.length or 0) > limits.body:
                raise Refusal(413)
            try:
                async with asyncio.timeout(limits.body_seconds):
                    await self.arriving.read(limits.body, self._count)
            except TimeoutError:
                raise Refusal(408) from None
        message = await self.receive()  # does not wait; what the connection says next is that the client left
        if message["type"] == "http.disconnect":
            raise Gone
        self.body, self.is_read = message["body"], True

    def _count(self, size: int) -> None:
        """Count bytes that are kept; Refusal with 503 when all bodies together are too many."""
        guard = self.guard
        guard.held += size
        self.held += size
        if guard.held > guard.limits.held:
            guard.metrics.refused.labels("memory").inc()
            raise Refusal(503)

    async def replay(self) -> Message:
        """For the routes: the complete body as one message, then what the connection says (that the client left)."""
        if self.replayed:
            return await self.receive()
        self.replayed = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        """To the client, with the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if 400 <= self.status < 500:
                await asyncio.sleep(self.guard.turns.wait())
            own: Headers = [*SECURITY, (b"x-request-id", self.id.encode())]
            if self.guard.draining or not self.is_read:
                own.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", []), *own]}
            route = self.guard.route(self.outer["path"])
            self.guard.metrics.answered(route, self.status, time.monotonic() - self.began)
        await self.to_client(message)

    async def refuse(self, refusal: Refusal) -> None:
        if refusal.status in REASONS:
            self.guard.metrics.refused.labels(REASONS[refusal.status]).inc()
        headers, body = refusal.answer(self.id)
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": not self.is_read})
        if self.arriving is not None and not self.is_read:
            await self.arriving.drain(self.guard.limits.linger_seconds)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
