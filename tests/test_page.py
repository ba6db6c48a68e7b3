"""The page in a real browser, under the strict policy, with networks of random weights: drawing and reading.

Its numbers: test_page_engine.py. Choices, keyboard, phone and failures: test_page_use.py.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.browser import serve_folder, watched
from tests.reader import HOSTILE, bars, drag, settle, strokes, visit
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import site as site
from vitlab.predict import decode

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Start


def test_it_draws_a_digit_by_itself_and_every_panel_shows_it(chromium: Browser, base: str) -> None:
    with watched(chromium, base) as (page, complaints):
        page.goto(base + "/")
        page.wait_for_selector("#turn:text('Your turn')", timeout=10_000)
        settle(page, "settled")
        assert page.inner_text("#answer") in "0123456789" or page.inner_text("#answer") == "not sure"
        assert page.locator("#bars li").count() == 10
        assert page.locator("#strip li").all_inner_texts() == ["drawing", "its box", "20 pixels", "centred", "input"]
        assert page.locator("#patch-grid .patch").count() == 16
        assert page.locator("#maps canvas").count() == 3 * 2
        assert page.locator("#lens li").count() == 4
        assert page.locator("#story li").count() == 8
        labels = [page.get_attribute(f"#curve-{kind}", "aria-label") for kind in ("rotate", "shift", "noise")]
        assert all(label and label.startswith("The answer") for label in labels)
        assert "10 of 10 known digits" in page.inner_text("#selftest")
        assert "40.00 to 60.00" in page.inner_text("#model-facts")
        assert re.fullmatch(r"\d+\.\d ms .*", page.inner_text("#speed"))
        assert complaints == []


def test_the_first_touch_takes_over_while_the_digit_is_still_being_drawn(chromium: Browser, base: str) -> None:
    with watched(chromium, base) as (page, complaints):
        page.goto(base + "/")
        page.wait_for_selector("body.alive")
        drag(page, (30, 50), (70, 50))
        page.wait_for_timeout(300)
        assert strokes(page) == 1
        assert page.is_hidden("#turn")
        assert complaints == []


def test_pictures_of_the_panels_are_not_empty(page: Page, base: str) -> None:
    visit(page, base, "patch=6")
    settle(page, "settled")
    for canvas in ("#slate", "#tokens", "#looked", "#needed", "#curve-rotate", ".thumb >> nth=4", ".map >> nth=3"):
        colours = page.locator(canvas).first.evaluate(
            """(canvas) => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return new Set(new Uint32Array(data.buffer)).size;
            }"""
        )
        assert colours > 5, canvas


def test_it_works_in_a_folder_of_any_host(chromium: Browser, site: Path) -> None:
    with serve_folder(site.parent) as base, watched(chromium, f"{base}/page", reduced_motion="reduce") as (page, bad):
        visit(page, f"{base}/page")
        assert bad == []


# Draw


def test_a_pointer_draws_and_every_stroke_can_be_undone(page: Page, base: str) -> None:
    visit(page, base)
    page.click("#clear")
    settle(page)
    assert page.inner_text("#sure") == "nothing to read"
    drag(page, (30, 20), (70, 20), (45, 80))
    drag(page, (40, 50), (60, 50))
    settle(page)
    both = bars(page)
    assert strokes(page) == 2
    page.click("#undo")
    settle(page)
    assert strokes(page) == 1
    assert bars(page) != both
    page.click("#undo")
    settle(page)
    assert page.inner_text("#sure") == "nothing to read"


def test_undo_remembers_fifty_steps(page: Page, base: str) -> None:
    visit(page, base)
    for _ in range(57):
        page.keyboard.press("1")
    page.locator("#undo").evaluate("(button) => { for (let i = 0; i < 99; i++) button.click(); }")
    assert strokes(page) == 1, "the eighth 1: earlier steps are gone"


def test_a_cancelled_pointer_ends_its_stroke(page: Page, base: str) -> None:
    visit(page, base)
    box = page.locator("#slate").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 60)
    page.dispatch_event("#slate", "pointercancel", {"pointerId": 1})
    page.mouse.move(box["x"] + 120, box["y"] + 240, steps=3)
    page.mouse.up()
    settle(page)
    lowest = """async () => {
        const { decodeStrokes } = await import("/strokes.js");
        const strokes = decodeStrokes(new URLSearchParams(location.hash.slice(1)).get("strokes"));
        return Math.max(...strokes.flatMap(({ points }) => points.map(([, y]) => y)));
    }"""
    assert strokes(page) == 1
    assert page.evaluate(lowest) < 80


def test_the_pen_has_a_thickness(page: Page, base: str) -> None:
    ink = []
    for thickness in ("8", "44"):
        visit(page, base, "center=0")
        page.fill("#thickness", thickness)
        drag(page, (30, 50), (70, 50))
        settle(page)
        ink.append(bars(page))
    assert ink[0] != ink[1]


def test_a_test_digit_comes_with_its_known_label(page: Page, base: str) -> None:
    visit(page, base)
    page.click("#random")
    settle(page)
    assert re.fullmatch(r"Known label: \d", page.inner_text("#truth"))
    drag(page, (5, 5), (95, 5))
    settle(page)
    assert page.is_hidden("#truth"), "the image was changed"


def test_a_picture_of_dark_ink_on_paper_is_read_like_the_light_one(page: Page, base: str, tmp_path: Path) -> None:
    ink = np.zeros((90, 130), dtype=np.uint8)
    ink[20:70, 60:71] = 255
    said = []
    for name, pixels in (("light.png", ink), ("dark.png", 255 - ink)):
        Image.fromarray(pixels).save(tmp_path / name)
        visit(page, base)
        page.set_input_files("#picture-file", tmp_path / name)
        page.wait_for_selector("#turn", state="hidden")  # the picture is there, not the 7 that the page begins with
        settle(page)
        said.append(bars(page))
    assert said[0] == said[1]
    assert page.locator("#strip li").count() == 5


@pytest.mark.parametrize(("shade", "choices"), [(0, ""), (0, "center=0"), (255, "")])
def test_a_blank_picture_is_not_a_drawing(page: Page, base: str, tmp_path: Path, shade: int, choices: str) -> None:
    Image.new("L", (37, 41), shade).save(tmp_path / "blank.png")
    visit(page, base, f"compare=cnn&{choices}")
    page.set_input_files("#picture-file", tmp_path / "blank.png")
    page.wait_for_selector("#sure:text('nothing to read')")
    settle(page)
    assert page.inner_text("#sure2") == "nothing to read"
    assert page.locator("#bars .value").all_inner_texts() == [""] * 10


@pytest.mark.parametrize("ink", [(255, 250, 240), (9, 30, 60), (140, 130, 120), None])
def test_transparent_pixels_become_the_same_as_in_predict(
    page: Page, base: str, tmp_path: Path, ink: tuple[int, int, int] | None
) -> None:
    """For networks that read drawings; for others the grey of their training images, as in Pillow's alpha_composite."""
    pixels = np.zeros((31, 29, 4), dtype=np.uint8)
    if ink:
        pixels[7:22, 9:13] = (*ink, 255)
        pixels[20:25, 13:19] = (*ink, 102)
    Image.fromarray(pixels).save(tmp_path / "ink.png")
    greys = [(under, Image.new("RGBA", (29, 31), (under,) * 3)) for under in (0, 173)]
    laid = {
        under: np.array(Image.alpha_composite(grey, Image.fromarray(pixels)).convert("RGB")) for under, grey in greys
    }
    drawn = decode((tmp_path / "ink.png").read_bytes(), "ink.png")
    expected = laid | {None: np.broadcast_to(drawn, (31, 29, 3))}
    visit(page, base)
    text = base64.b64encode((tmp_path / "ink.png").read_bytes()).decode()
    for under, pixels in expected.items():
        decoded = page.evaluate(
            """async ([text, under]) => {
                const { decodePicture, toPixels } = await import("/pictures.js");
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                return Array.from(toPixels(await decodePicture(new Blob([bytes]), under), 3).pixels);
            }""",
            [text, under],
        )
        assert np.abs(np.reshape(decoded, (31, 29, 3)) - pixels.astype(int)).max() <= 2  # alpha is premultiplied


