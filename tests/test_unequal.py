"""Unequal classes: weights as numbers, balanced sampling, numbers of each class, early stopping."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support

from tests.test_step import recordings as recordings
from tests.test_train import MACHINE, copy, equal, make_task, run, timeless
from tests.test_weights import uneven, weighted_task
from tests.tiny import glyphs, tiny_config
from vitlab import RunConfig, Split, ViTClassifier, evaluate_run, train_run
from vitlab.advice import for_the_command_line
from vitlab.cli.evaluate import accuracy_line
from vitlab.config.class_weight import for_classes
from vitlab.data.batches import balanced_order, epoch_batches, to_device
from vitlab.data.splits import weigh
from vitlab.errors import ConfigError
from vitlab.runs.result import Result, class_rows, compute_by_class, compute_metrics, shown_metrics
from vitlab.runs.session import resume_run
from vitlab.training.loop import Hooks
from vitlab.training.step import Checkpoint, Task

CLASSES = ("cat", "dog", "x=y")


@pytest.mark.parametrize(
    ("given", "stored", "weights"),
    [
        ("2,1.0, 0.5", "2,1,0.5", [2, 1, 0.5]),
        ([2, 1, 0.5], "2,1,0.5", [2, 1, 0.5]),
        ("dog=5", "dog=5", [1, 5, 1]),
        ({"dog": 5, "x=y": 1e-3}, "dog=5,x=y=0.001", [1, 5, 1e-3]),
        ({"cat": np.float32(5.5)}, "cat=5.5", [5.5, 1, 1]),
        (None, "none", None),
        ("balanced", "balanced", None),
    ],
)
def test_class_weights_as_numbers(given: Any, stored: str, weights: list[float] | None) -> None:
    config = RunConfig().with_knobs(class_weight=given)
    assert config.train.class_weight == stored
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert for_classes(stored, CLASSES) == weights


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("balance", "one of none, balanced, or numbers .*did you mean balanced"),
        ("1,2,cat=3", "mixes numbers with and without a name"),
        ("1,0,3", "'0' is not a number above 0"),
        ("1,nan,3", "'nan' is not a number above 0"),
        ("1,,3", "'' is not a number above 0"),
        ("cat=1,cat=2", "two numbers for 'cat'"),
        (5, "class_weight must be text"),
        ("1,2", "has 2 numbers, but there are 3 classes"),
        ("cow=2", "no class 'cow'; the classes are cat, dog and x=y"),
    ],
)
def test_class_weights_that_cannot_be_are_refused_in_one_line(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        for_classes(RunConfig().with_knobs(class_weight=given).train.class_weight, CLASSES)
    assert "\n" not in str(caught.value)


def test_numbers_multiply_sample_weights_and_have_the_mean_1() -> None:
    split = Split(glyphs(5).images, np.array([0, 0, 1, 1, 1]), np.array([1.0, 2.0, 1.0, 1.0, 3.0]))
    weights = weigh(split, [3.0, 0.5]).weights
    assert weights is not None
    np.testing.assert_allclose(weights, np.array([3, 6, 0.5, 0.5, 1.5]) * 5 / 11.5)
    drawn = weigh(split, [3.0, 0.5], "balanced").weights  # the mean over classes that are shown equally often
    assert drawn is not None
    np.testing.assert_allclose(drawn, np.array([3, 6, 0.5, 0.5, 1.5]) / ((4.5 + 2.5 / 3) / 2))


def test_weights_that_are_numbers_train_as_sample_weights_do() -> None:
    train = uneven()
    by_class = make_task(0, epochs=1)
    by_class = replace(by_class, train=to_device(weigh(train, [2.0, 1.0, 7.0]), MACHINE.device))
    own = replace(train, weights=np.array([2.0, 1.0, 7.0])[train.labels])
    assert equal(run(by_class).weights, run(weighted_task(own, val=0, epochs=1)).weights)


# Balanced sampling


def sampled(labels: list[int], seed: int = 0) -> np.ndarray[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    return balanced_order(torch.tensor(labels), generator).numpy()


def test_each_class_is_shown_equally_often_and_each_image_as_often_as_its_neighbours() -> None:
    labels = np.repeat([0, 1, 4, 6], [101, 2, 31, 7])  # no image of 2, 3 and 5
    order = sampled(labels.tolist())
    assert len(order) == 141
    assert sorted(np.bincount(labels[order])[[0, 1, 4, 6]]) == [35, 35, 35, 36]
    times = np.bincount(order, minlength=141)
    for label in (0, 1, 4, 6):
        own = times[labels == label]
        assert own.max() - own.min() <= 1
        assert own.sum() in (35, 36)
    assert (times[labels == 0] <= 1).all()
    others = sampled(labels.tolist(), seed=1)
    assert not np.array_equal(order, others)
    assert set(order[labels[order] == 0]) != set(others[labels[others] == 0])  # another part of the large class
    assert len(np.unique(np.flatnonzero(labels[order] == 1) // 47)) > 1  # the rare class is spread over the epoch
    np.testing.assert_array_equal(order, sampled(labels.tolist()))


def test_equal_classes_are_shown_once() -> None:
    assert sorted(sampled([0, 1, 2] * 7)) == list(range(21))


def test_batches_of_an_epoch_are_as_many_as_before_and_can_begin_in_the_middle() -> None:
    split = to_device(uneven(), MACHINE.device)

    def batches(first: int) -> list[tuple[torch.Tensor, ...]]:
        return list(epoch_batches(split, 13, torch.Generator().manual_seed(5), first, sampling="balanced"))

    whole, rest = batches(0), batches(2)
    assert [len(batch[0]) for batch in whole] == [13] * (len(split) // 13) + [len(split) % 13]
    assert len(rest) == len(whole) - 2
    for one, other in zip(whole[2:], rest, strict=True):
        assert all(map(torch.equal, one, other))


def kept_states(task: Task) -> tuple[Any, list[Checkpoint]]:
    kept: list[Checkpoint] = []
    return run(task, Hooks(on_state=lambda checkpoint: kept.append(copy(checkpoint)))), kept


def test_balanced_training_resumes_bit_for_bit_and_differs() -> None:
    task = weighted_task(uneven(), sampling="balanced")
    whole, kept = kept_states(task)
    assert kept[5].counters["step"] == 6
    resumed = run(task, resume=kept[5])
    assert equal(whole.weights, resumed.weights)
    assert timeless(whole) == timeless(resumed)
    assert not equal(whole.weights, run(weighted_task(uneven())).weights)


def test_balanced_sampling_is_recorded(recordings: list[int]) -> None:
    task = weighted_task(uneven(), sampling="balanced")
    recorded = run(task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(MACHINE), "records", property(lambda self: False))
        plain = run(task)
    assert sum(recordings) == task.total_steps
    assert equal(recorded.weights, plain.weights)


def test_what_would_count_rare_classes_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice; choose one"):
        RunConfig().with_knobs(class_weight="balanced", sampling="balanced")


# Numbers of each class


@pytest.mark.parametrize("labels_in_use", [range(5), range(3), [2]])
def test_the_numbers_of_each_class_are_those_of_scikit_learn(labels_in_use: Any) -> None:
    draw = np.random.default_rng(0)
    labels = draw.choice(labels_in_use, 307)
    logits = draw.normal(size=(307, 7)) + 1.3 * np.eye(7)[labels]
    logits[:, 4:] -= 50  # classes that no answer names, of which one has images
    tensors, guesses = (torch.from_numpy(logits), torch.from_numpy(labels)), logits.argmax(axis=1)
    names = [f"c{number}" for number in range(7)]
    found = compute_by_class(*tensors, names)
    precision, recall, _, images = precision_recall_fscore_support(
        labels, guesses, labels=range(7), zero_division=np.nan
    )
    assert found["class_images"] == dict(zip(names, images.tolist(), strict=True))
    for name, expected in (("precision", precision), ("recall", recall)):
        assert list(found[name]) == names
        got = [np.nan if value is None else value for value in found[name].values()]
        np.testing.assert_allclose(got, expected)
    means = compute_metrics(*tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about guesses of classes that have no image
        assert means["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, guesses))
    assert means["macro_f1"] == pytest.approx(f1_score(labels, guesses, average="macro"))


def test_numbers_of_too_many_classes_are_not_stored() -> None:
    assert compute_by_class(torch.eye(1001), torch.arange(1001), [str(n) for n in range(1001)])["recall"] is None


def test_a_table_shows_classes_with_images_or_the_worst() -> None:
    values = {
        "class_images": {"cat": 3, "dog": 0, "fox": 1200},
        "recall": {"cat": 0.0, "dog": None, "fox": 0.5},
        "precision": {"cat": None, "dog": 0.0, "fox": 1.0},
    }
    rows = class_rows(values, prefix="")
    assert rows == [
        {"class": "cat", "images": "3", "recall": "0.00 %", "precision": "never named"},
        {"class": "fox", "images": "1,200", "recall": "50.00 %", "precision": "100.00 %"},
    ]
    assert [row["class"] for row in class_rows(values, prefix="", most=1)] == ["cat"]
    assert class_rows({}) == []


def ended(top1: float, balanced: float, recall: dict[str, float], precision: dict[str, float | None]) -> Result:
    images = dict.fromkeys(recall, 500)
    return Result(
        "done", test_top1=top1, test_balanced_accuracy=balanced, test_recall=dict(recall), test_images=1000,
        test_precision=precision, test_class_images=images, test_guess_top1=0.5,
    )  # fmt: skip


@pytest.mark.parametrize(("classes", "is_shown"), [(2, False), (5, False), (6, True), (None, True)])
def test_top5_of_five_classes_says_nothing(classes: int | None, is_shown: bool) -> None:
    images = None if classes is None else {str(number): 7 for number in range(classes)}
    values = {"top1": 0.5, "top1_interval": [0.4, 0.6], "top5": 1.0, "loss": 1.0, "images": 42, "class_images": images}
    assert ("top-5" in accuracy_line("test", values)) == is_shown
    assert ("top-5 accuracy" in dict(shown_metrics(values, prefix=""))) == is_shown


def test_what_accuracy_hides() -> None:
    fine = ended(0.9, 0.85, {"a": 0.95, "b": 0.75}, {"a": 0.9, "b": 0.9})
    assert fine.what_accuracy_hides() is None
    low = ended(0.9, 0.79, {"a": 1.0, "b": 0.6}, {"a": 0.9, "b": 0.9})
    assert "90.00 % of the test images are right, but 79.00 % on average" in str(low.what_accuracy_hides())
    assert "the worst is 'b' with 60.00 % of 500 images" in str(low.what_accuracy_hides())
    never = ended(0.7, 0.7, {"a": 1.0, "b": 0.0}, {"a": 0.9, "b": None})
    assert str(never.what_accuracy_hides()).startswith("it never answers 'b' (500 test images)")
    assert str(never.what_accuracy_hides()).endswith(
        '; try class_weight="balanced", sampling="balanced", or more epochs'
    )
    with for_the_command_line():
        assert "try --class-weight balanced, --sampling balanced" in str(never.what_accuracy_hides())
    assert replace(never, test_top1=0.5).what_accuracy_hides() is None  # it did not learn, which says more
    assert "did not learn" in str(replace(never, test_top1=0.5).note())
    assert never.note() == never.what_accuracy_hides()
    assert replace(never, test_recall=None).what_accuracy_hides() is None  # of an earlier version
    assert replace(never, status="interrupted").what_accuracy_hides() is None


# Early stopping


def by_hand(values: list[float], patience: int, sign: int) -> tuple[int, int]:
    """(epochs, best epoch) of a training with these monitored values."""
    best, best_epoch = -np.inf, 0
    for epoch, value in enumerate(values, start=1):
        if sign * value > best:
            best, best_epoch = sign * value, epoch
        if epoch - best_epoch >= patience:
            return epoch, best_epoch
    return len(values), best_epoch


@pytest.mark.parametrize(
    ("monitor", "patience"), [("val_top1", 1), ("val_loss", 2), ("val_balanced_accuracy", 2), ("val_macro_f1", 1)]
)
def test_training_stops_after_epochs_without_improvement(monitor: str, patience: int) -> None:
    knobs: dict[str, Any] = dict(epochs=7, lr=3e-2, schedule="constant", select="best", monitor=monitor)
    long = run(make_task(**knobs))
    values = [row[monitor] for row in long.counters.rows]
    epochs, best = by_hand(values, patience, -1 if monitor == "val_loss" else 1)
    assert by_hand(values, 99, -1 if monitor == "val_loss" else 1)[1] == long.selected_epoch
    assert epochs < 7, "the case must stop"
    task = make_task(**knobs, patience=patience)
    short, kept = kept_states(task)
    assert (short.status, len(short.counters.rows), short.selected_epoch) == ("done", epochs, best)
    assert [row[monitor] for row in short.counters.rows] == values[:epochs]
    for state in (kept[-2], kept[-1]):  # in the last epoch, and after it
        resumed = run(task, resume=copy(state))
        assert equal(short.weights, resumed.weights)
        assert timeless(short) == timeless(resumed)


def test_a_monitored_value_is_in_the_history_only_if_it_is_asked_for() -> None:
    assert "val_macro_f1" not in run(make_task(epochs=1)).counters.rows[0]
    task = make_task(epochs=1, monitor="val_macro_f1")
    assert set(run(task).counters.rows[0]) - set(run(make_task(epochs=1)).counters.rows[0]) == {"val_macro_f1"}


def test_a_run_that_stopped_early_is_done_and_says_so(tmp_path: Path) -> None:
    train, test = uneven(), glyphs(31, seed=1)
    np.savez(tmp_path / "u.npz", x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)
    config = tiny_config(
        tmp_path / "u.npz", epochs=8, patience=1, monitor="val_balanced_accuracy", val_fraction=0.3, lr=1e-9,
        sampling="balanced", class_weight="0=1,2=3",
    )  # fmt: skip
    result = train_run(config, tmp_path / "run")
    assert (result.status, result.stopped_epoch, result.epochs_done, result.best_epoch) == ("done", 2, 2, 1)
    assert resume_run(tmp_path / "run") == result
    assert Result.from_dict(json.loads((tmp_path / "run" / "result.json").read_text())) == result
    numbers = evaluate_run(tmp_path / "run")
    assert numbers["recall"] == result.test_recall
    assert train_run(config.with_knobs(patience=9), tmp_path / "long").stopped_epoch is None
    with pytest.raises(ConfigError, match="patience 1 needs validation images"):
        train_run(config.with_knobs(val_fraction=0.0), tmp_path / "none")
    with pytest.raises(ConfigError, match="monitor val_loss needs validation images"):
        train_run(config.with_knobs(val_fraction=0.0, patience=0, monitor="val_loss"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_classifier_samples_and_stops() -> None:
    split = uneven(101)
    knobs = dict(patience=1, monitor="val_macro_f1", sampling="balanced", muon_lr=1e-9, lr=1e-9)
    classifier = ViTClassifier("fast", epochs=7, validation_fraction=0.3, random_state=0, knobs=knobs)
    assert len(classifier.fit(split.images, split.labels).history_) < 7
