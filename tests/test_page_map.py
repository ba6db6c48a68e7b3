"""The page's map of images: made in Python, continued in a real browser, which puts a drawing where Python would."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from tests.page import page_folder, random_images, untrained
from tests.reader import base as base
from tests.reader import page as page
from tests.reader import settle, visit, write_json
from vitlab.config import ModelConfig
from vitlab.export import map as export_map
from vitlab.export.map import features_of, map_files
from vitlab.export.own import stored_images
from vitlab.predict import Classifier
from vitlab.randomness import numpy_generator

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = 61
VIT = ModelConfig(image_size=28, patch_size=7, embed_dim=22, depth=2, num_heads=2, pool="flatten")
NETWORKS = {
    "vit": VIT,  # the only one that reads drawings: the others take images as they are, inverted by nobody
    "plain": VIT,
    "cnn": ModelConfig(arch="cnn", image_size=28, cnn_channels=(3, 5)),
}
# Where the page puts every image of its own map.
PLACES = """async (model) => {
    const [{ load, read }, { loadMap, placeOf }] = await Promise.all([import("/client.js"), import("/map.js")]);
    await load(model);
    const map = await loadMap(model, () => undefined);
    const places = [];
    for (const pixels of map.images) {
        const drawing = { width: map.side, height: map.side, channels: map.channels, pixels };
        const want = { traits: true, inside: false };
        const { traits } = await read(model, { drawing, center: false, hidden: [], disturb: {}, want });
        places.push(placeOf(traits, map));
    }
    return places;
}"""


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    """Networks with random weights."""
    runs = tmp_path_factory.mktemp("runs")
    drawing = {"vit": "mnist-drawing"}
    return {name: untrained(runs / name, config, 1, 10, drawing.get(name)) for name, config in NETWORKS.items()}


@pytest.fixture(scope="module")
def site(classifiers: dict[str, Classifier], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with these networks and their maps."""
    models = {name: (one, random_images(11, 28)) for name, one in classifiers.items()}
    folder = page_folder(tmp_path_factory.mktemp("served") / "page", models)
    for name, classifier in classifiers.items():
        for file, data in map_files(classifier, random_images(IMAGES, 28, seed=3)).items():
            path = folder / file if file.startswith("maps/") else folder / "models" / name / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    entries = [dict(id=name, name=name, test_top1=0.5, train_seconds=1.0, map=True) for name in classifiers]
    write_json(folder / "models.json", dict(format=1, models=entries, study=None))
    return folder


@pytest.mark.parametrize("name", ["plain", "cnn"])
def test_the_map_is_that_of_a_principal_component_analysis(
    name: str, page: Page, base: str, site: Path, classifiers: dict[str, Classifier]
) -> None:
    """scikit-learn's, up to the signs of the axes and the common scale; and the page puts images in the same places."""
    facts = json.loads((site / "models" / name / "map.json").read_text())
    points, classifier = np.array(facts["points"]), classifiers[name]
    page.goto(f"{base}/engine.html")
    np.testing.assert_allclose(page.evaluate(PLACES, name), points, atol=1e-4)
    order = numpy_generator(0, "map").permutation(IMAGES)
    chosen = random_images(IMAGES, 28, seed=3).take(order.tolist())
    with torch.no_grad():
        features = classifier.model.features(classifier.preprocess(torch.from_numpy(chosen.images)))
        places = classifier.model.over_places(features.double()).mean(dim=1)
        answers = classifier.model.head(features).argmax(dim=1)
    expected = PCA(2, svd_solver="full").fit(places.numpy())
    np.testing.assert_allclose(facts["explained"], expected.explained_variance_ratio_, atol=1e-3)
    theirs = expected.transform(places.numpy())
    theirs *= np.sign((theirs * points).sum(axis=0)) / np.linalg.norm(theirs, axis=1).max()
    np.testing.assert_allclose(points, theirs, atol=1e-4)
    assert facts["labels"] == chosen.labels.tolist()
    assert facts["answers"] == answers.tolist()


def test_the_map_opens_moves_with_the_drawing_and_gives_its_images(page: Page, base: str, site: Path) -> None:
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.url) if re.search(r"map\.json|maps/", request.url) else None
    )
    visit(page, base)
    assert asked == [], "nothing is loaded before somebody asks"
    page.focus("#map-open")
    page.keyboard.press("Enter")
    page.wait_for_selector("#map-now:has-text('nearest to your drawing')")
    assert len(asked) == 2
    assert page.evaluate("document.activeElement.id") == "map-open"
    assert page.locator("#read #map-canvas").is_visible()
    before = page.locator("#map-canvas").screenshot()
    page.click("#clear")
    page.keyboard.press("1")
    settle(page)
    assert page.locator("#map-canvas").screenshot() != before
    page.focus("#map-canvas")
    page.keyboard.press("ArrowLeft")
    first = page.inner_text("#map-looked")
    page.keyboard.press("ArrowRight")
    second = page.inner_text("#map-looked")
    assert first != second
    page.keyboard.press("Enter")
    settle(page)
    facts = json.loads((site / "models" / "vit" / "map.json").read_text())
    number = int(second.split()[1]) - 1
    label, answer = facts["labels"][number], facts["answers"][number]
    mistake = "" if label == answer else ", a mistake"
    assert second == f"Image {number + 1} of {IMAGES}: {label}, read as {answer}{mistake}"
    assert page.inner_text("#truth") == f"Known label: {label}"
    page.click("#map-open")
    assert page.locator("#draw #map").count() == 1
    assert page.locator("#map-canvas").is_hidden()


def test_steps_on_the_map_go_where_the_arrows_point(page: Page, base: str) -> None:
    page.goto(f"{base}/engine.html")
    steps = page.evaluate("""async () => {
        const { stepTo, nearest } = await import("/map.js");
        const points = [[0, 0], [1, 0.2], [0.5, 2], [-3, 0], [0.1, -0.5]];
        const arrows = [[1, 0], [0, 1], [-1, 0], [0, -1]];
        const steps = arrows.map((arrow) => stepTo(points, 0, arrow));
        return [steps, stepTo(points, 3, [-1, 0]), nearest(points, [1, 1], 2)];
    }""")
    assert steps == [[1, 2, 3, 4], 3, [1, 2]]


def test_without_the_runs_images_there_are_scikit_learns_digits(
    classifiers: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_map, "MOST_IMAGES", 50)
    facts = json.loads(map_files(classifiers["vit"], None)["map.json"])
    assert (facts["data"], len(facts["points"]), facts["side"]) == ("scikit-learn's digits", 50, 28)
    assert map_files(replace(classifiers["vit"], classes=tuple("abcdefghij")), None) == {}
    assert map_files(replace(classifiers["vit"], drawing=None), None) == {}


def test_large_images_are_fewer(classifiers: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_map, "MOST_NUMBERS", 30 * 28 * 28)
    facts = json.loads(map_files(classifiers["cnn"], random_images(IMAGES, 28))["map.json"])
    assert len(facts["points"]) == 30


def test_features_do_not_depend_on_what_is_computed_together(
    classifiers: dict[str, Classifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = stored_images(classifiers["vit"], random_images(IMAGES, 28))
    whole = features_of(classifiers["vit"], images)
    monkeypatch.setattr(export_map, "TOGETHER", 7)
    for one, other in zip(whole, features_of(classifiers["vit"], images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
