"""Links and known images: what a link restores, on a fresh page and pasted into an open one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import watched
from tests.reader import bars, settle, strokes, visit
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def with_other_data(page: Page, site: Path, name: str) -> None:
    """From now on this network claims to be trained on clothes."""
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


def test_links_within_the_page_leave_everything_as_it_is(page: Page, base: str) -> None:
    visit(page, base, "model=finer&rotate=20")
    page.keyboard.press("8")
    settle(page)
    said = bars(page)
    strokes(page)
    page.keyboard.press("Tab")
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "slate"
    before = page.url
    assert "strokes=" in before
    page.evaluate("location.hash = '#needs'")
    page.wait_for_timeout(100)
    settle(page)
    assert (page.input_value("#model"), page.input_value("#range-rotate"), bars(page)) == ("finer", "20", said)
    assert page.url == before, "the address still holds the drawing"


def paste(page: Page, choices: str) -> None:
    """Put a link's choices into the address of the open page."""
    page.evaluate("(choices) => { location.hash = choices; }", choices)


def test_a_link_pasted_into_the_open_page_does_what_it_does_on_a_fresh_one(page: Page, base: str, site: Path) -> None:
    """Its known image is that of its network, and patches beyond the grid are left out."""
    with_other_data(page, site, "cnn")
    link = "model=cnn&test=5&hide=3.999&patch=888"
    visit(page, base, link)
    said, gone = bars(page), page.locator(".patch.gone").count()
    assert (page.inner_text("#truth"), gone) == ("Known label: dress 5", 1)
    visit(page, base)
    paste(page, link)
    page.wait_for_selector("#model-facts:text('clothes')")
    settle(page)
    assert (page.inner_text("#truth"), page.locator(".patch.gone").count()) == ("Known label: dress 5", 1)
    assert bars(page) == said
    paste(page, "hide=2.999&patch=777")
    page.wait_for_selector("[data-patch='1'].gone")
    settle(page)
    strokes(page)
    assert "hide=2&" in page.url + "&"
    assert "patch=" not in page.url


def test_a_link_pasted_during_the_demonstration_keeps_its_strokes(chromium: Browser, base: str) -> None:
    with watched(chromium, base, reduced_motion="reduce") as (page, _):
        visit(page, base)
        page.keyboard.press("4")
        settle(page)
        assert strokes(page) == 2
        link, said = page.url.partition("#")[2], bars(page)
    with watched(chromium, base) as (page, complaints):
        page.goto(f"{base}/index.html")
        page.wait_for_selector("body.alive")
        paste(page, link)
        page.wait_for_timeout(500)
        settle(page)
        assert bars(page) == said
        assert complaints == []


@pytest.mark.parametrize("fresh", [True, False])
def test_a_link_to_a_known_image_that_is_not_here_says_so_and_begins_as_usual(
    page: Page, base: str, fresh: bool
) -> None:
    visit(page, base)
    said = bars(page)
    if fresh:
        visit(page, base, "test=9999")
    else:
        page.keyboard.press("3")
        paste(page, "test=9999")
    page.wait_for_selector("#notice:visible")
    settle(page)
    assert page.inner_text("#notice") == "The link asks for known image 9999, but this network has only 0 to 10."
    assert bars(page) == said


def test_a_pasted_link_to_a_network_that_is_not_here_says_so(page: Page, base: str) -> None:
    visit(page, base)
    paste(page, "model=gone&patch=3")
    page.wait_for_selector("#notice:text('The link asks for a network that this page does not have: gone.')")
    settle(page)
    assert page.input_value("#model") == "vit"
    assert page.inner_text("#attention-whose") == "from patch 3"


def test_a_link_is_followed_though_the_page_writes_its_address_before_it_hears_of_it(page: Page, base: str) -> None:
    visit(page, base)
    page.uncheck("#center")
    at_once = "(choices) => { location.hash = choices; document.querySelector('#share').click(); }"
    page.evaluate(at_once, "model=finer&rotate=20")
    page.wait_for_selector("[data-patch='48']", timeout=5_000)  # its grid is 7 x 7
    settle(page)
    assert (page.input_value("#model"), page.input_value("#range-rotate")) == ("finer", "20")
    assert page.is_checked("#center"), "the link says nothing of it"
    strokes(page)
    assert "model=finer&rotate=20" in page.url
