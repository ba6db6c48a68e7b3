"""What the server says: JSON that never holds NaN, and a fixed sentence for each refusal.

No sentence repeats what the client has sent, and none tells what lies inside.
"""

from __future__ import annotations

import json
from typing import Any

Headers = list[tuple[bytes, bytes]]

SENTENCES = {
    400: "this is not a request that the server understands",
    401: "this server asks for its token: send 'Authorization: Bearer TOKEN', or open /?token=TOKEN once in a browser",
    403: "this page or host name may not use the server",
    404: "there is nothing at this address",
    405: "this address does not take this method",
    408: "the request came too slowly",
    413: "the body is larger than the server takes",
    415: "the body must be a PNG or JPEG image, or application/json with pixels",
    422: "the request cannot be read",
    500: "the server failed to answer; its own log says more",
    503: "the server is busy; try again in a second",
    504: "the answer took too long; try again",
}
RETRY = [(b"retry-after", b"1")]
MORE: dict[int, Headers] = {503: RETRY, 504: RETRY, 401: [(b"www-authenticate", b"Bearer")]}


class Refusal(Exception):
    """An answer other than 200: its status, its sentence, and headers beside the usual ones."""

    def __init__(self, status: int, sentence: str = "", headers: Headers | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.sentence = sentence or SENTENCES.get(status, SENTENCES[400])
        self.headers = MORE.get(status, []) if headers is None else headers

    def body(self, request: str) -> bytes:
        """The JSON text that carries the sentence and the request's id."""
        return to_json({"error": self.sentence, "request": request})


class Gone(Exception):
    """The client has left; nobody waits for an answer."""


def to_json(value: Any) -> bytes:
    """Compact JSON; ValueError for NaN and infinities, which are not JSON."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
