"""A disk that refuses a call: exit code 6 in one line, and the run continues to the same weights later."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

from benchmarks.proof.context import Context, Ended, Figures, Shim, figures, finish, shown, trace
from benchmarks.proof.crash import spread

NAMES = {
    "o": "open",
    "w": "write",
    "s": "fsync",
    "r": "rename",
    "u": "unlink",
    "m": "mkdir",
    "l": "listing",
    "d": "read",
}
ERRORS = {
    "o": ("EIO", "ENOSPC", "EACCES", "EROFS", "EDQUOT"),
    "w": ("EIO", "ENOSPC", "EDQUOT"),
    "s": ("EIO", "ENOSPC"),
    "r": ("EIO", "ENOSPC", "EACCES", "EROFS"),
    "u": ("EIO", "EACCES", "EROFS"),
    "m": ("EIO", "ENOSPC", "EACCES", "EROFS", "EDQUOT"),
    "l": ("EIO", "EACCES"),
}
STORAGE = 6


def verdict(end: Ended, out: Path, complete: Figures) -> str:
    """What is wrong with the end of a command whose disk failed, or nothing."""
    if end.wrong:
        return f"{end.wrong.lower()}: {shown(end)}"
    if end.code != STORAGE:
        return f"exit {end.code} instead of 6: {shown(end)}"
    if not end.is_one_line:
        return f"more than one line: {shown(end)}"
    if (out / "result.json").exists():
        status = json.loads((out / "result.json").read_text())["status"]
        if (
            status != "failed:storage" and trace(out) != complete
        ):  # a complete result that may not be durable is told too
            return f"status {status}: result.json does not name the disk"
    return ""


def attack(context: Context) -> Figures:
    """Every kind of call with every error that it can meet, at several places, once and for good."""
    cases: list[tuple[str, str, int, bool]] = []
    for kind, names in ERRORS.items():
        count = sum(call[0] == kind for call in context.calls)
        for name in names:
            for number in spread(count, context.size(5, 1)) if count else []:
                cases.append((kind, name, number, (number + len(name)) % 2 == 0))
    if context.quick:
        cases = cases[::3]
    tolerated = []

    def fail(case: tuple[str, str, int, bool]) -> str:
        kind, name, number, sticky = case
        out = context.fresh("disk")
        where = f"{name} at {NAMES[kind]} {number}{' and later' if sticky else ''}"
        end = context.run(context.train(out), Shim(out, kind, number, getattr(errno, name), sticky))
        if end.code == 0 and trace(out) == context.trace:
            tolerated.append(where)  # nothing was lost, so nothing need be said
            wrong = ""
        else:
            wrong = verdict(end, out, context.trace)
        wrong = wrong or (finish(context, out) if end.code else "")
        shutil.rmtree(out, ignore_errors=True)
        return wrong and f"{wrong}, after {where}"

    failures = context.each(fail, cases)
    return figures(failures, len(failures), tolerated=len(tolerated))
