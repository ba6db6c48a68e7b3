"""vitlab train."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from vitlab.cli import flags, launch
from vitlab.cli.evaluate import accuracy_line
from vitlab.cli.load import load_torch
from vitlab.errors import ConfigError, RankError
from vitlab.files import claimed, exists, to_json
from vitlab.ranks import MOST_RESTARTS, RESTARTS, STORE, Ranks, check_count, end_with_parent, from_environment
from vitlab.runs.trackers import TRACKERS
from vitlab.text import columns, counted, percent, quoted, say, show, wrapped

if TYPE_CHECKING:
    from vitlab.config import RunConfig
    from vitlab.runs.result import Result


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "[--preset NAME] [--data NAME] [options]"
    parser = flags.add_command(children, train, "train a network and write a run folder", usage)
    add = parser.add_argument
    flags.add_base(parser, "start from")
    add("--out", metavar="DIR", type=flags.path, help="folder of the new run [runs/DATE-PRESET-DATA-sSEED]")
    add("--resume", metavar="RUN", type=flags.path, help="continue a run that was interrupted or killed")
    more = "with --resume: train the finished RUN for N more epochs, with a new schedule, into a new run folder"
    add("--epochs-more", metavar="N", help=more)
    drift = "resume even if the processor, threads or torch differ; the result is then not bit-exact"
    add("--allow-drift", action="store_true", help=drift)
    names = ", ".join(TRACKERS)
    add("--log", metavar="TRACKER", action="append", default=[], help=f"also send the history to {names} [none]")
    add("--print-config", action="store_true", help="print the whole configuration as JSON and exit")
    flags.add_output(parser)
    flags.add_knobs(parser)
    flags.hide(parser, "config", "allow_drift", "log", "print_config")


def train(arguments: argparse.Namespace) -> int:
    """Train a network and write a run folder. Every knob of a preset is an option; brackets show its value in the
    default preset, small."""
    ranks = from_environment()
    if not ranks.several:
        return begin(arguments, ranks)
    end_with_parent()
    try:
        return begin(arguments, ranks)
    except RankError:
        if ranks.rank or STORE in os.environ:  # the first rank says it, or the process that has started all
            return RankError.exit_code
        raise


def begin(arguments: argparse.Namespace, ranks: Ranks) -> int:
    """Train, as one of the ``ranks``."""
    if arguments.epochs_more is not None:
        arguments = continued(arguments)
    if arguments.resume is not None:
        return resume(arguments, ranks)
    config = chosen_config(arguments)
    if arguments.print_config:
        show(*to_json(config.to_dict()).splitlines())
        return 0
    with folder_for(arguments.out, config, ranks) as path:
        if not ranks.several and (config.machine.ranks or 1) > 1:
            return launch.begin(config, path, passed_on(arguments), config.machine.ranks or 1)
        load_torch()
        from vitlab.progress import choose_reporter
        from vitlab.runs.session import resume_run, train_run

        reporter = choose_reporter(arguments.quiet or ranks.rank > 0)
        if was_restarted() and exists(path / "config.json"):
            result = resume_run(path, reporter, asked=flags.given_knobs(arguments), log=arguments.log, ranks=ranks)
        else:
            result = train_run(config, path, reporter, log=arguments.log, ranks=ranks)
    return conclude(result, path, arguments.json, ranks)


def folder_for(out: Path | None, config: RunConfig, ranks: Ranks) -> AbstractContextManager[Path]:
    """The folder of a new run, claimed at once: of several runs that start in the same second, each gets its own."""
    if out is not None:
        return nullcontext(out)
    if int(os.environ.get(MOST_RESTARTS, "0")):
        raise ConfigError("torchrun can restart a training only if it knows the folder; add --out DIR")
    from vitlab.runs.folder import default_folders

    folders = default_folders(config)
    return nullcontext(next(iter(folders))) if ranks.rank else claimed(folders)  # only the first rank writes


def was_restarted() -> bool:
    """Whether torchrun has started this again after a failure."""
    return int(os.environ.get(RESTARTS, "0")) > 0


def passed_on(arguments: argparse.Namespace) -> list[str]:
    """The options of a new run that are not in its configuration, for each rank."""
    switches = [f"--{name}" for name in ("quiet", "json") if getattr(arguments, name)]
    return [*switches, *(word for name in arguments.log for word in ("--log", name))]


def continued(arguments: argparse.Namespace) -> argparse.Namespace:
    """The options of a run that trains a finished one further: from its weights, with its recipe and its data."""
    if arguments.resume is None:
        raise ConfigError("--epochs-more goes with --resume RUN; a new run takes --epochs")
    if hasattr(arguments, "epochs") or hasattr(arguments, "init_from") or arguments.allow_drift:
        raise ConfigError("--epochs-more says all; leave out --epochs, --init-from and --allow-drift")
    from vitlab.runs.start import folder_of

    own = folder_of(str(arguments.resume)).config().values()  # `--init-from` alone would not keep these
    kept = {name: str(own[name]) for name in ("rehearse", "limit_train", "freeze") if own[name] is not None}
    more = {"epochs": arguments.epochs_more, "init_from": str(arguments.resume), "resume": None}
    return argparse.Namespace(**kept | vars(arguments) | more)


def chosen_config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration of a new run: that of a preset, of a file, or of the run whose weights it starts from."""
    knobs = flags.given_knobs(arguments)
    if knobs.get("init_from") is None:
        return flags.chosen_config(arguments.preset, arguments.config, knobs, flags.notes(arguments.quiet))
    from vitlab.runs.start import initial_config

    return initial_config(knobs["init_from"], flags.named_config(arguments.preset, arguments.config), knobs)


