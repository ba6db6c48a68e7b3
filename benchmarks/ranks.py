"""One training on several processes: what dividing costs, what it changes, and what a killed process costs.

    python -m benchmarks.ranks --out benchmarks/results/ranks-NAME.json             speed and differences
    python -m benchmarks.ranks --seeds 3 --out benchmarks/results/ranks-NAME.json   accuracy, too (hours)
    python -m benchmarks.ranks --kill 20 --out benchmarks/results/ranks-kill-NAME.json
    python -m benchmarks.ranks --show FILE

Speed: training steps of one process with all threads, and of ``--ranks`` processes that divide them, in turns. Both
start anew each time, and the first steps do not count. Differences: the weights after some steps, in fp32, and whether
two trainings of the same seed and ranks have the same bits.

``--kill N``: a rank is killed with SIGKILL at a random moment, N times, in turn under torchrun, which starts all of
them again, and under `vitlab train --ranks`, after which `vitlab train --resume` goes on. Counts: all processes of the
training have ended within ten seconds, and weights, history and accuracy are those of the unbroken run, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from benchmarks.steps import Bench
from benchmarks.timing import carry_out, contestant, markdown, options, quartiles
from tests.killing import prepare as small_training
from tests.killing import trace
from vitlab import RunConfig
from vitlab.cli.launch import environment_of
from vitlab.config import MachineConfig
from vitlab.data.batches import epoch_batches
from vitlab.files import read_json, write_json
from vitlab.machine import choose_machine, environment
from vitlab.ranks import Ranks, from_environment, joined
from vitlab.runs.prepare import prepare
from vitlab.runs.session import origin
from vitlab.text import counted
from vitlab.training.loop import start
from vitlab.training.step import train_step

DEFAULT = ("accurate", "accurate/data=cifar10/image_size=32/crop=none/force_flip=true")
WARM_UP = 10  # steps that do not count
COMPARED = (1, 10, 100)  # steps after which weights are compared
MOST_SECONDS = 10.0  # for all ranks to end after one was killed
PATIENCE_SECONDS = 300.0
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


# --- One rank: takes steps, and writes what it found


def work(name: str, knobs: str, steps: int, keep: Sequence[int], out: Path) -> None:
    """Take ``steps`` steps of the preset ``name``; the first rank writes their speed and the weights after ``keep``."""
    ranks = from_environment()
    config = contestant(name, **json.loads(knobs))
    bench = ready(config, ranks)
    kept: dict[str, Tensor] = {}
    watch = bench.task.machine.stopwatch()
    with joined(ranks, bench.task.machine.device), bench.task.machine.computing():
        for step in range(WARM_UP * (not keep) + steps):
            if step == WARM_UP and not keep:
                watch.start()
            assert train_step(bench.state, bench.task, *next(bench.batches))
            if step + 1 in keep:
                kept |= {f"{step + 1}/{name}": value.clone() for name, value in bench.state.model.state_dict().items()}
        seconds = 0.0 if keep else watch.stop()
    if not ranks.rank:
        if keep:
            safetensors.torch.save_file(kept, out)
        else:
            write_json(out, {"images_per_second": steps * config.train.batch_size / seconds})


def ready(config: RunConfig, ranks: Ranks) -> Bench:
    """Data, machine, network and optimizers of ``config`` for this rank, with whole batches only."""
    prepared = prepare(config, lambda line: None, ranks=ranks)
    state = start(prepared.model, prepared.task, None)
    state.model.train()
    return Bench(prepared, state, whole_batches(prepared.task))


def whole_batches(task: Any) -> Iterator[tuple[Tensor, ...]]:
    """This rank's part of the batches of endless epochs, without the smaller last batch of each."""
    size, epoch = task.config.train.batch_size, 0
    rows = (lambda count: task.part_of(count).rows) if task.machine.ranks.several else None
    while True:
        order = task.machine.generator(task.config.train.seed, "order", epoch)
        yield from epoch_batches(task.train, size, order, 0, len(task.train) // size, "all", rows)
        epoch += 1


def compute(name: str, knobs: dict[str, Any], ranks: int, steps: int, keep: Sequence[int], out: Path) -> None:
    """Let ``ranks`` processes `work`."""
    words = [sys.executable, "-m", "benchmarks.ranks", "--work", name, "--knobs", json.dumps(knobs)]
    words += ["--steps", str(steps), "--keep", *map(str, keep), "--out", str(out)]
    with tempfile.TemporaryDirectory() as folder:
        alone = os.environ | {"OMP_NUM_THREADS": str(knobs["threads"])}
        each = [environment_of(n, ranks, Path(folder) / "store", knobs["threads"]) for n in range(ranks)]
        processes = [subprocess.Popen(words, env=one) for one in (each if ranks > 1 else [alone])]
        codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"a process of {name} with {ranks} ranks ended with {codes}")


