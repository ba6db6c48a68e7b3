"""Seconds of wall time from `vitlab train --preset P` to the first finished step, and to the result.

    python -m benchmarks.cold_start fast small --out benchmarks/results/NAME.json
    python -m benchmarks.cold_start fast --before ../earlier --out benchmarks/results/NAME.json
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

`vitlab predict` is measured too, with the last run of the first preset and one picture: until the network's files are
opened ("imports"), until it is ready ("network"), until the answer is printed ("answer") and until the process ends.
--before names a checkout of an earlier version. Its two commands, with the same Python and libraries, take turns with
today's, without stages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import PIL.Image

import vitlab.cli
from benchmarks.timing import carry_out, circumstances, contestant, markdown, options, quartiles, spread
from vitlab import progress
from vitlab.config import MachineConfig
from vitlab.data import load_dataset
from vitlab.machine import Machine, choose_machine, environment
from vitlab.runs.folder import RunFolder
from vitlab.runs.session import Reporter, origin

STAGES = ("imports", "machine", "data", "build", "first step", "training", "test", "exit")
PREDICTING = ("imports", "network", "answer", "exit")
LEGS = tuple(zip(("", *PREDICTING), PREDICTING, strict=False))  # each stage after the one before it
ROOT = Path(__file__).parents[1]


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


def predicting_child(words: list[str]) -> int:
    """Run `vitlab predict` and print each stage when it ends."""
    from vitlab.predict import Classifier

    load = Classifier.load.__func__  # type: ignore[attr-defined]

    def watched(kind: type[Classifier], *places: Any, **options: Any) -> Classifier:
        print("imports", flush=True)
        made: Classifier = load(kind, *places, **options)
        print("network", flush=True)
        return made

    Classifier.load = classmethod(watched)  # type: ignore[method-assign, assignment]
    code = vitlab.cli.main(["predict", *words, "--json"])
    sys.stdout.flush()
    return code


def stages_of(machine: Machine, words: list[str], answer: str) -> dict[str, float]:
    """Seconds from the start of a child process to each stage that it prints; ``answer`` is the stage that ends with
    its line of JSON."""
    watch, ended = machine.stopwatch(), dict[str, float]()
    command = [sys.executable, "-m", "benchmarks.cold_start", *words]
    watch.start()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            ended[answer if line.startswith("{") else line.strip()] = round(watch.seconds, 4)
    ended["exit"] = round(watch.stop(), 4)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return ended


def whole_seconds(machine: Machine, checkout: Path, words: list[str]) -> float:
    """Seconds of the command `vitlab WORDS` of a checkout, from its start to its end."""
    paths = {"PYTHONPATH": str(checkout / "src")}
    watch = machine.stopwatch()
    watch.start()
    command = [sys.executable, "-m", "vitlab", *words]
    subprocess.run(command, cwd=checkout, env=os.environ | paths, check=True, capture_output=True)
    return round(watch.stop(), 4)


def train_words(name: str, machine: Machine, quick: bool) -> list[str]:
    """The options of `vitlab train` for a preset with knobs."""
    preset, *knobs = name.split("/")
    words = ["--preset", preset, "--threads", str(machine.threads), *map(flag, knobs), "--json"]
    return words + (["--epochs", "0.02", "--limit-train", "2000"] if quick else [])


def timed_run(name: str, machine: Machine, quick: bool, run: Path) -> dict[str, Any]:
    """Seconds from the start to the end of each stage, and the run's own figures."""
    ended = stages_of(machine, ["--child", *train_words(name, machine, quick), "--out", str(run)], "test")
    result = RunFolder(run).result()
    assert result is not None
    own = {key: result[key] for key in ("train_seconds", "wall_seconds", "steps", "threads", "precision")}
    return {"ended": {stage: ended[stage] for stage in STAGES}} | own


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
    versions = {"today": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    commands: dict[str, dict[str, list[float]]] = {one: {"train": [], "predict": []} for one in versions}
    predictions = []
    repeats = 1 if arguments.quick else arguments.repeats
    first = next(iter(configs))
    with tempfile.TemporaryDirectory() as place:
        picture = Path(place) / "picture.png"
        PIL.Image.fromarray(load_dataset("mnist").train.images[0, ..., 0]).resize((280, 280)).save(picture)
        for number in range(repeats):
            for name in configs:
                run = Path(place) / f"run-{name.replace('/', '-')}-{number}"
                runs[name].append(timed_run(name, machine, arguments.quick, run))
                print(f"{name} {number + 1} of {repeats}: {runs[name][-1]['ended']['exit']:.1f} s", file=sys.stderr)
            made = str(Path(place) / f"run-{first.replace('/', '-')}-{number}")
            predictions.append(stages_of(machine, ["--predicting", made, str(picture)], "answer"))
            for version, checkout in sorted(versions.items(), reverse=bool(number % 2)):
                run = Path(place) / f"{version}-{number}"
                words = ["train", *train_words(first, machine, arguments.quick), "--out", str(run)]
                commands[version]["train"].append(whole_seconds(machine, checkout, words))
                words = ["predict", str(run), str(picture)]
                commands[version]["predict"].append(whole_seconds(machine, checkout, words))
    return {
        "environment": environment(machine) | origin(),
        "settings": {"repeats": repeats, "quick": arguments.quick},
        "presets": {name: {"config": configs[name], "runs": runs[name]} for name in configs},
        "predicting": predictions,
        "commands": commands,
        "before": None if arguments.before is None else commit_of(versions["before"]),
    }


def commit_of(checkout: Path) -> str:
    """The commit of a checkout and its day."""
    command = ["git", "log", "-1", "--format=%h of %cs"]
    return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()


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
    tables = [first, second]
    if "predicting" in measured:
        legs = [[one[stage] - one.get(before, 0.0) for one in measured["predicting"]] for before, stage in LEGS]
        shown = [f"{statistics.median(taken):.2f}" for taken in legs]
        tables.append(markdown(["seconds of", *PREDICTING], [["`vitlab predict`", *shown]]))
        preset = next(iter(measured["presets"]))
        rows = [
            [f"{version} ({measured['before']})" if version == "before" else version]
            + [spread(quartiles(taken[command]), digits=2) for command in ("train", "predict")]
            for version, taken in measured["commands"].items()
        ]
        tables.append(markdown(["s of the whole command", f"`train --preset {preset}`", "`predict RUN PICTURE`"], rows))
    where = circumstances(measured["environment"])
    return "\n\n".join([*tables, f"{repeats} runs each, in separate processes.\n{where}"])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2:])
    if sys.argv[1:2] == ["--predicting"]:
        return predicting_child(sys.argv[2:])
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", default=["fast", "small"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
