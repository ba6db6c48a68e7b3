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


def test_a_sentence_beside_the_answer_says_that_the_numbers_are_pythons(page: Page, base: str) -> None:
    visit(page, base)
    assert page.inner_text("#trust") == (
        "Verified: on 10 known digits, your browser computed the same numbers as the original program in Python."
    )
    assert "match Python's on 10 of 10 known digits" in page.inner_text("#selftest")
    assert page.is_hidden("#taught"), "no label smoothing"


@pytest.mark.parametrize("logit", [9.0])
def test_a_failed_test_is_said_beside_the_answer(page: Page, base: str, site: Path, logit: float) -> None:
    changed(page, site, "examples.json", lambda value: value["logits"][3].__setitem__(2, logit))
    visit(page, base)
    said = page.inner_text("#trust")
    assert said.startswith("Not to be trusted: on 10 known digits, your browser computed other numbers")


@pytest.mark.parametrize(
    ("smoothing", "right", "other"), [(0.1, "91 %", "1 %"), (0.9, "19 %", "9 %"), (0.05, "95.5 %", "0.5 %")]
)
def test_label_smoothing_is_explained(
    page: Page, base: str, site: Path, smoothing: float, right: str, other: str
) -> None:
    """Of ten classes, the right one counts 1 - s + s/10 in training, each other one s/10."""
    changed(page, site, "config.json", lambda value: value.update(label_smoothing=smoothing))
    visit(page, base)
    said = page.inner_text("#taught").replace("\xa0", " ")
    assert said.startswith(f"About {right} is “sure” here")
    assert f"the right answer {right} and each other one {other}, not 100 % and 0 % (label smoothing)" in said


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
