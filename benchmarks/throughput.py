"""Training speed of presets: images per second, and the share of the processor's speed that they use.

    python -m benchmarks.throughput [PRESET ...] --out benchmarks/results/NAME.json
    python -m benchmarks.throughput --profile small --out benchmarks/results/NAME.json
    python -m benchmarks.throughput --show benchmarks/results/NAME.json

Real training steps on MNIST; presets take turns of half a second. For the presets that occur both with our kernels and
with torch's operations (`small small/kernels=plain`), a second table says how much faster the kernels are. These
variables limit everything to AVX2:

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python -m benchmarks.throughput ...

A "step" is everything: gather the batch,
preprocess, augment, forward, loss, backward, optimizers, bookkeeping. "Without input" is `train_step` on one batch
that is already preprocessed and augmented. A preset can have knobs: `small/precision=fp32`.

GFLOP/s follow the usual convention: a step counts as three times the arithmetic of its forward pass (the backward pass
has two products for each one of the forward pass), with 2 operations for each multiply-add of products and convolutions
and nothing for everything else (`vitlab.model.Description`), including the optimizer's own products. The first
layer counts like the others although its input needs no gradient.
The ceiling is a 1024 x 1024 product in the same process (`vitlab.machine.gemm_gflops`); in bf16 it includes the
conversion of its float32 inputs, as in autocast.

``--profile`` times the pieces of a step, and then every torch operator, with a dispatch mode instead of
torch.profiler, which disturbs what it measures. Operator times include a few microseconds of Python each. Time outside
of operators is Python, autograd, and vitlab's own kernels (knob kernels).
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from benchmarks.steps import Bench, Laps, operators_of, ready_step, set_up, step_in_pieces, whole_step
from benchmarks.timing import (
    Ceilings,
    calls_within,
    carry_out,
    ceiling_line,
    circumstances,
    contestant,
    interleaved,
    markdown,
    options,
    quartiles,
    rate,
    seconds_of,
    spread,
)
from vitlab.config import MachineConfig
from vitlab.config.presets import PRESETS
from vitlab.machine import choose_machine, environment
from vitlab.model import count_parameters
from vitlab.runs.session import origin

DEFAULT = ("fast", "small", "accurate", "fashion", "keras-cnn", "cnn-tuned", "seed-best")
PASSES = 3  # forward, and twice as much backward
TOP = 15  # operators shown


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all presets in turn."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    names = arguments.presets or [name for name in DEFAULT if name in PRESETS]
    benches = {name: bench_of(name, machine.threads, machine.precision, arguments.quick) for name in names}
    rounds, turn = (2, 0.05) if arguments.quick else (arguments.rounds, arguments.turn)
    calls: dict[str, Any] = {}
    for name, bench in benches.items():
        calls |= {f"{name} step": partial(whole_step, bench), f"{name} without input": ready_step(bench)}
    used = {bench.task.machine.precision for bench in benches.values()}
    seconds, size = (0.05, 256) if arguments.quick else (0.5, 1024)
    ceilings = Ceilings(machine, seconds, size, ("fp32",) if used == {"fp32"} else ("fp32", "bf16"))
    taken = interleaved(machine, calls, rounds, turn, between=ceilings.measure)
    return {
        "environment": environment(machine) | origin(),
        "settings": {"rounds": rounds, "turn_seconds": turn, "quick": arguments.quick, "passes": PASSES},
        "ceilings_gflops": ceilings.summary(),
        "presets": {name: about(bench) | seconds_in(taken, name) for name, bench in benches.items()},
    }


def bench_of(name: str, threads: int, precision: str, quick: bool) -> Bench:
    """The preset ``name`` on MNIST, even if it mirrors images; its own knobs win over ``threads`` and ``precision``."""
    small: dict[str, Any] = {"batch_size": 32} if quick else {}
    here = {"data": "mnist", "force_flip": True, "threads": threads, "precision": precision}
    return set_up(contestant(name, **(here | small)))


def about(bench: Bench) -> dict[str, Any]:
    """What is measured: configuration, size, cost."""
    config = bench.prepared.config
    return {
        "config": config.to_dict(),
        "environment": environment(bench.task.machine),
        "parameters": count_parameters(bench.prepared.model),
        "batch_size": config.train.batch_size,
        "forward_flops_per_image": bench.prepared.model.describe().flops_per_image,
    }


def seconds_in(taken: dict[str, list[float]], name: str) -> dict[str, Any]:
    """The two times measured for a preset."""
    return {
        "step_seconds": quartiles(taken[f"{name} step"]),
        "without_input_seconds": quartiles(taken[f"{name} without input"]),
    }


def report(measured: dict[str, Any]) -> str:
    """The table of presets, or the profile of one."""
    if "profile" in measured:
        return profile_report(measured)
    ceilings = measured["ceilings_gflops"]
    head = ["preset", "precision, kernels", "parameters", "batch", "ms a step", "images/s", "images/s without input"]
    head += ["MFLOP forward", "GFLOP/s", "GFLOP/s without input", *(f"of {name} ceiling" for name in ceilings)]
    rows = [[f"`{name}`", *cells(row, ceilings)] for name, row in measured["presets"].items()]
    lines = [markdown(head, rows), "", ceiling_line(ceilings)]
    lines += [f"A step counts as {PASSES} forward passes; shares of the ceilings are those without input."]
    if compared := comparison(measured):
        lines = [compared, "", *lines]
    return "\n".join([*lines, circumstances(measured["environment"])])


def comparison(measured: dict[str, Any]) -> str:
    """The table of presets that were measured with our kernels and with torch's operations; "" if none were."""
    presets, ceilings = measured["presets"], measured["ceilings_gflops"]
    head = ["preset", "images/s, torch", "images/s, our kernels", "times faster", "kernels: of the ceiling"]
    rows = []
    for name, row in presets.items():
        plain = presets.get(f"{name}/kernels=plain")
        if plain is None:
            continue
        torchs, ours = (spread(rate(one["step_seconds"], one["batch_size"]), digits=0) for one in (plain, row))
        pairs = zip(plain["step_seconds"]["values"], row["step_seconds"]["values"], strict=True)
        gflops = gflops_per_second(
            row["forward_flops_per_image"], row["batch_size"], row["without_input_seconds"]["median"]
        )
        ceiling = ceilings[row["environment"]["precision"]]["median"]
        times = spread(quartiles([theirs / own for theirs, own in pairs]), digits=2)
        by = row["environment"].get("kernels_multiply_by", "torch")
        rows.append([f"`{name}`, {by}", torchs, ours, times, f"{100 * gflops / ceiling:.0f} %"])
    return markdown(head, rows) if rows else ""


