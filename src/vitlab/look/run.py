"""A finished run as `vitlab look` opens it: its network, its images, and its answers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlab.config import RunConfig
from vitlab.data import Dataset
from vitlab.data.batches import DeviceSplit, same_images, to_device
from vitlab.data.view import range_of, view
from vitlab.errors import RunError
from vitlab.look.style import Pixels
from vitlab.machine import Machine
from vitlab.model import Description, Network
from vitlab.runs import finished
from vitlab.runs.prepare import memory_errors
from vitlab.runs.result import Result
from vitlab.runs.session import machine_knobs
from vitlab.text import counted
from vitlab.training.evaluate import predict_logits, wilson_interval
from vitlab.training.preprocess import Preprocess

MOST_SHOWN = 8  # images in a figure of several
MIDDLE = 4  # the one of them that is shown alone: of digits a 4, which has more to show than a 0


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished run. ``part`` names the images that it is evaluated on: "test", or "validation" if there is no test
    split, or "training" if there is neither. ``logits`` [N, K] are its answers to them, computed on this machine."""

    path: Path
    config: RunConfig
    dataset: Dataset
    model: Network
    preprocess: Preprocess
    machine: Machine
    result: Result
    environment: dict[str, Any]
    history: list[dict[str, Any]]
    part: str
    images: DeviceSplit
    logits: Tensor

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.path.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.dataset.card.classes

    def counted_images(self, count: int | None = None) -> str:
        """10,000 test images, or 2,000 test images evenly sampled from 10,000."""
        total = len(self.images)
        if count is None or count == total:
            return counted(total, f"{self.part} image")
        return f"{counted(count, f'{self.part} image')} evenly sampled from {total:,}"

    @property
    def machine_line(self) -> str:
        """2 threads of AMD EPYC, bf16: where it was trained."""
        environment = self.environment
        threads = f"{counted(environment['threads'], 'thread')} of " if environment["device"] == "cpu" else ""
        return f"{threads}{environment['device_name'] or environment['device']}, {environment['precision']}"

    @cached_property
    def guesses(self) -> Tensor:
        """The class with the highest logit, [N]."""
        return self.logits.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Fraction of ``images`` that is classified correctly, on this machine."""
        return (self.guesses == self.images.labels).double().mean().item()

    @property
    def headline(self) -> tuple[float, tuple[float, float]]:
        """Accuracy and its 95 % interval: those of result.json for test images, otherwise those found here."""
        if self.part == "test" and self.result["test_top1"] is not None:
            low, high = self.result["test_top1_interval"]
            return self.result["test_top1"], (low, high)
        return self.accuracy, wilson_interval(self.accuracy, len(self.images))

    def inputs(self, numbers: list[int]) -> Tensor:
        """These images as the network receives them, [B, C, S, S]."""
        return self.preprocess(self.images.at(numbers))

    def visible(self, numbers: list[int]) -> Pixels:
        """The same in 0..1, without normalisation, for people: [B, S, S, 1 or 3]."""
        return visible(self.images.at(numbers), self.preprocess)

    @cached_property
    def network(self) -> Description:
        """What the network is, and which views of it are missing, with the reason."""
        return self.model.describe()


def open_run(path: Path, note: Callable[[str], None], asked: dict[str, Any]) -> Subject:
    """Load a finished run and its images and compute its answers; RunError or DataError in one line if that fails.
    ``asked`` may hold the machine's knobs, and ``data``: the new place of images that have moved."""
    run = finished.open_run(path)
    environment, history, config = run.folder.environment(), run.folder.history(), run.config
    knobs = as_trained(environment) | machine_knobs(asked)
    prepared = run.prepare(note, knobs, asked.get("data"), "looking at the run")
    with memory_errors("looking at the run"):
        model, dataset, task = prepared.model, prepared.dataset, prepared.task
        parts = {"test": dataset.test, "validation": dataset.val, "training": dataset.train}
        part, split = next((name, split) for name, split in parts.items() if split is not None)
        images = to_device(split, task.machine.device)
        model.eval()
        logits = predict_logits(model, images, task.preprocess, task.machine, config.train.eval_batch_size)
    return Subject(
        path, config, dataset, model, task.preprocess, task.machine, run.result, environment, history, part, images,
        break_ties(logits),
    )  # fmt: skip


def as_trained(environment: dict[str, Any]) -> dict[str, Any]:
    """The machine's knobs that round as training did: on its own, a busy machine may choose another precision, which
    changes the answers to an image or two of ten thousand."""
    kernels = {"kernels": "plain"} if environment["kernels"] == "plain" else {}
    return {"precision": environment["precision"], **kernels}


def break_ties(logits_NK: Tensor) -> Tensor:
    """The same logits, with each answer slightly above its equals. bf16 produces ties, which argmax, topk and softmax
    break differently; here the class wins that `vitlab.training.evaluate` counts, so figures agree with result.json."""
    answers_N1 = logits_NK.topk(1, dim=1).indices
    above_N1 = torch.nextafter(logits_NK.gather(1, answers_N1), torch.tensor(torch.inf, device=logits_NK.device))
    return logits_NK.scatter(1, answers_N1, above_N1)


def check_comparable(subject: Subject, other: Subject) -> None:
    """RunError unless both are evaluated on the same images: without test images, each seed sets others aside."""
    own, theirs = subject.images, other.images
    if subject.dataset.digest != other.dataset.digest or subject.part != other.part:
        what, why = "was trained on other images", ""
    elif not (torch.equal(own.labels, theirs.labels) and same_images(own.images, theirs.images)):
        what, why = f"has other {subject.part} images", " (another seed or val_fraction)"
    else:
        return
    raise RunError(f"{other.path} {what} than {subject.path}{why}, so they cannot be compared; leave it out")


def shown_images(subject: Subject, chosen: int | None) -> list[int]:
    """Numbers of the images in figures of several: the first correctly classified image of each class, at most eight.
    The first of them is the one that other figures show alone: ``chosen``, or one from the middle. RunError if there
    is no image ``chosen``."""
    count = len(subject.images)
    if chosen is not None and not 0 <= chosen < count:
        raise RunError(f"there is no {subject.part} image {chosen} for --image; choose one from 0 to {count - 1}")
    labels, right = subject.images.labels, subject.guesses == subject.images.labels
    firsts = [((labels == label) & right).nonzero().flatten()[:1].tolist() for label in torch.unique(labels).tolist()]
    numbers = [number for first in firsts for number in first][:MOST_SHOWN] or [0]
    first = numbers[min(MIDDLE, len(numbers) - 1)] if chosen is None else chosen
    return list(dict.fromkeys([first, *numbers]))[:MOST_SHOWN]


def visible(images_BHWC: Tensor, preprocess: Preprocess, change: Callable[[Tensor], Tensor] | None = None) -> Pixels:
    """Images as ``preprocess`` hands them to the network, with ``change``, but not normalised: what `view` shows of
    them, [B, S, S, 1 or 3] in 0..1."""
    channels = images_BHWC.shape[-1]
    plain = replace(preprocess, mean=(0.0,) * channels, std=(1.0,) * channels)
    seen = plain(images_BHWC, change).permute(0, 2, 3, 1).cpu().numpy()
    return view(seen, range_of(images_BHWC.cpu().numpy()))


def evenly(total: int, most: int) -> Tensor:
    """Numbers of at most ``most`` of ``total`` images, evenly spaced: files are often sorted by class or by writer."""
    count = min(total, most)
    return torch.arange(count) * total // max(count, 1)
