"""SIGINT, SIGTERM and SIGHUP in each phase of a training: the promised exit code, and the run continues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.proof.context import ROOT, Context, Ended, Figures, Shim, figures, finish, shown

ENDED_WITHIN = 20.0  # seconds
NEAR = 3  # calls
NUMBERS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}


def phases(calls: list[list[str]], run: str) -> dict[str, list[int]]:
    """The numbers of the file-system calls of a training by phase."""
    found: dict[str, list[int]] = {"beginning": [], "training": [], "evaluating": [], "saving": []}
    names = [(second or path).removeprefix(run) for _, path, second in calls]
    first = next(number for number, name in enumerate(names) if "/checkpoints" in name)
    last = max(number for number, name in enumerate(names) if "/checkpoints" in name)
    for number, name in enumerate(names):
        if number < first:
            phase = "beginning"
        elif number > last:
            phase = "saving"
        else:
            phase = "evaluating" if "history.jsonl" in name else "training"
        found[phase].append(number + 1)
    return found


def start_of_last(numbers: list[int]) -> int:
    """Where the last group of neighbouring numbers begins: 7 of 2, 3, 7, 8, 11. Between the calls on a file are some on
    its folder."""
    start = numbers[-1]
    for number in reversed(numbers):
        if start - number > NEAR:
            break
        start = number
    return start


def verdict(end: Ended, signum: int, may_finish: bool) -> str:
    """What is wrong with the end of a command that got a signal, or nothing; a late signal may find it finished."""
    if may_finish and end.err.rstrip().endswith("KeyboardInterrupt") and ", in main\n" not in end.err:
        return ""  # Python itself was still starting
    if end.hung or "Traceback" in end.err:
        return f"{end.wrong.lower()}: {shown(end)}"
    if end.code not in (128 + signum, -signum, *([0] if may_finish else [])):
        return f"exit {end.code} instead of {128 + signum}: {shown(end)}"
    return ""


def attack(context: Context) -> Figures:
    """A signal at calls of every phase, once and twice, and while Python and torch are being loaded."""
    draw = context.draw("signals")
    cases: list[tuple[str, str, float, bool]] = []
    by_phase = phases(context.calls, str(context.unbroken))
    last_row = start_of_last(by_phase["evaluating"])  # all steps are done, and what is left takes no time
    for phase, numbers in by_phase.items():
        for name in NUMBERS:
            some = draw.sample(numbers, min(len(numbers), context.size(4, 1)))
            cases += [(phase, name, number, index % 4 == 3) for index, number in enumerate(some)]
    for name in NUMBERS:
        cases += [("loading", name, draw.uniform(0.05, 2.5), False) for _ in range(context.size(4, 0))]

    def disturb(case: tuple[str, str, float, bool]) -> str:
        phase, name, where, twice = case
        out, signum = context.fresh("signal"), NUMBERS[name]
        if phase == "loading":
            end = started_and_stopped(context.train(out), signum, where)
        else:
            shim = Shim(out, at=int(where), action=-signum)
            command = context.start(context.train(out), shim)
            if twice:
                while not out.exists() and not (command.notes / "end.json").exists():
                    time.sleep(0.001)
                time.sleep(0.05)
                command.send(signum)
            end = command.wait(ENDED_WITHIN)
        wrong = verdict(end, signum, phase == "loading" or where >= last_row) or (
            finish(context, out) if end.code else ""
        )
        shutil.rmtree(out, ignore_errors=True)
        return wrong and f"{wrong}, {name}{' twice' if twice else ''} while {phase} ({where:g})"

    failures = context.each(disturb, cases)
    return figures(failures, len(failures))


def as_in_a_terminal() -> None:
    """No signal is ignored, as it is under nohup or in a shell's background."""
    for number in NUMBERS.values():
        signal.signal(number, signal.SIG_DFL)


def started_and_stopped(words: list[object], signum: int, delay: float) -> Ended:
    """A training as a new process, which gets a signal after ``delay`` seconds, mostly while it imports."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "vitlab", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=Path(ROOT),
        env=os.environ,
        preexec_fn=as_in_a_terminal,
    )
    time.sleep(delay)
    process.send_signal(signum)
    try:
        _, err = process.communicate(timeout=ENDED_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        _, err = process.communicate()
        return Ended(-9, "", err, time.monotonic() - began, 0.0, True)
    return Ended(process.returncode, "", err, time.monotonic() - began, 0.0)
