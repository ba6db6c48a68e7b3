"""Links and known images: what a link restores, on a fresh page and pasted into an open one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.reader import bars, settle, strokes, visit
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Page


def with_other_data(page: Page, site: Path, name: str) -> None:
    """From now on this network has learned from clothes."""
    config = json.loads((site / "models" / name / "config.json").read_text())
    config |= {"data": "clothes", "classes": [f"dress {i}" for i in range(len(config["classes"]))]}
    page.route(f"**/models/{name}/config.json", lambda route: route.fulfill(json=config))


def test_a_known_image_keeps_its_own_label_and_is_a_picture_for_networks_of_other_data(
    page: Page, base: str, site: Path
) -> None:
    with_other_data(page, site, "cnn")
    visit(page, base, "test=3")
    assert page.inner_text("#truth") == "Known label: 3"
    page.select_option("#model", "finer")
    settle(page)
    assert page.inner_text("#truth") == "Known label: 3", "the same data"
    page.select_option("#model", "cnn")
    page.wait_for_selector("#model-facts:text('clothes')")
    settle(page)
    assert page.is_hidden("#truth")
    strokes(page)
    assert "test=" not in page.url, "its number means another image there"
    said = bars(page)
    page.keyboard.press("4")
    settle(page)
    page.click("#undo")
    settle(page)
    assert bars(page) == said, "the picture is still there"
