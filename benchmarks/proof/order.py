"""The order of writes: flushed before the rename, the folder after it, nothing deleted before its successor is safe.

A power cut keeps only what was flushed, so this order is what makes a file complete or absent after one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.proof.context import Context, Figures, Shim, figures

CHECKPOINT = "checkpoints/step-"


def violations(
    calls: Iterable[Sequence[str]], in_place: tuple[str, ...] = (".lock", "/logs/")
) -> tuple[int, list[str]]:
    """The number of published files, and what is wrong in a list of calls (kind, path, second path).

    ``in_place`` are parts of the paths that may be written directly.
    """
    dirty: set[str] = set()  # written, and not flushed since
    written: set[str] = set()  # and not yet renamed
    unflushed: dict[str, str] = {}  # folder -> the file that was renamed into it
    checkpoints: set[str] = set()
    published, wrong = 0, list[str]()

    def report_unflushed() -> None:
        wrong.extend(f"no folder flush: {name} is not safe before the next file" for name in unflushed.values())
        unflushed.clear()

    for kind, path, second in calls:
        name = os.path.basename(second or path)
        if kind == "w":
            dirty.add(path)
            written.add(path)
        elif kind == "s":
            dirty.discard(path)
            unflushed.pop(path, None)
        elif kind == "r":
            report_unflushed()
            published += 1
            if any(one == path or one.startswith(path + "/") for one in dirty):
                wrong.append(f"no flush: {name} is renamed before its bytes are on the disk")
            written = {one for one in written if one != path and not one.startswith(path + "/")}
            unflushed[os.path.dirname(second)] = name
            if CHECKPOINT in second:
                checkpoints.add(second)
        elif kind == "u" and path in checkpoints:
            checkpoints.discard(path)
            if not checkpoints or os.path.dirname(path) in unflushed:
                wrong.append(f"deleted first: {name} goes before its successor is safe")
        if kind == "u":
            written.discard(path)
            dirty.discard(path)
    report_unflushed()
    left = sorted(path for path in written if not any(part in path for part in in_place))
    wrong += [f"in place: {os.path.basename(path)} is written where it is read" for path in left]
    return published, wrong


def attack(context: Context) -> Figures:
    """Record a training, a resume, `look` and two exports, and check the order of their calls."""
    published, wrong = violations(context.calls)
    runs = 1
    copy = context.copy(context.unfinished, "order")
    commands: list[tuple[Path, list[object]]] = [(copy, ["train", "--resume", copy, "--quiet"])]
    if not context.quick:
        pages = context.fresh("pages")
        pages.mkdir()
        commands += [(copy, ["look", copy, "--quiet"])]
        commands += [(pages, ["export", copy, "--to", "web", "--out", pages / "web"])]
    for folder, words in commands:
        log = context.fresh("log")
        end = context.run(words, Shim(folder, log=str(log)), seconds=120)
        if end.code != 0:
            wrong.append(f"{words[0]}: exit {end.code}, {end.last_line}")
        more, found = violations([line.split("\t") for line in log.read_text().splitlines()])
        published, runs, wrong = published + more, runs + 1, wrong + [f"{line}, in {words[0]}" for line in found]
    return figures(sorted(set(wrong)), published, commands=runs)
