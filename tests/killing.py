"""The resume harness: kill a training with SIGKILL at random moments, resume it, compare with an unbroken one.

    python -m tests.killing 30        kills 30 runs, every second one several times, and prints survived / tried

Survived means: the resumed run ends, its final weights have the same SHA-256, and its history is equal
in all columns that are not times. Moments are drawn from the last three quarters of the process's
life, so that kills fall into start-up, training, writing of checkpoints, evaluation and the very end.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.tiny import tiny_config, write_npz
from vitlab.files import to_json

TIME_COLUMNS = ("train_seconds", "wall_seconds")
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Trace:
    """What must not depend on having been killed."""

    model_sha256: str
    history: list[dict[str, Any]]
    test_top1: float


def trace(run: Path) -> Trace:
    """The timeless part of a finished run folder."""
    result = json.loads((run / "result.json").read_text())
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    history = [{key: value for key, value in row.items() if key not in TIME_COLUMNS} for row in rows]
    return Trace(result["model_sha256"], history, result["test_top1"])


def train_words(config: Path, run: Path) -> list[str]:
    """The command that begins the run, or continues it if its folder is complete enough to do so."""
    begun = (run / "config.json").exists()
    words = ["--resume", str(run)] if begun else ["--config", str(config), "--out", str(run)]
    return [sys.executable, "-m", "vitlab", "train", "--quiet", *words]


def run_once(config: Path, run: Path, kill_after: float | None) -> tuple[int, float]:
    """Run the command, killing it after some seconds if asked; returns its exit code and how long it lived."""
    began = time.monotonic()
    process = subprocess.Popen(train_words(config, run), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        _, errors = process.communicate(timeout=PATIENCE_SECONDS if kill_after is None else kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(f"exit code {process.returncode}: {errors.decode()}")
    return process.returncode, time.monotonic() - began


def survive(config: Path, run: Path, whole: Trace, moments: list[float]) -> bool:
    """Kill the run at each of ``moments`` (seconds of life), let it end, and compare it with the unbroken one."""
    for moment in moments:
        run_once(config, run, moment)
    code, _ = run_once(config, run, None)
    return code == 0 and trace(run) == whole


def prepare(folder: Path, **knobs: object) -> Path:
    """A small real training with everything random switched on, as a config file."""
    data = write_npz(folder / "glyphs.npz")
    config = tiny_config(data, **knobs)
    path = folder / "config.json"
    path.write_text(to_json(config.to_dict()))
    return path


def main(tries: int, seed: int) -> int:
    """Kill ``tries`` runs and print the score."""
    draw, survived, kills = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = prepare(folder, epochs=60, ema_decay=0.9, select="best")
        _, life = run_once(config, folder / "whole", None)
        whole = trace(folder / "whole")
        for number in range(tries):
            kills_of_run = 1 + number % 2 * draw.randint(1, 3)
            moments = [draw.uniform(life / 4, life) for _ in range(kills_of_run)]
            good = survive(config, folder / f"run{number}", whole, moments)
            survived, kills = survived + good, kills + len(moments)
            times = ", ".join(f"{moment:.2f}" for moment in moments)
            print(f"{number + 1}: killed after {times} s: {'equal' if good else 'DIFFERENT'}", flush=True)
            shutil.rmtree(folder / f"run{number}")
    print(f"survived {survived} of {tries} (kills: {kills}, seed {seed}, unbroken run {life:.1f} s)")
    return int(survived < tries)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.getcwd())
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
