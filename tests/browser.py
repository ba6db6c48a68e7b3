"""A real browser for tests of the page: Debian's chromium, driven by Playwright, and a server with a strict policy.

    def test_it(chromium: Browser, tmp_path: Path) -> None:
        with serve_folder(tmp_path) as base, watched(chromium, base) as (page, complaints):
            page.goto(f"{base}/index.html")
            ...
        assert complaints == []

``chromium`` is a fixture of all tests (conftest.py). Without a browser they are skipped, and say so.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Download, Page

QUIET = (  # no sandbox: tests run as root in containers; and no requests of the browser's own
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-default-browser-check"),
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STRICT = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy violated: ${event.violatedDirective} by ${event.blockedURI}`));
"""


def find_chromium() -> str | None:
    """The path of the installed browser."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


@contextlib.contextmanager
def running(executable: str) -> Iterator[Browser]:
    """The browser, headless, during the block."""
    from playwright.sync_api import sync_playwright

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Playwright's own use of asyncio
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, headless=True, args=QUIET)
            try:
                yield browser
            finally:
                browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of one file. Not for the whole session: while Playwright's loop runs in this thread,
    no other test could start one."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("NO CHROMIUM: THE PAGE IS UNTESTED; install it, for example: apt-get install chromium")
    with running(executable) as browser:
        yield browser


@contextlib.contextmanager
def watched(browser: Browser, base: str, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """A fresh page, and the list of what went wrong on it so far: errors and warnings on the console, violations of
    the policy, exceptions, failed requests, requests to anywhere but ``base``. ``options`` as Browser.new_context."""
    complaints: list[str] = []
    context = browser.new_context(**options)
    context.add_init_script(REPORT_VIOLATIONS)
    page = context.new_page()

    def on_request(url: str) -> None:
        if not url.startswith((f"{base}/", "blob:", "data:")):
            complaints.append(f"asked elsewhere: {url}")

    page.on("console", lambda message: note(complaints, message.type, message.text))
    page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url} {request.failure}"))
    context.on("request", lambda request: on_request(request.url))
    try:
        yield page, complaints
    finally:
        context.close()


def download(page: Page, button: str, folder: Path, count: int) -> None:
    """Press a button that hands out ``count`` files, and keep them in the new ``folder``."""
    got: list[Download] = []

    def keep(file: Download) -> None:
        got.append(file)

    page.on("download", keep)
    page.click(button)
    while len(got) < count:
        page.wait_for_timeout(20)
    page.remove_listener("download", keep)
    folder.mkdir()
    for file in got:
        file.save_as(folder / file.suggested_filename)


def note(complaints: list[str], kind: str, text: str) -> None:
    """Keep errors and warnings of the page's console."""
    if kind in ("error", "warning"):
        complaints.append(f"console {kind}: {text}")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder, each with the same extra headers; nothing is printed."""

    def __init__(self, *arguments: Any, headers: Mapping[str, str], directory: str) -> None:
        self.more = headers
        super().__init__(*arguments, directory=directory)

    def end_headers(self) -> None:
        for name, value in self.more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextlib.contextmanager
def serve_folder(folder: Path, headers: Mapping[str, str] = STRICT) -> Iterator[str]:
    """The folder at http://127.0.0.1:PORT, which is yielded, under a strict policy."""
    handler = functools.partial(Handler, headers=headers, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
