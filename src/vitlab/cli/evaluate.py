"""vitlab evaluate."""

from __future__ import annotations

import argparse
from typing import Any

from vitlab.cli import flags
from vitlab.cli.load import load_torch
from vitlab.errors import ConfigError
from vitlab.text import aligned, between, counted, listed, percent, show, wrapped


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "RUN [--split test|val|train] [--on DATA] [options]"
    parser = flags.add_command(children, evaluate, "measure the accuracy of a finished run", usage)
    add = parser.add_argument
    add("run", metavar="RUN", type=flags.run, help=flags.A_RUN)
    splits = "test or validation images, or those it was trained on, which shows over-fitting [test]"
    add("--split", choices=("test", "val", "train"), help=splits)
    other = "measure on another data set of the same classes: a name, a folder, an .npz or .csv file"
    add("--on", metavar="DATA", help=other)
    moved = "where the run's images are now, if they have moved"
    add("--data", metavar="PLACE", default=argparse.SUPPRESS, help=moved)
    shifts = "test-time augmentation: mean prediction over each image and copies of it shifted by N pixels [0: off]"
    add("--shifts", metavar="N", type=flags.whole_number(0, 28), default=0, help=shifts)
    flips = "test-time augmentation: mean prediction over each image and its mirror image"
    add("--flips", action="store_true", help=flips)
    flags.add_output(parser)
    flags.add_knobs(parser, only=("machine",))
    flags.hide(parser, "data", "shifts", "flips")


def evaluate(arguments: argparse.Namespace) -> int:
    """Measure the accuracy of a finished run on its test or validation images, or on the images that it was trained on
    (without augmentation and dropout): the difference from test images shows over-fitting. With --on, measure it on
    another data set whose classes have the same names: on its test images or, if it has none, on all of them."""
    numbers = measured(arguments)
    if arguments.json:
        flags.print_json(numbers)
    elif arguments.on is None:
        show(*wrapped(accuracy_line(numbers["split"], numbers)), *class_lines(numbers))
    else:
        show(*other_lines(numbers), *class_lines(numbers))
    return 0


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """The numbers; ConfigError for options that do not go together."""
    knobs = flags.given_knobs(arguments)
    if arguments.on is None:
        load_torch()
        from vitlab.progress import choose_reporter
        from vitlab.runs.finished import evaluate_run

        reporter, split = choose_reporter(arguments.quiet), arguments.split or "test"
        return evaluate_run(arguments.run, split, reporter, asked=knobs, shifts=arguments.shifts, flips=arguments.flips)
    if "data" in knobs:
        raise ConfigError("--data says where the run's own images are, --on names other ones; use one of them")
    views = [f"--{name}" for name in ("shifts", "flips") if getattr(arguments, name)]
    unused = [f"--{name.replace('_', '-')}" for name in knobs] + views
    if unused:
        raise ConfigError(f"--on computes on the CPU as `vitlab predict` does; leave out {listed(unused)}")
    load_torch()
    from vitlab.predict.elsewhere import evaluate_on

    return evaluate_on(arguments.run, arguments.on, arguments.split, flags.notes(arguments.quiet))


def other_lines(numbers: dict[str, Any]) -> list[str]:
    """What `evaluate_on` found, for people."""
    split = {"all": "all images", "val": "validation images", "train": "training images"}.get(numbers["split"])
    part = split or f"{numbers['split']} images"
    lines = wrapped(f"on another data set, {numbers['data']}: {accuracy_line(part, numbers)}")
    if numbers["unlike"] is not None:
        lines += wrapped(f"{percent(numbers['unlike'])} of them are unlike anything the run was trained on")
    return lines


def class_lines(numbers: dict[str, Any]) -> list[str]:
    """Balanced accuracy and macro F1, and a table of the classes, or of those with the lowest recall."""
    from vitlab.runs.result import class_rows

    rows, total = class_rows(numbers, prefix=""), sum(map(bool, (numbers["class_images"] or {}).values()))
    means = f"balanced accuracy {percent(numbers['balanced_accuracy'])}, macro F1 {percent(numbers['macro_f1'])}"
    if not rows:
        return [means]
    chosen = f"; the {len(rows)} of {total:,} classes with the lowest recall:" if len(rows) < total else ""
    return [f"{means}{chosen}", *aligned(rows, (), left=("class",))]


def accuracy_line(split: str, numbers: dict[str, Any]) -> str:
    """Top-1 with its interval, top-5 and loss of a split, for people."""
    from vitlab.runs.result import shows_top5

    loss = "not finite" if numbers["loss"] is None else f"{numbers['loss']:,.4f}"
    top5 = f"top-5 {percent(numbers['top5'])}, " if shows_top5(numbers, prefix="") else ""
    return (
        f"{split} top-1 {percent(numbers['top1'])} (95 % interval {between(numbers['top1_interval'])}), "
        f"{top5}loss {loss}, on {counted(numbers['images'], 'image')}"
    )
