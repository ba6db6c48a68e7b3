"""Of labels that were changed on purpose, how many does `vitlab data suspects` put first?

    python -m benchmarks.suspects small --out benchmarks/results/suspects-NAME.json
    python -m benchmarks.suspects --show benchmarks/results/suspects-NAME.json

Takes 10,000 MNIST training images, changes 200 labels to another class drawn at random, trains a run on them, and looks
for suspects. Repeated for each seed, which draws images, labels and folds.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.config.presets import preset_config
from vitlab.data import load_dataset
from vitlab.machine import choose_machine, environment
from vitlab.randomness import numpy_generator
from vitlab.runs.session import origin, train_run
from vitlab.runs.suspects import find_suspects

IMAGES = 10_000
WRONG = 200


def measure_seed(preset: str, seed: int, images: int, wrong: int, folder: Path) -> dict[str, Any]:
    """How many of the changed labels are suspect, and how many are among the first."""
    draws, train = numpy_generator(seed, "wrong labels"), load_dataset("mnist").train
    chosen = draws.choice(len(train), images, replace=False)
    changed = draws.choice(images, wrong, replace=False)
    labels = train.labels[chosen].copy()
    labels[changed] = (labels[changed] + draws.integers(1, 10, wrong)) % 10
    np.savez(folder / "data.npz", x_train=train.images[chosen], y_train=labels)
    config = preset_config(preset).with_knobs(data=str(folder / "data.npz"), seed=seed)
    train_run(config, folder / "run")
    found, _ = find_suspects(folder / "run")
    known = set(changed.tolist())
    first = {one.index for one in found[:wrong]}
    suspects = {one.index for one in found if one.is_suspect}
    return {
        "seed": seed,
        "in_the_first": len(first & known),
        "suspects": len(suspects),
        "of_them_changed": len(suspects & known),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All seeds."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    images, wrong = (600, 12) if arguments.quick else (IMAGES, WRONG)
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure_seed(arguments.preset, seed, images, wrong, Path(folder)))
    return {
        "environment": environment(machine) | origin(),
        "preset": arguments.preset,
        "images": images,
        "changed": wrong,
        "rows": rows,
    }


def report(measured: dict[str, Any]) -> str:
    """A line per seed."""
    wrong, images = measured["changed"], measured["images"]
    head = ["seed", f"of {wrong} changed labels in the first {wrong}", "suspects", "of them changed"]
    rows = [
        [str(row[name]) for name in ("seed", "in_the_first", "suspects", "of_them_changed")] for row in measured["rows"]
    ]
    environ = measured["environment"]
    where = f"{environ['device_name']}, torch {environ['torch']}, {environ['started_utc'][:10]}"
    return "\n".join([markdown(head, rows), "", f"`{measured['preset']}`, {images:,} MNIST images, 4 folds. {where}."])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("preset", nargs="?", default="small", help="a preset's name [small]")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