# --- Speed, differences, accuracy


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all presets."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    about = {"environment": environment(machine) | origin(), "ranks": arguments.ranks}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.kill:
            return about | {"kill": kill_all(arguments, folder)}
        speed = {one: speed_of(one, arguments, machine.threads, folder) for one in arguments.presets or DEFAULT}
        changed = {one: differences(one, arguments, machine.threads, folder) for one in arguments.presets or DEFAULT}
        accuracy = {
            one: accuracy_of(one, arguments, machine.threads, folder)
            for one in (arguments.presets or DEFAULT)
            if arguments.seeds
        }
    return about | {"speed": speed, "differences": changed, "accuracy": accuracy}


def speed_of(name: str, arguments: argparse.Namespace, threads: int, folder: Path) -> dict[str, Any]:
    """Images per second of one process and of several, in turns."""
    found: dict[int, list[float]] = {1: [], arguments.ranks: []}
    rounds, steps = (1, 3) if arguments.quick else (arguments.rounds, arguments.steps)
    for number in range(rounds):
        for ranks in sorted(found, reverse=bool(number % 2)):
            compute(name, {"threads": threads}, ranks, steps, (), folder / "speed.json")
            found[ranks].append(read_json(folder / "speed.json")["images_per_second"])
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    ratios = [several / one for one, several in zip(found[1], found[arguments.ranks], strict=True)]
    return {"one": quartiles(found[1]), "several": quartiles(found[arguments.ranks]), "efficiency": quartiles(ratios)}


def differences(name: str, arguments: argparse.Namespace, threads: int, folder: Path) -> dict[str, Any]:
    """The largest difference of a weight from that of one process after some steps, and whether a second training with
    the same ranks has the same bits."""
    keep = (1, 3) if arguments.quick else COMPARED
    weights = []
    for number, ranks in enumerate((1, arguments.ranks, arguments.ranks)):
        place = folder / f"{number}.safetensors"
        compute(name, {"threads": threads, "precision": "fp32"}, ranks, max(keep), keep, place)
        weights.append(safetensors.torch.load_file(place))
    one, several, again = weights
    largest = {step: largest_difference(one, several, f"{step}/") for step in keep}
    return {"largest": largest, "same_bits": all(torch.equal(several[key], again[key]) for key in several)}


def largest_difference(some: dict[str, Tensor], other: dict[str, Tensor], start: str) -> float:
    """The largest absolute difference of the tensors whose names begin with ``start``."""
    return max((some[key] - other[key]).abs().max().item() for key in some if key.startswith(start))


def accuracy_of(name: str, arguments: argparse.Namespace, threads: int, folder: Path) -> dict[str, Any]:
    """Test accuracy and training seconds of whole trainings, seed by seed, of one process and of several."""
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        for ranks in (1, arguments.ranks):
            config = contestant(name, threads=threads, seed=seed, **({"ranks": ranks} if ranks > 1 else {}))
            run = folder / f"{name.replace('/', '-')}-{seed}-{ranks}"
            write_json(folder / "config.json", config.to_dict())
            command = vitlab("--config", str(folder / "config.json"), "--out", str(run))
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result = read_json(run / "result.json")
            print(f"{name}, seed {seed}, {ranks} ranks: {result['test_top1']}", file=sys.stderr, flush=True)
            found.setdefault(str(ranks), []).append({key: result[key] for key in ("test_top1", "train_seconds")})
    return found


def vitlab(*words: str) -> list[str]:
    """The command `vitlab train` without progress."""
    return [sys.executable, "-m", "vitlab", "train", "--quiet", *words]


# --- Killing


