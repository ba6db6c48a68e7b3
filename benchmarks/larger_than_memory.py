"""Training on images that do not fit into memory: its speed against training in memory, and the memory that it takes.

    python -m benchmarks.larger_than_memory --gigabytes 6 --out benchmarks/results/larger-than-memory-NAME.json
    python -m benchmarks.larger_than_memory --show benchmarks/results/larger-than-memory-NAME.json

Writes an .npz file of 64 x 64 colour images with three classes that differ in brightness, and trains the preset small
on it, in processes that are allowed different amounts of memory for pixels (VITLAB_IN_MEMORY). The speeds are compared
on a part of the images that does fit into memory, in pairs that take turns. On all images, one run goes through and
another is killed in the middle and resumed: their weights must be the same.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import carry_out, markdown, options
from vitlab.config import MachineConfig
from vitlab.data.stored import IN_MEMORY
from vitlab.files import read_json
from vitlab.machine import choose_machine, environment
from vitlab.runs.session import origin

SIDE, CLASSES = 64, 3
BYTES = SIDE * SIDE * 3
KNOBS = ("--preset", "small", "--image-size", "64", "--patch-size", "8", "--quiet")
IN_PAIRS = 20_000  # images in the runs that are compared
EVERYTHING, NOTHING = str(1 << 60), "1"


def write_set(path: Path, count: int) -> None:
    """An uncompressed .npz file of ``count`` images, written in pieces."""
    draws = np.random.default_rng(0)
    labels = draws.integers(0, CLASSES, count)
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, SIDE, SIDE, 3)}
            np.lib.format.write_array_header_1_0(out, header)
            for start in range(0, count, 4096):
                some = labels[start : start + 4096]
                noise = draws.integers(0, 200, (len(some), SIDE, SIDE, 3), dtype=np.uint8)
                out.write((noise + (5 * some[:, None, None, None]).astype(np.uint8)).tobytes())
        with archive.open("y_train.npy", "w") as out:
            np.lib.format.write_array(out, labels)


def command(data: Path, run: Path, *words: str) -> list[str]:
    """The words of `vitlab train`."""
    return [sys.executable, "-m", "vitlab", "train", "--data", str(data), "--out", str(run), *KNOBS, *words]


def peak_of(words: list[str], in_memory: str) -> int:
    """Run a command to its end; the most memory that it had resident, in bytes."""
    process = subprocess.Popen(words, env=os.environ | {IN_MEMORY: in_memory}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return usage.ru_maxrss * 1024


def measure_pairs(folder: Path, pairs: int, images: int) -> list[dict[str, float]]:
    """Images a second in memory and from the disk, by turns."""
    data, rows = folder / "part.npz", []
    write_set(data, images)
    for number in range(pairs):
        rates: dict[str, float] = {}
        for kind, limit in (("memory", EVERYTHING), ("disk", NOTHING)):
            run = folder / f"{kind}-{number}"
            peak = peak_of(command(data, run, "--epochs", "1"), limit)
            result = read_json(run / "result.json")
            rates |= {kind: result["images_per_second"], f"{kind}_peak": peak}
        rows.append(rates)
    return rows


def measure_whole(folder: Path, count: int, epochs: float) -> dict[str, Any]:
    """One run on all images, and the same killed and resumed."""
    data = folder / "all.npz"
    write_set(data, count)
    words = ("--epochs", str(epochs), "--checkpoint-seconds", "5")
    start = time.perf_counter()
    peak = peak_of(command(data, folder / "whole", *words), NOTHING)
    seconds = time.perf_counter() - start
    whole = read_json(folder / "whole" / "result.json")
    environ = os.environ | {IN_MEMORY: NOTHING}
    process = subprocess.Popen(command(data, folder / "killed", *words), env=environ, stdout=subprocess.DEVNULL)
    checkpoints = folder / "killed" / "checkpoints"
    while process.poll() is None and not (checkpoints.is_dir() and any(checkpoints.iterdir())):
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = [sys.executable, "-m", "vitlab", "train", "--resume", str(folder / "killed"), "--quiet"]
    subprocess.run(resumed, env=environ, check=True, stdout=subprocess.DEVNULL)
    killed = read_json(folder / "killed" / "result.json")
    return {
        "bytes": data.stat().st_size,
        "images": count,
        "epochs": epochs,
        "peak": peak,
        "seconds": seconds,
        "images_per_second": whole["images_per_second"],
        "val_top1": whole["val_top1"],
        "equal": whole["model_sha256"] == killed["model_sha256"],
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    count = round(arguments.gigabytes * 1e9 / BYTES)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        pairs = measure_pairs(Path(folder), 1 if arguments.quick else arguments.pairs, min(IN_PAIRS, count))
        whole = measure_whole(Path(folder), count, arguments.epochs)
    return {"environment": environment(machine) | origin(), "pairs": pairs, "whole": whole}


def report(measured: dict[str, Any]) -> str:
    """Two tables."""
    pairs, whole = measured["pairs"], measured["whole"]
    rows = []
    for name, kind in (("in memory", "memory"), ("from the disk", "disk")):
        rate, peak = statistics.median(row[kind] for row in pairs), max(row[f"{kind}_peak"] for row in pairs)
        rows.append([name, f"{rate:,.0f}", f"{peak / 2**20:,.0f}"])
    ratio = statistics.median(row["disk"] / row["memory"] for row in pairs)
    environ = measured["environment"]
    same = "the same weights" if whole["equal"] else "OTHER weights"
    said = [
        f"{len(pairs)} pairs of {IN_PAIRS:,} images of 64 x 64 x 3, preset small at 64 x 64 with patches of 8; from "
        f"the disk at {100 * ratio:.0f} % of the speed in memory (median of the pairs).",
        f"All {whole['images']:,} images, {whole['bytes'] / 1e9:.1f} GB, {whole['epochs']:g} epochs: "
        f"{whole['images_per_second']:,.0f} images/s, at most {whole['peak'] / 2**20:,.0f} MiB of memory; killed and "
        f"resumed, it gave {same}.",
        f"{environ['device_name']}, {environ['threads']} threads, {environ['precision']}, torch {environ['torch']}, "
        f"{environ['started_utc'][:10]}.",
    ]
    return "\n".join([markdown(["images", "images/s", "most memory, MiB"], rows), "", *said])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("--gigabytes", type=float, default=6.0, help="of all images [6]")
    parser.add_argument("--epochs", type=float, default=0.05, help="of the runs on all images [0.05]")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder", help="where the images are written [the folder for temporary files]")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
