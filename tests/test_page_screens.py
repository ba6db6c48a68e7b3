"""The page on screens of all widths, light and dark: the answer beside the drawing, and nothing that axe-core finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.browser import watched
from tests.reader import base as base
from tests.reader import settle, visit
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
SCREENS = [(280, 653), (390, 844), (844, 390), (820, 1180), (1024, 768), (1280, 800), (1920, 1080), (2560, 1440)]
IN_VIEW = """() => ["#answer", "#chip-answer"].some((id) => {
    const element = document.querySelector(id);
    const { top, bottom, left, right, width } = element.getBoundingClientRect();
    return element.checkVisibility() && element.textContent.trim() !== "" && width > 0 &&
        top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth;
})"""


def test_any_width_shows_the_answer_beside_the_drawing_and_never_scrolls_sideways(chromium: Browser, base: str) -> None:
    with watched(chromium, base, reduced_motion="reduce") as (page, complaints):
        visit(page, base)
        for model in ("vit", "colour"):
            page.select_option("#model", model)
            page.wait_for_selector(f"#model-facts:text('{model}')", state="attached")
            for width, height in SCREENS:
                page.set_viewport_size(dict(width=width, height=height))
                page.evaluate("scrollTo(0, 0)")
                settle(page)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (model, width)
                assert page.evaluate(IN_VIEW), (model, width)
        assert complaints == []


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci")
def test_axe_finds_no_violation_with_and_without_the_story(chromium: Browser, base: str) -> None:
    found: dict[str, Any] = {}
    with watched(chromium, base, reduced_motion="reduce") as (page, _):
        visit(page, base, "compare=cnn&hide=3")
        page.evaluate(AXE.read_text())
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for width in (390, 1280):
                page.set_viewport_size(dict(width=width, height=844))
                for told in (False, True):
                    if page.is_visible("#story") != told:
                        page.click("#story-open")
                    settle(page)
                    violations = page.evaluate("axe.run().then(({ violations }) => violations)")
                    found |= {
                        f"{scheme} {width} {told} {one['id']}": [node["html"][:200] for node in one["nodes"]]
                        for one in violations
                    }
                page.keyboard.press("Escape")
    assert found == {}


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_violation_in_any_step_of_the_story(
    chromium: Browser, base: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    found: dict[str, Any] = {}
    options: dict[str, Any] = dict(viewport=dict(width=width, height=844), color_scheme=scheme)
    with watched(chromium, base, reduced_motion="reduce", **options) as (page, _):
        visit(page, base)
        page.evaluate(AXE.read_text())
        page.click("#story-open")
        while page.is_visible("#story"):
            settle(page)
            violations = page.evaluate("axe.run().then(({ violations }) => violations)")
            step = page.inner_text("#story-title")
            found |= {f"{step} {one['id']}": [node["html"][:200] for node in one["nodes"]] for one in violations}
            page.click("#story-next")
    assert found == {}
