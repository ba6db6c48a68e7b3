"""A network with its preprocessing inside, and how an exported copy is compared with it before it is kept.

The classic mistake of an export is to leave the preprocessing behind. So an exported file takes stored images, uint8 in
0 to 255, and scales, resizes, crops and normalises them with the same code as training.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitlab import __version__, files
from vitlab.errors import ConfigError, VitlabError, storage_error
from vitlab.machine import generator_on
from vitlab.model import ViT
from vitlab.predict import Classifier
from vitlab.text import counted

BATCHES = (1, 2, 7)
AGREE = 1e-4  # largest difference from torch that is accepted

Outputs = dict[str, Tensor]


class ExportError(VitlabError):
    """A network could not be exported, or its copy computes something different."""


class Whole(nn.Module):
    """uint8 [B, H, W, C] -> logits [B, K] and, with ``attention``, each layer's weights [B, h, N, N].

    ``shape`` is (H, W, C) of a stored image.
    """

    def __init__(self, classifier: Classifier, attention: bool = False) -> None:
        super().__init__()
        self.model, self.preprocess, self.attention = classifier.model, classifier.preprocess, attention
        self.shape = (*classifier.stored_size, classifier.channels)

    def forward(self, images_BHWC: Tensor) -> tuple[Tensor, ...]:
        """The outputs in the order of `names`."""
        inputs = self.preprocess(images_BHWC)
        if not self.attention:
            return (self.model(inputs),)
        assert isinstance(self.model, ViT)
        logits, weights = self.model.forward_with_attention(inputs)
        return (logits, *weights.unbind(0))

    @property
    def names(self) -> list[str]:
        """The names of the outputs."""
        layers = range(len(self.model.blocks)) if self.attention and isinstance(self.model, ViT) else ()
        return ["logits", *(f"attention_{layer}" for layer in layers)]


def noise(shape: tuple[int, int, int], count: int) -> Tensor:
    """Random images uint8 [count, H, W, C], the same each time."""
    draw = generator_on(torch.device("cpu"), 0, "export", count)
    return torch.randint(0, 256, (count, *shape), generator=draw).to(torch.uint8)


def compare(whole: Whole, copy: Callable[[Tensor], Outputs], where: str) -> dict[str, float]:
    """The largest difference between torch's outputs and the copy's, for each batch size; ExportError above AGREE."""
    found: dict[str, float] = {}
    for count in BATCHES:
        images, number = noise(whole.shape, count), counted(count, "image")
        with torch.inference_mode():
            expected = dict(zip(whole.names, whole(images), strict=True))
        with one_line(f"{where} is not kept: it fails for {number}"):
            got = copy(images)
        differences = [largest_difference(expected[name], got.get(name)) for name in whole.names]
        worst = max(differences)
        if not worst <= AGREE:
            name = whole.names[differences.index(worst)]
            raise ExportError(
                f"{where} is not kept: its {name} for {number} differ from torch's by {worst:.1e}, more than "
                f"{AGREE}; please report the run's config.json"
            )
        found[str(count)] = worst
    return found


def largest_difference(expected: Tensor, got: Tensor | None) -> float:
    """The largest difference of two tensors; infinite if one is missing, not finite, or has another shape."""
    if got is None or got.shape != expected.shape:
        return float("inf")
    difference = float((expected - got).abs().max())
    return float("inf") if math.isnan(difference) else difference


@contextlib.contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn any error of an exporter or runtime into ExportError: each of them has its own types."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200] or type(error).__name__
        raise ExportError(f"{what} ({reason}); please report the run's config.json") from error


def check_new(path: Path, folder: bool = False) -> None:
    """ConfigError if ``path`` exists; if ``folder``, an empty folder may."""
    try:
        taken = os.path.lexists(path) and not (folder and path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise storage_error("use", path, error) from error
    if taken:
        raise ConfigError(f"{path} already exists; choose another --out, or delete it")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Hide what torch's exporters print: progress on standard output, warnings, log lines."""
    names = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")
    loggers = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)


def metadata(classifier: Classifier) -> dict[str, Any]:
    """What an exported file says about itself, as JSON values."""
    return {
        "name": classifier.name,
        "classes": list(classifier.classes),
        "drawing": classifier.drawing,
        "data": classifier.data_name,
        "test_top1": classifier.result["test_top1"],
        "vitlab": __version__,
        "sha256": classifier.digest,
    }


def keep(
    classifier: Classifier, whole: Whole, path: Path, data: bytes, copy: Callable[[Tensor], Outputs], to: str
) -> dict[str, Any]:
    """Compare ``copy``, which runs ``data``, with the network for 1, 2 and 7 images, then write ``data`` to ``path``;
    return facts about the file. ExportError, and no file, if the two differ by more than 1e-4."""
    difference = compare(whole, copy, str(path))
    return write(classifier, whole, path, data, to) | {"max_difference": difference}


def write(classifier: Classifier, whole: Whole, path: Path, data: bytes, to: str) -> dict[str, Any]:
    """Write ``data`` to ``path``; facts about the file."""
    files.make_folder(path.absolute().parent)
    files.write_bytes(path, data)
    with torch.inference_mode():
        outputs = dict(zip(whole.names, whole(noise(whole.shape, 1)), strict=True))
    return {
        "to": to,
        "path": str(path),
        "bytes": len(data),
        "sha256": files.sha256(data),
        "input": ["B", *whole.shape],
        "outputs": {name: ["B", *output.shape[1:]] for name, output in outputs.items()},
        "model_sha256": classifier.digest,
    }
