"""vitlab look."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vitlab.cli.flags import given_knobs
from vitlab.cli.study_commands import RUNS
from vitlab.errors import ConfigError
from vitlab.files import to_json

if TYPE_CHECKING:
    from vitlab.look.write import Written

DATA_OUT = Path("runs/data")


def look(arguments: argparse.Namespace) -> int:
    """vitlab look RUN | STUDY | --data NAME."""
    from vitlab.cli.progress import choose_reporter
    from vitlab.look import write

    note = choose_reporter(arguments.quiet).note
    folder, knobs = arguments.folder, given_knobs(arguments)
    if folder is None:
        if "data" not in knobs:
            raise ConfigError("vitlab look needs a run folder, a study's folder, or --data NAME")
        refuse(arguments, "a data set", "beside", "image", "patch", "runs")
        written = write.look_at_data(knobs["data"], arguments.out or DATA_OUT / Path(knobs["data"]).stem, note)
    elif (folder / "study.json").is_file():
        refuse(arguments, "a study", "beside", "image", "patch", "out")
        if "data" in knobs:
            raise ConfigError("a study has no data of its own; leave out --data")
        written = write.look_at_study(folder, arguments.runs or RUNS)
    else:
        refuse(arguments, "a run", "runs", "out")
        patch = None if arguments.patch is None else arguments.patch - 1
        written = write.look_at_run(folder, arguments.beside or [], note, knobs, arguments.image, patch)
    return conclude(written, arguments.json)


def refuse(arguments: argparse.Namespace, what: str, *names: str) -> None:
    """ConfigError for an option that this kind of folder has no use for."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise ConfigError(f"--{name} means nothing for {what}; leave it out")


def conclude(written: Written, as_json: bool) -> int:
    """Say what was written, and what not."""
    if as_json:
        facts = asdict(written) | {"pictures": [str(path) for path in written.pictures]}
        print(to_json(facts | {name: facts[name] and str(facts[name]) for name in ("report", "card")}, indent=None))
        return 0
    for title, reason in written.left_out.items():
        print(f"not drawn: {title.lower()}: {reason}")
    if written.pictures:
        print(f"{len(written.pictures)} pictures in {written.pictures[0].parent}")
    if written.card:
        print(f"model card: {written.card}")
    if written.report:
        print(f"report: {written.report}")
    return 0
