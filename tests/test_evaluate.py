"""Numbers of a model's quality against scikit-learn and SciPy, and logits that depend on nothing but the images."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, top_k_accuracy_score

from tests.tiny import glyphs, on_cpu, tiny_model_config
from vitlab.config import MachineConfig
from vitlab.data.batches import DeviceSplit
from vitlab.machine import Machine, choose_machine
from vitlab.model import build_model
from vitlab.runs.result import compute_metrics
from vitlab.training.evaluate import INPUT_BYTES, predict_logits, top_k, wilson_interval
from vitlab.training.preprocess import Preprocess

LOGITS = torch.tensor([[9.0, 1.0, 5.0, 3.0], [1.0, 9.0, 5.0, 3.0], [1.0, 3.0, 5.0, 9.0]])
LABELS = torch.tensor([0, 2, 0])  # first, second and last in rank


@pytest.mark.parametrize(("k", "expected"), [(1, 1 / 3), (2, 2 / 3), (3, 2 / 3), (4, 1.0), (5, 1.0)])
def test_top_k_counts_labels_among_the_k_highest(k: int, expected: float) -> None:
    assert top_k(LOGITS, LABELS, k) == pytest.approx(expected)


def test_metrics_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(211, 11)).astype(np.float32), draw.integers(0, 11, 211)
    found = compute_metrics(torch.from_numpy(logits), torch.from_numpy(labels))
    chances = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(1, keepdims=True)
    assert found["top1"] == pytest.approx(top_k_accuracy_score(labels, logits, k=1))
    assert found["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5))
    assert found["loss"] == pytest.approx(log_loss(labels, chances), rel=1e-5)
    assert 0.02 < top_k_accuracy_score(labels, logits, k=1) < top_k_accuracy_score(labels, logits, k=5) < 0.98


@pytest.mark.parametrize("labels_in_use", [range(5), range(3), [2]])  # of five classes that are guessed
def test_scores_by_class_are_those_of_scikit_learn(labels_in_use: Any) -> None:
    draw = np.random.default_rng(0)
    labels = draw.choice(
        labels_in_use, 307, p=np.arange(1, len(labels_in_use) + 1) / sum(range(len(labels_in_use) + 1))
    )
    logits = draw.normal(size=(307, 7)) + 1.3 * np.eye(7)[labels]
    logits[:, 5:] -= 50  # two classes are neither seen nor guessed
    found = compute_metrics(torch.from_numpy(logits), torch.from_numpy(labels))
    guesses = logits.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about guesses of classes that have no image
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, guesses))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, guesses, average="macro"))
    assert found["macro_f1"] != pytest.approx(found["top1"])


def test_the_calibration_error_by_hand() -> None:
    """Two images at 0.9, one of them right, and three at 0.6, two of them right."""
    confidences, labels = torch.tensor([0.9, 0.9, 0.6, 0.6, 0.6]), torch.tensor([0, 1, 0, 0, 1])
    logits = torch.stack((confidences, 1 - confidences), dim=1).log()
    expected = 2 / 5 * abs(0.5 - 0.9) + 3 / 5 * abs(2 / 3 - 0.6)
    assert compute_metrics(logits, labels)["calibration_error"] == pytest.approx(expected)


def test_metrics_of_perfect_hopeless_and_undecided_logits() -> None:
    labels = torch.arange(7)
    sure = torch.eye(7) * 50
    scores = ("top1", "top5", "balanced_accuracy", "macro_f1")
    right, wrong = compute_metrics(sure, labels), compute_metrics(-sure, labels)
    assert right == pytest.approx(dict.fromkeys(scores, 1.0) | {"loss": 0.0, "calibration_error": 0.0})
    expected = {"loss": 50 + math.log(6), "calibration_error": 1 / 6}  # one sixth sure of each of the six wrong classes
    assert wrong == pytest.approx(dict.fromkeys(scores, 0.0) | expected)
    assert compute_metrics(torch.zeros(7, 7), labels)["loss"] == pytest.approx(math.log(7))


@pytest.mark.parametrize(("good", "count"), [(95, 100), (0, 17), (17, 17), (9894, 10000), (1, 3)])
def test_wilson_interval_is_scipys(good: int, count: int) -> None:
    expected = binomtest(good, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(good / count, count) == pytest.approx((expected.low, expected.high), abs=2e-5)


def test_wilson_interval_of_95_in_100() -> None:
    assert wilson_interval(0.95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)


# Logits


def machine(precision: str = "fp32") -> Machine:
    return replace(choose_machine(MachineConfig(device="cpu", threads=1, precision="fp32")), precision=precision)


def shaken_model() -> Any:
    torch.manual_seed(0)
    model = build_model(tiny_model_config(image_size=10, dropout=0.5, drop_path=0.5), 1, 3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


DATA = on_cpu(glyphs(23))
PREPROCESS = Preprocess(10, (0.3,), (0.5,))


@pytest.mark.parametrize("batch_size", [1, 7, 23, 1000])
def test_logits_do_not_depend_on_the_batch_size_and_keep_the_order(batch_size: int) -> None:
    model = shaken_model()
    logits = predict_logits(model, DATA, PREPROCESS, machine(), batch_size)
    with torch.no_grad():
        expected = torch.cat([model.eval()(PREPROCESS(image[None])) for image in DATA.images])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    assert len(torch.unique(expected[:, 0].round(decimals=4))) == 23  # no two images alike: an order can be wrong


def test_large_images_go_through_the_network_a_few_at_a_time() -> None:
    sizes = []

    class Brightness(torch.nn.Module):
        def forward(self, inputs_BCSS: torch.Tensor) -> torch.Tensor:
            sizes.append(len(inputs_BCSS))
            return inputs_BCSS.mean(dim=(2, 3))

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (23, 311, 307, 3), dtype=np.uint8))
    images[:, 0] = 10 * torch.arange(23, dtype=torch.uint8)[:, None, None]
    plain = Preprocess(31, (0.0,) * 3, (1.0,) * 3)
    logits = predict_logits(Brightness(), DeviceSplit(images, DATA.labels), plain, machine(), 1000)
    expected = torch.cat([plain(image[None]).mean(dim=(2, 3)) for image in images])
    torch.testing.assert_close(logits, expected)
    assert len(torch.unique(expected[:, 0])) == sum(sizes) == 23
    assert max(sizes) * 311 * 307 * 3 * 4 <= INPUT_BYTES < 23 * 311 * 307 * 3 * 4
    assert not logits.is_inference()  # so whoever asked may compute with them


@pytest.mark.parametrize("training", [True, False])
def test_predicting_switches_dropout_off_and_restores_the_mode(training: bool) -> None:
    model = shaken_model().train(training)
    logits = [predict_logits(model, DATA, PREPROCESS, machine(), 7) for _ in range(2)]
    assert torch.equal(*logits)
    assert not logits[0].requires_grad
    assert {module.training for module in model.modules()} == {training}


def test_with_shifts_probabilities_are_the_mean_over_five_views() -> None:
    model, data = shaken_model().eval(), DATA.images
    moved = [torch.roll(data, steps, dims=(1, 2)) for steps in ((0, 0), (0, 2), (0, -2), (2, 0), (-2, 0))]
    moved[1][:, :, :2], moved[2][:, :, -2:], moved[3][:, :2], moved[4][:, -2:] = 0, 0, 0, 0
    plain = Preprocess(8, (0.3,), (0.5,))  # without resizing, which would blur the edges of what was moved
    model = build_model(tiny_model_config(image_size=8, patch_size=2), 1, 3).eval()
    torch.nn.init.normal_(model.head[-1].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = torch.stack([model(plain(images)).softmax(1) for images in moved]).mean(0)
    logits = predict_logits(model, DATA, plain, machine(), 7, shifts=2)
    torch.testing.assert_close(logits.exp(), expected)


def test_with_flips_each_view_counts_with_its_mirror_image() -> None:
    plain = Preprocess(8, (0.3,), (0.5,))
    model = build_model(tiny_model_config(image_size=8, patch_size=2), 1, 3).eval()
    torch.nn.init.normal_(model.head[-1].weight)  # type: ignore[arg-type]
    data = DATA.images
    moved = [torch.roll(data, steps, dims=(1, 2)) for steps in ((0, 0), (0, 2), (0, -2), (2, 0), (-2, 0))]
    moved[1][:, :, :2], moved[2][:, :, -2:], moved[3][:, :2], moved[4][:, -2:] = 0, 0, 0, 0
    with torch.no_grad():
        pairs = [(model(plain(images)), model(plain(images).flip(-1))) for images in moved]
    chances = [[one.softmax(1) for one in pair] for pair in pairs]
    flipped = predict_logits(model, DATA, plain, machine(), 7, flips=True)
    torch.testing.assert_close(flipped.exp(), torch.stack(chances[0]).mean(0))
    both = predict_logits(model, DATA, plain, machine(), 7, shifts=2, flips=True)
    torch.testing.assert_close(both.exp(), torch.stack([one for pair in chances for one in pair]).mean(0))


def test_logits_are_float32_also_when_products_are_bf16() -> None:
    exact, coarse = (predict_logits(shaken_model(), DATA, PREPROCESS, machine(p), 7) for p in ("fp32", "bf16"))
    assert exact.dtype == coarse.dtype == torch.float32
    assert not torch.equal(exact, coarse)  # bf16 was used
    assert (exact - coarse).abs().max() < 0.1 * exact.abs().max()
