"""vitlab look."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vitlab.cli import flags
from vitlab.cli.load import load_torch
from vitlab.errors import ConfigError
from vitlab.files import exists
from vitlab.runs.zoo import writable
from vitlab.text import counted, show

if TYPE_CHECKING:
    from vitlab.look.write import Written

DATA_OUT = Path("runs/data")


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "RUN [--beside RUN ...] | STUDY | --data NAME"
    parser = flags.add_command(children, look, "draw and report on a run, a study or a data set", usage)
    add = parser.add_argument
    add("folder", metavar="RUN", nargs="?", type=flags.run, help=f"{flags.A_RUN}, or a study's folder")
    add("--beside", metavar="RUN", nargs="+", action="extend", type=flags.run, help="other runs to compare it with")
    data = "data set to draw; with RUN: where its images are now, if they have moved"
    add("--data", metavar="NAME", default=argparse.SUPPRESS, help=data)
    add("--out", metavar="DIR", type=flags.path, help="folder for the pictures of a data set [runs/data/NAME]")
    image, patch = "number of the test image to show, from 0", "number of the patch whose attention to show, from 1"
    add("--image", metavar="N", type=flags.whole_number(0), help=f"{image} [chosen for you]")
    add("--patch", metavar="N", type=flags.count, help=f"{patch} [chosen for you]")
    flags.add_runs(parser)
    flags.add_output(parser)
    flags.add_knobs(parser, only=("machine",))
    flags.hide(parser, "image", "patch", "runs")


def look(arguments: argparse.Namespace) -> int:
    """Draw what a finished run sees, how it learned, what it gets wrong and what it attends to, into RUN/pictures; and
    write a report (RUN/report.html) and a model card (RUN/README.md). Or write a report on a study, or draw a data set
    without a run."""
    load_torch()
    from vitlab.look import write

    note, folder, knobs = flags.notes(arguments.quiet), arguments.folder, flags.given_knobs(arguments)
    if folder is None:
        if "data" not in knobs:
            raise ConfigError("vitlab look needs a run folder, a study's folder, or --data NAME")
        refuse(arguments, "a data set", "beside", "image", "patch", "runs")
        written = write.look_at_data(knobs["data"], arguments.out or DATA_OUT / Path(knobs["data"]).stem, note)
    elif exists(folder / "study.json"):
        refuse(arguments, "a study", "beside", "image", "patch", "out")
        if "data" in knobs:
            raise ConfigError("--data does not apply to a study; leave it out")
        written = write.look_at_study(folder, arguments.runs or flags.RUNS)
    else:
        refuse(arguments, "a run", "runs", "out")
        patch = None if arguments.patch is None else arguments.patch - 1
        written = write.look_at_run(writable(folder, note), arguments.beside or [], note, knobs, arguments.image, patch)
    return conclude(written, arguments.json)


def refuse(arguments: argparse.Namespace, what: str, *names: str) -> None:
    """ConfigError for options that do not apply to this kind of folder."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise ConfigError(f"--{name} does not apply to {what}; leave it out")


def conclude(written: Written, as_json: bool) -> int:
    """Print what was written, and what was left out and why."""
    if as_json:
        facts = asdict(written) | {"pictures": [str(path) for path in written.pictures]}
        flags.print_json(facts | {name: facts[name] and str(facts[name]) for name in ("report", "card")})
        return 0
    for title, reason in written.left_out.items():
        show(f"not drawn: {title.lower()}: {reason}")
    if written.pictures:
        show(f"{counted(len(written.pictures), 'picture')} in {written.pictures[0].parent}")
    if written.card:
        show(f"model card: {written.card}")
    if written.report:
        show(f"report: {written.report}")
    return 0
