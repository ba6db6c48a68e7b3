"""A run at hand: its network with its weights, its images, and its answers to those that it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from vitlab.config import RunConfig
from vitlab.data import Dataset, Split
from vitlab.data.batches import DeviceSplit, to_device
from vitlab.errors import RunError
from vitlab.look.attention import Squares, patch_squares
from vitlab.machine import Machine
from vitlab.runs.finished import open_run as open_finished
from vitlab.runs.prepare import memory_errors
from vitlab.runs.result import Result
from vitlab.runs.session import machine_knobs
from vitlab.training.evaluate import predict_logits
from vitlab.training.preprocess import Preprocess

CNN_GRID = 7  # squares a side that are blanked in the input of a network without patches
MOST_SHOWN = 8  # images in pictures of several
MIDDLE = 4  # of them: a 4 has more to show than a 0


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished run. ``part`` names the images that it is judged by: "test", or "validation" where there is no test
    split, or "training" where there is neither. ``logits`` [N, K] are its answers to them, on this machine."""

    path: Path
    config: RunConfig
    dataset: Dataset
    model: nn.Module
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
        """Their names."""
        return self.dataset.card.classes

    @property
    def is_vit(self) -> bool:
        """Whether there are patches, and blocks."""
        return self.config.model.arch == "vit"

    @property
    def has_attention(self) -> bool:
        """Whether its tokens look at each other."""
        return self.is_vit and self.config.model.attn_form != "none"

    @property
    def squares(self) -> Squares:
        """The patches; of a CNN, squares to blank."""
        if self.is_vit:
            return patch_squares(self.config.model)
        side = max(1, self.config.model.input_side // CNN_GRID)
        return Squares(self.config.model.input_side // side, side)

    @cached_property
    def guesses(self) -> Tensor:
        """The class with the highest logit, [N]."""
        return self.logits.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Fraction of ``images`` that is recognised, on this machine."""
        return (self.guesses == self.images.labels).double().mean().item()

    def inputs(self, numbers: list[int]) -> Tensor:
        """These images as the network receives them, [B, C, S, S]."""
        return self.preprocess(self.images.images[numbers])

    def seen(self, images_BHWC: Tensor) -> npt.NDArray[Any]:
        """uint8 images as the network receives them, but in 0..1, [B, S, S, C]."""
        channels = images_BHWC.shape[-1]
        plain = replace(self.preprocess, mean=(0.0,) * channels, std=(1.0,) * channels)
        shown: npt.NDArray[Any] = plain(images_BHWC).permute(0, 2, 3, 1).cpu().numpy()
        return shown


def open_run(path: Path, note: Callable[[str], None], asked: dict[str, Any]) -> Subject:
    """Load a finished run with its images and let it answer; RunError or DataError in one line when that cannot be.

    ``asked`` may hold the machine's knobs, and ``data``: the place that the images have moved to.
    """
    run = open_finished(path)
    environment, history, config = run.folder.environment(), run.folder.history(), run.config
    here = as_trained(environment) | machine_knobs(asked)
    prepared = run.prepare(note, here, asked.get("data"), "looking at the run")
    with memory_errors("looking at the run"):
        part, split = judging_images(prepared.dataset)
        task, images = prepared.task, to_device(split, prepared.task.machine.device)
        prepared.model.eval()
        logits = predict_logits(prepared.model, images, task.preprocess, task.machine, config.train.eval_batch_size)
    return Subject(
        path, config, prepared.dataset, prepared.model, task.preprocess, task.machine, run.result,
        environment, history, part, images, untied(logits),
    )  # fmt: skip


def as_trained(environment: dict[str, Any]) -> dict[str, Any]:
    """The machine's knobs that round as training did: by itself a busy machine may choose another precision, and then
    an image or two of ten thousand fall to the other side."""
    kernels = {"kernels": "plain"} if environment["kernels"] == "plain" else {}
    return {"precision": environment["precision"], **kernels}


def untied(logits_NK: Tensor) -> Tensor:
    """The same, with the answer a hair above its equals: bf16 makes ties, of which every function takes another one.
    Here it is the one that `vitlab.training.evaluate` counts, so that all pictures agree with result.json."""
    answers_N1 = logits_NK.topk(1, dim=1).indices
    above_N1 = torch.nextafter(logits_NK.gather(1, answers_N1), torch.tensor(torch.inf, device=logits_NK.device))
    return logits_NK.scatter(1, answers_N1, above_N1)


def judging_images(dataset: Dataset) -> tuple[str, Split]:
    """The images that say most about a network, and what they are."""
    if dataset.test is not None:
        return "test", dataset.test
    if dataset.val is not None:
        return "validation", dataset.val
    return "training", dataset.train


def check_comparable(subject: Subject, other: Subject) -> None:
    """RunError unless both are judged by the same images: without test images each seed sets others aside."""
    if subject.dataset.digest != other.dataset.digest or subject.part != other.part:
        what, why = "was trained on other images", ""
    elif not same_images(subject.images, other.images):
        what, why = f"is judged by other {subject.part} images", " (another seed or another val_fraction)"
    else:
        return
    raise RunError(f"{other.path} {what} than {subject.path}{why}, so the two cannot stand beside each other")


def same_images(split: DeviceSplit, other: DeviceSplit) -> bool:
    """Whether two splits hold the same images with the same labels in the same order."""
    return torch.equal(split.labels, other.labels) and torch.equal(split.images, other.images)


def shown_images(subject: Subject, chosen: int | None) -> list[int]:
    """Numbers of the images that pictures of several show: the first of each class that is recognised, of many classes
    the first eight. First comes the one that other pictures show alone, ``chosen`` or one from the middle. RunError
    when there is no such image."""
    count = len(subject.images)
    if chosen is not None and not 0 <= chosen < count:
        raise RunError(f"there is no {subject.part} image {chosen} for --image: they are 0 to {count - 1}")
    labels, right = subject.images.labels, subject.guesses == subject.images.labels
    firsts = [((labels == label) & right).nonzero().flatten()[:1].tolist() for label in torch.unique(labels).tolist()]
    numbers = [number for first in firsts for number in first][:MOST_SHOWN] or [0]
    first = numbers[min(MIDDLE, len(numbers) - 1)] if chosen is None else chosen
    return list(dict.fromkeys([first, *numbers]))[:MOST_SHOWN]
