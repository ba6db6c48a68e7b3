"""Shared by the speed benchmarks: interleaved timing, medians with quartiles, ceilings, tables, options."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages import renew
from vitlab import RunConfig, preset_config
from vitlab.advice import for_the_command_line
from vitlab.config.run import is_list, knob_name, read_value
from vitlab.errors import StorageError, VitlabError
from vitlab.files import read_json, write_json
from vitlab.machine import Machine, gemm_gflops
from vitlab.text import counted

Call = Callable[[], object]


def seconds_of(machine: Machine, call: Call, times: int = 1) -> float:
    """Seconds per call, over ``times`` calls in a row."""
    watch = machine.stopwatch()
    watch.start()
    for _ in range(times):
        call()
    return watch.stop() / times


def calls_within(machine: Machine, call: Call, seconds: float) -> int:
    """How many calls take about ``seconds``, at least one. The first two calls, which are slower, do not count."""
    call()
    call()
    return max(1, round(seconds / seconds_of(machine, call)))


def interleaved(
    machine: Machine, calls: Mapping[str, Call], rounds: int, turn: float, between: Call = lambda: None
) -> dict[str, list[float]]:
    """Seconds per call: ``rounds`` values for each name.

    In each round every function gets one turn of about ``turn`` seconds, so a machine that slows down slows all of
    them. The first fifth of a turn is not counted, because caches hold other functions' data and idle threads of the
    previous function may still be waiting for work. ``between`` runs before each round.
    """
    times = {name: calls_within(machine, call, turn) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        between()
        for name, call in calls.items():
            seconds_of(machine, call, 1 + times[name] // 5)
            taken[name].append(seconds_of(machine, call, times[name]))
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return taken


def quartiles(values: Sequence[float]) -> dict[str, Any]:
    """Median, first and third quartile, and all values, to four digits."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    rounded = [float(f"{value:.4g}") for value in (middle, low, high, *values)]
    return {"median": rounded[0], "q1": rounded[1], "q3": rounded[2], "values": rounded[3:]}


def spread(summary: Mapping[str, Any], scale: float = 1.0, digits: int = 1) -> str:
    """A summary from `quartiles` times ``scale`` as text: "median (q1 to q3)"."""
    middle, low, high = (f"{scale * summary[name]:,.{digits}f}" for name in ("median", "q1", "q3"))
    return f"{middle} ({low} to {high})"


def rate(summary: Mapping[str, Any], count: float) -> dict[str, Any]:
    """Seconds for ``count`` things as things per second; the slow quartile becomes the low one."""
    names = {"median": "median", "q1": "q3", "q3": "q1"}
    return {name: count / summary[other] for name, other in names.items()}


class Ceilings:
    """Speed of a large matrix product in each precision, in 10^9 operations per second, measured repeatedly."""

    def __init__(
        self, machine: Machine, seconds: float, size: int = 1024, precisions: Sequence[str] = ("fp32", "bf16")
    ) -> None:
        self.machines = {precision: replace(machine, precision=precision) for precision in precisions}
        self.rates: dict[str, list[float]] = {precision: [] for precision in self.machines}
        self.seconds, self.size = seconds, size

    def measure(self) -> None:
        """Measure each precision once more."""
        for precision, machine in self.machines.items():
            self.rates[precision].append(gemm_gflops(machine, self.size, self.seconds))

    def summary(self) -> dict[str, Any]:
        """Median and quartiles for each precision."""
        return {precision: quartiles(rates) for precision, rates in self.rates.items()}


def ceiling_line(ceilings: Mapping[str, Any]) -> str:
    """The ceilings in a sentence."""
    parts = [f"{spread(summary, digits=0)} in {precision}" for precision, summary in ceilings.items()]
    return f"Ceiling, a large matrix product timed between the rounds: {' and '.join(parts)}, in GFLOP/s."


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def circumstances(environment: Mapping[str, Any]) -> str:
    """Where and when something was measured, in a sentence."""
    threads = counted(environment["threads"], "thread")
    where = f"{environment['device_name']}, {threads}, {environment['precision']}, torch {environment['torch']}"
    return f"{where}, {environment['started_utc'][:10]}; medians (quartiles), interleaved."


def contestant(name: str, **knobs: Any) -> RunConfig:
    """The configuration of "preset" or "preset/knob=value/...", over ``knobs``."""
    preset, *words = name.split("/")
    return preset_config(preset).with_knobs(**(knobs | dict(map(parse_assignment, words))))


def parse_assignment(word: str) -> tuple[str, Any]:
    """Name and value of a knob from "name=value", such as "patch_size=4" or "cnn_channels=32,64"."""
    name, equals, text = word.partition("=")
    name = knob_name(name if equals else "", f"{word!r} is not NAME=VALUE for a knob")
    return name, read_value(name, text.split(",") if is_list(name) else text)


def optional(module: str) -> Any:
    """Import a module that vitlab itself does not need; exit with a one-line message if it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = module.split(".")[0]
        if error.name not in (name, module):
            raise
        raise SystemExit(f"{name} is missing, and this benchmark needs it; run: pip install -e '.[bench]'") from None


def options(text: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all speed benchmarks share."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="measure, and save everything to this JSON file")
    parser.add_argument("--show", type=Path, help="show the measurement saved in this file")
    parser.add_argument("--into", type=Path, nargs="*", default=[], help="pages whose table of this name to update")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores available to this process)")
    parser.add_argument("--quick", action="store_true", help="a trial run with tiny settings; its numbers mean nothing")
    return parser


def complaint(error: VitlabError) -> str:
    """An error as somebody who types commands reads it."""
    with for_the_command_line():
        return str(error)


def carry_out(
    arguments: argparse.Namespace, measure: Callable[[], dict[str, Any]], report: Callable[[dict[str, Any]], str]
) -> int:
    """Measure and save, or read a saved measurement; print the report. An error is one line."""
    try:
        if arguments.show:
            measured = read_json(arguments.show)
        elif arguments.out:
            measured = measure()
            write_json(arguments.out, measured)
        else:
            raise StorageError("nowhere to save the result; add --out FILE")
        made = report(measured)
        print(made)
        renew(arguments.into, {(arguments.show or arguments.out).stem: made})
    except VitlabError as error:
        print(complaint(error), file=sys.stderr)
        return error.exit_code
    return 0