def resume(arguments: argparse.Namespace, ranks: Ranks) -> int:
    """Continue a run with its own configuration."""
    if arguments.preset or arguments.config or arguments.out or arguments.print_config:
        raise ConfigError(
            "--resume continues a run with its own configuration; "
            "leave out --preset, --config, --out and --print-config"
        )
    load_torch()
    from vitlab.progress import choose_reporter
    from vitlab.runs.folder import RunFolder
    from vitlab.runs.session import resume_run

    knobs, path = flags.given_knobs(arguments), arguments.resume
    count = knobs.get("ranks", RunFolder(path).config().machine.ranks) or 1
    if count > 1 and not ranks.several:
        return launch.go_on(path, arguments.words, count, knobs.get("threads"))
    check_count(knobs.pop("ranks", None) if ranks.several else None, ranks)
    options = {"asked": knobs, "allow_drift": arguments.allow_drift, "log": arguments.log, "ranks": ranks}
    result = resume_run(path, choose_reporter(arguments.quiet or ranks.rank > 0), **options)
    return conclude(result, path, arguments.json, ranks)


def conclude(result: Result, path: Path, as_json: bool, ranks: Ranks) -> int:
    """Print how a run ended; raises if it was interrupted or diverged. Only the first of the ``ranks`` does."""
    from vitlab.runs.session import check_done

    if ranks.rank:
        return 0
    if as_json:
        flags.print_json(result.to_dict())
        if trouble := result.note():
            say(f"note: {trouble}")
    elif result.status == "done":
        print_result(result, path)
    check_done(result, path)
    return 0


def print_result(result: Result, path: Path) -> None:
    """The result for people; the last lines name the run folder and the next commands."""
    test = {name.removeprefix("test_"): value for name, value in result.items() if name.startswith("test_")}
    line = "no test images, so no test accuracy" if test["top1"] is None else accuracy_line("test", test)
    if result["val_top1"] is not None:
        line += f"; weights of epoch {result['selected_epoch']}, validation top-1 {percent(result['val_top1'])}"
    if result.stopped_epoch:
        line += f"; stopped early after epoch {result.stopped_epoch} of {result['epochs']:g}"
    show(*wrapped(line))
    for changed in changes(result):
        show(*wrapped(changed))
    if trouble := result.note():
        show(*wrapped(f"note: {trouble}"))
    speed, threads = f"{result['images_per_second']:,.0f} images/s", counted(result["threads"], "thread")
    if (result.ranks or 1) > 1:
        threads = f"{result.ranks} ranks with {threads} each"
    show(f"trained in {result['train_seconds']:.1f} s ({speed}, {threads} on {result['device']})")
    show(f"saved in {path}", *next_lines(path))


def changes(result: Result) -> list[str]:
    """What training from given weights has changed: a line about the run's images, and one about the rehearsed ones."""
    lines = []
    split, now = ("test", result.test_top1) if result.test_top1 is not None else ("validation", result.val_top1)
    if result.start_top1 is not None and now is not None:
        lines.append(f"your {split} images: top-1 {percent(result.start_top1)} before, {percent(now)} after")
    if result.rehearsal_top1 is not None:
        before = result.rehearsal_start_top1
        was = "" if before is None else f"{percent(before)} before, "
        images = counted(result.rehearsal_images or 0, "test image")
        lines.append(f"rehearsed images: top-1 {was}{percent(result.rehearsal_top1)} after, on {images}")
    return lines


def next_lines(path: Path) -> list[str]:
    """What to type next, for people; without explanations where they do not fit."""
    from vitlab.runs.folder import RunFolder

    commands = {"show": "the result at a glance", "look": "pictures and a report"}
    if RunFolder(path).is_for_browsers():
        commands["serve"] = "draw, and watch it read"
    lines = [f"vitlab {command} {quoted(path)}   # {what}" for command, what in commands.items()]
    if max(map(len, lines)) + 6 > columns():
        lines = [f"vitlab {command} {quoted(path)}" for command in commands]
    return [f"next: {lines[0]}", *(f"      {line}" for line in lines[1:])]
