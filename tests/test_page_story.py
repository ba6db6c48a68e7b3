"""The page's story: when it begins, how one walks through it, and what it leaves behind."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import watched
from tests.reader import bars, drag, settle, strokes, visit
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STEPS, NEEDED = 10, 9  # of a network with attention: all, what it needed


@pytest.fixture
def newcomer(chromium: Browser, base: str) -> Iterator[Page]:
    """The page as somebody sees it who has never been there."""
    room = dict(width=1280, height=900)  # for the card below the drawing
    with watched(chromium, base, newcomer=True, reduced_motion="reduce", viewport=room) as (page, complaints):
        yield page
        assert complaints == []


def test_it_begins_by_itself_after_the_first_digit_and_never_again(newcomer: Page, base: str) -> None:
    visit(newcomer, base)
    settle(newcomer, "settled")
    newcomer.wait_for_timeout(1800)
    assert newcomer.is_hidden("#story"), "the page's own digit is not the user's"
    drag(newcomer, (30, 30), (70, 30), (45, 80))
    newcomer.wait_for_selector("#story:visible", timeout=10_000)
    assert newcomer.evaluate("scrollY") == 0, "the drawing stays where it is"
    assert newcomer.locator("#receives.lit").count() == 1
    newcomer.keyboard.press("Escape")
    assert newcomer.is_hidden("#story")
    assert newcomer.evaluate("document.cookie") == ""
    visit(newcomer, base)
    newcomer.keyboard.press("4")
    settle(newcomer, "settled")
    newcomer.wait_for_timeout(1800)
    assert newcomer.is_hidden("#story")


@pytest.mark.parametrize("before", ["a link", "other work"])
def test_it_does_not_begin_over_the_users_work(newcomer: Page, base: str, before: str) -> None:
    visit(newcomer, base, "hide=3" if before == "a link" else "")
    newcomer.keyboard.press("4")
    if before == "other work":
        newcomer.check("input[name=tap][value=hide]")
    settle(newcomer, "settled")
    newcomer.wait_for_timeout(1800)
    assert newcomer.is_hidden("#story")


def test_the_keyboard_alone_walks_it_with_one_panel_in_the_light(page: Page, base: str) -> None:
    visit(page, base)
    page.keyboard.press("7")
    settle(page, "settled")
    page.focus("#story-open")
    page.keyboard.press("Enter")
    seen: list[str] = []
    for place in range(1, STEPS + 1):
        assert page.inner_text("#story-place") == f"{place} of {STEPS}"
        assert page.locator(".lit").count() == 1
        box = page.locator(".lit").bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 500, "it was scrolled into view"
        assert "undefined" not in page.inner_text("#story")
        seen.append(page.inner_text("#story-title"))
        if place < STEPS:
            page.keyboard.press("ArrowRight")
    assert len(set(seen)) == STEPS
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#story-place") == f"{STEPS} of {STEPS}"
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#story-place") == f"{STEPS - 1} of {STEPS}"
    page.keyboard.press("Escape")
    assert page.is_hidden("#story")
    assert page.evaluate("document.activeElement.id") == "story-open"
    assert page.locator(".lit").count() == 0
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.is_hidden("#story")
    assert page.evaluate("document.activeElement.id") == "slate", "the free page"


def test_what_was_tried_is_taken_back_and_the_address_keeps_the_drawing(page: Page, base: str) -> None:
    visit(page, base, "rotate=5")
    drag(page, (30, 30), (70, 30), (45, 80))
    settle(page, "settled")
    said = bars(page)
    page.click("#story-open")
    for _ in range(NEEDED - 1):
        page.click("#story-next")
    asked = page.inner_text("#story-act")
    assert re.fullmatch(r"Hide these \d+ patches", asked)
    page.click("#story-act")
    page.wait_for_selector(".patch.gone", state="attached")
    settle(page)
    assert page.locator(".patch.gone").count() == int(asked.split()[2])
    assert re.match("It still reads|Now it reads|Not sure any more|Still not sure", page.inner_text("#story-ask"))
    assert bars(page) != said
    assert page.inner_text("#story-reads") == "", "the sentence above has said it"
    assert strokes(page) == 1
    assert "hide=" in page.url
    page.click("#story-next")
    settle(page)
    assert bars(page) == said, "taken back"
    page.mouse.move(*middle(page, "#story"))
    page.mouse.wheel(0, -100)
    page.wait_for_selector(f"#story-place:text('{NEEDED} of {STEPS}')")
    assert page.inner_text("#story-act") == asked
    page.click("#story-close")
    assert strokes(page) == 1
    assert "rotate=5" in page.url


def test_a_step_shows_what_it_speaks_of_and_takes_it_back(page: Page, base: str) -> None:
    visit(page, base)
    page.keyboard.press("7")
    settle(page, "settled")
    page.click("#story-open")
    for _ in range(2):
        page.click("#story-next")
    page.wait_for_selector("#inside > .lit .pixel:visible")
    opened = int(page.input_value("#inside-patch")) + 1
    first = page.inner_text("#inside-steps .vectors >> nth=1").split(": ")[1].split(", ")[0]
    page.wait_for_selector(f"#story-say:has-text('Patch {opened}, for example')")
    page.wait_for_selector(f"#story-say:has-text('({first}, ')")
    page.click("#story-next")
    page.wait_for_selector(".opened-step.lit")
    box = page.locator(".opened-step.lit").bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 500, "it was scrolled into view when it had been read"
    page.click("#story-next")
    page.wait_for_selector(f"#attention-whose:text('from patch {opened}')")
    page.wait_for_selector(f"#story-sums span:text-is('query of patch {opened}')")
    other = page.inner_text("#story-act").split()[-1]
    page.evaluate("document.querySelectorAll('.opened-step')[3].open = true")
    page.click("#story-act")
    page.wait_for_selector(f"#story-sums span:text-is('query of patch {other}')")
    page.wait_for_selector(f"#story-ask:has-text('patch {other} takes most from ')")
    most, share = page.inner_text(".taken li >> nth=0").split(": ")
    said = page.inner_text("#story-ask").replace("\xa0", " ")
    most = "itself" if most == f"patch {other}" else most
    assert f"from {most} ({share.split(' → ')[1]})" in said
    sums = page.locator("#story-sums .sum >> nth=0").locator("li").all_inner_texts()
    score, taken = share.split(" → ")
    assert sums[0].endswith(f"≈ {score}")
    assert sums[1].replace("\xa0", " ").endswith(f": {taken}")
    page.keyboard.press("Escape")
    settle(page)
    assert page.input_value("#inside-patch") == ""


def number(text: str) -> float:
    """As the page writes it, with its minus sign, or times a power of 10."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace(" \u00d7 10", "e")
    return float(plain.replace(",", "").strip(" %"))


