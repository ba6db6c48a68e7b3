"""Reports of studies and data sets, and the sentences of all reports against numbers computed by hand."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from docs import make_gallery
from tests.command import vitlab
from tests.test_report import ALL, check_page
from tests.tiny import tiny_model_config
from vitlab.config.presets import preset_config
from vitlab.data.batches import DeviceSplit
from vitlab.look import attention, curves, images, robustness, summary
from vitlab.look.run import as_trained, break_ties
from vitlab.model import Squares
from vitlab.text import between, counted, duration, listed, percent
from vitlab.training.preprocess import Preprocess

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "studies" / "seed-projection"


def test_a_study_gets_its_table_its_picture_and_links_to_its_runs(tmp_path: Path) -> None:
    folder, runs = tmp_path / "a study", tmp_path / "runs"
    shutil.copytree(STUDY, folder)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows[:2]:
        (runs / row["run"]).mkdir(parents=True)
    (runs / rows[0]["run"] / "report.html").write_text("")
    told = vitlab(f"look '{folder}' --runs {runs}")
    assert told.code == 0, told.err
    assert told.out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    page = check_page(folder / "report.html")
    lines = json.loads((folder / "table.json").read_text())["lines"]
    best = max(lines, key=lambda line: line["accuracy"])
    assert page.text.startswith("Study seed-projection\n") or "Study seed-projection" in page.text
    assert f"{best['accuracy']:.2f} %" in page.text
    assert f"classified correctly by {best['cell']}" in page.text
    for line in lines:
        assert line["cell"] in page.text
    assert {path.name for path in (folder / "pictures").iterdir()} == {"picture.png", "picture.svg"}
    for path in STUDY.glob("picture.*"):
        assert (folder / path.name).read_bytes() == path.read_bytes(), "the study's own"
    links = [tag["href"] for tag in page.all("a") if not (tag["href"] or "").startswith("#")]
    assert links == [f"../runs/{rows[0]['run']}/report.html", f"../runs/{rows[1]['run']}"]
    assert len(page.all("img")) == 1
    assert len(page.all("table")) == 2
    regions = [tag for _, tag in page.tags if tag.get("role") == "region"]
    assert len(regions) == 3  # the picture and both tables
    assert all(tag["tabindex"] == "0" and tag["aria-label"] for tag in regions)


def test_a_study_that_has_not_ended_is_said_in_one_line(tmp_path: Path) -> None:
    shutil.copy(STUDY / "study.json", tmp_path)
    assert "that has not finished; rerun the same command" in vitlab(f"look {tmp_path}").error
    (tmp_path / "table.json").write_text('{"study": "x", "lines": [{}]}')
    assert "is damaged" in vitlab(f"look {tmp_path}").error


def test_a_data_set_is_drawn_without_a_run(tmp_path: Path) -> None:
    told = vitlab(f"look --data digits --out {tmp_path} --quiet --json")
    assert told.code == 0, told.err
    names = {"examples", "patches-seed-32x6", "patches-seed-28x14", "augmentation"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in names}
    assert json.loads(told.out)["report"] is None
    assert vitlab(f"look --data digits --out {tmp_path} --quiet").code == 0  # its own pictures are replaced
    (tmp_path / "examples.png").write_text("a user's")
    told = vitlab(f"look --data digits --out {tmp_path} --quiet")
    assert told.error.endswith("did not write, such as examples.png; choose another --out")
    assert (tmp_path / "examples.png").read_text() == "a user's"


def test_data_of_one_class_are_refused_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x_train=np.zeros((5, 8, 8), np.uint8), y_train=np.zeros(5, np.int64))
    told = vitlab(f"look --data {tmp_path / 'one.npz'} --quiet")
    assert told.code == 3
    assert "class" in told.error


def test_words_for_numbers() -> None:
    assert percent(0.99417) == "99.42 %"
    assert between((0.5, 0.75), 0) == "50 to 75 %"
    assert [duration(s) for s in (5.04, 179.9, 180, 7199, 7200)] == [
        "5.0 s",
        "179.9 s",
        "3.0 minutes",
        "120.0 minutes",
        "2.0 hours",
    ]
    assert [counted(n, w) for n, w in ((1, "image"), (2000, "image"), (1, "class"), (3, "class"))] == [
        "1 image", "2,000 images", "1 class", "3 classes",
    ]  # fmt: skip
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_the_sign_test_is_a_fair_coin() -> None:
    assert summary.sign_test(0, 0) == 1.0
    assert summary.sign_test(5, 0) == pytest.approx(2 / 32)
    assert summary.sign_test(1, 3) == pytest.approx(10 / 16)  # 2 (1 + 4) / 16
    assert summary.sign_test(3, 1) == summary.sign_test(1, 3)


def test_knobs_that_differ_from_the_preset_are_found() -> None:
    small = preset_config("small")
    assert small.with_knobs(seed=7, threads=3).changed_knobs(small) == {}
    assert small.with_knobs(depth=3, lr=1e-3).changed_knobs(small) == {"depth": 3, "lr": 1e-3}


def test_what_is_cut_off_is_said_in_pixels_and_in_area() -> None:
    edge = images.edge_sentence(preset_config("seed-32x6").model)
    assert "2 of 32 pixels at the right and at the bottom" in edge
    assert "12.1 %" in edge  # 1 - (30 / 32)^2
    assert images.edge_sentence(preset_config("seed-best").model) == "The patches cover every pixel once."
    both = images.edge_sentence(preset_config("fast").model)
    assert "Only the central 20 x 20 pixels are used" in both
    assert "2 pixels of its neighbours on every side (8 x 8)" in both


def test_strengths_of_augmentation_in_words() -> None:
    words = images.strengths(preset_config("small").augment)
    assert words == ["rotation to ±12°", "zoom to ±12 %", "shift to ±2 px", "shear to ±8°"]


def drawn(figure: Figure, axes: int) -> np.ndarray[Any, np.dtype[Any]]:
    """The pixels that one of a figure's axes shows."""
    return np.asarray(figure.axes[axes].images[0].get_array())


