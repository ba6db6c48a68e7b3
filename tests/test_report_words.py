"""What reports say, sentence by sentence, about runs made by hand, and which runs may stand beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import on_cpu
from vitlab import RunConfig, Split
from vitlab.data import Dataset
from vitlab.data.cards import own_card
from vitlab.errors import RunError
from vitlab.machine import Machine
from vitlab.model import ViT
from vitlab.preprocess import Preprocess
from vitlab.report import attended, inside, judged
from vitlab.report.gather import Subject, check_comparable
from vitlab.report.parts import Picture

MACHINE = Machine(torch.device("cpu"), "fp32", 1, "plain", "plain", False, "plain", "for a test")
ENVIRONMENT = {"device": "cpu", "device_name": "abacus", "threads": 1, "precision": "fp32", "kernels": "plain"}


def subject_of(
    probabilities: list[list[float]] | torch.Tensor,
    labels: list[int],
    classes: tuple[str, ...] = ("cat", "dog", "owl"),
    name: str = "here",
    part: str = "test",
    model: nn.Module | None = None,
    history: list[dict[str, Any]] | None = None,
    result: dict[str, Any] | None = None,
    knobs: dict[str, Any] | None = None,
) -> Subject:
    """A run whose answers are given: one row of probabilities an image."""
    draw = np.random.default_rng(0)
    split = Split(draw.integers(0, 255, (len(labels), 6, 6, 1)).astype(np.uint8), np.array(labels, np.int64))
    card = own_card("pets", "Pets", split.images, classes, "drawn by hand", "folder")
    base: dict[str, Any] = dict(
        image_size=6, patch_size=2, depth=2, num_heads=2, embed_dim=8, label_smoothing=0.0, dropout=0.0, drop_path=0.0
    )
    told = {"status": "done", "train_seconds": 10.0, "params": 1000, "test_top1": None, "train_images": 100}
    return Subject(
        Path("runs") / name, RunConfig().with_knobs(**(base | (knobs or {}))),
        Dataset(card, split, None, None, "d", "by hand"),
        model or nn.Identity(), Preprocess(6, (0.0,), (1.0,)), MACHINE, told | (result or {}), ENVIRONMENT,
        history or [], part, on_cpu(split), torch.as_tensor(probabilities).log(),
    )  # fmt: skip


SURE = [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]]


def test_runs_stand_beside_each_other_only_on_the_same_images() -> None:
    one = subject_of(SURE, [0, 1, 2, 0], part="validation")
    check_comparable(one, subject_of(SURE, [0, 1, 2, 0], name="twin", part="validation"))
    other_labels = subject_of(SURE, [0, 1, 2, 1], name="seed 1", part="validation")
    other_images = replace(one, path=Path("x"), images=replace(one.images, images=one.images.images.flip(0)))
    for other in (other_labels, other_images):
        with pytest.raises(RunError, match=r"is judged by other validation images than runs/here \(another seed or"):
            check_comparable(one, other)
    with pytest.raises(RunError, match="was trained on other images"):
        check_comparable(one, replace(one, dataset=replace(one.dataset, digest="e")))


def class_text(counts: list[list[int]]) -> str:
    """The sentence about the classes of a confusion matrix."""
    pairs = [(row, column) for row, line in enumerate(counts) for column, n in enumerate(line) for _ in range(n)]
    rows = [[0.8 if place == guess else 0.1 for place in range(3)] for _, guess in pairs]
    return judged.per_class(subject_of(rows, [truth for truth, _ in pairs])).text


def test_classes_are_called_unequal_only_when_a_test_of_all_says_so() -> None:
    apart = class_text([[60, 0, 0], [0, 30, 30], [0, 0, 60]])
    assert apart == (
        "Hardest is dog with 50.00 % (37.73 to 62.27 % with 95 %, on 60 images), easiest cat with 100.00 %. Were all "
        "classes equally hard, they would differ at least as much as all of these do in less than 1 % of cases "
        "(chi-square test): that is hardly chance."
    )
    near = class_text([[19, 1, 0], [1, 18, 1], [0, 0, 20]])
    assert near.startswith("Hardest is dog with 90.00 % (69.90 to 97.21 % with 95 %, on 20 images), easiest owl with ")
    assert near.endswith(" of cases (chi-square test): that may be chance.")
    same = "All classes are recognised equally well: {} of each. A bar is its 95 % interval."
    assert class_text([[7, 0, 0], [0, 5, 0], [0, 0, 3]]) == same.format("100.00 %")
    assert class_text([[3, 1, 0], [1, 3, 0], [0, 0, 0]]) == same.format("75.00 %")
    assert class_text([[3, 1, 0], [0, 0, 0], [0, 0, 0]]) == (
        "All 4 images are of one class, cat, of which 75.00 % are recognised (30.06 to 95.44 % with 95 %)."
    )


def test_which_patch_is_needed_most() -> None:
    falls = torch.tensor([[0.01, 0.02, -0.3], [0.0, 0.031, 0.137]])
    colours = "Red patches are needed; blue ones stand in the way: without them the network is surer."
    assert attended.needed_sentence(falls, "cat") == (
        f"{colours} When the patch in row 2, column 3 of the cat on the left is blanked, the probability of the right "
        "answer falls by 13.7 points."
    )
    assert attended.needed_sentence(-falls.abs(), "cat") == (
        f"{colours} The cat on the left needs none: whichever is blanked, its probability does not fall."
    )


def test_agreement_of_attention_and_need_is_counted() -> None:
    last = np.array([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    falls = np.array([[[0.1, 0.2], [0.0, 0.0]], [[-0.5, 0.1], [0.0, 0.0]], [[0.0, 0.0], [0.2, 0.7]]])
    assert attended.agree_sentence(last, falls) == (
        "In 2 of 3 images the patch with most attention in the last block is also the one that is needed most."
    )


def test_positions_show_the_layout_clearly_faintly_or_hardly() -> None:
    start = (
        "Each small map belongs to the patch at its place: red where another patch's position is similar to its own. "
        "The positions {}; direct neighbours have a mean similarity of {}, all others of {}, so that {}."
    )
    for learned, near, far, words in (
        (True, 0.52, 0.20, ("were learned", "0.52", "0.20", "the layout of the image can be seen in them")),
        (False, 0.40, 0.12, ("are fixed waves", "0.40", "0.12", "the layout of the image shows in them faintly")),
        (True, 0.05, -0.02, ("were learned", "0.05", "-0.02", "hardly any layout of the image shows in them")),
        (True, 0.1, 0.9, ("were learned", "0.10", "0.90", "hardly any layout of the image shows in them")),
    ):
        assert inside.positions_sentence(learned, near, far) == start.format(*words)


def test_neighbours_are_the_patches_that_touch_on_a_side() -> None:
    """On a 2 x 2 grid: patch 0 touches 1 and 2, not 3. Positions so that touching ones are alike by exactly 0.6."""
    one, two = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    model = cast(ViT, SimpleNamespace(pos_embed=torch.tensor(np.stack([one, two, two, one]))))
    made = inside.positions(subject_of(SURE, [0, 1, 2, 0], knobs={"patch_size": 3, "pool": "mean"}), model)
    assert isinstance(made, Picture)
    assert "direct neighbours have a mean similarity of 0.60, all others of 1.00, so that hardly any" in made.text
