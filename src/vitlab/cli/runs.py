"""vitlab runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlab.cli import flags
from vitlab.errors import ConfigError, RunError
from vitlab.files import names_in
from vitlab.text import aligned, counted, duration, listed, percent, printable, say, show

if TYPE_CHECKING:
    from vitlab.runs.listing import Entry

RUNS = Path("runs")
NARROWER = ("size", "started", "data", "state", "training")  # columns that narrow terminals do without, in this order
TRAIN = "`vitlab train --data digits --epochs 3` trains one in seconds"


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "[list [DIR ...] | delete RUN ...] [options]"
    parser = flags.add_command(children, runs, "list your runs, newest first, or delete some", usage)
    parser.add_argument("action", choices=("list", "delete"), nargs="?", default="list", help="what to do [list]")
    parser.add_argument("names", metavar="RUN", nargs="*", type=flags.path, help="runs to delete; folders to list")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    flags.add_output(parser, has_progress=False)


def runs(arguments: argparse.Namespace) -> int:
    """List the run folders in runs/ with accuracy, training time, date and size, or delete some. Deleting removes only
    what vitlab has written; it follows no links, and refuses a run that another process is writing."""
    if arguments.action == "delete":
        return delete(arguments)
    from vitlab.runs.listing import list_runs

    folders = arguments.names or [RUNS]
    for folder in arguments.names:
        if not folder.is_dir():
            raise RunError(f"there is no folder {folder}; `vitlab runs` lists the runs in {RUNS}")
    entries = [entry for folder in folders for entry in list_runs(folder)]
    if arguments.json:
        flags.print_json([facts_of(entry) for entry in entries])
        return 0
    if entries:
        show(*aligned([row_of(entry) for entry in entries], NARROWER, ("run", "data", "state")))
    elif not arguments.names and not RUNS.is_dir() and list_runs(Path()):
        show(f"there is no folder {RUNS} here; the runs of this folder: vitlab runs list .")
    else:
        show(f"no runs in {listed(list(map(str, folders)))}; {TRAIN}")
    if not arguments.names and (further := names_in(flags.RUNS)):
        show(f"{counted(len(further), 'run')} of studies: vitlab runs list {flags.RUNS}")
    return 0


def row_of(entry: Entry) -> dict[str, str]:
    """A run for people."""
    seconds = None if entry.result is None else entry.result.train_seconds
    split = "test" if entry.result and entry.result.test_top1 is not None else "val"
    return {
        "run": printable(str(entry.path)),
        "data": "" if entry.config is None else printable(Path(entry.config.data.data).name),
        "accuracy": "" if entry.accuracy is None else f"{percent(entry.accuracy)} {split}",
        "training": "" if seconds is None else duration(seconds),
        "state": state_of(entry),
        "started": f"{entry.started:%Y-%m-%d %H:%M}",
        "size": f"{entry.size / 1e6:.1f} MB",
    }


def state_of(entry: Entry) -> str:
    """The state of a run; "did not learn" if it is done, but no better than guessing."""
    return "did not learn" if entry.result and entry.result.why_not_learned() else entry.state


def facts_of(entry: Entry) -> dict[str, Any]:
    """A run for programs."""
    result, config = entry.result, entry.config
    return {
        "run": str(entry.path),
        "state": entry.state,
        "preset": config and config.preset,
        "data": config and config.data.data,
        "test_top1": result and result.test_top1,
        "val_top1": result and result.val_top1,
        "not_learned": result and result.why_not_learned(),
        "train_seconds": result and result.train_seconds,
        "started": entry.started.isoformat(),
        "bytes": entry.size,
    }


def delete(arguments: argparse.Namespace) -> int:
    """Delete runs, after asking; all of them are checked before the first is touched."""
    from vitlab.runs.listing import check_is_run, delete_run, entry_of

    if not arguments.names:
        raise ConfigError("vitlab runs delete needs run folders; `vitlab runs` lists them")
    named = [in_runs(path) for path in arguments.names]
    paths = list({path.absolute().parent.resolve() / path.name: path for path in named}.values())  # each once
    for path in paths:
        check_is_run(path)
    entries = list(map(entry_of, paths))
    if not arguments.yes and not confirmed(entries):
        say("nothing was deleted")
        return 0
    stayed = {str(path): delete_run(path) for path in paths}
    if arguments.json:
        flags.print_json([{"run": path, "stayed": names} for path, names in stayed.items()])
        return 0
    for entry in entries:
        others = stayed[str(entry.path)]
        left = f"; its folder stays, because vitlab did not write {listed(others)} in it" if others else ""
        show(f"deleted {entry.path} ({entry.size / 1e6:.1f} MB){left}")
    return 0


def in_runs(path: Path) -> Path:
    """``path``; or, where there is nothing of that name, the run of that name in runs/."""
    is_here = path.exists() or path.is_symlink() or len(path.parts) > 1
    return path if is_here or not (RUNS / path).exists() else RUNS / path


def confirmed(entries: list[Entry]) -> bool:
    """Whether the user says yes; ConfigError where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("this is not a terminal, so nobody can confirm; add --yes to delete without asking")
    for entry in entries:
        row = row_of(entry)
        say("  ".join(filter(None, (row["run"], row["accuracy"], row["training"], row["size"]))))
    say(f"delete {'it' if len(entries) == 1 else f'these {len(entries)} runs'} for good? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
