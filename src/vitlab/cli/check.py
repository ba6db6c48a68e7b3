"""vitlab check."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitlab.cli import flags
from vitlab.errors import DataError, RunError
from vitlab.files import exists
from vitlab.runs.zoo import REPAIR, is_in_zoo, name_of
from vitlab.text import say, show

if TYPE_CHECKING:
    from vitlab.runs.check import Finding

MOST_NAMES = 12  # in one line
NOUNS = {"data": "data", "export": "an export"}
ORDER = ("damaged", "missing", "note", "ok")
# The files by which a folder is recognised.
KINDS = {
    "study": ("study.json",),
    "page": ("models.json",),
    "export": ("SHA256SUMS", "preprocessor_config.json"),
    "run": ("config.json", "result.json", "environment.json", "model.safetensors", "checkpoints"),
}


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "PATH [options]"
    parser = flags.add_command(children, check, "verify a run, a study, data or an exported folder", usage)
    help = f"{flags.A_RUN}, a study's folder, a folder that `export` wrote, or data: a name, a folder or an .npz file"
    parser.add_argument("path", metavar="PATH", type=flags.run, help=help)
    flags.add_runs(parser)
    flags.add_output(parser, has_progress=False)


def check(arguments: argparse.Namespace) -> int:
    """Verify every file of a run, a study with its runs, a data set or an exported folder: digests, contents, weights,
    links, leftovers. Changes nothing. The exit code is 0 if everything is whole, else 8, or 3 for data."""
    path = arguments.path
    kind = kind_of(path)
    if is_in_zoo(path) and is_data_set(path.name):
        say(f"note: this checks the network {path.name}; `vitlab data check {path.name}` checks the data set")
    found = findings(kind, path, arguments.runs or flags.RUNS)
    bad = [one for one in found if one.is_bad]
    if arguments.json:
        facts = {"path": str(path), "kind": kind, "whole": not bad, "findings": [asdict(one) for one in found]}
        flags.print_json(facts)
    else:
        show(*lines_of(path, kind, found))
    if bad:
        wrong = DataError if kind == "data" else RunError
        raise wrong(f"{path}: {len(bad)} of {len(found)} are damaged or missing; the lines above say what to do")
    if not arguments.json:
        show("whole: nothing is damaged")
    return 0


def lines_of(path: Path, kind: str, found: list[Finding]) -> list[str]:
    """The findings for people; files with the same finding share a line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in sorted(found, key=lambda one: ORDER.index(one.state)):
        groups.setdefault((one.state, one.text), []).append(one.name)
    lines = [f"{name_of(path)}: {NOUNS.get(kind, f'a {kind}')}"]
    for (state, text), names in groups.items():
        shown = ", ".join(names[:MOST_NAMES]) + (" …" if len(names) > MOST_NAMES else "")
        lines.append(f"{state:<7}  {shown}{f': {text}' if text else ''}")
    return lines


def is_data_set(name: str) -> bool:
    """Whether the catalogue has a data set of that name."""
    from vitlab.data import CATALOGUE

    return name in CATALOGUE


def kind_of(path: Path) -> str:
    """What ``path`` is: "study", "page", "export", "run", or else "data"."""
    return next((kind for kind, names in KINDS.items() if any(exists(path / name) for name in names)), "data")


def findings(kind: str, path: Path, runs: Path) -> list[Finding]:
    """What the check of this kind finds."""
    if kind == "study":
        from vitlab.studies.check import check_study

        return check_study(path, runs)
    if kind == "run":
        from vitlab.runs.check import check_run

        found = check_run(path)
        return [replace(one, text=REPAIR) if one.is_bad and is_in_zoo(path) else one for one in found]
    if kind in ("page", "export"):
        from vitlab.export.check import check_export

        return check_export(path)
    return check_data(str(path))


def check_data(place: str) -> list[Finding]:
    """The files of a catalogue set; or your own data, which has no digests: whether it loads, and what was noted."""
    from vitlab.data import CATALOGUE, inspect
    from vitlab.data import check as check_files
    from vitlab.data.inspection import summary
    from vitlab.runs.check import Finding

    if place in CATALOGUE:
        found = []
        for file, where, state in check_files(place):
            found.append(Finding(f"{file} ({where})", *(("ok",) if state == "ok" else ("damaged", state))))
        return found
    inspected = inspect(place)
    said = [Finding(place, "note", note) for note in inspected.problems()]
    return [*said, Finding(place, "note", f"{summary(inspected)}; your own data has no digest to compare with")]
