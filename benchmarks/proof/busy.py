"""Starts beside busy processes: the same precision, the same kernels, the same weights as on a quiet machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.proof.context import Context, Figures, figures

HOGS = 8
CHOICE = ("device", "precision", "kernels", "attention", "threads")
# Each choice in a process of its own, forked before torch computes anything.
CHOOSE = """
import json, os, sys
from vitlab.config import MachineConfig
from vitlab.machine import choose_machine
import vitlab.native.accelerate
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        machine = choose_machine(MachineConfig(device="cpu"))
        print(json.dumps({name: str(getattr(machine, name, None)) for name in sys.argv[2:]}), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""
TRAIN = [
    "train",
    "--data",
    "digits",
    "--limit-train",
    "300",
    "--epochs",
    "1",
    "--device",
    "cpu",
    "--embed-dim",
    "24",
    "--depth",
    "2",
    "--quiet",
]


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """Processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


def choices(count: int) -> list[str]:
    """What `choose_machine` chooses, each time in another process."""
    done = subprocess.run(
        [sys.executable, "-c", CHOOSE, str(count), *CHOICE], capture_output=True, text=True, check=True, env=os.environ
    )
    return done.stdout.splitlines()


def trained(context: Context) -> dict[str, object]:
    """The weights' digest and the recorded circumstances of a training that chooses everything itself."""
    out = context.fresh("busy")
    end = context.run([*TRAIN, "--out", out], seconds=120)
    if end.code:
        return {"failed": end.last_line}
    result, made = (json.loads((out / name).read_text()) for name in ("result.json", "environment.json"))
    return {"sha256": result["model_sha256"], "precision": made["precision"], "kernels": made["kernels"]}


def attack(context: Context) -> Figures:
    """Choices and whole trainings, quiet and beside eight processes that spin."""
    quiet_choice, quiet = Counter(choices(9)).most_common(1)[0][0], trained(context)
    failures, tries = [], 0
    with hogs(HOGS):
        while tries < context.size(200, 20) and not context.is_over:
            for choice in choices(20):
                tries += 1
                failures.append("" if choice == quiet_choice else f"choice: {choice} instead of {quiet_choice}")
        for _ in range(context.size(5, 1)):
            other = trained(context)
            failures.append("" if other == quiet else f"weights: {other} instead of {quiet}")
    return figures(failures, len(failures), choices=tries, hogs=HOGS)
