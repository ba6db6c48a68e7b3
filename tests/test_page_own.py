"""Training in the page from a visitor's own three classes: drawn, trained, used, downloaded, and read by Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser import download, serve_folder, watched
from tests.page import page_folder, random_images, untrained
from tests.reader import drag, settle, visit, write_json
from vitlab import Classifier, load_dataset
from vitlab.config import ModelConfig

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VIT = ModelConfig(image_size=28, patch_size=14, embed_dim=6, depth=1, num_heads=2, pool="flatten")
NAMES = ["post", "bar", "<b>"]
EACH = 10
KNOBS = {"patch": "10", "width": "16", "depth": "1", "lr": "0.01", "passes": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with a tiny network, and no images to learn from."""
    vit = untrained(tmp_path_factory.mktemp("runs") / "vit", VIT, drawing="mnist-drawing")
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", {"vit": (vit, random_images(3, 28))})
    listed = [dict(id="vit", name="vit", test_top1=0.5, train_seconds=1.0, params=3)]
    write_json(folder / "models.json", dict(format=1, models=listed, study=None))
    return folder


def drawings(seed: int) -> Iterator[tuple[int, list[tuple[float, float]]]]:
    """A post, a bar and a hook in turn, none like the other."""
    draw = np.random.default_rng(seed)
    shapes = [[(50, 20), (50, 80)], [(20, 50), (80, 50)], [(30, 25), (30, 75), (75, 75)]]
    while True:
        for kind, points in enumerate(shapes):
            moved = np.array(points) + draw.normal(0, 4, (len(points), 2))
            yield kind, [(float(x), float(y)) for x, y in moved]


def test_three_classes_drawn_here_are_learned(chromium: Browser, folder: Path, tmp_path: Path) -> None:
    options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
    with serve_folder(folder) as base, watched(chromium, base, **options) as (page, complaints):
        visit(page, base, "sure=0")
        assert page.is_hidden("#own-bar")
        page.check("#train-from-own")
        for number, name in enumerate(NAMES, start=1):
            page.fill(f"[aria-label='Name of class {number}']", name)
        page.click("#own-draw")
        adders = page.locator("#own-add button")
        adders.nth(0).click()  # the page's own digit counts, as any drawing on the area does
        assert adders.all_inner_texts() == ["post · 1", "bar · 0", "<b> · 0"]
        page.click("[aria-label='Remove drawing 1 of post']")
        adders.nth(0).click()
        assert "There is no drawing yet" in page.inner_text("#own-say")
        assert adders.nth(0).inner_text() == "post · 0"
        page.click("#train-play")
        assert page.inner_text("#train-now") == "Still to draw: 10 of post, 10 of bar, 10 of <b>."

        page.click("#own-draw")
        made = drawings(0)
        for _ in range(3 * EACH):
            kind, points = next(made)
            drag(page, *points)
            adders.nth(kind).click()
        assert adders.all_inner_texts() == [f"{name} · {EACH}" for name in NAMES]
        assert "Enough to train with" in page.inner_text("#own-say")
        download(page, "#own-save", tmp_path / "drawn", 1)
        for name, value in KNOBS.items():
            page.select_option(f"#train-{name}-knob", value)
        for turn in ("first", "second"):
            page.click("#train-play")
            page.wait_for_selector("#train-now:has-text('Finished')", timeout=60_000)
            words = page.inner_text("#train-now")
            download(page, "#train-save", tmp_path / turn, 2)
            if turn == "first":
                page.click("#train-reset")
        page.click("#train-use")
        page.wait_for_selector("#model-facts:has-text('trained here 2')")
        assert page.locator("#model option:checked").text_content() == "trained here 2"
        page.click("#own-draw")
        right = 0
        for _ in range(6):
            kind, points = next(made)
            page.click("#clear")
            drag(page, *points)
            settle(page)
            right += page.inner_text("#answer") == NAMES[kind]
        assert right >= 5  # new drawings; by chance it would be two
        assert complaints == []
    first, second = ((tmp_path / turn / "model.safetensors").read_bytes() for turn in ("first", "second"))
    assert first == second
    own = load_dataset(str(tmp_path / "drawn" / "drawings.npz"))
    assert list(own.card.classes) == NAMES
    assert own.train.labels.tolist() == sorted(list(range(3)) * EACH)
    held = own.train.take([EACH * kind + place for kind in range(3) for place in (3, 7)])
    read = Classifier.load(tmp_path / "second").predict(held.images).probabilities.argmax(axis=1)
    assert f"right on {(read == held.labels).sum()} of 6 drawings that it does not learn from" in words
