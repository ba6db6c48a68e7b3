"""Parse, call one function, print, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vitlab.cli import commands
from vitlab.cli.flags import OneLineParser, add_knobs
from vitlab.errors import VitlabError

EXIT_CODES = """exit codes:
  0 done   2 wrong option or value   3 data   4 diverged   5 out of memory   6 disk
  7 run folder in use   8 run folder missing, damaged or unsuitable   130 Ctrl-C   143 SIGTERM"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command in ``words`` (default: the process's own) and return its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in words
    try:
        return dispatch([word for word in words if word != "--debug"])
    except VitlabError as error:
        if debug:
            raise
        print(f"vitlab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("vitlab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `vitlab presets | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def dispatch(words: list[str]) -> int:
    """Parse and call."""
    parser, subparsers = build_parser()
    arguments, unknown = parser.parse_known_args(words)
    if arguments.version:
        return commands.version()
    if arguments.command is None:
        parser.refuse_unknown(unknown)
        parser.print_help()
        return 0
    subparsers[arguments.command].refuse_unknown(unknown)
    code: int = arguments.call(arguments)
    sys.stdout.flush()
    return code


def build_parser() -> tuple[OneLineParser, dict[str, OneLineParser]]:
    """The parser of all commands, and each command's own by name."""
    parser = OneLineParser(
        prog="vitlab",
        description="Train small Vision Transformers from scratch on small images, and see why they work.",
        epilog=EXIT_CODES + "\n\n--debug shows where an error came from.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.set_defaults(command=None)
    children = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=OneLineParser)
    made = {
        "train": _train(children),
        "evaluate": _evaluate(children),
        "data": _data(children),
        "presets": _presets(children),
        "doctor": _doctor(children),
    }
    return parser, made


def _train(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "train",
        help="train a network and write a run folder",
        usage="vitlab train [--preset NAME] [--data NAME] [options, one for each knob below]",
        description="Train a network and write a run folder. In brackets: the value in the default preset, small.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="start from a named configuration; `vitlab presets` lists them [small]",
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="start from a JSON file, such as a run's config.json"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="the run folder to make [runs/DATE-PRESET-DATA-sSEED]")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="continue a run that was interrupted or killed")
    parser.add_argument("--allow-drift", action="store_true", help="resume although machine, threads or torch differ")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration as JSON and stop")
    _add_output(parser)
    add_knobs(parser)
    parser.set_defaults(call=commands.train, command="train")
    return parser


def _evaluate(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "evaluate", help="accuracy of a finished run", description="Accuracy of a finished run."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="which images [test]")
    _add_output(parser)
    parser.set_defaults(call=commands.evaluate, command="evaluate")
    return parser


def _data(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "data", help="list, fetch or check data sets", description="List, fetch or check data sets."
    )
    parser.add_argument("action", choices=("list", "fetch", "check"), help="what to do")
    parser.add_argument("names", metavar="NAME", nargs="*", help="data sets to fetch or check")
    _add_output(parser)
    parser.set_defaults(call=commands.data, command="data")
    return parser


def _presets(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "presets", help="list the named configurations", description="List the named configurations."
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="show this one in full")
    _add_output(parser)
    parser.set_defaults(call=commands.presets, command="presets")
    return parser


def _doctor(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "doctor", help="what vitlab finds on this machine", description="What vitlab finds here."
    )
    _add_output(parser)
    parser.set_defaults(call=commands.doctor, command="doctor")
    return parser


def _add_output(parser: OneLineParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")
    parser.add_argument("--json", action="store_true", help="the result as one line of JSON, last on standard output")