def test_augmentation_is_that_of_training_and_repeats() -> None:
    image = np.zeros((9, 9, 1), np.uint8)
    image[4, 4] = 255
    config = preset_config("small").augment
    one, two = (drawn(images.augmentation_picture(image, 9, config, "").figure, 1) for _ in range(2))
    assert np.array_equal(one, two)
    still = preset_config("small").with_knobs(rotate=0.0, zoom=0.0, shift=0.0, shear=0.0).augment
    shown = drawn(images.augmentation_picture(image, 9, still, "").figure, 1)
    assert np.array_equal(shown[:9, :9, 0], image[..., 0] / 255)


def test_mixed_images_say_how_much_of_each_they_hold() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 7, 7, 1)
    subject: Any = SimpleNamespace(
        images=DeviceSplit(pixels, torch.tensor([1, 0])),
        config=preset_config("small").with_knobs(mixup=1.0),
        preprocess=Preprocess(7, (0.5,), (0.5,), crop=5),
        classes=["white", "black"],
        part="validation",
    )
    picture = images.mixing_picture(subject)
    grey = drawn(picture.figure, 0)[0, 0, 0]  # of black, with some white
    words = [text.get_text() for text in picture.figure.axes[0].texts]
    assert words[0] == f"{100 * (1 - grey):.0f} % black\n{100 * grey:.0f} % white"
    assert 0.02 < grey < 0.98
    assert "Mixup (alpha 1)" in picture.text


def test_shares_are_multiples_of_an_even_one() -> None:
    even = attention.relative(torch.full((2, 9), 1 / 9))
    assert even.shape == (2, 3, 3)
    assert np.allclose(even, 1.0)
    assert attention.relative(torch.eye(4))[2].tolist() == [[0.0, 0.0], [4.0, 0.0]]


def test_the_patch_that_is_asked_is_the_one_with_something_in_it() -> None:
    image = np.zeros((11, 11, 1))
    image[1 + 3 : 1 + 6, 1 + 6 : 1 + 9] = np.arange(9).reshape(3, 3, 1)  # row 1, column 2 of three
    assert attention.busiest_patch(image, Squares(3, 3, 1)) == 5


