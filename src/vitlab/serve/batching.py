"""Images of simultaneous requests are computed together: one thread per model takes whatever is waiting as one batch.

Each image is a Job that holds the future of its request, so answers cannot be mixed up.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitlab.machine import use_threads
from vitlab.serve.answers import Refusal
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics


@dataclass(frozen=True)
class Job:
    """One image [1, ...], the future of its answer, and the time after which nobody needs it."""

    image: Tensor
    future: asyncio.Future[Any]
    deadline: float


class Batcher:
    """The queue and the thread of one model; ``classify`` maps images [B, ...] to B answers."""

    def __init__(
        self, classify: Callable[[Tensor], Sequence[Any] | Tensor], limits: Limits, metrics: Metrics, threads: int = 1
    ) -> None:
        self.classify, self.limits, self.metrics, self.threads = classify, limits, metrics, threads
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.pending = 0  # changed by the event loop alone
        self.thread = threading.Thread(target=self._work, name="vitlab-batches", daemon=True)
        self.thread.start()

    def length(self) -> int:
        return self.pending

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return self.pending >= self.limits.queue

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue for one request, from its body to its answer; Refusal with 503 if it is full."""
        if self.full:
            self.metrics.refused.labels("queue").inc()
            raise Refusal(503)
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    async def logits(self, image: Tensor, deadline: float) -> Any:
        """What ``classify`` gives for one image [1, ...]: its logits and perhaps more. Cancelling this takes the image
        out of the queue."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.jobs.put(Job(image, future, deadline))
        return await future

    def stop(self) -> None:
        """Compute what is queued, then end the thread."""
        self.jobs.put(None)
        self.thread.join()

    def _work(self) -> None:
        use_threads(self.threads)  # a setting of each thread
        while batch := self._next_batch():
            now = time.monotonic()
            if wanted := [job for job in batch if not job.future.done() and now < job.deadline]:
                self._compute(wanted)

    def _next_batch(self) -> list[Job]:
        """The waiting jobs, at least one; none at the end. Waits only for requests that are still being decoded."""
        batch: list[Job] = []
        until = 0.0
        while len(batch) < self.limits.batch:
            more_are_coming = self.pending > len(batch)
            patience = max(0.0, until - time.monotonic()) if more_are_coming else 0.0
            try:
                job = self.jobs.get(timeout=patience if batch else None)
            except queue.Empty:
                break
            if job is None:
                if batch:
                    self.jobs.put(None)  # for the next call
                break
            until = until or time.monotonic() + self.limits.batch_seconds
            batch.append(job)
        return batch

    def _compute(self, jobs: list[Job]) -> None:
        """Answer the jobs together; if that fails, each alone, so that only the bad one fails."""
        try:
            answers = self.classify(torch.cat([job.image for job in jobs]))
            if len(answers) != len(jobs):
                raise RuntimeError(f"{len(jobs)} images have {len(answers)} answers")
        except Exception as error:
            if len(jobs) == 1:
                deliver(jobs, [error])
                return
            for job in jobs:
                self._compute([job])
            return
        self.metrics.batches.observe(len(jobs))
        deliver(jobs, list(answers))


def deliver(jobs: list[Job], answers: Sequence[Any]) -> None:
    """Give each answer to its own request, in the thread of the event loop."""

    def hand_over() -> None:
        for job, answer in zip(jobs, answers, strict=True):
            if job.future.done():  # cancelled: the client left, or the deadline passed
                continue
            if isinstance(answer, Exception):
                job.future.set_exception(answer)
            else:
                job.future.set_result(answer)

    jobs[0].future.get_loop().call_soon_threadsafe(hand_over)
