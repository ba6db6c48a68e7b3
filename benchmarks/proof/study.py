"""A study whose driver or runs are killed: the same line again completes it, with the same rows and weights."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.proof.context import KNOBS, Context, Figures, Shim, figures, shown

# Of a row, what depends on time or on the way to the end.
ASIDE = ("train_seconds", "wall_seconds", "images_per_second", "attempts", "beside", "ended_utc")


def words(folder: Path) -> list[object]:
    """The line that begins or continues the study in ``folder``."""
    at = KNOBS.index("--depth")
    knobs = [*KNOBS[:at], *KNOBS[at + 2 :]]
    return [
        "study",
        "--vary",
        "depth=1,2",
        "--seeds",
        "1",
        *knobs,
        "--out",
        folder / "study",
        "--runs",
        folder / "runs",
    ]


def rows(folder: Path) -> Any:
    """The rows of a finished study, and the weights' digests, without times."""
    try:
        lines = (folder / "study" / "rows.jsonl").read_text().splitlines()
        found = [{name: value for name, value in json.loads(line).items() if name not in ASIDE} for line in lines]
        weights = {
            path.parent.name: json.loads(path.read_text())["model_sha256"]
            for path in sorted((folder / "runs").glob("*/result.json"))
        }
    except (OSError, ValueError, KeyError) as error:
        return str(error)
    return found, weights


def units_of(pid: int) -> list[int]:
    """The processes that a driver has started."""
    answer = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(number) for number in answer.stdout.split()]


def attack(context: Context) -> Figures:
    """The driver dies at a file-system call or at a moment; a run of the study dies at a moment."""
    draw = context.draw("study")
    whole, log = context.fresh("study"), context.fresh("log")
    whole.mkdir()
    began = time.monotonic()
    end = context.run(words(whole), Shim(whole / "study", log=str(log)), seconds=120)
    if end.code != 0:
        raise RuntimeError(f"the undisturbed study failed: {end.err}")
    duration = time.monotonic() - began
    expected, calls = rows(whole), len(log.read_text().splitlines())
    birth = range(1, 16 if context.quick else 30)  # while the folder is made
    points = draw.sample(birth, context.size(10, 1)) + draw.sample(range(30, calls + 1), context.size(6, 0))
    cases: list[tuple[str, float]] = [("call", point) for point in points]
    for kind in ("driver", "run", "both"):
        cases += [(kind, draw.uniform(0.0, duration)) for _ in range(context.size(6, 0))]

    def kill(case: tuple[str, float]) -> str:
        kind, where = case
        folder = context.fresh("study")
        folder.mkdir()
        shim = Shim(folder / "study", at=int(where), action=-signal.SIGKILL) if kind == "call" else None
        command = context.start(words(folder), shim)
        if kind != "call":
            pid = command.pid()
            time.sleep(where)
            units = units_of(pid)
            victims = {"driver": [pid], "run": units[:1], "both": [pid, *units]}[kind]
            for victim in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        end = command.wait(120)
        what = f"SIGKILL of the {kind} at {where:g}"
        if kind == "run" and end.code != 0:
            return f"not completed: exit {end.code}, {shown(end)}, after {what}"
        end = context.run(words(folder), seconds=120)
        if end.code != 0:
            return f"not continued: exit {end.code}, {shown(end)}, after {what}"
        wrong = "" if rows(folder) == expected else f"different: rows or weights, after {what}"
        shutil.rmtree(folder, ignore_errors=True)
        return wrong

    failures = context.each(kill, cases)
    return figures(failures, len(failures), calls=calls)
