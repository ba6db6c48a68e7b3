"""Make the pictures of docs/do/page.md from trained runs: `python -m docs.make_page runs/SMALL runs/CNN ...`.

The first run is the network that reads, the second is compared with it. Needs a Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.browser import find_chromium, running, serve_folder, watched
from vitlab.export.web import export_web
from vitlab.predict import Classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = Path(__file__).with_name("pictures")
SCREENS: dict[str, dict[str, Any]] = {
    "page-desktop.png": dict(viewport=dict(width=1280, height=1435)),
    "page-story.png": dict(viewport=dict(width=1280, height=800)),
    "page-phone.png": dict(viewport=dict(width=375, height=812), has_touch=True, is_mobile=True, color_scheme="dark"),
}


def photograph(browser: Browser, base: str, name: str, choices: str) -> None:
    """One picture of the page after its first digit has drawn itself."""
    with watched(browser, base, **SCREENS[name]) as (page, complaints):
        page.goto(f"{base}/index.html#{choices}")
        page.wait_for_selector("#turn:text('Your turn')", timeout=60_000)
        page.wait_for_selector("body.settled", timeout=60_000)
        if name == "page-story.png":
            tell(page)
        page.wait_for_timeout(1500)  # the patches have lifted apart, and nothing scrolls any more
        page.screenshot(path=PICTURES / name)
        assert not complaints, complaints
    with Image.open(PICTURES / name) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4)  # a third of the bytes
    few.save(PICTURES / name, optimize=True)


def tell(page: Page) -> None:
    """A 4 is drawn, and the story shows where a patch of it looks."""
    page.keyboard.press("4")
    page.wait_for_selector("#answer:text('4')")
    page.wait_for_selector("body.settled", timeout=60_000)
    page.click("#story-open")
    while page.inner_text("#story-title") != "Tokens look at each other":
        page.click("#story-next")
    page.wait_for_selector("body.settled", timeout=60_000)


def main(runs: list[str]) -> None:
    """Export the runs as a page into a temporary folder, and take its pictures."""
    executable = find_chromium()
    if executable is None or len(runs) < 2:
        raise SystemExit("usage: python -m docs.make_page RUN OTHER_RUN ..., where a Chromium is installed")
    with tempfile.TemporaryDirectory() as folder:
        export_web([Classifier.load(Path(run)) for run in runs], Path(folder) / "page")
        compared = Path(runs[1]).name
        PICTURES.mkdir(exist_ok=True)
        with running(executable) as browser, serve_folder(Path(folder) / "page") as base:
            photograph(browser, base, "page-desktop.png", f"compare={compared}&patch=27")
            photograph(browser, base, "page-story.png", "")
            photograph(browser, base, "page-phone.png", "")


if __name__ == "__main__":
    main(sys.argv[1:])
