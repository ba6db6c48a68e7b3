"""The page's slider over training time, in a real browser: an earlier network's numbers are torch's, and its files are
loaded only when somebody asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.browser import watched
from tests.page import page_folder
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import settle, visit
from tests.tiny import tiny_config, write_npz
from vitlab import Classifier, RunFolder, train_run
from vitlab.export.web import gather
from vitlab.runs.epochs import read_epoch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

READ = """async (model) => {
    const { load, loadFiles, read } = await import("/client.js");
    const { config, examples } = await load("run");
    if (model !== "run") {  // as epochs.js does
        const weights = await (await fetch("/models/run/epochs/0.safetensors?test")).arrayBuffer();
        const { novelty, sha256, ...rest } = config;
        await loadFiles(model, rest, weights, "run");
    }
    const { side, channels } = examples;
    const logits = [];
    for (const pixels of examples.images) {
        const drawing = { width: side, height: side, channels, pixels };
        const want = { inside: false };
        logits.push((await read(model, { drawing, center: false, hidden: [], disturb: {}, want })).logits);
    }
    return logits.map((row) => Array.from(row));
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that keeps them."""
    folder = tmp_path_factory.mktemp("kept")
    config = tiny_config(write_npz(folder / "glyphs.npz"), val_fraction=0.2, keep_epochs=True, epochs=2)
    train_run(config, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def site(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with that run."""
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", {})
    _, content = gather([Classifier.load(run)], None, run, lambda note: None, lesson=False)
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def shown(page: Page) -> str:
    """What the slider says once the chosen moment has been read."""
    settle(page)
    return page.inner_text("#replay-now")


def test_the_slider_shows_the_network_as_it_was(page: Page, base: str, run: Path) -> None:
    asked: list[str] = []
    page.on(
        "request",
        lambda request: asked.append(request.url) if "/epochs/" in request.url and "?" not in request.url else None,
    )
    visit(page, base)
    finished = page.inner_text("#bars")
    assert shown(page).startswith("The finished network, of epoch ")
    assert asked == [], "nothing is loaded before somebody asks"
    page.focus("#replay-epoch")
    page.keyboard.press("Home")
    page.wait_for_selector("#replay-now:has-text('Before training: ')")
    settle(page)
    assert asked[0].endswith("/models/run/epochs/0.safetensors")
    assert page.inner_text("#past") == "as it was before training"
    assert page.inner_text("#bars") != finished
    classifier = Classifier.load(run)
    kept = read_epoch(RunFolder(run), 0, classifier.model.state_dict())
    classifier.model.load_state_dict({name: value.float() for name, value in kept.weights.items()})
    examples = page.evaluate("async () => (await (await fetch('/models/run/examples.json')).json())")
    side = examples["side"]
    pixels = page.evaluate(
        "(texts) => texts.map((text) => Array.from(atob(text), (c) => c.charCodeAt(0)))", examples["images"]
    )
    stored = np.array(pixels, np.uint8).reshape(-1, side, side, 1)
    expected = classifier.logits(torch.from_numpy(stored)).numpy()
    np.testing.assert_allclose(page.evaluate(READ, "run~past"), expected, atol=1e-4)
    assert np.abs(np.array(page.evaluate(READ, "run")) - expected).max() > 0.1
    page.wait_for_timeout(350)
    assert "epoch=0" in page.url
    page.click("#replay-end")
    settle(page)
    assert page.inner_text("#bars") == finished
    assert page.inner_text("#past") == ""
    assert len(asked) == 3, "each file once"


def test_a_link_may_name_a_moment(page: Page, base: str) -> None:
    visit(page, base, "epoch=1")
    page.wait_for_selector("#replay-now:has-text('After epoch 1 of 2: ')")
    page.goto(f"{base}/index.html#epoch=77")
    page.wait_for_selector("#past:text-is('')", state="attached")
    assert shown(page).startswith("The finished network")


def test_it_plays_from_the_beginning_to_the_end(page: Page, base: str) -> None:
    visit(page, base)
    page.evaluate("""() => {
        window.heard = [];
        const line = document.getElementById("replay-value");
        new MutationObserver(() => window.heard.push(line.textContent)).observe(line, { childList: true });
    }""")
    page.click("#replay-play")
    page.wait_for_selector("#replay-value:text-is('2')")
    page.wait_for_selector("#replay-value:text-is('end')")
    assert page.evaluate("window.heard") == ["0", "1", "2", "end"]
    page.wait_for_selector("#replay-play:text-is('Play')")


def test_a_file_that_does_not_come_is_one_sentence(chromium: Browser, base: str) -> None:
    with watched(chromium, base, reduced_motion="reduce") as (page, _):
        page.route("**/epochs/*", lambda route: route.fulfill(status=404))
        visit(page, base)
        page.focus("#replay-epoch")
        page.keyboard.press("Home")
        page.wait_for_selector(
            "#notice:has-text('epochs/0.safetensors could not be fetched: the server answered 404.')"
        )
        assert shown(page).startswith("The finished network")
