"""The resume harness: kill a training with SIGKILL at random moments, resume it, compare with an unbroken one.

    python -m tests.killing 30        kills 30 runs, every second one several times, and prints survived / tried

Survived means: the resumed run ends, its final weights have the same SHA-256, and its history is equal
in all columns that are not times. Only kills that met a living process count, and every run gets one at
least. Nine of ten moments are drawn from the training itself, which includes evaluation and the
writing of checkpoints, and begin when its first file is seen; the tenth falls into the start-up.
"""

from __future__ import annotations

import contextlib
import json
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
from vitlab.files import sha256, to_json

TIME_COLUMNS = ("train_seconds", "wall_seconds")
PATIENCE_SECONDS = 120.0
STARTUP_SECONDS = 2.0


@dataclass(frozen=True)
class Trace:
    """What must not depend on having been killed."""

    model_sha256: str
    novelty_sha256: str
    history: list[dict[str, Any]]
    test_top1: float
    epochs: dict[str, str]


def trace(run: Path) -> Trace:
    """The timeless part of a finished run folder."""
    result = json.loads((run / "result.json").read_text())
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    history = [{key: value for key, value in row.items() if key not in TIME_COLUMNS} for row in rows]
    kept = {path.name: sha256(path.read_bytes()) for path in (run / "epochs").glob("*")}
    return Trace(result["model_sha256"], result["novelty_sha256"], history, result["test_top1"], kept)


def train_words(config: Path, run: Path) -> list[str]:
    """The command that begins the run, or continues it if its folder is complete enough to do so."""
    begun = (run / "config.json").exists()
    words = ["--resume", str(run)] if begun else ["--config", str(config), "--out", str(run)]
    return [sys.executable, "-m", "vitlab", "train", "--quiet", *words]


def run_to_end(config: Path, run: Path) -> float:
    """Begin or continue the run until it ends; returns the seconds between its first sign of training and its end."""
    with launched(config, run) as process:
        began = wait_for_training(process, run)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors.decode()
    return time.monotonic() - began


def run_and_kill(config: Path, run: Path, delay: float, *, in_training: bool) -> bool:
    """Kill the run ``delay`` seconds after the start of its process or of training; was it still alive?"""
    with launched(config, run) as process:
        if in_training:
            wait_for_training(process, run)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode == -signal.SIGKILL


def launched(config: Path, run: Path) -> subprocess.Popen[bytes]:
    """The training as a process of its own."""
    return subprocess.Popen(train_words(config, run), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def wait_for_training(process: subprocess.Popen[bytes], run: Path) -> float:
    """Wait until the run folder changes, or the process has ended; returns the time."""
    before = newest_change(run)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and newest_change(run) == before and time.monotonic() < deadline:
        time.sleep(0.005)
    return time.monotonic()


def newest_change(run: Path) -> int:
    """When the newest checkpoint's folder was changed, in nanoseconds; 0 before there is one."""
    with contextlib.suppress(OSError):
        return (run / "checkpoints").stat().st_mtime_ns
    return 0


def kill_and_compare(config: Path, run: Path, whole: Trace, kills: int, duration: float, draw: random.Random) -> bool:
    """Kill the run ``kills`` times while it lives, let it end, and compare it with the unbroken one.

    A run that ends before its kill has been survived by nobody: it is begun again with half the time.
    """
    share = 1.0
    delivered = 0
    while delivered < kills:
        in_training = draw.random() < 0.9
        delay = draw.uniform(0.0, duration * share / kills) if in_training else draw.uniform(0.0, STARTUP_SECONDS)
        if run_and_kill(config, run, delay, in_training=in_training):
            delivered += 1
        else:
            shutil.rmtree(run)
            delivered, share = 0, share / 2
    run_to_end(config, run)
    return trace(run) == whole


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
        duration = run_to_end(config, folder / "whole")
        whole = trace(folder / "whole")
        for number in range(tries):
            wanted = 1 + number % 2 * draw.randint(1, 3)
            good = kill_and_compare(config, folder / f"run{number}", whole, wanted, duration, draw)
            survived, kills = survived + good, kills + wanted
            print(f"{number + 1}: killed {wanted} times: {'equal' if good else 'DIFFERENT'}", flush=True)
            shutil.rmtree(folder / f"run{number}")
    print(f"survived {survived} of {tries} (kills: {kills}, seed {seed}, unbroken training {duration:.1f} s)")
    return int(survived < tries)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