def cells(row: dict[str, Any], ceilings: dict[str, Any]) -> list[str]:
    """One line of the table, without the name."""
    batch, flops = row["batch_size"], row["forward_flops_per_image"]
    whole, ready = row["step_seconds"], row["without_input_seconds"]
    gflops = [gflops_per_second(flops, batch, seconds["median"]) for seconds in (whole, ready)]
    return [
        f"{row['environment']['precision']}, {row['environment']['kernels']}",
        f"{row['parameters']:,}",
        f"{batch:,}",
        spread(whole, 1e3, 2),
        spread(rate(whole, batch), digits=0),
        spread(rate(ready, batch), digits=0),
        f"{flops / 1e6:.2f}",
        *(f"{value:.1f}" for value in gflops),
        *(f"{100 * gflops[1] / ceiling['median']:.0f} %" for ceiling in ceilings.values()),
    ]


def gflops_per_second(forward_flops: int, batch: int, seconds: float) -> float:
    """10^9 operations per second of a training step on ``batch`` images."""
    return PASSES * forward_flops * batch / seconds / 1e9


def profile(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where the time of a preset's step goes: whole steps, steps in pieces and timed operators take turns."""
    machine = choose_machine(MachineConfig(threads=arguments.threads))
    bench = bench_of(arguments.profile, machine.threads, machine.precision, arguments.quick)
    machine = bench.task.machine
    rounds, turn = (2, 0.05) if arguments.quick else (arguments.rounds, arguments.turn)
    step, laps = partial(whole_step, bench), Laps(machine)
    times = calls_within(machine, step, turn)
    whole: list[float] = []
    operators: list[dict[str, float]] = []
    calls: dict[str, int] = {}
    for _ in range(rounds):
        whole += [seconds_of(machine, step) for _ in range(times)]
        for _ in range(times):
            step_in_pieces(bench, laps)
        timers = [operators_of(machine, step) for _ in range(times)]
        operators += [timer.seconds for timer in timers]
        calls = timers[-1].calls
    names = sorted({name for seconds in operators for name in seconds})
    return about(bench) | {
        "environment": environment(machine) | origin(),
        "settings": {"rounds": rounds, "steps_a_turn": times, "quick": arguments.quick},
        "profile": arguments.profile,
        "step_seconds": without_values(whole),
        "pieces": {name: without_values(seconds) for name, seconds in laps.seconds.items()},
        "operators": {name: without_values([seconds.get(name, 0.0) for seconds in operators]) for name in names},
        "operator_calls": calls,
        "operators_seconds": without_values([sum(seconds.values()) for seconds in operators]),
    }


def without_values(values: list[float]) -> dict[str, Any]:
    """Median, quartiles and number of values, without the values themselves."""
    return quartiles(values) | {"values": len(values)}


def profile_report(measured: dict[str, Any]) -> str:
    """Two tables: the pieces of the step, and its largest operators."""
    whole, pieces, operators = measured["step_seconds"], measured["pieces"], measured["operators"]
    total, calls = whole["median"], measured["operator_calls"]

    def row(name: str, summary: dict[str, Any], *more: str) -> list[str]:
        return [name, *more, spread(summary, 1e6, 0), share(summary["median"], total)]

    rows = [row(name, summary) for name, summary in pieces.items()]
    added = sum(summary["median"] for summary in pieces.values())
    rows += [["their sum", f"{1e6 * added:,.0f}", share(added, total)], row("the step in one piece", whole)]
    largest = sorted(operators, key=lambda name: -operators[name]["median"])[:TOP]
    seen = measured["operators_seconds"]
    lower = [row(f"`{name}`", operators[name], str(calls.get(name, 0))) for name in largest]
    lower += [row("all operators", seen, str(sum(calls.values())))]
    outside = max(0.0, total - seen["median"])
    lower += [["outside of them, at least", "", f"{1e6 * outside:,.0f}", share(outside, total)]]
    lines = [f"`{measured['profile']}`, {measured['batch_size']} images a step", ""]
    lines += [markdown(["piece", "µs a step", "of the step"], rows), ""]
    lines += [markdown(["operator", "calls", "µs a step", "of the step"], lower), ""]
    return "\n".join([*lines, circumstances(measured["environment"])])


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent."""
    return f"{100 * part / whole:.1f} %"


def main() -> int:
    """Measure and save, or show a saved measurement."""
    parser = options(__doc__)
    parser.add_argument("presets", nargs="*", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--profile", metavar="PRESET", help="show where the time of this preset's step goes")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.5, metavar="SECONDS", help="about how long each turn takes")
    arguments = parser.parse_args()
    return carry_out(arguments, partial(profile if arguments.profile else measure, arguments), report)


if __name__ == "__main__":
    raise SystemExit(main())
