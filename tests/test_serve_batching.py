"""Images of different requests are computed together, and every request gets the answer to its own image."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.serving import (
    PNG,
    ask,
    counts,
    pictures,
    running,
    same_answer,
    slowed,
    tiny_classifier,
    train_tiny,
    unbatched,
    wait_for,
)
from vitlab.predict import Classifier
from vitlab.serve.answers import Refusal
from vitlab.serve.batching import Batcher
from vitlab.serve.limits import Limits
from vitlab.serve.metrics import Metrics


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    """A classifier of 8 x 8 bars."""
    return tiny_classifier()


def image(value: float) -> Tensor:
    """An "image" whose only number tells it from all others."""
    return torch.full((1, 1), value)


async def ask_together(batcher: Batcher, values: list[float], deadline: float = 5.0) -> list[object]:
    """The answers to all values, asked at the same time, errors among them."""
    until = time.monotonic() + deadline
    answers: list[object] = await asyncio.gather(
        *(batcher.logits(image(v), until) for v in values), return_exceptions=True
    )
    return answers


def test_each_request_gets_its_own_answer_and_batches_are_used() -> None:
    sizes: list[int] = []

    def classify(images: Tensor) -> Tensor:
        sizes.append(len(images))
        time.sleep(0.001)
        return images * 3 + 1

    batcher = Batcher(classify, Limits(batch=13), Metrics())
    values = [float(n) for n in range(211)]
    answers = asyncio.run(ask_together(batcher, values))
    batcher.stop()
    assert [answer.item() for answer in answers] == [3 * value + 1 for value in values]  # type: ignore[attr-defined]
    assert sum(sizes) == 211
    assert max(sizes) == 13
    assert len(sizes) < 60


def test_a_bad_image_fails_alone() -> None:
    def classify(images: Tensor) -> Tensor:
        if (images == 7).any():
            raise ValueError("seven")
        return images

    batcher = Batcher(classify, Limits(), Metrics())
    answers = asyncio.run(ask_together(batcher, [float(n) for n in range(11)]))
    batcher.stop()
    assert isinstance(answers.pop(7), ValueError)
    assert [a.item() for a in answers] == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]  # type: ignore[attr-defined]


def test_images_of_several_shapes_do_not_meet() -> None:
    async def both(batcher: Batcher) -> list[Tensor]:
        until = time.monotonic() + 5
        shapes = [(1, 2), (1, 3), (1, 2), (1, 5)]
        answers: list[Tensor] = await asyncio.gather(*(batcher.logits(torch.ones(shape), until) for shape in shapes))
        return answers

    batcher = Batcher(lambda images: images.sum(dim=1, keepdim=True), Limits(), Metrics())
    assert [answer.item() for answer in asyncio.run(both(batcher))] == [2, 3, 2, 5]
    batcher.stop()


def test_a_wrong_number_of_answers_is_an_error_and_not_somebody_elses_answer() -> None:
    batcher = Batcher(lambda images: images[:-1] if len(images) > 1 else images, Limits(), Metrics())
    answers = asyncio.run(ask_together(batcher, [1.0, 2.0, 3.0]))
    batcher.stop()
    assert [answer.item() for answer in answers] == [1, 2, 3]  # type: ignore[attr-defined]


def test_what_nobody_waits_for_is_not_computed() -> None:
    seen: list[float] = []
    go = threading.Event()

    def classify(images: Tensor) -> Tensor:
        seen.extend(images[:, 0].tolist())
        go.wait(5)
        return images

    async def run(batcher: Batcher) -> None:
        until = time.monotonic() + 5
        first = asyncio.ensure_future(batcher.logits(image(1), until))
        await asyncio.sleep(0.05)  # the thread is busy with it
        left = asyncio.ensure_future(batcher.logits(image(2), until))
        late = asyncio.ensure_future(batcher.logits(image(3), time.monotonic()))
        stays = asyncio.ensure_future(batcher.logits(image(4), until))
        await asyncio.sleep(0.01)
        left.cancel()
        go.set()
        assert (await first).item() == 1
        assert (await stays).item() == 4
        late.cancel()

    batcher = Batcher(classify, Limits(), Metrics())
    asyncio.run(run(batcher))
    batcher.stop()
    assert seen == [1, 4]


def test_a_full_queue_refuses_at_once() -> None:
    batcher = Batcher(lambda images: images, Limits(queue=2), Metrics())
    with batcher.place(), batcher.place():
        assert batcher.full
        with pytest.raises(Refusal) as refusal, batcher.place():
            pass
        assert (refusal.value.status, refusal.value.headers) == (503, [(b"retry-after", b"1")])
    assert batcher.pending == 0
    batcher.stop()


def test_300_images_from_16_threads_are_answered_as_each_alone(tiny: Classifier) -> None:
    images = pictures(307)
    expected = [unbatched(tiny, data) for data in images]
    assert len({str(answer) for answer in expected}) > 200, "the images must not all have one answer"
    with running({"tiny": slowed(tiny, lambda batch: time.sleep(0.002))}) as server:

        def share(start: int) -> list[int]:
            with closing(server.connect()) as connection:
                replies = {n: ask(connection, "POST", "/v1/predict", images[n], PNG) for n in range(start, 307, 16)}
            return [n for n, reply in replies.items() if not same_answer(reply, expected[n])]

        with ThreadPoolExecutor(16) as pool:
            wrong = list(pool.map(share, range(16)))
        counted = counts(server.ask("GET", "/metrics"))
    assert wrong == [[]] * 16
    assert counted["vitlab_batch_images_sum"] == 307
    assert counted["vitlab_batch_images_count"] < 200, "some images were computed together"


def test_overload_is_refused_at_once_and_the_accepted_are_answered(tiny: Classifier) -> None:
    go = threading.Event()
    go.set()  # the first pass warms up
    (data,) = pictures(1)
    with running({"tiny": slowed(tiny, lambda batch: go.wait(10))}, queue=3) as server, ThreadPoolExecutor(3) as pool:
        go.clear()
        accepted = [pool.submit(server.predict, data) for _ in range(3)]
        wait_for(lambda: any(server.server.models.full))
        assert server.ask("GET", "/readyz").status == 503
        began = time.monotonic()
        refused = server.predict(data)
        assert time.monotonic() - began < 1.0
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert server.ask("GET", "/livez").status == 200
        go.set()
        assert [future.result().status for future in accepted] == [200, 200, 200]
        assert server.ask("GET", "/readyz").status == 200
        assert counts(server.ask("GET", "/metrics"))['vitlab_refused_total{reason="queue"}'] == 1


def test_an_answer_that_takes_too_long_is_504_and_frees_its_place(tiny: Classifier) -> None:
    go = threading.Event()
    go.set()
    (data,) = pictures(1)
    with running({"tiny": slowed(tiny, lambda batch: go.wait(10))}, deadline_seconds=0.2) as server:
        go.clear()
        reply = server.predict(data)
        go.set()
        assert (reply.status, reply.headers["retry-after"]) == (504, "1")
        wait_for(lambda: server.predict(data).status == 200)
        assert server.server.models.served["tiny"].batcher.pending == 0


def test_a_client_that_leaves_frees_its_place(tiny: Classifier) -> None:
    go = threading.Event()
    go.set()
    (data,) = pictures(1)
    with running({"tiny": slowed(tiny, lambda batch: go.wait(10))}) as server:
        batcher = server.server.models.served["tiny"].batcher
        go.clear()
        for _ in range(5):
            connection = server.connect()
            connection.request("POST", "/v1/predict", data, PNG)
            wait_for(lambda: batcher.pending == 1)
            connection.close()
            wait_for(lambda: batcher.pending == 0)
        go.set()
        assert server.predict(data).status == 200
        assert counts(server.ask("GET", "/metrics"))["vitlab_left_total"] == 5
        assert server.notes == []
        assert server.server.guard.held == 0


def test_a_failing_network_is_500_without_details_and_the_log_has_them(tiny: Classifier) -> None:
    broken = False

    def fail(batch: Tensor) -> None:
        if broken:
            raise RuntimeError("secret detail")

    (data,) = pictures(1)
    with running({"tiny": slowed(tiny, fail)}) as server:
        broken = True
        reply = server.predict(data)
        broken = False
        assert reply.status == 500
        assert b"secret" not in reply.body
        assert reply.json["request"] == reply.headers["x-request-id"]
        wait_for(lambda: len(server.notes) == 1)
        assert "secret detail" in server.notes[0]
        assert reply.json["request"] in server.notes[0]
        assert server.predict(data).status == 200


def test_answers_are_those_of_the_named_model(tiny: Classifier, tmp_path: Path) -> None:
    other = train_tiny(tmp_path, seed=5, epochs=1)
    (data,) = pictures(1)
    with running({"tiny": tiny, "other": other}) as server:
        for query, model in (("", tiny), ("?model=tiny", tiny), ("?model=other", other)):
            reply = server.predict(data, query)
            assert same_answer(reply, unbatched(model, data))
            assert reply.json["sha256"] == model.digest
        assert server.predict(data, "?model=nobody").status == 404
