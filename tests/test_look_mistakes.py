"""Confusion, mistakes and calibration, by hand, against scikit-learn, and against a loop over single images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import confusion_matrix
from torch import Tensor

from vitlab.look.mistakes import Mistake, equal_classes, mistakes, per_class
from vitlab.training.evaluate import confusion, reliability, top_k, wilson_interval


def answers(*probabilities: float) -> Tensor:
    """Logits of two classes; of the first so probable."""
    return torch.tensor([[math.log(p), math.log(1 - p)] for p in probabilities])


def random_answers(count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Logits and labels that often agree."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), labels] += 1.5
    return logits, labels


# Confusion


def test_rows_of_the_confusion_are_the_truth() -> None:
    logits = torch.eye(3)[[0, 1, 1, 2, 1]]
    assert confusion(logits, torch.tensor([0, 0, 0, 0, 1])).tolist() == [[1, 2, 1], [0, 1, 0], [0, 0, 0]]


def test_confusion_is_that_of_scikit_learn() -> None:
    logits, labels = random_answers(211, 7)
    found = confusion(logits, labels)
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), confusion_matrix(labels, logits.argmax(1), labels=range(7)))
    assert found.trace().item() / 211 == pytest.approx(top_k(logits, labels, 1))


def test_accuracy_of_each_class_is_that_of_its_own_images() -> None:
    counts = torch.tensor([[5, 2, 0], [90, 10, 0], [0, 0, 0]])
    expected = [(5 / 7, wilson_interval(5 / 7, 7)), (0.1, wilson_interval(0.1, 100)), (0.0, (0.0, 1.0))]
    assert per_class(counts) == expected


# Mistakes


def test_mistakes_are_the_wrong_answers_with_the_surest_first() -> None:
    logits, labels = answers(0.6, 0.9, 0.2, 0.99, 0.05), torch.tensor([1, 1, 0, 0, 0])
    found = mistakes(logits, labels, 3)
    assert [(m.index, m.truth, m.guess) for m in found] == [(4, 0, 1), (1, 1, 0), (2, 0, 1)]
    assert [m.probability for m in found] == pytest.approx([0.95, 0.9, 0.8])
    assert mistakes(logits, labels, 2) == found[:2]
    assert len(mistakes(logits, labels, 100)) == 4


def test_without_mistakes_there_are_none() -> None:
    assert mistakes(torch.eye(3), torch.arange(3), 5) == []


def test_very_sure_mistakes_still_have_an_order() -> None:
    # In float32 both probabilities would be 1.
    found = mistakes(torch.tensor([[20.0, 0.0], [30.0, 0.0]]), torch.tensor([1, 1]), 2)
    assert [m.index for m in found] == [1, 0]
    assert isinstance(found[0], Mistake)


# Calibration


def test_a_sure_and_perfect_network_is_calibrated() -> None:
    found = reliability(torch.eye(5) * 60, torch.arange(5))
    assert found.ece == pytest.approx(0.0, abs=1e-9)
    assert found.counts == (0,) * 14 + (5,)
    assert (found.accuracy[-1], found.confidence[-1]) == pytest.approx((1.0, 1.0))


def test_a_sure_and_hopeless_network_is_off_by_everything() -> None:
    found = reliability(torch.eye(5) * 60, (torch.arange(5) + 1) % 5)
    assert found.ece == pytest.approx(1.0)
    assert (found.accuracy[-1], found.confidence[-1]) == pytest.approx((0.0, 1.0))


def test_a_guess_that_is_as_often_right_as_it_says_is_calibrated() -> None:
    found = reliability(torch.zeros(10, 5), torch.arange(10) % 5, bins=7)
    assert found.ece == pytest.approx(0.0, abs=1e-9)
    assert found.counts == (0, 10, 0, 0, 0, 0, 0)
    assert found.accuracy == pytest.approx((0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0))


def test_calibration_by_hand() -> None:
    logits = answers(*[0.75] * 4, *[0.65] * 6)
    labels = torch.tensor([0, 0, 0, 1, 0, 0, 0, 1, 1, 1])  # 3 of 4, and 3 of 6
    found = reliability(logits, labels, bins=10)
    assert found.counts == (0, 0, 0, 0, 0, 0, 6, 4, 0, 0)
    assert found.confidence[6:8] == pytest.approx((0.65, 0.75))
    assert found.accuracy[6:8] == pytest.approx((0.5, 0.75))
    assert found.ece == pytest.approx(0.6 * 0.15)
    assert found.edges == pytest.approx([i / 10 for i in range(11)])


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    assert reliability(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), bins=2).counts == (3, 0)


@pytest.mark.parametrize("bins", [1, 2, 15, 100])
def test_calibration_is_that_of_a_loop_over_images(bins: int) -> None:
    logits, labels = random_answers(211, 7)
    truths = labels.tolist()
    probabilities = logits.double().softmax(1).tolist()
    ece = 0.0
    for i in range(bins):
        inside = [n for n, row in enumerate(probabilities) if i / bins < max(row) <= (i + 1) / bins]
        right = sum(probabilities[n].index(max(probabilities[n])) == truths[n] for n in inside)
        sure = sum(max(probabilities[n]) for n in inside)
        ece += abs(right - sure) / 211
    found = reliability(logits, labels, bins)
    assert found.ece == pytest.approx(ece)
    assert found.ece > 0.01
    assert sum(found.counts) == 211
    assert len(found.edges) - 1 == len(found.counts) == len(found.accuracy) == len(found.confidence) == bins
    assert all(math.isfinite(number) for number in (*found.accuracy, *found.confidence))


def test_the_test_of_equal_classes_agrees_with_chi_square_where_that_holds() -> None:
    right = torch.tensor([[430, 41, 0], [37, 401, 23], [20, 40, 450]])
    wrong_seen = torch.stack([right.diagonal(), right.sum(dim=1) - right.diagonal()]).numpy()
    expected = stats.chi2_contingency(wrong_seen, correction=False).pvalue
    assert equal_classes(right) == pytest.approx(expected, abs=0.01)
    assert 0.001 < expected < 0.2


def test_equal_classes_seldom_look_unequal() -> None:
    """A hundred equally hard classes: the extremes nearly always lie apart, the test says so in one of twenty."""
    draw = np.random.default_rng(3)
    found = []
    for _ in range(60):
        right = torch.from_numpy(draw.binomial(97, 0.93, 100))
        counts = torch.diag(right)
        counts[torch.arange(100), (torch.arange(100) + 1) % 100] += 97 - right
        found.append(equal_classes(counts) < 0.05)
    assert sum(found) <= 8
    assert equal_classes(torch.diag(torch.tensor([3, 5, 0]))) == 1.0
    assert equal_classes(torch.tensor([[0, 5], [7, 0]])) == 1.0
    assert equal_classes(torch.tensor([[60, 0], [29, 31]])) == 1 / 10_000
