"""Corrections in the page: a wrong answer is corrected, taught to a copy of the network, and saved as a data set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser import download, serve_folder, watched
from tests.page import page_folder, random_images, untrained
from tests.reader import bars, settle, visit
from vitlab import load_dataset
from vitlab.cli import main
from vitlab.config import ModelConfig

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VIT = ModelConfig(image_size=28, patch_size=14, embed_dim=22, depth=1, num_heads=2, pool="flatten")
NAMES = ("zéro", "un", "deux")
WITHIN = 60_000  # milliseconds, for a machine that is busy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with a tiny ViT of three classes, without images to learn from but the examples, and a CNN."""
    runs, known = tmp_path_factory.mktemp("runs"), random_images(11, 28)
    known = replace(known, labels=known.labels % 3)
    vit = replace(untrained(runs / "vit", VIT, 1, 3, "mnist-drawing"), classes=NAMES)
    cnn = untrained(runs / "cnn", ModelConfig(arch="cnn", image_size=28, cnn_channels=(3, 5)), 1, 3, "mnist-drawing")
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", {"vit": (vit, known), "cnn": (cnn, known)})
    listed = [dict(id=name, name=name, test_top1=0.5, train_seconds=1.0, params=3) for name in ("vit", "cnn")]
    (folder / "models.json").write_text(json.dumps(dict(format=1, models=listed, study=None)))
    (folder / "lesson.json").write_text(json.dumps(dict(data="other", classes=[], channels=1)))
    return folder


def number_drawn(page: Page) -> int:
    """The place of the class that the page reads now."""
    return NAMES.index(page.inner_text("#answer"))


def test_a_wrong_answer_is_corrected_by_keyboard_taken_along_and_taken_back(
    chromium: Browser, folder: Path, tmp_path: Path
) -> None:
    with serve_folder(folder) as base, watched(chromium, base, reduced_motion="reduce") as (page, complaints):
        visit(page, base, "sure=0")
        settle(page, "settled")
        before, wrong = bars(page), number_drawn(page)
        right = (wrong + 1) % 3
        assert page.is_disabled("#correct-teach")
        assert page.is_disabled("#correct-back")
        buttons = page.locator("#correct-labels button")
        assert buttons.all_inner_texts() == list(NAMES)

        buttons.nth(wrong).press("Enter")
        buttons.nth(right).press("Enter")  # the same drawing: the last word counts
        items = page.locator("#correct-list button")
        assert items.evaluate_all("all => all.map((one) => one.ariaLabel)") == [f"Remove correction 1: {NAMES[right]}"]
        items.first.press("Enter")
        assert items.count() == 0
        page.press("#correct-undo", "Enter")
        assert items.count() == 1

        download(page, "#correct-save-npz", tmp_path / "corrections", 1)
        page.press("#correct-teach", "Enter")
        page.wait_for_selector("#correct-now:has-text('Taught 1')", timeout=WITHIN)
        settle(page, "settled")
        assert number_drawn(page) == right
        assert "of the original, vit, no longer hold" in page.inner_text("#selftest")
        rows = page.locator("#correct-table tr")
        assert rows.nth(0).locator("td").all_inner_texts() == ["0.0 %", "100.0 %"]
        assert rows.nth(1).locator("th").inner_text() == "5 other known images, right"  # it rehearses 6 of 11

        taught = bars(page)
        download(page, "#correct-save", tmp_path / "taught", 2)

        page.click("#correct-back")
        settle(page, "settled")
        assert bars(page) == before != taught
        assert "of the original" not in page.inner_text("#selftest")

        page.select_option("#model", "cnn")
        page.wait_for_selector("#correct-panel", state="hidden")
        assert "only Vision Transformers" in page.inner_text("#correct-say")
        assert complaints == []
    corrections = str(tmp_path / "corrections" / "corrections.npz")
    made = load_dataset(corrections)
    table = tmp_path / "answers.csv"
    words = ["predict", str(tmp_path / "taught"), corrections, "--csv", str(table)]
    assert main([*words, "--columns", "id,probabilities"]) == 0
    chances = [float(cell) for cell in table.read_text().splitlines()[1].split(",")[1:]]
    assert [f"{name}\n{100 * chance:.1f} %" for name, chance in zip(NAMES, chances, strict=True)] == taught
    assert made.card.classes == NAMES
    assert made.train.labels.tolist() == [right]
    ink = made.train.images[0, ..., 0]
    assert ink.shape == (28, 28)
    assert ink.max() > 200
    inked = [np.flatnonzero(ink.max(axis=axis) > 0) for axis in (0, 1)]
    assert max(int(places[-1] - places[0]) + 1 for places in inked) in (19, 20, 21)  # as MNIST's authors scaled theirs