def test_ties_are_broken_as_in_evaluate() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 3.0], [2.0, 2.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    clear = break_ties(logits)
    assert torch.equal(clear.argmax(dim=1), logits.topk(1, dim=1).indices.flatten())
    assert (clear == clear.amax(dim=1, keepdim=True)).sum(dim=1).tolist() == [1, 1, 1]
    assert torch.allclose(clear, logits)


CURVES = {
    "rotation": [(0.0, 1.0), (10.0, 0.95), (20.0, 0.5)],
    "noise": [(0.0, 1.0), (0.1, 0.99), (0.2, 0.91)],
}


def test_limits_are_the_strongest_that_were_tried_before_a_tenth_is_lost() -> None:
    assert robustness.limits_sentence(CURVES, "7 images") == (
        "On 7 images, accuracy without disturbance is 100.0 %. At least 90 % of that remains up to rotation 10 degrees "
        "and noise 0.2."
    )
    weak = {
        "noise": [(0.0, 0.5), (0.1, 0.4), (0.2, 0.5)],  # that it comes back later is no limit
        "shift": [(0.0, 0.5), (1.0, 0.46), (2.0, 0.2)],
        "rotation": [(0.0, 0.5), (10.0, 0.3)],
    }
    assert robustness.limits_sentence(weak, "7 images") == (
        "On 7 images, accuracy without disturbance is 50.0 %. At least 90 % of that remains up to shift 1 pixel. "
        "Accuracy is already below that at noise 0.1 and rotation 10 degrees."
    )


def test_two_runs_are_compared_where_they_differ_most() -> None:
    other = {"rotation": [(0.0, 1.0), (10.0, 0.95), (20.0, 0.9)], "noise": [(0.0, 1.0), (0.1, 0.99), (0.2, 0.93)]}
    said = robustness.compare_sentence("a", CURVES, "b", other)
    assert said.startswith("b and a differ most at rotation 20 degrees, where b is 40.0 points better")
    assert said.endswith("on average over all strengths, b is 7.0 points better.")  # (40 + 2) / 6


def test_progress_is_told_from_first_to_last_epoch() -> None:
    rows = [{"train_seconds": s, "val_top1": v, "train_top1": 0.1} for s, v in ((2.0, 0.5), (5.0, 0.6), (7.0, 0.7))]
    assert curves.progress_sentence(rows, 3.0) == (
        "Over 3 epochs of 2.0 s each, validation accuracy went from 50.00 % after the first epoch to 70.00 %."
    )
    alone = [{"train_seconds": 2.0, "val_top1": None, "train_top1": 0.25}]
    assert (
        curves.progress_sentence(alone, 1.0)
        == "In its only epoch (2.0 s) the run reached a training accuracy of 25.00 %."
    )


def test_a_part_of_an_epoch_is_no_whole_one() -> None:
    rows = [{"train_seconds": s, "val_top1": None, "train_top1": v} for s, v in ((3.0, 0.5), (5.1, 0.75))]
    assert curves.progress_sentence(rows, 1.75) == (
        "Over 1.75 epochs of 3.0 s each, training accuracy went from 50.00 % after the first epoch to 75.00 %."
    )
    assert curves.progress_sentence(rows[:1], 0.5) == (
        "In 0.5 of an epoch (3.0 s) the run reached a training accuracy of 50.00 %."
    )
    assert curves.progress_sentence(rows, 7.0).startswith("Over 2 epochs of 2.5 s")  # it diverged, or was stopped


def test_what_makes_training_harder_counts_only_where_it_was_on() -> None:
    small = preset_config("small")
    assert curves.harder_words(small, 14) == []  # 0.1 of 14 epochs at the end saw plain images
    assert curves.harder_words(small, 5) == ["augmentation"]
    assert curves.harder_words(preset_config("seed-best"), 3) == ["augmentation", "dropout"]


def test_patches_of_a_picture_are_those_of_the_model() -> None:
    """15 pixels in 4 x 4 patches of 4 less the edge: 3 x 3, cut by hand."""
    image = np.arange(15 * 15, dtype=np.uint8).reshape(15, 15, 1)
    figure = images.patches_picture(image, tiny_model_config(patch_size=4), "x", "", "An image").figure
    strip = drawn(figure, 2)[..., 0]
    gap = 2
    for number in range(9):
        row, column = divmod(number, 3)
        own = strip[:4, number * (4 + gap) : number * (4 + gap) + 4]
        assert np.allclose(own, image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4, 0] / 255)


def test_the_gallery_shows_every_picture_at_modest_size() -> None:
    """Made by docs/make_gallery.py."""
    page = (ROOT / "docs" / "do" / "gallery.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\(\.\./pictures/([a-z0-9-]+)\.png\)", page)
    assert sorted(shown) == sorted({*ALL, "patches-seed-32x6", "patches-seed-28x14"})
    paths = [ROOT / "docs" / "pictures" / f"{name}.png" for name in shown]
    assert sum(path.stat().st_size for path in paths) < 800_000
    assert page.startswith(make_gallery.INTRODUCTION)


def test_looking_rounds_as_training_did() -> None:
    assert as_trained({"precision": "bf16", "kernels": "native"}) == {"precision": "bf16"}
    assert as_trained({"precision": "fp32", "kernels": "plain"}) == {"precision": "fp32", "kernels": "plain"}
