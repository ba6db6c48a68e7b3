"""Images that count more than others in the training loss: class weights and sample weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from tests.test_step import recordings as recordings
from tests.test_train import MACHINE, copy, equal, make_model, make_task, run, timeless
from tests.tiny import glyphs, tiny_config
from vitlab import Split, train_run
from vitlab.data import cut_validation, limit
from vitlab.data.batches import to_device
from vitlab.data.splits import weigh
from vitlab.errors import DataError
from vitlab.runs.prepare import prepare
from vitlab.runs.session import resume_run
from vitlab.training.loop import Hooks
from vitlab.training.step import Checkpoint, Task, training_loss

STILL: dict[str, Any] = dict(dropout=0.0, attn_dropout=0.0, drop_path=0.0, rotate=0.0, shift=0.0)  # nothing random


def uneven(count: int = 71, seed: int = 3) -> Split:
    """Glyphs of three classes, of which the third has few."""
    split = glyphs(count, seed=seed)
    return split.take(np.flatnonzero((split.labels != 2) | (np.arange(count) % 5 == 0)))


def weighted_task(train: Split, val: int = 29, **knobs: Any) -> Task:
    task = make_task(val, **knobs)
    return replace(task, train=to_device(weigh(train, task.config.train.class_weight), MACHINE.device))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    split = glyphs(6)
    split = Split(split.images, np.array([0, 0, 0, 3, 1, 1]))  # no image of class 2
    weights = weigh(split, "balanced").weights
    assert weights is not None
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2, 1, 1])
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", split.labels))
    assert weigh(split, "none") is split


def test_sample_weights_have_the_mean_1_and_count_in_the_balance() -> None:
    own = np.array([1.0, 2.0, 5.0, 1.0, 3.0])
    split = Split(glyphs(5).images, np.array([0, 0, 1, 1, 1]), own)
    plain, balanced = weigh(split, "none").weights, weigh(split, "balanced").weights
    assert plain is not None
    assert balanced is not None
    np.testing.assert_allclose(plain, own / 2.4)
    sums = np.bincount(split.labels, balanced)
    assert sums[0] == pytest.approx(sums[1]) == pytest.approx(2.5)
    np.testing.assert_allclose(balanced[:2] / balanced[0], own[:2])
    repeated = weigh(split.take(np.repeat(np.arange(5), own.astype(int))), "none")
    as_if = weigh(replace(repeated, weights=None), "balanced").weights
    assert as_if is not None
    np.testing.assert_allclose(as_if[0] / as_if[-1], (balanced[0] / own[0]) / (balanced[-1] / own[-1]))


def test_weights_go_with_their_images() -> None:
    split = glyphs(31)
    split = Split(split.images, split.labels, np.arange(1.0, 32.0))
    train, val = cut_validation(split, 0.3, "stratified", seed=5)
    some = limit(train, 13, seed=5)
    assert val is not None
    for part in (train, val, some):
        assert part.weights is not None
        for image, weight in zip(part.images, part.weights, strict=True):
            np.testing.assert_array_equal(image, split.images[int(weight) - 1])


@pytest.mark.parametrize("wrong", [np.ones(4), np.ones(5, np.float32), np.array([1, 1, 0, 1, 1.0]), np.full(5, np.nan)])
def test_a_split_refuses_weights_that_cannot_be(wrong: npt.NDArray[Any]) -> None:
    with pytest.raises(DataError, match="weights must be"):
        Split(glyphs(5).images, glyphs(5).labels, wrong)


def numbers(batch: int = 7, classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(11)
    labels = torch.randint(classes, (batch,), generator=draw)
    return torch.randn(batch, classes, generator=draw), labels, torch.rand(classes, generator=draw) + 0.1


def test_the_loss_is_torchs_with_class_weights() -> None:
    logits, labels, of_class = numbers()
    weights = of_class[labels]
    found = training_loss(logits, labels, 0.0, weights)
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, of_class, reduction="sum") / len(labels))
    even = weights / weights.mean()
    torch.testing.assert_close(training_loss(logits, labels, 0.0, even), F.cross_entropy(logits, labels, of_class))


def test_with_smoothed_labels_the_loss_is_torchs_for_the_smoothed_probabilities() -> None:
    logits, labels, of_class = numbers()
    weights, smoothed = of_class[labels], F.one_hot(labels, 5) * 0.7 + 0.3 / 5
    expected = (F.cross_entropy(logits, smoothed, reduction="none") * weights).sum() / len(labels)
    torch.testing.assert_close(training_loss(logits, labels, 0.3, weights), expected)
    ones = torch.ones(len(labels))
    torch.testing.assert_close(
        training_loss(logits, labels, 0.3, ones), F.cross_entropy(logits, labels, label_smoothing=0.3)
    )


def test_the_loop_weighs_each_image() -> None:
    """Against a loop written out here, with batches."""
    train = uneven()
    knobs: dict[str, Any] = dict(
        class_weight="balanced", weight_decay=0.3, decay_all=True, schedule="linear", lr=1e-2, adam_eps=1e-3
    )
    task = weighted_task(train, val=0, epochs=2, **STILL, **knobs)
    model = make_model(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.3, eps=1e-3)
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    weights = torch.from_numpy(compute_sample_weight("balanced", train.labels)).float()
    total, step, losses = 2 * math.ceil(len(train) / 17), 0, []
    for epoch in range(2):
        order = torch.randperm(len(train), generator=MACHINE.generator(0, "order", epoch))
        for some in order.split(17):
            logits = model((images[some].permute(0, 3, 1, 2) / 255.0 - 0.3) / 0.4)
            each = F.cross_entropy(logits, labels[some], label_smoothing=0.1, reduction="none") * weights[some]
            losses.append(each.sum().item())
            optimizer.zero_grad()
            each.mean().backward()
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / total)
            optimizer.step()
            step += 1
    outcome = run(task)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(outcome.weights[name], value, rtol=1e-4, atol=1e-6)
    first, second = outcome.counters.rows
    assert first["train_loss"] == pytest.approx(sum(losses[: total // 2]) / weights.sum().item(), rel=1e-5)
    assert second["train_loss"] == pytest.approx(sum(losses[total // 2 :]) / weights.sum().item(), rel=1e-4)
    assert first["train_loss_weighted"] is True
    assert "train_loss_weighted" not in run(make_task(val=0)).counters.rows[0]


def test_weight_2_is_an_image_twice() -> None:
    """Exactly so where no chance is involved: one step with all images in one batch."""
    train = glyphs(13)
    times = np.where(np.arange(13) % 3 == 1, 2, 1)
    knobs: dict[str, Any] = dict(batch_size=26, epochs=1, lr=1e-2, adam_eps=1e-3, **STILL)
    weighted = run(weighted_task(replace(train, weights=times.astype(np.float64)), val=0, **knobs))
    twice = run(weighted_task(train.take(np.repeat(np.arange(13), times)), val=0, **knobs))
    once = run(weighted_task(train, val=0, **knobs))
    for name, value in twice.weights.items():
        torch.testing.assert_close(weighted.weights[name], value, rtol=1e-5, atol=1e-6)
    assert weighted.counters.rows[0]["train_loss"] == pytest.approx(twice.counters.rows[0]["train_loss"], rel=1e-6)
    assert not all(torch.allclose(weighted.weights[name], value, rtol=1e-3) for name, value in once.weights.items())


def test_a_weighted_training_resumes_bit_for_bit() -> None:
    task, kept = weighted_task(uneven(), class_weight="balanced"), []

    def keep(checkpoint: Checkpoint) -> None:
        kept.append(copy(checkpoint))

    whole, resumed = run(task, Hooks(on_state=keep)), run(task, resume=kept[5])
    assert kept[5].counters["step"] == 6
    assert equal(whole.weights, resumed.weights)
    assert timeless(whole) == timeless(resumed)


def test_a_weighted_training_is_recorded_with_its_weights(recordings: list[int]) -> None:
    task = weighted_task(uneven(), class_weight="balanced")
    recorded = run(task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(MACHINE), "records", property(lambda self: False))
        plain = run(task)
    assert sum(recordings) == task.total_steps
    assert equal(recorded.weights, plain.weights)
    assert timeless(recorded) == timeless(plain)


def test_the_knob_reaches_the_loss_and_a_finished_run_stays_finished(tmp_path: Path) -> None:
    train, lines = uneven(), list[str]()
    np.savez(tmp_path / "uneven.npz", x_train=train.images, y_train=train.labels)
    config = tiny_config(tmp_path / "uneven.npz", class_weight="balanced", epochs=1, val_fraction=0.0)
    weights = prepare(config, lines.append).task.train.weights
    assert weights is not None
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", train.labels), rtol=1e-6)
    assert any("count from 0.736 to 3.53 times in the loss" in line for line in lines), lines
    result = train_run(config, tmp_path / "run")
    assert resume_run(tmp_path / "run") == result
    assert config.digest() != config.with_knobs(class_weight="none").digest()
