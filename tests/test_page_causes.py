"""What can be switched off and opened on the page, and two networks side by side. The numbers: test_page_inside.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.reader import bars, settle, visit
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Page

PARTS = 3 * (2 + 2) + 1  # of vit: in each of three blocks the block, its choice and two heads; and the positions
CLICKS = (
    *("#undo", "#clear", "#random", "#center", "#tap-hide", ".patch >> nth=3", "#show-all", "#tap-follow"),
    *(".patch >> nth=7", "#open-patch", ".opened-step summary >> nth=3", ".part >> nth=5", ".part >> nth=-1", "#share"),
)


def test_switches_change_the_answer_and_stay_through_every_click_and_a_reload(page: Page, base: str) -> None:
    visit(page, base)
    whole = bars(page)
    visit(page, base, "off=h2.2-m1&patch=6&block=2")
    cut = bars(page)
    assert cut != whole
    assert page.locator("#causes-parts input").count() == PARTS
    off = page.locator("#causes-parts input:not(:checked)")
    assert [one.get_attribute("aria-label") for one in off.all()] == [
        *("the choice of attention in block 1", "head 2 of block 2")
    ]
    page.context.grant_permissions(["clipboard-write"])
    for clicked in CLICKS:
        page.locator(clicked).first.click()
        page.wait_for_timeout(350)  # the address is written after a pause
        assert "off=h2.2-m1" in page.evaluate("location.hash"), clicked
    before = bars(page)
    page.reload()
    settle(page)
    assert page.locator("#causes-parts input:not(:checked)").count() == 2
    assert bars(page) == before
    page.click("#causes-all")
    settle(page)
    assert page.locator("#causes-parts input:not(:checked)").count() == 0
    assert bars(page) != before
    page.locator("#causes-parts input").first.press("Space")
    page.wait_for_url(re.compile("&off=b1&"), timeout=10_000)


def test_a_cleared_drawing_leaves_switches_and_no_empty_bars(page: Page, base: str) -> None:
    visit(page, base)
    settle(page, "settled")
    assert page.locator("#causes-parts .stays:visible").count() == PARTS
    page.click("#clear")
    page.wait_for_selector("#causes-say:has-text('Nothing is drawn')")
    assert page.locator("#causes-parts .stays:visible").count() == 0
    assert page.locator("#causes-parts input:visible").count() == PARTS


def test_the_chart_says_what_becomes_of_the_answer(page: Page, base: str) -> None:
    visit(page, base)
    settle(page, "settled")
    finding = page.inner_text("#causes-finding")
    shown = page.locator("#causes-parts .value").all_inner_texts()
    assert len(shown) == PARTS
    assert all("%" in words for words in shown)
    flips = page.locator("#causes-parts .flips")
    assert finding.startswith("It reads") == (flips.count() == 0)
    page.locator("#causes-parts input").nth(1).click()
    settle(page)
    alone = page.inner_text("#causes-now")
    answer = page.inner_text("#answer")
    assert alone.startswith("Off: the choice of attention in block 1.")
    chart = shown[1].split(" %")[0].lstrip("<> ")
    top = page.inner_text("#sure").split(" %")[0]
    if " · " not in shown[1] and answer != "not sure":
        assert abs(float(chart) - float(top)) <= 0.5, "the chart foretold it"


def test_a_patch_is_opened_by_mouse_and_keyboard(page: Page, base: str) -> None:
    visit(page, base)
    assert page.is_hidden("#open-patch")
    page.locator(".patch").nth(5).click()
    settle(page)
    page.click("#open-patch")
    assert page.evaluate("document.activeElement.id") == "inside-title"
    assert page.input_value("#inside-patch") == "5"
    assert page.locator(".pixel").count() == 49
    page.select_option("#inside-block", label="3")
    page.select_option("#inside-head", label="2")
    settle(page)
    titles = page.locator(".opened-step:visible .title").all_inner_texts()
    assert titles[2] == "3 · Query, key and value in block 3, head 2"
    assert titles[-1] == "8 · The token after block 3"
    page.wait_for_url(re.compile("&block=3&head=2$"), timeout=10_000)
    page.locator(".opened-step summary").nth(3).click()
    page.wait_for_selector(".taken li:nth-child(5)")
    assert page.locator(".taken li").count() == 5
    cells = page.locator(".opened-step >> nth=1").locator(".cells").first
    cells.focus()
    page.keyboard.press("ArrowRight")
    assert (cells.get_attribute("aria-valuetext") or "").startswith("number 2: ")
    page.select_option("#inside-patch", "")
    settle(page)
    assert page.is_hidden("#inside-steps")


def test_a_part_of_the_picture_opens_its_panel(page: Page, base: str) -> None:
    visit(page, base, "off=h2.2")
    assert page.locator(".part-group").count() == 3
    assert page.locator(".part.off").count() == 1
    page.locator(".part-group >> nth=1").locator(".part >> nth=1").click()
    settle(page)
    assert [page.input_value(f"#inside-{name}") for name in ("block", "head")] == ["1", "1"]
    assert page.evaluate("document.activeElement.id") == "inside"


@pytest.mark.parametrize("network", ["cnn", "alone", "colour", "mixer"])
def test_other_networks_show_what_they_have(page: Page, base: str, network: str) -> None:
    visit(page, base, f"model={network}&patch=2&off=h1.1-b2")
    switches, steps = {"cnn": (0, 0), "alone": (4, 4), "colour": (PARTS, 8), "mixer": (4, 5)}[network]
    assert page.locator("#causes-parts input").count() == switches
    assert page.locator(".opened-step:visible").count() == steps
    assert page.locator("#network .part").count() >= 3


def corner(page: Page, selector: str) -> tuple[float, float]:
    """Left and top."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"], box["y"]