def test_a_file_that_is_not_a_picture_is_refused_in_one_sentence(page: Page, base: str, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"not a picture")
    visit(page, base)
    before = bars(page)
    page.set_input_files("#picture-file", tmp_path / "notes.png")
    page.wait_for_selector("#notice:text('cannot read notes.png as a picture')")
    assert bars(page) == before


# Read


def test_centring_can_be_switched_off(page: Page, base: str) -> None:
    visit(page, base)
    page.click("#clear")
    drag(page, (10, 8), (24, 8), (14, 30))
    settle(page)
    centred = bars(page)
    page.uncheck("#center")
    settle(page)
    assert page.locator("#strip li").all_inner_texts() == ["drawing", "28 pixels", "input"]
    assert bars(page) != centred
    page.check("#center")
    settle(page)
    assert bars(page) == centred


def test_a_patch_can_be_hidden_and_shown_again(page: Page, base: str) -> None:
    visit(page, base)
    whole = bars(page)
    page.check("input[name=tap][value=hide]")
    page.click("[data-patch='6']")
    settle(page)
    assert bars(page) != whole
    assert page.get_attribute("[data-patch='6']", "aria-pressed") == "true"
    assert page.locator("[data-patch='6']").get_attribute("aria-label") == "Patch 7, row 2, column 3, hidden"
    page.click("#show-all")
    settle(page)
    assert bars(page) == whole


