"""Does it help to weigh the classes, or to sample them equally, where one has 100 times as many images as another?

    python -m benchmarks.unequal small --out benchmarks/results/unequal-NAME.json
    python -m benchmarks.unequal --show benchmarks/results/unequal-NAME.json

Cuts MNIST's training images so that the sizes of the classes fall geometrically from 2,000 to 20 (as Cui et al. 2019,
"Class-Balanced Loss Based on Effective Number of Samples", make their long-tailed sets); the seed draws which class is
rare, and the images. Trains on them in three ways, in equally many steps, and evaluates the last weights on MNIST's
10,000 test images, whose classes are almost equal.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.config.presets import preset_config
from vitlab.data import load_dataset
from vitlab.machine import choose_machine, environment
from vitlab.randomness import numpy_generator
from vitlab.runs.session import origin, train_run
from vitlab.studies.summary import half_interval

LARGEST, RATIO = 2_000, 100
WAYS: dict[str, dict[str, Any]] = {
    "every image counts the same": {},
    "`--class-weight balanced`": {"class_weight": "balanced"},
    "`--sampling balanced`": {"sampling": "balanced"},
}


def sizes_of(largest: int, classes: int) -> npt.NDArray[np.int64]:
    """How many images each class keeps, from ``largest`` down to a hundredth of it."""
    return np.round(largest * float(RATIO) ** (-np.arange(classes) / (classes - 1))).astype(np.int64)


def cut(seed: int, largest: int, path: Path) -> list[int]:
    """Write the cut set to ``path``; the number of training images of each class."""
    draws, mnist = numpy_generator(seed, "unequal classes"), load_dataset("mnist")
    assert mnist.test is not None
    sizes = draws.permutation(sizes_of(largest, 10))
    labels = mnist.train.labels
    kept = np.concatenate(
        [draws.permutation(np.flatnonzero(labels == label))[:size] for label, size in enumerate(sizes.tolist())]
    )
    train = mnist.train.take(kept)
    np.savez(path, x_train=train.images, y_train=train.labels, x_test=mnist.test.images, y_test=mnist.test.labels)
    return [int(size) for size in sizes]


def measure_seed(preset: str, epochs: float, seed: int, largest: int, folder: Path) -> dict[str, Any]:
    """Accuracy, balanced accuracy, macro F1 and the recall of the three rarest classes, in each way."""
    sizes = cut(seed, largest, folder / "data.npz")
    shared = dict(data=str(folder / "data.npz"), seed=seed, epochs=epochs, val_fraction=0.0, select="last")
    found: dict[str, Any] = {"seed": seed, "sizes": sizes}
    for number, (way, knobs) in enumerate(WAYS.items()):
        result = train_run(preset_config(preset).with_knobs(**shared, **knobs), folder / str(number))
        recall = result["test_recall"] or {}
        rare = [recall[str(label)] for label in np.argsort(sizes)[:3].tolist()]
        found[way] = {name: result[f"test_{name}"] for name in ("top1", "balanced_accuracy", "macro_f1")}
        found[way]["rare_recall"] = float(np.mean(rare))
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All seeds."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    largest, epochs = (200, 1.0) if arguments.quick else (LARGEST, arguments.epochs)
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure_seed(arguments.preset, epochs, seed, largest, Path(folder)))
    about = {"preset": arguments.preset, "epochs": epochs, "largest": largest, "rows": rows}
    return {"environment": environment(machine) | origin(), **about}


def report(measured: dict[str, Any]) -> str:
    """A line for each way: means with 95 % intervals, and the paired difference from the first."""
    rows = measured["rows"]
    base = [row[next(iter(WAYS))]["balanced_accuracy"] for row in rows]
    head = ["training", "balanced accuracy %", "difference, paired", "macro F1 %", "recall of the 3 rarest %"]
    lines = []
    for number, way in enumerate(WAYS):
        balanced, f1, rare = (
            [row[way][name] for row in rows] for name in ("balanced_accuracy", "macro_f1", "rare_recall")
        )
        differences = [one - other for one, other in zip(balanced, base, strict=True)]
        lines.append([way, mean(balanced), mean(differences, "+") if number else "", mean(f1), mean(rare)])
    environ, total = measured["environment"], sum(rows[0]["sizes"])
    where = f"{environ['device_name']}, torch {environ['torch']}, {environ['started_utc'][:10]}"
    note = (
        f"`{measured['preset']}`, {measured['epochs']:g} epochs, {total:,} MNIST images, classes of "
        f"{max(rows[0]['sizes']):,} to {min(rows[0]['sizes'])}; {len(rows)} seeds, ± 95 % intervals (t). {where}."
    )
    return "\n".join([markdown(head, lines), "", note])


def mean(values: list[float], sign: str = "") -> str:
    """The mean of fractions with its 95 % interval, in percent."""
    return f"{100 * float(np.mean(values)):{sign}.2f} ± {100 * half_interval(values):.2f}"


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("preset", nargs="?", default="small", help="a preset's name [small]")
    parser.add_argument("--seeds", type=int, default=5, help="two or more [5]")
    parser.add_argument("--epochs", type=float, default=10.0)
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
