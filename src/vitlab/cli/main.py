"""Parse the command line, call the command, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import io
import os
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType

from vitlab import __version__
from vitlab.advice import for_the_command_line
from vitlab.cli import (
    check,
    data,
    demo,
    doctor,
    evaluate,
    export,
    look,
    predict,
    presets,
    runs,
    serve,
    study,
    train,
    zoo,
)
from vitlab.cli import show as show_run
from vitlab.cli.flags import OneLineParser, Section
from vitlab.cli.hints import command_hint, long_dash
from vitlab.errors import ConfigError, OutOfMemoryError, StorageError, VitlabError, is_out_of_memory, storage_error
from vitlab.interrupts import notice_ctrl_c
from vitlab.text import say, show

GROUPS: tuple[tuple[str, tuple[ModuleType, ...]], ...] = (
    ("train and judge", (train, evaluate, runs, show_run)),
    ("look and use", (demo, zoo, predict, look, serve, export)),
    ("study", (study, presets)),
    ("data and machine", (data, check, doctor)),
)
EXAMPLES = """examples:
  vitlab train --data digits --epochs 3
  vitlab predict mnist seven.png
  vitlab study --vary patch_size=4,7 --data digits

`vitlab COMMAND --help` explains a command."""
EXIT_CODES = (
    "exit codes: 0 success (also of a training that did not learn: its last lines say so); 1 another error, such as a "
    "failed export; 2 wrong option or value; 3 data missing, unreadable or changed; 4 training diverged; 5 out of "
    "memory; 6 disk full, read-only or failing; 7 run folder in use; 8 run folder missing, damaged or unsuitable; "
    "9 another process of a training on several has ended; 130 Ctrl-C; 143 SIGTERM."
)
OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command in ``words`` (default: the process's own arguments) and return its exit code."""
    atexit.register(gc.freeze)  # collecting garbage at the end of a process that holds torch takes half a second
    words = list(sys.argv[1:] if words is None else words)
    with notice_ctrl_c() as pressed, for_the_command_line():
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
    if words[:1] == ["help"]:  # as in `git help commit`
        words = [*words[1:2], "--help"]
    refuse_unknown_command(parser, words, children)
    if said := long_dash(words):
        raise ConfigError(said)
    for child in children.values():
        child.words = words
    arguments, unknown = parser.parse_known_args(words)
    children.get(arguments.command, parser).refuse_unknown(unknown)
    arguments.words = words
    code: int = arguments.call(arguments)
    if sys.stdout is not None:  # as after `>&-`
        sys.stdout.flush()
    return code


def refuse_unknown_command(parser: OneLineParser, words: list[str], known: Iterable[str]) -> None:
    """ConfigError unless the command line begins with a command or an option of vitlab itself."""
    word = words[0] if words else "--help"
    if word.startswith("-"):
        if word == "-v":
            raise ConfigError("use --version, or -V; progress is shown unless you add --quiet")
        if word not in parser._option_string_actions:
            raise ConfigError(f"the command comes first, as in `vitlab train {word} ...`; `vitlab --help` lists them")
    elif word not in known:
        raise ConfigError(f"unknown command {word!r}{command_hint(word, known)}; `vitlab --help` lists the commands")


class Overview(OneLineParser):
    """The parser of the whole command line; its help lists the commands by GROUPS."""

    parts: list[Section]

    def format_help(self) -> str:
        """What `vitlab --help` prints."""
        return self.help_with([*self.parts, ("options", None, self._optionals._group_actions)])


def build_parser() -> tuple[OneLineParser, dict[str, OneLineParser]]:
    """The parser of the whole command line, and that of each command by its name."""
    parser = Overview(
        prog="vitlab",
        usage="vitlab COMMAND [options]",
        description="Train small Vision Transformers from scratch on small images, and see why they work.",
        epilog=f"{EXAMPLES}\n\n{EXIT_CODES}",
    )
    parser.add_argument("-V", "--version", action="store_true", help="print the version and exit")
    # `answer` takes it away, whatever the command.
    parser.add_argument("--debug", action="store_true", help="show where an error came from; works with every command")

    def version_or_help(arguments: argparse.Namespace) -> int:
        if arguments.version:
            show(f"vitlab {__version__}")
        else:
            parser.print_help()
        return 0

    parser.set_defaults(call=version_or_help)
    children = parser.add_subparsers(prog="vitlab", dest="command", metavar="COMMAND", parser_class=OneLineParser)
    parser.parts = []
    for title, modules in GROUPS:
        before = len(children._choices_actions)
        for module in modules:
            module.declare(children)
        parser.parts.append((title, None, children._choices_actions[before:]))
    return parser, children.choices
