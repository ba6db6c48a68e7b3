"""The models that are served, each with its own queue: from the body of a request to labels."""

from __future__ import annotations

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from starlette.types import Receive
from torch import Tensor

from vitlab.model import count_parameters
from vitlab.native.prediction import library_for_predictions
from vitlab.predict import Classifier, ImageError, Label
from vitlab.serve.answers import Gone, Refusal
from vitlab.serve.batching import Batcher
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics

LARGEST_SIDE = 512  # of JSON pixels; as much as fits into a body of 1 MiB
PIXELS = re.compile(rb'\s*\{\s*"pixels"\s*:[-+.\deE,\s\[\]]*\}\s*')  # lists and numbers only: no true, null or NaN
PIXELS_SENTENCE = (
    f'JSON must be {{"pixels": rows}}, 1 to {LARGEST_SIDE} rows of 1 to {LARGEST_SIDE} pixels each, all rows of equal '
    "length; a pixel is a whole number from 0 to 255, or [red, green, blue], or [grey]"
)


@dataclass(frozen=True, eq=False)
class Served:
    """A classifier with its id and its batches."""

    id: str
    classifier: Classifier
    batcher: Batcher

    def card(self) -> dict[str, Any]:
        """Its entry in /v1/model."""
        classifier = self.classifier
        return {
            "id": self.id,
            "name": classifier.name,
            "arch": classifier.config.model.arch,
            "classes": list(classifier.classes),
            "channels": classifier.channels,
            "image_size": classifier.preprocess.image_size,
            "drawing": classifier.drawing,
            "data": classifier.data_name,
            "params": count_parameters(classifier.model),
            "test_top1": classifier.result["test_top1"],
            "test_top1_interval": classifier.result["test_top1_interval"],
            "sha256": classifier.digest,
        }


@dataclass(frozen=True)
class Question:
    """The body of a request, and its parameters."""

    body: bytes
    is_json: bool
    center: bool | None
    top: int


class Answer(NamedTuple):
    """Labels, best first; why no drawing was found that can be read, or None; whether the picture is blank, and whether
    it is unlike anything that the network was trained on (None: its run folder does not say)."""

    labels: list[Label]
    reason: str | None
    blank: bool
    unlike: bool | None


class Models:
    """All models by id, and the threads that decode pictures for them."""

    def __init__(self, classifiers: dict[str, Classifier], limits: Limits, metrics: Metrics, threads: int = 1) -> None:
        self.limits = limits
        library_for_predictions(compiles=True)  # before anyone asks
        self.served: dict[str, Served] = {}
        for name, classifier in classifiers.items():
            side = classifier.preprocess.image_size
            # The first answer takes ten times as long as later ones; no client waits for it.
            classifier.logits(torch.zeros(1, side, side, classifier.channels, dtype=torch.uint8))
            batcher = Batcher(partial(logits_and_verdicts, classifier), limits, metrics, threads)
            metrics.queue.labels(name).set_function(batcher.length)
            self.served[name] = Served(name, classifier, batcher)
        self.decoders = ThreadPoolExecutor(limits.decoders, "vitlab-decode", torch.set_num_threads, (1,))

    @property
    def full(self) -> list[bool]:
        """For each model, whether it would refuse the next request."""
        return [served.batcher.full for served in self.served.values()]

    async def answer(self, served: Served, question: Question, receive: Receive) -> Answer:
        """The answer to a picture; Refusal (413, 415, 422 for the picture, 503 when full, 504
        when late), or Gone when the client leaves."""
        seconds = self.limits.deadline_seconds
        with served.batcher.place():
            work = asyncio.ensure_future(self._classify(served, question, time.monotonic() + seconds))
            leaving = asyncio.ensure_future(receive())  # the body has been read: the next message says that it left
            try:
                done, _ = await asyncio.wait((work, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if work in done:
                    return work.result()
                raise Gone if done else Refusal(504)
            finally:
                work.cancel()
                leaving.cancel()

    async def _classify(self, served: Served, question: Question, deadline: float) -> Answer:
        loop = asyncio.get_running_loop()
        image, reason, blank = await loop.run_in_executor(self.decoders, read_picture, served.classifier, question)
        logits, unlike = await served.batcher.logits(image, deadline)
        return Answer(served.classifier.labels(logits[None], question.top)[0], reason, blank, unlike)

    def stop(self) -> None:
        """End all threads once they have finished their work."""
        self.decoders.shutdown()
        for served in self.served.values():
            served.batcher.stop()


def logits_and_verdicts(classifier: Classifier, inputs_BCSS: Tensor) -> list[tuple[Tensor, bool | None]]:
    """For each input its logits [K], and whether it is unlike anything that the network was trained on."""
    logits_BK, unlike = classifier.outputs(inputs_BCSS)
    return list(zip(logits_BK, unlike, strict=True))


def read_picture(classifier: Classifier, question: Question) -> tuple[Tensor, str | None, bool]:
    """The network's input, float32 [1, C, S, S]; why no drawing was found that can be read, or None; whether the
    picture is blank.

    However large the picture, its input is small, so a full queue is too. Refusal if it cannot be read.
    """
    try:
        picture = read_pixels(question.body) if question.is_json else question.body
        image, reason = classifier.examine(picture, question.center)
        return classifier.preprocess(image), reason, classifier.is_blank(image)
    except ImageError as error:
        raise Refusal(error.status, str(error)) from None  # our own words and two numbers, nothing of the client's
    except MemoryError:
        raise Refusal(503) from None


def read_pixels(body: bytes) -> NDArray[np.uint8]:
    """uint8 [H, W, C] of {"pixels": rows}, C 1 or 3; Refusal with 422 for anything else."""
    wrong = Refusal(422, PIXELS_SENTENCE)
    if not PIXELS.fullmatch(body):
        raise wrong
    try:
        pixels = np.array(json.loads(body)["pixels"])
    except (ValueError, RecursionError):  # not JSON, rows of unequal length, thousands of digits, too deep
        raise wrong from None
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    if pixels.dtype.kind not in "iuf" or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise wrong
    if min(pixels.shape) < 1 or max(pixels.shape) > LARGEST_SIDE:
        raise wrong
    if not ((pixels >= 0) & (pixels <= 255) & (pixels == np.floor(pixels))).all():
        raise wrong
    return pixels.astype(np.uint8)
