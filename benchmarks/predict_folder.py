"""How many pictures of a folder does `vitlab predict --csv` classify in a second, and does it agree with `evaluate`?

    python -m benchmarks.predict_folder RUN --out benchmarks/results/predict-folder-NAME.json
    python -m benchmarks.predict_folder --show benchmarks/results/predict-folder-NAME.json

Writes the test images of the run's data set as PNG files, one to a file, and runs the command on them several times, as
a user does: in a new process, with imports, loading and listing the folder. Then compares the table with the network
that `vitlab evaluate` uses: the labels, and the accuracy.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from benchmarks.timing import carry_out, markdown, options, quartiles, spread
from vitlab.config import MachineConfig
from vitlab.data import Split
from vitlab.data.batches import to_device
from vitlab.machine import choose_machine, environment
from vitlab.runs.finished import evaluate_run, open_run
from vitlab.runs.session import origin
from vitlab.training.evaluate import predict_logits


def write_pictures(test: Split, folder: Path) -> None:
    """A PNG for each image, named by its place."""
    for number, image in enumerate(test.images):
        PIL.Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(folder / f"{number}.png")


def seconds_of(run: Path, pictures: Path, table: Path) -> float:
    """Wall seconds of the command, from its start to its end."""
    table.unlink(missing_ok=True)
    begin = time.perf_counter()
    words = [sys.executable, "-m", "vitlab", "predict", str(run), str(pictures), "--csv", str(table)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The speed, and how the table differs from `evaluate`."""
    run, opened = arguments.run, open_run(arguments.run)
    prepared = opened.prepare(lambda line: None, {}, None, "evaluating")
    test = prepared.dataset.test
    assert test is not None, "the run's data set has no test images"
    if arguments.quick:
        test = test.take(range(200))
    task, config = prepared.task, prepared.config.train
    images = to_device(test, task.machine.device)
    logits = predict_logits(prepared.model, images, task.preprocess, task.machine, config.eval_batch_size)
    expected = [opened.classes[label] for label in logits.argmax(dim=1).tolist()]
    with tempfile.TemporaryDirectory() as scratch:
        pictures, table = Path(scratch) / "pictures", Path(scratch) / "out.csv"
        pictures.mkdir()
        write_pictures(test, pictures)
        seconds, load = [], []
        for _ in range(1 if arguments.quick else arguments.rounds):
            load.append(os.getloadavg()[0])
            seconds.append(seconds_of(run, pictures, table))
        with open(table, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    found = [row["label"] for row in rows]
    truth = [opened.classes[label] for label in test.labels.tolist()]
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    return {
        "environment": environment(machine) | origin(),
        "images": len(test),
        "in_order": [row["file"].rsplit("/", 1)[-1] for row in rows] == [f"{n}.png" for n in range(len(test))],
        "seconds": quartiles(seconds),
        "load": load,
        "other_labels": sum(one != other for one, other in zip(found, expected, strict=True)),
        "right": int(np.sum(np.array(found) == np.array(truth))),
        "evaluate_top1": None if arguments.quick else evaluate_run(run)["top1"],
    }


def report(measured: dict[str, Any]) -> str:
    """One row."""
    images, seconds = measured["images"], measured["seconds"]
    top1, load = measured["right"] / images, measured["load"]
    exact = "" if measured["evaluate_top1"] is None else f"{100 * measured['evaluate_top1']:.2f} %"
    head = ["pictures", "seconds", "pictures/s", "other labels than evaluate", "top-1", "evaluate"]
    row = [f"{images:,}", spread(seconds), f"{images / seconds['median']:,.0f}", str(measured["other_labels"])]
    environ = measured["environment"]
    where = f"{environ['device_name']}, torch {environ['torch']}, {environ['started_utc'][:10]}"
    loads = f"load average {min(load):.1f} to {max(load):.1f}"
    return "\n".join([markdown(head, [[*row, f"{100 * top1:.2f} %", exact]]), "", f"{where}, {loads}."])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
