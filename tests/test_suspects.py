"""Labels that look wrong: folds, the rule, and what the command writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command import vitlab
from vitlab.data import load_dataset
from vitlab.errors import ConfigError
from vitlab.runs.suspects import are_suspect, draw_folds, ranked

WRONG = 17  # labels that are changed


def test_every_fold_has_the_same_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [13, 29, 7])
    folds = draw_folds(labels, 3, seed=5)
    for label, count in ((0, 13), (1, 29), (2, 7)):
        sizes = np.bincount(folds[labels == label], minlength=3)
        assert sizes.sum() == count
        assert sizes.max() - sizes.min() <= 1
    assert (draw_folds(labels, 3, seed=5) == folds).all()
    assert (draw_folds(labels, 3, seed=6) != folds).any()
    with pytest.raises(ConfigError, match="class 2 has only 7 training images; use at most 7 folds"):
        draw_folds(labels, 8, seed=5)


def test_the_rule_by_hand() -> None:
    """Three classes; a threshold is the mean over the images that bear the label."""
    probabilities = np.array(
        [
            [0.9, 0.1, 0.0],
            [0.3, 0.7, 0.0],  # labelled 0, reaches only the threshold of 1
            [0.3, 0.7, 0.0],
            [0.1, 0.1, 0.8],
            [0.65, 0.35, 0.0],  # labelled 1, reaches only the threshold of 0
        ]
    )
    labels = np.array([0, 0, 1, 2, 1])
    # Thresholds: class 0 (0.9 + 0.3) / 2 = 0.6; class 1 (0.7 + 0.35) / 2 = 0.525; class 2 0.8.
    assert are_suspect(probabilities, labels).tolist() == [False, True, False, False, True]
    found = ranked(probabilities, labels)
    assert [one.index for one in found] == [1, 4, 2, 3, 0]
    assert [one.likely for one in found] == [1, 0, 0, 0, 1]
    assert found[0].margin == pytest.approx(-0.4)


def test_wrong_labels_are_found_and_written(tmp_path: Path) -> None:
    """Of 17 wrong labels among 701 digits, most are among the first 17."""
    split = load_dataset("digits").train.take(range(701))
    draws = np.random.default_rng(0)
    wrong = draws.choice(len(split), WRONG, replace=False)
    labels = split.labels.copy()
    labels[wrong] = (labels[wrong] + draws.integers(1, 10, WRONG)) % 10
    for number, (image, label) in enumerate(zip(split.images, labels, strict=True)):
        path = tmp_path / "own" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    knobs = "--preset fast --image-size 8 --crop none --patch-size 2 --patch-overlap 1 --epochs 8"
    assert (
        vitlab(
            f"train --data {tmp_path / 'own'} --out {tmp_path / 'run'} {knobs} --batch-size 64 --threads 1 --quiet"
        ).code
        == 0
    )
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    answer = vitlab(f"data suspects {tmp_path / 'run'} --folds 2 --json")
    with open(tmp_path / "run" / "suspects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(split)
    first = {int(Path(row["file"]).stem) for row in rows[:WRONG]}
    assert len(first & set(wrong.tolist())) >= 0.5 * WRONG  # by chance 0.4 of them
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins)
    suspects = json.loads(answer.out)["suspects"]
    assert [one["file"] for one in suspects] == [row["file"] for row in rows if row["suspect"] == "1"]
    with Image.open(tmp_path / "run" / "suspects.png") as picture:
        assert picture.width > 500
    after = {name: (tmp_path / "run" / name).read_bytes() for name in before}
    assert after == before, "the run itself is as it was"
    assert vitlab(f"check {tmp_path / 'run'}").code == 0