def test_the_sums_on_the_card_come_out_and_the_mlp_is_opened(page: Page, base: str) -> None:
    visit(page, base)
    page.keyboard.press("7")
    settle(page, "settled")
    page.click("#story-open")
    for _ in range(4):
        page.click("#story-next")
    page.wait_for_selector("#story-sums .sum")
    for column in page.locator("#story-sums .sum").all():
        first, second = (text.replace("\xa0", " ") for text in column.locator("li").all_inner_texts())
        found = re.fullmatch(r"(?:Most|Least): sum (\S+) / √(\d+) ≈ (\S+)", first)
        assert found, first
        sum_, width, score = map(number, found.groups())
        assert width == 11
        assert abs(sum_ / width**0.5 - score) < 0.01
        found = re.fullmatch(r"2\.718\^(\S+) ≈ (.+), of (.+) in all: (.+ %)", second)
        assert found, second
        power, total, share = (number(found[i]) for i in (2, 3, 4))
        assert number(found[1]) == score
        assert abs(math.log(power) - score) < 0.05
        assert abs(100 * power / total - share) < 0.2
    page.click("#story-next")
    page.wait_for_selector("#story-sums .bar-row:nth-child(3)")
    page.click("#story-next")
    page.wait_for_selector(".opened-step.lit[open] .title:text('The MLP')")
    page.click("#story-next")
    page.wait_for_selector("#story-table tr")
    assert page.locator(".opened-step[open]").count() == 2, "closed again"
    rows = [[cell.replace("\xa0", " ") for cell in row] for row in page.evaluate(TABLE)]
    values = dict(text.split("\n") for text in bars(page))
    for name, score, power, share in rows[1:4]:
        assert share == values[name]
        assert abs(math.exp(number(score)) / number(power) - 1) < 0.05
        assert abs(number(power) / number(rows[4][2]) * 100 - number(share)) < 0.2


TABLE = "[...document.querySelectorAll('#story-table tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"


