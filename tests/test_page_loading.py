"""How the page loads on a slow line: few requests, a picture and the progress early, and nothing that moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import serve_folder, watched
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SPEED = 50_000  # bytes a second
WATCH = """
window.shift = 0;
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });"""
INK = """() => {
    const canvas = document.querySelector("#slate");
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.includes(255);
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_slow_line(chromium: Browser, site: Path, width: int) -> None:
    """Nothing is compressed here, as on the simplest of hosts."""
    options: dict[str, Any] = dict(viewport=dict(width=width, height=844))
    with serve_folder(site) as base, watched(chromium, base, **options) as (page, complaints):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.add_init_script(WATCH)
        line = page.context.new_cdp_session(page)
        line.send("Network.enable")
        limits = dict(offline=False, latency=40, downloadThroughput=SPEED, uploadThroughput=SPEED)
        line.send("Network.emulateNetworkConditions", limits)
        page.goto(base + "/", wait_until="commit")
        page.wait_for_selector("#coming-say:has-text(' of ')", timeout=8000)
        assert page.evaluate(INK), "the digit draws itself"
        assert page.is_visible("#coming")
        assert page.is_hidden("#notice")
        line.send("Network.emulateNetworkConditions", limits | dict(downloadThroughput=-1))
        page.wait_for_selector("#coming", state="hidden")
        page.wait_for_selector("body.answered")
        assert page.evaluate("window.shift") < 0.1
        assert len([url for url in asked if url.startswith("http")]) <= 12
        assert complaints == []
