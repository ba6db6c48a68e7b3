"""Parse, call one function, print, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Sequence

from vitlab.cli import commands, look_commands, study_commands
from vitlab.cli.flags import EXIT_CODES, OneLineParser, add_knobs, path_argument, positive
from vitlab.cli.serve_command import declare_serve
from vitlab.cli.use_parsers import declare_export, declare_predict
from vitlab.errors import StorageError, VitlabError, storage_error
from vitlab.studies.named import NAMED

OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command in ``words`` (default: the process's own) and return its exit code."""
    atexit.register(gc.freeze)  # the search for garbage at the end of a process that holds torch takes half a second
    words = list(sys.argv[1:] if words is None else words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
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
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more
        if isinstance(error, BrokenPipeError):  # the reader has gone, as in `vitlab presets | head -1`
            return 141
        print(f"vitlab: {storage_error('write', 'the output', error)}", file=sys.stderr)
        return StorageError.exit_code


def dispatch(words: list[str]) -> int:
    """Parse and call."""
    parser, subparsers = build_parser()
    arguments, unknown = parser.parse_known_args(words)
    (subparsers[arguments.command] if arguments.command else parser).refuse_unknown(unknown)
    code: int = arguments.call(arguments)
    if sys.stdout is not None:  # as it is with `>&-`
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
    parser.set_defaults(command=None, call=lambda arguments: commands.version_or_help(arguments.version, parser))
    children = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=OneLineParser)
    made = {
        "train": _train(children),
        "evaluate": _evaluate(children),
        "look": _look(children),
        "predict": declare_predict(children),
        "export": declare_export(children),
        "serve": declare_serve(children),
        "study": _study(children),
        "compare": _compare(children),
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
        "--config",
        metavar="FILE",
        type=path_argument,
        help="start from a JSON file, as in a run folder; names left out take their default",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=path_argument, help="the run folder to make [runs/DATE-PRESET-DATA-sSEED]"
    )
    parser.add_argument(
        "--resume", metavar="RUN", type=path_argument, help="continue a run that was interrupted or killed"
    )
    parser.add_argument("--allow-drift", action="store_true", help="resume although machine, threads or torch differ")
    parser.add_argument("--print-config", action="store_true", help="print the resolved configuration as JSON and stop")
    _add_output(parser)
    add_knobs(parser)
    parser.set_defaults(call=commands.train, command="train")
    return parser


def _study(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "study",
        help="vary something, repeat it over seeds: accuracy and time in a table and a picture",
        usage="vitlab study NAME | --vary AXIS=VALUE,VALUE ... [--seeds N] [options, one for each knob below]",
        description="Vary knobs around a preset, or run a study that has a name, over several seeds; nothing that is "
        "finished is run again. Knobs given beside it hold for every cell.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="a named study: " + ", ".join(NAMED))
    parser.add_argument("--vary", metavar="AXIS=VALUES", nargs="+", action="extend", help="knobs (or preset) to vary")
    parser.add_argument("--zip", action="store_true", help="first values together, then the second, not all pairs")
    parser.add_argument("--preset", metavar="NAME", help="vary around this named configuration [small]")
    parser.add_argument("--config", metavar="FILE", type=path_argument, help="vary around a JSON file")
    parser.add_argument("--search", metavar="N", type=positive, help="let Optuna propose N settings from --vary ranges")
    parser.add_argument(
        "--objective", choices=("accuracy", "accuracy-time"), default="accuracy", help="of a search [accuracy]"
    )
    parser.add_argument("--status", metavar="DIR", type=path_argument, help="show how far a study is, and stop")
    _add_study_options(parser)
    parser.set_defaults(call=study_commands.study, command="study")
    return parser


def _compare(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "compare",
        help="presets side by side over seeds, and a verdict",
        usage="vitlab compare PRESET PRESET ... [--seeds N] [options, one for each knob below]",
        description="Train presets in turn, seed by seed, on one machine: accuracy, time, and a sentence with the "
        "evidence. The first one is compared with each of the others.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("presets", metavar="PRESET", nargs="+", help="for example: small keras-cnn")
    _add_study_options(parser)
    parser.set_defaults(call=study_commands.compare, command="compare")
    return parser


def _add_study_options(parser: OneLineParser) -> None:
    parser.add_argument("--seeds", metavar="N", type=positive, help="how many seeds, from 0 [3; 1 for a search]")
    parser.add_argument(
        "--out", metavar="DIR", type=path_argument, help="the study's folder [runs/studies/NAME-DIGEST]"
    )
    parser.add_argument("--runs", metavar="DIR", type=path_argument, help="where the runs lie [runs/by-configuration]")
    parser.add_argument("--workers", metavar="N", type=positive, help="runs at a time; they share the cores [1]")
    parser.add_argument("--executor", choices=("local", "ray"), default="local", help="where runs are computed [local]")
    parser.add_argument("--address", metavar="A", default="auto", help="of the Ray cluster, host:port [auto]")
    parser.add_argument("--retry-failed", action="store_true", help="try failed runs again")
    _add_output(parser)
    add_knobs(parser)


def _evaluate(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "evaluate", help="accuracy of a finished run", description="Accuracy of a finished run."
    )
    parser.add_argument("run", metavar="RUN", type=path_argument, help="a run folder")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="which images [test]")
    parser.add_argument("--data", metavar="PLACE", help="where the run's images are now", default=argparse.SUPPRESS)
    parser.add_argument(
        "--shifts",
        metavar="N",
        type=int,
        choices=range(0, 29),
        default=0,
        help="test-time augmentation: the mean prediction over each image and its copies moved N pixels [0: off]",
    )
    _add_output(parser)
    add_knobs(parser, only=("machine",))
    parser.set_defaults(call=commands.evaluate, command="evaluate")
    return parser


def _look(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "look",
        help="pictures of a run, a data set or a study, and a report",
        usage="vitlab look RUN [--beside RUN ...] | STUDY | --data NAME",
        description="Draw what a finished run sees, learned, mistakes and looks at into RUN/pictures, with a report "
        "(RUN/report.html) and a model card (RUN/README.md); a study's report; or a data set without a run.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("folder", metavar="RUN", nargs="?", type=path_argument, help="a run folder, or a study's")
    parser.add_argument(
        "--beside", metavar="RUN", nargs="+", action="extend", type=path_argument, help="runs to compare it with"
    )
    parser.add_argument(
        "--data",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="a data set to draw; with RUN: its images' place now",
    )
    parser.add_argument("--out", metavar="DIR", type=path_argument, help="of a data set's pictures [runs/data/NAME]")
    parser.add_argument("--image", metavar="N", type=natural, help="number of the test image that is shown [chosen]")
    parser.add_argument("--patch", metavar="N", type=positive, help="patch whose attention is shown, from 1 [chosen]")
    parser.add_argument("--runs", metavar="DIR", type=path_argument, help="a study's runs [runs/by-configuration]")
    _add_output(parser)
    add_knobs(parser, only=("machine",))
    parser.set_defaults(call=look_commands.look, command="look")
    return parser


def natural(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"needs a whole number from 0, not {text!r}")
    return int(text)


def _data(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    parser = children.add_parser(
        "data", help="list, fetch or check data sets", description="List, fetch or check data sets."
    )
    parser.add_argument(
        "action", choices=("list", "fetch", "check"), nargs="?", default="list", help="what to do [list]"
    )
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
