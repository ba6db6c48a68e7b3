"""vitlab zoo."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vitlab.cli import flags
from vitlab.cli.load import load_torch
from vitlab.runs.zoo import COPIES, DEFAULT, ZOO, names
from vitlab.text import aligned, between, percent, show, wrapped

if TYPE_CHECKING:
    from vitlab.runs.finished import FinishedRun


def declare(children: flags.Children) -> None:
    """The command and its options."""
    parser = flags.add_command(children, zoo, "list the trained networks that come with vitlab")
    parser.add_argument("--json", action="store_true", help="print everything as one line of JSON")


def zoo(arguments: argparse.Namespace) -> int:
    """List the trained networks that come with vitlab. Their names may be used wherever a command takes a RUN. A run
    folder of yours with the same name, here or in runs/, is used instead, and a line says so."""
    load_torch()
    from vitlab.runs.finished import open_run

    opened = {name: open_run(ZOO / name) for name in names()}
    if arguments.json:
        flags.print_json([facts_of(name, run) for name, run in opened.items()])
        return 0
    rows = [row_of(name, run) for name, run in opened.items()]
    show(*aligned(rows, ("preset", "size", "95 % interval"), ("network", "data", "preset")))
    show("", f"vitlab predict {DEFAULT} seven.png   # your own picture of a digit")
    show(f"vitlab demo                      # draw, and watch {DEFAULT} read it")
    show(*wrapped(f"They are read-only: `vitlab look` first copies one to {COPIES}."))
    return 0


def row_of(name: str, run: FinishedRun) -> dict[str, str]:
    """A network for people."""
    facts = facts_of(name, run)
    return {
        "network": name,
        "data": facts["data"],
        "accuracy": percent(facts["test_top1"]),
        "95 % interval": between(facts["test_top1_interval"]),
        "parameters": f"{facts['params']:,}",
        "size": f"{facts['bytes'] / 1e6:.2f} MB",
        "preset": facts["preset"],
    }


def facts_of(name: str, run: FinishedRun) -> dict[str, Any]:
    """A network for programs."""
    from vitlab.runs.listing import size_of

    result, path = run.result, run.folder.path
    return {
        "name": name,
        "data": run.data["name"],
        "preset": run.config.preset,
        "classes": list(run.classes),
        "test_top1": result.test_top1,
        "test_top1_interval": result.test_top1_interval,
        "params": result.params,
        "bytes": size_of(path),
        "model_sha256": result.model_sha256,
        "path": str(path),
    }
