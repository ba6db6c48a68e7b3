"""Compare presets and the original Keras programs: accuracy and training time over seeds, interleaved.

    python -m benchmarks.duel fast cnn-tuned keras:keras-cnn --seeds 10 --out benchmarks/results/NAME.json
    python -m benchmarks.duel --show benchmarks/results/NAME.json --into README.md docs/understand/speed.md

All contestants run with one seed before any runs with the next, so a machine that slows down slows all of them. A
matrix product of known size, timed before each run, shows whether it did. Each run is a separate process:
benchmarks/contestant.py, or benchmarks/keras_programs.py in TensorFlow's environment for names that begin with
"keras:". A contestant can have knobs (`fast/attn_form=none`); a Keras program can have `limit_steps=8`, to measure
throughput. The file is saved after each run, and runs that it already holds are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.keras_env import keras_python
from benchmarks.pages import renew
from benchmarks.verdict import table
from vitlab import load_dataset
from vitlab.config import MachineConfig
from vitlab.errors import StorageError
from vitlab.files import read_json, write_json
from vitlab.machine import choose_machine, gemm_gflops
from vitlab.runs.session import utc_now

Run = dict[str, Any]


def duel(contestants: list[str], seeds: range, threads: int, path: Path, device: str = "cpu") -> dict[str, Any]:
    """Run whatever is missing from ``path``; returns everything it then holds."""
    measured: dict[str, Any] = read_json(path) if path.exists() else {"runs": []}
    machine = choose_machine(MachineConfig(device=device, threads=threads))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for name in contestants:
                if any((run["contestant"], run["seed"]) == (name, seed) for run in measured["runs"]):
                    continue
                before = round(gemm_gflops(machine), 1)
                run = start(name, seed, threads, Path(folder), device)
                measured["runs"].append({"contestant": name, "seed": seed, "gemm_gflops_before": before} | run)
                write_json(path, measured)
                end = run["epochs"][-1]
                print(
                    f"{name} seed {seed}: {100 * end['test_top1']:.2f} % in {end['train_seconds']:.1f} s",
                    file=sys.stderr,
                )
    return measured


def start(name: str, seed: int, threads: int, folder: Path, device: str) -> Run:
    """One run in a separate process: what it printed, as a dict."""
    if name.startswith("keras:"):
        program = Path(__file__).with_name("keras_programs.py")
        own, *knobs = name.removeprefix("keras:").split("/")
        words = [str(keras_python(print)), str(program), own, "--data", str(mnist(folder)), "--seed", str(seed)]
        words += ["--threads", str(threads), "--epochs", str(KERAS_EPOCHS[own])]
        words += ["--" + knob.replace("_", "-") for knob in knobs]
    else:
        preset, *knobs = name.split("/")
        words = [sys.executable, "-m", "benchmarks.contestant", preset, "--seed", str(seed)]
        words += ["--knobs", f"threads={threads}", f"device={device}", *knobs]
    started = utc_now()
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    first, *rows = map(json.loads, done.stdout.splitlines())
    return {"started_utc": started, "about": first, "epochs": [row for row in rows if "epoch" in row], "end": rows[-1]}


AGAINST = "keras:keras-cnn"
KERAS_EPOCHS = {"keras-cnn": 15, "seed-best": 100, "seed-best-stock": 100}


def mnist(folder: Path) -> Path:
    """MNIST as one .npz file, for programs that do not use vitlab."""
    path = folder / "mnist.npz"
    if not path.exists():
        data = load_dataset("mnist")
        assert data.test is not None
        parts = {"train": data.train, "test": data.test}
        arrays: dict[str, Any] = {f"{name}_images": split.images for name, split in parts.items()}
        arrays |= {f"{name}_labels": split.labels for name, split in parts.items()}
        np.savez(path, allow_pickle=False, **arrays)
    return path


def report(measured: dict[str, Any]) -> str:
    """The table of all contestants."""
    return table(measured["runs"], measured.get("against", AGAINST))


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestants", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path)
    parser.add_argument("--into", type=Path, nargs="*", default=[], help="pages whose tables of this name to update")
    parser.add_argument("--against", default=AGAINST, help="contestant to compare the others with; saved in the file")
    arguments = parser.parse_args()
    if arguments.show:
        measured = read_json(arguments.show)
    elif arguments.out:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        measured = duel(arguments.contestants, seeds, arguments.threads, arguments.out)
        measured["against"] = arguments.against
        write_json(arguments.out, measured)
    else:
        raise StorageError("nowhere to save the result; add --out FILE")
    name = (arguments.show or arguments.out).stem
    renew(arguments.into, {name: report(measured)})
    print(report(measured))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
