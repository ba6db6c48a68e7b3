"""Where the time of a recorded training step goes on a GPU: kernels by kind, and the time in which none runs.

    python -m benchmarks.gpu_profile 'fast/compile=true' 'small/compile=true/batch_size=1024' --out FILE
    python -m benchmarks.gpu_profile --show FILE --into docs/understand/speed.md

Contestants are presets with knobs, as in benchmarks/duel.py. A step is a training step as vitlab replays it
(training/step.py), from the gathered batch to the new weights. Its time is the median over rounds of steps without the
profiler; torch's profiler counts the kernels in separate steps. FILE holds every kernel by name.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.pages import renew
from benchmarks.steps import Bench, set_up, whole_step
from benchmarks.timing import complaint, parse_assignment
from benchmarks.validation import circumstances, configuration
from vitlab.errors import ConfigError, VitlabError
from vitlab.files import read_json, write_json
from vitlab.machine import environment
from vitlab.runs.session import origin
from vitlab.training.step import record_steps

Row = dict[str, Any]
ROUNDS, STEPS = 5, 30

# Kinds of kernels by what their names contain. Order matters: the name of a compiled kernel lists all that it computes.
KINDS = {
    "compiled": ("triton",),
    "attention": ("fmha", "flash", "attention"),
    "float32 products": ("f32f32_f32f32", "sgemm"),
    "other products": ("nvjet", "gemm", "cutlass", "cublas", "splitk"),
    "copies": ("memcpy", "memset"),
}
REST = "torch's operators"


def kind_of(kernel: str) -> str:
    """The kind of ``kernel`` in KINDS by its name, else REST."""
    name = kernel.lower()
    return next((kind for kind, marks in KINDS.items() if any(mark in name for mark in marks)), REST)


def measure(contestant: str, common: dict[str, Any]) -> Row:
    """Time and kernels of a contestant's step."""
    bench = set_up(configuration(contestant, common))
    machine = bench.task.machine
    watch = machine.stopwatch()
    watch.start()
    record_steps(bench.state, bench.task)
    recording = watch.stop()
    seconds = [seconds_of(bench, STEPS) for _ in range(ROUNDS + 1)][1:]  # the first round warms up
    return {
        "contestant": contestant,
        "batch": len(next(bench.batches)[1]),
        "recording_seconds": round(recording, 2),
        "step_us": [round(1e6 * each / STEPS, 1) for each in seconds],
        "kernels": kernels_of(bench),
        "environment": environment(machine) | origin(),
    }


def seconds_of(bench: Bench, steps: int) -> float:
    """Seconds for ``steps`` steps, including the wait for the device at the end."""
    watch = bench.task.machine.stopwatch()
    watch.start()
    for _ in range(steps):
        whole_step(bench)
    return watch.stop()


def kernels_of(bench: Bench) -> list[Row]:
    """The kernels of a step by name, with calls and microseconds, longest first. On a CPU: torch's operators."""
    on_cpu = bench.task.machine.device.type == "cpu"
    with profile(activities=[ProfilerActivity.CPU if on_cpu else ProfilerActivity.CUDA]) as seen:
        seconds_of(bench, STEPS)
    rows = [
        {
            "name": event.key,
            "calls": round(event.count / STEPS, 2),
            "us": round((event.self_cpu_time_total if on_cpu else event.self_device_time_total) / STEPS, 2),
        }
        for event in seen.key_averages()
    ]
    return sorted((row for row in rows if row["us"] > 0), key=lambda row: -row["us"])


def report(measured: dict[str, Any]) -> str:
    """A Markdown table with one line per contestant: microseconds a step by kind of kernel, and idle time."""
    rows, kinds = measured["rows"], [*KINDS, REST]
    lines = [
        "| " + " | ".join(["recipe", "µs a step", "images/s", "kernels", *kinds, "idle"]) + " |",
        "| --- |" + " --- |" * (len(kinds) + 4),
    ]
    for row in rows:
        step = statistics.median(row["step_us"])
        spent = {kind: sum(k["us"] for k in row["kernels"] if kind_of(k["name"]) == kind) for kind in kinds}
        calls = sum(kernel["calls"] for kernel in row["kernels"])
        cells = [f"`{row['contestant']}`", f"{step:,.0f}", f"{1e6 * row['batch'] / step:,.0f}", f"{calls:.0f}"]
        cells += [f"{spent[kind]:,.0f}" for kind in kinds] + [f"{max(step - sum(spent.values()), 0):,.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    where = "; ".join(sorted({circumstances(row["environment"]) for row in rows}))
    return "\n".join([*lines, "", f"Microseconds; {where}."])


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestants", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", help="use cpu to try the command on a machine without a GPU")
    parser.add_argument("--knobs", nargs="*", default=[], metavar="NAME=VALUE", help="applied to every contestant")
    parser.add_argument("--show", type=Path)
    parser.add_argument("--into", type=Path, nargs="*", default=[], help="pages whose table of this name to update")
    arguments = parser.parse_args()
    if arguments.out and arguments.contestants:
        common = dict(map(parse_assignment, arguments.knobs)) | {"device": arguments.device}
        rows: list[Row] = []
        for name in arguments.contestants:
            rows.append(measure(name, common))
            write_json(arguments.out, {"rows": rows})
    elif not arguments.show:
        raise ConfigError("give contestants and --out FILE, or --show FILE")
    path = arguments.show or arguments.out
    made = report(read_json(path))
    renew(arguments.into, {path.stem: made})
    print(made)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except VitlabError as error:
        raise SystemExit(f"benchmarks.gpu_profile: {complaint(error)}") from None
