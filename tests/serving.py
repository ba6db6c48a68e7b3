"""A real server on a free port in a thread of this process, and clients for it: http.client, and bare sockets."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from tests.image_zoo import saved
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab.predict import Classifier
from vitlab.runs.session import train_run
from vitlab.serve.access import Access, allowed_hosts, bind, listen
from vitlab.serve.content import File
from vitlab.serve.limits import Limits
from vitlab.serve.server import VitlabServer, make_server

SECRETS = ("Traceback", "vitlab/", "site-packages", "/tmp", "Error", "torch", "starlette", "pydantic")
PNG = {"Content-Type": "image/png"}


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body; a test fails when it is not JSON."""
        return json.loads(self.body)


def counts(reply: Reply) -> dict[str, float]:
    """The samples on /metrics: each name with its labels, as written, and its value."""
    lines = [line for line in reply.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@dataclass
class Running:
    """A server that runs, and a way to ask it."""

    server: VitlabServer
    port: int
    notes: list[str] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        """A connection that can be used several times."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """One request on a new connection."""
        connection = self.connect()
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def predict(self, body: bytes, query: str = "", kind: str = "image/png") -> Reply:
        """POST /v1/predict."""
        return self.ask("POST", f"/v1/predict{query}", body, {"Content-Type": kind})

    def raw(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """Everything that the server sends back on a socket on which ``pieces`` were written, until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as wire:
            for piece in pieces:
                try:
                    wire.sendall(piece)
                except OSError:  # the server has closed; what it said can still be read
                    break
                time.sleep(pause)
            return read_all(wire)


def read_all(wire: socket.socket) -> bytes:
    """What comes until the other side closes."""
    received = b""
    try:
        while chunk := wire.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """One request on an open connection."""
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@contextmanager
def running(
    classifiers: dict[str, Classifier],
    files: dict[str, File] | None = None,
    token: str | None = None,
    host: str = "127.0.0.1",
    **limits: Any,
) -> Iterator[Running]:
    """A server of ``classifiers`` with some of the ``limits`` changed; it is stopped in the end."""
    listener = bind(host, 0)
    listen(listener)
    port = listener.getsockname()[1]
    chosen = replace(Limits(silence_seconds=0.1), **limits)
    access = Access(allowed_hosts(host, port, ["vitlab.example"]), token)
    made = Running(make_server(classifiers, files or {}, listener, access, chosen), port)
    made.server.guard.note = made.notes.append
    thread = threading.Thread(target=made.server.answer_until_stopped)
    thread.start()
    try:
        yield made
    finally:
        made.server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@cache
def tiny_classifier() -> Classifier:
    """The one that most tests use; its run folder does not stay."""
    with tempfile.TemporaryDirectory() as folder:
        return train_tiny(Path(folder))


def train_tiny(folder: Path, **knobs: object) -> Classifier:
    """A classifier of three kinds of bars, 8 x 8, trained in a second; folder / run is its run folder."""
    run = folder / "run"
    train_run(tiny_config(write_npz(folder / "glyphs.npz"), **knobs), run)
    return Classifier.load(run)


class Slow(nn.Module):
    """A network that does something before it answers."""

    def __init__(self, model: Any, before: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.model, self.before, self.head = model, before, model.head

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the network inside."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The features of the network inside."""
        self.before(images)
        features: Tensor = self.model.features(images)
        return features

    def over_places(self, features: Tensor) -> Tensor:
        """As in the network inside."""
        places: Tensor = self.model.over_places(features)
        return places


def slowed(classifier: Classifier, before: Callable[[Tensor], object]) -> Classifier:
    """The same classifier, which calls ``before`` with each batch."""
    return replace(classifier, model=Slow(classifier.model, before))  # type: ignore[arg-type]


def pictures(count: int, seed: int = 11) -> list[bytes]:
    """Different PNG files of 8 x 8 bars."""
    return [saved(Image.fromarray(image[..., 0])) for image in glyphs(count, seed=seed).images]


def unbatched(classifier: Classifier, data: bytes) -> list[tuple[str, float]]:
    """What the classifier says of a picture that is alone."""
    return [(label.name, label.probability) for label in classifier(data, top=3)]


def same_answer(reply: Reply, expected: list[tuple[str, float]]) -> bool:
    """Whether a reply is this answer; batches of other sizes round otherwise in the last digits of float32."""
    labels = reply.json["labels"]
    names = [label["name"] for label in labels] == [name for name, _ in expected]
    return names and bool(np.allclose([x["probability"] for x in labels], [p for _, p in expected], atol=1e-6, rtol=0))


def wait_for(happened: Callable[[], object], seconds: float = 10.0) -> None:
    """Return when it has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def assert_refused(reply: Reply, status: int) -> None:
    """A refusal of that status, in the one form, with nothing internal in it."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json) == {"error", "request"}
    assert reply.json["request"] == reply.headers["x-request-id"]
    assert [word for word in SECRETS if word in reply.body.decode()] == []


def status(answer: bytes) -> int:
    """The status of the first response in what was read from a socket."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:99]
    return int(answer.split()[1])
