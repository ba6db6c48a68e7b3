"""The page with networks of random weights, and what a user does on it: for test_page.py and test_page_use.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import serve_folder, watched
from tests.page import page_folder, random_images, untrained
from vitlab import Split
from vitlab.config import ModelConfig
from vitlab.predict import Classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror=alert(1)>"
VIT = ModelConfig(image_size=28, patch_size=7, embed_dim=22, depth=3, num_heads=2, pool="flatten")
NETWORKS: dict[str, tuple[ModelConfig, int, int]] = {  # configuration, channels, classes
    "vit": (VIT, 1, 10),
    "finer": (replace(VIT, patch_size=4, depth=1), 1, 10),
    "cnn": (ModelConfig(arch="cnn", image_size=28, cnn_channels=(3, 5)), 1, 10),
    "alone": (replace(VIT, attn_form="none"), 1, 10),
    "colour": (replace(VIT, pool="cls", image_size=29), 3, 17),
    "mixer": (ModelConfig(arch="mixer", image_size=28, patch_size=7, embed_dim=13, depth=2), 1, 10),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with NETWORKS, and a study whose points load two of them."""
    runs = tmp_path_factory.mktemp("runs")
    models: dict[str, tuple[Classifier, Split]] = {}
    for name, (config, channels, classes) in NETWORKS.items():
        classifier = untrained(runs / name, config, channels, classes, "mnist-drawing" if channels == 1 else None)
        if channels == 3:
            classifier = replace(classifier, classes=(HOSTILE, *map("{}-like".format, range(1, classes))))
        models[name] = classifier, random_images(11, config.image_size, channels)
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", models)
    points = [
        dict(id="vit", cell="patch 7", seconds=31.0, accuracy=0.97, interval=[0.96, 0.98], on_front=True),
        dict(id="finer", cell=HOSTILE, seconds=7.0, accuracy=0.91, interval=[0.9, 0.92], on_front=True),
        dict(id=None, cell="patch 14", seconds=19.0, accuracy=0.89, interval=[0.88, 0.9], on_front=False),
    ]
    listed = [dict(id=name, name=name, test_top1=0.5, train_seconds=1.0, params=3, arch="vit") for name in models]
    write_json(folder / "models.json", dict(format=1, models=listed, study=dict(name="patches", points=points)))
    return folder


@pytest.fixture(scope="module")
def base(site: Path) -> Iterator[str]:
    """The address of a server with the page."""
    with serve_folder(site) as address:
        yield address


@pytest.fixture
def page(chromium: Browser, base: str) -> Iterator[Page]:
    """A browser's page without animations; at the end it must have reported no problem."""
    options: dict[str, Any] = dict(viewport=dict(width=1280, height=900), reduced_motion="reduce")
    with watched(chromium, base, **options) as (page, complaints):
        yield page
        assert complaints == []


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def visit(page: Page, base: str, choices: str = "") -> None:
    """Open the page and wait until it has read what is drawn there."""
    page.goto("about:blank")  # a new # alone would not load the page again
    page.goto(f"{base}/index.html{'#' if choices else ''}{choices}")
    settle(page)


def settle(page: Page, state: str = "answered") -> None:
    """Wait until the network has read the drawing or, with "settled", answered the longer questions too."""
    page.evaluate("() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
    page.wait_for_selector(f"body.{state}", timeout=10_000)


def bars(page: Page) -> list[str]:
    """The text of the bars."""
    return page.locator("#bars li").all_inner_texts()


def drag(page: Page, *places: tuple[float, float]) -> None:
    """Draw a line through places in hundredths of the drawing area."""
    box = page.locator("#slate").bounding_box()
    assert box is not None
    points = [(box["x"] + x * box["width"] / 100, box["y"] + y * box["height"] / 100) for x, y in places]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=3)
    page.mouse.up()


def strokes(page: Page) -> int:
    """The number of strokes that the address holds."""
    page.wait_for_timeout(350)  # it is written after a pause
    count = """async () => {
        const { decodeStrokes } = await import("/strokes.js");
        return decodeStrokes(new URLSearchParams(location.hash.slice(1)).get("strokes") ?? "")?.length ?? -1;
    }"""
    return int(page.evaluate(count))
