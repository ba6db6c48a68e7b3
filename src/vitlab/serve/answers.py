"""What the server answers: JSON without NaN, and one fixed sentence for each refusal.

No sentence repeats what the client sent or reveals anything internal.
"""

from __future__ import annotations

import json
from typing import Any

Headers = list[tuple[bytes, bytes]]

SENTENCES = {
    400: "the server does not understand this request",
    401: "an access token is required: send 'Authorization: Bearer TOKEN', or open /?token=TOKEN once in a browser",
    403: "this host name or origin is not allowed to use the server",
    404: "there is nothing at this address",
    405: "this address does not support this method",
    408: "the request took too long to arrive",
    413: "the request body is too large",
    415: "the body must be a PNG or JPEG image, or application/json with pixels",
    422: "the request is not valid",
    429: "too many requests on one connection; wait for each answer before you send the next request",
    500: "the server failed; its log has the details",
    503: "the server is busy; try again in a second",
    504: "the answer took too long; try again",
}
RETRY = [(b"retry-after", b"1")]
EXTRA_HEADERS: dict[int, Headers] = {503: RETRY, 504: RETRY, 401: [(b"www-authenticate", b"Bearer")]}


class Refusal(Exception):
    """An answer other than 200: its status, its sentence, and headers in addition to the usual ones."""

    def __init__(self, status: int, sentence: str = "", headers: Headers | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.sentence = sentence or SENTENCES.get(status, SENTENCES[400])
        self.headers = EXTRA_HEADERS.get(status, []) if headers is None else headers

    def answer(self, request: str) -> tuple[Headers, bytes]:
        """Headers and JSON body, with the sentence and the request's id."""
        body = to_json({"error": self.sentence, "request": request})
        usual = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        return [*usual, (b"cache-control", b"no-store"), *self.headers], body


class Gone(Exception):
    """The client has left; nobody is waiting for an answer."""


def to_json(value: Any) -> bytes:
    """Compact JSON; ValueError for NaN and infinities, which are not JSON."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
