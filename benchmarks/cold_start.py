"""From typing `vitlab train --preset P` to its first finished step, and to its result, in seconds of wall time.

    python -m benchmarks.cold_start fast small --out benchmarks/results/NAME.json
    python -m benchmarks.cold_start --show benchmarks/results/NAME.json

Each run is a process of its own, presets in turns. It is the very command, with a reporter that prints a word at each
moment; the parent reads the words and its own watch, which starts before the process does. Files are in the system's
cache from the second run on. A preset may carry knobs: `small/epochs=1`.

    imports      the interpreter starts and imports torch and vitlab
    machine      options, threads, self-tests: what is chosen for this machine
    data         images are read, their SHA-256 is checked, the validation part is cut
    build        the network, its kernels, the run folder
    first step   the optimizers are made; then the first step of training
    training     all other steps, and validation
    test         the test images, the weights and the result on disk
    exit         the process ends
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import vitlab.cli
from benchmarks.timing import carry_out, circumstances, contestant, markdown, options, quartiles, spread
from vitlab.cli import progress
from vitlab.config import MachineConfig
from vitlab.machine import Machine, choose_machine, environment
from vitlab.runs.folder import RunFolder
from vitlab.runs.session import Reporter, origin

STAGES = ("imports", "machine", "data", "build", "first step", "training", "test", "exit")


def child(words: list[str]) -> int:
    """`vitlab train`, saying when each stage has ended."""
    reached: set[str] = {"imports"}
    print("imports", flush=True)

    def end_of(stage: str) -> None:
        if stage not in reached:
            reached.add(stage)
            print(stage, flush=True)

    def note(line: str) -> None:
        end_of("machine")  # is described first, then come the images, whose line counts them
        if " training" in line and "sha256" in line:
            end_of("data")

    progress.choose_reporter = lambda quiet: Reporter(
        note=note,
        begin=lambda task: end_of("build"),
        step=lambda task, counters, sums: end_of("first step"),
        end=lambda: end_of("training"),
    )
    return vitlab.cli.main(["train", *words])


def timed_run(name: str, machine: Machine, quick: bool) -> dict[str, Any]:
    """Seconds since the start at which each stage ended, and what the run itself says."""
    preset, *knobs = name.split("/")
    words = ["--preset", preset, "--threads", str(machine.threads), *map(flag, knobs), "--json"]
    if quick:
        words += ["--epochs", "0.02", "--limit-train", "2000"]
    watch, ended = machine.stopwatch(), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "benchmarks.cold_start", "--child", *words, "--out", str(run)]
        watch.start()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                ended["test" if line.startswith("{") else line.strip()] = watch.seconds
        ended["exit"] = watch.stop()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        result = RunFolder(run).result()
        assert result is not None
        own = {key: result[key] for key in ("train_seconds", "wall_seconds", "steps", "threads", "precision")}
    return {"ended": {stage: round(ended[stage], 4) for stage in STAGES}} | own


def flag(knob: str) -> str:
    """An option of `vitlab train` from "name=value"."""
    name, _, value = knob.partition("=")
    option = name.replace("_", "-")
    if value in ("true", "false"):
        return f"--{option}" if value == "true" else f"--no-{option}"
    return f"--{option}={value}"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All presets in turns, ``repeats`` times."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    configs = {name: contestant(name).to_dict() for name in arguments.presets}  # a wrong name is known at once
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in configs}
    repeats = 1 if arguments.quick else arguments.repeats
    for number in range(repeats):
        for name in configs:
            runs[name].append(timed_run(name, machine, arguments.quick))
            print(f"{name} {number + 1} of {repeats}: {runs[name][-1]['ended']['exit']:.1f} s", file=sys.stderr)
    return {
        "environment": environment(machine) | origin(),
        "settings": {"repeats": repeats, "quick": arguments.quick},
        "presets": {name: {"config": configs[name], "runs": runs[name]} for name in configs},
    }


def durations(ended: dict[str, float]) -> dict[str, float]:
    """Seconds of each stage, from those at which each ended."""
    moments = [0.0, *(ended[stage] for stage in STAGES)]
    return {stage: after - before for stage, (before, after) in zip(STAGES, pairwise(moments), strict=True)}


def report(measured: dict[str, Any]) -> str:
    """Two tables: the two waits of a user, and the stages they consist of."""
    upper, lower = [], []
    for name, preset in measured["presets"].items():
        waits = [
            quartiles([run["ended"][stage] for run in preset["runs"]]) for stage in ("build", "first step", "test")
        ]
        training = quartiles([run["train_seconds"] for run in preset["runs"]])
        upper.append([f"`{name}`", *(spread(wait, digits=2) for wait in (*waits, training))])
        stages = [durations(run["ended"]) for run in preset["runs"]]
        medians = [statistics.median(run[stage] for run in stages) for stage in STAGES]
        lower.append([f"`{name}`", *(f"{seconds:.2f}" for seconds in medians)])
    first = markdown(["preset", "s to the first step's start", "to its end", "to the result", "in training"], upper)
    second = markdown(["seconds of", *STAGES], lower)
    repeats = measured["settings"]["repeats"]
    where = circumstances(measured["environment"])
    return "\n".join([first, "", second, "", f"{repeats} runs each, in processes of their own.", where])


def main() -> int:
    """Measure and keep, or show what was kept."""
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2:])
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", default=["fast", "small"])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