def test_two_networks_have_their_panels_next_to_each_other(page: Page, base: str) -> None:
    visit(page, base)
    assert page.locator(".copy:visible").count() == 0
    page.select_option("#compare", "finer")
    page.wait_for_selector(".copy >> nth=0")
    settle(page, "settled")
    assert page.locator(".copy:visible").count() == 5
    assert page.locator("#maps canvas").count() == 3 * 2
    assert page.locator("#maps-2 canvas").count() == 1 * 2
    assert page.locator("#patch-grid-2 .patch").count() == 49
    assert page.locator("#lens-2 li").count() == 2
    assert page.locator("#causes-parts-2 .value").count() == 2 + 2 + 1
    assert page.locator("#causes-parts-2 input").count() == 0
    assert page.locator("#lens-2 .says").last.inner_text().split(" ")[0] == page.inner_text("#answer2")
    page.locator("#patch-grid-2 .patch").nth(40).click()
    assert page.locator(".patch.marked").count() == 0, "other patches"
    (x, y), (x2, y2) = corner(page, "#attention"), corner(page, "#attention-2")
    assert x < x2
    assert y == y2
    second = page.inner_text("#sure2")
    page.click("#exchange")
    settle(page)
    assert [page.input_value("#model"), page.input_value("#compare")] == ["finer", "vit"]
    assert page.inner_text("#sure") == second
    page.set_viewport_size(dict(width=390, height=844))
    settle(page)
    (x, y), (x2, y2) = corner(page, "#attention"), corner(page, "#attention-2")
    assert x == x2
    assert y < y2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_same_patches_are_marked_in_both(page: Page, base: str) -> None:
    visit(page, base, "compare=alone")
    page.locator("#patch-grid-2 .patch").nth(5).click()
    settle(page)
    assert page.locator(".patch.marked").count() == 2
    assert page.input_value("#inside-patch") == "5"


@pytest.mark.parametrize("how", ["link", "select"])
def test_networks_of_other_classes_are_not_compared(page: Page, base: str, how: str) -> None:
    visit(page, base, "model=colour" + ("&compare=vit" if how == "link" else ""))
    if how == "select":
        page.select_option("#compare", "vit")
    page.wait_for_selector("#compare-say:text('These two cannot be compared: ')")
    settle(page)
    assert page.input_value("#compare") == ""
    assert page.locator(".copy:visible").count() == 0
    assert page.is_hidden("#second")
