"""`vitlab evaluate RUN --on DATA`: another data set of the same classes, against accuracies counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command import vitlab
from tests.image_zoo import seven
from tests.made_runs import make_run
from tests.tiny import glyphs, tiny_config
from vitlab import Classifier, load, train_run
from vitlab.errors import ConfigError, DataError

NAMES = ("cat", "Dog", "owl")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three classes with names; its answers are random, but always the same."""
    return make_run(tmp_path_factory.mktemp("runs") / "animals", "animals", classes=NAMES, image_size=8, patch_size=2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, arrays: dict[str, Any]) -> None:
    """An .npz file."""
    np.savez(path, **arrays)


def test_classes_are_matched_by_name_in_any_order(run: Path, here: Path) -> None:
    """Two of three classes, in another order, in folders without parts: all images count."""
    pictures, answers = glyphs(17, seed=3).images, Classifier.load(run).predict(glyphs(17, seed=3).images).names
    truth = ["owl", "cat"] * 8 + ["owl"]
    for number, (name, picture) in enumerate(zip(truth, pictures, strict=True)):
        (here / "other" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0]).save(here / "other" / name / f"{number}.png")
    numbers = json.loads(vitlab(f"evaluate {run} --on other --json --quiet").out)
    right = [guess == name for guess, name in zip(answers, truth, strict=True)]
    assert 0 < sum(right) < 17
    assert (numbers["data"], numbers["split"], numbers["images"]) == ("other", "all", 17)
    assert numbers["top1"] == sum(right) / 17
    recalls = {}
    for name in ("cat", "owl"):
        own = [guess for guess, true in zip(answers, truth, strict=True) if true == name]
        recalls[name] = own.count(name) / len(own)
    assert numbers["class_images"] == {"cat": 8, "Dog": 0, "owl": 9}
    assert numbers["recall"] == pytest.approx(recalls | {"Dog": None})
    shown = vitlab(f"evaluate {run} --on other --quiet").out
    assert shown.startswith("on another data set, other: all images top-1 ")
    assert [line.split()[:2] for line in shown.splitlines()[-2:]] == [["cat", "8"], ["owl", "9"]]
    from_memory = load(run).evaluate(on=(pictures, truth))
    for metric in ("top1", "recall"):
        assert from_memory[metric] == numbers[metric]
    assert from_memory["loss"] == pytest.approx(numbers["loss"], rel=1e-6)  # a mean in another order


