"""Pictures of the page's story, a file for each step: `python -m docs.make_story OUT RUN`. Needs a Chromium.

Whoever sees only these pictures, in order, should be able to say how the network reads a digit.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser import find_chromium, running, serve_folder, watched
from vitlab.export.web import export_web
from vitlab.predict import Classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DIGIT = "4"
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": dict(viewport=dict(width=1280, height=800)),
    "phone": dict(viewport=dict(width=390, height=844), has_touch=True, is_mobile=True),
}
SETTLED = "body.settled"


def photograph(browser: Browser, base: str, out: Path, screen: str) -> None:
    """Walk through the whole story and take a picture of each step, before and after what there is to try."""
    with watched(browser, base, newcomer=True, reduced_motion="reduce", **SCREENS[screen]) as (page, complaints):
        page.goto(f"{base}/index.html")
        page.wait_for_selector(SETTLED)
        page.keyboard.press(DIGIT)
        page.wait_for_selector("#story:visible", timeout=60_000)  # by itself, since this is a first visit
        steps = int(page.inner_text("#story-place").split()[-1])
        for step in range(1, steps + 1):
            page.wait_for_selector(SETTLED)
            page.screenshot(path=out / f"{screen}-{step:02d}.png")
            if page.is_visible("#story-act"):
                page.click("#story-act")
                page.wait_for_timeout(100)
                page.wait_for_selector(SETTLED)
                page.screenshot(path=out / f"{screen}-{step:02d}-tried.png")
            page.click("#story-next")
        assert page.is_hidden("#story")
        assert not complaints, complaints


def main(arguments: list[str]) -> None:
    """Export the run as a page into a temporary folder, and take the story's pictures."""
    executable = find_chromium()
    if executable is None or len(arguments) != 2:
        raise SystemExit("usage: python -m docs.make_story OUT RUN, where a Chromium is installed")
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        export_web([Classifier.load(Path(arguments[1]))], Path(folder) / "page")
        with running(executable) as browser, serve_folder(Path(folder) / "page") as base:
            for screen in SCREENS:
                photograph(browser, base, out, screen)


if __name__ == "__main__":
    main(sys.argv[1:])
