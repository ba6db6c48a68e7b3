"""What the speed benchmarks share: functions timed in turns, medians with quartiles, ceilings, tables, options."""

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
from vitlab.config.words import parse_assignment
from vitlab.errors import StorageError, VitlabError
from vitlab.files import read_json, write_json
from vitlab.machine import Machine, gemm_gflops

Call = Callable[[], object]


def seconds_of(machine: Machine, call: Call, times: int = 1) -> float:
    """Seconds of one of ``times`` calls in a row."""
    watch = machine.stopwatch()
    watch.start()
    for _ in range(times):
        call()
    return watch.stop() / times


def calls_within(machine: Machine, call: Call, seconds: float) -> int:
    """How many calls take about ``seconds``, at least one; the first calls, which are slower, are not counted."""
    call()
    call()
    return max(1, round(seconds / seconds_of(machine, call)))


def interleaved(
    machine: Machine, calls: Mapping[str, Call], rounds: int, turn: float, between: Call = lambda: None
) -> dict[str, list[float]]:
    """Seconds of one call, ``rounds`` values for each name.

    In each round every function has one turn of about ``turn`` seconds, so that a machine that slows down slows all
    of them. The first fifth of a turn is not counted: caches hold the others' data, and threads that others have
    left may still wait for work. ``between`` runs before each round.
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
    """Median, first and third quartile, and the values themselves, all to four digits."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    rounded = [float(f"{value:.4g}") for value in (middle, low, high, *values)]
    return {"median": rounded[0], "q1": rounded[1], "q3": rounded[2], "values": rounded[3:]}


def spread(summary: Mapping[str, Any], scale: float = 1.0, digits: int = 1) -> str:
    """What `quartiles` found, times ``scale``: "median (q1 to q3)"."""
    middle, low, high = (f"{scale * summary[name]:,.{digits}f}" for name in ("median", "q1", "q3"))
    return f"{middle} ({low} to {high})"


def rate(summary: Mapping[str, Any], count: float) -> dict[str, Any]:
    """``count`` things in so many seconds as things a second; the slow quartile becomes the low one."""
    names = {"median": "median", "q1": "q3", "q3": "q1"}
    return {name: count / summary[other] for name, other in names.items()}


class Ceilings:
    """Rates of a large matrix product in both precisions, in 10^9 operations a second, measured again and again."""

    def __init__(self, machine: Machine, seconds: float, size: int = 1024) -> None:
        self.machines = {precision: replace(machine, precision=precision) for precision in ("fp32", "bf16")}
        self.rates: dict[str, list[float]] = {precision: [] for precision in self.machines}
        self.seconds, self.size = seconds, size

    def measure(self) -> None:
        """Once more, both."""
        for precision, machine in self.machines.items():
            self.rates[precision].append(gemm_gflops(machine, self.size, self.seconds))

    def summary(self) -> dict[str, Any]:
        """Median and quartiles of each."""
        return {precision: quartiles(rates) for precision, rates in self.rates.items()}


def ceiling_line(ceilings: Mapping[str, Any]) -> str:
    """The ceilings in one sentence."""
    parts = [f"{spread(summary, digits=0)} in {precision}" for precision, summary in ceilings.items()]
    return f"Matrix product of known size, measured between the rounds: GFLOP/s {' and '.join(parts)}."


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def circumstances(environment: Mapping[str, Any]) -> str:
    """Where and when something was measured, in one sentence."""
    threads = "1 thread" if environment["threads"] == 1 else f"{environment['threads']} threads"
    where = f"{environment['device_name']}, {threads}, {environment['precision']}, torch {environment['torch']}"
    return f"{where}, {environment['started_utc'][:10]}; medians (quartiles), interleaved."


def contestant(name: str, **knobs: Any) -> RunConfig:
    """The configuration of "preset" or "preset/knob=value/...", over ``knobs``."""
    preset, *words = name.split("/")
    return preset_config(preset).with_knobs(**(knobs | dict(map(parse_assignment, words))))


def optional(module: str) -> Any:
    """A module that vitlab itself does not need; ends the program with one line when it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.split(".")[0]
        raise SystemExit(f"{name} is missing, which only this benchmark needs: pip install -e '.[bench]'") from None


def options(text: str | None) -> argparse.ArgumentParser:
    """A parser with what all speed benchmarks take."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="measure, and write all of it to this JSON file")
    parser.add_argument("--show", type=Path, help="measure nothing: show what such a file holds")
    parser.add_argument("--into", type=Path, nargs="*", default=[], help="pages whose table of this name is renewed")
    parser.add_argument("--threads", type=int, help="CPU threads; all cores that this process may use if not given")
    parser.add_argument("--quick", action="store_true", help="a trial on tiny settings: its numbers mean nothing")
    return parser


def carry_out(
    arguments: argparse.Namespace, measure: Callable[[], dict[str, Any]], report: Callable[[dict[str, Any]], str]
) -> int:
    """Measure and keep, or read what was kept; print the report. A mistake is one line."""
    try:
        if arguments.show:
            measured = read_json(arguments.show)
        elif arguments.out:
            measured = measure()
            write_json(arguments.out, measured)
        else:
            raise StorageError("--out FILE is needed: a result that is not kept is none")
        made = report(measured)
        print(made)
        renew(arguments.into, {(arguments.show or arguments.out).stem: made})
    except VitlabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