def test_one_highlight_runs_through_all_panels(page: Page, base: str) -> None:
    visit(page, base)
    assert page.inner_text("#attention-whose") == "average over all patches"
    page.hover("#needed", position={"x": 50, "y": 140})  # of about 160: row 4, column 2
    page.wait_for_selector("[data-patch='13'].marked")
    assert page.inner_text("#attention-whose") == "from patch 14"
    page.mouse.move(2, 2)
    page.wait_for_selector("[data-patch='13']:not(.marked)")
    page.click("[data-patch='5']")
    page.mouse.move(2, 2)
    assert page.inner_text("#attention-whose") == "from patch 6"


@pytest.mark.parametrize(
    ("network", "sentence", "maps"), [("cnn", "no attention", 0), ("alone", "trained without attention", 0)]
)
def test_a_network_without_attention_says_so(page: Page, base: str, network: str, sentence: str, maps: int) -> None:
    visit(page, base, f"model={network}")
    assert sentence in page.inner_text("#attention-say")
    assert page.locator("#maps canvas:visible").count() == maps
    assert page.is_hidden("#looked")
    assert page.is_visible("#needed")


def test_colours_seventeen_classes_and_names_that_are_markup(page: Page, base: str) -> None:
    visit(page, base, "model=colour")
    assert page.locator("#bars li").count() == 10
    assert page.locator(".columns10").first.locator(".bin").count() == 10
    assert page.is_hidden("#center")
    page.click("#clear")
    settle(page)
    assert page.inner_text("#turn") == "Open a picture, or draw here"
    invitation = f"{page.inner_text('header')} {page.title()} {page.inner_text('#draw')}"
    assert not re.search("draw a digit", invitation, re.I)
    assert "in colour" in page.inner_text("#strip-say")
    page.click("#random")
    settle(page)
    assert page.locator("#slate").evaluate(
        """(canvas) => { const { data } = canvas.getContext("2d").getImageData(20, 20, 99, 99);
        return data.some((value, i) => i % 4 === 0 && value !== data[i + 1]); }"""
    ), "in colour"
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#scatter title").all_text_contents()[1], "the tooltip of a point"
