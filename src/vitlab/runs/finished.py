"""A finished run: how everything that uses one opens it, and its evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.config import RunConfig
from vitlab.data import Reading
from vitlab.errors import ConfigError, DataError, RunError
from vitlab.machine import private_randomness, use_available_threads
from vitlab.model import Network, build_model
from vitlab.model.outline import outline
from vitlab.runs.folder import RunFolder
from vitlab.runs.prepare import Prepared, memory_errors, prepare
from vitlab.runs.result import Result, measure
from vitlab.runs.session import SILENT, Reporter, check_same_images, machine_knobs
from vitlab.runs.start import stored_preprocess, stored_start
from vitlab.runs.zoo import place, refuse_damage
from vitlab.text import listed
from vitlab.training.novelty import Novelty, trait_count
from vitlab.training.preprocess import Preprocess

SPLITS = ("test", "val", "train")


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run with a finished network, all digests checked. ``data`` is data.json."""

    folder: RunFolder
    config: RunConfig
    result: Result
    data: dict[str, Any]
    weights: dict[str, Tensor]
    preprocess: Preprocess

    def novelty(self, model: Network) -> Novelty | None:
        """The distance of an image from the training images, as `network` sees them; None in runs of earlier versions.
        RunError if it is damaged."""
        with refuse_damage(self.folder.path):
            return self.folder.load_novelty(self.result.novelty_sha256, trait_count(model, self.data["channels"]))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(self.data["classes"])

    def network(self) -> Network:
        """The network in plain torch, on the CPU, in evaluation mode; needs no data set."""
        use_available_threads()
        with private_randomness(torch.device("cpu")):
            model = build_model(self.config.model, self.data["channels"], len(self.classes))
        self.put_weights(model)
        return model.eval()

    def prepare(self, note: Callable[[str], None], machine: dict[str, Any], data: str | None, doing: str) -> Prepared:
        """The run with images and trained weights; DataError if the images have changed.
        ``machine`` holds changes of the machine's knobs, ``data`` where the images are now, if they have moved."""
        with memory_errors(doing):
            start = stored_start(self.folder, self.preprocess)
            config, reading = self.config.with_knobs(**machine), Reading.of(self.data)
            prepared = prepare(config, note, data, reading, start=start)
            check_same_images(self.folder, prepared, data)
            self.put_weights(prepared.model)
        return prepared

    def put_weights(self, model: nn.Module) -> None:
        """Load the weights into a network of the run's configuration; RunError when they do not fit."""
        try:
            model.load_state_dict(self.weights)
        except RuntimeError:
            raise RunError(
                f"{self.folder.path}: config.json does not match model.safetensors; restore the file that was changed"
            ) from None


def open_run(path: str | os.PathLike[str]) -> FinishedRun:
    """The finished run in ``path``, or the network of that name that comes with vitlab; RunError if there is none, or
    if a file is damaged."""
    folder = RunFolder(place(path))
    with refuse_damage(folder.path):
        return read_run(folder)


def read_run(folder: RunFolder) -> FinishedRun:
    """The finished run in ``folder``."""
    config, data = folder.config(), folder.data()
    preprocess = stored_preprocess(folder, config, data)
    shapes = outline(config.model, data["channels"], len(data["classes"])).state_dict()
    weights, result = folder.load_weights(config.digest(), shapes)
    return FinishedRun(folder, config, result, data, weights, preprocess)


def load_model(path: str | os.PathLike[str]) -> tuple[Network, Preprocess, tuple[str, ...]]:
    """A finished run's network (on the CPU, in evaluation mode), its preprocessing and the names of its classes.

    Needs no data set: `model(preprocess(images_BHWC))` gives the logits of uint8 images. RunError if there is no
    finished run, or a file is damaged.

    >>> import torch
    >>> run = vitlab.train("fast", data="digits", epochs=1, progress=False)
    >>> model, preprocess, classes = vitlab.load_model(run.path)
    >>> images = torch.from_numpy(vitlab.load_dataset("digits").test.images[:5])  # uint8 [5, 8, 8, 1]
    >>> list(model(preprocess(images)).shape), len(classes)
    ([5, 10], 10)
    """
    run = open_run(path)
    return run.network(), run.preprocess, run.classes


def evaluate_run(
    path: str | os.PathLike[str],
    split: str = "test",
    reporter: Reporter = SILENT,
    *,
    asked: dict[str, Any] | None = None,
    shifts: int = 0,
    flips: bool = False,
) -> dict[str, Any]:
    """Every metric of a finished run on its "test", "val" or "train" images (those that it was trained on, without
    augmentation and dropout: the difference from "test" shows over-fitting); DataError if they have changed.

    ``shifts``: average the prediction over each image and its four copies shifted by that many pixels. ``flips``: and
    over their mirror images; ConfigError where a mirrored image would mean something else. ``asked`` may hold the
    machine's knobs, and ``data``, which says where the images are now.

    >>> run = vitlab.train("fast", data="digits", epochs=1, progress=False)
    >>> numbers = vitlab.evaluate_run(run.path, "test")
    >>> numbers["images"], 0 < numbers["loss"], abs(numbers["top1"] - run.result["test_top1"]) < 0.01
    (360, True, True)
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    asked = asked or {}
    prepared = open_run(path).prepare(reporter.note, machine_knobs(asked), asked.get("data"), "evaluating")
    images = {"test": prepared.dataset.test, "val": prepared.dataset.val, "train": prepared.dataset.train}
    chosen = images[split]
    if chosen is None:
        others = [f"--split {name}" for name, other in images.items() if other is not None]
        raise DataError(f"{path} has no {split} images; use {listed(others, 'or')}")
    card = prepared.dataset.card
    if flips and not card.may_flip:
        raise ConfigError(f"{card.name} must not be mirrored, which changes its meaning; leave out --flips")
    about = {"run": os.fspath(path), "split": split, "shifts": shifts, "flips": flips}
    with memory_errors("evaluating"):
        return about | measure(prepared, chosen, shifts, flips)
