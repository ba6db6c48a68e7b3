"""What is served, loaded before the first request: classifiers by id, and every file by its address.

A path is looked up in a table, so no path leads anywhere else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from vitlab.errors import ConfigError, RunError
from vitlab.export.web import gather
from vitlab.export.web import page_files as read_page
from vitlab.files import sha256
from vitlab.predict import Classifier

STUDY = "study.json"
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
    """Bytes with their content type and a tag that changes when they do."""

    data: bytes
    kind: str
    tag: str

    @classmethod
    def of(cls, name: str, data: bytes) -> File:
        """The file ``name``; KeyError for a suffix that is not in TYPES."""
        return cls(data, TYPES[PurePosixPath(name).suffix], f'"{sha256(data)[:32]}"')

    def answer(self, request: Request) -> Response:
        """200 with the bytes, or 304 if the client has them already; clients ask again each time."""
        headers = {"cache-control": "no-cache", "etag": self.tag}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        headers |= {"content-length": str(len(self.data)), "content-type": self.kind}
        return StreamingResponse(self._chunks(), headers=headers)

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Piece by piece, so a slow reader costs one piece of memory instead of a copy of the weights."""
        view = memoryview(self.data)
        for start in range(0, len(view), CHUNK):
            yield bytes(view[start : start + CHUNK])


def load(
    folders: Sequence[Path], runs: Path, note: Callable[[str], None]
) -> tuple[dict[str, Classifier], dict[str, File]]:
    """The classifiers of run folders in their order, and the files of the page and of the models.

    One of ``folders`` may be a study's: its models come last, and its table becomes the page's menu. RunError for a
    folder that is neither or is damaged, ConfigError for two studies.
    """
    studies = [folder for folder in folders if (folder / STUDY).is_file()]
    if len(studies) > 1:
        raise ConfigError("a page shows one study; name one, plus any single runs")
    classifiers = [Classifier.load(folder) for folder in folders if folder not in studies]
    study = studies[0] if studies else None
    quietly = (lambda line: None) if study is None else note
    models, content = gather(classifiers, study, runs, quietly, with_map=True)  # nothing is published here
    if not models:
        raise RunError(
            f"{study} has no model to serve: none of its runs is in {runs}; name the right folder with --runs"
        )
    return models, page_files() | {f"/{name}": File.of(name, data) for name, data in content.items()}


def page_files(folder: Traversable | None = None) -> dict[str, File]:
    """Every file of the page (by default the one in this package) by its address; index.html is also `/`."""
    found = {f"/{name}": File.of(name, data) for name, data in read_page(folder).items()}
    return found | {"/": found["/index.html"]}
