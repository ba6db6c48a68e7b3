"""What reports say, sentence by sentence, about runs made by hand, and which runs may stand beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

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
from vitlab.preprocess import Preprocess
from vitlab.report.gather import Subject, check_comparable

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
        Path("runs") / name, RunConfig().with_knobs(**(base | (knobs or {}))), Dataset(card, split, None, None, "d", "o"),
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