def kill_all(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill a rank as often as asked for, and count what held."""
    count, ranks, draw = arguments.kill, arguments.ranks, random.Random(arguments.seed)
    epochs = 15 if arguments.quick else 150
    config = small_training(folder, epochs=epochs, checkpoint_seconds=0.1, optimizer="muon")
    write_json(config, read_json(config) | {"machine": read_json(config)["machine"] | {"threads": ranks}})
    began = time.monotonic()
    words = vitlab("--config", str(config), "--ranks", str(ranks), "--out", str(folder / "whole"))
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    duration, whole = time.monotonic() - began, trace(folder / "whole")
    tries = []
    for number in range(count):
        kind = ("torchrun", "by hand")[number % 2]
        run = folder / f"run-{number}"
        while (found := kill_once(kind, config, run, ranks, draw, duration)) is None:
            pass  # it had ended before
        tries.append(found | {"kind": kind, "same": found["resumed"] and trace(run) == whole})
        print(f"{number + 1} of {count}: {tries[-1]}", file=sys.stderr, flush=True)
    return {"tries": tries, "seconds": duration}


def kill_once(
    kind: str, config: Path, run: Path, ranks: int, draw: random.Random, duration: float
) -> dict[str, Any] | None:
    """Kill one rank of a training at a random moment; how long the others lived, what was said, and whether the
    training came to its end. None if it was too late."""
    subprocess.run(["rm", "-rf", str(run)], check=True)
    options = ["--quiet", "--config", str(config), "--out", str(run)]
    if kind == "torchrun":
        where = ["--standalone", "--nproc-per-node", str(ranks), "--max-restarts", "3", "-m", "vitlab", "train"]
        command = [*TORCHRUN, *where, *options]
    else:
        command = vitlab(*options[1:], "--ranks", str(ranks))
    with started(command) as process:
        found = workers_of(process, ranks)
        time.sleep(draw.uniform(0.0, duration))
        if process.poll() is not None or not all(map(alive, found)):
            return None
        victim = draw.randrange(ranks)
        os.kill(found[victim], signal.SIGKILL)
        killed = time.monotonic()
        while any(map(alive, found)) and time.monotonic() - killed < PATIENCE_SECONDS:
            time.sleep(0.02)
        seconds = time.monotonic() - killed
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    lines = [line for line in errors.decode().splitlines() if line.startswith("vitlab: ")]
    resumed = process.returncode == 0
    if kind == "by hand":
        words = ["--resume", str(run)] if (run / "config.json").exists() else command[command.index("--config") :]
        resumed = process.returncode == 9 and not subprocess.run(vitlab(*words), stdout=subprocess.DEVNULL).returncode
    about = {"rank": victim, "seconds": round(seconds, 2), "lines": len(lines)}
    return about | {"ended": seconds < MOST_SECONDS, "resumed": resumed}


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, killed at the end if it still lives."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def workers_of(process: subprocess.Popen[Any], ranks: int) -> list[int]:
    """The processes of the ranks, as soon as all are there (Linux)."""
    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        found = {}
        for child in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, KeyError):
                if int((child / "stat").read_text().rpartition(")")[2].split()[1]) == process.pid:
                    pairs = (word.partition("=") for word in (child / "environ").read_text().split("\0"))
                    found[int({name: value for name, _, value in pairs}["RANK"])] = int(child.name)
        if len(found) == ranks:
            return [found[rank] for rank in sorted(found)]
        time.sleep(0.01)
    return []


def alive(pid: int) -> bool:
    """Whether a process still runs; one that waits for its parent to hear of its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


# --- Tables


def report(measured: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    about = measured["environment"]
    count = measured["ranks"]
    where = f"{about['device_name']}, {about['threads']} threads, torch {about['torch']}, {about['started_utc'][:10]}."
    if "kill" in measured:
        tries = measured["kill"]["tries"]
        rows = []
        for kind in ("torchrun", "by hand"):
            some = [one for one in tries if one["kind"] == kind]
            counts = [f"{sum(map(bool, (one[name] for one in some)))} of {len(some)}" for name in ("ended", "same")]
            rows.append([kind, *counts, f"{max((one['seconds'] for one in some), default=0):.1f}"])
        head = ["resumed", "all ended in 10 s", "equal to the unbroken run", "longest, s"]
        return f"{markdown(head, rows)}\n\n{where}"
    rows = []
    for name, speed in measured["speed"].items():
        low, middle, high = (speed["efficiency"][key] for key in ("q1", "median", "q3"))
        far = measured["differences"][name]
        largest = ", ".join(f"{value:.1e} after {step}" for step, value in far["largest"].items())
        speeds = [f"{speed[key]['median']:,.0f}" for key in ("one", "several")]
        rows.append([f"`{name}`", *speeds, f"{middle:.2f} ({low:.2f} to {high:.2f})", largest])
    head = ["preset", "images/s, one process", f"{count} ranks", "ratio", "largest difference of a weight (fp32)"]
    table = markdown(head, rows)
    bits = all(far["same_bits"] for far in measured["differences"].values())
    lines = [table, "", f"Same seed and ranks twice: {'the same' if bits else 'DIFFERENT'} bits. {where}"]
    for name, found in measured["accuracy"].items():
        for ranks, results in found.items():
            tops = [100 * one["test_top1"] for one in results]
            seconds = statistics.median(one["train_seconds"] for one in results)
            mean, who = statistics.mean(tops), counted(int(ranks), "rank")
            lines += ["", f"`{name}`, {who}: {mean:.2f} % of {len(tops)} seeds, {seconds:.0f} s"]
    return "\n".join(lines)


def main() -> int:
    """Read the command line."""
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", help=f"presets with knobs [{' '.join(DEFAULT)}]")
    parser.add_argument("--ranks", type=int, default=2, help="processes [2]")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each [7]")
    parser.add_argument("--steps", type=int, default=150, help="steps of a turn [150]")
    parser.add_argument("--seeds", type=int, default=0, help="also train to the end with so many seeds [0]")
    parser.add_argument("--kill", type=int, default=0, help="instead, kill a rank so many times")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which ranks are killed [0]")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--knobs", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=int, nargs="*", default=[], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.knobs, arguments.steps, arguments.keep, arguments.out)
        return 0
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