def test_photos_are_decoded_as_those_of_the_run(run: Path, here: Path) -> None:
    """The run is of an earlier version, which decoded small JPEGs at full size."""
    truth, noise = ["owl", "cat"] * 3, np.random.default_rng(0).integers(0, 256, (6, 190, 250), dtype=np.uint8)
    for number, (name, pixels) in enumerate(zip(truth, noise, strict=True)):
        (here / "other" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(here / "other" / name / f"{number}.jpg")
    classifier = Classifier.load(run)
    paths = [here / "other" / name / f"{number}.jpg" for number, name in enumerate(truth)]
    chances = classifier.predict(paths).probabilities
    expected = -np.log([row[classifier.classes.index(name)] for row, name in zip(chances, truth, strict=True)]).mean()
    found = json.loads(vitlab(f"evaluate {run} --on other --json --quiet").out)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_parts_of_the_other_set(run: Path, here: Path) -> None:
    """Its test images unless another part is wanted."""
    train, test = glyphs(13, seed=1), glyphs(7, seed=2)
    labels = {"y_train": train.labels, "y_test": test.labels, "classes": np.array(NAMES)}
    write(here / "other.npz", labels | {"x_train": train.images, "x_test": test.images})
    counts = {}
    for flag in ("", " --split train", " --split test"):
        numbers = json.loads(vitlab(f"evaluate {run} --on other.npz --json --quiet{flag}").out)
        counts[flag] = (numbers["split"], numbers["images"])
    assert counts == {"": ("test", 7), " --split train": ("train", 13), " --split test": ("test", 7)}
    answer = vitlab(f"evaluate {run} --on other.npz --quiet --split val")
    assert (answer.code, answer.error) == (3, "vitlab: other has no val images; use --split test or --split train")


def test_the_runs_own_data_gives_the_runs_own_numbers(here: Path) -> None:
    """Every metric is that of `vitlab evaluate`, and a note says that these are no other images."""
    train_run(tiny_config("digits", epochs=1, image_size=8), here / "run")
    own = json.loads(vitlab("evaluate run --json --quiet").out)
    answer = vitlab("evaluate run --on digits --json")
    other = json.loads(answer.out)
    assert "these are the images that the run was made with, not other ones" in answer.err
    for name in ("top1", "top1_interval", "top5", "balanced_accuracy", "macro_f1", "images", "guess_top1"):
        assert other[name] == own[name], name
    assert other["loss"] == pytest.approx(own["loss"], abs=1e-5)
    assert 0 <= other["unlike"] < 0.2


def test_drawings_are_normalised(here: Path) -> None:
    """Sevens on white paper, 40 x 40, for a run on MNIST-like drawings: as `predict` reads them."""
    run = make_run(here / "drawn", "mnist")
    picture = np.full((2, 60, 60), 255, np.uint8)
    big = np.asarray(Image.fromarray(seven()))[:50, :50]
    picture[:, 4 : 4 + big.shape[0], 4 : 4 + big.shape[1]] = big
    best = Classifier.load(run).predict(picture).names[0]
    other = next(name for name in "0123456789" if name != best)
    numbers = load(run).evaluate(on=(picture, [best, other]))
    assert (numbers["recall"][best], numbers["recall"][other], numbers["top1"]) == (1.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (None, "other numbers its classes (0, 1 and 2), but animals knows them by name (cat, Dog and owl): give it"),
        (
            ("cat", "dog", "owl"),
            "other has images of dog, which animals does not know ('dog' is 'Dog' there); it knows",
        ),
        (("cat", "Dog", "yak"), "other has images of yak, which animals does not know; it knows cat, Dog and owl"),
    ],
)
def test_classes_that_the_run_does_not_know(run: Path, here: Path, classes: tuple[str, ...] | None, words: str) -> None:
    some = glyphs(7)
    named = {} if classes is None else {"classes": np.array(classes)}
    write(here / "other.npz", {"x_train": some.images, "y_train": some.labels} | named)
    answer = vitlab(f"evaluate {run} --on other.npz --quiet")
    assert answer.code == 3
    assert words in answer.error


def test_names_for_a_run_that_numbers_its_classes(here: Path) -> None:
    some = glyphs(7)
    run = make_run(here / "numbers")
    with pytest.raises(DataError, match="knows its classes by number"):
        load(run).evaluate(on=(some.images, [NAMES[label] for label in some.labels]))


def test_a_class_without_images_does_not_matter(run: Path) -> None:
    """As in a data set that has more classes than the run, of which none of the chosen images is one."""
    some = glyphs(9)
    test = some.take(np.flatnonzero(some.labels < 2))
    names = np.array([*NAMES[:2], "yak"])
    everything = {"x_train": some.images, "y_train": some.labels, "x_test": test.images, "y_test": test.labels}
    assert load(run).evaluate(on=everything | {"classes": names})["images"] == len(test)


def test_options_that_do_not_go_together(run: Path, here: Path) -> None:
    for option in ("--data x", "--shifts 1", "--flips", "--threads 1"):
        answer = vitlab(f"evaluate {run} --on digits {option}")
        assert answer.code == 2
        assert option.split()[0] in answer.error
    with pytest.raises(ConfigError, match="`on` computes on the CPU"):
        load(run).evaluate(on="digits", shifts=1)
    with pytest.raises(ConfigError, match="split must be one of"):
        load(run).evaluate("tests", on="digits")
