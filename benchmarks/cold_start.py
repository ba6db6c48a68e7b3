"""Seconds of wall time from `vitlab train --preset P` to the first finished step, and to the result.

    python -m benchmarks.cold_start fast small --out benchmarks/results/NAME.json
    python -m benchmarks.cold_start --show benchmarks/results/NAME.json

Each run is a separate process; presets take turns. It runs the real command with a reporter that prints a word at the
end of each stage. The parent process reads the words and takes the times; its clock starts before the child does. From
the second run on, files are in the system's cache. A preset can have knobs: `small/epochs=1`.

    imports      the interpreter starts and imports torch and vitlab
    machine      options, threads, and the tests that choose precision and kernels for this machine
    data         images are read, their SHA-256 is checked, validation images are split off
    build        network, kernels and run folder are made
    first step   optimizers are made, and the first training step runs
    training     all other steps, and validation
    test         the test images are evaluated, weights and result are written
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
from vitlab import progress
from vitlab.config import MachineConfig
from vitlab.machine import Machine, choose_machine, environment
from vitlab.runs.folder import RunFolder
from vitlab.runs.session import Reporter, origin

STAGES = ("imports", "machine", "data", "build", "first step", "training", "test", "exit")


def child(words: list[str]) -> int:
    """Run `vitlab train` and print each stage when it ends."""
    reached: set[str] = {"imports"}
    print("imports", flush=True)

    def end_of(stage: str) -> None:
        if stage not in reached:
            reached.add(stage)
            print(stage, flush=True)

    def note(line: str) -> None:
        end_of("machine")  # the machine is described first, then the line that counts the images
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
    """Seconds from the start to the end of each stage, and the run's own figures."""
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
    """The option of `vitlab train` for "name=value"."""
    name, _, value = knob.partition("=")
    option = name.replace("_", "-")
    if value in ("true", "false"):
        return f"--{option}" if value == "true" else f"--no-{option}"
    return f"--{option}={value}"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all presets in turn, ``repeats`` times."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    configs = {name: contestant(name).to_dict() for name in arguments.presets}  # a wrong name fails at once
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
    """Seconds each stage took, from the moments at which the stages ended."""
    moments = [0.0, *(ended[stage] for stage in STAGES)]
    return {stage: after - before for stage, (before, after) in zip(STAGES, pairwise(moments), strict=True)}


def report(measured: dict[str, Any]) -> str:
    """Two tables: how long a user waits, and the stages of that wait."""
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
    return "\n".join([first, "", second, "", f"{repeats} runs each, in separate processes.", where])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2:])
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", default=["fast", "small"])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
