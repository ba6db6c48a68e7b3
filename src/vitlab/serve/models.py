"""The models that are served: loaded and checked once, each with its own queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitlab.model import count_parameters
from vitlab.predict import Classifier, ImageError, Label
from vitlab.serve.answers import Gone, Refusal
from vitlab.serve.batching import Batcher
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics
from vitlab.serve.pixels import read_pixels


@dataclass(frozen=True, eq=False)
class Served:
    """A classifier with its id and its batches."""

    id: str
    classifier: Classifier
    batcher: Batcher

    def card(self) -> dict[str, Any]:
        """What /v1/model says of it."""
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
    """A body as it came, and what is asked about it."""

    body: bytes
    is_json: bool
    center: bool | None
    top: int


class Models:
    """All models by id, and the threads that decode pictures for them."""

    def __init__(self, classifiers: dict[str, Classifier], limits: Limits, metrics: Metrics, threads: int = 1) -> None:
        self.limits = limits
        self.served = {
            name: Served(name, classifier, make_batcher(classifier, limits, metrics, threads))
            for name, classifier in classifiers.items()
        }
        self.decoders = ThreadPoolExecutor(limits.decoders, "vitlab-decode", torch.set_num_threads, (1,))

    @property
    def full(self) -> bool:
        """Whether some model would refuse the next request."""
        return any(served.batcher.full for served in self.served.values())

    @property
    def all_full(self) -> bool:
        """Whether no model would take a request."""
        return all(served.batcher.full for served in self.served.values())

    @property
    def alive(self) -> bool:
        """Whether every model's thread is there."""
        return all(served.batcher.thread.is_alive() for served in self.served.values())

    async def answer(
        self, served: Served, question: Question, receive: Callable[[], Awaitable[Any]]
    ) -> tuple[list[Label], bool]:
        """The labels of a picture, and whether it is blank; Refusal (413, 415, 422 for the picture, 503 when full, 504
        when late), or Gone."""
        with served.batcher.place():
            deadline = time.monotonic() + self.limits.deadline_seconds
            work = asyncio.ensure_future(self._classify(served, question, deadline))
            found: tuple[list[Label], bool] = await until_gone(work, receive, self.limits.deadline_seconds)
            return found

    async def _classify(self, served: Served, question: Question, deadline: float) -> tuple[list[Label], bool]:
        loop = asyncio.get_running_loop()
        image, blank = await loop.run_in_executor(self.decoders, read_picture, served.classifier, question)
        logits = await served.batcher.logits(image, deadline)
        return served.classifier.labels(logits[None], question.top)[0], blank

    def stop(self) -> None:
        """End all threads, after what they have to do."""
        self.decoders.shutdown()
        for served in self.served.values():
            served.batcher.stop()


def make_batcher(classifier: Classifier, limits: Limits, metrics: Metrics, threads: int) -> Batcher:
    """The batches of a classifier, which has already answered once: the first answer takes ten times as long."""
    side = classifier.preprocess.image_size
    classify(classifier, torch.zeros(1, side, side, classifier.channels, dtype=torch.uint8))
    return Batcher(partial(classify, classifier), limits, metrics, threads)


async def until_gone(work: asyncio.Future[Any], receive: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    """The result of ``work``; Refusal with 504 after ``seconds``, Gone when the client leaves. Then it is cancelled."""
    leaving = asyncio.ensure_future(receive())  # a whole body has been read: the next message says that the client left
    try:
        done, _ = await asyncio.wait((work, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if work in done:
            return work.result()
        raise Gone if done else Refusal(504)
    finally:
        work.cancel()
        leaving.cancel()


def read_picture(classifier: Classifier, question: Question) -> tuple[Tensor, bool]:
    """A body as uint8 [1, H, W, C], or, if that is larger than what the network sees, as float32 [1, C, S, S]: small in
    any case, so that a full queue is small too. And whether it is a blank drawing."""
    try:
        picture = read_pixels(question.body) if question.is_json else question.body
        image = classifier.prepare(picture, question.center)
        blank = classifier.is_blank(image)
        if max(image.shape[1:3]) <= classifier.preprocess.image_size:
            return image, blank
        with torch.inference_mode():
            return classifier.preprocess(image), blank
    except ImageError as error:
        raise Refusal(error.status, str(error)) from None  # our own words and two numbers, nothing of the client's
    except MemoryError:
        raise Refusal(503) from None


def classify(classifier: Classifier, images: Tensor) -> Tensor:
    """Logits [B, K] of what `read_picture` made."""
    if images.dtype == torch.uint8:
        return classifier.logits(images)
    with torch.inference_mode():
        logits: Tensor = classifier.model(images).float()
    return logits
