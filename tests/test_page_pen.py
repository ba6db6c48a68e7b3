"""The pen: interruptions while it is down, by pointer or keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.reader import bars, drag, settle, strokes, visit
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Page


def lower(page: Page, x: float = 40, y: float = 40) -> Any:
    """Lower the pen on the drawing area and draw a bit; returns the area's box."""
    box: Any = page.locator("#slate").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.down()
    page.mouse.move(box["x"] + x + 40, box["y"] + y, steps=3)
    return box


# Many moves of the pressed mouse at once: through the browser's own queue each would wait 0.1 s for a frame.
MOVES = """places => {
    for (const [clientX, clientY] of places) {
        const move = {clientX, clientY, pointerId: 1, pointerType: "mouse", isPrimary: true, buttons: 1, bubbles: true};
        document.querySelector("#slate").dispatchEvent(new PointerEvent("pointermove", move));
    }
}"""


def test_a_stroke_of_many_points_is_drawn_and_comes_into_the_address_in_the_end(page: Page, base: str) -> None:
    visit(page, base)
    page.click("#clear")
    box = lower(page)
    places = [[box["x"] + 20 + 37 * i % 200, box["y"] + 20 + 91 * i % 200] for i in range(300)]
    page.evaluate(MOVES, places)
    page.wait_for_timeout(400)
    assert "strokes=" not in page.url, "not while the pen is down"
    page.evaluate("document.getElementById('share').click()")
    assert "strokes=" in page.url
    page.mouse.up()
    assert strokes(page) == 1
    assert len(page.url) > 600, "two letters for each point"


def test_a_tap_without_moving_is_a_dot(page: Page, base: str) -> None:
    visit(page, base)
    page.click("#clear")
    settle(page)
    page.click("#slate", position={"x": 140, "y": 140})
    settle(page)
    assert strokes(page) == 1
    assert page.inner_text("#sure") != "nothing to read"


@pytest.mark.parametrize(("act", "left"), [("undo", 0), ("clear", 0), ("digit", 1)])
def test_what_changes_the_drawing_ends_the_stroke_first(page: Page, base: str, act: str, left: int) -> None:
    visit(page, base)
    page.click("#clear")
    page.focus("#slate")
    box = lower(page)
    if act == "clear":
        page.evaluate("document.getElementById('clear').click()")
    else:
        page.keyboard.press({"undo": "Control+z", "digit": "1"}[act])
    page.mouse.move(box["x"] + 200, box["y"] + 200, steps=3)
    page.mouse.up()
    settle(page)
    assert max(0, strokes(page)) == left
    said = bars(page)
    if act == "digit":
        page.keyboard.press("1")
        settle(page)
        assert bars(page) == said, "the digit, and nothing of the stroke"
        page.click("#undo")
    page.click("#undo")
    assert max(0, strokes(page)) == (0 if act == "undo" else 1), "the stroke that was ended"


def test_the_mouse_takes_the_pen_from_the_keyboard(page: Page, base: str) -> None:
    visit(page, base)
    page.click("#clear")
    page.focus("#slate")
    for key in (" ", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    drag(page, (20, 50), (80, 50))
    assert strokes(page) == 2
    page.keyboard.press("ArrowLeft")
    assert strokes(page) == 2, "the keyboard's pen is up"
