"""Parse the command line, call the command, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Sequence

from vitlab import __version__
from vitlab.cli import check, data, doctor, evaluate, export, look, predict, presets, serve, study, train
from vitlab.cli.flags import EXIT_CODES, OneLineParser
from vitlab.errors import OutOfMemoryError, StorageError, VitlabError, is_out_of_memory, storage_error
from vitlab.interrupts import notice_ctrl_c
from vitlab.text import say, show

COMMANDS = (train, evaluate, look, predict, export, serve, study, data, check, presets, doctor)
OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command in ``words`` (default: the process's own arguments) and return its exit code."""
    atexit.register(gc.freeze)  # collecting garbage at the end of a process that holds torch takes half a second
    words = list(sys.argv[1:] if words is None else words)
    with notice_ctrl_c() as pressed:
        try:
            return answer(words)
        except Exception:  # interrupted while it loads, a library may raise anything
            if not pressed() or "--debug" in words:
                raise
            say("vitlab: interrupted")
            return 130


def answer(words: list[str]) -> int:
    """Run the command and return its exit code; an error that a user can cause is one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path may hold characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in words
    try:
        return dispatch([word for word in words if word != "--debug"])
    except VitlabError as error:
        if debug:
            raise
        say(f"vitlab: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("vitlab: interrupted")
        return 130
    except (MemoryError, ImportError, RuntimeError) as error:
        if debug or not is_out_of_memory(error):
            raise
        say("vitlab: out of memory; free some and try again")
        return OutOfMemoryError.exit_code
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more
        if isinstance(error, BrokenPipeError):  # the reader has gone, as in `vitlab presets | head -1`
            return 141
        say(f"vitlab: {storage_error('write', 'the output', error)}")
        return StorageError.exit_code


def dispatch(words: list[str]) -> int:
    """Parse and call."""
    parser, children = build_parser()
    arguments, unknown = parser.parse_known_args(words)
    children.get(arguments.command, parser).refuse_unknown(unknown)
    code: int = arguments.call(arguments)
    if sys.stdout is not None:  # as after `>&-`
        sys.stdout.flush()
    return code


def build_parser() -> tuple[OneLineParser, dict[str, OneLineParser]]:
    """The parser of the whole command line, and that of each command by its name."""
    parser = OneLineParser(
        prog="vitlab",
        description="Train small Vision Transformers from scratch on small images, and see why they work.",
        epilog=f"{EXIT_CODES}\n\nvitlab COMMAND --help explains a command; --debug shows where an error came from.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")

    def version_or_help(arguments: argparse.Namespace) -> int:
        if arguments.version:
            show(f"vitlab {__version__}")
        else:
            parser.print_help()
        return 0

    parser.set_defaults(call=version_or_help)
    children = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", parser_class=OneLineParser)
    for module in COMMANDS:
        module.declare(children)
    return parser, children.choices
