"""The files that the server hands out: the page, and what the page reads. All are in memory before the first request,
and a path is looked up in a table, so that no path leads anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from vitlab.export.web import page_files as read_page
from vitlab.files import sha256

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
CHUNK = 1 << 18


@dataclass(frozen=True)
class File:
    """Bytes with their content type and a tag that changes with them."""

    data: bytes
    kind: str
    tag: str

    @classmethod
    def of(cls, name: str, data: bytes) -> File:
        """The file ``name``; KeyError for an ending that is not in TYPES."""
        return cls(data, TYPES[suffix(name)], f'"{sha256(data)[:32]}"')

    def answer(self, request: Request) -> Response:
        """200 with the bytes, or 304 where the client has them; a client asks again each time."""
        headers = {"cache-control": "no-cache", "etag": self.tag}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        headers |= {"content-length": str(len(self.data)), "content-type": self.kind}
        return StreamingResponse(self._chunks(), headers=headers)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Piece by piece, so that a slow reader costs one piece of memory and not a copy of the weights."""
        view = memoryview(self.data)
        for start in range(0, len(view), CHUNK):
            yield bytes(view[start : start + CHUNK])


def suffix(name: str) -> str:
    """The ending of a file's name with its dot."""
    return name[name.rfind(".") :] if "." in name else ""


def page_files(folder: Traversable | None = None) -> dict[str, File]:
    """Every file of the page (by default the one in this package) by its address; index.html is `/` too."""
    found = {f"/{name}": File.of(name, data) for name, data in read_page(folder).items()}
    return found | {"/": found["/index.html"]}


def route_of(path: str, pages: dict[str, File]) -> str:
    """A name for metrics; there are few, however many addresses clients try."""
    if path in pages:
        return "/models/*" if path.startswith("/models/") else "/"
    return path if path in ("/v1/predict", "/v1/model", "/livez", "/readyz", "/metrics", "/openapi.json") else "other"
