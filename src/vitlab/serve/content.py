"""What is served, loaded before the first request: classifiers by id, and every file by its address.

A path is looked up in a table, so no path leads anywhere else.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from threading import Lock

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from vitlab.errors import ConfigError, RunError
from vitlab.export.bundle import bundled
from vitlab.export.lesson import LESSON, lesson_files
from vitlab.export.web import Make, gather
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
SMALLEST = 1024  # bytes that are worth compressing


@dataclass(frozen=True)
class File:
    """Bytes with their content type and a tag that changes when they do; ``packed``: with gzip, where that pays."""

    data: bytes
    kind: str
    tag: str
    packed: bytes | None = None

    @classmethod
    def of(cls, name: str, data: bytes) -> File:
        """The file ``name``; KeyError for a suffix that is not in TYPES."""
        kind = TYPES[PurePosixPath(name).suffix]
        # Weights stay as they are: compressed, they are 8 % shorter, and the page could not show how much has arrived.
        is_text = kind.startswith("text/") or "json" in kind or "svg" in kind
        packed = gzip.compress(data, mtime=0) if is_text and len(data) >= SMALLEST else None
        return cls(data, kind, f'"{sha256(data)[:32]}"', packed)

    def answer(self, request: Request) -> Response:
        """200 with the bytes, or 304 if the client has them already; clients ask again each time."""
        headers, data, tag = {"cache-control": "no-cache"}, self.data, self.tag
        if self.packed is not None:
            headers["vary"] = "accept-encoding"
            if takes_gzip(request.headers.get("accept-encoding", "")):
                data, tag = self.packed, f'{self.tag[:-1]}-gzip"'
                headers["content-encoding"] = "gzip"
        headers["etag"] = tag
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        headers |= {"content-length": str(len(data)), "content-type": self.kind}
        return StreamingResponse(chunks(data), headers=headers)


class Later:
    """Files that are made when somebody first asks for one of them: ``make`` takes seconds, and few need them."""

    def __init__(self, make: Callable[[], dict[str, bytes]]) -> None:
        self.make, self.lock = make, Lock()
        self.made: dict[str, File] = {}

    def named(self, name: str) -> File | None:
        """The file ``name``, None if there is none after all. Two requests at once make the files once."""
        with self.lock:
            if not self.made:
                self.made = {other: File.of(other, data) for other, data in self.make().items()}
        return self.made.get(name)


@dataclass(frozen=True)
class LaterFile:
    """One of the files of ``group``."""

    name: str
    group: Later

    def answer(self, request: Request) -> Response:
        """As `File.answer`; 404 if the file could not be made."""
        file = self.group.named(self.name)
        if file is None:
            raise HTTPException(404)
        return file.answer(request)


Files = Mapping[str, File | LaterFile]  # by address


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    """Piece by piece, so a slow reader costs one piece of memory instead of a copy of the weights."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK):
        yield bytes(view[start : start + CHUNK])


def takes_gzip(accepted: str) -> bool:
    """Whether a header accept-encoding names gzip, not with the weight 0."""
    offers = [part.replace(" ", "").lower().partition(";q=") for part in accepted.split(",")]
    return any(coding == "gzip" and (not mark or weight.strip("0.") != "") for coding, mark, weight in offers)


def load(folders: Sequence[Path], runs: Path, note: Callable[[str], None]) -> tuple[dict[str, Classifier], Files]:
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
    later: dict[str, Make] = {}
    # Nothing is published here: who may open the page is the user's decision (--host, --token).
    models, content = gather(classifiers, study, runs, quietly, lesson=False, own_images=True, later=later)
    if not models:
        raise RunError(
            f"{study} has no model to serve: none of its runs is in {runs}; name the right folder with --runs"
        )
    found: dict[str, File | LaterFile] = {**page_files()}
    found |= {f"/{name}": File.of(name, data) for name, data in content.items()}
    lesson = Later(lambda: lesson_files(next(iter(models.values()))))
    found |= {f"/{name}": LaterFile(name, lesson) for name in LESSON}
    for name, make in later.items():
        drawn, sprite = Later(make), f"models/{name}/map.png"
        found |= {f"/models/{name}/map.json": LaterFile("map.json", drawn), f"/{sprite}": LaterFile(sprite, drawn)}
    return models, found


def page_files(folder: Traversable | None = None) -> dict[str, File]:
    """Every file of the page (by default the one in this package) by its address; index.html is also `/`."""
    found = {f"/{name}": File.of(name, data) for name, data in bundled(read_page(folder)).items()}
    return found | {"/": found["/index.html"]}
