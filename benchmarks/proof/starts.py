"""Several processes that want the same folder at the same moment: one gets it, the others say so, nothing is lost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from benchmarks.proof.context import KNOBS, PATIENCE, Context, Ended, Figures, figures, shown, trace
from benchmarks.proof.study import words as study_words

IN_USE, NOT_EMPTY = 7, 8


def losers_wrong(ends: list[Ended], codes: tuple[int, ...]) -> str:
    """What is wrong with those that did not get the folder, or nothing."""
    for end in ends:
        if end.wrong or end.code not in codes or not end.is_one_line:
            return f"a loser ended with {end.code}: {shown(end)}"
    return ""


def same_folder(context: Context, processes: int) -> str:
    """Start the same training into one folder several times at once."""
    out = context.fresh("starts")
    commands = [context.start(["train", *KNOBS, "--out", out]) for _ in range(processes)]
    ends = [command.wait() for command in commands]
    winners = [end for end in ends if end.code == 0]
    if len(winners) != 1:
        return f"{len(winners)} winners: {processes} starts of one folder"
    wrong = losers_wrong([end for end in ends if end.code], (IN_USE, NOT_EMPTY))
    wrong = wrong or ("" if trace(out) == context.trace else "not bit-equal: the winner among several starts")
    shutil.rmtree(out, ignore_errors=True)
    return wrong


def resumed_while_running(context: Context, _: int) -> str:
    """Resume a run that is still going on."""
    out = context.fresh("running")
    first = context.start(["train", *KNOBS, "--epochs", "12", "--out", out])
    deadline = time.monotonic() + PATIENCE
    while not list(out.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    second = context.run(["train", "--resume", out, "--quiet"])
    end = first.wait()
    wrong = losers_wrong([second], (IN_USE,)) and f"two writers: a resume of a running run ended with {second.code}"
    wrong = wrong or ("" if end.code == 0 else f"disturbed: the first run ended with {end.code}, {shown(end)}")
    shutil.rmtree(out, ignore_errors=True)
    return wrong


def same_study(context: Context, processes: int) -> str:
    """Start the same study several times at once."""
    folder = context.fresh("studies")
    folder.mkdir()
    ends = [command.wait(120) for command in [context.start(study_words(folder)) for _ in range(processes)]]
    shutil.rmtree(folder, ignore_errors=True)
    winners = sum(end.code == 0 for end in ends)
    if winners != 1:
        return f"{winners} winners: {processes} starts of one study; {shown(next(end for end in ends if end.code))}"
    return losers_wrong([end for end in ends if end.code], (IN_USE,))


def same_second(context: Context, processes: int) -> str:
    """Start the same training several times in one second, without naming a folder: each gets its own."""
    here = context.fresh("second")
    here.mkdir()
    time.sleep(1.0 - time.time() % 1.0)
    ends = [command.wait() for command in [context.start(["train", *KNOBS], cwd=here) for _ in range(processes)]]
    bad = [end for end in ends if end.code]
    folders: list[Path] = list((here / "runs").glob("*/result.json"))
    shutil.rmtree(here, ignore_errors=True)
    if bad:
        return f"lost: {len(bad)} of {processes} starts in one second without --out; {shown(bad[0])}"
    return "" if len(folders) == processes else f"shared: {processes} starts in one second made {len(folders)} folders"


def attack(context: Context) -> Figures:
    """Rounds of each kind."""
    rounds = [(same_folder, 8)] * context.size(12, 2) + [(resumed_while_running, 2)] * context.size(4, 1)
    if not context.quick:
        rounds += [(same_study, 3)] * 2
    rounds += [(same_second, 6)] * context.size(4, 1)
    failures = []
    for kind, processes in rounds:
        if not context.is_over:
            failures.append(kind(context, processes))
    return figures(failures, len(failures))