def test_a_step_shows_the_image_in_patches_of_several_sizes(page: Page, base: str) -> None:
    visit(page, base, "model=finer")
    page.keyboard.press("7")
    settle(page, "settled")
    page.click("#story-open")
    for _ in range(STEPS - 1):
        assert page.is_hidden("#story-grids")
        page.click("#story-next")
    said = [text.split("\n") for text in page.locator("#story-grids li").all_inner_texts()]
    assert [(many, pairs) for many, _, pairs in said] == [
        ("4 patches", "16 pairs"),
        ("16 patches", "256 pairs"),
        ("49 patches", "2,401 pairs"),
        ("196 patches", "38,416 pairs"),
    ]
    assert page.inner_text("#story-grids [aria-current=true]").startswith("49 ")
    pictures = page.evaluate("[...document.querySelectorAll('#story-grids canvas')].map((one) => one.toDataURL())")
    assert len(set(pictures)) == 4
    page.focus("#slate")
    page.keyboard.press("1")
    settle(page)
    other = page.evaluate("[...document.querySelectorAll('#story-grids canvas')].map((one) => one.toDataURL())")
    assert not set(pictures) & set(other), "of the present drawing"


@pytest.mark.parametrize(
    ("squares", "sides"),
    [
        ((7, 4, 0, 28), [14, 7, 4, 2]),
        ((5, 4, 0, 20), [10, 4, 2]),
        ((6, 4, 0, 24), [12, 8, 4, 2]),
        ((4, 7, 0, 29), [14, 7, 4, 2]),
        ((28, 1, 0, 28), [7, 4, 2, 1]),
        ((1, 29, 0, 29), [29]),
    ],
)
def test_the_sizes_fill_the_image_and_its_own_is_among_them(
    page: Page, base: str, squares: tuple[int, ...], sides: list[int]
) -> None:
    page.goto(f"{base}/engine.html")
    own = dict(zip(("grid", "side", "margin", "size"), squares, strict=True))
    found = page.evaluate("async (own) => (await import('/panels/grids.js')).gridsOf(own)", own)
    assert [one["side"] for one in found] == sides
    assert all(one["grid"] * one["side"] == squares[0] * squares[1] for one in found)


def test_on_a_phone_the_panel_of_each_step_is_in_sight_above_the_card(page: Page, base: str) -> None:
    page.set_viewport_size(dict(width=390, height=844))
    visit(page, base)
    page.keyboard.press("7")
    settle(page, "settled")
    page.click("#story-open")
    for place in range(1, STEPS + 1):
        settle(page, "settled")
        panel, card = (page.locator(name).bounding_box() for name in (".lit", "#story"))
        assert panel is not None
        assert card is not None
        assert panel["y"] >= 0, place
        assert panel["y"] + min(panel["height"], card["y"] - 16) <= card["y"], place
        if place == NEEDED:
            for key in ("#looked-key", "#needed-key"):
                box = page.locator(key).bounding_box()
                assert box is not None
                assert box["y"] + box["height"] <= card["y"], "the scale can be read"
            assert page.locator("#needed-key .means span").all_inner_texts() == ["rises", "no change", "falls"]
            assert page.locator("#looked-key .means span").all_inner_texts() == ["less", "even share", "more"]
        if place < STEPS:
            page.click("#story-next")


def middle(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize(("network", "steps"), [("cnn", 5), ("alone", 9), ("colour", 10), ("mixer", 9)])
def test_every_network_has_its_own_story(page: Page, base: str, network: str, steps: int) -> None:
    visit(page, base, f"model={network}")
    page.click("#story-open")
    told = []
    for place in range(1, steps + 1):
        assert page.inner_text("#story-place") == f"{place} of {steps}"
        told.append(page.inner_text("#story"))
        page.wait_for_function(
            "() => /\\S\\n+\\S/.test(document.querySelector('.lit').innerText)"
        )  # more than its title
        assert page.locator("#story-way [aria-current=step]").count() == (place < steps), "where on the way"
        page.click("#story-next")
    whole = " ".join(told)
    assert page.is_hidden("#story")
    assert ("patches of" in whole) == (network != "cnn")
    assert ("contain ink" in whole) == (network in ("alone", "mixer"))
    assert ("digit" in whole) == (network != "colour")
    assert ("a query" in whole) == ("[ attention" in whole) == (network == "colour"), "attention"
    assert ("MLP-Mixer" in whole) == ("are mixed" in whole) == (network == "mixer")
