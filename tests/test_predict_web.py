"""A network from the page: two files in a folder, as `Classifier.load` reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.page import random_images, untrained, with_bounds
from vitlab import Classifier, RunFolder
from vitlab.config import ModelConfig
from vitlab.errors import RunError
from vitlab.export.web import bundle, export_web

VIT = ModelConfig(image_size=23, patch_size=5, patch_overlap=2, crop=15, embed_dim=22, depth=1, num_heads=2)


@pytest.fixture
def network(tmp_path: Path) -> tuple[Classifier, Path]:
    """A network for colour images, and the folder with its files as the page has them."""
    images = random_images(31, 23, 3)
    made = with_bounds(untrained(tmp_path / "run", VIT, 3, 7), images)
    folder = tmp_path / "web"
    folder.mkdir()
    for name, data in bundle(made, images).items():
        (folder / name).write_bytes(data)
    return made, folder


def change(folder: Path, changes: Callable[[dict[str, Any]], object]) -> None:
    """Write config.json again."""
    facts = json.loads((folder / "config.json").read_text())
    changes(facts)
    (folder / "config.json").write_text(json.dumps(facts))


def test_it_answers_as_the_run_does(network: tuple[Classifier, Path], tmp_path: Path) -> None:
    made, folder = network
    read = Classifier.load(folder)
    assert (read.name, read.classes, read.channels, read.drawing) == ("run", made.classes, 3, None)
    images = random_images(5, 23, 3, seed=1).images
    expected, answers = made.predict(images), read.predict(images)
    assert answers.probabilities.tolist() == expected.probabilities.tolist()
    assert answers.unlike is not None
    assert expected.unlike is not None
    assert answers.unlike.tolist() == expected.unlike.tolist()

    change(folder, lambda facts: facts.update(sha256=None, novelty=None, name="run, corrected"))
    read = Classifier.load(folder)
    assert read.bounds is None
    export_web([read], tmp_path / "page")  # and a page can show it again
    again = Classifier.load(tmp_path / "page" / "models" / "run-corrected")
    pixels = torch.from_numpy(images)
    assert torch.equal(again.logits(pixels), made.logits(pixels))


def test_what_needs_a_run_says_that_it_is_none(network: tuple[Classifier, Path]) -> None:
    with pytest.raises(RunError, match="is no run folder, but a network from the page"):
        RunFolder(network[1]).config()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda facts: facts.update(format=2), "another version of vitlab"),
        (lambda facts: facts.update(classes=["one"]), "3 channels and 1 classes are impossible"),
        (lambda facts: facts.update(classes=["one", "two"]), "does not match"),
        (lambda facts: facts.update(sha256="0" * 64), "SHA-256"),
        (lambda facts: facts["model"].update(depth=2), "does not match"),
        (lambda facts: facts["model"].update(depht=2), "unknown knob 'depht'"),
        (lambda facts: facts["preprocess"].update(crop=17), "preprocessing"),
        (lambda facts: facts["preprocess"].update(std=[1, 1, 0]), "preprocessing"),
        (lambda facts: facts.pop("channels"), "'channels' is missing"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(
    network: tuple[Classifier, Path], changes: Callable[[dict[str, Any]], object], words: str
) -> None:
    change(network[1], changes)
    with pytest.raises(RunError, match=words) as error:
        Classifier.load(network[1])
    assert "\n" not in str(error.value)
