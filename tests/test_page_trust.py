"""Trust in sight: what stands beside the answer about the page's numbers and about label smoothing; and the picture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.reader import base as base
from tests.reader import page as page
from tests.reader import settle, visit
from tests.reader import site as site

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


def changed(page: Page, site: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Serve a file of the first network changed."""
    value = json.loads((site / "models" / "vit" / name).read_text())
    change(value)

    def answer(route: Route) -> None:
        route.fulfill(body=json.dumps(value), content_type="application/json")

    page.route(f"**/vit/{name}", answer)


def test_a_mark_beside_the_answer_says_that_the_numbers_are_pythons(page: Page, base: str) -> None:
    visit(page, base)
    assert page.inner_text("#trust-mark") == "Verified"
    assert page.is_hidden("#trust-say")
    page.click("#trust-mark")
    assert "match Python's on 10 of 10 known digits" in page.inner_text("#trust-say")
    assert page.is_hidden("#taught"), "no label smoothing"


@pytest.mark.parametrize(("logit", "mark", "says"), [(9.0, "Not to be trusted", "differ from Python's")])
def test_a_failed_test_is_said_beside_the_answer(
    page: Page, base: str, site: Path, logit: float, mark: str, says: str
) -> None:
    changed(page, site, "examples.json", lambda value: value["logits"][3].__setitem__(2, logit))
    visit(page, base)
    assert page.inner_text("#trust-mark") == mark
    assert says in page.inner_text("#trust-say"), "it is open already"


@pytest.mark.parametrize(("smoothing", "most"), [(0.1, "91 %"), (0.9, "19 %")])
def test_label_smoothing_is_explained(page: Page, base: str, site: Path, smoothing: float, most: str) -> None:
    """Of ten classes, the right one counts 1 - s + s/10 in training."""
    changed(page, site, "config.json", lambda value: value.update(label_smoothing=smoothing))
    visit(page, base)
    said = page.inner_text("#taught")
    assert f"the right answer counted {most}" in said
    shown = [text.partition("\n")[2].rstrip(" %").lstrip("< ") for text in page.locator("#bars li").all_inner_texts()]
    value = max(map(float, shown))
    surest = value > 100 * (1 - 0.9 * smoothing - 0.03)
    assert ("as sure as it was taught to be" in said) == surest


def test_the_answer_can_be_saved_as_a_picture(page: Page, base: str, tmp_path: Path) -> None:
    visit(page, base)
    settle(page, "settled")
    with page.expect_download() as download:
        page.click("#save-picture")
    download.value.save_as(tmp_path / "saved.png")
    assert re.fullmatch(r"vitlab-\d\.png", download.value.suggested_filename)
    pixels = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB"))
    assert pixels.shape == (630, 1200, 3)
    drawing, maps, bars = pixels[104:504, 40:440], pixels[104:504, 480:840], pixels[104:504, 880:1160]
    assert {0, 255} <= set(np.unique(drawing))
    assert min(len(np.unique(part.reshape(-1, 3), axis=0)) for part in (maps, bars)) > 20
