"""Minutes of mixed load on a server, and many epochs of training: memory and descriptors must not grow."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.proof.context import KNOBS, Context, Figures, figures
from benchmarks.proof.http import malformed
from benchmarks.proof.serving import exchange, fault_in, is_well, request, served
from benchmarks.serve_clients import load

MOST_MIB_PER_HOUR = 60.0  # of the slope's lower bound: noise of a few MiB in ten minutes is below it
LEAST_MIB = 16.0  # a growth below this much in all is not called one
MOST_MIB_OF_TRAINING = 24.0


def growth(times: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Theil-Sen slope per hour, with its 95 % interval; times in seconds. The first third is warm-up and left out."""
    from scipy import stats

    start = len(times) // 3
    slope, _, low, high = stats.theilslopes(values[start:], times[start:])
    return {"slope": round(3600 * slope, 2), "low": round(3600 * low, 2), "high": round(3600 * high, 2)}


def soak_server(context: Context, seconds: float) -> tuple[list[str], dict[str, Any]]:
    """Pictures, pages and malformed requests; what is wrong, and the figures."""
    times: list[float] = []
    memory: list[float] = []
    descriptors: list[float] = []
    hostile, stop = [0, 0], threading.Event()
    with served(context) as (server, port):
        # One connection each: the server ends one that a client keeps after five quiet seconds, perhaps just in use.
        requests = [request(port) for _ in range(8)]
        requests += [request(port, "GET", path) for path in ("/", "/v1/model", "/models.json")]
        began = time.monotonic()

        def watch() -> None:
            while not stop.wait(min(1.0, seconds / 60)):
                times.append(time.monotonic() - began)
                memory.append(server.memory()["now"])
                descriptors.append(float(len(os.listdir(f"/proc/{server.process.pid}/fd"))))

        def annoy() -> None:
            draw = random.Random(f"{context.seed}-soak")
            while not stop.wait(0.05):
                hostile[0] += 1
                hostile[1] += bool(fault_in(exchange(port, malformed(draw, port), half_close=True)))

        threads = [threading.Thread(target=work, daemon=True) for work in (watch, annoy)]
        for thread in threads:
            thread.start()
        tally = load(port, requests, 8, seconds, rate=100.0)
        stop.set()
        for thread in threads:
            thread.join(20)
        well = is_well(port)
        code = server.stop()
    slope = growth(times, memory)
    wrong = [well, f"exit {code}: of the server" if code else ""]
    grows = slope["low"] > MOST_MIB_PER_HOUR and memory[-1] - memory[len(memory) // 3] > LEAST_MIB
    wrong.append(f"memory: grows by {slope['slope']} MiB/h" if grows else "")
    late = descriptors[len(descriptors) * 2 // 3 :]
    open_more = growth(times, descriptors)["low"] > 60.0 and late[-1] > descriptors[len(descriptors) // 3] + 8
    wrong.append(f"descriptors: up to {max(late):.0f} open" if open_more else "")
    reasons = ", ".join(sorted(set(tally.unanswered)))
    wrong.append(f"unanswered: {len(tally.unanswered)} requests ({reasons})" if reasons else "")
    wrong.append(f"hostile: {hostile[1]} of {hostile[0]} answered badly" if hostile[1] else "")
    more: dict[str, Any] = {"minutes": round(seconds / 60, 1), "answers": len(tally.answers), "hostile": hostile[0]}
    more |= {"mib_per_hour": slope, "mib_start": memory[0], "mib_end": memory[-1], "descriptors": max(late)}
    return wrong, more


def soak_training(context: Context, epochs: int) -> tuple[list[str], dict[str, Any]]:
    """The resident memory of a training over many epochs, from outside."""
    out = context.fresh("soak")
    command = context.start(["train", *KNOBS, "--epochs", str(epochs), "--checkpoint-seconds", "1", "--out", out])
    status, values = Path(f"/proc/{command.pid()}/statm"), []
    while not (command.notes / "end.json").exists():
        try:
            values.append(int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
        except (OSError, IndexError):
            break
        time.sleep(0.02)
    end = command.wait(300)
    values = values[: int(len(values) * 0.9)]  # the end evaluates, which takes memory once
    half = sorted(values[len(values) // 3 : len(values) // 2]), sorted(values[len(values) * 2 // 3 :])
    grown = round(half[1][len(half[1]) // 2] - half[0][len(half[0]) // 2], 1) if all(half) else 0.0
    wrong = [f"exit {end.code}: of the training" if end.code else ""]
    wrong.append(f"memory: a training grew by {grown} MiB" if grown > MOST_MIB_OF_TRAINING else "")
    return wrong, {"epochs": epochs, "training_grown_mib": grown}


def attack(context: Context) -> Figures:
    """The server for most of the budget, then the training."""
    seconds = 6.0 if context.quick else max(10.0, 0.85 * context.seconds)
    wrong, more = soak_server(context, seconds)
    others, about = soak_training(context, context.size(400, 20))
    return figures([*wrong, *others], len(wrong) + len(others), **more, **about)
