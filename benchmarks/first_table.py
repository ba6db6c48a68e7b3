"""Presets side by side: accuracy and training time, several seeds, interleaved.

    python -m benchmarks.first_table small keras-cnn --seeds 3 --out benchmarks/results/NAME.json
    python -m benchmarks.first_table --show benchmarks/results/NAME.json

Each run is an ordinary `vitlab train` in a process of its own. Seed by seed, not preset by preset, so
that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vitlab import RunFolder
from vitlab.files import write_json

Run = dict[str, Any]


def measure(presets: list[str], seeds: int) -> dict[str, Any]:
    """Train every preset with every seed; returns the results and the environment of the first run."""
    runs: list[Run] = []
    environment: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for preset in presets:
                path = Path(folder) / f"{preset}-{seed}"
                words = ["--preset", preset, "--seed", str(seed), "--out", str(path), "--quiet", "--json"]
                done = subprocess.run(
                    [sys.executable, "-m", "vitlab", "train", *words], stdout=subprocess.PIPE, text=True, check=True
                )
                runs.append(json.loads(done.stdout))
                environment = environment or RunFolder(path).environment()
                print(f"{preset} seed {seed}: {accuracy(runs[-1:])}, {seconds(runs[-1:])}", file=sys.stderr)
    return {"environment": environment, "runs": runs}


def accuracy(runs: list[Run]) -> str:
    """Mean and standard deviation over seeds."""
    percents = [100 * run["test_top1"] for run in runs]
    return f"{statistics.mean(percents):.2f}" + (f" ± {statistics.stdev(percents):.2f} %" if len(runs) > 1 else " %")


def seconds(runs: list[Run]) -> str:
    """Training seconds, fastest to slowest: on a shared machine the spread is a part of the result."""
    times = sorted(run["train_seconds"] for run in runs)
    return f"{times[0]:.0f} to {times[-1]:.0f} s" if len(runs) > 1 else f"{times[0]:.0f} s"


def table(measured: dict[str, Any]) -> str:
    """A Markdown table, and the circumstances below it."""
    environment, runs = measured["environment"], measured["runs"]
    lines = ["| preset | test top-1 | training | parameters | epochs |", "| --- | --- | --- | --- | --- |"]
    for preset in dict.fromkeys(run["preset"] for run in runs):
        own = [run for run in runs if run["preset"] == preset]
        size = f"{own[0]['params']:,} | {own[0]['epochs']}"
        lines.append(f"| `{preset}` | {accuracy(own)} | {seconds(own)} | {size} |")
    seeds = len({run["seed"] for run in runs})
    where = f"{environment['device_name']}, {environment['threads']} threads, {environment['precision']}"
    lines += [
        "",
        f"{seeds} seeds, interleaved: mean ± standard deviation; seconds in training steps, fastest to slowest.",
    ]
    lines += [f"{where}, torch {environment['torch']}, {environment['started_utc'][:10]}, on a shared machine."]
    return "\n".join(lines)


def main() -> int:
    """Measure and keep, or show what was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path)
    arguments = parser.parse_args()
    measured = json.loads(arguments.show.read_text()) if arguments.show else measure(arguments.presets, arguments.seeds)
    if arguments.out:
        write_json(arguments.out, measured)
    print(table(measured))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
